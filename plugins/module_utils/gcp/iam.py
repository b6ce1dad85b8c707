# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""IAM policies: what to change, computed without a network, and the read-modify-write loop around it.

A policy is ``{"version": 3, "etag": …, "bindings": [{"role", "members", "condition"?}]}``.  Two bindings of one role
with different conditions are different grants, so a grant's identity is its role and its condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import CloudError, InputError
from .client import CONFLICT, ApiError, Gcp, pause_before, segment

POLICY_VERSION = 3

# https://cloud.google.com/iam/docs/principal-identifiers
_MEMBER = re.compile(
    r"^(allUsers|allAuthenticatedUsers"
    r"|(user|serviceAccount|group|domain|projectOwner|projectEditor|projectViewer|deleted):\S+"
    r"|(principal|principalSet)://\S+)$"
)
_ROLE = re.compile(r"^(roles|(projects|organizations)/[^/]+/roles)/[A-Za-z0-9_.]+$")


@dataclass(frozen=True)
class Condition:
    """A binding's CEL condition; ``title`` is required by Google, ``description`` may be empty."""

    title: str
    expression: str
    description: str = ""

    def body(self) -> dict[str, str]:
        """The condition's JSON."""
        result = {"title": self.title, "expression": self.expression}
        if self.description:
            result["description"] = self.description
        return result


@dataclass(frozen=True)
class Grant:
    """Members that are to have a role, or not to have it."""

    role: str
    members: frozenset[str]
    condition: Condition | None = None

    @property
    def identity(self) -> tuple[str, Condition | None]:
        """What tells this grant from others in a policy."""
        return (self.role, self.condition)


@dataclass
class Policy:
    """A policy taken apart; ``other`` keeps what the engine does not know, so that it is written back as it came."""

    grants: dict[tuple[str, Condition | None], set[str]] = field(default_factory=dict)
    etag: str = ""
    other: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Policy:
        """Take Google's JSON apart."""
        policy = cls(etag=str(body.get("etag", "")))
        policy.other = {
            key: value
            for key, value in body.items()
            if key not in ("bindings", "etag", "version", "kind", "resourceId")
        }
        for binding in body.get("bindings") or []:
            raw = binding.get("condition")
            condition = (
                Condition(raw.get("title", ""), raw.get("expression", ""), raw.get("description", "")) if raw else None
            )
            policy.grants.setdefault((binding["role"], condition), set()).update(binding.get("members") or [])
        return policy

    def body(self) -> dict[str, Any]:
        """The policy as it is sent: version 3 always, or conditions would be dropped."""
        result: dict[str, Any] = {**self.other, "version": POLICY_VERSION, "bindings": self.bindings()}
        if self.etag:
            result["etag"] = self.etag
        return result

    def bindings(self) -> list[dict[str, Any]]:
        """Bindings in a stable order, without empty ones; also what a diff shows."""
        result: list[dict[str, Any]] = []
        for (role, condition), members in self.grants.items():
            if not members:
                continue
            binding: dict[str, Any] = {"role": role, "members": sorted(members)}
            if condition:
                binding["condition"] = condition.body()
            result.append(binding)
        return sorted(result, key=lambda item: (item["role"], str(item.get("condition", ""))))


def validate(grants: Iterable[Grant]) -> list[str]:
    """Everything that is wrong with the grants, at once."""
    problems = []
    for grant in grants:
        if not _ROLE.match(grant.role):
            problems.append(f"{grant.role!r} is no role name; expected roles/NAME or projects/PROJECT/roles/NAME")
        problems += [
            f"{member!r} has no known form; expected one like serviceAccount:NAME@PROJECT.iam.gserviceaccount.com"
            for member in sorted(grant.members)
            if not _MEMBER.match(member)
        ]
        if grant.condition and not (grant.condition.title and grant.condition.expression):
            problems.append(f"the condition of {grant.role} needs a title and an expression")
    return problems


def merged(policy: Policy, grants: Iterable[Grant], *, mode: str = "additive", purge_deleted: bool = False) -> Policy:
    """The policy with the grants in it.

    :param mode: ``additive`` adds members; ``role`` makes the named roles' members exactly those given; ``policy``
        makes the whole policy exactly the grants.
    :param purge_deleted: drop the ``deleted:`` traces of members that are granted anew; other traces stay.
    """
    result = Policy(
        {} if mode == "policy" else {k: set(v) for k, v in policy.grants.items()}, policy.etag, policy.other
    )
    seen: set[tuple[str, Condition | None]] = set()
    for grant in grants:
        members = result.grants.setdefault(grant.identity, set())
        if mode == "role" and grant.identity not in seen:
            members.clear()
        seen.add(grant.identity)
        members.update(grant.members)
        if purge_deleted:
            members -= {member for member in members if _living(member) in grant.members}
    return result


def without(policy: Policy, grants: Iterable[Grant]) -> Policy:
    """The policy with the grants' members taken out; everything else as it was."""
    result = Policy({k: set(v) for k, v in policy.grants.items()}, policy.etag, policy.other)
    for grant in grants:
        if grant.identity in result.grants:
            result.grants[grant.identity] -= grant.members
    return result


def _living(member: str) -> str:
    """``deleted:serviceAccount:a@b?uid=1`` -> ``serviceAccount:a@b``; "" for a member that is not deleted."""
    return member[len("deleted:") :].split("?uid=", maxsplit=1)[0] if member.startswith("deleted:") else ""


@dataclass(frozen=True)
class PolicyResource:
    """Where a policy is read and written; ``where`` is for messages."""

    where: str
    read: Callable[[], dict[str, Any]]
    write: Callable[[dict[str, Any]], dict[str, Any]]


def bucket_policy(gcp: Gcp, bucket: str) -> PolicyResource:
    """The policy of a bucket (``b/BUCKET/iam``)."""
    path = f"/b/{segment(bucket)}/iam"
    where = f"bucket {bucket}"
    return PolicyResource(
        where,
        lambda: gcp.storage(
            "GET",
            path,
            "cannot read the bucket's IAM policy",
            where=where,
            needs="storage.buckets.getIamPolicy",
            params={"optionsRequestedPolicyVersion": POLICY_VERSION},
        ),
        lambda body: gcp.storage(
            "PUT",
            path,
            "cannot write the bucket's IAM policy",
            where=where,
            needs="storage.buckets.setIamPolicy",
            body=body,
        ),
    )


def service_account_policy(gcp: Gcp, email: str) -> PolicyResource:
    """The policy of a service account: who may act as it."""
    path = f"/projects/-/serviceAccounts/{segment(email)}"
    where = f"service account {email}"
    return PolicyResource(
        where,
        lambda: gcp.iam(
            "POST",
            f"{path}:getIamPolicy",
            "cannot read the service account's IAM policy",
            where=where,
            needs="iam.serviceAccounts.getIamPolicy",
            params={"options.requestedPolicyVersion": POLICY_VERSION},
        ),
        lambda body: gcp.iam(
            "POST",
            f"{path}:setIamPolicy",
            "cannot write the service account's IAM policy",
            where=where,
            needs="iam.serviceAccounts.setIamPolicy",
            body={"policy": body},
        ),
    )


def _settled(policy: Policy, change: Callable[[Policy], Policy]) -> bool:
    """Whether the change is in the policy; what others changed meanwhile does not matter."""
    return change(policy).bindings() == policy.bindings()


@dataclass(frozen=True)
class PolicyChange:
    """What was, or in check mode would be, done; ``before`` and ``after`` are bindings."""

    changed: bool
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]


def change_policy(
    gcp: Gcp,
    resource: PolicyResource,
    change: Callable[[Policy], Policy],
    *,
    check_mode: bool = False,
    wait: bool = True,
    timeout: float = 120.0,
) -> PolicyChange:
    """Read, change and write a policy; read anew and try again when somebody else was faster.

    A member that IAM does not know yet (an account made a moment ago) is refused with 400; with ``wait`` that is tried
    again until ``timeout`` seconds have passed.

    :raises ApiError: the policy cannot be read or written.
    :raises CloudError: others kept changing the policy for ``timeout`` seconds.
    """
    start, attempt = gcp.clock(), 0
    while True:
        current = Policy.parse(resource.read())
        wanted = change(current)
        result = PolicyChange(wanted.bindings() != current.bindings(), current.bindings(), wanted.bindings())
        if check_mode or not result.changed:
            return result
        try:
            resource.write(wanted.body())
            break
        except ApiError as error:
            unknown_member = error.status == 400 and "does not exist" in error.message
            if error.status == 400 and "condition" in error.message.lower():
                error.fix = "Conditions need uniform bucket-level access: set uniform_access on the bucket."
                error.args = (str(error),)
            if error.status not in CONFLICT and not (unknown_member and wait):
                raise
            pause = pause_before(attempt, None)
            if gcp.clock() - start + pause > timeout:
                raise CloudError(
                    "cannot change the IAM policy",
                    where=resource.where,
                    why=(
                        f"{error.message}"
                        if unknown_member
                        else f"others changed it at the same time in each of {attempt + 1} tries within {timeout:.0f} s"
                    ),
                    fix="Check the member's name." if unknown_member else "Run again when the other change is done.",
                ) from None
            attempt += 1
            gcp.sleep(pause)
    if wait:
        gcp.until(
            lambda: _settled(Policy.parse(resource.read()), change),
            "the IAM policy does not show the change",
            why=f"{resource.where} still answers with another policy",
            timeout=timeout,
            fix="Run again; if it stays so, somebody else changes the same policy.",
        )
    return result


def grants_from(bindings: Iterable[Mapping[str, Any]]) -> list[Grant]:
    """Grants from a module's option.

    :raises InputError: with every problem found.
    """
    grants = []
    for binding in bindings:
        raw = binding.get("condition")
        condition = (
            Condition(raw.get("title") or "", raw.get("expression") or "", raw.get("description") or "")
            if raw
            else None
        )
        grants.append(Grant(binding["role"], frozenset(binding["members"]), condition))
    problems = validate(grants)
    if problems:
        raise InputError("the bindings are not valid", why="; ".join(problems), fix="Correct them and run again.")
    return grants
