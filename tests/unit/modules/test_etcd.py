# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that look after etcd, on a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.modules import etcd_info, etcd_maintenance
from doubles import locks
from doubles.etcd import behind, fill, running

NAMESPACE = "pachyderm"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with running(tmp_path / "etcd") as address:
        fill(address)
        yield address


def test_the_modules(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., Any]
) -> None:
    for module in (etcd_info, etcd_maintenance):
        monkeypatch.setattr(module, "connect", lambda _kubeconfig, _context: behind(address))
    lock = locks.noted(monkeypatch, etcd_maintenance)
    found = run_module(etcd_info.main, namespace=NAMESPACE)
    assert not found.failed
    assert found["etcd"]["keys"]["jobs"] == 10
    assert any("etcd-0" in line for line in found["table"])
    options = {"namespace": NAMESPACE, "keep_revisions": 5, "snapshot_dir": str(tmp_path / "s")}
    planned = run_module(etcd_maintenance.main, check_mode=True, diff=True, **options)
    assert planned.changed
    assert planned["snapshot"] == ""
    assert lock == []
    done = run_module(etcd_maintenance.main, diff=True, lock_wait=3, **options)
    assert lock == ["maintenance pachyderm 3", "released"]
    assert done.changed
    assert set(planned) == set(done)
    assert done["snapshot"].endswith(".snapshot")
    again = run_module(etcd_maintenance.main, **options)
    assert not again.changed
    assert again["actions"] == []
    refused = run_module(etcd_maintenance.main, namespace=NAMESPACE)
    assert refused.failed
    assert "snapshot_dir" in refused["msg"]
    direct = run_module(etcd_info.main, endpoints=[address])
    assert direct["etcd"]["transport"] == "direct"
    down = run_module(etcd_info.main, endpoints=["127.0.0.1:9"], timeout=1)
    assert not down.failed
    assert not down["etcd"]["healthy"]
    failed = run_module(etcd_info.main, endpoints=["127.0.0.1:9"], timeout=1, fail_if_unhealthy=True)
    assert failed.failed
    assert "cannot reach etcd" in failed["msg"]
