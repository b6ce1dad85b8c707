# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retries and errors, on answers as Google words them."""

from __future__ import annotations

import email.utils
import json
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import client
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import ApiError, Endpoints, Gcp


class Session:
    """Gives the answers one after the other, as (status, body, headers)."""

    def __init__(self, *answers: tuple[int, Any, dict[str, str]]) -> None:
        self.answers = list(answers)

    def request(self, *_args: Any, **_kwargs: Any) -> Any:
        status, body, headers = self.answers.pop(0)

        class Response:
            status_code = status
            text = body if isinstance(body, str) else json.dumps(body)

            @staticmethod
            def json() -> Any:
                return json.loads(Response.text)

        Response.headers = headers  # type: ignore[attr-defined]
        return Response


def gcp(*answers: tuple[int, Any, dict[str, str]], patience: float = 100.0) -> tuple[Gcp, list[float]]:
    """A session whose clock moves by its pauses alone."""
    pauses: list[float] = []
    session = Gcp(
        Session(*answers),
        Endpoints(),
        project="acme",
        principal="me",
        patience=patience,
        sleep=pauses.append,
        clock=lambda: sum(pauses),
    )
    return session, pauses


def storage_error(status: int, reason: str, message: str) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}, {}


def test_pauses_grow_and_have_a_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.random, "random", lambda: 1.0)
    assert [client.pause_before(attempt, None) for attempt in range(8)] == [0.5, 1, 2, 4, 8, 16, 32, 32]
    assert client.pause_before(0, "7") == 7.0
    assert client.pause_before(0, email.utils.formatdate(1000, usegmt=True), now=lambda: 990.0) == 10.0
    assert client.pause_before(0, "nonsense") == 0.5


def test_patience_ends() -> None:
    session, pauses = gcp(*[storage_error(503, "backendError", "Backend Error")] * 50, patience=10)
    with pytest.raises(ApiError, match=r"Backend Error \(still so after \d+ tries"):
        session.storage("GET", "/b/x", "cannot read the bucket")
    assert sum(pauses) <= 10


def test_a_server_that_wants_more_than_our_patience_is_not_waited_for() -> None:
    session, pauses = gcp((503, "", {"Retry-After": "3600"}), patience=10)
    with pytest.raises(ApiError):
        session.storage("GET", "/b/x", "cannot read")
    assert pauses == []


def test_unknown_outcome_is_not_repeated_where_that_would_harm() -> None:
    session, pauses = gcp(storage_error(503, "x", "y"))
    with pytest.raises(ApiError):
        session.iam("POST", "/x", "cannot create a key", retry=False)
    assert pauses == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (storage_error(401, "authError", "Invalid Credentials"), "access token has expired"),
        (
            storage_error(403, "forbidden", "me does not have storage.buckets.create access to the project."),
            "me lacks the permission storage.buckets.create",
        ),
        (storage_error(403, "forbidden", "Access denied."), "me lacks the permission needed.permission"),
        (
            storage_error(403, "accountDisabled", "The billing account for the owning project is disabled"),
            "billing is not active for project acme",
        ),
        (storage_error(400, "invalid", "Unknown project id: acme"), "project acme does not exist"),
        (
            storage_error(403, "forbidden", "Permission denied on Cloud KMS key."),
            "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        ),
        (
            (
                403,
                {
                    "error": {
                        "code": 403,
                        "status": "PERMISSION_DENIED",
                        "message": "IAM API has not been used in project 1 before or it is disabled.",
                        "details": [
                            {
                                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                                "reason": "SERVICE_DISABLED",
                                "metadata": {"service": "iam.googleapis.com"},
                            }
                        ],
                    }
                },
                {},
            ),
            "gcloud services enable iam.googleapis.com --project acme",
        ),
        ((502, "<html>bad gateway</html>", {}), "bad gateway"),
        ((403, {"error": "access_denied", "error_description": "no"}, {}), "lacks the permission"),
    ],
)
def test_causes_are_named(answer: Any, words: str) -> None:
    session, _pauses = gcp(answer, patience=0)
    with pytest.raises(ApiError) as caught:
        session.storage("GET", "/b", "cannot do it", needs="needed.permission")
    assert words in str(caught.value)


def test_no_json() -> None:
    session, _pauses = gcp((200, "<html>", {}))
    with pytest.raises(client.CloudError, match="no JSON"):
        session.storage("GET", "/b", "cannot do it")
