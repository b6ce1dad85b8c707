# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Pods of the runner image, which do the collection's work inside a cluster: one form for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Where the Secret with the run's variables is mounted.
VARIABLES = "/etc/pachops"
#: For :func:`pod_spec`; ``timeout`` is in seconds.
RUNNER_ARGUMENT_SPEC: Mapping[str, Any] = {
    "image": {"type": "str", "default": "docker.io/pachops/runner:latest"},
    "image_pull_policy": {"type": "str", "choices": ["Always", "IfNotPresent", "Never"], "default": "IfNotPresent"},
    # A name, which may be shown.
    "image_pull_secret": {"type": "str", "default": "", "no_log": False},
    "service_account": {"type": "str", "default": ""},
    "run_as": {"type": "int", "default": 65534},
    "resources": {"type": "dict", "default": {}},
    "volumes": {"type": "list", "elements": "dict", "default": []},
    "volume_mounts": {"type": "list", "elements": "dict", "default": []},
    "node_selector": {"type": "dict", "default": {}},
    "timeout": {"type": "int", "default": 21600},
}


def pod_spec(
    runner: Mapping[str, Any], service_account: str, secret: str, container: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the specification of a pod that runs once, as nobody in particular, on a file system of its own.

    :param runner: options as in :data:`RUNNER_ARGUMENT_SPEC`.
    :param secret: mounted at :data:`VARIABLES`, for the run's group alone.
    :param container: its name, command, arguments, environment.
    """
    user = int(runner["run_as"])
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": service_account,
        "enableServiceLinks": False,
        "nodeSelector": dict(runner["node_selector"] or {}),
        "securityContext": {
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "runAsNonRoot": user != 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "image": runner["image"],
                "imagePullPolicy": runner["image_pull_policy"],
                "resources": dict(runner["resources"] or {}),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "variables", "mountPath": VARIABLES, "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
                    *(runner["volume_mounts"] or ()),
                ],
                **container,
            }
        ],
        "volumes": [
            # The group's, which fsGroup makes the run's own.
            {"name": "variables", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
            *(runner["volumes"] or ()),
        ],
    }
    if runner["image_pull_secret"]:
        spec["imagePullSecrets"] = [{"name": runner["image_pull_secret"]}]
    return spec
