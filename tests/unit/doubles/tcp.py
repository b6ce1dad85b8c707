# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of a TCP connection that a test looks through."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor


def exchange(address: tuple[str, int], data: bytes, size: int, timeout: float = 20) -> bytes:
    """Send ``data`` and return the first ``size`` bytes that come back meanwhile, or fewer where it ends before.

    :raises OSError: when the connection is reset, or says nothing for ``timeout`` seconds.
    """
    received = bytearray()
    # The pool is the inner one: what sends has ended, and a failure of it is known, before its socket is closed.
    with socket.create_connection(address, timeout=timeout) as connection, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(connection.sendall, data)
        while len(received) < size and (piece := connection.recv(1 << 20)):
            received += piece
        sent.result()
    return bytes(received)
