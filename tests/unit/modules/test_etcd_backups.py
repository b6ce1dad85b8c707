# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that list, verify and prune backups, on a store in a directory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.lock import Lock
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import EtcdState
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.modules import (
    etcd_backup_info,
    etcd_backup_prune,
    etcd_backup_verify,
)
from doubles.backups import CLUSTER, NOW, put, verify, write_set

STATE = EtcdState(100, "3.5.21", 10, 348160)
OBJECTS = {"block/a": b"aaa", "block/b": b"bbbb", "tag/t": b"t"}
Run = Callable[..., Any]


def whole(root: Path, ago: dt.timedelta = dt.timedelta(hours=1), **objects: bytes) -> str:
    content = {**OBJECTS, **{f"block/{name}": data for name, data in objects.items()}}
    return write_set(DirectoryStore(root), NOW - ago, STATE, b"snapshot", content)


def test_info_lists_and_chooses(tmp_path: Path, run_module: Run) -> None:
    store = DirectoryStore(tmp_path)
    old, new = put(store, dt.timedelta(days=2)), put(store, dt.timedelta(hours=1))
    verify(store, old)
    result = run_module(etcd_backup_info.main, check_mode=True, store=str(tmp_path))
    assert not result.failed
    assert not result.changed
    assert result["cluster_id"] == CLUSTER
    assert [each["id"] for each in result["backups"]] == [new, old]
    assert result["backup"]["id"] == old
    assert result["table"][0].startswith("BACKUP")
    chosen = run_module(etcd_backup_info.main, store=str(tmp_path), cluster_id=CLUSTER, backup_id="latest")
    assert chosen["backup"]["id"] == new
    assert run_module(etcd_backup_info.main, store=str(tmp_path), backup_id="2020-01-01")["backup"] == {}


def test_the_cluster_has_to_be_named_where_there_are_several_or_none(tmp_path: Path, run_module: Run) -> None:
    nothing = run_module(etcd_backup_info.main, store=str(tmp_path))
    assert nothing.failed
    assert "the store has no backups" in nothing["msg"]
    for cluster in ("one", "two"):
        DirectoryStore(tmp_path).write(f"{cluster}/backups/20260304T110000Z-r1/running.json", [b"{}"])
    several = run_module(etcd_backup_info.main, store=str(tmp_path))
    assert "one, two" in several["msg"]
    assert not run_module(etcd_backup_info.main, store=str(tmp_path), cluster_id="two").failed
    assert "not the id of a cluster" in run_module(etcd_backup_info.main, store=str(tmp_path), cluster_id="../x")["msg"]
    assert run_module(etcd_backup_info.main, store="backups").failed


def test_verify_records_what_it_finds(tmp_path: Path, run_module: Run) -> None:
    backup_id = whole(tmp_path)
    options = {"store": str(tmp_path), "level": "digest"}
    planned = run_module(etcd_backup_verify.main, check_mode=True, **options)
    assert planned.changed
    assert not (tmp_path / CLUSTER / "verifications").exists()
    done = run_module(etcd_backup_verify.main, **options)
    assert not done.failed
    assert done.changed
    assert set(done) == set(planned)
    assert set(done["verification"]) == set(planned["verification"])
    assert done["verification"]["passed"]
    assert (tmp_path / done["record"]).is_file()
    again = run_module(etcd_backup_verify.main, max_age=3600, **options)
    assert not again.changed
    assert again["record"] == done["record"]
    assert run_module(
        etcd_backup_verify.main, max_age=3600, store=str(tmp_path), level="restore", check_mode=True
    ).changed
    (tmp_path / CLUSTER / "objects" / "block" / "b").write_bytes(b"bbbx")
    broken = run_module(etcd_backup_verify.main, **options)
    assert broken.failed
    assert f"backup {backup_id} is not to be restored" in broken["msg"]
    assert "block/b" in broken["msg"]
    assert run_module(etcd_backup_info.main, store=str(tmp_path), backup_id="latest")["backup"]["failed"]
    assert run_module(etcd_backup_verify.main, max_age=3600, **options).failed, "a failure is not taken for a pass"


def test_what_cannot_be_verified_is_not_recorded(tmp_path: Path, run_module: Run) -> None:
    whole(tmp_path)
    missing = run_module(etcd_backup_verify.main, store=str(tmp_path), etcd_program=str(tmp_path / "none"))
    assert missing.failed
    assert "etcd_program" in missing["msg"]
    unread = run_module(etcd_backup_verify.main, store=str(tmp_path), identity_files=[str(tmp_path / "none")])
    assert "cannot read an identity file" in unread["msg"]
    assert "there is no such backup" in run_module(etcd_backup_verify.main, store=str(tmp_path), backup_id="x")["msg"]
    assert not (tmp_path / CLUSTER / "verifications").exists()


def test_prune_in_check_mode_is_the_plan(tmp_path: Path, run_module: Run) -> None:
    store = DirectoryStore(tmp_path)
    old, new = whole(tmp_path, dt.timedelta(days=2), old=b"only the old one's"), whole(tmp_path)
    verify(store, new)
    before = sorted(each.key for each in store.list())
    options = {"store": str(tmp_path), "keep_last": 1, "lock": False}
    planned = run_module(etcd_backup_prune.main, check_mode=True, diff=True, **options)
    assert planned.changed
    assert sorted(each.key for each in store.list()) == before
    assert planned["plan"]["delete_objects"] == 1
    assert planned["diff"]["after"] == {"backups": [new]}
    assert any(line.startswith(f"delete  {old}") for line in planned["table"])
    done = run_module(etcd_backup_prune.main, diff=True, **options)
    assert done.changed
    assert set(planned) == set(done)
    assert done["plan"] == planned["plan"]
    assert done["deleted"] == 5
    assert done["freed"] == planned["plan"]["delete_size"]
    left = {each.key for each in store.list()}
    assert f"{CLUSTER}/objects/block/old" not in left
    assert {f"{CLUSTER}/objects/{name}" for name in OBJECTS} <= left
    again = run_module(etcd_backup_prune.main, **options)
    assert not again.changed
    assert run_module(etcd_backup_prune.main, **{**options, "keep_last": -1}).failed


def test_prune_holds_the_lock(tmp_path: Path, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(tmp_path)

    class Held:
        def __init__(self, _kube: object, namespace: str, operation: str, *, wait: float) -> None:
            self.why = f"{operation} in {namespace}, waited {wait:.0f}"

        def __enter__(self) -> None:
            raise BackupError("another operation holds the installation's lock", why=self.why)

        def __exit__(self, *_unused: object) -> None:
            pass

    monkeypatch.setattr(etcd_backup_prune, "connect", lambda _kubeconfig, _context: object())
    monkeypatch.setattr(etcd_backup_prune, "Lock", Held)
    result = run_module(etcd_backup_prune.main, store=str(tmp_path), keep_last=1, namespace="elsewhere", lock_wait=3)
    assert result.failed
    assert "prune in elsewhere, waited 3" in result["msg"]
    planned = run_module(etcd_backup_prune.main, check_mode=True, store=str(tmp_path), keep_last=1)
    assert not planned.failed, "a plan needs no lock"


def test_a_clock_moved_forward_prunes_nothing(tmp_path: Path, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    class Ahead(Lock):
        def __enter__(self) -> Lock:
            self.skew = 10 * 365 * 86400.0
            return self

        def __exit__(self, *_unused: object) -> None:
            pass

    monkeypatch.setattr(etcd_backup_prune, "connect", lambda _kubeconfig, _context: object())
    monkeypatch.setattr(etcd_backup_prune, "Lock", Ahead)
    result = run_module(etcd_backup_prune.main, store=str(tmp_path), max_age=30 * 86400)
    assert result.failed
    assert "ahead of the API server's" in result["msg"]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
