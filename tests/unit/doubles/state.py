# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A state that a test makes by hand: records in a keyspace that is a dict, and real objects in a directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import KeyValue
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import records
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import HashTree
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.records import PREFIX
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling

PB = records.messages()


class Keys:
    """A keyspace of what a test puts into it; a double."""

    revision = 7

    def __init__(self) -> None:
        self.found: dict[bytes, KeyValue] = {}

    def put(self, path: str, message: Any, lease: int = 0) -> None:
        key, number = f"{PREFIX}/pachyderm_{path}".encode(), len(self.found) + 1
        data = message if isinstance(message, bytes) else message.SerializeToString()
        self.found[key] = KeyValue(key, data, number, number, 1, lease)

    def get(self, key: bytes) -> KeyValue | None:
        return self.found.get(key)

    def range(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        return (self.found[key] for key in sorted(self.found) if key.startswith(prefix))

    def newest_first(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        return iter(sorted(self.range(prefix), key=lambda each: -each.create_revision))


FIRST, SECOND = (f"{digit * 12}4{digit * 19}" for digit in "ab")


class Made:
    """A repo of two commits, made by hand."""

    def __init__(self, directory: Path) -> None:
        self.keys = Keys()
        self.objects = Objects(DirectoryStore(directory), Spelling.DIRECTORY)
        self.state = State(self.keys, self.objects)
        self.keys.put("pfs/repos/data", PB["RepoInfo"](repo={"name": "data"}))
        self.keys.put("pfs/branches/data/stats", PB["BranchInfo"](branch={"repo": {"name": "data"}, "name": "stats"}))

    def commit(self, name: str = FIRST, **fields: Any) -> records.Commit:
        info = PB["CommitInfo"](commit={"repo": {"name": "data"}, "id": name}, **fields)
        self.keys.put(f"pfs/commits/data/{name}", info)
        return self.state.commit("data", name)

    def finished(self, **fields: Any) -> records.Commit:
        return self.commit(finished={"seconds": 1}, **fields)

    def record(self, path: str, name: str = SECOND, **fields: Any) -> None:
        self.keys.put(f"pfs/putFileRecords/data/{name}{path}", PB["PutFileRecords"](**fields))

    def tree(self, tree: HashTree) -> dict[str, str]:
        return {"hash": self.objects.put([tree.serialize()])[0]}

    def put(self, content: bytes) -> str:
        return self.objects.put([content])[0]

    def contents(self, commit: records.Commit) -> dict[str, bytes]:
        return {
            each.path: b"".join(self.state.content(each)) for each in self.state.files(commit) if each.type == "file"
        }
