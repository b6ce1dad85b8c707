# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""How Pachyderm 1.x spells the names of its objects, per storage backend.

An object's canonical name is ``<tree>/<name>``, with one of the trees ``block``, ``object``, ``tag`` and ``index``.
pachd joins it to PACH_ROOT and hands the result to the backend's client, which may reverse it.  Facts:
``src/server/pfs/server/server.go`` and ``src/server/pkg/obj`` of v1.13.4.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from ..errors import StorageError

TREES = ("block", "object", "tag", "index")
ROOT = "/pach"
#: What running jobs keep beside the trees; ``raw_key`` gives the key.
ARTIFACTS = "artifacts/"


class Spelling(enum.Enum):
    """The forms that one canonical name takes as a key."""

    #: A directory that is PACH_ROOT itself: ``block/H``.
    DIRECTORY = "directory"
    #: GCS and Azure, with the slash in front: ``/pach/block/H``.
    SLASH = "slash"
    #: MinIO, and S3 with REVERSE=false: ``pach/block/H``.
    PLAIN = "plain"
    #: S3 with REVERSE=true: the plain key read backwards.
    REVERSED = "reversed"


def raw_key(path: str, spelling: Spelling) -> str:
    """Return the key of ``path`` as pachd gives it to the store's client, for objects outside the four trees."""
    return path[::-1] if spelling is Spelling.REVERSED else path


def key_of(name: str, spelling: Spelling, root: str = ROOT) -> str:
    """Return the key of the canonical ``name``; ``block/`` gives the prefix that all blocks share (not if reversed).

    :raises StorageError: when ``name`` lies in none of the four trees.
    """
    tree, slash, rest = name.partition("/")
    if tree not in TREES or not slash:
        raise StorageError(
            "not the name of a Pachyderm object", where=name, why=f"its tree is none of {', '.join(TREES)}"
        )
    if spelling is Spelling.DIRECTORY:
        return name
    path = f"{root.rstrip('/')}/{tree}/{rest}"
    return raw_key(path if spelling is Spelling.SLASH else path.removeprefix("/"), spelling)


def name_of(key: str, spelling: Spelling, root: str = ROOT) -> str | None:
    """Return the canonical name of ``key``, or None when the key is none of Pachyderm's content."""
    path = raw_key(key, spelling)
    if spelling is not Spelling.DIRECTORY:
        base = f"{root.rstrip('/')}/"
        base = base if spelling is Spelling.SLASH else base.removeprefix("/")
        if not path.startswith(base):
            return None
        path = path[len(base) :]
    tree, _unused, rest = path.partition("/")
    return path if tree in TREES and rest else None


def borders(trees: Iterable[str] = TREES, base: str = "") -> list[str]:
    """Return beginnings of names, with ``base`` before them, between which about equally many of a tree's objects are.

    Names are random digits of hexadecimal numbers.
    """
    return sorted(f"{base}{tree}/{digit}" for tree in trees for digit in ("", *"48c"))


def artifact_of(key: str, spelling: Spelling) -> str:
    """Return the path of a running job's artifact, which lies outside PACH_ROOT, or an empty string."""
    path = raw_key(key, spelling)
    return path if path.startswith(ARTIFACTS) else ""


def detect(keys: Iterable[str], root: str = ROOT) -> Spelling | None:
    """Return the one spelling that ``keys`` are in, or None when no key is Pachyderm's.

    :raises StorageError: when two spellings occur, since pachd would see only half of such a bucket.
    """
    found: dict[Spelling, str] = {}
    for key in keys:
        for spelling in (Spelling.SLASH, Spelling.PLAIN, Spelling.REVERSED, Spelling.DIRECTORY):
            if name_of(key, spelling, root) is not None:
                found.setdefault(spelling, key)
                break
    if len(found) > 1:
        examples = "; ".join(f"{spelling.value}: {key}" for spelling, key in found.items())
        raise StorageError(
            "the store holds a mixture of key spellings",
            why=examples,
            fix="Keep the objects of one installation only, in one spelling (on S3: the REVERSE setting).",
        )
    return next(iter(found), None)
