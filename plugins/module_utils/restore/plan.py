# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What a restore would do, found out before it does anything, and everything that speaks against it at once."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..backup.manifest import SNAPSHOT, Manifest, utc
from ..errors import EtcdError, InputError, PachopsError
from ..etcd.client import EtcdClient
from ..installation import Installation
from . import journal as journals
from .members import Member, members_of
from .objects import Survey

if TYPE_CHECKING:
    from ..kube.client import Kube

#: For a plan's estimates: bytes per second at which a snapshot reaches a volume by a port-forward and becomes data,
#: at which an etcd reads all of it when it starts and is compared, and the seconds that pods take to end and to start.
RATE = 40 << 20
READ_RATE = 100 << 20
OVERHEAD = 15.0
#: Bytes per second at which objects are put back or read: a modest store's.
OBJECT_RATE = 50 << 20

EtcdOf = Callable[["Kube", Installation], AbstractContextManager[tuple[EtcdClient, str]]]


@dataclass(frozen=True)
class Target:
    """The installation that is restored into, as it is now.

    :param cluster_id: of the metadata that would be replaced, empty where there is none or it cannot be read.
    :param revision: and ``keys``: of that metadata.
    :param etcd_version: empty where etcd does not answer; ``trouble`` is then the reason.
    """

    installation: Installation
    members: tuple[Member, ...]
    cluster_id: str = ""
    revision: int = 0
    keys: int = 0
    etcd_version: str = ""
    trouble: str = ""

    @property
    def answers(self) -> bool:
        """Whether its etcd could be asked."""
        return not self.trouble


@dataclass(frozen=True)
class Plan:
    """What would happen.

    :param survey: None where the objects were not looked at, because something else is in the way.
    :param problems: everything for which it is refused.
    :param ticks: cron pipeline to how many missed ticks it replays.
    :param differs: in what the backup's cluster is another one than the target's, empty where it is the same.
    :param names: what may be typed in as confirmation.
    :param set_aside: ids of restores whose other state is still on etcd's volumes.
    """

    namespace: str
    manifest: Manifest
    level: str
    target: Target
    survey: Survey | None
    problems: tuple[str, ...] = ()
    ticks: dict[str, int] = field(default_factory=dict)
    differs: str = ""
    names: tuple[str, ...] = ()
    deployment_id: str = ""
    store: str = ""
    bucket: str = ""
    set_aside: tuple[str, ...] = ()

    @property
    def downtime(self) -> float:
        """Seconds from pachd's end to its start, estimated from measured rates."""
        return OVERHEAD + self.manifest.file(SNAPSHOT).raw_size * len(self.target.members) / READ_RATE

    @property
    def before(self) -> float:
        """Seconds for the objects and for etcd's new data, while everything runs on."""
        found = self.survey
        objects = (2 * found.missing_bytes + found.unknown_bytes) / OBJECT_RATE if found else 0.0
        return objects + self.manifest.file(SNAPSHOT).raw_size * len(self.target.members) / RATE

    def lines(self) -> list[str]:
        """Return it for a person."""
        made, now, found = self.manifest, self.target, self.survey
        lines = [
            f"Restore backup {made.id} of cluster {made.cluster_id} ({self.store}) into namespace {self.namespace}:",
            f"  taken {utc(made.taken)} from {made.source.backend}; verified: {self.level or 'no'}",
            f"  written by Pachyderm {made.source.pachyderm_version} and etcd {made.etcd.version}",
        ]
        if not now.answers:
            lines.append(f"  replaced: etcd's data, which cannot be asked: {now.trouble}")
        elif now.keys:
            lines.append(f"  replaced: {now.keys} keys at revision {now.revision} of cluster {now.cluster_id or '?'}")
        else:
            lines.append("  replaced: nothing, etcd is empty")
        lines += [f"  set aside on {each.place} until it is confirmed" for each in now.members]
        if self.set_aside:
            began = journals.made(self.set_aside[0])
            lines.append(f"  set aside there already, by restores since {began}: {', '.join(self.set_aside)}")
        size, members = made.file(SNAPSHOT).raw_size, len(now.members)
        lines.append(f"  restored: {made.etcd.key_count} keys at revision {made.etcd.revision}")
        lines.append(f"  snapshot: {size} bytes, to {members} member{'s' if members > 1 else ''} of etcd")
        if found is not None:
            lines.append(f"  objects in {self.bucket}: {found.proven} are there")
            lines.append(f"  objects read to be sure: {len(found.unknown)}, {found.unknown_bytes} bytes")
            lines.append(f"  objects put back from the backup: {len(found.missing)}, {found.missing_bytes} bytes")
            lines.append(f"  objects that the backup does not need: {found.extra}, left alone")
        if self.deployment_id:
            lines.append(f"  CLUSTER_DEPLOYMENT_ID becomes the backup's, {self.deployment_id}: pachctl wants it")
        lines.append(f"  time: about {self.before:.0f} s while it runs on, then about {self.downtime:.0f} s paused")
        lines += [f"  afterwards {name} catches up on {count} cron ticks" for name, count in self.ticks.items()]
        if self.differs:
            lines.append(f"  ANOTHER CLUSTER'S BACKUP: {self.differs}")
        lines += [f"  IN THE WAY: {each}" for each in self.problems]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return it as modules return it; sizes in bytes, times in seconds."""
        found = self.survey
        return {
            "namespace": self.namespace,
            "backup": self.manifest.id,
            "cluster_id": self.manifest.cluster_id,
            "verified": self.level,
            "replaces": {
                "cluster_id": self.target.cluster_id,
                "keys": self.target.keys,
                "revision": self.target.revision,
                "etcd": self.target.etcd_version,
                "trouble": self.target.trouble,
            },
            "members": [each.pod for each in self.target.members],
            "keys": self.manifest.etcd.key_count,
            "snapshot_size": self.manifest.file(SNAPSHOT).raw_size,
            "objects": {
                "there": found.proven if found else 0,
                "to_read": len(found.unknown) if found else 0,
                "to_read_bytes": found.unknown_bytes if found else 0,
                "to_put_back": len(found.missing) if found else 0,
                "to_put_back_bytes": found.missing_bytes if found else 0,
                "not_needed": found.extra if found else 0,
            },
            "seconds_running": round(self.before, 1),
            "seconds_paused": round(self.downtime, 1),
            "cron_ticks": dict(self.ticks),
            "differs": self.differs,
            "set_aside": list(self.set_aside),
            "problems": list(self.problems),
            "lines": self.lines(),
        }


def look(kube: Kube, installation: Installation, etcd_of: EtcdOf) -> Target:
    """Return the target as it is; an etcd that does not answer is no error, for that may be why it is restored.

    :raises InputError: there is no etcd, or its data is on no volume.
    """
    members = tuple(members_of(installation))
    try:
        with etcd_of(kube, installation) as (etcd, _transport):
            found = etcd.get(b"cluster-id")
            status = etcd.status()
            cluster_id = found.value.decode("utf-8", "replace") if found else ""
            return Target(installation, members, cluster_id, status.revision, etcd.count(b""), status.version)
    except PachopsError as error:
        return Target(installation, members, trouble=str(error))


def difference(manifest: Manifest, target: Target) -> str:
    """Return in what the backup's cluster is another one than the target's; empty where it is the same or none."""
    own = target.installation.deployment_id
    made = manifest.source.cluster_deployment_id
    if target.cluster_id == manifest.cluster_id or (own and own == made):
        # An etcd that lost its data gives the cluster a new id, and the deployment keeps its own.
        return ""
    if target.answers and not target.cluster_id:
        return ""
    what = f"cluster {target.cluster_id}" if target.cluster_id else "a cluster whose etcd does not answer"
    return (
        f"the backup is of cluster {manifest.cluster_id} (deployment id {made or 'unknown'}), the namespace holds "
        f"{what} (deployment id {own or 'unknown'})"
    )


def problems(manifest: Manifest, target: Target, *, version_skew: bool) -> list[str]:
    """Return everything about versions and the target for which a restore is refused."""
    found = []
    installation = target.installation
    if installation.pachd is None:
        found.append("there is no Deployment pachd: deploy the installation first, with pachyderm_paused=true")
    version = str(installation.settings().get("version") or "")
    if version and not version_skew and _minor(version) != _minor(manifest.source.pachyderm_version):
        found.append(
            f"the backup was made by Pachyderm {manifest.source.pachyderm_version}, and {version} is deployed: another "
            "minor version may corrupt it (restore_version_skew=true allows it)"
        )
    wanted = target.etcd_version or _image_version(installation)
    if wanted and _numbers(wanted) < _numbers(manifest.etcd.version):
        found.append(f"etcd {wanted} does not read what etcd {manifest.etcd.version} wrote; deploy one as new as that")
    return found


def _image_version(installation: Installation) -> str:
    image = str(installation.container(installation.etcd, "etcd").get("image", "")) if installation.etcd else ""
    _name, _colon, tag = image.rpartition(":v")
    return tag if tag[:1].isdigit() else ""


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def _numbers(version: str) -> tuple[int, ...]:
    with contextlib.suppress(ValueError):
        return tuple(int(each) for each in version.split(".")[:2])
    return (0, 0)


def refuse(plan: Plan, confirm: str, unfinished: journals.Journal) -> None:
    """:raises InputError: the plan must not be carried out; ``why`` has every reason."""
    reasons = list(plan.problems)
    if plan.differs and confirm not in plan.names:
        reasons.append(plan.differs)
    if unfinished.unfinished and unfinished.backup != plan.manifest.id:
        reasons.append(
            f"a restore of {unfinished.backup} died at the step '{unfinished.last}'; run that again, or undo it"
        )
    if reasons:
        names = " or ".join(plan.names)
        raise InputError(
            "the backup is not restored",
            where=f"namespace {plan.namespace}",
            why="; ".join(reasons),
            fix="Nothing was changed."
            + (f" To replace it with another cluster's backup, set confirm to {names}." if plan.differs else ""),
        )


def bucket_is_anothers(manifest: Manifest, target: Target, found: Survey) -> str:
    """Return why a bucket must be that of another installation, empty where nothing says so."""
    if target.answers and not target.keys and found.extra and found.proven + len(found.unknown) == 0:
        return (
            f"etcd is empty, and the bucket holds {found.extra} objects of some Pachyderm, none of which the backup of "
            f"cluster {manifest.cluster_id} knows: two installations on one bucket destroy each other's objects"
        )
    return ""


def now() -> dt.datetime:
    """Return the time."""
    return dt.datetime.now(dt.timezone.utc)


__all__ = ["EtcdError", "Plan", "Target", "bucket_is_anothers", "difference", "look", "now", "problems", "refuse"]
