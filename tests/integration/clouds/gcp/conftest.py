# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GCP emulator in this process, on the loopback address, with real TLS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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
