# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module etcd_restore: what it returns, in check mode too, which backup it takes, and how it fails."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import manifest as manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.modules import etcd_restore
from doubles import backups
from doubles.restoring import OLD, DataEtcd, RestoringApi, RestoringKube, connect, etcds

Run = Callable[..., Any]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RestoringApi:
    made = RestoringApi(tmp_path / "installation")
    made.fill(OLD + backups.CLUSTER.encode())
    monkeypatch.setattr(etcd_restore, "connect", lambda _kubeconfig, _context: RestoringKube(made, patience=0.0))
    monkeypatch.setattr(etcd_restore, "etcd_of", etcds)
    monkeypatch.setattr(etcd_restore, "connected", connect)
    return made


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """A verified backup, and a newer one that is not."""
    content = backups.real_snapshot()
    keys = DataEtcd(content)
    assert keys.keys
    state = manifests.EtcdState(keys.keys.revision, "3.5.21", keys.count(b""), len(content))
    found = DirectoryStore(tmp_path / "store", private=True)
    older = backups.write_set(found, backups.NOW - dt.timedelta(days=1), state, content, backups.real_objects())
    backups.verify(found, older)
    backups.write_set(found, backups.NOW, state, content, backups.real_objects())
    return found


def options(store: DirectoryStore, **more: Any) -> dict[str, Any]:
    return {"store": store.where, "level": "used", **more}


def everything(api: RestoringApi) -> str:
    return json.dumps({str(ref): obj for ref, obj in api.objects.items()}, sort_keys=True)


def test_it_returns_what_it_documents_and_the_same_in_check_mode(
    api: RestoringApi, store: DirectoryStore, run_module: Run
) -> None:
    before = everything(api)
    checked = run_module(etcd_restore.main, check_mode=True, diff=True, **options(store))
    assert everything(api) == before
    assert not (api.directory / "host").exists()
    done = run_module(etcd_restore.main, diff=True, **options(store))
    for result in (checked, done):
        assert result.changed
        assert set(yaml.safe_load(etcd_restore.RETURN)) <= set(result)
        assert result["plan"]["backup"] == "20260303T120000Z-r329"
        assert result["diff"]["after"].startswith(f"cluster {backups.CLUSTER}, revision 329")
    assert checked["put_back"] == done["put_back"]
    assert set(checked) == set(done)
    assert done["journal"]["state"] == "restored"

    for check_mode in (True, False):
        assert run_module(etcd_restore.main, check_mode=check_mode, state="undone").changed
    assert not run_module(etcd_restore.main, check_mode=True, state="undone").changed
    for check_mode in (True, False):
        assert run_module(etcd_restore.main, check_mode=check_mode, state="confirmed").changed
    assert not run_module(etcd_restore.main, state="confirmed").changed


def test_certificates_and_a_user_are_shown_to_etcd_each_time(
    api: RestoringApi, store: DirectoryStore, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = set()

    def recording(kube: Any, seen: Any, access: Any, member: str = "") -> Any:
        shown.add((access.tls.ca_file, access.tls.server_name, access.login.user, access.login.password))
        return etcds(kube, seen, access, member)

    monkeypatch.setattr(etcd_restore, "etcd_of", recording)
    way = {"ca_file": "/ca.crt", "server_name": "etcd.example", "user": "root", "password": "secret"}
    done = run_module(etcd_restore.main, etcd=way, **options(store))
    assert done["journal"]["state"] == "restored"
    assert shown == {("/ca.crt", "etcd.example", "root", "secret")}


def test_a_refusal_in_check_mode_comes_with_the_plan(api: RestoringApi, store: DirectoryStore, run_module: Run) -> None:
    api.fill(OLD + b"f" * 32)
    result = run_module(etcd_restore.main, check_mode=True, **options(store, cluster_id=backups.CLUSTER))
    assert result.failed
    assert "another cluster's backup, set confirm to" in result["msg"]
    assert any("ANOTHER CLUSTER'S BACKUP" in line for line in result["plan"]["lines"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"store": ""}, "a restore needs a store"),
        ({"backup_id": "20200101T000000Z-r1"}, "there is no such backup"),
        ({"cluster_id": "another"}, "there is no such backup"),
    ],
)
def test_what_cannot_be_meant(
    wanted: dict[str, Any], message: str, api: RestoringApi, store: DirectoryStore, run_module: Run
) -> None:
    before = everything(api)
    result = run_module(etcd_restore.main, **{**options(store), **wanted})
    assert result.failed
    assert message in result["msg"]
    assert everything(api) == before
