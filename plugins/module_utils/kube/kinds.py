# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Which Kubernetes kinds the collection handles, and where the API serves them.

A table instead of API discovery: the set is closed, every supported Kubernetes (1.28 to 1.34) serves all of it, and
discovery would cost several round trips before the first useful one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(NamedTuple):
    """How the API serves one kind: the plural in its path, and whether its objects live in namespaces."""

    plural: str
    namespaced: bool = True


KINDS: Mapping[tuple[str, str], Kind] = {
    ("v1", "Namespace"): Kind("namespaces", False),
    ("v1", "Node"): Kind("nodes", False),
    ("v1", "PersistentVolume"): Kind("persistentvolumes", False),
    ("v1", "ConfigMap"): Kind("configmaps"),
    ("v1", "Endpoints"): Kind("endpoints"),
    ("v1", "Event"): Kind("events"),
    ("v1", "LimitRange"): Kind("limitranges"),
    ("v1", "PersistentVolumeClaim"): Kind("persistentvolumeclaims"),
    ("v1", "Pod"): Kind("pods"),
    ("v1", "ReplicationController"): Kind("replicationcontrollers"),
    ("v1", "ResourceQuota"): Kind("resourcequotas"),
    ("v1", "Secret"): Kind("secrets"),
    ("v1", "Service"): Kind("services"),
    ("v1", "ServiceAccount"): Kind("serviceaccounts"),
    ("apps/v1", "ControllerRevision"): Kind("controllerrevisions"),
    ("apps/v1", "DaemonSet"): Kind("daemonsets"),
    ("apps/v1", "Deployment"): Kind("deployments"),
    ("apps/v1", "ReplicaSet"): Kind("replicasets"),
    ("apps/v1", "StatefulSet"): Kind("statefulsets"),
    ("batch/v1", "CronJob"): Kind("cronjobs"),
    ("batch/v1", "Job"): Kind("jobs"),
    ("coordination.k8s.io/v1", "Lease"): Kind("leases"),
    ("discovery.k8s.io/v1", "EndpointSlice"): Kind("endpointslices"),
    ("networking.k8s.io/v1", "NetworkPolicy"): Kind("networkpolicies"),
    ("policy/v1", "PodDisruptionBudget"): Kind("poddisruptionbudgets"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): Kind("clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): Kind("clusterrolebindings", False),
    ("rbac.authorization.k8s.io/v1", "Role"): Kind("roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): Kind("rolebindings"),
    ("storage.k8s.io/v1", "StorageClass"): Kind("storageclasses", False),
    ("storage.k8s.io/v1", "VolumeAttachment"): Kind("volumeattachments", False),
}


def kind_of(api_version: str, kind: str) -> Kind:
    """Return the table's row; ``ValueError`` for a kind outside the table, which only our own code can cause."""
    try:
        return KINDS[(api_version, kind)]
    except KeyError:
        raise ValueError(f"{api_version} {kind} is not in the table of kinds") from None


def collection_path(api_version: str, kind: str, namespace: str | None) -> str:
    """Return the API path that lists the objects of a kind: in one namespace, or everywhere when that is None."""
    row = kind_of(api_version, kind)
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if row.namespaced and namespace else ""
    return f"{root}{scope}/{row.plural}"


class Ref(NamedTuple):
    """Names one object; ``namespace`` is None for kinds outside namespaces."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    @classmethod
    def of(cls, obj: Mapping[str, Any], namespace: str | None = None) -> Ref:
        """Return the reference to ``obj`` (a manifest); ``namespace`` fills in where the manifest names none."""
        metadata = obj["metadata"]
        namespaced = kind_of(obj["apiVersion"], obj["kind"]).namespaced
        return cls(
            obj["apiVersion"],
            obj["kind"],
            (metadata.get("namespace") or namespace) if namespaced else None,
            metadata["name"],
        )

    def path(self) -> str:
        """Return the object's API path; ``ValueError`` where a namespaced object comes without its namespace."""
        row = kind_of(self.api_version, self.kind)
        if row.namespaced and not self.namespace:
            raise ValueError(f"{self.kind} {self.name} needs a namespace")
        return f"{collection_path(self.api_version, self.kind, self.namespace)}/{quote(self.name, safe='')}"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"
