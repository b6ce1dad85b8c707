# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the exception hierarchy."""

from __future__ import annotations

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils import errors


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "cannot read the kubeconfig"),
        ({"where": "/a"}, "cannot read the kubeconfig (/a)"),
        ({"why": "no such file"}, "cannot read the kubeconfig: no such file"),
        ({"fix": "Give one."}, "cannot read the kubeconfig. Give one."),
        ({"why": "It is empty.", "fix": "Give one."}, "cannot read the kubeconfig: It is empty. Give one."),
        (
            {"where": "/a", "why": "no such file", "fix": "Give one."},
            "cannot read the kubeconfig (/a): no such file. Give one.",
        ),
    ],
)
def test_message_joins_the_parts_that_are_known(parts: dict[str, str], message: str) -> None:
    assert str(errors.InputError("cannot read the kubeconfig", **parts)) == message


def test_result_carries_the_message_and_its_parts() -> None:
    error = errors.ClusterError("cannot reach the API", where="https://127.0.0.1:1", why="refused", fix="Start it.")
    assert error.as_result() == {
        "msg": "cannot reach the API (https://127.0.0.1:1): refused. Start it.",
        "what": "cannot reach the API",
        "where": "https://127.0.0.1:1",
        "why": "refused",
        "fix": "Start it.",
    }


def test_every_error_is_caught_as_the_base() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) >= 7
    assert all(issubclass(value, errors.PachopsError) for value in classes)
