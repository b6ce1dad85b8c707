# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches, and what depends on what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from python_pachyderm.proto.pfs import pfs_pb2

Repo = Callable[[], str]
Fails = Callable[..., str]


def branch(repo: str, name: str) -> Any:
    return pfs_pb2.Branch(repo=pfs_pb2.Repo(name=repo), name=name)


def test_create_move_delete(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    with client.commit(where, "staging") as first:
        client.put_file_bytes(first, "/a", b"1")
    with client.commit(where, "staging") as second:
        client.put_file_bytes(second, "/a", b"2")
    client.create_branch(where, "master", (where, first.id))
    assert client.get_file((where, "master"), "/a").read() == b"1"
    client.create_branch(where, "master", (where, "staging"))
    assert client.inspect_branch(where, "master").head.id == second.id
    assert client.inspect_repo(where).size_bytes == 2
    assert [each.branch.name for each in client.list_branch(where)] == ["master", "staging"], "the newest comes first"
    assert [each.name for each in client.inspect_repo(where).branches] == ["master", "staging"], "sorted by name"
    client.delete_branch(where, "master")
    message = f"/pachyderm_pfs/branches/{where}/ master not found"
    assert fails(lambda: client.inspect_branch(where, "master")) == message
    assert client.inspect_commit(second).commit.id == second.id
    client.delete_branch(where, "master")


def test_branch_without_a_head(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    client.create_branch(where, "empty")
    assert not client.inspect_branch(where, "empty").HasField("head")
    message = "the branch \"empty\" has no head (create one with 'start commit')"
    assert fails(lambda: client.list_file((where, "empty"), "/")) == message


def test_refusals(client: Any, repo: Repo, fails: Fails) -> None:
    where = repo()
    message = "name (a/b) invalid: only alphanumeric characters, underscores, and dashes are allowed"
    assert fails(lambda: client.create_branch(where, "a/b")) == message
    message = f"unable to inspect {where}@none: /pachyderm_pfs/branches/{where}/ none not found"
    assert fails(lambda: client.create_branch(where, "x", (where, "none"))) == message
    message = "branch name cannot be a UUID V4"
    assert fails(lambda: client.create_branch(where, "0123456789ab4def0123456789abcdef")) == message
    message = f"branch {where}@a cannot be in its own provenance"
    assert fails(lambda: client.create_branch(where, "a", provenance=[branch(where, "a")])) == message


def test_provenance_starts_output_commits(client: Any, repo: Repo) -> None:
    source, target = repo(), repo()
    with client.commit(source, "master") as commit:
        client.put_file_bytes(commit, "/a", b"a")
    client.create_branch(target, "out", provenance=[branch(source, "master")])
    info = client.inspect_branch(target, "out")
    assert list(info.direct_provenance) == [branch(source, "master")]
    assert list(client.inspect_branch(source, "master").subvenance) == [branch(target, "out")]
    output = client.inspect_commit(info.head)
    assert (output.HasField("finished"), output.origin.kind) == (False, pfs_pb2.AUTO)
    assert [(each.commit.id, each.branch.name) for each in output.provenance] == [(commit.id, "master")]
    upstream = client.inspect_commit(commit)
    assert [(each.lower.id, each.upper.id) for each in upstream.subvenance] == [(output.commit.id, output.commit.id)]
    client.finish_commit(output.commit)
    with client.commit(source, "master") as later:
        client.put_file_bytes(later, "/b", b"b")
    newer = client.inspect_commit((target, "out"))
    assert newer.parent_commit.id == output.commit.id
    assert [each.commit.id for each in newer.provenance] == [later.id]
    client.finish_commit(newer.commit)
    assert [each.commit.id for each in client.flush_commit([later])] == [newer.commit.id]
    assert list(client.fsck()) == []


def test_provenance_is_transitive(client: Any, repo: Repo) -> None:
    first, second, third = repo(), repo(), repo()
    client.create_branch(second, "master", provenance=[branch(first, "master")])
    client.create_branch(third, "master", provenance=[branch(second, "master")])
    assert list(client.inspect_branch(third, "master").provenance) == sorted(
        [branch(first, "master"), branch(second, "master")], key=lambda each: each.repo.name
    )
    with client.commit(first, "master") as commit:
        pass
    outputs = [client.inspect_commit((each, "master")) for each in (second, third)]
    assert {each.commit.id for each in outputs[1].provenance} == {commit.id, outputs[0].commit.id}
    for each in outputs:
        client.finish_commit(each.commit)
    assert list(client.fsck()) == []


def test_output_branches_are_protected(client: Any, repo: Repo, fails: Fails) -> None:
    source, target = repo(), repo()
    client.create_branch(target, "master", provenance=[branch(source, "master")])
    with client.commit(source, "master") as commit:
        pass
    output = client.inspect_branch(target, "master").head
    client.finish_commit(output)
    assert fails(lambda: client.start_commit(target, "master")) == "cannot start a commit on an output branch"
    message = f'cannot delete the commit "{target}/{output.id}" because it has non-empty provenance'
    assert fails(lambda: client.delete_commit(output)) == message
    shown = f'[repo:<name:"{target}" > name:"master" ]'
    message = f"branch master has {shown} as subvenance, deleting it would break those branches"
    assert fails(lambda: client.delete_branch(source, "master")) == message
    assert (
        fails(lambda: client.delete_repo(source)) == f'delete branch repo:<name:"{source}" > name:"master" : {message}'
    )
    client.delete_commit(commit)
    fails(lambda: client.inspect_commit(output))
    assert not client.inspect_branch(target, "master").HasField("head")


def test_loops_are_refused(client: Any, repo: Repo, fails: Fails) -> None:
    first, second = repo(), repo()
    client.create_branch(second, "master", provenance=[branch(first, "master")])
    message = f"provenance loop, branch {first}/master cannot be provenance for itself"
    assert fails(lambda: client.create_branch(first, "master", provenance=[branch(second, "master")])) == message


@pytest.mark.parametrize("move", ["once", "twice"])
def test_deferred_processing(client: Any, repo: Repo, move: str) -> None:
    """A branch that is moved along another starts one output commit for each move."""
    source, target = repo(), repo()
    client.create_branch(source, "master")
    client.create_branch(target, "master", provenance=[branch(source, "master")])
    for position in range(2 if move == "twice" else 1):
        with client.commit(source, "staging") as commit:
            client.put_file_bytes(commit, f"/{position}", b"x")
        client.create_branch(source, "master", (source, "staging"))
        output = client.inspect_commit((target, "master"))
        assert [each.commit.id for each in output.provenance] == [commit.id]
        client.finish_commit(output.commit)
    assert len(list(client.list_commit(target))) == (2 if move == "twice" else 1)
    assert list(client.fsck()) == []
