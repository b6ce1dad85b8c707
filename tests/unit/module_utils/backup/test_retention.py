# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups stay: the rules by example, and what must hold for every history and policy."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.retention import (
    SKEW,
    Candidate,
    Decision,
    Policy,
    decide,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError

NOW = dt.datetime(2026, 3, 4, 12, 0, tzinfo=dt.timezone.utc)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


def made(ago: dt.timedelta, name: str = "", **known: object) -> Candidate:
    return Candidate(name or f"b{ago.total_seconds():.0f}", NOW - ago, **known)  # type: ignore[arg-type]


def kept(decisions: list[Decision]) -> list[str]:
    return [each.backup_id for each in decisions if each.keep]


def test_without_a_rule_everything_stays() -> None:
    decisions = decide([made(DAY * 400), made(HOUR)], Policy(), NOW)
    assert all(each.keep for each in decisions)
    assert decisions[0].reasons == ("no retention rule is set",)


def test_each_rule_keeps_the_newest_of_its_periods_and_they_add_up() -> None:
    history = [made(HOUR * number, f"h{number}") for number in range(24 * 60)]
    assert kept(decide(history, Policy(last=3), NOW)) == ["h0", "h1", "h2"]
    assert kept(decide(history, Policy(hourly=2), NOW)) == ["h0", "h1"]
    assert kept(decide(history, Policy(daily=3), NOW)) == ["h0", "h13", "h37"]
    # 4 March 2026 is a Wednesday: Monday began 60 hours ago, March 84.
    assert kept(decide(history, Policy(weekly=2), NOW)) == ["h0", "h61"]
    assert kept(decide(history, Policy(monthly=2), NOW)) == ["h0", "h85"]
    assert kept(decide(history, Policy(last=2, daily=2, monthly=2), NOW)) == ["h0", "h1", "h13", "h85"]
    assert kept(decide([*history, made(DAY * 300, "old")], Policy(yearly=2), NOW)) == ["h0", "old"]
    reasons = {each.backup_id: each.reasons for each in decide(history, Policy(last=2, daily=2), NOW)}
    assert reasons["h0"] == ("last 1 of 2", "day 1 of 2")
    assert reasons["h5"] == ("no rule keeps it",)


def test_empty_periods_do_not_count() -> None:
    history = [made(DAY * number * 10, f"d{number}") for number in range(5)]
    assert kept(decide(history, Policy(daily=3), NOW)) == ["d0", "d1", "d2"]


def test_periods_are_utc_whatever_zone_a_time_is_in() -> None:
    late = dt.datetime(2026, 3, 3, 23, 30, tzinfo=dt.timezone.utc).astimezone(dt.timezone(dt.timedelta(hours=5)))
    early = dt.datetime(2026, 3, 4, 0, 30, tzinfo=dt.timezone.utc)
    assert kept(decide([Candidate("late", late), Candidate("early", early)], Policy(daily=2), NOW)) == ["early", "late"]


def test_maximum_age_takes_away_what_a_rule_keeps_but_never_the_newest_verified() -> None:
    history = [
        made(DAY * 40, "a", verified=True),
        made(DAY * 35, "b", verified=True),
        made(DAY * 34, "c"),
        made(DAY, "d"),
    ]
    month = 30 * 86400
    decisions = {each.backup_id: each for each in decide(history, Policy(last=10, max_age=month), NOW)}
    assert [name for name, each in decisions.items() if each.keep] == ["d", "b"]
    assert decisions["b"].reasons == ("the newest verified backup",)
    assert decisions["c"].reasons == ("made before 2026-02-02T12:00:00Z, the maximum age",)
    assert kept(decide(history, Policy(max_age=month), NOW)) == ["d", "b"], "alone it keeps what is younger"


def test_a_verified_backup_takes_the_place_of_its_period() -> None:
    history = [made(HOUR, "unproven"), made(2 * HOUR, "proven", verified=True), made(3 * HOUR, "older", verified=True)]
    assert kept(decide(history, Policy(daily=1), NOW)) == ["proven"]


def test_a_failed_backup_takes_no_place_and_goes_when_a_newer_one_is_verified() -> None:
    history = [made(HOUR, "broken", failed=True), made(2 * HOUR, "good", verified=True), made(3 * HOUR, "plain")]
    decisions = {each.backup_id: each for each in decide(history, Policy(last=2), NOW)}
    assert [name for name, each in decisions.items() if each.keep] == ["broken", "good", "plain"]
    assert "no newer backup is verified" in decisions["broken"].reasons[0]
    later = decide([*history, made(HOUR / 2, "fresh", verified=True)], Policy(last=2), NOW)
    assert kept(later) == ["fresh", "good"]
    broken = next(each for each in later if each.backup_id == "broken")
    assert broken.reasons == ("its verification failed, and fresh is newer and verified",)


def test_what_the_store_protects_is_kept_until_then() -> None:
    history = [made(DAY * 9, "held", locked_until=dt.datetime.max.replace(tzinfo=dt.timezone.utc))]
    history += [
        made(DAY * 8, "locked", locked_until=NOW + DAY),
        made(DAY * 7, "free", locked_until=NOW - DAY),
        made(DAY),
    ]
    decisions = {each.backup_id: each for each in decide(history, Policy(last=1, max_age=86400 * 2), NOW)}
    assert decisions["held"].reasons == ("the store protects it until a hold is lifted",)
    assert decisions["locked"].reasons == ("the store protects it until 2026-03-05T12:00:00Z",)
    assert not decisions["free"].keep


def test_a_clock_that_was_set_back_deletes_nothing_from_its_future() -> None:
    history = [made(-DAY * number, f"f{number}") for number in range(1, 4)] + [
        made(DAY, "past"),
        made(2 * DAY, "older"),
    ]
    decisions = decide(history, Policy(last=1), NOW)
    assert kept(decisions) == ["f3", "f2", "f1"]
    assert "is yet to come by this host's clock" in decisions[0].reasons[0]


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="daily=-1"):
        Policy(daily=-1)


@pytest.mark.parametrize("seed", range(300))
def test_what_holds_for_every_history_and_policy(seed: int) -> None:
    chance = random.Random(seed)
    history = []
    for number in range(chance.randrange(0, 60)):
        ago = dt.timedelta(minutes=chance.randrange(-60 * 24, 60 * 24 * 800))
        state = chance.choice(["verified", "failed", "plain", "plain"])
        locked = NOW + dt.timedelta(days=chance.randrange(-10, 10)) if chance.random() < 0.1 else None
        history.append(
            made(ago, f"b{number}", verified=state == "verified", failed=state == "failed", locked_until=locked)
        )
    rules = {
        name: chance.choice([0, 0, 1, 3, 10]) for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    }
    policy = Policy(**rules, max_age=chance.choice([None, 3600, 86400 * 30, 86400 * 400]))
    decisions = decide(history, policy, NOW)
    by_id = {each.backup_id: each for each in history}
    stays = [by_id[name] for name in kept(decisions)]
    goes = [by_id[each.backup_id] for each in decisions if not each.keep]

    assert sorted(by_id) == sorted(each.backup_id for each in decisions), "each exactly once"
    assert all(each.reasons for each in decisions)
    verified = [each for each in history if each.verified]
    if verified:
        assert max(verified, key=lambda each: (each.time, each.backup_id)).time in [
            each.time for each in stays if each.verified
        ]
    assert not [each for each in goes if each.locked_until and each.locked_until > NOW]
    assert not [each for each in goes if each.time > NOW + SKEW]
    if not policy.counts and policy.max_age is None:
        assert not goes
    # More is kept by a more generous policy, never less.
    generous = dataclasses.replace(policy, **{name: value + 1 for name, value in rules.items()})
    if policy.counts:
        assert set(kept(decisions)) <= set(kept(decide(history, generous, NOW)))
    # What is decided once stays decided: pruning again deletes nothing more.
    assert not [each for each in decide(stays, policy, NOW) if not each.keep]
    # The order in which backups are listed plays no part.
    shuffled = chance.sample(history, len(history))
    assert set(kept(decide(shuffled, policy, NOW))) == set(kept(decisions))
