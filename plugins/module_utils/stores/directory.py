# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Objects as files under one directory, as pachd keeps them with STORAGE_BACKEND=LOCAL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import StorageError
from .base import CHUNK, ObjectMissing, Store, StoredObject

_PARTIAL = ".partial-"


class DirectoryStore(Store):
    """A store in the file system; a file appears under its name only when it is complete."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self._root / key))
        if not path.is_relative_to(self._root):
            raise StorageError("the key leaves the store's directory", where=key)
        return path

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        except OSError as error:
            raise StorageError("cannot write the object", where=str(path), why=str(error)) from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(chunks)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException as error:
            os.unlink(partial)
            if isinstance(error, OSError):
                raise StorageError("cannot write the object", where=str(path), why=str(error)) from error
            raise

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        path = self._path(key)
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise ObjectMissing("the object does not exist", where=str(path)) from error
        except OSError as error:
            raise StorageError("cannot read the object", where=str(path), why=str(error)) from error

        def chunks() -> Iterator[bytes]:
            left = size
            with file:
                file.seek(offset)
                while left is None or left > 0:
                    chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                    if not chunk:
                        return
                    left = None if left is None else left - len(chunk)
                    yield chunk

        return chunks()

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError("cannot delete the object", where=key, why=str(error)) from error

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        start = self._path(prefix.rpartition("/")[0] or ".")
        for directory, _unused, files in os.walk(start):
            for name in files:
                path = Path(directory, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not name.startswith(_PARTIAL):
                    try:
                        yield StoredObject(key, path.stat().st_size)
                    except FileNotFoundError:
                        continue  # deleted while the listing ran
