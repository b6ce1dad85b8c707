# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pipeline's inputs make of commits: datums, their names and their hashes (src/server/worker/datum, common)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.records import tag_prefix


@dataclass(frozen=True)
class Part:
    """One file or directory of a datum, under the name of its input."""

    name: str
    repo: str
    commit: str
    path: str
    hash: bytes
    branch: str
    empty_files: bool


Datum = tuple[Part, ...]
#: Lists the files of a repo's commit that a pattern matches.
Glob = Callable[[str, str, str], Iterable[Any]]


def visit(input: Any) -> Iterator[Any]:
    """Yield an input and all inputs in it, the innermost first."""
    for kind in ("cross", "join", "group", "union"):
        for each in getattr(input, kind):
            yield from visit(each)
    yield input


def datums(input: Any, glob: Glob) -> list[Datum]:
    """Return the datums of an input whose commits are filled in, in pachd's order."""
    if input.HasField("pfs"):
        pfs = input.pfs
        if not pfs.commit:
            return []
        found = sorted(glob(pfs.repo, pfs.commit, pfs.glob), key=lambda each: each.hash)
        return [
            (Part(pfs.name, pfs.repo, pfs.commit, each.file.path, each.hash, pfs.branch, pfs.empty_files),)
            for each in found
        ]
    if input.union:
        return [each for part in input.union for each in datums(part, glob)]
    if input.cross:
        lists = [datums(each, glob) for each in input.cross]
        # The first input varies fastest.
        combined = [tuple(reversed(each)) for each in itertools.product(*reversed(lists))]
        return [tuple(sorted(itertools.chain(*each), key=lambda part: part.name)) for each in combined]
    return []


def datum_hash(pipeline: str, salt: str, datum: Datum) -> str:
    """Return the tag under which the output of a datum is kept."""
    digest = hashlib.sha256()
    for part in datum:
        digest.update(part.name.encode() + part.path.encode() + part.hash)
    digest.update(pipeline.encode() + salt.encode())
    return tag_prefix(salt) + digest.hexdigest()


def datum_id(datum: Datum) -> str:
    """Return the name of a datum in logs."""
    digest = hashlib.sha256()
    for part in datum:
        digest.update(part.path.encode() + part.hash)
    return digest.hexdigest()
