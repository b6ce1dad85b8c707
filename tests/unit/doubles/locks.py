# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In place of the lock, a Lease, which has tests of its own."""

from __future__ import annotations

from typing import Any

import pytest


def noted(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[str]:
    """Give a module a ``Lock`` that nobody else has, and return the list of what it does with it."""
    notes: list[str] = []

    class Noted:
        def __init__(self, _kube: Any, namespace: str, operation: str, *, wait: float) -> None:
            self._what = f"{operation} {namespace} {wait:g}"

        def __enter__(self) -> Any:
            notes.append(self._what)
            return self

        def __exit__(self, *_unused: object) -> None:
            notes.append("released")

        def check(self) -> None:
            notes.append("checked")

    monkeypatch.setattr(module, "Lock", Noted)
    return notes
