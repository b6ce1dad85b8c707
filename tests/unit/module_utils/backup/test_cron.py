# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times in cron's form: when they come, how systemd says them, and what is none."""

from __future__ import annotations

import datetime as dt

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.cron import parse
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError

UTC = dt.timezone.utc
START = dt.datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "first", "calendar"),
    [
        ("17 2 * * *", "2026-03-05 02:17", "*-*-* 02:17:00 UTC"),
        ("*/20 * * * *", "2026-03-04 12:20", "*-*-* *:00,20,40:00 UTC"),
        ("0 6-18/6 * * mon-fri", "2026-03-04 18:00", "Mon,Tue,Wed,Thu,Fri *-*-* 06,12,18:00:00 UTC"),
        ("30 1 1 jan,jul *", "2026-07-01 01:30", "*-01,07-01 01:30:00 UTC"),
        ("0 3 * * 7", "2026-03-08 03:00", "Sun *-*-* 03:00:00 UTC"),
        ("0 0 29 2 *", "2028-02-29 00:00", "*-02-29 00:00:00 UTC"),
        ("@daily", "2026-03-05 00:00", "*-*-* 00:00:00 UTC"),
        ("5/25 0 * * *", "2026-03-05 00:05", "*-*-* 00:05,30,55:00 UTC"),
    ],
)
def test_when_it_comes_and_how_systemd_says_it(text: str, first: str, calendar: str) -> None:
    cron = parse(text)
    found = next(cron.between(START, START + dt.timedelta(days=800)))
    assert found.strftime("%Y-%m-%d %H:%M") == first
    assert cron.calendar() == calendar
    assert len(cron.fields) == 5


def test_either_day_suffices_where_both_are_restricted() -> None:
    cron = parse("0 0 13 * fri")
    days = [each.day for each in cron.between(START, dt.datetime(2026, 3, 21, tzinfo=UTC))]
    assert days == [6, 13, 20]
    with pytest.raises(InputError, match="systemd cannot say"):
        cron.calendar()


def test_the_bounds_belong_to_one_side() -> None:
    cron = parse("0 12 * * *")
    end = START + dt.timedelta(days=2)
    assert [each.day for each in cron.between(START, end)] == [5, 6]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-2 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "-1 * * * *",
        "1,,2 * * * *",
        "0 0 31 2 *",
        "0 0 30 feb *",
        "@reboot",
        "1 2 3 4 5 6",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)
