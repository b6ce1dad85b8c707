# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module etcd_migrate: its results in both modes, and its failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import MigrationError
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate import sides
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.engine import Migrator, Outcome, Plan
from ansible_collections.pachops.pachyderm.plugins.modules import etcd_migrate

SIDES = {"source": {"namespace": "old"}, "target": {"namespace": "new"}}
PLAN = Plan("old (local)", "new (aws)", "c1")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "connect", lambda *_arguments: None)


def test_check_mode_returns_the_same_keys_and_only_plans(
    run_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Migrator, "plan", lambda _self: PLAN)
    predicted = run_module(etcd_migrate.main, check_mode=True, diff=True, **SIDES)
    monkeypatch.setattr(Migrator, "migrate", lambda _self, **_options: Outcome("migrated", True, PLAN, keys=7))
    done = run_module(etcd_migrate.main, diff=True, **SIDES)
    assert predicted.keys() == done.keys()
    assert predicted.changed
    assert done["moved"]["key_count"] == 7
    assert "old (local) → new (aws)" in done["diff"]["after"]


def test_a_refused_plan_fails_with_everything_that_speaks_against_it(
    run_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Migrator, "plan", lambda _self: Plan("old", "new", problems=("one thing", "another")))
    result = run_module(etcd_migrate.main, check_mode=True, **SIDES)
    assert result.failed
    assert "one thing; another" in result["msg"]
    assert result["plan"]["problems"] == ["one thing", "another"]


@pytest.mark.parametrize(("state", "method"), [("undone", "undo"), ("paused", "pause")])
def test_other_states(run_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, state: str, method: str) -> None:
    asked = []

    def act(_self: Migrator, **options: Any) -> Outcome:
        asked.append(options["check"])
        return Outcome(state, not options["check"])

    monkeypatch.setattr(Migrator, method, act)
    assert run_module(etcd_migrate.main, state=state, **SIDES).changed
    assert not run_module(etcd_migrate.main, check_mode=True, state=state, **SIDES).changed
    assert asked == [False, True]


def test_an_error_says_what_to_do(run_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Migrator, **_options: Any) -> Outcome:
        raise MigrationError("it differs", fix="Run it again.")

    monkeypatch.setattr(Migrator, "migrate", fail)
    result = run_module(etcd_migrate.main, **SIDES)
    assert result.failed
    assert result["msg"] == "it differs. Run it again."
