# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""object_store_probe on a Cloud Storage bucket, with the very key that pachd would get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.modules import (
    gcp_service_account,
    gcp_service_account_key,
    gcs_bucket,
    gcs_bucket_iam,
    object_store_probe,
)

EMAIL = "pachyderm@acme-data.iam.gserviceaccount.com"
BUCKET = "acme-pachyderm"


@pytest.fixture
def pachd(run_module: Any, options: dict[str, Any], emulator: Any, tmp_path: Path) -> dict[str, Any]:
    """Options of the probe with a service account's key; the account may do nothing yet."""
    path = tmp_path / "key.json"
    run_module(gcs_bucket.main, **options, name=BUCKET, location="EU")
    run_module(gcp_service_account.main, **options, name="pachyderm")
    run_module(gcp_service_account_key.main, **options, service_account=EMAIL, path=str(path))
    rest = {key: value for key, value in options.items() if key != "access_token"}
    return {**rest, "backend": "gcp", "bucket": BUCKET, "credentials_file": str(path)}


def _grant(run_module: Any, options: dict[str, Any], role: str) -> None:
    bindings = [{"role": role, "members": [f"serviceAccount:{EMAIL}"]}]
    assert not run_module(gcs_bucket_iam.main, **options, bucket=BUCKET, bindings=bindings).failed


def test_the_roles_default_grant_is_enough_and_leaves_nothing_behind(
    run_module: Any, options: dict[str, Any], pachd: dict[str, Any], emulator: Any
) -> None:
    _grant(run_module, options, "roles/storage.objectUser")
    result = run_module(object_store_probe.main, **pachd)
    assert not result.failed, result
    assert {item["severity"] for item in result["findings"]} == {"ok"}
    assert [item["check"] for item in result["findings"]] == [
        "bucket-list",
        "bucket-read-missing",
        "bucket-write",
        "bucket-read",
        "bucket-delete",
        "bucket-spelling",
    ]
    assert emulator.state.buckets[BUCKET].objects == {}


@pytest.mark.parametrize("verb", ["create", "get", "list", "delete"])
def test_each_missing_verb_is_named(
    run_module: Any, options: dict[str, Any], pachd: dict[str, Any], emulator: Any, verb: str
) -> None:
    _grant(run_module, options, "roles/storage.objectUser")
    emulator.state.configure({"denied": [[f"serviceAccount:{EMAIL}", f"storage.objects.{verb}"]]})
    result = run_module(object_store_probe.main, **pachd)
    assert result.failed
    assert f"storage.objects.{verb}" in result["denied"]
    assert f"storage.objects.{verb} is denied" in result["msg"] or f"storage.objects.{verb} is missing" in result["msg"]


def test_the_default_grant_is_not_too_wide(run_module: Any, options: dict[str, Any], pachd: dict[str, Any]) -> None:
    """With pachd's own key: not the bucket, not its policy, not other buckets."""
    _grant(run_module, options, "roles/storage.objectUser")
    run_module(gcs_bucket.main, **options, name="another-bucket", location="EU")
    mine = {key: value for key, value in pachd.items() if key not in ("backend", "bucket")}
    for name in (BUCKET, "another-bucket"):
        assert run_module(gcs_bucket.main, **mine, name=name, versioning=True).failed
        assert run_module(gcs_bucket.main, **mine, name=name, state="absent", delete_objects=True).failed
    bindings = [{"role": "roles/storage.admin", "members": [f"serviceAccount:{EMAIL}"]}]
    assert run_module(gcs_bucket_iam.main, **mine, bucket=BUCKET, bindings=bindings).failed
    assert run_module(object_store_probe.main, **{**pachd, "bucket": "another-bucket"}).failed


def test_late_grants_are_waited_for(
    run_module: Any, options: dict[str, Any], pachd: dict[str, Any], emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store_probe, "PAUSE", 0.2)
    emulator.state.limits.propagation = 1.0
    _grant(run_module, options, "roles/storage.objectUser")
    assert run_module(object_store_probe.main, **pachd).failed
    assert not run_module(object_store_probe.main, **pachd, wait_timeout=5).failed


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["/pach/block/a", "/pach/object/b"], ""),
        (["something/else"], ""),
        (["pach/block/a"], "spelt plain"),
        (["a/kcolb/hcap"], "spelt reversed"),
        (["/pach/block/a", "pach/block/b"], "mixture"),
    ],
)
def test_spelling_of_an_existing_bucket(
    run_module: Any, options: dict[str, Any], pachd: dict[str, Any], emulator: Any, keys: list[str], words: str
) -> None:
    _grant(run_module, options, "roles/storage.objectUser")
    for key in keys:
        emulator.storage.write(BUCKET, {"name": key}, b"x", {}, f"serviceAccount:{EMAIL}")
    result = run_module(object_store_probe.main, **pachd)
    assert result.failed == bool(words)
    assert words in result.get("msg", "")
    assert not run_module(object_store_probe.main, **pachd, check_spelling=False).failed or words == "mixture"


def test_check_mode_writes_nothing(
    run_module: Any, options: dict[str, Any], pachd: dict[str, Any], emulator: Any
) -> None:
    _grant(run_module, options, "roles/storage.objectUser")
    before = len(emulator.requests)
    assert not run_module(object_store_probe.main, **pachd, check_mode=True).failed
    assert {item["method"] for item in emulator.requests[before:] if item["path"] != "/token"} == {"GET"}


def test_missing_bucket_and_revoked_key(
    run_module: Any, options: dict[str, Any], pachd: dict[str, Any], emulator: Any
) -> None:
    _grant(run_module, options, "roles/storage.objectUser")
    missing = run_module(object_store_probe.main, **{**pachd, "bucket": "no-such-bucket"})
    assert "gs://no-such-bucket does not exist" in missing["msg"]
    emulator.state.accounts[EMAIL].keys.clear()
    revoked = run_module(object_store_probe.main, **pachd)
    assert revoked.failed
    assert "no access token" in revoked["msg"]
