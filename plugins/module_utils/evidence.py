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
from .etcd.client import EtcdClient
from .installation import Installation, name, observe, pod_ready, restarts
from .kube.client import Ref
from .pachd.answers import Answers, ask
from .pachd.manifests import ETCD_CLIENT_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .kube.client import Kube

Object = dict[str, Any]

DNS_NAMESPACE = "kube-system"
DNS_SERVICE = "kube-dns"
LOG_LINES = 1000


@dataclass(frozen=True)
class EtcdState:
    """What etcd says about itself; sizes in bytes, ``size_in_use`` 0 where the server is too old to tell.

    It exists only where a linearizable read was answered, so a majority of the members is up.
    """

    version: str
    revision: int
    size: int
    size_in_use: int
    members: tuple[str, ...]
    alarms: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """Everything that the checks look at; ``…_trouble`` says why something could not be asked.

    :param wanted_version: the version that the user's variables name, "" where they name none.
    :param stores: namespace to object store of every other pachd in the cluster that is not scaled to zero.
    :param clock_skew: seconds that the API server's clock is ahead of ours.
    """

    installation: Installation
    wanted_version: str = ""
    nodes: Sequence[Object] = ()
    dns_addresses: int | None = None
    clock_skew: float | None = None
    stores: Mapping[str, str] = field(default_factory=dict)
    etcd: EtcdState | None = None
    etcd_cluster_id: str = ""
    etcd_trouble: str = ""
    pachd: Answers | None = None
    pachd_trouble: str = ""
    log: str = ""
    first_words: str = ""
    kubernetes: str = ""
    unseen: Mapping[str, str] = field(default_factory=dict)

    @property
    def stand_in(self) -> bool:
        """Whether pachd calls itself the test double: in its version, and in its first words."""
        return "stand-in" in self.first_words or bool(self.pachd and "standin" in self.pachd.version)


def gather(kube: Kube, namespace: str, version: str = "", timeout: float = 20.0) -> Evidence:
    """Ask everybody once.

    :param version: the version of Pachyderm that is wanted, for the comparison with what runs.
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
        evidence["first_words"] = seen("pachd's log", lambda: _first_words(kube, namespace, pods), "")
    return Evidence(
        installation,
        version,
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
    """Return the end of pachd's log; while it is not ready, that of the container that died before, which knows why."""
    if not pods:
        return ""
    pod = name(pods[0])
    if restarts(pods[0]) and not pod_ready(pods[0]):
        died = kube.logs(namespace, pod, "pachd", tail=LOG_LINES, previous=True)
        if died:
            return died
    return kube.logs(namespace, pod, "pachd", tail=LOG_LINES)


def _first_words(kube: Kube, namespace: str, pods: Sequence[Object]) -> str:
    if not pods:
        return ""
    path = f"{Ref('v1', 'Pod', namespace, name(pods[0])).path()}/log"
    response = kube.request("GET", path, query=[("container", "pachd"), ("limitBytes", "1000")])
    return response.body.decode("utf-8", "replace") if response.status == 200 else ""


def _ask_etcd(kube: Kube, installation: Installation, timeout: float) -> dict[str, Any]:
    pods = [pod for pod in installation.pods("etcd") if pod.get("status", {}).get("phase") == "Running"]
    if not pods:
        return {}
    try:
        with (
            kube.portforward(installation.namespace, name(pods[0]), ETCD_CLIENT_PORT) as address,
            EtcdClient("{}:{}".format(*address), timeout) as client,
        ):
            identity = client.get(b"cluster-id")
            status = client.status()
            state = EtcdState(
                version=status.version,
                revision=status.revision,
                size=status.db_size,
                size_in_use=status.db_size_in_use,
                members=tuple(client.members()),
                alarms=tuple(client.alarms()),
            )
    except PachopsError as refusal:
        return {"etcd_trouble": str(refusal)}
    return {"etcd": state, "etcd_cluster_id": identity.value.decode("utf-8", "replace") if identity else ""}


def _ask_pachd(kube: Kube, installation: Installation, timeout: float) -> dict[str, Any]:
    pod = installation.ready_pod("pachd")
    if not pod:
        return {}
    try:
        return {"pachd": ask(kube, installation.namespace, pod, timeout)}
    except PachopsError as refusal:
        return {"pachd_trouble": str(refusal)}
