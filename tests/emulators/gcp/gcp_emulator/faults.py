# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: what the network and Google's front ends do to a client on a bad day."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any


@dataclass
class Fault:
    """One fault.

    :param method: HTTP method, or "" for any.
    :param path: regular expression searched in the path.
    :param times: how many requests it hits.
    :param after: how many matching requests pass first.
    :param status: HTTP status to answer with; 0 where the request is answered as usual.
    :param delay: seconds to wait before the answer.
    :param drop: ``before``: close the connection and do nothing; ``after``: do it, and close without an answer.
    """

    method: str = ""
    path: str = ""
    times: int = 1
    after: int = 0
    status: int = 0
    reason: str = "backendError"
    message: str = "a fault that the test asked for"
    retry_after: str = ""
    delay: float = 0.0
    drop: str = ""

    def hits(self, method: str, path: str) -> bool:
        """Whether it is this request's turn; counts."""
        if self.times <= 0 or (self.method and self.method != method) or not re.search(self.path, path):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Faults:
    """The faults that are armed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[Fault] = []

    def arm(self, faults: list[dict[str, Any]]) -> None:
        """Replace what is armed."""
        with self._lock:
            self._armed = [Fault(**item) for item in faults]

    def pick(self, method: str, path: str) -> Fault | None:
        """The fault that hits this request, if any."""
        with self._lock:
            return next((fault for fault in self._armed if fault.hits(method, path)), None)
