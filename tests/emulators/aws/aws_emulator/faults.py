# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand, in front of moto: refusals, throttling, conflicts and slow answers in AWS's words."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass
class Fault:
    """One fault.

    :param match: regular expression, searched in ``METHOD /path?query authorization body``; IAM's calls have ``Action=…`` in
        the body, and the authorization has the access key's id.
    :param times: how many requests it hits.
    :param status: HTTP status to answer with; 0 where the request is answered as usual.
    :param delay: seconds to wait before the answer.
    """

    match: str
    times: int = 1
    status: int = 0
    code: str = ""
    message: str = "a fault that the test asked for"
    delay: float = 0.0


class Faults:
    """WSGI middleware; :attr:`armed` is the list of faults, the first that matches counts."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.armed: list[Fault] = []
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) if self.armed else None
        if body is not None:
            environ["wsgi.input"] = io.BytesIO(body)
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')} "
        request += f"{environ.get('HTTP_AUTHORIZATION', '')} "
        fault = self._pick(request + (body or b"").decode(errors="replace"))
        if fault and fault.delay:
            time.sleep(fault.delay)
        if not fault or not fault.status:
            return self.app(environ, start_response)
        error = f"<Error><Type>Sender</Type><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
        is_query = b"Action=" in (body or b"")
        text = f"<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>" if is_query else error
        start_response(
            f"{fault.status} {fault.code}", [("Content-Type", "text/xml"), ("Content-Length", str(len(text)))]
        )
        return [] if request.startswith("HEAD") else [text.encode()]

    def _pick(self, request: str) -> Fault | None:
        with self._lock:
            for fault in self.armed:
                if fault.times > 0 and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None
