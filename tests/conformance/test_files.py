# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: what goes in comes out, and how files are listed, changed and refused."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable
from typing import Any

import pytest
from python_pachyderm.proto.pfs import pfs_pb2

Repo = Callable[[], str]
Fails = Callable[..., str]


def read(client: Any, commit: Any, path: str, **arguments: int) -> bytes:
    return b"".join(client.get_file(commit, path, **arguments))


@pytest.mark.parametrize(
    ("title", "content"),
    [
        ("empty", b""),
        ("text", b"one line\n"),
        ("all bytes", bytes(range(256)) * 16),
        ("no end of line", b"\xff\xfe\x00 not UTF-8"),
    ],
)
def test_round_trip(client: Any, repo: Repo, title: str, content: bytes) -> None:
    where = repo()
    client.put_file_bytes((where, "master"), "/file", content)
    assert read(client, (where, "master"), "/file") == content, title
    info = client.inspect_file((where, "master"), "/file")
    assert (info.size_bytes, info.file_type) == (len(content), pfs_pb2.FILE)
    assert [each.hash for each in info.objects] == [hashlib.sha512(content).hexdigest()]


def test_30_megabytes_in_many_messages(client: Any, repo: Repo) -> None:
    where = repo()
    content = random.Random(1).randbytes(30_000_000)
    with client.commit(where, "master") as commit, client.put_file_client() as files:
        files.put_file_from_fileobj(commit, "/large", io.BytesIO(content))
    digest, size = hashlib.sha256(), 0
    for chunk in client.get_file((where, "master"), "/large"):
        digest.update(chunk)
        size += len(chunk)
    assert (size, digest.hexdigest()) == (len(content), hashlib.sha256(content).hexdigest())
    assert read(client, (where, "master"), "/large", offset_bytes=29_999_990) == content[-10:]
    part = read(client, (where, "master"), "/large", offset_bytes=12_345_678, size_bytes=1000)
    assert part == content[12_345_678:12_346_678]


def test_many_files_in_one_call(client: Any, repo: Repo) -> None:
    where = repo()
    wanted = {f"/dir{number % 10}/file{number:03}": f"content {number}\n".encode() for number in range(300)}
    with client.commit(where, "master") as commit, client.put_file_client() as files:
        for path, content in wanted.items():
            files.put_file_from_bytes(commit, path, content)
    listed = [each for each in client.walk_file((where, "master"), "/") if each.file_type == pfs_pb2.FILE]
    assert [each.file.path for each in listed] == sorted(wanted)
    assert sum(each.size_bytes for each in listed) == sum(map(len, wanted.values()))
    for path in list(wanted)[::37]:
        assert read(client, (where, "master"), path) == wanted[path]
    assert read(client, (where, "master"), "/dir3/*") == b"".join(
        wanted[path] for path in sorted(wanted) if "dir3" in path
    )


def test_put_appends_within_and_across_commits(client: Any, repo: Repo) -> None:
    where = repo()
    with client.commit(where, "master") as commit:
        client.put_file_bytes(commit, "/a", b"1")
        client.put_file_bytes(commit, "/a", b"2")
        assert read(client, commit, "/a") == b"12"
    with client.commit(where, "master") as later:
        client.put_file_bytes(later, "/a", b"3")
    assert read(client, (where, "master"), "/a") == b"123"
    assert read(client, commit, "/a") == b"12"
    client.put_file_bytes((where, "master"), "/a", b"4")
    assert read(client, (where, "master"), "/a") == b"1234"
    assert len(client.inspect_file((where, "master"), "/a").objects) == 4


def test_overwriting(client: Any, repo: Repo) -> None:
    where = repo()
    client.put_file_bytes((where, "master"), "/a", b"old")
    with client.commit(where, "master") as commit:
        client.put_file_bytes(commit, "/a", b"draft")
        client.put_file_bytes(commit, "/a", b"new", overwrite_index=0)
    assert read(client, (where, "master"), "/a") == b"new"
    assert client.inspect_file((where, "master"), "/a").size_bytes == 3
    client.put_file_bytes((where, "master"), "/a", b"+more")
    client.put_file_bytes((where, "master"), "/a", b"!", overwrite_index=1)
    assert read(client, (where, "master"), "/a") == b"new!"


def test_put_on_a_branch_is_a_commit_of_its_own(client: Any, repo: Repo) -> None:
    where = repo()
    client.put_file_bytes((where, "new"), "/a", b"a")
    first = client.inspect_branch(where, "new").head
    assert client.inspect_commit(first).HasField("finished")
    with client.put_file_client() as files:
        files.put_file_from_bytes((where, "new"), "/b", b"b")
        files.delete_file((where, "new"), "/a")
    assert [each.file.path for each in client.list_file((where, "new"), "/")] == ["/b"]
    assert client.inspect_commit((where, "new^")).commit.id == first.id


def test_listing(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    with client.commit(where, "master") as commit:
        for path in ("/b", "/a/x", "/a/y/z", "/a-b", "c", "/d/../e"):
            client.put_file_bytes(commit, path, path.encode())

    def listed(path: str) -> list[tuple[str, bool]]:
        found = client.list_file((where, "master"), path)
        return [(each.file.path, each.file_type == pfs_pb2.DIR) for each in found]

    assert listed("/") == [("/a", True), ("/a-b", False), ("/b", False), ("/c", False), ("/e", False)]
    assert listed("/a") == [("/a/x", False), ("/a/y", True)]
    assert listed("a") == listed("/a")
    assert listed("/a/x") == [("/a/x", False)]
    assert fails(lambda: client.list_file((where, "master"), "/none")) == 'file "/none" not found'
    walked = [each.file.path for each in client.walk_file((where, "master"), "/")]
    assert walked == ["/", "/a", "/a/x", "/a/y", "/a/y/z", "/a-b", "/b", "/c", "/e"]
    assert [each.file.path for each in client.walk_file((where, "master"), "/a")] == ["/a", "/a/x", "/a/y", "/a/y/z"]
    assert list(client.walk_file((where, "master"), "/none")) == []
    root = client.inspect_file((where, "master"), "/")
    assert (root.file_type, root.size_bytes) == (pfs_pb2.DIR, client.inspect_commit(commit).size_bytes)


def test_globbing(client: Any, repo: Repo) -> None:
    where = repo()
    with client.commit(where, "master") as commit:
        for path in ("/2020/01.csv", "/2020/02.csv", "/2020/notes.txt", "/2021/01.csv", "/top.csv"):
            client.put_file_bytes(commit, path, b"x")

    def globbed(pattern: str) -> list[str]:
        return [each.file.path for each in client.glob_file((where, "master"), pattern)]

    assert globbed("/*") == ["/2020", "/2021", "/top.csv"]
    assert globbed("*") == globbed("/*")
    assert globbed("/") == ["/"]
    assert globbed("/*/*.csv") == ["/2020/01.csv", "/2020/02.csv", "/2021/01.csv"]
    assert globbed("/**.csv") == ["/2020/01.csv", "/2020/02.csv", "/2021/01.csv", "/top.csv"]
    assert globbed("/202?/0[2-9].csv") == ["/2020/02.csv"]
    assert globbed("/{2021,2022}/*") == ["/2021/01.csv"]
    assert globbed("/top.csv") == ["/top.csv"]
    assert globbed("/none") == globbed("/none*") == []


def test_missing_files(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    client.put_file_bytes((where, "master"), "/dir/a", b"a")
    commit = client.inspect_branch(where, "master").head
    assert fails(lambda: read(client, commit, "/none")) == 'file "/none" not found'
    assert read(client, commit, "/dir") == b""
    message = f"file /none not found in repo {where} at commit {commit.id}"
    assert fails(lambda: client.inspect_file((where, "master"), "/none")) == message


@pytest.mark.parametrize("char", list("*+?[]{}()!@^"))
def test_paths_with_globbing_characters_are_refused(client: Any, repo: Repo, fails: Fails, char: str) -> None:
    where = repo()
    message = fails(lambda: client.put_file_bytes((where, "master"), f"/x{char}y", b""))
    assert message == f"path (/x{char}y) invalid: globbing character ({char}) not allowed in path"


@pytest.mark.parametrize("path", ["/xäy", "/x\ny", "/", ""])
def test_paths_that_are_not_printable_are_refused(client: Any, repo: Repo, fails: Fails, path: str) -> None:
    where = repo()
    message = fails(lambda: client.put_file_bytes((where, "master"), path, b""))
    shown = "" if path == "/" else path
    assert message == f"path ({shown}) invalid: only printable ASCII characters allowed"


@pytest.mark.parametrize("path", ["/with space", "/back\\slash", "/semi;colon", "/percent%20", "/a=b", "/tilde~"])
def test_unusual_paths_are_allowed(client: Any, repo: Repo, path: str) -> None:
    where = repo()
    client.put_file_bytes((where, "master"), path, b"x")
    assert [each.file.path for each in client.list_file((where, "master"), "/")] == [path]
    assert read(client, (where, "master"), path) == b"x"


def test_file_and_directory_exclude_each_other(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    client.put_file_bytes((where, "master"), "/a", b"a")
    fails(lambda: client.put_file_bytes((where, "master"), "/a/b", b"b"))
    client.put_file_bytes((where, "master"), "/d/b", b"b")
    fails(lambda: client.put_file_bytes((where, "master"), "/d", b"d"))
    assert [each.file.path for each in client.list_file((where, "master"), "/")] == ["/a", "/d"]


def test_deletion(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    with client.commit(where, "master") as commit:
        for path in ("/a", "/d/x", "/d/y", "/k1", "/k2"):
            client.put_file_bytes(commit, path, b"12")
    with client.commit(where, "master") as later:
        client.delete_file(later, "/d")
        client.delete_file(later, "/none")
        client.delete_file(later, "/k*")
    assert [each.file.path for each in client.list_file(later, "/")] == ["/a"]
    assert client.inspect_commit(later).size_bytes == 2
    assert read(client, commit, "/d/x") == b"12"
    client.delete_file((where, "master"), "/a")
    assert list(client.list_file((where, "master"), "/")) == []
    assert fails(lambda: read(client, (where, "master"), "/a")) == 'file "/a" not found'


def test_deletion_and_writing_in_one_commit(client: Any, repo: Repo) -> None:
    where = repo()
    client.put_file_bytes((where, "master"), "/a", b"old")
    with client.commit(where, "master") as commit:
        client.put_file_bytes(commit, "/a", b"lost")
        client.delete_file(commit, "/a")
        client.put_file_bytes(commit, "/a", b"kept")
    assert read(client, commit, "/a") == b"kept"


def test_copying(client: Any, repo: Repo) -> None:
    source, target = repo(), repo()
    with client.commit(source, "master") as commit:
        client.put_file_bytes(commit, "/d/a", b"a")
        client.put_file_bytes(commit, "/d/b", b"b")
    with client.commit(target, "master") as copy:
        client.copy_file(commit, "/d", copy, "/e")
        client.copy_file(commit, "/d/a", copy, "/f")
        client.copy_file(commit, "/none", copy, "/g")
    walked = [each.file.path for each in client.walk_file(copy, "/") if each.file_type == pfs_pb2.FILE]
    assert walked == ["/e/a", "/e/b", "/f"]
    client.copy_file(commit, "/d/b", (target, "master"), "/f")
    assert read(client, (target, "master"), "/f") == b"ab"
    client.copy_file(commit, "/d/b", (target, "master"), "/f", overwrite=True)
    assert read(client, (target, "master"), "/f") == b"b"


def test_difference_to_the_parent(client: Any, repo: Repo) -> None:
    where = repo()
    with client.commit(where, "master") as old:
        for path in ("/same", "/changed", "/gone", "/d/same"):
            client.put_file_bytes(old, path, b"1")
    with client.commit(where, "master") as new:
        client.put_file_bytes(new, "/changed", b"2")
        client.delete_file(new, "/gone")
        client.put_file_bytes(new, "/d/new", b"3")
    difference = client.diff_file(new, "/")
    assert [each.file.path for each in difference.new_files] == ["/changed", "/d/new"]
    assert [each.file.path for each in difference.old_files] == ["/changed", "/gone"]


def test_history(client: Any, repo: Repo) -> None:
    where = repo()
    for content in (b"1", b"2"):
        client.put_file_bytes((where, "master"), "/a", content)
        client.put_file_bytes((where, "master"), "/other", content)
    sizes = [each.size_bytes for each in client.list_file((where, "master"), "/a", history=-1)]
    assert sizes == [2, 1]


def test_equal_content_is_stored_once(client: Any, repo: Repo) -> None:
    where = repo()
    with client.commit(where, "master") as commit:
        client.put_file_bytes(commit, "/a", b"same content")
        client.put_file_bytes(commit, "/b", b"same content")
    first, second = (client.inspect_file(commit, path) for path in ("/a", "/b"))
    assert first.objects == second.objects
    assert first.hash == second.hash
