# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests in the shape in which others deploy Pachyderm 1.x: ``pachctl deploy`` and the chart ``stable/pachyderm``.

Written from what those tools are known to set, names, ports, variables, keys, field by field; nothing here is theirs.
``python3 tests/emulators/pachctl/shapes.py --namespace old local | kubectl apply -f -`` makes such an installation.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

BACKENDS = ("local", "google", "amazon", "custom", "minio")
STORAGE_BACKENDS = {"local": "LOCAL", "google": "GOOGLE", "amazon": "AMAZON", "custom": "AMAZON", "minio": "MINIO"}
ETCD = ("deployment", "dynamic", "static")
AUTH = ("keys", "iam-role", "vault")
TUNING = {
    "retries": "10",
    "timeout": "5m",
    "upload-acl": "bucket-owner-full-control",
    "reverse": "true",
    "part-size": "5242880",
    "max-upload-parts": "10000",
    "disable-ssl": "false",
    "no-verify-ssl": "false",
    "log-options": "",
}
VARIABLES = (
    *("google-bucket", "google-cred", "microsoft-container", "microsoft-id", "microsoft-secret", "minio-bucket"),
    *("minio-endpoint", "minio-id", "minio-secret", "minio-secure", "minio-signature", "amazon-region"),
    *("amazon-bucket", "amazon-id", "amazon-secret", "amazon-token", "amazon-vault-addr", "amazon-vault-role"),
    *("amazon-vault-token", "amazon-distribution", "custom-endpoint", *TUNING),
)
PACHD_PORTS = {
    "api-grpc-port": 650,
    "trace-port": 651,
    "api-http-port": 652,
    "saml-port": 654,
    "oidc-port": 657,
    "api-git-port": 655,
    "s3gateway-port": 600,
    "prom-metrics": 656,
}


@dataclass(frozen=True)
class Shape:
    """What somebody said to ``pachctl deploy``.

    :param etcd: ``deployment`` is what local has; ``dynamic`` a StatefulSet with claims, ``static`` a claim made by hand.
    :param shell: whether etcd's image has one, as the images of that time had; without it the same command, run directly.
    :param small: ask for less than pachctl does.
    :param node_ports: the fixed ports of the nodes, which let one installation per cluster be.
    """

    namespace: str
    backend: str = "local"
    auth: str = "keys"
    etcd: str = ""
    members: int = 1
    disk: str = "10Gi"
    storage_class: str = ""
    host_path: str = "/var/pachyderm"
    version: str = "1.13.4"
    pachd: str = ""
    worker: str = ""
    etcd_image: str = "pachyderm/etcd:v3.3.5"
    bucket: str = "pach-bucket"
    region: str = "us-west-1"
    endpoint: str = ""
    key_id: str = "AKIDEXAMPLEEXAMPLE00"
    key: str = "an+example+of+a+secret+key+for+tests+only"
    credentials: str = ""
    role: str = "pachyderm-role"
    deployment_id: str = "0123456789abcdef0123456789abcdef"
    local_roles: bool = False
    dash: bool = False
    tls: bool = False
    node_ports: bool = True
    small: bool = False
    shell: bool = True
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def etcd_kind(self) -> str:
        return self.etcd or ("deployment" if self.backend == "local" else "dynamic")


def pachctl(shape: Shape) -> list[Object]:
    """Return the objects in the order in which pachctl writes them."""
    objects = [*_accounts(shape), *_rights(shape), *_etcd(shape), *_services(shape), _pachd(shape)]
    objects += _dash(shape) if shape.dash else []
    if shape.tls:
        objects.append(_object("v1", "Secret", "pachd-tls-cert", shape, "pachd", data={"tls.crt": "", "tls.key": ""}))
    return [*objects, _secret(shape)]


def chart(shape: Shape, release: str = "lions") -> list[Object]:
    """Return the objects of the chart stable/pachyderm, whose labels carry the release's name."""
    suite = f"{release}-pachyderm"
    marks = {"chart": "pachyderm-0.2.7", "release": release, "heritage": "Tiller"}
    objects = [item for item in pachctl(shape) if item["metadata"]["name"] not in ("pachd-peer", "pachyderm-worker")]
    for item in objects:
        name = item["metadata"]["name"]
        own = f"{release}-etcd" if name == "etcd" else name
        item["metadata"]["labels"] = {"app": own, "suite": suite, **marks}
        if item["kind"] == "Deployment":
            labels = {"app": own, "suite": suite}
            item["spec"]["selector"] = {"matchLabels": labels}
            item["spec"]["template"]["metadata"]["labels"] = labels
        elif item["kind"] == "Service":
            item["spec"]["selector"] = {"app": own}
        elif item["kind"] in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding"):
            item["metadata"]["name"] = suite
            for subject in item.get("subjects", []):
                subject["name"] = suite
            if "roleRef" in item:
                item["roleRef"]["name"] = suite
    pachd = next(item for item in objects if item["kind"] == "Deployment" and item["metadata"]["name"] == "pachd")
    pod = pachd["spec"]["template"]["spec"]
    pod["serviceAccountName"] = suite
    pod["containers"][0]["securityContext"] = {"privileged": True}
    for volume in pod["volumes"]:
        if volume["name"] == "pach-disk":
            volume["name"] = "pachdvol"
    pod["containers"][0]["volumeMounts"][0]["name"] = "pachdvol"
    return objects


def _object(api: str, kind: str, name: str, shape: Shape, app: str, namespaced: bool = True, **parts: Any) -> Object:
    metadata: Object = {"name": name, "labels": {"app": app, "suite": "pachyderm"}}
    if namespaced:
        metadata["namespace"] = shape.namespace
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **parts}


def _accounts(shape: Shape) -> list[Object]:
    return [_object("v1", "ServiceAccount", name, shape, "") for name in ("pachyderm", "pachyderm-worker")]


def _rights(shape: Shape) -> list[Object]:
    read, write = ["get", "list", "watch"], ["get", "list", "watch", "create", "update", "delete"]
    rules = [
        {"apiGroups": [""], "resources": ["nodes", "pods", "pods/log", "endpoints"], "verbs": read},
        {
            "apiGroups": [""],
            "resources": ["replicationcontrollers", "services", "replicationcontrollers/scale"],
            "verbs": write,
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": [*write, "deletecollection"]},
    ]
    services = [{"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "update", "create", "delete"]}]
    api = "rbac.authorization.k8s.io/v1"

    def bound(kind: str, role: str, binding: str, account: str, rules: list[Object]) -> list[Object]:
        inside = kind == "Role"
        subject = {"kind": "ServiceAccount", "name": account, "namespace": shape.namespace}
        return [
            _object(api, kind, role, shape, "", inside, rules=rules),
            _object(
                api,
                f"{kind}Binding",
                binding,
                shape,
                "",
                inside,
                subjects=[subject],
                roleRef={"apiGroup": "", "kind": kind, "name": role},
            ),
        ]

    if shape.local_roles:
        first = bound("Role", "pachyderm", "pachyderm", "pachyderm", rules)
    else:
        first = bound("ClusterRole", "pachyderm", f"pachyderm-{shape.namespace}", "pachyderm", rules)
    return [*first, *bound("Role", "pachyderm-worker", "pachyderm-worker", "pachyderm-worker", services)]


def _service(shape: Shape, name: str, ports: dict[str, tuple[int, int]], kind: str, **spec: Any) -> Object:
    entries = []
    for port, (number, node_port) in ports.items():
        entry: Object = {"name": port, "port": number}
        if node_port and shape.node_ports:
            entry["nodePort"] = node_port
        entries.append(entry)
    body = {"type": kind, "selector": {"app": name.removesuffix("-headless")}, "ports": entries, **spec}
    return _object("v1", "Service", name, shape, name.removesuffix("-headless"), spec=body)


def _services(shape: Shape) -> list[Object]:
    ports = {name: (number, 30000 + number) for name, number in PACHD_PORTS.items()}
    pachd = _service(shape, "pachd", ports, "NodePort")
    pachd["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "656"}
    peer = _service(shape, "pachd-peer", {"api-grpc-peer-port": (30653, 0)}, "ClusterIP", selector={"app": "pachd"})
    peer["spec"]["ports"][0]["targetPort"] = 653
    peer["metadata"]["labels"]["app"] = "pachd"
    return [pachd, peer]


def _etcd(shape: Shape) -> list[Object]:
    kind = shape.etcd_kind
    flags = [
        "--listen-client-urls=http://0.0.0.0:2379",
        "--advertise-client-urls=http://0.0.0.0:2379",
        "--data-dir=/var/data/etcd",
        "--auto-compaction-retention=1",
        "--max-txn-ops=10000",
        "--max-request-bytes=52428800",
        "--quota-backend-bytes=8589934592",
    ]
    ports = [{"name": "client-port", "containerPort": 2379}, {"name": "peer-port", "containerPort": 2380}]
    cpu, memory = ("250m", "512M") if shape.backend == "local" else ("1", "2G")
    requests = {"cpu": "20m", "memory": "64M"} if shape.small else {"cpu": cpu, "memory": memory}
    container: Object = {
        "name": "etcd",
        "image": shape.etcd_image,
        "imagePullPolicy": "IfNotPresent",
        "ports": ports,
        "resources": {"requests": requests},
        "volumeMounts": [{"name": "etcd-storage", "mountPath": "/var/data/etcd"}],
    }
    labels = {"app": "etcd", "suite": "pachyderm"}
    pod: Object = {"containers": [container]}
    objects: list[Object] = []
    if kind == "dynamic":
        hosts = {f"etcd-{number}": f"http://etcd-{number}.etcd-headless.${{NAMESPACE}}.svc.cluster.local:2380"
                 for number in range(shape.members)}  # fmt: skip
        flags += [
            "--listen-peer-urls=http://0.0.0.0:2380",
            "--initial-cluster-token=pach-cluster",
            "--initial-advertise-peer-urls=http://${ETCD_NAME}.etcd-headless.${NAMESPACE}.svc.cluster.local:2380",
            "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in hosts.items()),
        ]
        words = ["/usr/local/bin/etcd", *flags]
        container["command"] = ["/bin/sh", "-c"]
        container["args"] = [" ".join(f'"{word}"' for word in words)]
        if not shape.shell:
            container["command"] = [re.sub(r"\$\{(\w+)\}", r"$(\1)", word) for word in ["etcd", *flags]]
            del container["args"]
        container["env"] = [
            {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for name, path in (("ETCD_NAME", "metadata.name"), ("NAMESPACE", "metadata.namespace"))
        ]
        claim: Object = {
            "metadata": {"name": "etcd-storage", "labels": labels},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": shape.disk}}},
        }
        if shape.storage_class:
            claim["metadata"]["annotations"] = {"volume.beta.kubernetes.io/storage-class": shape.storage_class}
        objects.append(_service(shape, "etcd-headless", {"peer-port": (2380, 0)}, "ClusterIP", clusterIP="None"))
        spec = {"replicas": shape.members, "serviceName": "etcd-headless", "volumeClaimTemplates": [claim]}
    else:
        container["command"] = ["/usr/local/bin/etcd" if shape.shell else "etcd", *flags]
        spec = {"replicas": 1}
        volume: Object = {"hostPath": {"path": f"{shape.host_path}/etcd", "type": "DirectoryOrCreate"}}
        if kind == "static":
            volume = {"persistentVolumeClaim": {"claimName": "etcd-storage"}}
            held = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": shape.disk}}}
            objects.append(_object("v1", "PersistentVolumeClaim", "etcd-storage", shape, "etcd", spec=held))
        pod["volumes"] = [{"name": "etcd-storage", **volume}]
    spec |= {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    workload = "StatefulSet" if kind == "dynamic" else "Deployment"
    objects.append(_object("apps/v1", workload, "etcd", shape, "etcd", spec=spec))
    return [*objects, _service(shape, "etcd", {"client-port": (2379, 32379)}, "NodePort")]


def _pachd(shape: Shape) -> Object:
    local = shape.backend == "local"
    image = shape.pachd or f"pachyderm/pachd:{shape.version}"
    role = shape.role if shape.backend == "amazon" and shape.auth == "iam-role" else ""
    plain = {
        "PACH_ROOT": "/pach",
        "ETCD_PREFIX": "",
        "NUM_SHARDS": "16",
        "STORAGE_BACKEND": STORAGE_BACKENDS[shape.backend],
        "STORAGE_HOST_PATH": f"{shape.host_path}/pachd" if local else "",
        "WORKER_IMAGE": shape.worker or f"pachyderm/worker:{shape.version}",
        "IMAGE_PULL_SECRET": "",
        "WORKER_SIDECAR_IMAGE": image,
        "WORKER_IMAGE_PULL_POLICY": "IfNotPresent",
        "WORKER_SERVICE_ACCOUNT": "pachyderm-worker",
        "PACHD_VERSION": shape.version,
        "METRICS": "true",
        "LOG_LEVEL": "info",
        "BLOCK_CACHE_BYTES": {"local": "256M", "google": "0G"}.get(shape.backend, "1G"),
        "IAM_ROLE": role,
        "NO_EXPOSE_DOCKER_SOCKET": "false",
        "PACHYDERM_AUTHENTICATION_DISABLED_FOR_TESTING": "false",
        "EXPOSE_OBJECT_API": "false",
        "CLUSTER_DEPLOYMENT_ID": shape.deployment_id,
        "REQUIRE_CRITICAL_SERVERS_ONLY": "false",
        "PPS_WORKER_GRPC_PORT": "80",
        "STORAGE_UPLOAD_CONCURRENCY_LIMIT": "100",
        "STORAGE_PUT_FILE_CONCURRENCY_LIMIT": "100",
        "STORAGE_V2": "false",
        **shape.environment,
    }
    environment: list[Object] = [{"name": name, "value": value} for name, value in plain.items()]
    environment += [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in (("PACH_NAMESPACE", "metadata.namespace"), ("PACHD_POD_NAME", "metadata.name"))
    ]
    memory_of = {"containerName": "pachd", "resource": "requests.memory", "divisor": "0"}
    environment.append({"name": "PACHD_MEMORY_REQUEST", "valueFrom": {"resourceFieldRef": memory_of}})
    secret = "pachyderm-storage-secret"
    environment += [
        {
            "name": {"log-options": "OBJ_LOG_OPTS"}.get(key, key.upper().replace("-", "_")),
            "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}},
        }
        for key in VARIABLES
    ]
    memory = {"local": "512M", "google": "2G"}.get(shape.backend, "3G")
    requests = {"cpu": "20m", "memory": "128M"} if shape.small else {"cpu": "250m" if local else "1", "memory": memory}
    resources = {"requests": requests, **({} if shape.small else {"limits": dict(requests)})}
    mounts = [{"name": "pach-disk", "mountPath": "/pach"}, {"name": secret, "mountPath": f"/{secret}"}]
    directory = {"hostPath": {"path": f"{shape.host_path}/pachd", "type": "DirectoryOrCreate"}}
    volumes: list[Object] = [
        {"name": "pach-disk", **(directory if local else {})},
        {"name": secret, "secret": {"secretName": secret}},
    ]
    if shape.tls:
        mounts.append({"name": "pachd-tls-cert", "mountPath": "/pachd-tls-cert"})
        volumes.append({"name": "pachd-tls-cert", "secret": {"secretName": "pachd-tls-cert"}})
    container = {
        "name": "pachd",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/pachd"],
        "env": environment,
        "ports": [{"name": name, "containerPort": number} for name, number in PACHD_PORTS.items() if number != 600],
        "readinessProbe": {"exec": {"command": ["/pachd", "--readiness"]}},
        "resources": resources,
        "volumeMounts": mounts,
    }
    labels = {"app": "pachd", "suite": "pachyderm"}
    template = {
        "metadata": {"labels": labels, "annotations": {"iam.amazonaws.com/role": role}},
        "spec": {"serviceAccountName": "pachyderm", "containers": [container], "volumes": volumes},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return _object("apps/v1", "Deployment", "pachd", shape, "pachd", spec=spec)


def _dash(shape: Shape) -> list[Object]:
    labels = {"app": "dash", "suite": "pachyderm"}
    containers = [
        {"name": "dash", "image": "pachyderm/dash:0.5.57", "ports": [{"name": "dash-http", "containerPort": 8080}]},
        {
            "name": "grpc-proxy",
            "image": "pachyderm/grpc-proxy:0.4.10",
            "ports": [{"name": "grpc-proxy-http", "containerPort": 8081}],
        },
    ]
    service = _service(shape, "dash", {"dash-http": (8080, 30080), "grpc-proxy-http": (8081, 30081)}, "NodePort")
    service["spec"]["selector"] = labels
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
    }
    return [service, _object("apps/v1", "Deployment", "dash", shape, "dash", spec=spec)]


def _secret(shape: Shape) -> Object:
    data: dict[str, str] = {}
    if shape.backend == "google":
        data = {"google-bucket": shape.bucket, "google-cred": shape.credentials}
    elif shape.backend == "minio":
        data = {
            "minio-bucket": shape.bucket,
            "minio-endpoint": shape.endpoint.partition("://")[2],
            "minio-id": shape.key_id,
            "minio-secret": shape.key,
            "minio-secure": "1" if shape.endpoint.startswith("https") else "0",
            "minio-signature": "1",
        }
    elif shape.backend in ("amazon", "custom"):
        region = "us-east-1" if shape.backend == "custom" else shape.region
        data = {"amazon-region": region, "amazon-bucket": shape.bucket, "amazon-distribution": "", **TUNING}
        if shape.endpoint.startswith("http://"):
            data["disable-ssl"] = "true"
        if shape.auth == "keys":
            data |= {"amazon-id": shape.key_id, "amazon-secret": shape.key, "amazon-token": ""}
            data["custom-endpoint"] = shape.endpoint
        elif shape.auth == "vault":
            data |= {"amazon-vault-addr": "https://vault.example", "amazon-vault-role": "pach"}
            data["amazon-vault-token"] = "s.example"
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    name = "pachyderm-storage-secret"
    return _object("v1", "Secret", name, shape, name, **({"data": encoded} if encoded else {}))


def main(arguments: list[str] | None = None) -> int:
    """Print the objects as one JSON list."""
    parser = argparse.ArgumentParser(description="Print manifests in the shape of pachctl deploy.")
    parser.add_argument("backend", choices=BACKENDS)
    parser.add_argument("--chart", action="store_true", help="in the shape of the chart stable/pachyderm")
    for option, wanted in (("auth", AUTH), ("etcd", ETCD)):
        parser.add_argument(f"--{option}", choices=wanted, default=argparse.SUPPRESS)
    for option in (
        *("namespace", "host-path", "version", "pachd", "worker", "etcd-image", "bucket", "region", "endpoint"),
        *("key-id", "key", "credentials", "deployment-id", "disk", "storage-class"),
    ):
        parser.add_argument(f"--{option}", default=argparse.SUPPRESS, required=option == "namespace")
    parser.add_argument("--members", type=int, default=argparse.SUPPRESS)
    for option in ("local-roles", "dash", "tls", "small"):
        parser.add_argument(f"--{option}", action="store_true", default=argparse.SUPPRESS)
    parser.add_argument("--no-shell", dest="shell", action="store_false", default=argparse.SUPPRESS)
    parser.add_argument("--no-node-ports", dest="node_ports", action="store_false", default=argparse.SUPPRESS)
    given = vars(parser.parse_args(arguments))
    made = chart if given.pop("chart") else pachctl
    json.dump({"apiVersion": "v1", "kind": "List", "items": made(Shape(**given))}, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
