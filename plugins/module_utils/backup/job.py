# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A backup that a Job in the cluster makes, beside etcd, where this host neither reaches pods nor may forward ports.

The Job runs the same engine from the runner image and writes the set to the store itself.  Its options and credentials
come in a Secret that belongs to the Job, as do its service account and rights, so that all of it goes with the Job:
when it has ended, and without this host too, since a Job that nobody waits for ends and is deleted after a time.
Progress and result come back as JSON lines of its log: events as in :mod:`progress`, then ``{"result": …}`` or
``{"error": …}``.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackupError, ClusterError, InputError, PachopsError, WaitError
from ..installation import name
from ..kube.client import Ref
from ..kube.runner import VARIABLES, pod_spec
from ..kube.wait import container_statuses, wait_for
from ..pachd.manifests import MANAGED_BY, MANAGER, STORAGE_SECRET
from ..progress import Progress
from .create import Wishes
from .lock import LOCK

if TYPE_CHECKING:
    from ..kube.client import Kube

Object = dict[str, Any]

CONFIG = "backup.json"
PURPOSE = "pachops.pachyderm/purpose"
_PURPOSE = "backup-job"
#: Where the runner image, and images that ansible-builder made, keep libraries and collections.
_PATHS = "/opt/pachops/lib:/opt/pachops/collections:/usr/share/ansible/collections"
_ENTRY = "ansible_collections.pachops.pachyderm.plugins.module_utils.backup.in_job"
_KEPT = 600  # seconds for which an ended Job stays where nobody took it away
_ORPHAN = dt.timedelta(hours=1)
_POLL = 1.0
_LINES = 200
_RBAC = "rbac.authorization.k8s.io/v1"
_FILES = {
    "store_access": ("credentials_file", "ca_file"),
    "source_access": ("credentials_file", "ca_file"),
    "etcd": ("ca_file", "cert_file", "key_file"),
}
_CARRIED = ("namespace", "store", "source_path", "if_changed", "lock_wait")


def run_job(params: Mapping[str, Any], kube: Kube, wishes: Wishes, progress: Progress) -> dict[str, Any]:
    """Let a Job make the backup, and return what :func:`.run.run_backup` returned there.

    :param params: the options of ``etcd_backup``.
    :raises PachopsError: the Job's own error, or why it did not come to its end.
    """
    runner, namespace = params["job"], params["namespace"]
    refuse(params)
    run = f"pachops-backup-{secrets.token_hex(4)}"
    files = carried(params, wishes)
    _sweep(kube, namespace)
    made: list[Ref] = []
    try:
        account = runner["service_account"]
        for obj in () if account else _identity(run, namespace):
            made.append(Ref.of(obj))
            kube.apply(obj)
        job = _job(run, namespace, runner, account or run)
        made.insert(0, Ref.of(job))
        kube.apply(job)
        # The pod waits for its Secret, which thus never exists without the Job that it goes with.
        uid = (kube.get(Ref.of(job)) or job)["metadata"].get("uid", "")
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": run, "uid": uid}
        made.append(Ref("v1", "Secret", namespace, run))
        kube.apply(_secret(run, namespace, files, owner))
        for ref in made[1:-1]:
            kube.merge(ref, {"metadata": {"ownerReferences": [owner]}})
        progress.stage("job", f"{namespace}/{run}")
        return _follow(kube, Ref.of(job), float(runner["timeout"]), progress)
    finally:
        for ref in made:
            # What cannot be deleted now goes with the Job, which deletes itself.
            with contextlib.suppress(PachopsError):
                kube.delete(ref)


def rules(storage_secret: str, *more: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return what a Role has to allow so that a pod can back up its namespace's installation by etcd's address.

    :param storage_secret: the name of the only secret that is read.
    :param more: rules that this run needs besides.
    """
    return [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps", "replicationcontrollers", "persistentvolumeclaims"],
            "verbs": ["list"],
        },
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [storage_secret], "verbs": ["get"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [LOCK],
            "verbs": ["get", "patch", "delete"],
        },
        *more,
    ]


def refuse(params: Mapping[str, Any]) -> None:
    """Refuse what no pod could do.

    :raises InputError: the store or the objects are a directory that is not mounted in the Job.
    """
    mounts = [str(each.get("mountPath", "")) for each in params["job"]["volume_mounts"]]
    for option in ("store", "source_path"):
        place = params[option]
        if not place or "://" in place:
            continue
        if not any(Path(place).is_relative_to(mount) for mount in mounts if mount):
            raise InputError(
                f"the Job has no directory {place}",
                where=option,
                why=f"mounted in it are: {', '.join(mounts) or 'none'}",
                fix="Use a bucket, or mount a volume with the options volumes and volume_mounts of job.",
            )


def carried(params: Mapping[str, Any], wishes: Wishes) -> dict[str, bytes]:
    """Return the files of the Job's Secret: the options, and the files of this host that they name."""
    config: dict[str, Any] = {each: params[each] for each in _CARRIED}
    files: dict[str, bytes] = {}
    for option, paths in _FILES.items():
        config[option] = dict(params[option] or {})
        for each in paths:
            path = config[option].get(each)
            if path:
                key = f"{option}.{each}"
                files[key] = _content(path)
                config[option][each] = f"{VARIABLES}/{key}"
    config["recipients"], config["identities"] = list(wishes.recipients), list(wishes.identities)
    config["tools"] = dict(wishes.tools)
    return {CONFIG: json.dumps(config).encode(), **files}


def _content(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise InputError("cannot read a file", where=path, why=error.strerror or str(error)) from None


def _metadata(run: str, namespace: str, **more: Any) -> Object:
    return {"name": run, "namespace": namespace, "labels": {MANAGED_BY: MANAGER, PURPOSE: _PURPOSE}, **more}


def _identity(run: str, namespace: str) -> Iterator[Object]:
    """Yield a service account that may do what the backup does, and nothing else."""
    metadata = _metadata(run, namespace)
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    yield {"apiVersion": _RBAC, "kind": "Role", "metadata": metadata, "rules": list(rules(STORAGE_SECRET))}
    yield {
        "apiVersion": _RBAC,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": run},
        "subjects": [{"kind": "ServiceAccount", "name": run, "namespace": namespace}],
    }


def _secret(run: str, namespace: str, files: Mapping[str, bytes], owner: Mapping[str, str]) -> Object:
    data = {key: base64.b64encode(content).decode() for key, content in files.items()}
    metadata = _metadata(run, namespace, ownerReferences=[owner])
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}


def _job(run: str, namespace: str, runner: Mapping[str, Any], account: str) -> Object:
    metadata = _metadata(run, namespace)
    container = {
        "name": "backup",
        "command": ["/usr/bin/python3", "-m", _ENTRY, f"{VARIABLES}/{CONFIG}"],
        "env": [{"name": "PYTHONPATH", "value": _PATHS}],
    }
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": int(runner["timeout"]),
        "ttlSecondsAfterFinished": _KEPT,
        "template": {
            "metadata": {"labels": metadata["labels"]},
            "spec": pod_spec(runner, account, run, container),
        },
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _sweep(kube: Kube, namespace: str) -> None:
    """Remove what a run left that was killed before its Job could own it; none of it holds a secret."""
    before = (dt.datetime.now(dt.timezone.utc) - _ORPHAN).strftime("%Y-%m-%dT%H:%M:%SZ")
    for version, kind in (("v1", "ServiceAccount"), (_RBAC, "RoleBinding"), (_RBAC, "Role")):
        with contextlib.suppress(ClusterError):
            for each in kube.list(version, kind, namespace, labels=f"{PURPOSE}={_PURPOSE}"):
                metadata = each["metadata"]
                if not metadata.get("ownerReferences") and metadata.get("creationTimestamp", "") < before:
                    kube.delete(Ref.of(each))


def _follow(kube: Kube, job: Ref, timeout: float, progress: Progress) -> dict[str, Any]:
    log = _Log(kube, job, progress)
    ended = threading.Event()
    reader = threading.Thread(target=log.read_until, args=(ended,), name="job's log", daemon=True)
    reader.start()
    trouble: WaitError | None = None
    try:
        # The API server ends a Job that takes longer; what is added is for an image that has to be pulled.
        wait_for(kube, job, timeout + 300.0, Progress(""))
    except WaitError as error:
        trouble = error
    finally:
        ended.set()
        reader.join()
    log.read()
    if log.result is not None:
        return log.result
    if log.error is not None:
        raise BackupError(
            log.error.get("what") or "the backup failed in its Job",
            where=log.error.get("where", ""),
            why=log.error.get("why", ""),
            fix=log.error.get("fix", ""),
        )
    ending = log.ending()
    fix = trouble.fix if trouble else "Look at the log of its pod."
    if "OOMKilled" in ending:
        fix = "Raise the memory in the option resources of job; a backup takes about 200 MB."
    elif trouble and "DeadlineExceeded" in trouble.why:
        fix = "Raise the option timeout of job."
    raise BackupError(
        trouble.what if trouble and not ending else "the backup's Job did not come to its end",
        where=trouble.where if trouble else str(job),
        why="; ".join(filter(None, [ending, trouble.why if trouble else "its log says no result", log.trouble])),
        fix=fix,
    )


class _Log:
    """What the Job's pod has said so far."""

    def __init__(self, kube: Kube, job: Ref, progress: Progress) -> None:
        self._kube = kube
        self._job = job
        self._progress = progress
        self._last = 0.0
        self.result: dict[str, Any] | None = None
        self.error: dict[str, str] | None = None
        self.trouble = ""

    def read_until(self, ended: threading.Event) -> None:
        while not ended.wait(_POLL):
            self.read()

    def _pods(self) -> Sequence[Object]:
        return self._kube.list("v1", "Pod", self._job.namespace, labels=f"job-name={self._job.name}")

    def read(self) -> None:
        """Pass on what is new; a log that cannot be read is told of where the result is missed."""
        try:
            for pod in self._pods():
                for line in self._kube.logs(str(self._job.namespace), name(pod), tail=_LINES).splitlines():
                    self._take(line)
            self.trouble = ""
        except ClusterError as error:
            self.trouble = str(error)

    def _take(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        if isinstance(said.get("result"), dict):
            self.result = said["result"]
        elif isinstance(said.get("error"), dict):
            self.error = said["error"]
        elif isinstance(said.get("time"), float) and said["time"] > self._last:
            self._last = said["time"]
            self._progress.relay(said)

    def ending(self) -> str:
        """Return how the container ended, as far as that is known."""
        with contextlib.suppress(ClusterError):
            for pod in self._pods():
                if pod.get("status", {}).get("reason"):
                    return f"{pod['status']['reason']}: {pod['status'].get('message', '')}".strip(": ")
                for status in container_statuses(pod):
                    ended = status.get("state", {}).get("terminated")
                    if ended:
                        words = f"its container ended: {ended.get('reason', '')}, exit code {ended.get('exitCode')}"
                        return f"{words}: {ended['message']}" if ended.get("message") else words
        return ""


def speak(line: Callable[[str], object] = sys.stdout.write) -> Callable[[Mapping[str, Any]], None]:
    """Return what the Job's side writes its lines with."""

    def say(event: Mapping[str, Any]) -> None:
        line(json.dumps(event) + "\n")
        sys.stdout.flush()

    return say
