# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole backups into a bucket that fails: a verified one in the end, or none in the list and what is the matter."""

from __future__ import annotations

import errno
import itertools
import os
import re
import types
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import botocore.endpoint
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin, Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import Source
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import backup_ids, open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import verify
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores import directory, gcs
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import Store
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.gcs import GcsStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.s3 import S3Options, S3Store
from doubles.buckets import Bucket, served, without_tokens
from doubles.etcd_memory import MemoryEtcd

CLUSTER = "0123456789abcdef0123456789abcdef"
OBJECTS = {"block/00": b"small", "object/01": b"record", "block/02": os.urandom((4 << 20) + 1), "tag/t": b"tag"}
FILES = ("running.json", "etcd.snapshot", "objects.index", "cluster.yaml", "manifest.json")
#: Requests that write, by a part of a backup.
STAGES = {
    **{name: rf"^(PUT|POST) .*{re.escape(name)}" for name in FILES},
    "a small object": r"^(PUT|POST) .*block(/|%2F)00",
    "a part of a large object": r"^PUT .*(partNumber|session)",
    "the end of a large object": r"^POST .*uploadId",
}
FULL = b"<Error><Code>XMinioStorageFull</Code><Message>no space</Message></Error>"
#: Status and what is said, and what the message has of it.
FAULTS = {
    "500": (500, b"", r"500|InternalError"),
    "503": (503, b"", r"503|InternalError"),
    "no answer": (-1, b"", r"[Tt]imed? ?out"),
    "full": (507, FULL, r"(?s)no space.*Free space there"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with served() as made:
        made.page = 1000
        yield made


@pytest.fixture
def bucket(server: Bucket) -> Bucket:
    server.objects.clear()
    server.upset, server.words, server.lost = lambda _request: None, Bucket.words, ""
    return server


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    source = DirectoryStore(tmp_path / "source")
    for name, content in OBJECTS.items():
        source.write(name, [content])
    etcd = MemoryEtcd(cluster_id=CLUSTER)
    return Origin(etcd, source, [Spelling.DIRECTORY], Source("local", ""))  # type: ignore[arg-type]


def options(bucket: Bucket, **more: Any) -> S3Options:
    return S3Options("bucket", "r", endpoint=bucket.url, access_key="a", secret_key="s", part_size=2 << 20, **more)


@pytest.fixture(scope="module")
def s3(server: Bucket) -> S3Store:
    return S3Store(options(server, retries=0, timeout=60))


@pytest.fixture(scope="module")
def hasty(server: Bucket) -> S3Store:
    """The same store without patience, which alone is used where no answer comes."""
    return S3Store(options(server, retries=0, timeout=1.0))


@pytest.fixture
def google_store(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> GcsStore:
    without_tokens(monkeypatch)
    monkeypatch.setattr(gcs, "_TRIES", 2)
    return GcsStore("bucket", host=bucket.url, pause=0.001)


def run(origin: Origin, store: Store, clock: Iterator[int] = itertools.count()) -> None:  # noqa: B008  one for all
    start = datetime(2026, 3, 1, tzinfo=timezone.utc)
    back_up(origin, store, Wishes(), now=lambda: start + timedelta(seconds=next(clock)))


def proven(store: Store) -> int:
    """Return how many backups there are, each of which has to be sound and to have everything."""
    found = backup_ids(store, CLUSTER)
    for each in found:
        opened = open_set(store, CLUSTER, each)
        assert verify(opened, "digest").passed
        assert {entry.name: b"".join(opened.object(entry)) for entry in opened.index()} == OBJECTS
    return len(found)


def fails(origin: Origin, store: Store, bucket: Bucket, stage: str, fault: str) -> None:
    """Back up while ``stage`` meets a fault."""
    status, words, message = FAULTS[fault]
    bucket.words = words or bucket.words
    bucket.upset = lambda request: status if re.search(STAGES[stage], request) else None
    with pytest.raises(StorageError, match=message) as failure:
        run(origin, store)
    bucket.upset = lambda _request: None
    assert store.where in str(failure.value)


def check(origin: Origin, store: Store, bucket: Bucket) -> None:
    """After a fault there is no backup and nothing of one, and the next one succeeds."""
    assert proven(store) == 0
    assert not [key for key in bucket.objects if "/backups/" in key], "nothing of the set is left"
    run(origin, store)
    assert proven(store) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_store_that_keeps_failing_leaves_no_backup(
    origin: Origin, s3: S3Store, hasty: S3Store, bucket: Bucket, stage: str, fault: str
) -> None:
    fails(origin, hasty if fault == "no answer" else s3, bucket, stage, fault)
    check(origin, s3, bucket)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", ["etcd.snapshot", "manifest.json"])
def test_cloud_storage_that_keeps_failing_leaves_no_backup(
    origin: Origin, google_store: GcsStore, bucket: Bucket, stage: str, fault: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if fault == "no answer":
            patch.setattr(gcs, "_TIMEOUT", 1.0)
        fails(origin, google_store, bucket, stage, fault)
    check(origin, google_store, bucket)


def test_a_store_that_fails_for_good_lists_no_backup(origin: Origin, s3: S3Store, bucket: Bucket) -> None:
    """Not even what was begun can be removed: it stays behind, and is no backup."""
    broken: list[str] = []

    def upset(request: str) -> int | None:
        broken.extend([request] if "objects.index" in request else [])
        return 503 if broken else None

    bucket.upset = upset
    with pytest.raises(StorageError, match="InternalError"):
        run(origin, s3)
    bucket.upset = lambda _request: None
    assert proven(s3) == 0
    assert [key for key in bucket.objects if "/backups/" in key]
    run(origin, s3)
    assert proven(s3) == 1


@pytest.mark.parametrize("status", [503, 0])
def test_failures_that_pass_leave_a_sound_backup(
    origin: Origin, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Every request fails once."""
    monkeypatch.setattr(botocore.endpoint, "time", types.SimpleNamespace(sleep=lambda _seconds: None))
    given = options(bucket, retries=3, timeout=60)
    seen: set[str] = set()

    def upset(request: str) -> int | None:
        new = request not in seen
        seen.add(request)
        return status if new else None

    bucket.upset = upset
    run(origin, S3Store(given))
    assert len(seen) > len(OBJECTS) + len(FILES)
    bucket.upset = lambda _request: None
    assert proven(S3Store(given)) == 1


def test_a_manifest_whose_answer_is_lost_is_a_backup(origin: Origin, bucket: Bucket) -> None:
    store = S3Store(options(bucket, retries=0, timeout=60))
    bucket.lost = r"PUT .*manifest\.json"
    run(origin, store)
    assert bucket.lost == ""
    assert proven(store) == 1


@pytest.mark.parametrize(("stage", "number"), [*((each, errno.ENOSPC) for each in FILES), ("block/", errno.EDQUOT)])
def test_a_directory_that_is_full_leaves_no_backup(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, number: int
) -> None:
    store = DirectoryStore(tmp_path / "store")

    def link(source: str, target: Path) -> None:
        if stage in str(target):
            raise OSError(number, os.strerror(number))
        os.rename(source, target)
        Path(source).touch()

    monkeypatch.setattr(directory.os, "link", link)
    with pytest.raises(StorageError, match="Free space there"):
        run(origin, store)
    assert proven(store) == 0
    monkeypatch.undo()
    run(origin, store)
    assert proven(store) == 1
