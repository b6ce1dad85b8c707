# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusals in the two shapes that Google's APIs give them."""

from __future__ import annotations

from typing import Any

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Refusal(Exception):
    """An answer that is no success.

    :param reason: Storage's ``errors[0].reason``; for IAM the reason of an ErrorInfo where ``metadata`` is given.
    """

    def __init__(
        self, code: int, reason: str, message: str, *, status: str = "", metadata: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status = status or STATUS_NAMES.get(code, "UNKNOWN")
        self.metadata = metadata

    def storage(self) -> dict[str, Any]:
        """Storage's shape."""
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [item]}}

    def iam(self) -> dict[str, Any]:
        """IAM's shape."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.metadata is not None:
            error["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": self.reason,
                    "domain": "iam.googleapis.com",
                    "metadata": self.metadata,
                }
            ]
        return {"error": error}


def service_disabled(service: str, project: str) -> Refusal:
    """The API is switched off in the project."""
    message = (
        f"{service} has not been used in project {project} before or it is disabled. Enable it by visiting the console"
        " then retry."
    )
    return Refusal(
        403,
        "SERVICE_DISABLED" if service.startswith("iam") else "accessNotConfigured",
        message,
        metadata={"service": service, "consumer": f"projects/{project}"},
    )
