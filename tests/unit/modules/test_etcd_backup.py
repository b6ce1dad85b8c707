# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module etcd_backup: options in, result out, nothing written in check mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import run as engine
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import backup_ids, open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.modules import etcd_backup
from doubles import locks
from doubles.etcd_memory import MemoryEtcd
from doubles.kube import FakeKube, installation, node

CLUSTER = "0123abc"


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return locks.noted(monkeypatch, engine)


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lock: list[str]) -> MemoryEtcd:
    """An installation in a cluster, whose objects are in ``tmp_path/objects``."""
    kube = FakeKube([node(), *installation("pachyderm")])
    made = MemoryEtcd(cluster_id=CLUSTER, other="x")

    @contextmanager
    def etcd_of(_kube: Any, _installation: Any, access: Any) -> Iterator[tuple[Any, str]]:
        yield made, access.transport

    monkeypatch.setattr(etcd_backup, "connect", lambda _kubeconfig, _context: kube)
    monkeypatch.setattr(engine, "etcd_of", etcd_of)
    objects = DirectoryStore(tmp_path / "objects")
    objects.write("block/a", [b"content"])
    objects.write("object/b", [b"record"])
    return made


@pytest.fixture
def back_up(etcd: MemoryEtcd, run_module: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def run(**options: Any) -> Any:
        defaults = {"store": str(tmp_path / "store"), "source_path": str(tmp_path / "objects")}
        return run_module(etcd_backup.main, **(defaults | options))

    return run


def test_a_backup_is_made_and_described(back_up: Callable[..., Any], lock: list[str], tmp_path: Path) -> None:
    result = back_up(lock_wait=5, transport="port_forward")
    assert result.changed
    store = DirectoryStore(tmp_path / "store")
    (backup_id,) = backup_ids(store, CLUSTER)
    assert result["backup"] == {
        "id": backup_id,
        "cluster_id": CLUSTER,
        "location": str(tmp_path / "store" / CLUSTER / "backups" / backup_id),
        "revision": 7,
        "key_count": 2,
        "objects": {"count": 2, "bytes": 13},
        "encrypted": False,
    }
    assert result["copied"] == {"count": 2, "bytes": 13}
    assert (result["foreign"], result["transport"]) == (0, "port_forward")
    assert lock == ["backup pachyderm 5", "checked", "released"]
    opened = open_set(store, CLUSTER, backup_id)
    assert opened.manifest.source.backend == "local"
    described = opened.cluster()
    assert described["namespace"] == "pachyderm"
    assert described["pachd"]["environment"]["STORAGE_BACKEND"] == "LOCAL"


def test_check_mode_has_the_same_keys_and_writes_nothing(
    back_up: Callable[..., Any], etcd: MemoryEtcd, lock: list[str], tmp_path: Path
) -> None:
    checked = back_up(check_mode=True, diff=True)
    assert checked.changed
    assert not (tmp_path / "store").exists()
    assert etcd.asked == lock == []
    assert checked["copied"] == {"count": 2, "bytes": 13}
    assert checked["diff"]["after"] == "new set, 2 objects of 13 bytes to copy\n"
    made = back_up(diff=True)
    assert set(checked) == set(made)
    assert set(checked["backup"]) == set(made["backup"])
    assert checked["copied"] == made["copied"]


def test_what_is_encrypted_needs_an_identity_only_for_other_recipients(
    back_up: Callable[..., Any], tmp_path: Path
) -> None:
    identities = [pyrage.x25519.Identity.generate() for _unused in range(2)]
    public = [str(each.to_public()) for each in identities]
    assert back_up(recipients=public[:1])["backup"]["encrypted"]
    refused = back_up(recipients=public)
    assert refused.failed
    assert "recipients of the encryption have changed" in refused["msg"]
    key = tmp_path / "identity"
    key.write_text(str(identities[0]))
    unreadable = back_up(recipients=public, identity_files=[str(tmp_path / "absent")])
    assert unreadable.failed
    assert "absent" in unreadable["msg"]
    import time

    time.sleep(1.1)  # ids have whole seconds
    result = back_up(recipients=public, identity_files=[str(key)])
    assert not result.failed, result["msg"]
    assert str(identities[0]) not in str(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "relative"}, "no absolute path"),
        ({"store": "s3://"}, "not a store's address"),
        ({"namespace": "elsewhere"}, "there is no Pachyderm to back up"),
        ({"source_path": "/nowhere/at/all"}, "the objects are not on this host"),
        ({"recipients": ["nonsense"]}, "not a public key"),
        ({"transport": "port_forward", "etcd": {"endpoint": "http://x:1"}}, "used directly"),
    ],
)
def test_wrong_options_say_what_to_do(
    back_up: Callable[..., Any], lock: list[str], options: dict[str, Any], message: str
) -> None:
    result = back_up(**options)
    assert result.failed
    assert message in result["msg"]
    assert {"what", "where", "why", "fix"} <= set(result)
    assert lock in ([], ["backup pachyderm 0", "released"], ["backup elsewhere 0", "released"])
