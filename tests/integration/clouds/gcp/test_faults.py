# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad days: storms of 409 and 412, 503s, lost answers, late effects, quotas, and refusals that name their cause."""

from __future__ import annotations

import json
import threading
import time
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
OPERATOR = f"user:operator@{PROJECT}.example.com"
BUCKET = {"name": "acme-pachyderm", "location": "EU"}
GRANT = {"bucket": "acme-pachyderm", "bindings": [{"role": "roles/storage.objectUser", "members": ["user:a@b.c"]}]}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import client

    monkeypatch.setattr(client, "FIRST_PAUSE", 0.02)


@pytest.fixture
def bucket(run_module: Any, options: dict[str, Any]) -> str:
    run_module(gcs_bucket.main, **options, **BUCKET)
    return "acme-pachyderm"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_waited_out(run_module, options, emulator, status):
    emulator.faults.arm([{"path": "/b", "status": status, "times": 3}])
    assert run_module(gcs_bucket.main, **options, **BUCKET)["action"] == "created"
    assert [item["status"] for item in emulator.requests[:4]] == [status, status, status, 404]


def test_lasting_trouble_is_told_with_the_number_of_tries(run_module, options, emulator):
    emulator.faults.arm([{"path": "/b", "status": 503, "times": 1000, "message": "Backend Error"}])
    options["api_timeout"] = 1
    result = run_module(gcs_bucket.main, **options, **BUCKET)
    assert result.failed
    assert "Backend Error" in result["msg"]
    assert "tries in" in result["msg"]


def test_retry_after_is_honoured(run_module, options, emulator):
    emulator.faults.arm([{"path": "/b", "status": 503, "retry_after": "1"}])
    start = time.monotonic()
    run_module(gcs_bucket.main, **options, **BUCKET)
    assert time.monotonic() - start >= 1.0


def test_connection_cut_before_the_answer(run_module, options, emulator):
    emulator.faults.arm([{"method": "POST", "path": "/b$", "drop": "after"}])
    assert not run_module(gcs_bucket.main, **options, **BUCKET).failed
    assert not run_module(gcs_bucket.main, **options, **BUCKET).changed


@pytest.mark.parametrize("drop", ["before", "after"])
def test_account_whose_answer_got_lost(run_module, options, emulator, drop):
    emulator.faults.arm([{"method": "POST", "path": "serviceAccounts$", "drop": drop}])
    result = run_module(gcp_service_account.main, **options, name="pachyderm")
    assert result["service_account"]["email"] == EMAIL
    assert result["service_account"]["unique_id"]


@pytest.mark.parametrize("status", [409, 412])
def test_policy_storm(run_module, options, bucket, emulator, status):
    emulator.faults.arm([{"method": "PUT", "path": "/iam$", "status": status, "times": 5}])
    assert run_module(gcs_bucket_iam.main, **options, **GRANT).changed
    assert not run_module(gcs_bucket_iam.main, **options, **GRANT).changed


def test_endless_policy_storm_ends_with_one_message(run_module, options, bucket, emulator):
    emulator.faults.arm([{"method": "PUT", "path": "/iam$", "status": 412, "times": 10000}])
    result = run_module(gcs_bucket_iam.main, **options, **GRANT, wait_timeout=1)
    assert result.failed
    assert "others changed it at the same time" in result["msg"]


def test_nothing_of_others_is_lost_when_many_write_at_once(gcp, run_module, options, bucket, emulator):
    from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import iam

    def add(number: int) -> None:
        grants = [iam.Grant("roles/storage.objectViewer", frozenset({f"user:u{number}@example.com"}))]
        iam.change_policy(gcp, iam.bucket_policy(gcp, bucket), lambda policy: iam.merged(policy, grants))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (binding,) = [item for item in emulator.state.buckets[bucket].policy.bindings if "Viewer" in item["role"]]
    assert binding["members"] == [f"user:u{number}@example.com" for number in range(8)]


def test_bucket_changed_by_somebody_else_meanwhile(run_module, options, bucket, emulator):
    emulator.faults.arm([{"method": "PATCH", "status": 412, "reason": "conditionNotMet"}])
    result = run_module(gcs_bucket.main, **options, name=bucket, versioning=True)
    assert result.changed
    assert emulator.state.buckets[bucket].body["versioning"] == {"enabled": True}


def test_new_account_is_usable_at_once_although_late_to_be_seen(run_module, options, bucket, emulator):
    emulator.state.limits.propagation = 1.0
    assert run_module(gcp_service_account.main, **options, name="pachyderm", wait=False).changed
    grant = {
        "bucket": bucket,
        "bindings": [{"role": "roles/storage.objectUser", "members": [f"serviceAccount:{EMAIL}"]}],
    }
    assert run_module(gcs_bucket_iam.main, **options, **grant).changed


def test_account_that_never_appears_is_named(run_module, options, bucket, emulator):
    grant = {
        "bucket": bucket,
        "bindings": [{"role": "roles/storage.objectUser", "members": [f"serviceAccount:{EMAIL}"]}],
    }
    result = run_module(gcs_bucket_iam.main, **options, **grant, wait_timeout=1)
    assert result.failed
    assert f"{EMAIL} does not exist" in result["msg"]


def test_waiting_for_a_new_account(run_module, options, emulator):
    emulator.state.limits.propagation = 1.0
    start = time.monotonic()
    run_module(gcp_service_account.main, **options, name="pachyderm", workload_identity=[])
    assert time.monotonic() - start >= 1.0
    emulator.state.limits.propagation = 60.0
    result = run_module(gcp_service_account.main, **options, name="pachyderm2", wait_timeout=1)
    assert result.failed
    assert "does not show up" in result["msg"]


# ---------------------------------------------------------------------------------------------------------------- keys


@pytest.fixture
def account(run_module: Any, options: dict[str, Any]) -> str:
    run_module(gcp_service_account.main, **options, name="pachyderm")
    return EMAIL


def test_new_key_is_waited_for(run_module, options, account, emulator, tmp_path):
    emulator.state.limits.propagation = 1.0
    start = time.monotonic()
    result = run_module(gcp_service_account_key.main, **options, service_account=account, path=str(tmp_path / "k"))
    assert result["created"]
    assert time.monotonic() - start >= 1.0


def test_old_keys_stay_when_the_new_one_is_not_accepted(run_module, options, account, emulator, tmp_path):
    wanted = {"service_account": account, "path": str(tmp_path / "k"), "revoke_superseded": True, "overlap": 0}
    first = run_module(gcp_service_account_key.main, **options, **wanted)["key_id"]
    emulator.state.limits.propagation = 60.0
    result = run_module(gcp_service_account_key.main, **options, **wanted, rotate=True, wait_timeout=1)
    assert result.failed
    assert "no older one was revoked" in result["msg"]
    assert first in emulator.state.accounts[account].keys


def test_full_quota_names_the_way_out(run_module, options, account, emulator):
    emulator.state.limits.keys_per_account = 1
    run_module(gcp_service_account_key.main, **options, service_account=account, current="")
    start = time.monotonic()
    result = run_module(gcp_service_account_key.main, **options, service_account=account, current="")
    assert result.failed
    assert "Revoke keys that nobody uses" in result["msg"]
    assert time.monotonic() - start < 5


def test_key_whose_answer_got_lost_is_named_and_not_made_twice(run_module, options, account, emulator):
    emulator.faults.arm([{"method": "POST", "path": "/keys$", "drop": "after"}])
    result = run_module(gcp_service_account_key.main, **options, service_account=account, current="")
    assert result.failed
    (lost,) = emulator.state.accounts[account].keys
    assert lost in result["fix"]
    gone = run_module(gcp_service_account_key.main, **options, service_account=account, state="absent", key_ids=[lost])
    assert gone["revoked"] == [lost]
    assert run_module(gcp_service_account_key.main, **options, service_account=account, current="")["created"]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("permission", ["storage.buckets.get", "storage.buckets.create", "storage.buckets.update"])
def test_missing_permission_is_named(run_module, options, emulator, permission):
    if permission.endswith("update"):
        run_module(gcs_bucket.main, **options, **BUCKET)
    emulator.state.configure({"denied": [[OPERATOR, permission]]})
    result = run_module(gcs_bucket.main, **options, **BUCKET, versioning=True)
    if permission.endswith("get"):  # no bucket: Google says 404 to everybody
        assert not result.failed
        result = run_module(gcs_bucket.main, **options, **BUCKET)
    assert result.failed
    assert permission in result["why"]


def test_missing_permission_to_list_is_only_a_warning(run_module, options, emulator):
    run_module(gcs_bucket.main, **options, **BUCKET)
    emulator.state.configure({"denied": [[OPERATOR, "storage.buckets.list"]]})
    result = run_module(gcs_bucket.main, **options, **BUCKET)
    assert not result.failed
    assert any("storage.buckets.list" in str(warning) for warning in result["warnings"])


@pytest.mark.parametrize(
    ("module", "arguments", "service"),
    [
        (gcs_bucket, BUCKET, "storage.googleapis.com"),
        (gcp_service_account, {"name": "pachyderm"}, "iam.googleapis.com"),
    ],
)
def test_switched_off_api_is_named(run_module, options, emulator, module, arguments, service):
    emulator.state.configure({"disabled_services": {PROJECT: [service]}})
    result = run_module(module.main, **options, **arguments)
    assert result.failed
    assert f"gcloud services enable {service} --project {PROJECT}" in result["fix"]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(gcs_bucket, BUCKET), (gcp_service_account, {"name": "pachyderm"})],
)
def test_unknown_project(run_module, options, emulator, module, arguments):
    options["project"] = "acme-dtaa"
    result = run_module(module.main, **options, **arguments)
    assert result.failed
    assert "project acme-dtaa does not exist" in result["msg"]


def test_expired_token(run_module, options, emulator):
    emulator.state.configure({"expire_tokens": True})
    result = run_module(gcs_bucket.main, **options, **BUCKET)
    assert result.failed
    assert "access token has expired" in result["msg"]
    assert options["access_token"] not in json.dumps(result)


def test_revoked_key_as_credentials(run_module, options, account, emulator, tmp_path):
    path = tmp_path / "key.json"
    run_module(gcp_service_account_key.main, **options, service_account=account, path=str(path))
    mine = {key: value for key, value in options.items() if key != "access_token"}
    emulator.state.configure({"operators": {f"serviceAccount:{account}": {PROJECT: ["*"]}}})
    assert run_module(gcs_bucket.main, **mine, credentials_file=str(path), **BUCKET).changed
    emulator.state.accounts[account].keys.clear()
    result = run_module(gcs_bucket.main, **mine, credentials_file=str(path), **BUCKET)
    assert result.failed
    assert "revoked" in result["msg"]
    assert json.loads(path.read_text())["private_key"] not in json.dumps(result)


def test_untrusted_authority(run_module, options, emulator):
    del options["ca_file"]
    result = run_module(gcs_bucket.main, **options, **BUCKET)
    assert result.failed
    assert "ca_file" in result["fix"]


def test_nobody_listens(run_module, options, emulator):
    options.update(storage_endpoint="https://127.0.0.1:1", api_timeout=1)
    result = run_module(gcs_bucket.main, **options, **BUCKET)
    assert result.failed
    assert "refused" in result["msg"]


@pytest.mark.parametrize("text", ["no json", '{"no": "type"}', '{"type": "service_account"}'])
def test_unreadable_credentials(run_module, options, emulator, tmp_path, text):
    path = tmp_path / "key.json"
    path.write_text(text)
    del options["access_token"]
    result = run_module(gcs_bucket.main, **options, credentials_file=str(path), **BUCKET)
    assert result.failed
    assert "credentials" in result["msg"]


def test_organisation_policy(run_module, options, account, emulator):
    emulator.faults.arm(
        [
            {
                "method": "POST",
                "path": "/keys$",
                "status": 400,
                "message": "Key creation is not allowed: constraints/iam.disableServiceAccountKeyCreation",
            }
        ]
    )
    result = run_module(gcp_service_account_key.main, **options, service_account=account, current="")
    assert result.failed
    assert "organisation policy" in result["msg"]
    assert "workload identity" in result["fix"]
