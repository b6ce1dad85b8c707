# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""etcd's keys as of one revision, read from a running etcd or from a snapshot file with no etcd at all.

A snapshot is etcd's bbolt file with the SHA-256 of it appended.  Its bucket ``key`` holds every change since the last
compaction, in the order of revisions::

    key      main revision u64, "_", sub revision u64, all big-endian; "t" after it marks a deletion
    value    a KeyValue message: key 1, create revision 2, modification revision 3, version 4, value 5, lease 6

The newest change of a key up to a revision is what the key holds at that revision.  The bucket ``meta`` holds how far
etcd has compacted; before that no revision can be read.  Facts: ``server/storage/mvcc`` (``revision.go``,
``kvstore.go``) and ``api/mvccpb/kv.proto`` of etcd v3.5; 3.3 to 3.6 write the same.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from ..errors import EtcdError
from .bolt import Bolt, DamagedFile
from .client import EtcdClient, KeyValue, read_key_value

_REVISION_SIZE = 17
_TOMBSTONE = b"t"
_DIGEST_SIZE = hashlib.sha256().digest_size
_CHUNK = 1 << 20
_SIZE_BITS = 32
_SIZE_MASK = (1 << _SIZE_BITS) - 1


class Keyspace(Protocol):
    """All keys as of one revision."""

    @property
    def revision(self) -> int:
        """The revision at which everything is read."""

    def get(self, key: bytes) -> KeyValue | None:
        """Return what ``key`` holds, or None."""

    def range(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix``, in key order."""

    def newest_first(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix``, the last created first, as Pachyderm lists most things."""


class LiveKeyspace:
    """The keys of a running etcd as of the revision that it had, or one that the caller names."""

    def __init__(self, client: EtcdClient, revision: int = 0) -> None:
        """:param revision: the revision to read at; default: the newest one now."""
        self._client = client
        self.revision = revision or client.revision()

    def get(self, key: bytes) -> KeyValue | None:
        """Return what ``key`` holds, or None."""
        return self._client.get(key, revision=self.revision)

    def range(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix``, in key order."""
        return self._client.range(prefix, self.revision)

    def newest_first(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix``, the last created first; they are held in memory."""
        return iter(sorted(self.range(prefix), key=_newest_first))


class Snapshot:
    """The keys of a snapshot file.  A context manager; safe for use by many threads.

    Memory holds, per key, the key and where its value is in the file; values are read when they are asked for.
    """

    def __init__(self, source: str | Path | BinaryIO, revision: int = 0, *, check: bool = True) -> None:
        """:param source: a file that ``etcdctl snapshot save`` made, or a member's own ``db`` file (no etcd running).
        :param revision: the revision to read at; default: the newest in it.
        :param check: whether to compare the file with the SHA-256 at its end first, where it has one.
        :raises DamagedFile: the file is damaged, cut short or no etcd database.
        :raises EtcdError: the revision is not in it.
        """
        self._bolt = Bolt(source)
        #: Whether a SHA-256 stands at the end; a member's own file has none.
        self.has_digest = self._bolt.pages.size - self._bolt.size == _DIGEST_SIZE
        #: How many changes the file holds, deletions included.
        self.changes = 0
        self._where: dict[bytes, int] = {}
        try:
            self._read(revision, check)
        except BaseException:
            self._bolt.close()
            raise
        self.revision = revision or self.newest
        self._keys = sorted(self._where)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._keys)

    def close(self) -> None:
        """Close the file."""
        self._bolt.close()

    def check(self) -> str:
        """Compare the file with the SHA-256 at its end, and return that digest in hexadecimal digits.

        :raises DamagedFile: it differs, or there is none.
        """
        if not self.has_digest:
            raise self._bolt.damaged("the file has no SHA-256 at its end", "it is a member's own file, no snapshot")
        digest, pages, end = hashlib.sha256(), self._bolt.pages, self._bolt.size
        for offset in range(0, end, _CHUNK):
            digest.update(pages.read(offset, min(_CHUNK, end - offset)))
        recorded = pages.read(end, _DIGEST_SIZE)
        if digest.digest() != recorded:
            raise self._bolt.damaged(
                "the snapshot is damaged", f"its SHA-256 is {digest.hexdigest()}, and {recorded.hex()} was recorded"
            )
        return digest.hexdigest()

    def get(self, key: bytes) -> KeyValue | None:
        """Return what ``key`` holds, or None."""
        return self._value(key) if key in self._where else None

    def keys(self, prefix: bytes = b"") -> Iterator[bytes]:
        """Yield the keys that begin with ``prefix`` in key order; no value is read."""
        for index in range(bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[index]
            if not key.startswith(prefix):
                return
            yield key

    def range(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix``, in key order."""
        return map(self._value, self.keys(prefix))

    def newest_first(self, prefix: bytes = b"") -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix``, the last created first."""
        order = sorted((_newest_first(each), each.key) for each in self.range(prefix))
        return (self._value(key) for _unused, key in order)

    def _value(self, key: bytes) -> KeyValue:
        where = self._where[key]
        data = self._bolt.pages.read(where >> _SIZE_BITS, where & _SIZE_MASK)
        found = decode_key_value(data, self._bolt, where >> _SIZE_BITS)
        if found.key != key:
            raise self._bolt.damaged("the file changed while it was read", repr(key), where >> _SIZE_BITS)
        return found

    def _meta_revision(self, name: bytes) -> int:
        meta = self._bolt.bucket(b"meta")
        data = meta.get(name) if meta else None
        return int.from_bytes(data[:8], "big") if data and len(data) >= _REVISION_SIZE else 0

    def _read(self, revision: int, check: bool) -> None:
        if self._bolt.pages.size != self._bolt.size and not self.has_digest:
            raise self._bolt.damaged("the file is cut short", f"it ends amid a page, at byte {self._bolt.pages.size}")
        if check and self.has_digest:
            self.check()
        #: The newest revision of which etcd has thrown away the older changes; 0: none yet.
        self.compacted = self._meta_revision(b"finishedCompactRev")
        self.newest = max(1, self._meta_revision(b"scheduledCompactRev"))
        self._read_changes(revision)
        oldest = max(self.compacted, 1)
        if revision and not oldest <= revision <= self.newest:
            raise EtcdError(
                "the snapshot does not hold this revision",
                where=f"{self._bolt.pages.name}, revision {revision}",
                why=f"it holds revisions {oldest} to {self.newest}",
            )

    def _read_changes(self, revision: int) -> None:
        """Note where the newest change of each key is."""
        bucket = self._bolt.bucket(b"key")
        if bucket is None:
            raise self._bolt.damaged("not an etcd database", "it has no bucket named key")
        where, last = self._where, 0
        for name, value, offset in bucket.items():
            if len(name) < _REVISION_SIZE or name[8:9] != b"_" or name[_REVISION_SIZE:] not in (b"", _TOMBSTONE):
                raise self._bolt.damaged("the bucket key is damaged", f"{name!r} is no revision", offset)
            last = int.from_bytes(name[:8], "big")
            self.changes += 1
            if revision and last > revision:
                continue
            # The key comes first in every message that etcd writes; a short one says its length in one byte.
            if value[:1] == b"\x0a" and len(value) > 1 and value[1] < 0x80 and len(value) >= 2 + value[1]:
                key = value[2 : 2 + value[1]]
            else:
                key = decode_key_value(value, self._bolt, offset).key
            if len(name) > _REVISION_SIZE:
                where.pop(key, None)
            else:
                where[key] = offset << _SIZE_BITS | len(value)
        self.newest = max(self.newest, last)


def _newest_first(found: KeyValue) -> int:
    return -found.create_revision


def decode_key_value(data: bytes, bolt: Bolt, offset: int) -> KeyValue:
    """Return the KeyValue message ``data``, which stands at ``offset``.

    :raises DamagedFile: it is none.
    """
    try:
        return read_key_value(data, 0, len(data))
    except (ValueError, LookupError) as error:
        raise bolt.damaged("a change of a key is damaged", f"not a KeyValue message ({error})", offset) from error


__all__ = ["DamagedFile", "Keyspace", "LiveKeyspace", "Snapshot", "decode_key_value"]
