# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the installation says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc


def test_version_is_the_wanted_one(client: Any, wanted_version: str) -> None:
    version = client.get_remote_version()
    assert f"{version.major}.{version.minor}.{version.micro}" == wanted_version


def test_cluster_id_is_stable_and_32_hex_digits(client: Any) -> None:
    first, second = client.inspect_cluster(), client.inspect_cluster()
    assert re.fullmatch("[0-9a-f]{32}", first.id)
    assert (first.id, first.deployment_id) == (second.id, second.deployment_id)


def test_health(client: Any) -> None:
    client.health()


def test_auth_is_not_activated(client: Any, fails: Callable[..., str]) -> None:
    assert fails(client.who_am_i, grpc.StatusCode.UNIMPLEMENTED) == "the auth service is not activated"


def test_enterprise_is_not_activated(client: Any) -> None:
    assert client.get_enterprise_state().state == 0
