# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Take an installation away, to the level that the user names, and nothing else.

``plan`` decides from one observation what goes and what stays; ``carry_out`` deletes it.  Objects are ours by their
label, and what pachd made for its pipelines by the labels that pachd gives it; whatever else lies in the namespace is
listed and left alone.

Levels, each containing the one before:

- ``app``: everything that runs.  etcd's data, the storage secret and the record of the installation stay, so that a
  deploy brings everything back.
- ``metadata``: etcd's claims or directory.  The record stays: it says where the objects are, and its deployment id lets
  users' pachctl connect again after a restore.
- ``data``: the objects, the storage secret and the record.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import InputError, StorageError, WaitError
from .installation import CLUSTER_WIDE, NAMESPACED, labels, name, observe, ours
from .kube.client import Ref
from .kube.wait import wait_gone
from .pachd.manifests import INSTALLATION_NAME, STORAGE_SECRET

if TYPE_CHECKING:
    from .installation import Installation
    from .kube.client import Change, Kube
    from .progress import Progress

Object = dict[str, Any]
Level = Literal["app", "metadata", "data"]
LEVELS: tuple[Level, ...] = ("app", "metadata", "data")
POLL = 0.5
"""Seconds between two looks at what is being deleted."""

# In this order: pachd first, because it makes new workers for pipelines that have none; the record last of what is in
# the namespace, because it says where the data is when a run was interrupted.
_ORDER = (
    "Deployment",
    "ReplicationController",
    "StatefulSet",
    "Pod",
    "PodDisruptionBudget",
    "Service",
    "NetworkPolicy",
    "RoleBinding",
    "ClusterRoleBinding",
    "Role",
    "ClusterRole",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "Secret",
    "ConfigMap",
    "Namespace",
)
_STATE = ("PersistentVolumeClaim", "Secret", "ConfigMap")
_VERSIONS: Mapping[str, str] = {kind: version for version, kind in (*NAMESPACED, *CLUSTER_WIDE)} | {"Namespace": "v1"}
_CLAIM = re.compile(r"etcd-storage(-etcd-\d+)?")
# What Kubernetes itself puts into every namespace.
_BUILT_IN = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
_HOLDING = (
    "Deployment",
    "StatefulSet",
    "ReplicationController",
    "Pod",
    "Service",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "ServiceAccount",
)


@dataclass(frozen=True)
class Directory:
    """A directory of a node that holds state.

    :param here: whether that node is this very host, so that it can be removed from here.
    """

    part: Literal["metadata", "data"]
    path: str
    node: str
    here: bool


@dataclass(frozen=True)
class Plan:
    """What goes and what stays.

    :param level: as asked for.
    :param names: the words of which one has to be typed in before metadata or data goes.
    :param removes: objects to delete, in order.
    :param directories: directories of nodes to delete afterwards.
    :param keeps: what stays although it belongs to the installation, in words.
    :param foreign: objects in the namespace that are not ours, in words.
    """

    namespace: str
    level: Level
    names: tuple[str, ...]
    removes: tuple[Ref, ...]
    directories: tuple[Directory, ...]
    keeps: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remove."""
        return not self.removes and not self.directories

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        head = f"Remove {self.level} of the installation in namespace {self.namespace}"
        if self.empty:
            return [f"{head}: nothing is there any more.", *self._rest()]
        kinds: dict[str, list[str]] = {}
        for ref in self.removes:
            kinds.setdefault(ref.kind, []).append(ref.name)
        gone = [f"  delete {kind}: {', '.join(found)}" for kind, found in kinds.items()]
        gone += [
            f"  delete directory {directory.path} on node {directory.node or '?'} ({directory.part})"
            for directory in self.directories
        ]
        return [f"{head}:", *gone, *self._rest()]

    def _rest(self) -> list[str]:
        stays = [f"  keep {text}" for text in self.keeps]
        return stays + [f"  leave alone {text}: not made by this collection" for text in self.foreign]

    def as_dict(self) -> Object:
        """Return the plan as a module returns it."""
        return {
            "namespace": self.namespace,
            "level": self.level,
            "names": list(self.names),
            "objects": [{"kind": ref.kind, "namespace": ref.namespace or "", "name": ref.name} for ref in self.removes],
            "directories": [
                {"part": item.part, "path": item.path, "node": item.node, "here": item.here}
                for item in self.directories
            ],
            "keeps": list(self.keeps),
            "foreign": list(self.foreign),
            "lines": self.lines(),
        }


@dataclass(frozen=True)
class Outcome:
    """What a removal did, or in check mode would do; ``removed`` names objects and directories."""

    plan: Plan
    changes: list[Change]
    removed: list[str]


def remove(
    kube: Kube,
    namespace: str,
    level: Level,
    progress: Progress,
    *,
    context: str = "",
    confirm: str = "",
    check_mode: bool = False,
    timeout: float = 300.0,
) -> Outcome:
    """Plan, make sure that it is meant and possible, and carry it out.

    :param context: the kubeconfig's context, by which users know the cluster.
    :param confirm: what the user typed in as the installation's name.
    :raises PachopsError: see :func:`plan`, :func:`check_confirmation`, :func:`check_directories`, :func:`carry_out`.
    """
    nodes = kube.list("v1", "Node") if level != "app" else []
    chosen = plan(observe(kube, namespace), level, context, nodes)
    if not check_mode:
        check_confirmation(chosen, confirm)
    changes = carry_out(kube, chosen, progress, check_mode=check_mode, timeout=timeout)
    removed = [f"{change.ref.kind} {change.ref.name}" for change in changes]
    return Outcome(chosen, changes, removed + [f"directory {item.path}" for item in chosen.directories])


def plan(installation: Installation, level: Level, context: str = "", nodes: Sequence[Object] = ()) -> Plan:
    """Return what ``level`` means for this installation.

    :param context: the kubeconfig's context; typing it in confirms as well as the namespace's name does.
    :param nodes: the cluster's nodes, to find out which directories are on this host.
    :raises InputError: the objects' bucket would have to be emptied, which this release cannot, or rights are missing.
    """
    _refuse_blindness(installation)
    _refuse_foreign(installation)
    if level == "data":
        _refuse_bucket(installation)
    chosen = [
        (kind, obj)
        for kind, obj in _candidates(installation)
        if _goes(installation, kind, obj, level) and (kind, name(obj)) not in _BUILT_IN
    ]
    references = [Ref(_VERSIONS[kind], kind, _namespace(obj), name(obj)) for kind, obj in chosen]
    if level == "data" and _namespace_goes(installation, references):
        references.append(Ref("v1", "Namespace", None, installation.namespace))
    references.sort(key=lambda ref: (_ORDER.index(ref.kind), ref.name))
    directories = _directories(installation, level, nodes)
    return Plan(
        namespace=installation.namespace,
        level=level,
        names=tuple(dict.fromkeys(word for word in (installation.namespace, context) if word)),
        removes=tuple(references),
        directories=directories,
        keeps=tuple(_keeps(installation, level)),
        foreign=tuple(_foreign(installation, references)),
    )


def _candidates(installation: Installation) -> list[tuple[str, Object]]:
    return [(kind, obj) for kind in _ORDER for obj in installation.of_kind(kind)]


def _namespace(obj: Mapping[str, Any]) -> str | None:
    found = obj["metadata"].get("namespace")
    return str(found) if found else None


def _goes(installation: Installation, kind: str, obj: Mapping[str, Any], level: Level) -> bool:
    if kind == "PersistentVolumeClaim":
        return level != "app" and _etcd_claim(installation, obj)
    if kind == "ConfigMap" and name(obj) == INSTALLATION_NAME:
        return level == "data" and ours(obj)
    if kind == "Secret" and name(obj) == STORAGE_SECRET:
        return level == "data" and ours(obj)
    if kind == "Pod":
        # Owned pods go with their owner; a bare one of ours was left by an interrupted run.
        return ours(obj) and not obj["metadata"].get("ownerReferences")
    return ours(obj) or _worker_part(installation, kind, obj)


def _etcd_claim(installation: Installation, claim: Mapping[str, Any]) -> bool:
    """The StatefulSet's controller makes the claims, so they carry Pachyderm's labels and not our own."""
    known = installation.record is not None or any(ours(obj) for obj in (installation.etcd,) if obj)
    etcd = labels(claim).get("suite") == "pachyderm" and labels(claim).get("app") == "etcd"
    return ours(claim) or (known and etcd and _CLAIM.fullmatch(name(claim)) is not None)


def _worker_part(installation: Installation, kind: str, obj: Mapping[str, Any]) -> bool:
    """What pachd made for its pipelines; ours to remove only where the pachd was ours."""
    if installation.record is None and not (installation.pachd and ours(installation.pachd)):
        return False
    own = labels(obj)
    if own.get("suite") != "pachyderm":
        return False
    if kind in ("ReplicationController", "Service"):
        return own.get("component") == "worker" or "pipelineName" in own
    return kind == "Secret" and name(obj).startswith("spout-pachctl-secret-")


def _refuse_blindness(installation: Installation) -> None:
    if not installation.unreadable:
        return
    kinds = ", ".join(sorted(installation.unreadable))
    raise InputError(
        "the plan would be incomplete",
        where=f"namespace {installation.namespace}",
        why=f"this identity may not list {kinds}",
        fix="Use an identity that may list them; nothing was removed.",
    )


def _refuse_foreign(installation: Installation) -> None:
    if installation.foreign:
        raise InputError(
            "the Pachyderm in this namespace was not deployed by this collection",
            where=f"namespace {installation.namespace}",
            why="pachd or etcd lacks the label app.kubernetes.io/managed-by=pachops.pachyderm",
            fix="Remove it with the tool that deployed it, or adopt it first: deploy with pachyderm_adopt=true.",
        )


def _refuse_bucket(installation: Installation) -> None:
    backend = installation.backend
    if backend in ("", "local"):
        return
    place = installation.store.partition(":")[2] or "its bucket"
    raise InputError(
        "the objects in a bucket are not removed by this release",
        where=f"{backend} bucket {place}",
        why="only the keys of this installation may go, and a bucket can hold others",
        fix="Use remove_level=metadata, then delete the bucket's objects with the provider's own tool.",
    )


def _namespace_goes(installation: Installation, references: Sequence[Ref]) -> bool:
    """A namespace that we made goes with the last level, when nothing of anybody else's is left in it."""
    namespace = installation.namespace_object
    return namespace is not None and ours(namespace) and not _foreign(installation, references)


def _foreign(installation: Installation, references: Sequence[Ref]) -> list[str]:
    going = {(ref.kind, ref.name) for ref in references}
    own_parts = {("ConfigMap", INSTALLATION_NAME), ("Secret", STORAGE_SECRET)}
    return [
        f"{kind} {name(obj)}"
        for kind, obj in _candidates(installation)
        if kind in _HOLDING
        and (kind, name(obj)) not in going | _BUILT_IN
        and not obj["metadata"].get("ownerReferences")
        and not ours(obj)
        and (kind, name(obj)) not in own_parts
        and not (kind == "PersistentVolumeClaim" and _etcd_claim(installation, obj))
    ]


def _keeps(installation: Installation, level: Level) -> list[str]:
    found = []
    claims = [name(obj) for obj in installation.of_kind("PersistentVolumeClaim") if _etcd_claim(installation, obj)]
    if level == "app":
        found += [f"etcd's claim {claim}" for claim in claims]
        if "metadata" in installation.host_paths:
            found.append(f"etcd's directory {installation.host_paths['metadata']}")
    if level != "data" and installation.record is not None:
        found.append(f"ConfigMap {INSTALLATION_NAME} with the deployment id {installation.deployment_id}")
    secret = installation.storage_secret
    if secret is not None and (level != "data" or not ours(secret)):
        found.append(f"Secret {STORAGE_SECRET}" + ("" if ours(secret) else ", which you keep yourself"))
    if level != "data" and installation.store:
        found.append(f"the objects in {installation.store}")
    return found


def _directories(installation: Installation, level: Level, nodes: Sequence[Object]) -> tuple[Directory, ...]:
    parts: tuple[Literal["metadata", "data"], ...] = {
        "app": (),
        "metadata": ("metadata",),
        "data": ("metadata", "data"),
    }[level]  # type: ignore[assignment]
    found = []
    for part in parts:
        path = installation.host_paths.get(part)
        if not path:
            continue
        node = nodes[0] if len(nodes) == 1 else None
        here = node is not None and this_host(node)
        if here and not Path(path).exists():
            continue
        found.append(Directory(part, path, name(node) if node else "", here))
    return tuple(found)


def this_host(node: Mapping[str, Any]) -> bool:
    """Return whether a node's kubelet runs on this very host and sees its files.

    The kubelet reports the kernel's boot id and the machine id; nodes in containers of this host share only the first.
    """
    info = node.get("status", {}).get("nodeInfo") or {}
    boot = _line("/proc/sys/kernel/random/boot_id")
    return bool(boot) and info.get("bootID") == boot and (info.get("machineID") or "") == _line("/etc/machine-id")


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def check_confirmation(chosen: Plan, typed: str) -> None:
    """Raise :class:`InputError` unless the installation's name was typed in where data would be lost."""
    if chosen.level == "app" or chosen.empty or typed in chosen.names:
        return
    wanted = " or ".join(chosen.names)
    raise InputError(
        "nothing was removed: the name typed in is not this installation's" if typed else "nothing was removed",
        where=f"remove_confirm={typed}" if typed else f"remove_level={chosen.level}",
        why=f"this destroys {chosen.level} for good, so its name has to be typed in",
        fix=f"If you mean it, run again with -e remove_confirm={wanted}.",
    )


def check_directories(chosen: Plan) -> None:
    """Raise :class:`InputError` where a directory has to go and is not a state directory on this host."""
    for directory in chosen.directories:
        if not directory.here:
            where = f"node {directory.node}" if directory.node else "a node of the cluster"
            raise InputError(
                "the installation's files are not on this host",
                where=f"{directory.path} on {where}",
                why="a directory of a node can only be removed on that node",
                fix=f"Run this there, or remove the level app here and delete {directory.path} on the node yourself.",
            )
        wrong = _not_state(Path(directory.path), directory.part)
        if wrong:
            raise StorageError(
                "the directory does not look like Pachyderm's, so it was left alone",
                where=directory.path,
                why=wrong,
                fix="Look at it, and delete it yourself if it is the right one.",
            )


def _not_state(path: Path, part: str) -> str:
    """Return why a directory is not what it should be, empty where it is."""
    if path.is_symlink() or path != Path(os.path.normpath(path)) or len(path.parts) < 4:
        return "it is a link, or too near to the root"
    known = {"metadata": {"member"}, "data": {"block", "object", "tag", "index", "artifacts", "hashtree"}}[part]
    found = {entry.name for entry in path.iterdir()}
    if part == "metadata":
        # Several members on one node have a directory each, and a restore keeps what was before beside it.
        found = {item for item in found if not re.fullmatch(r"etcd-\d+|pachops-restore-\d{8}t\d{6}-[0-9a-f]+", item)}
    # pachd's start-up test leaves an object with a random name when it is killed in between.
    strange = sorted(item for item in found - known if not re.fullmatch(r"[0-9a-f-]{32,36}", item))
    return f"it holds {', '.join(strange[:3])}" if strange else ""


def carry_out(
    kube: Kube, chosen: Plan, progress: Progress, *, check_mode: bool = False, timeout: float = 300.0
) -> list[Change]:
    """Delete what the plan names: what runs, then directories, then what remembers them; wait until it is gone.

    :param timeout: seconds for all of it together.
    :return: one change per object that was there, without the directories.
    :raises WaitError: something was still there; the deletion goes on by itself.
    :raises InputError: a directory is not on this host; nothing was touched.
    :raises StorageError: a directory does not look like Pachyderm's (nothing was touched), or could not be removed.
    """
    # Here rather than with the caller: the same path on this host may be another installation's.
    check_directories(chosen)
    if check_mode:
        changes = [kube.delete(ref, dry_run=True) for ref in chosen.removes]
        return [change for change in changes if change.changed]
    run = _Run(kube, chosen.namespace, progress, time.monotonic() + timeout, len(chosen.removes))
    progress.stage("remove", f"{len(chosen.removes)} objects of namespace {chosen.namespace}")
    deployments = [ref for ref in chosen.removes if ref.kind == "Deployment"]
    run.delete(deployments)
    if deployments:
        run.wait_for_pods("suite=pachyderm,app=pachd")
        run.delete(_late_workers(kube, chosen))
    run.delete([ref for ref in chosen.removes if ref.kind not in ("Deployment", *_STATE, "Namespace")])
    if any(ref.kind in ("Deployment", "StatefulSet", "ReplicationController") for ref in chosen.removes):
        run.wait_for_pods("suite=pachyderm")
    for directory in chosen.directories:
        progress.update(detail=f"deleting {directory.path}")
        _remove_directory(Path(directory.path))
    for kind in (*_STATE, "Namespace"):
        run.delete([ref for ref in chosen.removes if ref.kind == kind])
    return run.changes


def _late_workers(kube: Kube, chosen: Plan) -> list[Ref]:
    """Return what pachd made for pipelines between the plan and its own end."""
    planned = set(chosen.removes)
    found = [
        Ref("v1", kind, chosen.namespace, name(obj))
        for kind in ("ReplicationController", "Service")
        for obj in kube.list("v1", kind, chosen.namespace, labels="suite=pachyderm,component=worker")
    ]
    return [ref for ref in found if ref not in planned]


def _remove_directory(path: Path) -> None:
    try:
        shutil.rmtree(path)
        # What held only this is of no use any more.
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    except FileNotFoundError:
        return
    except OSError as failure:
        raise StorageError(
            "a directory could not be removed",
            where=str(failure.filename or path),
            why=failure.strerror or str(failure),
            fix="Run this as root (become: true); running it again continues where it stopped.",
        ) from failure


class _Run:
    """Deletes and waits under one deadline, and says what it waits for."""

    def __init__(self, kube: Kube, namespace: str, progress: Progress, deadline: float, total: int) -> None:
        self.changes: list[Change] = []
        self._kube = kube
        self._namespace = namespace
        self._progress = progress
        self._deadline = deadline
        self._total = total
        self._done = 0

    def delete(self, references: Sequence[Ref]) -> None:
        """Delete all of them, then wait for each."""
        for ref in references:
            change = self._kube.delete(ref)
            if change.changed:
                self.changes.append(change)
        for ref in references:
            self._progress.update(self._done, max(self._total, self._done), "objects", f"{ref.kind} {ref.name}")
            if self._kube.get(ref) is not None:
                wait_gone(self._kube, ref, max(1.0, self._deadline - time.monotonic()), self._progress)
            self._done += 1

    def wait_for_pods(self, selector: str) -> None:
        """Wait until no pod is left: until then etcd and pachd may still write."""
        while True:
            pods = self._kube.list("v1", "Pod", self._namespace, labels=selector)
            if not pods:
                return
            listed = ", ".join(name(pod) for pod in pods[:3]) + (" …" if len(pods) > 3 else "")
            self._progress.update(detail=f"waiting for {len(pods)} pods to stop: {listed}")
            if time.monotonic() >= self._deadline:
                raise WaitError(
                    "pods did not stop in time",
                    where=f"namespace {self._namespace}",
                    why=f"still there: {listed}",
                    fix="Look at their node; the deletion goes on, and running this again continues.",
                )
            time.sleep(POLL)
