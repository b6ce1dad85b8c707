# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a backup set: what is written is read back, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import (
    Encryption,
    EtcdState,
    Manifest,
    ObjectTotals,
    SetFile,
    Source,
    dump,
    is_cluster_id,
    load,
    make_id,
    parse_id,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import KvHash

WHEN = datetime(2026, 1, 31, 23, 59, 59, tzinfo=timezone.utc)
FULL = Manifest(
    id="20260131T235959Z-r12",
    cluster_id="0123abc",
    started="2026-01-31T23:59:59Z",
    finished="2026-02-01T00:00:59Z",
    etcd=EtcdState(12, "3.5.21", 3, 4096, (KvHash(12, 7, 1), KvHash(12, 8, 2)), {"cluster-id": 1}),
    files=(SetFile("etcd.snapshot.zst.age", 1, "a" * 64, 2, "b" * 64),),
    objects=ObjectTotals(2, 10, {"block": 2}, 1, 5),
    source=Source("aws", "reversed", "pachyderm", "1.13.4", "d", "3"),
    encryption=Encryption("age1k", ("age1a", "age1b")),
    tools={"pachops.pachyderm": "0.1.0"},
)


def test_what_is_written_is_read_back() -> None:
    assert load(dump(FULL), "m") == FULL
    plain = Manifest(**{**FULL.__dict__, "encryption": None})
    assert load(dump(plain), "m") == plain


def remove(path: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        *parents, last = path.split(".")
        for each in parents:
            document = document[each]
        del document[last]

    return change


def put(path: str, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        *parents, last = path.split(".")
        for each in parents:
            document = document[int(each) if isinstance(document, list) else each]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (remove("etcd.revision"), "manifest.etcd.revision is not there"),
        (remove("files"), "manifest.files is not there"),
        (put("unheard_of", 1), "manifest.unheard_of is not a known field"),
        (put("etcd.revision", "12"), "manifest.etcd.revision is not a number"),
        (put("etcd.revision", True), "manifest.etcd.revision is not a number"),
        (put("etcd.revision", 1.5), "manifest.etcd.revision is not a number"),
        (put("files.0.sha256", None), r"manifest.files\[0\].sha256 is not a text"),
        (put("files", {}), "manifest.files is not a list"),
        (put("objects.trees", []), "manifest.objects.trees is not a map"),
        (put("encryption", "age1"), "manifest.encryption is not a map"),
        (put("id", "../../etc"), "not the id of a backup"),
        (put("id", "20261331T235959Z-r12"), "not the id of a backup"),
        (put("cluster_id", "../x"), "cluster id"),
        (put("schema", 0), "schema"),
    ],
)
def test_a_manifest_that_does_not_fit_is_damaged_and_says_where(change: Callable[[Any], None], why: str) -> None:
    document = json.loads(dump(FULL))
    change(document)
    with pytest.raises(BackupError, match=why) as caught:
        load(json.dumps(document).encode(), "set/manifest.json")
    assert "set/manifest.json" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff"])
def test_what_is_no_manifest_is_damaged(data: bytes) -> None:
    with pytest.raises(BackupError, match="damaged"):
        load(data, "m")


def test_a_change_of_any_byte_is_found() -> None:
    data = dump(FULL)
    for at in range(len(data)):
        for other in (b"", b"0", b"1", b" "):
            changed = data[:at] + other + data[at + 1 :]
            if changed != data:
                with pytest.raises(BackupError):
                    load(changed, "m")


def test_a_newer_schema_asks_for_an_upgrade() -> None:
    with pytest.raises(BackupError, match=r"schema 2.*Upgrade the collection"):
        load(b'{"schema": 2, "whatever": true}', "m")


def test_an_id_has_time_and_revision() -> None:
    assert make_id(WHEN, 12) == FULL.id
    assert make_id(WHEN.astimezone(timezone(timedelta(hours=5))), 12) == FULL.id
    assert parse_id(FULL.id) == (WHEN, 12)
    assert FULL.taken == WHEN
    for wrong in ("", "x", "20260131T235959Z-r0", "20260131T235959Z-r12/..", "20260131T235959-r12"):
        with pytest.raises(BackupError, match="not the id"):
            parse_id(wrong)


def test_a_file_is_found_encrypted_or_not() -> None:
    assert FULL.file("etcd.snapshot.zst").name == "etcd.snapshot.zst.age"
    with pytest.raises(BackupError, match=r"cluster\.yaml"):
        FULL.file("cluster.yaml.zst")


@pytest.mark.parametrize(
    ("name", "valid"), [("0123abc", True), ("..", False), (".x", False), ("a/b", False), ("", False)]
)
def test_a_cluster_id_is_never_a_path(name: str, valid: bool) -> None:
    assert is_cluster_id(name) is valid
