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
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from doubles.controllers import Object
from doubles.kube import installation, worker
from doubles.mortal import MortalApi, StatePachd

OLD, NEW = "old", "new"


class Movable(MortalApi):
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
        objects = Objects(self.store(namespace), Spelling.DIRECTORY)
        yield StatePachd(self, namespace, State(LiveKeyspace(self.etcd[namespace]), objects), self.answer or "1.13.4")


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
