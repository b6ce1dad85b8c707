# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What was written into a commit that is not finished: put-file records, applied to the tree of its parent.

Every write to a path is one ``PutFileRecords`` message, and writes count in the order in which etcd saw them.  Facts:
``applyWrite`` in ``src/server/pfs/server/driver.go`` of v1.13.4.
"""

from __future__ import annotations

from typing import Any

from ..errors import StorageError
from . import paths
from .hashtree import HashTree, Shared, decode_block_ref

# Files of a split directory are numbered in hexadecimal digits.
_SPLIT_NAME = "{:016x}"


def apply_records(tree: HashTree, path: str, records: Any) -> None:
    """Do to ``tree`` what one ``PutFileRecords`` message (ours or python-pachyderm's) says of ``path``.

    :raises TreeConflict: what was written does not fit to what is there.
    :raises InputError: the path of a deletion is a malformed pattern.
    """
    path = paths.clean(path)
    if records.tombstone:
        _delete(tree, path)
    if records.split:
        _put_split(tree, path, records)
        return
    sizes: dict[str, int] = {}
    for record in records.records:
        sizes[record.object_hash] = record.size_bytes
        keep, size = None, record.size_bytes
        if record.HasField("overwrite_index"):
            keep = record.overwrite_index.index
            node = tree.nodes.get(path)
            size -= sum(sizes.get(each, 0) for each in (node.objects[keep:] if node else ()))
        _put(tree, path, record, size, keep)


def _put(
    tree: HashTree, path: str, record: Any, size: int, keep: int | None = None, has_header_footer: bool = False
) -> None:
    objects = [record.object_hash] if record.object_hash else []
    blocks = [decode_block_ref(record.block_ref)] if record.HasField("block_ref") and not objects else []
    tree.put_file(path, size, objects, blocks, keep, has_header_footer)


def _delete(tree: HashTree, path: str) -> None:
    if not path:
        for child, _unused in tree.children(""):
            tree.delete(child)
    elif paths.is_glob(path):
        pattern = paths.glob(path)
        for each in [each for each in tree.nodes if pattern.fullmatch(each)]:
            tree.delete(each)
    else:
        tree.delete(path)


def _put_split(tree: HashTree, path: str, records: Any) -> None:
    """Add one file per record to the directory at ``path``, numbered on from those that it has."""
    number = 0
    children = tree.children(path) if path in tree.nodes else []
    if children:
        last = children[-1][1].name
        try:
            number = int(last, 16) + 1
        except ValueError:
            raise StorageError(
                "a directory holds files that were put with split, and others", where=path, why=f"one is {last}"
            ) from None
    shared = records.HasField("header") or records.HasField("footer")
    if shared:
        header, footer = records.header, records.footer
        tree.put_shared(path, Shared(header.object_hash, footer.object_hash, header.size_bytes, footer.size_bytes))
    for index, record in enumerate(records.records, number):
        _put(tree, f"{path}/{_SPLIT_NAME.format(index)}", record, record.size_bytes, has_header_footer=shared)
