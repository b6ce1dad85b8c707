# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a genuine Pachyderm 1.13.4, unpacked for a test, with its objects under any spelling of their keys."""

from __future__ import annotations

import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import TREES, Spelling, key_of

FIXTURE = Path(__file__).parents[2] / "fixtures" / "pachyderm-1.13.4"
#: What was read through its API: file versions of finished commits.
FILE_VERSIONS = 103


def truth() -> dict[str, Any]:
    """Return what the installation's API said of itself."""
    return dict(json.loads((FIXTURE / "truth.json").read_text()))


def snapshot(directory: Path) -> Path:
    """Unpack the snapshot of its etcd."""
    path = directory / "etcd.snapshot"
    path.write_bytes(lzma.decompress((FIXTURE / "etcd.snapshot.xz").read_bytes()))
    return path


def objects(directory: Path, spelling: Spelling = Spelling.DIRECTORY) -> Objects:
    """Unpack its objects, each under the key that the spelling gives it."""
    store = DirectoryStore(directory)
    with tarfile.open(FIXTURE / "objects-local.tar.xz") as archive:
        for member in archive:
            if member.isfile() and member.name.removeprefix("./").startswith(TREES):
                content = archive.extractfile(member)
                assert content
                # A directory is no bucket: of keys that begin with a slash it keeps the rest.
                store.write(key_of(member.name.removeprefix("./"), spelling).lstrip("/"), [content.read()])
    return Objects(_Slashless(store) if spelling is Spelling.SLASH else store, spelling)


def state(directory: Path) -> State:
    """Open the whole state."""
    return State.open(snapshot(directory), objects(directory / "pach"))


class _Slashless(DirectoryStore):
    """A directory that takes keys with a slash in front, as a bucket does."""

    def __init__(self, store: DirectoryStore) -> None:
        super().__init__(store._root)

    def _path(self, key: str) -> Path:
        return super()._path(key.lstrip("/"))
