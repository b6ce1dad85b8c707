# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two installations side by side, looked at, broken, repaired, removed and brought back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.files import local
from e2e.harness import ROOT, Cluster

TICKS = ROOT / "examples" / "quickstart" / "ticks.csv"


@pytest.fixture(scope="module")
def other_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another file under the same name, so that a mix-up between two installations shows."""
    path = tmp_path_factory.mktemp("other") / "ticks.csv"
    path.write_bytes(TICKS.read_bytes()[::-1])
    return path


@pytest.fixture(scope="module")
def filled(cluster: Cluster, first: str, second: str, other_file: Path) -> tuple[str, str]:
    """Both installations with a file of their own in a repo of the same name."""
    cluster.put(first, "ticks", TICKS)
    cluster.put(second, "ticks", other_file)
    return first, second


def test_two_installations_keep_to_themselves(cluster: Cluster, filled: tuple[str, str], other_file: Path) -> None:
    first, second = filled
    assert cluster.content(first, "ticks", "/ticks.csv") == local(TICKS)
    assert cluster.content(second, "ticks", "/ticks.csv") == local(other_file)
    for one, other in zip(cluster.ids(first), cluster.ids(second), strict=True):
        assert one
        assert one != other


def test_status_shows_what_runs(cluster: Cluster, filled: tuple[str, str], tmp_path: Path) -> None:
    first, _second = filled
    target = tmp_path / "status.json"
    run = cluster.play("playbooks/status.yml", pachyderm_namespace=first, status_file=str(target))
    assert run.status == 0, run.output
    status = json.loads(target.read_text(encoding="utf-8"))
    assert status["installed"]
    assert status["managed"]
    assert status["pachd"]["ready"]
    assert status["pachd"]["version"].startswith("1.13.4")
    assert status["etcd"]["revision"] > 1
    assert status["etcd"]["alarms"] == []
    assert status["repos"] == {"count": 1, "size": TICKS.stat().st_size}
    assert (status["cluster_id"], status["deployment_id"]) == cluster.ids(first)
    assert status["unknown"] == {}
    assert f"in namespace {first} on Kubernetes" in run.words


def test_doctor_finds_a_sound_installation_sound(cluster: Cluster, filled: tuple[str, str]) -> None:
    run = cluster.play("playbooks/doctor.yml", pachyderm_namespace=filled[0])
    assert run.status == 0, run.output
    assert "no error" in run.words
    assert run.changed() == 0


def test_doctor_names_every_planted_fault_and_deploy_mends_them(cluster: Cluster, filled: tuple[str, str]) -> None:
    _first, second = filled
    kube = cluster.kube
    pachd = Ref("apps/v1", "Deployment", second, "pachd")
    before = kube.get(pachd)
    assert before is not None
    spec = before["spec"]
    environment = spec["template"]["spec"]["containers"][0]["env"]
    for entry in environment:
        if entry["name"] in ("NO_EXPOSE_DOCKER_SOCKET", "METRICS"):
            entry["value"] = "false" if entry["name"] == "NO_EXPOSE_DOCKER_SOCKET" else "true"
    patch = {
        "spec": {
            # Paused, so that the running pod stays and only what is written down is wrong.
            "paused": True,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"spec": {"containers": [{**spec["template"]["spec"]["containers"][0], "env": environment}]}},
        }
    }
    response = kube.request(
        "PATCH", pachd.path(), body=json.dumps(patch), content_type="application/strategic-merge-patch+json"
    )
    assert response.status == 200, response.body
    kube.delete(Ref("v1", "Service", second, "pachd-peer"))
    kube.delete(Ref("v1", "Secret", second, "pachyderm-storage-secret"))
    kube.delete(Ref("v1", "Service", second, "etcd"))

    run = cluster.play("playbooks/doctor.yml", pachyderm_namespace=second)
    assert run.status != 0
    for check in ("etcd-service", "storage-secret", "pachd-docker-socket", "pachd-service"):
        assert f"✗ {check}" in run.output, run.output
    for check in ("pachd-strategy", "pachd-metrics"):
        assert f"! {check}" in run.output, run.output
    assert run.output.count("fix:") >= 6

    unpause = json.dumps({"spec": {"paused": None}})
    kube.request("PATCH", pachd.path(), body=unpause, content_type="application/merge-patch+json")
    run = cluster.play("deploy.yml", pachyderm_namespace=second)
    assert run.status == 0, run.output
    run = cluster.play("playbooks/doctor.yml", pachyderm_namespace=second)
    assert run.status == 0, run.output


def test_levels_of_removal(cluster: Cluster, filled: tuple[str, str], other_file: Path) -> None:
    _first, second = filled
    ids = cluster.ids(second)
    whole = cluster.names(second)

    plan = cluster.play("playbooks/remove.yml", "--check", pachyderm_namespace=second)
    assert plan.status == 0, plan.output
    assert "delete StatefulSet: etcd" in plan.words
    assert plan.changed() == 1
    assert cluster.names(second) == whole, "check mode removed something"

    run = cluster.play("playbooks/remove.yml", pachyderm_namespace=second)
    assert run.status == 0, run.output
    assert cluster.names(second) == {"ConfigMap/pachops-installation", "Secret/pachyderm-storage-secret"}
    assert cluster.play("playbooks/remove.yml", pachyderm_namespace=second).changed() == 0

    run = cluster.play("deploy.yml", pachyderm_namespace=second)
    assert run.status == 0, run.output
    assert cluster.ids(second) == ids
    assert cluster.content(second, "ticks", "/ticks.csv") == local(other_file)

    for typed in ("", "another-name"):
        variables = {"remove_confirm": typed} if typed else {}
        run = cluster.play("playbooks/remove.yml", pachyderm_namespace=second, remove_level="data", **variables)
        assert run.status != 0
        assert f"remove_confirm={second} or" in run.words
        assert cluster.names(second) == whole, "a refusal removed something"

    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stranger", "namespace": second}}
    cluster.kube.apply(stranger)
    run = cluster.play("playbooks/remove.yml", pachyderm_namespace=second, remove_level="data", remove_confirm=second)
    assert run.status == 0, run.output
    assert "leave alone ConfigMap stranger" in run.words
    assert cluster.names(second) == {"ConfigMap/stranger"}
    cluster.kube.delete(Ref("v1", "ConfigMap", second, "stranger"))
    assert "No Pachyderm in namespace" in cluster.play("playbooks/status.yml", pachyderm_namespace=second).words
