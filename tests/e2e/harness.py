# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenarios on a running cluster, through the playbooks that users run.

The cluster is the environment's KUBECONFIG, else this host's own one.  The images are what `make quickstart` left there;
PACHYDERM_IMAGE_ARCHIVES (paths) imports others first, and PACHYDERM_IMAGES (JSON, component to name) takes images that the
cluster has under other names, so that the same scenarios run against real Pachyderm.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.wait import wait_for
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import files
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import Pachd
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import connected
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
OWN = Path("/var/lib/pachops/pachops/kubeconfig")
PREFIX = "e2e-"


@dataclass(frozen=True)
class Run:
    """One run of a playbook: exit status, all of its output, and its wall time in seconds."""

    status: int
    output: str
    seconds: float

    @property
    def words(self) -> str:
        """The output on one line with single blanks, because Ansible wraps long messages."""
        return " ".join(self.output.replace("''", "'").split())

    def changed(self) -> int:
        """Return the recap's number of changes."""
        return int(self.output.rpartition("changed=")[2].split()[0])


@dataclass(frozen=True)
class Cluster:
    """The cluster, as an administrator sees it and as playbooks are pointed at it."""

    kubeconfig: str
    kube: Kube
    images: dict[str, str]
    archives: list[str]

    def play(self, playbook: str, *flags: str, kubeconfig: str = "", **variables: Any) -> Run:
        """Run a playbook of the checkout with the variables given."""
        given: dict[str, Any] = {"kubeconfig": kubeconfig or self.kubeconfig, **variables}
        if self.images:
            given["pachyderm_images"] = {**self.images, **variables.get("pachyderm_images", {})}
        if self.archives:
            given.setdefault("pachyderm_image_archives", self.archives)
        # How tests/run.py has modules kept is not the user's.
        own = ("ANSIBLE_CALLBACK_PLUGINS",)
        kept = {
            key: value
            for key, value in os.environ.items()
            if key in own or not key.startswith(("ANSIBLE_", "K8S_AUTH_"))
        }
        kept.pop("KUBECONFIG", None)
        start = time.monotonic()
        run = subprocess.run(
            [str(ROOT / ".venv/bin/ansible-playbook"), playbook, "-e", json.dumps(given), *flags],
            cwd=ROOT,
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return Run(run.returncode, run.stdout, time.monotonic() - start)

    def names(self, namespace: str) -> set[str]:
        """Return kind/name of everything in a namespace that a deployment could have made."""
        kinds = [
            ("v1", "ConfigMap"),
            ("v1", "Secret"),
            ("v1", "Service"),
            ("v1", "ServiceAccount"),
            ("apps/v1", "Deployment"),
            ("apps/v1", "StatefulSet"),
            ("rbac.authorization.k8s.io/v1", "Role"),
        ]
        found = {
            f"{kind}/{item['metadata']['name']}"
            for version, kind in kinds
            for item in self.kube.list(version, kind, namespace)
        }
        return found - {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}

    def exists(self, namespace: str) -> bool:
        """Return whether a namespace exists."""
        return self.kube.get(Ref("v1", "Namespace", None, namespace)) is not None

    def put(self, namespace: str, repo: str, source: Path) -> None:
        """Bring a file into a repo."""
        with self._pachd(namespace) as pachd:
            files.put(pachd, source, files.Target(repo, "master", f"/{source.name}"), Progress(), write=True)

    def content(self, namespace: str, repo: str, path: str) -> files.Content | None:
        """Return the content of a file in a repo."""
        with self._pachd(namespace) as pachd:
            return files.remote(pachd, repo, "master", path)

    def ids(self, namespace: str) -> tuple[str, str]:
        """Return what pachd says of itself: cluster id and deployment id."""
        with self._pachd(namespace) as pachd:
            cluster = pachd.cluster()
            return cluster.id, cluster.deployment_id

    @contextlib.contextmanager
    def _pachd(self, namespace: str) -> Iterator[Pachd]:
        # What an earlier test killed makes every pachd unready for a moment, not only the one that it looked at; and that
        # moment may begin after the Deployment has been seen to be available.
        wait_for(self.kube, Ref("apps/v1", "Deployment", namespace, "pachd"), 120)
        deadline = time.monotonic() + 60
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    pachd = stack.enter_context(connected(self.kube, namespace))
                    break
                except PachopsError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(1)
            yield pachd


def processes(component: str, root: Path) -> list[int]:
    """Return the pids of a component of the local cluster in ``root``; none where this host does not run it."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            program, *arguments = file.read_text(errors="replace").split("\0")
            if Path(program).name == component and any(f"{root}/" in argument for argument in arguments):
                found.append(int(file.parent.name))
    return found


@contextlib.contextmanager
def namespace_of(cluster: Cluster, name: str) -> Iterator[str]:
    """Yield a namespace that does not exist yet, and leave none behind, nor files on the node."""
    namespace = PREFIX + name

    def clear() -> None:
        run = cluster.play(
            "playbooks/remove.yml", pachyderm_namespace=namespace, remove_level="data", remove_confirm=namespace
        )
        # A foreign or half-built installation is not remove's to take; what is in its namespace goes with that.
        sys.stdout.write(run.output if run.status else "")
        cluster.kube.delete(Ref("v1", "Namespace", None, namespace), wait=120)

    if cluster.exists(namespace):
        clear()
    try:
        yield namespace
    finally:
        clear()
