# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The offline reader: all that a genuine installation's API said comes out of its snapshot and objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, InputError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.keyspace import Snapshot
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import records
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import (
    BlockRange,
    Damaged,
    HashTree,
    Node,
    Shared,
    output_tree,
    write_shard,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import BlockShort, Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.records import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import NotInState, State
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import ObjectMissing
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from doubles import etcd as real
from doubles import genuine
from doubles.genuine import said, told
from doubles.state import FIRST, PB, SECOND, Made


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    with genuine.state(tmp_path_factory.mktemp("genuine")) as opened:
        yield opened


@pytest.mark.parametrize("spelling", list(Spelling))
def test_all_of_the_truth_comes_out(spelling: Spelling, tmp_path: Path) -> None:
    wanted = told(genuine.truth())
    with State.open(genuine.snapshot(tmp_path), genuine.objects(tmp_path / "store", spelling)) as state:
        found = said(state)
    specs = found["repos"].pop("__spec__")
    assert found["repos"] == wanted["repos"]
    assert specs["branches"].keys() == wanted["repos"].keys() - {"ticks", "parameters", "scratch"}
    versions = [len(commit["files"]) for repo in found["repos"].values() for commit in repo["commits"]]
    assert sum(versions) == genuine.FILE_VERSIONS
    assert found["jobs"] == wanted["jobs"]
    assert sorted(found["pipelines"], key=str) == sorted(wanted["pipelines"], key=str)
    assert found["cluster"] == wanted["cluster"]


def test_a_running_etcd_gives_the_same(tmp_path: Path, state: State) -> None:
    with (
        real.running(tmp_path) as address,
        EtcdClient(address) as client,
        State.open(genuine.snapshot(tmp_path)) as source,
    ):
        # In the order of creation, which is what lists are sorted by.
        for each in sorted(source.keys.range(), key=lambda found: found.create_revision):
            client.put(each.key, each.value)
        live = State.open(client, state.objects)
        with live:
            assert said(live)["repos"] == said(state)["repos"]
            assert sorted(live.reachable()) == sorted(state.reachable())
        assert client.status().revision > 1  # the client is the caller's


def test_what_the_metadata_reaches_is_there(state: State) -> None:
    names = list(state.reachable())
    assert len(names) == len(set(names)) == 250
    for name in names:
        assert state.objects.store.exists(name), name
    have = {each.key for each in state.objects.store.list()}
    # What is left is what pachd kept for itself when it read ranges of blocks on the local backend.
    assert {name for name in have - set(names) if not name.endswith("-0-0")} == set()


def test_records_are_decoded(state: State) -> None:
    pipeline = next(each for each in state.pipelines() if each.name == "measure")
    assert (pipeline.state, pipeline.last_job_state, pipeline.has_token) == ("RUNNING", "SUCCESS", False)
    assert pipeline.jobs["SUCCESS"] == 5
    spec = state.spec(pipeline)
    assert spec.inputs == (Ref("parameters", "master"), Ref("rebin", "master"))
    assert (spec.version, spec.output_branch, spec.enable_stats, len(spec.salt)) == (1, "master", False, 32)
    assert "raw" not in repr(spec)
    branch = state.branch("ticks", "staging")
    (opened,) = state.open_commits()
    assert (opened.id, opened.description, opened.open, opened.origin) == (branch.head, "left open", True, "USER")
    commit = state.commit("measure", "master")
    assert commit.is_output
    assert commit.trees
    assert commit.datums
    assert not commit.open
    assert commit.started
    assert commit.finished
    assert commit.started < commit.finished
    assert state.commit("parameters", "master").subvenance
    assert len(list(state.jobs())) == 15
    job = next(state.jobs())
    assert (job.pipeline, job.state, job.stats_commit, job.data_failed) == ("best", "SUCCESS", None, 0)
    assert state.auth() == records.Auth(False, 0, 0, 0, 0, 0, 0, False)
    repo = next(each for each in state.repos() if each.name == "ticks")
    assert set(repo.branches) == {Ref("ticks", "staging"), Ref("ticks", "master")}
    assert repo.created
    assert repo.created.year == 2026


def test_commits_are_found_by_ancestry(state: State) -> None:
    newest, *_middle, oldest = [each.id for each in state.commits("best")]
    row = [each.id for each in state.commits("best")]
    for reference, wanted in {
        "master": newest,
        newest: newest,
        "master^": row[1],
        "master~2": row[2],
        "master^^^": row[3],
        f"{newest}~4": oldest,
        "master.1": oldest,
        "master.2": row[-2],
        "master.": oldest,
        "master.5": newest,
        "master~0": newest,
    }.items():
        assert state.commit("best", reference).id == wanted, reference
    for reference in ("master~5", "master.6", "nothing", "0" * 12 + "4" + "0" * 19):
        with pytest.raises(NotInState, match="does not exist"):
            state.commit("best", reference)
    with pytest.raises(InputError, match="not a way to name a commit"):
        state.commit("best", "master^~")
    for call in (lambda: state.branches("nothing"), lambda: list(state.commits("nothing"))):
        with pytest.raises(NotInState, match=r"the repo does not exist \(nothing\): as of revision 329"):
            call()


def test_files_are_listed_like_directories(state: State) -> None:
    commit = state.commit("rebin", "master")
    assert [each.path for each in state.files(commit, recursive=False)] == ["/", "/09", "/10", "/16"]
    assert [each.path for each in state.files(commit, "09/", recursive=False)] == ["/09", "/09/00", "/09/30"]
    below = list(state.files(commit, "/09/00"))
    assert [each.path for each in below] == ["/09/00", *(f"/09/00/2018-05-0{day}.csv" for day in (1, 2, 3))]
    assert sum(each.size for each in below[1:]) == below[0].size
    (file,) = state.files(commit, "/09/00/2018-05-01.csv")
    assert b"".join(state.read(commit, file.path)).startswith(b"")
    for path in ("/09/0", "/nothing", "/09/00/2018-05-01.csv/x"):
        with pytest.raises(NotInState, match="the file does not exist"):
            list(state.files(commit, path))
    with pytest.raises(NotInState, match="this is a directory"):
        next(state.read(commit, "/09"))
    empty = state.commit("broken", "master")
    assert list(state.files(empty)) == []
    assert (state.file(empty, "/").type, state.file(empty, "/").size) == ("dir", 0)


def test_an_open_commit_has_its_parents_files_and_what_was_written(state: State) -> None:
    (commit,) = state.open_commits()
    files = {each.path: each for each in state.files(commit) if each.type == "file"}
    parent = {each.path for each in state.files(state.commit("ticks", commit.parent or "")) if each.type == "file"}
    assert files.keys() - parent == {"/2018/05/04/09/00.csv"}
    assert len(b"".join(state.content(files["/2018/05/04/09/00.csv"]))) == 13


def test_content_is_not_read_without_a_store(tmp_path: Path) -> None:
    with State.open(genuine.snapshot(tmp_path)) as state:
        commit = state.commit("ticks", "master")
        with pytest.raises(InputError, match="only metadata was opened"):
            list(state.files(commit))


def test_an_older_revision_is_read(tmp_path: Path, state: State) -> None:
    with State.open(genuine.snapshot(tmp_path), state.objects, revision=267) as older:
        assert older.keys.revision == 267
        assert len(list(older.commits("best"))) < 5
        assert [each.path for each in older.files(older.commit("scratch", "master"))] == ["/", "/junk.bin"]
    assert [each.path for each in state.files(state.commit("scratch", "master"))] == ["/"]


# What the genuine state has none of, made by hand


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_header_and_footer_are_around_every_file_of_a_split_directory(made: Made) -> None:
    header, footer = made.put(b"name,size\n"), made.put(b"end\n")
    tree = HashTree()
    tree.put_shared("/table", Shared(header, footer, 10, 4))
    for number, row in enumerate((b"a,1\n", b"b,2\n")):
        tree.put_file(f"/table/{number:016x}", len(row), [made.put(row)], has_header_footer=True)
    tree.put_shared("/titled", Shared(header, "", 10, 0))
    tree.put_file("/titled/0", 4, [made.put(b"c,3\n")], has_header_footer=True)
    tree.put_file("/titled/plain", 1, [made.put(b"p")])
    commit = made.finished(tree=made.tree(tree))
    assert made.contents(commit) == {
        "/table/0000000000000000": b"name,size\na,1\nend\n",
        "/table/0000000000000001": b"name,size\nb,2\nend\n",
        "/titled/0": b"name,size\nc,3\n",
        "/titled/plain": b"p",
    }
    file = made.state.file(commit, "/table/0000000000000001")
    assert file.size == 18
    assert file.hash == hashlib.sha256("".join(file.objects).encode()).hexdigest()
    reached = set(made.state.reachable())
    assert {f"object/{header}", f"object/{footer}", f"block/{made.objects.locate(footer).block}"} <= reached


def test_a_header_that_is_nowhere_is_damage(made: Made) -> None:
    tree = HashTree()
    tree.put_file("/table/0", 1, [made.put(b"x")], has_header_footer=True)
    commit = made.finished(tree=made.tree(tree))
    with pytest.raises(Damaged, match="a file's header is missing"):
        made.contents(commit)


def open_commit(made: Made) -> records.Commit:
    """Return an open commit on a parent with files."""
    tree = HashTree()
    for path, content in {"/kept": b"kept", "/changed": b"one", "/gone": b"gone", "/d/1": b"1", "/d/2": b"2"}.items():
        tree.put_file(path, len(content), [made.put(content)])
    made.finished(tree=made.tree(tree))
    return made.commit(SECOND, parent_commit={"repo": {"name": "data"}, "id": FIRST})


def part(content: bytes, made: Made, **fields: Any) -> Any:
    return PB["PutFileRecord"](object_hash=made.put(content), size_bytes=len(content), **fields)


def test_what_was_written_into_an_open_commit_is_applied_in_its_order(made: Made) -> None:
    commit = open_commit(made)
    made.record("/changed", records=[part(b" two", made), part(b" three", made)])
    made.record("/gone", tombstone=True)
    made.record("/d/[1]", tombstone=True)
    made.record("/new", records=[part(b"old", made)], tombstone=True)
    made.record("/over", records=[part(b"aa", made), part(b"bb", made), part(b"c", made, overwrite_index={"index": 1})])
    block = made.objects.locate(made.put(b"0123456789"))
    ref = {"block": {"hash": block.block}, "range": {"lower": 2, "upper": 5}}
    made.record("/copied", records=[PB["PutFileRecord"](block_ref=ref, size_bytes=3)])
    assert made.contents(commit) == {
        "/kept": b"kept",
        "/changed": b"one two three",
        "/d/2": b"2",
        "/new": b"old",
        "/over": b"aac",
        "/copied": b"234",
    }
    assert made.state.file(commit, "/over").size == 3
    reached = set(made.state.reachable())
    assert {f"object/{made.put(b' three')}", f"block/{block.block}"} <= reached
    assert f"object/{made.put(b'bb')}" not in reached


def test_everything_can_be_deleted_in_an_open_commit(made: Made) -> None:
    commit = open_commit(made)
    made.record("", tombstone=True)
    made.record("/after", records=[part(b"x", made)])
    assert made.contents(commit) == {"/after": b"x"}


def test_split_files_are_numbered_on(made: Made) -> None:
    commit = open_commit(made)
    header = part(b"h\n", made)
    made.record(
        "/t", split=True, header=header, footer=part(b"f\n", made), records=[part(b"1\n", made), part(b"2\n", made)]
    )
    made.record("/plain", split=True, records=[part(b"1", made)])
    found = made.contents(commit)
    assert found["/t/0000000000000000"] == b"h\n1\nf\n"
    assert found["/t/0000000000000001"] == b"h\n2\nf\n"
    assert found["/plain/0000000000000000"] == b"1"
    # The next commit's writes go on where these end.
    tree = HashTree()
    tree.put_file("/plain/000000000000000f", 1, [made.put(b"x")])
    made.finished(tree=made.tree(tree))
    assert set(made.contents(commit)) >= {"/plain/000000000000000f", "/plain/0000000000000010"}
    tree.put_file("/plain/readme", 1, [made.put(b"x")])
    made.finished(tree=made.tree(tree))
    with pytest.raises(StorageError, match="put with split, and others"):
        made.contents(commit)


def test_a_header_cannot_be_given_to_a_file(made: Made) -> None:
    commit = open_commit(made)
    made.record("/kept", split=True, header=part(b"h", made), records=[part(b"1", made)])
    with pytest.raises(StorageError, match="non-directory"):
        made.contents(commit)


def test_commits_that_cannot_be_read_say_why(made: Made) -> None:
    provenance = [{"commit": {"repo": {"name": "other"}, "id": SECOND}}]
    output = made.commit(provenance=provenance)
    with pytest.raises(StorageError, match=r"not finished.*output of a job"):
        made.contents(output)
    child = made.commit(SECOND, parent_commit={"repo": {"name": "data"}, "id": FIRST})
    with pytest.raises(StorageError, match="is open too"):
        made.contents(child)
    with pytest.raises(StorageError, match="is open too"):
        list(made.state.references())
    failed = made.finished(provenance=provenance)
    assert made.contents(failed) == {}
    # The failed output of a job has no tree, so whatever is written on it begins with nothing.
    assert made.contents(child) == {}


def test_files_of_several_shards_come_in_order_and_what_several_have_is_joined(made: Made) -> None:
    block = "b" * 32
    made.objects.put_block(block, [b"0123456789"])

    def file(lower: int, upper: int) -> Node:
        content = b"0123456789"[lower:upper]
        node = Node("", blocks=[BlockRange(block, lower, upper)], size=upper - lower)
        node.hash = hashlib.sha512(content).digest()
        return node

    shards = [
        output_tree([("/a/1", file(0, 2)), ("/c", file(2, 3))]),
        output_tree([("/a/2", file(3, 6)), ("/b", file(6, 7))]),
        output_tree([("/b", file(7, 10))]),
    ]
    trees = [{"hash": made.objects.put_shard(*write_shard(each))} for each in shards]
    commit = made.finished(trees=trees)
    assert made.contents(commit) == {"/a/1": b"01", "/a/2": b"345", "/b": b"6789", "/c": b"2"}
    assert [each.path for each in made.state.files(commit)] == ["/", "/a", "/a/1", "/a/2", "/b", "/c"]
    assert made.state.file(commit, "/").size == 10
    assert set(made.state.reachable()) >= {
        f"block/{block}",
        f"block/{made.objects.locate(trees[0]['hash']).block}-index",
    }


def test_tags_of_datums_and_of_their_statistics_are_reached(made: Made) -> None:
    result, stats = made.put(b""), made.objects.put([b"stats"], tags=["aa01_stats"])[0]
    made.objects.tag(result, "aa01")
    from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import frame

    datums = made.put(frame(b"aa01") + frame(b"aa02"))
    made.finished(datums={"hash": datums})
    assert set(made.state.reachable()) == {
        f"object/{datums}",
        f"object/{result}",
        f"object/{stats}",
        *(f"block/{made.objects.locate(name).block}" for name in (datums, result, stats)),
        "tag/aa01",
        "tag/aa01_stats",
    }


def test_an_index_is_reached_instead_of_the_objects_that_it_gathered(made: Made) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import encode_block_ref, messages

    tree = HashTree()
    name = made.put(b"content")
    tree.put_file("/a", 7, [name])
    made.finished(tree=made.tree(tree))
    index = messages()["ObjectIndex"]()
    index.objects.add(key=name).value.CopyFrom(encode_block_ref(made.objects.locate(name)))
    made.objects.store.write(f"index/{name[:2]}", [index.SerializeToString()])
    made.objects.delete(f"object/{name}")
    fresh = State(made.keys, Objects(made.objects.store, Spelling.DIRECTORY))
    assert f"index/{name[:2]}" in set(fresh.reachable())
    assert b"".join(fresh.read(fresh.commit("data", FIRST), "/a")) == b"content"


def test_what_is_missing_is_named_all_the_same(made: Made) -> None:
    tree = HashTree()
    tree.put_file("/a", 7, [made.put(b"content")])
    commit = made.finished(tree=made.tree(tree))
    made.objects.delete(f"object/{made.put(b'content')}")
    assert f"object/{hashlib.sha512(b'content').hexdigest()}" in set(made.state.reachable())
    with pytest.raises(ObjectMissing):
        made.contents(commit)


@pytest.mark.parametrize("path", ["/object", "/blocks", "/joined"])
def test_content_that_is_not_what_was_written_is_no_content(made: Made, path: str) -> None:
    block = made.objects.locate(made.put(b"content"))
    tree = HashTree()
    tree.put_file("/object", 7, [made.put(b"content")])
    tree.put_file("/blocks", 7, blocks=[block])
    tree.put_file("/joined", 7, blocks=[BlockRange(block.block, 0, 3), BlockRange(block.block, 3, 7)])
    tree.finish()
    tree.nodes["/blocks"].hash = hashlib.sha512(b"content").digest()
    commit = made.finished(tree=made.tree(tree))
    made.objects.put_block(block.block, [b"contents"[:6]])
    with pytest.raises(BlockShort, match="1 of the bytes before 7 are missing"):
        list(made.state.read(commit, path))
    made.objects.put_block(block.block, [b"c0ntent"])
    if path == "/joined":  # nothing is recorded that would tell
        assert b"".join(made.state.read(commit, path)) == b"c0ntent"
        return
    with pytest.raises(Damaged, match=r"is damaged.*SHA-512"):
        list(made.state.read(commit, path))


def test_a_damaged_tree_and_a_damaged_record_are_named(made: Made) -> None:
    tree = HashTree()
    tree.put_file("/a", 1, [made.put(b"x")])
    data = tree.serialize()
    commit = made.finished(tree=made.tree(tree))
    made.objects.put_block(made.objects.locate(commit.tree).block, [data.replace(b"/a", b"/b").replace(b"\0a", b"\0b")])
    with pytest.raises(Damaged, match=r"object/.*SHA-512"):
        list(made.state.files(commit))
    with pytest.raises(Damaged):
        list(made.state.references())
    made.keys.put(f"pfs/commits/data/{SECOND}", b"\xff\xff")
    with pytest.raises(EtcdError, match=f"a record is damaged .*commits/data/{SECOND}"):
        made.state.commit("data", SECOND)


def test_authentication_is_counted_and_never_shown(made: Made) -> None:
    made.keys.put("auth/tokens/0123", b"secret")
    made.keys.put("auth/tokens/4567", b"secret", lease=5)
    made.keys.put("auth/admins/somebody", b"\x08\x01")
    made.keys.put("auth/config/config", b"")
    found = made.state.auth()
    assert found == records.Auth(True, 2, 1, 0, 0, 0, 0, True)
    made.keys.put(
        "pps/pipelines/p",
        PB["EtcdPipelineInfo"](state=9, auth_token=b"secret", spec_commit={"repo": {"name": "__spec__"}, "id": FIRST}),
    )
    (pipeline,) = made.state.pipelines()
    assert pipeline.has_token
    assert pipeline.state == "9"
    assert "secret" not in repr(pipeline) + repr(found)


def test_every_kind_of_input_is_found() -> None:
    spec = PB["PipelineInfo"](pipeline={"name": "p"})
    cross = spec.input.cross
    cross.add().pfs.repo = "a"
    cross.add().cron.repo = "b"
    cross.add().git.name = "c"
    cross.add().union.add().pfs.repo = "d"
    cross.add().join.add().pfs.repo = "e"
    cross.add().group.add().pfs.repo = "f"
    found = records.pipeline_spec(spec.SerializeToString(), "here")
    assert [each.repo for each in found.inputs] == ["a", "b", "c", "d", "e", "f"]


def test_an_empty_etcd_has_nothing(tmp_path: Path) -> None:
    import io

    from doubles import bolt as double

    with State.open(io.BytesIO(double.snapshot(double.database({b"key": {}})))) as state:
        assert isinstance(state.keys, Snapshot)
        assert (state.cluster_id, state.repos(), state.pipelines(), list(state.jobs())) == ("", [], [], [])
        assert list(state.references()) == []
