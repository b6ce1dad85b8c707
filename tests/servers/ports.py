# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports for servers that have to be told theirs before they start."""

from __future__ import annotations

import itertools
import os
import socket

# Below those that the kernel gives away, so that nobody gets one before its server has it; each process has its own.
_START = 10_000 + os.getpid() % 100 * 100
_PORTS = itertools.cycle(range(_START, _START + 100))


def free_ports(count: int) -> list[int]:
    """Return ports that are free on loopback."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            probe = socket.socket()
            # As servers do: connections that have ended take no port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", next(_PORTS)))
            except OSError:
                probe.close()
            else:
                sockets.append(probe)
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
