# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the cluster killed under an installation, and under a port-forward to it.  Nothing else can use it meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.files import local
from e2e.harness import ROOT, Cluster, processes

TICKS = ROOT / "examples" / "quickstart" / "ticks.csv"
SURVIVE = ROOT / "molecule" / "client" / "files" / "survive.py"


def need(component: str, cluster: Cluster) -> list[int]:
    """Return the component's processes, or skip where there is none."""
    found = processes(component, Path(cluster.kubeconfig).parent)
    if not found:
        pytest.skip(f"this host does not run the cluster's {component}, so it cannot be killed from here")
    return found


@pytest.fixture(scope="module")
def filled(cluster: Cluster, first: str) -> str:
    """An installation with a file in it."""
    cluster.put(first, "ticks", TICKS)
    return first


@pytest.mark.parametrize("component", ["kubelet", "etcd"])
def test_a_killed_component_loses_nothing(cluster: Cluster, filled: str, component: str) -> None:
    killed = need(component, cluster)
    os.kill(killed[0], signal.SIGKILL)
    deadline = time.monotonic() + 120
    while processes(component, Path(cluster.kubeconfig).parent) in ([], killed):
        assert time.monotonic() < deadline, f"{component} was not started again"
        time.sleep(0.5)
    while True:
        try:
            assert cluster.content(filled, "ticks", "/ticks.csv") == local(TICKS)
            break
        except PachopsError:
            # The API server itself waits for its etcd.
            if time.monotonic() >= deadline:
                raise
            time.sleep(1)


def test_a_port_forward_outlives_the_pod_its_program_and_the_api_server(
    cluster: Cluster, filled: str, tmp_path: Path
) -> None:
    need("kube-apiserver", cluster)
    variables = {
        "pachyderm_namespace": filled,
        "client_context": "kills",
        "client_directory": str(tmp_path / "port-forward"),
        "client_config_file": str(tmp_path / "config.json"),
        "client_supervisor": "supervisord",
        "client_keepalive": 5,
        "client_interval": 3,
        "client_ports": {"grpc": 23670, "s3": 23671, "http": 23672},
    }
    run = cluster.play("playbooks/port_forward.yml", **variables)
    try:
        assert run.status == 0, run.output
        survived = subprocess.run(
            [
                sys.executable,
                str(SURVIVE),
                cluster.kubeconfig,
                filled,
                str(tmp_path / "port-forward" / "kills"),
                "pod",
                "kill",
                f"api={Path(cluster.kubeconfig).parent}",
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert survived.returncode == 0, survived.stderr
        sys.stdout.write(survived.stdout)
    finally:
        gone = cluster.play("playbooks/port_forward.yml", **variables, client_state="absent")
        assert gone.status == 0, gone.output
