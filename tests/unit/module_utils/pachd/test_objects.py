# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content store: objects named by their content, tags, indexes, ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import (
    INDEX_SUFFIX,
    BlockRange,
    HashTree,
    Node,
    messages,
    output_tree,
    write_shard,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import ObjectMissing
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling


@pytest.fixture(params=[Spelling.DIRECTORY, Spelling.PLAIN, Spelling.REVERSED])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return Objects(DirectoryStore(tmp_path), request.param)


def test_equal_content_is_kept_once(objects: Objects) -> None:
    name, size = objects.put([b"he", b"llo"])
    assert (name, size) == (hashlib.sha512(b"hello").hexdigest(), 5)
    assert objects.put([b"hello"]) == (name, 5)
    assert list(objects.names("object")) == [f"object/{name}"]
    assert len(list(objects.names("block"))) == 1
    assert objects.has(name)
    assert objects.read_all(name) == b"hello"


def test_ranges_go_over_the_bounds_of_objects(objects: Objects) -> None:
    names = [objects.put([part])[0] for part in (b"0123", b"", b"45", b"6789")]
    for offset in range(11):
        for size in range(1, 12):
            assert b"".join(objects.read(names, offset, size)) == b"0123456789"[offset : offset + size]
        assert b"".join(objects.read(names, offset)) == b"0123456789"[offset:]


def test_tags_name_objects(objects: Objects) -> None:
    name, _size = objects.put([b"x"], tags=["first", "second"])
    assert objects.tagged("first") == objects.tagged("second") == name
    assert objects.tagged("third") is None
    assert sorted(objects.names("tag")) == ["tag/first", "tag/second"]


def test_an_index_stands_for_the_objects_and_tags_that_it_gathered(tmp_path: Path) -> None:
    objects = Objects(DirectoryStore(tmp_path), Spelling.PLAIN)
    name, _size = objects.put([b"x"], tags=["aatag"])
    index = messages()["ObjectIndex"]()
    entry = index.objects.add(key=name)
    block = objects.locate(name)
    entry.value.block.hash, entry.value.range.upper = block.block, block.upper
    objects.store.write(objects.key(f"index/{name[:2]}"), [index.SerializeToString()])
    tags = messages()["ObjectIndex"]()
    tags.tags.add(key="bbtag").value.hash = name
    objects.store.write(objects.key("index/bb"), [tags.SerializeToString()])
    objects.delete(f"object/{name}")
    fresh = Objects(objects.store, Spelling.PLAIN)
    assert fresh.read_all(name) == b"x"
    assert fresh.tagged("bbtag") == name


def test_missing_and_damaged_objects_are_told(objects: Objects) -> None:
    with pytest.raises(ObjectMissing):
        objects.read_all("0" * 128)
    objects.store.write(objects.key("object/damaged"), [b"\xff\xff"])
    with pytest.raises(StorageError, match="damaged"):
        objects.locate("damaged")


def test_a_source_that_fails_leaves_no_block(objects: Objects) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        objects.put(broken())
    assert list(objects.names("block")) == []


def test_trees_of_both_forms(objects: Objects) -> None:
    tree = HashTree()
    tree.put_file("/a", 1, [objects.put([b"x"])[0]])
    name, _size = objects.put([tree.serialize()])
    assert objects.tree(name).nodes == tree.nodes
    shard, index = write_shard(output_tree([("/b", Node("", size=1, hash=b"h", blocks=[BlockRange("k", 0, 1)]))]))
    shard_name = objects.put_shard(shard, index)
    assert list(objects.shards([shard_name])) == ["", "/b"]
    assert f"block/{objects.locate(shard_name).block}{INDEX_SUFFIX}" in set(objects.names("block"))


def test_objects_outside_the_trees_follow_the_spelling(objects: Objects) -> None:
    assert objects.raw("a/b") == ("b/a" if objects.spelling is Spelling.REVERSED else "a/b")
