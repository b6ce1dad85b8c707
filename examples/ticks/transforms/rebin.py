# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ticks by day become ticks by minute of the day: ``yyyy/mm/dd/hh/MM`` goes to ``hh/MM/yyyy-MM-dd.csv``.

Reads /pfs/ticks and writes /pfs/out; ``PFS`` in the environment replaces /pfs.
"""

import os
import pathlib

pfs = pathlib.Path(os.environ.get("PFS", "/pfs"))
ticks = pfs / "ticks"
for directory, _directories, files in os.walk(ticks):
    for name in files:
        path = pathlib.Path(directory) / name
        year, month, day, hour, minute = path.relative_to(ticks).parts
        target = pfs / "out" / hour / minute / f"{year}-{month}-{day}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"time,price,size\n" + path.read_bytes())
