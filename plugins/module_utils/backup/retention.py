# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Which backups stay: a pure decision over what is known of each, with a reason for every one.

Periods are counted in UTC and only where they hold a backup, so ``daily: 7`` keeps seven days' backups even when
nothing ran last week.  The rules add up; ``max_age`` then takes away what is older, whatever a rule says.  Three kinds
stay in any case: the newest verified backup, what the store itself protects from deletion (object lock, retention,
holds), and what bears a time that this clock has not reached.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from ..errors import InputError

#: A clock may be wrong by this much without being called wrong.
SKEW = dt.timedelta(minutes=5)

_Key = Callable[[dt.datetime], tuple[int, ...]]
_PERIODS: tuple[tuple[str, str, _Key], ...] = (
    ("hourly", "hour", lambda time: (time.year, time.month, time.day, time.hour)),
    ("daily", "day", lambda time: (time.year, time.month, time.day)),
    ("weekly", "week", lambda time: tuple(time.isocalendar())[:2]),
    ("monthly", "month", lambda time: (time.year, time.month)),
    ("yearly", "year", lambda time: (time.year,)),
)


@dataclass(frozen=True)
class Policy:
    """How many backups each rule keeps; a policy without any rule keeps everything.

    :param last: this many of the newest.
    :param hourly: one for each of this many hours, likewise ``daily``, ``weekly`` (ISO weeks), ``monthly``, ``yearly``.
    :param max_age: seconds after which a backup goes although a rule keeps it; alone it keeps all younger ones.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    max_age: int | None = None

    def __post_init__(self) -> None:
        wrong = {name: value for name, value in asdict(self).items() if value is not None and value < 0}
        if wrong:
            raise InputError(
                "a retention rule cannot be negative",
                where=", ".join(f"{name}={value}" for name, value in wrong.items()),
                fix="Use 0 to switch a rule off.",
            )

    @property
    def counts(self) -> bool:
        """Whether any rule keeps a number of backups."""
        return any((self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly))


@dataclass(frozen=True)
class Candidate:
    """What the decision needs to know of one backup.

    :param time: when it was made, with its time zone.
    :param revision: etcd's revision in it, which orders backups of one second.
    :param verified: whether its newest verification passed.
    :param failed: whether its newest verification found it wrong.
    :param locked_until: until when the store refuses to delete it; None where it does not.
    """

    backup_id: str
    time: dt.datetime
    revision: int = 0
    verified: bool = False
    failed: bool = False
    locked_until: dt.datetime | None = None


@dataclass(frozen=True)
class Decision:
    """What becomes of one backup, and why: all reasons for keeping it, or the reason for deleting it."""

    backup_id: str
    keep: bool
    reasons: tuple[str, ...]


def decide(candidates: Iterable[Candidate], policy: Policy, now: dt.datetime) -> list[Decision]:
    """Return one decision per backup, the newest backup first.

    Within a period the newest verified backup stays, the newest at all where none is verified; a backup that was found
    wrong takes no place of a good one.
    """
    ordered = sorted(candidates, key=_age_order, reverse=True)
    reasons: dict[str, list[str]] = {each.backup_id: [] for each in ordered}
    sound = [each for each in ordered if not each.failed]
    newest = next((each for each in ordered if each.verified), None)
    for each in ordered:
        reasons[each.backup_id] += _fixed(each, newest, now)
    if not policy.counts and policy.max_age is None:
        for each in ordered:
            reasons[each.backup_id].append("no retention rule is set")
    oldest = None if policy.max_age is None else now - dt.timedelta(seconds=policy.max_age)
    young = [each for each in sound if oldest is None or each.time >= oldest]
    if policy.counts:
        _apply_rules(young, policy, reasons)
    elif oldest is not None:
        for each in young:
            reasons[each.backup_id].append(f"younger than {policy.max_age} s")
    return [
        Decision(each.backup_id, True, tuple(kept))
        if (kept := reasons[each.backup_id])
        else Decision(each.backup_id, False, (_why_not(each, oldest, newest),))
        for each in ordered
    ]


def _age_order(candidate: Candidate) -> tuple[dt.datetime, int, str]:
    return candidate.time, candidate.revision, candidate.backup_id


def _fixed(candidate: Candidate, newest: Candidate | None, now: dt.datetime) -> list[str]:
    """Return the reasons that no rule overrules."""
    found = []
    if candidate is newest:
        found.append("the newest verified backup")
    if candidate.locked_until is not None and candidate.locked_until > now:
        until = "a hold is lifted" if candidate.locked_until.year == dt.MAXYEAR else _stamp(candidate.locked_until)
        found.append(f"the store protects it until {until}")
    if candidate.time > now + SKEW:
        found.append(f"its time, {_stamp(candidate.time)}, is yet to come by this host's clock")
    if candidate.failed and (newest is None or _age_order(newest) < _age_order(candidate)):
        found.append("its verification failed, but no newer backup is verified")
    return found


def _apply_rules(young: Sequence[Candidate], policy: Policy, reasons: dict[str, list[str]]) -> None:
    """Note for each backup the rules that keep it; ``young`` is ordered, the newest first."""
    for number, each in enumerate(young[: policy.last], 1):
        reasons[each.backup_id].append(f"last {number} of {policy.last}")
    for rule, period, key_of in _PERIODS:
        periods: dict[tuple[int, ...], Candidate] = {}
        for each in young:
            key = key_of(each.time.astimezone(dt.timezone.utc))
            held = periods.get(key)
            if held is None or (each.verified and not held.verified):
                periods[key] = each
        wanted = getattr(policy, rule)
        for number, each in enumerate(list(periods.values())[:wanted], 1):
            reasons[each.backup_id].append(f"{period} {number} of {wanted}")


def _why_not(candidate: Candidate, oldest: dt.datetime | None, newest: Candidate | None) -> str:
    if candidate.failed and newest is not None:
        return f"its verification failed, and {newest.backup_id} is newer and verified"
    if oldest is not None and candidate.time < oldest:
        return f"made before {_stamp(oldest)}, the maximum age"
    return "no rule keeps it"


def _stamp(time: dt.datetime) -> str:
    return time.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
