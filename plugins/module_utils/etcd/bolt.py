# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A reader of bbolt files, the form in which etcd keeps its data and hands out snapshots.

A file is a row of pages of one size.  Pages 0 and 1 are *meta* pages; the sound one with the higher transaction number
names the page of the root bucket.  A bucket is a B+ tree of *branch* and *leaf* pages; an element of a leaf is a key
and a value, or a key and a further bucket, which small buckets hold inside the value.  A page that is too small for its
elements goes on in the pages behind it (*overflow*).  All numbers are little-endian::

    page     id u64, flags u16 (1 branch, 2 leaf, 4 meta, 16 freelist), count u16, overflow u32, then its elements
    branch   per child: position u32, key size u32, page u64
    leaf     per element: flags u32 (1: a bucket), position u32, key size u32, value size u32
    bucket   root page u64 (0: the page follows here), sequence u64
    meta     magic u32, version u32, page size u32, flags u32, root bucket, freelist u64, end of pages u64,
             transaction u64, FNV-1a of these 56 bytes u64

A position counts from the element's own first byte; keys and values follow the elements in the same order, with nothing
between them.  Facts: ``internal/common`` of go.etcd.io/bbolt v1.4, and
``page.go``, ``db.go`` and ``bucket.go`` of its releases since 1.3.0.

Nothing is trusted: a page has to bear its own number and a kind that fits, every element has to begin where the one
before it ends, and keys have to ascend through the whole bucket, which no loop of damaged pointers can do.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import EtcdError

_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _META = 1, 2, 4
_IS_BUCKET = 1
_PAGE = struct.Struct("<QHHI")
_META_BODY = struct.Struct("<IIIIQQQQQQ")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BUCKET = struct.Struct("<QQ")
#: Page sizes that bbolt itself looks for when the first meta page is lost.
_PAGE_SIZES = tuple(1024 << step for step in range(15))
#: A tree of this height has more pages than a file can.
_MAX_HEIGHT = 64
_FIX = "Take another copy of it: the file is cut short or damaged."


class DamagedFile(EtcdError):
    """The file is no bbolt file, or not a whole one."""


@dataclass(frozen=True)
class Meta:
    """One meta page: sizes in bytes, ``root`` the page of the root bucket, ``end`` the first page that is none."""

    page_size: int
    root: int
    end: int
    transaction: int


class Pages:
    """Bytes by position, out of a file by its path or out of any seekable file object; safe for many threads."""

    def __init__(self, source: str | Path | BinaryIO) -> None:
        """:raises DamagedFile: the file cannot be opened."""
        self.name = str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "snapshot"))
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._descriptor = -1
        if not isinstance(source, (str, Path)):
            self._file = source
            self.size = source.seek(0, io.SEEK_END)
            return
        try:
            self._descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DamagedFile("cannot open the file", where=self.name, why=error.strerror or str(error)) from error
        self.size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file, unless the caller opened it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset`` on.

        :raises DamagedFile: there are fewer, or they cannot be read.
        """
        try:
            if self._file is None:
                data = os.pread(self._descriptor, size, offset)
            else:
                with self._lock:
                    self._file.seek(offset)
                    data = self._file.read(size)
        except OSError as error:
            raise DamagedFile(
                "cannot read the file", where=f"{self.name}, byte {offset}", why=error.strerror or str(error)
            ) from error
        if len(data) < size:
            # One call of pread ends at 2 GiB, and may end early.
            if data and offset + len(data) < self.size:
                return data + self.read(offset + len(data), size - len(data))
            raise DamagedFile(
                "the file is cut short", where=f"{self.name}, byte {offset}", why=f"{size} bytes are wanted there"
            )
        return data


class Bolt:
    """One bbolt file, read only.  A context manager."""

    def __init__(self, source: str | Path | BinaryIO) -> None:
        """:param source: a path, or a seekable file object, which stays open; what follows the pages is ignored.
        :raises DamagedFile: neither meta page is sound.
        """
        self.pages = Pages(source)
        try:
            self.meta = self._newest_meta()
        except BaseException:
            self.pages.close()
            raise

    def __enter__(self) -> Bolt:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.pages.close()

    @property
    def size(self) -> int:
        """The bytes of all pages together, which is where the file ends, or what was appended to it begins."""
        return self.pages.size // self.meta.page_size * self.meta.page_size

    def buckets(self) -> dict[bytes, Bucket]:
        """Return the buckets of the root by name.

        :raises DamagedFile: the root bucket is damaged.
        """
        root = Bucket(self, b"root", self.meta.root)
        found = {}
        for name, value, where, inner in root.elements():
            if not inner:
                raise self.damaged("the root is damaged", f"{name!r} in it is no bucket", where)
            found[name] = self._bucket(name, value, where)
        return found

    def bucket(self, name: bytes) -> Bucket | None:
        """Return one bucket of the root, or None."""
        return self.buckets().get(name)

    def damaged(self, what: str, why: str, offset: int = -1) -> DamagedFile:
        """Return the error for what was found at ``offset``."""
        where = self.pages.name if offset < 0 else f"{self.pages.name}, byte {offset}"
        return DamagedFile(what, where=where, why=why, fix=_FIX)

    def _bucket(self, name: bytes, value: bytes, where: int) -> Bucket:
        if len(value) < _BUCKET.size:
            raise self.damaged("a bucket is damaged", f"the bucket {name!r} has {len(value)} bytes", where)
        root, _sequence = _BUCKET.unpack_from(value)
        return Bucket(self, name, root, b"" if root else value[_BUCKET.size :], where + _BUCKET.size)

    def _newest_meta(self) -> Meta:
        first = self._meta(0)
        sizes = (first.page_size,) if first else _PAGE_SIZES
        found = [each for each in (first, *(self._meta(size) for size in sizes)) if each]
        if not found:
            raise self.damaged("not a bbolt file", "neither of the two meta pages is there and sound")
        newest = max(found, key=lambda each: each.transaction)
        if newest.end * newest.page_size > self.pages.size:
            why = f"it has {self.pages.size} bytes, and its pages end at {newest.end * newest.page_size}"
            raise self.damaged("the file is cut short", why)
        return newest

    def _meta(self, offset: int) -> Meta | None:
        try:
            page = self.pages.read(offset, _PAGE.size + _META_BODY.size)
        except DamagedFile:
            return None
        _id, flags, _count, _overflow = _PAGE.unpack_from(page)
        body = _META_BODY.unpack_from(page, _PAGE.size)
        magic, version, page_size, _flags, root, _sequence, _freelist, end, transaction, checksum = body
        sound = (magic, version, flags) == (_MAGIC, _VERSION, _META) and page_size in _PAGE_SIZES
        if not sound or checksum != fnv1a(page[_PAGE.size : -8]) or offset not in (0, page_size):
            return None
        return Meta(page_size, root, end, transaction)


class Bucket:
    """The elements of one bucket."""

    def __init__(self, bolt: Bolt, name: bytes, root: int, inline: bytes = b"", offset: int = 0) -> None:
        """:param inline: the bucket's one page, where it has no page of the file.
        :param offset: where in the file ``inline`` begins.
        """
        self.name = name
        self._bolt = bolt
        self._root = root
        self._inline = inline
        self._offset = offset

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes, int]]:
        """Yield key, value and the value's position in the file of every element, in key order.

        :param start: the first key of interest.
        :raises DamagedFile: as soon as a damaged page is met.
        """
        for key, value, where, inner in self.elements(start):
            if not inner:
                yield key, value, where

    def get(self, key: bytes) -> bytes | None:
        """Return the value of ``key``, or None."""
        found = next(self.items(key), None)
        return found[1] if found and found[0] == key else None

    def elements(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes, int, bool]]:
        """Yield as ``items`` does, and whether the value is a further bucket's head; buckets come too."""
        last: bytes | None = None
        for page, offset in self._leaves(start):
            _id, _flags, count, _overflow = _PAGE.unpack_from(page)
            end, position = len(page), _PAGE.size
            free = position + count * _LEAF_ELEMENT.size
            heads = page[position:free]
            if free > end:
                raise self._damaged(f"{count} elements do not fit into its page", offset)
            for flags, begin, key_size, value_size in _LEAF_ELEMENT.iter_unpack(heads):
                begin += position  # noqa: PLW2901 from the element's position to the page's
                position += _LEAF_ELEMENT.size
                value_begin = begin + key_size
                if begin != free or not key_size or flags > _IS_BUCKET:
                    raise self._damaged("an element is not where it has to be", offset)
                free = value_begin + value_size
                if free > end:
                    raise self._damaged("an element leaves its page", offset)
                key = page[begin:value_begin]
                if last is not None and key <= last:
                    raise self._damaged(f"the key {key!r} comes after {last!r}", offset)
                last = key
                if key >= start:
                    value = page[value_begin : value_begin + value_size]
                    yield key, value, offset + value_begin, bool(flags & _IS_BUCKET)

    def _leaves(self, start: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield the leaf pages from the one that ``start`` belongs to on, with their positions."""
        if self._inline:
            yield self._checked(self._inline, 0, self._offset, inline=True), self._offset
            return
        stack = [iter([self._root])]
        while stack:
            page_id = next(stack[-1], None)
            if page_id is None:
                stack.pop()
                continue
            page, offset = self._page(page_id)
            if _PAGE.unpack_from(page)[1] == _LEAF:
                yield page, offset
                continue
            if len(stack) > _MAX_HEIGHT:
                raise self._damaged("its pages point at each other", offset)
            stack.append(self._children(page, offset, start))

    def _children(self, page: bytes, offset: int, start: bytes) -> Iterator[int]:
        _id, _flags, count, _overflow = _PAGE.unpack_from(page)
        keys, children = [], []
        free = _PAGE.size + count * _BRANCH_ELEMENT.size
        if free > len(page):
            raise self._damaged(f"{count} elements do not fit into its page", offset)
        for position in range(_PAGE.size, free, _BRANCH_ELEMENT.size):
            begin, key_size, child = _BRANCH_ELEMENT.unpack_from(page, position)
            if position + begin != free or free + key_size > len(page):
                raise self._damaged("an element is not where it has to be", offset)
            keys.append(page[free : free + key_size])
            free += key_size
            children.append(child)
        if not count or keys != sorted(keys):
            raise self._damaged("the keys of a branch page do not ascend", offset)
        # The first child also holds what is smaller than its key.
        return iter(children[max(0, bisect_right(keys, start) - 1) :])

    def _page(self, page_id: int) -> tuple[bytes, int]:
        size, end = self._bolt.meta.page_size, self._bolt.meta.end
        offset = page_id * size
        if not 2 <= page_id < end:
            raise self._damaged(f"page {page_id} is none of the pages 2 to {end - 1}", -1)
        page = self._bolt.pages.read(offset, size)
        overflow = _PAGE.unpack_from(page)[3]
        if overflow:
            if page_id + overflow >= end:
                raise self._damaged(f"page {page_id} goes on for {overflow} pages, and {end} are all there are", offset)
            page += self._bolt.pages.read(offset + size, overflow * size)
        return self._checked(page, page_id, offset), offset

    def _checked(self, page: bytes, page_id: int, offset: int, inline: bool = False) -> bytes:
        if len(page) < _PAGE.size:
            raise self._damaged("its page is cut short", offset)
        found, flags, _count, _overflow = _PAGE.unpack_from(page)
        if found != page_id:
            raise self._damaged(f"page {page_id} says that it is page {found}", offset)
        if flags != _LEAF and (inline or flags != _BRANCH):
            raise self._damaged(f"page {page_id} is of kind {flags}, neither branch nor leaf", offset)
        return page

    def _damaged(self, why: str, offset: int) -> DamagedFile:
        return self._bolt.damaged(f"the bucket {self.name.decode(errors='replace')} is damaged", why, offset)


def fnv1a(data: bytes) -> int:
    """Return the 64-bit FNV-1a checksum."""
    result = 0xCBF29CE484222325
    for byte in data:
        result = ((result ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return result
