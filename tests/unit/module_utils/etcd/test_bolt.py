# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""bbolt files: every form of page, and no damage that goes unnoticed or ends in anything but a clear error."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.bolt import Bolt, DamagedFile, Pages, fnv1a
from doubles import bolt as double

RANDOM = random.Random(20261122)


def read(data: bytes) -> dict[bytes, dict[bytes, bytes]]:
    with Bolt(io.BytesIO(data)) as bolt:
        return {name: {key: value for key, value, _where in bucket.items()} for name, bucket in bolt.buckets().items()}


def some_items(count: int, largest: int = 300) -> dict[bytes, bytes]:
    return {
        RANDOM.randbytes(RANDOM.randint(1, 40)): RANDOM.randbytes(RANDOM.randint(0, largest))
        for _unused in range(count)
    }


@pytest.mark.parametrize("page_size", [1024, 4096, 16384, 65536])
@pytest.mark.parametrize(("per_page", "inline"), [(2, 0), (3, 4), (50, 0)])
def test_every_shape_of_tree_is_read(page_size: int, per_page: int, inline: int) -> None:
    for count in (0, 1, 2, 3, 7, 40, 300):
        buckets = {b"key": some_items(count), b"meta": some_items(3), b"large": some_items(3, 5 * page_size)}
        assert read(double.database(buckets, page_size, per_page, inline)) == buckets


def test_a_value_is_where_it_is_said_to_be() -> None:
    items = some_items(50, 9000)
    data = double.database({b"key": items, b"small": {b"a": b"inline"}}, per_page=4, inline=1)
    with Bolt(io.BytesIO(data)) as bolt:
        for bucket in bolt.buckets().values():
            for _key, value, where in bucket.items():
                assert data[where : where + len(value)] == value


def test_keys_are_found_and_reading_can_start_at_any() -> None:
    items = some_items(200)
    with Bolt(io.BytesIO(double.database({b"key": items}, per_page=3))) as bolt:
        bucket = bolt.bucket(b"key")
        assert bucket
        assert bolt.bucket(b"none") is None
        keys = sorted(items)
        for start in [*keys, *(RANDOM.randbytes(3) for _unused in range(50)), b"", b"\xff" * 41]:
            assert [key for key, _value, _where in bucket.items(start)] == [key for key in keys if key >= start]
            assert bucket.get(start) == items.get(start)


def test_the_newer_sound_meta_page_counts() -> None:
    data = bytearray(double.database({b"key": {b"a": b"1"}}))
    data[4096:8192] = double.meta(4096, 1, 99, 5, 1)  # older than page 0's, and its root is beyond the end
    assert read(bytes(data)) == {b"key": {b"a": b"1"}}
    with Bolt(io.BytesIO(bytes(data))) as bolt:
        assert bolt.meta.transaction == 6


@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
def test_one_meta_page_is_enough(page_size: int) -> None:
    data = double.database({b"key": {b"a": b"1"}}, page_size)
    for lost in (0, page_size):
        damaged = bytearray(data)
        damaged[lost : lost + page_size] = bytes(page_size)
        assert read(bytes(damaged)) == {b"key": {b"a": b"1"}}
    with pytest.raises(DamagedFile, match="not a bbolt file"):
        read(bytes(2 * page_size) + data[2 * page_size :])


def test_what_is_no_such_file_is_said_to_be_none(tmp_path: Path) -> None:
    for data in (b"", b"etcd", RANDOM.randbytes(20000), bytes(20000)):
        with pytest.raises(DamagedFile, match="not a bbolt file"):
            read(data)
    with pytest.raises(DamagedFile, match=r"cannot open the file .*nothing"):
        Bolt(tmp_path / "nothing")
    with pytest.raises(DamagedFile, match="cannot read the file"):
        Pages(tmp_path).read(0, 10)


def test_a_file_that_is_cut_anywhere_is_noticed(tmp_path: Path) -> None:
    data = double.database({b"key": some_items(60), b"meta": some_items(2)}, 1024, 5)
    path = tmp_path / "db"
    for end in (*range(0, len(data), 97), len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(DamagedFile), Bolt(path) as bolt:
            list(bolt.buckets())
    path.write_bytes(data)
    with Bolt(path) as bolt:
        # Cut while it is read.
        path.write_bytes(data[:5000])
        with pytest.raises(DamagedFile, match="cut short"):
            for bucket in bolt.buckets().values():
                list(bucket.items())


def test_a_flipped_byte_is_an_error_or_changes_one_item_and_never_hangs() -> None:
    """What bbolt checks no checksum of can change a key or a value; structure never breaks unnoticed."""
    buckets = {b"key": some_items(60), b"meta": some_items(2)}
    data = double.database(buckets, 1024, 5)
    noticed = 0
    items = {(bucket, *item) for bucket, content in buckets.items() for item in content.items()}
    for _unused in range(3000):
        damaged = bytearray(data)
        damaged[RANDOM.randrange(2048, len(data))] ^= 1 << RANDOM.randrange(8)
        try:
            found = read(bytes(damaged))
        except DamagedFile:
            noticed += 1
        else:
            assert len(
                items - {(bucket, *item) for bucket, content in found.items() for item in content.items()}
            ) <= 1 or (len(found) == 2 and found.keys() != buckets.keys())
    assert noticed > 100


def element(data: bytes, page: int, changes: dict[int, bytes]) -> bytes:
    """Return the file with bytes of one page replaced."""
    damaged = bytearray(data)
    for offset, new in changes.items():
        damaged[page * 1024 + offset : page * 1024 + offset + len(new)] = new
    return bytes(damaged)


@pytest.mark.parametrize(
    ("page", "changes", "why"),
    [
        (3, {0: struct.pack("<Q", 9)}, "page 3 says that it is page 9"),
        (3, {8: struct.pack("<H", 16)}, "page 3 is of kind 16"),
        (3, {10: struct.pack("<H", 60000)}, "60000 elements do not fit"),
        (3, {12: struct.pack("<I", 60000)}, "page 3 goes on for 60000 pages"),
        (3, {20: struct.pack("<I", 60000)}, "an element is not where it has to be"),
        (3, {24: struct.pack("<I", 0)}, "an element is not where it has to be"),
        (3, {28: struct.pack("<I", 2)}, "an element is not where it has to be"),
        (3, {10: struct.pack("<H", 1)}, "an element is not where it has to be"),
        (3, {44: struct.pack("<I", 60000)}, "an element leaves its page"),
        (3, {16 + 32: b"z"}, "the key b'b' comes after b'z'"),
        (5, {10: struct.pack("<H", 60000)}, "60000 elements do not fit"),
        (5, {10: struct.pack("<H", 0)}, "do not ascend"),
        (5, {16: struct.pack("<I", 60000)}, "an element is not where it has to be"),
        (5, {24: struct.pack("<Q", 77)}, "page 77 is none of the pages 2 to 6"),
        (5, {24: struct.pack("<Q", 5)}, "its pages point at each other"),
        (5, {24: struct.pack("<Q", 4)}, "comes after"),
        (5, {24: struct.pack("<Q", 2)}, "page 2 is of kind 16"),
    ],
)
def test_damaged_pages_are_named(page: int, changes: dict[int, bytes], why: str) -> None:
    # Pages 3 and 4 are leaves, 5 is their branch, 6 the root.
    data = double.database({b"key": {b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"4"}}, 1024, 2)
    with pytest.raises(DamagedFile, match=why):
        read(element(data, page, changes))


def test_damaged_buckets_are_named() -> None:
    data = double.database({b"key": {b"a": b"1"}}, inline=1)
    at = data.index(b"key") + len(b"key")
    for new, why in (
        (struct.pack("<QQQ", 0, 0, 5), "says that it is page 5"),
        (struct.pack("<QQQH", 0, 0, 0, 1), "of kind 1"),
    ):
        with pytest.raises(DamagedFile, match=why):
            read(data[:at] + new + data[at + len(new) :])
    root = double.leaf(3, [(b"key", b"value", 0)], 4096)
    file = double.meta(4096, 0, 3, 4, 1) + double.meta(4096, 1, 3, 4, 2) + bytes(4096) + root
    with pytest.raises(DamagedFile, match="b'key' in it is no bucket"):
        read(file)
    root = double.leaf(3, [(b"key", b"short", 1)], 4096)
    file = double.meta(4096, 0, 3, 4, 1) + double.meta(4096, 1, 3, 4, 2) + bytes(4096) + root
    with pytest.raises(DamagedFile, match="has 5 bytes"):
        read(file)
    root = double.leaf(3, [(b"key", bytes(20), 1)], 4096)
    file = double.meta(4096, 0, 3, 4, 1) + double.meta(4096, 1, 3, 4, 2) + bytes(4096) + root
    with pytest.raises(DamagedFile, match="cut short"):
        read(file)


def test_a_short_read_of_the_system_is_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    (tmp_path / "file").write_bytes(bytes(range(256)))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: real(descriptor, min(size, 7), offset))
    pages = Pages(tmp_path / "file")
    assert pages.read(10, 100) == bytes(range(10, 110))
    pages.close()
    pages.close()


def test_checksum() -> None:
    # Test vectors of the algorithm's authors.
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a(b"foobar") == 0x85944171F73967E8
