# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of rate, time left, and the lines that people read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress_view import Meter, View, amount, duration


def event(when: float, stage: str = "copy", **values: Any) -> dict[str, Any]:
    return {"time": when, "stage": stage, **values}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-3, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (125, "2:05"), (3599.6, "1:00:00"), (3725, "1:02:05")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (1000, "bytes", "1.0 kB"),
        (1_536_000, "B", "1.5 MB"),
        (485_000_000, "B", "485 MB"),
        (999_960_000, "B", "1.0 GB"),
        (2.5e15, "B", "2.5 PB"),
        (5e18, "B", "5000 PB"),
        (3, "objects", "3 objects"),
        (2.25, "objects", "2.2 objects"),
        (7, "", "7"),
    ],
)
def test_amounts(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text


def test_a_rate_needs_two_reports_apart_in_time() -> None:
    meter = Meter()
    assert meter.rate() is None
    assert meter.left(10) is None
    meter.add(100, 5)
    assert meter.rate() is None
    meter.add(100, 6)
    assert meter.rate() is None
    meter.add(102, 9)
    assert meter.rate() == pytest.approx(2)
    assert meter.left(29) == pytest.approx(10)


def test_the_rate_follows_the_window_and_forgets_the_start() -> None:
    meter = Meter(window=10)
    for second in range(31):
        # One unit a second for 20 s, then ten a second.
        meter.add(second, second if second <= 20 else 20 + 10 * (second - 20))
    assert meter.rate() == pytest.approx(10)
    assert meter.left(220) == pytest.approx(10)


def test_reports_rarer_than_the_window_still_give_a_rate() -> None:
    meter = Meter(window=10)
    meter.add(0, 0)
    meter.add(60, 30)
    meter.add(120, 90)
    assert meter.rate() == pytest.approx(1)


def test_a_stall_has_no_time_left_and_an_overrun_has_none_to_go() -> None:
    meter = Meter()
    meter.add(0, 5)
    meter.add(10, 5)
    assert meter.rate() == 0
    assert meter.left(10) is None
    meter.add(20, 15)
    assert meter.left(10) == 0


def test_going_backwards_starts_anew() -> None:
    meter = Meter()
    meter.add(0, 100)
    meter.add(1, 200)
    meter.add(2, 10)
    assert meter.rate() is None
    meter.add(4, 20)
    assert meter.rate() == pytest.approx(5)


def test_a_live_line_has_amounts_share_rate_and_time_left() -> None:
    view = View()
    view.task("Copy", 0)
    view.feed(event(0, done=0, total=100_000_000, unit="B"))
    view.feed(event(2, done=25_000_000, total=100_000_000, unit="B", detail="block/ab"))
    assert view.live(2) == "copy: 25.0 MB of 100 MB (25 %), 12.5 MB/s, 6 s left, block/ab"


def test_without_a_total_there_is_neither_share_nor_time_left() -> None:
    view = View()
    view.feed(event(0, done=0, unit="objects"))
    view.feed(event(4, done=8, unit="objects"))
    assert view.live(4) == "copy: 8 objects, 2 objects/s"


def test_a_stage_without_amounts_shows_what_goes_on_and_how_long() -> None:
    view = View()
    view.feed(event(10, stage="etcd"))
    assert view.live(10) == "etcd"
    view.feed(event(12, stage="etcd", detail="pod etcd-0: Pulling image"))
    assert view.live(14) == "etcd: pod etcd-0: Pulling image, 4 s"


def test_plain_lines_are_rate_limited_and_short_stages_are_silent() -> None:
    view = View(interval=10, patience=5)
    view.task("Copy", 0)
    view.feed(event(0, done=0, total=100))
    assert view.plain(1) == []
    assert view.plain(4.9) == []
    view.feed(event(5, done=10, total=100))
    assert view.plain(5) == ["copy: 10 of 100 (10 %), 2/s, 45 s left"]
    view.feed(event(6, done=12, total=100))
    assert view.plain(6) == []
    assert view.plain(15) == ["copy: 12 of 100 (12 %), 2/s, 44 s left"]
    view.feed(event(20, done=100, total=100))
    assert view.plain(20) == ["copy: 100 of 100 (100 %)"]
    assert view.plain(60) == ["Copy: still running, 1:00"]


def test_a_stage_that_ends_early_leaves_no_line() -> None:
    view = View()
    view.feed(event(0, done=0, total=3))
    view.feed(event(1, done=3, total=3))
    assert view.plain(30) == []


def test_notes_are_handed_out_once_and_at_once() -> None:
    view = View()
    view.feed(event(0, stage="images", note=True, detail="a stand-in is used"))
    view.feed(event(0, stage="", note=True, detail="bare"))
    assert view.plain(0) == ["images: a stand-in is used", "bare"]
    assert view.plain(1) == []


def test_the_heartbeat_names_a_silent_task_every_fifteen_seconds() -> None:
    view = View(heartbeat=15)
    view.task("Build kubernetes", 100)
    assert view.plain(114) == []
    assert view.live(114) == ""
    assert view.plain(115) == ["Build kubernetes: still running, 15 s"]
    assert view.plain(120) == []
    assert view.plain(130) == ["Build kubernetes: still running, 30 s"]
    assert view.live(225) == "Build kubernetes: still running, 2:05"


def test_when_a_task_has_ended_only_its_last_words_are_due() -> None:
    view = View(heartbeat=15)
    view.task("Copy", 0)
    view.feed(event(0, done=1, total=2))
    assert view.plain(10) == ["copy: 1 of 2 (50 %)"]
    view.feed(event(20, done=2, total=2))
    view.feed(event(20, note=True, detail="done"))
    assert view.closing() == ["copy: done", "copy: 2 of 2 (100 %)"]
    assert view.closing() == []


def test_a_new_task_clears_the_stage_and_no_task_is_silent() -> None:
    view = View()
    view.task("One", 0)
    view.feed(event(0, done=1, total=2))
    view.task("", 5)
    assert view.live(100) == ""
    assert view.plain(100) == []


def test_malformed_amounts_are_ignored() -> None:
    view = View()
    view.feed(event(0, done="three", total=None, detail=None))
    assert view.live(0) == "copy"
