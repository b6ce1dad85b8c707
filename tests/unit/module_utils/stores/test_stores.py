# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store does, asked of each: directory, S3 and Cloud Storage over HTTP."""

from __future__ import annotations

import builtins
import itertools
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores import parallel
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import (
    Below,
    ObjectExists,
    ObjectMissing,
    Store,
    StoredObject,
    blocks,
    resuming,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.gcs import GcsStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import TREES, borders
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access, open_location
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.s3 import S3Options, S3Store
from doubles.buckets import Bucket, served, without_tokens

LARGE = bytes(range(256)) * 4096 * 20 + b"end"  # 20 MiB and a bit: several parts and chunks


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    without_tokens(monkeypatch)
    with served() as made:
        yield made


def s3(bucket: Bucket, **options: Any) -> S3Store:
    defaults = {"endpoint": bucket.url, "access_key": "a", "secret_key": "s", "retries": 1, "timeout": 5}
    return S3Store(S3Options("bucket", "eu-west-1", **(defaults | options)))


def gcs(bucket: Bucket) -> GcsStore:
    return GcsStore("bucket", host=bucket.url, pause=0.01)


@pytest.fixture(params=["directory", "s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: Bucket) -> Store:
    make: dict[str, Callable[[], Store]] = {
        "directory": lambda: DirectoryStore(tmp_path),
        "s3": lambda: s3(bucket),
        "gcs": lambda: gcs(bucket),
    }
    return make[request.param]()


@pytest.mark.parametrize("key", ["block/x", "block/x-index", "tag/a b?c=d&e", "object/ü"])
def test_an_object_is_written_read_listed_and_deleted(store: Store, key: str) -> None:
    assert not store.exists(key)
    store.write(key, [b"he", b"", b"llo"])
    assert store.exists(key)
    assert b"".join(store.read(key)) == b"hello"
    assert list(store.list()) == [StoredObject(key, 5)]
    store.write(key, [b"new"])
    assert b"".join(store.read(key)) == b"new"
    store.delete(key)
    store.delete(key)
    assert not store.exists(key)
    assert list(store.list()) == []


@pytest.mark.parametrize("content", [b"", b"\0", LARGE], ids=["empty", "one byte", "20 MiB"])
def test_content_is_kept_byte_for_byte(store: Store, content: bytes) -> None:
    store.write("block/x", (content[at : at + 3_000_000] for at in range(0, len(content), 3_000_000)))
    assert b"".join(store.read("block/x")) == content


def test_a_part_of_an_object_is_read(store: Store) -> None:
    store.write("block/x", [b"0123456789"])
    for offset, size, part in [(3, 4, b"3456"), (8, None, b"89"), (0, 2, b"01"), (8, 10, b"89"), (4, 0, b"")]:
        assert b"".join(store.read("block/x", offset, size)) == part


@pytest.mark.parametrize("size", [None, 0, 5])
def test_a_missing_object_is_told_before_the_first_byte(store: Store, size: int | None) -> None:
    with pytest.raises(ObjectMissing):
        store.read("block/absent", 0, size)


def test_a_listing_has_all_pages_and_only_the_prefix(store: Store) -> None:
    names = [f"block/{number}" for number in range(5)]
    for name in [*names, "object/1", "blocked"]:
        store.write(name, [b"x"])
    assert sorted(each.key for each in store.list("block/")) == names
    assert sorted(each.key for each in store.list("block/3")) == ["block/3"]
    assert len(list(store.list())) == 7


def test_a_listing_in_parts_has_every_object_once(store: Store) -> None:
    names = sorted(f"c/{tree}/{name}" for tree in TREES for name in ("0a", "3f", "4", "40", "7", "c", "zz", "Ä+ %"))
    for name in [*names, "c/odd", "a", "d"]:
        store.write(name, [b"x"])
    found = [each.key for each in store.list_parts("c/", borders(base="c/"))]
    assert sorted(found) == sorted(each.key for each in store.list("c/"))
    assert len(found) == len(names) + 1
    below = Below(store, "c/")
    assert sorted(f"c/{each.key}" for each in below.list_parts("", borders())) == sorted(found)
    assert [each.key for each in store.list_parts("a", ["a"])] == ["a"]
    assert list(store.list_parts("nothing/", borders(base="nothing/"))) == []


def test_a_source_that_fails_leaves_nothing(store: Store) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError("the client went away")

    with pytest.raises((ConnectionError, StorageError)):
        store.write("block/x", broken())
    assert not store.exists("block/x")
    assert list(store.list()) == []


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_a_refusal_names_the_object_and_is_not_taken_for_a_missing_one(kind: str, bucket: Bucket) -> None:
    store: Store = s3(bucket) if kind == "s3" else gcs(bucket)
    bucket.fail = 403
    attempts: list[Callable[[], Any]] = [
        lambda: store.write("block/x", [b"x"]),
        lambda: store.read("block/x"),
        lambda: store.exists("block/x"),
        lambda: store.delete("block/x"),
        lambda: list(store.list("block/")),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError, match="bucket/block/") as caught:
            attempt()
        assert not isinstance(caught.value, ObjectMissing)


def test_s3_addresses_an_endpoint_by_path_and_sends_the_acl(bucket: Bucket) -> None:
    s3(bucket, acl="bucket-owner-full-control").write("block/x", [b"x"])
    assert bucket.requests == ["PUT /bucket/block/x"]
    assert bucket.acl == {"bucket-owner-full-control"}


def test_gcs_says_that_the_key_file_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    for name in ("key.json", "absent.json"):
        with pytest.raises(StorageError, match=name):
            GcsStore("bucket", str(tmp_path / name))


def test_a_directory_is_never_left(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "pach")
    with pytest.raises(StorageError):
        store.write("../outside", [b"x"])
    with pytest.raises(StorageError):
        store.read("/etc/passwd")


def test_a_directory_says_what_the_system_refuses(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    (tmp_path / "block").write_text("a file")
    with pytest.raises(StorageError):
        store.write("block/x", [b"x"])
    (tmp_path / "object" / "x").mkdir(parents=True)
    with pytest.raises(StorageError):
        store.read("object/x")
    with pytest.raises(StorageError):
        store.delete("object/x")
    with pytest.raises(StorageError):
        store.write("object/x", [b"x"])


@pytest.mark.parametrize(
    ("library", "make"),
    [
        ("botocore.session", lambda: S3Store(S3Options("b", "r"))),
        ("google.resumable_media.requests", lambda: GcsStore("b")),
    ],
)
def test_a_missing_library_is_an_instruction(
    library: str, make: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == library:
            raise ImportError(f"No module named {library!r}")
        return genuine(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="is missing"):
        make()


# Conditional writes, and failures that pass


@pytest.mark.parametrize("content", [b"first", LARGE], ids=["small", "20 MiB"])
def test_a_conditional_write_never_replaces(store: Store, content: bytes) -> None:
    store.write("block/x", [content], if_absent=True)
    with pytest.raises(ObjectExists):
        store.write("block/x", [b"second"], if_absent=True)
    with pytest.raises(ObjectExists):
        store.write("block/x", [LARGE], if_absent=True)
    assert b"".join(store.read("block/x")) == content
    assert [each.key for each in store.list()] == ["block/x"]


def test_a_files_token_changes_when_it_is_written(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write("block/x", [b"1"])
    (first,) = store.list()
    # Before Linux 6.13 a file's time is that of the last tick.
    time.sleep(0.02)
    store.write("block/x", [b"2"])
    (second,) = store.list()
    assert first.token
    assert first.token != second.token


def test_folders_are_the_next_part_of_keys(store: Store) -> None:
    for key in ("a/b/1", "a/b/2", "a/c/1", "a/file", "ab/x"):
        store.write(key, [b"x"])
    if isinstance(store, DirectoryStore):
        assert sorted(store.folders("a/")) == ["b", "c"]
        assert sorted(store.folders("")) == ["a", "ab"]
    assert sorted(Store.folders(store, "a/")) == ["b", "c"]
    assert sorted(each.key for each in Below(store, "a/").list("b/")) == ["b/1", "b/2"]


@pytest.fixture(params=["s3", "gcs"])
def remote(request: pytest.FixtureRequest, bucket: Bucket) -> Store:
    return s3(bucket, retries=4) if request.param == "s3" else gcs(bucket)


@pytest.mark.parametrize("status", [500, 503, 429, 0])
def test_a_failure_that_passes_is_tried_again(remote: Store, bucket: Bucket, status: int) -> None:
    bucket.objects["block/y"] = b"content"
    actions: list[Callable[[], Any]] = [
        lambda: remote.write("block/x", [b"x"]),
        lambda: b"".join(remote.read("block/y")),
        lambda: remote.exists("block/y"),
        lambda: list(remote.list()),
    ]
    for action in actions:
        bucket.passing = [status, status]
        action()
        assert bucket.passing == []
    assert bucket.objects["block/x"] == b"x"


@pytest.mark.parametrize("content", [b"ours", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
def test_an_answer_that_is_lost_makes_no_conflict(remote: Store, bucket: Bucket, content: bytes, kept: bool) -> None:
    """A write on condition that nothing is there finds its own work when it is tried again."""
    if kept:
        remote.write("block/w", [b"w"])  # on a connection that is used again
    bucket.lost = r"PUT /bucket/block/x$|POST .*uploadId|POST .*uploadType=media"
    remote.write("block/x", [content], if_absent=True)
    # A resumable upload to Cloud Storage has a session that knows what arrived.
    assert bucket.lost == "" or (content == LARGE and remote.where.startswith("gs:"))
    bucket.lost = ""
    assert bucket.objects["block/x"] == content
    with pytest.raises(ObjectExists):
        remote.write("block/x", [content], if_absent=True)


@pytest.mark.parametrize("content", [b"ours", LARGE], ids=["small", "large"])
def test_what_another_one_wrote_meanwhile_is_a_conflict(remote: Store, bucket: Bucket, content: bytes) -> None:
    bucket.objects["block/x"] = b"theirs"
    bucket.passing = [503]
    with pytest.raises(ObjectExists):
        remote.write("block/x", [content], if_absent=True)
    assert bucket.objects["block/x"] == b"theirs"


@pytest.mark.parametrize("status", [500, 503])
def test_a_failure_that_does_not_pass_ends(remote: Store, bucket: Bucket, status: int) -> None:
    bucket.fail = status
    with pytest.raises(StorageError):
        remote.write("block/x", [b"x"])
    assert len(bucket.requests) >= 4


def test_a_refusal_is_not_tried_again(remote: Store, bucket: Bucket) -> None:
    bucket.fail = 403
    with pytest.raises(StorageError):
        remote.write("block/x", [b"x"])
    assert len(bucket.requests) == 1


@pytest.mark.parametrize("percent", [10, 50, 99])
def test_a_connection_that_is_cut_is_taken_up_where_it_broke(remote: Store, bucket: Bucket, percent: int) -> None:
    bucket.objects["block/x"] = LARGE
    bucket.cut = len(LARGE) * percent // 100
    assert b"".join(remote.read("block/x")) == LARGE


def test_parts_that_fail_are_sent_again(bucket: Bucket) -> None:
    store = s3(bucket, retries=4)
    bucket.passing = []

    def chunks() -> Iterator[bytes]:
        yield LARGE
        bucket.passing = [503, 500]
        yield LARGE

    store.write("block/x", chunks())
    assert bucket.objects["block/x"] == LARGE * 2


def test_a_source_that_fails_leaves_no_unfinished_upload(bucket: Bucket) -> None:
    def broken() -> Iterator[bytes]:
        yield LARGE
        raise ConnectionError("the source went away")

    with pytest.raises(ConnectionError):
        s3(bucket).write("block/x", broken())
    assert bucket._uploads == {}


def test_gcs_takes_back_what_was_altered_on_the_way(bucket: Bucket) -> None:
    bucket.alter = True
    for content in (b"small", LARGE):
        with pytest.raises(StorageError, match="altered on its way"):
            gcs(bucket).write("block/x", [content])
        assert bucket.objects == {}


def test_memory_does_not_grow_with_the_object(bucket: Bucket) -> None:
    sent = 0
    ahead = []

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _unused in range(60):
            sent += 1
            received = sum(len(part) for _key, parts in bucket._uploads.values() for part in list(parts.values()))
            ahead.append(sent * (1 << 20) - received)
            yield bytes(1 << 20)

    s3(bucket, workers=2).write("block/x", chunks())
    assert len(bucket.objects["block/x"]) == 60 << 20
    # Two parts under way, one that is being filled, and one between two threads.
    assert max(ahead) <= 5 * (5 << 20)


# Directories


def test_a_private_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "store", private=True).write("a/b/c", [b"x"])
    modes = {path.stat().st_mode & 0o777 for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]}
    assert modes == {0o700, 0o600}


def test_empty_directories_are_not_kept(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.write("a/b/c", [b"x"])
    store.write("a/d", [b"x"])
    store.delete("a/b/c")
    assert not (tmp_path / "store" / "a" / "b").exists()
    store.delete("a/d")
    assert (tmp_path / "store").is_dir()
    assert list((tmp_path / "store").iterdir()) == []


def test_unfinished_files_are_swept_by_age(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write("a/whole", [b"x"])
    (tmp_path / "a" / ".partial-x").write_text("half")
    now = datetime.now(timezone.utc)
    assert store.sweep("a/", now - timedelta(hours=1)) == 0
    assert store.sweep("b/", now + timedelta(hours=1)) == 0
    assert store.sweep("a/", now + timedelta(hours=1)) == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["whole"]


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    def full() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left.*Free space there"):
        DirectoryStore(tmp_path).write("a", full())
    assert list(tmp_path.iterdir()) == []


# Locations


def test_locations_are_read_as_users_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    access = Access(region="eu-west-1", endpoint=bucket.url, access_key="a", secret_key="s")
    store = open_location("s3://bucket/a/prefix/", access)
    store.write("key", [b"x"])
    assert bucket.objects == {"a/prefix/key": b"x"}
    assert store.where == "s3://bucket/a/prefix"
    assert [each.key for each in store.list()] == ["key"]
    assert b"".join(store.read("key")) == b"x"
    store.delete("key")
    assert not store.exists("key")
    assert open_location("s3://bucket", access).where == "s3://bucket"
    assert open_location(str(tmp_path)).where == str(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_location("~/backups").where == str(tmp_path / "backups")
    for wrong in ("backups", "./x", "s3://", "s3://UPPER", "ftp://bucket", "s3:/bucket", ""):
        with pytest.raises(InputError):
            open_location(wrong)
    assert "s3cret" not in repr(Access(secret_key="s3cret", access_key="s3cret", session_token="s3cret"))


# Helpers


@pytest.mark.parametrize("sizes", [[3], [1, 2], [100], [7, 1]])
def test_blocks_have_the_sizes_asked_for(sizes: list[int]) -> None:
    data = bytes(range(100))
    for step in (1, 2, 3, 7, 50, 100, 200):
        chunks = [data[at : at + step] for at in range(0, 100, step)]
        made = list(blocks(chunks, itertools.cycle(sizes)))
        assert b"".join(made) == data
        assert all(len(block) == size for block, size in zip(made[:-1], itertools.cycle(sizes), strict=False))
        assert made[-1]
    assert list(blocks([], itertools.cycle([3]))) == []
    assert list(blocks([b"", b""], itertools.cycle([3]))) == []


def test_reading_gives_up_where_nothing_more_comes() -> None:
    def broken(_done: int) -> Iterator[bytes]:
        for none in b"":
            yield bytes([none])
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        list(resuming(broken(0), broken, (ConnectionError,), pause=0.001))


def test_parallel_work_is_bounded_and_ends_with_the_first_error() -> None:
    taken: list[int] = []
    done: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        if number == 10:
            raise StorageError("ten")
        done.append(number)
        return number

    with pytest.raises(StorageError, match="ten"):
        for _unused in parallel.each(work, items(), 2):
            assert len(taken) - len(done) <= 8
    assert len(taken) < 30
    assert sorted(parallel.each(lambda number: number, range(50), 4)) == list(range(50))
    assert list(parallel.each(lambda number: number, [], 4)) == []
