# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port-forwarding on a real cluster: large bodies, many connections, a pod that is replaced, a silent port."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.portforward import PortForward
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.wait import wait_for
from doubles.tcp import exchange
from servers.outline import image

PORT = 7000
# Not busybox' nc, which has one connection wait: on a busy machine the kernel gives up others that come at the same time.
ECHO = f"""
import socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)

class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 64

Server(("", {PORT}), Echo).serve_forever()
"""


@pytest.fixture
def echo(kube: Kube, namespace: str) -> dict[str, Any]:
    """A Deployment whose pod sends back whatever it is sent."""
    container = {"name": "echo", "image": image(kube, "pachops/python"), "imagePullPolicy": "Never"}
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "timeoutSeconds": 10}
    container |= {"command": ["python3", "-c", ECHO], "readinessProbe": probe}
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "echo"}},
        "template": {"metadata": {"labels": {"app": "echo"}}, "spec": pod},
    }
    metadata = {"name": "echo", "namespace": namespace}
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    kube.apply(obj)
    wait_for(kube, Ref.of(obj), 180)
    return obj


def pod_name(kube: Kube, namespace: str) -> str:
    (pod,) = [
        pod
        for pod in kube.list("v1", "Pod", namespace, labels="app=echo")
        if not pod["metadata"].get("deletionTimestamp")
    ]
    return str(pod["metadata"]["name"])


def round_trip(address: tuple[str, int], data: bytes) -> bytes:
    """Send ``data`` and return as much as came back."""
    return exchange(address, data, len(data), timeout=180)


def test_bytes_come_back_unchanged(kube: Kube, namespace: str, echo: dict[str, Any]) -> None:
    assert echo
    before = threading.active_count()
    with kube.portforward(namespace, pod_name(kube, namespace), PORT) as address:
        assert address[0] == "127.0.0.1"
        for size in (1, 70_000, 20_000_000):
            data = os.urandom(size)
            assert round_trip(address, data) == data, size
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_many_connections_at_once(kube: Kube, namespace: str, echo: dict[str, Any]) -> None:
    assert echo
    data = [os.urandom(200_000) for _number in range(12)]
    results: dict[int, bytes] = {}
    forward = PortForward(kube, namespace, PORT, selector="app=echo", patience=120)
    with forward as address:

        def one(number: int) -> None:
            try:
                results[number] = round_trip(address, data[number])
            except OSError as error:
                results[number] = f"{error!r}: {forward.error}".encode()

        threads = [threading.Thread(target=one, args=(number,)) for number in range(len(data))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wrong = {number: result[:200] for number, result in results.items() if result != data[number]}
    assert not wrong
    assert len(results) == len(data)


def test_by_selector_it_outlives_the_pod(kube: Kube, namespace: str, echo: dict[str, Any]) -> None:
    with PortForward(kube, namespace, PORT, selector="app=echo", patience=120) as address:
        assert round_trip(address, b"first") == b"first"
        first = pod_name(kube, namespace)
        kube.delete(Ref("v1", "Pod", namespace, first), wait=60)
        # At once: the connection waits for the successor.
        assert round_trip(address, b"second") == b"second"
        assert pod_name(kube, namespace) != first
    assert echo


def test_a_port_that_nobody_listens_on(kube: Kube, namespace: str, echo: dict[str, Any]) -> None:
    assert echo
    forward = PortForward(kube, namespace, 7999, selector="app=echo")
    with forward as address, pytest.raises(ConnectionResetError):
        exchange(address, b"x", 1)
    assert "connection refused" in forward.error.lower()
    assert "7999" in forward.error


def test_a_pod_that_is_not_there(kube: Kube, namespace: str) -> None:
    with pytest.raises(ClusterError, match=r"no running pod.*no such pod"), kube.portforward(namespace, "absent", 1):
        pass
