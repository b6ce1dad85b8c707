# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module: what goes in, what comes out, and that no value of the secret does."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.modules import pachyderm_storage_secret as module
from doubles.api import FakeApi, kubeconfig, served

ROLE: dict[str, Any] = {
    "namespace": "pachyderm",
    "backend": "aws",
    "aws_bucket": "example-bucket",
    "aws_region": "eu-central-1",
}
RETURNED = {"changed", "name", "keys", "kept_keys", "storage_backend", "checksum", "gcp_project", "findings"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[FakeApi, str]]:
    """An API server on loopback, and the kubeconfig that leads to it."""
    api = FakeApi()
    file = tmp_path / "kubeconfig"
    with served(api) as url:
        file.write_text(kubeconfig(url))
        yield api, str(file)


def test_creates_then_changes_nothing_with_the_same_keys_in_check_mode(
    run_module: Callable[..., Any], cluster: tuple[FakeApi, str]
) -> None:
    api, config = cluster
    predicted = run_module(module.main, check_mode=True, diff=True, kubeconfig=config, **ROLE)
    assert predicted.changed
    assert api.writes == 0
    done = run_module(module.main, diff=True, kubeconfig=config, **ROLE)
    assert done.changed
    again = run_module(module.main, diff=True, kubeconfig=config, **ROLE)
    assert not again.changed
    assert "diff" not in again
    assert set(predicted) - {"diff", "invocation"} == set(done) - {"diff", "invocation"}
    assert set(again) >= RETURNED
    assert predicted["checksum"] == done["checksum"] == again["checksum"]
    assert done["storage_backend"] == "AMAZON"
    assert [entry["after_header"] for entry in done["diff"]] == [
        "Namespace pachyderm (created)",
        "Secret pachyderm/pachyderm-storage-secret (created)",
    ]


def test_no_value_is_part_of_the_result(run_module: Callable[..., Any], cluster: tuple[FakeApi, str]) -> None:
    _api, config = cluster
    key = {
        "type": "service_account",
        "project_id": "example-project",
        "client_email": "a@example.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        "private_key": "-----BEGIN PRIVATE KEY-----\ntell-nobody\n-----END PRIVATE KEY-----\n",
    }
    # As a play hands it over: templating turns a JSON text into a mapping.
    gcs = {"namespace": "pachyderm", "backend": "gcp", "gcp_bucket": "example-bucket", "gcp_credentials": key}
    static = {**ROLE, "aws_auth": "keys", "aws_id": "AKIATELLNOBODY", "aws_secret": "tell-nobody", "aws_token": ""}
    vault = {**ROLE, "aws_auth": "vault", "vault_addr": "http://v", "vault_role": "r", "vault_token": "tell-nobody"}
    broken = {**static, "aws_bucket": "Not Legal"}
    results = [
        run_module(module.main, diff=True, kubeconfig=config, **options) for options in (gcs, static, vault, broken)
    ]
    assert [result.failed for result in results] == [False, False, False, True]
    assert results[0]["storage_backend"] == "GOOGLE"
    for result in results:
        text = json.dumps(result)
        for value in ("tell-nobody", "AKIATELLNOBODY"):
            assert value not in text
            assert base64.b64encode(value.encode()).decode() not in text


def test_mistakes_are_reported_before_the_cluster_is_asked(run_module: Callable[..., Any]) -> None:
    result = run_module(module.main, kubeconfig="/absent", **{**ROLE, "aws_region": "", "aws_bucket": ""})
    assert result.failed
    assert "aws_region is missing" in result["msg"]
    assert "aws_bucket is missing" in result["msg"]
    assert result["fix"]
    result = run_module(module.main, kubeconfig="/absent", **ROLE)
    assert "the kubeconfig does not exist (/absent)" in result["msg"]


def test_what_is_doubtful_is_returned(run_module: Callable[..., Any], cluster: tuple[FakeApi, str]) -> None:
    _api, config = cluster
    result = run_module(module.main, kubeconfig=config, tuning={"upload_acl": "public-read"}, **ROLE)
    assert [finding["check"] for finding in result["findings"]] == ["tuning"]


def test_existing_is_checked_and_left_alone(run_module: Callable[..., Any], cluster: tuple[FakeApi, str]) -> None:
    api, config = cluster
    options = {"kubeconfig": config, "namespace": "pachyderm", "backend": "gcp", "mode": "existing"}
    assert "does not exist" in run_module(module.main, **options)["msg"]
    metadata = {"name": "pachyderm-storage-secret", "namespace": "pachyderm"}
    data = {"google-bucket": base64.b64encode(b"example-bucket").decode(), "google-cred": ""}
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    result = run_module(module.main, **options)
    assert not result.failed
    assert not result.changed
    assert result["keys"] == ["google-bucket", "google-cred"]
    assert set(result) >= RETURNED
    assert api.writes == 0
