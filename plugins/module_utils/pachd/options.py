# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The options that describe an installation, as an Ansible argument specification.

One specification for every module that takes them; the doc fragment ``pachops.pachyderm.settings`` documents it, and
:class:`.settings.Settings` judges the values.
"""

from __future__ import annotations

from typing import Any

from .settings import COMPONENTS
from .storage_secret import STORAGE_BACKEND
from .versions import DEFAULT_VERSION

Spec = dict[str, Any]


def _dict(**options: Spec) -> Spec:
    return {"type": "dict", "options": options}


def _resources() -> Spec:
    return _dict(requests={"type": "dict"}, limits={"type": "dict"})


def _service() -> Spec:
    return _dict(
        type={"type": "str", "choices": ["ClusterIP", "NodePort", "LoadBalancer"], "default": "ClusterIP"},
        annotations={"type": "dict"},
        # Keyed by port names, which are no identifiers; the settings check them.
        node_ports={"type": "dict"},
        source_ranges={"type": "list", "elements": "str"},
    )


SETTINGS_SPEC: Spec = {
    "namespace": {"type": "str", "default": "pachyderm"},
    "version": {"type": "str", "default": DEFAULT_VERSION},
    "backend": {"type": "str", "default": "local", "choices": list(STORAGE_BACKEND)},
    "cluster_deployment_id": {"type": "str"},
    "image_registry": {"type": "str"},
    "images": _dict(**{name: {"type": "str"} for name in COMPONENTS}),
    "image_pull_policy": {"type": "str", "default": "IfNotPresent", "choices": ["IfNotPresent", "Always", "Never"]},
    "image_pull_secret": {"type": "str", "no_log": False},
    "host_path": {"type": "path"},
    "pachd_replicas": {"type": "int", "default": 1},
    "etcd_members": {"type": "int", "default": 1},
    "etcd_storage": _dict(
        type={"type": "str", "default": "auto", "choices": ["auto", "claim", "existing_claim", "host_path"]},
        claim={"type": "str"},
        storage_class={"type": "str"},
        size={"type": "str", "default": "10Gi"},
    ),
    "log_level": {"type": "str", "default": "info", "choices": ["debug", "info", "error"]},
    "block_cache": {"type": "str"},
    "upload_concurrency": {"type": "int", "default": 100},
    "put_file_concurrency": {"type": "int", "default": 100},
    "resources": _dict(pachd=_resources(), etcd=_resources(), dash=_resources()),
    "service": _service(),
    "dash": {"type": "bool", "default": False},
    "dash_service": _service(),
    "tls": _dict(
        secret_name={"type": "str", "no_log": False},
        cert={"type": "str"},
        key={"type": "str", "no_log": True},
    ),
    "node_selector": {"type": "dict"},
    "tolerations": {"type": "list", "elements": "dict"},
    "priority_class": {"type": "str"},
    "iam_role": {"type": "str"},
    "service_account_annotations": {"type": "dict"},
    "cluster_roles": {"type": "bool", "default": False},
    "network_policy": {"type": "bool", "default": True},
    "extra_env": {"type": "dict"},
    "extra_volumes": {"type": "list", "elements": "dict"},
    "extra_volume_mounts": {"type": "list", "elements": "dict"},
    "host_aliases": {
        "type": "list",
        "elements": "dict",
        "options": {
            "ip": {"type": "str", "required": True},
            "hostnames": {"type": "list", "elements": "str", "required": True},
        },
    },
    "ca_bundle": {"type": "str"},
}
