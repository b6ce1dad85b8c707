# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines in pachd's form: time, level, then the method of a call with its details as JSON, or a text."""

from __future__ import annotations

import datetime
import json
import sys
import threading
from typing import Any

_LEVELS = ("error", "info", "debug")
_lock = threading.Lock()
_level = "info"


def set_level(level: str) -> None:
    """Show messages of this level (error, info, debug) and of worse ones."""
    global _level
    if level not in _LEVELS:
        error(f'Unrecognized log level {level}, falling back to default of "info"')
        level = "info"
    _level = level


def _write(level: str, text: str) -> None:
    shown = "error" if level == "warning" else level
    if _LEVELS.index(shown) > _LEVELS.index(_level):
        return
    time = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    with _lock:
        print(f"{time} {level.upper()} {text}", file=sys.stderr, flush=True)


def info(text: str) -> None:
    """Log what is usual."""
    _write("info", text)


def warning(text: str) -> None:
    """Log what may be wrong."""
    _write("warning", text)


def error(text: str) -> None:
    """Log what is wrong."""
    _write("error", text)


def call(method: str, failed: bool = False, **details: Any) -> None:
    """Log a call of the API."""
    _write("error" if failed else "info", f"{method} {json.dumps(details, sort_keys=True)} []")
