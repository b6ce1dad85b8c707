# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the emulator remembers, who may do what, and how long changes take to be seen."""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from .errors import Refusal

OBJECTS = "storage.objects."
OBJECT_USER = {OBJECTS + verb for verb in ("create", "delete", "get", "list", "move", "restore", "update")}
BUCKET_ADMIN = {
    "storage.buckets." + verb for verb in ("create", "delete", "get", "getIamPolicy", "list", "setIamPolicy", "update")
}
# https://cloud.google.com/storage/docs/access-control/iam-roles, as far as the permissions concern what is emulated.
ROLES: dict[str, set[str]] = {
    "roles/storage.objectViewer": {OBJECTS + "get", OBJECTS + "list"},
    "roles/storage.objectCreator": {OBJECTS + "create"},
    "roles/storage.objectUser": OBJECT_USER,
    "roles/storage.objectAdmin": OBJECT_USER | {OBJECTS + "getIamPolicy", OBJECTS + "setIamPolicy"},
    "roles/storage.legacyBucketReader": {"storage.buckets.get", OBJECTS + "list"},
    "roles/storage.legacyBucketWriter": {
        "storage.buckets.get",
        OBJECTS + "list",
        OBJECTS + "create",
        OBJECTS + "delete",
    },
    # https://cloud.google.com/iam/docs/roles-permissions/iam
    "roles/iam.workloadIdentityUser": {"iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken"},
    "roles/storage.admin": BUCKET_ADMIN | OBJECT_USER | {OBJECTS + "getIamPolicy", OBJECTS + "setIamPolicy"},
}


@dataclass
class Policy:
    """An IAM policy with the moment from which it is enforced."""

    bindings: list[dict[str, Any]] = field(default_factory=list)
    generation: int = 1
    enforced: list[dict[str, Any]] = field(default_factory=list)
    due: float = 0.0

    @property
    def etag(self) -> str:
        return f"BwX{self.generation:08d}="

    def body(self) -> dict[str, Any]:
        conditional = any("condition" in binding for binding in self.bindings)
        return {"version": 3 if conditional else 1, "etag": self.etag, "bindings": self.bindings}

    def replace(self, bindings: list[dict[str, Any]], delay: float) -> None:
        self.enforced = self.in_force()
        self.bindings = [binding for binding in bindings if binding.get("members")]
        self.due = time.monotonic() + delay
        self.generation += 1

    def in_force(self) -> list[dict[str, Any]]:
        return self.bindings if time.monotonic() >= self.due else self.enforced


@dataclass
class Project:
    id: str
    number: str
    disabled_services: set[str] = field(default_factory=set)


@dataclass
class Object:
    name: str
    data: bytes
    generation: int
    metageneration: int = 1
    created: float = field(default_factory=time.time)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bucket:
    name: str
    project: Project
    body: dict[str, Any]
    policy: Policy = field(default_factory=Policy)
    objects: dict[str, Object] = field(default_factory=dict)
    noncurrent: list[Object] = field(default_factory=list)


@dataclass
class Account:
    email: str
    project: Project
    unique_id: str
    body: dict[str, Any]
    visible_from: float
    policy: Policy = field(default_factory=Policy)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Token:
    principal: str  # serviceAccount:… or user:…
    expires: float


@dataclass
class Limits:
    """Behaviour that tests set: seconds until changes are seen, and quotas."""

    propagation: float = 0.0
    keys_per_account: int = 10
    accounts_per_project: int = 100
    retain_token: float = 3600.0


class State:
    """Everything, behind one lock; small on purpose, as a double may be."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.projects: dict[str, Project] = {}
        self.buckets: dict[str, Bucket] = {}
        self.accounts: dict[str, Account] = {}
        self.tokens: dict[str, Token] = {}
        self.uploads: dict[str, Any] = {}
        # principal -> project id -> permissions; "*" for all.
        self.operators: dict[str, dict[str, set[str]]] = {}
        self.denied: set[tuple[str, str]] = set()
        self.limits = Limits()
        self.metadata: dict[str, str] = {}  # keys: pool, namespace, service_account, google_service_account
        # Issuer of a cluster's tokens -> its workload pool and its public keys (JWKS).
        self.clusters: dict[str, dict[str, Any]] = {}
        self.generation = int(time.time() * 1_000_000)

    def next_generation(self) -> int:
        self.generation += 1
        return self.generation

    def issue(self, principal: str, seconds: float | None = None) -> str:
        """A new access token for the principal."""
        token = f"emulated.{secrets.token_urlsafe(24)}"
        self.tokens[token] = Token(principal, time.time() + (seconds or self.limits.retain_token))
        return token

    def principal(self, header: str | None) -> str:
        """Who sent a request.

        :raises Refusal: 401 for no token, an unknown or an expired one.
        """
        token = self.tokens.get((header or "").removeprefix("Bearer ").strip())
        if token is None or token.expires < time.time():
            raise Refusal(401, "authError", "Invalid Credentials", status="UNAUTHENTICATED")
        return token.principal

    def project(self, project_id: str) -> Project:
        project = self.projects.get(project_id)
        if project is None:
            raise Refusal(400, "invalid", f"Unknown project id: {project_id}", status="INVALID_ARGUMENT")
        return project

    def allowed(self, principal: str, permission: str, project: Project, policies: tuple[Policy, ...] = ()) -> bool:
        """Whether the principal has the permission, by its project's grants or by one of the policies in force."""
        if (principal, permission) in self.denied:
            return False
        granted = self.operators.get(principal, {}).get(project.id, set())
        if "*" in granted or permission in granted:
            return True
        return any(
            permission in ROLES.get(binding["role"], set()) and principal in binding["members"]
            for policy in policies
            for binding in policy.in_force()
        )

    def snapshot(self) -> dict[str, Any]:
        """What a test may look at; no secrets and no object's content."""
        with self.lock:
            return {
                "buckets": {
                    name: {
                        "project": bucket.project.id,
                        "body": bucket.body,
                        "policy": bucket.policy.body(),
                        "objects": {key: len(item.data) for key, item in bucket.objects.items()},
                    }
                    for name, bucket in self.buckets.items()
                },
                "accounts": {
                    email: {"keys": sorted(account.keys), "policy": account.policy.body(), "body": account.body}
                    for email, account in self.accounts.items()
                },
            }

    def configure(self, change: dict[str, Any]) -> None:
        """Apply a change that a test asks for over the control address."""
        with self.lock:
            for project_id, number in (change.get("projects") or {}).items():
                self.projects[project_id] = Project(project_id, number)
            for project_id, services in (change.get("disabled_services") or {}).items():
                self.projects[project_id].disabled_services = set(services)
            for principal, grants in (change.get("operators") or {}).items():
                self.operators[principal] = {key: set(value) for key, value in grants.items()}
            if "denied" in change:
                self.denied = set(map(tuple, change["denied"]))
            for name, value in (change.get("limits") or {}).items():
                if not hasattr(self.limits, name):
                    raise ValueError(f"no limit is called {name}")
                setattr(self.limits, name, value)
            if change.get("expire_tokens"):
                for token in self.tokens.values():
                    token.expires = 0.0
            self.clusters.update(change.get("clusters") or {})
            if "metadata" in change:
                self.metadata = change["metadata"]


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
