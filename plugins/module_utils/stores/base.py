# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What every object store offers, whatever holds the objects.

A write is all or nothing, and what is read is what was written: every store compares a checksum or the length on the
way.  Passing failures (500, 503, time-outs, broken connections) are tried again; a refusal (403) never is.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ..errors import StorageError

CHUNK = 1 << 20
_RESUMES = 5
#: What to do where there is no space left.
FULL = "Free space there, or use another store."
#: The date until which an object is kept that somebody holds without a date.
HELD = datetime.max.replace(tzinfo=timezone.utc)


class ObjectMissing(StorageError):
    """The key that was asked for does not exist, and the store said so."""


class ObjectExists(StorageError):
    """A write that was to happen only where nothing is found something there; nothing was written.

    Stores raise it only where that was not their own doing: an answer that got lost on the way makes them try again,
    and then they may find what their first attempt has written.
    """


class ObjectLocked(StorageError):
    """The store keeps the object until a date or while it is held, whoever asks."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One listed object; ``size`` in bytes.

    :param token: changes whenever the object is written anew, in the store's own form; empty where it has none.
    """

    key: str
    size: int
    token: str = field(default="", compare=False)


class Store(abc.ABC):
    """Objects by key.  Keys are taken as they are: no store adds a prefix or tidies slashes."""

    #: What the store is for people, such as ``s3://bucket``.
    where: str = ""

    @abc.abstractmethod
    def write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> None:
        """Store the bytes of ``chunks`` under ``key``; memory use does not grow with their sum.

        :param if_absent: only where ``key`` does not exist, which the store itself decides.
        :raises ObjectExists: when it does.
        """

    @abc.abstractmethod
    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Return the object's bytes from ``offset`` on, ``size`` of them or all; the store is asked before it returns.

        :raises ObjectMissing: when there is no such object.
        """

    @abc.abstractmethod
    def exists(self, key: str) -> bool:
        """Return whether the object exists."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error.

        :raises ObjectLocked: when the store has to keep it.
        """

    @abc.abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``, in no promised order."""

    def list_parts(self, prefix: str, borders: Sequence[str]) -> Iterator[StoredObject]:
        """Yield as :meth:`list` does; what lies between two borders may be asked for at once, where that is faster.

        :param borders: keys in order, between which about equally many objects are.
        """
        del borders
        return self.list(prefix)

    def copy_from(self, source: Store, source_key: str, key: str, size: int) -> bool:
        """Have the service copy an object of ``source`` by itself; return whether it could, else nothing was done."""
        del source, source_key, key, size
        return False

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yield the parts of keys between ``prefix`` and the next slash, each once."""
        seen = set()
        for each in self.list(prefix):
            name, slash, _rest = each.key[len(prefix) :].partition("/")
            if slash and name not in seen:
                seen.add(name)
                yield name

    def locked_until(self, key: str) -> datetime | None:
        """Return until when the store has to keep the object, None where it may go; ``HELD``: while it is held.

        :raises ObjectMissing: when there is no such object.
        """
        del key
        return None

    def sweep(self, prefix: str, before: datetime) -> int:
        """Remove what writes that never ended left behind before that time, and return how many there were."""
        del prefix, before
        return 0

    def flush(self) -> None:
        """Return when everything written so far would outlive a crash of the machine."""
        return


class Below(Store):
    """The part of a store whose keys begin with ``prefix``, which its own keys lack."""

    def __init__(self, store: Store, prefix: str) -> None:
        """:param prefix: ends with a slash, unless it is empty."""
        self._store = store
        self._prefix = prefix
        self.where = f"{store.where}/{prefix}".rstrip("/")

    def write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> None:
        self._store.write(self._prefix + key, chunks, if_absent=if_absent)

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        return self._store.read(self._prefix + key, offset, size)

    def exists(self, key: str) -> bool:
        return self._store.exists(self._prefix + key)

    def delete(self, key: str) -> None:
        self._store.delete(self._prefix + key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for each in self._store.list(self._prefix + prefix):
            yield StoredObject(each.key[len(self._prefix) :], each.size, each.token)

    def list_parts(self, prefix: str, borders: Sequence[str]) -> Iterator[StoredObject]:
        whole = [self._prefix + each for each in borders]
        for each in self._store.list_parts(self._prefix + prefix, whole):
            yield StoredObject(each.key[len(self._prefix) :], each.size, each.token)

    def folders(self, prefix: str = "") -> Iterator[str]:
        return self._store.folders(self._prefix + prefix)

    def locked_until(self, key: str) -> datetime | None:
        return self._store.locked_until(self._prefix + key)

    def sweep(self, prefix: str, before: datetime) -> int:
        return self._store.sweep(self._prefix + prefix, before)

    def flush(self) -> None:
        self._store.flush()


def resuming(
    first: Iterator[bytes],
    again: Callable[[int], Iterator[bytes]],
    errors: tuple[type[Exception], ...],
    pause: float = 0.5,
) -> Iterator[bytes]:
    """Yield the bytes of ``first``, and where it breaks off with one of ``errors`` go on at the byte reached.

    :param again: opens the object at a byte offset, counted from where ``first`` began.
    :param pause: seconds before the first new attempt; doubled for every further one.
    """
    done, tries, source = 0, 0, first
    while True:
        try:
            for chunk in source:
                done += len(chunk)
                tries = 0
                yield chunk
            return
        except errors:
            tries += 1
            if tries >= _RESUMES:
                raise
            time.sleep(pause * 2 ** (tries - 1))
        source = again(done)


def blocks(chunks: Iterable[bytes], sizes: Iterable[int]) -> Iterator[bytes]:
    """Yield the bytes of ``chunks`` in blocks of the given sizes; the last one may be shorter, and is never empty.

    :param sizes: without end.
    """
    wanted = iter(sizes)
    size = next(wanted, 0)
    buffer = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            part = view[: size - len(buffer)]
            view = view[len(part) :]
            if not buffer and len(part) == size:
                yield bytes(part)
            else:
                buffer += part
                if len(buffer) < size:
                    continue
                yield bytes(buffer)
                buffer = bytearray()
            size = next(wanted, size)
    if buffer:
        yield bytes(buffer)
