# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""File trees: what a genuine pachd wrote is read, and written again byte for byte."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import hashtree
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import (
    BlockRange,
    HashTree,
    Node,
    Shared,
    TreeConflict,
    frame,
    merge,
    output_tree,
    read_shard,
    read_tree,
    write_shard,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling


@pytest.fixture(scope="module")
def genuine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The content that a genuine pachd 1.13.4 wrote."""
    directory = tmp_path_factory.mktemp("pach")
    with tarfile.open(root / "tests/fixtures/pachyderm-1.13.4/objects-local.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return Objects(DirectoryStore(directory), Spelling.DIRECTORY)


def contents(objects: Objects) -> list[bytes]:
    return [objects.read_all(name.removeprefix("object/")) for name in objects.names("object")]


def is_tree(data: bytes) -> bool:
    return data.startswith(frame(b"\n\x02fs"))


def is_shard(data: bytes) -> bool:
    return data.startswith(frame(b"\0"))


def test_a_genuine_tree_is_written_again_byte_for_byte(genuine: Objects) -> None:
    trees = [data for data in contents(genuine) if is_tree(data)]
    assert len(trees) > 5
    for data in trees:
        tree = HashTree.parse(data)
        assert tree.serialize() == data
        # All hashes and sizes computed anew are the recorded ones.
        rebuilt = HashTree()
        for path, node in tree.items():
            if not node.directory:
                rebuilt.put_file(path, node.size, node.objects)
        assert rebuilt.serialize() == data


def test_a_genuine_shard_is_written_again_byte_for_byte(genuine: Objects) -> None:
    shards = [data for data in contents(genuine) if is_shard(data)]
    assert shards
    for data in shards:
        assert write_shard(read_shard(data))[0] == data


def test_the_files_of_genuine_trees_are_the_recorded_ones(genuine: Objects, root: Path) -> None:
    truth = json.loads((root / "tests/fixtures/pachyderm-1.13.4/truth.json").read_text())
    sizes = {
        (path, file["size"])
        for repo in truth["repos"].values()
        for commit in repo["commits"]
        for path, file in commit.get("files", {}).items()
    }
    found = {
        (path, node.size)
        for data in contents(genuine)
        if is_tree(data) or is_shard(data)
        for path, node in (read_tree(data).items() if is_tree(data) else read_shard(data))
        if not node.directory
    }
    assert sizes <= found


def test_appending_overwriting_and_deleting_keep_sizes_and_hashes() -> None:
    tree = HashTree()
    tree.put_file("/a/b", 3, ["x"])
    tree.put_file("/a/c", 4, ["y"])
    tree.put_file("/a/b", 5, ["z"])
    assert tree.nodes["/a/b"].objects == ["x", "z"]
    assert (tree.size, tree.nodes["/a"].size) == (12, 12)
    tree.finish()
    before = tree.nodes[""].hash
    tree.put_file("/a/b", -2, ["w"], keep=1)
    tree.finish()
    assert tree.nodes["/a/b"].objects == ["x", "w"]
    assert tree.nodes[""].hash != before
    assert [path for path, _unused in tree.children("/a")] == ["/a/b", "/a/c"]
    unchanged = tree.copy()
    tree.delete("/a")
    tree.delete("/a")
    assert list(tree.nodes) == [""]
    assert tree.size == 0
    assert unchanged.size == 10
    assert HashTree.parse(unchanged.serialize()).nodes == unchanged.nodes


def test_files_and_directories_exclude_each_other() -> None:
    tree = HashTree()
    tree.put_file("/a/b", 1, ["x"])
    with pytest.raises(TreeConflict, match="type directory"):
        tree.put_file("/a", 1, ["x"])
    with pytest.raises(TreeConflict, match="not a directory"):
        tree.put_file("/a/b/c", 1, ["x"])
    with pytest.raises(TreeConflict, match="already has Object content"):
        tree.put_file("/a/b", 1, blocks=[BlockRange("b", 0, 1)])
    tree.put_file("/blocks", 1, blocks=[BlockRange("b", 0, 1)])
    with pytest.raises(TreeConflict, match="already has BlockRef content"):
        tree.put_file("/blocks", 1, ["x"])


def test_an_output_tree_has_the_directories_that_its_files_need() -> None:
    entries = output_tree([("/a/b/c", Node("", size=3, hash=b"h", blocks=[BlockRange("k", 0, 3)]))], ["/empty"])
    assert [(path, node.directory, node.size) for path, node in entries] == [
        ("", True, 3),
        ("/a", True, 3),
        ("/a/b", True, 3),
        ("/a/b/c", False, 3),
        ("/empty", True, 0),
    ]
    assert all(len(node.hash) == 32 for _path, node in entries if node.directory)


def test_shards_merge_by_path_and_files_append() -> None:
    def shard(path: str, size: int) -> list[tuple[str, Node]]:
        return output_tree([(path, Node("", size=size, hash=b"h", blocks=[BlockRange(path, 0, size)]))])

    merged = merge([shard("/a/1", 1), shard("/a/2", 2), shard("/a/1", 4)])
    assert {path: node.size for path, node in merged.items()} == {"": 7, "/a": 7, "/a/1": 5, "/a/2": 2}
    assert [each.size for each in merged["/a/1"].blocks] == [1, 4]
    with pytest.raises(TreeConflict, match="directory"):
        merge([shard("/a/1", 1), shard("/a", 1)])


def test_a_shards_index_leads_to_its_entries() -> None:
    files = [
        (f"/{number:05}", Node("", size=1, hash=b"h" * 64, blocks=[BlockRange("k" * 32, 0, 1)]))
        for number in range(3000)
    ]
    shard, index = write_shard(output_tree(files))
    entries = [hashtree.messages()["Index"].FromString(each) for each in hashtree.frames([index])]
    assert len(entries) == len(shard) // hashtree.INDEX_STEP
    for entry in entries:
        assert next(read_shard(shard[entry.offset :]))[0] == hashtree.path_of(entry.k)


def test_nodes_survive_with_all_that_a_split_directory_has() -> None:
    for node in [
        Node("d", directory=True, hash=b"h", size=9, shared=Shared("header", "footer", 2, 3)),
        Node("d", directory=True, shared=Shared()),
        Node("f", size=3, objects=["x"], has_header_footer=True),
        Node("f", size=3, blocks=[BlockRange("k", 1, 4), BlockRange("k", 0, 1)]),
    ]:
        assert hashtree.decode_node(hashtree.encode_node(node)) == node
        assert node.copy() == node


FS = frame(b"\n\x02fs")


@pytest.mark.parametrize(
    "data",
    [
        b"\x05",
        b"\x05" + bytes(7) + b"ab",
        b"\xff" * 8,
        FS + frame(b"/a"),
        FS,
        FS + frame(b"\0") + frame(b"\xff"),
        frame(b"\n\x01x"),
    ],
    ids=[
        "half a length",
        "half a frame",
        "negative length",
        "key without value",
        "no end",
        "no node",
        "unknown bucket",
    ],
)
def test_a_damaged_tree_is_refused(data: bytes) -> None:
    with pytest.raises(StorageError):
        read_tree(data)


def test_a_damaged_shard_is_refused() -> None:
    with pytest.raises(StorageError):
        list(read_shard(frame(b"\0")))
