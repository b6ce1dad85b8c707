# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deep verification finds every kind of damage, says what it hurts, and finds none in what is whole."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import deep
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.deep import DeepResult, Finding, joins, verify
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import (
    BlockRange,
    HashTree,
    Node,
    Shared,
    frame,
    output_tree,
    write_shard,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from doubles import genuine
from doubles.state import FIRST, SECOND, Made

RANDOM = random.Random(3)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with genuine.state(tmp_path) as opened:
        yield opened


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def kinds(result: DeepResult) -> list[str]:
    return [each.kind for each in result.findings]


def some(names: list[str]) -> list[str]:
    """Return a few names of every kind."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(names):
        kinds.setdefault("index" if name.endswith("-index") else name.partition("/")[0], []).append(name)
    return [name for found in kinds.values() for name in RANDOM.sample(found, min(5, len(found)))]


def test_a_genuine_state_is_whole(state: State, tmp_path: Path) -> None:
    events = tmp_path / "events"
    events.touch()
    result = verify(state, progress=Progress(str(events), interval=0))
    assert result.passed
    assert (result.revision, result.repos, result.commits, result.tags, result.unproven) == (329, 8, 28, 31, 0)
    store = state.objects.store
    names = set(state.reachable())
    # Every byte once: all blocks but the indexes of trees.
    blocks = {each.key: each.size for each in store.list() if each.key in names and each.key.startswith("block/")}
    assert result.bytes == sum(size for key, size in blocks.items() if not key.endswith("-index"))
    assert result.as_dict()["passed"] is True
    stages = [json.loads(line) for line in events.read_text().splitlines()]
    last = [each for each in stages if each["stage"] == "read the blocks"][-1]
    assert last["done"] == last["total"] > 100_000


def test_whatever_is_missing_is_found(state: State) -> None:
    """Objects, blocks and indexes, one at a time; a missing tag only costs a computation."""
    store, root = state.objects.store, state.objects.store._root  # type: ignore[attr-defined]
    for name in some(list(state.reachable())):
        path = root / name
        content = path.read_bytes()
        path.unlink()
        result = verify(State(state.keys, type(state.objects)(store, state.objects.spelling)))
        path.write_bytes(content)
        if name.startswith("tag/"):
            assert result.passed
            assert result.tags == 30
            continue
        assert "missing" in kinds(result), name
        assert name in {each.name for each in result.findings}
        for finding in result.findings:
            assert finding.hurts, finding
            assert finding.hurts_total >= len(finding.hurts)


def test_whatever_is_flipped_or_cut_is_found(state: State) -> None:
    store, root = state.objects.store, state.objects.store._root  # type: ignore[attr-defined]
    for name in some([name for name in state.reachable() if (root / name).stat().st_size]):
        path = root / name
        content = path.read_bytes()
        damaged = bytearray(content)
        if RANDOM.random() < 0.5:
            damaged[RANDOM.randrange(len(damaged))] ^= 1 << RANDOM.randrange(8)
        else:
            del damaged[RANDOM.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        result = verify(State(state.keys, type(state.objects)(store, state.objects.spelling)))
        path.write_bytes(content)
        # A tag that names no result any more is like none.
        assert not result.passed or (name.startswith("tag/") and result.tags == 30), name


def test_what_is_hurt_is_named_by_repo_commit_and_path(state: State) -> None:
    commit = state.commit("parameters", "master")
    file = state.file(commit, "/bins.json")
    block = state.objects.locate(file.objects[0])
    content = b"".join(state.content(file))
    state.objects.put_block(block.block, [b"X" + content[1:]])
    result = verify(state)
    (finding,) = [each for each in result.findings if each.name == f"block/{block.block}"]
    assert finding.kind == "hash"
    assert f"{commit}:/bins.json" in finding.hurts
    assert str(finding).startswith(f"hash: block/{block.block}: bytes 0 to 62 have the SHA-512")


def test_a_lost_tree_hurts_the_whole_commit(state: State) -> None:
    commit = state.commit("ticks", "master")
    state.objects.delete(f"object/{commit.tree}")
    result = verify(state)
    (finding,) = [each for each in result.findings if each.name == f"object/{commit.tree}"]
    assert (finding.kind, finding.hurts[0]) == ("missing", str(commit))
    # The open commit on top of it is lost with it.
    assert any(str(state.open_commits()[0]) in each.hurts for each in result.findings)


def test_only_the_first_places_are_shown() -> None:
    finding = Finding("missing", "block/a", "why", ("a@1:/x", "a@2:/x"), 7)
    assert str(finding) == "missing: block/a: why; needed by a@1:/x, a@2:/x and 5 more"
    assert str(Finding("missing", "block/a", "why")).endswith("needed by nothing")


# What the genuine state has none of


def output(made: Made, files: dict[str, list[bytes]], *, hashed: Any = None, tag: bool = False) -> str:
    """Make an output commit whose files consist of the given parts in one block, and return the block."""
    block, content, entries = "c" * 32, b"", []
    for path, parts in files.items():
        node = Node("", size=sum(map(len, parts)))
        for part in parts:
            node.blocks.append(BlockRange(block, len(content), len(content) + len(part)))
            content += part
        node.hash = (hashed or combined)(parts)
        entries.append((path, node))
    made.objects.put_block(block, [content])
    fields: dict[str, Any] = {"trees": [{"hash": made.objects.put_shard(*write_shard(output_tree(entries)))}]}
    if tag:
        singles = []
        for path, node in entries:
            for number, part in enumerate(node.blocks):
                single = Node("", size=part.size, blocks=[part])
                single.hash = hashlib.sha512(content[part.lower : part.upper]).digest()
                singles.append((f"{path}{number}", single))
        result, _size = made.objects.put([write_shard(output_tree(singles))[0]], tags=["aa01"])
        assert result
        fields["datums"] = {"hash": made.put(frame(b"aa01") + frame(b"aa02"))}
    made.finished(**fields)
    return block


def combined(parts: list[bytes]) -> bytes:
    """Return how the parts of one file are joined when they are joined from left to right."""
    digest = hashlib.sha512(parts[0]).digest()
    for part in parts[1:]:
        digest = hashlib.sha512(digest + hashlib.sha512(part).digest()).digest()
    return digest


def unknown(_parts: list[bytes]) -> bytes:
    return b"?" * 64


def of_names(parts: list[bytes]) -> bytes:
    return hashlib.sha256("".join(hashlib.sha512(part).hexdigest() for part in parts).encode()).digest()


@pytest.mark.parametrize("hashed", [combined, of_names])
def test_files_of_several_parts_are_proven_by_their_hash(made: Made, hashed: Any) -> None:
    files = {"/a": [b"one", b"two", b"three"], "/b": [b"", b"x"], "/c": [b""], "/d": [b"1", b"2"]}
    block = output(made, files, hashed=hashed)
    result = verify(made.state)
    assert (result.findings, result.unproven, result.files) == ([], 0, 4)
    made.objects.put_block(block, [b"onetwothreex1", b"!"])
    damaged = verify(made.state)
    if hashed is combined:
        # The order of joining is not recorded, so a hash that does not fit proves nothing either way.
        assert (damaged.findings, damaged.unproven) == ([], 1)
    else:
        (finding,) = damaged.findings
        assert (finding.kind, finding.hurts) == ("hash", (f"data@{FIRST}:/d",))


def test_results_of_datums_prove_what_was_joined_in_an_unknown_order(made: Made) -> None:
    files = {"/a": [bytes([number]) * 5 for number in range(20)]}
    output(made, files, hashed=unknown)
    assert verify(made.state).unproven == 1
    block = output(made, files, hashed=unknown, tag=True)
    result = verify(made.state)
    assert (result.findings, result.unproven, result.tags) == ([], 0, 1)
    made.objects.put_block(block, [bytes(100)])
    findings = verify(made.state).findings
    assert {each.kind for each in findings} == {"hash"}
    assert len(findings) == 19  # the first part is all zeros anyway
    assert all(each.hurts == (f"data@{FIRST}:/a",) for each in findings)


def test_ranges_that_overlap_or_lie_far_apart_are_read_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    content = RANDOM.randbytes(3 << 20)
    block = "d" * 32
    made.objects.put_block(block, [content])
    ranges = [(0, 10), (0, 2 << 20), (5, 15), (1 << 20, 2 << 20), (1 << 20, 1 << 20), (2 << 20, 2 << 20)]
    ranges += [((2 << 20) + 200_000, (2 << 20) + 300_000), (3 << 20, 3 << 20)]
    entries = []
    for number, (lower, upper) in enumerate(ranges):
        node = Node("", size=upper - lower, blocks=[BlockRange(block, lower, upper)])
        node.hash = hashlib.sha512(content[lower:upper]).digest()
        entries.append((f"/{number}", node))
    made.finished(trees=[{"hash": made.objects.put_shard(*write_shard(output_tree(entries)))}])
    read = []
    real = made.objects.store.read

    def watched(key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        if key == f"block/{block}":
            read.append((offset, size))
        return real(key, offset, size)

    monkeypatch.setattr(made.objects.store, "read", watched)
    assert verify(made.state).passed
    assert read == [(0, 2 << 20), ((2 << 20) + 200_000, 100_000)]
    made.objects.put_block(block, [content[: (2 << 20) + 250_000]])
    (finding,) = [each for each in verify(made.state).findings if each.kind == "size"]
    assert finding.hurts == (f"data@{FIRST}:/6",)
    made.objects.put_block(block, [content[:12]])
    assert sorted(each.hurts[0][-1] for each in verify(made.state).findings) == ["1", "2", "3", "4", "5", "6"]
    made.objects.delete(f"block/{block}")
    (finding,) = verify(made.state).findings
    assert (finding.kind, finding.name, finding.hurts_total) == ("missing", f"block/{block}", len(ranges))


def test_a_missing_block_of_nothing_is_missing(made: Made) -> None:
    block = output(made, {"/empty": [b""]})
    assert verify(made.state).passed
    made.objects.delete(f"block/{block}")
    assert kinds(verify(made.state)) == ["missing"]


def test_sizes_that_are_not_the_recorded_ones_are_found(made: Made) -> None:
    tree = HashTree()
    tree.put_file("/a", 6, [made.put(b"12345")])
    tree.put_file("/b", 5, [made.put(b"12345")])
    tree.put_shared("/s", Shared(made.put(b"head"), "", 5, 0))
    tree.put_file("/s/0", 1, [made.put(b"x")], has_header_footer=True)
    made.finished(tree=made.tree(tree))
    found = sorted((each.kind, *each.hurts) for each in verify(made.state).findings)
    assert found == [("size", f"data@{FIRST}:/a"), ("size", f"data@{FIRST}:/s")]
    block = BlockRange("e" * 32, 0, 3)
    made.objects.put_block(block.block, [b"abc"])
    node = Node("", size=4, blocks=[block], hash=hashlib.sha512(b"abc").digest())
    shard = made.objects.put_shard(*write_shard(output_tree([("/a", node)])))
    made.finished(trees=[{"hash": shard}])
    (finding,) = verify(made.state).findings
    assert (finding.kind, finding.why) == ("size", "4 bytes are recorded, and its parts have 3")


def test_statistics_have_sizes_that_mean_nothing(made: Made) -> None:
    """As genuine workers write them: logs that are recorded as empty, inputs without content, markers without a hash."""
    made.objects.put_block("e" * 32, [b"said"])
    log = Node("", blocks=[BlockRange("e" * 32, 0, 4)], hash=hashlib.sha512(b"said").digest())
    files = [("/1/logs", log), ("/1/pfs/in/a", Node("", size=9, hash=b"i" * 32)), ("/1/job:1", Node(""))]
    trees = [{"hash": made.objects.put_shard(*write_shard(output_tree(files)))}]
    made.finished(trees=trees, branch={"repo": {"name": "data"}, "name": "stats"})
    result = verify(made.state)
    assert (result.findings, result.unproven, result.files) == ([], 0, 3)
    made.finished(trees=trees, branch={"repo": {"name": "data"}, "name": "master"})
    assert {each.hurts for each in verify(made.state).findings} == {
        (f"data@{FIRST}:/1/logs",),
        (f"data@{FIRST}:/1/pfs/in/a",),
    }


@pytest.mark.parametrize("index", [None, b"\x01", frame(b"\xff\xff"), frame(b"\x10\xff\xff\xff\x07")])
def test_a_shard_without_a_sound_index_is_of_no_use_to_pachd(made: Made, index: bytes | None) -> None:
    output(made, {"/a": [b"x"]})
    (shard,) = made.state.commit("data", FIRST).trees
    name = f"{made.objects.locate(shard).block}-index"
    if index is None:
        made.objects.delete(f"block/{name}")
    else:
        made.objects.put_block(name, [index])
    (finding,) = verify(made.state).findings
    assert finding.name == f"block/{name}"
    assert finding.why.endswith("pachd cannot list these files without it")
    assert finding.hurts == (f"data@{FIRST}",)


def test_a_name_that_is_no_hash_is_damage(made: Made) -> None:
    tree = HashTree()
    tree.put_file("/a", 0, ["no hash"])
    made.objects.point("no hash", BlockRange("f" * 32, 0, 0))
    made.finished(tree=made.tree(tree))
    (finding,) = verify(made.state).findings
    assert (finding.kind, finding.hurts) == ("damaged", (f"data@{FIRST}:/a",))


def test_a_result_of_a_datum_that_is_lost_is_found(made: Made) -> None:
    output(made, {"/a": [b"x"]}, tag=True)
    made.objects.delete(f"object/{made.objects.tagged('aa01')}")
    (finding,) = verify(made.state).findings
    assert (finding.kind, finding.hurts) == ("missing", (f"data@{FIRST} (result of a datum)",))


def test_an_open_commit_that_cannot_be_put_together_is_found(made: Made) -> None:
    made.commit(SECOND, parent_commit={"repo": {"name": "data"}, "id": FIRST})
    made.commit(FIRST, tree={"hash": "0" * 128}, finished={"seconds": 1})
    findings = verify(made.state).findings
    assert {each.hurts for each in findings} == {(f"data@{FIRST}",), (f"data@{SECOND}",)}


def test_a_store_that_does_not_answer_is_no_finding(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    output(made, {"/a": [b"x"]}, tag=True)
    real = made.objects.store.read

    for part in ("object/", "block/", "tag/", "block/" + "c" * 32):

        def failing(key: str, offset: int = 0, size: int | None = None, part: str = part) -> Iterator[bytes]:
            if key.startswith(part):
                raise StorageError("the store is away", why="503")
            return real(key, offset, size)

        monkeypatch.setattr(made.objects.store, "read", failing)
        with pytest.raises(StorageError, match="the store is away: 503"):
            verify(made.state)


def test_hashes_are_joined_in_any_order() -> None:
    one, two, three, four = (hashlib.sha512(bytes([number])).digest() for number in range(4))

    def join(left: bytes, right: bytes) -> bytes:
        return hashlib.sha512(left + right).digest()

    assert joins([one], one)
    assert joins([one, two, three, four], join(join(join(one, two), three), four))
    assert joins([one, two, three, four], join(join(one, two), join(three, four)))
    assert joins([one, two, three, four], join(one, join(join(two, three), four)))
    assert not joins([one, two, three, four], join(join(two, one), join(three, four)))
    many = [hashlib.sha512(bytes([number])).digest() for number in range(30)]
    assert not joins(many, join(many[0], many[1]))


def test_memory_does_not_grow_with_the_number_of_files(made: Made) -> None:
    """What is noted goes to disk: the database's cache is bounded, and no table is fetched as a whole."""
    import tracemalloc

    peaks = []
    for count in (1_000, 4_000):
        tree = HashTree()
        for number in range(count):
            tree.put_file(f"/{number}", 1, [hashlib.sha512(str(number).encode()).hexdigest()])
        made.finished(tree=made.tree(tree))
        deeper = deep._Deep(made.state, 2, Progress())
        tracemalloc.start()
        deeper._walk()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert deeper._number("object") == count
        deeper.close()
    # What was met lately is remembered, and the one chunk of the tree that is read.
    assert peaks[1] - peaks[0] < 3_000 * 600
