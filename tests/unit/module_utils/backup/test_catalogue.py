# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store holds for a cluster: backups, what crashes left, what cannot be read, and what verifications said."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import (
    LEVELS,
    Backup,
    Verification,
    read_catalogue,
    record_key,
    record_keys,
    table,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from doubles.backups import CLUSTER, NOW, manifest, put, verify

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_nothing_is_an_empty_catalogue(store: DirectoryStore) -> None:
    catalogue = read_catalogue(store, CLUSTER)
    assert catalogue.backups == ()
    assert catalogue.latest is None
    assert table(catalogue) == [f"No backup of cluster {CLUSTER}."]
    with pytest.raises(BackupError, match="there are 0 backups"):
        catalogue.find("latest")
    with pytest.raises(BackupError, match="not the id of a cluster"):
        read_catalogue(store, "../other")


def test_backups_are_found_by_name_time_and_state(store: DirectoryStore) -> None:
    old, middle, new = (put(store, HOUR * number, 100 - number) for number in (50, 10, 1))
    put(store, HOUR * 5, 7777, complete=False)
    verify(store, middle)
    catalogue = read_catalogue(store, CLUSTER)
    assert [each.id for each in catalogue.backups] == [new, middle, old]
    assert catalogue.find("latest").id == new
    assert catalogue.find("latest-verified").id == middle
    assert catalogue.find(old).id == old
    assert catalogue.find("2026-03-04T02:00:00Z").id == middle
    assert catalogue.find("2026-03-04T01:59:59+00:00").id == old
    assert catalogue.find("2026-03-02").id == old
    assert catalogue.find("2026-03-04").id == new
    with pytest.raises(BackupError, match="there are 3 backups, 1 of them verified, the newest is"):
        catalogue.find("2026-03-01")
    with pytest.raises(BackupError, match="no manifest, so it was cut off"):
        catalogue.find(catalogue.leftovers[0].backup_id)
    shown = catalogue.find("latest-verified").as_dict()
    assert shown["verified"]
    assert shown["level"] == "restore"
    assert shown["stored_size"] > 9
    assert json.dumps(shown), "plain data"


def test_damage_is_reported_and_ends_nothing(store: DirectoryStore) -> None:
    good = put(store, HOUR)
    broken = put(store, HOUR * 2)
    moved = put(store, HOUR * 3)
    prefix = f"{CLUSTER}/backups"
    store.write(f"{prefix}/{broken}/manifest.json", [b"{"])
    store.write(
        f"{prefix}/{moved}/manifest.json", b"".join(store.read(f"{prefix}/{good}/manifest.json")).splitlines(True)
    )
    store.write(f"{prefix}/notes.txt", [b"mine"])
    store.write(f"{prefix}/{good}/notes.txt", [b"mine"])
    store.write(f"{CLUSTER}/verifications/{good}/20260304T120000Z-deep.json", [b"[]"])
    store.write(f"{CLUSTER}/verifications/{good}/readme", [b"mine"])
    catalogue = read_catalogue(store, CLUSTER)
    assert [each.id for each in catalogue.backups] == [good]
    assert set(catalogue.unreadable) == {broken, moved}
    assert "no JSON" in catalogue.unreadable[broken]
    assert good in catalogue.unreadable[moved]
    assert [each.key for each in catalogue.troubles] == [f"{CLUSTER}/verifications/{good}/20260304T120000Z-deep.json"]
    assert catalogue.foreign == (f"{prefix}/{good}/notes.txt", f"{prefix}/notes.txt")
    assert not catalogue.backups[0].verified
    with pytest.raises(BackupError, match="no JSON"):
        catalogue.find(broken)
    lines = table(catalogue)
    assert lines[1].startswith(good)
    assert sum(line.startswith("✗") for line in lines) == 2
    assert any("2 keys are not of this collection" in line for line in lines)


def test_a_record_is_written_once_and_read_back(store: DirectoryStore) -> None:
    backup_id = put(store, HOUR)
    first = verify(store, backup_id, "deep")
    second = verify(store, backup_id, "deep", passed=False)
    assert second.time == first.time + dt.timedelta(seconds=1)
    assert record_key(CLUSTER, first).endswith(f"verifications/{backup_id}/20260304T120000Z-deep.json")
    backup = read_catalogue(store, CLUSTER).backups[0]
    assert backup.verifications == (second, first)
    keys = {each.key for each in record_keys(store, CLUSTER, backup_id)}
    assert keys == {record_key(CLUSTER, first), record_key(CLUSTER, second)}


@pytest.mark.parametrize(
    ("history", "level", "failed"),
    [
        ([], "", False),
        ([("digest", True)], "digest", False),
        ([("restore", True)], "restore", False),
        ([("deep", True), ("digest", True)], "deep", False),
        ([("restore", True), ("restore", False)], "digest", True),
        ([("restore", False), ("digest", True)], "digest", True),
        ([("restore", False), ("restore", True)], "restore", False),
        ([("restore", False), ("deep", True)], "deep", False),
        ([("deep", True), ("digest", False)], "", True),
        ([("digest", False), ("deep", False), ("deep", True)], "deep", False),
    ],
)
def test_a_failure_is_undone_only_by_as_deep_a_pass(history: list[tuple[str, bool]], level: str, failed: bool) -> None:
    backup = _backup(history)
    assert (backup.level, backup.failed) == (level, failed)
    assert backup.verified == (not failed and level in ("restore", "deep"))


def _backup(history: list[tuple[str, bool]]) -> Backup:
    made = manifest("20260304T110000Z-r100")
    records = [
        Verification(made.id, level, NOW + dt.timedelta(seconds=number), passed)
        for number, (level, passed) in enumerate(history)
    ]
    return Backup(made, (), tuple(reversed(records)))


def test_whatever_came_before_a_failure_at_the_end_is_failed_and_a_deep_pass_at_the_end_is_verified() -> None:
    outcomes = [(level, passed) for level in LEVELS for passed in (True, False)]
    for history in itertools.chain.from_iterable(itertools.product(outcomes, repeat=length) for length in range(4)):
        assert _backup([*history, ("deep", True)]).verified
        for level in LEVELS:
            assert _backup([*history, (level, False)]).failed


def test_the_table_says_why_a_backup_failed(store: DirectoryStore) -> None:
    put(store, HOUR * 2)
    bad = put(store, HOUR)
    verify(store, bad, "digest", passed=False)
    lines = table(read_catalogue(store, CLUSTER))
    assert lines[0].split() == ["BACKUP", "KEYS", "OBJECTS", "VERIFIED"]
    assert lines[1].endswith("FAILED digest 2026-03-04T12:00:00Z: the snapshot is damaged")
    assert lines[2].endswith("no")
