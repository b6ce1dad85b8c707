# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes on their way: nothing is lost, nothing grows, and failures come out where they happened."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import index
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.index import IndexEntry
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.streams import (
    Count,
    ahead,
    compressed,
    decompressed,
    large,
    parted,
    piped,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError

DATA = [bytes([number % 251]) * (number * 37 % 5000) for number in range(2000)]
WHOLE = b"".join(DATA)


def test_bytes_are_counted_compressed_and_come_back() -> None:
    raw, stored = Count(), Count()
    packed = list(stored(compressed(raw(ahead(large(DATA))))))
    assert (raw.size, raw.sha256) == (len(WHOLE), hashlib.sha256(WHOLE).hexdigest())
    assert stored.size == sum(map(len, packed)) < raw.size
    assert b"".join(decompressed(packed, "x")) == WHOLE
    assert list(large([])) == []
    assert b"".join(decompressed(compressed([]), "x")) == b""


@pytest.mark.parametrize("border", [-1, 0, 1, 36, 37, 38, len(WHOLE) - 1, len(WHOLE), len(WHOLE) + 1])
def test_no_chunk_crosses_a_border(border: int) -> None:
    chunks = list(parted(DATA, border))
    assert b"".join(chunks) == WHOLE
    reached = list(itertools.accumulate(map(len, chunks), initial=0))
    assert border in reached or not 0 <= border <= len(WHOLE)
    assert len(chunks) - len(DATA) <= 1


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -5])
def test_a_frame_that_is_cut_short_is_damaged(keep: int) -> None:
    packed = b"".join(compressed(DATA))
    with pytest.raises(BackupError, match="damaged"):
        list(decompressed([packed[:keep]], "x"))


@pytest.mark.parametrize("more", [b"\0", b"more", b"".join(compressed([b"second"]))])
def test_what_follows_the_frame_is_damage(more: bytes) -> None:
    packed = b"".join(compressed(DATA))
    for chunks in ([packed, more], [packed + more]):
        with pytest.raises(BackupError, match="damaged"):
            list(decompressed(chunks, "x"))


def test_a_failure_comes_out_after_what_was_whole() -> None:
    def broken() -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        raise ConnectionError("cut")

    seen = []
    with pytest.raises(ConnectionError, match="cut"):
        seen.extend(ahead(broken()))
    stream = ahead(broken())
    assert [next(stream), next(stream)] == [b"1", b"2"]
    with pytest.raises(ConnectionError):
        next(stream)


def test_a_source_that_cannot_be_closed_is_no_end_without_a_word() -> None:
    def broken() -> Iterator[bytes]:
        try:
            yield b"1"
            yield b"2"
        finally:
            raise ConnectionError("cannot be closed")

    def first_alone(source: Iterator[bytes], put: Callable[[bytes], None]) -> None:
        put(next(source))
        raise ValueError("enough")

    stream = piped(first_alone, broken())
    assert next(stream) == b"1"
    with pytest.raises(ValueError, match="enough"):
        next(stream)
    with pytest.raises(ConnectionError):
        list(piped(lambda source, put: put(next(source)), broken()))


def test_a_reader_that_leaves_ends_the_thread_and_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    stream = ahead(endless())
    next(stream)
    before = threading.active_count()
    stream.close()  # type: ignore[attr-defined]
    assert closed.wait(5)
    assert threading.active_count() < before


# The index of objects


def entry(name: str, **changes: str) -> IndexEntry:
    values = {"token": "t", "key": index.escaped(name), **changes}
    return IndexEntry(name, 5, "a" * 64, values["token"], values["key"], 7, "b" * 64)


def test_an_index_is_read_back_whatever_names_hold() -> None:
    names = sorted(["block/a", "tag/with\ttab", "tag/with\nline", "tag/100%", "tag/ü", "tag/%09"], key=str.encode)
    entries = [entry(name, token="a\tb%") for name in names]
    data = b"".join(index.dump(entries))
    assert data.count(b"\n") == len(entries) + 1
    for step in (1, 7, len(data)):
        assert list(index.load((data[at : at + step] for at in range(0, len(data), step)), "x")) == entries


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[1:],
        lambda data: data[:-1],
        lambda data: data.replace(b"\t5\n", b"\tfive\n"),
        lambda data: data.replace(b"a" * 64, b"a" * 63),
        lambda data: data.replace(b"\tt\t", b"\t"),
        lambda data: data + data.splitlines(keepends=True)[1],
        lambda data: data.replace(b"block/a", b"\xff\xff\xff\xff\xff\xff\xff"),
    ],
)
def test_an_index_that_does_not_fit_is_damaged(change: object) -> None:
    data = b"".join(index.dump([entry("block/a"), entry("block/b")]))
    with pytest.raises(BackupError, match="index of objects is damaged"):
        list(index.load([change(data)], "x"))  # type: ignore[operator]
