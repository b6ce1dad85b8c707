# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others deployed, described from their manifests: every backend, every kind of etcd, and what no option can say."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils import adoption
from ansible_collections.pachops.pachyderm.plugins.module_utils.discovery import Discovery, discover
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings
from ansible_collections.pachops.pachyderm.plugins.modules import pachyderm_discover
from doubles.applying import ApplyingKube
from doubles.kube import installation, worker
from emulators.pachctl import shapes
from emulators.pachctl.shapes import Shape, chart, pachctl

GOOGLE_KEY = (
    '{"type": "service_account", "client_email": "a@example.iam", "token_uri": "https://example.com/token", '
    '"private_key": "-----BEGIN PRIVATE KEY-----\\nexample\\n-----END PRIVATE KEY-----\\n"}'
)


def cluster(shape: Shape, made: Any = pachctl) -> ApplyingKube:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shape.namespace}}
    return ApplyingKube([namespace, *made(shape)])


def found(shape: Shape, made: Any = pachctl) -> Discovery:
    discovery: Discovery = discover(cluster(shape, made), shape.namespace)
    return discovery


def errors(shape: Shape, made: Any = pachctl) -> dict[str, str]:
    return {item.check: item.found for item in found(shape, made).findings if item.severity == "error"}


def change(kube: ApplyingKube, kind: str, name: str) -> dict[str, Any]:
    return next(obj for ref, obj in kube.objects.items() if (ref.kind, ref.name) == (kind, name))


def container(kube: ApplyingKube, kind: str, name: str) -> dict[str, Any]:
    result: dict[str, Any] = change(kube, kind, name)["spec"]["template"]["spec"]["containers"][0]
    return result


@pytest.mark.parametrize(
    ("shape", "storage"),
    [
        (Shape("old"), ("local", "", "", "", "directory", "none", "/var/pachyderm/pachd")),
        (Shape("old", "google"), ("gcp", "pach-bucket", "", "", "slash", "metadata_server", "")),
        (Shape("old", "google", credentials=GOOGLE_KEY), ("gcp", "pach-bucket", "", "", "slash", "key_file", "")),
        (Shape("old", "amazon"), ("aws", "pach-bucket", "us-west-1", "", "reversed", "keys", "")),
        (Shape("old", "amazon", auth="iam-role"), ("aws", "pach-bucket", "us-west-1", "", "reversed", "role", "")),
        (Shape("old", "amazon", auth="vault"), ("aws", "pach-bucket", "us-west-1", "", "reversed", "vault", "")),
        (
            Shape("old", "custom", endpoint="http://minio.example:9000"),
            ("aws", "pach-bucket", "us-east-1", "http://minio.example:9000", "reversed", "keys", ""),
        ),
        (
            Shape("old", "minio", endpoint="http://minio.example:9000"),
            ("minio", "pach-bucket", "", "minio.example:9000", "plain", "keys", ""),
        ),
    ],
    ids=lambda value: value.backend + "-" + value.auth if isinstance(value, Shape) else "",
)
def test_every_backend_is_described_explained_and_adoptable(shape: Shape, storage: tuple[str, ...]) -> None:
    kube = cluster(shape)
    discovery = discover(kube, "old")
    seen = discovery.storage
    assert storage == (seen.backend, seen.bucket, seen.region, seen.endpoint, seen.spelling, seen.auth, seen.host_path)
    assert (discovery.maker, discovery.version, discovery.rbac) == ("pachctl", "1.13.4", "cluster")
    assert discovery.deployment_id == shape.deployment_id
    plan = adoption.plan(kube, discovery)
    assert plan.adoptable, plan.findings
    assert plan.unexplained == []
    assert plan.differences, "it is not ours yet"
    assert kube.writes == [], "a plan writes nothing"
    # What is described is what the module parses, and no credential is part of it.
    text = adoption.inventory(discovery, plan.variables, plan.findings)
    assert yaml.safe_load(text) == plan.variables
    for secret in (shape.key, shape.key_id, "BEGIN PRIVATE KEY", "s.example"):
        assert secret not in text + str(discovery.as_dict()) + str(plan.differences)
    assert plan.variables["storage_secret_mode"] == "existing"


@pytest.mark.parametrize(
    ("shape", "made", "storage"),
    [
        (Shape("old"), pachctl, {"type": "host_path"}),
        (
            Shape("old", "amazon", disk="50Gi", storage_class="etcd-storage-class", members=3),
            pachctl,
            {"type": "claim", "size": "50Gi", "storage_class": "etcd-storage-class"},
        ),
        (Shape("old", "amazon", etcd="static"), pachctl, {"type": "existing_claim", "claim": "etcd-storage"}),
        (Shape("old", etcd="static"), chart, {"type": "existing_claim", "claim": "etcd-storage"}),
    ],
)
def test_every_kind_of_etcd_keeps_its_place(shape: Shape, made: Any, storage: dict[str, str]) -> None:
    kube = cluster(shape, made)
    discovery = discover(kube, "old")
    assert discovery.options["etcd_storage"] == storage
    assert discovery.options["etcd_members"] == shape.members
    # Refusing to orphan data is the deployment's own judgement.
    assert adoption.plan(kube, discovery).adoptable


def test_an_old_chart_is_known_by_its_labels() -> None:
    discovery = found(Shape("old"), chart)
    assert discovery.maker == "chart pachyderm-0.2.7"
    assert discovery.service_account == "lions-pachyderm"
    left = next(item.found for item in discovery.findings if item.check == "leftovers")
    assert "ServiceAccount/lions-pachyderm" in left
    assert "ClusterRole/lions-pachyderm" in left


def test_options_that_pachctl_has_are_kept() -> None:
    shape = Shape("old", dash=True, tls=True, local_roles=True, environment={"GC_PERCENT": "20"})
    discovery = found(shape)
    assert discovery.rbac == "namespaced"
    variables = adoption.variables(discovery)
    assert variables["pachyderm_service"]["node_ports"]["api-grpc-port"] == 30650
    assert variables["pachyderm_dash_service"]["node_ports"]["dash-http"] == 30080
    assert variables["pachyderm_tls"] == {"secret_name": "pachd-tls-cert"}
    assert variables["pachyderm_extra_env"] == {"GC_PERCENT": "20"}
    assert variables["pachyderm_host_path"] == "/var/pachyderm"
    assert variables["pachyderm_network_policy"] is False, "nobody is cut off who reached etcd so far"
    assert variables["pachyderm_images"] == {"etcd": "docker.io/pachyderm/etcd:v3.3.5"}
    assert "pachyderm_cluster_roles" not in variables


def test_our_own_installation_needs_nothing() -> None:
    kube = ApplyingKube(installation(host_path="/srv/pachyderm"))
    kube.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pachyderm-storage-secret", "namespace": "pachyderm"},
        }
    )
    discovery = discover(kube, "pachyderm")
    assert discovery.maker == "pachops"
    assert discovery.options["host_path"] == "/srv/pachyderm"


@pytest.mark.parametrize(
    ("shape", "check"),
    [
        (Shape("old", version="1.9.12"), "version"),
        (Shape("old", environment={"PACH_ROOT": "/elsewhere"}), "environment"),
        (Shape("old", environment={"ETCD_PREFIX": "other"}), "environment"),
        (Shape("old", environment={"STORAGE_HOST_PATH": "/somewhere/pachd"}), "host-path"),
        (Shape("old", environment={"STORAGE_BACKEND": "MICROSOFT"}), "backend"),
        (Shape("old", "amazon", members=2), "etcd-members"),
    ],
)
def test_what_cannot_be_taken_over_is_named(shape: Shape, check: str) -> None:
    assert check in errors(shape)


def test_etcd_without_a_lasting_volume_needs_a_move() -> None:
    kube = cluster(Shape("old"))
    change(kube, "Deployment", "etcd")["spec"]["template"]["spec"]["volumes"][0] = {
        "name": "etcd-storage",
        "emptyDir": {},
    }
    plan = adoption.plan(kube, discover(kube, "old"))
    assert not plan.adoptable
    assert {"etcd-volume", "in-place"} <= {item.check for item in plan.findings}
    assert any("restore" in item.fix for item in plan.findings)


def test_tuning_that_does_not_reach_pachd_is_no_trifle() -> None:
    # pachd works with plain keys although the secret says reverse: a deployment would map it, and find nothing.
    kube = cluster(Shape("old", "amazon"))
    variables = container(kube, "Deployment", "pachd")["env"]
    variables[:] = [item for item in variables if item["name"] != "REVERSE"]
    discovery = discover(kube, "old")
    assert discovery.storage.spelling == "plain"
    assert "storage-mapping" in {item.check for item in discovery.findings if item.severity == "error"}


def test_flags_containers_and_secret_variables_are_named() -> None:
    kube = cluster(Shape("old", environment={"AWS_SESSION_TOKEN": "do-not-show"}))
    container(kube, "Deployment", "etcd")["command"].append("--snapshot-count=5000")
    pod = change(kube, "Deployment", "pachd")["spec"]["template"]["spec"]
    pod["containers"].append({"name": "sidecar", "image": "example"})
    discovery = discover(kube, "old")
    said = " ".join(item.found for item in discovery.findings)
    assert "--snapshot-count" in said
    assert "sidecar" in said
    assert "AWS_SESSION_TOKEN" in said
    plan = adoption.plan(kube, discovery)
    assert "do-not-show" not in str(discovery.as_dict()) + str(plan) + adoption.inventory(discovery, {}, plan.findings)


def test_workers_that_need_docker_are_named() -> None:
    kube = cluster(Shape("old"))
    for obj in worker("old", "rebin"):
        kube.put(obj)
    assert "workers" not in {item.check for item in discover(kube, "old").findings}
    pod = (
        change(kube, "ReplicationController", "pipeline-rebin-v1")["spec"]
        .setdefault("template", {})
        .setdefault("spec", {})
    )
    pod["volumes"] = [{"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}]
    said = next(item for item in discover(kube, "old").findings if item.check == "workers")
    assert "pipeline-rebin-v1" in said.found
    assert "delete these ReplicationControllers" in said.fix


def test_a_difference_without_a_reason_stands_out() -> None:
    differences = [adoption.Difference("Deployment/pachd", "updated", "", ("spec.x: 1 → 2",), "pachd")]
    assert any("NOT EXPLAINED" in line for line in adoption.table(differences))
    assert adoption.table([]) == ["Nothing: the cluster has what the inventory says."]


def test_minimal_options_mean_the_same() -> None:
    discovery = found(Shape("old", "amazon", small=True))
    fewer = adoption.minimal(discovery.options)
    assert len(fewer) < len(discovery.options)
    assert Settings.parse(fewer) == Settings.parse(discovery.options)


def test_an_empty_namespace_is_refused() -> None:
    with pytest.raises(InputError, match="no Pachyderm"):
        discover(ApplyingKube(), "old")


@pytest.mark.parametrize("check_mode", [False, True])
def test_module(run_module: Any, monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    kube = cluster(Shape("old"))
    monkeypatch.setattr(pachyderm_discover, "connect", lambda *_arguments: kube)
    result = run_module(pachyderm_discover.main, namespace="old", check_mode=check_mode)
    assert not result.failed
    assert result["adoptable"]
    assert result["restarts"] == ["etcd", "pachd"]
    assert result["installation"]["etcd"]["volume"] == "host_path"
    assert Ref("v1", "ConfigMap", "old", "pachops-installation") not in kube.objects
    quick = run_module(pachyderm_discover.main, namespace="old", plan=False)
    assert quick["differences"] == []


def test_the_shapes_are_valid_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert shapes.main(["--namespace", "old", "--chart", "local"]) == 0
    assert '"kind": "List"' in capsys.readouterr().out
