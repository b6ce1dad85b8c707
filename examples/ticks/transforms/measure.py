# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How badly each minute of the day explains the settlement prices, under one set of parameters.

Reads /pfs/rebin (``hh/MM/yyyy-MM-dd.csv``), /pfs/settlements (``prices.csv``) and /pfs/parameters (JSON files
with ``statistic``, which is vwap, mean or last, and ``window``, seconds from the start of the minute).  Writes
/pfs/out/<parameters>/<hh>.csv: for each minute the root mean square, over all days, of the difference between the
statistic of the minute's trades and the day's settlement price, in the currency of the prices.
"""

import csv
import json
import math
import os
import pathlib

pfs = pathlib.Path(os.environ.get("PFS", "/pfs"))
statistics = {
    "vwap": lambda rows: sum(price * size for price, size in rows) / sum(size for _price, size in rows),
    "mean": lambda rows: sum(price for price, _size in rows) / len(rows),
    "last": lambda rows: rows[-1][0],
}


def trades(path, window):
    """Return price and size of the trades in the first seconds of the minute."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        seconds = [(float(row["time"][17:23]), float(row["price"]), int(row["size"])) for row in rows]
    return [(price, size) for second, price, size in seconds if second < window]


with (pfs / "settlements" / "prices.csv").open(newline="") as file:
    settled = {row["date"]: float(row["price"]) for row in csv.DictReader(file)}
for parameters in sorted((pfs / "parameters").glob("*.json")):
    wanted = json.loads(parameters.read_text())
    statistic = statistics[wanted["statistic"]]
    for hour in sorted((pfs / "rebin").iterdir()):
        lines = ["minute,days,rms\n"]
        for minute in sorted(hour.iterdir()):
            squares = []
            for path in sorted(minute.glob("*.csv")):
                rows = trades(path, wanted["window"])
                if rows and path.stem in settled:
                    squares.append((statistic(rows) - settled[path.stem]) ** 2)
            if squares:
                rms = math.sqrt(sum(squares) / len(squares))
                lines.append(f"{hour.name}:{minute.name},{len(squares)},{rms:.6f}\n")
        target = pfs / "out" / parameters.stem / f"{hour.name}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(lines))
