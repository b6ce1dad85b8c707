# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What rehearsals of a restore have said of a cluster's backups.

Each leaves a record in the store, written once::

    <cluster id>/rehearsals/<UTC time>.json
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..stores.base import ObjectExists, ObjectMissing, Store
from .manifest import utc

SCHEMA = 1
_STAMP = "%Y%m%dT%H%M%SZ"
_RECORD = re.compile(r"\d{8}T\d{6}Z\.json")


@dataclass(frozen=True)
class Stage:
    """One part of a rehearsal; ``bytes`` is what it moved, 0 where it moved nothing of note."""

    name: str
    seconds: float
    bytes: int = 0


@dataclass(frozen=True)
class Rehearsal:
    """What came of a rehearsal.

    :param backup_id: empty for that of a migration, whose ``source`` is named instead.
    :param stages: deploying, the steps of the restore or migration, and taking away.
    :param restore_seconds: from the begin of that to pachd's last answer: what a real one would take here.
    :param proven: what was proven, in words.
    :param error: why it failed, empty where it passed.
    """

    cluster_id: str
    backup_id: str
    started: dt.datetime
    passed: bool = False
    stages: tuple[Stage, ...] = ()
    restore_seconds: float = 0.0
    proven: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""
    removed: bool = True
    sizes: Mapping[str, int] = field(default_factory=dict)
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as its record has it."""
        return {"schema": SCHEMA, **dataclasses.asdict(self), "started": utc(self.started)}

    def table(self) -> list[str]:
        """Return it as lines for a person."""
        width = max((len(stage.name) for stage in self.stages), default=0)
        what = f"a migration of {self.source}" if self.source else f"backup {self.backup_id}"
        lines = [f"Rehearsal of {what}: {'passed' if self.passed else 'FAILED'}"]
        lines += [
            f"  {stage.name:<{width}}  {stage.seconds:8.1f} s" + (f"  {stage.bytes:>15,} bytes" if stage.bytes else "")
            for stage in self.stages
        ]
        lines += [f"  ✔ {text}" for text in self.proven]
        lines += [f"  ! {text}" for text in self.warnings]
        if self.passed:
            what = "Copying and starting it" if self.source else "A restore of it"
            lines.append(f"  {what} takes about {self.restore_seconds:.0f} s here.")
        if self.error:
            lines.append(f"  ✗ {self.error}")
        if not self.removed:
            lines.append("  ! The rehearsal's namespace and directory are still there.")
        return lines


def record(store: Store, rehearsal: Rehearsal) -> str:
    """Write a rehearsal's record, and return its key.

    :raises StorageError: when the store refuses.
    """
    key = f"{rehearsal.cluster_id}/rehearsals/{rehearsal.started.astimezone(dt.timezone.utc).strftime(_STAMP)}.json"
    with suppress(ObjectExists):
        text = json.dumps(rehearsal.as_dict(), indent=2, sort_keys=True) + "\n"
        store.write(key, [text.encode()], if_absent=True)
    return key


def newest(store: Store, cluster_id: str) -> dict[str, Any]:
    """Return the newest rehearsal's record, empty where there is none or it cannot be read."""
    prefix = f"{cluster_id}/rehearsals/"
    keys = [each.key for each in store.list(prefix) if _RECORD.fullmatch(each.key.removeprefix(prefix))]
    for key in sorted(keys, reverse=True):
        with suppress(ValueError, KeyError, TypeError, ObjectMissing):
            document = json.loads(b"".join(store.read(key)))
            if document["schema"] == SCHEMA:
                return dict(document)
    return {}
