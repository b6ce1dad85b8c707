# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Files that change in one step, so that nobody ever reads half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PRIVATE = 0o600


@dataclass
class Replacement:
    """A new file beside the one whose place it takes.

    :param file: where its content goes.
    :param mode: its permission bits.
    :param wanted: set to False it vanishes, and the old file stays.
    """

    file: IO[bytes]
    mode: int = PRIVATE
    wanted: bool = True

    def write(self, data: bytes) -> int:
        """Append ``data``."""
        return self.file.write(data)


@contextlib.contextmanager
def replacing(path: Path, mode: int = PRIVATE, *, durable: bool = False) -> Iterator[Replacement]:
    """Yield a file that takes the place of ``path`` at the end of the block, and vanishes where the block raises.

    Until then its owner alone can read it.

    :param durable: whether its content outlives a crash of the machine.
    :raises OSError: when the directory is missing, full or closed to us.
    """
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            made = Replacement(file, mode)
            yield made
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if made.wanted:
            os.chmod(partial, made.mode)
            os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def usual_mode() -> int:
    """Return the permission bits that a new file gets from this process, which its umask decides."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def mode_of(path: Path, usual: int | None = None) -> int:
    """Return the permission bits of the file that is there, or where none is ``usual``, or those of a new one."""
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return usual_mode() if usual is None else usual
