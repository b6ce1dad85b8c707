# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The backups of one cluster in one store, and what verifications have said of them.

Only what has a manifest is a backup.  What a crash left behind, manifests that cannot be read and keys that are none of
ours are told apart and reported; none of them ends the listing.  Every verification leaves a record, written once::

    <cluster id>/verifications/<backup id>/<UTC time>-<level>.json
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BackupError
from ..stores.base import ObjectExists, ObjectMissing, Store, StoredObject
from . import manifest as manifests
from .manifest import MANIFEST, Manifest, parse_id, utc

#: From the quickest to the most thorough; each includes the ones before it.
LEVELS = ("digest", "restore", "deep")
#: The level from which on a backup counts as verified: booted and compared, not only found.
PROVEN = "restore"
RECORD_SCHEMA = 1

#: Everything that a set's directory may hold, encrypted or not.
SET_FILES = frozenset(
    {MANIFEST, "running.json"}
    | {
        f"{name}{end}"
        for name in (manifests.SNAPSHOT, manifests.INDEX, manifests.CLUSTER)
        for end in ("", manifests.AGE)
    }
)

_RECORD = re.compile(rf"(\d{{8}}T\d{{6}}Z)-({'|'.join(LEVELS)})\.json")
_STAMP = "%Y%m%dT%H%M%SZ"
_LARGEST = 64 << 20  # bytes of a manifest or record; nothing larger is read into memory


@dataclass(frozen=True)
class Verification:
    """What one verification found.

    :param level: one of :data:`LEVELS`.
    :param time: when it ended, aware, in UTC.
    :param findings: what was wrong; empty where it passed.
    :param figures: what was looked at and how long it took, for programs (``seconds``, ``bytes``, ``objects`` …).
    :param tools: versions of what took part.
    """

    backup_id: str
    level: str
    time: dt.datetime
    passed: bool
    findings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """The level as a number that grows with thoroughness."""
        return LEVELS.index(self.level)

    def as_dict(self) -> dict[str, Any]:
        """Return it as its record has it."""
        return {"schema": RECORD_SCHEMA, **dataclasses.asdict(self), "time": utc(self.time)}


@dataclass(frozen=True)
class Backup:
    """One complete backup.

    :param stored: keys and sizes of its files in the store, the shared objects not included.
    :param verifications: the newest first.
    """

    manifest: Manifest
    stored: tuple[StoredObject, ...] = ()
    verifications: tuple[Verification, ...] = ()

    @property
    def id(self) -> str:
        """Its id, which sorts by time."""
        return self.manifest.id

    @property
    def time(self) -> dt.datetime:
        """When it was begun."""
        return self.manifest.taken

    @property
    def level(self) -> str:
        """The deepest level that it has passed and not failed since; empty where there is none.

        A failure is undone only by a later pass of the same or a deeper level.
        """
        passed = -1
        for each in reversed(self.verifications):
            passed = max(passed, each.depth) if each.passed else min(passed, each.depth - 1)
        return LEVELS[passed] if passed >= 0 else ""

    @property
    def failed(self) -> bool:
        """Whether a verification found it wrong and none as deep has passed since."""
        worst = len(LEVELS)
        for each in reversed(self.verifications):
            if not each.passed:
                worst = min(worst, each.depth)
            elif each.depth >= worst:
                worst = len(LEVELS)
        return worst < len(LEVELS)

    @property
    def verified(self) -> bool:
        """Whether it was proven by a restore, and nothing has been found wrong since."""
        return not self.failed and self.level in LEVELS[LEVELS.index(PROVEN) :]

    def as_dict(self) -> dict[str, Any]:
        """Return it as the modules return it; sizes in bytes, times in UTC."""
        made = self.manifest
        return {
            "id": self.id,
            "cluster_id": made.cluster_id,
            "time": utc(self.time),
            "finished": made.finished,
            "revision": made.etcd.revision,
            "keys": made.etcd.key_count,
            "snapshot_size": made.file(manifests.SNAPSHOT).raw_size,
            "stored_size": sum(each.size for each in self.stored),
            "objects": made.objects.count,
            "objects_size": made.objects.bytes,
            "objects_copied": made.objects.copied,
            "encrypted": made.encryption is not None,
            "backend": made.source.backend,
            "namespace": made.source.namespace,
            "pachyderm_version": made.source.pachyderm_version,
            "etcd_version": made.etcd.version,
            "verified": self.verified,
            "failed": self.failed,
            "level": self.level,
            "verifications": [each.as_dict() for each in self.verifications],
        }


@dataclass(frozen=True)
class Leftover:
    """A set without a manifest: a backup that was cut off, or one that is still being made."""

    backup_id: str
    stored: tuple[StoredObject, ...]

    @property
    def time(self) -> dt.datetime:
        """When it was begun."""
        return parse_id(self.backup_id)[0]

    def as_dict(self) -> dict[str, Any]:
        """Return it as the modules return it."""
        size = sum(each.size for each in self.stored)
        return {"id": self.backup_id, "time": utc(self.time), "files": len(self.stored), "size": size}


@dataclass(frozen=True)
class Trouble:
    """Something in the store that could not be read: its key, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class Catalogue:
    """Everything below one cluster's ``backups/`` and ``verifications/``.

    :param backups: the newest first.
    :param unreadable: id to the reason why its manifest could not be read.
    :param troubles: records of verifications that could not be read.
    :param foreign: keys that this collection did not write.
    """

    cluster_id: str
    backups: tuple[Backup, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def latest(self) -> Backup | None:
        """The newest backup."""
        return self.backups[0] if self.backups else None

    @property
    def latest_verified(self) -> Backup | None:
        """The newest backup that is verified."""
        return next((each for each in self.backups if each.verified), None)

    def find(self, wanted: str) -> Backup:
        """Return the backup that is meant.

        :param wanted: an id, ``latest``, ``latest-verified``, or a time in UTC (``2026-01-31T12:00:00Z``, or a date,
            which means its end): the newest backup that was begun by then.
        :raises BackupError: when there is none.
        """
        found: Backup | None
        if wanted == "latest":
            found = self.latest
        elif wanted == "latest-verified":
            found = self.latest_verified
        else:
            moment = _moment(wanted)
            if moment is None:
                found = next((each for each in self.backups if each.id == wanted), None)
            else:
                found = next((each for each in self.backups if each.time <= moment), None)
        if found is not None:
            return found
        raise BackupError(
            "there is no such backup",
            where=f"{wanted} of cluster {self.cluster_id}",
            why=self._why_not(wanted),
            fix="List the backups (module etcd_backup_info, or status with the store named).",
        )

    def _why_not(self, wanted: str) -> str:
        if wanted in self.unreadable:
            return self.unreadable[wanted]
        if any(each.backup_id == wanted for each in self.leftovers):
            return "it has no manifest, so it was cut off or is still being made"
        newest = f", the newest is {self.backups[0].id}" if self.backups else ""
        verified = sum(1 for each in self.backups if each.verified)
        return f"there are {len(self.backups)} backups, {verified} of them verified{newest}"


def _moment(text: str) -> dt.datetime | None:
    """Return the last moment that a time or date in UTC means, None where ``text`` is neither."""
    try:
        # Python 3.10 does not read the Z.
        moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.timezone.utc)
    return moment + dt.timedelta(days=1, seconds=-1) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else moment


def read_catalogue(store: Store, cluster_id: str) -> Catalogue:
    """List the backups of a cluster; a cluster without any gives an empty catalogue.

    :raises StorageError: when the store cannot be listed or read; what is damaged in it is reported instead.
    """
    if not manifests.is_cluster_id(cluster_id):
        raise BackupError("not the id of a cluster", where=repr(cluster_id), fix="It is on the first screen of status.")
    sets, foreign = _by_set(store, cluster_id)
    records, troubles = _records(store, cluster_id)
    backups, leftovers, unreadable = [], [], {}
    for backup_id, stored in sets.items():
        prefix = f"{cluster_id}/backups/{backup_id}/"
        if f"{prefix}{MANIFEST}" not in {each.key for each in stored}:
            leftovers.append(Leftover(backup_id, tuple(stored)))
            continue
        try:
            made = manifests.load(_small(store, f"{prefix}{MANIFEST}"), f"{prefix}{MANIFEST}")
        except ObjectMissing:
            continue  # deleted while the listing ran
        except BackupError as error:
            unreadable[backup_id] = str(error)
            continue
        if (made.id, made.cluster_id) != (backup_id, cluster_id):
            unreadable[backup_id] = f"its manifest is that of {made.id} of cluster {made.cluster_id}"
            continue
        backups.append(Backup(made, tuple(stored), tuple(records.get(backup_id, ()))))
    backups.sort(key=lambda each: (each.time, each.manifest.etcd.revision), reverse=True)
    leftovers.sort(key=lambda each: each.backup_id, reverse=True)
    return Catalogue(cluster_id, tuple(backups), tuple(leftovers), unreadable, tuple(troubles), tuple(foreign))


def _by_set(store: Store, cluster_id: str) -> tuple[dict[str, list[StoredObject]], list[str]]:
    """Return the files of every set by its id, and the keys that belong to none."""
    sets: dict[str, list[StoredObject]] = {}
    foreign = []
    prefix = f"{cluster_id}/backups/"
    for each in store.list(prefix):
        backup_id, _slash, name = each.key.removeprefix(prefix).partition("/")
        if name in SET_FILES and _is_id(backup_id):
            sets.setdefault(backup_id, []).append(each)
        else:
            foreign.append(each.key)
    return sets, sorted(foreign)


def _is_id(name: str) -> bool:
    try:
        parse_id(name)
    except BackupError:
        return False
    return True


def _small(store: Store, key: str) -> bytes:
    data = b""
    for chunk in store.read(key):
        data += chunk
        if len(data) > _LARGEST:
            raise BackupError("the file is larger than any of its kind", where=key)
    return data


def _records(store: Store, cluster_id: str) -> tuple[dict[str, list[Verification]], list[Trouble]]:
    """Return the verifications by backup, the newest first, and the records that could not be read."""
    found: dict[str, list[Verification]] = {}
    troubles = []
    prefix = f"{cluster_id}/verifications/"
    for each in store.list(prefix):
        backup_id, _slash, name = each.key.removeprefix(prefix).partition("/")
        if not _RECORD.fullmatch(name) or not _is_id(backup_id):
            continue
        try:
            found.setdefault(backup_id, []).append(_parse(_small(store, each.key), backup_id))
        except ObjectMissing:
            continue
        except (ValueError, KeyError, TypeError, BackupError) as error:
            troubles.append(Trouble(each.key, f"no record of a verification: {error!r}"))
    for records in found.values():
        records.sort(key=lambda record: (record.time, record.depth), reverse=True)
    return found, troubles


def _parse(data: bytes, backup_id: str) -> Verification:
    document = json.loads(data)
    if document["schema"] != RECORD_SCHEMA:
        raise ValueError(f"schema {document['schema']}")
    if document["backup_id"] != backup_id or document["level"] not in LEVELS:
        raise ValueError(f"{document['level']} of {document['backup_id']}")
    if not isinstance(document["passed"], bool):
        raise TypeError("passed is neither true nor false")
    return Verification(
        backup_id,
        document["level"],
        dt.datetime.fromisoformat(document["time"].replace("Z", "+00:00")),
        document["passed"],
        tuple(str(each) for each in document["findings"]),
        dict(document["figures"]),
        dict(document["tools"]),
    )


def record_key(cluster_id: str, verification: Verification) -> str:
    """Return the key of a verification's record."""
    stamp = verification.time.astimezone(dt.timezone.utc).strftime(_STAMP)
    return f"{cluster_id}/verifications/{verification.backup_id}/{stamp}-{verification.level}.json"


def record_keys(store: Store, cluster_id: str, backup_id: str) -> Iterator[StoredObject]:
    """Yield the records of one backup."""
    prefix = f"{cluster_id}/verifications/{backup_id}/"
    for each in store.list(prefix):
        if _RECORD.fullmatch(each.key.removeprefix(prefix)):
            yield each


def record(store: Store, cluster_id: str, verification: Verification) -> Verification:
    """Write a verification's record and return it as written; one of the same second makes it a second later.

    :raises StorageError: when the store refuses.
    """
    while True:
        data = json.dumps(verification.as_dict(), indent=2, sort_keys=True) + "\n"
        try:
            store.write(record_key(cluster_id, verification), [data.encode()], if_absent=True)
        except ObjectExists:
            verification = dataclasses.replace(verification, time=verification.time + dt.timedelta(seconds=1))
        else:
            return verification


def table(catalogue: Catalogue) -> list[str]:
    """Return the catalogue as lines for a person, the newest backup first."""
    rows = [("BACKUP", "KEYS", "OBJECTS", "VERIFIED")]
    rows += [
        (each.id, str(each.manifest.etcd.key_count), str(each.manifest.objects.count), _verdict(each))
        for each in catalogue.backups
    ]
    lines = _aligned(rows) if catalogue.backups else [f"No backup of cluster {catalogue.cluster_id}."]
    lines += [f"! {each.backup_id}  cut off or still being made: no manifest" for each in catalogue.leftovers]
    lines += [f"✗ {backup_id}  {why}" for backup_id, why in sorted(catalogue.unreadable.items())]
    lines += [f"! {each.key}  {each.why}" for each in catalogue.troubles]
    if catalogue.foreign:
        lines.append(f"! {len(catalogue.foreign)} keys are not of this collection, such as {catalogue.foreign[0]}")
    return lines


def _verdict(backup: Backup) -> str:
    if backup.failed:
        bad = next(each for each in backup.verifications if not each.passed)
        return f"FAILED {bad.level} {utc(bad.time)}: {bad.findings[0] if bad.findings else 'no reason recorded'}"
    if not backup.level:
        return "no"
    newest = next(each for each in backup.verifications if each.passed and each.level == backup.level)
    return f"{backup.level} {utc(newest.time)}"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
