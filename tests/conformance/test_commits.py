# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commits: open and finished, their order, their ancestors, their deletion."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from python_pachyderm.proto.pfs import pfs_pb2

Repo = Callable[[], str]
Fails = Callable[..., str]
NO_ID = "0123456789ab4def0123456789abcdef"


def test_life_of_a_commit(client: Any, repo: Repo) -> None:
    where = repo()
    commit = client.start_commit(where, "master", description="first")
    assert re.fullmatch("[0-9a-f]{12}4[0-9a-f]{19}", commit.id)
    info = client.inspect_commit(commit)
    assert not info.HasField("finished")
    assert (info.branch.name, info.description, info.origin.kind) == ("master", "first", pfs_pb2.USER)
    client.put_file_bytes(commit, "/a", b"abc")
    client.finish_commit(commit)
    info = client.inspect_commit(commit)
    assert info.HasField("finished")
    assert info.HasField("tree")
    assert info.size_bytes == 3
    assert info.finished.ToNanoseconds() >= info.started.ToNanoseconds()
    assert client.inspect_branch(where, "master").head.id == commit.id


def test_parents_and_children(client: Any, repo: Repo) -> None:
    where = repo()
    with client.commit(where, "master") as first:
        pass
    with client.commit(where, "master") as second:
        pass
    assert client.inspect_commit(second).parent_commit.id == first.id
    assert [each.id for each in client.inspect_commit(first).child_commits] == [second.id]
    assert client.inspect_commit((where, "master^")).commit.id == first.id
    assert client.inspect_commit((where, "master~1")).commit.id == first.id
    assert client.inspect_commit((where, "master.1")).commit.id == first.id
    assert client.inspect_commit((where, "master.2")).commit.id == second.id


def test_listing(client: Any, repo: Repo) -> None:
    where, ids = repo(), []
    for _unused in range(3):
        with client.commit(where, "master") as commit:
            ids.append(commit.id)

    def listed(**arguments: Any) -> list[str]:
        return [each.commit.id for each in client.list_commit(where, **arguments)]

    assert listed() == ids[::-1]
    assert listed(reverse=True) == ids
    assert listed(number=2) == ids[:0:-1]
    assert listed(to_commit=(where, ids[1])) == ids[1::-1]
    assert listed(to_commit=(where, "master"), from_commit=(where, ids[0])) == ids[:0:-1]


def test_second_open_commit_on_a_branch_is_refused(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    commit = client.start_commit(where, "master")
    message = fails(lambda: client.start_commit(where, "master"))
    assert message == f"parent commit {where}@{commit.id} has not been finished"
    client.finish_commit(commit)


def test_finished_is_finished(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    with client.commit(where, "master") as commit:
        client.put_file_bytes(commit, "/a", b"a")
    message = f"commit {commit.id} in repo {where} has already finished"
    assert fails(lambda: client.finish_commit(commit)) == message
    assert fails(lambda: client.put_file_bytes(commit, "/a", b"b")) == message
    assert fails(lambda: client.delete_file(commit, "/a")) == message


def test_missing_commits(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    with client.commit(where, "master") as commit:
        pass
    assert fails(lambda: client.inspect_commit((where, NO_ID))) == f"commit {NO_ID} not found in repo {where}"
    missing_branch = f"/pachyderm_pfs/branches/{where}/ none not found"
    assert fails(lambda: client.inspect_commit((where, "none"))) == missing_branch
    assert fails(lambda: client.inspect_commit((where, "master~2"))) == f"commit master~2 not found in repo {where}"
    assert commit.id


def test_commit_from_a_parent(client: Any, repo: Repo) -> None:
    where = repo()
    with client.commit(where, "master") as base:
        client.put_file_bytes(base, "/a", b"base")
    with client.commit(where, "master") as later:
        client.put_file_bytes(later, "/b", b"later")
    fork = client.start_commit(where, "fork", parent=base.id)
    client.put_file_bytes(fork, "/c", b"fork")
    client.finish_commit(fork)
    assert [each.file.path for each in client.list_file((where, "fork"), "/")] == ["/a", "/c"]
    assert client.inspect_branch(where, "master").head.id == later.id


def test_open_commits_stay_open(client: Any, repo: Repo) -> None:
    where = repo()
    commit = client.start_commit(where, "staging")
    client.put_file_bytes(commit, "/a", b"draft")
    found = [each for each in client.list_commit(where) if not each.HasField("finished")]
    assert [each.commit.id for each in found] == [commit.id]
    assert client.get_file(commit, "/a").read() == b"draft"
    info = client.inspect_file(commit, "/a")
    assert (info.size_bytes, info.HasField("committed")) == (5, False)
    client.finish_commit(commit)


def test_empty_finish_has_no_tree(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    commit = client.start_commit(where, "master")
    client.put_file_bytes(commit, "/a", b"lost")
    client.finish_commit(commit, empty=True)
    info = client.inspect_commit(commit)
    assert (info.HasField("tree"), info.size_bytes) == (False, 0)
    assert fails(lambda: client.get_file(commit, "/a").read()) == 'file "/a" not found'


def test_deletion_moves_the_branch_back(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    with client.commit(where, "master") as first:
        client.put_file_bytes(first, "/a", b"1")
    with client.commit(where, "master") as second:
        client.put_file_bytes(second, "/a", b"2")
    with client.commit(where, "master") as third:
        client.put_file_bytes(third, "/a", b"3")
    client.delete_commit(third)
    assert client.inspect_branch(where, "master").head.id == second.id
    assert client.inspect_repo(where).size_bytes == 2
    fails(lambda: client.inspect_commit(third))
    client.delete_commit(second)
    assert [each.commit.id for each in client.list_commit(where)] == [first.id]
    assert list(client.inspect_commit(first).child_commits) == []


def test_blocking_inspection(client: Any, repo: Repo) -> None:
    where = repo()
    commit = client.start_commit(where, "master")
    timer = threading.Timer(1.0, lambda: client.finish_commit(commit))
    timer.start()
    info = client.inspect_commit(commit, block_state=pfs_pb2.FINISHED)
    timer.join()
    assert info.HasField("finished")


def test_subscription_gives_past_and_future_commits(client: Any, repo: Repo) -> None:
    where = repo()
    with client.commit(where, "master") as past:
        pass
    stream = client.subscribe_commit(where, "master", state=pfs_pb2.FINISHED)
    assert next(stream).commit.id == past.id
    with client.commit(where, "master") as future:
        pass
    assert next(stream).commit.id == future.id
    stream.cancel()
