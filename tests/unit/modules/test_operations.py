# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thin modules of day-to-day work: options in, result out, errors as messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.modules import (
    pachyderm_doctor,
    pachyderm_remove,
    pachyderm_status,
)
from doubles.kube import FakeKube, installation, node

MODULES = [pachyderm_doctor, pachyderm_remove, pachyderm_status]


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    """A cluster with one installation, which every module connects to."""
    cluster = FakeKube([node(), *installation("pachyderm")])
    for module in MODULES:
        monkeypatch.setattr(module, "connect", lambda _kubeconfig, _context: cluster)
    monkeypatch.setattr(pachyderm_remove, "context_name", lambda _kubeconfig, _context: "prod")
    return cluster


def test_status_returns_data_and_screen(kube: FakeKube, run_module: Callable[..., Any]) -> None:
    result = run_module(pachyderm_status.main, namespace="pachyderm")
    assert not result.failed
    assert not result.changed
    assert result["status"]["installed"]
    assert "etcd" in result["status"]["unknown"], "the double forwards no port"
    assert any(line.startswith("pachyderm") for line in result["screen"])
    assert kube.writes == []


def test_doctor_returns_findings_and_fails_only_when_asked(kube: FakeKube, run_module: Callable[..., Any]) -> None:
    kube.objects.pop(next(ref for ref in kube.objects if (ref.kind, ref.name) == ("Service", "etcd")))
    result = run_module(pachyderm_doctor.main, namespace="pachyderm", image_check="off")
    assert not result.failed
    assert result["errors"] >= 1
    assert {"check", "severity", "found", "wanted", "fix"} == set(result["findings"][0])
    assert "etcd-service" in {item["check"] for item in result["findings"] if item["severity"] == "error"}
    assert any("etcd-service" in line for line in result["table"])
    failed = run_module(pachyderm_doctor.main, namespace="pachyderm", image_check="off", fail_on_error=True)
    assert failed.failed
    assert "to be put right" in failed["msg"]
    assert failed["findings"] == result["findings"]


def test_remove_in_check_mode_is_the_plan(kube: FakeKube, run_module: Callable[..., Any]) -> None:
    result = run_module(pachyderm_remove.main, check_mode=True, diff=True, namespace="pachyderm")
    assert result.changed
    assert kube.writes == []
    assert "Deployment pachd" in result["removed"]
    assert result["plan"]["names"] == ["pachyderm", "prod"]
    assert result["diff"][0]["after"] == {}


def test_remove_wants_the_name(kube: FakeKube, run_module: Callable[..., Any]) -> None:
    kube.put(node("second"))
    result = run_module(pachyderm_remove.main, namespace="pachyderm", level="metadata")
    assert result.failed
    assert "remove_confirm=pachyderm or prod" in result["msg"]
    assert kube.writes == []


def test_remove_of_nothing_changes_nothing(kube: FakeKube, run_module: Callable[..., Any]) -> None:
    result = run_module(pachyderm_remove.main, namespace="elsewhere", level="data")
    assert not result.failed
    assert not result.changed
    assert kube.writes == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_cluster_that_does_not_answer_is_one_message(
    module: Any, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., Any]
) -> None:
    def refuse(_kubeconfig: Any, _context: Any) -> Any:
        raise ClusterError("cannot reach the Kubernetes API", where="https://nowhere", why="refused", fix="Look.")

    monkeypatch.setattr(module, "connect", refuse)
    name = module.__name__.rpartition(".")[2]
    result = run_module(module.main)
    if name == "pachyderm_doctor":
        assert not result.failed, "for the doctor it is a finding"
        assert "api" in {item["check"] for item in result["findings"] if item["severity"] == "error"}
        return
    assert result.failed
    assert result["msg"] == "cannot reach the Kubernetes API (https://nowhere): refused. Look."
