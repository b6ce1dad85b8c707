# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two installations for a migration: the API and its controllers in memory, etcds real, objects in directories.

pachd is a double that answers from its etcd and its objects, and that notes when it saw an installation that is not
whole, which a real one would damage for good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.keyspace import LiveKeyspace
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import digest
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import Installation
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.engine import Migrator, Options, Side
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import records
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from doubles.controllers import ControlledApi, Object
from doubles.kube import installation, worker

OLD, NEW = "old", "new"


class Killed(BaseException):
    """The program was ended: nothing that it would still have done is done."""


class Movable(ControlledApi):
    """An installation in namespace ``old`` that runs, and one in ``new`` that was deployed and not started."""

    def __init__(
        self,
        directory: Path,
        source: EtcdClient,
        target: EtcdClient,
        made: Callable[[str], Sequence[Object]] | None = None,
        **options: Any,
    ) -> None:
        """:param made: what the source consists of, which others than this collection deployed, by its host path.
        :param options: of the target.
        """
        super().__init__([OLD, NEW])
        self.directory = directory
        self.etcd = {OLD: source, NEW: target}
        self.die_at: int | None = None
        self.count = 0
        self.dead = False
        self.on_start = self._on_start
        #: Starts of the new pachd, and whether its metadata and objects were those of the source.
        self.starts: list[bool] = []
        self.answer = ""
        for namespace, more in ((OLD, {}), (NEW, {"cluster_deployment_id": "another", **options})):
            path = str(directory / namespace)
            objects = installation(namespace, **{"host_path": path, **more})
            if made and namespace == OLD:
                objects = [each for each in made(path) if "namespace" in each["metadata"]]
            for obj in [*objects, *(worker(OLD, "edges") if namespace == OLD else [])]:
                if obj["kind"] == "Deployment" and obj["metadata"]["name"] == "pachd" and namespace == NEW:
                    obj["spec"]["replicas"] = 0
                    pause = quiesce.Paused(quiesce.DEPLOYED).annotation()
                    obj["metadata"].setdefault("annotations", {})[quiesce.PAUSED_ANNOTATION] = pause
                if obj["kind"] != "Pod":
                    self.put(obj)
            (directory / namespace / "pachd").mkdir(parents=True, exist_ok=True)
        self.reconcile()

    def request(self, method: str, path: str, **options: object) -> Response:  # type: ignore[override]
        if method != "GET":
            self.step()
        if self.dead:
            raise Killed
        return super().request(method, path, **options)

    def step(self) -> None:
        """Count one thing that the program does to the world; the one with the number ``die_at`` is its last try."""
        if self.die_at is not None:
            self.dead = self.dead or self.count >= self.die_at
            self.count += 1
        if self.dead:
            raise Killed

    def revive(self) -> None:
        """Let a new program begin; the locks of the dead one have expired."""
        self.dead, self.die_at = False, None
        for ref in [ref for ref in self.objects if ref.kind == "Lease"]:
            del self.objects[ref]

    def store(self, namespace: str) -> DirectoryStore:
        return DirectoryStore(self.directory / namespace / "pachd")

    def pods(self, namespace: str) -> list[str]:
        return sorted(ref.name for ref in self.objects if ref.kind == "Pod" and ref.namespace == namespace)

    def runs(self, namespace: str) -> bool:
        return any(each.startswith("pachd-") for each in self.pods(namespace))

    def _on_start(self, pod: Object) -> None:
        if pod["metadata"]["name"].startswith("pachd-") and pod["metadata"]["namespace"] == NEW:
            same = digest(self.etcd[OLD]) == digest(self.etcd[NEW])
            whole = {each.key for each in self.store(OLD).list()} <= {each.key for each in self.store(NEW).list()}
            self.starts.append(same and whole and not self.runs(OLD))

    def migrator(self, **options: Any) -> Migrator:
        # Two clusters: what belongs to the one is never asked of the other.
        sides = (Side(_cluster(self, OLD), OLD), Side(_cluster(self, NEW), NEW))
        return Migrator(*sides, Options(**{"settling": 0.0, **options}), etcds=self._etcds, connect=self._connect)

    @contextlib.contextmanager
    def _etcds(self, kube: Kube, seen: Installation, access: object) -> Iterator[tuple[Any, str]]:
        kube.get(quiesce.pachd_ref(seen.namespace))
        yield (_Mortal(self, self.etcd[NEW]) if seen.namespace == NEW else self.etcd[OLD]), "direct"

    @contextlib.contextmanager
    def _connect(self, kube: Kube, namespace: str, token: str) -> Iterator[Any]:
        kube.get(quiesce.pachd_ref(namespace))
        if not self.runs(namespace):
            raise PachdError("there is no ready pachd")
        yield _Pachd(self, namespace)


def _cluster(api: Movable, namespace: str) -> Kube:
    return Kube(_Cluster(api, namespace), patience=0.0)  # type: ignore[arg-type]  # it has what is used


class _Cluster:
    """An API server that knows nothing of the other installation's namespace."""

    def __init__(self, api: Movable, namespace: str) -> None:
        self._api, self._other = api, NEW if namespace == OLD else OLD

    def request(self, method: str, path: str, **options: Any) -> Response:
        assert f"/namespaces/{self._other}" not in path, f"{method} {path} was sent to the other cluster"
        return self._api.request(method, path, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


class _Mortal:
    """A client of the target's etcd whose writes are steps of the program."""

    def __init__(self, api: Movable, etcd: EtcdClient) -> None:
        self._api, self._etcd = api, etcd

    def __getattr__(self, name: str) -> Any:
        if name in ("begin_step", "txn", "put", "delete", "lease_grant", "lease_revoke"):
            self._api.step()
        return getattr(self._etcd, name)


class _Pachd:
    """Answers from etcd and objects, as pachd would."""

    def __init__(self, api: Movable, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        objects = Objects(api.store(namespace), Spelling.DIRECTORY)
        self._state = State(LiveKeyspace(api.etcd[namespace]), objects)
        self.pps = SimpleNamespace(ListPipeline=None)
        self.pps_pb2 = SimpleNamespace(ListPipelineRequest=lambda: None)

    def version(self) -> str:
        return self._api.answer or "1.13.4"

    def cluster(self) -> Any:
        pachd = self._api.stored(quiesce.pachd_ref(self._namespace))
        variables = pachd["spec"]["template"]["spec"]["containers"][0]["env"]
        deployment = next(each["value"] for each in variables if each["name"] == "CLUSTER_DEPLOYMENT_ID")
        return SimpleNamespace(id=self._state.cluster_id, deployment_id=deployment)

    def repos(self) -> list[str]:
        return [each.name for each in self._state.repos()]

    def call(self, method: Any, request: Any, what: str) -> Any:
        found = [
            SimpleNamespace(pipeline=SimpleNamespace(name=each.name), state=records.PIPELINE_STATES.index(each.state))
            for each in self._state.pipelines()
        ]
        return SimpleNamespace(pipeline_info=found)

    def get_file(self, repo: str, commit: str, path: str) -> Iterator[bytes]:
        return self._state.read(self._state.commit(repo, commit), path)
