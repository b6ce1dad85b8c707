# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight: each check, and that all of them speak at once."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.findings import Finding
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import manifests, preflight
from doubles.applying import ApplyingKube
from doubles.kube import installation, node, pod

IMAGES = ["docker.io/pachyderm/pachd:1.13.4", "docker.io/pachyderm/worker:1.13.4", "docker.io/pachyderm/etcd:v3.3.5"]


def answering(status: int) -> Any:
    return lambda _method, _url, **_options: SimpleNamespace(status_code=status, headers={})


def silent(_method: str, _url: str, **_options: Any) -> Any:
    raise OSError("HTTPSConnectionPool: [Errno -3] Temporary failure in name resolution')")


def inspect(kube: ApplyingKube, options: dict[str, Any] | None = None, **request: Any) -> dict[str, list[Finding]]:
    arguments = {"send": answering(200), "secret_comes_later": True, **request}
    asked = preflight.Request(namespace=(options or {}).get("namespace", "pachyderm"), **arguments)
    found: dict[str, list[Finding]] = {}
    for finding in preflight.inspect(lambda: kube, options or {}, asked):
        found.setdefault(finding.check, []).append(finding)
    return found


def bare(*objects: dict[str, Any]) -> ApplyingKube:
    return ApplyingKube([node(), *objects])


def namespace(**labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pachyderm", "labels": labels}}


def storage_class(name: str, provisioner: str = "rancher.io/local-path", *, default: bool = False) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": provisioner,
    }


def one(found: dict[str, list[Finding]], check: str) -> Finding:
    (finding,) = found[check]
    return finding


def test_a_good_cluster_has_nothing_to_complain_about() -> None:
    found = inspect(bare())
    assert {finding.severity for group in found.values() for finding in group} == {"ok"}
    assert {"settings", "api", "kubernetes-version", "namespace", "permissions", "nodes", "images"} <= set(found)


def test_everything_is_said_at_once() -> None:
    kube = bare(namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}))
    kube.version = "1.22.3"
    kube.denied = {("create", "statefulsets")}
    found = inspect(kube, send=answering(404))
    errors = {check for check, group in found.items() if any(item.severity == "error" for item in group)}
    assert errors == {"kubernetes-version", "permissions", "pod-security", "images"}
    for group in found.values():
        for finding in group:
            assert finding.severity == "ok" or finding.fix


def test_wrong_settings_are_findings_one_by_one() -> None:
    found = inspect(bare(), {"pachd_replicas": 2, "log_level": "loud"})
    assert len(found["settings"]) == 2
    assert found["api"][0].severity == "ok"


def test_an_unreachable_cluster_still_lets_images_be_checked() -> None:
    def connect() -> Any:
        raise ClusterError("cannot reach the Kubernetes API", where="https://x", why="refused", fix="Check it.")

    asked = preflight.Request(namespace="pachyderm", send=answering(404))
    found = preflight.inspect(connect, {}, asked)
    assert [item.check for item in found if item.severity == "error"] == ["api", "images"]


def test_what_may_not_be_looked_at_is_a_warning() -> None:
    kube = bare()
    kube.forbidden = {"Node"}
    found = inspect(kube)
    assert one(found, "nodes").severity == "warning"
    assert "not allowed" in one(found, "nodes").found
    assert found["images"][0].severity == "ok"


@pytest.mark.parametrize(
    ("version", "severity"),
    [("1.28.0", "ok"), ("1.34.4", "ok"), ("1.27.16", "error"), ("1.35.0", "warning"), ("1.30+gke.1", "ok")],
)
def test_kubernetes_version(version: str, severity: str) -> None:
    kube = bare()
    kube.version = version
    assert one(inspect(kube), "kubernetes-version").severity == severity


def test_namespace_that_is_being_deleted() -> None:
    going = namespace()
    going["status"] = {"phase": "Terminating"}
    assert one(inspect(bare(going)), "namespace").severity == "error"


@pytest.mark.parametrize(
    ("level", "backend", "refused"),
    [
        ("restricted", "gcp", True),
        ("baseline", "gcp", False),
        ("baseline", "local", True),
        ("privileged", "local", False),
    ],
)
def test_pod_security_levels_that_refuse_the_pods(level: str, backend: str, refused: bool) -> None:
    kube = bare(namespace(**{"pod-security.kubernetes.io/enforce": level}), storage_class("std", default=True))
    found = inspect(kube, {"backend": backend})
    assert ("pod-security" in found) == refused


def test_missing_rights_are_listed_with_the_rights_that_pachd_gets() -> None:
    kube = bare()
    kube.denied = {("deletecollection", "secrets"), ("patch", "deployments"), ("create", "namespaces")}
    finding = one(inspect(kube), "permissions")
    assert finding.severity == "error"
    for text in ("secrets: deletecollection", "deployments.apps: patch", "namespaces (cluster-wide): create"):
        assert text in finding.found


def test_cluster_roles_need_cluster_wide_rights() -> None:
    kube = bare()
    kube.denied = {("create", "clusterroles")}
    assert one(inspect(kube, {"cluster_roles": True}), "permissions").severity == "error"
    assert one(inspect(kube), "permissions").severity == "ok"


def test_somebody_elses_installation_and_settings_that_lose_data() -> None:
    kube = ApplyingKube([node(), *installation()])
    assert "foreign-installation" not in inspect(kube)
    assert "existing-data" in inspect(kube, {"etcd_members": 3})
    for obj in kube.objects.values():
        obj["metadata"].get("labels", {}).pop(manifests.MANAGED_BY, None)
    assert "foreign-installation" in inspect(kube)
    assert "foreign-installation" not in inspect(kube, adopt=True)


@pytest.mark.parametrize(
    ("old", "new", "severity"), [("1.12.5", "1.13.4", "ok"), ("1.13.4", "1.12.5", "warning"), ("1.13.4", "1.13.4", "")]
)
def test_another_version_than_before(old: str, new: str, severity: str) -> None:
    found = inspect(ApplyingKube([node(), *installation(version=old)]), {"version": new})
    assert [item.severity for item in found.get("version-step", [])] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("classes", "wanted", "severity", "text"),
    [
        ([], "", "error", "no default; there are: none"),
        ([storage_class("slow")], "", "error", "there are: slow"),
        ([storage_class("slow", default=True)], "", "ok", "slow"),
        ([storage_class("slow", default=True)], "fast", "error", "fast is not among"),
        ([storage_class("hand", "kubernetes.io/no-provisioner")], "hand", "warning", "by hand"),
        ([storage_class("old", "kubernetes.io/gce-pd")], "old", "warning", "gce-pd"),
    ],
)
def test_storage_class(classes: list[dict[str, Any]], wanted: str, severity: str, text: str) -> None:
    options = {"backend": "gcp", "etcd_storage": {"storage_class": wanted}}
    finding = one(inspect(bare(*classes), options), "storage-class")
    assert finding.severity == severity
    assert text in finding.found


def test_no_claim_needs_no_class() -> None:
    assert "storage-class" not in inspect(bare())


def test_local_objects_want_one_node() -> None:
    second = node("node-2")
    second["metadata"]["labels"] = {"kubernetes.io/hostname": "node-2"}
    kube = bare(second)
    assert one(inspect(kube), "nodes").severity == "error"
    picked = {"node_selector": {"kubernetes.io/hostname": "node-2"}}
    assert one(inspect(kube, picked), "nodes").severity == "ok"
    nowhere = {"node_selector": {"kubernetes.io/hostname": "node-3"}}
    assert "no node is ready" in one(inspect(kube, nowhere), "nodes").found
    clouds = bare(second, storage_class("std", default=True))
    assert one(inspect(clouds, {"backend": "gcp"}), "nodes").severity == "ok"


def test_limit_range_that_refuses_the_pods() -> None:
    limits = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small", "namespace": "pachyderm"},
        "spec": {
            "limits": [
                {"type": "Container", "max": {"memory": "256Mi"}, "min": {"cpu": "1"}, "default": {"memory": "100Mi"}},
                {"type": "Pod", "max": {"memory": "1Ki"}},
            ]
        },
    }
    finding = one(inspect(bare(limits)), "limit-range")
    for text in ("the most is 256Mi", "the least is 1", "limited to 100Mi by default"):
        assert text in finding.found
    roomy = {**limits, "spec": {"limits": [{"type": "Container", "max": {"memory": "8Gi"}}]}}
    assert "limit-range" not in inspect(bare(roomy))


def test_quota_that_wants_limits() -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight", "namespace": "pachyderm"},
        "spec": {"hard": {"limits.memory": "10Gi"}},
    }
    finding = one(inspect(bare(quota)), "resource-quota")
    assert "pachd, etcd has none" in finding.found
    given = {"limits": {"memory": "1Gi"}, "requests": {"memory": "512Mi", "cpu": "1"}}
    assert "resource-quota" not in inspect(bare(quota), {"resources": {"pachd": given, "etcd": given}})


def test_storage_secret_is_judged_where_it_is_somebody_elses() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": manifests.STORAGE_SECRET, "namespace": "pachyderm"},
        "data": {"amazon-bucket": "Yg=="},
    }
    classes = storage_class("std", default=True)
    found = inspect(bare(secret, classes), {"backend": "aws"}, secret_comes_later=False)
    assert any("amazon-region" in item.found for group in found.values() for item in group if item.severity == "error")
    missing = inspect(bare(classes), {"backend": "aws"}, secret_comes_later=False)
    assert one(missing, "storage-secret").severity == "error"
    empty = {**secret, "data": {}}
    assert one(inspect(bare(empty), secret_comes_later=False), "storage-secret").severity == "ok"
    assert "storage-secret" not in inspect(bare(), secret_comes_later=True)


def test_tls_secret() -> None:
    options = {"tls": {"secret_name": "mine"}}
    assert "does not exist" in one(inspect(bare(), options), "tls-secret").found
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": "pachyderm"}}
    assert "lacks tls.key" in one(inspect(bare({**secret, "data": {"tls.crt": ""}}), options), "tls-secret").found
    assert "tls-secret" not in inspect(bare({**secret, "data": {"tls.crt": "", "tls.key": ""}}), options)


def test_images_name_the_three_ways_out() -> None:
    finding = one(inspect(bare(), send=answering(404)), "images")
    assert [line.partition(": ")[0] for line in finding.found.splitlines()[1:]] == IMAGES
    assert finding.severity == "error"
    for variable in ("pachyderm_image_registry", "pachyderm_image_pull_secret", "pachyderm_image_archives"):
        assert variable in finding.fix


@pytest.mark.parametrize(("check", "severity"), [("error", "error"), ("warning", "warning")])
def test_a_registry_that_cannot_be_asked_is_as_grave_as_the_user_says(check: str, severity: str) -> None:
    found = inspect(bare(), send=silent, image_check=check)["images"]
    assert {item.severity for item in found} == {severity}
    assert "temporary failure in name resolution" in found[0].found
    assert inspect(bare(), send=answering(404), image_check=check)["images"][0].severity == "error"


def test_images_are_not_checked_when_told_so() -> None:
    assert "images" not in inspect(bare(), send=answering(404), image_check="off")


def test_images_that_the_nodes_have() -> None:
    full = node()
    full["status"]["images"] = [{"names": IMAGES}]
    finding = one(inspect(ApplyingKube([full]), send=answering(404)), "images")
    assert finding.severity == "ok"
    assert "from the nodes" in finding.found


def test_an_archive_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no archive")
    assert one(inspect(bare(), archives=[str(broken)]), "image-archives").severity == "error"


def test_pull_secret() -> None:
    options = {"image_pull_secret": "puller"}
    assert "does not exist" in one(inspect(bare(), options), "image-pull-secret").found
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "puller", "namespace": "pachyderm"}}
    assert "cannot be used" in one(inspect(bare(secret), options), "image-pull-secret").found
    good = {**secret, "data": {".dockerconfigjson": "eyJhdXRocyI6IHt9fQ=="}}
    assert "image-pull-secret" not in inspect(bare(good), options)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name == "grpc" else object())
    assert "grpc" in one(inspect(bare()), "python-libraries").found


def test_nothing_is_written() -> None:
    kube = bare()
    inspect(kube)
    assert kube.writes == []
    assert Ref("v1", "Namespace", None, "pachyderm") not in kube.objects


@pytest.mark.parametrize(
    ("text", "number"),
    [("512M", Decimal(512_000_000)), ("250m", Decimal("0.25")), ("1.5Gi", Decimal(1610612736)), ("3", Decimal(3))],
)
def test_quantity(text: str, number: Decimal) -> None:
    assert preflight.quantity(text) == number


@pytest.mark.parametrize("text", ["", "M", "12Q", "1 Gi"])
def test_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        preflight.quantity(text)


def sized(name: str, cpu: str, memory: str = "8Gi") -> dict[str, Any]:
    made = node(name)
    made["status"]["allocatable"] = {"cpu": cpu, "memory": memory}
    return made


def asking(
    name: str, where: str, *cpus: str, namespace: str = "others", app: str = "web", **spec: Any
) -> dict[str, Any]:
    """A pod with one container for each of ``cpus``."""
    made = pod(namespace, name, app)
    made["spec"] = {
        "nodeName": where,
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}} for cpu in cpus],
        **spec,
    }
    return made


def resources(pachd: str, etcd: str) -> dict[str, Any]:
    return {
        "resources": {
            "pachd": {"requests": {"cpu": pachd, "memory": "512Mi"}},
            "etcd": {"requests": {"cpu": etcd, "memory": "256Mi"}},
        }
    }


SMALL = resources("500m", "250m")


def test_too_little_cpu_is_foreseen() -> None:
    full = ApplyingKube([sized("one", "2"), asking("a", "one", "700m", "600m")])
    finding = one(inspect(full, SMALL), "capacity")
    assert finding.severity == "error"
    # pachd, the larger one, found its place, and etcd did not.
    assert finding.found == "etcd asks for 0.25 CPUs and 256 MiB\nnode one would have 0.2 CPUs and 7680 MiB left"
    assert "pachyderm_resources" in finding.fix
    assert one(inspect(ApplyingKube([sized("one", "2")]), SMALL), "capacity").severity == "ok"


def test_too_little_memory_is_foreseen() -> None:
    found = one(inspect(ApplyingKube([sized("one", "8", "600Mi")]), SMALL), "capacity").found
    assert found == "etcd asks for 0.25 CPUs and 256 MiB\nnode one would have 7.5 CPUs and 88 MiB left"


@pytest.mark.parametrize(
    ("others", "severity"),
    [
        ([asking("a", "one", "1250m")], "ok"),
        ([asking("a", "one", "1251m")], "error"),
        ([{**asking("a", "one", "2"), "status": {"phase": "Succeeded"}}], "ok"),
        ([asking("a", "elsewhere", "2")], "ok"),
        ([asking("a", "one", "1", overhead={"cpu": "300m"})], "error"),
        ([asking("a", "one", "1", initContainers=[{"resources": {"requests": {"cpu": "1200m"}}}])], "ok"),
        ([asking("a", "one", "1", initContainers=[{"resources": {"limits": {"cpu": "1300m"}}}])], "error"),
        (
            [
                asking(
                    "a",
                    "one",
                    "1",
                    initContainers=[{"restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}}],
                )
            ],
            "error",
        ),
        # Its own pods go before their successors come; a worker stays.
        ([asking("pachd-1", "one", "2", namespace="pachyderm", app="pachd")], "ok"),
        ([asking("worker", "one", "2", namespace="pachyderm", app="pipeline-a-v1")], "error"),
    ],
    ids=["exact", "a hair", "ended", "elsewhere", "overhead", "init", "init limit", "sidecar", "ours", "worker"],
)
def test_what_others_asked_for_counts_as_the_scheduler_counts_it(others: list[dict[str, Any]], severity: str) -> None:
    assert one(inspect(ApplyingKube([sized("one", "2"), *others]), SMALL), "capacity").severity == severity


def test_each_pod_needs_one_node_that_holds_all_of_it() -> None:
    clouds = {"backend": "gcp", **resources("1", "1")}
    halves = [sized(name, "900m") for name in ("a", "b", "c")]
    classes = storage_class("standard", default=True)
    assert one(inspect(ApplyingKube([*halves, classes]), clouds), "capacity").severity == "error"
    wholes = [sized(name, "1") for name in ("a", "b")]
    assert one(inspect(ApplyingKube([*wholes, classes]), clouds), "capacity").severity == "ok"
    three = {**clouds, "etcd_members": 3}
    assert one(inspect(ApplyingKube([*wholes, classes]), three), "capacity").found.count("etcd asks") == 2
