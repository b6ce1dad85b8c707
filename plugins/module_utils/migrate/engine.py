# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A live migration: copy while the source is in use, then pause it, copy the rest, compare, and start the target.

The source is only read, apart from its scaling and the lock in its namespace.  So any failure after the pause starts it
again as it was, and be it that the target's pachd does not serve what the source held.  How far it came is known from
both places themselves (journals in the target's etcd and store, the pause of either pachd), so a run after one that
died continues, and an undo needs nothing else.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backup.lock import Lock
from ..backup.objects import list_source
from ..backup.origin import EtcdAccess, etcd_of, objects_of
from ..errors import InputError, MigrationError, PachopsError
from ..etcd.client import EtcdClient
from ..etcd.keyspace import LiveKeyspace
from ..etcd.migration import KeyMigration, KeyPlan, digest
from ..installation import NAMESPACED, Installation, observe
from ..kube import quiesce
from ..pachd.client import SETTLING
from ..pachd.connection import connected
from ..pachd.durable import Kind
from ..pachd.objects import Objects
from ..pachd.state import State
from ..progress import Progress
from ..restore import proof
from ..restore.identity import identify
from ..restore.objects import Place
from ..stores.directory import DirectoryStore
from ..stores.keys import Spelling
from ..stores.location import Access
from . import space
from .objects import ObjectMigration, ObjectPlan, Pass

if TYPE_CHECKING:
    from ..kube.client import Kube

OPERATION = "migrate"
#: For a plan's estimates, measured by ``benchmarks/migrate.py`` with everything on two busy cores: keys per second that
#: are copied, and compared while the source is paused; bytes and numbers of objects per second.
KEY_RATE, COMPARE_RATE, OBJECT_RATE, OBJECTS_RATE = 4_000, 50_000, 50 << 20, 400
#: Objects that are listed per second, on each side.
_LISTED_RATE = 10_000
#: Seconds of a pause beside the comparison: the end of pachd's pods, and the start of the target's.
_PAUSE_OVERHEAD = 8.0
#: The source is paused when the target is at most so many revisions and seconds of copying behind.
_CLOSE_REVISIONS, _CLOSE_SECONDS = 1000, 5.0
_PASSES = 10
_DRAIN = 5.0  # seconds
_POLL = 0.2


@dataclass(frozen=True)
class Side:
    """One of the two installations.

    :param access: and ``path``: the way to its objects, as for a backup.
    """

    kube: Kube
    namespace: str
    etcd: EtcdAccess = field(default_factory=EtcdAccess)
    access: Access | None = None
    path: str = ""


@dataclass(frozen=True)
class Options:
    """How to migrate.

    :param cutover: whether to go over to the target; else the target is only brought up to date.
    :param cluster_id: the source's, where the user wants to be certain of it.
    :param version_skew: allow another minor version of Pachyderm on the target.
    :param check_references: whether everything that the metadata reaches is looked for in the target's store.
    :param token: of an administrator, where authentication is active.
    :param catch_up: seconds for which to wait until the target is close enough for the pause.
    """

    cutover: bool = True
    cluster_id: str = ""
    version_skew: bool = False
    check_references: bool = True
    token: str = field(default="", repr=False)
    workdir: str = ""
    pachd_timeout: float = 600.0
    catch_up: float = 600.0
    settling: float = SETTLING


@dataclass(frozen=True)
class Plan:
    """What would happen; ``problems`` is everything for which it is refused.

    :param continued: whether a run that died, or stopped before the cut-over, is continued.
    :param copied: whether nothing is left but to start the target.
    :param done: whether it has been done already.
    :param ticks: cron pipeline to how many missed ticks it replays.
    """

    source: str
    target: str
    cluster_id: str = ""
    keys: KeyPlan | None = None
    objects: ObjectPlan | None = None
    continued: bool = False
    copied: bool = False
    done: bool = False
    ticks: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """About how long the copying takes."""
        keys = self.keys.keys / KEY_RATE if self.keys else 0.0
        return keys + (
            self.objects.missing_size / OBJECT_RATE + self.objects.missing / OBJECTS_RATE if self.objects else 0.0
        )

    @property
    def pause(self) -> float:
        """About how long the source is paused before the target has started."""
        keys = self.keys.keys / COMPARE_RATE if self.keys else 0.0
        return _PAUSE_OVERHEAD + keys + (self.objects.count / _LISTED_RATE if self.objects else 0.0)

    def lines(self) -> list[str]:
        """Return the plan for people."""
        lines = [f"{self.source} → {self.target}, cluster {self.cluster_id or 'unknown'}"]
        if self.done:
            return [*lines, "It has been done already."]
        if self.continued:
            lines.append("A migration that did not come to its end is continued.")
        if self.keys:
            left = ", ".join(
                f"{count} {kind.value}"
                for kind, count in sorted(self.keys.kinds.items(), key=lambda each: each[0].value)
            )
            lines.append(f"metadata: {self.keys.keys} keys of {self.keys.size} bytes to copy; by kind: {left}")
        if self.objects:
            lines.append(
                f"objects: {self.objects.count} of {self.objects.size} bytes,"
                f" of which {self.objects.missing} of {self.objects.missing_size} bytes are to be copied"
            )
        lines.append(
            f"copying takes about {self.seconds:.0f} s while the source is in use, its pause {self.pause:.0f} s"
        )
        lines += [f"pipeline {name} replays {count} missed ticks at once" for name, count in self.ticks.items()]
        return [*lines, *self.notes, *(f"refused: {each}" for each in self.problems)]


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    :param state: ``copied`` (the source still runs), ``migrated``, ``rehearsed``, ``undone`` or ``nothing``.
    :param keys: that both sides hold, and ``digest`` what they hash to, after a cut-over.
    :param passes: over the objects.
    :param pause: seconds between the pause of the source and the target's pachd being ready.
    :param lag: revisions that the target was behind when the source was paused.
    """

    state: str
    changed: bool
    plan: Plan | None = None
    keys: int = 0
    digest: str = ""
    revision: int = 0
    passes: tuple[Pass, ...] = ()
    pause: float = 0.0
    drain: float = 0.0
    lag: int = 0
    warnings: tuple[str, ...] = ()
    way_back: str = ""


#: Given the name of a part of the work, returns the context in which that is done.
Stage = Callable[[str], AbstractContextManager[None]]
Etcds = Callable[..., AbstractContextManager[tuple[EtcdClient, str]]]


class Migrator:
    """Moves one installation."""

    def __init__(
        self,
        source: Side,
        target: Side,
        options: Options | None = None,
        *,
        progress: Progress | None = None,
        etcds: Etcds = etcd_of,
        connect: Callable[..., AbstractContextManager[Any]] = connected,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc),
    ) -> None:
        """:param etcds: and ``connect``: how etcd and pachd are reached."""
        self._source = source
        self._target = target
        self._options = options or Options()
        self._progress = progress or Progress()
        self._etcds = etcds
        self._connect = connect
        self._now = now

    # What would be done

    def plan(self) -> Plan:
        """Return what a migration would do, and everything for which it would be refused; nothing is written."""
        self._progress.stage("plan", f"{self._source.namespace} → {self._target.namespace}")
        source, target = self._observed()
        problems = list(self._problems(source, target))
        if source.pachd is not None and target.pachd is None:
            return self._plan_of(source, target)
        if source.pachd is None:
            return Plan(_named(self._source, source), _named(self._target, target), problems=tuple(problems))
        with self._work(source, target) as work:
            return self._plan(source, target, work, problems)

    def measure(self) -> Plan:
        """Return what the source alone tells of how much moves; nothing is asked of the target."""
        source, target = self._observed()
        if source.pachd is None:
            named = _named(self._source, source), _named(self._target, target)
            return Plan(*named, problems=tuple(self._problems(source, target)))
        return self._plan_of(source, target)

    def _plan(self, source: Installation, target: Installation, work: _Work, problems: list[str]) -> Plan:
        keys: KeyPlan | None = None
        objects: ObjectPlan | None = None
        cluster_id, continued, ticks = "", False, {}
        copied = self._copied(source, target, work)
        notes: list[str] = []
        done = self._done(source, target, work)
        if done:
            problems = []
        with self._noting(problems):
            cluster_id = work.keys.cluster_id()
            wanted = self._options.cluster_id
            if wanted and wanted != cluster_id:
                problems.append(f"the source is cluster {cluster_id}, and cluster {wanted} was named")
            keys = work.keys.plan()
            continued = copied or (not done and work.keys.require_target() is not None)
            ticks = proof.missed_ticks(work.state(work.source), self._now())
        with self._noting(problems):
            objects = work.objects.plan() if done else work.objects.require_target()
        if not (done or copied):
            problems += self._lacking(target, work, keys, objects)
        if keys:
            logins = keys.kinds.get(Kind.LOGIN, 0)
            notes += [f"{logins} logins move with the time they have left"] if logins else []
            begun = keys.kinds.get(Kind.STARTED_LOGIN, 0)
            notes += [f"{begun} logins that were begun and not ended are dropped"] if begun else []
            notes += [f"keys that are none of Pachyderm's stay, such as {keys.foreign[0]!r}"] if keys.foreign else []
        return Plan(
            _named(self._source, source),
            _named(self._target, target),
            cluster_id,
            keys,
            objects,
            continued,
            copied,
            done,
            ticks,
            tuple(dict.fromkeys(problems)),
            tuple(notes),
        )

    def _lacking(
        self, target: Installation, work: _Work, keys: KeyPlan | None, objects: ObjectPlan | None
    ) -> Iterator[str]:
        """Yield what has too little room for what is moved."""
        if keys:
            status = work.target.status()
            yield from space.metadata_problems(target, keys, status.db_size_in_use or status.db_size)
            yield from space.workdir_problems(self._options.workdir, keys)
        if objects:
            yield from space.object_problems(work.place.store, objects)

    def _plan_of(self, source: Installation, target: Installation) -> Plan:
        """Return what a source alone tells, where the target is not deployed yet."""
        origin = _place(source, self._source)
        with self._etcds(self._source.kube, source, self._source.etcd) as (etcd, _unused):
            keys = KeyMigration(etcd, etcd)
            listing = list_source(origin.store, [origin.spelling, *origin.others], origin.root)
            size = sum(each.size for each in listing.objects)
            count = len(listing.objects)
            state = State(LiveKeyspace(etcd), Objects(origin.store, origin.spelling, origin.root))
            return Plan(
                _named(self._source, source),
                _named(self._target, target),
                keys.cluster_id(),
                keys.plan(),
                ObjectPlan(count, size, count, size, 0, len(listing.artifacts), listing.foreign),
                ticks=proof.missed_ticks(state, self._now()),
                notes=("the target is not there yet: it is deployed first, with pachyderm_paused=true",),
            )

    @contextmanager
    def _noting(self, problems: list[str]) -> Iterator[None]:
        try:
            yield
        except PachopsError as error:
            problems.append(str(error))

    def _problems(self, source: Installation, target: Installation) -> Iterator[str]:
        """Yield what speaks against it as far as the clusters show it."""
        if source.pachd is None:
            yield f"there is no Pachyderm in the source's namespace {source.namespace}"
        if target.pachd is None:
            yield (
                f"there is no Pachyderm in the target's namespace {target.namespace}: deploy it there first,"
                " with pachyderm_paused=true"
            )
        if source.pachd is None or target.pachd is None:
            return
        if source.namespace == target.namespace and _uid(source) == _uid(target):
            yield f"source and target are the same installation, in namespace {source.namespace}"
            return
        if source.store and source.store == target.store:
            yield (
                f"source and target keep their objects in the same place ({source.store}): two installations there"
                " delete each other's objects at the first garbage collection"
            )
        mine, theirs = (str(each.settings().get("version") or "") for each in (source, target))
        if mine.split(".")[:2] != theirs.split(".")[:2] and not self._options.version_skew:
            yield f"the source runs Pachyderm {mine}, the target {theirs} (migrate_version_skew allows it)"
        if quiesce.paused_of(target.pachd) is None:
            yield (
                f"pachd of the target is not paused in namespace {target.namespace}: it must never start before its"
                " metadata and objects are in place; deploy it with pachyderm_paused=true"
            )
        for name, each in (("source", source), ("target", target)):
            if not each.ready_pod("etcd"):
                yield f"etcd of the {name} has no ready pod in namespace {each.namespace}"

    def _done(self, source: Installation, target: Installation, work: _Work) -> bool:
        """Return whether the target runs what the source was paused for."""
        pause = quiesce.paused_of(source.pachd)
        if pause is None or pause.by != OPERATION or quiesce.paused_of(target.pachd) is not None:
            return False
        found = work.target.get(b"cluster-id")
        return found is not None and found.value.decode("utf-8", "replace") == work.keys.cluster_id()

    def _copied(self, source: Installation, target: Installation, work: _Work) -> bool:
        """Return whether a run died between the end of its copy and the start of the target."""
        pause = quiesce.paused_of(source.pachd)
        if pause is None or pause.by != OPERATION or quiesce.paused_of(target.pachd) is None:
            return False
        return work.keys.journal() is None and digest(work.source) == digest(work.target)

    # The two operations

    def migrate(self, *, lock_wait: float = 0.0) -> Outcome:
        """Copy, and go over to the target where the options want it.

        :raises InputError: it is refused; nothing was changed.
        :raises PachopsError: it failed; the source runs, unless the message says otherwise.
        """
        source, target = self._observed()
        problems = list(self._problems(source, target))
        if source.pachd is None or target.pachd is None:
            refuse(problems)
        with self._locks(lock_wait) as check, self._work(source, target) as work:
            plan = self._plan(source, target, work, problems)
            if plan.done:
                return Outcome("migrated", False, plan, way_back=self._way_back())
            refuse(plan.problems)
            return self._carry_out(plan, source, target, work, check)

    def rehearse(self, stage: Stage, *, lock_wait: float = 0.0) -> Outcome:
        """Copy what the source holds at one revision, compare, and start the target, while the source goes on.

        For a target that nobody uses and that is taken away again: what the source does next it never learns.

        :param stage: given a name, returns the context in which that part of the work is done.
        :raises PachopsError: as ``migrate`` does; the source is what it was.
        """
        source, target = self._observed()
        refuse(list(self._problems(source, target)))
        passes: list[Pass] = []
        with self._locks(lock_wait) as check, self._work(source, target) as work:
            plan = self._plan(source, target, work, [])
            refuse(plan.problems)
            with stage("metadata"):
                work.keys.begin()
                revision = work.keys.copy()
            with stage("objects"):
                work.objects_pass(passes)
                check()
            with stage("references"):
                self._check_references(work, work.target.revision())
            with stage("compare"):
                found = work.keys.verify(revision)
                work.keys.close()
            with stage("start pachd"):
                self._resume_target()
            with stage("ask pachd"):
                warnings = self._ask(work, target, revision)
        return Outcome(
            "rehearsed", True, plan, found.keys, found.sha256, revision, tuple(passes), warnings=tuple(warnings)
        )

    def pause(self, *, check: bool = False) -> Outcome:
        """Pause the source, for a migration by backup and restore.

        :param check: change nothing, and return what would be done.
        """
        source = observe(self._source.kube, self._source.namespace, NAMESPACED)
        if source.pachd is None:
            refuse([f"there is no Pachyderm in the source's namespace {source.namespace}"])
        pause = quiesce.paused_of(source.pachd)
        running = bool(source.pods("pachd"))
        if check or (pause is not None and not running):
            return Outcome("paused", pause is None or running, way_back=self._way_back())
        self._pause()
        return Outcome("paused", True, way_back=self._way_back())

    def undo(self, *, lock_wait: float = 0.0, check: bool = False) -> Outcome:
        """Start the source again, and empty the target's etcd of an unfinished migration; pachd of the target ends.

        What was written to the target after the cut-over stays there, and is not in the source.

        :param check: change nothing, and return whether there is anything to undo.
        """
        source, target = self._observed()
        pause = quiesce.paused_of(source.pachd)
        by_us = pause is not None and pause.by == OPERATION
        with nullcontext() if check else self._locks(lock_wait), self._maybe_work(source, target) as work:
            left = work is not None and (
                work.keys.journal() is not None or (by_us and digest(work.source) == digest(work.target))
            )
            if check or not (by_us or left):
                return Outcome("undone" if by_us or left else "nothing", bool(by_us or left))
            if by_us and target.pachd is not None and quiesce.paused_of(target.pachd) is None:
                self._progress.stage("undo", f"pausing the target in namespace {target.namespace}")
                quiesce.pause(self._target.kube, self._target.namespace, OPERATION, progress=self._progress)
            if left and work is not None:
                work.keys.wipe()
            if by_us:
                self._progress.stage("undo", f"starting the source in namespace {source.namespace}")
                quiesce.resume(
                    self._source.kube,
                    self._source.namespace,
                    timeout=self._options.pachd_timeout,
                    progress=self._progress,
                )
        return Outcome("undone", True)

    # Steps

    def _carry_out(
        self, plan: Plan, source: Installation, target: Installation, work: _Work, check: Callable[[], None]
    ) -> Outcome:
        passes: list[Pass] = []
        lag, begun, complete = 0, time.monotonic(), plan.copied
        if not plan.copied:
            self._progress.stage("metadata", plan.source)
            work.keys.begin()
            work.keys.copy()
            with work.keys.following() as follower:
                self._progress.stage("objects", plan.target)
                self._catch_up(work, passes, follower, check)
                if not self._options.cutover:
                    return Outcome("copied", True, plan, revision=work.keys.applied, passes=tuple(passes))
                check()
                lag = follower.lag().revisions
                begun = time.monotonic()
                with self._back():
                    self._pause()
                    work.objects_pass(passes)
                    complete = follower.drain(_DRAIN)
        with self._back():
            self._progress.stage("compare", "metadata of both sides")
            if not complete:
                # What has changed is listed, which takes longer the more there is.
                work.keys.copy()
            found = work.keys.verify()
            drain = time.monotonic() - begun
            check()
            self._adopt_identity(source, target)
            if not plan.copied:
                work.keys.close()
        with self._back(work):
            self._resume_target()
            pause = time.monotonic() - begun
            warnings = self._ask(work, target)
        work.objects.close()
        return Outcome(
            "migrated",
            True,
            plan,
            found.keys,
            found.sha256,
            found.revision,
            tuple(passes),
            round(pause, 1),
            round(drain, 1),
            lag,
            tuple(warnings),
            self._way_back(),
        )

    def _catch_up(self, work: _Work, passes: list[Pass], follower: Any, check: Callable[[], None]) -> None:
        """Copy objects until little is new, and wait until the metadata are close behind."""
        deadline = time.monotonic() + self._options.catch_up
        revision = self._objects(work, passes, follower, check)
        if self._options.check_references:
            self._check_references(work, revision)
        if self._options.cutover:
            self._progress.stage("compare", "metadata of both sides, for the first time")
            work.keys.compare_early()
        if self._options.check_references or self._options.cutover:
            # What was written while that took its time is not to be copied in the pause.
            self._objects(work, passes, follower, check)
        while (lag := follower.lag()).revisions > _CLOSE_REVISIONS:
            self._progress.update(detail=f"{lag.revisions} revisions behind")
            if time.monotonic() >= deadline:
                raise MigrationError(
                    "the target does not catch up with the source",
                    where=f"namespace {self._source.namespace}",
                    why=f"it is {lag.revisions} revisions behind, for {lag.seconds:.0f} s",
                    fix="Nothing was changed for the source. Run it again when less is written, or migrate offline.",
                )
            time.sleep(_POLL)

    @staticmethod
    def _objects(work: _Work, passes: list[Pass], follower: Any, check: Callable[[], None]) -> int:
        """Copy until little is new; return a revision of the target all of whose objects are there."""
        for _unused in range(_PASSES):
            revision = work.target.revision()
            work.objects_pass(passes)
            check()
            follower.check()
            if passes[-1].copied == 0 or passes[-1].seconds < _CLOSE_SECONDS:
                break
        return revision

    def _check_references(self, work: _Work, revision: int) -> None:
        """Look for everything that the copied metadata reach, before anything is paused."""
        self._progress.stage("references", work.place.store.where)
        names = work.objects.names()
        lost = [each for each in work.state(work.target, revision).reachable() if each not in names]
        if lost:
            raise MigrationError(
                "the metadata refer to objects that the source does not have",
                where=work.origin.store.where,
                why=f"{len(lost)} of them, {lost[0]} for one",
                fix="The source goes on as before. Find out what it has lost (playbook doctor; a deep verification of a"
                " backup), or migrate all the same with migrate_check_references=false.",
            )

    def _pause(self) -> None:
        self._progress.stage("pause", f"namespace {self._source.namespace}")
        quiesce.pause(self._source.kube, self._source.namespace, OPERATION, progress=self._progress)

    def _resume_target(self) -> None:
        self._progress.stage("start pachd", f"namespace {self._target.namespace}")
        quiesce.resume(
            self._target.kube, self._target.namespace, timeout=self._options.pachd_timeout, progress=self._progress
        )

    @contextmanager
    def _back(self, work: _Work | None = None) -> Iterator[None]:
        """Where the block fails, start the source again; with ``work``, after the target was stopped and emptied."""
        try:
            yield
        except PachopsError as error:
            try:
                if work is not None:
                    quiesce.pause(self._target.kube, self._target.namespace, OPERATION, progress=self._progress)
                    work.keys.wipe()
                quiesce.resume(
                    self._source.kube,
                    self._source.namespace,
                    timeout=self._options.pachd_timeout,
                    progress=self._progress,
                    wait=False,
                )
            except PachopsError as second:
                raise type(error)(
                    error.what,
                    where=error.where,
                    why=f"{error.why}; and the source could not be started again: {second}",
                    fix="Nothing is lost. Run it with migrate_action=undo when the clusters answer.",
                ) from error
            raise type(error)(
                error.what, where=error.where, why=error.why, fix=f"The source runs again. {error.fix}".strip()
            ) from error

    def _adopt_identity(self, source: Installation, target: Installation) -> None:
        """Keep the deployment id that users' pachctl remember."""
        wanted = source.deployment_id
        if wanted and wanted != target.deployment_id:
            identify(self._target.kube, self._target.namespace, wanted)

    def _ask(self, work: _Work, target: Installation, revision: int = 0) -> list[str]:
        """Ask the target's pachd whether it serves what the source held.

        :param revision: of the source; default: its newest.
        """
        self._progress.stage("ask pachd", f"namespace {self._target.namespace}")
        wanted = proof.expected(work.state(work.source, revision))
        version = str(target.settings().get("version") or "")
        deployment_id = observe(self._target.kube, self._target.namespace, NAMESPACED).deployment_id

        differences, warnings = proof.compare(
            lambda token: self._connect(self._target.kube, self._target.namespace, token),
            wanted,
            version,
            deployment_id,
            token=self._options.token,
            settling=self._options.settling,
        )
        if differences:
            raise MigrationError(
                "the target's pachd does not serve what the source held",
                where=f"namespace {self._target.namespace}",
                why="; ".join(differences),
            )
        return warnings

    def _way_back(self) -> str:
        return (
            f"The way back: the same with migrate_action=undo, which pauses namespace {self._target.namespace} and"
            f" starts {self._source.namespace} as it was; what was written since then stays in the target."
        )

    # Parts

    def _observed(self) -> tuple[Installation, Installation]:
        return (
            observe(self._source.kube, self._source.namespace, NAMESPACED),
            observe(self._target.kube, self._target.namespace, NAMESPACED),
        )

    @contextmanager
    def _locks(self, wait: float) -> Iterator[Callable[[], None]]:
        """Keep backups, restores, garbage collection and other migrations off both sides."""
        with ExitStack() as stack:
            locks = [
                stack.enter_context(Lock(each.kube, each.namespace, OPERATION, wait=wait))
                for each in (self._source, self._target)
            ]

            def check() -> None:
                for each in locks:
                    each.check()

            yield check

    @contextmanager
    def _maybe_work(self, source: Installation, target: Installation) -> Iterator[_Work | None]:
        """Yield what is worked with, None where one of the two is no installation whose etcd runs."""
        if all(each.pachd is not None and each.ready_pod("etcd") for each in (source, target)):
            with self._work(source, target) as work:
                yield work
        else:
            yield None

    @contextmanager
    def _work(self, source: Installation, target: Installation) -> Iterator[_Work]:
        with ExitStack() as stack:
            near, _unused = stack.enter_context(self._etcds(self._source.kube, source, self._source.etcd))
            far, _unused = stack.enter_context(self._etcds(self._target.kube, target, self._target.etcd))
            origin, place = _place(source, self._source), _place(target, self._target)
            yield _Work(
                near,
                far,
                origin,
                place,
                KeyMigration(near, far, progress=self._progress, workdir=self._options.workdir),
                ObjectMigration(origin, place, progress=self._progress),
            )


@dataclass
class _Work:
    """What is worked with: both etcds, where the objects are and go, and the two copies."""

    source: EtcdClient
    target: EtcdClient
    origin: Place
    place: Place
    keys: KeyMigration
    objects: ObjectMigration

    def objects_pass(self, passes: list[Pass]) -> None:
        """Copy what is new, and note it."""
        passes.append(self.objects.copy())

    def state(self, etcd: EtcdClient, revision: int = 0) -> State:
        """Return the state that one of the etcds holds, with the objects on its side."""
        place = self.origin if etcd is self.source else self.place
        return State(LiveKeyspace(etcd, revision), Objects(place.store, place.spelling, place.root))


def _place(installation: Installation, side: Side) -> Place:
    data, metadata = (installation.host_paths.get(part, "") for part in ("data", "metadata"))
    if (
        installation.backend == "local"
        and not side.path
        and not Path(data).is_dir()
        and Path(metadata or "/-").is_dir()
    ):
        # This is the node, as etcd's directory shows; pachd's own is made at its first start.
        return Place(DirectoryStore(data), Spelling.DIRECTORY)
    store, spellings, root = objects_of(installation, side.access, side.path)
    return Place(store, spellings[0], spellings[1:], root)


def _named(side: Side, installation: Installation) -> str:
    return f"{side.namespace} ({installation.backend or 'unknown'}: {installation.store or 'unknown'})"


def _uid(installation: Installation) -> str:
    """Return what tells two clusters' namespaces of one name apart."""
    return str(((installation.pachd or {}).get("metadata") or {}).get("uid") or "")


def refuse(problems: Sequence[str]) -> None:
    """Return where nothing speaks against a migration.

    :raises InputError: with everything that does.
    """
    if problems:
        raise InputError(
            "the migration is refused",
            why="; ".join(problems),
            fix="Nothing was changed. Mend that, then run it again.",
        )


__all__ = ["Migrator", "Options", "Outcome", "Plan", "Side", "refuse"]
