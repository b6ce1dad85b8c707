# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of any commit out of a backup set, or out of a snapshot and a bucket, with nothing running."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import files
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import manifest as manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.files import extract, place_below
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import BlockRange, Damaged, HashTree
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import File
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from ansible_collections.pachops.pachyderm.plugins.modules import backup_file
from doubles import backups, genuine
from doubles.state import FIRST, Made

Run = Callable[..., Any]


def write_set(directory: Path, *recipients: str) -> str:
    """Write a backup set of the genuine installation, and return its id."""
    etcd = manifests.EtcdState(329, "3.5.21", 203, 348160)
    store = DirectoryStore(directory)
    return backups.write_set(store, backups.NOW, etcd, backups.real_snapshot(), backups.real_objects(), recipients)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one backup set of the genuine installation."""
    directory = tmp_path_factory.mktemp("store")
    write_set(directory)
    return directory


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The genuine installation's snapshot beside its objects."""
    directory = tmp_path_factory.mktemp("pair")
    genuine.snapshot(directory)
    genuine.objects(directory / "pach")
    return directory


def commits() -> list[tuple[str, str, dict[str, dict[str, Any]]]]:
    return [
        (repo, commit["id"], commit["files"])
        for repo, recorded in genuine.truth()["repos"].items()
        for commit in recorded["commits"]
        if commit["finished"]
    ]


def test_every_file_of_every_commit_comes_out_of_a_backup_set(run_module: Run, store: Path, tmp_path: Path) -> None:
    versions = 0
    for repo, commit, wanted in commits():
        dest = tmp_path / repo / commit
        result = run_module(backup_file.main, store=str(store), repo=repo, commit=commit, dest=str(dest))
        assert not result.failed, result
        assert result["backup_id"].endswith("-r329")
        assert result["commit"] == f"{repo}@{commit}"
        found = {f"/{path.relative_to(dest)}": path.read_bytes() for path in dest.rglob("*") if path.is_file()}
        assert {
            path: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in found.items()
        } == wanted
        assert {each["path"]: each["checksum"] for each in result["extracted"]} == {
            path: file["sha256"] for path, file in wanted.items()
        }
        versions += len(found)
    assert versions == genuine.FILE_VERSIONS


def test_files_come_out_of_an_encrypted_set_with_its_identity_only(run_module: Run, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    write_set(tmp_path / "store", str(identity.to_public()))
    repo, commit, files = next(each for each in commits() if each[2])
    options = {"store": str(tmp_path / "store"), "repo": repo, "commit": commit}
    keys = {"right": identity, "wrong": pyrage.x25519.Identity.generate()}
    for name, each in keys.items():
        (tmp_path / name).write_text(str(each))
    for refused in ({}, {"identity_files": [str(tmp_path / "wrong")]}):
        result = run_module(backup_file.main, dest=str(tmp_path / "none"), **options, **refused)
        assert result.failed
        assert "identit" in result["msg"]
        assert not (tmp_path / "none").exists()
    dest = tmp_path / "dest"
    result = run_module(backup_file.main, dest=str(dest), identity_files=[str(tmp_path / "right")], **options)
    assert not result.failed, result["msg"]
    assert len(result["files"]) >= len([name for name in files if not name.endswith("/")])
    assert str(identity) not in str(result)
    clear = {path.read_bytes() for path in dest.rglob("*") if path.is_file() and path.stat().st_size > 64}
    stored = [path.read_bytes() for path in (tmp_path / "store").rglob("*.age")]
    assert not any(content in each for content in clear for each in stored)


def test_files_are_listed(run_module: Run, store: Path, pair: Path) -> None:
    sources = [{"store": str(store)}, {"store": str(pair / "pach"), "snapshot": str(pair / "etcd.snapshot")}]
    for source in sources:
        listed = run_module(backup_file.main, **source, repo="rebin", path="/09")
        assert [each["path"] for each in listed["files"]] == ["/09", "/09/00", "/09/30"]
        assert not listed.changed
        assert listed["extracted"] == []
        below = run_module(backup_file.main, **source, repo="rebin", path="/09", recurse=True, limit=4)
        assert (below["count"], len(below["files"]), below["total_size"]) == (9, 4, 6 * 1693)
        assert {each["type"] for each in below["files"]} == {"dir", "file"}
        assert all(len(each["hash"]) in (64, 128) for each in below["files"])
        assert set(listed) == set(below)


def test_one_file_goes_where_copy_would_put_it(run_module: Run, store: Path, tmp_path: Path) -> None:
    wanted = genuine.truth()["repos"]["best"]["commits"][0]["files"]["/best.txt"]
    source = {"store": str(store), "repo": "best", "path": "/best.txt"}
    for dest, path in ((tmp_path / "name", tmp_path / "name"), (tmp_path, tmp_path / "best.txt")):
        check = run_module(backup_file.main, **source, dest=str(dest), check_mode=True)
        assert check.changed
        assert not path.exists()
        result = run_module(backup_file.main, **source, dest=str(dest), mode="0600")
        assert result.changed
        assert (result["dest"], result["checksum"]) == (str(path), wanted["sha256"])
        assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted["sha256"]
        assert path.stat().st_mode & 0o777 == 0o600
        # ansible-core tells of a dest that exists.
        assert set(result) - set(check) == {"owner", "group", "uid", "gid", "mode", "state", "size"}
        assert check["checksum"] == result["checksum"]
        again = run_module(backup_file.main, **source, dest=str(dest), mode="0600")
        assert not again.changed
        assert again["checksum"] == wanted["sha256"]
        looser = run_module(backup_file.main, **source, dest=str(dest), mode="0644")
        assert looser.changed
        assert path.stat().st_mode & 0o777 == 0o644
        path.write_text("other\n")
        differing = run_module(backup_file.main, **source, dest=str(dest), check_mode=True, diff=True)
        assert differing.changed
        (diff,) = differing["diff"]
        assert (diff["before"], diff["before_header"]) == ("other\n", str(path))
        assert path.read_text() == "other\n"
        result = run_module(backup_file.main, **source, dest=str(dest), diff=True)
        assert result["diff"] == differing["diff"]
        # What was there keeps its mode.
        assert path.stat().st_mode & 0o777 == 0o644
        assert diff["after"] == path.read_text()
    made = run_module(backup_file.main, **source, dest=f"{tmp_path}/below/", check_mode=True)
    assert made["dest"] == str(tmp_path / "below" / "best.txt")
    assert not (tmp_path / "below").exists()
    refused = run_module(backup_file.main, **source, dest=f"{tmp_path}/none/name")
    assert refused.failed
    assert "the directory does not exist" in refused["msg"]


def test_a_directory_keeps_what_else_is_there(run_module: Run, store: Path, tmp_path: Path) -> None:
    dest = tmp_path / "tree"
    source = {"store": str(store), "repo": "ticks", "path": "/2018/05/01", "dest": str(dest)}
    (dest / "09").mkdir(parents=True)
    (dest / "09" / "mine").write_text("mine")
    check = run_module(backup_file.main, **source, check_mode=True, diff=True)
    assert check.changed
    assert [path for path in dest.rglob("*") if path.is_file()] == [dest / "09" / "mine"]
    result = run_module(backup_file.main, **source, diff=True)
    assert {key: value for key, value in result.items() if key != "invocation"} == {
        key: value for key, value in check.items() if key != "invocation"
    }
    assert len(result["extracted"]) == 6
    assert (dest / "09" / "mine").read_text() == "mine"
    assert not run_module(backup_file.main, **source).changed
    (dest / "16" / "30.csv").write_bytes(b"\xff")
    changed = run_module(backup_file.main, **source, diff=True)
    assert [each["path"] for each in changed["extracted"] if each["changed"]] == ["/2018/05/01/16/30.csv"]
    assert changed["diff"][0]["before"].startswith("SHA-256 ")


def test_a_second_run_reads_no_content(
    run_module: Run, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"store": str(pair / "pach"), "snapshot": str(pair / "etcd.snapshot")}
    for repo in ("ticks", "rebin"):
        assert run_module(backup_file.main, **source, repo=repo, dest=f"{tmp_path}/{repo}").changed

    def unwanted(*_unused: object) -> None:
        raise AssertionError("content was read")

    monkeypatch.setattr(files, "_copy", unwanted)
    for repo in ("ticks", "rebin"):
        assert not run_module(backup_file.main, **source, repo=repo, dest=f"{tmp_path}/{repo}").changed


@pytest.mark.parametrize("spelling", [Spelling.PLAIN, Spelling.REVERSED])
def test_a_buckets_spelling_is_found_out(run_module: Run, pair: Path, tmp_path: Path, spelling: Spelling) -> None:
    genuine.objects(tmp_path / "bucket", spelling)
    source = {"store": str(tmp_path / "bucket"), "snapshot": str(pair / "etcd.snapshot"), "repo": "best"}
    for given in ("auto", spelling.value):
        assert run_module(backup_file.main, **source, spelling=given, recurse=True)["count"] == 2
    wrong = run_module(backup_file.main, **source, spelling="directory")
    assert wrong.failed


def test_what_is_wrong_is_said(run_module: Run, store: Path, pair: Path, tmp_path: Path) -> None:
    wrong = {
        "the store has no backups": {"store": str(tmp_path), "repo": "ticks"},
        "there is no complete backup": {"store": str(store), "cluster_id": "0" * 32, "repo": "ticks"},
        "the repo does not exist|the branch does not exist": {"store": str(store), "repo": "nothing"},
        "the file does not exist": {"store": str(store), "repo": "ticks", "path": "/nothing"},
        "the store holds no objects": {
            "store": str(tmp_path),
            "snapshot": str(pair / "etcd.snapshot"),
            "repo": "ticks",
        },
        "not a bbolt file": {"store": str(pair / "pach"), "snapshot": str(Path(__file__)), "repo": "ticks"},
        "cannot read an identity file": {
            "store": str(store),
            "repo": "ticks",
            "identity_files": [str(tmp_path / "none")],
        },
        "mutually exclusive": {"store": str(store), "repo": "t", "snapshot": "/s", "backup_id": "b"},
        "a directory is where the file belongs": {
            "store": str(store),
            "repo": "best",
            "path": "/best.txt",
            "dest": f"{tmp_path}/d/",
        },
        "a file is where a directory belongs": {"store": str(store), "repo": "ticks", "dest": str(tmp_path / "file")},
    }
    (tmp_path / "d" / "best.txt").mkdir(parents=True)
    (tmp_path / "file").touch()
    for message, options in wrong.items():
        result = run_module(backup_file.main, **options)
        assert result.failed, message
        assert any(each in result["msg"] for each in message.split("|")), (message, result["msg"])
    write_set(tmp_path / "two")
    os.rename(tmp_path / "two" / backups.CLUSTER, tmp_path / "two" / ("1" * 32))
    write_set(tmp_path / "two")
    result = run_module(backup_file.main, store=str(tmp_path / "two"), repo="ticks")
    assert "backups of several clusters" in result["msg"]


def test_damaged_content_is_never_put_in_place(run_module: Run, tmp_path: Path) -> None:
    state = genuine.state(tmp_path)
    file = state.file(state.commit("best", "master"), "/best.txt")
    state.objects.put_block(file.blocks[0].block, [b"bad!" * 100])
    dest = tmp_path / "dest"
    dest.write_text("good")
    source = {"store": str(tmp_path / "pach"), "snapshot": str(tmp_path / "etcd.snapshot")}
    for check_mode in (True, False):
        result = run_module(
            backup_file.main, **source, repo="best", path="/best.txt", dest=str(dest), check_mode=check_mode
        )
        assert result.failed
        assert "the content is damaged" in result["msg"]
        assert dest.read_text() == "good"
    assert not list(tmp_path.glob(".dest*"))


# The engine


def test_files_of_several_parts_are_compared_without_reading_the_store(tmp_path: Path) -> None:
    made = Made(tmp_path / "pach")
    tree = HashTree()
    tree.put_file("/parts", 6, [made.put(b"one"), made.put(b""), made.put(b"two")])
    block = made.objects.locate(made.put(b"0123456789"))
    tree.put_file("/ranges", 4, blocks=[BlockRange(block.block, 0, 2), BlockRange(block.block, 4, 6)])
    commit = made.finished(tree=made.tree(tree))
    dest = tmp_path / "dest"

    def extracted(write: bool = True) -> dict[str, bool]:
        found = extract(made.state, made.state.files(commit), place_below("/", dest), write=write)
        return {each.path: each.changed for each in found}

    assert extracted() == {"/parts": True, "/ranges": True}
    assert (dest / "parts").read_bytes() == b"onetwo"
    assert (dest / "ranges").read_bytes() == b"0145"
    inode = (dest / "ranges").stat().st_ino
    for write in (False, True):
        assert extracted(write) == {"/parts": False, "/ranges": False}
    assert (dest / "ranges").stat().st_ino == inode
    (dest / "parts").write_bytes(b"oneTwo")
    (dest / "ranges").write_bytes(b"0146")
    assert extracted() == {"/parts": True, "/ranges": True}
    assert sorted(os.listdir(dest)) == ["parts", "ranges"]


def test_a_path_that_leaves_the_directory_is_damage(tmp_path: Path) -> None:
    place = place_below("/a", tmp_path)
    assert place(File("/a/b/c", "file", 0, "")) == tmp_path / "b" / "c"
    assert place(File("/a", "dir", 0, "")) == tmp_path
    made = Made(tmp_path / "pach")
    tree = HashTree()
    for path in ("/x/../../etc", "/x/./y"):
        tree.put_file(path, 1, [made.put(b"x")])
    commit = made.finished(tree=made.tree(tree))
    for file in made.state.files(commit):
        if "." in file.path:
            with pytest.raises(Damaged, match="leaves the directory"):
                place_below("/", tmp_path)(file)
    assert commit.id == FIRST


def test_what_the_system_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path / "pach")
    tree = HashTree()
    tree.put_file("/d/a", 1, [made.put(b"x")])
    commit = made.finished(tree=made.tree(tree))
    found = list(made.state.files(commit))

    def refuse(*_unused: object, **_also: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(InputError, match=r"the directory cannot be made.*No space left"):
            list(extract(made.state, found, place_below("/", tmp_path / "dest"), write=True))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(InputError, match=r"the file cannot be written.*No space left"):
            list(extract(made.state, found, place_below("/", tmp_path / "dest"), write=True))
    assert not [path for path in (tmp_path / "dest").rglob("*") if path.is_file()]
