# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The minute of the day, and the parameters, that explain the settlement prices best.

Reads /pfs/measure (``<parameters>/<hh>.csv``).  Writes /pfs/out/best.json, with the best of the other minutes,
and /pfs/out/measure.csv with all of it for a plot.  Minutes that do not have as many days as the others do not count.
"""

import csv
import json
import os
import pathlib

pfs = pathlib.Path(os.environ.get("PFS", "/pfs"))
rows = []
for path in sorted((pfs / "measure").glob("*/*.csv")):
    with path.open(newline="") as file:
        rows += [(path.parent.name, row["minute"], int(row["days"]), float(row["rms"])) for row in csv.DictReader(file)]
days = max((row[2] for row in rows), default=0)
whole = sorted((row for row in rows if row[2] == days), key=lambda row: row[3])
answer = {"minute": None, "days": days}
if whole:
    best = whole[0]
    others = [row for row in whole if row[1] != best[1]]
    answer = {"minute": best[1], "parameters": best[0], "rms": best[3], "days": days}
    if others:
        answer["runner_up"] = {"minute": others[0][1], "parameters": others[0][0], "rms": others[0][3]}
out = pfs / "out"
out.mkdir(parents=True, exist_ok=True)
(out / "best.json").write_text(json.dumps(answer, indent=2) + "\n")
with (out / "measure.csv").open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("parameters", "minute", "days", "rms"))
    writer.writerows(sorted(rows))
