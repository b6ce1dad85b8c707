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

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from ..errors import BackupError

HEADER = b"# pachops.pachyderm objects 1\n"
_DIGEST, _ROW, _TABLES = 16, 24, 4096
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
    return text.translate(_ESCAPES) if "%" in text or not text.isprintable() else text


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

    def __init__(self, sizes: Iterable[tuple[str, int]] = ()) -> None:
        self._rows = [bytearray() for _unused in range(_TABLES)]
        for name, size in sizes:
            self[name] = size

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __setitem__(self, name: str, size: int) -> None:
        rows, digest, at = self._find(name)
        rows[at : at + _ROW] = digest + size.to_bytes(_ROW - _DIGEST, "big")

    def get(self, name: str) -> int | None:
        """Return the size of an object, None where there is none of this name."""
        rows, _digest, at = self._find(name)
        return int.from_bytes(rows[at + _DIGEST : at + _ROW], "big") if at < len(rows) else None

    def _find(self, name: str) -> tuple[bytearray, bytes, int]:
        """Return the rows among which a name belongs, its digest, and where its row is, the end where there is none."""
        digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST).digest()
        rows = self._rows[int.from_bytes(digest[:2], "big") % _TABLES]
        at = rows.find(digest)
        while at > 0 and at % _ROW:
            at = rows.find(digest, at + 1)
        return rows, digest, at if at >= 0 else len(rows)


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
