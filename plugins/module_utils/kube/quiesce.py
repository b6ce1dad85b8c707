# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Pause an installation so that nothing writes to its etcd or its bucket, and start it again.

pachd is scaled to zero first, since it would scale its workers up again; then every ReplicationController of workers.
``stop pipeline`` is no way to do it: it rewrites provenance (``src/server/pps/server`` of v1.13.4).  How many of each
there were stands in an annotation of pachd's Deployment, written together with its number of replicas, so
whoever comes after a run that died finds out.  Starting again is scaling pachd up: it brings its workers back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ClusterError, WaitError
from ..progress import Progress
from .client import Ref
from .wait import wait_for

if TYPE_CHECKING:
    from .client import Kube, Object

#: On pachd's Deployment while it is paused: JSON with ``by``, ``pachd`` and ``workers``.
PAUSED_ANNOTATION = "pachops.io/paused"
#: ``by`` of an installation that was deployed without starting pachd.
DEPLOYED = "deploy"
_PACHD = "suite=pachyderm,app=pachd"
_WORKERS = "suite=pachyderm,component=worker"
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Paused:
    """What runs when the installation is not paused.

    :param by: who paused it (``restore``, ``migrate``, ``deploy`` …), for whoever finds it paused.
    :param pachd: replicas of pachd.
    :param workers: ReplicationController to its replicas.
    """

    by: str
    pachd: int = 1
    workers: Mapping[str, int] = field(default_factory=dict)

    def annotation(self) -> str:
        """Return the annotation's value."""
        return json.dumps({"by": self.by, "pachd": self.pachd, "workers": dict(self.workers)}, sort_keys=True)


def pause(kube: Kube, namespace: str, by: str, *, timeout: float = 180.0, progress: Progress | None = None) -> Paused:
    """Scale pachd and the workers to zero and return when none of their pods is left.

    Where it is paused already, what was remembered then is kept.

    :param timeout: seconds for the pods to end.
    :raises WaitError: pods did not end; it stays paused.
    """
    progress = progress or Progress()
    ref = pachd_ref(namespace)
    deployment = kube.get(ref)
    before = paused_of(deployment)
    counts = {
        str(each["metadata"]["name"]): int(each["spec"].get("replicas") or 0) for each in _workers(kube, namespace)
    }
    remembered = before or Paused(by, _replicas(deployment), counts)
    deadline = time.monotonic() + timeout
    if deployment is not None and (before is None or _replicas(deployment)):
        progress.update(detail="scaling pachd to zero")
        annotations = {PAUSED_ANNOTATION: remembered.annotation()}
        kube.merge(ref, {"metadata": {"annotations": annotations}, "spec": {"replicas": 0}})
    await_no_pods(kube, namespace, _PACHD, "pachd", deadline - time.monotonic(), progress)
    # Listed again: until its last moment pachd makes new ones.
    for worker in _workers(kube, namespace):
        if worker["spec"].get("replicas"):
            kube.scale(Ref.of(worker), 0)
    await_no_pods(kube, namespace, _WORKERS, "workers", deadline - time.monotonic(), progress)
    return remembered


def resume(
    kube: Kube, namespace: str, *, timeout: float = 600.0, progress: Progress | None = None, wait: bool = True
) -> bool:
    """Start pachd again and return whether it was paused; pachd brings its workers back by itself.

    :param timeout: seconds for pachd to become ready.
    :param wait: return only when pachd is ready.
    :raises WaitError: pachd is not ready; the message has the cause as far as the cluster tells it.
    """
    ref = pachd_ref(namespace)
    remembered = paused_of(kube.get(ref))
    if remembered is None:
        return False
    # What was found at zero without a word was stopped by a person, who wants it back now.
    annotations = {PAUSED_ANNOTATION: None}
    kube.merge(ref, {"metadata": {"annotations": annotations}, "spec": {"replicas": max(1, remembered.pachd)}})
    if wait:
        wait_for(kube, ref, timeout, progress)
    return True


def paused(kube: Kube, namespace: str) -> Paused | None:
    """Return what runs when the installation is not paused; None where it is not."""
    return paused_of(kube.get(pachd_ref(namespace)))


def paused_of(deployment: Object | None) -> Paused | None:
    """Return what the Deployment of pachd says of its pause; None where it is not paused.

    :raises ClusterError: the annotation is none that this collection wrote.
    """
    text = ((deployment or {}).get("metadata", {}).get("annotations") or {}).get(PAUSED_ANNOTATION)
    if not text:
        return None
    try:
        data = json.loads(text)
        workers = {str(name): int(count) for name, count in data["workers"].items()}
        return Paused(str(data["by"]), int(data["pachd"]), workers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClusterError(
            "cannot read how many replicas the paused installation had",
            where=f"annotation {PAUSED_ANNOTATION} of Deployment pachd",
            why=f"{type(error).__name__}: {text[:200]}",
            fix="Remove the annotation and scale pachd to 1 by hand.",
        ) from None


def pachd_ref(namespace: str) -> Ref:
    """Return the reference to pachd's Deployment."""
    return Ref("apps/v1", "Deployment", namespace, "pachd")


def _replicas(deployment: Object | None) -> int:
    if deployment is None:
        return 0
    replicas = deployment["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _workers(kube: Kube, namespace: str) -> list[Object]:
    return kube.list("v1", "ReplicationController", namespace, labels=_WORKERS)


def await_no_pods(kube: Kube, namespace: str, labels: str, words: str, timeout: float, progress: Progress) -> None:
    """Return when no pod with these labels runs any more.

    :param words: what they are, for the message.
    :param timeout: seconds.
    :raises WaitError: some have not ended; the message names them with their nodes.
    """
    deadline = time.monotonic() + timeout
    while True:
        pods = kube.list("v1", "Pod", namespace, labels=labels)
        # A pod that has ended writes no more, whatever keeps its object.
        left = [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
        if not left:
            return
        names = ", ".join(f"{pod['metadata']['name']} on {pod['spec'].get('nodeName', 'no node')}" for pod in left)
        progress.update(detail=f"waiting for the end of {names}")
        if time.monotonic() >= deadline:
            raise WaitError(
                f"pods of {words} have not ended",
                where=f"namespace {namespace}",
                why=f"still there: {names}",
                fix="Look at the pod's node: a node that is gone keeps its pods until it or they are deleted "
                "(kubectl delete pod NAME --force, once it is certain that the node is off). Then run this again.",
            )
        time.sleep(_POLL)
