# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several changes that happen together or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Name = Callable[[str], str]
Fails = Callable[..., str]


def test_nothing_is_seen_before_the_end(client: Any, name: Name) -> None:
    first = name("repo")
    with client.transaction():
        client.create_repo(first)
        commit = client.start_commit(first, "master")
        client.finish_commit(commit)
        assert first not in {each.repo.name for each in client.list_repo()}
    assert client.inspect_branch(first, "master").head.id == commit.id
    client.delete_repo(first)


def test_an_error_leaves_nothing(client: Any, name: Name) -> None:
    first = name("repo")
    with pytest.raises(RuntimeError, match="on purpose"), client.transaction():
        client.create_repo(first)
        raise RuntimeError("on purpose")
    assert first not in {each.repo.name for each in client.list_repo()}


def test_a_refused_change_is_refused_at_once(client: Any, name: Name, fails: Fails) -> None:
    transaction = client.start_transaction()
    client.transaction_id = transaction.id
    try:
        bad = name("bad") + "/"
        assert "invalid: only alphanumeric" in fails(lambda: client.create_repo(bad))
    finally:
        client.transaction_id = None
        client.delete_transaction(transaction)
    assert transaction.id not in {each.transaction.id for each in client.list_transaction()}
