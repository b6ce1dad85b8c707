# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Restoring a backup into an installation, undoing that, and letting go of what was before.

The order is what makes it safe.  Objects come first, while everything runs on: they never change, so more of them harm
nobody, and pachd never sees metadata whose objects are not there.  The new data is made beside the old while that is
still in use, so what takes long and most of what can fail costs no pause.  Then pachd is paused, etcd stopped, its
data set aside by renaming it on its own volume, the new data put in its place, etcd started and compared with the
backup, and pachd started and asked.  Any failure puts the old data back.  Every step may be done again after a crash,
and the journal in the cluster tells which ones were begun.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..backup.lock import Lock
from ..backup.manifest import utc
from ..backup.origin import EtcdAccess, etcd_of, objects_of
from ..backup.sets import OpenedSet
from ..backup.verify import Options as VerifyOptions
from ..backup.verify import compare, verify
from ..errors import BackupError, InputError, PachopsError
from ..etcd.client import EtcdClient
from ..etcd.keyspace import LiveKeyspace
from ..installation import NAMESPACED, Installation, observe
from ..kube import quiesce
from ..kube.client import Ref
from ..kube.wait import wait_for
from ..pachd.client import SETTLING
from ..pachd.connection import connected
from ..pachd.objects import Objects
from ..pachd.state import State
from ..progress import Progress
from ..remove import this_host
from ..stores.directory import DirectoryStore
from ..stores.keys import ROOT, Spelling
from ..stores.location import Access
from . import journal as journals
from . import objects as put
from . import plan as plans
from . import proof
from .identity import identify
from .journal import Journal, Recorder
from .members import Member, members_of, workload_of
from .plan import Plan
from .volumes import Volumes

if TYPE_CHECKING:
    from ..kube.client import Kube

OPERATION = "restore"
#: Verification before a restore; ``used`` compares only what is used, which every level does anyway.
LEVELS = ("used", "digest", "restore", "deep")
_POLL_TIMEOUT = 180.0


@dataclass(frozen=True)
class Options:
    """How to restore.

    :param image: an image with Python, for the pods that hold etcd's volumes.
    :param level: one of :data:`LEVELS`.
    :param confirm: the name of the cluster whose metadata may be replaced by another cluster's.
    :param version_skew: allow another minor version of Pachyderm.
    :param token: an authentication token, where authentication is active.
    :param access: and ``path``: the way to the target's objects, as for a backup.
    :param verify: how to verify.
    :param etcd_timeout: seconds for etcd to become ready, ``pachd_timeout`` for pachd.
    """

    image: str = "docker.io/pachops/runner:latest"
    level: str = "digest"
    confirm: str = ""
    version_skew: bool = False
    token: str = field(default="", repr=False)
    access: Access | None = None
    path: str = ""
    verify: VerifyOptions = field(default_factory=VerifyOptions)
    etcd_timeout: float = 300.0
    pachd_timeout: float = 600.0


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    :param plan: None for an undo or a confirmation.
    :param continued: whether a run that died was continued.
    :param written: objects that were put back, and ``written_bytes``.
    :param warnings: what a person should know.
    """

    changed: bool
    journal: Journal
    plan: Plan | None = None
    continued: bool = False
    written: int = 0
    written_bytes: int = 0
    paused: float = 0.0
    warnings: tuple[str, ...] = ()


Connect = Callable[["Kube", str, str], AbstractContextManager[Any]]


class Restorer:
    """Restores into one namespace."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        options: Options | None = None,
        *,
        etcd: EtcdAccess | None = None,
        progress: Progress | None = None,
        etcds: Callable[..., AbstractContextManager[tuple[EtcdClient, str]]] = etcd_of,
        connect: Connect = connected,
        now: Callable[[], dt.datetime] = plans.now,
        settling: float = SETTLING,
    ) -> None:
        """:param etcds: and ``connect``: how etcd and pachd are reached.
        :param settling: seconds for which pachd may refuse until it has found its etcd.
        """
        self._kube = kube
        self._namespace = namespace
        self._options = options or Options()
        self._access = etcd or EtcdAccess()
        if self._access.transport == "auto":
            # Little is asked here, and to find out whether the pod's own address answers takes longer.
            self._access = dataclasses.replace(self._access, transport="port_forward")
        self._progress = progress or Progress()
        self._etcds = etcds
        self._connect = connect
        self._now = now
        self._settling = settling

    # What would be done

    def plan(
        self, opened: OpenedSet, level: str = "", state: State | None = None, journal: Journal | None = None
    ) -> Plan:
        """Return what a restore would do, and everything for which it would be refused.

        :param level: the level to which the backup is verified.
        :param state: the backup's state, for cron ticks.
        :param journal: of the last restore: where that died with this backup, what it had found and was allowed counts,
            for etcd may be stopped now.
        """
        self._progress.stage("plan", opened.where)
        installation = self._observe()
        target = plans.look(self._kube, installation, self._reach)
        manifest = opened.manifest
        continued = journal is not None and journal.state == "running" and journal.backup == manifest.id
        found = [] if continued else plans.problems(manifest, target, version_skew=self._options.version_skew)
        survey, where = None, ""
        try:
            place = self._place(installation)
            where = place.store.where
            survey = put.survey(place, opened)
            anothers = plans.bucket_is_anothers(manifest, target, survey)
            found += [anothers] if anothers else []
        except PachopsError as error:
            found.append(str(error))
        own, made = installation.deployment_id, manifest.source.cluster_deployment_id
        return Plan(
            self._namespace,
            manifest,
            level,
            target,
            survey,
            tuple(found),
            proof.missed_ticks(state, self._now()) if state else {},
            "" if continued else plans.difference(manifest, target),
            tuple(each for each in (target.cluster_id, self._namespace) if each),
            made if made and made != own else "",
            opened.where,
            where,
            tuple(journal.set_aside) if journal else (),
        )

    def journal(self) -> Journal:
        """Return how far the last restore has come."""
        return journals.read(self._kube, self._namespace)

    # The three operations

    def restore(self, opened: OpenedSet, level: str = "", *, lock_wait: float = 0.0) -> Outcome:
        """Restore a backup, or continue a restore of it that died.

        :raises InputError: it is refused; nothing was changed.
        :raises PachopsError: it failed; the old state is back, or the message says what is not.
        """
        self._verify(opened)
        with Lock(self._kube, self._namespace, f"{OPERATION} of {opened.manifest.id}", wait=lock_wait) as lock:
            recorder = Recorder(self._kube, self._namespace, self.journal(), lock.check, self._now)
            if recorder.journal.state == "undoing":
                self._roll_back(recorder)
            plan = self.plan(opened, level, None, recorder.journal)
            plans.refuse(plan, self._options.confirm, recorder.journal)
            return self._carry_out(opened, plan, recorder)

    def undo(self, *, lock_wait: float = 0.0) -> Outcome:
        """Put back what the last restore has set aside; what it restored is kept beside it until it is confirmed."""
        with Lock(self._kube, self._namespace, "undo of a restore", wait=lock_wait) as lock:
            journal = self.journal()
            if journal.state not in (*journals.UNFINISHED, "restored"):
                return Outcome(False, journal)
            recorder = Recorder(self._kube, self._namespace, journal, lock.check, self._now)
            self._roll_back(recorder)
            return Outcome(True, recorder.journal)

    def confirm(self, *, lock_wait: float = 0.0) -> Outcome:
        """Delete what restores have set aside; there is no undo after it."""
        with Lock(self._kube, self._namespace, "confirmation of a restore", wait=lock_wait) as lock:
            journal = self.journal()
            if journal.unfinished:
                raise InputError(
                    "a restore that is not finished cannot be confirmed",
                    where=f"namespace {self._namespace}",
                    why=f"it died at the step '{journal.last}'",
                    fix="Run the restore again to continue it, or undo it.",
                )
            if not journal.id or journal.state == "confirmed":
                return Outcome(False, journal)
            recorder = Recorder(self._kube, self._namespace, journal, lock.check, self._now)
            installation = self._observe()
            with (
                recorder.step("confirm"),
                self._volumes(installation, members_of(installation), journal) as volumes,
            ):
                volumes.drop([*journal.kept, journal.id])
            recorder.write(state="confirmed", kept=[])
            return Outcome(True, recorder.journal)

    # Steps

    def _verify(self, opened: OpenedSet) -> None:
        if self._options.level not in LEVELS:
            raise InputError("there is no such level of verification", where=self._options.level)
        if self._options.level == "used":
            if opened.manifest.encryption:
                opened.unlock()
            return
        self._progress.stage("verify", opened.where)
        found = verify(opened, self._options.level, self._options.verify, self._progress)
        if not found.passed:
            raise BackupError(
                "the backup is damaged and is not restored",
                where=opened.where,
                why="; ".join(found.findings),
                fix="Nothing was changed. Restore another one; latest-verified is the newest that was proven.",
            )

    def _carry_out(self, opened: OpenedSet, plan: Plan, recorder: Recorder) -> Outcome:
        continued = recorder.journal.state == "running"
        if not continued:
            recorder.write(**dataclasses.asdict(self._begin(plan, recorder.journal)))
        try:
            with self._volumes(plan.target.installation, plan.target.members, recorder.journal) as volumes:
                # The pods start meanwhile.
                written = self._objects(opened, plan, recorder)
                self._make(opened, volumes, recorder)
                self._exchange(opened, plan, volumes, recorder)
            warnings, ticks = self._start(opened, plan, recorder)
        except PachopsError as error:
            self._fail(error, recorder)
        recorder.write(state="restored")
        seconds = self._seconds(recorder.journal)
        plan = dataclasses.replace(plan, ticks=ticks)
        return Outcome(True, recorder.journal, plan, continued, *written, seconds, tuple(warnings))

    def _begin(self, plan: Plan, last: Journal) -> Journal:
        """Return the journal of a new restore, with everything that an undo needs."""
        installation = plan.target.installation
        pause = quiesce.paused_of(installation.pachd)
        etcd = workload_of(installation)
        return Journal(
            id=f"{self._now().strftime('%Y%m%dt%H%M%S')}-{secrets.token_hex(2)}",
            backup=plan.manifest.id,
            cluster_id=plan.manifest.cluster_id,
            state="running",
            started=utc(self._now()),
            before={
                "etcd_replicas": int(etcd["spec"].get("replicas") or 0) or len(plan.target.members),
                "etcd_ready": plan.target.answers,
                "paused": pause.annotation() if pause else "",
                "pachd_ready": bool(installation.ready_pod("pachd")),
                "deployment_id": installation.deployment_id,
            },
            kept=last.set_aside,
        )

    def _objects(self, opened: OpenedSet, plan: Plan, recorder: Recorder) -> tuple[int, int]:
        with recorder.step("objects"):
            self._progress.stage("objects", plan.bucket)
            place = self._place(plan.target.installation)
            return put.put_back(place, opened, plan.survey or put.survey(place, opened), self._progress)

    def _make(self, opened: OpenedSet, volumes: Volumes, recorder: Recorder) -> None:
        with recorder.step("receive"):
            self._progress.stage("snapshot", "bringing it to etcd's volumes")
            volumes.receive(opened)
        with recorder.step("make"):
            self._progress.stage("snapshot", "making etcd's data of it")
            volumes.make()

    def _exchange(self, opened: OpenedSet, plan: Plan, volumes: Volumes, recorder: Recorder) -> None:
        installation = plan.target.installation
        with recorder.step("pause"):
            self._progress.stage("pause", f"namespace {self._namespace}")
            quiesce.pause(self._kube, self._namespace, OPERATION, progress=self._progress)
            again = put.survey(self._place(installation), opened)
            if again.missing:
                raise BackupError(
                    "objects vanished from the bucket while the restore began",
                    where=plan.bucket,
                    why=f"{len(again.missing)} of them, {again.missing[0].name} for one: something deletes them",
                    fix="Find out what does (a lifecycle rule, a garbage collection), then restore again.",
                )
        with recorder.step("stop etcd"):
            self._progress.stage("stop etcd")
            self._scale_etcd(installation, 0)
        with recorder.step("exchange"):
            volumes.swap()

    def _start(self, opened: OpenedSet, plan: Plan, recorder: Recorder) -> tuple[list[str], dict[str, int]]:
        """Start what was stopped, prove it, and return warnings and the cron ticks that pachd catches up on."""
        installation = plan.target.installation
        with recorder.step("start etcd"):
            self._progress.stage("start etcd")
            members = len(plan.target.members)
            replicas = int(recorder.journal.before["etcd_replicas"])
            self._scale_etcd(installation, replicas, works=lambda: self._answers(installation, members))
        with recorder.step("compare"):
            self._compare(opened, installation, members)
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(self._read, opened, installation)
            with recorder.step("identity"):
                if plan.deployment_id:
                    identify(self._kube, self._namespace, plan.deployment_id)
            with recorder.step("resume"):
                self._progress.stage("start pachd")
                quiesce.resume(
                    self._kube, self._namespace, timeout=self._options.pachd_timeout, progress=self._progress
                )
                # It answered before; by now the cluster knows it too.
                wait_for(self._kube, _etcd_ref(installation), self._options.etcd_timeout, self._progress)
            with recorder.step("ask pachd"):
                wanted, ticks = reading.result()
                return self._ask(wanted, plan), ticks

    def _read(self, opened: OpenedSet, installation: Installation) -> tuple[proof.Expected, dict[str, int]]:
        """Return what pachd will have to answer, and the cron ticks that it will catch up on.

        It is read from etcd, as of the backup's revision: that was compared with the backup a moment ago, and hands out
        single ranges, where a snapshot has to be unpacked and read as a whole.
        """
        with self._members(installation)[0][1] as (etcd, _transport):
            keys = LiveKeyspace(etcd, opened.manifest.etcd.revision)
            state = State(keys, Objects(opened.objects, Spelling.DIRECTORY))
            return proof.expected(state), proof.missed_ticks(state, self._now())

    def _compare(self, opened: OpenedSet, installation: Installation, members: int) -> None:
        self._progress.stage("compare", "etcd with the backup")
        found = self._members(installation)
        differences = []
        if len(found) < members:
            differences.append(f"{len(found)} of {members} members of etcd are there")
        # An address of etcd's own leads to one of them, whichever.
        for pod, connection in found[:1] if self._access.endpoint else found:
            with connection as (etcd, _transport):
                differences += [f"{pod}: {each}" for each in compare(etcd, opened.manifest.etcd)]
        if differences:
            raise BackupError("the restored etcd is not what the backup says", why="; ".join(differences))

    def _answers(self, installation: Installation, members: int) -> bool:
        """Return whether so many members of etcd answer."""
        found = self._members(installation)
        with suppress(PachopsError):
            for _pod, connection in found:
                with connection as (etcd, _transport):
                    etcd.status()
            return len(found) >= members
        return False

    def _members(self, installation: Installation) -> list[tuple[str, AbstractContextManager[tuple[EtcdClient, str]]]]:
        """Return the pods that etcd has now by name, each with a connection to it."""
        pods = self._kube.list("v1", "Pod", self._namespace, _selector(workload_of(installation)))
        seen = dataclasses.replace(installation, objects={**installation.objects, "Pod": pods})
        staying = (pod["metadata"] for pod in seen.pods("etcd") if "deletionTimestamp" not in pod["metadata"])
        names = [str(each["name"]) for each in staying]
        return [(name, self._reach(self._kube, seen, name)) for name in names]

    def _ask(self, wanted: proof.Expected, plan: Plan) -> list[str]:
        self._progress.stage("ask pachd")
        version = str(plan.target.installation.settings().get("version") or "")
        deployment_id = plan.deployment_id or plan.target.installation.deployment_id

        differences, warnings = proof.compare(
            lambda token: self._connect(self._kube, self._namespace, token),
            wanted,
            version,
            deployment_id,
            token=self._options.token,
            settling=self._settling,
        )
        if differences:
            raise BackupError("pachd does not serve what the backup holds", why="; ".join(differences))
        return warnings

    def _fail(self, error: PachopsError, recorder: Recorder) -> None:
        """Put the old state back, and raise the error with what became of it."""
        recorder.write(reason=str(error))
        paused = recorder.journal.begun("pause")
        try:
            self._roll_back(recorder)
        except PachopsError as second:
            raise type(error)(
                error.what,
                where=error.where,
                why=f"{error.why}; and the old state could not be put back: {second}",
                fix=f"Nothing is lost: {journals.reference(self._namespace)} tells how far it came. Mend what is in "
                "the way, and run the undo (restore_action=undo) or the restore again.",
            ) from error
        now = "The old state is back and runs." if paused else "Nothing was paused, and etcd's data is what it was."
        raise type(error)(error.what, where=error.where, why=error.why, fix=f"{now} {error.fix}".strip()) from error

    def _roll_back(self, recorder: Recorder) -> None:
        """Bring back what was before the first step; each part may be done again."""
        journal, before = recorder.journal, recorder.journal.before
        recorder.write(state="undoing")
        self._progress.stage("undo", f"restore {journal.id}")
        if journal.begun("pause"):
            quiesce.pause(self._kube, self._namespace, OPERATION, progress=self._progress)
        installation = self._observe()
        if journal.begun("stop etcd"):
            with recorder.step("undo: stop etcd"):
                self._scale_etcd(installation, 0)
        volumes = self._volumes(installation, members_of(installation), journal)
        if journal.begun("receive"):
            # Where nothing was exchanged yet it only tidies, and etcd may run.
            with recorder.step("undo: exchange"), volumes:
                volumes.undo()
        else:
            volumes.remove()
        if journal.begun("stop etcd"):
            with recorder.step("undo: start etcd"):
                self._scale_etcd(installation, int(before["etcd_replicas"]), wait=bool(before["etcd_ready"]))
        if journal.begun("identity") and before["deployment_id"] != self._observe().deployment_id:
            identify(self._kube, self._namespace, before["deployment_id"])
        if journal.begun("pause"):
            with recorder.step("undo: resume"):
                self._resume_as_before(before)
        recorder.write(state="undone")

    def _resume_as_before(self, before: dict[str, Any]) -> None:
        if before["paused"]:
            # It was deployed, and never started, or somebody else had paused it: so it stays.
            annotations = {quiesce.PAUSED_ANNOTATION: before["paused"]}
            self._kube.merge(quiesce.pachd_ref(self._namespace), {"metadata": {"annotations": annotations}})
            return
        quiesce.resume(
            self._kube,
            self._namespace,
            timeout=self._options.pachd_timeout,
            progress=self._progress,
            # pachd stays ready when it loses its etcd, and never becomes so without one.
            wait=bool(before["pachd_ready"] and before["etcd_ready"]),
        )

    # Parts

    def _observe(self) -> Installation:
        return observe(self._kube, self._namespace, NAMESPACED)

    def _place(self, installation: Installation) -> put.Place:
        try:
            store, spellings, root = objects_of(installation, self._options.access, self._options.path)
        except BackupError:
            # A node's directory that was wiped, or that no pachd has made yet, is this host's if the node is.
            directory = installation.host_paths.get("data", "") if installation.backend == "local" else ""
            nodes = self._kube.list("v1", "Node") if directory and not self._options.path else []
            if not nodes or not all(map(this_host, nodes)):
                raise
            store, spellings, root = DirectoryStore(directory), [Spelling.DIRECTORY], ROOT
        return put.Place(store, spellings[0], spellings[1:], root)

    def _reach(
        self, kube: Kube, installation: Installation, member: str = ""
    ) -> AbstractContextManager[tuple[EtcdClient, str]]:
        return self._etcds(kube, installation, self._access, member)

    def _volumes(self, installation: Installation, members: Sequence[Member], journal: Journal) -> Volumes:
        return Volumes(
            self._kube,
            installation,
            members,
            journal.id,
            self._options.image,
            timeout=self._options.etcd_timeout,
            progress=self._progress,
        )

    def _scale_etcd(
        self,
        installation: Installation,
        replicas: int,
        *,
        wait: bool = True,
        works: Callable[[], bool] = lambda: False,
    ) -> None:
        ref = _etcd_ref(installation)
        self._kube.scale(ref, replicas)
        if replicas:
            if wait:
                wait_for(self._kube, ref, self._options.etcd_timeout, self._progress, works)
            return
        _await_end(self._kube, self._namespace, workload_of(installation), self._progress)

    @staticmethod
    def _seconds(journal: Journal) -> float:
        """Return how long it was paused."""
        times = {each["step"]: each for each in journal.steps}
        with suppress(KeyError, ValueError):
            begun = dt.datetime.fromisoformat(times["pause"]["begun"].replace("Z", "+00:00"))
            done = dt.datetime.fromisoformat(times["resume"]["done"].replace("Z", "+00:00"))
            return (done - begun).total_seconds()
        return 0.0


def _etcd_ref(installation: Installation) -> Ref:
    return Ref.of(workload_of(installation), installation.namespace)


def _await_end(kube: Kube, namespace: str, etcd: dict[str, Any], progress: Progress) -> None:
    quiesce.await_no_pods(kube, namespace, _selector(etcd), "etcd", _POLL_TIMEOUT, progress)


def _selector(etcd: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in etcd["spec"]["selector"]["matchLabels"].items())


__all__ = ["LEVELS", "Connect", "Options", "Outcome", "Restorer"]
