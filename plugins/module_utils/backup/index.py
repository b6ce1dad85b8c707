# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The list of all objects that one backup needs: ``objects.index.zst``.

One line per object in the order of the names' bytes, fields separated by tabs, so that ``zstd``, ``awk`` and
``sha256sum`` can work with it::

    <SHA-256 of the stored bytes> <their size> <key> <name> <token> <SHA-256 of the content> <its size>

``key`` is where the object is below ``objects/`` of the cluster's directory.  It is the escaped name, with the
content's SHA-256 behind it where the name had another content in an earlier backup, and with ``.age`` where it is
encrypted.  Names and digests are no secret: the names of ``object/`` are digests of content themselves.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from ..errors import BackupError

HEADER = b"# pachops.pachyderm objects 1\n"
_DIGEST, _ROW = 16, 24
_ESCAPES = str.maketrans({each: f"%{ord(each):02X}" for each in "%\t\n\r"})


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One object of a backup.

    :param name: canonical, such as ``block/0123``.
    :param size: and ``sha256``: of the content.
    :param token: what the source said when it was copied; while it says the same, the object is unchanged.
    :param key: where it is below the cluster's ``objects/``.
    :param stored_size: and ``stored_sha256``: of the stored bytes; equal to the content's where nothing is encrypted.
    """

    name: str
    size: int
    sha256: str
    token: str
    key: str
    stored_size: int
    stored_sha256: str


def escaped(text: str) -> str:
    """Return ``text`` without the characters that would break a line of the index."""
    return text.translate(_ESCAPES)


def dump(entries: Iterable[IndexEntry]) -> Iterator[bytes]:
    """Yield the lines of an index; ``entries`` have to be in order."""
    yield HEADER
    for each in entries:
        line = (
            each.stored_sha256,
            str(each.stored_size),
            each.key,
            escaped(each.name),
            escaped(each.token),
            each.sha256,
            str(each.size),
        )
        yield ("\t".join(line) + "\n").encode()


def load(chunks: Iterable[bytes], where: str) -> Iterator[IndexEntry]:
    """Yield the entries of the index in ``chunks``.

    :raises BackupError: when a line does not fit, or names do not ascend.
    """
    before = b""
    for number, line in enumerate(_lines(chunks), 1):
        if number == 1:
            if line != HEADER:
                raise _damaged(where, number, "it does not begin as an index of objects does")
            continue
        try:
            fields = line.decode().removesuffix("\n").split("\t")
            stored_sha256, stored_size, key, name, token, sha256, size = fields
            name, content = unquote(name), int(size)
            # What is the same is kept once: there may be millions of entries.
            key = name if key == name else key
            same = sha256 == stored_sha256 and int(stored_size) == content
            stored = (content, sha256) if same else (int(stored_size), stored_sha256)
            entry = IndexEntry(name, content, sha256, unquote(token), key, *stored)
        except ValueError as error:
            raise _damaged(where, number, str(error)) from error
        encoded = entry.name.encode()
        if not line.endswith(b"\n") or encoded <= before or len(sha256) != 64 or len(stored_sha256) != 64:
            raise _damaged(where, number, "the line is cut short or out of order")
        before = encoded
        yield entry


class Sizes:
    """The sizes of many objects by their names, in 24 bytes each."""

    def __init__(self, sizes: Iterable[tuple[str, int]]) -> None:
        rows = sorted(_digest(name) + size.to_bytes(_ROW - _DIGEST, "big") for name, size in sizes)
        self._count = len(rows)
        self._rows = b"".join(rows)
        self._added: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __setitem__(self, name: str, size: int) -> None:
        self._added[name] = size

    def get(self, name: str) -> int | None:
        """Return the size of an object, None where there is none of this name."""
        if name in self._added:
            return self._added[name]
        wanted = _digest(name)
        at = bisect.bisect_left(range(self._count), wanted, key=self._digest_at)
        if at == self._count or self._digest_at(at) != wanted:
            return None
        return int.from_bytes(self._rows[at * _ROW + _DIGEST : (at + 1) * _ROW], "big")

    def _digest_at(self, number: int) -> bytes:
        return self._rows[number * _ROW : number * _ROW + _DIGEST]


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=_DIGEST).digest()


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def _damaged(where: str, number: int, why: str) -> BackupError:
    return BackupError("the index of objects is damaged", where=f"{where}, line {number}", why=why)
