# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What one backup set says of itself: ``manifest.json``, written last, so that a set without it does not exist.

The manifest is plain JSON, whatever is encrypted beside it: it holds digests, sizes, names and public keys only.
``docs/backup_format.md`` describes every field for people.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ..errors import BackupError
from ..etcd.client import KvHash

SCHEMA = 1
MANIFEST = "manifest.json"
SNAPSHOT = "etcd.snapshot.zst"
INDEX = "objects.index.zst"
CLUSTER = "cluster.yaml.zst"
#: What an encrypted file or object has behind its name.
AGE = ".age"

_STAMP = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"(\d{8}T\d{6}Z)-r([1-9]\d*)")
_CLUSTER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class EtcdState:
    """etcd as the snapshot has it.

    :param revision: the newest revision before the snapshot was taken.  The snapshot has all of it, and possibly some
        writes more; counts and hashes are as of exactly this revision, where a restored etcd can be asked for them too.
    :param version: of the server, such as ``3.5.21``.
    :param hashes: what HashKV said at ``revision`` before and after the snapshot: one entry, or two where a compaction
        fell between; none where the server is older than 3.3.
    :param key_count: all keys at ``revision``.
    :param counts: keys at ``revision`` by prefix; a prefix without a slash at its end is one key.
    :param db_size: bytes of the database file as the server stated it.
    """

    revision: int
    version: str
    key_count: int
    db_size: int
    hashes: tuple[KvHash, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SetFile:
    """One file of the set.

    :param size: and ``sha256``: of the file as it is stored.
    :param raw_size: and ``raw_sha256``: of its content, decrypted and decompressed.
    """

    name: str
    size: int
    sha256: str
    raw_size: int
    raw_sha256: str


@dataclass(frozen=True)
class ObjectTotals:
    """The objects of the index; sizes in bytes of content.

    :param trees: tree (``block``, ``object``, ``tag``, ``index``) to its number of objects.
    :param copied: objects that this backup had to copy, and ``copied_bytes`` their size.
    """

    count: int
    bytes: int
    trees: dict[str, int] = field(default_factory=dict)
    copied: int = 0
    copied_bytes: int = 0


@dataclass(frozen=True)
class Source:
    """Where the backup was taken.

    :param backend: ``local``, ``gcp``, ``aws``, ``minio`` or ``azure``.
    :param spelling: how the source spells its objects' keys, a value of ``stores.keys.Spelling``; empty: no objects.
    :param gc_generation: how often garbage had been collected, empty: never.
    """

    backend: str
    spelling: str
    namespace: str = ""
    pachyderm_version: str = ""
    cluster_deployment_id: str = ""
    gc_generation: str = ""


@dataclass(frozen=True)
class Encryption:
    """How the set is encrypted.

    :param key: the public age key that files and objects are encrypted to; its secret half is ``keys/<key>.age``.
    :param recipients: the public keys that could read that secret half when the backup was made.
    """

    key: str
    recipients: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """The whole of ``manifest.json``; times are UTC in ISO 8601 (``2026-01-31T23:59:59Z``)."""

    id: str
    cluster_id: str
    started: str
    finished: str
    etcd: EtcdState
    files: tuple[SetFile, ...]
    objects: ObjectTotals
    source: Source
    encryption: Encryption | None = None
    tools: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def file(self, name: str) -> SetFile:
        """Return the entry of a file, by its name without ``.age``.

        :raises BackupError: when the set has no such file.
        """
        for each in self.files:
            if each.name in (name, name + AGE):
                return each
        raise BackupError("the backup set lacks a file", where=f"{self.id}/{name}", why="its manifest does not name it")

    @property
    def taken(self) -> datetime:
        """When the backup began, as an aware time in UTC."""
        return parse_id(self.id)[0]


def make_id(when: datetime, revision: int) -> str:
    """Return the id of a set: ``<UTC time>-r<etcd revision>``, so that ids sort by time."""
    return f"{when.astimezone(timezone.utc).strftime(_STAMP)}-r{revision}"


def parse_id(backup_id: str) -> tuple[datetime, int]:
    """Return the time and the etcd revision in a set's id.

    :raises BackupError: when ``backup_id`` has another form.
    """
    match = _ID.fullmatch(backup_id)
    try:
        if match:
            return datetime.strptime(match[1], _STAMP).replace(tzinfo=timezone.utc), int(match[2])
    except ValueError:
        pass
    raise BackupError(
        "not the id of a backup", where=backup_id, why="ids look like 20260131T235959Z-r1234", fix="List the backups."
    )


def is_cluster_id(name: str) -> bool:
    """Return whether ``name`` may be a cluster's id: never a path, never hidden."""
    return _CLUSTER_ID.fullmatch(name) is not None


def utc(when: datetime) -> str:
    """Return a time as the manifest writes it."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def dump(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``: the fields and, as ``digest``, the SHA-256 of the same without it."""
    document = dataclasses.asdict(manifest)
    digest = hashlib.sha256(_json(document)).hexdigest()
    return _json({**document, "digest": digest})


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def load(data: bytes, where: str) -> Manifest:
    """Return the manifest in ``data``.

    Every field must be there with its type, and none besides: what this reader does not know it must not ignore.

    :param where: the file's name, for messages.
    :raises BackupError: when it is no manifest, is of a newer schema, or a field is missing, unknown or ill-typed.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise BackupError("a backup's manifest is damaged", where=where, why=f"no JSON: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise BackupError(
            "the backup was made by a newer version of this collection",
            where=where,
            why=f"its manifest has schema {schema}, this version reads {SCHEMA}",
            fix="Upgrade the collection pachops.pachyderm.",
        )
    try:
        _expect(isinstance(document, dict), "manifest", "a map")
        fields = {name: value for name, value in document.items() if name != "digest"}
        manifest: Manifest = _build(Manifest, fields, "manifest")
        parse_id(manifest.id)
    except (TypeError, BackupError) as error:
        raise BackupError("a backup's manifest is damaged", where=where, why=str(error)) from error
    if manifest.schema != SCHEMA or not is_cluster_id(manifest.cluster_id):
        raise BackupError("a backup's manifest is damaged", where=where, why="its schema or cluster id is none")
    if dump(manifest) != data:
        raise BackupError("a backup's manifest is damaged", where=where, why="its digest is another one")
    return manifest


def _build(wanted: Any, value: Any, path: str) -> Any:
    """Return ``value`` as the type ``wanted``; TypeError names the field that does not fit."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(arguments[0], value, path)
    if dataclasses.is_dataclass(wanted):
        return _build_dataclass(wanted, value, path)
    if origin is tuple:
        _expect(isinstance(value, list), path, "a list")
        return tuple(_build(arguments[0], each, f"{path}[{number}]") for number, each in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, Mapping), path, "a map")
        return {str(key): _build(arguments[1], each, f"{path}.{key}") for key, each in value.items()}
    # HashKV's compact_revision is -1 before the first compaction.
    number = isinstance(value, int) and not isinstance(value, bool) and value >= -1
    _expect(number if wanted is int else isinstance(value, wanted), path, "a number" if wanted is int else "a text")
    return value


def _build_dataclass(wanted: Any, value: Any, path: str) -> Any:
    _expect(isinstance(value, Mapping), path, "a map")
    kinds = typing.get_type_hints(wanted)
    unknown, missing = sorted(set(value) - set(kinds)), sorted(set(kinds) - set(value))
    _expect(not unknown, f"{path}.{unknown[0]}" if unknown else "", "a known field")
    _expect(not missing, f"{path}.{missing[0]}" if missing else "", "there")
    return wanted(**{name: _build(kind, value[name], f"{path}.{name}") for name, kind in kinds.items()})


def _expect(holds: bool, path: str, what: str) -> None:
    if not holds:
        raise TypeError(f"{path} is not {what}")
