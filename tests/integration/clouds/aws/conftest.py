# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moto's server (S3, IAM, STS, with our additions) in this process, on the loopback address."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from moto.server import ThreadedMotoServer

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "emulators" / "aws"))
from aws_emulator.additions import install

REGION = "eu-central-1"


class Cloud:
    """The server's address, and clients of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = requests.Session()
        self.http.trust_env = False
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, key: str = "test", secret: str = "test") -> Any:  # noqa: S107
        """A client of one service; making one takes boto3 a tenth of a second, so each is made once."""
        if (service, key) not in self._clients:
            self._clients[service, key] = boto3.client(
                service,
                endpoint_url=self.address,
                region_name=REGION,
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
            )
        return self._clients[service, key]

    def enforce(self, *, after: int = 0) -> None:
        """Evaluate policies from now on, after so many more requests; a large number switches that off."""
        self.http.post(f"{self.address}/moto-api/reset-auth", data=str(after))


@pytest.fixture(scope="session")
def server() -> Iterator[ThreadedMotoServer]:
    install()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def aws(server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An empty account in which everything is allowed, until :meth:`Cloud.enforce`."""
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _host, port = server.get_host_and_port()
    cloud = Cloud(f"http://127.0.0.1:{port}")
    cloud.enforce(after=10**9)
    cloud.http.post(f"{cloud.address}/moto-api/reset")
    yield cloud
    cloud.enforce(after=10**9)
