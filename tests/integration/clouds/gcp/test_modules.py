# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for Google Cloud against the emulator: idempotence, check mode, diff, rotation, refusals."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.modules import (
    gcp_service_account,
    gcp_service_account_key,
    gcs_bucket,
    gcs_bucket_iam,
)

PROJECT = "acme-data"
EMAIL = f"pachyderm@{PROJECT}.iam.gserviceaccount.com"
BUCKET = {
    "name": "acme-pachyderm",
    "location": "europe-west3",
    "uniform_access": True,
    "public_access_prevention": "enforced",
    "labels": {"app": "pachyderm"},
}


@pytest.fixture
def account(run_module: Any, options: dict[str, Any]) -> str:
    run_module(gcp_service_account.main, **options, name="pachyderm")
    return EMAIL


@pytest.fixture
def bucket(run_module: Any, options: dict[str, Any]) -> str:
    run_module(gcs_bucket.main, **options, **BUCKET)
    return str(BUCKET["name"])


# -------------------------------------------------------------------------------------------------------------- bucket


def test_bucket_is_created_once(run_module, options, emulator, writes):
    planned = run_module(gcs_bucket.main, **options, **BUCKET, check_mode=True, diff=True)
    assert planned.changed
    assert planned["action"] == "created"
    assert writes() == []
    made = run_module(gcs_bucket.main, **options, **BUCKET, diff=True)
    assert made.changed
    assert set(planned["bucket"]) <= set(made["bucket"])
    assert {key: made["bucket"][key] for key in planned["bucket"]} == planned["bucket"]
    assert made["diff"]["before"] == {}
    body = emulator.state.buckets["acme-pachyderm"].body
    assert body["location"] == "EUROPE-WEST3"
    assert body["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    again = run_module(gcs_bucket.main, **options, **BUCKET)
    assert not again.changed
    assert writes() == ["storage.buckets.insert"]


def test_options_that_are_not_set_change_nothing(run_module, options, bucket, emulator, writes):
    before = len(writes())
    result = run_module(gcs_bucket.main, **options, name=bucket)
    assert not result.changed
    assert len(writes()) == before
    assert emulator.state.buckets[bucket].body["labels"] == {"app": "pachyderm"}


@pytest.mark.parametrize(
    ("change", "path", "wanted"),
    [
        ({"storage_class": "NEARLINE"}, ("storageClass",), "NEARLINE"),
        ({"versioning": True}, ("versioning", "enabled"), True),
        ({"retention": 86400}, ("retentionPolicy", "retentionPeriod"), "86400"),
        ({"retention": 86400, "lock_retention": True}, ("retentionPolicy", "isLocked"), True),
        ({"soft_delete": 7776000}, ("softDeletePolicy", "retentionDurationSeconds"), "7776000"),
        ({"soft_delete": 0, "allow_weaker": True}, ("softDeletePolicy", "retentionDurationSeconds"), "0"),
        ({"labels": {"team": "data"}}, ("labels",), {"app": "pachyderm", "team": "data"}),
        ({"labels": {"team": "data"}, "purge_labels": True}, ("labels",), {"team": "data"}),
        (
            {"kms_key": "projects/k/locations/europe-west3/keyRings/r/cryptoKeys/c"},
            ("encryption", "defaultKmsKeyName"),
            "projects/k/locations/europe-west3/keyRings/r/cryptoKeys/c",
        ),
        (
            {"lifecycle": [{"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}}]},
            ("lifecycle", "rule"),
            [{"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}}],
        ),
        (
            {"uniform_access": False, "allow_weaker": True},
            ("iamConfiguration", "uniformBucketLevelAccess", "enabled"),
            False,
        ),
        (
            {"public_access_prevention": "inherited", "allow_weaker": True},
            ("iamConfiguration", "publicAccessPrevention"),
            "inherited",
        ),
    ],
)
def test_each_setting(run_module, options, bucket, emulator, writes, change, path, wanted):
    done = len(writes())
    planned = run_module(gcs_bucket.main, **options, name=bucket, **change, check_mode=True, diff=True)
    assert planned.changed
    assert len(writes()) == done
    made = run_module(gcs_bucket.main, **options, name=bucket, **change, diff=True)
    assert made.changed
    assert made["diff"]["after"] == planned["diff"]["after"]
    value: Any = emulator.state.buckets[bucket].body
    for name in path:
        value = value[name]
    assert value == wanted
    assert not run_module(gcs_bucket.main, **options, name=bucket, **change).changed


@pytest.mark.parametrize(
    ("first", "then", "word"),
    [
        ({}, {"uniform_access": False}, "uniform_access"),
        ({}, {"public_access_prevention": "inherited"}, "public_access_prevention"),
        ({"versioning": True}, {"versioning": False}, "versioning"),
        ({"retention": 100}, {"retention": 10}, "retention"),
        ({}, {"soft_delete": 0}, "soft_delete"),
        ({"kms_key": "projects/k/locations/l/keyRings/r/cryptoKeys/c"}, {"kms_key": ""}, "encryption key"),
    ],
)
def test_protection_is_never_weakened_by_the_way(run_module, options, bucket, emulator, first, then, word):
    run_module(gcs_bucket.main, **options, name=bucket, **first)
    before = json.dumps(emulator.state.buckets[bucket].body)
    result = run_module(gcs_bucket.main, **options, name=bucket, **then)
    assert result.failed
    assert word in result["why"]
    assert "allow_weaker" in result["fix"]
    assert json.dumps(emulator.state.buckets[bucket].body) == before


def test_lifecycle_and_key_can_be_taken_away(run_module, options, bucket, emulator):
    rules = [{"action": {"type": "Delete"}, "condition": {"age": 1}}]
    run_module(gcs_bucket.main, **options, name=bucket, lifecycle=rules, retention=10)
    assert run_module(gcs_bucket.main, **options, name=bucket, lifecycle=[], retention=0, allow_weaker=True).changed
    assert not {"lifecycle", "retentionPolicy"} & set(emulator.state.buckets[bucket].body)


def test_another_location_is_an_error(run_module, options, bucket):
    result = run_module(gcs_bucket.main, **options, name=bucket, location="US")
    assert result.failed
    assert "EUROPE-WEST3" in result["msg"]
    assert "cannot be changed" in result["msg"]


def test_bad_names_and_values_are_all_reported_at_once(run_module, options, writes):
    result = run_module(
        gcs_bucket.main, **options, name="Acme_Google", retention=-1, soft_delete=5, labels={"A": "b"}, kms_key="x"
    )
    assert result.failed
    for word in ("bucket name", "retention", "soft_delete", "label A=b", "kms_key"):
        assert word in result["msg"]
    assert writes() == []


@pytest.mark.parametrize("visible", [False, True])
def test_name_of_another_project(run_module, options, emulator, visible):
    other = emulator.operator("other-company")
    theirs = {**options, "project": "other-company", "access_token": other}
    run_module(gcs_bucket.main, **theirs, **BUCKET)
    if visible:  # the caller may do things there, too
        emulator.state.configure(
            {"operators": {"user:operator@acme-data.example.com": {PROJECT: ["*"], "other-company": ["*"]}}}
        )
    for check_mode in (True, False):
        result = run_module(gcs_bucket.main, **options, **BUCKET, check_mode=check_mode)
        assert result.failed
        assert "belongs to another project" in result["msg"]
    assert run_module(gcs_bucket.main, **options, name=BUCKET["name"], state="absent").failed
    assert "acme-pachyderm" in emulator.state.buckets


def test_bucket_goes_only_when_empty_or_asked(run_module, options, bucket, emulator, writes):
    storage = emulator.storage
    for number in range(3):
        storage.write(bucket, {"name": f"/pach/block/{number}"}, b"x", {}, "user:operator@acme-data.example.com")
    refused = run_module(gcs_bucket.main, **options, name=bucket, state="absent")
    assert refused.failed
    assert "delete_objects" in refused["fix"]
    before = len(writes())
    assert run_module(
        gcs_bucket.main, **options, name=bucket, state="absent", delete_objects=True, check_mode=True
    ).changed
    assert len(writes()) == before
    assert run_module(gcs_bucket.main, **options, name=bucket, state="absent", delete_objects=True).changed
    assert not emulator.state.buckets
    assert not run_module(gcs_bucket.main, **options, name=bucket, state="absent").changed


# ----------------------------------------------------------------------------------------------------------------- iam


def _binding(*members: str, role: str = "roles/storage.objectUser", **rest: Any) -> list[dict[str, Any]]:
    return [{"role": role, "members": list(members), **rest}]


def test_grants_are_added_and_taken_away(run_module, options, bucket, account, emulator, writes):
    wanted = {"bucket": bucket, "bindings": _binding(f"serviceAccount:{account}")}
    done = len(writes())
    planned = run_module(gcs_bucket_iam.main, **options, **wanted, check_mode=True, diff=True)
    assert planned.changed
    assert len(writes()) == done
    made = run_module(gcs_bucket_iam.main, **options, **wanted, diff=True)
    assert made["bindings"] == planned["bindings"]
    assert {"role": "roles/storage.legacyBucketOwner", "members": [f"projectOwner:{PROJECT}"]} in made["bindings"]
    assert not run_module(gcs_bucket_iam.main, **options, **wanted).changed
    gone = run_module(gcs_bucket_iam.main, **options, **wanted, state="absent")
    assert gone.changed
    assert [item["role"] for item in gone["bindings"]] == ["roles/storage.legacyBucketOwner"]


def test_conditions_survive_and_are_grants_of_their_own(run_module, options, bucket, emulator):
    condition = {"title": "until 2030", "expression": 'request.time < timestamp("2030-01-01T00:00:00Z")'}
    run_module(gcs_bucket_iam.main, **options, bucket=bucket, bindings=_binding("user:a@b.c", condition=condition))
    result = run_module(gcs_bucket_iam.main, **options, bucket=bucket, bindings=_binding("user:d@e.f"))
    assert _binding("user:a@b.c", condition=condition)[0] in result["bindings"]
    assert _binding("user:d@e.f")[0] in result["bindings"]


def test_condition_without_uniform_access_is_explained(run_module, options, emulator):
    run_module(gcs_bucket.main, **options, name="plain-bucket", location="EU")
    condition = {"title": "t", "expression": "true"}
    result = run_module(
        gcs_bucket_iam.main, **options, bucket="plain-bucket", bindings=_binding("user:a@b.c", condition=condition)
    )
    assert result.failed
    assert "uniform_access" in result["msg"]


def test_authoritative_modes(run_module, options, bucket, emulator):
    run_module(gcs_bucket_iam.main, **options, bucket=bucket, bindings=_binding("user:a@b.c", "user:d@e.f"))
    role = run_module(gcs_bucket_iam.main, **options, bucket=bucket, bindings=_binding("user:g@h.i"), mode="role")
    assert _binding("user:g@h.i")[0] in role["bindings"]
    assert len(role["bindings"]) == 2
    whole = run_module(
        gcs_bucket_iam.main,
        **options,
        bucket=bucket,
        bindings=_binding("user:g@h.i", role="roles/storage.admin"),
        mode="policy",
    )
    assert whole["bindings"] == _binding("user:g@h.i", role="roles/storage.admin")


def test_bad_members_and_roles_are_reported_before_any_request(run_module, options, emulator):
    result = run_module(
        gcs_bucket_iam.main, **options, bucket="b-b-b", bindings=_binding("pachyderm", role="objectUser")
    )
    assert result.failed
    assert "no role name" in result["msg"]
    assert "no known form" in result["msg"]
    assert emulator.requests == []


# ------------------------------------------------------------------------------------------------------------ accounts


def test_account_with_workload_identity(run_module, options, emulator, writes):
    wanted = {
        "name": "pachyderm",
        "display_name": "Pachyderm",
        "workload_identity": [
            {"namespace": "pachyderm", "service_account": "pachyderm"},
            {"namespace": "pachyderm", "service_account": "pachyderm-worker"},
        ],
    }
    planned = run_module(gcp_service_account.main, **options, **wanted, check_mode=True, diff=True)
    assert planned.changed
    assert writes() == []
    made = run_module(gcp_service_account.main, **options, **wanted, diff=True)
    assert made["service_account"]["email"] == EMAIL == planned["service_account"]["email"]
    assert made["bindings"] == planned["bindings"]
    assert made["bindings"][0]["members"] == [
        f"serviceAccount:{PROJECT}.svc.id.goog[pachyderm/pachyderm-worker]",
        f"serviceAccount:{PROJECT}.svc.id.goog[pachyderm/pachyderm]",
    ]
    assert not run_module(gcp_service_account.main, **options, **wanted).changed
    changed = run_module(gcp_service_account.main, **options, name=EMAIL, description="for pachd", disabled=True)
    assert changed["action"] == "updated"
    assert emulator.state.accounts[EMAIL].body["disabled"] is True
    assert emulator.state.accounts[EMAIL].body["displayName"] == "Pachyderm"
    assert run_module(gcp_service_account.main, **options, name=EMAIL, disabled=False).changed


def test_account_goes(run_module, options, account, emulator):
    assert run_module(gcp_service_account.main, **options, name="pachyderm", state="absent", check_mode=True).changed
    assert EMAIL in emulator.state.accounts
    assert run_module(gcp_service_account.main, **options, name="pachyderm", state="absent").changed
    assert not run_module(gcp_service_account.main, **options, name="pachyderm", state="absent").changed


def test_account_of_another_project_is_used_never_made(run_module, options, emulator):
    result = run_module(gcp_service_account.main, **options, name="x@other-company.iam.gserviceaccount.com")
    assert result.failed
    assert "does not exist" in result["msg"]
    assert emulator.state.accounts == {}


# ---------------------------------------------------------------------------------------------------------------- keys


def test_key_in_a_file(run_module, options, account, emulator, tmp_path, writes):
    path = tmp_path / "key.json"
    wanted = {"service_account": account, "path": str(path)}
    options["token_endpoint"] = f"{emulator.address}/token"
    done = len(writes())
    planned = run_module(gcp_service_account_key.main, **options, **wanted, check_mode=True, diff=True)
    assert planned["created"]
    assert not path.exists()
    assert len(writes()) == done
    made = run_module(gcp_service_account_key.main, **options, **wanted, diff=True)
    assert made["created"]
    assert "key" not in made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = json.loads(path.read_text())["private_key"]
    assert secret not in json.dumps(made)
    again = run_module(gcp_service_account_key.main, **options, **wanted)
    assert not again.changed
    assert again["key_id"] == made["key_id"]
    path.chmod(0o644)
    assert run_module(gcp_service_account_key.main, **options, **wanted).changed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rotation_overlaps(run_module, options, account, emulator, tmp_path):
    path = tmp_path / "key.json"
    wanted = {"service_account": account, "path": str(path), "revoke_superseded": True, "overlap": 3600}
    first = run_module(gcp_service_account_key.main, **options, **wanted)["key_id"]
    emulator.state.accounts[account].keys[first]["created"] -= 91 * 86400
    rotated = run_module(gcp_service_account_key.main, **options, **wanted, max_age_days=90)
    assert rotated["created"]
    assert "91 days" in rotated["reason"]
    assert rotated["revoked"] == []
    assert {item["id"] for item in rotated["keys"]} == {first, rotated["key_id"]}
    assert not run_module(gcp_service_account_key.main, **options, **wanted, max_age_days=90).changed
    emulator.state.accounts[account].keys[rotated["key_id"]]["created"] -= 3700
    planned = run_module(gcp_service_account_key.main, **options, **wanted, check_mode=True)
    assert planned["revoked"] == [first]
    assert first in emulator.state.accounts[account].keys
    later = run_module(gcp_service_account_key.main, **options, **wanted)
    assert later["revoked"] == [first]
    assert list(emulator.state.accounts[account].keys) == [rotated["key_id"]]


def test_key_for_a_secret_comes_back_only_when_new(run_module, options, account, emulator):
    made = run_module(gcp_service_account_key.main, **options, service_account=account, current="")
    assert json.loads(made["key"])["client_email"] == account
    again = run_module(gcp_service_account_key.main, **options, service_account=account, current=made["key"])
    assert not again.changed
    assert "key" not in again


def test_revoked_key_is_replaced(run_module, options, account, emulator, tmp_path):
    path = tmp_path / "key.json"
    first = run_module(gcp_service_account_key.main, **options, service_account=account, path=str(path))
    emulator.state.accounts[account].keys.clear()
    second = run_module(gcp_service_account_key.main, **options, service_account=account, path=str(path))
    assert second["reason"] == "the key that is held was revoked"
    assert second["key_id"] != first["key_id"]


def test_key_of_another_account_is_refused(run_module, options, account, emulator, tmp_path):
    run_module(gcp_service_account.main, **options, name="somebody-else")
    path = tmp_path / "key.json"
    other = f"somebody-else@{PROJECT}.iam.gserviceaccount.com"
    run_module(gcp_service_account_key.main, **options, service_account=other, path=str(path))
    before = path.read_text()
    result = run_module(gcp_service_account_key.main, **options, service_account=account, path=str(path))
    assert result.failed
    assert "another service account" in result["msg"]
    assert path.read_text() == before


def test_revoke(run_module, options, account, emulator, tmp_path):
    path = tmp_path / "key.json"
    made = run_module(gcp_service_account_key.main, **options, service_account=account, path=str(path))
    spare = run_module(gcp_service_account_key.main, **options, service_account=account, current="")
    gone = run_module(
        gcp_service_account_key.main, **options, service_account=account, state="absent", key_ids=[spare["key_id"]]
    )
    assert gone["revoked"] == [spare["key_id"]]
    end = run_module(gcp_service_account_key.main, **options, service_account=account, state="absent", path=str(path))
    assert end["revoked"] == [made["key_id"]]
    assert not path.exists()


def test_a_key_that_cannot_be_kept_is_not_made(run_module, options, account, emulator, tmp_path):
    path = tmp_path / "missing" / "key.json"
    result = run_module(gcp_service_account_key.main, **options, service_account=account, path=str(path))
    assert result.failed
    assert "does not exist" in result["msg"]
    assert emulator.state.accounts[account].keys == {}


def test_key_file_of_something_else_is_not_overwritten(run_module, options, account, emulator, tmp_path: Path):
    path = tmp_path / "key.json"
    path.write_text("[]")
    result = run_module(gcp_service_account_key.main, **options, service_account=account, path=str(path))
    assert result.failed
    assert path.read_text() == "[]"
    assert os.listdir(tmp_path) == ["emulator", "key.json"] or sorted(os.listdir(tmp_path)) == ["emulator", "key.json"]
