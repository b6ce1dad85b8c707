# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the progress events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import PROGRESS_VARIABLE, Progress


@pytest.fixture
def events_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events"
    path.touch()
    monkeypatch.setenv(PROGRESS_VARIABLE, str(path))
    return path


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_events_carry_stage_amounts_and_time(events_file: Path) -> None:
    progress = Progress(interval=0)
    progress.stage("etcd", detail="starting")
    progress.update(3, 10, "objects", "copying")
    progress.note("a word")
    found = events(events_file)
    assert [event["stage"] for event in found] == ["etcd"] * 3
    assert found[1]["done"] == 3
    assert found[1]["total"] == 10
    assert found[1]["unit"] == "objects"
    assert found[2]["note"] is True
    assert all(event["time"] > 1_700_000_000 for event in found)


def test_frequent_updates_are_dropped_but_the_last_one_is_not(events_file: Path) -> None:
    progress = Progress(interval=3600)
    progress.stage("copy")
    for done in range(1, 101):
        progress.update(done, 100)
    assert [event.get("done") for event in events(events_file)] == [None, 100]


def test_nothing_is_written_where_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    Progress().stage("quiet")
    missing = tmp_path / "gone"
    Progress(path=str(missing)).stage("reader went away")
    assert not missing.exists()
