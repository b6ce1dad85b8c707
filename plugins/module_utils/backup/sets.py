# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Backup sets in a store: where everything is, and how one is read.

::

    <cluster id>/backups/<UTC time>-r<etcd revision>/   one set: its files, the manifest last
    <cluster id>/objects/<key>                          objects of all sets; the index of a set names its own
    <cluster id>/keys/                                  data keys of encrypted sets

Everything that is read is compared with the digests in the manifest and the index; ``docs/backup_format.md`` describes
the form for people who have none of this code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import BackupError, InputError
from ..etcd.snapshot import TRAILER
from ..stores.base import ObjectMissing, Store, StoredObject
from . import index
from .crypt import Decipher, Keyring
from .index import IndexEntry
from .manifest import AGE, CLUSTER, INDEX, MANIFEST, SNAPSHOT, Manifest, SetFile, is_cluster_id, load, parse_id
from .streams import Count, ahead, decompressed, parted

__all__ = [
    "IndexEntry",
    "OpenedSet",
    "backup_ids",
    "cluster_ids",
    "newest",
    "object_key",
    "open_set",
    "set_path",
]

#: Written before anything else of a set, removed after its manifest: who makes it, and since when.
RUNNING = "running.json"


def set_path(cluster_id: str, backup_id: str = "") -> str:
    """Return the key under which a set's files are, with a slash at its end; without an id that of all sets."""
    return f"{cluster_id}/backups/{backup_id}/" if backup_id else f"{cluster_id}/backups/"


def object_key(cluster_id: str, key: str = "") -> str:
    """Return the store's key of an index entry's ``key``."""
    return f"{cluster_id}/objects/{key}"


def cluster_ids(store: Store) -> Sequence[str]:
    """Return the ids of the clusters that have something in this store, in order; other folders are none of ours."""
    return sorted(
        each
        for each in store.folders("")
        if is_cluster_id(each) and next(iter(store.folders(set_path(each))), None) is not None
    )


def backup_ids(store: Store, cluster_id: str, *, complete: bool = True) -> Sequence[str]:
    """Return the ids of a cluster's sets, oldest first.

    :param complete: only those with a manifest; otherwise also what crashed backups left, and what is being made.
    """
    base = set_path(cluster_id)
    found = set()
    for each in store.list(base):
        backup_id, _slash, name = each.key[len(base) :].partition("/")
        if name == MANIFEST or not complete:
            try:
                parse_id(backup_id)
            except BackupError:
                continue
            found.add(backup_id)
    return sorted(found, key=lambda each: (parse_id(each), each))


def newest(store: Store, cluster_id: str) -> Manifest | None:
    """Return the manifest of the newest complete set, None where there is none."""
    found = backup_ids(store, cluster_id)
    return read_manifest(store, cluster_id, found[-1]) if found else None


def read_manifest(store: Store, cluster_id: str, backup_id: str) -> Manifest:
    """Return the manifest of one set.

    :raises BackupError: when there is no such complete set, or its manifest is damaged or that of another set.
    """
    parse_id(backup_id)
    key = set_path(cluster_id, backup_id) + MANIFEST
    where = f"{store.where}/{key}"
    try:
        data = b"".join(store.read(key))
    except ObjectMissing as error:
        raise BackupError(
            "there is no such complete backup", where=where, why="it has no manifest", fix="List the backups."
        ) from error
    manifest = load(data, where)
    if (manifest.id, manifest.cluster_id) != (backup_id, cluster_id):
        raise BackupError(
            "a backup's manifest is damaged",
            where=where,
            why=f"it is that of {manifest.cluster_id}/{manifest.id}",
        )
    return manifest


def open_set(store: Store, cluster_id: str, backup_id: str, identities: Sequence[str] = ()) -> OpenedSet:
    """Return one complete set for reading.

    :param identities: texts of age identity files or SSH private keys, for encrypted sets; asked for on first use.
    :raises BackupError: when there is no such complete set, or its manifest is damaged.
    """
    return OpenedSet(store, read_manifest(store, cluster_id, backup_id), identities)


class OpenedSet:
    """One set; safe for use by many threads."""

    def __init__(self, store: Store, manifest: Manifest, identities: Sequence[str] = ()) -> None:
        self.store = store
        self.manifest = manifest
        self._base = set_path(manifest.cluster_id, manifest.id)
        self._identities = identities
        self.where = f"{store.where}/{self._base}".rstrip("/")

    def snapshot(self) -> Iterator[bytes]:
        """Yield the etcd snapshot, as ``etcdctl snapshot save`` would have written it."""
        return self.content(SNAPSHOT)

    def snapshot_file(self, directory: Path) -> Path:
        """Write the etcd snapshot into a private file in ``directory``, and return its path."""
        path = directory / "etcd.snapshot"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.writelines(self.snapshot())
        return path

    def database(self) -> Iterator[bytes]:
        """Yield etcd's database: the snapshot but for the SHA-256 of itself at its end, which is compared as well.

        :raises BackupError: where it is damaged, at the latest after the last byte.
        """
        entry = self.manifest.file(SNAPSHOT)
        raw, digest, trailer = Count(), "", b""
        for chunk in self._content(entry, raw, entry.raw_size - TRAILER):
            if raw.size <= entry.raw_size - TRAILER:
                digest = raw.sha256
                yield chunk
            else:
                trailer += chunk[:TRAILER]  # what is too long differs, however long
        if trailer.hex() != digest:
            raise BackupError(
                "a part of the backup is damaged",
                where=f"{self.where}/{entry.name}",
                why=f"the SHA-256 of the database is {digest}, and the snapshot ends with {trailer.hex()}",
                fix="Use another backup; this one is not to be restored.",
            )

    def index(self) -> Iterator[IndexEntry]:
        """Yield the objects that this backup needs, in the order of their names."""
        return index.load(self.content(INDEX), f"{self.where}/{INDEX}")

    def cluster(self) -> dict[str, Any]:
        """Return the description of the cluster: versions, environment, and names of settings."""
        try:
            import yaml
        except ImportError as error:
            raise InputError(
                "the Python library PyYAML is missing", why=str(error), fix="Install the collection's requirements.txt."
            ) from error
        found = yaml.safe_load(b"".join(self.content(CLUSTER)))
        return dict(found)

    def content(self, name: str) -> Iterator[bytes]:
        """Yield the content of one file, decrypted, decompressed, and compared with the manifest.

        :param name: without ``.age``.
        :raises BackupError: where it is damaged, at the latest after the last byte.
        """
        return self._content(self.manifest.file(name), Count())

    def _content(self, entry: SetFile, raw: Count, border: int = 0) -> Iterator[bytes]:
        where = f"{self.where}/{entry.name}"
        # Reading, unpacking and hashing each have a thread: the libraries let go of Python's lock meanwhile.
        chunks = ahead(self.stored(entry))
        if entry.name.endswith(AGE):
            chunks = self.decipher.decrypt(chunks, where)
        yield from raw(parted(ahead(decompressed(chunks, where)), border))
        _compare(where, "content", raw, entry.raw_size, entry.raw_sha256)

    def stored(self, entry: SetFile) -> Iterator[bytes]:
        """Yield the bytes of one file as they are stored, compared with the manifest.

        :raises BackupError: where it is missing or damaged.
        """
        where = f"{self.where}/{entry.name}"
        yield from _checked(self.store, self._base + entry.name, where, entry.size, entry.sha256)

    def stored_object(self, entry: IndexEntry) -> Iterator[bytes]:
        """Yield the bytes of one object as they are stored, compared with the index."""
        key = object_key(self.manifest.cluster_id, entry.key)
        where = f"{self.store.where}/{key}"
        yield from _checked(self.store, key, where, entry.stored_size, entry.stored_sha256)

    def object(self, entry: IndexEntry) -> Iterator[bytes]:
        """Yield the content of one object, decrypted and compared with the index."""
        chunks = self.stored_object(entry)
        where = f"{self.store.where}/{object_key(self.manifest.cluster_id, entry.key)}"
        if entry.key.endswith(AGE) and self.manifest.encryption:
            chunks = self.decipher.decrypt(chunks, where)
        content = Count()
        yield from content(chunks)
        _compare(where, "content", content, entry.size, entry.sha256)

    @cached_property
    def objects(self) -> Store:
        """The backup's objects by canonical name, to be read only: parts of objects are not compared with anything."""
        return _BackupObjects(self)

    @cached_property
    def decipher(self) -> Decipher:
        """What decrypts the set.

        :raises BackupError: when the identities given do not.
        """
        return Keyring(self.store, self.manifest.cluster_id).decipher(self._identities)

    def unlock(self) -> None:
        """Find out now, rather than in the middle of something long, whether the identities given decrypt the set.

        :raises BackupError: they do not.
        """
        self.decipher  # noqa: B018 - the property finds it out


class _BackupObjects(Store):
    """A backup's objects as a store in the spelling of a directory."""

    def __init__(self, opened: OpenedSet) -> None:
        self._opened = opened
        self._suffix = AGE if opened.manifest.encryption else ""
        self._others: dict[str, str] = {}
        self._sizes = index.Sizes(self._read_index())
        self.where = opened.where

    def _read_index(self) -> Iterator[tuple[str, int]]:
        for each in self._opened.index():
            if each.key != each.name + self._suffix:
                self._others[each.name] = each.key
            yield each.name, each.size

    def _key(self, name: str) -> str:
        if not self.exists(name):
            raise ObjectMissing("the backup does not have the object", where=f"{self.where}: {name}")
        key = self._others.get(name, name + self._suffix)
        return object_key(self._opened.manifest.cluster_id, key)

    def exists(self, key: str) -> bool:
        return key in self._sizes

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        stored = self._key(key)
        if not self._suffix:
            return self._opened.store.read(stored, offset, size)
        chunks = self._opened.decipher.decrypt(self._opened.store.read(stored), f"{self.where}: {key}")
        return _part(chunks, offset, size)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for each in self._opened.index():
            if each.name.startswith(prefix):
                yield StoredObject(each.name, each.size, each.sha256)

    def write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> None:
        del chunks, if_absent
        raise BackupError("a backup is never changed", where=f"{self.where}: {key}")

    def delete(self, key: str) -> None:
        raise BackupError("a backup is never changed", where=f"{self.where}: {key}")


def _part(chunks: Iterator[bytes], offset: int, size: int | None) -> Iterator[bytes]:
    left = size
    for chunk in chunks:
        if offset >= len(chunk):
            offset -= len(chunk)
            continue
        piece = chunk[offset:] if left is None else chunk[offset : offset + left]
        offset = 0
        left = None if left is None else left - len(piece)
        if piece:
            yield piece
        if left == 0:
            return


def _checked(store: Store, key: str, where: str, size: int, sha256: str) -> Iterator[bytes]:
    try:
        chunks = store.read(key)
    except ObjectMissing as error:
        raise BackupError("a part of the backup is missing", where=where, why="the store does not have it") from error
    stored = Count()
    for chunk in stored(chunks):
        if stored.size > size:
            break
        yield chunk
    _compare(where, "stored bytes", stored, size, sha256)


def _compare(where: str, what: str, found: Count, size: int, sha256: str) -> None:
    why = ""
    if found.size != size:
        why = f"its {what} are {found.size} bytes or more, not {size}"
    elif found.sha256 != sha256:
        why = f"the SHA-256 of its {what} is {found.sha256}, not {sha256}"
    if why:
        raise BackupError(
            "a part of the backup is damaged",
            where=where,
            why=why,
            fix="Use another backup; this one is not to be restored.",
        )
