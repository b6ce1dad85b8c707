# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GCP emulator in this process, on the loopback address, with real TLS."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "emulators" / "gcp"))
from gcp_emulator.server import Emulator

PROJECT = "acme-data"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator with project :data:`PROJECT`; a request that Google's documents do not allow fails the test."""
    directory = tmp_path / "emulator"
    directory.mkdir()
    emulator = Emulator(directory)
    emulator.state.configure({"projects": {PROJECT: "111111111111", "other-company": "222222222222"}})
    emulator.start()
    yield emulator
    emulator.stop()
    assert emulator.violations == []


class Cluster:
    """The issuer of a GKE cluster: its address, its public keys, and tokens that it signs."""

    issuer = f"https://container.googleapis.com/v1/projects/{PROJECT}/locations/europe-west3/clusters/one"

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @staticmethod
    def _encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    def jwks(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        modulus, exponent = (self._encode(n.to_bytes(256, "big").lstrip(b"\0")) for n in (numbers.n, numbers.e))
        return {"keys": [{"kid": "1", "kty": "RSA", "alg": "RS256", "n": modulus, "e": exponent}]}

    def token(self, account: str, audience: str, seconds: int = 900) -> str:
        """A token of ``namespace:name``."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": f"system:serviceaccount:{account}",
            "aud": [audience],
            "iat": now,
            "exp": now + seconds,
        }
        parts = [self._encode(json.dumps(item).encode()) for item in ({"alg": "RS256", "kid": "1"}, claims)]
        signature = self._key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
        return ".".join([*parts, self._encode(signature)])


@pytest.fixture
def gke(emulator: Emulator) -> Cluster:
    """A cluster that the emulator knows, in the project's workload pool."""
    cluster = Cluster()
    emulator.state.configure({"clusters": {cluster.issuer: {"pool": f"{PROJECT}.svc.id.goog", "jwks": cluster.jwks()}}})
    return cluster


@pytest.fixture
def options(emulator: Emulator) -> dict[str, Any]:
    """The connection options of a module, as an operator who may do everything in the project."""
    return {
        "project": PROJECT,
        "access_token": emulator.operator(PROJECT),
        "storage_endpoint": emulator.address,
        "iam_endpoint": emulator.address,
        "ca_file": str(emulator.ca_file),
        "api_timeout": 20,
    }


@pytest.fixture
def session(emulator: Emulator) -> Callable[..., Any]:
    """Engine sessions with the credentials that a test names."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import Endpoints, connect

    def build(**credentials: str) -> Any:
        return connect(
            project=PROJECT,
            endpoints=Endpoints(emulator.address, emulator.address, f"{emulator.address}/token"),
            ca_file=str(emulator.ca_file),
            patience=20,
            **credentials,
        )

    return build


@pytest.fixture
def gcp(session: Callable[..., Any], options: dict[str, Any]) -> Any:
    """An engine session of the same operator."""
    return session(access_token=options["access_token"])


@pytest.fixture
def writes(emulator: Emulator) -> Callable[[], list[str]]:
    """The calls so far that could change something."""
    return lambda: [
        item["call"]
        for item in emulator.requests
        if item["method"] != "GET" and item["path"] != "/token" and not item["call"].endswith("getIamPolicy")
    ]
