# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of the etcd client that holds keys in memory, for tests of what stands above it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import KeyValue, KvHash, Status

PIECE = 1000


class MemoryEtcd:
    """As much of EtcdClient as a backup asks."""

    endpoint = "memory:2379"

    def __init__(self, **keys: str) -> None:
        self.keys = {key.replace("_", "-").encode(): value.encode() for key, value in keys.items()}
        self.at = 7
        self.asked: list[str] = []

    def status(self) -> Status:
        return Status("3.5.21", PIECE * 4, 0, 1, self.at, 1, 2)

    def revision(self) -> int:
        return self.at

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        del revision
        return KeyValue(key, self.keys[key], 1, 1, 1, 0) if key in self.keys else None

    def count(self, prefix: bytes, revision: int = 0) -> int:
        assert revision == self.at
        return sum(key.startswith(prefix) for key in self.keys)

    def hash_kv(self, revision: int = 0) -> KvHash:
        return KvHash(revision, 5, 1)

    def snapshot_messages(self) -> Iterator[bytes]:
        self.asked.append("snapshot")
        database = bytes(PIECE * 4)
        for at in range(0, len(database), PIECE):
            yield _answer(len(database) - at - PIECE, database[at : at + PIECE])
        yield _answer(0, hashlib.sha256(database).digest())


def _answer(remaining: int, blob: bytes) -> bytes:
    return b"\x10" + _varint(remaining) + b"\x1a" + _varint(len(blob)) + blob


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
