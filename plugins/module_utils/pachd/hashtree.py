# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The file trees of Pachyderm 1.x commits: read, change, write.

A commit names its files by one object in the *tree* form (commits that users write) or by several objects in the
*shard* form (outputs of pipelines).  Both are frames, a length of eight bytes (little-endian, signed) and that
many bytes:

* tree: for each bucket, ``fs`` and then ``changed``, its header, its keys and values in turn, and the one byte ``*``;
* shard: keys and values in turn; each path is in exactly one shard of a commit.

A key is the path with every ``/`` as a NUL byte, the root is one NUL.  Paths in this module are clean: ``/a/b``, and
the root is the empty string.  Facts: ``src/server/pkg/hashtree`` of v1.13.4.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import StorageError
from ..protobuf import declare

_END = b"*"
_BUCKETS = ("fs", "changed")
_LENGTH = struct.Struct("<q")
_MAX_FRAME = 1 << 30
#: A shard's index holds one entry for each this many bytes of the shard.
INDEX_STEP = 100_000
#: The suffix of the block that holds a shard's index.
INDEX_SUFFIX = "-index"


@dataclass(frozen=True)
class BlockRange:
    """The bytes from ``lower`` to ``upper`` (exclusive) of one block."""

    block: str
    lower: int
    upper: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.upper - self.lower


@dataclass(frozen=True)
class Shared:
    """What every file of a split directory has around it: object hashes (empty: none) and sizes in bytes."""

    header: str = ""
    footer: str = ""
    header_size: int = 0
    footer_size: int = 0


@dataclass
class Node:
    """One file or directory; ``size`` in bytes, a directory's being the sum of what is below it.

    A file's content is its ``objects`` (hashes) or its ``blocks``, in order; a file has one of the two kinds only.
    """

    name: str
    directory: bool = False
    hash: bytes = b""
    size: int = 0
    objects: list[str] = field(default_factory=list)
    blocks: list[BlockRange] = field(default_factory=list)
    has_header_footer: bool = False
    shared: Shared | None = None

    def copy(self) -> Node:
        """Return a node that shares nothing mutable with this one."""
        return Node(
            self.name,
            self.directory,
            self.hash,
            self.size,
            list(self.objects),
            list(self.blocks),
            self.has_header_footer,
            self.shared,
        )


class Damaged(StorageError):
    """What was read is not what was once written: it differs, is cut short or cannot be understood."""


class TreeConflict(StorageError):
    """A path was to be a file and a directory at once, or objects and blocks were to be mixed in one file."""


@functools.cache
def messages() -> dict[str, Any]:
    """Return the message classes of a tree, by name."""
    return declare(
        "pachops.hashtree",
        {
            "Object": [("hash", 1, "string")],
            "Block": [("hash", 1, "string")],
            "ByteRange": [("lower", 1, "uint64"), ("upper", 2, "uint64")],
            "BlockRef": [("block", 1, "Block"), ("range", 2, "ByteRange")],
            "FileNode": [
                ("objects", 4, "repeated Object"),
                ("block_refs", 5, "repeated BlockRef"),
                ("has_header_footer", 6, "bool"),
            ],
            "Shared": [
                ("header", 1, "Object"),
                ("footer", 2, "Object"),
                ("header_size", 3, "int64"),
                ("footer_size", 4, "int64"),
            ],
            "DirectoryNode": [("children", 3, "repeated string"), ("shared", 4, "Shared")],
            "Node": [
                ("name", 1, "string"),
                ("hash", 2, "bytes"),
                ("subtree_size", 3, "int64"),
                ("file_node", 4, "FileNode"),
                ("dir_node", 5, "DirectoryNode"),
            ],
            "BucketHeader": [("bucket", 1, "string")],
            "Index": [("k", 1, "bytes"), ("offset", 2, "uint64")],
            "ObjectEntry": [("key", 1, "string"), ("value", 2, "BlockRef")],
            "TagEntry": [("key", 1, "string"), ("value", 2, "Object")],
            "ObjectIndex": [("objects", 1, "repeated ObjectEntry"), ("tags", 2, "repeated TagEntry")],
        },
    )


def key_of(path: str) -> bytes:
    """Return the key of a clean path."""
    return path.replace("/", "\0").encode() if path else b"\0"


def path_of(key: bytes) -> str:
    """Return the clean path of a key."""
    return "" if key == b"\0" else key.decode().replace("\0", "/")


def parent_of(path: str) -> str:
    """Return the path of the directory that holds ``path``."""
    return path.rpartition("/")[0]


def decode_node(data: bytes) -> Node:
    """Return the node that ``data`` is the message of.

    :raises Damaged: when it is no node.
    """
    try:
        message = messages()["Node"].FromString(data)
    except Exception as error:  # protobuf's implementations raise different classes
        raise Damaged("not a node of a file tree", why=str(error)) from error
    node = Node(message.name, not message.HasField("file_node"), message.hash, message.subtree_size)
    if message.HasField("file_node"):
        node.objects = [each.hash for each in message.file_node.objects]
        node.blocks = [decode_block_ref(each) for each in message.file_node.block_refs]
        node.has_header_footer = message.file_node.has_header_footer
    elif message.dir_node.HasField("shared"):
        shared = message.dir_node.shared
        node.shared = Shared(shared.header.hash, shared.footer.hash, shared.header_size, shared.footer_size)
    return node


def encode_node(node: Node) -> bytes:
    """Return the message of ``node``."""
    message = messages()["Node"](name=node.name, hash=node.hash, subtree_size=node.size)
    if not node.directory:
        message.file_node.SetInParent()
        for each in node.objects:
            message.file_node.objects.add(hash=each)
        for block in node.blocks:
            message.file_node.block_refs.append(encode_block_ref(block))
        message.file_node.has_header_footer = node.has_header_footer
    else:
        message.dir_node.SetInParent()
        if node.shared is not None:
            shared = message.dir_node.shared
            shared.SetInParent()
            if node.shared.header:
                shared.header.hash = node.shared.header
            if node.shared.footer:
                shared.footer.hash = node.shared.footer
            shared.header_size, shared.footer_size = node.shared.header_size, node.shared.footer_size
    return bytes(message.SerializeToString())


def decode_block_ref(message: Any) -> BlockRange:
    """Return the range that a ``BlockRef`` message (ours or python-pachyderm's) names."""
    return BlockRange(message.block.hash, message.range.lower, message.range.upper)


def encode_block_ref(block: BlockRange) -> Any:
    """Return ``block`` as a ``BlockRef`` message."""
    message = messages()["BlockRef"]()
    message.block.hash = block.block
    message.range.SetInParent()
    message.range.lower, message.range.upper = block.lower, block.upper
    return message


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the frames that the bytes of ``chunks`` consist of; no more is held than one frame and one chunk.

    :raises Damaged: when the last frame is cut short or a length is negative.
    """
    rest, offset = bytearray(), 0
    for chunk in chunks:
        rest += chunk
        position, end = 0, len(rest)
        while end - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(rest, position)
            if not 0 <= length <= _MAX_FRAME:
                raise Damaged("a file tree is damaged", why=f"the frame at byte {offset + position} has no length")
            begin = position + _LENGTH.size
            if begin + length > end:
                break
            yield bytes(rest[begin : begin + length])
            position = begin + length
        del rest[:position]
        offset += position
    if rest:
        raise Damaged("a file tree is cut short", why=f"{len(rest)} bytes are left at byte {offset}")


def frame(data: bytes) -> bytes:
    """Return ``data`` as one frame."""
    return _LENGTH.pack(len(data)) + data


def tree_entries(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of every file and directory of an object in the tree form, in key order.

    :raises Damaged: when the object has another form.
    """
    source = frames(chunks)
    for header in source:
        bucket = _bucket(header)
        for key in source:
            if key == _END:
                break
            value = next(source, None)
            if value is None:
                raise Damaged("a file tree is cut short", why=f"the key {key!r} has no value")
            if bucket == "fs":
                yield key, value
        else:
            raise Damaged("a file tree is cut short", why=f"the bucket {bucket!r} has no end")


def _bucket(header: bytes) -> str:
    try:
        bucket = str(messages()["BucketHeader"].FromString(header).bucket)
    except Exception as error:  # protobuf's implementations raise different classes
        raise Damaged("not a file tree", why=str(error)) from error
    if bucket not in _BUCKETS:
        raise Damaged("not a file tree", why=f"it has a bucket {bucket!r}")
    return bucket


def shard_entries(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of every file and directory of an object in the shard form, in key order.

    :raises Damaged: when the object has another form.
    """
    source = frames(chunks)
    for key in source:
        value = next(source, None)
        if value is None:
            raise Damaged("a file tree is cut short", why=f"the key {key!r} has no value")
        yield key, value


def read_tree(data: bytes) -> dict[str, Node]:
    """Return the nodes of an object in the tree form, by path.

    :raises Damaged: when the object has another form.
    """
    return {path_of(key): decode_node(value) for key, value in tree_entries([data])}


def read_shard(data: bytes) -> Iterator[tuple[str, Node]]:
    """Yield path and node of every entry of an object in the shard form, in key order.

    :raises Damaged: when the object has another form.
    """
    for key, value in shard_entries([data]):
        yield path_of(key), decode_node(value)


def write_shard(nodes: Iterable[tuple[str, Node]]) -> tuple[bytes, bytes]:
    """Return one shard and its index from paths and nodes in key order."""
    shard, index, entries = bytearray(), bytearray(), 0
    for path, node in nodes:
        if len(shard) > (entries + 1) * INDEX_STEP:
            index += frame(messages()["Index"](k=key_of(path), offset=len(shard)).SerializeToString())
            entries += 1
        shard += frame(key_of(path)) + frame(encode_node(node))
    return bytes(shard), bytes(index)


def decode_index(data: bytes) -> tuple[bytes, int]:
    """Return key and offset of one entry of a shard's index.

    :raises Damaged: when it is none.
    """
    try:
        entry = messages()["Index"].FromString(data)
    except Exception as error:  # protobuf's implementations raise different classes
        raise Damaged("not an entry of a shard's index", why=str(error)) from error
    return entry.k, entry.offset


def merge(shards: Iterable[Iterable[tuple[str, Node]]]) -> dict[str, Node]:
    """Return the nodes of several trees put together, by path in key order.

    Directories unite; a file of several trees has their blocks one after the other.

    :raises TreeConflict: when a path is a file in one and a directory in another.
    """
    merged: dict[str, Node] = {}
    for shard in shards:
        for path, node in shard:
            base = merged.get(path)
            if base is None:
                merged[path] = node.copy()
                continue
            if base.directory != node.directory:
                raise TreeConflict("a path is a file in one tree and a directory in another", where=path)
            base.blocks += node.blocks
            base.hash = hashlib.sha512(base.hash + node.hash).digest()
            base.size += node.size
    return dict(sorted(merged.items(), key=lambda item: key_of(item[0])))


def output_tree(files: Iterable[tuple[str, Node]], directories: Iterable[str] = ()) -> list[tuple[str, Node]]:
    """Return the entries of one datum's output in key order, with the directories that its files need.

    :param files: clean path and node of each file; a node's hash is the SHA-512 of its content.
    :param directories: further directories, which may be empty.
    """
    nodes: dict[str, Node] = {"": Node("", directory=True)}
    for path, node in [*((path, Node("", directory=True)) for path in directories), *files]:
        nodes[path] = node
        node.name = path.rpartition("/")[2]
        above = path
        while above:
            above = parent_of(above)
            nodes.setdefault(above, Node(above.rpartition("/")[2], directory=True))
    for path in sorted(nodes, key=lambda each: -each.count("/")):
        if path:
            nodes[parent_of(path)].size += nodes[path].size
    _hash_directories(nodes, {path for path, node in nodes.items() if node.directory})
    return _ordered(nodes)


def _ordered(nodes: dict[str, Node]) -> list[tuple[str, Node]]:
    return sorted(nodes.items(), key=lambda item: key_of(item[0]))


def _hash_directories(nodes: dict[str, Node], paths: set[str]) -> None:
    """Set the hashes of the directories ``paths`` from their children's, the deepest first."""
    children: dict[str, list[Node]] = {path: [] for path in paths}
    for path, node in _ordered(nodes):
        if path and parent_of(path) in children:
            children[parent_of(path)].append(node)
    for path in sorted(paths, key=lambda each: -each.count("/")):
        digest = hashlib.sha256()
        for child in children[path]:
            digest.update(child.name.encode() + b":" + child.hash + b":")
        nodes[path].hash = digest.digest()


class HashTree:
    """The files of one commit in the tree form, in memory.

    Sizes are kept right with every change, hashes only by ``finish``.
    """

    def __init__(self, nodes: dict[str, Node] | None = None) -> None:
        self.nodes: dict[str, Node] = nodes if nodes is not None else {"": Node("", directory=True)}
        self._changed: set[str] = set() if nodes is not None else {""}

    @classmethod
    def parse(cls, data: bytes) -> HashTree:
        """Return the tree that an object holds."""
        return cls(read_tree(data))

    def copy(self) -> HashTree:
        """Return a tree that can be changed without changing this one."""
        duplicate = HashTree({path: node.copy() for path, node in self.nodes.items()})
        duplicate._changed = set(self._changed)
        return duplicate

    def items(self) -> list[tuple[str, Node]]:
        """Return paths and nodes in key order."""
        return _ordered(self.nodes)

    def children(self, path: str) -> list[tuple[str, Node]]:
        """Return paths and nodes directly below the directory ``path``, in key order."""
        return [item for item in self.items() if item[0] and parent_of(item[0]) == path]

    def put_file(
        self,
        path: str,
        size: int,
        objects: Iterable[str] = (),
        blocks: Iterable[BlockRange] = (),
        keep: int | None = None,
        has_header_footer: bool = False,
    ) -> None:
        """Append content to the file at ``path``, which is created where missing.

        :param size: by how much the file grows, in bytes.
        :param keep: how many of the file's present objects (and blocks) stay before the new ones; default: all.
        :param has_header_footer: whether a new file is one of a split directory with header or footer.
        :raises TreeConflict: when ``path`` is a directory, lies below a file, or would mix objects and blocks.
        """
        node = self.nodes.get(path)
        if node is None:
            node = Node(path.rpartition("/")[2], has_header_footer=has_header_footer)
        elif node.directory:
            raise TreeConflict(f'could not put file at "{path}"; a file of type directory is already there')
        added_objects, added_blocks = list(objects), list(blocks)
        kept_objects = node.objects if keep is None or keep > len(node.objects) else node.objects[:keep]
        kept_blocks = node.blocks if keep is None or keep > len(node.blocks) else node.blocks[:keep]
        if added_objects and kept_blocks:
            raise TreeConflict(
                f'could not put block refs to regular file at "{path}"; because it already has BlockRef content'
            )
        if added_blocks and kept_objects:
            raise TreeConflict(
                f'could not put objects to regular file at "{path}"; because it already has Object content'
            )
        self._check_parents(path)
        node.objects, node.blocks = [*kept_objects, *added_objects], [*kept_blocks, *added_blocks]
        self.nodes[path] = node
        self._grow(path, size)

    def put_shared(self, path: str, shared: Shared) -> None:
        """Give the directory at ``path``, which is created where missing, the header and footer of its files.

        :raises TreeConflict: when ``path`` is a file.
        """
        node = self.nodes.get(path)
        if node is None:
            node = self.nodes[path] = Node(path.rpartition("/")[2], directory=True)
            node.size = shared.header_size + shared.footer_size
        elif not node.directory:
            raise TreeConflict(f'cannot add header to non-directory file at "{path}"')
        node.shared = shared
        self._changed.add(path)

    def _check_parents(self, path: str) -> None:
        parent = path
        while parent:
            parent = parent_of(parent)
            if parent in self.nodes and not self.nodes[parent].directory:
                raise TreeConflict(f'attempted to visit "{parent}", but it\'s not a directory')

    def _grow(self, path: str, size: int) -> None:
        self.nodes[path].size += size
        self._changed.add(path)
        while path:
            path = parent_of(path)
            self.nodes.setdefault(path, Node(path.rpartition("/")[2], directory=True)).size += size
            self._changed.add(path)

    def delete(self, path: str) -> None:
        """Remove the file or directory at ``path`` with all below it; a missing path is no error."""
        node = self.nodes.get(path)
        if node is None or not path:
            return
        below = f"{path}/"
        for each in [each for each in self.nodes if each == path or each.startswith(below)]:
            del self.nodes[each]
            self._changed.discard(each)
        self._grow(parent_of(path), -node.size)

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return self.nodes[""].size

    def finish(self) -> None:
        """Bring the hashes of all changed nodes up to date."""
        for path in self._changed:
            node = self.nodes[path]
            if not node.directory:
                node.hash = hashlib.sha256("".join(node.objects).encode()).digest()
        _hash_directories(self.nodes, {path for path in self._changed if self.nodes[path].directory})
        self._changed.clear()

    def serialize(self) -> bytes:
        """Return the tree as an object's content; hashes are brought up to date first."""
        self.finish()
        data = bytearray()
        for bucket in _BUCKETS:
            data += frame(messages()["BucketHeader"](bucket=bucket).SerializeToString())
            if bucket == "fs":
                for path, node in self.items():
                    data += frame(key_of(path)) + frame(encode_node(node))
            data += frame(_END)
        return bytes(data)
