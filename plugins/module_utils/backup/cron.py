# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Times in cron's form, for cron, for Kubernetes and for systemd alike, and which of them have passed.

The five fields of ``crontab(5)``: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday), each
``*``, a number, a range, a list, any of them with a step.  Where both days are restricted, either of them suffices, as
in cron; systemd would want both, so such a time has no calendar expression.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InputError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CALENDAR_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_MACROS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


@dataclass(frozen=True)
class Cron:
    """A parsed time; each field is the set of its values."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    @property
    def fields(self) -> tuple[str, ...]:
        """The five fields as text."""
        return tuple(self.text.split())

    def matches(self, day: dt.date) -> bool:
        """Return whether it comes on that day."""
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        either = not self.any_day and not self.any_weekday
        return day.month in self.months and (in_month or in_week if either else in_month and in_week)

    def between(self, after: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
        """Yield its times later than ``after`` and not later than ``until``, in the zone of ``after``."""
        day = after.date()
        while day <= until.astimezone(after.tzinfo).date():
            if self.matches(day):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        moment = dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=after.tzinfo)
                        if after < moment <= until:
                            yield moment
            day += dt.timedelta(days=1)

    def calendar(self, zone: str = "UTC") -> str:
        """Return it as systemd's calendar expression.

        :raises InputError: when both days are restricted.
        """
        if not self.any_day and not self.any_weekday:
            raise InputError(
                "systemd cannot say this time",
                where=self.text,
                why="it comes on a day of the month or on a day of the week",
                fix="Restrict one of the two only.",
            )
        weekdays = "" if self.any_weekday else ",".join(_CALENDAR_DAYS[day] for day in sorted(self.weekdays)) + " "
        month, day, hour, minute = (
            _joined(values, low, high)
            for values, low, high in (
                (self.months, 1, 12),
                (self.days, 1, 31),
                (self.hours, 0, 23),
                (self.minutes, 0, 59),
            )
        )
        return f"{weekdays}*-{month}-{day} {hour}:{minute}:00 {zone}".rstrip()


def _joined(values: frozenset[int], low: int, high: int) -> str:
    if values == frozenset(range(low, high + 1)):
        return "*"
    return ",".join(f"{value:02}" for value in sorted(values))


def parse(text: str) -> Cron:
    """Return the time that ``text`` means.

    :raises InputError: when it is none, or never comes.
    """
    fields = _MACROS.get(text.strip(), text).split()
    if len(fields) != len(_FIELDS):
        raise InputError(
            "not a time as cron takes it",
            where=repr(text),
            why=f"it has {len(fields)} fields, not 5",
            fix="Give minute, hour, day, month and weekday, such as 17 2 * * *.",
        )
    values = [_values(field, text, *limits) for field, limits in zip(fields, _FIELDS, strict=True)]
    weekdays = frozenset(day % 7 for day in values[4])
    cron = Cron(
        " ".join(fields), values[0], values[1], values[2], values[3], weekdays, fields[2] == "*", fields[4] == "*"
    )
    start = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)  # a leap year
    if cron.any_weekday and next(cron.between(start, start + dt.timedelta(days=366)), None) is None:
        raise InputError("this time never comes", where=repr(text), fix="Look at its day and month.")
    return cron


def _values(field: str, text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        try:
            width = int(step) if slash else 1
            if span == "*":
                first, last = low, high if high != 7 else 6
            else:
                begin, dash, end = span.partition("-")
                first = _number(begin, low, names)
                last = _number(end, low, names) if dash else high if slash else first
            if width < 1 or not low <= first <= last <= high:
                raise ValueError("out of range")  # noqa: TRY301 - the one message is below
        except ValueError as error:
            raise InputError(
                "not a time as cron takes it",
                where=repr(text),
                why=f"{part!r} is no {name}: {low} to {high}, ranges, lists and steps",
                fix="Give minute, hour, day, month and weekday, such as 17 2 * * *.",
            ) from error
        found.update(range(first, last + 1, width))
    return frozenset(found)


def _number(word: str, low: int, names: tuple[str, ...]) -> int:
    lowered = word.lower()
    if lowered in names:
        return names.index(lowered) + low
    if not word.isdigit():
        raise ValueError(word)
    return int(word)
