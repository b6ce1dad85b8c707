# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every planted fault is named, alone, and a healthy installation has none."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils import evidence as evidence_module
from ansible_collections.pachops.pachyderm.plugins.module_utils.doctor import (
    diagnose,
    etcd_flags,
    examine,
    judged_by,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, EtcdError, PachdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import KeyValue, Status
from ansible_collections.pachops.pachyderm.plugins.module_utils.evidence import EtcdState, Evidence, gather
from ansible_collections.pachops.pachyderm.plugins.module_utils.findings import Finding
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.answers import Answers
from doubles.kube import FakeKube, claim, installation, node, pod, worker

NAMESPACE = "pachyderm"
PACHD = Ref("apps/v1", "Deployment", NAMESPACE, "pachd")
ETCD = Ref("apps/v1", "StatefulSet", NAMESPACE, "etcd")
SECRET = Ref("v1", "Secret", NAMESPACE, "pachyderm-storage-secret")
HEALTHY = EtcdState("3.5.21", 1234, 20480, 16384, ("etcd-0",), ())
CLUSTER_ID = "0123456789abcdef0123456789abcdef"
ANSWERS = Answers("1.13.4", CLUSTER_ID, "d3pl0y", {"ticks": 100, "__spec__": 5}, {"rebin": "RUNNING"})


def dns() -> list[dict[str, Any]]:
    labels = {"kubernetes.io/service-name": "kube-dns"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kube-dns-x", "namespace": "kube-system", "labels": labels},
            "endpoints": [{"addresses": ["10.1.0.2"], "conditions": {"ready": True}}],
        },
    ]


def cluster(**options: Any) -> FakeKube:
    return FakeKube([node(), *dns(), *installation(NAMESPACE, **options), *worker(NAMESPACE, "rebin")])


class Fake:
    """etcd and pachd as the cluster's pods would answer; a test may change the answers."""

    def __init__(self) -> None:
        self.etcd: EtcdState | Exception = HEALTHY
        self.cluster_id: bytes | None = CLUSTER_ID.encode()
        self.answers: Answers | Exception = ANSWERS


def given(answer: Any) -> Any:
    """Return what a double is to answer, or raise it."""
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put doubles in the place of the two network clients; everything else is the real code."""
    state = Fake()

    class Client:
        def __init__(self, _endpoint: str, _timeout: float) -> None:
            self.state = given(state.etcd)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_error: object) -> None: ...

        def get(self, key: bytes) -> KeyValue | None:
            assert key == b"cluster-id"
            return KeyValue(key, state.cluster_id, 1, 1, 1, 0) if state.cluster_id else None

        def status(self) -> Status:
            return Status(self.state.version, self.state.size, self.state.size_in_use, 7, self.state.revision, 7, 8)

        def members(self) -> list[str]:
            return list(self.state.members)

        def alarms(self) -> list[str]:
            return list(self.state.alarms)

    def ask(_kube: Any, _namespace: str, _pod: str, _timeout: float) -> Answers:
        return given(state.answers)

    @contextmanager
    def forward(_self: FakeKube, _namespace: str, _pod: str, _port: int) -> Iterator[tuple[str, int]]:
        yield "127.0.0.1", 1

    monkeypatch.setattr(evidence_module, "EtcdClient", Client)
    monkeypatch.setattr(evidence_module, "ask", ask)
    monkeypatch.setattr(FakeKube, "portforward", forward)
    return state


def findings(kube: Any, **wanted: str) -> list[Finding]:
    return examine(gather(kube, NAMESPACE, **wanted))


def bad(found: list[Finding]) -> dict[str, Finding]:
    return {item.check: item for item in found if item.severity != "ok"}


@pytest.mark.usefixtures("fake")
def test_a_healthy_installation_has_no_fault() -> None:
    found = findings(cluster(), version="1.13.4")
    assert bad(found) == {}
    assert {
        "node-conditions",
        "cluster-dns",
        "clock",
        "etcd",
        "etcd-health",
        "pachd",
        "pachd-version",
        "shared-store",
    } <= {item.check for item in found}


@pytest.mark.usefixtures("fake")
def test_a_healthy_installation_with_claims_has_no_fault() -> None:
    kube = cluster(etcd_storage={"type": "claim"})
    assert bad(findings(kube)) == {}
    assert any(item.check == "etcd-volume" and "claims" in item.found for item in findings(kube))


def test_before_an_installation_only_the_cluster_is_examined() -> None:
    found = findings(FakeKube([node(), *dns()]))
    assert {item.check for item in found} == {"node-conditions", "cluster-dns", "clock"}


def container(kube: FakeKube, ref: Ref = PACHD) -> dict[str, Any]:
    return kube.objects[ref]["spec"]["template"]["spec"]["containers"][0]


def set_variable(kube: FakeKube, variable: str, value: str | None) -> None:
    env = container(kube)["env"]
    env[:] = [entry for entry in env if entry["name"] != variable]
    if value is not None:
        env.append({"name": variable, "value": value})


def set_secret(kube: FakeKube, **data: str) -> None:
    kube.objects[SECRET]["data"] = {
        key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()
    }


def drop(ref: Ref) -> Callable[[FakeKube, Fake], None]:
    def plant(kube: FakeKube, _fake: Fake) -> None:
        del kube.objects[ref]

    return plant


def variable(name: str, value: str | None) -> Callable[[FakeKube, Fake], None]:
    return lambda kube, _fake: set_variable(kube, name, value)


def log(text: str) -> Callable[[FakeKube, Fake], None]:
    return lambda kube, _fake: kube.logged.update({"pachd-7d9f": text})


def etcd(**changes: Any) -> Callable[[FakeKube, Fake], None]:
    return lambda _kube, fake: setattr(fake, "etcd", dataclasses.replace(HEALTHY, **changes))


def answers(**changes: Any) -> Callable[[FakeKube, Fake], None]:
    return lambda _kube, fake: setattr(fake, "answers", dataclasses.replace(ANSWERS, **changes))


def spec(ref: Ref, **values: Any) -> Callable[[FakeKube, Fake], None]:
    return lambda kube, _fake: kube.objects[ref]["spec"].update(values)


def etcd_argument(old: str, new: str) -> Callable[[FakeKube, Fake], None]:
    def plant(kube: FakeKube, _fake: Fake) -> None:
        arguments = container(kube, ETCD)["args"]
        arguments[:] = [new if item == old else item for item in arguments if item != old or new]

    return plant


def empty_dir(kube: FakeKube, _fake: Fake) -> None:
    kube.objects[ETCD]["spec"]["template"]["spec"]["volumes"] = [{"name": "etcd-storage", "emptyDir": {}}]


def no_volume(kube: FakeKube, _fake: Fake) -> None:
    container(kube, ETCD)["volumeMounts"] = []


def unready_etcd(kube: FakeKube, _fake: Fake) -> None:
    kube.objects[ETCD]["status"] = {}
    pull = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}}
    kube.put(pod(NAMESPACE, "etcd-0", "etcd", ready=False, phase="Pending", containerStatuses=[pull]))


def unready_pachd(kube: FakeKube, _fake: Fake) -> None:
    crash = {"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m"}}}
    kube.put(pod(NAMESPACE, "pachd-7d9f", "pachd", ready=False, containerStatuses=[crash]))
    kube.logged["pachd-7d9f"] = "INFO starting"
    kube.previously["pachd-7d9f"] = (
        "INFO starting\ngoroutine 1 [running]:\nmain.main()\n\t/go/main.go:1 +0x19\n"
        "error setting up Block API GRPC Server: amazon-region not found\n"
    )


def no_pachd_pod(kube: FakeKube, _fake: Fake) -> None:
    del kube.objects[Ref("v1", "Pod", NAMESPACE, "pachd-7d9f")]


def orphan(kube: FakeKube, _fake: Fake) -> None:
    for obj in worker(NAMESPACE, "gone"):
        kube.put(obj)


def stuck_worker(kube: FakeKube, _fake: Fake) -> None:
    crash = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "error inspecting image"}}}
    kube.put(pod(NAMESPACE, "pipeline-rebin-v1-x", "pipeline-rebin-v1", component="worker", containerStatuses=[crash]))


def twin(kube: FakeKube, _fake: Fake) -> None:
    for obj in installation("other", host_path="/var/pachyderm/pachyderm"):
        kube.put(obj)


def pressure(kube: FakeKube, _fake: Fake) -> None:
    kube.put(node("node-2", DiskPressure="True"))


def dead_node(kube: FakeKube, _fake: Fake) -> None:
    kube.put(node("node-2", Ready="Unknown"))


def no_dns(kube: FakeKube, _fake: Fake) -> None:
    del kube.objects[Ref("discovery.k8s.io/v1", "EndpointSlice", "kube-system", "kube-dns-x")]


def skew(seconds: float) -> Callable[[FakeKube, Fake], None]:
    return lambda kube, _fake: setattr(kube, "skew", seconds)


def etcd_silent(_kube: FakeKube, fake: Fake) -> None:
    fake.etcd = EtcdError("cannot reach etcd", why="timed out")


def pachd_silent(_kube: FakeKube, fake: Fake) -> None:
    fake.answers = PachdError("pachd gave no answer when asked its version", why="deadline_exceeded")


def other_cluster_id(_kube: FakeKube, fake: Fake) -> None:
    fake.cluster_id = b"f" * 32


def blind(kube: FakeKube, _fake: Fake) -> None:
    kube.forbidden = {"Node"}


FAULTS: list[tuple[Callable[[FakeKube, Fake], None], str, str, str]] = [
    (blind, "not-examined", "warning", "not allowed to list Node"),
    (dead_node, "node-ready", "error", "node-2"),
    (pressure, "node-pressure", "error", "DiskPressure"),
    (no_dns, "cluster-dns", "error", "kube-system/kube-dns"),
    (skew(400), "clock", "warning", "ahead of"),
    (skew(-400), "clock", "warning", "behind"),
    (spec(ETCD, replicas=0), "etcd", "error", "scaled to zero"),
    (unready_etcd, "etcd", "error", "ErrImagePull: no such host"),
    (drop(Ref("v1", "Service", NAMESPACE, "etcd")), "etcd-service", "error", "no Service named etcd"),
    (spec(Ref("v1", "Service", NAMESPACE, "etcd"), clusterIP="None"), "etcd-service", "error", "headless"),
    (spec(Ref("v1", "Service", NAMESPACE, "etcd"), ports=[{"port": 2380}]), "etcd-service", "error", "2380"),
    (etcd_argument("--max-txn-ops=10000", "--max-txn-ops=128"), "etcd-flags", "error", "--max-txn-ops is 128"),
    (etcd_argument("--quota-backend-bytes=8589934592", ""), "etcd-flags", "error", "quota-backend-bytes is not set"),
    (etcd_argument("--auto-compaction-retention=1", "--auto-compaction-retention=0"), "etcd-flags", "error", "is 0"),
    (empty_dir, "etcd-volume", "error", "an emptyDir"),
    (no_volume, "etcd-volume", "error", "no volume at /var/data/etcd"),
    (
        lambda kube, _fake: kube.put(claim(NAMESPACE, "Pending")),
        "etcd-volume",
        "error",
        "etcd-storage-etcd-0 is Pending",
    ),
    (etcd_silent, "etcd-health", "error", "timed out"),
    (etcd(alarms=("NOSPACE",)), "etcd-alarms", "error", "NOSPACE"),
    (etcd(size=8_000_000_000, size_in_use=1000), "etcd-size", "warning", "defragmenting would free"),
    (twin, "shared-store", "error", "the pachd in other"),
    (spec(PACHD, replicas=2), "pachd-replicas", "error", "2 replicas"),
    (spec(PACHD, replicas=0), "pachd-replicas", "warning", "scaled to zero"),
    (spec(PACHD, strategy={"type": "RollingUpdate"}), "pachd-strategy", "warning", "RollingUpdate"),
    (
        lambda kube, _fake: kube.objects[PACHD]["spec"]["template"]["spec"].update(enableServiceLinks=False),
        "pachd-service-links",
        "error",
        "false",
    ),
    (lambda kube, _fake: container(kube).pop("readinessProbe"), "pachd-probe", "warning", "after 1 s"),
    (variable("WORKER_SERVICE_ACCOUNT", None), "pachd-environment", "error", "WORKER_SERVICE_ACCOUNT"),
    (variable("NO_EXPOSE_DOCKER_SOCKET", "false"), "pachd-docker-socket", "error", "is false"),
    (variable("METRICS", None), "pachd-metrics", "warning", "not set"),
    (variable("ETCD_PREFIX", "mine"), "pachd-etcd-prefix", "error", "mine"),
    (variable("ETCD_SERVICE_HOST", "10.0.0.1"), "pachd-etcd-address", "warning", "ETCD_SERVICE_HOST"),
    (variable("STORAGE_BACKEND", "FLOPPY"), "pachd-backend", "error", "FLOPPY"),
    (variable("WORKER_SIDECAR_IMAGE", "docker.io/pachyderm/pachd:1.12.5"), "pachd-images", "error", "1.12.5"),
    (variable("WORKER_IMAGE", "docker.io/pachyderm/worker:1.12.5"), "pachd-images", "error", "1.12.5"),
    (no_pachd_pod, "pachd", "error", "pachd has no pod"),
    (log("2026-11-22T10:00:00Z ERROR disk on fire\n"), "pachd-log", "warning", "disk on fire"),
    (
        log("2026-11-22T10:00:00Z ERROR unable to access kubernetes pods, Pachyderm will continue. error: forbidden\n"),
        "pachd-self-test",
        "error",
        "unable to access kubernetes pods",
    ),
    (drop(Ref("v1", "Service", NAMESPACE, "pachd-peer")), "pachd-service", "error", "pachd-peer"),
    (spec(Ref("v1", "Service", NAMESPACE, "pachd"), ports=[{"port": 651}]), "pachd-service", "error", "is 651"),
    (pachd_silent, "pachd-api", "error", "deadline_exceeded"),
    (answers(version="1.12.5"), "pachd-version", "error", "pachd is 1.12.5"),
    (answers(deployment_id="n3w"), "deployment-id", "error", "n3w"),
    (other_cluster_id, "cluster-id", "error", "ffff"),
    (answers(pipelines={"rebin": "FAILURE", "b": "CRASHING"}), "pipelines", "warning", "b (crashing), rebin (failure)"),
    (orphan, "worker-orphans", "error", "pipeline-gone-v1"),
    (stuck_worker, "worker-pods", "error", "error inspecting image"),
]


@pytest.mark.parametrize(
    ("plant", "check", "severity", "words"), FAULTS, ids=[f"{item[1]}:{item[3][:20]}" for item in FAULTS]
)
def test_each_fault_is_named_alone(
    fake: Fake, plant: Callable[[FakeKube, Fake], None], check: str, severity: str, words: str
) -> None:
    kube = cluster()
    plant(kube, fake)
    found = bad(findings(kube, version="1.13.4"))
    assert list(found) == [check]
    finding = found[check]
    assert finding.severity == severity
    assert words in finding.found
    assert finding.wanted
    assert finding.fix.endswith((".", "replicas=1"))


@pytest.mark.usefixtures("fake")
def test_a_crash_loop_shows_the_dead_containers_last_words() -> None:
    kube = cluster()
    unready_pachd(kube, Fake())
    found = bad(findings(kube))
    assert set(found) == {"pachd", "pachd-restarts", "pachd-log"}
    assert "CrashLoopBackOff" in found["pachd"].found
    assert found["pachd-log"].found.endswith("amazon-region not found")
    assert "goroutine" not in found["pachd-log"].found


@pytest.mark.usefixtures("fake")
def test_without_etcd_or_pachd_the_rest_is_still_examined() -> None:
    kube = cluster()
    del kube.objects[ETCD]
    found = bad(findings(kube))
    assert "there is no etcd" in found["etcd"].found
    kube = cluster()
    del kube.objects[PACHD]
    found = bad(findings(kube))
    assert "there is no pachd" in found["pachd"].found


S3 = {
    "amazon_region": "eu-central-1",
    "amazon_bucket": "bucket",
    "amazon_distribution": "",
    "custom_endpoint": "",
    "retries": "10",
    "timeout": "5m",
    "upload_acl": "bucket-owner-full-control",
    "reverse": "true",
    "part_size": "5242880",
    "max_upload_parts": "10000",
    "disable_ssl": "false",
    "no_verify_ssl": "false",
    "log_options": "",
}


@pytest.mark.usefixtures("fake")
def test_every_key_of_the_secret_has_to_be_mapped() -> None:
    kube = cluster(backend="aws")
    set_secret(kube, **S3)
    assert bad(findings(kube)) == {}
    set_variable(kube, "REVERSE", None)
    found = bad(findings(kube))
    assert list(found) == ["storage-environment"]
    assert "reverse (variable REVERSE)" in found["storage-environment"].found


@pytest.mark.usefixtures("fake")
def test_two_installations_on_one_bucket() -> None:
    kube = cluster(backend="aws")
    set_secret(kube, **S3)
    for obj in installation("other", backend="aws"):
        kube.put(obj)
    kube.objects[Ref("v1", "Secret", "other", "pachyderm-storage-secret")]["data"] = kube.objects[SECRET]["data"]
    assert "aws:bucket" in bad(findings(kube))["shared-store"].found
    kube.objects[Ref("apps/v1", "Deployment", "other", "pachd")]["spec"]["replicas"] = 0
    assert bad(findings(kube)) == {}, "a pachd that is scaled to zero harms nobody"


@pytest.mark.usefixtures("fake")
def test_known_noise_in_the_log_is_no_finding() -> None:
    kube = cluster()
    kube.logged["pachd-7d9f"] = (
        "2026-11-22T14:04:42Z ERROR Error setting server state: invalid character 'p' after top-level value\n"
        "2026-11-22T14:04:42Z ERROR unable to access kubernetes nodeslist, Pachyderm will continue. error: forbidden\n"
        "2026-11-22T14:04:42Z ERROR unable to access kubernetes logs, Pachyderm will continue to work but. error: the "
        "server rejected our request for an unknown reason (get pods pachd-0)\n"
        '2026-11-22T14:04:42Z ERROR pfs.API.InspectCommit {"error":"commit a not found in repo b"}\n'
        '2026-11-22T14:04:42Z ERROR PPS master: error retrieving RC for "x": RC not found; retrying in 1s\n'
        "2026-11-22T14:04:42Z ERROR error while watching kubernetes pods: Timeout: Too large resource version\n"
        "2026-11-22T14:04:42Z INFO validating kubernetes access returned no errors\n"
    )
    assert bad(findings(kube)) == {}


def test_the_stand_in_is_told_by_version_and_first_words(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    kube = cluster()
    assert not gather(kube, NAMESPACE).stand_in
    fake.answers = dataclasses.replace(ANSWERS, version="1.13.4-standin")
    assert gather(kube, NAMESPACE).stand_in
    assert bad(findings(kube, version="1.13.4")) == {}
    fake.answers = ANSWERS
    original = FakeKube.request

    def request(self: FakeKube, method: str, path: str, **options: Any) -> Any:
        answer = original(self, method, path, **options)
        return dataclasses.replace(answer, body=b"pachd stand-in, a test double") if path.endswith("/log") else answer

    monkeypatch.setattr(FakeKube, "request", request)
    assert gather(kube, NAMESPACE).stand_in


@pytest.mark.usefixtures("fake")
def test_a_server_without_a_date_has_no_clock_finding() -> None:
    kube = cluster()
    kube.skew = 2e9
    assert "clock" not in {item.check for item in findings(kube)}


@pytest.mark.usefixtures("fake")
def test_a_cluster_with_another_dns_service_has_no_dns_finding() -> None:
    kube = cluster()
    del kube.objects[Ref("v1", "Service", "kube-system", "kube-dns")]
    assert "cluster-dns" not in {item.check for item in findings(kube)}


def test_evidence_without_answers_is_judged_without_them() -> None:
    installed = gather(FakeKube([node(), *installation(NAMESPACE)]), NAMESPACE)
    assert installed.etcd is None
    assert "cannot forward" in installed.etcd_trouble
    assert isinstance(installed, Evidence)


def test_an_installation_is_judged_by_its_own_settings() -> None:
    kube = cluster(etcd_storage={"type": "claim", "size": "20Gi"}, images={"pachd": "r.example/pachd:1.13.4"})
    found = gather(kube, NAMESPACE).installation.settings()
    options = {
        "version": "1.13.4",
        "backend": "local",
        "images": None,
        "etcd_storage": {"type": "auto", "size": "10Gi"},
    }
    judged = judged_by(options, found)
    assert judged["images"]["pachd"] == "r.example/pachd:1.13.4"
    assert judged["images"]["etcd"] == "docker.io/pachyderm/etcd:v3.3.5"
    assert judged["etcd_storage"] == {"type": "claim", "size": "20Gi"}
    assert judged["host_path"] == "/var/pachyderm/pachyderm"
    given = judged_by({**options, "images": {"pachd": "mine:1", "etcd": ""}, "host_path": "/srv/p"}, found)
    assert given["images"]["pachd"] == "mine:1"
    assert given["images"]["etcd"] == "docker.io/pachyderm/etcd:v3.3.5"
    assert given["host_path"] == "/srv/p"
    assert gather(FakeKube(), NAMESPACE).installation.settings() == {}


@pytest.mark.usefixtures("fake")
def test_a_diagnosis_has_the_preflights_findings_and_ours() -> None:
    kube = cluster()
    kube.objects[SECRET]["data"] = {}
    diagnosis = diagnose(lambda: kube, {"namespace": NAMESPACE, "version": "1.13.4"}, image_check="off")
    checks = {item.check for item in diagnosis.findings}
    assert diagnosis.installed
    assert {"settings", "api", "permissions", "etcd-flags", "pachd-version"} <= checks
    assert not [item for item in diagnosis.findings if item.severity == "error"], diagnosis.findings


def test_an_api_that_does_not_answer_is_a_finding() -> None:
    def refuse() -> Any:
        raise ClusterError("cannot reach the Kubernetes API", where="https://nowhere", why="refused", fix="Look.")

    diagnosis = diagnose(refuse, {"namespace": NAMESPACE}, image_check="off")
    assert not diagnosis.installed
    assert [item.check for item in diagnosis.findings if item.severity == "error"] == ["api"]


def test_flags_are_read_from_arguments_shell_lines_and_variables() -> None:
    assert etcd_flags({"args": ["--data-dir=/d", "--max-txn-ops", "5", "--enable-v2"]}) == {
        "data-dir": "/d",
        "max-txn-ops": "5",
    }
    shell = {"command": ["/bin/sh", "-c", "/usr/local/bin/etcd --data-dir=/d '--quota-backend-bytes=8'"]}
    assert etcd_flags(shell)["quota-backend-bytes"] == "8"
    assert etcd_flags({"env": [{"name": "ETCD_MAX_TXN_OPS", "value": "9"}]})["max-txn-ops"] == "9"


def test_every_finding_is_in_the_troubleshooting_page(root: Path) -> None:
    source = (root / "plugins/module_utils/doctor.py").read_text(encoding="utf-8")
    checks = set(re.findall(r"\b(?:error|warning)\(\s*\"([a-z-]+)\"", source))
    page = (root / "docs/troubleshooting.md").read_text(encoding="utf-8")
    assert len(checks) > 25
    assert [check for check in sorted(checks) if f"`{check}`" not in page] == []


def journal(**content: Any) -> dict[str, Any]:
    """Return the ConfigMap that a restore keeps."""
    metadata = {"name": "pachops-restore", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"journal": json.dumps(content)}}


@pytest.mark.usefixtures("fake")
def test_what_a_restore_left_is_not_forgotten() -> None:
    kube = cluster()
    done = [{"step": "exchange", "begun": "2026-01-01T00:00:01Z", "done": "2026-01-01T00:00:02Z"}]
    fresh = f"{dt.datetime.now(dt.timezone.utc):%Y%m%dt%H%M%S}-ab12"
    kube.put(journal(id=fresh, state="restored", steps=done))
    assert bad(findings(kube)) == {}
    kube.put(journal(id=fresh, state="restored", steps=done, kept=["20260101t000000-cd34"]))
    found = bad(findings(kube))["restore-set-aside"]
    assert found.found == "what 2 restores set aside is on etcd's volume since 2026-01-01T00:00:00Z"
    assert "restore_action=confirm" in found.fix
    kube.put(journal(id=fresh, state="confirmed", steps=done))
    assert bad(findings(kube)) == {}
    kube.put(journal(id=fresh, state="running", backup="20260101T000000Z-r7", steps=done))
    assert "of 20260101T000000Z-r7 is not finished, at the step 'exchange'" in bad(findings(kube))["restore"].found
    kube.put(journal(id="20260101t000000-cd34", state="restored", steps=done))
    assert bad(findings(kube))["restore-set-aside"].found.startswith("what 1 restore set aside")
    for broken in ({"journal": "{"}, journal(id="renamed", state="restored", steps=done)["data"]):
        kube.put({**journal(), "data": broken})
        assert bad(findings(kube))["restore"].severity == "error"
