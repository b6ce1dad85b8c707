# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installations that others made, on a real API server with running pods: described, explained, taken over, intact."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils import adoption
from ansible_collections.pachops.pachyderm.plugins.module_utils.discovery import Discovery, discover
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.wait import wait_for
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import connection, deployment, files
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings
from emulators.pachctl.shapes import Shape, chart, pachctl

CONTENT = b"time,price\n09:30,101.5\n"
SHAPES = {
    "pachctl deploy local": (pachctl, {}),
    "pachctl deploy, etcd on claims, cluster-wide rights": (pachctl, {"etcd": "dynamic", "local_roles": False}),
    "chart, etcd on a claim made by hand": (chart, {"etcd": "static"}),
}


@pytest.fixture(scope="session")
def etcd_image(root: Path) -> str:
    """The image of etcd that the local cluster has, which knows no registry."""
    versions = yaml.safe_load((root / "roles" / "local_cluster" / "vars" / "main.yml").read_text(encoding="utf-8"))
    return f"docker.io/pachyderm/etcd:{versions['local_cluster_versions']['etcd']}"


def apply(kube: Kube, objects: list[dict[str, Any]]) -> None:
    """Create or replace as ``kubectl apply`` does, under its name."""
    for obj in objects:
        path = Ref.of(obj).path()
        query = [("fieldManager", "kubectl-client-side-apply")]
        answer = kube.request("POST", path.rpartition("/")[0], query=query, body=json.dumps(obj))
        assert answer.status in (200, 201, 409), answer.body


@pytest.fixture
def cluster_wide(kube: Kube, namespace: str) -> Iterator[None]:
    """What lies outside of the namespace goes after the test, the roles that pachctl and the chart share included."""
    yield
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        for name in ("pachyderm", "lions-pachyderm", f"pachyderm-{namespace}"):
            kube.delete(Ref("rbac.authorization.k8s.io/v1", kind, None, name))


def look(kube: Kube, namespace: str) -> tuple[Discovery, adoption.Plan]:
    found = discover(kube, namespace)
    return found, adoption.plan(kube, found)


def ready(kube: Kube, namespace: str) -> None:
    for workload in (observe(kube, namespace).etcd, observe(kube, namespace).pachd):
        assert workload
        wait_for(kube, Ref.of(workload), 120)


def put(kube: Kube, namespace: str) -> None:
    with connection.connected(kube, namespace) as pachd:
        pachd.create_repo("ticks")
        pachd.put_file("ticks", "master", "/day.csv", io.BytesIO(CONTENT))


def read(kube: Kube, namespace: str) -> tuple[str, str, str]:
    """Return the file's checksum, and the cluster's two ids."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with connection.connected(kube, namespace) as pachd:
                content = files.remote(pachd, "ticks", "master", "/day.csv")
                assert content
                return content.checksum, pachd.cluster().id, pachd.cluster().deployment_id
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@pytest.mark.usefixtures("cluster_wide")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_others_deployed_is_taken_over_with_its_data(
    shape: str, kube: Kube, namespace: str, etcd_image: str
) -> None:
    made, details = SHAPES[shape]
    common = {"local_roles": True, "node_ports": False, "small": True, "shell": False, "disk": "1Gi"}
    directory = f"/var/pachyderm/{namespace}"
    options = {"etcd_image": etcd_image, "host_path": directory, **common, **details}
    apply(kube, made(Shape(namespace, **options)))
    ready(kube, namespace)
    put(kube, namespace)
    before = read(kube, namespace)
    assert before[0] == hashlib.sha256(CONTENT).hexdigest()

    found, plan = look(kube, namespace)
    assert found.maker == ("pachctl" if made is pachctl else "chart pachyderm-0.2.7")
    assert plan.adoptable, plan.findings
    assert plan.unexplained == []
    assert "pachd" in plan.restarts
    assert "etcd" in plan.restarts
    assert observe(kube, namespace).foreign, "a plan writes nothing"

    deployment.deploy(kube, Settings.parse(found.options), adopt=True)
    assert read(kube, namespace) == before
    assert not observe(kube, namespace).foreign

    found, plan = look(kube, namespace)
    assert found.maker == "pachops"
    assert plan.differences == [], "an installation of our own is described without a difference"
