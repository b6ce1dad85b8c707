# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real cluster for the tests that need one: the project's own local cluster, or what the environment names.

With ``--cluster`` only these tests run (and those marked ``host``), with ``--servers`` only the others, which start all
that they talk to themselves.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube

LOCAL_CLUSTER = "/var/lib/pachops/pachops/kubeconfig"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    for part in ("cluster", "servers"):
        parser.addoption(f"--{part}", action="store_const", const=part, dest="part", help=f"only what uses the {part}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the other part out."""
    part = config.getoption("part")
    if part is None:
        return
    chosen, others = [], []
    for item in items:
        on_host = "kubeconfig" in getattr(item, "fixturenames", ()) or item.get_closest_marker("host")
        (chosen if (part == "cluster") == bool(on_host) else others).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=others)


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """The kubeconfig's path; its absence is a failure, for ``make test`` brings a cluster up."""
    path = os.environ.get("PACHOPS_TEST_KUBECONFIG") or LOCAL_CLUSTER
    if not Path(path).is_file():
        pytest.fail(
            f"no cluster to test with: {path} does not exist. Run `make cluster` or set PACHOPS_TEST_KUBECONFIG."
        )
    return path


@pytest.fixture(scope="session")
def kube(kubeconfig: str) -> Iterator[Kube]:
    """A client with an administrator's rights."""
    # The collection becomes importable only after this file was read.
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect

    client = connect(kubeconfig)
    yield client
    client.close()


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the test's own, deleted afterwards."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref

    name = f"test-{secrets.token_hex(4)}"
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    kube.apply(obj)
    yield name
    kube.delete(Ref.of(obj))
    # Where an installation with backend local had its objects.
    shutil.rmtree(Path("/var/pachyderm") / name, ignore_errors=True)
