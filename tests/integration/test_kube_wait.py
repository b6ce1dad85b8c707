# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting on a real cluster: every way in which a rollout fails ends early and names its cause."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.wait import wait_for, wait_gone
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress

# Part of the local cluster.
SHELL_IMAGE = "localhost/pachops/busybox:1"
TIMEOUT = 60.0

Object = dict[str, Any]


def container(**overrides: Any) -> Object:
    return {
        "name": "main",
        "image": SHELL_IMAGE,
        "command": ["sh", "-c", "trap exit TERM; sleep 3600 & wait"],
        **overrides,
    }


def workload(namespace: str, *, kind: str = "Deployment", spec: Object | None = None, **overrides: Any) -> Object:
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container(**overrides)], **(spec or {})}
    body: Object = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "it"}},
        "template": {"metadata": {"labels": {"app": "it"}}, "spec": pod},
    }
    if kind == "StatefulSet":
        body |= {"serviceName": "it", "podManagementPolicy": "Parallel"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "it", "namespace": namespace}, "spec": body}


def failure(kube: Kube, obj: Object, timeout: float = TIMEOUT) -> tuple[str, float]:
    """Apply ``obj``, wait for it, and return the message and the seconds that it took to fail."""
    kube.apply(obj)
    started = time.monotonic()
    with pytest.raises(WaitError) as caught:
        wait_for(kube, Ref.of(obj), timeout)
    return str(caught.value), time.monotonic() - started


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_rollout_and_its_update(kube: Kube, namespace: str, tmp_path: Path, kind: str) -> None:
    events = tmp_path / "events"
    events.touch()
    obj = workload(namespace, kind=kind)
    kube.apply(obj)
    progress = Progress(str(events), interval=0.0)
    progress.stage("it")
    wait_for(kube, Ref.of(obj), TIMEOUT, progress)
    pods = kube.list("v1", "Pod", namespace)
    assert [pod["status"]["phase"] for pod in pods] == ["Running"]
    lines = [json.loads(line)["detail"] for line in events.read_text().splitlines()]
    assert any("0 of 1 ready" in line for line in lines), lines
    wait_for(kube, Ref("v1", "Pod", namespace, pods[0]["metadata"]["name"]), TIMEOUT)
    assert kube.apply(workload(namespace, kind=kind, env=[{"name": "X", "value": "1"}])).action == "updated"
    wait_for(kube, Ref.of(obj), TIMEOUT)
    after = [pod for pod in kube.list("v1", "Pod", namespace) if not pod["metadata"].get("deletionTimestamp")]
    assert after[0]["metadata"]["uid"] != pods[0]["metadata"]["uid"]
    assert after[0]["spec"]["containers"][0]["env"]
    kube.delete(Ref.of(obj))
    wait_gone(kube, Ref.of(obj), TIMEOUT)
    assert kube.get(Ref.of(obj)) is None


def test_an_image_that_no_registry_has(kube: Kube, namespace: str) -> None:
    message, seconds = failure(kube, workload(namespace, image="registry.invalid/none/such:1"))
    assert "the image registry.invalid/none/such:1 cannot be pulled" in message
    assert "no such host" in message or "lookup registry.invalid" in message
    assert seconds < 30


def test_an_image_that_may_not_be_pulled(kube: Kube, namespace: str) -> None:
    message, seconds = failure(kube, workload(namespace, image="localhost/none:1", imagePullPolicy="Never"))
    assert "the image localhost/none:1 cannot be pulled" in message
    assert seconds < 15


def test_an_image_name_that_is_none(kube: Kube, namespace: str) -> None:
    message, _seconds = failure(kube, workload(namespace, image="Not//Valid"))
    assert "the image Not//Valid cannot be pulled" in message


def test_no_node_takes_the_pod(kube: Kube, namespace: str) -> None:
    message, seconds = failure(kube, workload(namespace, resources={"requests": {"cpu": "1000"}}))
    assert "no node can take the pod" in message
    assert "Insufficient cpu" in message
    assert seconds < 40


def test_a_missing_secret_key(kube: Kube, namespace: str) -> None:
    reference = {"secretKeyRef": {"name": "absent", "key": "password"}}
    message, seconds = failure(kube, workload(namespace, env=[{"name": "P", "valueFrom": reference}]))
    assert 'secret "absent" not found' in message
    assert "Create the secret" in message
    assert seconds < 20


def test_a_missing_secret_volume(kube: Kube, namespace: str) -> None:
    spec = {"volumes": [{"name": "s", "secret": {"secretName": "absent"}}]}
    mounts = [{"name": "s", "mountPath": "/s"}]
    message, seconds = failure(kube, workload(namespace, spec={**spec, "containers": [container(volumeMounts=mounts)]}))
    assert 'secret "absent" not found' in message
    assert seconds < 45


def test_a_crash_shows_the_telling_lines_and_hides_secrets(kube: Kube, namespace: str) -> None:
    value = "hunter2-hunter2"
    metadata = {"name": "s", "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": value}})
    reference = {"secretKeyRef": {"name": "s", "key": "password"}}
    script = 'echo "login with $P"; echo "goroutine 1 [running]:"; echo "amazon-region not found"; exit 7'
    crashing = workload(namespace, command=["sh", "-c", script], env=[{"name": "P", "valueFrom": reference}])
    # Without a probe it would count as available between its start and its end.
    crashing["spec"]["minReadySeconds"] = 5
    message, seconds = failure(kube, crashing)
    assert "crashes again and again" in message
    assert "exit code 7" in message
    assert "amazon-region not found" in message
    assert "login with (hidden)" in message
    assert value not in message
    assert "goroutine" not in message
    assert seconds < 60


def test_a_command_that_is_not_there(kube: Kube, namespace: str) -> None:
    message, _seconds = failure(kube, workload(namespace, command=["/no/such/program"]))
    assert "/no/such/program" in message


def test_a_quota_that_refuses_the_pod(kube: Kube, namespace: str) -> None:
    metadata = {"name": "none", "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "0"}}})
    message, seconds = failure(kube, workload(namespace))
    assert "the cluster refuses to create the pod" in message
    assert "exceeded quota" in message
    assert seconds < 40


def test_a_service_account_that_is_missing(kube: Kube, namespace: str) -> None:
    obj = workload(namespace, kind="StatefulSet", spec={"serviceAccountName": "absent"})
    message, _seconds = failure(kube, obj)
    assert 'serviceaccount "absent" not found' in message


def test_a_storage_class_that_is_missing(kube: Kube, namespace: str) -> None:
    obj = claim(namespace, "no-such-class")
    message, seconds = failure(kube, obj)
    assert "no volume can be had" in message
    assert "no-such-class" in message
    assert seconds < 30


def test_a_claim_that_waits_for_its_first_pod_is_ready_enough(kube: Kube, namespace: str) -> None:
    obj = claim(namespace, None)
    kube.apply(obj)
    wait_for(kube, Ref.of(obj), TIMEOUT)


def claim(namespace: str, storage_class: str | None) -> Object:
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    spec |= {"storageClassName": storage_class} if storage_class else {}
    metadata = {"name": "it", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def test_a_time_out_carries_the_evidence(kube: Kube, namespace: str) -> None:
    probe = {"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}, "periodSeconds": 1, "timeoutSeconds": 10}
    script = "echo still loading; sleep 3600"
    obj = workload(namespace, readinessProbe=probe, command=["sh", "-c", script])
    message, seconds = failure(kube, obj, timeout=15)
    assert "is not ready after 15 s" in message
    assert "main runs, not ready" in message
    assert "Readiness probe failed: not yet" in message
    assert "still loading" in message
    assert seconds < 40


def test_what_does_not_exist_is_not_waited_for(kube: Kube, namespace: str) -> None:
    started = time.monotonic()
    with pytest.raises(WaitError, match="does not exist"):
        wait_for(kube, Ref("apps/v1", "Deployment", namespace, "absent"), TIMEOUT)
    assert time.monotonic() - started < 8


def test_jobs(kube: Kube, namespace: str) -> None:
    def job(name: str, script: str) -> Object:
        spec = {"containers": [container(command=["sh", "-c", script])], "restartPolicy": "Never"}
        metadata = {"name": name, "namespace": namespace}
        body = {"backoffLimit": 0, "template": {"spec": spec}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": body}

    good = job("good", "exit 0")
    kube.apply(good)
    wait_for(kube, Ref.of(good), TIMEOUT)
    message, _seconds = failure(kube, job("bad", "echo no space left; exit 3"))
    assert "the job failed" in message
    assert "no space left" in message


def test_a_pod_that_will_not_go(kube: Kube, namespace: str) -> None:
    metadata = {"name": "held", "namespace": namespace, "finalizers": ["pachops.io/hold"]}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    kube.apply(obj)
    kube.delete(Ref.of(obj))
    with pytest.raises(WaitError, match=r"is not gone after 1 s.*pachops\.io/hold"):
        wait_gone(kube, Ref.of(obj), 1)
    kube.apply({**obj, "metadata": {"name": "held", "namespace": namespace}})
    wait_gone(kube, Ref.of(obj), TIMEOUT)
