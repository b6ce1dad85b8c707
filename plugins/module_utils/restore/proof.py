# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Asking pachd whether it serves what a backup holds.

pachd with good metadata and a wrong bucket becomes ready, and its own check says that all is well; so a real file of
every repo is read through it and compared with what the reader of Pachyderm's state finds in the backup.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..backup import cron
from ..errors import InputError, PachdError, PachopsError
from ..pachd import durations, records
from ..pachd.client import SETTLING, Pachd
from ..pachd.records import Commit
from ..pachd.shown import visit
from ..pachd.state import File, State

#: States of pipelines that a restart may pass through, whatever was recorded.
_LIVELY = ("STARTING", "RUNNING", "RESTARTING", "STANDBY", "CRASHING")
_ENOUGH = 64 << 20  # bytes: a smaller file is preferred, one of any size is taken
#: Why nothing of a repo is compared that has nothing.
EMPTY = "it has no file in a finished commit"
_EVERY = re.compile(r"@every\s+(.+)")


@dataclass(frozen=True)
class Sample:
    """One file of a repo and what it has to be."""

    repo: str
    commit: str
    path: str
    sha256: str
    size: int


@dataclass
class Expected:
    """What a backup says that pachd has to answer.

    :param pipelines: name to its recorded state.
    :param unread: repos of which no file can be compared, with the reason.
    """

    cluster_id: str = ""
    repos: list[str] = field(default_factory=list)
    pipelines: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


def expected(state: State) -> Expected:
    """Return what the state of a backup says, with one file of every repo that has any."""
    found = Expected(cluster_id=state.cluster_id)
    found.pipelines = {each.name: each.state for each in state.pipelines()}
    for repo in state.repos():
        found.repos.append(repo.name)
        try:
            sample = _sample(state, repo.name)
        except PachopsError as error:
            found.unread[repo.name] = str(error)
            continue
        if sample is None:
            found.unread[repo.name] = EMPTY
        else:
            found.samples.append(sample)
    return found


def _sample(state: State, repo: str) -> Sample | None:
    for commit in state.commits(repo):
        if commit.open or not commit.size:
            continue
        file = _file(state, commit)
        if file is not None:
            digest, size = hashlib.sha256(), 0
            for chunk in state.content(file):
                digest.update(chunk)
                size += len(chunk)
            return Sample(repo, commit.id, file.path, digest.hexdigest(), size)
    return None


def _file(state: State, commit: Commit) -> File | None:
    best: File | None = None
    for number, file in enumerate(state.files(commit)):
        if file.type == "file" and file.size:
            if file.size <= _ENOUGH:
                return file
            best = file if best is None or file.size < best.size else best
        if best is not None and number > 1000:
            break
    return best


def ask(
    connect: Callable[[], Any],
    wanted: Expected,
    version: str,
    deployment_id: str,
    *,
    settling: float = SETTLING,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Yield what pachd's answers are different in; nothing where all is as it was.

    :param connect: returns a context manager of a connection to pachd.
    :param version: the version that has to answer, empty for any.
    :param deployment_id: the CLUSTER_DEPLOYMENT_ID that has to answer, empty for any.
    :raises PachdError: pachd cannot be asked.
    """
    deadline = time.monotonic() + settling
    while True:
        try:
            with connect() as pachd:
                differences = list(_asked(pachd, wanted, version, deployment_id))
        except PachopsError:
            # Ready, it still refuses until its client has found the new etcd.
            if time.monotonic() >= deadline:
                raise
        else:
            if not differences or time.monotonic() >= deadline:
                yield from differences
                return
        sleep(0.5)


def compare(
    connect: Callable[[str], Any],
    wanted: Expected,
    version: str,
    deployment_id: str,
    *,
    token: str,
    settling: float = SETTLING,
) -> tuple[list[str], list[str]]:
    """Return what pachd's answers are different in, and what a person should know of the comparison.

    :param connect: as for :func:`ask`; it is given the token.
    :param token: an authentication token; without one pachd is not asked where authentication is active.
    :param settling: seconds for which pachd may refuse because it has no connection to its etcd.
    :raises PachopsError: pachd cannot be asked.
    """
    try:
        differences = list(ask(lambda: connect(token), wanted, version, deployment_id, settling=settling))
    except PachopsError as error:
        if "no authentication token" in error.why and not token:
            return [], ["pachd was not asked for files and pipelines: authentication is active, and no token was given"]
        raise
    unread = [f"no file of repo {repo} was read: {why}" for repo, why in wanted.unread.items() if why != EMPTY]
    return differences, unread


def _asked(pachd: Pachd, wanted: Expected, version: str, deployment_id: str) -> Iterator[str]:
    answered = pachd.version()
    if version and not answered.startswith(version):
        yield f"pachd says it is version {answered}, and {version} is deployed"
    cluster = pachd.cluster()
    if cluster.id != wanted.cluster_id:
        yield f"pachd serves cluster {cluster.id}, the backup is that of {wanted.cluster_id}"
    if deployment_id and cluster.deployment_id != deployment_id:
        yield f"pachd's deployment id is {cluster.deployment_id}, users' pachctl remember {deployment_id}"
    missing = sorted(set(wanted.repos) - {*pachd.repos(), records.SPEC_REPO})
    if missing:
        yield f"pachd does not know the repos {', '.join(missing)}"
    yield from _pipelines(pachd, wanted)
    for each in wanted.samples:
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in pachd.get_file(each.repo, each.commit, each.path):
                digest.update(chunk)
                size += len(chunk)
        except PachdError as error:
            yield f"{each.repo}@{each.commit}:{each.path} cannot be read: {error.why}"
            continue
        if (size, digest.hexdigest()) != (each.size, each.sha256):
            yield f"{each.repo}@{each.commit}:{each.path} has other content: {size} bytes instead of {each.size}"


def _pipelines(pachd: Pachd, wanted: Expected) -> Iterator[str]:
    answer = pachd.call(pachd.pps.ListPipeline, pachd.pps_pb2.ListPipelineRequest(), "for the pipelines")
    states = {each.pipeline.name: records.PIPELINE_STATES[each.state] for each in answer.pipeline_info}
    for name, state in wanted.pipelines.items():
        if name not in states:
            yield f"pachd does not know the pipeline {name}"
        elif states[name] != state and not (state in _LIVELY and states[name] in _LIVELY):
            yield f"the pipeline {name} is {states[name]}, and was {state}"


# -- cron -------------------------------------------------------------------------------------------------------------


def missed_ticks(state: State, now: dt.datetime) -> dict[str, int]:
    """Return how many ticks each cron pipeline replays when pachd starts, by pipeline; those with none are left out."""
    found = {}
    for pipeline in state.pipelines():
        try:
            spec = state.spec(pipeline)
        except PachopsError:
            continue
        if spec.stopped:
            continue
        inputs = visit(records.parse("PipelineInfo", spec.raw, spec.name).input)
        ticks = sum(_ticks(state, each.cron, now) for each in inputs if each.HasField("cron"))
        if ticks:
            found[pipeline.name] = ticks
    return found


def _ticks(state: State, info: Any, now: dt.datetime) -> int:
    last = None
    for commit in state.commits(info.repo):
        last = commit.finished or commit.started
        break
    if last is None and info.HasField("start"):
        last = dt.datetime.fromtimestamp(info.start.seconds, dt.timezone.utc)
    if last is None:
        return 0
    every = _EVERY.fullmatch(info.spec.strip())
    if every:
        seconds = durations.seconds(every[1])
        return int((now - last).total_seconds() // seconds) if seconds else 0
    try:
        return sum(1 for _tick in cron.parse(info.spec).between(last, now))
    except InputError:
        return 0
