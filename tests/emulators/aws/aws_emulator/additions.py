# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moto leaves out and these tests need.

- STS: moto hands any role to any token.  Here the role's trust policy decides: the token's issuer has to be a provider that
  IAM knows with the token's audience, and the policy's conditions on ``aud`` and ``sub`` have to hold.  Signatures are not
  checked, because moto has no way to ask an issuer for its keys.
- IAM: ``ListServiceSpecificCredentials``, without which no user can be deleted by ``amazon.aws.iam_user``.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import time
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.models import iam_backends
from moto.iam.responses import IamResponse
from moto.sts.exceptions import STSClientError
from moto.sts.responses import TokenResponse

_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringLike": fnmatch.fnmatchcase,
}


def install() -> None:
    """Add it to this process' moto; a second call changes nothing."""
    if not hasattr(IamResponse, "list_service_specific_credentials"):
        IamResponse.list_service_specific_credentials = _no_credentials
        TokenResponse.assume_role_with_web_identity = _trusting(TokenResponse.assume_role_with_web_identity)


def _no_credentials(response: Any) -> ActionResult:
    response.backend.get_user(response._get_param("UserName"))
    return ActionResult({"ServiceSpecificCredentials": []})


def _trusting(assume: Callable[[Any], ActionResult]) -> Callable[[Any], ActionResult]:
    def decide(response: Any) -> ActionResult:
        claims = _claims(response._get_param("WebIdentityToken"))
        if claims["exp"] < time.time():
            raise STSClientError(
                "ExpiredTokenException", "Token expired: current date/time must be before the expiration"
            )
        iam = iam_backends[response.current_account][response.partition]
        provider = _provider(iam, claims)
        arn = response._get_param("RoleArn")
        role = next((item for item in iam.roles.values() if item.arn == arn), None)
        if role is None or not any(_allows(item, provider, claims) for item in _statements(role)):
            raise STSClientError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        return assume(response)

    return decide


def _claims(token: str) -> dict[str, Any]:
    try:
        part = token.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError) as error:
        message = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
        raise STSClientError("InvalidIdentityToken", message) from error
    return claims


def _provider(iam: Any, claims: dict[str, Any]) -> str:
    """The ARN of the provider that stands for the token's issuer."""
    issuer = claims["iss"].removeprefix("https://")
    for arn, provider in iam.open_id_providers.items():
        if arn.endswith(f":oidc-provider/{issuer}"):
            if not set(claims["aud"]) & set(provider.client_id_list):
                raise STSClientError("InvalidIdentityToken", "Incorrect token audience")
            return str(arn)
    message = f"No OpenIDConnect provider found in your account for {claims['iss']}"
    raise STSClientError("InvalidIdentityToken", message)


def _statements(role: Any) -> list[dict[str, Any]]:
    document = role.assume_role_policy_document
    statements = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    return statements if isinstance(statements, list) else [statements]


def _allows(statement: dict[str, Any], provider: str, claims: dict[str, Any]) -> bool:
    if statement["Effect"] != "Allow" or statement["Action"] != "sts:AssumeRoleWithWebIdentity":
        return False
    issuer = claims["iss"].removeprefix("https://")
    held = {f"{issuer}:aud": claims["aud"], f"{issuer}:sub": [claims["sub"]]}
    conditions = statement.get("Condition") or {}
    return provider in _list(statement["Principal"].get("Federated")) and all(
        any(_OPERATORS[operator](value, wanted) for value in held.get(key, []) for wanted in _list(wants))
        for operator, keys in conditions.items()
        for key, wants in keys.items()
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
