# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a commit counts for that cannot be read to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import space
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import INDEX_SUFFIX
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress

SIZES = {
    "object/shard": 10,
    "block/of-shard": 20,
    f"block/of-shard{INDEX_SUFFIX}": 5,
    "object/content": 10,
    "block/of-content": 1000,
    "object/nobody": 7,
}


class Commit(SimpleNamespace):
    __hash__ = object.__hash__

    def __str__(self) -> str:
        return f"{self.repo}@{self.id}"


class State:
    """One commit, whose tree is damaged behind its first file."""

    def repos(self) -> list[Any]:
        return [SimpleNamespace(name="ticks")]

    def branches(self, _repo: str) -> list[Any]:
        return [SimpleNamespace(head="one")]

    def commits(self, repo: str) -> list[Commit]:
        return [Commit(repo=repo, id="one", open=False, is_output=False, size=3, finished=None)]

    def references_of(self, _commit: Commit) -> Iterator[Any]:
        yield SimpleNamespace(kind="shard", names=("shard",), blocks=())
        yield SimpleNamespace(kind="file", names=("content",), blocks=())
        raise StorageError("the tree is damaged")

    def blocks_of(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        return ((name, f"block/of-{name}") for name in names)


def test_what_comes_before_the_damage_counts() -> None:
    walk = space._Walk(State(), SIZES, Progress())  # type: ignore[arg-type]
    walk.run()
    assert walk.unreadable == ["ticks@one: the tree is damaged"]
    assert set(walk.sharers) == SIZES.keys() - {"object/nobody"}
    [repo] = walk.repos()
    assert repo["own"] == repo["stored"] == repo["heads"] == 1045
