# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""How far a restore has come, kept in the cluster: a ConfigMap with one entry before and one after each step.

Whoever comes after a run that died reads in it what that run was about to do, and what was before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..backup.manifest import utc
from ..errors import ClusterError
from ..kube.client import Ref
from ..pachd.manifests import RESTORE_JOURNAL, record_object

if TYPE_CHECKING:
    from ..kube.client import Kube

#: States: ``running`` (or died), ``undoing``, ``restored`` (what was before is kept), ``undone``, ``confirmed``.
UNFINISHED = ("running", "undoing")


@dataclass
class Journal:
    """One restore.

    :param id: of the restore, part of the names of what it sets aside.
    :param backup: id of the backup, with ``cluster_id``.
    :param before: what an undo needs: replicas of etcd, whether pachd ran, its deployment id.
    :param steps: names of steps with ``begun`` and ``done`` times, in the order in which they were begun.
    :param kept: ids of restores whose old data is still set aside, this one not included.
    """

    id: str = ""
    backup: str = ""
    cluster_id: str = ""
    state: str = ""
    started: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, str]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def unfinished(self) -> bool:
        """Whether a run died in the middle of it."""
        return self.state in UNFINISHED

    def begun(self, step: str) -> bool:
        """Return whether the step was begun, by this run or one that died."""
        return any(each["step"] == step for each in self.steps)

    @property
    def set_aside(self) -> list[str]:
        """Ids of the restores whose other state is still on etcd's volumes, the oldest first."""
        if self.state == "confirmed":
            return []
        return [*self.kept, *([self.id] if self.id and self.begun("exchange") else [])]

    @property
    def last(self) -> str:
        """The step that was begun last."""
        return self.steps[-1]["step"] if self.steps else ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as modules return it."""
        return asdict(self)


def reference(namespace: str) -> Ref:
    """Return the reference to a namespace's journal."""
    return Ref("v1", "ConfigMap", namespace, RESTORE_JOURNAL)


def read(kube: Kube, namespace: str) -> Journal:
    """Return the journal of the last restore, an empty one where there was none.

    :raises ClusterError: it cannot be read.
    """
    return of(kube.get(reference(namespace)), namespace)


def made(restore_id: str) -> str:
    """Return when a restore was begun, from its id."""
    return utc(begun_at(restore_id))


def begun_at(restore_id: str) -> datetime:
    """Return that moment, to count with."""
    return datetime.strptime(restore_id.partition("-")[0], "%Y%m%dt%H%M%S").replace(tzinfo=timezone.utc)


def of(found: Mapping[str, Any] | None, namespace: str) -> Journal:
    """Return what a ConfigMap says, an empty journal where there is none.

    :raises ClusterError: it cannot be read.
    """
    if found is None:
        return Journal()
    try:
        data: Mapping[str, Any] = json.loads(found["data"]["journal"])
        journal = Journal(**data)
        # Whoever reads it counts with these.
        for each in journal.set_aside:
            begun_at(each)
        return journal
    except (KeyError, TypeError, ValueError) as error:
        raise ClusterError(
            "the journal of the last restore cannot be read",
            where=str(reference(namespace)),
            why=f"{type(error).__name__}: {error}",
            fix="It was changed by hand. Look at the volume's pachops-restore-* directories before deleting it.",
        ) from None


def _stamp(when: datetime) -> str:
    return when.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Recorder:
    """Writes the journal; a context manager per step."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        journal: Journal,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """:param check: raises when the work has to end, because the lock was lost."""
        self._kube = kube
        self._namespace = namespace
        self.journal = journal
        self._check = check
        self._now = now

    def write(self, **changes: Any) -> None:
        """Write it, with these members changed."""
        for key, value in changes.items():
            setattr(self.journal, key, value)
        data = {"journal": json.dumps(self.journal.as_dict(), indent=1, sort_keys=True)}
        self._kube.apply(record_object(self._namespace, RESTORE_JOURNAL, data), force=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note that a step is begun, and that it is done; where it fails, the second is missing.

        The second is written with what comes next: a step may be done again, and each write costs the pause its time.
        """
        self._check()
        entry = {"step": name, "begun": _stamp(self._now()), "done": ""}
        self.journal.steps = [*(each for each in self.journal.steps if each["step"] != name), entry]
        self.write()
        yield
        entry["done"] = _stamp(self._now())
