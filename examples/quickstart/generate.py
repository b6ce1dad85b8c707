# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the quickstart's csv file: one invented trading day of an invented share, the same bytes every time.

Usage: python3 examples/quickstart/generate.py > examples/quickstart/ticks.csv
"""

from __future__ import annotations

import datetime as dt
import random
import sys
from collections.abc import Iterator

OPEN = dt.datetime(2026, 3, 2, 8, 0, tzinfo=dt.timezone.utc)
SECONDS = 8.5 * 3600
TRADES = 9000


def ticks() -> Iterator[str]:
    """Yield the lines of the file: a header, then one line per trade in the order of time."""
    # Only random() keeps its sequence for a seed in every release of Python.
    draw = random.Random(20260302).random  # noqa: S311 - repeatable on purpose
    moments = sorted(round(draw() * SECONDS * 1000) for _trade in range(TRADES))
    price = 8450
    yield "time,symbol,price,size\n"
    for moment in moments:
        stamp = OPEN + dt.timedelta(milliseconds=moment)
        # A random walk in cents; volume is heavy at the open and at the close.
        price = max(1, price + round((draw() - 0.5) * 7))
        hours = moment / 3_600_000
        busy = 1 + 3 * abs(hours - 4.25) / 4.25
        size = 1 + int(draw() * draw() * 400 * busy)
        text = stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield f"{text},TICK,{price / 100:.2f},{size}\n"


if __name__ == "__main__":
    sys.stdout.writelines(ticks())
