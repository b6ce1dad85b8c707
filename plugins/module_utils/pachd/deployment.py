# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Bring one installation of Pachyderm to the state that its settings describe.

The order is part of the contract: the Service ``etcd`` exists before any pod that reads its variables, etcd answers
before pachd starts (pachd waits six minutes for it and then panics), and the storage secret exists before the pod that
mounts it.  Whatever cannot go well is refused before the first object is written.
"""

from __future__ import annotations

import dataclasses
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError, WaitError
from ..installation import ours
from ..kube import quiesce
from ..kube.apply import compare, data_of
from ..kube.client import Change, Kube, Ref
from ..kube.wait import wait_for, wait_gone
from ..progress import Progress
from ..restore.journal import read as read_journal
from . import manifests, storage_secret
from .settings import Settings
from .start_failures import fix_for

Object = dict[str, Any]

# What check mode shows where a real run would draw an id.
UNDRAWN_ID = "drawn-at-the-first-deploy"


@dataclass
class Outcome:
    """What a deployment did, or in check mode would do.

    :param changes: one per object, in order; unchanged ones included.
    :param cluster_deployment_id: the id that pachctl's contexts remember.
    :param id_origin: ``given``, ``recorded`` or ``generated``.
    :param pipeline_pod_patch: what pipelines need in ``pod_patch`` to reach what pachd reaches; "" for nothing.
    :param paused: pachd is deployed and not started.
    :param seconds: wall time per component.
    """

    cluster_deployment_id: str = ""
    id_origin: str = "recorded"
    pipeline_pod_patch: str = ""
    paused: bool = False
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether any object differs from before."""
        return any(change.changed for change in self.changes)


def deploy(
    kube: Kube,
    settings: Settings,
    *,
    components: Sequence[str] = manifests.COMPONENTS,
    check_mode: bool = False,
    adopt: bool = False,
    paused: bool = False,
    checksum: str = "",
    etcd_timeout: float = 300.0,
    pachd_timeout: float = 600.0,
    progress: Progress | None = None,
) -> Outcome:
    """Apply ``components`` of ``settings`` and wait until each of them is ready.

    :param check_mode: ask the server what would change (a real server-side dry run) and write nothing.
    :param adopt: take over objects of these names that somebody else made, ``pachctl deploy`` for example.
    :param paused: deploy everything and do not start pachd, so that its metadata and objects can be put in place before
        it sees either; :func:`~..kube.quiesce.resume` starts it, and so does a deployment without this.
    :param checksum: checksum of the storage secret; default: computed from the Secret in the cluster.
    :param etcd_timeout: seconds for etcd to become healthy; ``pachd_timeout`` for pachd.
    :raises InputError: the namespace holds someone else's objects, or a setting would orphan existing data; nothing
        was written.
    :raises WaitError: an object was applied and did not become ready; the message carries the cause.
    """
    progress = progress or Progress()
    outcome = Outcome()
    if not adopt:
        refuse_foreign(kube, settings)
    refuse_orphaned_data(kube, settings)
    refuse_half_restored(kube, settings.namespace)
    settings = _with_deployment_id(kube, settings, outcome, check_mode=check_mode)
    if "pachd" in components and not checksum:
        checksum = secret_checksum(kube, settings.namespace, required=not check_mode)
    outcome.pipeline_pod_patch = manifests.pipeline_pod_patch(settings)
    _ensure_namespace(kube, settings.namespace, outcome, check_mode=check_mode)
    timeouts = {"etcd": etcd_timeout, "pachd": pachd_timeout, "dash": pachd_timeout}
    for name in components:
        started = time.monotonic()
        progress.stage(name, f"applying {name} in namespace {settings.namespace}")
        objects = manifests.component(name, settings, checksum=checksum)
        if name == "pachd":
            _hold(kube, settings, objects, outcome, paused=paused)
        if adopt and name == "etcd":
            outcome.changes += _release(kube, settings, check_mode=check_mode)
        # Ours by label, or adopted: what somebody edited by hand goes back to what the variables say.
        outcome.changes += [_apply(kube, obj, adopt=adopt, check_mode=check_mode) for obj in objects]
        if not check_mode:
            for obj in objects:
                if obj["kind"] in ("StatefulSet", "Deployment"):
                    _wait(kube, Ref.of(obj), timeouts[name], progress, settings.backend)
        outcome.seconds[name] = round(time.monotonic() - started, 2)
    if set(components) == set(manifests.COMPONENTS):
        outcome.changes += _prune(kube, settings, check_mode=check_mode)
    return outcome


def _wait(kube: Kube, ref: Ref, timeout: float, progress: Progress, backend: str) -> None:
    """Wait until a workload is ready; where pachd's last words tell what its bucket lacks, say what mends it."""
    try:
        wait_for(kube, ref, timeout, progress)
    except WaitError as error:
        fix = fix_for(error.why, backend)
        if not fix:
            raise
        raise WaitError(error.what, where=error.where, why=error.why, fix=fix) from error


def _hold(kube: Kube, settings: Settings, objects: Sequence[Object], outcome: Outcome, *, paused: bool) -> None:
    """Keep pachd at zero where that is wanted, and where another operation has paused it and is not through."""
    ref = quiesce.pachd_ref(settings.namespace)
    found = quiesce.paused_of(kube.get(ref))
    held = found if found and found.by != quiesce.DEPLOYED else None
    if not (paused or held):
        return
    pause = found or quiesce.Paused(quiesce.DEPLOYED)
    outcome.paused = True
    deployment = next(obj for obj in objects if Ref.of(obj) == ref)
    deployment["spec"]["replicas"] = 0
    deployment["metadata"].setdefault("annotations", {})[quiesce.PAUSED_ANNOTATION] = pause.annotation()
    if held:
        outcome.warnings.append(
            f"pachd stays stopped: {held.by} has paused this installation and was not finished. Run it again to "
            "continue or undo it."
        )


def secret_checksum(kube: Kube, namespace: str, *, required: bool) -> str:
    """Return the checksum of the storage secret's content, which decides whether pachd restarts.

    :param required: raise where there is no such Secret, instead of returning "".
    """
    secret = kube.get(Ref("v1", "Secret", namespace, manifests.STORAGE_SECRET))
    if secret is not None:
        return storage_secret.checksum(data_of(secret))
    if required:
        raise InputError(
            "the storage secret does not exist",
            where=f"Secret {namespace}/{manifests.STORAGE_SECRET}",
            why="pachd mounts it and does not start without it, whatever the backend",
            fix="Run the role pachops.pachyderm.storage_secret first, or create the Secret yourself.",
        )
    return ""


def foreign(kube: Kube, settings: Settings) -> list[str]:
    """Return the objects in the namespace that belong to a Pachyderm, or carry a name of ours, and are not ours."""
    found: dict[str, None] = {}
    for kind in ("Deployment", "StatefulSet"):
        for obj in kube.list("apps/v1", kind, settings.namespace, labels="suite=pachyderm"):
            if not ours(obj):
                found[str(Ref.of(obj))] = None
    for obj in manifests.all_objects(settings):
        live = kube.get(Ref.of(obj))
        if live is not None and not ours(live):
            found[str(Ref.of(obj))] = None
    return list(found)


def refuse_foreign(kube: Kube, settings: Settings) -> None:
    """:raises InputError: when :func:`foreign` finds anything."""
    objects = foreign(kube, settings)
    if objects:
        more = f" and {len(objects) - 5} more" if len(objects) > 5 else ""
        raise InputError(
            "the namespace already holds a Pachyderm that this collection did not deploy",
            where=f"namespace {settings.namespace}",
            why=f"found {', '.join(objects[:5])}{more} without the label {manifests.MANAGED_BY}={manifests.MANAGER}",
            fix="Choose another namespace, or set pachyderm_adopt=true to take these objects over after a backup.",
        )


def refuse_orphaned_data(kube: Kube, settings: Settings) -> None:
    """Refuse settings under which existing metadata or objects would no longer be found.

    pachd on good metadata with another object store becomes Ready, and then drives every pipeline to FAILURE and closes
    open commits empty, for good; a new etcd beside the old volume looks like an empty installation.

    :raises InputError: naming every such setting at once.
    """
    problems: list[str] = []
    record = kube.get(Ref("v1", "ConfigMap", settings.namespace, manifests.INSTALLATION_NAME))
    if record is not None:
        data = record.get("data") or {}
        wanted = {"backend": settings.backend, "host-path": settings.host_path}
        problems += [
            f"{name} was {data[name] or 'empty'} and would become {value or 'empty'}"
            for name, value in wanted.items()
            if name in data and data[name] != value
        ]
    # pachctl's own manifests run etcd as a Deployment where it has a directory of the node or a ready-made volume.
    for kind in ("StatefulSet", "Deployment"):
        live = kube.get(Ref("apps/v1", kind, settings.namespace, "etcd"))
        if live is not None:
            old, new = _etcd_place(live), _etcd_place(_etcd_set(settings))
            problems += _older_etcd(live, settings)
            differing = [name for name in old if old[name] != new[name]]
            problems += [f"etcd's {name} was {old[name]} and would become {new[name]}" for name in differing]
    if problems:
        raise InputError(
            "these settings would leave the installation's data behind",
            where=f"namespace {settings.namespace}",
            why="; ".join(problems),
            fix="Give the values that the installation has. To change them, back it up and restore it into a new one.",
        )


def refuse_half_restored(kube: Kube, namespace: str) -> None:
    """Refuse while a restore is under way, or died: a deployment would start etcd on a volume that is being exchanged.

    :raises InputError: naming the step at which it is.
    """
    journal = read_journal(kube, namespace)
    if journal.unfinished:
        raise InputError(
            "a restore of this installation is not finished",
            where=f"namespace {namespace}",
            why=f"backup {journal.backup}, {journal.state} at the step '{journal.last}'",
            fix="Let it end. Where it died, run it again with the same backup, or undo it (restore_action=undo).",
        )


_ETCD_VERSION = re.compile(r":v?(\d+)\.(\d+)(\.\d+)?")


def _older_etcd(live: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return the problem with an etcd of an older minor version, which does not read what a newer one wrote."""
    images = [str(live["spec"]["template"]["spec"]["containers"][0].get("image", "")), settings.images["etcd"]]
    versions = [_ETCD_VERSION.search(image) for image in images]
    numbers = [(int(version[1]), int(version[2])) for version in versions if version]
    if len(numbers) == 2 and numbers[1] < numbers[0]:
        return [f"etcd's image was {images[0]} and would become {images[1]}, which cannot read newer data"]
    return []


def _etcd_set(settings: Settings) -> Object:
    return next(obj for obj in manifests.component("etcd", settings) if obj["kind"] == "StatefulSet")


def _etcd_place(workload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ties etcd to its data, in words for a message."""
    spec = workload["spec"]
    pod = spec["template"]["spec"]
    mounts = pod["containers"][0].get("volumeMounts") or []
    # "etcd-storage" here and with pachctl; charts have other names.
    called = [mount["name"] for mount in mounts if mount.get("mountPath") == manifests.ETCD_DATA]
    volume: Object = next((item for item in pod.get("volumes") or [] if item["name"] in called), {})
    claims = [claim for claim in spec.get("volumeClaimTemplates") or [] if claim["metadata"]["name"] in called]
    claim = claims[0] if claims else {"metadata": {}, "spec": {}}
    # Old manifests name the class by an annotation.
    old_class = (claim["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    if "hostPath" in volume:
        place = f"the node's directory {volume['hostPath']['path']}"
    elif "persistentVolumeClaim" in volume:
        place = f"the claim {volume['persistentVolumeClaim']['claimName']}"
    else:
        place = "a claim per member"
    return {
        "number of members": spec.get("replicas", 1),
        "volume": place,
        "volume size": claim["spec"].get("resources", {}).get("requests", {}).get("storage", "that of its place"),
        "storage class": claim["spec"].get("storageClassName") or old_class or "the cluster's default",
    }


def deployment_id(kube: Kube, namespace: str) -> str:
    """Return the installation's CLUSTER_DEPLOYMENT_ID, "" where there is none yet.

    The record is the ConfigMap ``pachops-installation``; a pachd that runs without one (adopted, or the record was
    deleted) tells it by its environment.
    """
    record = kube.get(Ref("v1", "ConfigMap", namespace, manifests.INSTALLATION_NAME))
    recorded = ((record or {}).get("data") or {}).get("cluster-deployment-id", "")
    if recorded:
        return str(recorded)
    pachd = kube.get(Ref("apps/v1", "Deployment", namespace, "pachd"))
    for container in (pachd or {}).get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        for variable in container.get("env") or []:
            if variable["name"] == "CLUSTER_DEPLOYMENT_ID":
                return str(variable.get("value") or "")
    return ""


def recorded_pod_patch(kube: Kube, namespace: str) -> str:
    """Return the ``pod_patch`` that the installation's pipelines need, as its deployment wrote it down; "" for none."""
    record = kube.get(Ref("v1", "ConfigMap", namespace, manifests.INSTALLATION_NAME))
    return str(((record or {}).get("data") or {}).get(manifests.POD_PATCH_KEY, ""))


def _with_deployment_id(kube: Kube, settings: Settings, outcome: Outcome, *, check_mode: bool) -> Settings:
    recorded = deployment_id(kube, settings.namespace)
    given = settings.cluster_deployment_id
    if given:
        outcome.id_origin = "given"
        if recorded and recorded != given:
            outcome.warnings.append(
                f"CLUSTER_DEPLOYMENT_ID changes from {recorded} to {given}: every pachctl context that remembers the "
                "old one refuses with 'connected to the wrong cluster' until its user runs "
                "`pachctl config update context NAME --remove-cluster-deployment-id`."
            )
    elif not recorded:
        outcome.id_origin = "generated"
    # pachctl draws its ids in the same form: a random UUID without hyphens.
    outcome.cluster_deployment_id = given or recorded or (UNDRAWN_ID if check_mode else uuid.uuid4().hex)
    return dataclasses.replace(settings, cluster_deployment_id=outcome.cluster_deployment_id)


def _ensure_namespace(kube: Kube, namespace: str, outcome: Outcome, *, check_mode: bool) -> None:
    change = kube.ensure(manifests.namespace_object(namespace), check_mode)
    if change.changed:
        outcome.changes.append(change)


_WORKLOADS = ("Deployment", "StatefulSet")
_BINDINGS = ("RoleBinding", "ClusterRoleBinding")


def _apply(kube: Kube, obj: Object, *, adopt: bool, check_mode: bool) -> Change:
    """Apply one object, whatever somebody made of it by hand."""
    ref = Ref.of(obj)
    live = kube.get(ref) if obj["kind"] in (*_WORKLOADS, *_BINDINGS) else None
    if adopt and live is not None and _has_to_go(live, obj):
        if check_mode:
            return _recreated(kube, obj, live)
        kube.delete(ref, wait=60)
        kube.apply(obj, force=True)
        return compare(ref, live, kube.get(ref))
    rolling = ((live or {}).get("spec", {}).get("strategy") or {}).get("rollingUpdate")
    if live is None or not rolling or "strategy" not in obj["spec"]:
        return kube.apply(obj, check_mode, force=True)
    # An apply leaves fields alone that it does not name, and the API server refuses the two kinds of strategy together.
    repaired = {**live, "spec": {**live["spec"], "strategy": obj["spec"]["strategy"]}}
    if check_mode:
        return compare(ref, live, repaired)
    patch = {"spec": {"strategy": {**obj["spec"]["strategy"], "rollingUpdate": None}}}
    kube.merge(ref, patch)
    kube.apply(obj, force=True)
    return compare(ref, live, kube.get(ref))


def _has_to_go(live: Object, wanted: Object) -> bool:
    """Whether no update turns somebody else's object into ours: selectors and the like cannot change."""
    if ours(live):
        return False
    return live["kind"] in _WORKLOADS or live["roleRef"]["name"] != wanted["roleRef"]["name"]


def _recreated(kube: Kube, obj: Object, live: Object) -> Change:
    """Return what becomes of an object that is deleted and made anew: the dry run of the same under another name."""
    name = obj["metadata"]["name"]
    twin = {**obj, "metadata": {**obj["metadata"], "name": f"{name}-adopted"}}
    made = kube.apply(twin, True).after or twin
    return compare(Ref.of(obj), live, {**made, "metadata": {**made["metadata"], "name": name}})


def _release(kube: Kube, settings: Settings, *, check_mode: bool) -> list[Change]:
    """Delete somebody else's workloads, but not their data, so that ours can take that over.

    pachd goes first, so that it never sees two etcds.  An etcd StatefulSet loses its controller only (fields that
    cannot be updated differ from ours, and the claims' names are the same); a Deployment's pod has to be gone before
    another process may open the directory.

    :returns: the changes of objects for which none of the same kind and name is made.
    """
    changes: list[Change] = []
    for name in ("pachd", "dash", "etcd") if settings.dash else ("pachd", "etcd"):
        ref = Ref("apps/v1", "Deployment", settings.namespace, name)
        live = kube.get(ref)
        if live is None or ours(live):
            continue
        if not check_mode:
            kube.delete(ref, propagation="Foreground")
            wait_gone(kube, ref, 120)
        if name == "etcd":
            changes.append(compare(ref, live, None))
    stateful_set = kube.get(Ref("apps/v1", "StatefulSet", settings.namespace, "etcd"))
    if stateful_set is not None and not ours(stateful_set) and not check_mode:
        kube.delete(Ref.of(stateful_set), wait=60, propagation="Orphan")
    return changes


def _prune(kube: Kube, settings: Settings, *, check_mode: bool) -> list[Change]:
    """Delete what other settings of this installation created and these do not want."""
    changes: list[Change] = []
    for key in manifests.stale(settings):
        ref = Ref(*key)
        if (
            not ref.namespace
            and not settings.cluster_roles
            and kube.can_i([("get", "rbac.authorization.k8s.io", f"{ref.kind.lower()}s", None)])
        ):
            # Who may not read cluster roles did not create one.
            continue
        live = kube.get(ref)
        if live is not None and ours(live):
            changes.append(kube.delete(ref, check_mode))
    return changes
