# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a prune deletes and what it must never touch."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import read_catalogue
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.prune import Plan, carry_out, make_plan, table
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.retention import Policy
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import ObjectLocked
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from doubles.backups import CLUSTER, NOW, put, verify

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


class LockingStore(DirectoryStore):
    """A directory that protects keys as object lock does; ``late`` ones only when they are deleted."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.locks: dict[str, dt.datetime] = {}
        self.late: set[str] = set()
        self.swept: list[tuple[str, dt.datetime]] = []

    def locked_until(self, key: str) -> dt.datetime | None:
        return self.locks.get(key)

    def delete(self, key: str) -> None:
        if key in self.late or self.locks.get(key, NOW) > NOW:
            raise ObjectLocked("the object is locked", where=key)
        super().delete(key)

    def sweep(self, prefix: str, before: dt.datetime) -> int:
        self.swept.append((prefix, before))
        return 0


@pytest.fixture
def store(tmp_path: Path) -> LockingStore:
    return LockingStore(tmp_path)


class Indexes(dict[str, list[str]]):
    """The objects that each backup needs."""

    def __call__(self, backup_id: str) -> Iterable[str]:
        return self.get(backup_id, [])


def objects(store: DirectoryStore, *names: str) -> None:
    for name in names:
        store.write(f"{CLUSTER}/objects/{name}", [b"content"])


def keys(store: DirectoryStore) -> set[str]:
    return {each.key.removeprefix(f"{CLUSTER}/") for each in store.list(f"{CLUSTER}/")}


def plan_of(store: DirectoryStore, indexes: Indexes, grace: dt.timedelta = DAY, **policy: int) -> Plan:
    return make_plan(store, CLUSTER, Policy(**policy), NOW, indexes, grace)


def test_a_backup_goes_with_its_records_and_what_only_it_needs(store: LockingStore) -> None:
    old, new = put(store, DAY * 3), put(store, HOUR)
    for each in (old, new):
        verify(store, each)
    objects(store, "block/shared", "block/old", "object/new", "tag/t.0123.age", "block/nobodys")
    indexes = Indexes({old: ["block/shared", "block/old"], new: ["block/shared", "object/new", "tag/t.0123.age"]})
    before = keys(store)
    plan = plan_of(store, indexes, last=1)
    assert keys(store) == before, "a plan changes nothing"
    assert [each.key.rpartition("/")[2] for each in plan.deletions][:1] == ["manifest.json"]
    outcome = carry_out(store, plan, NOW)
    assert keys(store) == {
        *(
            f"backups/{new}/{name}"
            for name in ("etcd.snapshot.zst", "objects.index.zst", "cluster.yaml.zst", "manifest.json")
        ),
        f"verifications/{new}/20260304T120000Z-restore.json",
        "objects/block/shared",
        "objects/object/new",
        "objects/tag/t.0123.age",
    }
    assert outcome.size == plan.size > 0
    assert len(outcome.deleted) == len(plan.deletions) == 7
    assert plan.as_dict()["delete_objects"] == 2
    assert plan.kept_objects == 3
    assert store.swept == [(f"{CLUSTER}/", NOW - DAY)]
    lines = table(plan)
    assert lines[0] == f"keep    {new}  the newest verified backup, last 1 of 1"
    assert lines[1] == f"delete  {old}  no rule keeps it"
    assert lines[2] == "delete  2 objects  14 B, no remaining backup names it"
    assert plan_of(store, indexes, last=1).deletions == (), "a second prune finds nothing to do"


def test_foreign_keys_and_secret_keys_are_never_touched(store: LockingStore) -> None:
    old = put(store, DAY * 3)
    verify(store, put(store, HOUR))
    mine = [
        f"{CLUSTER}/backups/{old}/notes.txt",
        f"{CLUSTER}/backups/readme",
        f"{CLUSTER}/objects/other/x",
        f"{CLUSTER}/verifications/{old}/notes",
        f"{CLUSTER}/verifications/elsewhere/20260304T120000Z-deep.json",
        f"{CLUSTER}/keys/age1xyz.age",
        f"{CLUSTER}/mine",
        "othercluster/backups/20200101T000000Z-r1/etcd.snapshot.zst",
        "pach/block/h",
    ]
    for key in mine:
        store.write(key, [b"mine"])
    plan = plan_of(store, Indexes(), last=1)
    carry_out(store, plan, NOW)
    assert {each.key for each in store.list()} >= set(mine)
    assert any("1 keys below" in note for note in plan.notes)


def test_what_a_crash_left_goes_after_its_time(store: LockingStore) -> None:
    verify(store, put(store, HOUR))
    stale, fresh = put(store, DAY * 2, 5, complete=False), put(store, HOUR * 2, 6, complete=False)
    objects(store, "block/halfway")
    plan = plan_of(store, Indexes())
    assert {each.backup_id for each in plan.deletions} == {stale}, "while one may be under way, no shared object goes"
    assert any(note.startswith(f"{fresh} has no manifest yet") for note in plan.notes)
    assert any("a backup may be under way" in note for note in plan.notes)
    assert f"delete  {stale}  9 B, a backup that was cut off: it has no manifest" in table(plan)
    carry_out(store, plan, NOW)
    later = plan_of(store, Indexes(), grace=HOUR)
    assert {each.backup_id for each in later.deletions} == {fresh, ""}


def test_a_prune_that_was_cut_off_is_finished_by_the_next(store: LockingStore) -> None:
    old = put(store, DAY * 3)
    verify(store, old)
    verify(store, put(store, HOUR))
    gone = put(store, DAY * 4, 9)
    verify(store, gone)
    for each in list(store.list(f"{CLUSTER}/backups/{gone}/")):
        store.delete(each.key)
    plan = plan_of(store, Indexes(), last=1)
    store.delete(plan.deletions[0].key)  # the manifest of the old one, and then the power went
    assert len(read_catalogue(store, CLUSTER).backups) == 1
    carry_out(store, plan_of(store, Indexes(), last=1), NOW)
    assert not [key for key in keys(store) if old in key or gone in key]


@pytest.mark.parametrize("what", ["manifest", "index"])
def test_while_anything_is_unreadable_no_shared_object_goes(store: LockingStore, what: str) -> None:
    good, bad = put(store, HOUR), put(store, HOUR * 2)
    objects(store, "block/x")
    indexes: Indexes = Indexes()
    if what == "manifest":
        store.write(f"{CLUSTER}/backups/{bad}/manifest.json", [b"{"])
    else:

        class Broken(Indexes):
            def __call__(self, backup_id: str) -> Iterable[str]:
                if backup_id == bad:
                    raise BackupError("the index is damaged")
                return []

        indexes = Broken()
    plan = plan_of(store, indexes, last=5)
    assert plan.deletions == ()
    assert plan.kept_objects == 1
    assert any("no shared object is deleted" in note and (bad in note or what == "manifest") for note in plan.notes)
    assert good


def test_a_locked_set_counts_as_kept(store: LockingStore) -> None:
    locked, free = put(store, DAY * 9), put(store, DAY * 8)
    verify(store, put(store, HOUR))
    objects(store, "block/locked", "block/unneeded", "block/free")
    prefix = f"{CLUSTER}/backups/{locked}"
    store.locks = {
        f"{prefix}/etcd.snapshot.zst": NOW + DAY,
        f"{prefix}/manifest.json": NOW - DAY,
        f"{CLUSTER}/objects/block/unneeded": dt.datetime.max,  # noqa: DTZ901 how a store says "while it is held"
    }
    plan = plan_of(store, Indexes({locked: ["block/locked"], free: ["block/free"]}), last=1)
    decisions = {each.backup_id: each for each in plan.decisions}
    assert decisions[locked].reasons == ("the store protects it until 2026-03-05T12:00:00Z",)
    assert not decisions[free].keep
    carry_out(store, plan, NOW)
    left = keys(store)
    assert f"backups/{locked}/etcd.snapshot.zst" in left
    assert "objects/block/locked" in left, "a kept backup keeps its objects"
    assert "objects/block/unneeded" in left
    assert "objects/block/free" not in left
    assert any("1 objects that no backup names stay" in note for note in plan.notes)


def test_a_lock_that_appears_between_plan_and_deed_keeps_the_whole_set(store: LockingStore) -> None:
    old = put(store, DAY * 3)
    verify(store, put(store, HOUR))
    objects(store, "block/x")
    plan = plan_of(store, Indexes(), last=1)
    store.late = {f"{CLUSTER}/backups/{old}/manifest.json", f"{CLUSTER}/objects/block/x"}
    outcome = carry_out(store, plan, NOW)
    assert outcome.deleted == ()
    assert len(outcome.refused) == 2
    assert len([key for key in keys(store) if old in key]) == 4


def test_an_old_leftover_that_is_locked_stays(store: LockingStore) -> None:
    stale = put(store, DAY * 2, complete=False)
    store.locks = {f"{CLUSTER}/backups/{stale}/objects.index.zst": NOW + DAY}
    plan = plan_of(store, Indexes())
    assert plan.deletions == ()
    assert any("the store protects it" in note for note in plan.notes)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happened_every_kept_backup_stays_whole(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = LockingStore(tmp_path)
    names = [f"{chance.choice(['block', 'object', 'tag', 'index'])}/{number}" for number in range(30)]
    objects(store, *names)
    indexes = Indexes()
    for number in range(chance.randrange(1, 9)):
        whole = chance.random() < 0.85
        ago = dt.timedelta(minutes=chance.randrange(0, 60 * 24 * 40))
        backup_id = put(store, ago, 1000 + number, complete=whole)
        indexes[backup_id] = chance.sample(names, chance.randrange(0, 20))
        if whole and chance.random() < 0.7:
            verify(store, backup_id, chance.choice(["digest", "restore", "deep"]), passed=chance.random() < 0.8)
    for name in chance.sample(names, 4):
        store.locks[f"{CLUSTER}/objects/{name}"] = NOW + DAY
    verified = read_catalogue(store, CLUSTER).latest_verified
    policy = {name: chance.choice([0, 1, 2]) for name in ("last", "daily", "weekly")}
    plan = plan_of(store, indexes, **policy, **chance.choice([{}, {"max_age": 86400 * 10}]))
    before = keys(store)
    outcome = carry_out(store, plan, NOW)
    assert outcome.refused == ()
    after = keys(store)
    assert before - after == {each.key.removeprefix(f"{CLUSTER}/") for each in plan.deletions}
    catalogue = read_catalogue(store, CLUSTER)
    kept = {each.backup_id for each in plan.decisions if each.keep}
    assert {each.id for each in catalogue.backups} == kept
    for backup in catalogue.backups:
        assert {f"objects/{name}" for name in indexes[backup.id]} <= after
        assert len(backup.stored) == 4
    if verified:
        assert catalogue.latest_verified
        assert catalogue.latest_verified.id == verified.id
        assert catalogue.latest_verified.verifications == verified.verifications
    young = [each for each in catalogue.leftovers if each.time > NOW - DAY]
    assert set(catalogue.leftovers) == set(young)
    if not young:
        named = {f"objects/{name}" for backup_id in kept for name in indexes[backup_id]}
        locked = {key.removeprefix(f"{CLUSTER}/") for key in store.locks}
        assert {key for key in after if key.startswith("objects/")} == named | (locked & before)
    assert make_plan(store, CLUSTER, Policy(**policy), NOW, indexes).deletions == () or not policy
