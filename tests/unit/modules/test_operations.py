# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thin modules of day-to-day work: options in, result out, errors as messages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.files import Content
from ansible_collections.pachops.pachyderm.plugins.modules import (
    pachyderm_copy,
    pachyderm_doctor,
    pachyderm_fetch,
    pachyderm_remove,
    pachyderm_status,
)
from doubles.kube import FakeKube, installation, node

MODULES = [pachyderm_copy, pachyderm_doctor, pachyderm_fetch, pachyderm_remove, pachyderm_status]
OPTIONS: dict[str, dict[str, Any]] = {
    "pachyderm_copy": {"src": "/nowhere/t.csv", "repo": "ticks"},
    "pachyderm_fetch": {"repo": "ticks", "path": "/t.csv", "dest": "/nowhere/t.csv"},
}


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


@contextlib.contextmanager
def pachd_of(kube: Any, namespace: str, token: str) -> Iterator[str]:
    assert isinstance(kube, FakeKube)
    yield f"{namespace}:{token}"


@pytest.mark.usefixtures("kube")
def test_copy_and_fetch_hand_their_options_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_module: Callable[..., Any]
) -> None:
    seen: list[Any] = []

    def copy_in(pachd: Any, *arguments: Any, write: bool) -> tuple[Content, bool]:
        seen.append((pachd, *arguments, write))
        return Content("abc", 3), True

    def copy_out(pachd: Any, *arguments: Any, write: bool) -> tuple[Content, bool]:
        seen.append((pachd, *arguments[:4], write))
        return Content("abc", 3), False

    for module in (pachyderm_copy, pachyderm_fetch):
        monkeypatch.setattr(module, "connected", pachd_of)
    monkeypatch.setattr(pachyderm_copy, "copy_in", copy_in)
    monkeypatch.setattr(pachyderm_fetch, "copy_out", copy_out)
    source = tmp_path / "t.csv"
    result = run_module(pachyderm_copy.main, check_mode=True, src=str(source), repo="ticks", token="t0ken")
    assert result.changed
    assert result["file"] == "ticks@master:/t.csv"
    assert seen[-1] == ("pachyderm:t0ken", source, "ticks", "master", "/t.csv", False)
    result = run_module(pachyderm_fetch.main, repo="ticks", path="/t.csv", commit="abc", dest=str(source))
    assert not result.changed
    assert (result["checksum"], result["size"]) == ("abc", 3)
    assert seen[-1] == ("pachyderm:", "ticks", "abc", "/t.csv", source, True)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_cluster_that_does_not_answer_is_one_message(
    module: Any, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., Any]
) -> None:
    def refuse(_kubeconfig: Any, _context: Any) -> Any:
        raise ClusterError("cannot reach the Kubernetes API", where="https://nowhere", why="refused", fix="Look.")

    monkeypatch.setattr(module, "connect", refuse)
    name = module.__name__.rpartition(".")[2]
    result = run_module(module.main, **OPTIONS.get(name, {}))
    if name == "pachyderm_doctor":
        assert not result.failed, "for the doctor it is a finding"
        assert "api" in {item["check"] for item in result["findings"] if item["severity"] == "error"}
        return
    assert result.failed
    assert result["msg"] == "cannot reach the Kubernetes API (https://nowhere): refused. Look."
