# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Files of commits out of a backup, with no Pachyderm and no etcd running."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..pachd.hashtree import Damaged
from ..pachd.objects import Objects
from ..pachd.paths import clean
from ..pachd.state import File, State
from ..progress import Progress
from ..replacing import Replacement, mode_of, replacing, usual_mode
from ..stores.base import CHUNK, Store
from ..stores.keys import ROOT, Spelling, detect
from ..stores.parallel import each
from .sets import OpenedSet

_SHA512_DIGITS = 2 * hashlib.sha512().digest_size
#: How many keys are looked at to learn how a store spells them.
_SAMPLE = 1000
#: Bytes of a file that is short enough to be shown.
_SHOWN = 64 << 10


@dataclass(frozen=True)
class Extracted:
    """One file on this host.

    :param size: bytes.
    :param checksum: SHA-256 in hexadecimal digits.
    :param changed: whether it was written, or would be.
    :param before: SHA-256 of what was there, empty where nothing was.
    :param shown: the text of what was there and of the file, where both are short texts and the file changed.
    """

    path: str
    dest: Path
    size: int
    checksum: str
    changed: bool
    before: str = ""
    shown: tuple[str, str] | None = None


@contextlib.contextmanager
def state_of_set(opened: OpenedSet, directory: str | None = None) -> Iterator[State]:
    """Open the state that a backup set holds.

    :param directory: where the unpacked etcd snapshot goes while it is open.
    :raises BackupError: the set is damaged.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix="pachops-") as place:
        snapshot = opened.snapshot_file(Path(place))
        with State.open(snapshot, Objects(opened.objects, Spelling.DIRECTORY)) as state:
            yield state


@contextlib.contextmanager
def state_of_pair(snapshot: Path, store: Store, spelling: Spelling | None = None, root: str = ROOT) -> Iterator[State]:
    """Open the state of an etcd snapshot and the object store that belongs to it.

    :param spelling: how the store spells keys; default: found out from the first keys in it.
    :param root: PACH_ROOT.
    :raises InputError: the store holds nothing of Pachyderm's.
    """
    if spelling is None:
        spelling = detect((found.key for found in itertools.islice(store.list(), _SAMPLE)), root)
        if spelling is None:
            raise InputError(
                "the store holds no objects of Pachyderm's",
                where=store.where,
                why=f"none is below {root} or in a tree",
                fix="Name the bucket (or the directory pachd under its host path), and PACH_ROOT if it was changed.",
            )
    with State.open(snapshot, Objects(store, spelling, root)) as state:
        yield state


def extract(
    state: State,
    found: Iterable[File],
    place: Callable[[File], Path],
    *,
    write: bool,
    workers: int = 4,
    progress: Progress | None = None,
) -> Iterator[Extracted]:
    """Bring files and directories to this host, and yield what became of every file, in no promised order.

    A file that has the right content already is left alone, and usually told by its hash without reading the backup.
    Others are replaced in one step, and compared with what is recorded of them before that.

    :param found: what ``State.files`` gave.
    :param place: where each belongs; its directory is made where missing.
    :param write: False reads and compares, and leaves everything as it is.
    :raises InputError: there is a directory where a file belongs, or the other way round.
    :raises StorageError: content is missing or damaged.
    """
    progress = progress or Progress()
    done, mode = 0, usual_mode()

    def files() -> Iterator[Callable[[], Extracted]]:
        for file in found:
            if file.type == "dir":
                _make_directory(place(file), write)
            else:
                _make_directory(place(file).parent, write)
                yield functools.partial(_extract, state, file, place(file), write, mode)

    for extracted in each(_call, files(), workers):
        done += extracted.size
        progress.update(done, unit="B", detail=extracted.path)
        yield extracted


def place_below(top: str, dest: Path) -> Callable[[File], Path]:
    """Return where files at and below ``top`` belong when ``top`` itself becomes ``dest``."""
    top = clean(top)

    def place(file: File) -> Path:
        # A sound tree has clean paths only; what another one has must not lead elsewhere.
        parts = file.path[len(top) + 1 :].split("/") if len(file.path) > len(top) + 1 else []
        if any(part in {"", ".", ".."} for part in parts):
            raise Damaged("a file's path leaves the directory", where=file.path)
        return dest.joinpath(*parts)

    return place


def _extract(state: State, file: File, dest: Path, write: bool, mode: int) -> Extracted:
    if dest.is_dir():
        raise InputError("a directory is where the file belongs", where=str(dest), fix="Name another dest.")
    try:
        before = _sha256(dest) if dest.is_file() else ""
        if before and _has_content(state, file, dest):
            return Extracted(file.path, dest, dest.stat().st_size, before, False, before)
        old = _text([dest.read_bytes()]) if before and dest.stat().st_size <= _SHOWN else None
        kept: list[bytes] = []
        with replacing(dest, mode_of(dest, mode)) if write else contextlib.nullcontext() as target:
            size, checksum = _copy(state, file, target, kept)
            if target:
                target.wanted = checksum != before
        new = _text(kept) if size <= _SHOWN else None
        shown = (old or "", new) if new is not None and (old is not None or not before) else None
        return Extracted(file.path, dest, size, checksum, checksum != before, before, shown)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError("the file cannot be written", where=str(dest), why=why) from error


def _copy(state: State, file: File, target: Replacement | None, kept: list[bytes]) -> tuple[int, str]:
    """Read the file's content, and return its size and SHA-256.

    :param target: where to write it.
    :param kept: gets the beginning.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in state.content(file):
        digest.update(chunk)
        if size <= _SHOWN:
            kept.append(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
    return size, digest.hexdigest()


def _text(chunks: Iterable[bytes]) -> str | None:
    try:
        return b"".join(chunks).decode()
    except UnicodeDecodeError:
        return None


def _has_content(state: State, file: File, dest: Path) -> bool:
    """Return whether the file's hashes say that ``dest`` has its content; False also where they say nothing."""
    if file.objects:
        parts = [(name, state.objects.locate(name).size) for name in file.objects]
    elif len(file.blocks) == 1 and len(file.hash) == _SHA512_DIGITS:
        parts = [(file.hash, file.blocks[0].size)]
    else:
        return False
    if sum(size for _name, size in parts) != dest.stat().st_size:
        return False
    with dest.open("rb") as content:
        return all(_sha512(content.read, size) == name for name, size in parts)


def _sha512(read: Callable[[int], bytes], size: int) -> str:
    digest = hashlib.sha512()
    while size > 0:
        chunk = read(min(size, CHUNK))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _make_directory(path: Path, write: bool) -> None:
    if path.is_dir():
        return
    if path.exists():
        raise InputError("a file is where a directory belongs", where=str(path), fix="Name another dest.")
    if write:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError("the directory cannot be made", where=str(path), why=why) from error


def _call(function: Callable[[], Extracted]) -> Extracted:
    return function()
