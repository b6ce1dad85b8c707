# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast bytes pass through the port-forward that stays, compared with `kubectl port-forward` to the same pod.

A pod of this benchmark's own, in a namespace of its own, sends zeros, and takes what it is sent.  Each round moves the
same number of bytes both ways through both programs, in turn, of which the first one changes from round to round.  What
is compared are the medians; the exit status is 1 where either way is slower than it may be.  CPU seconds are those of
the program alone.

    python benchmarks/port_forward.py [--megabytes 400] [--rounds 5] [--kubeconfig PATH]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _common import KUBECONFIG, ROOT
from servers.ports import free_ports

COLLECTIONS = ROOT / ".cache" / "collections"
# Part of the local cluster.
IMAGE = "localhost/pachops/busybox:1"
PACKAGE = "ansible_collections.pachops.pachyderm.plugins.module_utils"
SEND, TAKE = 650, 600  # the ports of pachd that the forward knows as grpc and s3
PIECE = 1 << 20
LEAST = 0.9  # of the throughput of kubectl
KUBECTL, OURS = "kubectl port-forward", "the forward that stays"


def pod(namespace: str, megabytes: int) -> list[dict[str, Any]]:
    """Return a namespace and a pod that looks like pachd's from outside."""
    script = (
        f"nc -ll -p {SEND} -e /bin/busybox dd if=/dev/zero bs=1M count={megabytes} & "
        f"exec nc -ll -p {TAKE} -e /bin/busybox sh -c 'dd of=/dev/null bs=1M count={megabytes} iflag=fullblock; echo x'"
    )
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", script]}
    metadata = {"name": "bench", "namespace": namespace, "labels": {"suite": "pachyderm", "app": "pachd"}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}},
    ]


@contextlib.contextmanager
def running(command: list[str], ports: list[int], environment: dict[str, str]) -> Iterator[int]:
    """Run a program until the block ends, and yield its id; it counts as started when its ports are open."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        for port in ports:
            while time.monotonic() < deadline:
                try:
                    # Listening is enough: a connection would make the pod send.
                    socket.create_server(("127.0.0.1", port)).close()
                except OSError:
                    break
                time.sleep(0.1)
            else:
                sys.exit(f"{command[0]} does not listen on {port}")
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def download(port: int, size: int) -> float:
    """Return the seconds that receiving ``size`` bytes takes."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        buffer, received = bytearray(PIECE), 0
        while received < size:
            count = connection.recv_into(buffer)
            if not count:
                sys.exit(f"the connection ended after {received} of {size} bytes")
            received += count
    return time.monotonic() - started


def upload(port: int, size: int) -> float:
    """Return the seconds until the pod has taken ``size`` bytes and said so."""
    started, piece = time.monotonic(), bytes(PIECE)
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        for _number in range(size // PIECE):
            connection.sendall(piece)
        if connection.recv(1) != b"x":
            sys.exit("the pod did not confirm what it was sent")
    return time.monotonic() - started


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description="Throughput of the port-forward that stays.")
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kubeconfig", default=KUBECONFIG)
    given = parser.parse_args()
    kubectl = shutil.which("kubectl") or "kubectl"
    environment = {**os.environ, "KUBECONFIG": given.kubeconfig, "PYTHONPATH": str(COLLECTIONS)}
    namespace = f"bench-forward-{uuid.uuid4().hex[:6]}"
    context = subprocess.check_output([kubectl, "config", "current-context"], env=environment, text=True).strip()

    def tell(*arguments: str, content: str = "") -> None:
        subprocess.run(
            [kubectl, *arguments], env=environment, input=content, text=True, check=True, capture_output=True
        )

    ours, theirs = free_ports(2), free_ports(2)
    seconds: dict[tuple[str, str], list[float]] = {}
    used: dict[tuple[str, str], float] = {}
    try:
        objects = {"apiVersion": "v1", "kind": "List", "items": pod(namespace, given.megabytes)}
        tell("apply", "--filename", "-", content=json.dumps(objects))
        tell("wait", "--for=condition=Ready", "pod/bench", "--namespace", namespace, "--timeout=120s")
        with tempfile.TemporaryDirectory() as directory:
            config = {
                "kubeconfig": given.kubeconfig,
                "context": context,
                "namespace": namespace,
                "ports": {"grpc": ours[0], "s3": ours[1]},
                "patience": 30,
                "keepalive": 20,
                "interval": 3600,
                "environment": {},
            }
            file = Path(directory) / "config.json"
            file.write_text(json.dumps(config))
            staying = [sys.executable, "-m", f"{PACKAGE}.kube.forwarder", str(file)]
            forward = [kubectl, "port-forward", "--namespace", namespace, "pod/bench"]
            forward += [f"{theirs[0]}:{SEND}", f"{theirs[1]}:{TAKE}"]
            with running(staying, ours, environment) as own, running(forward, theirs, environment) as other:
                programs = [(KUBECTL, theirs, other), (OURS, ours, own)]
                for number in range(given.rounds):
                    for way, measure in (("down", download), ("up", upload)):
                        for name, ports, pid in programs[:: -1 if number % 2 else 1]:
                            before = cpu(pid)
                            took = measure(ports[way == "up"], given.megabytes * PIECE)
                            seconds.setdefault((way, name), []).append(took)
                            used[way, name] = used.get((way, name), 0.0) + cpu(pid) - before
    finally:
        subprocess.run(
            [kubectl, "delete", "namespace", namespace, "--wait=false"],
            env=environment,
            check=False,
            capture_output=True,
        )
    slow = False
    for way in ("down", "up"):
        rates = {name: given.megabytes / statistics.median(seconds[way, name]) for name in (KUBECTL, OURS)}
        for name, rate in rates.items():
            per_gigabyte = used[way, name] * 1024 / given.megabytes / given.rounds
            sys.stdout.write(f"{way:4}  {name:22}  {rate:7.0f} MB/s  {per_gigabyte:5.2f} s of CPU per GiB\n")
        ratio = rates[OURS] / rates[KUBECTL]
        slow = slow or ratio < LEAST
        verdict = "PASS" if ratio >= LEAST else "FAIL"
        sys.stdout.write(f"{verdict}  {way}: {ratio:.2f} of kubectl's throughput, at least {LEAST} is wanted\n")
    return int(slow)


if __name__ == "__main__":
    raise SystemExit(main())
