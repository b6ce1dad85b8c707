# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Durations as Go and pachctl write them, and points in time counted from now."""

from __future__ import annotations

import datetime as dt
import re

from ..errors import InputError

_PART = r"(\d+(?:\.\d+)?)(d|h|ms|m|s)"
_WHOLE = re.compile(f"(?:{_PART})+")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(text: str) -> float | None:
    """Return how long ``90s``, ``1h30m`` or ``7d`` is, None where the text is no duration."""
    if not _WHOLE.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))


def moment(text: str, now: dt.datetime) -> dt.datetime:
    """Return the time that an ISO 8601 text or a duration before ``now`` names; without a zone it is UTC.

    :raises InputError: it is neither.
    """
    ago = seconds(text)
    if ago is not None:
        return now - dt.timedelta(seconds=ago)
    try:
        found = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        fix = "Write 2026-11-22T10:00:00Z, or 24h for that long ago."
        raise InputError("neither a time nor a duration", where=text, fix=fix) from None
    return found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)
