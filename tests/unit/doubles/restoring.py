# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation for a restore: the API and its controllers in memory, volumes and bucket in real directories.

The pods that hold volumes run the agent's real code; etcd and pachd are doubles that answer from what the volume and the
bucket hold, so that they know what a real one would.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import manifest as manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import OpenedSet, open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, PachdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import KeyValue, KvHash, Status
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.keyspace import Snapshot
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import Installation
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import agent
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from doubles import backups
from doubles.controllers import Object
from doubles.kube import installation, node, worker
from doubles.mortal import Killed, MortalApi, StatePachd

NAMESPACE = "pachyderm"
OLD = b"old state of cluster "
HASH = KvHash(0, 4711, -1)


class RestoringApi(MortalApi):
    """One installation; ``die_at`` is the number of the write at which the program dies.

    :param options: settings of the installation; ``elsewhere`` is where pachd's objects are, if in no directory.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__([NAMESPACE])
        self.directory = directory
        self.started: list[str] = []
        self.agents: dict[str, socket.socket] = {}
        self.refusing_tools: set[str] = set()
        self.running: dict[str, bytes] = {}
        self.elsewhere: Objects | None = None
        boot, machine = Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id")
        info = {
            "bootID": boot.read_text().strip(),
            "machineID": machine.read_text().strip() if machine.exists() else "",
        }
        self.put({**node(), "status": {"nodeInfo": info}})
        self.on_start = self._on_start
        self.on_stop = self._on_stop
        for obj in [
            *installation(NAMESPACE, **({"host_path": str(directory / "host")} | options)),
            *worker(NAMESPACE, "edges"),
        ]:
            if obj["kind"] != "Pod":
                self.put(obj)
        self.reconcile()

    def keep_secret(self, data: dict[str, str]) -> None:
        """Let the storage secret say where pachd's objects are."""
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.stored(Ref("v1", "Secret", NAMESPACE, "pachyderm-storage-secret"))["data"] = encoded

    # Volumes

    def volume(self, member: str = "etcd-0") -> Path:
        return self.directory / "disks" / member

    def data(self, member: str = "etcd-0") -> bytes:
        path = self.volume(member) / "member" / "db"
        return path.read_bytes() if path.exists() else b""

    def fill(self, content: bytes, member: str = "etcd-0") -> None:
        (self.volume(member) / "member").mkdir(parents=True, exist_ok=True)
        (self.volume(member) / "member" / "db").write_bytes(content)
        self.running[member] = content

    @property
    def bucket(self) -> DirectoryStore:
        return DirectoryStore(self.directory / "host" / "pachd")

    def served(self) -> Objects:
        """Return what pachd finds."""
        return self.elsewhere or Objects(self.bucket, Spelling.DIRECTORY)

    def pods(self) -> list[str]:
        return sorted(ref.name for ref in self.objects if ref.kind == "Pod")

    # What runs

    def _on_start(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        self.started.append(name)
        if name.endswith("-restore-data"):
            self._run_tool(pod, name.removesuffix("-restore-data"))
        elif name.endswith("-restore"):
            self._run_agent(name, name.removesuffix("-restore"))
        elif name.startswith("etcd-"):
            self.running[name] = self.data(name)
            if not self.data(name):
                self.fill(b"empty", name)  # as an etcd does that finds nothing

    def _on_stop(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if name in self.running:
            assert self.data(name) == self.running.pop(name), "its data was exchanged while etcd ran"
        listener = self.agents.pop(name, None)
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _run_agent(self, name: str, member: str) -> None:
        self.volume(member).mkdir(parents=True, exist_ok=True)
        listener = socket.create_server(("127.0.0.1", 0))
        self.agents[name] = listener
        lock = threading.Lock()
        threading.Thread(target=agent.serve, args=(str(self.volume(member)), listener, lock), daemon=True).start()

    def _run_tool(self, pod: Object, member: str) -> None:
        command = pod["spec"]["containers"][0]["command"]
        if command[0] in self.refusing_tools:
            state = {"terminated": {"reason": "StartError", "message": f"{command[0]}: not found", "exitCode": 128}}
            pod["status"] = {"phase": "Failed", "containerStatuses": [{"name": "restore", "state": state}]}
            return
        self.make(command, member)
        pod["status"] = {"phase": "Succeeded"}

    def make(self, command: Sequence[str], member: str = "etcd-0") -> None:
        """Do what etcd's own tool does, with what stands for data here."""
        options = dict(each[2:].split("=", 1) for each in command if each.startswith("--") and "=" in each)
        volume = str(self.volume(member))
        here = {
            key: Path(value.replace(f"/volume/{member}", "/volume").replace("/volume", volume, 1))
            for key, value in {**options, "snapshot": command[3]}.items()
        }
        assert options["name"] == member
        (here["data-dir"] / "member").mkdir(parents=True)
        shutil.copy(here["snapshot"], here["data-dir"] / "member" / "db")


class RestoringKube(Kube):
    """Leads a port-forward to the agent that stands for the pod."""

    transport: Any

    def portforward(self, namespace: str, pod: str, port: int) -> Any:
        assert (namespace, port) == (NAMESPACE, agent.PORT)
        return contextlib.nullcontext(self.transport.agents[pod].getsockname())


@functools.lru_cache
def snapshot_of(content: bytes) -> Snapshot:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return Snapshot(file.name)


class DataEtcd:
    """Answers from what a volume holds."""

    endpoint = "double"

    def __init__(self, content: bytes) -> None:
        self.keys = None if content.startswith((OLD, b"empty")) else snapshot_of(content)
        self.cluster = content.removeprefix(OLD) if content.startswith(OLD) else b""

    def status(self) -> Status:
        return Status("3.5.21", 1, 1, 1, self.revision(), 1, 1)

    def revision(self) -> int:
        return self.keys.revision if self.keys else 7

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        if self.keys:
            return self.keys.get(key)
        return KeyValue(key, self.cluster, 1, 1, 1, 0) if key == b"cluster-id" and self.cluster else None

    def count(self, prefix: bytes, revision: int = 0) -> int:
        if self.keys:
            return sum(1 for _key in self.keys.keys(prefix))
        return 5 if self.cluster else 0

    def range(self, prefix: bytes = b"", revision: int = 0) -> Iterator[KeyValue]:
        return self.keys.range(prefix) if self.keys else iter(())

    def hash_kv(self, revision: int = 0) -> KvHash:
        return KvHash(revision, HASH.hash, HASH.compact_revision)


@contextlib.contextmanager
def etcds(kube: Kube, seen: Installation, access: object, member: str = "") -> Iterator[tuple[Any, str]]:
    """Stand for ``backup.origin.etcd_of``."""
    api: Any = kube.transport
    if api.dead:
        raise Killed
    pod = member or seen.ready_pod("etcd")
    content = api.data(pod) if pod else b""
    if not content or content.startswith(b"corrupt"):
        raise EtcdError(
            "etcd does not answer", where="double", why="no member runs" if not pod else "its data is corrupt"
        )
    yield DataEtcd(content), "direct"


@contextlib.contextmanager
def connect(kube: Kube, namespace: str, token: str) -> Iterator[Any]:
    """Stand for ``pachd.connection.connected``."""
    api: Any = kube.transport
    if api.dead:
        raise Killed
    if not any(pod.startswith("pachd-") for pod in api.pods()):
        raise PachdError("there is no ready pachd")
    yield StatePachd(api, NAMESPACE, State(snapshot_of(api.data()), api.served()))


def genuine_set(store: DirectoryStore, objects: dict[str, bytes]) -> OpenedSet:
    """Write the genuine state as a set by hand, with the counts that its etcd would tell."""
    content = backups.real_snapshot()
    etcd = DataEtcd(content)
    assert etcd.keys
    revision = etcd.keys.revision
    hashes = (dataclasses.replace(HASH, revision=revision),)
    state = manifests.EtcdState(revision, "3.5.21", etcd.count(b""), len(content), hashes)
    return open_set(store, backups.CLUSTER, backups.write_set(store, backups.NOW, state, content, objects))
