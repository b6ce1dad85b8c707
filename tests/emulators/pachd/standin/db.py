# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pachd's metadata in etcd: collections of messages, secondary indexes, optimistic transactions.

Key forms: src/server/pkg/collection of v1.13.4; an index key embeds the indexed message itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import (
    Delete,
    EtcdClient,
    KeyValue,
    Put,
    Unchanged,
    prefix_end,
)

from .errors import Exists, NotFound, PachError

T = TypeVar("T")
_INDEX = "__index_"
_writing = threading.RLock()


def join_bytes(*parts: bytes) -> bytes:
    """Return what Go's path.Join gives for byte strings: index keys hold bytes that are no text."""
    kept: list[bytes] = []
    for part in b"/".join(part for part in parts if part).split(b"/"):
        if part == b".." and kept:
            kept.pop()
        elif part not in (b"", b".", b".."):
            kept.append(part)
    return b"/".join(kept)


class Txn:
    """Reads that are remembered and writes that wait until all reads still hold."""

    def __init__(self, etcd: EtcdClient) -> None:
        self.etcd = etcd
        self._reads: dict[bytes, KeyValue | None] = {}
        self._writes: dict[bytes, bytes | None] = {}
        self._dropped: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        """Return what the key would hold if the transaction were committed now."""
        if key in self._writes:
            return self._writes[key]
        if any(key.startswith(prefix) for prefix in self._dropped):
            return None
        if key not in self._reads:
            self._reads[key] = self.etcd.get(key)
        found = self._reads[key]
        return found.value if found else None

    def put(self, key: bytes, value: bytes) -> None:
        """Write the key."""
        self._writes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove the key."""
        self._writes[key] = None

    def drop(self, prefix: bytes) -> None:
        """Remove all keys that begin with the prefix."""
        self._writes = {key: value for key, value in self._writes.items() if not key.startswith(prefix)}
        self._dropped.append(prefix)

    def commit(self) -> bool:
        """Return whether all reads still held, so that the writes are done."""
        operations: list[Put | Delete] = [Delete(prefix, prefix_end(prefix)) for prefix in self._dropped]
        for key, value in self._writes.items():
            operations.append(Delete(key) if value is None else Put(key, value))
        if not operations:
            return True
        unchanged = [Unchanged(key, found.mod_revision if found else 0) for key, found in self._reads.items()]
        return self.etcd.txn(unchanged, operations)


def transact(etcd: EtcdClient, action: Callable[[Txn], T]) -> T:
    """Run the action until its transaction could be committed, and return its result."""
    with _writing:
        while True:
            txn = Txn(etcd)
            result = action(txn)
            if txn.commit():
                return result


class Collection:
    """Messages of one type under one prefix."""

    def __init__(
        self,
        prefix: str,
        message: Any,
        indexes: tuple[str, ...] = (),
        check: Callable[[str], None] | None = None,
    ) -> None:
        """:param indexes: names of the message's fields; of a repeated field every item is indexed.
        :param check: raises when a key is not allowed.
        """
        self.prefix = prefix.rstrip("/") + "/"
        self.message = message
        self._indexes = indexes
        self._check = check

    def key(self, name: str) -> bytes:
        """Return the key of the record."""
        return join_bytes(self.prefix.encode(), name.encode())

    def _index_root(self, field: str) -> bytes:
        camel = "".join(part.capitalize() for part in field.split("_"))
        return f"{self.prefix.rstrip('/')}{_INDEX}{camel}/".encode()

    def _index_keys(self, name: str, message: Any) -> set[bytes]:
        keys = set()
        for field in self._indexes:
            values = getattr(message, field)
            repeated = message.DESCRIPTOR.fields_by_name[field].label == 3
            for value in values if repeated else [values]:
                keys.add(join_bytes(self._index_root(field), value.SerializeToString(), name.encode()))
        return keys

    def find(self, txn: Txn, name: str) -> Any | None:
        """Return the record, or None."""
        value = txn.get(self.key(name))
        return None if value is None else self.message.FromString(value)

    def get(self, txn: Txn, name: str) -> Any:
        """Return the record, or raise NotFound."""
        found = self.find(txn, name)
        if found is None:
            raise NotFound(self.prefix, name)
        return found

    def put(self, txn: Txn, name: str, message: Any) -> None:
        """Write the record and its indexes."""
        if _INDEX in name:
            raise PachError(f'cannot put key "{name}" which contains reserved string "{_INDEX}"')
        if self._check:
            self._check(name)
        if self._indexes:
            old = self.find(txn, name)
            new_keys = self._index_keys(name, message)
            for key in sorted(new_keys):
                if txn.get(key) is None:
                    txn.put(key, name.encode())
            for key in sorted(self._index_keys(name, old) - new_keys if old is not None else ()):
                txn.delete(key)
        txn.put(self.key(name), message.SerializeToString())

    def create(self, txn: Txn, name: str, message: Any) -> None:
        """Write a record that must not exist yet."""
        if txn.get(self.key(name)) is not None:
            raise Exists(self.prefix, name)
        self.put(txn, name, message)

    def delete(self, txn: Txn, name: str) -> None:
        """Remove the record and its indexes, or raise NotFound."""
        for key in self._index_keys(name, self.get(txn, name)):
            txn.delete(key)
        txn.delete(self.key(name))

    def clear(self, txn: Txn) -> None:
        """Remove all records and indexes."""
        for field in self._indexes:
            txn.drop(self._index_root(field))
        txn.drop(self.prefix.encode())

    def entries(self, etcd: EtcdClient, prefix: str = "", since: int = 0) -> Iterator[tuple[str, Any, KeyValue]]:
        """Yield key, record and what etcd says of it, in key order.

        :param prefix: only keys beginning so; as in pachd it is no path, so /a finds /ab too.
        """
        base = join_bytes(self.prefix.encode(), prefix.encode()) if prefix else self.prefix.encode()
        for found in etcd.range(base, since=since):
            yield found.key[len(base) :].decode(), self.message.FromString(found.value), found

    def newest_first(self, etcd: EtcdClient) -> list[tuple[str, Any, KeyValue]]:
        """Return all entries, the last created first."""
        return sorted(self.entries(etcd), key=lambda entry: -entry[2].create_revision)

    def by_index(self, etcd: EtcdClient, field: str, value: Any) -> list[tuple[str, Any]]:
        """Return key and record of the entries whose indexed field has the value, the last created first."""
        directory = join_bytes(self._index_root(field), value.SerializeToString())
        found = sorted(etcd.range(directory), key=lambda entry: -entry.create_revision)
        result = []
        for entry in found:
            name = entry.key.rpartition(b"/")[2].decode()
            record = etcd.get(self.key(name))
            if record is not None:
                result.append((name, self.message.FromString(record.value)))
        return result
