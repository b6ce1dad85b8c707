# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three modules around a deployment: what they return, in check mode too, and how they fail."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils import findings
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, PachdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import acceptance, deployment
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.options import SETTINGS_SPEC
from ansible_collections.pachops.pachyderm.plugins.modules import (
    pachyderm_accept,
    pachyderm_deploy,
    pachyderm_preflight,
)
from doubles.applying import ApplyingKube
from doubles.kube import installation, node

ROOT = Path(__file__).resolve().parents[3]
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "pachyderm-storage-secret", "namespace": "pachyderm"},
    "data": {},
}
Run = Callable[..., Any]


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> ApplyingKube:
    cluster = ApplyingKube([node(), SECRET])
    for module in (pachyderm_accept, pachyderm_deploy, pachyderm_preflight):
        monkeypatch.setattr(module, "connect", lambda _kubeconfig, _context: cluster)
    monkeypatch.setattr(deployment, "wait_for", lambda *_arguments: None)
    return cluster


def returned(module: Any) -> set[str]:
    return set(yaml.safe_load(module.RETURN))


def test_deploy_returns_what_it_documents_and_the_same_in_check_mode(kube: ApplyingKube, run_module: Run) -> None:
    checked = run_module(pachyderm_deploy.main, check_mode=True, diff=True)
    assert kube.writes == []
    done = run_module(pachyderm_deploy.main, diff=True)
    for result in (checked, done):
        assert result.changed
        assert returned(pachyderm_deploy) <= set(result)
        assert {"kind": "Deployment", "namespace": "pachyderm", "name": "pachd", "action": "created"} in result[
            "objects"
        ]
    assert [entry["after_header"] for entry in checked["diff"]] == [entry["after_header"] for entry in done["diff"]]
    again = run_module(pachyderm_deploy.main, diff=True)
    assert not again.changed
    assert again["diff"] == []
    assert again["cluster_deployment_id"] == done["cluster_deployment_id"]
    assert again["cluster_deployment_id_origin"] == "recorded"


def test_deploy_takes_components_in_their_order(kube: ApplyingKube, run_module: Run) -> None:
    result = run_module(pachyderm_deploy.main, components=["pachd", "etcd"])
    assert list(result["seconds"]) == ["etcd", "pachd"]
    assert kube.applied


def test_deploy_warns_of_another_id(kube: ApplyingKube, run_module: Run) -> None:
    for obj in installation():
        kube.put(obj)
    result = run_module(pachyderm_deploy.main, cluster_deployment_id="other")
    assert any("wrong cluster" in str(warning) for warning in result["warnings"])


def test_deploy_fails_with_all_wrong_settings(kube: ApplyingKube, run_module: Run) -> None:
    result = run_module(pachyderm_deploy.main, pachd_replicas=2, etcd_members=2)
    assert result.failed
    assert "pachd_replicas" in result["msg"]
    assert "etcd_members" in result["msg"]
    assert kube.writes == []


def test_deploy_refuses_an_unknown_backend(kube: ApplyingKube, run_module: Run) -> None:
    result = run_module(pachyderm_deploy.main, backend="tape")
    assert result.failed
    assert "local, gcp, aws, minio" in result["msg"]


def test_preflight_returns_findings_and_fails_on_errors(
    kube: ApplyingKube, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimpleNamespace(status_code=404, headers={})
    monkeypatch.setattr("requests.request", lambda *_arguments, **_options: answer)
    result = run_module(pachyderm_preflight.main)
    assert result.failed
    assert "One thing has to be put right" in result["msg"]
    assert "table" not in result
    calm = run_module(pachyderm_preflight.main, fail_on_error=False)
    assert not calm.failed
    assert returned(pachyderm_preflight) <= set(calm)
    assert {finding["severity"] for finding in calm["findings"]} == {"ok", "error"}
    good = run_module(pachyderm_preflight.main, image_check="off")
    assert not good.failed
    assert not good.changed
    assert kube.writes == []


def test_accept_asks_for_the_recorded_id(kube: ApplyingKube, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def prove(_kube: Any, namespace: str, expected: acceptance.Expected, **options: Any) -> acceptance.Proof:
        asked.append((namespace, expected, options["write"]))
        return acceptance.Proof("1.13.4", [findings.ok("version", "1.13.4")])

    monkeypatch.setattr(acceptance, "prove", prove)
    for obj in installation():
        kube.put(obj)
    result = run_module(pachyderm_accept.main, check_mode=True)
    assert not result.failed
    assert returned(pachyderm_accept) <= set(result)
    namespace, expected, write = asked[0]
    assert (namespace, expected.deployment_id, expected.release.version, write) == (
        "pachyderm",
        "d3pl0y",
        "1.13.4",
        False,
    )


def test_accept_fails_with_the_findings(kube: ApplyingKube, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [findings.error("object-store", "other bytes", "the same", "Check it."), findings.ok("version", "1.13.4")]
    monkeypatch.setattr(acceptance, "prove", lambda *_a, **_k: acceptance.Proof("1.13.4", found))
    result = run_module(pachyderm_accept.main)
    assert result.failed
    assert "other bytes" in result["msg"]
    assert len(result["findings"]) == 2
    assert kube.writes == []


@pytest.mark.parametrize("module", [pachyderm_accept, pachyderm_deploy])
def test_an_unreachable_cluster_is_one_message(module: Any, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_kubeconfig: str, _context: str) -> Any:
        raise ClusterError("cannot reach the Kubernetes API", where="https://x", why="refused", fix="Check it.")

    monkeypatch.setattr(module, "connect", connect)
    result = run_module(module.main)
    assert result.failed
    assert result["msg"] == "cannot reach the Kubernetes API (https://x): refused. Check it."


def test_accept_without_a_pod(kube: ApplyingKube, run_module: Run) -> None:
    result = run_module(pachyderm_accept.main)
    assert result.failed
    assert "there is no ready pachd" in result["msg"]
    assert PachdError("x").what == "x"


def test_the_fragment_documents_every_setting_with_its_default() -> None:
    source = ast.parse((ROOT / "plugins/doc_fragments/settings.py").read_text(encoding="utf-8"))
    (literal,) = [
        node.value.value
        for node in ast.walk(source)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    documented = yaml.safe_load(literal)["options"]

    def compare(spec: dict[str, Any], docs: dict[str, Any], where: str) -> None:
        assert set(spec) == set(docs), where
        for name, option in spec.items():
            doc = docs[name]
            for part in ("type", "default", "choices", "elements"):
                assert doc.get(part) == option.get(part), f"{where}{name}: {part}"
            compare(option.get("options") or {}, doc.get("suboptions") or {}, f"{where}{name}.")

    compare(SETTINGS_SPEC, documented, "")
