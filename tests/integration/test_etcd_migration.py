# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata's way from one real etcd into another."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, MigrationError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd import migration as engine
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Delete, EtcdClient, KeyValue, Put
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import (
    JOURNAL,
    KeyMigration,
    digest,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.durable import Kind
from doubles.etcd import running, server_of
from doubles.mortal import Killed
from doubles.proxy import proxied

PFS, PPS, AUTH = (b"pachyderm/1.7.0/pachyderm_" + part for part in (b"pfs/", b"pps/", b"auth/"))


@pytest.fixture(scope="module")
def etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EtcdClient, EtcdClient]]:
    with contextlib.ExitStack() as stack:
        yield tuple(  # type: ignore[misc]  # there are two
            stack.enter_context(
                EtcdClient(stack.enter_context(running(tmp_path_factory.mktemp(name), "--max-txn-ops", "10000")), 10)
            )
            for name in ("source", "target")
        )


@pytest.fixture
def source(etcds: tuple[EtcdClient, EtcdClient]) -> EtcdClient:
    """An etcd with a small installation in it."""
    etcds[0].delete(b"\0", b"\0")
    fill(etcds[0])
    return etcds[0]


@pytest.fixture
def target(etcds: tuple[EtcdClient, EtcdClient]) -> EtcdClient:
    """An empty etcd."""
    etcds[1].delete(b"\0", b"\0")
    return etcds[1]


def fill(etcd: EtcdClient, jobs: int = 300, seed: int = 7) -> None:
    """Write what pachd writes, in its pattern: transactions over several collections, old keys modified."""
    chance = random.Random(seed)
    etcd.put(b"cluster-id", b"c" * 32)
    etcd.put(b"master_token", b"\n\x20token")
    etcd.put(b"gc-generation", b"3")
    etcd.put(b"somebody/else", b"none of ours")
    lease = etcd.lease_grant(500)
    etcd.put(PPS + b"_master_lock/1", b"", lease)
    etcd.put(PPS + b"workers/rc/10.0.0.1", b"", lease)
    etcd.put(PPS + b"task/pipeline-a/v1/x", b"no lease")
    etcd.put(AUTH + b"tokens/robot", b"for ever")
    etcd.put(AUTH + b"tokens/user", b"for a while", lease)
    etcd.put(AUTH + b"auth-codes/code", b"soon over", lease)
    for number in range(jobs):
        name = b"%032x" % chance.getrandbits(128)
        repo = b"repo%d" % chance.randrange(4)
        operations: list[Put | Delete] = [
            Put(PFS + b"commits/%b/%b" % (repo, name), b"open"),
            Put(PFS + b"commits/%b__index_Provenance/\n\x06\n\x04%b\xff\x00/%b" % (repo, repo, name), name),
            Put(PPS + b"jobs/%b" % name, b"running"),
            Put(PPS + b"jobs__index_Pipeline/\n\x01%b/%b" % (repo, name), name),
            Put(PFS + b"branches/%b/master" % repo, name),
        ]
        if number % 10 == 0:  # commits of one transaction
            operations.append(Put(PFS + b"commits/%b/%b" % (repo, name[::-1]), b"same revision"))
        etcd.txn([], operations)
        if number % 3 == 0:
            etcd.put(PFS + b"putFileRecords/repo0/open/%d" % chance.randrange(20), b"record %d" % number)
        if number % 4:
            etcd.put(PPS + b"jobs/%b" % name, b"success")


def ordered(etcd: EtcdClient, prefix: bytes, target: int) -> list[bytes]:
    """Return what etcd itself lists under ``prefix``: ascending by create (2) or modification revision (3)."""
    arguments = {"key": prefix, "range_end": prefix[:-1] + bytes([prefix[-1] + 1])}
    answer = etcd._call("KV", "Range", "RangeRequest", "RangeResponse", sort_order=1, sort_target=target, **arguments)
    return [each.key for each in answer.kvs]


def state(etcd: EtcdClient) -> dict[bytes, bytes]:
    """Return all keys of the state."""
    return {each.key: each.value for each in etcd.range(b"") if engine._copied(each)}


def moved(source: EtcdClient, target: EtcdClient) -> None:
    """Copy what there is, and end the migration."""
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    migration.verify()
    migration.close()


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_state_is_copied_and_nothing_else(source: EtcdClient, target: EtcdClient) -> None:
    before = source.status().revision
    moved(source, target)
    assert state(target) == state(source)
    held = {each.key for each in target.range(b"")}
    assert {b"cluster-id", b"master_token", b"gc-generation", AUTH + b"tokens/robot", AUTH + b"tokens/user"} <= held
    assert not any(part in key for key in held for part in (b"lock", b"workers", b"task", b"auth-codes", b"somebody"))
    assert JOURNAL not in held
    assert source.status().revision == before


def test_logins_keep_their_time(source: EtcdClient, target: EtcdClient) -> None:
    moved(source, target)
    found = target.get(AUTH + b"tokens/user")
    assert found is not None
    assert found.lease
    assert 400 < target.lease_remaining(found.lease) <= 560
    robot = target.get(AUTH + b"tokens/robot")
    assert robot is not None
    assert not robot.lease


def test_etcd_lists_both_in_the_same_order(source: EtcdClient, target: EtcdClient) -> None:
    moved(source, target)
    for prefix in (PPS + b"jobs/", PFS + b"commits/repo1/", PPS + b"jobs__index_Pipeline/\n\x01repo2/"):
        assert ordered(source, prefix, 2) == ordered(target, prefix, 2)
    for prefix in (PFS + b"putFileRecords/repo0/open/", PFS + b"branches/repo0/"):
        assert ordered(source, prefix, 3) == ordered(target, prefix, 3)


def test_what_came_at_once_comes_at_once(source: EtcdClient, target: EtcdClient) -> None:
    """Commits of one revision are put by pachd into an order of their own, so two revisions must not become one."""
    moved(source, target)

    def groups(etcd: EtcdClient) -> list[set[bytes]]:
        found: dict[int, set[bytes]] = {}
        for each in etcd.range(PFS + b"commits/repo0/"):
            found.setdefault(each.create_revision, set()).add(each.key)
        return [found[revision] for revision in sorted(found)]

    assert groups(source) == groups(target)
    assert any(len(each) == 2 for each in groups(source))


def test_keys_of_different_lists_share_transactions(source: EtcdClient, target: EtcdClient) -> None:
    before = target.status().revision
    moved(source, target)
    # 300 jobs are the longest list; every job came with five keys more.
    assert 300 <= target.status().revision - before < 320


def test_digest_sees_value_order_and_simultaneity(source: EtcdClient, target: EtcdClient) -> None:
    def of(*transactions: list[Put | Delete]) -> str:
        target.delete(b"\0", b"\0")
        for each in transactions:
            target.txn([], each)
        return digest(target).sha256

    one, two = Put(PFS + b"commits/r/a", b"1"), Put(PFS + b"commits/r/b", b"2")
    seen = {of([one], [two]), of([two], [one]), of([one, two]), of([one], [Put(two.key, b"3")]), of([one])}
    assert len(seen) == 5
    assert of([Put(PFS + b"x", b"")], [one], [two]) != of([one], [two])
    assert of([one], [Put(b"foreign", b"")], [two], [Put(PPS + b"task/t", b"")]) == of([one], [two])
    # A commit that was modified is listed where it was made; a record of a put file where it was last written.
    assert of([one], [two], [one]) == of([one], [two])
    first, second = Put(PFS + b"putFileRecords/r/c/a", b"1"), Put(PFS + b"putFileRecords/r/c/b/c", b"2")
    assert of([first], [second], [first]) == of([second], [first])
    assert of([first], [second], [first]) != of([first], [second])


def test_follows_changes_deletions_and_transactions(source: EtcdClient, target: EtcdClient) -> None:
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    with migration.following() as follower:
        fill(source, 100, seed=8)
        gone = next(iter(source.range(PPS + b"jobs/"))).key
        source.txn([], [Delete(gone), Put(PFS + b"repos/new", b"repo")])
        source.delete(AUTH + b"tokens/user")
        eventually(lambda: follower.lag().revisions == 0)
        assert follower.lag().seconds < 5
        assert target.get(gone) is None
        assert target.get(AUTH + b"tokens/user") is None
    assert migration.verify().keys == len(state(source))
    migration.close()


def test_a_member_that_lags_is_not_believed(
    source: EtcdClient, target: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three members, pachd's last writes need to have reached only two when it ends."""
    migration = KeyMigration(source, target)
    migration.begin()
    seen, status = migration.copy(), EtcdClient.status
    monkeypatch.setattr(EtcdClient, "status", lambda self: replace(status(self), revision=seen))
    source.put(PFS + b"repos/late", b"repo")
    assert migration.copy() > seen
    assert target.get(PFS + b"repos/late") is not None
    with migration.following() as follower:
        source.put(PFS + b"repos/last", b"repo")
        assert follower.drain(20)
    assert target.get(PFS + b"repos/last") is not None
    source.put(PFS + b"repos/sneaked", b"repo")
    with pytest.raises(MigrationError, match="differs"):
        migration.verify()


def test_a_revision_is_never_seen_in_part(source: EtcdClient, target: EtcdClient) -> None:
    """The two keys of a transaction have one value, whenever the target is looked at."""
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    pair = (PFS + b"repos/a", PPS + b"pipelines/a")
    with migration.following() as follower:
        for number in range(200):
            source.txn([], [Put(key, b"%d" % number) for key in pair])
            if number % 10 == 0 and (revision := target.status().revision):
                found = [target.get(key, revision) for key in pair]
                assert len({each.value if each else b"" for each in found}) == 1
        eventually(lambda: follower.lag().revisions == 0)
    migration.verify()


def test_large_transactions_come_in_fragments(source: EtcdClient, target: EtcdClient) -> None:
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    keys = [PFS + b"repos/%d" % number for number in range(8)]
    revision = source.status().revision + 1
    source.txn([], [Put(key, bytes(150_000)) for key in keys])
    source.txn([], [Put(key, bytes(160_000)) for key in keys])
    pieces = []
    for events in source.watch(b"", revision):
        pieces += [{each.kv.mod_revision for each in events}]
        assert len(events) % len(keys) == 0
        if revision + 1 in pieces[-1]:
            break
    with migration.following() as follower:
        eventually(lambda: follower.lag().revisions == 0)
    migration.verify()


def test_the_source_compacts_what_comes_next(source: EtcdClient, target: EtcdClient) -> None:
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    again = next(iter(source.range(PPS + b"jobs/"))).key
    source.delete(again)
    fill(source, 50, seed=9)
    source.put(again, b"made anew, so the newest now")
    source.delete(PFS + b"branches/repo1/master")
    source.compact(source.status().revision)
    source.put(PFS + b"repos/after", b"")
    with migration.following() as follower:
        eventually(lambda: follower.lag().revisions == 0)
    migration.verify()
    assert ordered(target, PPS + b"jobs/", 2)[-1] == again


def test_the_source_compacts_while_it_is_listed(
    source: EtcdClient, target: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted = []
    plain = source.range

    def ranged(prefix: bytes, revision: int = 0, since: int = 0, **options: bool) -> Iterator[KeyValue]:
        if not compacted:
            source.put(PFS + b"repos/late", b"")
            source.compact(source.status().revision)
            compacted.append(True)
        return plain(prefix, revision, since, **options)

    migration = KeyMigration(source, target)
    migration.begin()
    monkeypatch.setattr(source, "range", ranged)
    migration.copy()
    assert target.get(PFS + b"repos/late")
    migration.verify()


def test_connections_break_on_both_sides(source: EtcdClient, target: EtcdClient) -> None:
    with (
        proxied(source.endpoint) as near,
        proxied(target.endpoint) as far,
        EtcdClient(near.address, 3) as broken,
        EtcdClient(far.address, 3) as lossy,
    ):
        migration = KeyMigration(broken, lossy)
        migration.begin()
        far.there = 30_000
        migration.copy()
        assert far.cuts == 1
        with migration.following() as follower:
            for number in range(3):
                fill(source, 30, seed=20 + number)
                near.cut()
                fill(source, 30, seed=30 + number)
                far.cut()
            eventually(lambda: _lag(follower) == 0)
        migration.copy()
        migration.verify()


def _lag(follower: engine.Follower) -> int:
    try:
        return follower.lag().revisions
    except EtcdError:
        follower.check()  # only the question was lost
        return 1


def test_an_etcd_that_stays_away_is_an_error(source: EtcdClient, target: EtcdClient) -> None:
    with proxied(target.endpoint) as far, EtcdClient(far.address, 2) as lossy:
        migration = KeyMigration(source, lossy, patience=1.0)
        migration.begin()
        far.close()
        with pytest.raises(EtcdError, match="cannot reach etcd"):
            migration.copy()


@pytest.mark.parametrize("step", range(0, 330, 47))
def test_a_run_that_was_killed_is_continued_or_undone(
    source: EtcdClient, target: EtcdClient, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    plain = target.begin_step

    def dying(*arguments: object) -> Callable[[], bool]:
        sent.append(1)
        if len(sent) > step + 1:
            raise Killed
        return plain(*arguments)  # type: ignore[arg-type]

    migration = KeyMigration(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(target, "begin_step", dying)
        with pytest.raises(Killed):
            migration.begin()
            migration.copy()
            fill(source, 20, seed=step)
            migration.copy()
            raise Killed
    fill(source, 5, seed=step + 1)
    second = KeyMigration(source, target)
    second.begin()
    second.copy()
    second.verify()
    second.undo()
    assert state(target) == {}
    assert target.get(JOURNAL) is None


def test_a_target_that_holds_something_is_refused(source: EtcdClient, target: EtcdClient) -> None:
    target.put(PFS + b"repos/mine", b"")
    with pytest.raises(MigrationError, match="not empty"):
        KeyMigration(source, target).begin()
    with pytest.raises(MigrationError, match="no migration is under way"):
        KeyMigration(source, target).undo()
    assert list(state(target)) == [PFS + b"repos/mine"]


def test_locks_of_a_fresh_target_are_no_hindrance(source: EtcdClient, target: EtcdClient) -> None:
    target.put(PPS + b"_master_lock/7", b"", target.lease_grant(100))
    moved(source, target)


def test_a_source_without_pachyderm_is_refused(source: EtcdClient, target: EtcdClient) -> None:
    source.delete(b"cluster-id")
    with pytest.raises(MigrationError, match="no Pachyderm"):
        KeyMigration(source, target).begin()
    assert target.get(JOURNAL) is None


def test_another_installation_is_not_mixed_in(source: EtcdClient, target: EtcdClient) -> None:
    KeyMigration(source, target).begin()
    source.put(b"cluster-id", b"another")
    with pytest.raises(MigrationError, match="another installation"):
        KeyMigration(source, target).begin()


def test_two_at_once_find_out(source: EtcdClient, target: EtcdClient) -> None:
    first, second = (KeyMigration(source, target) for _unused in range(2))
    first.begin()
    first.copy()
    second.begin()
    with pytest.raises(MigrationError, match="another migration"):
        first.copy()
    second.copy()
    second.verify()
    with pytest.raises(MigrationError, match="another migration"):
        first.close()
    second.close()


def test_a_difference_is_found(source: EtcdClient, target: EtcdClient) -> None:
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    target.put(PFS + b"commits/repo0/x", b"")
    with pytest.raises(MigrationError, match="differs"):
        migration.verify()


def test_an_early_comparison_leaves_little_to_read(
    source: EtcdClient, target: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    with migration.following() as follower:
        migration.compare_early()
        held = [each.key for each in source.range(PPS + b"jobs/")]
        source.txn([], [Delete(held[0]), Put(PFS + b"repos/new", b"repo"), Put(held[1], b"changed")])
        source.delete(held[2])
        source.put(held[2], b"made anew")
        eventually(lambda: follower.lag().revisions == 0)
    read = []
    real = EtcdClient.range

    def counted(self: EtcdClient, *arguments: Any, **options: Any) -> Iterator[Any]:
        for each in real(self, *arguments, **options):
            read.append(bool(each.value))
            yield each

    monkeypatch.setattr(EtcdClient, "range", counted)
    found = migration.verify()
    assert sum(read) < 10 < len(read)
    assert found == migration.verify()
    assert found.keys == digest(source).keys
    assert found.sha256 != digest(source).sha256
    assert digest(source) == digest(target)


def made_anew(etcd: EtcdClient, key: bytes) -> None:
    found = etcd.get(key)
    assert found
    etcd.delete(key)
    etcd.put(key, found.value)


CHANGES: dict[str, Callable[[EtcdClient, list[bytes]], object]] = {
    "content": lambda etcd, keys: etcd.put(keys[0], b"other"),
    "gone": lambda etcd, keys: etcd.delete(keys[0]),
    "new": lambda etcd, _keys: etcd.put(PPS + b"jobs/new", b""),
    "one for another": lambda etcd, keys: (etcd.delete(keys[0]), etcd.put(keys[0] + b"x", b"")),
    "made anew": lambda etcd, keys: made_anew(etcd, keys[0]),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_difference_is_found_whenever_it_came(source: EtcdClient, target: EtcdClient, change: str, when: str) -> None:
    migration = KeyMigration(source, target)
    migration.begin()
    migration.copy()
    keys = [each.key for each in target.range(PPS + b"jobs/")]
    if when == "before":
        CHANGES[change](target, keys)
    migration.compare_early()
    if when == "after":
        CHANGES[change](target, keys)
    with pytest.raises(MigrationError, match="differs"):
        migration.verify()


def test_plan_counts_and_writes_nothing(source: EtcdClient, target: EtcdClient) -> None:
    before = target.status().revision
    plan = KeyMigration(source, target).plan()
    assert plan.keys == len(state(source))
    assert plan.size == sum(len(key) + len(value) for key, value in state(source).items())
    assert (plan.kinds[Kind.LOGIN], plan.kinds[Kind.STARTED_LOGIN], plan.kinds[Kind.PASSING]) == (1, 1, 3)
    assert list(plan.foreign) == [b"somebody/else"]
    assert target.status().revision == before


def test_requests_that_arrive_out_of_turn_are_sent_again(source: EtcdClient, target: EtcdClient) -> None:
    """No order is promised between calls; here every fourth one is held up."""
    plain, count = target.begin_step, [0]

    class Delayed(EtcdClient):
        def begin_step(self, *arguments: object) -> Callable[[], bool]:  # type: ignore[override]
            count[0] += 1
            if count[0] % 4:
                return plain(*arguments)  # type: ignore[arg-type]
            box: list[Callable[[], bool]] = []
            sender = threading.Timer(0.01, lambda: box.append(plain(*arguments)))  # type: ignore[arg-type]
            sender.start()

            def result() -> bool:
                sender.join()
                return box[0]()

            return result

    with Delayed(target.endpoint, 10) as delayed:
        migration = KeyMigration(source, delayed)
        migration.begin()
        migration.copy()
        migration.verify()
        assert count[0] > 300


@pytest.mark.parametrize(("old", "new"), [("etcd-3.3", ""), ("etcd-3.3", "etcd-3.6"), ("", "etcd-3.6")])
def test_between_versions_of_etcd(tmp_path: Path, old: str, new: str) -> None:
    with (
        running(tmp_path / "old", server=server_of(old) if old else "") as one,
        running(tmp_path / "new", server=server_of(new) if new else "") as two,
        EtcdClient(one, 10) as source,
        EtcdClient(two, 10) as target,
    ):
        fill(source, 30)
        migration = KeyMigration(source, target)
        migration.begin()
        migration.copy()
        with migration.following() as follower:
            fill(source, 10, seed=3)
            source.put(PFS + b"repos/large", bytes(1_000_000))
            eventually(lambda: follower.lag().revisions == 0)
        migration.verify()
        migration.close()
