# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role gcp_storage, run by ansible-playbook against the emulator."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

PROJECT = "acme-data"
EMAIL = f"pachyderm@{PROJECT}.iam.gserviceaccount.com"


@pytest.fixture
def base(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "gcp_storage_project": PROJECT,
        "gcp_storage_bucket": "acme-pachyderm",
        "gcp_storage_location": "europe-west3",
        "gcp_storage_storage_endpoint": options["storage_endpoint"],
        "gcp_storage_iam_endpoint": options["iam_endpoint"],
        "gcp_storage_ca_file": options["ca_file"],
        "gcp_storage_access_token": options["access_token"],
        "gcp_storage_api_timeout": 20,
        "gcp_storage_wait_timeout": 10,
    }


def test_keyless_from_nothing_to_nothing(play_role: Any, step: Any, base: Any, emulator: Any) -> None:
    played = play_role(
        "gcp_storage",
        base,
        step("plan", check=True),
        step("first"),
        step("again"),
        step("planned_again", check=True),
        step("misspelt", gcp_storage_buckte="x"),
        step("removal_by_default", "remove"),
        step("wrong_name", "remove", gcp_storage_remove_data="acme-pachydrem"),
    )
    assert played.changed == {
        "plan": 2,
        "first": 3,
        "again": 0,
        "planned_again": 0,
        "misspelt": 0,
        "removal_by_default": 0,
        "wrong_name": 0,
    }
    assert played.failed == {"misspelt", "wrong_name"}
    assert "gcp_storage_buckte" in played.output
    assert "type its name in" in played.output
    account = emulator.state.accounts[EMAIL]
    assert account.keys == {}
    assert account.policy.bindings[0]["members"] == [
        f"serviceAccount:{PROJECT}.svc.id.goog[pachyderm/pachyderm-worker]",
        f"serviceAccount:{PROJECT}.svc.id.goog[pachyderm/pachyderm]",
    ]
    body = emulator.state.buckets["acme-pachyderm"].body
    assert body["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    granted = {item["role"]: item["members"] for item in emulator.state.buckets["acme-pachyderm"].policy.bindings}
    assert granted["roles/storage.objectUser"] == [f"serviceAccount:{EMAIL}"]

    identity = {"gcp_storage_remove_identity": True}
    gone = play_role(
        "gcp_storage",
        base,
        step("identity", "remove", **identity),
        step("data", "remove", **identity, gcp_storage_remove_data="acme-pachyderm"),
        step("nothing", "remove", **identity, gcp_storage_remove_data="acme-pachyderm"),
    )
    assert not gone.failed, gone.output[-3000:]
    assert gone.changed == {"identity": 2, "data": 1, "nothing": 0}
    assert emulator.state.accounts == {}
    assert emulator.state.buckets == {}


def test_key_is_rotated_with_overlap_and_never_printed(
    play_role: Any, step: Any, base: Any, emulator: Any, gcp: Any, tmp_path: Path
) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import buckets

    buckets.ensure(gcp, buckets.BucketSpec("acme-pachyderm", location="EU"))
    path = tmp_path / "pachyderm.json"
    base.update(gcp_storage_auth="key", gcp_storage_key_file=str(path), gcp_storage_bucket_mode="existing")
    first = play_role("gcp_storage", base, step("first"), flags=("-vvv", "--diff"))
    assert not first.failed, first.output[-3000:]
    assert first.changed == {"first": 3}  # account, grant, key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    old = json.loads(path.read_text())
    emulator.state.accounts[EMAIL].keys[old["private_key_id"]]["created"] -= 100
    second = play_role(
        "gcp_storage",
        base,
        step("rotate", gcp_storage_key_rotate=True),
        step("within_overlap"),
        step("after_overlap", gcp_storage_key_overlap=0),
        flags=("-vvv", "--diff"),
    )
    assert not second.failed, second.output[-3000:]
    assert second.changed == {"rotate": 1, "within_overlap": 0, "after_overlap": 1}
    new = json.loads(path.read_text())
    assert list(emulator.state.accounts[EMAIL].keys) == [new["private_key_id"]] != [old["private_key_id"]]
    for output in (first.output, second.output):
        for secret in (old["private_key"].splitlines()[1], new["private_key"].splitlines()[1]):
            assert secret not in output
        assert base["gcp_storage_access_token"] not in output


def test_existing_things_are_used_as_they_are(play_role: Any, step: Any, base: Any, emulator: Any, gcp: Any) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import buckets, service_accounts

    buckets.ensure(gcp, buckets.BucketSpec("acme-pachyderm", location="US"))
    service_accounts.ensure(gcp, service_accounts.AccountSpec("pachyderm", display_name="ours"))
    before = json.dumps(emulator.state.buckets["acme-pachyderm"].body)
    base.update(gcp_storage_bucket_mode="existing", gcp_storage_service_account_mode="existing")
    played = play_role(
        "gcp_storage",
        base,
        step("first"),
        step("gone", "remove", gcp_storage_remove_identity=True, gcp_storage_remove_data="acme-pachyderm"),
    )
    assert not played.failed, played.output[-3000:]
    assert played.changed == {"first": 1, "gone": 1}  # the grant, and nothing else
    assert json.dumps(emulator.state.buckets["acme-pachyderm"].body) == before
    assert emulator.state.accounts[EMAIL].body["displayName"] == "ours"


def test_run_that_was_cut_off_is_finished_by_the_next(play_role: Any, step: Any, base: Any, emulator: Any) -> None:
    emulator.state.configure({"denied": [[f"user:operator@{PROJECT}.example.com", "iam.serviceAccounts.create"]]})
    first = play_role("gcp_storage", base, step("first"))
    assert first.failed == {"first"}
    assert "lacks the permission iam.serviceAccounts.create" in first.output
    emulator.state.configure({"denied": []})
    second = play_role("gcp_storage", base, step("second"))
    assert not second.failed
    assert second.changed == {"second": 2}
