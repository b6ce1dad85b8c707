# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What one pachd says about itself, asked in one go through a port-forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .client import Pachd
from .connection import PEER_PORT

if TYPE_CHECKING:
    from ..kube.client import Kube


@dataclass(frozen=True)
class Answers:
    """:param repos: name to size in bytes of the head of master, which is what pachd calls a repo's size.
    :param pipelines: name to state, upper case as in pps.proto without its prefix (``RUNNING``, ``CRASHING`` …).
    """

    version: str
    cluster_id: str
    deployment_id: str
    repos: Mapping[str, int] = field(default_factory=dict)
    pipelines: Mapping[str, str] = field(default_factory=dict)


def ask(kube: Kube, namespace: str, pod: str, timeout: float) -> Answers:
    """Return what the pachd in ``pod`` answers.

    :param timeout: seconds for each call.
    :raises PachdError: it gave no answer or refused.
    :raises ClusterError: the port-forward could not be opened.
    """
    with kube.portforward(namespace, pod, PEER_PORT) as address, Pachd(*address, timeout=timeout) as pachd:
        cluster = pachd.cluster()
        state = pachd.pps_pb2.PipelineState.Name
        return Answers(
            version=pachd.version(),
            cluster_id=cluster.id,
            deployment_id=cluster.deployment_id,
            repos={info.repo.name: int(info.size_bytes) for info in pachd.repo_infos()},
            pipelines={
                info.pipeline.name: state(info.state).removeprefix("PIPELINE_") for info in pachd.pipeline_infos()
            },
        )
