# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in pachd with a real etcd, both as processes of this host that listen on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.etcd import program
from servers.ports import free_ports

DEPLOYMENT_ID = "0123456789abcdef0123456789abcdef"


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Return when ``port`` accepts connections; fail with the process's output when it ended."""
    end = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"nothing listens on port {port}:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


class Installation:
    """An etcd and a stand-in pachd as processes of this host."""

    def __init__(self, root: Path, directory: Path, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.content = directory / "pach"
        self.log = directory / "pachd.log"
        self.etcd_data = directory / "etcd"
        self._root = root
        self._extra = environment or {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.etcd_port, self._peer_url, self.port, *self._ports = free_ports(7)
        self.content.mkdir(exist_ok=True)

    def start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.etcd_port, self._peer_url))
        log = self.directory / "etcd.log"
        command = [str(program()), "--data-dir", str(self.etcd_data), "--log-level", "error"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--max-txn-ops=10000", "--max-request-bytes=52428800", "--unsafe-no-fsync"]
        wait_for(self.etcd_port, self._run(command, log), log)

    def start_pachd(self) -> subprocess.Popen[bytes]:
        """Start the stand-in and return at once."""
        peer, http, s3, metrics = self._ports
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{self._root}/.cache/collections:{self._root}/tests/emulators/pachd",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ETCD_SERVICE_HOST": "127.0.0.1",
            "ETCD_SERVICE_PORT": str(self.etcd_port),
            "KUBERNETES_PORT_443_TCP_ADDR": "127.0.0.1",
            "PACHD_POD_NAME": "pachd-0",
            "STORAGE_BACKEND": "LOCAL",
            "PACH_ROOT": str(self.content),
            "PACH_CACHE_ROOT": str(self.directory / "cache"),
            "PORT": str(self.port),
            "PEER_PORT": str(peer),
            "HTTP_PORT": str(http),
            "S3GATEWAY_PORT": str(s3),
            "CLUSTER_DEPLOYMENT_ID": DEPLOYMENT_ID,
            "STANDIN_METRICS_PORT": str(metrics),
            "STANDIN_STORAGE_SECRET": str(self.directory / "secret"),
            "STANDIN_ETCD_TIMEOUT": "2",
            **self._extra,
        }
        environment = {name: value for name, value in environment.items() if value}
        return self._run([sys.executable, "-m", "standin"], self.log, environment)

    def start(self) -> None:
        self.start_etcd()
        self.serve()

    def serve(self) -> None:
        """Start the stand-in and wait for it."""
        wait_for(self.port, self.start_pachd(), self.log)

    def start_refused(self, status: int = 1) -> str:
        """Start the stand-in, which has to leave by itself, and return what it said."""
        process = self.start_pachd()
        assert process.wait(120) == status, self.log.read_text()
        return self.log.read_text()

    def ready(self) -> bool:
        """Return whether the readiness probe says so."""
        environment = {**os.environ, "PYTHONPATH": f"{self._root}/tests/emulators/pachd"}
        environment |= {
            "ETCD_SERVICE_HOST": "x",
            "ETCD_SERVICE_PORT": "1",
            "KUBERNETES_PORT_443_TCP_ADDR": "x",
            "PACHD_POD_NAME": "x",
        }
        environment["PEER_PORT"] = str(self._ports[0])
        command = [sys.executable, "-m", "standin", "--readiness"]
        return subprocess.run(command, env=environment, timeout=60, check=False, capture_output=True).returncode == 0

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()

    def _run(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        self._processes.append(process)
        return process
