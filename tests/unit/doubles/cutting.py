# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to a server that breaks off: a TCP proxy on loopback that ends after a number of bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Cutting:
    """Leads to ``target``; ``left`` is how many more bytes of the server pass, None for all."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.left: int | None = None
        self.cuts = 0
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _address = self._listener.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for pair, counted in (((near, far), False), ((far, near), True)):
                    thread = threading.Thread(target=self._pass, args=(*pair, counted), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counted and self.left is not None:
                    data, self.left = data[: self.left], self.left - len(data)
                target.sendall(data)
                if counted and self.left is not None and self.left <= 0:
                    self.left, self.cuts = None, self.cuts + 1
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def cutting(target: str) -> Iterator[Cutting]:
    """Yield a way to ``host:port``."""
    host, _colon, port = target.removeprefix("http://").rpartition(":")
    made = Cutting((host, int(port)))
    try:
        yield made
    finally:
        made.close()
