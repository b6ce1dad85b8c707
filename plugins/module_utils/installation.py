# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""One installation of Pachyderm as the cluster shows it: what doctor, status and remove look at.

``observe`` reads everything once.  The rest is pure, so that every reader judges the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import ClusterError
from .kube.apply import data_of
from .kube.client import Ref
from .pachd.manifests import ETCD_DATA, INSTALLATION_LABEL, INSTALLATION_NAME, MANAGED_BY, MANAGER, STORAGE_SECRET
from .pachd.settings import STORAGE_BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .kube.client import Kube

Object = dict[str, Any]

NAMESPACED: tuple[tuple[str, str], ...] = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("v1", "ReplicationController"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)
CLUSTER_WIDE: tuple[tuple[str, str], ...] = (
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
)

# STORAGE_BACKEND of pachd -> the user's word for it; "azure" is not deployed by this collection, but may be found.
BACKENDS: Mapping[str, str] = {**{value: key for key, value in STORAGE_BACKENDS.items()}, "MICROSOFT": "azure"}
# Keys of the storage secret that name the bucket and the endpoint (src/server/pkg/obj/obj.go upstream).
BUCKET_KEYS: Mapping[str, tuple[str, str]] = {
    "gcp": ("google-bucket", ""),
    "aws": ("amazon-bucket", "custom-endpoint"),
    "minio": ("minio-bucket", "minio-endpoint"),
    "azure": ("microsoft-container", "microsoft-id"),
}


@dataclass(frozen=True)
class Variable:
    """One environment variable of a container: its value as far as it is known, and where it comes from.

    ``value`` is None for what only the kubelet knows (field references) and for keys that do not exist;
    ``source`` is ``value``, ``field``, ``secret:<name>/<key>`` or ``configmap:<name>/<key>``.
    """

    value: str | None
    source: str


def labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of an object, an empty mapping where it has none."""
    found: Mapping[str, str] = obj.get("metadata", {}).get("labels") or {}
    return found


def name(obj: Mapping[str, Any]) -> str:
    """Return the name of an object."""
    return str(obj["metadata"]["name"])


def ours(obj: Mapping[str, Any]) -> bool:
    """Return whether this collection made the object."""
    return labels(obj).get(MANAGED_BY) == MANAGER


def decoded(secret: Mapping[str, Any]) -> dict[str, str]:
    """Return the data of a Secret as text; bytes that are no text are replaced."""
    return {key: value.decode("utf-8", "replace") for key, value in data_of(secret).items()}


@dataclass(frozen=True)
class Installation:
    """What one namespace holds.

    :param namespace_object: the Namespace, or None where it does not exist or may not be read.
    :param objects: kind to the objects of that kind in the namespace (cluster-wide kinds: those that name it).
    :param unreadable: kind to the reason why its objects could not be listed.
    """

    namespace: str
    namespace_object: Object | None
    objects: Mapping[str, list[Object]]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[Object]:
        """Return the objects of a kind, ordered by name."""
        return sorted(self.objects.get(kind, []), key=name)

    def find(self, kind: str, wanted: str) -> Object | None:
        """Return the object of that kind and name, or None."""
        return next((obj for obj in self.objects.get(kind, []) if name(obj) == wanted), None)

    @property
    def pachd(self) -> Object | None:
        """The Deployment of pachd."""
        return self.find("Deployment", "pachd")

    @property
    def etcd(self) -> Object | None:
        """The StatefulSet of etcd, or the Deployment that ``pachctl deploy local`` made."""
        return self.find("StatefulSet", "etcd") or self.find("Deployment", "etcd")

    @property
    def record(self) -> Object | None:
        """The ConfigMap with what outlives a redeploy; it stays when everything that runs was removed."""
        found = self.find("ConfigMap", INSTALLATION_NAME)
        return found if found and ours(found) else None

    @property
    def recorded(self) -> Mapping[str, str]:
        """The record's data, empty where there is no record."""
        found: Mapping[str, str] = (self.record or {}).get("data") or {}
        return found

    @property
    def runs(self) -> bool:
        """Whether a Pachyderm's workloads are here, whoever deployed them."""
        return self.pachd is not None or self.etcd is not None

    @property
    def foreign(self) -> bool:
        """Whether the workloads that are here were deployed by somebody else."""
        return any(not ours(obj) for obj in (self.pachd, self.etcd) if obj is not None)

    @property
    def workers(self) -> list[Object]:
        """The ReplicationControllers of pipelines' workers, which pachd makes itself."""
        return [
            obj
            for obj in self.of_kind("ReplicationController")
            if labels(obj).get("suite") == "pachyderm" and labels(obj).get("component") == "worker"
        ]

    def pods(self, app: str) -> list[Object]:
        """Return the pods of one part (``pachd``, ``etcd`` …), the ones that are being deleted last."""
        wanted = selector_of({"pachd": self.pachd, "etcd": self.etcd}.get(app), app).items()
        found = [obj for obj in self.of_kind("Pod") if wanted <= labels(obj).items()]
        return sorted(found, key=lambda pod: "deletionTimestamp" in pod["metadata"])

    def ready_pod(self, app: str) -> str:
        """Return the name of a pod of that part that is ready, or an empty string."""
        return next((name(pod) for pod in self.pods(app) if pod_ready(pod)), "")

    def container(self, workload: Mapping[str, Any], wanted: str) -> Object:
        """Return the container of that name in a workload's pod template, its first one where none has it."""
        containers = workload["spec"]["template"]["spec"]["containers"]
        return next((item for item in containers if item.get("name") == wanted), containers[0])

    def environment(self, container: Mapping[str, Any]) -> dict[str, Variable]:
        """Return a container's variables by name; a name given twice keeps its last value, as the kubelet does."""
        return {str(entry["name"]): self._variable(entry) for entry in container.get("env") or []}

    def _variable(self, entry: Mapping[str, Any]) -> Variable:
        origin = entry.get("valueFrom")
        if not origin:
            return Variable(str(entry.get("value") or ""), "value")
        for selector, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            reference = origin.get(selector)
            if reference:
                holder = self.find(kind, str(reference.get("name")))
                values = (decoded(holder) if kind == "Secret" else holder.get("data") or {}) if holder else {}
                source = f"{kind.lower()}:{reference.get('name')}/{reference.get('key')}"
                return Variable(values.get(str(reference.get("key"))), source)
        return Variable(None, "field")

    def pachd_environment(self) -> dict[str, Variable]:
        """Return pachd's environment, empty where there is no pachd."""
        return self.environment(self.container(self.pachd, "pachd")) if self.pachd else {}

    @property
    def backend(self) -> str:
        """``local``, ``gcp``, ``aws``, ``minio`` or ``azure``; empty where pachd does not say."""
        variable = self.pachd_environment().get("STORAGE_BACKEND")
        if variable is None:
            return self.recorded.get("backend", "")
        return BACKENDS.get(variable.value or "", "")

    @property
    def storage_secret(self) -> Object | None:
        """The Secret with pachd's storage settings."""
        return self.find("Secret", STORAGE_SECRET)

    @property
    def deployment_id(self) -> str:
        """The deployment id that pachd is given, or that is kept for it; empty where there is none."""
        variable = self.pachd_environment().get("CLUSTER_DEPLOYMENT_ID")
        return (variable.value or "") if variable else self.recorded.get("cluster-deployment-id", "")

    @property
    def store(self) -> str:
        """Where objects are kept, in a form that two installations on one store share.

        ``local:<node directory>``, ``gcp:<bucket>``, ``aws:<endpoint>/<bucket>``; empty where it is not known.
        """
        backend = self.backend
        if backend == "local":
            directory = self.host_paths.get("data", "")
            return f"local:{directory}" if directory else ""
        if backend not in BUCKET_KEYS or self.storage_secret is None:
            return ""
        bucket_key, endpoint_key = BUCKET_KEYS[backend]
        data = {key: value.strip() for key, value in decoded(self.storage_secret).items()}
        bucket, endpoint = data.get(bucket_key, ""), data.get(endpoint_key, "").rstrip("/")
        if not bucket:
            return ""
        return f"{backend}:{endpoint}/{bucket}" if endpoint else f"{backend}:{bucket}"

    def host_path(self, workload: Mapping[str, Any], mount: str) -> str:
        """Return the node directory that a workload mounts at ``mount``, empty where that is no hostPath volume."""
        template = workload["spec"]["template"]["spec"]
        mounted = {
            item["name"]
            for container in template["containers"]
            for item in container.get("volumeMounts") or []
            if item.get("mountPath") == mount
        }
        paths = (
            volume["hostPath"]["path"]
            for volume in template.get("volumes") or []
            if volume.get("name") in mounted and volume.get("hostPath")
        )
        return str(next(paths, "")).rstrip("/")

    @property
    def host_paths(self) -> dict[str, str]:
        """The node directories that hold state: ``data`` (pachd's objects) and ``metadata`` (etcd's files).

        Where a workload is gone, what the record says of it.
        """
        directory = self.recorded.get("host-path", "")
        data = self.host_path(self.pachd, "/pach") if self.pachd else (directory and f"{directory}/pachd")
        metadata = self.host_path(self.etcd, ETCD_DATA) if self.etcd else self.recorded.get("etcd-host-path", "")
        return {part: path for part, path in (("data", data), ("metadata", metadata)) if path}

    def settings(self) -> Object:
        """Return the options of ``pachyderm_deploy`` that this installation shows, empty where nothing runs.

        For judging it by what it is where the user's variables do not say otherwise.
        """
        if not self.runs:
            return {}
        variables = self.pachd_environment()

        def value(variable: str) -> str:
            return (variables[variable].value or "") if variable in variables else ""

        found: Object = {
            "version": value("PACHD_VERSION") or self.recorded.get("pachyderm-version", ""),
            "backend": self.backend,
            "host_path": self.recorded.get("host-path", ""),
            "images": {"worker": value("WORKER_IMAGE")},
            "image_pull_secret": value("IMAGE_PULL_SECRET"),
            "dash": self.find("Deployment", "dash") is not None,
            "cluster_roles": bool(self.objects.get("ClusterRole")),
        }
        for part, workload in (("pachd", self.pachd), ("etcd", self.etcd)):
            if workload:
                found["images"][part] = str(self.container(workload, part).get("image") or "")
        if self.etcd:
            found["etcd_members"] = int(self.etcd["spec"].get("replicas") or 0) or None
            found["etcd_storage"] = self._etcd_storage(self.etcd)
        return found

    def _etcd_storage(self, etcd: Mapping[str, Any]) -> Object:
        claims = etcd["spec"].get("volumeClaimTemplates") or []
        if not claims:
            volumes = etcd["spec"]["template"]["spec"].get("volumes") or []
            held = next((item["persistentVolumeClaim"] for item in volumes if item.get("persistentVolumeClaim")), None)
            return {"type": "existing_claim", "claim": held["claimName"]} if held else {"type": "host_path"}
        spec = claims[0]["spec"]
        size = spec.get("resources", {}).get("requests", {}).get("storage")
        return {"type": "claim", "size": size, "storage_class": spec.get("storageClassName")}


def selector_of(workload: Mapping[str, Any] | None, app: str) -> dict[str, str]:
    """Return the labels of the pods of one part; old charts have labels of their own, which the workload selects by."""
    selector = (workload or {}).get("spec", {}).get("selector", {}).get("matchLabels")
    return dict(selector or {"suite": "pachyderm", "app": app})


def pod_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod is ready and not on its way out."""
    conditions = pod.get("status", {}).get("conditions") or []
    return "deletionTimestamp" not in pod["metadata"] and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )


def restarts(pod: Mapping[str, Any]) -> int:
    """Return how often the containers of a pod were restarted."""
    return sum(int(status.get("restartCount") or 0) for status in pod.get("status", {}).get("containerStatuses") or [])


def waiting(pod: Mapping[str, Any]) -> str:
    """Return why a container of the pod does not run ("ImagePullBackOff: …"), empty where all of them do."""
    status = pod.get("status", {})
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = (container.get("state") or {}).get("waiting")
        if state and state.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"{state['reason']}: {state.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}".rstrip(": ")
    return ""


def observe(
    kube: Kube, namespace: str, kinds: Iterable[tuple[str, str]] = (*NAMESPACED, *CLUSTER_WIDE)
) -> Installation:
    """Read one namespace.

    :param kinds: (API version, kind) pairs to list; by default all that an installation consists of.
    :raises ClusterError: the API cannot be reached; a kind that may not be listed is noted instead.
    """
    unreadable: dict[str, str] = {}

    def allowed(kind: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except ClusterError as refusal:
            if not refusal.what.startswith("not allowed to"):
                raise
            unreadable[kind] = str(refusal)
            return otherwise

    def listed(api_version: str, kind: str) -> list[Object]:
        if (api_version, kind) in CLUSTER_WIDE:
            return kube.list(api_version, kind, labels=f"{INSTALLATION_LABEL}={namespace}")
        return kube.list(api_version, kind, namespace)

    reference = Ref("v1", "Namespace", None, namespace)
    namespace_object = allowed("Namespace", lambda: kube.get(reference), None)
    objects = {kind: allowed(kind, partial(listed, api_version, kind), []) for api_version, kind in kinds}
    if "Secret" in unreadable:
        # A right to read the one Secret that matters is no right to list them all.
        secret = Ref("v1", "Secret", namespace, STORAGE_SECRET)
        found = allowed("Secret", lambda: kube.get(secret), None)
        objects["Secret"] = [found] if found else []
    return Installation(namespace, namespace_object, objects, unreadable)
