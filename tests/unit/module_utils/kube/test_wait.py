# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting, on states as the API reports them; the integration tests produce the same states on a real cluster."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import wait as wait_module
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.wait import (
    event_text,
    pod_state,
    ready,
    telling_lines,
    wait_for,
    wait_gone,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from doubles.api import FakeApi

Object = dict[str, Any]
NAMESPACE = "pachyderm"
DEPLOYMENT = Ref("apps/v1", "Deployment", NAMESPACE, "pachd")
VALUE = "hunter2-hunter2"


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(wait_module, "time", clock)
    return clock


@pytest.fixture
def api() -> FakeApi:
    return FakeApi([NAMESPACE])


@pytest.fixture
def kube(api: FakeApi, clock: Clock) -> Kube:
    assert clock
    return Kube(api, patience=0.0)


def deployment(api: FakeApi, **status: Any) -> None:
    api.put(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "pachd", "namespace": NAMESPACE, "generation": 1},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "pachd"}}},
            "status": {"observedGeneration": 1, **status},
        }
    )


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
ROLLED_OUT = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


def pod(api: FakeApi, *, spec: Object | None = None, **status: Any) -> Ref:
    metadata = {"name": "pachd-0", "namespace": NAMESPACE, "uid": "pod-uid", "labels": {"app": "pachd"}}
    spec = {"containers": [{"name": "pachd", "image": "example.com/pachd:1"}], **(spec or {})}
    return api.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": spec,
            "status": {"phase": "Pending", **status},
        }
    )


def container(reason: str = "", message: str = "", **more: Any) -> Object:
    state = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    return {"containerStatuses": [{"name": "pachd", "ready": False, "restartCount": 0, "state": state, **more}]}


def event(
    api: FakeApi, reason: str, message: str, *, uid: str = "pod-uid", kind: str = "Pod", name: str = "pachd-0"
) -> None:
    involved = {"kind": kind, "name": name, "uid": uid}
    number = len(api.objects)
    metadata = {"name": f"event-{number}", "namespace": NAMESPACE}
    stamp = f"2026-01-01T00:00:{number:02d}Z"
    api.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": metadata,
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "lastTimestamp": stamp,
        }
    )


def failure(kube: Kube, ref: Ref = DEPLOYMENT, timeout: float = 600) -> str:
    with pytest.raises(WaitError) as caught:
        wait_for(kube, ref, timeout)
    assert caught.value.fix
    return str(caught.value)


def test_a_complete_rollout_is_waited_for_with_progress(api: FakeApi, kube: Kube, clock: Clock, tmp_path: Path) -> None:
    deployment(api)
    pod(api, **container("ContainerCreating"))
    event(api, "Pulling", "Pulling image example.com/pachd:1")

    def later(_ref: Ref) -> None:
        if clock.now > 1010:
            api.stored(DEPLOYMENT)["status"].update(ROLLED_OUT)

    api.on_get = later
    events = tmp_path / "events"
    events.touch()
    wait_for(kube, DEPLOYMENT, 60, Progress(str(events), interval=0))
    details = [json.loads(line)["detail"] for line in events.read_text().splitlines()]
    assert details[0] == "pachd: 0 of 1 ready; pachd-0 Pending (Pulling: Pulling image example.com/pachd:1)"


@pytest.mark.parametrize(
    ("status", "events", "expected", "least", "most"),
    [
        (container("InvalidImageName", "bad"), [], "the image example.com/pachd:1 cannot be pulled", 3, 6),
        (container("ErrImageNeverPull", "not present"), [], "not present", 3, 6),
        (
            container("ImagePullBackOff", "Back-off pulling image"),
            [
                ("Failed", 'Failed to pull image "example.com/pachd:1": no such host'),
                ("Failed", "Error: ImagePullBackOff"),
            ],
            "no such host",
            10,
            13,
        ),
        (
            container("CreateContainerConfigError", 'secret "x" not found'),
            [],
            "Create the secret, or add the key that it lacks",
            6,
            9,
        ),
        (container("CreateContainerConfigError", 'configmap "x" not found'), [], "Create the ConfigMap", 6, 9),
        (container("RunContainerError", "exec: no such file"), [], "exec: no such file", 10, 13),
        (
            {"conditions": [UNSCHEDULABLE]},
            [],
            "Insufficient cpu",
            20,
            23,
        ),
        ({}, [("FailedMount", 'MountVolume.SetUp failed: secret "x" not found')], 'secret "x" not found', 20, 23),
        (container(), [("Unhealthy", "Readiness probe failed: not yet")], "Readiness probe failed", 180, 185),
    ],
)
def test_trouble_ends_the_wait_after_its_grace_period(
    api: FakeApi,
    kube: Kube,
    clock: Clock,
    status: Object,
    events: list[tuple[str, str]],
    expected: str,
    least: float,
    most: float,
) -> None:
    deployment(api)
    pod(api, **status)
    for reason, message in events:
        event(api, reason, message)
    assert expected in failure(kube)
    assert least <= clock.now - 1000 <= most


@pytest.mark.parametrize(
    ("status", "events"),
    [
        (container("ContainerCreating"), [("FailedMount", "timed out, trying again")]),
        (
            {"conditions": [{**UNSCHEDULABLE, "message": "untolerated taint {node.kubernetes.io/not-ready: }"}]},
            [],
        ),
        ({"conditions": [UNSCHEDULABLE]}, [("TriggeredScaleUp", "pod triggered scale-up")]),
        (container(), [("Unhealthy", "Readiness probe failed: not yet")]),
    ],
)
def test_what_may_pass_is_waited_out(
    api: FakeApi, kube: Kube, clock: Clock, status: Object, events: list[tuple[str, str]]
) -> None:
    deployment(api)
    pod(api, **status)
    for reason, message in events:
        event(api, reason, message)
    message = failure(kube, timeout=60)
    assert "Deployment pachd is not ready after 60 s (namespace pachyderm)" in message
    assert "pod pachd-0: Pending" in message
    assert all(text in message for _reason, text in events)
    assert clock.now - 1000 == pytest.approx(60, abs=2)


def test_trouble_that_goes_away_starts_anew(api: FakeApi, kube: Kube, clock: Clock) -> None:
    deployment(api)
    ref = pod(api, **container("ErrImagePull", "busy"))

    def flicker(_ref: Ref) -> None:
        reason = "ContainerCreating" if clock.now % 8 < 2 else "ErrImagePull"
        api.stored(ref)["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason}}

    api.on_get = flicker
    assert "not ready after 40 s" in failure(kube, timeout=40)


def crash(api: FakeApi, ref: Ref) -> None:
    """Let the pod's container crash from the second look on."""
    looks = itertools.count()

    def again(_ref: Ref) -> None:
        api.stored(ref)["status"]["containerStatuses"][0]["restartCount"] = 2 * (next(looks) > 0)

    api.on_get = again


def test_a_crash_loop_shows_the_log_without_stack_and_secrets(api: FakeApi, kube: Kube) -> None:
    deployment(api)
    encoded = {"password": base64.b64encode(VALUE.encode()).decode()}
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NAMESPACE}, "data": encoded})
    storage = {
        "amazon-bucket": base64.b64encode(b"example-bucket").decode(),
        "amazon-secret": base64.b64encode(b"storage-hunter2").decode(),
    }
    metadata = {"name": "pachyderm-storage-secret", "namespace": NAMESPACE}
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": storage})
    reference = {"secretKeyRef": {"name": "s", "key": "password"}}
    spec = {
        "containers": [
            {
                "name": "pachd",
                "image": "i",
                "env": [{"name": "P", "valueFrom": reference}, {"name": "Q"}],
                "envFrom": [{}],
            }
        ],
        "volumes": [
            {"secret": {"secretName": "pachyderm-storage-secret"}},
            {"projected": {"sources": [{"secret": {"name": "absent"}}]}},
        ],
    }
    ended = {"terminated": {"reason": "Error", "exitCode": 1, "message": f"login {VALUE}"}}
    crash(api, pod(api, spec=spec, **container("CrashLoopBackOff", lastState=ended)))
    api.logs[("pachd-0", "pachd", False)] = (
        "goroutine 1 [running]:\nmain.main(0x1, 0x2)\n\t/src/main.go:1 +0x1\ncreated by net/http\n\n"
        f"with {VALUE} and storage-hunter2\nexample-bucket: amazon-region not found\n"
    )
    message = failure(kube)
    assert (
        "the container pachd crashes again and again (pod pachyderm/pachd-0): Error, exit code 1; login (hidden)"
        in message
    )
    assert "with (hidden) and (hidden)\n  example-bucket: amazon-region not found" in message
    assert "goroutine" not in message
    assert "main" not in message


def test_a_log_is_withheld_where_secrets_cannot_be_read(api: FakeApi, kube: Kube) -> None:
    deployment(api)
    api.denied = {("get", "secrets")}
    spec = {"containers": [{"name": "pachd", "image": "i", "envFrom": [{"secretRef": {"name": "s"}}]}]}
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    crash(api, pod(api, spec=spec, **container("CrashLoopBackOff", lastState=ended)))
    event(api, "Unhealthy", "Liveness probe failed: gone")
    api.logs[("pachd-0", "pachd", False)] = VALUE
    message = failure(kube)
    assert VALUE not in message
    assert "the log is withheld: secret s cannot be read" in message
    assert "OOMKilled, exit code 137; Liveness probe failed: gone" in message
    assert "Raise its memory limit" in message


@pytest.mark.parametrize("before", [2, 3, 7])
def test_restarts_of_the_past_are_no_crash_loop(api: FakeApi, kube: Kube, clock: Clock, before: int) -> None:
    """Of the pod that a rollout is about to replace, say, because it crashed: then there are two."""
    deployment(api)
    ref = pod(api, **container(restartCount=before))
    assert "not ready after 30 s" in failure(kube, timeout=30)

    def crash(_ref: Ref) -> None:
        if clock.now > 1040:
            api.stored(ref)["status"]["containerStatuses"][0]["restartCount"] = before + 2

    api.on_get = crash
    api.logs[("pachd-0", "pachd", True)] = "the crashed one's words"
    assert "the crashed one's words" in failure(kube)


def test_the_cluster_refuses_pods(api: FakeApi, kube: Kube) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}
    deployment(api, conditions=[condition])
    assert "exceeded quota: q" in failure(kube)
    deployment(api)
    event(api, "FailedCreate", 'serviceaccount "x" not found', uid="rs", kind="ReplicaSet", name="pachd-5d")
    assert 'serviceaccount "x" not found' in failure(kube)


def claim(api: FakeApi, phase: str = "Pending") -> Ref:
    metadata = {"name": "data", "namespace": NAMESPACE, "uid": "claim-uid"}
    status = {"phase": phase}
    return api.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "status": status})


@pytest.mark.parametrize(
    ("reason", "message", "expected", "seconds"),
    [
        (
            "FailedBinding",
            "no persistent volumes available and no storage class is set",
            "Mark a StorageClass as the default",
            6,
        ),
        ("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found', "Name a StorageClass that exists", 6),
        ("ProvisioningFailed", "quota of the cloud", "quota of the cloud", 45),
    ],
)
def test_claims_that_cannot_be_bound(
    api: FakeApi, kube: Kube, clock: Clock, reason: str, message: str, expected: str, seconds: float
) -> None:
    ref = claim(api)
    event(api, reason, message, uid="claim-uid", kind="PersistentVolumeClaim", name="data")
    assert expected in failure(kube, ref)
    assert clock.now - 1000 == pytest.approx(seconds, abs=3)


def test_a_workloads_claim_is_its_trouble(api: FakeApi, kube: Kube) -> None:
    deployment(api)
    pod(api, spec={"volumes": [{"persistentVolumeClaim": {"claimName": "data"}}]})
    ref = claim(api)
    event(api, "ExternalProvisioning", "waiting for x", uid="claim-uid", kind="PersistentVolumeClaim", name="data")
    assert "claim data: Pending; ExternalProvisioning: waiting for x" in failure(kube, timeout=5)
    api.stored(ref)["status"]["phase"] = "Lost"
    assert "the claim has lost its volume" in failure(kube)


def test_claims_that_are_ready(api: FakeApi, kube: Kube) -> None:
    wait_for(kube, claim(api, "Bound"), 5)
    ref = claim(api)
    assert "is not ready after 5 s" in failure(kube, ref, 5)
    event(api, "WaitForFirstConsumer", "later", uid="claim-uid", kind="PersistentVolumeClaim", name="data")
    wait_for(kube, ref, 5)


def test_jobs(api: FakeApi, kube: Kube) -> None:
    ref = Ref("batch/v1", "Job", NAMESPACE, "job")
    obj: Object = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": NAMESPACE}}
    api.put({**obj, "status": {"conditions": [{"type": "Complete", "status": "True"}]}})
    wait_for(kube, ref, 5)
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
    api.put({**obj, "status": {"conditions": [failed]}, "spec": {"selector": {"matchLabels": {"app": "pachd"}}}})
    assert "the job failed (Job pachyderm/job): BackoffLimitExceeded: too often" in failure(kube, ref)
    pod(api, **container())
    api.logs[("pachd-0", "pachd", False)] = "no space left"
    assert "no space left" in failure(kube, ref)


def test_nothing_to_wait_for(api: FakeApi, kube: Kube, clock: Clock) -> None:
    assert api
    assert "it does not exist" in failure(kube)
    assert clock.now - 1000 < 6
    assert "it does not exist" in failure(kube, timeout=1)


def test_gone(api: FakeApi, kube: Kube) -> None:
    wait_gone(kube, DEPLOYMENT, 5)
    deployment(api)
    pod(api, **container())
    with pytest.raises(WaitError, match="is not gone after 5 s"):
        wait_gone(kube, DEPLOYMENT, 5)
    del api.objects[DEPLOYMENT]
    api.on_get = lambda _ref: api.objects.pop(Ref("v1", "Pod", NAMESPACE, "pachd-0"), None) and None
    wait_gone(kube, DEPLOYMENT, 5)


def test_gone_names_the_finalizers(api: FakeApi, kube: Kube) -> None:
    metadata = {"name": "held", "namespace": NAMESPACE, "finalizers": ["a/b"]}
    ref = api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    with pytest.raises(WaitError, match="held by a/b"):
        wait_gone(kube, ref, 2)


@pytest.mark.parametrize(
    ("kind", "spec", "status", "expected"),
    [
        ("StatefulSet", {"replicas": 1}, {"replicas": 1, "readyReplicas": 1}, True),
        ("StatefulSet", {"replicas": 1}, {"replicas": 1}, False),
        (
            "StatefulSet",
            {"replicas": 1},
            {"replicas": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"},
            False,
        ),
        (
            "StatefulSet",
            {"replicas": 1, "updateStrategy": {"type": "OnDelete"}},
            {"replicas": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"},
            True,
        ),
        ("Deployment", {"replicas": 0}, {}, True),
        ("Deployment", {}, {"replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ("ReplicationController", {"replicas": 1}, {"replicas": 1, "readyReplicas": 1}, True),
        ("Pod", {}, {"phase": "Succeeded"}, True),
        ("Pod", {}, {"conditions": [{"type": "Ready", "status": "True"}]}, True),
        ("Namespace", {}, {"phase": "Terminating"}, False),
        ("ConfigMap", {}, {}, True),
    ],
)
def test_ready(kind: str, spec: Object, status: Object, *, expected: bool) -> None:
    metadata = {"name": "x", "generation": 1}
    obj = {"kind": kind, "metadata": metadata, "spec": spec, "status": {"observedGeneration": 1, **status}}
    assert ready(obj) is expected
    if kind in ("StatefulSet", "Deployment"):
        assert not ready({**obj, "metadata": {**metadata, "generation": 2}})


def test_states_in_words() -> None:
    ended = {"name": "a", "state": {"terminated": {"exitCode": 3}}, "restartCount": 2}
    running = {"name": "b", "state": {"running": {}}, "ready": False}
    status: Object = {"phase": "Running", "containerStatuses": [ended, running], "message": "evicted"}
    found = pod_state({"metadata": {}, "status": status})
    assert found == "Running, evicted, a ended with exit code 3, 2 restarts, b runs, not ready"
    assert pod_state({"metadata": {"deletionTimestamp": "x"}}) == "stopping"
    assert event_text({"reason": "Killing", "message": "a\n b"}) == "Killing: a b"


def test_telling_lines_keep_the_reason_behind_a_stack_dump() -> None:
    dump = "goroutine 7 [select]:\nnet/http.(*T).loop(0xc0, 0x1)\n\t/go/src/a.go:2 +0x1\n" * 80
    log = dump + "unable to write to object storage: RequestError\ncaused by: dial tcp: connection refused\n"
    assert telling_lines(log) == [
        "unable to write to object storage: RequestError",
        "caused by: dial tcp: connection refused",
    ]
    assert telling_lines("a\nb\nc", most=2) == ["b", "c"]
