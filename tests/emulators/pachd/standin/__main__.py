# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of pachd: full mode, ``--mode sidecar``, ``--readiness``."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from . import config


def version() -> str:
    """Return the version that is stood in for."""
    file = Path(__file__).parent / "VERSION"
    return os.environ.get("STANDIN_VERSION") or (file.read_text().strip() if file.exists() else "1.13.4")


def readiness(port: int) -> None:
    """Leave with status 0 when pachd on this host answers that it is healthy."""
    import grpc
    from google.protobuf.empty_pb2 import Empty
    from python_pachyderm.proto.health.health_pb2_grpc import HealthStub

    try:
        HealthStub(grpc.insecure_channel(f"127.0.0.1:{port}")).Health(Empty(), timeout=10)
    except grpc.RpcError as error:
        config.fail(f"rpc error: code = {error.code().name} desc = {error.details()}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="pachd", description="A test double of pachd; it is not Pachyderm.")
    parser.add_argument("--mode", default="full")
    parser.add_argument("--readiness", action="store_true")
    options = parser.parse_args()
    if not options.readiness and options.mode not in ("full", "sidecar"):
        print(f"unrecognized mode: {options.mode}")
        return
    settings = config.Settings()
    if options.readiness:
        readiness(settings.peer_port)
        return
    from .server import Standin

    standin = Standin(settings, version())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    standin.start(options.mode)
    stop.wait()
    for server in standin.servers:
        server.stop(0)
    os._exit(0)


if __name__ == "__main__":
    main()
