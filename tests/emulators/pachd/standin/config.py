# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pachd's settings: the environment, with the names, defaults and refusals of src/server/pkg/serviceenv/config.go."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

ETCD_PREFIX = "pachyderm/1.7.0"
SECRET = Path("/pachyderm-storage-secret")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def fail(message: str, status: int = 1) -> NoReturn:
    """Leave as pachd leaves: the cause on standard error, and the status."""
    print(message, file=sys.stderr, flush=True)
    sys.stderr.flush()
    os._exit(status)


class Environment:
    """Variables with defaults; an empty one counts as unset."""

    def text(self, name: str, default: str = "") -> str:
        """Return the variable."""
        return os.environ.get(name) or default

    def number(self, name: str, default: int) -> int:
        """Return the variable as a number, or leave."""
        value = self.text(name, str(default))
        try:
            return int(value)
        except ValueError:
            fail(f'cannot parse: strconv.ParseInt: parsing "{value}": invalid syntax')

    def flag(self, name: str, default: bool) -> bool:
        """Return the variable as yes or no, or leave."""
        value = self.text(name, str(default).lower())
        if value not in _TRUE + _FALSE:
            fail(f'cannot parse: strconv.ParseBool: parsing "{value}": invalid syntax')
        return value in _TRUE

    def required(self, name: str, kind: str) -> str:
        """Return the variable, or leave."""
        value = self.text(name)
        if not value:
            fail(f"env key not set when required: {name} {kind}")
        return value


class Settings:
    """What pachd reads from its environment at start; leaves when a required variable is missing."""

    def __init__(self) -> None:
        env = Environment()
        self.env = env
        self.etcd_host = env.required("ETCD_SERVICE_HOST", "serviceenv.GlobalConfiguration")
        self.etcd_port = env.required("ETCD_SERVICE_PORT", "serviceenv.GlobalConfiguration")
        self.worker_port = env.number("PPS_WORKER_GRPC_PORT", 80)
        self.port = env.number("PORT", 650)
        self.http_port = env.number("HTTP_PORT", 652)
        self.peer_port = env.number("PEER_PORT", 653)
        self.s3_port = env.number("S3GATEWAY_PORT", 600)
        self.metrics_port = env.number("STANDIN_METRICS_PORT", 656)
        self.namespace = env.text("PACH_NAMESPACE", "default")
        self.root = env.text("PACH_ROOT", "/pach")
        self.cache_root = env.text("PACH_CACHE_ROOT", "/pach-cache")
        self.gc_percent = env.number("GC_PERCENT", 50)
        self.backend = env.text("STORAGE_BACKEND")
        self.host_path = env.text("STORAGE_HOST_PATH")
        self.prefix = env.text("ETCD_PREFIX", ETCD_PREFIX)
        self.pfs_prefix = f"{self.prefix}/{env.text('PFS_ETCD_PREFIX', 'pachyderm_pfs')}"
        self.pps_prefix = f"{self.prefix}/{env.text('PPS_ETCD_PREFIX', 'pachyderm_pps')}"
        self.kube_address = env.required("KUBERNETES_PORT_443_TCP_ADDR", "serviceenv.PachdSpecificConfiguration")
        self.metrics = env.flag("METRICS", True)
        self.worker_image = env.text("WORKER_IMAGE")
        self.sidecar_image = env.text("WORKER_SIDECAR_IMAGE")
        self.pull_policy = env.text("WORKER_IMAGE_PULL_POLICY")
        self.iam_role = env.text("IAM_ROLE")
        self.pull_secret = env.text("IMAGE_PULL_SECRET")
        self.no_docker_socket = env.flag("NO_EXPOSE_DOCKER_SOCKET", False)
        self.worker_uses_root = env.flag("WORKER_USES_ROOT", True)
        self.deployment_id = env.text("CLUSTER_DEPLOYMENT_ID")
        self.critical_only = env.flag("REQUIRE_CRITICAL_SERVERS_ONLY", False)
        self.pod_name = env.required("PACHD_POD_NAME", "serviceenv.PachdSpecificConfiguration")
        #: The stand-in's own: how long etcd is waited for, in seconds.  pachd's panic came after 361 s.
        self.etcd_patience = env.number("STANDIN_ETCD_TIMEOUT", 361)


def secret(name: str) -> str | None:
    """Return a key of the storage secret, as mounted, without surrounding white space; None when it is absent."""
    directory = Path(os.environ.get("STANDIN_STORAGE_SECRET") or SECRET)
    try:
        return (directory / name).read_text().strip()
    except FileNotFoundError:
        return None
