# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Bringing a backup's objects back to where pachd looks for them, before any metadata that names them.

An object counts as there when its size is right and its content is known to be: either the store's own token is still
the one of the backup, or it is read and compared.  Blocks and records of objects that are missing or differ are written
anew from the backup.  Tags and indexes are rewritten by pachd itself, so those that are there stay as they are.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..backup.index import IndexEntry
from ..backup.objects import list_source
from ..backup.sets import OpenedSet
from ..errors import StorageError
from ..progress import Progress
from ..stores import parallel
from ..stores.base import ObjectMissing, Store, StoredObject
from ..stores.keys import ROOT, Spelling, key_of

_REWRITTEN = ("tag/", "index/")
_WORKERS = 16


@dataclass(frozen=True)
class Place:
    """Where a pachd looks for its objects.

    :param spelling: the one that this pachd uses.
    :param others: spellings that are possible in this kind of store and that it does not find.
    :param root: PACH_ROOT.
    """

    store: Store
    spelling: Spelling
    others: Sequence[Spelling] = ()
    root: str = ROOT


@dataclass(frozen=True)
class Survey:
    """What a place has of what a backup needs.

    :param missing: entries that are not there or have another size.
    :param unknown: entries that are there with the right size, and whose content only reading them tells.
    :param proven: how many are there with the very token of the backup.
    :param extra: Pachyderm objects that the backup does not need.
    :param foreign: keys that are none of Pachyderm's.
    """

    missing: tuple[IndexEntry, ...]
    unknown: tuple[IndexEntry, ...]
    proven: int
    extra: int
    foreign: int

    @property
    def missing_bytes(self) -> int:
        """The sum of what has to be put back."""
        return sum(each.size for each in self.missing)

    @property
    def unknown_bytes(self) -> int:
        """The sum of what has to be read."""
        return sum(each.size for each in self.unknown)


def survey(place: Place, opened: OpenedSet) -> Survey:
    """Compare a place with a backup's index, by listing it.

    :raises StorageError: the place cannot be listed, holds two spellings, or one that its pachd does not find.
    """
    listing = list_source(place.store, [place.spelling, *place.others], place.root)
    if listing.spelling not in (None, place.spelling):
        raise StorageError(
            "pachd would not find the objects that this store holds",
            where=place.store.where,
            why=f"it is set up for keys spelled '{place.spelling.value}', and there are {len(listing.objects)} spelled "
            f"'{listing.spelling.value}'",
            fix="Correct the storage settings (on S3: REVERSE, in all pods), or name another bucket.",
        )
    there = {each.key: each for each in listing.objects}
    missing, unknown, proven = [], [], 0
    for entry in opened.index():
        found = there.pop(entry.name, None)
        rewritten = entry.name.startswith(_REWRITTEN)
        if found is None or (found.size != entry.size and not rewritten):
            missing.append(entry)
        elif rewritten or _same(found, entry):
            proven += 1
        else:
            unknown.append(entry)
    return Survey(tuple(missing), tuple(unknown), proven, len(there), listing.foreign)


def _same(found: StoredObject, entry: IndexEntry) -> bool:
    return found.token != "" and found.token == entry.token


def put_back(place: Place, opened: OpenedSet, found: Survey, progress: Progress | None = None) -> tuple[int, int]:
    """Write what is missing, read and compare what only reading tells, and return how many objects were written.

    What differs is written anew from the backup.  Everything that was written is read back.

    :returns: the number of objects written, and their bytes.
    :raises StorageError: the store refuses, or does not give back what was written to it.
    :raises BackupError: the backup is damaged.
    """
    progress = progress or Progress()
    done, total = 0, found.missing_bytes + found.unknown_bytes
    written = written_bytes = 0

    def missing(entry: IndexEntry) -> tuple[IndexEntry, bool]:
        _write(place, opened, entry)
        return entry, True

    def unknown(entry: IndexEntry) -> tuple[IndexEntry, bool]:
        if _read(place, entry) == entry.sha256:
            return entry, False
        return missing(entry)

    # Blocks before what refers to them, so that a half of it is never worse than nothing.
    ordered = sorted(found.missing, key=lambda each: not each.name.startswith("block/"))
    work = itertools.chain(parallel.each(missing, ordered, _WORKERS), parallel.each(unknown, found.unknown, _WORKERS))
    for entry, was_written in work:
        done += entry.size
        written += was_written
        written_bytes += entry.size if was_written else 0
        progress.update(done, total, "B", entry.name)
    place.store.flush()
    return written, written_bytes


def _write(place: Place, opened: OpenedSet, entry: IndexEntry) -> None:
    place.store.write(key_of(entry.name, place.spelling, place.root), opened.object(entry))
    if _read(place, entry) != entry.sha256:
        raise StorageError(
            "the store does not give back what was written to it",
            where=f"{place.store.where}: {entry.name}",
            fix="Nothing refers to it yet. Look at the store, then run this again.",
        )


def _read(place: Place, entry: IndexEntry) -> str:
    """Return the SHA-256 of what is there, empty where nothing is."""
    digest = hashlib.sha256()
    try:
        for chunk in place.store.read(key_of(entry.name, place.spelling, place.root)):
            digest.update(chunk)
    except ObjectMissing:
        return ""
    return digest.hexdigest()
