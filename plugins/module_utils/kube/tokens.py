# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Tokens of Kubernetes service accounts, as clouds take them for proof of who a pod is."""

from __future__ import annotations

import json

from ..errors import ClusterError
from .client import Kube

# Kubernetes issues none for less than ten minutes.
LIFETIME = 900


def service_account_token(kube: Kube, namespace: str, name: str, audience: str) -> str:
    """Return a token that the cluster issues now, by a TokenRequest; nothing is stored.

    It has the claims of those that the kubelet projects into pods, so that a cloud answers to it as it would to a pod.

    :param audience: for whom the token is: ``sts.amazonaws.com``, or a Google workload pool.
    :raises ClusterError: no such account, or no right to ``create serviceaccounts/token``.
    """
    answer = kube.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        body=json.dumps(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"audiences": [audience], "expirationSeconds": LIFETIME},
            }
        ),
    )
    if answer.status >= 300:
        raise ClusterError(
            "the cluster issues no token for the service account",
            where=f"{namespace}/{name}",
            why=f"{answer.status} {(answer.json() or {}).get('message', '')}".strip(),
            fix="Create the service account first, and see that you may create serviceaccounts/token.",
        )
    return str(answer.json()["status"]["token"])
