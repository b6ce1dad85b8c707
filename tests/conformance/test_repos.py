# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Name = Callable[[str], str]
Repo = Callable[[], str]
Fails = Callable[..., str]


def test_create_list_inspect_delete(client: Any, name: Name) -> None:
    first, second = name("repo"), name("repo")
    client.create_repo(first, "the first")
    client.create_repo(second)
    info = client.inspect_repo(first)
    assert (info.repo.name, info.description, info.size_bytes, len(info.branches)) == (first, "the first", 0, 0)
    listed = [each.repo.name for each in client.list_repo()]
    assert listed.index(second) < listed.index(first), "the newest repo comes first"
    assert "__spec__" not in listed
    client.delete_repo(first)
    client.delete_repo(second)
    assert not {first, second} & {each.repo.name for each in client.list_repo()}


def test_existing_repo_is_refused_or_updated(client: Any, repo: Repo, fails: Fails) -> None:
    existing = repo()
    assert fails(lambda: client.create_repo(existing)) == f"repo {existing} already exists"
    client.create_repo(existing, "changed", update=True)
    assert client.inspect_repo(existing).description == "changed"


@pytest.mark.parametrize("bad", ["a/b", "a b", "a.b", "", "ä"])
def test_bad_names(client: Any, fails: Fails, bad: str) -> None:
    message = f"name ({bad}) invalid: only alphanumeric characters, underscores, and dashes are allowed"
    assert fails(lambda: client.create_repo(bad)) == message


def test_missing_repo(client: Any, name: Name, fails: Fails) -> None:
    missing = name("missing")
    message = f"/pachyderm_pfs/repos/ {missing} not found"
    assert fails(lambda: client.inspect_repo(missing)) == message
    assert fails(lambda: client.list_commit(missing)) == message
    assert fails(lambda: client.list_branch(missing)) == message
    assert fails(lambda: client.start_commit(missing, "master")) == message
    assert fails(lambda: client.create_branch(missing, "master")) == message
    assert fails(lambda: client.put_file_bytes((missing, "master"), "/a", b"a")) == message
    client.delete_repo(missing)


def test_size_is_that_of_master(client: Any, repo: Repo) -> None:
    sized = repo()
    client.put_file_bytes((sized, "other"), "/a", b"12345")
    assert client.inspect_repo(sized).size_bytes == 0
    client.put_file_bytes((sized, "master"), "/a", b"123")
    client.put_file_bytes((sized, "master"), "/b", b"4")
    assert client.inspect_repo(sized).size_bytes == 4


def test_deletion_takes_commits_and_branches_along(client: Any, name: Name, fails: Fails) -> None:
    gone = name("repo")
    client.create_repo(gone)
    client.put_file_bytes((gone, "master"), "/a", b"a")
    commit = client.inspect_branch(gone, "master").head
    client.delete_repo(gone)
    client.create_repo(gone)
    try:
        assert list(client.list_commit(gone)) == []
        assert list(client.list_branch(gone)) == []
        fails(lambda: client.inspect_commit(commit))
    finally:
        client.delete_repo(gone)
