# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The deployment id, by which users' pachctl know their cluster: another one locks them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kube.client import Ref
from ..kube.quiesce import pachd_ref
from ..pachd.manifests import INSTALLATION_NAME

if TYPE_CHECKING:
    from ..kube.client import Kube


def identify(kube: Kube, namespace: str, deployment_id: str) -> None:
    """Give an installation the deployment id that users' pachctl remember: in the record, and to pachd."""
    record = Ref("v1", "ConfigMap", namespace, INSTALLATION_NAME)
    if kube.get(record) is not None:
        kube.merge(record, {"data": {"cluster-deployment-id": deployment_id}})
    ref = pachd_ref(namespace)
    pachd = kube.get(ref)
    if pachd is None:
        return
    containers = pachd["spec"]["template"]["spec"]["containers"]
    for container in containers:
        for variable in container.get("env") or []:
            if variable["name"] == "CLUSTER_DEPLOYMENT_ID":
                variable["value"] = deployment_id
    kube.merge(ref, {"spec": {"template": {"spec": {"containers": containers}}}})
