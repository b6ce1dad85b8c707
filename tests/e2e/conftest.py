# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster and the installations that the scenarios share; see harness.py."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# The collection becomes importable only after this file was read, when pytest is configured.
if TYPE_CHECKING:
    from e2e.harness import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The running cluster."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect
    from e2e.harness import OWN, Cluster

    kubeconfig = os.environ.get("KUBECONFIG") or (str(OWN) if OWN.exists() else "")
    assert kubeconfig, "there is no cluster: run `make quickstart` first, or set KUBECONFIG"
    images = json.loads(os.environ.get("PACHYDERM_IMAGES") or "{}")
    archives = os.environ.get("PACHYDERM_IMAGE_ARCHIVES", "").split()
    return Cluster(kubeconfig, connect(kubeconfig), images, archives)


@pytest.fixture(scope="module")
def first(cluster: Cluster) -> Iterator[str]:
    """A namespace with a deployed installation."""
    from e2e.harness import namespace_of

    with namespace_of(cluster, "first") as namespace:
        run = cluster.play("deploy.yml", pachyderm_namespace=namespace)
        assert run.status == 0, run.output
        yield namespace


@pytest.fixture(scope="module")
def second(cluster: Cluster, first: str) -> Iterator[str]:
    """Another one beside it."""
    from e2e.harness import namespace_of

    with namespace_of(cluster, "second") as namespace:
        run = cluster.play("deploy.yml", pachyderm_namespace=namespace)
        assert run.status == 0, run.output
        yield namespace
