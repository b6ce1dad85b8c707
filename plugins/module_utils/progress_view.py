# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What a person reads while long work runs: progress events turned into lines.

Pure: no clock, no file, no terminal.  Times are seconds, handed in by the caller; an event is a dict of the format that
``progress`` writes.
"""

from __future__ import annotations

from collections import deque
from typing import Any

RATE_WINDOW = 20.0
"""Seconds of history that a rate is taken over: long enough to be steady, short enough to notice a stall."""

_BYTES = ("B", "bytes")


def duration(seconds: float) -> str:
    """Return ``seconds`` as people write it: ``8 s``, ``2:05``, ``1:02:05``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def amount(value: float, unit: str = "") -> str:
    """Return ``value`` with its unit; bytes in decimal steps (``1.5 GB``), everything else as it is (``3 objects``)."""
    if unit in _BYTES:
        scaled, step = float(value), 0
        prefixes = ("B", "kB", "MB", "GB", "TB", "PB")
        while abs(scaled) >= 999.5 and step < len(prefixes) - 1:
            scaled, step = scaled / 1000, step + 1
        digits = 0 if step == 0 or abs(scaled) >= 99.95 else 1
        return f"{scaled:.{digits}f} {prefixes[step]}"
    text = f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.1f}"
    return f"{text} {unit}".rstrip()


def size_text(size: float) -> str:
    """Return a number of bytes with its unit."""
    return amount(size, "B")


class Meter:
    """Rate and time left of one stage, from the amounts reported so far."""

    def __init__(self, window: float = RATE_WINDOW) -> None:
        self._window = window
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, when: float, done: float) -> None:
        """Record that ``done`` units were finished at ``when``; a step backwards starts the history anew."""
        if self._samples and (done < self._samples[-1][1] or when < self._samples[-1][0]):
            self._samples.clear()
        self._samples.append((when, done))
        # One sample older than the window stays, so that slow reporters still have a rate.
        while len(self._samples) > 2 and self._samples[1][0] <= when - self._window:
            self._samples.popleft()

    def rate(self) -> float | None:
        """Return units per second over the window, or None before two reports lie apart in time."""
        if len(self._samples) < 2:
            return None
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if end > start else None

    def left(self, total: float) -> float | None:
        """Return the seconds that the rest will take at the present rate, or None where nothing moves."""
        rate = self.rate()
        if not rate or not self._samples:
            return None
        return max(0.0, total - self._samples[-1][1]) / rate


class Stage:
    """One stage of the work: its last report and its meter."""

    def __init__(self, name: str, began: float) -> None:
        self.name = name
        self.began = began
        self.printed: float | None = None
        self.finished = False
        self._done: float | None = None
        self._total: float | None = None
        self._unit = ""
        self._detail = ""
        self._meter = Meter()

    def feed(self, event: dict[str, Any]) -> None:
        """Take one event of this stage."""
        done, total = event.get("done"), event.get("total")
        self._detail = str(event.get("detail") or "")
        self._unit = str(event.get("unit") or self._unit)
        if isinstance(done, (int, float)):
            self._done = float(done)
            self._meter.add(float(event["time"]), self._done)
        if isinstance(total, (int, float)):
            self._total = float(total)
        self.finished = self._done is not None and self._done == self._total

    def line(self, now: float) -> str:
        """Return the stage in one line: name, amounts, share, rate, time left, and what is going on."""
        parts = []
        if self._done is not None:
            parts.append(self._amounts(self._done))
            if not self.finished:
                parts.extend(self._speed())
        if self._detail:
            parts.append(self._detail)
        if self._done is None and now - self.began >= 1:
            parts.append(duration(now - self.began))
        return f"{self.name}: {', '.join(parts)}" if parts else self.name

    def _amounts(self, done: float) -> str:
        if not self._total:
            return amount(done, self._unit)
        share = min(100, int(100 * done / self._total))
        return f"{amount(done, self._unit)} of {amount(self._total, self._unit)} ({share} %)"

    def _speed(self) -> list[str]:
        rate = self._meter.rate()
        if not rate:
            return []
        parts = [f"{amount(rate, self._unit)}/s"]
        left = self._meter.left(self._total) if self._total else None
        if left is not None:
            parts.append(f"{duration(left)} left")
        return parts


class View:
    """All that is shown of one run: the stage in hand, notes, and a heartbeat for tasks that report nothing."""

    def __init__(self, interval: float = 10.0, heartbeat: float = 15.0, patience: float = 5.0) -> None:
        """:param interval: least seconds between two plain lines of one stage.
        :param heartbeat: seconds of silence in a task after which the task itself is named.
        :param patience: seconds that a stage has to last before its first plain line.
        """
        self._interval = interval
        self._heartbeat = heartbeat
        self._patience = patience
        self._stage: Stage | None = None
        self._notes: list[str] = []
        self._closing: list[str] = []
        self._task = ""
        self._task_began = 0.0
        self._spoke = 0.0

    def task(self, name: str, now: float) -> None:
        """A task has begun; an empty name means that none runs."""
        self._task, self._task_began, self._spoke = name, now, now
        self._stage = None

    def feed(self, event: dict[str, Any]) -> None:
        """Take one event."""
        when = float(event.get("time", 0.0))
        name = str(event.get("stage") or "")
        if event.get("note"):
            text = str(event.get("detail") or "")
            self._notes.append(f"{name}: {text}" if name else text)
            return
        if self._stage is None or self._stage.name != name or self._stage.finished:
            self._stage = Stage(name, when)
        self._stage.feed(event)
        if self._stage.finished and self._stage.printed is not None:
            self._closing.append(self._stage.line(when))

    def notes(self) -> list[str]:
        """Return the notes that were not handed out yet."""
        notes, self._notes = self._notes, []
        return notes

    def live(self, now: float) -> str:
        """Return the line for a terminal, to be rewritten in place; empty when there is nothing to say."""
        if self._stage is not None:
            return self._stage.line(now)
        return self._pulse(now) if now - self._task_began >= self._heartbeat else ""

    def closing(self) -> list[str]:
        """Return what is still to be said when a task has ended: its notes, and the last lines of stages."""
        closing, self._closing = self._closing, []
        return self.notes() + closing

    def plain(self, now: float) -> list[str]:
        """Return the lines that are due where output cannot be rewritten."""
        lines = self.closing()
        stage = self._stage
        if stage is not None and not stage.finished:
            since = stage.began + self._patience - self._interval if stage.printed is None else stage.printed
            if now - since >= self._interval:
                stage.printed = now
                lines.append(stage.line(now))
        if lines:
            self._spoke = now
        elif self._task and now - self._spoke >= self._heartbeat:
            self._spoke = now
            lines.append(self._pulse(now))
        return lines

    def _pulse(self, now: float) -> str:
        return f"{self._task}: still running, {duration(now - self._task_began)}" if self._task else ""
