# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation's outline in a real cluster: a real etcd with a cluster id, and a pachd that is scaled to zero."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube

_LABELS = {"suite": "pachyderm"}


def workload(kind: str, app: str, namespace: str, container: dict[str, Any], replicas: int) -> dict[str, Any]:
    """Return a Deployment or StatefulSet that passes for Pachyderm's own."""
    labels = {**_LABELS, "app": app}
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": app, **container}]},
        },
    }
    if kind == "StatefulSet":
        spec["serviceName"] = app
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": app, "namespace": namespace, "labels": labels},
        "spec": spec,
    }


def image(kube: Kube, part: str) -> str:
    """Return the name of an image that the nodes have, and whose name contains ``part``."""
    found = [
        name
        for node in kube.list("v1", "Node")
        for entry in node["status"]["images"]
        for name in entry.get("names") or ()
        if part in name and "@" not in name
    ]
    assert found, f"no image of {part} is on the node"
    return str(found[0])


def outline(kube: Kube, namespace: str, cluster_id: str) -> None:
    """Put it into the namespace, and return when etcd answers."""
    etcd: dict[str, Any] = {
        "imagePullPolicy": "Never",
        "image": image(kube, "etcd"),
        "args": ["etcd", "--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://127.0.0.1:2379"],
        "readinessProbe": {"tcpSocket": {"port": 2379}, "periodSeconds": 1},
    }
    kube.apply(workload("StatefulSet", "etcd", namespace, etcd, 1))
    pachd = {"image": "none", "env": [{"name": "STORAGE_BACKEND", "value": "LOCAL"}]}
    kube.apply(workload("Deployment", "pachd", namespace, pachd, 0))
    metadata = {"name": "pachyderm-storage-secret", "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    end = time.monotonic() + 120
    while not observe(kube, namespace).ready_pod("etcd"):
        assert time.monotonic() < end, kube.list("v1", "Pod", namespace)
        time.sleep(0.3)
    with kube.portforward(namespace, "etcd-0", 2379) as address, EtcdClient("{}:{}".format(*address)) as client:
        client.put(b"cluster-id", cluster_id.encode())
