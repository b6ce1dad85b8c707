# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can serve a local cluster: all findings at once, each with the way out."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.findings import errors
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster import preflight
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.preflight import GIB, Host

SUBNET = ipaddress.IPv4Network("198.18.7.0/24")
GOOD = Host(
    system="Linux",
    architecture="amd64",
    euid=0,
    has_apt=True,
    memory=8 * GIB,
    disk_free=40 * GIB,
    capabilities=(1 << 41) - 1,
    packages=frozenset(),
    go="1.26.8",
    go_path="/usr/bin/go",
    systemd=True,
)


def findings(others: tuple[str, ...] = (), **changes: Any) -> list[Any]:
    host = dataclasses.replace(GOOD, **changes)
    return preflight.check(host, disk=12 * GIB, memory=2 * GIB, subnet=SUBNET, interface="pc-dev", others=others)


def test_good_host() -> None:
    (only,) = findings()
    assert (only.check, only.severity) == ("host", "ok")
    assert "8 GiB of memory, 40 GiB of disk free" in only.found


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("system", {"system": "Darwin"}),
        ("architecture", {"architecture": "riscv64"}),
        ("root", {"euid": 1000}),
        ("capabilities", {"capabilities": 0}),
        ("packages", {"has_apt": False}),
        ("memory", {"memory": GIB}),
        ("disk", {"disk_free": 3 * GIB}),
        ("node-subnet", {"others": ("eth0 198.18.7.9/16",)}),
    ],
)
def test_one_thing_wrong(check: str, changes: dict[str, Any]) -> None:
    (found,) = errors(findings(**changes))
    assert found.check == check
    assert found.wanted
    assert "kubeconfig" in found.fix or check == "node-subnet"


def test_everything_wrong_is_said_at_once() -> None:
    found = findings(
        system="Darwin", architecture="sparc", euid=1, has_apt=False, memory=0, disk_free=0, others=("x 1/8",)
    )
    assert len(errors(found)) == 7


def test_little_memory_is_a_warning() -> None:
    assert [finding.severity for finding in findings(memory=3 * GIB)] == ["ok", "warning"]


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "go"
    program.write_text('#!/bin/sh\n[ "$GOTOOLCHAIN" = local ] && echo go1.99.1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    host = preflight.examine(tmp_path / "not" / "yet" / "there")
    assert host.system == "Linux"
    assert host.memory > GIB / 4
    assert host.disk_free > 0
    assert (host.go, host.go_path) == ("1.99.1", str(program))
    assert host.has_apt == ("dpkg" in host.packages or bool(host.packages))


def test_machine_without_go_dpkg_and_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    host = preflight.examine(tmp_path)
    assert (host.go, host.go_path, host.has_apt, host.packages) == ("", "", False, frozenset())
    monkeypatch.setattr(preflight, "Path", lambda _path: tmp_path / "missing")
    assert preflight._memory() == 0
    assert preflight._capabilities() == 0
    assert preflight._go_version(str(tmp_path / "no-go")) == ""


@pytest.mark.parametrize(
    ("left", "right"),
    [("1.26.3", "1.26.0"), ("1.26", "1.25.9"), ("1.100.0", "1.26.3"), ("1.26.3", "1.26rc2"), ("1", "")],
)
def test_versions(left: str, right: str) -> None:
    assert preflight.version_key(left) > preflight.version_key(right)
