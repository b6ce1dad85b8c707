# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Whether a local cluster works, asked of the cluster itself.

What the API server has stored is not enough: after everything was killed it still calls the node ready and the pods
running, for as long as nobody tells it otherwise.  So the kubelet must have reported since, and cluster DNS answer.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WaitError
from ..progress import Progress

NAMESPACE = "kube-system"
DNS_SELECTOR = "k8s-app%3Dkube-dns"
PROVISIONER_SELECTOR = "app%3Dlocal-path-provisioner"
_SECONDS_BETWEEN = 0.5
_SECONDS_PER_REQUEST = 5.0
# The kubelet renews its lease every 10 s.
_LEASE_SECONDS = 25.0


class NotYetError(Exception):
    """Something is not there yet; the message says what."""


@dataclass(frozen=True)
class Cluster:
    """A local cluster's API server, addressed with the administrator's certificate in ``pki``."""

    address: str
    node: str
    pki: Path
    port: int = 6443

    def get(self, path: str) -> bytes:
        """Return the body of ``path``.

        :raises NotYetError: when the API server cannot be reached or does not answer 200.
        """
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        url = f"https://{self.address}:{self.port}{path}"
        # Addressed directly: a proxy of the environment cannot reach this machine's own network.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(url, timeout=_SECONDS_PER_REQUEST) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace").strip()
            # Refusals are Status objects, health checks are plain lines of which the last one sums up.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["message"]
            last = text.splitlines()[-1] if text else ""
            raise NotYetError(f"{path.partition('?')[0]}: {error.code} {last[:200]}") from error
        except (OSError, ValueError) as error:
            raise NotYetError(f"the API server does not answer: {getattr(error, 'reason', error)}") from error

    def read(self, path: str) -> dict[str, Any]:
        """Return the object or list at ``path``."""
        document: dict[str, Any] = json.loads(self.get(path))
        return document


def check_api(cluster: Cluster) -> None:
    """Check that the API server is ready."""
    cluster.get("/readyz")


def check_node(cluster: Cluster, since: float) -> None:
    """Check that the node is ready and its kubelet has reported after ``since`` (seconds since the epoch)."""
    leases = cluster.read("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")["items"]
    lease = next((lease for lease in leases if lease["metadata"]["name"] == cluster.node), None)
    if lease is None:
        raise NotYetError("the kubelet has not registered the node")
    renewed = datetime.datetime.fromisoformat(lease["spec"]["renewTime"].replace("Z", "+00:00")).timestamp()
    if renewed < since or time.time() - renewed > _LEASE_SECONDS:
        raise NotYetError("the kubelet has not reported yet")
    node = cluster.read(f"/api/v1/nodes/{cluster.node}")
    ready = [entry for entry in node["status"].get("conditions", []) if entry["type"] == "Ready"]
    if not ready or ready[0]["status"] != "True":
        raise NotYetError(f"the node is not ready: {ready[0].get('message', '') if ready else 'no condition'}")


def check_addons(cluster: Cluster) -> None:
    """Check that cluster DNS answers from its pod, and that the volume provisioner's pod is ready."""
    dns = _ready_pod(cluster, "cluster DNS", DNS_SELECTOR)
    cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods/http:{dns}:8181/proxy/ready")
    _ready_pod(cluster, "the volume provisioner", PROVISIONER_SELECTOR)


def _ready_pod(cluster: Cluster, what: str, selector: str) -> str:
    pods = cluster.read(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}")["items"]
    seen = f"{what} has no pod"
    for pod in pods:
        status = pod.get("status", {})
        conditions = {entry["type"]: entry for entry in status.get("conditions", [])}
        if conditions.get("Ready", {}).get("status") == "True" and "deletionTimestamp" not in pod["metadata"]:
            return str(pod["metadata"]["name"])
        waiting = [
            entry.get("state", {}).get("waiting", {}).get("message")
            or entry.get("state", {}).get("waiting", {}).get("reason", "")
            for entry in status.get("containerStatuses", [])
        ]
        why = conditions.get("PodScheduled", {}).get("message", "") or "; ".join(text for text in waiting if text)
        seen = f"{what} is not ready: {why or status.get('phase', 'unknown')}"
    raise NotYetError(seen)


def wait(cluster: Cluster, *, addons: bool, since: float, seconds: float, progress: Progress) -> None:
    """Wait until the cluster works.

    :param addons: also wait for the node, cluster DNS and the volume provisioner; without, the API server is enough.
    :param since: seconds since the epoch; what the kubelet reported earlier counts for nothing.
    :raises WaitError: after ``seconds``, with what was missing last.
    """
    deadline = time.monotonic() + seconds
    progress.stage("local cluster", "wait for the API server")
    while True:
        try:
            check_api(cluster)
            if addons:
                check_node(cluster, since)
                check_addons(cluster)
        except NotYetError as problem:
            if time.monotonic() > deadline:
                raise WaitError(
                    "the local cluster did not become ready",
                    where=cluster.node,
                    why=f"after {seconds:.0f} s: {problem}",
                ) from problem
            progress.update(detail=str(problem))
            time.sleep(_SECONDS_BETWEEN)
        else:
            return
