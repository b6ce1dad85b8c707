# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the measure of every minute of the day, one line per set of parameters, and mark the best minute.

    python3 examples/ticks/plot.py measure.csv best.json plot.png

Needs nothing but Python: the picture is written pixel by pixel, as PNG (RFC 2083).
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import struct
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Color = tuple[int, int, int]
Point = tuple[float, float]

WIDTH, HEIGHT = 1000, 420
LEFT, RIGHT, TOP, BOTTOM = 90, 20, 50, 50
WHITE, BLACK, GREY, RED = (255, 255, 255), (30, 30, 30), (215, 215, 215), (200, 30, 30)
COLORS: Sequence[Color] = ((20, 90, 170), (230, 130, 20), (40, 140, 70), (130, 80, 160), (110, 110, 110))
# Five columns of seven pixels for each character, the lowest bit on top.
FONT: Mapping[str, str] = {
    "0": "3e5149453e", "1": "00427f4000", "2": "4261514946", "3": "2141454b31", "4": "1814127f10", "5": "2745454539",
    "6": "3c4a494930", "7": "0171090503", "8": "3649494936", "9": "064949291e", "A": "7e1111117e", "B": "7f49494936",
    "C": "3e41414122", "D": "7f4141221c", "E": "7f49494941", "F": "7f09090901", "G": "3e4149497a", "H": "7f0808087f",
    "I": "00417f4100", "J": "2040413f01", "K": "7f08142241", "L": "7f40404040", "M": "7f020c027f", "N": "7f0408107f",
    "O": "3e4141413e", "P": "7f09090906", "Q": "3e4151215e", "R": "7f09192946", "S": "4649494931", "T": "01017f0101",
    "U": "3f4040403f", "V": "1f2040201f", "W": "3f4038403f", "X": "6314081463", "Y": "0708700807", "Z": "6151494543",
    ":": "0036360000", ".": "0060600000", "-": "0808080808", ",": "0050300000", " ": "0000000000",
}  # fmt: skip


class Picture:
    """A canvas of RGB pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows = [bytearray(bytes(WHITE) * width) for _row in range(height)]

    def dot(self, x: int, y: int, color: Color) -> None:
        """Color one pixel; outside of the canvas there is none."""
        if 0 <= x < self.width and 0 <= y < self.height:
            self.rows[y][3 * x : 3 * x + 3] = bytes(color)

    def line(self, start: Point, end: Point, color: Color, thickness: int = 1) -> None:
        """Draw a straight line."""
        steps = max(1, math.ceil(max(abs(end[0] - start[0]), abs(end[1] - start[1]))))
        for step in range(steps + 1):
            x = round(start[0] + (end[0] - start[0]) * step / steps)
            y = round(start[1] + (end[1] - start[1]) * step / steps)
            for offset in range(thickness):
                self.dot(x, y + offset, color)
                self.dot(x + offset, y, color)

    def text(self, x: int, y: int, text: str, color: Color = BLACK, scale: int = 1) -> None:
        """Write in capitals; a character that the font lacks is left blank."""
        for character in text.upper():
            for column, bits in enumerate(bytes.fromhex(FONT.get(character, FONT[" "]))):
                for row in range(7):
                    if bits >> row & 1:
                        for dx in range(scale):
                            for dy in range(scale):
                                self.dot(x + column * scale + dx, y + row * scale + dy, color)
            x += 6 * scale

    def png(self) -> bytes:
        """Return the file's content."""

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self.rows), 9)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def minute_of_day(text: str) -> int:
    """Return the minute of the day of ``hh:MM``."""
    hour, _colon, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def draw(curves: Mapping[str, Sequence[Point]], best: tuple[str, str, float]) -> Picture:
    """Return the picture.

    :param curves: parameters to (minute of the day, measure), in the order of time.
    :param best: minute as ``hh:MM``, its parameters, its measure.
    """
    picture = Picture(WIDTH, HEIGHT)
    points = [point for curve in curves.values() for point in curve]
    first, last = min(x for x, _y in points), max(x for x, _y in points)
    top = max(y for _x, y in points) or 1.0

    def place(point: Point) -> Point:
        x = LEFT + (point[0] - first) / max(1, last - first) * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - point[1] / top * (HEIGHT - TOP - BOTTOM)

    for part in range(6):
        _x, y = place((first, top * part / 5))
        picture.line((LEFT, y), (WIDTH - RIGHT, y), GREY)
        picture.text(LEFT - 50, round(y) - 3, f"{top * part / 5:.3f}")
    every = next(step for step in (5, 10, 15, 30, 60, 120, 240, 1440) if (last - first) / step <= 12)
    for minute in range(math.ceil(first / every) * every, round(last) + 1, every):
        x, _y = place((minute, 0))
        picture.line((x, TOP), (x, HEIGHT - BOTTOM), GREY)
        picture.text(round(x) - 14, HEIGHT - BOTTOM + 8, f"{minute // 60:02}:{minute % 60:02}")
    for number, (name, curve) in enumerate(sorted(curves.items())):
        color = COLORS[number % len(COLORS)]
        for start, end in itertools.pairwise(curve):
            picture.line(place(start), place(end), color)
        picture.text(LEFT + 160 * number, HEIGHT - 20, f"- {name}", color)
    x, y = place((minute_of_day(best[0]), best[2]))
    picture.line((x, TOP), (x, HEIGHT - BOTTOM), RED, 2)
    for angle in range(0, 360, 4):
        picture.dot(round(x + 6 * math.cos(math.radians(angle))), round(y + 6 * math.sin(math.radians(angle))), RED)
    picture.text(LEFT, 14, f"best fit {best[0]}, {best[1]}, rms {best[2]:.4f}", RED, 2)
    picture.text(8, TOP - 14, "rms difference to the settlement price, by minute of the day")
    return picture


def read(rows: Iterable[Mapping[str, str]]) -> dict[str, list[Point]]:
    """Return the curves of ``measure.csv``."""
    curves: dict[str, list[Point]] = {}
    for row in rows:
        curves.setdefault(row["parameters"], []).append((minute_of_day(row["minute"]), float(row["rms"])))
    return {name: sorted(curve) for name, curve in curves.items()}


def main() -> None:
    """Entry point of the program."""
    measure, answer, target = sys.argv[1:]
    with Path(measure).open(newline="", encoding="ascii") as file:
        curves = read(csv.DictReader(file))
    best = json.loads(Path(answer).read_text(encoding="ascii"))
    if not curves or not best["minute"]:
        sys.exit("nothing was measured: there is no day with both ticks and a settlement price")
    content = draw(curves, (best["minute"], best["parameters"], best["rms"])).png()
    Path(target).write_bytes(content)


if __name__ == "__main__":
    main()
