# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The snapshot of an etcd as a stream that is checked while it passes.

The bytes are those of an ``etcdctl snapshot save`` file: the database, then the SHA-256 of it in 32 bytes.  etcd says
in every message how much of the database is still to come, so a stream that was cut or altered is found at the byte
where it happened, not when it is restored.  Facts: ``server/etcdserver/api/v3rpc/maintenance.go`` and ``rpc.proto`` of
etcd.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from ..errors import EtcdError
from ..protobuf import varint

TRAILER = hashlib.sha256().digest_size
_REMAINING, _BLOB = 2, 3
_VARINT = 0  # the wire type; the messages have no other but length-delimited fields


class SnapshotStream:
    """Iterates over the chunks of a snapshot; ``total`` and ``done`` are for progress, in bytes.

    ``sha256`` is that of the whole, trailer included, in hex, and empty before the end.
    """

    def __init__(self, messages: Iterable[bytes], where: str) -> None:
        """:param messages: encoded ``etcdserverpb.SnapshotResponse`` messages, as they arrive.
        :param where: the endpoint, for messages.
        """
        self._messages = messages
        self._where = where
        self.total: int | None = None
        self.done = 0
        self.sha256 = ""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks, the trailer last.

        :raises EtcdError: when bytes are missing or altered; never after the trailer was yielded.
        """
        digest = hashlib.sha256()
        trailer = b""
        size = -1
        for message in self._messages:
            remaining, blob = parse(message, self._where, self.done)
            if size < 0:
                size = remaining + len(blob)
                self.total = size + TRAILER
            begin = self.done
            self.done += len(blob)
            if remaining != max(size - self.done, 0):
                raise self._damaged(
                    begin, f"etcd says that {remaining} bytes follow, {max(size - self.done, 0)} are missing"
                )
            content = blob[: max(size - begin, 0)]
            digest.update(content)
            if content:
                yield content
            trailer += blob[len(content) :]
        if self.done != size + TRAILER:
            wanted = "an unknown number of" if size < 0 else str(size + TRAILER)
            raise self._damaged(self.done, f"the stream ended after {self.done} of {wanted} bytes")
        if trailer != digest.digest():
            raise self._damaged(
                size, f"the SHA-256 of the bytes received is {digest.hexdigest()}, etcd sent {trailer.hex()}"
            )
        digest.update(trailer)
        self.sha256 = digest.hexdigest()
        yield trailer

    def _damaged(self, at: int, why: str) -> EtcdError:
        return EtcdError(
            "the snapshot did not arrive whole",
            where=self._where,
            why=f"at byte {at}: {why}",
            fix="Try again; where it stays so, look at the connection to etcd and at etcd's log.",
        )


def parse(message: bytes, where: str, at: int) -> tuple[int, bytes]:
    """Return ``remaining_bytes`` and ``blob`` of a SnapshotResponse.

    By hand: the protobuf library in use may be written in Python, and there are 32 messages per MiB.
    """
    remaining, blob = 0, b""
    position, end = 0, len(message)
    try:
        while position < end:
            tag, position = varint(message, position)
            size = 0
            if tag & 7 == _VARINT:
                value, position = varint(message, position)
                remaining = value if tag >> 3 == _REMAINING else remaining
            else:
                size, position = varint(message, position)
                if tag >> 3 == _BLOB:
                    blob = message[position : position + size]
            position += size
    except (IndexError, ValueError):
        position = -1
    if position != end:
        raise EtcdError("the snapshot did not arrive whole", where=where, why=f"at byte {at}: no whole message")
    return remaining, blob
