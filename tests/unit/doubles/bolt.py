# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer of bbolt files for tests of the reader; the real one, etcd's, is tested beside it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.bolt import fnv1a

BRANCH, LEAF, META, FREELIST = 1, 2, 4, 16
Items = Mapping[bytes, bytes]


def meta(page_size: int, page: int, root: int, end: int, transaction: int) -> bytes:
    """Return one meta page."""
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, page_size, 0, root, 0, 2, end, transaction)
    head = struct.pack("<QHHI", page, META, 0, 0)
    return (head + body + struct.pack("<Q", fnv1a(body))).ljust(page_size, b"\0")


def leaf(page: int, items: list[tuple[bytes, bytes, int]], page_size: int = 0) -> bytes:
    """Return one leaf page; ``page_size`` 0: as long as its content, for a bucket's inline page."""
    position = 16 * len(items)
    heads, data = b"", b""
    for index, (key, value, flags) in enumerate(items):
        heads += struct.pack("<IIII", flags, position - 16 * index + len(data), len(key), len(value))
        data += key + value
    size = 16 + len(heads) + len(data)
    overflow = (size - 1) // page_size if page_size else 0
    page_bytes = struct.pack("<QHHI", page, LEAF, len(items), overflow) + heads + data
    return page_bytes.ljust((overflow + 1) * page_size, b"\0")


def branch(page: int, children: list[tuple[bytes, int]], page_size: int) -> bytes:
    """Return one branch page."""
    heads, data = b"", b""
    for index, (key, child) in enumerate(children):
        heads += struct.pack("<IIQ", 16 * len(children) - 16 * index + len(data), len(key), child)
        data += key
    size = 16 + len(heads) + len(data)
    overflow = (size - 1) // page_size
    return (struct.pack("<QHHI", page, BRANCH, len(children), overflow) + heads + data).ljust(
        (overflow + 1) * page_size, b"\0"
    )


def database(buckets: Mapping[bytes, Items], page_size: int = 4096, per_page: int = 8, inline: int = 0) -> bytes:
    """Return a whole file.

    :param per_page: how many elements a page gets, which makes trees high and pages overflow.
    :param inline: up to how many items a bucket is kept inside the root.
    """
    pages: dict[int, bytes] = {2: struct.pack("<QHHI", 2, FREELIST, 0, 0).ljust(page_size, b"\0")}
    following = 3

    def add(make: object, content: list[tuple[bytes, bytes, int]] | list[tuple[bytes, int]]) -> int:
        nonlocal following
        page = following
        pages[page] = make(page, content, page_size)  # type: ignore[operator]
        following += len(pages[page]) // page_size
        return page

    def tree(items: list[tuple[bytes, bytes, int]]) -> int:
        rows = [items[at : at + per_page] for at in range(0, len(items), per_page)] or [[]]
        level = [(row[0][0] if row else b"", add(leaf, row)) for row in rows]
        while len(level) > 1:
            groups = [level[at : at + per_page] for at in range(0, len(level), per_page)]
            level = [(group[0][0], add(branch, group)) for group in groups]
        return level[0][1]

    root: list[tuple[bytes, bytes, int]] = []
    for name, items in sorted(buckets.items()):
        content = [(key, value, 0) for key, value in sorted(items.items())]
        if len(content) <= inline:
            root.append((name, struct.pack("<QQ", 0, 0) + leaf(0, content), 1))
        else:
            root.append((name, struct.pack("<QQ", tree(content), 0), 1))
    top = tree(root)
    pages[0] = meta(page_size, 0, top, following, 6)
    pages[1] = meta(page_size, 1, top, following, 7)
    return b"".join(pages[page] for page in sorted(pages))


def change(key: bytes, value: bytes, create: int, modified: int, version: int = 1, lease: int = 0) -> bytes:
    """Return a KeyValue message."""
    texts = [(0x0A, key), (0x2A, value)]
    numbers = [(0x10, create), (0x18, modified), (0x20, version), (0x30, lease & (1 << 64) - 1)]
    parts = [bytes([tag]) + varint(len(text)) + text for tag, text in texts if text]
    middle = [bytes([tag]) + varint(number) for tag, number in numbers if number]
    return b"".join([*parts[:1], *middle[:3], *parts[1:], *middle[3:]])


def varint(number: int) -> bytes:
    """Return a number as the wire format has it."""
    result = b""
    while number > 0x7F:
        result += bytes([number & 0x7F | 0x80])
        number >>= 7
    return result + bytes([number])


def revision(main: int, sub: int = 0, tombstone: bool = False) -> bytes:
    """Return a key of the bucket ``key``."""
    return struct.pack(">Q", main) + b"_" + struct.pack(">Q", sub) + (b"t" if tombstone else b"")


def snapshot(database_file: bytes) -> bytes:
    """Return the file as ``etcdctl snapshot save`` hands it out."""
    return database_file + hashlib.sha256(database_file).digest()
