# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server in memory together with its controllers: what is scaled gets pods, or loses them."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.kinds import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response
from doubles.api import FakeApi, Object

_WORKLOADS = ("Deployment", "StatefulSet", "ReplicationController")


class ControlledApi(FakeApi):
    """``on_start`` and ``on_stop`` are called with each pod that starts or ends; ``stuck`` names pods that do not end.

    Pods are ready at once.  A pod that is created without an owner runs until somebody deletes it.
    """

    def __init__(self, namespaces: Sequence[str] = ("default",)) -> None:
        super().__init__(namespaces)
        self.stuck: set[str] = set()
        self.on_start: Callable[[Object], None] = lambda _pod: None
        self.on_stop: Callable[[Object], None] = lambda _pod: None
        # The pods of several members are made at once.
        self._turn = threading.RLock()

    def request(self, method: str, path: str, **options: object) -> Response:  # type: ignore[override]
        with self._turn:
            response = super().request(method, path, **options)  # type: ignore[arg-type]
            if method != "GET":
                self.reconcile()
            return response

    def reconcile(self) -> None:
        """Let the controllers act until nothing is left to do."""
        for ref in [ref for ref in self.objects if ref.kind in _WORKLOADS]:
            workload = self.objects.get(ref)
            if workload is not None:
                self._scale_pods(ref, workload)
        owners = {obj["metadata"]["uid"] for obj in self.objects.values()}
        for ref, pod in list(self.objects.items()):
            of = pod["metadata"].get("ownerReferences") or []
            if ref.kind == "Pod" and of and of[0]["uid"] not in owners:
                self._stop(ref)
        for ref in [ref for ref in self.objects if ref.kind == "Pod"]:
            pod = self.objects[ref]
            if "status" not in pod:
                self._run(pod)

    def _scale_pods(self, ref: Ref, workload: Object) -> None:
        spec = workload["spec"]
        wanted = spec.get("replicas", 1)
        names = [f"{ref.name}-{number}" for number in range(wanted)]
        prefix = f"{ref.name}-"
        own = [
            each
            for each, pod in self.objects.items()
            if each.kind == "Pod"
            and each.namespace == ref.namespace
            and (pod["metadata"].get("ownerReferences") or [{}])[0].get("uid") == workload["metadata"]["uid"]
        ]
        for each in own:
            if each.name not in names:
                self._stop(each)
        for name in names:
            pod_ref = Ref("v1", "Pod", ref.namespace, name)
            if pod_ref not in self.objects:
                assert name.startswith(prefix)
                self._start(pod_ref, workload)
        generation = workload["metadata"].get("generation", 1)
        workload["metadata"]["generation"] = generation
        workload["status"] = {
            "observedGeneration": generation,
            "replicas": wanted,
            "readyReplicas": wanted,
            "updatedReplicas": wanted,
            "availableReplicas": wanted,
        }

    def _start(self, ref: Ref, workload: Object) -> None:
        template = workload["spec"]["template"]
        owner = {"kind": workload["kind"], "name": workload["metadata"]["name"], "uid": workload["metadata"]["uid"]}
        labels = template.get("metadata", {}).get("labels") or workload["metadata"].get("labels") or {}
        metadata = {"name": ref.name, "namespace": ref.namespace, "labels": labels, "ownerReferences": [owner]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}
        self._store(ref, pod)
        self._run(pod)

    def _run(self, pod: Object) -> None:
        names = [container["name"] for container in pod["spec"].get("containers", [])]
        pod["spec"].setdefault("nodeName", "node-1")
        pod["status"] = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": name, "ready": True, "restartCount": 0, "state": {"running": {}}} for name in names
            ],
        }
        self.on_start(pod)

    def _stop(self, ref: Ref) -> None:
        if ref.name in self.stuck:
            return
        pod = self.objects.pop(ref)
        self.on_stop(pod)

    def _delete(self, ref: Ref, options: Object) -> Response:
        pod = self.objects.get(ref) if ref.kind == "Pod" else None
        response = super()._delete(ref, options)
        if pod is not None and ref not in self.objects:
            self.on_stop(pod)
        return response
