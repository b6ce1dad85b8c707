# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The hands on the members' volumes: pods that hold them, told what to do through a port-forward."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..backup.manifest import AGE, SNAPSHOT
from ..backup.sets import OpenedSet
from ..backup.streams import ahead
from ..errors import BackupError, ClusterError, PachopsError, WaitError
from ..installation import Installation
from ..kube.client import Ref
from ..kube.wait import wait_for
from ..pachd.manifests import MANAGED_BY, MANAGER
from ..progress import Progress
from ..stores import parallel
from . import agent
from .members import RESTORE_LABEL, Member, agent_pod, release_of, tool_pod, tools, workload_of

if TYPE_CHECKING:
    from ..kube.client import Kube, Object

Answer = dict[str, Any]

_PATIENCE = 60.0  # seconds in which an agent that runs has to listen
_SILENCE = 3600.0  # seconds for one answer: a large snapshot is written to a slow disk
_SHORTLY = 2.0  # seconds in which an agent that listens says so
_POLL = 0.1


class Volumes:
    """The volumes of all members, for one restore.

    As a context manager it creates the pods that hold them, and waits for them when they are needed first; leaving it
    removes them.
    """

    def __init__(
        self,
        kube: Kube,
        installation: Installation,
        members: Sequence[Member],
        restore_id: str,
        image: str,
        *,
        timeout: float = 300.0,
        progress: Progress | None = None,
    ) -> None:
        """:param image: an image with Python, for the pods that hold the volumes.
        :param timeout: seconds for a pod to start.
        """
        self._kube = kube
        self._installation = installation
        self._namespace = installation.namespace
        self.members = members
        self._id = restore_id
        self._image = image
        self._timeout = timeout
        self._progress = progress or Progress()
        self._held = False

    def __enter__(self) -> Volumes:
        try:
            list(parallel.each(self._create, self.members, len(self.members)))
        except PachopsError as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self.remove()
        except ClusterError:
            if error is None:
                raise

    def remove(self) -> None:
        """Delete the pods of this and of earlier restores, and return when they are gone."""
        pods = self._kube.list("v1", "Pod", self._namespace, labels=f"{MANAGED_BY}={MANAGER}")
        doomed = [Ref.of(pod) for pod in pods if _restore_of(pod)]
        for ref in doomed:
            self._kube.delete(ref)
        for ref in doomed:
            self._kube.delete(ref, wait=self._timeout)

    def hold(self) -> None:
        """Return when every pod runs.

        :raises WaitError: one does not start; the message has the cause as far as the cluster tells it.
        """
        if not self._held:
            list(parallel.each(self._await, self.members, len(self.members)))
            self._held = True

    def ask(self, **request: Any) -> list[Answer]:
        """Ask every member's agent the same, and return the answers in the members' order."""
        self.hold()
        return [self._ask(member, request) for member in self.members]

    def receive(self, opened: OpenedSet) -> None:
        """Bring the snapshot to every volume whose data was not exchanged yet.

        :raises BackupError: it arrived damaged, or there is not enough space; nothing was exchanged.
        """

        def bring(member: Member) -> None:
            state = self._ask(member, {"do": "look"})
            # One that an earlier run brought was never synced to the disk, and may be half.
            if state["aside"]:
                return
            entry = opened.manifest.file(SNAPSHOT)
            chunks: Iterable[bytes] = opened.snapshot()
            if state["zstd"]:
                chunks = ahead(opened.stored(entry))
                if entry.name.endswith(AGE):
                    chunks = opened.decipher.decrypt(chunks, f"{opened.where}/{entry.name}")
            request = {"do": "receive", "zstd": state["zstd"], "size": entry.raw_size, "sha256": entry.raw_sha256}
            self._ask(member, request, chunks)

        self.hold()
        list(parallel.each(bring, self.members, len(self.members)))

    def make(self) -> None:
        """Let etcd's own tool make the data of the snapshot, on every volume where it is not exchanged yet."""
        states = zip(self.members, self.ask(do="look"), strict=True)
        wanted = [(member, state) for member, state in states if not state["aside"]]
        list(parallel.each(lambda each: self._make(*each), wanted, max(1, len(wanted))))

    def swap(self) -> None:
        """Set aside what is there and put the new data in its place."""
        self.ask(do="swap")

    def undo(self) -> None:
        """Put back what was set aside."""
        self.ask(do="undo")

    def drop(self, ids: Sequence[str]) -> None:
        """Delete what was set aside by the restores named."""
        self.ask(do="drop", ids=list(ids))

    # One member

    def _create(self, member: Member) -> None:
        pod = agent_pod(self._installation, member, self._id, self._image)
        ref = Ref.of(pod)
        found = self._kube.get(ref)
        if found is not None:
            usable = _restore_of(found) == self._id and "deletionTimestamp" not in found["metadata"]
            if usable and found.get("status", {}).get("phase") == "Running":
                return
            self._kube.delete(ref, wait=self._timeout)
        self._kube.apply(pod)

    def _await(self, member: Member) -> None:
        ref = Ref("v1", "Pod", self._namespace, f"{member.pod}-restore")
        if ((self._kube.get(ref) or {}).get("status") or {}).get("phase") in (None, "Failed", "Succeeded"):
            self._create(member)  # it has ended, after a day in which objects were put back
        try:
            wait_for(self._kube, ref, self._timeout, self._progress, lambda: self._listens(member))
        except WaitError as error:
            fix = error.fix
            if "image" in f"{error.what} {error.why}".lower():
                fix = (
                    f"The pod that holds etcd's volume needs the image {self._image}, which has Python: pack it with "
                    "`ansible-playbook pachops.pachyderm.runner_image`, import the archive into the nodes or push it "
                    "to your registry, and name it in restore_image."
                )
            raise WaitError(error.what, where=error.where, why=error.why, fix=fix) from error

    def _listens(self, member: Member) -> bool:
        """Return whether a member's agent answers."""
        with (
            suppress(OSError, ValueError, PachopsError),
            self._kube.portforward(self._namespace, f"{member.pod}-restore", agent.PORT) as address,
        ):
            return bool(_exchange(address, {"do": "look", "id": self._id}, None, _SHORTLY))
        return False

    def _ask(self, member: Member, request: dict[str, Any], chunks: Iterable[bytes] | None = None) -> Answer:
        pod = f"{member.pod}-restore"
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with self._kube.portforward(self._namespace, pod, agent.PORT) as address:
                    answer = _exchange(address, {**request, "id": self._id}, chunks)
                break
            except (OSError, ValueError) as error:
                # A payload that was begun cannot be begun again from here.
                if chunks is not None or time.monotonic() >= deadline:
                    raise ClusterError(
                        "the connection to the pod that holds etcd's volume broke off",
                        where=f"pod {self._namespace}/{pod}",
                        why=str(error) or type(error).__name__,
                        fix="Look at its log and events, and run this again.",
                    ) from error
                time.sleep(_POLL)
        if "refused" in answer:
            raise BackupError(f"cannot {request['do']} on etcd's volume", where=member.place, why=answer["refused"])
        return answer

    def _make(self, member: Member, state: Answer) -> None:
        container = self._installation.container(workload_of(self._installation), "etcd")
        if state["etcdutl"] and tuple(map(int, state["etcdutl"].split(".")[:2])) == release_of(container):
            # Of the release that will read it, and there already: a pod of etcd's image has to start first.
            self._ask(member, {"do": "make", "arguments": member.restore_arguments(self._id)})
            return
        holder = self._kube.get(Ref("v1", "Pod", self._namespace, f"{member.pod}-restore")) or {}
        node = str(holder.get("spec", {}).get("nodeName", ""))
        said = []
        for image, tool in [*((str(container["image"]), each) for each in tools(container)), (self._image, "etcdutl")]:
            pod = tool_pod(self._installation, member, self._id, image, tool, node)
            ended = self._run(pod)
            if ended == "":
                return
            said.append(f"{tool} of {image}: {ended}")
        raise WaitError(
            "no tool of etcd's made the data of the snapshot",
            where=member.place,
            why="; ".join(said),
            fix="What was there is in its place. Use an etcd image that has etcdutl (from 3.5 on) or etcdctl.",
        )

    def _run(self, pod: Object) -> str:
        """Run a pod to its end and return why it failed, empty where it did not."""
        ref = Ref.of(pod)
        self._kube.delete(ref, wait=self._timeout)
        self._kube.apply(pod)
        begun = time.monotonic()
        try:
            while True:
                found = self._kube.get(ref)
                status = (found or {}).get("status") or {}
                if status.get("phase") == "Succeeded":
                    return ""
                reason = _reason(status)
                if status.get("phase") == "Failed" or found is None or (reason and time.monotonic() - begun > 10):
                    log = ""
                    with suppress(PachopsError):
                        log = self._kube.logs(self._namespace, ref.name, tail=5).strip()
                    return log or reason or "it ended without a word"
                if time.monotonic() - begun > _SILENCE:
                    return f"it has not ended after {_SILENCE:.0f} s"
                time.sleep(_POLL)
        finally:
            with suppress(PachopsError):
                self._kube.delete(ref)


def _restore_of(pod: Object) -> str:
    """Return the id of the restore that a pod belongs to, empty where it is none of any."""
    return str((pod["metadata"].get("labels") or {}).get(RESTORE_LABEL, ""))


def _reason(status: dict[str, Any]) -> str:
    for each in status.get("containerStatuses") or []:
        state = each.get("state") or {}
        for kind in ("terminated", "waiting"):
            found = state.get(kind)
            if found and found.get("reason") not in ("ContainerCreating", "PodInitializing", "Completed", "Error"):
                return f"{found.get('reason')}: {found.get('message', '')}".strip(": ")
    return ""


def _exchange(
    address: tuple[str, int], request: dict[str, Any], chunks: Iterable[bytes] | None, timeout: float = _SILENCE
) -> Answer:
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        broken: OSError | None = None
        if chunks is not None:
            try:
                for chunk in chunks:
                    connection.sendall(struct.pack(">I", len(chunk)) + chunk)
                connection.sendall(struct.pack(">I", 0))
            except OSError as error:
                broken = error  # who refuses early says why before it hangs up
        try:
            line = connection.makefile("rb").readline()
        except OSError as error:
            raise broken or error from None
        if not line:
            raise broken or ConnectionError("it was closed without an answer")
        answer: Answer = json.loads(line)
        return answer
