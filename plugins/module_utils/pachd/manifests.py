# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The Kubernetes objects of one installation, as pure functions of its settings.

``component(name, settings)`` returns the objects of ``base``, ``etcd``, ``pachd`` or ``dash`` in the order in which
they have to be applied; nothing here talks to a cluster.  Names, labels, ports and variables are the contract that
pachd, its workers and pachctl rely on (``src/server/pkg/deploy/assets/assets.go`` of pachyderm v1.13.4); where an
object differs from what ``pachctl deploy`` writes, a comment says why.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from .settings import DASH_PORTS, PACHD_PORTS, Service, Settings
from .storage_secret import ENVIRONMENT, SECRET_NAME

Object = dict[str, Any]
# (apiVersion, kind, namespace or None, name)
Key = tuple[str, str, "str | None", str]

MANAGER = "pachops.pachyderm"
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTALLATION_LABEL = "pachops.io/installation"
# A pod with this label may talk to etcd through the NetworkPolicy: backup and restore jobs carry it.
ETCD_CLIENT_LABEL = "pachops.io/etcd-client"
SECRET_CHECKSUM_ANNOTATION = "pachops.io/storage-secret-checksum"  # noqa: S105 - the name of an annotation
CA_CHECKSUM_ANNOTATION = "pachops.io/ca-bundle-checksum"

INSTALLATION_NAME = "pachops-installation"
# The ConfigMap that tells how far a restore has come.
RESTORE_JOURNAL = "pachops-restore"
# Where whoever writes pipelines finds what their pods need: a key of that ConfigMap.
POD_PATCH_KEY = "pipeline-pod-patch"
STORAGE_SECRET = SECRET_NAME
ETCD_DATA = "/var/data/etcd"
ETCD_CLIENT_PORT = 2379
ETCD_PEER_PORT = 2380
CA_DIRECTORY = "/pachyderm-ca"
# pachctl and pachd agree on this name, and 1.x offers no way to tell the workers another one.
WORKER_ACCOUNT = "pachyderm-worker"

COMPONENTS: tuple[str, ...] = ("base", "etcd", "pachd", "dash")

# Longer than anything that was seen to be slow: with Kubernetes' default of one second, which is enforced since 1.20,
# the readiness command of a healthy pachd timed out on a busy node.
PROBE_TIMEOUT = 30


def component(name: str, settings: Settings, *, checksum: str = "") -> list[Object]:
    """Return the objects of one component.

    :param name: one of :data:`COMPONENTS`; ``dash`` is empty where dash is off.
    :param checksum: checksum of the storage secret's content; pachd restarts when it changes, and only then.
    :raises KeyError: unknown component.
    """
    if name == "base":
        return _base(settings)
    if name == "etcd":
        return _etcd(settings)
    if name == "pachd":
        return _pachd(settings, checksum)
    if name == "dash":
        return _dash(settings) if settings.dash else []
    raise KeyError(name)


def key(obj: Mapping[str, Any]) -> Key:
    """Return what identifies ``obj`` in its cluster."""
    metadata = obj["metadata"]
    return obj["apiVersion"], obj["kind"], metadata.get("namespace"), metadata["name"]


def namespace_object(namespace: str) -> Object:
    """Return the Namespace, for the case that it does not exist; an existing one belongs to somebody else."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {MANAGED_BY: MANAGER, INSTALLATION_LABEL: namespace}},
    }


def record_object(namespace: str, name: str, data: Mapping[str, str]) -> Object:
    """Return a ConfigMap in which the collection remembers something of the installation."""
    metadata = {"name": name, "namespace": namespace, "labels": {"suite": "pachyderm", MANAGED_BY: MANAGER}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}


def stale(settings: Settings) -> list[Key]:
    """Return every object that other settings of this installation could have created and these do not want.

    The caller deletes those that exist and carry our label.
    """
    namespace = settings.namespace
    optional: list[Key] = [
        ("rbac.authorization.k8s.io/v1", "ClusterRole", None, cluster_role_name(namespace)),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", None, cluster_role_name(namespace)),
        ("networking.k8s.io/v1", "NetworkPolicy", namespace, "etcd"),
        ("policy/v1", "PodDisruptionBudget", namespace, "etcd"),
        ("v1", "Secret", namespace, "pachd-tls-cert"),
        ("v1", "ConfigMap", namespace, "pachyderm-ca"),
        ("v1", "Service", namespace, "dash"),
        ("apps/v1", "Deployment", namespace, "dash"),
    ]
    wanted = {key(obj) for name in COMPONENTS for obj in component(name, settings)}
    return [item for item in optional if item not in wanted]


def cluster_role_name(namespace: str) -> str:
    """Return the name of the cluster-scoped RBAC objects; the namespace keeps two installations apart."""
    return f"pachyderm-{namespace}"


def _meta(settings: Settings, name: str, app: str, *, cluster_scoped: bool = False) -> Object:
    metadata: Object = {"name": name, "labels": {**_pod_labels(app), MANAGED_BY: MANAGER}}
    metadata["labels"][INSTALLATION_LABEL] = settings.namespace
    if not cluster_scoped:
        metadata["namespace"] = settings.namespace
    return metadata


def _pod_labels(app: str) -> dict[str, str]:
    # pachctl, pachd's own pod look-ups and its Services select by these two.
    return {"suite": "pachyderm", "app": app}


# -- base -------------------------------------------------------------------------------------------------------------


def _base(settings: Settings) -> list[Object]:
    objects = [_installation(settings), *_service_accounts(settings), *_rbac(settings)]
    if settings.network_policy:
        objects.append(_network_policy(settings))
    if settings.ca_bundle:
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": _meta(settings, "pachyderm-ca", "pachd"),
                "data": {"ca.crt": settings.ca_bundle},
            }
        )
    if settings.tls and settings.tls.cert:
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": _meta(settings, settings.tls.secret_name, "pachd"),
                "data": {"tls.crt": _base64(settings.tls.cert), "tls.key": _base64(settings.tls.key)},
            }
        )
    return objects


def _installation(settings: Settings) -> Object:
    # What has to outlive every redeploy. CLUSTER_DEPLOYMENT_ID above all: pachctl compares it with what its context
    # remembers, and a new one locks every user out with "connected to the wrong cluster".
    record: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(settings, INSTALLATION_NAME, "pachyderm"),
        "data": {
            "backend": settings.backend,
            "cluster-deployment-id": settings.cluster_deployment_id,
            "etcd-host-path": settings.etcd_storage.host_path,
            "host-path": settings.host_path,
            "pachyderm-version": settings.release.version,
        },
    }
    patch = pipeline_pod_patch(settings)
    if patch:
        record["data"][POD_PATCH_KEY] = patch
    return record


def _service_accounts(settings: Settings) -> list[Object]:
    accounts: list[Object] = []
    # Both: Workload Identity and IRSA give pachd and the workers' sidecars their credentials separately.
    for name in ("pachyderm", WORKER_ACCOUNT):
        account: Object = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(settings, name, "pachyderm")}
        if settings.service_account_annotations:
            account["metadata"]["annotations"] = dict(settings.service_account_annotations)
        accounts.append(account)
    return accounts


def _rbac(settings: Settings) -> list[Object]:
    read = ["get", "list", "watch"]
    write = [*read, "create", "update", "delete"]
    pachd_rules = [
        {"apiGroups": [""], "resources": ["pods", "pods/log", "endpoints"], "verbs": read},
        {
            "apiGroups": [""],
            "resources": ["replicationcontrollers", "replicationcontrollers/scale", "services"],
            "verbs": write,
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": [*write, "deletecollection"]},
    ]
    worker_rules = [
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "update", "create", "delete"]}
    ]
    objects = [
        *_role(settings, "pachyderm", pachd_rules),
        *_role(settings, WORKER_ACCOUNT, worker_rules),
    ]
    if settings.cluster_roles:
        # Nodes are all that lies outside the namespace: pachd counts them for pipelines with a COEFFICIENT.
        nodes = [{"apiGroups": [""], "resources": ["nodes"], "verbs": read}]
        objects += _role(settings, "pachyderm", nodes, cluster=True)
    return objects


def _role(settings: Settings, account: str, rules: list[Object], *, cluster: bool = False) -> list[Object]:
    prefix = "Cluster" if cluster else ""
    name = cluster_role_name(settings.namespace) if cluster else account
    api = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{api}/v1",
            "kind": f"{prefix}Role",
            "metadata": _meta(settings, name, "pachyderm", cluster_scoped=cluster),
            "rules": rules,
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": f"{prefix}RoleBinding",
            "metadata": _meta(settings, name, "pachyderm", cluster_scoped=cluster),
            "roleRef": {"apiGroup": api, "kind": f"{prefix}Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": settings.namespace}],
        },
    ]


def _network_policy(settings: Settings) -> Object:
    # etcd under Pachyderm has neither TLS nor passwords: whoever reaches it owns the metadata.
    clients = [
        {"podSelector": {"matchLabels": _pod_labels("pachd")}},
        {"podSelector": {"matchLabels": {"suite": "pachyderm", "component": "worker"}}},
        {"podSelector": {"matchLabels": {ETCD_CLIENT_LABEL: "true"}}},
        {"podSelector": {"matchLabels": _pod_labels("etcd")}},
    ]
    peers = [{"podSelector": {"matchLabels": _pod_labels("etcd")}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(settings, "etcd", "etcd"),
        "spec": {
            "podSelector": {"matchLabels": _pod_labels("etcd")},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": clients, "ports": [{"protocol": "TCP", "port": ETCD_CLIENT_PORT}]},
                {"from": peers, "ports": [{"protocol": "TCP", "port": ETCD_PEER_PORT}]},
            ],
        },
    }


# -- etcd -------------------------------------------------------------------------------------------------------------


def _etcd(settings: Settings) -> list[Object]:
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta(settings, "etcd-headless", "etcd"),
            "spec": {
                "clusterIP": "None",
                # Members find each other by these names before any of them can be ready.
                "publishNotReadyAddresses": True,
                "selector": _pod_labels("etcd"),
                "ports": [
                    _port("client-port", ETCD_CLIENT_PORT, ETCD_CLIENT_PORT),
                    _port("peer-port", ETCD_PEER_PORT, ETCD_PEER_PORT),
                ],
            },
        },
        {
            # This name and an address of its own are what makes Kubernetes set ETCD_SERVICE_HOST and ETCD_SERVICE_PORT
            # in every pod of the namespace: pachd and the workers read nothing else.
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta(settings, "etcd", "etcd"),
            "spec": {
                "type": "ClusterIP",
                "selector": _pod_labels("etcd"),
                "ports": [_port("client-port", ETCD_CLIENT_PORT, ETCD_CLIENT_PORT)],
            },
        },
        _etcd_stateful_set(settings),
    ]
    if settings.etcd_members > 1:
        objects.append(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": _meta(settings, "etcd", "etcd"),
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _pod_labels("etcd")}},
            }
        )
    return objects


def etcd_arguments(settings: Settings) -> list[str]:
    """Return etcd's arguments. ``$(NAME)`` is expanded by the kubelet: images since 3.5.7 have no shell."""
    arguments = [
        # --name and not the variable ETCD_NAME: etcd since 3.4 refuses to start when both are set.
        "--name=$(POD_NAME)",
        f"--data-dir={ETCD_DATA}",
        f"--listen-client-urls=http://0.0.0.0:{ETCD_CLIENT_PORT}",
        f"--advertise-client-urls=http://$(POD_NAME).etcd-headless.$(NAMESPACE).svc:{ETCD_CLIENT_PORT}",
        # Hours, in the only spelling that 3.3 to 3.6 all read alike; without compaction the history fills the quota.
        "--auto-compaction-retention=1",
        # pachd's transactions exceed etcd's defaults of 128 operations and 1.5 MiB (pachyderm/pachyderm#4121).
        "--max-txn-ops=10000",
        "--max-request-bytes=52428800",
        "--quota-backend-bytes=8589934592",
        "--initial-cluster-token=pach-cluster",
        "--initial-cluster-state=new",
    ]
    if settings.etcd_members == 1:
        # A lone member needs no name that others resolve, so that it starts without DNS.
        url = f"http://127.0.0.1:{ETCD_PEER_PORT}"
        return [
            *arguments,
            f"--listen-peer-urls={url}",
            f"--initial-advertise-peer-urls={url}",
            f"--initial-cluster=$(POD_NAME)={url}",
        ]

    def url_of(member: str) -> str:
        return f"http://{member}.etcd-headless.$(NAMESPACE).svc:{ETCD_PEER_PORT}"

    members = [f"etcd-{ordinal}" for ordinal in range(settings.etcd_members)]
    return [
        *arguments,
        f"--listen-peer-urls=http://0.0.0.0:{ETCD_PEER_PORT}",
        f"--initial-advertise-peer-urls={url_of('$(POD_NAME)')}",
        "--initial-cluster=" + ",".join(f"{member}={url_of(member)}" for member in members),
    ]


def _etcd_stateful_set(settings: Settings) -> Object:
    storage = settings.etcd_storage
    mount: Object = {"name": "etcd-storage", "mountPath": ETCD_DATA}
    if storage.host_path and settings.etcd_members > 1:
        mount["subPathExpr"] = "$(POD_NAME)"
    # A full disk quota raises an alarm that makes /health fail although reads still work; etcd before 3.5 ignores the
    # parameter.
    health = {"httpGet": {"path": "/health?exclude=NOSPACE", "port": ETCD_CLIENT_PORT}, "timeoutSeconds": PROBE_TIMEOUT}
    container: Object = {
        "name": "etcd",
        "image": settings.images["etcd"],
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["etcd"],
        "args": etcd_arguments(settings),
        "env": [_field("POD_NAME", "metadata.name"), _field("NAMESPACE", "metadata.namespace")],
        "ports": [_container_port("client-port", ETCD_CLIENT_PORT), _container_port("peer-port", ETCD_PEER_PORT)],
        "resources": settings.resources["etcd"],
        "volumeMounts": [mount],
        # A member that replays a large log, or waits for its quorum, is slow and not dead.
        "startupProbe": {**health, "periodSeconds": 1, "failureThreshold": 600},
        "readinessProbe": {**health, "periodSeconds": 5},
        # Not /health: restarting a member because others are away only prolongs their absence.
        "livenessProbe": {
            "tcpSocket": {"port": ETCD_CLIENT_PORT},
            "timeoutSeconds": PROBE_TIMEOUT,
            "periodSeconds": 10,
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = _pod(settings, container)
    # A Service called etcd would leave ETCD_PORT and its like in the environment, which etcd takes for its own options.
    pod["enableServiceLinks"] = False
    pod["automountServiceAccountToken"] = False
    spec: Object = {
        "replicas": settings.etcd_members,
        "serviceName": "etcd-headless",
        # All at once: with the default order the first member waits for a quorum that is started only after it.
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": _pod_labels("etcd")},
        "template": {"metadata": {"labels": _pod_labels("etcd")}, "spec": pod},
    }
    if storage.host_path:
        pod["volumes"] = [
            {"name": "etcd-storage", "hostPath": {"path": storage.host_path, "type": "DirectoryOrCreate"}}
        ]
    elif storage.claim:
        pod["volumes"] = [{"name": "etcd-storage", "persistentVolumeClaim": {"claimName": storage.claim}}]
    else:
        claim: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "etcd-storage", "labels": _pod_labels("etcd")},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage.size}}},
        }
        if storage.storage_class:
            claim["spec"]["storageClassName"] = storage.storage_class
        spec["volumeClaimTemplates"] = [claim]
    if settings.etcd_members > 1 and not storage.host_path:
        pod["affinity"] = {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": _pod_labels("etcd")},
                        },
                    }
                ]
            }
        }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": _meta(settings, "etcd", "etcd"), "spec": spec}


# -- pachd ------------------------------------------------------------------------------------------------------------


def _pachd(settings: Settings, checksum: str) -> list[Object]:
    service = _service(settings, "pachd", settings.service, PACHD_PORTS)
    annotations = service["metadata"].setdefault("annotations", {})
    annotations.setdefault("prometheus.io/scrape", "true")
    annotations.setdefault("prometheus.io/port", "656")
    peer = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(settings, "pachd-peer", "pachd"),
        "spec": {
            "type": "ClusterIP",
            "selector": _pod_labels("pachd"),
            "ports": [_port("api-grpc-peer-port", 30653, settings.release.peer_port)],
        },
    }
    return [service, peer, _pachd_deployment(settings, checksum)]


def pachd_environment(settings: Settings) -> list[Object]:
    """Return pachd's ``env`` list: the contract's variables, then the storage secret's, then the user's own."""
    plain: dict[str, str] = {
        "PACH_ROOT": "/pach",
        # Empty on purpose: the sidecars never receive it, so any other value splits the metadata in two.
        "ETCD_PREFIX": "",
        "NUM_SHARDS": "16",
        "STORAGE_BACKEND": settings.storage_backend,
        "STORAGE_HOST_PATH": f"{settings.host_path}/pachd" if settings.host_path else "",
        "WORKER_IMAGE": settings.images["worker"],
        "WORKER_SIDECAR_IMAGE": settings.images["pachd"],
        "WORKER_IMAGE_PULL_POLICY": settings.image_pull_policy,
        "IMAGE_PULL_SECRET": settings.image_pull_secret,
        "WORKER_SERVICE_ACCOUNT": WORKER_ACCOUNT,
        "PACHD_VERSION": settings.release.version,
        # pachd's default reports to a host of its maker's.
        "METRICS": "false",
        "LOG_LEVEL": settings.log_level,
        "BLOCK_CACHE_BYTES": settings.block_cache,
        "IAM_ROLE": settings.iam_role,
        # With pachd's default every worker on a node without Docker dies: the kubelet creates the socket's path as a
        # directory, and the worker takes it for Docker (pachyderm/pachyderm#4575).
        "NO_EXPOSE_DOCKER_SOCKET": "true",
        "PACHYDERM_AUTHENTICATION_DISABLED_FOR_TESTING": "false",
        "EXPOSE_OBJECT_API": "false",
        "CLUSTER_DEPLOYMENT_ID": settings.cluster_deployment_id,
        "REQUIRE_CRITICAL_SERVERS_ONLY": "false",
        # These two have defaults in pachd, which some of its code does not see: it asks the environment directly.
        "PPS_WORKER_GRPC_PORT": "80",
        "STORAGE_UPLOAD_CONCURRENCY_LIMIT": str(settings.upload_concurrency),
        "STORAGE_PUT_FILE_CONCURRENCY_LIMIT": str(settings.put_file_concurrency),
        "STORAGE_V2": "false",
    }
    plain.update(_surroundings(settings)[0])
    environment: list[Object] = [{"name": name, "value": value} for name, value in plain.items()]
    environment += [
        _field("PACHD_POD_NAME", "metadata.name"),
        _field("PACH_NAMESPACE", "metadata.namespace"),
        {
            "name": "PACHD_MEMORY_REQUEST",
            "valueFrom": {
                "resourceFieldRef": {"containerName": "pachd", "resource": "requests.memory", "divisor": "0"}
            },
        },
    ]
    # Mounting the secret is not enough: the S3 tuning options reach pachd only this way, and it hands its own
    # environment on to every worker.
    environment += [
        {
            "name": variable,
            "valueFrom": {"secretKeyRef": {"name": STORAGE_SECRET, "key": secret_key, "optional": True}},
        }
        for secret_key, variable in ENVIRONMENT.items()
    ]
    return environment


def _surroundings(settings: Settings) -> tuple[dict[str, str], list[Object], list[Object]]:
    """Return the variables, volumes and mounts by which a pod finds and trusts what is outside of the cluster."""
    variables: dict[str, str] = {}
    volumes: list[Object] = []
    mounts: list[Object] = []
    if settings.ca_bundle:
        # A second directory: Go goes on reading the bundle that the image carries.
        variables["SSL_CERT_DIR"] = f"/etc/ssl/certs:{CA_DIRECTORY}"
        mounts.append({"name": "pachyderm-ca", "mountPath": CA_DIRECTORY})
        volumes.append({"name": "pachyderm-ca", "configMap": {"name": "pachyderm-ca"}})
    return (
        {**variables, **settings.extra_env},
        [*volumes, *settings.extra_volumes],
        [*mounts, *settings.extra_volume_mounts],
    )


def pipeline_pod_patch(settings: Settings) -> str:
    """Return the ``pod_patch`` that a pipeline needs so that its pods reach what pachd reaches; "" where none is.

    pachd makes its workers' pods itself (``workerPodSpec`` in ``src/server/pps/server/worker_rc.go`` of v1.13.4).  It
    hands the storage secret and IAM_ROLE on, and the service account has its own annotations; certificates, host
    aliases and further variables it does not hand on, and the storage sidecar talks to the bucket like pachd.  A
    pipeline's specification takes a JSON patch (RFC 6902) of the pod's: container 0 is the user's (and talks to the
    bucket of an egress), container 1 the sidecar.
    """
    variables, volumes, mounts = _surroundings(settings)
    operations: list[Object] = [{"op": "add", "path": "/volumes/-", "value": volume} for volume in volumes]
    for container in (0, 1):
        prefix = f"/containers/{container}"
        operations += [{"op": "add", "path": f"{prefix}/volumeMounts/-", "value": mount} for mount in mounts]
        operations += [
            {"op": "add", "path": f"{prefix}/env/-", "value": {"name": name, "value": value}}
            for name, value in variables.items()
        ]
    if settings.host_aliases:
        operations.append({"op": "add", "path": "/hostAliases", "value": list(settings.host_aliases)})
    return json.dumps(operations, separators=(",", ":")) if operations else ""


def _pachd_deployment(settings: Settings, checksum: str) -> Object:
    probe = {"exec": {"command": ["/pachd", "--readiness"]}, "timeoutSeconds": PROBE_TIMEOUT}
    container: Object = {
        "name": "pachd",
        "image": settings.images["pachd"],
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["/pachd"],
        "env": pachd_environment(settings),
        "ports": [
            *(_container_port(name, target) for name, (_port_number, target) in PACHD_PORTS.items()),
            _container_port("peer-port", settings.release.peer_port),
        ],
        "resources": settings.resources["pachd"],
        # pachd gives up on an unreachable etcd by itself after six minutes, with a panic that says so; the probe must
        # not cut that short. There is no liveness probe: pachd's health answer says no more than that it runs.
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 300},
        "readinessProbe": {**probe, "periodSeconds": 10},
        # Root without its powers, but for the ports below 1024 that pachd listens on.
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
    }
    mounts: list[Object] = [
        {"name": "pach-disk", "mountPath": "/pach"},
        {"name": "pach-cache", "mountPath": "/pach-cache"},
        {"name": STORAGE_SECRET, "mountPath": f"/{STORAGE_SECRET}"},
    ]
    disk: Object = {"emptyDir": {}}
    if settings.host_path:
        # Workers mount the same path of the node, without a type: it has to exist before the first of them.
        disk = {"hostPath": {"path": f"{settings.host_path}/pachd", "type": "DirectoryOrCreate"}}
    volumes: list[Object] = [
        {"name": "pach-disk", **disk},
        {"name": "pach-cache", "emptyDir": {}},
        {"name": STORAGE_SECRET, "secret": {"secretName": STORAGE_SECRET}},
    ]
    annotations: dict[str, str] = {}
    if checksum:
        annotations[SECRET_CHECKSUM_ANNOTATION] = checksum
    if settings.iam_role:
        # Only with a role: kube2iam takes an empty annotation for a role without a name (pachyderm/pachyderm#3352).
        annotations["iam.amazonaws.com/role"] = settings.iam_role
    if settings.tls:
        mounts.append({"name": "pachd-tls-cert", "mountPath": "/pachd-tls-cert"})
        volumes.append({"name": "pachd-tls-cert", "secret": {"secretName": settings.tls.secret_name}})
    if settings.ca_bundle:
        annotations[CA_CHECKSUM_ANNOTATION] = hashlib.sha256(settings.ca_bundle.encode()).hexdigest()
    _variables, more_volumes, more_mounts = _surroundings(settings)
    container["volumeMounts"] = [*mounts, *more_mounts]
    pod = _pod(settings, container)
    pod["serviceAccountName"] = "pachyderm"
    pod["enableServiceLinks"] = True
    pod["volumes"] = [*volumes, *more_volumes]
    if settings.host_aliases:
        pod["hostAliases"] = list(settings.host_aliases)
    template: Object = {"metadata": {"labels": _pod_labels("pachd")}, "spec": pod}
    if annotations:
        template["metadata"]["annotations"] = annotations
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(settings, "pachd", "pachd"),
        "spec": {
            "replicas": 1,
            # Never two pachds on one etcd and bucket, not even for the length of a rollout.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _pod_labels("pachd")},
            "template": template,
        },
    }


# -- dash -------------------------------------------------------------------------------------------------------------


def _dash(settings: Settings) -> list[Object]:
    containers = [
        {
            "name": name,
            "image": settings.images[image],
            "imagePullPolicy": settings.image_pull_policy,
            "ports": [_container_port(port, DASH_PORTS[port][1])],
            "resources": settings.resources["dash"],
            "securityContext": {"allowPrivilegeEscalation": False},
        }
        for name, image, port in (("dash", "dash", "dash-http"), ("grpc-proxy", "grpc_proxy", "grpc-proxy-http"))
    ]
    pod = _pod(settings, *containers)
    pod["automountServiceAccountToken"] = False
    return [
        _service(settings, "dash", settings.dash_service, DASH_PORTS),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _meta(settings, "dash", "dash"),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": _pod_labels("dash")},
                "template": {"metadata": {"labels": _pod_labels("dash")}, "spec": pod},
            },
        },
    ]


# -- parts ------------------------------------------------------------------------------------------------------------


def _pod(settings: Settings, *containers: Object) -> Object:
    pod: Object = {"containers": list(containers)}
    if settings.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        pod["tolerations"] = list(settings.tolerations)
    if settings.priority_class:
        pod["priorityClassName"] = settings.priority_class
    return pod


def _service(settings: Settings, name: str, service: Service, ports: Mapping[str, tuple[int, int]]) -> Object:
    metadata = _meta(settings, name, name)
    if service.annotations:
        metadata["annotations"] = dict(service.annotations)
    node_ports = service.node_ports or {}
    spec: Object = {
        "type": service.type,
        "selector": _pod_labels(name),
        "ports": [_port(port, number, target, node_ports.get(port)) for port, (number, target) in ports.items()],
    }
    if service.source_ranges:
        spec["loadBalancerSourceRanges"] = list(service.source_ranges)
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _port(name: str, port: int, target: int, node_port: int | None = None) -> Object:
    entry: Object = {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}
    if node_port:
        entry["nodePort"] = node_port
    return entry


def _container_port(name: str, port: int) -> Object:
    return {"name": name, "containerPort": port, "protocol": "TCP"}


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def all_objects(settings: Settings, *, checksum: str = "", components: Iterable[str] = COMPONENTS) -> list[Object]:
    """Return the objects of several components in the order in which they have to be applied."""
    return [obj for name in components for obj in component(name, settings, checksum=checksum)]
