# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What a scheduled run tells the world: a record in the store, metrics for Prometheus, and an Event in the cluster.

A run's record is written once, as ``<cluster id>/runs/<UTC time>.json``; the newest thousand are kept.  From the time
of the one before and the schedule follows how many runs were missed in between.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PachopsError, StorageError
from ..kube.client import refusal
from ..kube.kinds import collection_path
from ..replacing import replacing
from ..stores.base import ObjectExists, ObjectMissing, Store
from .catalogue import Backup, Catalogue
from .cron import Cron
from .manifest import SNAPSHOT, utc

if TYPE_CHECKING:
    from ..kube.client import Kube

STAGES = ("backup", "verify", "prune")
KEPT_RUNS = 1000
#: So many records are read at most to find the run that last found a backup to have everything.
READ_RUNS = 50
#: What a scheduler may be late by without having missed a run.
SLACK = dt.timedelta(minutes=5)

_SCHEMA = 1
_RUN = re.compile(r"(\d{8}T\d{6}Z)\.json")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Stage:
    """How one part of a run ended; ``error`` is empty where it went well, ``skipped`` where it was not begun."""

    name: str
    seconds: float = 0.0
    error: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class Run:
    """One scheduled run.

    :param missed: times at which the schedule wanted a run since the one before, and none was made.
    """

    cluster_id: str
    namespace: str
    started: dt.datetime
    finished: dt.datetime
    stages: tuple[Stage, ...]
    backup_id: str = ""
    missed: tuple[dt.datetime, ...] = ()
    runner: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every part went well."""
        return not any(each.error or each.skipped for each in self.stages)

    @property
    def error(self) -> str:
        """The first part that failed, and why."""
        return next((f"{each.name}: {each.error}" for each in self.stages if each.error), "")

    def as_dict(self) -> dict[str, Any]:
        """Return it as its record has it."""
        return {
            "schema": _SCHEMA,
            "cluster_id": self.cluster_id,
            "namespace": self.namespace,
            "started": utc(self.started),
            "finished": utc(self.finished),
            "seconds": round((self.finished - self.started).total_seconds(), 1),
            "passed": self.passed,
            "error": self.error,
            "backup_id": self.backup_id,
            "stages": [dataclasses.asdict(each) for each in self.stages],
            "missed": [utc(each) for each in self.missed],
            "runner": self.runner,
        }


def run_times(store: Store, cluster_id: str) -> list[dt.datetime]:
    """Return when the recorded runs were begun, the newest first."""
    prefix = f"{cluster_id}/runs/"
    found = []
    for each in store.list(prefix):
        match = _RUN.fullmatch(each.key.removeprefix(prefix))
        if match:
            with contextlib.suppress(ValueError):
                found.append(dt.datetime.strptime(match[1], _STAMP).replace(tzinfo=dt.timezone.utc))
    return sorted(found, reverse=True)


def run_key(cluster_id: str, started: dt.datetime) -> str:
    """Return the key of a run's record."""
    return f"{cluster_id}/runs/{started.astimezone(dt.timezone.utc).strftime(_STAMP)}.json"


def missed_runs(cron: Cron, before: dt.datetime | None, started: dt.datetime) -> tuple[dt.datetime, ...]:
    """Return the times that the schedule named between the run before and this one, in the zone of ``started``.

    The time that this run itself was made for is not among them.
    """
    if before is None:
        return ()
    times = list(cron.between(before.astimezone(started.tzinfo) + SLACK, started))
    # The last one is what this run is for, however late it is.
    return tuple(times[:-1])


def record_run(store: Store, run: Run) -> str:
    """Write a run's record, forget the oldest ones, and return its key.

    :raises StorageError: when the store refuses.
    """
    started = run.started
    while True:
        key = run_key(run.cluster_id, started)
        try:
            data = json.dumps(run.as_dict(), indent=2, sort_keys=True) + "\n"
            store.write(key, [data.encode()], if_absent=True)
            break
        except ObjectExists:
            started += dt.timedelta(seconds=1)
    for old in run_times(store, run.cluster_id)[KEPT_RUNS:]:
        # A run need not have the right to delete.
        with contextlib.suppress(StorageError):
            store.delete(run_key(run.cluster_id, old))
    return key


def current_at(store: Store, backup: Backup, run: Run | None = None) -> dt.datetime:
    """Return when a backup was last known to have everything: when it was begun, or when a later run found nothing new.

    :param run: the run that ends now, whose record is not written yet.
    :raises StorageError: when the store cannot be read.
    """
    if run is not None and _confirms(run.as_dict(), backup.id):
        return max(backup.time, run.started)
    cluster_id = backup.manifest.cluster_id
    for started in run_times(store, cluster_id)[:READ_RUNS]:
        if started <= backup.time:
            break
        with contextlib.suppress(ObjectMissing, ValueError, KeyError, TypeError):
            if _confirms(json.loads(b"".join(store.read(run_key(cluster_id, started)))), backup.id):
                return started
    return backup.time


def _confirms(record: Mapping[str, Any], backup_id: str) -> bool:
    done = {each["name"] for each in record["stages"] if not each["error"] and not each["skipped"]}
    return record["backup_id"] == backup_id and {"backup", "verify"} <= done


# Metrics

_HELP: Mapping[str, tuple[str, str]] = {
    "last_run_timestamp_seconds": ("gauge", "When the last scheduled run ended."),
    "last_run_success": ("gauge", "Whether every part of the last scheduled run went well."),
    "last_run_stage_success": ("gauge", "Whether one part of the last scheduled run went well."),
    "last_run_stage_seconds": ("gauge", "How long one part of the last scheduled run took."),
    "missed_runs": ("gauge", "Runs that the schedule named since the run before the last, and that were not made."),
    "sets": ("gauge", "Complete backups in the store."),
    "sets_verified": ("gauge", "Backups that a restore has proven."),
    "sets_failed": ("gauge", "Backups that a verification found wrong."),
    "leftovers": ("gauge", "Backups that were cut off or are being made."),
    "latest_timestamp_seconds": ("gauge", "When the newest backup was begun."),
    "latest_verified_timestamp_seconds": ("gauge", "When the newest verified backup was begun."),
    "latest_verified_current_timestamp_seconds": (
        "gauge",
        "When the newest verified backup was begun, or a later run found that it has everything.",
    ),
    "latest_revision": ("gauge", "The revision of etcd in the newest backup."),
    "latest_keys": ("gauge", "Keys in the newest backup."),
    "latest_objects": ("gauge", "Objects that the newest backup needs."),
    "latest_objects_bytes": ("gauge", "Size of the objects that the newest backup needs."),
    "latest_snapshot_bytes": ("gauge", "Size of the newest backup's etcd snapshot, unpacked."),
}


def metrics(namespace: str, catalogue: Catalogue, run: Run | None = None, current: dt.datetime | None = None) -> str:
    """Return the state of the backups in Prometheus' text format (version 0.0.4); what is not known is left out.

    :param current: what :func:`current_at` says of the newest verified backup.
    """
    samples: list[tuple[str, Mapping[str, str], float]] = []

    def add(name: str, value: float, **labels: str) -> None:
        samples.append((name, labels, value))

    if run is not None:
        add("last_run_timestamp_seconds", run.finished.timestamp())
        add("last_run_success", float(run.passed))
        add("missed_runs", len(run.missed))
        for stage in run.stages:
            add("last_run_stage_success", float(not stage.error and not stage.skipped), stage=stage.name)
            add("last_run_stage_seconds", stage.seconds, stage=stage.name)
    add("sets", len(catalogue.backups))
    add("sets_verified", sum(each.verified for each in catalogue.backups))
    add("sets_failed", sum(each.failed for each in catalogue.backups))
    add("leftovers", len(catalogue.leftovers))
    if catalogue.latest is not None:
        made = catalogue.latest.manifest
        add("latest_timestamp_seconds", catalogue.latest.time.timestamp())
        add("latest_revision", made.etcd.revision)
        add("latest_keys", made.etcd.key_count)
        add("latest_objects", made.objects.count)
        add("latest_objects_bytes", made.objects.bytes)
        add("latest_snapshot_bytes", made.file(SNAPSHOT).raw_size)
    if catalogue.latest_verified is not None:
        add("latest_verified_timestamp_seconds", catalogue.latest_verified.time.timestamp())
    if current is not None:
        add("latest_verified_current_timestamp_seconds", current.timestamp())
    common = {"namespace": namespace, "cluster_id": catalogue.cluster_id}
    return "".join(_family(name, [each for each in samples if each[0] == name], common) for name in _HELP)


def _family(name: str, samples: Sequence[tuple[str, Mapping[str, str], float]], common: Mapping[str, str]) -> str:
    if not samples:
        return ""
    kind, words = _HELP[name]
    lines = [f"# HELP pachops_backup_{name} {words}", f"# TYPE pachops_backup_{name} {kind}"]
    for _name, labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in {**common, **labels}.items())
        number = repr(int(value)) if value == int(value) else repr(value)
        lines.append(f"pachops_backup_{name}{{{shown}}} {number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def write_textfile(path: Path, text: str) -> None:
    """Replace a file for the node exporter's textfile collector, at once and readable for it.

    :raises InputError: when it cannot be written.
    """
    try:
        with replacing(path, 0o644) as file:
            file.write(text.encode())
    except OSError as error:
        raise InputError(
            "cannot write the metrics", where=str(path), why=error.strerror or str(error), fix="Make its directory."
        ) from error


@dataclass(frozen=True)
class Gateway:
    """A pushgateway; its address may not hold a password, which has its own field."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = 10.0


def push(gateway: Gateway, namespace: str, text: str) -> None:
    """Replace what the gateway holds for this namespace.

    :raises StorageError: when it does not answer, or refuses.
    """
    group = urllib.parse.quote(namespace, safe="")
    url = f"{gateway.url.rstrip('/')}/metrics/job/pachops_backup/namespace/{group}"
    if not url.startswith(("http://", "https://")):
        raise InputError("not the address of a pushgateway", where=gateway.url, fix="Give http://host:9091.")
    import requests

    login = (gateway.user, gateway.password) if gateway.user else None
    kind = {"Content-Type": "text/plain; version=0.0.4"}
    try:
        answer = requests.put(url, text.encode(), headers=kind, auth=login, timeout=gateway.timeout)
    except requests.RequestException as error:
        raise StorageError("cannot reach the pushgateway", where=url, why=str(error)) from error
    if not answer.ok:
        why = f"{answer.status_code} {answer.text[:200].strip()}"
        raise StorageError("the pushgateway refused the metrics", where=url, why=why)


def emit_event(kube: Kube, run: Run) -> None:
    """Tell of a run by an Event about the installation's pachd.

    :raises ClusterError: when the API refuses.
    """
    moment = run.finished.astimezone(dt.timezone.utc)
    message = f"Backup {run.backup_id} made and verified" if run.passed else f"Scheduled backup failed: {run.error}"
    if run.missed:
        message += f"; {len(run.missed)} runs before it were missed"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "pachops-backup-", "namespace": run.namespace},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "pachd",
            "namespace": run.namespace,
        },
        "type": "Normal" if run.passed and not run.missed else "Warning",
        "reason": "BackupVerified" if run.passed else "BackupFailed",
        "message": message[:1000],
        "source": {"component": "pachops-backup"},
        "firstTimestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lastTimestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "count": 1,
    }
    path = collection_path("v1", "Event", run.namespace)
    response = kube.request("POST", path, body=json.dumps(event))
    if response.status not in (200, 201):
        raise refusal(response, "POST", f"namespace {run.namespace}", kube.transport.host)


def attempt(tasks: Iterable[tuple[str, Any]]) -> list[str]:
    """Call each task, and return what went wrong: that metrics cannot be delivered does not undo a backup."""
    troubles = []
    for what, task in tasks:
        try:
            task()
        except PachopsError as error:
            troubles.append(f"{what}: {error}")
    return troubles
