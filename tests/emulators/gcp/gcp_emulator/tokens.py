# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OAuth token endpoint, the Security Token Service, and the metadata server that GKE gives to pods."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .errors import Refusal
from .state import State

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
CLOCK_SKEW = 300.0  # seconds that Google tolerates
WORKLOAD_IDENTITY_USER = "roles/iam.workloadIdentityUser"


class TokenRefusal(Exception):
    """An OAuth error: its code and description."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.body = {"error": error, "error_description": description}


def exchange(state: State, form: dict[str, str]) -> dict[str, Any]:
    """A signed assertion for an access token.

    :raises TokenRefusal: wrong grant, unknown account or key, bad signature, or a clock that is off.
    """
    if form.get("grant_type") != JWT_BEARER:
        raise TokenRefusal("unsupported_grant_type", "only the JWT bearer grant is emulated")
    try:
        head, claims, signature = form["assertion"].split(".")
        header, body = _decode(head), _decode(claims)
        email, key_id = body["iss"], header["kid"]
    except (KeyError, ValueError) as error:
        raise TokenRefusal("invalid_grant", f"the assertion cannot be read: {error}") from error
    account = state.accounts.get(email)
    if account is None:
        raise TokenRefusal("invalid_grant", "Invalid grant: account not found")
    key = account.keys.get(key_id)
    if key is None or time.monotonic() < key["usable_from"]:
        raise TokenRefusal("invalid_grant", "Invalid JWT Signature.")
    try:
        key["public"].verify(_raw(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise TokenRefusal("invalid_grant", "Invalid JWT Signature.") from error
    now = time.time()
    if not (body["iat"] - CLOCK_SKEW <= now <= body["exp"] + CLOCK_SKEW and body["exp"] - body["iat"] <= 3600):
        raise TokenRefusal(
            "invalid_grant", "Invalid JWT: Token must be a short-lived token and in a reasonable timeframe."
        )
    if account.body.get("disabled"):
        raise TokenRefusal("invalid_grant", "Invalid grant: account disabled")
    return _granted(state, f"serviceAccount:{email}")


def federate(state: State, body: dict[str, str]) -> dict[str, Any]:
    """A cluster's token for a federated one; its signature is held against the cluster's own keys.

    :raises TokenRefusal: an unknown pool or cluster, or a token that is not for it, not by it, or not valid now.
    """
    if body.get("grantType") != TOKEN_EXCHANGE or body.get("subjectTokenType") != f"{TOKEN_TYPE}jwt":
        raise TokenRefusal("invalid_request", "Invalid grant or subject token type.")
    kind, pool, provider = ([*body.get("audience", "").split(":", 2), "", ""])[:3]
    cluster = state.clusters.get(provider)
    if kind != "identitynamespace" or cluster is None or cluster["pool"] != pool:
        raise TokenRefusal("invalid_target", 'The target service indicated by the "audience" parameters is invalid.')
    try:
        head, claims, signature = body["subjectToken"].split(".")
        header, token = _decode(head), _decode(claims)
        _public_key(cluster["jwks"], header["kid"]).verify(
            _raw(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        _system, _kind, namespace, name = token["sub"].split(":")
    except (KeyError, ValueError, InvalidSignature) as error:
        raise TokenRefusal("invalid_grant", f"Error verifying the subject token: {type(error).__name__}") from error
    if (
        token["iss"] != provider
        or pool not in token["aud"]
        or not token["iat"] - CLOCK_SKEW <= time.time() < token["exp"]
    ):
        raise TokenRefusal("invalid_grant", "The audience in ID Token does not match, or the token has expired.")
    granted = _granted(state, f"serviceAccount:{pool}[{namespace}/{name}]")
    return {**granted, "issued_token_type": f"{TOKEN_TYPE}access_token"}


def _public_key(jwks: dict[str, Any], key_id: str) -> rsa.RSAPublicKey:
    (key,) = (item for item in jwks["keys"] if item["kid"] == key_id)
    exponent, modulus = (int.from_bytes(_raw(key[name]), "big") for name in ("e", "n"))
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def metadata(state: State, path: str, flavor: str | None) -> tuple[str, str]:
    """An answer of the metadata server, as (content type, text); a pod's identity is what a test configured.

    :raises Refusal: the header is missing, or the Kubernetes account may not act as the Google one.
    """
    if flavor != "Google":
        raise Refusal(403, "forbidden", "Missing Metadata-Flavor:Google header.")
    if path in ("/", "/computeMetadata/v1/"):
        return "text/plain", "computeMetadata/\n"
    config = state.metadata
    if not config:
        raise Refusal(404, "notFound", "the emulator's metadata server has no identity configured")
    email = config["google_service_account"]
    if path.endswith("/email"):
        return "text/plain", email
    if path.endswith("/scopes"):
        return "text/plain", "https://www.googleapis.com/auth/cloud-platform\n"
    if path.endswith("/project-id"):
        return "text/plain", config["pool"].removesuffix(".svc.id.goog")
    if path.endswith("/token"):
        account = state.accounts.get(email)
        member = f"serviceAccount:{config['pool']}[{config['namespace']}/{config['service_account']}]"
        granted = account is not None and any(
            binding["role"] == WORKLOAD_IDENTITY_USER and member in binding["members"]
            for binding in account.policy.in_force()
        )
        if not granted:
            raise Refusal(
                403,
                "IAM_PERMISSION_DENIED",
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
                metadata={"permission": "iam.serviceAccounts.getAccessToken"},
            )
        return "application/json", json.dumps(_granted(state, f"serviceAccount:{email}"))
    if "recursive" in path or path.endswith("/default/"):
        return "application/json", json.dumps({"aliases": ["default"], "email": email, "scopes": []})
    raise Refusal(404, "notFound", f"the emulator's metadata server does not know {path}")


def _granted(state: State, principal: str) -> dict[str, Any]:
    return {
        "access_token": state.issue(principal),
        "expires_in": int(state.limits.retain_token),
        "token_type": "Bearer",
    }


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _decode(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(_raw(text))
    return value
