# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster in a dict, at the interface of ``kube.client.Kube``, and an installation to put into it."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import email.utils
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.apply import Change, compare
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings

Object = dict[str, Any]
STARTED = "2026-11-22T10:00:00Z"


def matches(obj: Object, selector: str | None) -> bool:
    own = obj["metadata"].get("labels") or {}
    return all(
        own.get(key) == value for key, value in (part.split("=") for part in (selector or "").split(",") if part)
    )


class FakeKube:
    """Stores objects, counts writes, and refuses what a test forbids.

    ``lingering`` maps a reference to the number of looks for which a deleted object stays; ``on_delete`` is called with
    each reference that is deleted, so that a test can let controllers react.
    """

    def __init__(self, objects: Sequence[Object] = ()) -> None:
        self.objects: dict[Ref, Object] = {}
        self.forbidden: set[str] = set()
        self.unreachable = False
        self.logged: dict[str, str] = {}
        self.previously: dict[str, str] = {}
        self.forwarded: dict[tuple[str, int], tuple[str, int]] = {}
        self.skew = 0.0
        self.writes: list[str] = []
        self.lingering: dict[Ref, int] = {}
        self.on_delete: Callable[[Ref], None] = lambda _ref: None
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object) -> Object:
        stored = copy.deepcopy(obj)
        self.objects[Ref.of(stored)] = stored
        return stored

    def _allowed(self, verb: str, kind: str) -> None:
        if self.unreachable:
            raise ClusterError("cannot reach the Kubernetes API", where="https://fake", why="connection refused")
        if kind in self.forbidden:
            raise ClusterError(f"not allowed to {verb} {kind}", where="fake", why="RBAC", fix="Ask for it.")

    def get(self, ref: Ref) -> Object | None:
        self._allowed("get", ref.kind)
        if ref in self.lingering:
            self.lingering[ref] -= 1
            if self.lingering[ref] < 0:
                del self.lingering[ref]
                self.objects.pop(ref, None)
        found = self.objects.get(ref)
        return copy.deepcopy(found)

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
    ) -> list[Object]:
        self._allowed("list", kind)
        assert fields is None, "not imitated"
        pods = [ref for ref in self.lingering if ref.kind == kind]
        for ref in pods:
            self.get(ref)
        return [
            copy.deepcopy(obj)
            for ref, obj in self.objects.items()
            if (ref.api_version, ref.kind) == (api_version, kind)
            and namespace in (None, ref.namespace)
            and matches(obj, labels)
        ]

    def delete(self, ref: Ref, dry_run: bool = False, *, wait: float = 0.0, propagation: str = "Background") -> Change:
        self._allowed("delete", ref.kind)
        before = self.objects.get(ref)
        if before is not None and not dry_run:
            self.writes.append(f"delete {ref.kind}/{ref.name}")
            if ref in self.lingering:
                before["metadata"]["deletionTimestamp"] = STARTED
            else:
                del self.objects[ref]
            self.on_delete(ref)
        return compare(ref, before, None)

    def logs(
        self, namespace: str, pod: str, container: str | None = None, tail: int = 50, previous: bool = False
    ) -> str:
        self._allowed("get", "pods/log")
        return (self.previously if previous else self.logged).get(pod, "")

    def can_i(self, accesses: Sequence[Any]) -> list[Any]:
        self._allowed("create", "selfsubjectaccessreviews")
        return []

    def server_version(self) -> str:
        return "1.34.4"

    def request(self, method: str, path: str, **options: Any) -> Response:
        self._allowed(method, path)
        stamp = email.utils.formatdate(time.time() + self.skew, usegmt=True)
        return Response(200, b"{}", {"date": stamp} if self.skew < 1e9 else {})

    @contextlib.contextmanager
    def portforward(self, namespace: str, pod: str, port: int) -> Iterator[tuple[str, int]]:
        target = self.forwarded.get((pod, port))
        if target is None:
            raise ClusterError("cannot forward to the pod", where=f"{namespace}/{pod}:{port}", why="no such listener")
        yield target


def pod(namespace: str, pod_name: str, app: str, *, component: str = "", ready: bool = True, **status: Any) -> Object:
    """Return a pod of an installation as the API shows it."""
    labels = {"suite": "pachyderm", "app": app} | ({"component": component} if component else {})
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [{"kind": "ReplicaSet", "name": app}],
        },
        "spec": {"containers": [{"name": app}]},
        "status": {
            "phase": "Running",
            "startTime": STARTED,
            "conditions": conditions,
            "containerStatuses": [{"name": app, "restartCount": 0, "state": {"running": {}}}],
            **status,
        },
    }


def node(name: str = "node-1", **conditions: str) -> Object:
    """Return a ready node; ``conditions`` change or add some, e.g. ``DiskPressure="True"``."""
    states = {"Ready": "True", "MemoryPressure": "False", **conditions}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {},
        "status": {
            "conditions": [{"type": key, "status": value, "message": f"{key} it is"} for key, value in states.items()],
            "nodeInfo": {"bootID": "elsewhere", "machineID": "elsewhere"},
        },
    }


def worker(namespace: str, pipeline: str) -> list[Object]:
    """Return the ReplicationController, Service and pod that pachd 1.13 makes for a pipeline."""
    labels = {"suite": "pachyderm", "app": f"pipeline-{pipeline}-v1", "component": "worker", "pipelineName": pipeline}
    metadata = {"name": f"pipeline-{pipeline}-v1", "namespace": namespace, "labels": labels}
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"name": "user"}, {"name": "storage"}]}}}
    return [
        {"apiVersion": "v1", "kind": "ReplicationController", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}},
        pod(namespace, f"pipeline-{pipeline}-v1-abcde", f"pipeline-{pipeline}-v1", component="worker"),
    ]


def installation(namespace: str = "pachyderm", **options: Any) -> list[Object]:
    """Return all objects of a healthy installation that the collection deployed, as the API shows them."""
    settings = Settings.parse({"namespace": namespace, "cluster_deployment_id": "d3pl0y", **options})
    objects = [
        copy.deepcopy(manifests.namespace_object(namespace)),
        *manifests.all_objects(settings, checksum="c0ffee"),
    ]
    for obj in objects:
        if obj["kind"] in ("Deployment", "StatefulSet"):
            obj["status"] = {"readyReplicas": obj["spec"]["replicas"]}
        if obj["kind"] == "Service" and obj["spec"].get("clusterIP") != "None":
            obj["spec"]["clusterIP"] = "10.0.0.10"
    labels = {manifests.MANAGED_BY: manifests.MANAGER, "suite": "pachyderm"}
    objects.append(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": manifests.STORAGE_SECRET, "namespace": namespace, "labels": labels},
            "data": {},
        }
    )
    objects.append(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
            "data": {"ca.crt": "x"},
        }
    )
    objects += [pod(namespace, "etcd-0", "etcd"), pod(namespace, "pachd-7d9f", "pachd")]
    if settings.etcd_storage.host_path == "":
        objects.append(claim(namespace))
    return objects


def claim(namespace: str, phase: str = "Bound") -> Object:
    """Return the claim that the StatefulSet's controller makes for etcd."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "etcd-storage-etcd-0",
            "namespace": namespace,
            "labels": {"suite": "pachyderm", "app": "etcd"},
        },
        "spec": {"storageClassName": "local-path"},
        "status": {"phase": phase, "capacity": {"storage": "10Gi"}},
    }


def now(seconds: float = 0) -> dt.datetime:
    """Return a time that many seconds after every pod was started."""
    return dt.datetime.fromisoformat(STARTED.replace("Z", "+00:00")) + dt.timedelta(seconds=seconds)
