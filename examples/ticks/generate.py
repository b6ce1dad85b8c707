# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write invented ticks of an invented share, and the settlement prices that an exchange would have published of them.

    python3 examples/ticks/generate.py DIRECTORY [--days 5] [--from 08:00] [--to 16:30] [--settles 14:47] [--seed 1]

Each minute of trading is a file of its own, ``ticks/yyyy/mm/dd/hh/MM``, with one line per trade: time, price, size.
``settlements/prices.csv`` has a price per day: the volume-weighted average of the 30 seconds from the minute on that
``--settles`` says, rounded to a cent and with some noise, as corrections and late trades make it.  Which minute that
was is what the pipelines have to find out.  The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

FIRST_DAY = dt.date(2026, 3, 2)
WINDOW = 30  # seconds whose trades make the settlement price
NOISE = 0.4  # cents, standard deviation
Minutes = range


class Trade(NamedTuple):
    """``second`` of the minute, with three decimals; price in cents."""

    second: float
    price: int
    size: int


def trading_days(count: int) -> Iterator[dt.date]:
    """Yield as many weekdays."""
    day = FIRST_DAY
    while count:
        if day.weekday() < 5:
            yield day
            count -= 1
        day += dt.timedelta(days=1)


def gauss(draw: Callable[[], float]) -> float:
    """Return a number that is nearly normally distributed; only random() has the same sequence in every Python."""
    return sum(draw() for _number in range(12)) - 6


def trades(draw: Callable[[], float], minutes: Minutes) -> Iterator[tuple[int, list[Trade]]]:
    """Yield each minute of a day with its trades: a random walk, busy at the open and at the close."""
    price = 8450 + 60 * gauss(draw)
    for minute in minutes:
        edge = abs((minute - minutes.start) / len(minutes) - 0.5) * 2
        count = 6 + int(draw() * (6 + 14 * edge))
        made = []
        for second in sorted(draw() * 60 for _trade in range(count)):
            price += 1.1 * gauss(draw)
            made.append(Trade(round(second, 3), max(1, round(price)), 1 + int(draw() * draw() * 400)))
        yield minute, made


def settlement(made: list[Trade], draw: Callable[[], float]) -> int:
    """Return the settlement price in cents."""
    counted = [trade for trade in made if trade.second < WINDOW]
    average = sum(trade.price * trade.size for trade in counted) / sum(trade.size for trade in counted)
    return round(average + NOISE * gauss(draw))


def minute_of_day(text: str) -> int:
    """Return the minute of the day of ``hh:MM``."""
    hour, _colon, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def write(directory: Path, days: int, minutes: Minutes, settles: int, seed: int) -> int:
    """Write everything and return the number of ticks."""
    count, prices = 0, ["date,price\n"]
    for day in trading_days(days):
        draw = random.Random(seed * 1_000_000 + day.toordinal()).random  # noqa: S311 - repeatable on purpose
        for minute, made in trades(draw, minutes):
            file = directory / "ticks" / f"{day:%Y/%m/%d}/{minute // 60:02}/{minute % 60:02}"
            file.parent.mkdir(parents=True, exist_ok=True)
            clock = f"{day}T{minute // 60:02}:{minute % 60:02}"
            lines = [f"{clock}:{trade.second:06.3f}Z,{trade.price / 100:.2f},{trade.size}\n" for trade in made]
            file.write_text("".join(lines), encoding="ascii")
            count += len(made)
            if minute == settles:
                prices.append(f"{day},{settlement(made, draw) / 100:.2f}\n")
    table = directory / "settlements" / "prices.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(prices), encoding="ascii")
    return count


def main() -> None:
    """Entry point of the program."""
    parser = argparse.ArgumentParser(description="Write invented ticks and settlement prices.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--from", dest="first", type=minute_of_day, default="08:00", metavar="hh:MM")
    parser.add_argument("--to", dest="last", type=minute_of_day, default="16:30", metavar="hh:MM")
    parser.add_argument("--settles", type=minute_of_day, default="14:47", metavar="hh:MM")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if not given.first <= given.settles < given.last:
        parser.error("--settles is not between --from and --to")
    count = write(given.directory, given.days, range(given.first, given.last), given.settles, given.seed)
    print(f"{count} ticks of {given.days} days in {given.directory}")  # noqa: T201 - it is what a person wants to read


if __name__ == "__main__":
    main()
