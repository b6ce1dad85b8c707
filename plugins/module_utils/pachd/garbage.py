# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Garbage collection: what it would free, whether that is safe, and a freeze that ends in any case.

pachd's own collection (``GarbageCollect`` in ``src/server/pps/server/api_server.go`` of v1.13.4) is used as it is, and
what it does is computed beforehand from etcd and the bucket.  It keeps what it finds through trees of finished commits
and tags of existing pipelines, in Bloom filters, and deletes every other object with its whole block, and every other
tag.  So it does not know

* what is being written: objects are stored before a commit names them;
* headers and footers of files that were split, which only directories name;
* that a block may hold more than the one object.

A plan that finds something needed among what would go refuses the collection.  It also demands that every pipeline is
stopped, and has no worker left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backup.lock import Lock
from ..errors import InputError, PachdError, PachopsError, StorageError, WaitError
from ..kube.client import Kube, Ref
from ..progress import Progress
from ..progress_view import size_text
from ..stores.parallel import each as in_parallel
from . import pipelines, shown
from .client import Pachd
from .hashtree import decode_node, tree_entries
from .live import Live, Usage, sizes_of, usage
from .manifests import record_object
from .records import tag_prefix
from .shown import Data
from .state import State

RECORD = "pachops-garbage-collection"
#: Both filters together, as pachd would take by itself (``defaultGCMemory``).
LEAST_MEMORY = 20 << 20
#: Bits of a filter for each entry: with pachd's ten hashes, one object in ten thousand is kept for nothing.
_BITS = 20
_WORKERS = 16
_POLL = 1.0
_UNFINISHED = ("STARTING", "RUNNING", "MERGING", "EGRESSING")
_SHOWN = 10
# Measured with pachd 1.13.4 on a busy local cluster: pipelines stop one after the other, workers go within their grace.
_SECONDS_PER_PIPELINE, _SECONDS_FOR_WORKERS = 0.5, 20.0
_SAMPLE = 20
#: Reads and deletions for an object that goes, of which pachd has up to a hundred under way.
_CALLS_TO_DELETE = 3 / 20


@dataclass(frozen=True)
class Plan:
    """What a collection would do now; names are canonical.

    :param sizes: bytes of all that is there.
    :param doomed: what pachd would delete.
    :param needed: what commits need.
    :param left: what nothing needs and pachd would keep all the same.
    :param memory: bytes for pachd's filters.
    :param seconds: estimated length of the freeze.
    :param running: pipelines that would be stopped and started again, in the order of starting.
    :param commits: what was looked at, so that a later commit shows.
    """

    sizes: dict[str, int]
    doomed: frozenset[str]
    needed: frozenset[str]
    left: frozenset[str]
    memory: int
    seconds: float
    running: Sequence[str]
    commits: frozenset[str]

    @property
    def endangered(self) -> list[str]:
        """What would be deleted though it is needed."""
        return sorted(self.doomed & self.needed)

    def as_dict(self) -> Data:
        """Return the figures for a module."""
        return {
            "frees": usage(self.sizes, self.doomed & self.sizes.keys()),
            "leaves": usage(self.sizes, self.left),
            "memory": self.memory,
            "seconds": round(self.seconds, 1),
            "pipelines": list(self.running),
        }


@dataclass
class Result:
    """What was done.

    :param frozen: seconds for which pipelines were stopped.
    """

    plan: Plan
    before: Usage
    after: Usage
    collected: bool = False
    frozen: float = 0.0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wishes:
    """How to go about it.

    :param wait: seconds to wait for running jobs, open commits and the lock; 0 refuses at once.
    :param timeout: seconds for each step of the freeze.
    :param memory: bytes for pachd's filters; 0 chooses by the number of objects.
    :param least: free no less than so many bytes, or do nothing.
    """

    wait: float = 0.0
    timeout: float = 600.0
    memory: int = 0
    least: int = 1


def plan(live: Live, pachd: Pachd, progress: Progress, memory: int = 0) -> Plan:
    """Compute what a collection would do now."""
    progress.stage("list the objects")
    listing = live.listing()
    sizes = sizes_of(listing)
    infos = pachd.pipeline_infos()
    with live.state(listing) as state:
        progress.stage("find what is kept")
        commits = _commits(state)
        kept, kept_tags = _kept(state, sizes, [info.salt for info in infos])
        # Tags are results to skip by; pachd drops those of pipelines that are gone.
        needed = set(state.names_of(each for each in state.references() if each.kind != "tag"))
        progress.stage("find the blocks")
        gone = [name for name in sizes if name.startswith("object/") and name[7:] not in kept]
        doomed = {*gone, *_blocks(state, gone)}
        doomed |= {name for name in sizes if name.startswith("tag/") and name not in kept_tags}
        alive = [f"object/{name}" for name in kept if f"object/{name}" in sizes and f"object/{name}" not in needed]
        used = {*needed, *alive, *_blocks(state, alive), *kept_tags}
        pace = _pace(state, sizes)
    objects = sum(name.startswith("object/") for name in sizes)
    running = [shown.pipeline(info) for info in infos if _runs(info)]
    seconds = pace * (objects + len(commits) + _CALLS_TO_DELETE * len(doomed)) + (
        2 * len(running) * _SECONDS_PER_PIPELINE + _SECONDS_FOR_WORKERS if running else 0.0
    )
    return Plan(
        sizes=sizes,
        doomed=frozenset(doomed),
        needed=frozenset(needed),
        left=frozenset(name for name in sizes if name not in used and name not in doomed and "index/" not in name),
        memory=memory or max(LEAST_MEMORY, 2 * max(len(kept), len(kept_tags)) * _BITS // 8),
        seconds=seconds,
        running=pipelines.upstream_first(running),
        commits=frozenset(commits),
    )


def collect(
    kube: Kube,
    live: Live,
    pachd: Pachd,
    wishes: Wishes,
    progress: Progress,
    *,
    write: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Collect garbage where there is any, and return what became of it.

    :raises InputError: jobs run or commits are open, and waiting was not allowed or not enough.
    :raises StorageError: something that is needed would be deleted; nothing was done then.
    """
    namespace = live.installation.namespace
    if not write:
        found = plan(live, pachd, progress, wishes.memory)
        warnings = [f"a collection would be refused now: {each}" for each in _busy(live)]
        if found.endangered:
            warnings.append(str(_refusal(found)))
        return Result(found, usage(found.sizes), _predicted(found), _worth(found, wishes), found.seconds, warnings)
    with Lock(kube, namespace, "garbage collection", wait=wishes.wait) as lock:
        resume(kube, namespace, pachd, wishes.timeout, sleep)
        _settle(live, wishes.wait, progress, sleep)
        found = plan(live, pachd, progress, wishes.memory)
        before = usage(found.sizes)
        if not _worth(found, wishes):
            return Result(found, before, before)
        if found.endangered:
            raise _refusal(found)
        _record(kube, namespace, found.running)
        begun = time.monotonic()
        try:
            _freeze(kube, live, pachd, found.running, wishes.timeout, progress, sleep)
            found = _still_safe(live, pachd, found, wishes, progress)
            lock.check()
            progress.stage("pachd collects")
            request = pachd.pps_pb2.GarbageCollectRequest(memory_bytes=found.memory)
            pachd.call(pachd.pps.GarbageCollect, request, "to collect garbage", timeout=_limit(found, wishes))
        finally:
            progress.stage("start the pipelines")
            resume(kube, namespace, pachd, wishes.timeout, sleep)
        frozen = time.monotonic() - begun
        after = sizes_of(live.listing())
        lost = sorted(name for name in found.needed if name in found.sizes and name not in after)
        if lost:
            raise StorageError(
                "the collection deleted what is needed",
                where=live.origin.store.where,
                why=f"{len(lost)} objects are gone, such as {', '.join(lost[:3])}",
                fix="Bring them back from the newest verified backup with the playbook restore.",
            )
        return Result(found, before, usage(after), True, frozen)


def resume(
    kube: Kube, namespace: str, pachd: Pachd, timeout: float, sleep: Callable[[float], None] = time.sleep
) -> list[str]:
    """Start the pipelines that a collection stopped, and return their names.

    They are recorded in the cluster before the first one is stopped, so that this also repairs what a run left behind
    that was killed.

    :raises WaitError: some are still paused; they stay recorded.
    """
    ref = Ref("v1", "ConfigMap", namespace, RECORD)
    if kube.get(ref) is None:
        return []
    names, failed = stopped(kube, namespace), []
    for name in names:
        try:
            info = pipelines.find(pachd, name)
            if info is not None and info.stopped:
                pipelines.set_running(pachd, name, run=True)
        except PachdError as error:
            failed.append(f"{name}: {error}")
    end = time.monotonic() + timeout
    while not failed:
        states = _states(pachd)
        paused = [name for name in names if states.get(name) == "paused"]
        if not paused:
            kube.delete(ref)
            return names
        if time.monotonic() >= end:
            failed = [f"{name} is still paused" for name in paused]
        sleep(_POLL)
    raise WaitError(
        "not every pipeline was started again",
        where=f"namespace {namespace}",
        why="; ".join(failed),
        fix="Run pachyderm_garbage_collect with state=resumed; what is to be started stays recorded.",
    )


def stopped(kube: Kube, namespace: str) -> list[str]:
    """Return the pipelines that a collection stopped and has not started again, in the order of starting."""
    record = kube.get(Ref("v1", "ConfigMap", namespace, RECORD))
    return [str(name) for name in json.loads(((record or {}).get("data") or {}).get("stopped", "[]"))]


def _kept(state: State, sizes: dict[str, int], salts: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return hashes of the objects and names of the tags that pachd keeps, by its own rules."""
    kept: set[str] = set()
    trees: set[str] = set()
    for repo in state.repos():
        for commit in state.commits(repo.name):
            kept.update(commit.trees)
            kept.update(filter(None, (commit.datums, commit.tree)))
            if commit.tree and commit.tree not in trees:
                trees.add(commit.tree)
                for _key, value in tree_entries(state.checked_object(commit.tree)):
                    kept.update(decode_node(value).objects)
    prefixes = tuple(f"tag/{tag_prefix(salt)}" for salt in salts)
    tags = {name for name in sizes if prefixes and name.startswith(prefixes)}
    found = in_parallel(lambda name: state.objects.tagged(name.removeprefix("tag/")), tags, _WORKERS)
    kept.update(name for name in found if name)
    return kept, tags


def _blocks(state: State, objects: Iterable[str]) -> Iterator[str]:
    """Yield the canonical names of the blocks that hold objects."""
    return (block for _name, block in state.blocks_of(name.removeprefix("object/") for name in objects) if block)


def _commits(state: State) -> set[str]:
    """Return the commits that users and jobs made; stopping a pipeline makes some of specifications."""
    return {str(commit) for repo in state.repos() if repo.name != "__spec__" for commit in state.commits(repo.name)}


def _pace(state: State, sizes: dict[str, int]) -> float:
    """Return how many seconds one small read takes."""
    names = [name for name in sizes if name.startswith("object/")][:_SAMPLE]
    begun = time.monotonic()
    for name in names:
        state.objects.locate(name.removeprefix("object/"))
    return (time.monotonic() - begun) / max(1, len(names))


def _states(pachd: Pachd) -> dict[str, str]:
    return {info.pipeline.name: shown.pipeline(info)["state"] for info in pachd.pipeline_infos()}


def _runs(info: Any) -> bool:
    return not info.stopped and shown.pipeline(info)["state"] not in ("failure", "paused")


def _worth(found: Plan, wishes: Wishes) -> bool:
    return bool(found.as_dict()["frees"]["total"]["bytes"] >= max(1, wishes.least))


def _predicted(found: Plan) -> Usage:
    return usage(found.sizes, found.sizes.keys() - found.doomed)


def _limit(found: Plan, wishes: Wishes) -> float:
    return max(wishes.timeout, 10 * found.seconds)


def _busy(live: Live) -> list[str]:
    """Return what a collection would endanger: jobs that run, and commits that users write."""
    with live.records() as state:
        stopped = {each.name for each in state.pipelines() if each.state in ("PAUSED", "FAILURE")}
        found = [
            f"job {job.id} of pipeline {job.pipeline} is {job.state.lower()}"
            for job in state.jobs()
            if job.state in _UNFINISHED and job.pipeline not in stopped
        ]
        found += [f"commit {each} is open" for each in state.open_commits() if not each.is_output]
    return found


def _settle(live: Live, wait: float, progress: Progress, sleep: Callable[[float], None]) -> None:
    end = time.monotonic() + wait
    while busy := _busy(live):
        if time.monotonic() >= end:
            more = len(busy) - _SHOWN
            raise InputError(
                "garbage cannot be collected while data is written",
                where=f"namespace {live.installation.namespace}",
                why="; ".join(busy[:_SHOWN]) + (f" and {more} more" if more > 0 else ""),
                fix="Wait for the jobs (garbage_collect_wait), and finish or delete open commits.",
            )
        progress.update(detail=f"waiting: {busy[0]}")
        sleep(_POLL)


def _record(kube: Kube, namespace: str, names: Sequence[str]) -> None:
    kube.apply(record_object(namespace, RECORD, {"stopped": json.dumps([*names])}))


def _freeze(
    kube: Kube,
    live: Live,
    pachd: Pachd,
    names: Sequence[str],
    timeout: float,
    progress: Progress,
    sleep: Callable[[float], None],
) -> None:
    """Stop pipelines, those that read others' output first, and return when no worker is left."""
    progress.stage("stop the pipelines")
    for name in reversed(names):
        pipelines.set_running(pachd, name, run=False)
    end = time.monotonic() + timeout
    namespace = live.installation.namespace
    while True:
        states = _states(pachd)
        left = [f"pipeline {name} is {state}" for name, state in states.items() if state not in ("paused", "failure")]
        pods = kube.list("v1", "Pod", namespace, labels="suite=pachyderm,component=worker")
        left += [f"pod {pod['metadata']['name']} is not gone" for pod in pods]
        if not left:
            return
        if time.monotonic() >= end:
            raise WaitError(
                "pipelines did not come to rest", where=f"namespace {namespace}", why="; ".join(left[:_SHOWN])
            )
        progress.update(detail=left[0])
        sleep(_POLL)


def _still_safe(live: Live, pachd: Pachd, found: Plan, wishes: Wishes, progress: Progress) -> Plan:
    """Return the plan, anew where anything was committed since.

    :raises InputError: somebody writes.
    """
    _settle(live, 0, progress, time.sleep)
    with live.records() as state:
        same = _commits(state) == found.commits
    if same:
        return found
    anew = plan(live, pachd, progress, wishes.memory)
    if anew.endangered:
        raise _refusal(anew)
    return anew


def _refusal(found: Plan) -> PachopsError:
    names = found.endangered
    return StorageError(
        "pachd's collection would delete what is needed",
        why=f"{len(names)} objects, such as {', '.join(names[:3])}: headers or footers of split files, or blocks that "
        "several objects share, which pachd does not look at",
        fix="Do not collect garbage in this installation, with pachctl neither.",
    )


def table(result: Result) -> list[str]:
    """Return the figures as lines for people."""
    freed = result.before["total"]["bytes"] - result.after["total"]["bytes"]
    figures = result.plan.as_dict()
    verb = "freed" if result.collected else "to free"
    return [
        f"objects   {size_text(result.before['total']['bytes'])} in {result.before['total']['count']} objects before",
        f"{verb:<9} {size_text(freed if result.collected else figures['frees']['total']['bytes'])}",
        f"kept      {size_text(figures['leaves']['total']['bytes'])} that nothing needs and pachd never deletes",
        f"freeze    {result.frozen:.0f} s with {len(result.plan.running)} pipelines stopped",
        f"memory    {size_text(result.plan.memory)} for pachd's filters",
    ]


__all__ = ["RECORD", "Plan", "Result", "Wishes", "collect", "plan", "resume", "stopped", "table", "usage"]
