# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Everything that can be asked about one installation: the cluster, its neighbours, etcd, and pachd itself.

``gather`` asks once and never stops at the first refusal; doctor and status read the same answers.
"""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import ClusterError, PachopsError
from .etcd.gateway import EtcdGateway, EtcdStatus
from .installation import Installation, name, observe
from .kube.client import Ref
from .pachd.answers import Answers, ask
from .pachd.manifests import ETCD_CLIENT_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .kube.client import Kube

Object = dict[str, Any]

DNS_NAMESPACE = "kube-system"
DNS_SERVICE = "kube-dns"


@dataclass(frozen=True)
class Wanted:
    """What the user's variables say about the installation; empty strings where they say nothing."""

    version: str = ""
    backend: str = ""


@dataclass(frozen=True)
class Evidence:
    """Everything that the checks look at; ``…_trouble`` says why something could not be asked.

    :param stores: namespace to object store of every other pachd in the cluster that is not scaled to zero.
    :param clock_skew: seconds that the API server's clock is ahead of ours.
    """

    installation: Installation
    wanted: Wanted = field(default_factory=Wanted)
    nodes: Sequence[Object] = ()
    dns_addresses: int | None = None
    clock_skew: float | None = None
    stores: Mapping[str, str] = field(default_factory=dict)
    etcd: EtcdStatus | None = None
    etcd_cluster_id: str = ""
    etcd_trouble: str = ""
    pachd: Answers | None = None
    pachd_trouble: str = ""
    log: str = ""
    kubernetes: str = ""
    unseen: Mapping[str, str] = field(default_factory=dict)

    @property
    def stand_in(self) -> bool:
        """Whether pachd's log says that it is the test double, which it does in its first line."""
        return "stand-in" in self.log


def gather(kube: Kube, namespace: str, wanted: Wanted | None = None, timeout: float = 20.0) -> Evidence:
    """Ask everybody once.

    :param timeout: seconds that each question to etcd or pachd may take.
    :raises ClusterError: the Kubernetes API itself does not answer.
    """
    unseen: dict[str, str] = {}

    def seen(what: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except ClusterError as refusal:
            unseen[what] = str(refusal)
            return otherwise

    installation = observe(kube, namespace)
    evidence: dict[str, Any] = {
        "kubernetes": seen("the API server's version", kube.server_version, ""),
        "nodes": seen("nodes", lambda: kube.list("v1", "Node"), []),
        "dns_addresses": seen("cluster DNS", lambda: _dns_addresses(kube), None),
        "clock_skew": seen("the API server's clock", lambda: _clock_skew(kube), None),
    }
    if installation.pachd is not None:
        evidence["stores"] = seen("other installations", lambda: _other_stores(kube, namespace), {})
        pods = installation.pods("pachd")
        evidence["log"] = seen("pachd's log", lambda: _pachd_log(kube, namespace, pods), "")
    return Evidence(
        installation,
        wanted or Wanted(),
        **evidence,
        **_ask_etcd(kube, installation, timeout),
        **_ask_pachd(kube, installation, timeout),
        unseen={**installation.unreadable, **unseen},
    )


def _dns_addresses(kube: Kube) -> int | None:
    """Return the number of ready addresses behind the cluster's DNS, None where it has another name."""
    if kube.get(Ref("v1", "Service", DNS_NAMESPACE, DNS_SERVICE)) is None:
        return None
    slices = kube.list(
        "discovery.k8s.io/v1", "EndpointSlice", DNS_NAMESPACE, labels=f"kubernetes.io/service-name={DNS_SERVICE}"
    )
    return sum(
        len(endpoint.get("addresses") or [])
        for item in slices
        for endpoint in item.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
    )


def _clock_skew(kube: Kube) -> float | None:
    before = time.time()
    stamp = kube.request("GET", "/version").headers.get("date", "")
    after = time.time()
    if not stamp:
        return None
    theirs = email.utils.parsedate_to_datetime(stamp).timestamp()
    # The header has whole seconds, rounded down.
    return theirs + 0.5 - (before + after) / 2


def _other_stores(kube: Kube, namespace: str) -> dict[str, str]:
    kinds = (("apps/v1", "Deployment"), ("v1", "ConfigMap"), ("v1", "Secret"))
    deployments = kube.list("apps/v1", "Deployment", labels="suite=pachyderm,app=pachd")
    others = {item["metadata"]["namespace"] for item in deployments if (item["spec"].get("replicas") or 0) > 0}
    stores = {other: observe(kube, other, kinds).store for other in sorted(others - {namespace})}
    return {other: store for other, store in stores.items() if store}


def _pachd_log(kube: Kube, namespace: str, pods: Sequence[Object]) -> str:
    if not pods:
        return ""
    pod = name(pods[0])
    # A container that has just been started again says nothing yet; its predecessor knows why it died.
    return kube.logs(namespace, pod, "pachd", tail=400) or kube.logs(namespace, pod, "pachd", tail=400, previous=True)


def _ask_etcd(kube: Kube, installation: Installation, timeout: float) -> dict[str, Any]:
    pods = [pod for pod in installation.pods("etcd") if pod.get("status", {}).get("phase") == "Running"]
    if not pods:
        return {}
    try:
        with kube.portforward(installation.namespace, name(pods[0]), ETCD_CLIENT_PORT) as (host, port):
            gateway = EtcdGateway(host, port, timeout)
            identity = gateway.value(b"cluster-id") or b""
            return {"etcd": gateway.status(), "etcd_cluster_id": identity.decode("utf-8", "replace")}
    except PachopsError as refusal:
        return {"etcd_trouble": str(refusal)}


def _ask_pachd(kube: Kube, installation: Installation, timeout: float) -> dict[str, Any]:
    pod = installation.ready_pod("pachd")
    if not pod:
        return {}
    try:
        return {"pachd": ask(kube, installation.namespace, pod, timeout)}
    except PachopsError as refusal:
        return {"pachd_trouble": str(refusal)}
