# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""How long work tells a person where it stands.

A module cannot print, so progress leaves it as JSON lines in the file that the ``pachops.pachyderm.progress`` callback
names in ``PACHOPS_PROGRESS``; without that variable nothing is written.  One line is one event::

    {"time": 1700000000.0, "stage": "etcd", "done": 3, "total": 10, "unit": "objects", "detail": "…"}

``time`` is in seconds since the epoch; ``done`` and ``total`` are in ``unit`` and null where unknown.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

PROGRESS_VARIABLE = "PACHOPS_PROGRESS"


class Progress:
    """Writes progress events; every call is cheap and never raises for a missing reader."""

    def __init__(
        self,
        path: str | None = None,
        interval: float = 0.5,
        say: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        """:param path: the event file; default: what the environment names.
        :param interval: least seconds between two updates of one stage, so that a tight loop costs nothing.
        :param say: gets the events instead of the file.
        """
        self._say = say or self._append
        self._path = path if path is not None else os.environ.get(PROGRESS_VARIABLE, "")
        self._interval = interval
        self._stage = ""
        self._last = 0.0

    def stage(self, name: str, detail: str = "") -> None:
        """Begin the stage ``name``."""
        self._stage = name
        self._last = time.monotonic()
        self._write(detail=detail)

    def update(self, done: float | None = None, total: float | None = None, unit: str = "", detail: str = "") -> None:
        """Report the stage's state; dropped when the last report is younger than the interval, unless it is the end."""
        now = time.monotonic()
        finished = done is not None and done == total
        if now - self._last < self._interval and not finished:
            return
        self._last = now
        self._write(done=done, total=total, unit=unit, detail=detail)

    def note(self, text: str) -> None:
        """Report one thing that is worth a line of its own."""
        self._write(detail=text, note=True)

    def relay(self, event: Mapping[str, Any]) -> None:
        """Report an event of somebody else's progress as it is."""
        self._stage = str(event.get("stage", self._stage))
        self._say(event)

    def _write(self, **event: Any) -> None:
        self._say({"time": time.time(), "stage": self._stage, **event})

    def _append(self, event: Mapping[str, Any]) -> None:
        if not self._path:
            return
        line = json.dumps(event) + "\n"
        try:
            # O_APPEND keeps the lines of parallel modules whole.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        except OSError:
            self._path = ""
            return
        with os.fdopen(descriptor, "w", encoding="utf-8") as events:
            events.write(line)
