# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long deploying takes, compared with `kubectl apply` of the very same objects and waiting for their rollouts.

Each round deploys to a fresh namespace three ways, in turn, and removes it: kubectl; the module `pachyderm_deploy`
alone (the same work); and the whole playbook, which also looks for what stands in the way and proves pachd.
Every wait is for the same thing: etcd and pachd are ready.

    .venv/bin/python benchmarks/deploy.py [--rounds 5] [--kubeconfig PATH] [--images '{"pachd": "…"}']

It takes about five minutes on the local cluster that `make quickstart` leaves.  Medians are printed, with their ratios
to kubectl's; anything else that runs on the machine falsifies them, so the load is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import KUBECONFIG, ROOT
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

COLLECTIONS = ROOT / ".cache" / "collections"


class Bench:
    """One cluster and one set of images."""

    def __init__(self, kubeconfig: str, images: dict[str, str]) -> None:
        self.images = images
        self.environment = {**os.environ, "KUBECONFIG": kubeconfig, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        found = sorted(Path("/var/cache/pachops/programs").glob("kubernetes-*/kubectl"))
        self.kubectl = shutil.which("kubectl") or (str(found[-1]) if found else "kubectl")
        self.ansible = str(Path(sys.executable).parent / "ansible-playbook")

    def run(self, *command: str) -> None:
        """Run a program, and show what it said when it fails."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout.decode()[-4000:]}")

    def with_kubectl(self, namespace: str) -> float:
        """Apply the objects with kubectl and wait for the rollouts; return seconds."""
        with tempfile.TemporaryDirectory() as folder:
            manifest = Path(folder) / "objects.json"
            manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": self.objects(namespace)}))
            started = time.monotonic()
            self.run(self.kubectl, "apply", "--filename", str(manifest))
            for workload in ("statefulset/etcd", "deployment/pachd"):
                self.run(self.kubectl, "--namespace", namespace, "rollout", "status", workload, "--timeout=300s")
            return time.monotonic() - started

    def objects(self, namespace: str) -> list[dict[str, Any]]:
        """Return all that the playbook would apply."""
        from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import manifests
        from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings

        settings = Settings.parse(
            {"namespace": namespace, "images": self.images, "cluster_deployment_id": uuid.uuid4().hex}
        )
        return [manifests.namespace_object(namespace), self.secret(namespace), *manifests.all_objects(settings)]

    def secret(self, namespace: str) -> dict[str, Any]:
        """Return the storage secret of backend local, which is empty."""
        metadata = {"name": "pachyderm-storage-secret", "namespace": namespace, "labels": {"suite": "pachyderm"}}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}

    def with_module(self, namespace: str) -> float:
        """Let the module do the same; return seconds."""
        with tempfile.TemporaryDirectory() as folder:
            manifest, play = Path(folder) / "secret.json", Path(folder) / "play.yml"
            items = self.objects(namespace)[:2]
            manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
            task = {"pachops.pachyderm.pachyderm_deploy": {"namespace": namespace, "images": self.images}}
            play.write_text(
                json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}])
            )
            started = time.monotonic()
            self.run(self.kubectl, "apply", "--filename", str(manifest))
            self.run(self.ansible, str(play))
            return time.monotonic() - started

    def with_playbook(self, namespace: str) -> float:
        """Run the whole playbook; return seconds."""
        variables = json.dumps({"pachyderm_namespace": namespace, "pachyderm_images": self.images})
        started = time.monotonic()
        self.run(self.ansible, "deploy.yml", "-e", "backend=local", "-e", variables)
        return time.monotonic() - started

    def remove(self, namespace: str) -> None:
        """Take the namespace and its data away."""
        self.run(self.kubectl, "delete", "namespace", namespace, "--ignore-not-found", "--wait")
        shutil.rmtree(Path("/var/pachyderm") / namespace, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kubeconfig", default=KUBECONFIG)
    parser.add_argument("--images", type=json.loads, default={"etcd": "docker.io/pachyderm/etcd:v3.5.35"})
    options = parser.parse_args()
    _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()  # noqa: SLF001 - there is no public way
    bench = Bench(options.kubeconfig, options.images)
    ways: dict[str, Callable[[str], float]] = {
        "kubectl apply + rollout status": bench.with_kubectl,
        "pachyderm_deploy": bench.with_module,
        "deploy.yml (preflight, secret, deploy, proof)": bench.with_playbook,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds):
        for name, way in ways.items():
            namespace = f"bench-{uuid.uuid4().hex[:8]}"
            try:
                seconds[name].append(way(namespace))
            finally:
                bench.remove(namespace)
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
    base = statistics.median(seconds["kubectl apply + rollout status"])
    print(f"\n{'median of ' + str(options.rounds):<50}{'seconds':>9}{'ratio':>8}{'load':>8}")
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(f"{name:<50}{median:>9.1f}{median / base:>8.2f}{os.getloadavg()[0]:>8.1f}")


if __name__ == "__main__":
    main()
