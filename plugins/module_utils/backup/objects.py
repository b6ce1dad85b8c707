# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Copying an installation's objects into a store, each content once.

A block never changes, and an object's record, a tag or an index may be written anew; garbage collection followed by the
same content even brings another record under an old name.  So nothing is assumed of names: an object counts as copied
only where the source's own token (ETag, generation, modification time) and size are those of the last backup, and the
copy is where it was.  Everything else is read, and written only where its content is new.  What is stored under a key
is never replaced, because earlier backups may need it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..errors import BackupError, StorageError
from ..progress import Progress
from ..stores import parallel
from ..stores.base import ObjectExists, ObjectMissing, Store, StoredObject
from ..stores.keys import ROOT, Spelling, artifact_of, borders, key_of, name_of
from .crypt import Cipher
from .index import IndexEntry, Sizes, escaped
from .manifest import AGE, ObjectTotals
from .sets import object_key
from .streams import Count

# Up to this size an object is read into memory; with the workers below that is 64 MiB at most.
_SMALL = 4 << 20
_WORKERS = 16
# Each larger one is on its way in several parts of several MiB.
_LARGE_AT_ONCE = 3


@dataclass(frozen=True)
class Listing:
    """All objects of an installation, by canonical name; ``spelling`` is None where there are none.

    :param artifacts: of jobs that run, which are foreign to a backup: they last no longer than their job.
    """

    spelling: Spelling | None
    objects: tuple[StoredObject, ...]
    foreign: int
    artifacts: tuple[StoredObject, ...] = ()


def list_source(store: Store, spellings: Sequence[Spelling], root: str = ROOT) -> Listing:
    """List what belongs to Pachyderm in ``store``, and how its keys are spelled.

    :param spellings: those that are possible in this kind of store.
    :param root: PACH_ROOT.
    :raises StorageError: when two spellings occur, since pachd would see only half of such a store.
    """
    found: dict[Spelling, list[StoredObject]] = {}
    examples: dict[Spelling, str] = {}
    artifacts: list[StoredObject] = []
    foreign = 0
    for each in store.list():
        for spelling in spellings:
            name = name_of(each.key, spelling, root)
            if name is not None:
                found.setdefault(spelling, []).append(StoredObject(name, each.size, each.token))
                examples.setdefault(spelling, each.key)
                break
        else:
            foreign += 1
            artifact = next(filter(None, (artifact_of(each.key, spelling) for spelling in spellings)), "")
            if artifact:
                artifacts.append(StoredObject(artifact, each.size, each.token))
    if len(found) > 1:
        raise StorageError(
            "the store holds a mixture of key spellings",
            where=store.where,
            why="; ".join(f"{spelling.value}: {key}" for spelling, key in examples.items()),
            fix="Keep the objects of one installation only, in one spelling (on S3: the REVERSE setting).",
        )
    for spelling, objects in found.items():
        return Listing(spelling, tuple(sorted(objects, key=lambda each: each.key)), foreign, tuple(artifacts))
    return Listing(None, (), foreign, tuple(artifacts))


def existing(store: Store, cluster_id: str) -> Sizes:
    """Return what a store has of a cluster's objects, by key below ``objects/``."""
    base = object_key(cluster_id)
    # An object that a listing leaves out is read and compared once more, nothing worse.
    found = store.list_parts(base, borders(store.folders(base), base))
    return Sizes((each.key[len(base) :], each.size) for each in found)


@dataclass
class Copied:
    """What a copy did; ``vanished`` are blocks that were deleted while it ran."""

    entries: list[IndexEntry] = field(default_factory=list)
    copied: int = 0
    copied_bytes: int = 0
    vanished: list[str] = field(default_factory=list)

    def totals(self) -> ObjectTotals:
        """Return the sums for the manifest."""
        trees: dict[str, int] = {}
        for each in self.entries:
            tree = each.name.partition("/")[0]
            trees[tree] = trees.get(tree, 0) + 1
        return ObjectTotals(
            len(self.entries), sum(each.size for each in self.entries), trees, self.copied, self.copied_bytes
        )


class Copier:
    """Copies the objects of one installation for one backup."""

    def __init__(
        self,
        source: Store,
        spelling: Spelling,
        store: Store,
        cluster_id: str,
        backup_id: str,
        *,
        root: str = ROOT,
        existing: Sizes,
        cipher: Cipher | None = None,
        workers: int = _WORKERS,
    ) -> None:
        """:param existing: what ``store`` has of the cluster's objects."""
        self._source = source
        self._spelling = spelling
        self._root = root
        self._store = store
        self._cluster_id = cluster_id
        self._backup_id = backup_id
        self._cipher = cipher
        self._workers = workers
        self._large = threading.BoundedSemaphore(_LARGE_AT_ONCE)
        self._suffix = AGE if cipher else ""
        self._existing = existing

    def unchanged(self, item: StoredObject, old: IndexEntry | None) -> bool:
        """Return whether the last backup's copy of an object is what the source has."""
        return (
            old is not None
            and item.token != ""
            and (old.token, old.size) == (item.token, item.size)
            and self._usable(old)
        )

    def run(
        self, objects: Sequence[StoredObject], previous: Sequence[IndexEntry | None], progress: Progress | None = None
    ) -> Copied:
        """Copy what is new, and return the entries of all objects in the order of their names.

        :param previous: what the last backup had of each, as :func:`matched` returns it.
        :raises StorageError: when either store refuses.
        :raises BackupError: when something vanished that only garbage collection deletes.
        """
        progress = progress or Progress("")
        total = sum(each.size for each in objects)
        copied = Copied()
        new: list[tuple[StoredObject, IndexEntry | None]] = []
        for item, old in zip(objects, previous, strict=True):
            if old is not None and self.unchanged(item, old):
                copied.entries.append(old)
            else:
                new.append((item, old))
        done = total - sum(item.size for item, _old in new)
        for item, entry, size in parallel.each(lambda pair: self._copy(*pair), new, self._workers):
            done += item.size
            progress.update(done, total, "bytes")
            if entry is None:
                copied.vanished.append(item.key)
                continue
            copied.entries.append(entry)
            copied.copied += size is not None
            copied.copied_bytes += size or 0
        collected = [name for name in copied.vanished if not name.startswith("block/")]
        if collected:
            raise BackupError(
                "objects were deleted while they were backed up",
                where=f"{self._source.where}: {collected[0]}",
                why=f"{len(collected)} objects are gone since the store was listed, which only garbage collection does",
                fix="Back up again when garbage collection has ended.",
            )
        copied.entries.sort(key=_name)
        return copied

    def _usable(self, old: IndexEntry) -> bool:
        encrypted = old.key.endswith(AGE) and old.key != old.name
        return encrypted == bool(self._cipher) and self._existing.get(old.key) == old.stored_size

    def _read(self, name: str) -> Iterator[bytes]:
        return self._source.read(key_of(name, self._spelling, self._root))

    def _copy(self, item: StoredObject, old: IndexEntry | None) -> tuple[StoredObject, IndexEntry | None, int | None]:
        """Return the object, its entry (None: it vanished) and how many bytes had to be written (None: none)."""
        try:
            if item.size > _SMALL:
                with self._large:
                    entry, written = self._copy_large(item, old)
            else:
                entry, written = self._copy_small(item, old)
        except ObjectMissing:
            return item, None, None
        return item, entry, entry.size if written else None

    def _copy_small(self, item: StoredObject, old: IndexEntry | None) -> tuple[IndexEntry, bool]:
        content = Count()
        data = b"".join(content(self._read(item.key)))
        if old is not None and old.sha256 == content.sha256 and self._usable(old):
            return replace(old, token=item.token), False
        stored = Count()
        sealed = b"".join(stored([self._cipher.encrypt_small(data) if self._cipher else data]))
        key = escaped(item.key) + self._suffix
        written = self._put(key, sealed)
        if not written and not self._holds(key, data):
            key = self._other_key(item.key, content.sha256)
            written = self._put(key, sealed)
        return self._entry(item, key, content, stored), written

    def _copy_large(self, item: StoredObject, old: IndexEntry | None) -> tuple[IndexEntry, bool]:
        key = escaped(item.key) + self._suffix
        known = old is not None and self._usable(old)
        # A block of this name and size is there, from a backup that did not come to its end or whose index is gone.
        left = not self._cipher and item.key.startswith("block/") and self._existing.get(key) == item.size
        if known or left or key in self._existing:
            content = Count()
            for _unused in content(self._read(item.key)):
                pass
            if old is not None and known and old.sha256 == content.sha256:
                return replace(old, token=item.token), False
            if left and not known and content.size == item.size:
                return self._entry(item, key, content, content), False
            key = self._other_key(item.key, content.sha256)
        content, stored = Count(), Count()
        chunks = content(self._read(item.key))
        sealed = stored(self._cipher.encrypt(chunks) if self._cipher else chunks)
        try:
            self._store.write(object_key(self._cluster_id, key), sealed, if_absent=True)
        except ObjectExists:
            if key in self._existing:
                raise
            self._existing[key] = item.size  # another backup was faster
            return self._copy_large(item, old)
        return self._entry(item, key, content, stored), True

    def _put(self, key: str, data: bytes) -> bool:
        """Write where nothing is; return whether it was."""
        if key in self._existing:
            return False
        try:
            self._store.write(object_key(self._cluster_id, key), [data], if_absent=True)
        except ObjectExists:
            return False
        return True

    def _holds(self, key: str, data: bytes) -> bool:
        """Return whether what is there is ``data``; of something encrypted nobody knows."""
        if self._cipher or self._existing.get(key) not in (None, len(data)):
            return False
        return b"".join(self._store.read(object_key(self._cluster_id, key))) == data

    def _other_key(self, name: str, sha256: str) -> str:
        """Return the key for content whose usual key is taken by another one."""
        return f"{escaped(name)}.{self._backup_id}{AGE}" if self._cipher else f"{escaped(name)}.{sha256}"

    def _entry(self, item: StoredObject, key: str, content: Count, stored: Count) -> IndexEntry:
        # What is still being written in the source has another size than the listing said, and soon another token.
        token = item.token if content.size == item.size else ""
        entry = IndexEntry(item.key, content.size, content.sha256, token, key, stored.size, stored.sha256)
        return _shared(entry, item)


def matched(objects: Sequence[StoredObject], entries: Iterable[IndexEntry]) -> list[IndexEntry | None]:
    """Return for each object what the last backup had under its name; both are in the order of names."""
    found: list[IndexEntry | None] = []
    source = iter(entries)
    entry = next(source, None)
    for item in objects:
        # Text is in the order of its bytes in UTF-8.
        while entry is not None and entry.name < item.key:
            entry = next(source, None)
        found.append(_shared(entry, item) if entry is not None and entry.name == item.key else None)
    for _unused in source:
        pass  # damage of an index shows at its end
    return found


def _shared(entry: IndexEntry, item: StoredObject) -> IndexEntry:
    """Return the entry with no text twice that it has in common with the object, or twice itself."""
    token = item.token if entry.token == item.token else entry.token
    key = item.key if entry.key == item.key else entry.key
    same = (entry.stored_size, entry.stored_sha256) == (entry.size, entry.sha256)
    stored = (entry.size, entry.sha256) if same else (entry.stored_size, entry.stored_sha256)
    return IndexEntry(item.key, entry.size, entry.sha256, token, key, *stored)


def _name(entry: IndexEntry) -> str:
    return entry.name
