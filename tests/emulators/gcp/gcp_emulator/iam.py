# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM's service accounts, their keys, and access tokens of theirs (IAM Service Account Credentials API)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .discovery import Call
from .errors import Refusal, service_disabled
from .state import Account, Project, State

PREFIX = "iam.projects.serviceAccounts."
CREDENTIALS_PREFIX = "iamcredentials.projects.serviceAccounts."


class IamApi:
    """Answers the calls whose id begins with :data:`PREFIX` or :data:`CREDENTIALS_PREFIX`."""

    def __init__(self, state: State, token_address: Callable[[], str]) -> None:
        self.state = state
        self.token_address = token_address
        self.handlers: dict[str, Callable[..., dict[str, Any]]] = {
            "create": self.create,
            "get": self.get,
            "list": self.list,
            "patch": self.patch,
            "delete": self.delete,
            "enable": self.enable,
            "disable": self.disable,
            "getIamPolicy": self.get_policy,
            "setIamPolicy": self.set_policy,
            "keys.create": self.create_key,
            "keys.list": self.list_keys,
            "keys.get": self.get_key,
            "keys.delete": self.delete_key,
            "generateAccessToken": self.generate_access_token,
        }

    def handle(self, call: Call, query: dict[str, str], body: dict[str, Any], principal: str) -> dict[str, Any]:
        handler = self.handlers.get(call.id.removeprefix(PREFIX).removeprefix(CREDENTIALS_PREFIX))
        if handler is None:
            raise Refusal(501, "notImplemented", f"the emulator does not do {call.id}")
        return handler(call.arguments, query, body, principal)

    # ------------------------------------------------------------------------------------------------------- helpers

    def _project(self, arguments: dict[str, str], principal: str, permission: str) -> Project:
        project = self.state.projects.get(arguments["projectsId"])
        if project is None:
            raise Refusal(404, "notFound", f"Project {arguments['projectsId']} does not exist.")
        self._enabled(project)
        self._require(principal, permission, project, f"project {project.id}", ())
        return project

    def _account(self, arguments: dict[str, str], principal: str, permission: str) -> Account:
        name, project_id = arguments["serviceAccountsId"], arguments["projectsId"]
        if project_id != "-" and project_id not in self.state.projects:
            raise Refusal(404, "notFound", f"Project {project_id} does not exist.")
        if project_id != "-":
            self._enabled(self.state.projects[project_id])
        account = self.state.accounts.get(name)
        if account is None or time.monotonic() < account.visible_from or project_id not in ("-", account.project.id):
            raise Refusal(404, "notFound", f"Unknown service account: {name}")
        self._require(principal, permission, account.project, name, (account.policy,))
        return account

    def _require(
        self, principal: str, permission: str, project: Project, where: str, policies: tuple[Any, ...]
    ) -> None:
        if not self.state.allowed(principal, permission, project, policies):
            raise Refusal(
                403,
                "IAM_PERMISSION_DENIED",
                f"Permission '{permission}' denied on resource (or it may not exist).",
                metadata={"permission": permission, "resource": where},
            )

    @staticmethod
    def _enabled(project: Project) -> None:
        if "iam.googleapis.com" in project.disabled_services:
            raise service_disabled("iam.googleapis.com", project.id)

    # ------------------------------------------------------------------------------------------------------ accounts

    def create(self, arguments: Any, _query: Any, body: dict[str, Any], principal: str) -> dict[str, Any]:
        project = self._project(arguments, principal, "iam.serviceAccounts.create")
        account_id = body.get("accountId", "")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{4,28}[a-z0-9])", account_id):
            raise Refusal(400, "invalid", "The account ID is not valid.")
        email = f"{account_id}@{project.id}.iam.gserviceaccount.com"
        if email in self.state.accounts:
            raise Refusal(
                409, "alreadyExists", f"Service account {account_id} already exists within project {project.id}."
            )
        if (
            sum(item.project is project for item in self.state.accounts.values())
            >= self.state.limits.accounts_per_project
        ):
            raise Refusal(429, "quota", "Maximum number of service accounts on project reached.")
        unique_id = str(10**20 + secrets.randbelow(10**19))
        new = {
            "name": f"projects/{project.id}/serviceAccounts/{email}",
            "projectId": project.id,
            "uniqueId": unique_id,
            "email": email,
            "oauth2ClientId": unique_id,
            "etag": "MDEwMjE5MjA=",
            **(body.get("serviceAccount") or {}),
        }
        visible = time.monotonic() + self.state.limits.propagation
        self.state.accounts[email] = Account(email, project, unique_id, new, visible)
        return new

    def get(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        return self._account(arguments, principal, "iam.serviceAccounts.get").body

    def list(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        project = self._project(arguments, principal, "iam.serviceAccounts.list")
        return {"accounts": [item.body for item in self.state.accounts.values() if item.project is project]}

    def patch(self, arguments: Any, _query: Any, body: dict[str, Any], principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccounts.update")
        for name in body.get("updateMask", "").split(","):
            if name not in ("displayName", "description"):
                raise Refusal(400, "invalid", f"{name} cannot be updated")
            account.body[name] = body["serviceAccount"].get(name, "")
        return account.body

    def delete(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccounts.delete")
        del self.state.accounts[account.email]
        old, trace = (
            f"serviceAccount:{account.email}",
            f"deleted:serviceAccount:{account.email}?uid={account.unique_id}",
        )
        for bucket in self.state.buckets.values():
            for binding in bucket.policy.bindings:
                binding["members"] = [trace if member == old else member for member in binding["members"]]
        return {}

    def enable(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        self._account(arguments, principal, "iam.serviceAccounts.enable").body.pop("disabled", None)
        return {}

    def disable(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        self._account(arguments, principal, "iam.serviceAccounts.disable").body["disabled"] = True
        return {}

    # ------------------------------------------------------------------------------------------------------ policies

    def get_policy(self, arguments: Any, query: dict[str, str], _body: Any, principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccounts.getIamPolicy")
        if any("condition" in item for item in account.policy.bindings):
            require_version(query.get("options.requestedPolicyVersion"))
        return account.policy.body()

    def set_policy(self, arguments: Any, _query: Any, body: dict[str, Any], principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccounts.setIamPolicy")
        policy = body["policy"]
        if policy.get("etag") not in (None, account.policy.etag):
            raise Refusal(409, "aborted", "There were concurrent policy changes. Please retry.", status="ABORTED")
        account.policy.replace(policy.get("bindings") or [], self.state.limits.propagation)
        return account.policy.body()

    # ---------------------------------------------------------------------------------------------------------- keys

    def create_key(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccountKeys.create")
        if len(account.keys) >= self.state.limits.keys_per_account:
            raise Refusal(429, "quota", "Maximum number of keys on account reached.")
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        public = private.public_key()
        key_id = hashlib.sha1(pem.encode(), usedforsecurity=False).hexdigest()
        document = {
            "type": "service_account",
            "project_id": account.project.id,
            "private_key_id": key_id,
            "private_key": pem,
            "client_email": account.email,
            "client_id": account.unique_id,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.token_address(),
            "universe_domain": "googleapis.com",
        }
        account.keys[key_id] = {
            "public": public,
            "usable_from": time.monotonic() + self.state.limits.propagation,
            "created": time.time(),
            "disabled": False,
        }
        return {
            **self._key(account, key_id),
            "privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE",
            "privateKeyData": base64.b64encode(json.dumps(document, indent=2).encode()).decode(),
        }

    def list_keys(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccountKeys.list")
        keys = [self._key(account, key_id) for key_id in account.keys]
        return {"keys": keys} if keys else {}

    def get_key(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccountKeys.get")
        return self._key(account, self._known(account, arguments["keysId"]))

    def delete_key(self, arguments: Any, _query: Any, _body: Any, principal: str) -> dict[str, Any]:
        account = self._account(arguments, principal, "iam.serviceAccountKeys.delete")
        del account.keys[self._known(account, arguments["keysId"])]
        return {}

    def generate_access_token(
        self, arguments: Any, _query: Any, body: dict[str, Any], principal: str
    ) -> dict[str, Any]:
        account = self.state.accounts.get(arguments["serviceAccountsId"])
        if account and "iamcredentials.googleapis.com" in account.project.disabled_services:
            raise service_disabled("iamcredentials.googleapis.com", account.project.id)
        account = self._account(arguments, principal, "iam.serviceAccounts.getAccessToken")
        if arguments["projectsId"] != "-" or not body.get("scope"):
            raise Refusal(400, "invalid", "Request contains an invalid argument.")
        seconds = float(body.get("lifetime", "3600s").removesuffix("s"))
        expires = datetime.fromtimestamp(time.time() + seconds, timezone.utc)
        token = self.state.issue(f"serviceAccount:{account.email}", seconds)
        return {"accessToken": token, "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}

    @staticmethod
    def _known(account: Account, key_id: str) -> str:
        if key_id not in account.keys:
            raise Refusal(404, "notFound", f"Service account key {key_id} does not exist.")
        return key_id

    @staticmethod
    def _key(account: Account, key_id: str) -> dict[str, Any]:
        created = datetime.fromtimestamp(account.keys[key_id]["created"], timezone.utc)
        return {
            "name": f"projects/{account.project.id}/serviceAccounts/{account.email}/keys/{key_id}",
            "keyAlgorithm": "KEY_ALG_RSA_2048",
            "keyOrigin": "GOOGLE_PROVIDED",
            "keyType": "USER_MANAGED",
            "validAfterTime": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "validBeforeTime": "9999-12-31T23:59:59Z",
        }


def require_version(version: str | None) -> None:
    """Google refuses to show conditions to callers that did not ask for version 3."""
    if version != "3":
        raise Refusal(400, "invalid", "Requested policy version must be 3 to read a policy with conditions.")
