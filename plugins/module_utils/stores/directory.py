# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Objects as files under one directory, as pachd keeps them with STORAGE_BACKEND=LOCAL."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from ..errors import StorageError
from .base import CHUNK, FULL, ObjectExists, ObjectMissing, Store, StoredObject

_PARTIAL = ".partial-"


class DirectoryStore(Store):
    """A store in the file system; a file appears under its name only when it is complete."""

    def __init__(self, root: str | Path, *, private: bool = False) -> None:
        """:param private: whether only the owner may read what is written."""
        self._root = Path(os.path.normpath(root))
        self._modes = (0o700, 0o600) if private else (0o777, 0o644)
        self.where = str(self._root)

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self._root / key))
        if not path.is_relative_to(self._root):
            raise StorageError("the key leaves the store's directory", where=key)
        return path

    def write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> None:
        path = self._path(key)
        try:
            self._make(path.parent)
            descriptor, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        except OSError as error:
            raise _refused("cannot write the object", path, error) from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(chunks)
            os.chmod(partial, self._modes[1])
            if if_absent:
                os.link(partial, path)
                os.unlink(partial)
            else:
                os.replace(partial, path)
        except BaseException as error:
            os.unlink(partial)
            if isinstance(error, FileExistsError):
                raise ObjectExists("the object exists already", where=str(path)) from error
            if isinstance(error, OSError):
                raise _refused("cannot write the object", path, error) from error
            raise

    def _make(self, directory: Path) -> None:
        if directory.is_dir():
            return
        if directory != self._root:
            self._make(directory.parent)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(self._modes[0], parents=True)

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        path = self._path(key)
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise ObjectMissing("the object does not exist", where=str(path)) from error
        except OSError as error:
            raise _refused("cannot read the object", path, error) from error

        def chunks() -> Iterator[bytes]:
            left = size
            try:
                with file:
                    file.seek(offset)
                    while left is None or left > 0:
                        chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                        if not chunk:
                            return
                        left = None if left is None else left - len(chunk)
                        yield chunk
            except OSError as error:
                raise _refused("cannot read the object", path, error) from error

        return chunks()

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _refused("cannot delete the object", path, error) from error
        # Directories are no part of the interface, so empty ones are not kept.
        with contextlib.suppress(OSError):
            for parent in path.parents:
                if parent == self._root or not parent.is_relative_to(self._root):
                    break
                parent.rmdir()

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for key, entry in self._files(prefix):
            if not entry.name.startswith(_PARTIAL):
                try:
                    state = entry.stat()
                except FileNotFoundError:
                    continue  # deleted while the listing ran
                yield StoredObject(key, state.st_size, f"{state.st_mtime_ns:x}")

    def folders(self, prefix: str = "") -> Iterator[str]:
        directory, _slash, begin = prefix.rpartition("/")
        try:
            for entry in sorted(os.scandir(self._path(directory or ".")), key=lambda each: each.name):
                if entry.is_dir() and entry.name.startswith(begin):
                    yield entry.name[len(begin) :]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _refused("cannot list the directory", self._path(directory or "."), error) from error

    def sweep(self, prefix: str, before: datetime) -> int:
        swept = 0
        for _key, entry in self._files(prefix):
            if entry.name.startswith(_PARTIAL):
                try:
                    if entry.stat().st_mtime < before.timestamp():
                        os.unlink(entry.path)
                        swept += 1
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise _refused("cannot delete the file", Path(entry.path), error) from error
        return swept

    def flush(self) -> None:
        os.sync()

    def _files(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield the files whose keys begin with ``prefix``, with their keys."""
        folders = [prefix.rpartition("/")[0]]
        while folders:
            folder = folders.pop()
            directory, begin = self._path(folder or "."), f"{folder}/" if folder else ""
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        key = begin + entry.name
                        if not key.startswith(prefix):
                            continue
                        if not entry.is_dir():
                            yield key, entry
                        elif not entry.is_symlink():
                            folders.append(key)
            except (FileNotFoundError, NotADirectoryError):
                continue  # what vanished meanwhile, or was never there, is empty; what may not be read is not
            except OSError as error:
                raise _refused("cannot list the directory", directory, error) from error


def _refused(what: str, path: Path, error: OSError) -> StorageError:
    fix = FULL if error.errno in (28, 122) else ""  # ENOSPC, EDQUOT
    return StorageError(what, where=str(path), why=error.strerror or str(error), fix=fix)
