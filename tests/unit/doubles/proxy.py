# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP connection that a test can cut, at once or after a number of bytes; the next one goes through again."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal


class Proxy:
    """Listens on loopback and forwards to one address."""

    def __init__(self, behind: str) -> None:
        host, _colon, port = behind.rpartition("//")[2].partition(":")
        self._behind = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        #: How many more bytes pass to the server, and back from it, before the connection is cut; None: no end.
        self.there: int | None = None
        self.back: int | None = None
        #: How often that was.
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Listen no more, and end every connection."""
        # Closing alone does not end an accept that waits.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _unused = self._listener.accept()
                try:
                    far = socket.create_connection(self._behind)
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                threading.Thread(target=self._pump, args=(near, far, "there"), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, "back"), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: Literal["there", "back"]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                left: int | None = getattr(self, way)
                sink.sendall(data[:left])
                if left is not None:
                    setattr(self, way, left - len(data) if left > len(data) else None)
                    if left <= len(data):
                        self.cuts += 1
                        break
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            self._open.discard(each)


@contextlib.contextmanager
def proxied(behind: str) -> Iterator[Proxy]:
    """Yield a proxy before ``behind``, an address with or without a scheme."""
    proxy = Proxy(behind)
    try:
        yield proxy
    finally:
        proxy.close()
