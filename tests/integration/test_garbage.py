# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Garbage collection and space against the stand-in pachd, a real etcd, and directories and buckets."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import garbage, repos, space
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import Pachd
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.live import Live
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import Store
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.gcs import GcsStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import ROOT, Spelling, key_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.s3 import S3Options, S3Store
from doubles import locks
from doubles.applying import ApplyingKube
from doubles.buckets import Bucket, served, without_tokens
from doubles.kube import installation as objects_of
from doubles.processes import Installation


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return locks.noted(monkeypatch, garbage)


@pytest.fixture
def kube(lock: list[str]) -> Any:
    return ApplyingKube(objects_of("ns"))


@pytest.fixture
def pachd(root: Path, tmp_path: Path) -> Iterator[tuple[Pachd, Installation]]:
    processes = Installation(root, tmp_path)
    try:
        processes.start()
        with Pachd("127.0.0.1", processes.port) as connection:
            yield connection, processes
    finally:
        processes.stop()


@contextlib.contextmanager
def living(
    kube: Any, processes: Installation, store: Store | None = None, spelling: Spelling = Spelling.DIRECTORY
) -> Iterator[Live]:
    """Yield the installation with its directory, or with another store in its place."""
    with EtcdClient(f"127.0.0.1:{processes.etcd_port}") as etcd:
        where = store or DirectoryStore(processes.content)
        yield Live(observe(kube, "ns"), Origin(etcd, where, [spelling], None, {}))  # type: ignore[arg-type]


def s3(bucket: Bucket) -> S3Store:
    return S3Store(S3Options("bucket", "eu-west-1", endpoint=bucket.url, access_key="a", secret_key="b"))


def gcs(bucket: Bucket) -> GcsStore:
    return GcsStore("bucket", host=bucket.url)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    without_tokens(monkeypatch)
    with served() as made:
        made.page = 7
        yield made


def contents(pachd: Pachd) -> dict[str, bytes]:
    """Return every file of every commit."""
    pfs, found = pachd.pfs_pb2, {}
    for repo in repos.every(pachd):
        for info in pachd.pfs.ListCommit(pfs.ListCommitRequest(repo=pfs.Repo(name=repo["name"]))).commit_info:
            for file in pachd.pfs.WalkFile(pfs.WalkFileRequest(file=pfs.File(commit=info.commit, path="/"))):
                if file.file_type == 1:
                    name = f"{repo['name']}@{info.commit.id}:{file.file.path}"
                    found[name] = b"".join(pachd.get_file(repo["name"], info.commit.id, file.file.path))
    return found


def test_what_was_deleted_is_freed_and_nothing_else(
    kube: Any, lock: list[str], pachd: tuple[Pachd, Installation], bucket: Bucket
) -> None:
    connection, processes = pachd
    for name in ("kept", "gone"):
        connection.create_repo(name)
        for number in range(3):
            connection.put_file(name, "master", f"/{number}", io.BytesIO(f"{name} {number}".encode() * 1000))
    connection.put_file("gone", "master", "/same", io.BytesIO(b"kept 1" * 1000))
    wishes = garbage.Wishes()
    with living(kube, processes) as live:
        none = garbage.collect(kube, live, connection, wishes, Progress(), write=True)
        assert not none.collected
        connection.delete_repo("gone")
        truth = contents(connection)
        assert len(truth) == 6
        predicted = garbage.collect(kube, live, connection, wishes, Progress(), write=False)
        assert predicted.warnings == []
        figures = predicted.plan.as_dict()
        assert figures["frees"]["block"]["bytes"] >= sum(len(f"gone {number}") * 1000 for number in range(3))
        assert figures["memory"] == garbage.LEAST_MEMORY
        assert len(list(processes.content.glob("block/*"))) == predicted.before["block"]["count"]
        reported = space.measure(live, Progress())
        stored = {each.key: b"".join(live.origin.store.read(each.key)) for each in live.listing().objects}
        for make, spelling in ((s3, Spelling.PLAIN), (s3, Spelling.REVERSED), (gcs, Spelling.SLASH)):
            bucket.objects = {key_of(name, spelling): content for name, content in stored.items()}
            with living(kube, processes, make(bucket), spelling) as same:
                there = garbage.plan(same, connection, Progress())
                assert (there.doomed, there.needed, there.left) == (
                    predicted.plan.doomed,
                    predicted.plan.needed,
                    predicted.plan.left,
                )
                assert there.sizes == predicted.plan.sizes
                assert space.measure(same, Progress()) == reported
        too_little = garbage.collect(kube, live, connection, garbage.Wishes(least=1 << 30), Progress(), write=True)
        assert not too_little.collected
        done = garbage.collect(kube, live, connection, wishes, Progress(), write=True)
        assert done.collected
        assert done.after == predicted.after
        assert contents(connection) == truth
        assert not garbage.collect(kube, live, connection, wishes, Progress(), write=True).collected
    assert garbage.stopped(kube, "ns") == []
    assert lock[0] == "garbage collection ns 0"


@pytest.mark.usefixtures("lock")
def test_a_bucket_with_reversed_keys(kube: Any, root: Path, tmp_path: Path, bucket: Bucket) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    for name, value in {
        "amazon-bucket": "bucket",
        "amazon-region": "eu-west-1",
        "amazon-id": "a",
        "amazon-secret": "b",
        "custom-endpoint": bucket.url,
    }.items():
        (secret / name).write_text(value)
    settings = {"STORAGE_BACKEND": "AMAZON", "REVERSE": "true", "DISABLE_SSL": "true", "PACH_ROOT": ROOT}
    processes = Installation(root, tmp_path, settings)
    try:
        processes.start()
        with (
            Pachd("127.0.0.1", processes.port) as connection,
            living(kube, processes, s3(bucket), Spelling.REVERSED) as live,
        ):
            for name in ("kept", "gone"):
                connection.create_repo(name)
                connection.put_file(name, "master", "/f", io.BytesIO(name.encode() * 1000))
            connection.delete_repo("gone")
            truth, before = contents(connection), set(bucket.objects)
            predicted = garbage.collect(kube, live, connection, garbage.Wishes(), Progress(), write=False)
            done = garbage.collect(kube, live, connection, garbage.Wishes(), Progress(), write=True)
            assert done.collected
            assert done.after == predicted.after
            assert before - set(bucket.objects) == {
                key_of(name, Spelling.REVERSED) for name in done.plan.doomed if name in done.plan.sizes
            }
            assert contents(connection) == truth
    finally:
        processes.stop()


def test_open_commits_are_not_endangered(kube: Any, pachd: tuple[Pachd, Installation]) -> None:
    connection, processes = pachd
    pfs = connection.pfs_pb2
    connection.create_repo("open")
    request = pfs.StartCommitRequest(parent=pfs.Commit(repo=pfs.Repo(name="open")), branch="master")
    commit = connection.pfs.StartCommit(request)
    with living(kube, processes) as live:
        with pytest.raises(InputError, match=f"commit open@{commit.id} is open"):
            garbage.collect(kube, live, connection, garbage.Wishes(), Progress(), write=True)
        looked: list[float] = []

        def finish(seconds: float) -> None:
            looked.append(seconds)
            connection.pfs.FinishCommit(pfs.FinishCommitRequest(commit=commit))

        garbage.collect(kube, live, connection, garbage.Wishes(wait=60), Progress(), write=True, sleep=finish)
        assert len(looked) == 1


def test_what_pachd_does_not_look_at_is_refused(kube: Any, pachd: tuple[Pachd, Installation]) -> None:
    """A block that holds a second object goes with the first one."""
    connection, processes = pachd
    for name in ("kept", "gone"):
        connection.create_repo(name)
        connection.put_file(name, "master", "/f", io.BytesIO(name.encode() * 100))
    with living(kube, processes) as live:
        with live.state(live.listing()) as state:
            kept, gone = (
                next(iter(state.file(state.commit(name, "master"), "/f").objects)) for name in ("kept", "gone")
            )
            state.objects.point(gone, state.objects.locate(kept))
        connection.delete_repo("gone")
        looked = garbage.collect(kube, live, connection, garbage.Wishes(), Progress(), write=False)
        assert "would delete what is needed" in looked.warnings[0]
        with pytest.raises(StorageError, match="would delete what is needed"):
            garbage.collect(kube, live, connection, garbage.Wishes(), Progress(), write=True)
    assert contents(connection)


def test_space_by_tree_repo_and_commit(kube: Any, pachd: tuple[Pachd, Installation]) -> None:
    connection, processes = pachd
    shared, first, second = (letter * 10_000 for letter in (b"s", b"1", b"2"))
    for name in ("one", "two", "gone"):
        connection.create_repo(name)
        connection.put_file(name, "master", "/shared", io.BytesIO(shared))
    connection.put_file("one", "master", "/f", io.BytesIO(first))
    connection.put_file("one", "master", "/f", io.BytesIO(second))
    connection.put_file("gone", "master", "/f", io.BytesIO(b"g" * 30_000))
    now = dt.datetime(2026, 11, 22, 10, tzinfo=dt.timezone.utc)

    def measured() -> dict[str, Any]:
        with living(kube, processes) as live:
            report = space.measure(live, Progress())
        earlier = space.remembered(kube, "ns")
        report["growth"] = space.growth(report, earlier[-1] if earlier else None, now + dt.timedelta(days=1))
        report["advice"] = space.advice(report)
        assert any("etcd" in line for line in space.table(report))
        space.remember(kube, "ns", earlier, report, now)
        return report

    before = measured()
    on_disk = sum(path.stat().st_size for path in processes.content.glob("block/*"))
    assert before["trees"]["block"]["bytes"] == on_disk
    assert before["unneeded"]["total"]["bytes"] == 0
    assert before["growth"]["since"] is None
    repos_found = {each["name"]: each for each in before["repos"]}
    one, two = repos_found["one"], repos_found["two"]
    assert one["commits"] == 3
    assert one["files"] == 20_000
    assert 30_000 < one["stored"] < 33_000
    assert 20_000 < one["own"] < 23_000, "what two has as well is not its own"
    assert 10_000 < one["history"] < 13_000, "only the overwritten file"
    assert two["own"] < 2_000
    assert before["commits"][0]["repo"] == "gone"
    assert any(text.startswith("one: ") and "before its branches' heads" in text for text in before["advice"])
    connection.delete_repo("gone")
    after = measured()
    assert 30_000 < after["unneeded"]["total"]["bytes"] < 33_000
    assert "collect garbage" in after["advice"][0]
    assert after["growth"]["seconds"] == 86400
    assert after["growth"]["total"] == 0
    assert after["growth"]["repos"]["gone"] < -30_000
    assert after["etcd"]["quota"] > after["etcd"]["size"] > 0
