# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of service accounts, issued by a real cluster: what clouds check in them, and who may have one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest


@pytest.fixture
def account(kube: Any, namespace: str) -> str:
    """The service account as the deployment makes it."""
    metadata = {"name": "pachyderm", "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    return "pachyderm"


def test_claims_are_those_that_trust_policies_ask_for(kube: Any, namespace: str, account: str) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.workload_identity import issuer
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.tokens import LIFETIME, service_account_token

    token = service_account_token(kube, namespace, account, "sts.amazonaws.com")
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["sub"] == f"system:serviceaccount:{namespace}:pachyderm"
    assert claims["aud"] == ["sts.amazonaws.com"]
    assert claims["exp"] - claims["iat"] == LIFETIME
    configuration = json.loads(kube.request("GET", "/.well-known/openid-configuration").body)
    assert issuer(token) == configuration["issuer"]


def test_account_that_does_not_exist(kube: Any, namespace: str) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.tokens import service_account_token

    with pytest.raises(ClusterError, match='serviceaccounts "nobody" not found'):
        service_account_token(kube, namespace, "nobody", "sts.amazonaws.com")
