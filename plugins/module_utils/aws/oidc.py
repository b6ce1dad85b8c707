# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""IAM's OpenID Connect providers: what lets a cluster's service accounts assume a role (IRSA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import CloudError, InputError

AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class ProviderChange:
    """What was, or in check mode would be, done; ``before``/``after`` have ``arn``, ``url``, ``audiences``."""

    action: str  # created, updated, deleted, unchanged
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def changed(self) -> bool:
        """Whether anything differs from before."""
        return self.action != "unchanged"


def issuer(url: str) -> str:
    """The issuer as IAM names it: without scheme and without a slash at the end.

    :raises InputError: the address is no https address.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.query:
        raise InputError(
            "the issuer's address is not valid",
            where=url,
            why="IAM takes an https address without a query",
            fix="Take it from: aws eks describe-cluster --name NAME --query cluster.identity.oidc.issuer",
        )
    return f"{parts.netloc}{parts.path}".rstrip("/")


def find(iam: Any, url: str) -> dict[str, Any]:
    """The provider for the issuer, {} where there is none."""
    suffix = f":oidc-provider/{issuer(url)}"
    for item in _ask("cannot list the identity providers", iam.list_open_id_connect_providers)[
        "OpenIDConnectProviderList"
    ]:
        if item["Arn"].endswith(suffix):
            body = _ask(
                "cannot read the identity provider",
                lambda arn=item["Arn"]: iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn),
            )
            return {"arn": item["Arn"], "url": url.rstrip("/"), "audiences": sorted(body.get("ClientIDList", []))}
    return {}


def ensure(iam: Any, url: str, *, check_mode: bool = False) -> ProviderChange:
    """Make IAM trust the issuer's tokens for STS; other audiences stay."""
    before = find(iam, url)
    if not before:
        after = {"arn": "", "url": url.rstrip("/"), "audiences": [AUDIENCE]}
        if not check_mode:
            answer = _ask(
                "cannot create the identity provider",
                # IAM checks the issuer's certificate itself; a thumbprint is for issuers with a private authority.
                lambda: iam.create_open_id_connect_provider(Url=url.rstrip("/"), ClientIDList=[AUDIENCE]),
            )
            after["arn"] = answer["OpenIDConnectProviderArn"]
        return ProviderChange("created", {}, after)
    if AUDIENCE in before["audiences"]:
        return ProviderChange("unchanged", before, before)
    after = {**before, "audiences": sorted([*before["audiences"], AUDIENCE])}
    if not check_mode:
        _ask(
            "cannot add the audience to the identity provider",
            lambda: iam.add_client_id_to_open_id_connect_provider(
                OpenIDConnectProviderArn=before["arn"], ClientID=AUDIENCE
            ),
        )
    return ProviderChange("updated", before, after)


def absent(iam: Any, url: str, *, check_mode: bool = False) -> ProviderChange:
    """Delete the provider; every role that trusts it loses its users."""
    before = find(iam, url)
    if not before:
        return ProviderChange("unchanged", {}, {})
    if not check_mode:
        _ask(
            "cannot delete the identity provider",
            lambda: iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=before["arn"]),
        )
    return ProviderChange("deleted", before, {})


def connect(options: dict[str, Any]) -> Any:
    """An IAM client as a module's options say.

    :raises InputError: boto3 is missing.
    """
    try:
        import boto3
    except ImportError as error:
        raise InputError("the Python library boto3 is missing", why=str(error), fix="pip install boto3") from error
    session = boto3.session.Session(
        aws_access_key_id=options.get("access_key") or None,
        aws_secret_access_key=options.get("secret_key") or None,
        aws_session_token=options.get("session_token") or None,
        profile_name=options.get("profile") or None,
        region_name=options.get("region") or "us-east-1",  # IAM is global, and the library wants one all the same
    )
    return session.client(
        "iam", endpoint_url=options.get("endpoint_url") or None, verify=options.get("ca_file") or None
    )


def _ask(what: str, call: Any) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except (ClientError, BotoCoreError) as error:
        raise CloudError(what, why=str(error), fix="docs/aws.md lists the operator's permissions.") from error
