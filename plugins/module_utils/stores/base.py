# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What every object store offers, whatever holds the objects."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import StorageError

CHUNK = 1 << 20


class ObjectMissing(StorageError):
    """The key that was asked for does not exist, and the store said so."""


@dataclass(frozen=True)
class StoredObject:
    """One listed object; ``size`` in bytes."""

    key: str
    size: int


class Store(abc.ABC):
    """Objects by key.  Keys are taken as they are: no store adds a prefix or tidies slashes."""

    @abc.abstractmethod
    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        """Store the bytes of ``chunks`` under ``key``; memory use does not grow with their sum."""

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
        """Remove the object; a missing one is no error."""

    @abc.abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``, in no promised order."""
