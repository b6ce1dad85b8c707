# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes objects of a pipeline's workers, in the shape of src/server/pps/server/worker_rc.go of v1.13.4."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret import ENVIRONMENT, SECRET_NAME
from google.protobuf.json_format import MessageToDict
from python_pachyderm.proto.pps import pps_pb2 as pb

from .config import Settings
from .errors import PachError
from .names import controller_name
from .pps import DEFAULT_IMAGE

_METRICS_PORT = 9090


def token_hash(token: str) -> str:
    """Return the form of a pipeline's token that everybody may see."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).decode().rstrip("=")


def _without_registry(image: str) -> str:
    """Return the image as pachd names it for the init container without an enterprise key: the host is left out."""
    return "/".join(image.split("/")[-2:])


def _variable(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _mount(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path}


def _storage_variables(settings: Settings) -> list[dict[str, Any]]:
    variables = [_variable("STORAGE_BACKEND", settings.backend)]
    for key, name in ENVIRONMENT.items():
        reference = {"name": SECRET_NAME, "key": key, "optional": True}
        variables.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    return variables


def objects(
    settings: Settings, version: str, pointer: pb.EtcdPipelineInfo, info: pb.PipelineInfo
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the replication controller, with no pods yet, and the service of a pipeline's workers.

    :raises PachError: when pachd's environment lacks what workers need.
    """
    name = controller_name(info.pipeline.name, info.version)
    labels = {"app": name, "suite": "pachyderm", "component": "worker", "pipelineName": info.pipeline.name}
    labels.update({key: value for key, value in info.metadata.labels.items() if not labels.get(key)})
    annotations = {
        "pipelineName": info.pipeline.name,
        "version": version,
        "specCommit": pointer.spec_commit.id,
        "authTokenHash": token_hash(pointer.auth_token),
    }
    if settings.iam_role:
        annotations["iam.amazonaws.com/role"] = settings.iam_role
    annotations.update({key: value for key, value in info.metadata.annotations.items() if not annotations.get(key)})
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    controller = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": metadata,
        "spec": {
            "replicas": 0,
            "selector": labels,
            "template": {"metadata": metadata, "spec": _pod(settings, pointer, info)},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(_METRICS_PORT)},
        },
        "spec": {
            "selector": labels,
            "ports": [
                {"name": "grpc-port", "port": settings.worker_port},
                {"name": "prometheus-metrics", "port": _METRICS_PORT},
            ],
        },
    }
    return controller, service


def _pod(settings: Settings, pointer: pb.EtcdPipelineInfo, info: pb.PipelineInfo) -> dict[str, Any]:
    limit = settings.env.text("STORAGE_UPLOAD_CONCURRENCY_LIMIT")
    if not limit:
        raise PachError("STORAGE_UPLOAD_CONCURRENCY_LIMIT not found")
    volumes, mounts, user_variables = _secrets(info.transform)
    volumes += [{"name": each, "emptyDir": {}} for each in ("pach-bin", "pach-tmp", "pachyderm-worker")]
    mounts += [
        _mount("pach-bin", "/pach-bin"),
        _mount("pach-tmp", settings.cache_root),
        _mount("pachyderm-worker", "/pfs"),
    ]
    if settings.host_path:
        volumes.append({"name": "pach-disk", "hostPath": {"path": settings.host_path}})
        storage_mounts = [_mount("pach-disk", settings.root)]
    else:
        volumes.append({"name": "pach-dir-volume", "emptyDir": {}})
        storage_mounts = [_mount("pach-dir-volume", settings.root)]
    volumes.append({"name": SECRET_NAME, "secret": {"secretName": SECRET_NAME}})
    storage_mounts.append(_mount(SECRET_NAME, "/pachyderm-storage-secret"))
    docker_mounts = []
    if not settings.no_docker_socket:
        volumes.append({"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}})
        docker_mounts.append(_mount("docker", "/var/run/docker.sock"))
    common = [
        _variable("PACH_ROOT", settings.root),
        _variable("PACH_CACHE_ROOT", settings.cache_root),
        _variable("PACH_NAMESPACE", settings.namespace),
    ]
    metrics = _variable("METRICS", str(settings.metrics).lower())
    user_variables = [
        _variable("PPS_PIPELINE_NAME", info.pipeline.name),
        *user_variables,
        *common,
        _variable("PACH_IN_WORKER", "true"),
        _field("PPS_WORKER_IP", "status.podIP"),
        _variable("PPS_ETCD_PREFIX", settings.pps_prefix),
        _field("PPS_POD_NAME", "metadata.name"),
        _variable("PPS_SPEC_COMMIT", pointer.spec_commit.id),
        _variable("PPS_WORKER_GRPC_PORT", str(settings.worker_port)),
        _variable("PEER_PORT", str(settings.peer_port)),
        metrics,
        *_storage_variables(settings),
    ]
    sidecar_variables = [
        *common,
        _variable("BLOCK_CACHE_BYTES", info.cache_size),
        _variable("PFS_CACHE_SIZE", "16"),
        _variable("PORT", str(settings.port)),
        _variable("HTTP_PORT", str(settings.http_port)),
        _variable("PEER_PORT", str(settings.peer_port)),
        _variable("PPS_SPEC_COMMIT", pointer.spec_commit.id),
        _field("PACHD_POD_NAME", "metadata.name"),
        _variable("GC_PERCENT", str(settings.gc_percent)),
        metrics,
        *_storage_variables(settings),
        _variable("STORAGE_UPLOAD_CONCURRENCY_LIMIT", limit),
    ]
    pull = settings.pull_policy or "IfNotPresent"

    def container(name: str, image: str, command: list[str], variables: Any, volume_mounts: Any, memory: str) -> Any:
        result = {
            "name": name,
            "image": image,
            "command": command,
            "imagePullPolicy": pull,
            "volumeMounts": volume_mounts,
            "resources": {"requests": {"cpu": "0", "memory": memory}},
        }
        return {**result, "env": variables} if variables else result

    user_mounts = [*mounts, *storage_mounts, *docker_mounts]
    init = container("init", _without_registry(settings.worker_image), ["/app/init"], None, mounts, "64M")
    user = container(
        "user", info.transform.image or DEFAULT_IMAGE, ["/pach-bin/worker"], user_variables, user_mounts, "64M"
    )
    storage = container(
        "storage",
        settings.sidecar_image,
        ["/pachd", "--mode", "sidecar"],
        sidecar_variables,
        storage_mounts,
        info.cache_size,
    )
    _resources(info, init, user, storage)
    secrets = [*info.transform.image_pull_secrets, *([settings.pull_secret] if settings.pull_secret else [])]
    pod: dict[str, Any] = {
        "initContainers": [init],
        "containers": [user, storage],
        "serviceAccountName": settings.env.text("WORKER_SERVICE_ACCOUNT", "pachyderm-worker"),
        "restartPolicy": "Always",
        "volumes": volumes,
        "imagePullSecrets": [{"name": each} for each in secrets],
        "terminationGracePeriodSeconds": 0,
    }
    if settings.worker_uses_root:
        pod["securityContext"] = {"runAsUser": 0}
    if info.HasField("scheduling_spec"):
        pod["nodeSelector"] = dict(info.scheduling_spec.node_selector)
        pod["priorityClassName"] = info.scheduling_spec.priority_class_name
    if info.pod_spec:
        pod = _merge(pod, json.loads(info.pod_spec))
    for operation in json.loads(info.pod_patch or "[]"):
        _patch(pod, operation)
    return pod


def _secrets(transform: pb.Transform) -> tuple[list[Any], list[Any], list[Any]]:
    volumes, mounts = [], []
    variables = [_variable(name, value) for name, value in sorted(transform.env.items())]
    for secret in transform.secrets:
        if secret.mount_path:
            volumes.append({"name": secret.name, "secret": {"secretName": secret.name}})
            mounts.append(_mount(secret.name, secret.mount_path))
        if secret.env_var:
            reference = {"name": secret.name, "key": secret.key}
            variables.append({"name": secret.env_var, "valueFrom": {"secretKeyRef": reference}})
    return volumes, mounts, variables


def _resources(info: pb.PipelineInfo, init: Any, user: Any, storage: Any) -> None:
    def amounts(spec: pb.ResourceSpec) -> dict[str, str]:
        given = MessageToDict(spec)
        names = {"cpu": "cpu", "memory": "memory", "disk": "ephemeral-storage"}
        found = {names[key]: str(value) for key, value in given.items() if key in names}
        if "gpu" in given:
            found[given["gpu"]["type"]] = str(given["gpu"]["number"])
        return found

    if info.HasField("resource_requests"):
        user["resources"]["requests"].update(amounts(info.resource_requests))
    init["resources"]["requests"] = {
        key: value
        for key, value in user["resources"]["requests"].items()
        if key in ("cpu", "memory", "ephemeral-storage")
    }
    if info.HasField("resource_limits"):
        init["resources"]["limits"] = user["resources"]["limits"] = amounts(info.resource_limits)
    if info.HasField("sidecar_resource_limits"):
        storage["resources"]["limits"] = amounts(info.sidecar_resource_limits)


def _merge(target: Any, patch: Any) -> Any:
    """Return a JSON merge patch's result (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


def _patch(target: Any, operation: dict[str, Any]) -> None:
    """Do one operation of a JSON patch (RFC 6902): add, replace, remove."""
    *parents, last = [each.replace("~1", "/").replace("~0", "~") for each in operation["path"].split("/")[1:]]
    for each in parents:
        target = target[int(each)] if isinstance(target, list) else target[each]
    kind = operation["op"]
    if kind not in ("add", "replace", "remove"):
        raise PachError(f"the pachd stand-in does not know the pod patch operation {kind}")
    if isinstance(target, list):
        position = len(target) if last == "-" else int(last)
        if kind != "add":
            del target[position]
        if kind != "remove":
            target.insert(position, operation["value"])
    elif kind == "remove":
        del target[last]
    else:
        target[last] = operation["value"]
