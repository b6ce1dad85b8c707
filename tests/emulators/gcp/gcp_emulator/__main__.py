# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m gcp_emulator``: serve until told to stop.

Writes ``ca.pem`` and ``emulator.json`` (address, metadata address, and an operator's access token) into the directory,
the latter last and readable by its owner alone: once it is there, the emulator answers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from .server import DOUBLE, Emulator


def _address(text: str) -> tuple[str, int]:
    host, _colon, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser(prog="gcp_emulator", description=DOUBLE)
    parser.add_argument("--directory", type=Path, required=True, help="where ca.pem and emulator.json go")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), help="HOST:PORT of the TLS address")
    parser.add_argument("--metadata-listen", type=_address, help="HOST:PORT of the plain metadata server")
    parser.add_argument("--name", action="append", default=[], help="another name or address for the certificate")
    parser.add_argument(
        "--public-address", default="", help="https://HOST[:PORT] under which keys find the token endpoint"
    )
    parser.add_argument("--project", default="emulated-project", help="a project, and an operator who may do all in it")
    options = parser.parse_args()
    options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    emulator = Emulator(
        options.directory,
        listen=options.listen,
        metadata_listen=options.metadata_listen,
        names=tuple(options.name),
        public_address=options.public_address,
    )
    emulator.start()
    told = {
        "double": DOUBLE,
        "address": emulator.address,
        "metadata_address": emulator.metadata_address,
        "ca_file": str(emulator.ca_file),
        "project": options.project,
        "access_token": emulator.operator(options.project),
        "pid": os.getpid(),
    }
    temporary = options.directory / ".emulator.json"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(told, file)
    temporary.replace(options.directory / "emulator.json")
    sys.stderr.write(f"{DOUBLE} at {emulator.address}; this is not Google Cloud\n")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    emulator.stop()


if __name__ == "__main__":
    main()
