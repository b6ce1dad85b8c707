# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Pachyderm 1.x's content store: objects, which are named by their content, in blocks.

``object/<SHA-512, hex>`` is a small message that names a range of ``block/<id>``, where the content is; ``tag/<name>``
maps a name to an object.  ``index/<first two characters>`` holds what ``pachctl compact``-like maintenance gathered
from the two.  Facts: ``src/server/pfs/server/obj_block_api_server.go`` of v1.13.4.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from ..stores.base import ObjectMissing, Store
from ..stores.keys import ROOT, Spelling, key_of, name_of, raw_key
from .hashtree import (
    INDEX_SUFFIX,
    BlockRange,
    Damaged,
    HashTree,
    Node,
    decode_block_ref,
    encode_block_ref,
    merge,
    messages,
    read_shard,
)

_PREFIX = 2


def new_id() -> str:
    """Return a fresh identifier in the form that Pachyderm uses for blocks, commits and jobs."""
    return uuid.uuid4().hex


class BlockShort(Damaged):
    """A block ends before the bytes that belong to an object or a file."""


class Objects:
    """The content of one installation; safe for use by many threads."""

    def __init__(self, store: Store, spelling: Spelling, root: str = ROOT) -> None:
        """:param root: PACH_ROOT, which is part of every key but in a directory."""
        self.store = store
        self.spelling = spelling
        self._root = root
        self._indexes: dict[str, Any] = {}
        self._lock = threading.Lock()

    def key(self, name: str) -> str:
        """Return the store's key of the canonical ``name``."""
        return key_of(name, self.spelling, self._root)

    def raw(self, path: str) -> str:
        """Return the store's key of an object outside the four trees, such as a job's artifacts."""
        return raw_key(path, self.spelling)

    def names(self, tree: str) -> Iterator[str]:
        """Yield the canonical names of all objects of one tree, such as ``block``."""
        reversed_keys = self.spelling is Spelling.REVERSED
        for each in self.store.list("" if reversed_keys else self.key(f"{tree}/")):
            name = name_of(each.key, self.spelling, self._root)
            if name is not None and name.startswith(f"{tree}/"):
                yield name

    # Blocks

    def put_block(self, block: str, chunks: Iterable[bytes]) -> None:
        """Store a block's bytes under its id."""
        self.store.write(self.key(f"block/{block}"), chunks)

    def read_blocks(self, blocks: Iterable[BlockRange], offset: int = 0, size: int = 0) -> Iterator[bytes]:
        """Yield the bytes of ranges, one after the other.

        :param offset: how many bytes to leave out at the beginning.
        :param size: how many bytes to give at most; 0: all.
        """
        left = size
        for block in blocks:
            if offset >= block.size:
                offset -= block.size
                continue
            length = block.size - offset if not size else min(left, block.size - offset)
            yield from self._read_range(block.block, block.lower + offset, length)
            offset = 0
            left -= length
            if size and not left:
                return

    def _read_range(self, block: str, lower: int, size: int) -> Iterator[bytes]:
        missing = size
        for chunk in self.store.read(self.key(f"block/{block}"), lower, size):
            missing -= len(chunk)
            yield chunk
        if missing:
            raise BlockShort(
                "a block is too short",
                where=f"block/{block}",
                why=f"{missing} of the bytes before {lower + size} are missing",
            )

    # Objects

    def locate(self, name: str) -> BlockRange:
        """Return where the content of the object with this hash is.

        :raises ObjectMissing: when there is no such object.
        """
        entry = self._indexed(name, "objects")
        if entry is not None:
            return decode_block_ref(entry)
        data = b"".join(self.store.read(self.key(f"object/{name}")))
        return decode_block_ref(self._parsed("BlockRef", f"object/{name}", data))

    def place_of(self, name: str) -> str:
        """Return the canonical name of what leads to the object: its index where that has it, else its own."""
        return f"index/{name[:_PREFIX]}" if self._indexed(name, "objects") is not None else f"object/{name}"

    def place_of_tag(self, tag: str) -> str:
        """Return the canonical name of what leads to the tag, as ``place_of`` does."""
        return f"index/{tag[:_PREFIX]}" if self._indexed(tag, "tags") is not None else f"tag/{tag}"

    def has(self, name: str) -> bool:
        """Return whether there is an object with this hash."""
        return self.store.exists(self.key(f"object/{name}"))

    def read(self, names: Iterable[str], offset: int = 0, size: int = 0) -> Iterator[bytes]:
        """Yield the content of objects, one after the other; ``offset`` and ``size`` as for ``read_blocks``."""
        return self.read_blocks((self.locate(name) for name in names), offset, size)

    def read_all(self, name: str) -> bytes:
        """Return the content of one object."""
        return b"".join(self.read([name]))

    def put(self, chunks: Iterable[bytes], tags: Iterable[str] = ()) -> tuple[str, int]:
        """Store content and return the object's hash and size in bytes; equal content is kept once."""
        digest, size, block = hashlib.sha512(), 0, new_id()

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        try:
            self.put_block(block, counted())
        except BaseException:
            self.delete(f"block/{block}")
            raise
        name = digest.hexdigest()
        if self.has(name):
            self.delete(f"block/{block}")
        else:
            self.point(name, BlockRange(block, 0, size))
        for tag in tags:
            self.tag(name, tag)
        return name, size

    def point(self, name: str, block: BlockRange) -> None:
        """Make the object ``name`` the content of ``block``."""
        self.store.write(self.key(f"object/{name}"), [encode_block_ref(block).SerializeToString()])

    def delete(self, name: str) -> None:
        """Remove what has this canonical name; a missing one is no error."""
        self.store.delete(self.key(name))

    # Tags

    def tag(self, name: str, tag: str) -> None:
        """Give the object ``name`` a further name."""
        index = messages()["ObjectIndex"]()
        entry = index.tags.add(key=tag)
        entry.value.hash = name
        self.store.write(self.key(f"tag/{tag}"), [index.SerializeToString()])

    def tagged(self, tag: str) -> str | None:
        """Return the hash of the object with this tag, or None."""
        entry = self._indexed(tag, "tags")
        if entry is not None:
            return str(entry.hash)
        try:
            data = b"".join(self.store.read(self.key(f"tag/{tag}")))
        except ObjectMissing:
            return None
        for each in self._parsed("ObjectIndex", f"tag/{tag}", data).tags:
            if each.key == tag:
                return str(each.value.hash)
        return None

    def _indexed(self, name: str, kind: str) -> Any | None:
        prefix = name[:_PREFIX]
        with self._lock:
            if prefix not in self._indexes:
                entries: dict[str, dict[str, Any]] = {"objects": {}, "tags": {}}
                try:
                    data = b"".join(self.store.read(self.key(f"index/{prefix}")))
                except ObjectMissing:
                    data = b""
                index = self._parsed("ObjectIndex", f"index/{prefix}", data)
                entries["objects"] = {each.key: each.value for each in index.objects}
                entries["tags"] = {each.key: each.value for each in index.tags}
                self._indexes[prefix] = entries
            return self._indexes[prefix][kind].get(name)

    def _parsed(self, kind: str, where: str, data: bytes) -> Any:
        try:
            return messages()[kind].FromString(data)
        except Exception as error:  # protobuf's implementations raise different classes
            raise Damaged("an object is damaged", where=where, why=str(error)) from error

    # Trees

    def tree(self, name: str) -> HashTree:
        """Return the file tree in the tree form that the object ``name`` holds."""
        return HashTree.parse(self.read_all(name))

    def shards(self, names: Iterable[str]) -> dict[str, Node]:
        """Return the nodes that the shards with these object hashes hold together, by path in key order."""
        return merge(read_shard(self.read_all(name)) for name in names)

    def put_shard(self, shard: bytes, index: bytes) -> str:
        """Store a shard with its index beside its block, and return the shard's object hash."""
        name, _unused = self.put([shard])
        self.put_block(self.locate(name).block + INDEX_SUFFIX, [index])
        return name
