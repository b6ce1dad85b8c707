# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Act as a Google service account with a Kubernetes service account's token, as GKE's metadata server does for pods.

Two exchanges (``sts:v1`` and ``iamcredentials:v1``): the cluster's token for a federated one, and that for an access
token of the Google account.  Both work from outside of the cluster, so Workload Identity can be tried out before any
pod runs.
"""

from __future__ import annotations

import base64
import json

from ..errors import InputError
from .client import SCOPE, Gcp, segment

LIFETIME = "900s"


def issuer(token: str) -> str:
    """Return who issued a token: for a GKE cluster its own address under container.googleapis.com.

    :raises InputError: the token is no JWT.
    """
    try:
        claims = token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iss"])
    except (IndexError, ValueError, KeyError) as error:
        raise InputError("the service account's token cannot be read", why=type(error).__name__) from error


def federated_token(anonymous: Gcp, pool: str, token: str) -> str:
    """Return what Google gives for a cluster's token.

    :param anonymous: a session without credentials; the token is the proof.
    :param pool: the cluster's workload pool, ``PROJECT.svc.id.goog``, which is the token's audience too.
    :raises ApiError: the cluster is unknown to the pool, or the token not accepted.
    """
    body = {
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": f"identitynamespace:{pool}:{issuer(token)}",
        "scope": SCOPE,
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
        "subjectToken": token,
    }
    url = f"{anonymous.endpoints.sts}/v1/token"
    return str(anonymous.call("POST", url, "Google does not take the cluster's token", body=body)["access_token"])


def access_token(federated: Gcp, email: str) -> str:
    """Return an access token of a Google service account.

    :param federated: a session with the federated token.
    :raises ApiError: the Kubernetes account may not act as the Google one, or the API is not enabled.
    """
    url = f"{federated.endpoints.iam_credentials}/v1/projects/-/serviceAccounts/{segment(email)}:generateAccessToken"
    answer = federated.call(
        "POST",
        url,
        "the Kubernetes service account cannot act as the Google one",
        needs="iam.serviceAccounts.getAccessToken",
        body={"scope": [SCOPE], "lifetime": LIFETIME},
    )
    return str(answer["accessToken"])
