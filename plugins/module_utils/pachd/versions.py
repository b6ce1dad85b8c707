# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What differs between releases of Pachyderm, in one place.

``release("1.13.4")`` answers every question whose answer depends on the version; no other module compares versions.
The image names are those that ``pachctl deploy`` of the release writes (``src/server/pkg/deploy/assets/assets.go`` and
``src/client/version/client.go`` upstream), spelled in full so that a container runtime without Docker's defaults finds
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import InputError

DEFAULT_VERSION = "1.13.4"

# 1.12.5 is the last of 1.12; earlier ones lack PACH_CACHE_ROOT or ship S3 defaults that do not parse
# (pachyderm/pachyderm#5401). 2.x is deployed through its own chart, which this collection does not drive yet.
SUPPORTED: tuple[str, ...] = ("1.12.5", "1.13.0", "1.13.1", "1.13.2", "1.13.3", "1.13.4")

# https://kubernetes.io/docs/reference/using-api/deprecation-guide/: the API groups of the manifests are served by all.
KUBERNETES_MINORS: range = range(28, 35)


@dataclass(frozen=True)
class Release:
    """The facts of one release.

    :param version: the release, without a leading ``v``, as pachd's version RPC spells it.
    :param images: component (``pachd``, ``worker``, ``etcd``, ``dash``, ``grpc_proxy``) to image reference.
    :param grpc_port: port of the external gRPC API inside the pod.
    :param peer_port: port of the internal gRPC API inside the pod, never TLS.
    """

    version: str
    images: Mapping[str, str]
    grpc_port: int = 650
    peer_port: int = 653

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The version as (major, minor, micro), as pachd's version RPC returns it."""
        major, minor, micro = (int(part) for part in self.version.split("."))
        return major, minor, micro


def release(version: str) -> Release:
    """Return the facts of ``version``.

    :raises InputError: the version is not one that the collection deploys.
    """
    if version not in SUPPORTED:
        raise InputError(
            "this version of Pachyderm is not supported",
            where=f"pachyderm_version={version}",
            why=why_unsupported(version),
            fix=f"Choose one of {', '.join(SUPPORTED)}.",
        )
    return Release(
        version=version,
        images={
            "pachd": f"docker.io/pachyderm/pachd:{version}",
            "worker": f"docker.io/pachyderm/worker:{version}",
            "etcd": "docker.io/pachyderm/etcd:v3.3.5",
            "dash": "docker.io/pachyderm/dash:0.5.57",
            "grpc_proxy": "docker.io/pachyderm/grpc-proxy:0.4.10",
        },
    )


def why_unsupported(version: str) -> str:
    """Return why ``version``, which is not in :data:`SUPPORTED`, is not."""
    if version.startswith("v") and version[1:] in SUPPORTED:
        return "versions are written without a leading v"
    if version.startswith("2."):
        return "Pachyderm 2 keeps its metadata in PostgreSQL and is deployed by its own chart"
    return "the manifests of this collection fit 1.12.5 and 1.13 only"
