# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readiness probe: one call of health.Health on the peer port, with nothing but sockets.

Kubernetes starts a process for it every few seconds, so it must not load a gRPC library.  A call that succeeds has a
message in its answer, one that fails has none.
"""

from __future__ import annotations

import socket
import struct

from . import config

_TIMEOUT = 10
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    """Return one header field in HPACK's form without indexing (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise OSError("the connection was closed")
        data += chunk
    return data


def healthy(port: int) -> bool:
    """Return whether pachd on this host answers that it is healthy.

    :raises OSError: when nothing answers.
    """
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/health.Health/Health",
        ":authority": f"127.0.0.1:{port}",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0)
            + _frame(_HEADERS, _END_HEADERS, 1, b"".join(_literal(*each) for each in fields.items()))
            + _frame(_DATA, _END_STREAM, 1, bytes(5))
        )
        while True:
            head = _exactly(connection, 9)
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
            _exactly(connection, length)
            if kind == _SETTINGS and not flags & _ACK:
                connection.sendall(_frame(_SETTINGS, _ACK, 0))
            if stream == 1 and kind == _DATA and length >= 5:
                return True
            if stream == 1 and flags & _END_STREAM:
                return False


def main() -> None:
    """Leave with status 0 when pachd is healthy, with 1 otherwise."""
    settings = config.Settings()
    try:
        ready = healthy(settings.peer_port)
    except OSError as error:
        config.fail(f"rpc error: code = Unavailable desc = {error}")
    if not ready:
        config.fail("rpc error: code = Unknown desc = server not ready")
