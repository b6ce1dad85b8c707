# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup that a Job makes inside a real cluster.

The container is that of the tests' pipelines, for its Python, with this checkout and its libraries mounted where the runner image has
them; the scenario ``schedule`` runs the image itself.  ``PACHOPS_TEST_RUNNER`` names a runner image to use instead.
"""

from __future__ import annotations

import copy
import os
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.modules import etcd_backup
from doubles.backups import CLUSTER, real_objects
from servers.outline import image, outline

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "/opt/pachops/collections/ansible_collections/pachops/pachyderm"
#: What a run makes, and nothing of which may stay.
MADE = (
    ("batch/v1", "Job"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
)


@pytest.fixture
def places() -> Iterator[Path]:
    """A directory that the node sees too: pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="pachops-job-") as made:
        source = DirectoryStore(Path(made) / "source")
        for name, content in real_objects().items():
            source.write(name, [content])
        yield Path(made)


@pytest.fixture
def back_up(
    kube: Kube, kubeconfig: str, namespace: str, places: Path, run_module: Callable[..., Any]
) -> Callable[..., Any]:
    outline(kube, namespace, CLUSTER)
    volumes = {"/backups": str(places), "/objects": str(places / "source")}
    runner = os.environ.get("PACHOPS_TEST_RUNNER", "")
    if not runner:
        volumes |= {"/opt/pachops/lib": sysconfig.get_path("purelib"), f"{COLLECTION}/plugins": str(ROOT / "plugins")}
    job = {
        "image": runner or image(kube, "pachops/python"),
        "image_pull_policy": "Never",
        "run_as": os.getuid(),
        "timeout": 120,
        "volumes": [{"name": f"v{number}", "hostPath": {"path": path}} for number, path in enumerate(volumes.values())],
        "volume_mounts": [{"name": f"v{number}", "mountPath": path} for number, path in enumerate(volumes)],
    }

    def run(changes: dict[str, Any] | None = None, **options: Any) -> Any:
        given = {
            "kubeconfig": kubeconfig,
            "namespace": namespace,
            "store": "/backups/store",
            "source_path": "/objects",
            "transport": "job",
            "job": {**copy.deepcopy(job), **(changes or {})},
        }
        return run_module(etcd_backup.main, **(given | options))

    return run


def left(kube: Kube, namespace: str) -> list[str]:
    return [
        f"{kind} {each['metadata']['name']}"
        for version, kind in MADE
        for each in kube.list(version, kind, namespace)
        if each["metadata"]["name"].startswith("pachops-backup")
    ]


def test_a_job_makes_the_set_and_leaves_nothing(
    back_up: Callable[..., Any],
    kube: Kube,
    namespace: str,
    places: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    checked = back_up(check_mode=True)
    assert checked.changed
    assert not left(kube, namespace)
    assert not (places / "store").exists()

    told = tmp_path / "progress"
    told.touch()
    monkeypatch.setenv("PACHOPS_PROGRESS", str(told))
    made = back_up()
    assert not made.failed, made["msg"]
    assert made["transport"] == "job"
    assert set(made) == set(checked)
    assert made["copied"]["count"] == len(real_objects())
    opened = open_set(DirectoryStore(places / "store"), CLUSTER, made["backup"]["id"])
    assert sum(1 for _entry in opened.index()) == len(real_objects())
    assert sum(map(len, opened.snapshot())) == opened.manifest.file("etcd.snapshot.zst").raw_size
    assert '"stage": "publish"' in told.read_text(), "the Job's progress is shown here"

    # Its own words come back, not those of a wrapper around it.
    refused = back_up(source_path="/backups/elsewhere")
    assert refused.failed
    assert refused["what"] == "the objects are not on this host"
    late = back_up({"image_pull_policy": "Never", "image": "docker.io/pachops/none:0"})
    assert "the image docker.io/pachops/none:0 cannot be pulled" in late["msg"]
    short = back_up({"resources": {"limits": {"memory": "24Mi"}}})
    assert "OOMKilled" in short["msg"]
    assert "Raise the memory" in short["fix"]
    end = time.monotonic() + 30
    while (remains := left(kube, namespace)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not remains
