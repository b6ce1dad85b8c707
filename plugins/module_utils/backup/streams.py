# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Bytes on their way: counted, compressed, and handed from one thread to another, never all in memory."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import BackupError, InputError
from ..stores.base import CHUNK

# Ids in hexadecimal digits shrink to half at level 1 already; level 3 takes four times as long for nothing.
_LEVEL = 1
_DEPTH = 4  # chunks of up to 1 MiB between two threads


class Count:
    """Counts and hashes what passes; ``sha256`` is that of the bytes so far."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    def __call__(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield ``chunks`` as they are."""
        for chunk in chunks:
            self.size += len(chunk)
            self._digest.update(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """The digest in hex."""
        return self._digest.hexdigest()


def zstd() -> Any:
    """Return the library, or say how to get it.

    :raises InputError: it is missing.
    """
    try:
        import zstandard
    except ImportError as error:
        raise InputError(
            "the Python library zstandard is missing",
            why=str(error),
            fix="Install the collection's requirements.txt.",
        ) from error
    return zstandard


def compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``chunks`` as one zstd frame with a checksum."""
    packer = zstd().ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


def decompressed(chunks: Iterable[bytes], where: str) -> Iterator[bytes]:
    """Yield the content of the one zstd frame in ``chunks``.

    :raises BackupError: when it is damaged or cut short, or when more follows.
    """
    library = zstd()
    unpacker = library.ZstdDecompressor().decompressobj()
    try:
        for chunk in chunks:
            if unpacker.eof:
                raise BackupError("a file of the backup is damaged", where=where, why="bytes follow its zstd frame")
            if unpacked := unpacker.decompress(chunk):
                yield unpacked
    except library.ZstdError as error:
        raise BackupError("a file of the backup is damaged", where=where, why=f"zstd: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise BackupError("a file of the backup is damaged", where=where, why="its zstd frame is cut short or followed")


def large(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in chunks of 1 MiB or a little more, for what costs something per chunk."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= CHUNK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def parted(chunks: Iterable[bytes], border: int) -> Iterator[bytes]:
    """Yield the same bytes, no chunk of which lies on both sides of the byte ``border``."""
    for chunk in chunks:
        if 0 < border < len(chunk):
            yield chunk[:border]
            yield chunk[border:]
        else:
            yield chunk
        border -= len(chunk)


def ahead(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``chunks``, which a thread of their own makes a few chunks in advance."""

    def run(source: Iterator[bytes], put: Callable[[bytes], None]) -> None:
        for chunk in source:
            put(chunk)

    return piped(run, chunks)


class _Abandoned(Exception):
    """The reader has gone."""


def piped(run: Callable[[Iterator[bytes], Callable[[bytes], None]], None], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what ``run(source, put)`` puts, in a thread of its own, from the chunks of ``source``.

    An exception of ``run`` or of ``chunks`` is raised here, in its place in the stream.
    """
    ready: queue.Queue[bytes | None] = queue.Queue(_DEPTH)
    gone = threading.Event()
    failures: list[BaseException] = []

    def put(chunk: bytes | None) -> None:
        while not gone.is_set():
            try:
                ready.put(chunk, timeout=0.2)
            except queue.Full:
                continue
            return
        raise _Abandoned

    def work() -> None:
        source = iter(chunks)
        for step in (lambda: run(source, put), getattr(source, "close", lambda: None)):
            try:
                step()
            except BaseException as error:  # noqa: BLE001  the reader raises the first one again
                failures.append(error)
        with contextlib.suppress(_Abandoned):
            put(None)

    thread = threading.Thread(target=work, name="backup stream", daemon=True)
    thread.start()
    try:
        while (chunk := ready.get()) is not None:
            yield chunk
        if failures:
            raise failures[0]
    finally:
        gone.set()
        thread.join()
