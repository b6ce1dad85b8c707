# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies, computed without a network."""

from __future__ import annotations

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.iam import (
    Condition,
    Grant,
    Policy,
    grants_from,
    merged,
    validate,
    without,
)

USER = "roles/storage.objectUser"
UNTIL = Condition("until", "request.time < timestamp('2030-01-01T00:00:00Z')")


def policy(**members: list[str]) -> Policy:
    return Policy.parse(
        {
            "etag": "e1",
            "version": 1,
            "auditConfigs": [{"service": "allServices"}],
            "bindings": [{"role": f"roles/{role}", "members": list(names)} for role, names in members.items()],
        }
    )


def test_what_is_unknown_is_written_back() -> None:
    body = policy(viewer=["user:a@b.c"]).body()
    assert body["auditConfigs"] == [{"service": "allServices"}]
    assert body["etag"] == "e1"
    assert body["version"] == 3


def test_additive_leaves_others() -> None:
    current = policy(viewer=["user:a@b.c"])
    after = merged(current, [Grant("roles/viewer", frozenset({"user:d@e.f"}))])
    assert after.bindings() == [{"role": "roles/viewer", "members": ["user:a@b.c", "user:d@e.f"]}]
    assert current.bindings() == [{"role": "roles/viewer", "members": ["user:a@b.c"]}]


def test_merging_twice_is_merging_once() -> None:
    grants = [Grant(USER, frozenset({"user:a@b.c"})), Grant(USER, frozenset({"user:a@b.c"}), UNTIL)]
    once = merged(policy(), grants)
    assert merged(once, grants).bindings() == once.bindings()
    assert len(once.bindings()) == 2


def test_role_mode_takes_over_the_named_roles_only() -> None:
    current = policy(viewer=["user:a@b.c"], editor=["user:a@b.c"])
    grants = [Grant("roles/viewer", frozenset({"user:x@y.z"})), Grant("roles/viewer", frozenset({"user:d@e.f"}))]
    after = merged(current, grants, mode="role")
    assert after.bindings() == [
        {"role": "roles/editor", "members": ["user:a@b.c"]},
        {"role": "roles/viewer", "members": ["user:d@e.f", "user:x@y.z"]},
    ]


def test_a_role_is_emptied_not_left_with_an_empty_binding() -> None:
    assert without(policy(viewer=["user:a@b.c"]), [Grant("roles/viewer", frozenset({"user:a@b.c"}))]).bindings() == []


def test_taking_away_touches_the_same_condition_only() -> None:
    grants = [Grant(USER, frozenset({"user:a@b.c"})), Grant(USER, frozenset({"user:a@b.c"}), UNTIL)]
    after = without(merged(policy(), grants), [grants[0]])
    assert after.bindings() == [{"role": USER, "members": ["user:a@b.c"], "condition": UNTIL.body()}]


def test_traces_of_the_deleted_go_only_for_who_is_granted_anew() -> None:
    current = policy(viewer=["deleted:user:a@b.c?uid=1", "deleted:user:x@y.z?uid=2"])
    grants = [Grant("roles/viewer", frozenset({"user:a@b.c"}))]
    assert "deleted:user:a@b.c?uid=1" in merged(current, grants).bindings()[0]["members"]
    after = merged(current, grants, purge_deleted=True)
    assert after.bindings()[0]["members"] == ["deleted:user:x@y.z?uid=2", "user:a@b.c"]


@pytest.mark.parametrize(
    "member",
    [
        "user:a@b.c",
        "serviceAccount:p.svc.id.goog[ns/name]",
        "group:g@b.c",
        "allUsers",
        "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/ns/n/sa/s",
    ],
)
def test_forms_of_members(member: str) -> None:
    assert validate([Grant(USER, frozenset({member}))]) == []


def test_problems_are_told_at_once() -> None:
    wrong = [{"role": "x", "members": ["y"], "condition": {"title": "", "expression": "e"}}]
    with pytest.raises(InputError) as caught:
        grants_from(wrong)
    for words in ("no role name", "no known form", "needs a title"):
        assert words in caught.value.why
