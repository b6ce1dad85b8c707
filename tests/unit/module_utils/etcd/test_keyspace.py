# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd's keys out of a snapshot file: revisions, deletions, damage; and the same as a real etcd says of itself."""

from __future__ import annotations

import io
import random
import subprocess
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.bolt import DamagedFile
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Delete, EtcdClient, KeyValue, Put
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.keyspace import LiveKeyspace, Snapshot
from doubles import bolt as double
from doubles import etcd as real

RANDOM = random.Random(5)
CHANGES = {
    double.revision(2): double.change(b"a", b"1", 2, 2),
    double.revision(3): double.change(b"b", b"", 3, 3, lease=-7),
    double.revision(4): double.change(b"a", b"2", 2, 4, 2),
    double.revision(4, 1): double.change(b"long" * 50, b"3" * 70000, 4, 4, lease=0x694DA203170B020B),
    double.revision(5, 0, tombstone=True): double.change(b"b", b"", 0, 0, 0),
    double.revision(6): double.change(b"b", b"again", 6, 6),
    double.revision(7, 0, tombstone=True): double.change(b"a", b"", 0, 0, 0),
}


def file(changes: dict[bytes, bytes], meta: dict[bytes, bytes] | None = None) -> io.BytesIO:
    return io.BytesIO(double.snapshot(double.database({b"key": changes, b"meta": meta or {}}, per_page=3)))


def test_the_newest_revision_is_what_is_read() -> None:
    with Snapshot(file(CHANGES)) as snapshot:
        assert (snapshot.revision, snapshot.newest, snapshot.compacted, snapshot.changes) == (7, 7, 0, 7)
        assert len(snapshot) == 2
        assert snapshot.get(b"a") is None
        assert snapshot.get(b"b") == KeyValue(b"b", b"again", 6, 6, 1, 0)
        assert [each.key for each in snapshot.range()] == [b"b", b"long" * 50]
        assert [each.key for each in snapshot.range(b"lo")] == [b"long" * 50]
        assert list(snapshot.range(b"c")) == []
        assert [each.key for each in snapshot.newest_first()] == [b"b", b"long" * 50]


def test_older_revisions_are_read() -> None:
    states = {
        1: {},
        2: {b"a": b"1"},
        3: {b"a": b"1", b"b": b""},
        4: {b"a": b"2", b"b": b"", b"long" * 50: b"3" * 70000},
        5: {b"a": b"2", b"long" * 50: b"3" * 70000},
        6: {b"a": b"2", b"b": b"again", b"long" * 50: b"3" * 70000},
    }
    for revision, wanted in states.items():
        with Snapshot(file(CHANGES), revision) as snapshot:
            assert {each.key: each.value for each in snapshot.range()} == wanted
            assert (snapshot.revision, snapshot.newest) == (revision, 7)
    with Snapshot(file(CHANGES), 4) as snapshot:
        assert snapshot.get(b"b") == KeyValue(b"b", b"", 3, 3, 1, -7)
        found = snapshot.get(b"long" * 50)
        assert found
        assert found.lease == 0x694DA203170B020B


def test_compaction_bounds_what_can_be_read() -> None:
    meta = {b"finishedCompactRev": double.revision(4), b"scheduledCompactRev": double.revision(9)}
    with Snapshot(file(CHANGES, meta)) as snapshot:
        # Everything up to 9 was thrown away, or is about to be: etcd goes on counting from there.
        assert (snapshot.compacted, snapshot.newest) == (4, 9)
    for revision in (3, 10):
        with pytest.raises(EtcdError, match="it holds revisions 4 to 9"):
            Snapshot(file(CHANGES, meta), revision)


def test_an_empty_etcd_is_at_revision_1() -> None:
    with Snapshot(file({})) as snapshot:
        assert (snapshot.revision, list(snapshot.range())) == (1, [])


def test_the_digest_at_the_end_is_compared() -> None:
    whole = file(CHANGES).getvalue()
    with Snapshot(io.BytesIO(whole)) as snapshot:
        assert snapshot.has_digest
        assert snapshot.check() == whole[-32:].hex()
    damaged = bytearray(whole)
    damaged[whole.index(b"again")] ^= 1
    with pytest.raises(DamagedFile, match=r"the snapshot is damaged .*its SHA-256 is .*Take another copy"):
        Snapshot(io.BytesIO(bytes(damaged)))
    with Snapshot(io.BytesIO(bytes(damaged)), check=False) as snapshot:
        found = snapshot.get(b"b")
        assert found
        assert found.value == b"`gain"
        with pytest.raises(DamagedFile, match="is damaged"):
            snapshot.check()


def test_a_members_own_file_has_no_digest() -> None:
    with Snapshot(io.BytesIO(file(CHANGES).getvalue()[:-32])) as snapshot:
        assert not snapshot.has_digest
        assert len(snapshot) == 2
        with pytest.raises(DamagedFile, match="no SHA-256 at its end"):
            snapshot.check()


def test_every_flipped_byte_and_every_cut_is_noticed() -> None:
    whole = file(CHANGES).getvalue()
    for at in [*range(200), *RANDOM.sample(range(len(whole)), 300), *range(len(whole) - 40, len(whole))]:
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        with pytest.raises(DamagedFile):
            Snapshot(io.BytesIO(bytes(damaged)))
    for end in [*RANDOM.sample(range(len(whole)), 100), len(whole) - 1, len(whole) - 31]:
        with pytest.raises(DamagedFile):
            Snapshot(io.BytesIO(whole[:end]))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        (b"short", b"", "no revision"),
        (double.revision(9) + b"x", b"", "no revision"),
        (double.revision(9).replace(b"_", b"-"), b"", "no revision"),
        (double.revision(9), b"\x0a\xff\x01a", "cut short"),
        (double.revision(9), b"\xff" * 11, "more than ten bytes"),
        (double.revision(9), b"\x0b\x01", "not a KeyValue"),
        (double.revision(9), b"\x10", "not a KeyValue"),
    ],
)
def test_damaged_changes_are_named(name: bytes, value: bytes, why: str) -> None:
    with pytest.raises(DamagedFile, match=why):
        Snapshot(file({**CHANGES, name: value}))


def test_what_is_no_etcd_database_is_said_to_be_none() -> None:
    with pytest.raises(DamagedFile, match="no bucket named key"):
        Snapshot(io.BytesIO(double.snapshot(double.database({b"other": {}}))))


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(file(CHANGES).getvalue())
    with Snapshot(path) as snapshot:
        data = path.read_bytes()
        path.write_bytes(data.replace(b"\x0a\x01b", b"\x0a\x01c"))
        with pytest.raises(DamagedFile, match="changed while it was read"):
            snapshot.get(b"b")


def some_writes(client: EtcdClient, count: int) -> None:
    """Write as Pachyderm does: transactions of many keys, rewritten and deleted keys, leases, binary keys."""
    lease = client.lease_grant(3600)
    keys = [b"k/%d" % number for number in range(60)] + [RANDOM.randbytes(30) for _unused in range(20)]
    for _unused in range(count):
        chosen = RANDOM.sample(keys, RANDOM.randint(1, 12))
        operations = [
            Delete(key)
            if RANDOM.random() < 0.2
            else Put(key, RANDOM.randbytes(RANDOM.choice((0, 5, 300, 9000))), lease if RANDOM.random() < 0.1 else 0)
            for key in chosen
        ]
        assert client.txn([], operations)


def save(address: str, path: Path) -> Path:
    """Save a snapshot by etcd's own tool."""
    command = [str(real.program().with_name("etcdctl")), "--endpoints", address, "snapshot", "save", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_a_real_etcd_says_the_same_of_every_revision(tmp_path: Path) -> None:
    with real.running(tmp_path / "etcd") as address, EtcdClient(address) as client:
        some_writes(client, 150)
        client.compact(60, physical=True)
        some_writes(client, 100)
        path = save(address, tmp_path / "snapshot")
        newest = client.status().revision
        with Snapshot(path) as snapshot:
            assert snapshot.has_digest
            assert (snapshot.revision, snapshot.compacted) == (newest, 60)
            assert snapshot.changes > len(snapshot)
        for revision in [60, 61, newest, *RANDOM.sample(range(62, newest), 30)]:
            live = LiveKeyspace(client, revision)
            with Snapshot(path, revision, check=False) as snapshot:
                assert list(snapshot.range()) == list(live.range())
                assert list(snapshot.range(b"k/1")) == list(live.range(b"k/1"))
                newest_first = [each.create_revision for each in snapshot.newest_first()]
                assert newest_first == sorted(newest_first, reverse=True)
                assert newest_first == [each.create_revision for each in live.newest_first()]
                for key in [b"k/%d" % number for number in range(60)]:
                    assert snapshot.get(key) == live.get(key)
        assert LiveKeyspace(client).revision == newest


def test_a_members_own_file_and_a_defragmented_one_are_read(tmp_path: Path) -> None:
    with real.running(tmp_path / "etcd") as address, EtcdClient(address) as client:
        some_writes(client, 80)
        client.defragment()
        wanted = list(client.range(b""))
        path = save(address, tmp_path / "snapshot")
    for source in (path, tmp_path / "etcd" / "member" / "snap" / "db"):
        with Snapshot(source) as snapshot:
            assert list(snapshot.range()) == wanted
