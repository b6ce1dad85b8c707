# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Restoring or copying into an installation that nobody uses, proving it there, and taking it away again.

Of a restore only the backup store is read, of a migration the source, which goes on.  Objects go into a directory of
this host, never into a bucket, since two live installations on one bucket destroy each other's objects at the first
garbage collection.  No worker starts: the pipelines would process, and send away, data a second time; their pods need a
service account, which the rehearsal's namespace lacks.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backup.manifest import SNAPSHOT
from ..backup.rehearsals import Rehearsal, Stage
from ..errors import InputError, PachopsError
from ..installation import NAMESPACED, observe
from ..kube.client import Ref
from ..migrate.engine import Migrator, Side
from ..migrate.engine import Options as MigrateOptions
from ..migrate.space import metadata_need
from ..pachd import deployment
from ..pachd.manifests import INSTALLATION_LABEL, MANAGED_BY, MANAGER, STORAGE_SECRET, WORKER_ACCOUNT
from ..pachd.settings import Settings
from ..pachd.versions import DEFAULT_VERSION
from ..progress import Progress
from .engine import Options, Outcome, Restorer

if TYPE_CHECKING:
    from ..backup.sets import OpenedSet
    from ..kube.client import Kube

#: On the Namespace, and the name of a file in the directory: what may be taken away without asking.
REHEARSAL_LABEL = "pachops.io/rehearsal"
MARKER = ".pachops-rehearsal"
_GONE = 300.0  # seconds until a namespace has to be gone
_SNAPSHOTS = 3  # of these, decompressed, fit beside the objects: the file, etcd's data, its log
_SMALL = {part: {"requests": {"cpu": "50m", "memory": "256M"}} for part in ("pachd", "etcd")}

Restorers = Callable[["Kube", str, Options, Progress], Any]
Migrators = Callable[[Side, Side, MigrateOptions, Progress], Any]


@dataclass(frozen=True)
class Wish:
    """How to rehearse.

    :param namespace: must not exist, or be what a rehearsal that died has left.
    :param directory: of this host, where the cluster's only node is; likewise.
    :param settings: further options of ``pachyderm_deploy``, such as ``images``.
    :param restore: options of the restore.
    :param keep: leave it there to look at.
    """

    namespace: str = "pachyderm-rehearsal"
    directory: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    restore: Options = field(default_factory=Options)
    keep: bool = False

    @property
    def place(self) -> Path:
        """The directory."""
        return Path(self.directory or f"/var/pachyderm/{self.namespace}")


def _restorer(kube: Kube, namespace: str, options: Options, progress: Progress) -> Restorer:
    return Restorer(kube, namespace, options, progress=progress)


def _migrator(source: Side, target: Side, options: MigrateOptions, progress: Progress) -> Migrator:
    return Migrator(source, target, options, progress=progress)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def rehearse(
    kube: Kube,
    opened: OpenedSet,
    level: str,
    wish: Wish,
    *,
    progress: Progress | None = None,
    restorers: Restorers = _restorer,
    now: Callable[[], dt.datetime] = _now,
) -> Rehearsal:
    """Restore a backup, prove it, and take the installation away again, also where something fails.

    :param level: the level to which the backup is verified.
    :raises InputError: the namespace or the directory is somebody's, or there is too little space; nothing was made.
    """
    progress = progress or Progress()
    manifest = opened.manifest
    source = manifest.source
    images = (opened.cluster().get("settings") or {}).get("images")
    settings = _settings(source.pachyderm_version, images, source.cluster_deployment_id, wish)
    refuse(kube, opened, wish)
    snapshot = manifest.file(SNAPSHOT).raw_size
    made = Rehearsal(
        manifest.cluster_id,
        manifest.id,
        now(),
        sizes={
            "snapshot": snapshot,
            "objects": manifest.objects.count,
            "objects_bytes": manifest.objects.bytes,
            "keys": manifest.etcd.key_count,
        },
    )

    def restore(watch: _Watch) -> Rehearsal:
        outcome = restorers(kube, wish.namespace, _options(wish), progress).restore(opened, level)
        watch.stages += _steps(outcome, snapshot)
        return dataclasses.replace(made, proven=_proven(opened, outcome, level), warnings=outcome.warnings)

    return _rehearsed(kube, wish, settings, made, restore, progress)


def rehearse_migration(
    source: Side,
    kube: Kube,
    wish: Wish,
    options: MigrateOptions,
    *,
    progress: Progress | None = None,
    migrators: Migrators = _migrator,
    now: Callable[[], dt.datetime] = _now,
) -> Rehearsal:
    """Copy an installation that goes on, prove the copy, and take it away again, also where something fails.

    :param kube: the cluster of the rehearsal.
    :raises InputError: as for :func:`rehearse`, or there is nothing to copy.
    """
    progress = progress or Progress()
    migrator, made = measured(source, kube, wish, options, progress=progress, migrators=migrators, now=now)
    seen = observe(source.kube, source.namespace, NAMESPACED)
    shown = seen.settings()
    settings = _settings(str(shown.get("version") or DEFAULT_VERSION), shown.get("images"), seen.deployment_id, wish)

    def migrate(watch: _Watch) -> Rehearsal:
        outcome = migrator.rehearse(watch.stage)
        proven = (
            f"etcd: {outcome.keys} keys of the source's revision {outcome.revision}, with the same hash on both sides",
            f"{made.sizes['objects']} objects, and all that the metadata reach, before pachd's first start",
            f"pachd: cluster {made.cluster_id}, a file of every repo that has one, and the state of every pipeline",
        )
        return dataclasses.replace(made, proven=proven, warnings=outcome.warnings)

    return _rehearsed(kube, wish, settings, made, migrate, progress)


def measured(
    source: Side,
    kube: Kube,
    wish: Wish,
    options: MigrateOptions,
    *,
    progress: Progress | None = None,
    migrators: Migrators = _migrator,
    now: Callable[[], dt.datetime] = _now,
) -> tuple[Migrator, Rehearsal]:
    """Return what migrates, and a rehearsal of it that has not been made yet; nothing is written.

    :raises InputError: as for :func:`rehearse_migration`.
    """
    target = Side(kube, wish.namespace, path=str(wish.place / "pachd"))
    migrator: Migrator = migrators(source, target, options, progress or Progress())
    plan = migrator.measure()
    if plan.keys is None or plan.objects is None:
        raise InputError("the rehearsal is not begun", why="; ".join(plan.problems), fix="Nothing was changed.")
    refuse_place(kube, wish, plan.objects.size + metadata_need(plan.keys))
    sizes = {"objects": plan.objects.count, "objects_bytes": plan.objects.size, "keys": plan.keys.keys}
    return migrator, Rehearsal(plan.cluster_id, "", now(), sizes=sizes, source=plan.source)


def _rehearsed(
    kube: Kube,
    wish: Wish,
    settings: Settings,
    made: Rehearsal,
    work: Callable[[_Watch], Rehearsal],
    progress: Progress,
) -> Rehearsal:
    """Do the work in an installation that is deployed for it and taken away again; return it with what was measured."""
    watch = _Watch()
    error, removed, seconds = "", not wish.keep, 0.0
    try:
        with watch.stage("what an earlier rehearsal left"):
            _remove(kube, wish, progress)
        with watch.stage("deploy"):
            _deploy(kube, settings, wish, progress)
        begun = time.monotonic()
        made = work(watch)
        seconds = time.monotonic() - begun
    except PachopsError as refusal:
        error = str(refusal)
    finally:
        if not wish.keep:
            with suppress(PachopsError, OSError), watch.stage("take away"):
                removed = False
                _remove(kube, wish, progress)
                removed = True
    return dataclasses.replace(
        made,
        passed=not error,
        stages=tuple(watch.stages),
        restore_seconds=round(seconds, 1),
        error=error,
        removed=removed,
    )


def refuse(kube: Kube, opened: OpenedSet, wish: Wish) -> None:
    """:raises InputError: when the namespace or the directory is somebody's, or there is too little space."""
    manifest = opened.manifest
    refuse_place(kube, wish, manifest.objects.bytes + _SNAPSHOTS * manifest.file(SNAPSHOT).raw_size)


def refuse_place(kube: Kube, wish: Wish, needed: int) -> None:
    """Return where namespace and directory may be used.

    :param needed: bytes of the directory.
    :raises InputError: one is somebody's, or there is too little space.
    """
    reasons = []
    namespace = kube.get(Ref("v1", "Namespace", None, wish.namespace))
    if namespace is not None and not _marked(namespace):
        reasons.append(f"namespace {wish.namespace} exists and was not made by a rehearsal")
    place = wish.place
    if place.exists() and any(place.iterdir()) and not (place / MARKER).exists():
        reasons.append(f"the directory {place} holds something that no rehearsal put there")
    if len(place.parts) < 3:
        reasons.append(f"the directory {place} is too close to the root")
    above = next((parent for parent in (place, *place.parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(above).free
    if free < needed:
        reasons.append(f"{above} has {free:,} bytes free, and {needed:,} are needed")
    if reasons:
        raise InputError(
            "the rehearsal is not begun",
            where=f"namespace {wish.namespace}",
            why="; ".join(reasons),
            fix="Nothing was changed. Choose another namespace or directory.",
        )


def _settings(version: str, images: Mapping[str, str] | None, deployment_id: str, wish: Wish) -> Settings:
    """Return the settings of the rehearsal's installation: the same versions, on a directory of this host."""
    given = dict(wish.settings)
    wanted = {**(images or {}), **{part: image for part, image in (given.pop("images", None) or {}).items() if image}}
    return Settings.parse(
        {
            "resources": _SMALL,
            "version": version,
            **given,
            "images": {part: image for part, image in wanted.items() if image},
            "namespace": wish.namespace,
            "backend": "local",
            "host_path": str(wish.place),
            "cluster_deployment_id": deployment_id,
            "dash": False,
        }
    )


def _options(wish: Wish) -> Options:
    return dataclasses.replace(wish.restore, path=str(wish.place / "pachd"), access=None)


def _deploy(kube: Kube, settings: Settings, wish: Wish, progress: Progress) -> None:
    place = wish.place
    (place / "pachd").mkdir(parents=True, exist_ok=True)
    (place / MARKER).write_text(f"{settings.cluster_deployment_id}\n", encoding="utf-8")
    labels = {MANAGED_BY: MANAGER, INSTALLATION_LABEL: wish.namespace, REHEARSAL_LABEL: "true"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": wish.namespace, "labels": labels}})
    secret = Ref("v1", "Secret", wish.namespace, STORAGE_SECRET)
    metadata = {"name": secret.name, "namespace": secret.namespace, "labels": {"suite": "pachyderm"}}
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    deployment.deploy(
        kube,
        settings,
        paused=True,
        etcd_timeout=wish.restore.etcd_timeout,
        pachd_timeout=wish.restore.pachd_timeout,
        progress=progress,
    )
    # Without it no worker's pod can be made, whatever pachd's master does about its pipelines.
    kube.delete(Ref("v1", "ServiceAccount", wish.namespace, WORKER_ACCOUNT), wait=30)


def _remove(kube: Kube, wish: Wish, progress: Progress) -> None:
    """Delete namespace and directory, each only where a rehearsal has made it."""
    ref = Ref("v1", "Namespace", None, wish.namespace)
    namespace = kube.get(ref)
    if namespace is not None and _marked(namespace):
        progress.stage("take away", f"namespace {wish.namespace}")
        kube.delete(ref, wait=_GONE)
    if (wish.place / MARKER).exists():
        # The marker last: what is cut off here is still known as a rehearsal's.
        for each in wish.place.iterdir():
            if each.name != MARKER:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        shutil.rmtree(wish.place)


def _marked(namespace: Mapping[str, Any]) -> bool:
    return bool((namespace["metadata"].get("labels") or {}).get(REHEARSAL_LABEL) == "true")


def _steps(outcome: Outcome, snapshot: int) -> list[Stage]:
    """Return the restore's own steps, from its journal."""
    moved = {"objects": outcome.written_bytes, "receive": snapshot}
    stages = []
    for step in outcome.journal.steps:
        with suppress(ValueError, KeyError):
            begun, done = (dt.datetime.fromisoformat(step[which].replace("Z", "+00:00")) for which in ("begun", "done"))
            name = step["step"]
            stages.append(Stage(f"restore: {name}", (done - begun).total_seconds(), moved.get(name, 0)))
    return stages


def _proven(opened: OpenedSet, outcome: Outcome, level: str) -> tuple[str, ...]:
    manifest = opened.manifest
    return (
        f"the backup, verified to level {level or 'none'} before",
        f"{manifest.objects.count} objects, {outcome.written} of them put back, before pachd's first start",
        f"etcd: {manifest.etcd.key_count} keys at revision {manifest.etcd.revision}, with the same hash",
        f"pachd: cluster {manifest.cluster_id}, a file of every repo that has one, and the state of every pipeline",
    )


class _Watch:
    def __init__(self) -> None:
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.stages.append(Stage(name, round(time.monotonic() - begun, 1)))
