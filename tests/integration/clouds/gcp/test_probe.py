# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""object_store_probe on a Cloud Storage bucket, with the very key that pachd would get."""

from __future__ import annotations

import time
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
    emulator.state.limits.propagation = 60.0
    _grant(run_module, options, "roles/storage.objectUser")
    assert run_module(object_store_probe.main, **pachd).failed
    emulator.state.buckets[BUCKET].policy.due = time.monotonic() + 0.5
    assert not run_module(object_store_probe.main, **pachd, wait_timeout=30).failed


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


POOL = "acme-data.svc.id.goog"


@pytest.fixture
def keyless(run_module: Any, options: dict[str, Any], gke: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of the probe by Workload Identity, for an account that pachd's service account may act as."""
    run_module(gcs_bucket.main, **options, name=BUCKET, location="EU")
    identity = {"pool": POOL, "namespace": "pachyderm", "service_account": "pachyderm"}
    run_module(gcp_service_account.main, **options, name="pachyderm", workload_identity=[identity])
    _grant(run_module, options, "roles/storage.objectUser")
    monkeypatch.setattr(
        object_store_probe,
        "issued_token",
        lambda given, audience: gke.token(f"{given['namespace']}:{given['service_account']}", audience),
    )
    rest = {key: value for key, value in options.items() if key != "access_token"}
    address = options["storage_endpoint"]
    return {
        **rest,
        "backend": "gcp",
        "bucket": BUCKET,
        "google_service_account": EMAIL,
        "workload_pool": POOL,
        "sts_endpoint": address,
        "iam_credentials_endpoint": address,
    }


def test_workload_identity_chain(run_module: Any, keyless: dict[str, Any], emulator: Any) -> None:
    """Token, federated token, access token, bucket; what the Google account may do decides."""
    before = len(emulator.requests)
    result = run_module(object_store_probe.main, **keyless)
    assert not result.failed, result
    calls = [item["call"] for item in emulator.requests[before:]]
    assert calls[:3] == [
        "sts.token",
        "iamcredentials.projects.serviceAccounts.generateAccessToken",
        "storage.objects.list",
    ]
    assert emulator.state.accounts[EMAIL].keys == {}
    emulator.state.configure({"denied": [[f"serviceAccount:{EMAIL}", "storage.objects.delete"]]})
    narrow = run_module(object_store_probe.main, **keyless)
    assert narrow["denied"] == ["storage.objects.delete"]


def test_workload_identity_that_is_not_set_up(
    run_module: Any, keyless: dict[str, Any], emulator: Any, gke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each link of the chain that is missing is named, with what mends it."""

    def message(**changed: Any) -> str:
        result = run_module(object_store_probe.main, **{**keyless, **changed})
        assert result.failed
        assert [item["check"] for item in result["findings"]] == ["bucket-credentials"]
        return str(result["msg"])

    stranger = message(namespace="other")
    assert f"other/pachyderm may not act as {EMAIL}" in stranger
    assert f"roles/iam.workloadIdentityUser on it to serviceAccount:{POOL}[other/pachyderm]" in stranger
    elsewhere = message(workload_pool="another.svc.id.goog")
    assert "Google does not take the cluster's token" in elsewhere
    assert gke.issuer in elsewhere
    assert "Unknown service account" in message(google_service_account="nobody@acme-data.iam.gserviceaccount.com")
    emulator.state.projects["acme-data"].disabled_services = {"iamcredentials.googleapis.com"}
    assert "gcloud services enable iamcredentials.googleapis.com --project acme-data" in message()
    emulator.state.projects["acme-data"].disabled_services = set()
    monkeypatch.setattr(
        object_store_probe, "issued_token", lambda given, audience: gke.token("pachyderm:pachyderm", audience, -10)
    )
    assert "expired" in message()


def test_workload_identity_that_is_late(
    run_module: Any, keyless: dict[str, Any], emulator: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binding takes a while to have effect."""
    monkeypatch.setattr(object_store_probe, "PAUSE", 0.2)
    emulator.state.limits.propagation = 60.0
    identities = [{"pool": POOL, "namespace": "late", "service_account": "pachyderm"}]
    assert not run_module(gcp_service_account.main, **options, name="pachyderm", workload_identity=identities).failed
    assert run_module(object_store_probe.main, **keyless, namespace="late").failed
    emulator.state.accounts[EMAIL].policy.due = time.monotonic() + 0.5
    assert not run_module(object_store_probe.main, **keyless, namespace="late", wait_timeout=30).failed
