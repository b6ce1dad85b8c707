# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running versitygw: an S3 server of another make than moto, over a directory, on the loopback address.

It checks signatures and evaluates bucket policies as AWS does, and knows nothing of IAM's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.build import programs
from servers.ports import free_ports

REGION = "eu-central-1"
KEY = "an-access-key"
SECRET = "a-secret-key-of-the-tests"


@dataclass(frozen=True)
class S3Server:
    """How to reach it; the key is its administrator's."""

    address: str
    region: str = REGION
    key: str = KEY
    secret: str = SECRET


@contextlib.contextmanager
def running(directory: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[S3Server]:
    """Serve buckets that are folders below ``directory``.

    :param certificate: PEM files of a certificate and its key, to serve behind TLS.
    :raises RuntimeError: it does not start; the message has its log.
    """
    program = programs("versitygw")["versitygw"]
    for folder in ("buckets", "metadata"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    (port,), log = free_ports(1), directory / "versitygw.log"
    # Metadata in files of its own: extended attributes are not to be had on every file system.
    argv = [
        program,
        "--port",
        f"127.0.0.1:{port}",
        "--region",
        REGION,
        # As AWS does, so that clients pay for one connection and not for one per request.
        "--keep-alive",
        "--quiet",
        "posix",
        "--sidecar",
        str(directory / "metadata"),
    ]
    if certificate:
        argv[1:1] = ["--cert", str(certificate[0]), "--key", str(certificate[1])]
    environment = {"PATH": os.defpath, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET, "VGW_HEALTH": "/health"}
    with (
        log.open("wb") as output,
        subprocess.Popen([*argv, str(directory / "buckets")], env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            _wait(process, port, log)
            yield S3Server(f"{'https' if certificate else 'http'}://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _attempt in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"versitygw does not start: {log.read_text()[-2000:]}")
