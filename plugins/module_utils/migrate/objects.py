# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""An installation's objects from one store into another, each under the key that the other one's pachd looks for.

What has been copied stands in a journal in the target, so that a later pass, or a run after one that died, copies only
what is new or was rewritten: size and the source's own token (ETag, generation, modification time) tell.  What lies in
the target without standing in the journal is compared byte by byte.  The journal is in parts, since objects cannot be
appended to::

    pachops-migration/<number>      lines of: name TAB size TAB token
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..backup.objects import Listing, list_source
from ..errors import MigrationError, StorageError
from ..progress import Progress
from ..restore.objects import Place
from ..stores import parallel
from ..stores.base import ObjectMissing, Store, StoredObject
from ..stores.keys import ARTIFACTS, key_of, raw_key

JOURNAL = "pachops-migration/"
_WORKERS = 16
_SMALL = 4 << 20
_PART, _PART_SECONDS = 2000, 10.0
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ObjectPlan:
    """What a pass has to do; sizes in bytes.

    :param count: objects of the source, ``size`` all of them together.
    :param missing: of those, the ones that the target does not have or that are not known to be the same.
    :param extra: objects in the target that the source does not have.
    :param artifacts: of running jobs, among ``count``.
    :param foreign: keys in the source that are none of Pachyderm's, which stay where they are.
    """

    count: int
    size: int
    missing: int
    missing_size: int
    extra: int
    artifacts: int
    foreign: int


@dataclass(frozen=True)
class Pass:
    """What a pass did: objects written and their bytes, ``compared`` were there already, ``seconds`` it took."""

    copied: int
    size: int
    compared: int
    vanished: int
    seconds: float


class ObjectMigration:
    """The objects' way from one place to another."""

    def __init__(
        self, source: Place, target: Place, *, progress: Progress | None = None, workers: int = _WORKERS
    ) -> None:
        """:param workers: how many objects are under way at once."""
        self._source = source
        self._target = target
        self._progress = progress or Progress("")
        self._workers = workers
        self._journal = _Journal(target.store)

    def plan(self) -> ObjectPlan:
        """Compare both sides by listing them; nothing is written.

        :raises StorageError: a side holds two spellings, or one that its pachd does not find.
        """
        listing, held = self._list(self._source), self._list(self._target)
        objects = [*listing.objects, *listing.artifacts]
        there = _sizes(held)
        missing = [each for each in objects if not self._journal.has(each, there)]
        extra = there.keys() - {each.key for each in objects}
        return ObjectPlan(
            len(objects),
            sum(each.size for each in objects),
            len(missing),
            sum(each.size for each in missing),
            len(extra),
            len(listing.artifacts),
            listing.foreign - len(listing.artifacts),
        )

    def require_target(self) -> ObjectPlan:
        """Return the plan, where the target is empty, holds the same, or what an earlier run has copied.

        :raises MigrationError: when it holds objects that are none of the source's.
        """
        plan = self.plan()
        if plan.extra and not self._journal.begun:
            raise MigrationError(
                "the target's store is not empty",
                where=self._target.store.where,
                why=f"it holds {plan.extra} objects that the source does not have",
                fix="Use an empty bucket or directory: two installations in one store delete each other's objects.",
            )
        return plan

    def copy(self) -> Pass:
        """Copy what is new, and return what that was; afterwards the target has all that the source's listing had.

        :raises StorageError: a store refuses, or gives something else than it said.
        """
        begun = time.monotonic()
        listing = self._list(self._source)
        there = _sizes(self._list(self._target))
        new = [each for each in (*listing.objects, *listing.artifacts) if not self._journal.has(each, there)]
        total, done = sum(each.size for each in new), 0
        copied = size = compared = vanished = 0
        # Blocks before what refers to them, so that a half of it is never worse than nothing.
        new.sort(key=lambda each: not each.key.startswith("block/"))
        with self._journal:
            for item, outcome in parallel.each(lambda item: self._one(item, item.key in there), new, self._workers):
                done += item.size
                self._progress.update(done, total, "B", item.key)
                vanished += outcome is None
                if outcome is None:
                    continue
                copied += outcome
                size += item.size if outcome else 0
                compared += not outcome
                self._journal.add(item)
        self._target.store.flush()
        if copied:
            self._check(new)
        return Pass(copied, size, compared, vanished, time.monotonic() - begun)

    def names(self) -> set[str]:
        """Return the canonical names of what the target has."""
        return {each.key for each in self._list(self._target).objects}

    def close(self) -> None:
        """Remove the journal."""
        self._journal.remove()

    def _list(self, place: Place) -> Listing:
        listing = list_source(place.store, [place.spelling, *place.others], place.root)
        if listing.spelling not in (None, place.spelling):
            raise StorageError(
                "pachd does not find the objects that this store holds",
                where=place.store.where,
                why=f"it is set up for keys spelled '{place.spelling.value}',"
                f" and there are {len(listing.objects)} spelled '{listing.spelling.value}'",
                fix="Correct the storage settings (on S3: REVERSE, in all pods), or the bucket.",
            )
        return listing

    def _one(self, item: StoredObject, there: bool) -> tuple[StoredObject, bool | None]:
        """Copy one object; return it with whether it had to be written, None where it is gone from the source."""
        source, target = _key(self._source, item.key), _key(self._target, item.key)
        try:
            if there and self._same(source, target):
                return item, False
            if not self._target.store.copy_from(self._source.store, source, target, item.size):
                chunks: Iterable[bytes] = self._checked(item, self._source.store.read(source))
                # What fits is read in full before the write begins, so that a write can be tried again.
                self._target.store.write(target, [b"".join(chunks)] if item.size <= _SMALL else chunks)
        except ObjectMissing:
            return item, None
        return item, True

    def _same(self, source: str, target: str) -> bool:
        return _sha256(self._source.store.read(source)) == _sha256(self._target.store.read(target))

    def _checked(self, item: StoredObject, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield ``chunks``, whose length and, where the store tells it, MD5 have to be those of the listing."""
        size, digest = 0, hashlib.md5(usedforsecurity=False)
        for chunk in chunks:
            size += len(chunk)
            digest.update(chunk)
            yield chunk
        if _MD5.fullmatch(item.token) and item.token != digest.hexdigest() and size == item.size:
            raise StorageError(
                "the source's store gives other bytes than it has stored",
                where=f"{self._source.store.where}: {item.key}",
                why=f"their MD5 is {digest.hexdigest()}, and its ETag is {item.token}",
                fix="Look at the connection and the store, then run this again.",
            )

    def _check(self, new: Sequence[StoredObject]) -> None:
        """Compare with what the target lists after a pass."""
        there = _sizes(self._list(self._target))
        lost = [each for each in new if self._journal.knows(each) and there.get(each.key) != each.size]
        if lost:
            # In a directory pachd writes in place: what was listed half written is copied again by the next pass.
            now = {each.key: (each.size, each.token) for each in self._list(self._source).objects}
            lost = [each for each in lost if now.get(each.key) == (each.size, each.token)]
        if lost:
            raise StorageError(
                "the target's store does not list what was written to it",
                where=f"{self._target.store.where}: {lost[0].key}",
                why=f"{len(lost)} objects are not there, or have another size",
                fix="Look at the store (a lifecycle rule, another writer), then run this again.",
            )


class _Journal:
    """What was copied: name to size and the source's token."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts = [each.key for each in store.list(JOURNAL)]
        self._known: dict[str, tuple[int, str]] = {}
        for key in sorted(self._parts, key=_number):
            for line in b"".join(store.read(key)).decode().splitlines():
                name, size, token = line.split("\t")
                self._known[name] = int(size), token
        self._next = max(map(_number, self._parts), default=0) + 1
        self._new: list[str] = []
        self._written = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether anything was copied here before."""
        return bool(self._known)

    def knows(self, item: StoredObject) -> bool:
        """Return whether this very object was copied."""
        return item.token != "" and self._known.get(item.key) == (item.size, item.token)

    def has(self, item: StoredObject, there: dict[str, int]) -> bool:
        """Return whether it was copied, and is still there."""
        return self.knows(item) and there.get(item.key) == item.size

    def add(self, item: StoredObject) -> None:
        """Note that it was copied; a part is written now and then."""
        self._known[item.key] = item.size, item.token
        self._new.append(f"{item.key}\t{item.size}\t{item.token}\n")
        if len(self._new) >= _PART or time.monotonic() - self._written > _PART_SECONDS:
            self._flush()

    def remove(self) -> None:
        """Remove all parts."""
        for key in self._parts:
            self._store.delete(key)
        self._parts = []

    def __enter__(self) -> _Journal:
        self._written = time.monotonic()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._flush()

    def _flush(self) -> None:
        if not self._new:
            return
        key = f"{JOURNAL}{self._next}"
        self._store.write(key, ["".join(self._new).encode()])
        self._parts.append(key)
        self._new, self._next, self._written = [], self._next + 1, time.monotonic()


def _number(key: str) -> int:
    text = key.removeprefix(JOURNAL)
    return int(text) if text.isdigit() else 0


def _key(place: Place, name: str) -> str:
    return raw_key(name, place.spelling) if name.startswith(ARTIFACTS) else key_of(name, place.spelling, place.root)


def _sizes(listing: Listing) -> dict[str, int]:
    return {each.key: each.size for each in (*listing.objects, *listing.artifacts)}


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
