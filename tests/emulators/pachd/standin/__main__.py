# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of pachd: full mode, ``--mode sidecar``, ``--readiness``."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from . import config, readiness


def version() -> str:
    """Return the version that is stood in for."""
    file = Path(__file__).parent / "VERSION"
    return os.environ.get("STANDIN_VERSION") or (file.read_text().strip() if file.exists() else "1.13.4")


def main() -> None:
    parser = argparse.ArgumentParser(prog="pachd", description="A test double of pachd; it is not Pachyderm.")
    parser.add_argument("--mode", default="full")
    parser.add_argument("--readiness", action="store_true")
    options = parser.parse_args()
    if options.readiness:
        readiness.main()
        return
    if options.mode not in ("full", "sidecar"):
        print(f"unrecognized mode: {options.mode}")
        return
    settings = config.Settings()
    from .server import Standin

    standin = Standin(settings, version())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_unused: stop.set())
    standin.start(options.mode)
    stop.wait()
    for server in standin.servers:
        server.stop(0)
    os._exit(0)


if __name__ == "__main__":
    main()
