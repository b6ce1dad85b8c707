# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An S3 server of another make than moto, as second opinion: versitygw, once in the clear and once behind TLS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from servers.s3 import S3Server, running

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "emulators" / "gcp"))
from gcp_emulator import certificates


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running(tmp_path_factory.mktemp("versitygw")) as found:
        yield found


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, Path]]:
    """The same behind TLS, and the file of the authority that nobody else knows."""
    directory = tmp_path_factory.mktemp("secure")
    certificates.write(directory, ("127.0.0.1",))
    with running(directory, certificate=(directory / "server.pem", directory / "server.key")) as found:
        yield found, directory / "ca.pem"


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the administrator."""
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return boto3.client(
        "s3",
        endpoint_url=server.address,
        region_name=server.region,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )
