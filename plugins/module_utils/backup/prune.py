# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What retention means for a store: a plan with a reason for every deletion, and its execution.

Deleted are backups that no rule keeps, what a crash left behind, records of backups that are gone, and shared objects
that no remaining backup names.  Keys that this collection did not write are never touched, nor are secret keys; what
the store protects counts as kept.  A backup's manifest goes first, so that a run that is cut off leaves no half backup
listed, only remains that the next run takes away.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BackupError
from ..progress import Progress
from ..progress_view import size_text
from ..stores.base import ObjectLocked, ObjectMissing, Store, StoredObject
from ..stores.keys import TREES
from ..stores.parallel import each as in_parallel
from .catalogue import Backup, Catalogue, Leftover, read_catalogue, record_keys
from .manifest import MANIFEST, parse_id
from .retention import Candidate, Decision, Policy, decide

#: A set without a manifest may still be in the making for this long, and until then its objects are needed.
GRACE = dt.timedelta(hours=24)

_WORKERS = 16
_FOREVER = dt.datetime.max.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True)
class Deletion:
    """One object of the store that goes; ``backup_id`` is empty for a shared one."""

    key: str
    size: int
    reason: str
    backup_id: str = ""


@dataclass(frozen=True)
class Plan:
    """What a prune would do.

    :param decisions: one per backup, the newest first.
    :param deletions: in the order in which they are made.
    :param kept_objects: shared objects that stay.
    :param notes: what was left alone although it looks superfluous, and why.
    """

    cluster_id: str
    decisions: tuple[Decision, ...]
    deletions: tuple[Deletion, ...]
    kept_objects: int
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes that the deletions free."""
        return sum(each.size for each in self.deletions)

    def as_dict(self) -> dict[str, Any]:
        """Return it as the module returns it."""
        shared = [each for each in self.deletions if not each.backup_id]
        return {
            "backups": [
                {"id": each.backup_id, "keep": each.keep, "reasons": list(each.reasons)} for each in self.decisions
            ],
            "delete": [
                {"key": each.key, "size": each.size, "reason": each.reason} for each in self.deletions if each.backup_id
            ],
            "delete_objects": len(shared),
            "delete_objects_size": sum(each.size for each in shared),
            "delete_size": self.size,
            "kept_objects": self.kept_objects,
            "notes": list(self.notes),
        }


def make_plan(
    store: Store,
    cluster_id: str,
    policy: Policy,
    now: dt.datetime,
    index_of: Callable[[str], Iterable[str]],
    grace: dt.timedelta = GRACE,
) -> Plan:
    """Return what is to be deleted; nothing is.

    :param now: the time to count ages from, aware.
    :param index_of: returns the keys, below ``<cluster id>/objects/``, that the backup of an id needs; where
        it raises BackupError or ObjectMissing, no shared object is deleted.
    :param grace: for how long a set without a manifest counts as being made.
    """
    catalogue = read_catalogue(store, cluster_id)
    decisions = _decide(store, catalogue, policy, now)
    notes = [f"{backup_id} is kept: {why}" for backup_id, why in sorted(catalogue.unreadable.items())]
    going = {each.backup_id: each.reasons[0] for each in decisions if not each.keep}
    deletions = [
        each
        for backup in catalogue.backups
        if backup.id in going
        for each in _of_set(store, cluster_id, backup.id, backup.stored, going[backup.id])
    ]
    young = []
    for leftover in catalogue.leftovers:
        if leftover.time > now - grace:
            young.append(leftover.backup_id)
            notes.append(f"{leftover.backup_id} has no manifest yet: it was begun less than {_hours(grace)} ago")
        else:
            deletions += _of_leftover(store, cluster_id, leftover, now, notes)
    deletions += _orphaned_records(store, catalogue)
    blocked = "a backup may be under way" if young else "a manifest cannot be read" if catalogue.unreadable else ""
    kept = [backup for backup in catalogue.backups if backup.id not in going]
    shared, kept_objects = _shared(store, cluster_id, kept, blocked, index_of, now, notes)
    return Plan(cluster_id, tuple(decisions), (*deletions, *shared), kept_objects, tuple(notes))


def _hours(span: dt.timedelta) -> str:
    return f"{span.total_seconds() / 3600:g} h"


def _decide(store: Store, catalogue: Catalogue, policy: Policy, now: dt.datetime) -> list[Decision]:
    """Return the decisions; only for what would go is the store asked whether it may."""
    candidates = [
        Candidate(each.id, each.time, each.manifest.etcd.revision, each.verified, each.failed)
        for each in catalogue.backups
    ]
    going = {each.backup_id for each in decide(candidates, policy, now) if not each.keep}
    stored = {each.id: each.stored for each in catalogue.backups}
    candidates = [
        replace(each, locked_until=_locked_until(store, stored[each.backup_id])) if each.backup_id in going else each
        for each in candidates
    ]
    return decide(candidates, policy, now)


def _locked_until(store: Store, stored: Iterable[StoredObject]) -> dt.datetime | None:
    """Return until when the store protects any of the objects."""
    found = None
    for each in stored:
        try:
            until = store.locked_until(each.key)
        except ObjectMissing:
            continue
        if until is not None:
            until = until if until.tzinfo else _FOREVER
            found = until if found is None else max(found, until)
    return found


def _of_set(
    store: Store, cluster_id: str, backup_id: str, stored: Iterable[StoredObject], reason: str
) -> Iterator[Deletion]:
    """Yield a set's files, the manifest first, and its verifications' records."""
    files = sorted(stored, key=lambda each: (not each.key.endswith(f"/{MANIFEST}"), each.key))
    for each in (*files, *record_keys(store, cluster_id, backup_id)):
        yield Deletion(each.key, each.size, reason, backup_id)


def _of_leftover(
    store: Store, cluster_id: str, leftover: Leftover, now: dt.datetime, notes: list[str]
) -> list[Deletion]:
    until = _locked_until(store, leftover.stored)
    if until is not None and until > now:
        notes.append(f"{leftover.backup_id} was cut off and stays: the store protects it")
        return []
    reason = "a backup that was cut off: it has no manifest"
    return list(_of_set(store, cluster_id, leftover.backup_id, leftover.stored, reason))


def _orphaned_records(store: Store, catalogue: Catalogue) -> list[Deletion]:
    """Return the records of backups that an earlier prune, cut off in between, has deleted."""
    known = {each.id for each in catalogue.backups} | set(catalogue.unreadable)
    known |= {each.backup_id for each in catalogue.leftovers}
    found = []
    for backup_id in store.folders(f"{catalogue.cluster_id}/verifications/"):
        if backup_id in known:
            continue
        try:
            parse_id(backup_id)
        except BackupError:
            continue
        found += [
            Deletion(each.key, each.size, "the record of a backup that is gone", backup_id)
            for each in record_keys(store, catalogue.cluster_id, backup_id)
        ]
    return found


def _shared(
    store: Store,
    cluster_id: str,
    kept: Iterable[Backup],
    blocked: str,
    index_of: Callable[[str], Iterable[str]],
    now: dt.datetime,
    notes: list[str],
) -> tuple[list[Deletion], int]:
    """Return the shared objects that no kept backup names, and the number of those that stay."""
    if blocked:
        notes.append(f"no shared object is deleted: {blocked}")
        return [], sum(1 for _each in store.list(f"{cluster_id}/objects/"))
    # Hashes instead of names: two that collide keep an object too many, never one too few.
    needed: set[int] = set()
    for backup in kept:
        try:
            needed.update(map(hash, index_of(backup.id)))
        except (BackupError, ObjectMissing) as error:
            notes.append(f"no shared object is deleted: the index of {backup.id} cannot be read: {error}")
            return [], sum(1 for _each in store.list(f"{cluster_id}/objects/"))
    prefix = f"{cluster_id}/objects/"
    stays = foreign = protected = 0
    unneeded = []
    for each in store.list(prefix):
        name = each.key.removeprefix(prefix)
        if name.partition("/")[0] not in TREES:
            foreign += 1
        elif hash(name) in needed:
            stays += 1
        else:
            unneeded.append(each)

    def judged(each: StoredObject) -> tuple[StoredObject, bool]:
        until = _locked_until(store, [each])
        return each, until is not None and until > now

    going = []
    for each, locked in in_parallel(judged, unneeded, _WORKERS):
        protected += locked
        if not locked:
            going.append(Deletion(each.key, each.size, "no remaining backup names it"))
    if foreign:
        notes.append(f"{foreign} keys below {prefix} are not of this collection and stay")
    if protected:
        notes.append(f"{protected} objects that no backup names stay: the store protects them")
    return sorted(going, key=lambda each: each.key), stays + protected + foreign


@dataclass(frozen=True)
class Outcome:
    """What a prune did: the keys that went, the bytes freed, and what the store refused to delete."""

    deleted: tuple[str, ...]
    size: int
    refused: tuple[str, ...]


def carry_out(
    store: Store, plan: Plan, now: dt.datetime, progress: Progress | None = None, grace: dt.timedelta = GRACE
) -> Outcome:
    """Delete what the plan says, sets one after the other, shared objects last and many at once.

    To be called under the lock that keeps backups away.

    :raises StorageError: when the store fails or denies; what is protected meanwhile is reported instead.
    """
    progress = progress or Progress()
    progress.stage("prune", f"{len(plan.deletions)} objects, {size_text(plan.size)}")
    deleted: list[Deletion] = []
    refused: dict[str, str] = {}
    for each in plan.deletions:
        if not each.backup_id or each.backup_id in refused:
            continue
        try:
            store.delete(each.key)
        except ObjectLocked as error:
            # The manifest goes first: a set whose manifest is protected stays whole.
            refused[each.backup_id if each.key.endswith(f"/{MANIFEST}") else each.key] = str(error)
        else:
            deleted.append(each)
            progress.update(len(deleted), len(plan.deletions), "objects")

    def delete(each: Deletion) -> tuple[Deletion, str]:
        try:
            store.delete(each.key)
        except ObjectLocked as error:
            return each, str(error)
        return each, ""

    for each, trouble in in_parallel(delete, [each for each in plan.deletions if not each.backup_id], _WORKERS):
        if trouble:
            refused[each.key] = trouble
        else:
            deleted.append(each)
            progress.update(len(deleted), len(plan.deletions), "objects")
    store.sweep(f"{plan.cluster_id}/", now - grace)
    return Outcome(
        tuple(each.key for each in deleted), sum(each.size for each in deleted), tuple(sorted(refused.values()))
    )


def table(plan: Plan) -> list[str]:
    """Return the plan as lines for a person: every backup with its reasons, then the rest."""
    lines = [
        f"{'keep  ' if each.keep else 'delete'}  {each.backup_id}  {', '.join(each.reasons)}" for each in plan.decisions
    ]
    listed = {each.backup_id for each in plan.decisions}
    rest: dict[tuple[str, str], list[Deletion]] = {}
    for each in plan.deletions:
        if each.backup_id not in listed:
            rest.setdefault((each.backup_id, each.reason), []).append(each)
    for (backup_id, reason), going in rest.items():
        size = size_text(sum(each.size for each in going))
        lines.append(f"delete  {backup_id or _plural(going)}  {size}, {reason}")
    if not lines:
        lines.append(f"No backup of cluster {plan.cluster_id}.")
    return [*lines, *(f"!       {note}" for note in plan.notes)]


def _plural(going: Sequence[Deletion]) -> str:
    return f"{len(going)} object{'s' if len(going) > 1 else ''}"
