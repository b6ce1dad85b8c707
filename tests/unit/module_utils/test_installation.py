# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what is read from one namespace."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import (
    Variable,
    observe,
    pod_ready,
    restarts,
    waiting,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from doubles.kube import FakeKube, installation, pod, worker

NAMESPACE = "pachyderm"


def look(kube: Any) -> Any:
    return observe(kube, NAMESPACE)


def secret(kube: FakeKube, **data: str) -> None:
    ref = Ref("v1", "Secret", NAMESPACE, "pachyderm-storage-secret")
    kube.objects[ref]["data"] = {
        key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()
    }


def test_the_double_has_the_interface_of_the_client() -> None:
    for method in ("get", "list", "delete", "logs", "server_version", "request", "portforward"):
        assert callable(getattr(Kube, method))
        assert callable(getattr(FakeKube, method))


def test_an_empty_namespace() -> None:
    seen = look(FakeKube())
    assert not seen.runs
    assert not seen.foreign
    assert seen.record is None
    assert (seen.backend, seen.store, seen.deployment_id, seen.host_paths) == ("", "", "", {})
    assert seen.pachd_environment() == {}
    assert seen.ready_pod("pachd") == ""


def test_a_local_installation() -> None:
    kube = FakeKube([*installation(), *worker(NAMESPACE, "rebin")])
    seen = look(kube)
    assert seen.runs
    assert not seen.foreign
    assert seen.backend == "local"
    assert seen.store == "local:/var/pachyderm/pachyderm/pachd"
    assert seen.deployment_id == "d3pl0y"
    assert seen.host_paths == {
        "data": "/var/pachyderm/pachyderm/pachd",
        "metadata": "/var/pachyderm/pachyderm/etcd",
    }
    assert [item["metadata"]["name"] for item in seen.workers] == ["pipeline-rebin-v1"]
    assert seen.ready_pod("etcd") == "etcd-0"


def test_what_is_left_after_the_workloads_went() -> None:
    kube = FakeKube(installation())
    for ref in list(kube.objects):
        if ref.kind in ("Deployment", "StatefulSet", "Pod"):
            del kube.objects[ref]
    seen = look(kube)
    assert not seen.runs
    assert seen.record is not None
    assert seen.backend == "local"
    assert seen.deployment_id == "d3pl0y"
    assert set(seen.host_paths) == {"data", "metadata"}


def test_a_record_that_somebody_else_made_is_none() -> None:
    kube = FakeKube(installation())
    kube.objects[Ref("v1", "ConfigMap", NAMESPACE, "pachops-installation")]["metadata"]["labels"] = {}
    assert look(kube).record is None


@pytest.mark.parametrize(
    ("backend", "data", "store"),
    [
        ("gcp", {"google_bucket": "b"}, "gcp:b"),
        ("gcp", {}, ""),
        ("aws", {"amazon_bucket": "b\n", "custom_endpoint": ""}, "aws:b"),
        ("aws", {"amazon_bucket": "b", "custom_endpoint": "http://s3:9000/"}, "aws:http://s3:9000/b"),
        ("minio", {"minio_bucket": "b", "minio_endpoint": "m:9000"}, "minio:m:9000/b"),
    ],
)
def test_the_store_of_each_backend(backend: str, data: dict[str, str], store: str) -> None:
    kube = FakeKube(installation(backend=backend))
    secret(kube, **data)
    seen = look(kube)
    assert seen.backend == backend
    assert seen.store == store


def test_an_unknown_backend_and_a_missing_secret_have_no_store() -> None:
    kube = FakeKube(installation(backend="gcp"))
    del kube.objects[Ref("v1", "Secret", NAMESPACE, "pachyderm-storage-secret")]
    assert look(kube).store == ""
    environment = kube.objects[Ref("apps/v1", "Deployment", NAMESPACE, "pachd")]["spec"]["template"]["spec"][
        "containers"
    ][0]["env"]
    next(entry for entry in environment if entry["name"] == "STORAGE_BACKEND")["value"] = "FLOPPY"
    assert look(kube).backend == ""


def test_variables_say_where_they_come_from() -> None:
    kube = FakeKube(installation(backend="aws"))
    secret(kube, reverse="true")
    variables = look(kube).pachd_environment()
    assert variables["METRICS"] == Variable("false", "value")
    assert variables["PACHD_POD_NAME"] == Variable(None, "field")
    assert variables["REVERSE"] == Variable("true", "secret:pachyderm-storage-secret/reverse")
    assert variables["RETRIES"] == Variable(None, "secret:pachyderm-storage-secret/retries")


def test_variables_from_a_config_map() -> None:
    kube = FakeKube(installation())
    seen = look(kube)
    reference = {"configMapKeyRef": {"name": "pachops-installation", "key": "backend"}}
    assert seen.environment({"env": [{"name": "A", "valueFrom": reference}]}) == {
        "A": Variable("local", "configmap:pachops-installation/backend")
    }


def test_somebody_elses_deployment_is_foreign() -> None:
    kube = FakeKube(installation())
    kube.objects[Ref("apps/v1", "Deployment", NAMESPACE, "pachd")]["metadata"]["labels"] = {"suite": "pachyderm"}
    assert look(kube).foreign


def test_etcd_as_pachctl_deploys_it_locally() -> None:
    kube = FakeKube(installation())
    deployed = kube.objects.pop(Ref("apps/v1", "StatefulSet", NAMESPACE, "etcd"))
    kube.put({**deployed, "kind": "Deployment"})
    assert look(kube).etcd["kind"] == "Deployment"


def test_kinds_that_may_not_be_listed_are_noted() -> None:
    kube = FakeKube(installation())
    kube.forbidden = {"Secret", "Namespace"}
    seen = look(kube)
    assert set(seen.unreadable) == {"Secret", "Namespace"}
    assert seen.namespace_object is None
    assert seen.storage_secret is None


def test_an_unreachable_api_is_an_error() -> None:
    kube = FakeKube()
    kube.unreachable = True
    with pytest.raises(ClusterError, match="cannot reach"):
        look(kube)


def test_pods_that_wait_say_why() -> None:
    image = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}}
    assert waiting(pod(NAMESPACE, "a", "pachd", containerStatuses=[image])) == "ImagePullBackOff: no such host"
    assert waiting(pod(NAMESPACE, "a", "pachd", initContainerStatuses=[image])).startswith("ImagePull")
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    assert waiting(pod(NAMESPACE, "a", "pachd", containerStatuses=[creating])) == ""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    assert waiting(pod(NAMESPACE, "a", "pachd", conditions=[condition])) == "Unschedulable: 0/1 nodes"
    assert waiting(pod(NAMESPACE, "a", "pachd")) == ""


def test_a_pod_that_is_being_deleted_is_not_ready() -> None:
    going = pod(NAMESPACE, "a", "pachd", containerStatuses=[{"restartCount": 2}, {"restartCount": 3}])
    assert pod_ready(going)
    assert restarts(going) == 5
    going["metadata"]["deletionTimestamp"] = "now"
    assert not pod_ready(going)
    kube = FakeKube([going, pod(NAMESPACE, "b", "pachd")])
    assert [item["metadata"]["name"] for item in look(kube).pods("pachd")] == ["b", "a"]
