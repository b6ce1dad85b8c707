# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program behind a port-forward that stays: its log, credentials that are renewed, what it says of itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import forwarder as module
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.forwarder import Forwarder, Log, RenewedTransport
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response, UnreachableError
from doubles.api import FakeApi
from servers.ports import free_ports


def test_a_line_that_repeats_itself_is_counted() -> None:
    lines: list[str] = []
    clock = [1000.0]
    log = Log(lines.append, lambda: clock[0])
    for _time in range(3):
        log("no pod")
    log("another")
    clock[0] += 61
    log("no pod")
    assert [line.partition(" ")[2] for line in lines] == ["no pod\n", "another\n", "no pod (and 2 times before)\n"]
    assert lines[0].startswith("1970-01-01T00:16:40Z ")


class Inner:
    """A transport that answers as it is told."""

    host = "https://api"

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    def request(self, _method: str, _path: str, **_options: Any) -> Response:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Response(answer, b"{}")

    def close(self) -> None:
        """Nothing is open."""


def test_credentials_are_read_again_when_they_expired_or_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text("one")
    monkeypatch.setenv("KUBECONFIG", f"{config}{os.pathsep}{tmp_path / 'missing'}")
    tls = UnreachableError("certificate has expired", transient=False, tls=True)
    away = UnreachableError("refused", transient=True)
    answers: list[Any] = [200, away, 200, 401, 200, tls, 200]
    made: list[Inner] = []

    def make(_kubeconfig: str | None, context: str | None) -> Any:
        assert context == "prod"
        made.append(Inner(answers))
        return made[-1]

    transport = RenewedTransport("prod", make)
    assert transport.host == ""
    transport.request("GET", "/")
    with pytest.raises(UnreachableError):
        transport.request("GET", "/")
    transport.request("GET", "/")
    assert (len(made), transport.host) == (1, "https://api")
    transport.request("GET", "/")
    transport.request("GET", "/")
    assert len(made) == 2, "after 401"
    with pytest.raises(UnreachableError):
        transport.request("GET", "/")
    transport.request("GET", "/")
    assert len(made) == 3, "after a certificate that is not taken"
    os.utime(config, (1, 1))
    answers.append(200)
    transport.request("GET", "/")
    assert len(made) == 4, "after the file was changed"
    transport.close()


class Direct:
    """In the place of a forward through the cluster: leads to a port of this host, or nowhere."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.error = ""
        self.target = "pachd-0"
        self.connections = 0

    def __enter__(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def __exit__(self, *_error: object) -> None:
        """Nothing was opened."""


class Health(grpc.GenericRpcHandler):
    """pachd's health service, which answers or refuses."""

    def __init__(self) -> None:
        self.well = True

    def service(self, details: Any) -> Any:
        assert details.method == "/health.Health/Health"

        def answer(_request: bytes, context: Any) -> bytes:
            if not self.well:
                context.abort(grpc.StatusCode.UNKNOWN, "server not ready")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def test_it_says_whether_pachd_is_well(tmp_path: Path) -> None:
    health = Health()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((health,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    (free,) = free_ports(1)
    config = {"namespace": "p", "ports": {"grpc": free}, "patience": 0, "keepalive": 9, "interval": 0.05}
    lines: list[str] = []
    forwarder = Forwarder(config, tmp_path, Kube(FakeApi(["p"])), lines.append)
    forwarder._health = Direct(port)  # type: ignore[assignment]
    thread = threading.Thread(target=forwarder.run)
    thread.start()

    def until(healthy: bool) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if (tmp_path / "status.json").exists():
                found: dict[str, Any] = json.loads((tmp_path / "status.json").read_text())
                if found["healthy"] is healthy and found["error"] != "not asked yet":
                    return found
            time.sleep(0.02)
        raise AssertionError(lines)

    try:
        assert until(True)["pod"] == "pachd-0"
        with contextlib.suppress(ConnectionResetError):  # it is accepted, and there is no pod
            socket.create_connection(("127.0.0.1", free), timeout=5).close()
        health.well = False
        assert "server not ready" in until(False)["error"]
        health.well = True
        until(True)
    finally:
        forwarder.stop()
        thread.join(timeout=20)
        server.stop(0)
    assert not (tmp_path / "status.json").exists()
    assert [line.partition(":")[0].partition(" after")[0] for line in lines if not line.startswith("grpc:")] == [
        "listening", "pachd answers", "pachd does not answer", "pachd answers", "stopped",
    ]  # fmt: skip


def test_a_port_that_is_taken_ends_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = {
            "name": "x", "kubeconfig": str(tmp_path / "none"), "context": "", "namespace": "p", "environment": {},
            "ports": {"s3": listener.getsockname()[1]}, "patience": 0, "keepalive": 9, "interval": 1,
        }  # fmt: skip
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config))
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
        environment = dict(os.environ)
        try:
            assert module.main([str(file)]) == 1
        finally:
            os.environ.clear()
            os.environ.update(environment)
            for number, handler in zip((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), before, strict=True):
                signal.signal(number, handler)
