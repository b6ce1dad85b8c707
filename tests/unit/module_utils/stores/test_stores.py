# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store does, asked of each: directory, S3 and Cloud Storage over HTTP."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google.auth.compute_engine
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import ObjectMissing, Store, StoredObject
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.gcs import GcsStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.s3 import S3Options, S3Store
from doubles.buckets import Bucket, served
from google.auth.credentials import AnonymousCredentials

LARGE = bytes(range(256)) * 4096 * 20 + b"end"  # 20 MiB and a bit: several parts and chunks


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    # Tokens come from the metadata server in a cluster, which a unit test has none of.
    monkeypatch.setattr(google.auth.compute_engine, "Credentials", lambda scopes: AnonymousCredentials())
    with served() as made:
        yield made


def s3(bucket: Bucket, **options: Any) -> S3Store:
    defaults = {"endpoint": bucket.url, "access_key": "a", "secret_key": "s", "retries": 1, "timeout": 5}
    return S3Store(S3Options("bucket", "eu-west-1", **(defaults | options)))


@pytest.fixture(params=["directory", "s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: Bucket) -> Store:
    make: dict[str, Callable[[], Store]] = {
        "directory": lambda: DirectoryStore(tmp_path),
        "s3": lambda: s3(bucket),
        "gcs": lambda: GcsStore("bucket", host=bucket.url),
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
    store: Store = s3(bucket) if kind == "s3" else GcsStore("bucket", host=bucket.url)
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
    [("boto3", lambda: S3Store(S3Options("b", "r"))), ("google.resumable_media.requests", lambda: GcsStore("b"))],
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
