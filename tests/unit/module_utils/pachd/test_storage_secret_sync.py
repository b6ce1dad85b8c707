# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing the secret to what is wanted: ownership, adoption, credentials from files."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.apply import data_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret import StorageOptions, desired
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret_sync import (
    CredentialFiles,
    ensure,
    inspect,
    owners,
    secret_ref,
    with_files,
)
from doubles.api import FakeApi

ROLE = StorageOptions("aws", aws_bucket="example-bucket", aws_region="eu-central-1")
STATIC = replace(ROLE, aws_auth="keys", aws_id="AKIAEXAMPLE", aws_secret="example-secret")
REF = secret_ref("pachyderm")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def kube(api: FakeApi) -> Kube:
    return Kube(api, patience=0.0)


def put(api: FakeApi, manager: str, **data: str) -> None:
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pachyderm"}})
    encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"name": REF.name, "namespace": "pachyderm"}
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}, manager)


def add(api: FakeApi, key: str, value: str) -> None:
    """Add one key as somebody else."""
    api.stored(REF)["data"][key] = base64.b64encode(value.encode()).decode()
    api.owners[REF].setdefault("kubectl-patch", set()).add(("data", key))


def content(api: FakeApi) -> dict[str, bytes]:
    return data_of(api.stored(REF))


def test_check_mode_on_a_bare_cluster_then_the_same_for_real(api: FakeApi, kube: Kube) -> None:
    predicted = ensure(kube, "pachyderm", ROLE, check_mode=True)
    assert [change.action for change in predicted.changes] == ["created", "created"]
    assert api.writes == 0
    done = ensure(kube, "pachyderm", ROLE)
    assert (done.keys, done.checksum, done.storage_backend) == (predicted.keys, predicted.checksum, "AMAZON")
    assert {key: value.decode() for key, value in content(api).items()} == desired(ROLE)
    writes = api.writes
    assert not any(change.changed for change in ensure(kube, "pachyderm", ROLE).changes)
    assert api.writes == writes


def test_an_empty_secret_is_written_for_the_local_backend(api: FakeApi, kube: Kube) -> None:
    outcome = ensure(kube, "pachyderm", StorageOptions("local"))
    assert (outcome.keys, outcome.storage_backend) == ([], "LOCAL")
    assert content(api) == {}


def test_former_keys_of_ours_go_and_foreign_ones_stay(api: FakeApi, kube: Kube) -> None:
    ensure(kube, "pachyderm", STATIC)
    add(api, "other", "theirs")
    outcome = ensure(kube, "pachyderm", ROLE)
    assert outcome.kept == ["other"]
    assert "amazon-secret" not in content(api)
    assert content(api)["other"] == b"theirs"
    assert owners(kube.get(REF) or {})["other"] == {"kubectl-patch"}


def test_a_foreign_secret_needs_adoption(api: FakeApi, kube: Kube) -> None:
    put(api, "kubectl-client-side-apply", amazon_region="us-east-1", amazon_id="LEFT", other="x")
    with pytest.raises(InputError) as caught:
        ensure(kube, "pachyderm", ROLE)
    assert "kubectl-client-side-apply" in str(caught.value)
    assert "amazon-id, amazon-region, other" in str(caught.value)
    assert "LEFT" not in str(caught.value)
    assert api.writes == 0
    outcome = ensure(kube, "pachyderm", ROLE, adopt=True)
    assert content(api)["amazon-region"] == b"eu-central-1"
    assert content(api)["amazon-id"] == b""
    assert content(api)["other"] == b"x"
    assert outcome.kept == ["other"]
    assert not any(change.changed for change in ensure(kube, "pachyderm", ROLE).changes)


def test_foreign_credentials_that_would_win_are_refused(api: FakeApi, kube: Kube) -> None:
    ensure(kube, "pachyderm", ROLE)
    add(api, "amazon-id", "AKIATHEIRS")
    with pytest.raises(InputError, match="amazon-id are set by somebody else"):
        ensure(kube, "pachyderm", ROLE)


def test_a_changed_key_is_a_conflict_that_adoption_solves(api: FakeApi, kube: Kube) -> None:
    ensure(kube, "pachyderm", ROLE)
    api.owners[REF]["pachops.pachyderm"].discard(("data", "reverse"))
    add(api, "reverse", "false")
    with pytest.raises(ClusterError, match=r"kubectl-patch.*\.data\.reverse"):
        ensure(kube, "pachyderm", ROLE)
    ensure(kube, "pachyderm", ROLE, adopt=True)
    assert content(api)["reverse"] == b"true"


def test_nothing_is_asked_of_the_cluster_while_the_options_are_wrong(api: FakeApi, kube: Kube) -> None:
    with pytest.raises(InputError):
        ensure(kube, "pachyderm", replace(ROLE, aws_region=""))
    assert api.calls == []


def test_somebody_elses_secret_is_judged_and_left(api: FakeApi, kube: Kube) -> None:
    with pytest.raises(InputError, match="does not exist"):
        inspect(kube, "pachyderm", "aws")
    put(api, "kubectl", google_bucket="example-bucket", google_cred="", other="x")
    outcome = inspect(kube, "pachyderm", "gcp")
    assert outcome.keys == ["google-bucket", "google-cred", "other"]
    assert (outcome.changes, outcome.findings, outcome.gcp_project) == ([], [], "")
    with pytest.raises(InputError, match="amazon-region is missing"):
        inspect(kube, "pachyderm", "aws")
    assert api.writes == 0


def test_credentials_come_from_files(tmp_path: Path) -> None:
    key, ini, token = tmp_path / "key.json", tmp_path / "credentials", tmp_path / "token"
    key.write_text(json.dumps({"project_id": "p"}))
    ini.write_text("[default]\naws_access_key_id=A\naws_secret_access_key = B%C\n[two]\naws_session_token=T\n")
    token.write_text("s.token\n")
    for file in (key, ini, token):
        file.chmod(0o600)
    gcs, findings = with_files(StorageOptions("gcp"), CredentialFiles(gcp_credentials_file=str(key)))
    assert (json.loads(gcs.gcp_credentials), findings) == ({"project_id": "p"}, [])
    files = CredentialFiles(aws_credentials_file=str(ini))
    s3, _findings = with_files(ROLE, files)
    assert (s3.aws_id, s3.aws_secret, s3.aws_token) == ("A", "B%C", "")
    two, _findings = with_files(ROLE, replace(files, aws_profile="two"))
    assert two.aws_token == "T"
    vault, _findings = with_files(ROLE, CredentialFiles(vault_token_file=str(token)))
    assert vault.vault_token == "s.token"
    same, _findings = with_files(StorageOptions("local"), replace(files, gcp_credentials_file="/absent"))
    assert same == StorageOptions("local")


def test_a_file_that_others_can_read_is_pointed_out(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text("{}")
    file.chmod(0o644)
    _options, (finding,) = with_files(StorageOptions("gcp"), CredentialFiles(gcp_credentials_file=str(file)))
    assert finding.severity == "warning"
    assert "mode 0644" in finding.found
    assert finding.fix == f"chmod 600 {file}"


@pytest.mark.parametrize(
    ("text", "profile", "expected"),
    [
        ("[default]\nkey-without-value tell-nobody\n", "default", "cannot be understood"),
        ("no section tell-nobody\n", "default", "line 1 is no INI"),
        ("[other]\na=b\n", "default", "no profile 'default'.*its profiles are: other"),
        (b"\xff\xfe", "default", "it is not text"),
    ],
)
def test_bad_credential_files(tmp_path: Path, text: str | bytes, profile: str, expected: str) -> None:
    file = tmp_path / "credentials"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=expected) as caught:
        with_files(ROLE, CredentialFiles(aws_credentials_file=str(file), aws_profile=profile))
    assert "tell-nobody" not in str(caught.value)


def test_value_and_file_exclude_each_other() -> None:
    with pytest.raises(InputError, match="aws_id or aws_secret and aws_credentials_file are both given"):
        with_files(STATIC, CredentialFiles(aws_credentials_file="/x"))
    with pytest.raises(InputError, match=r"cannot read gcp_credentials_file.*No such file"):
        with_files(StorageOptions("gcp"), CredentialFiles(gcp_credentials_file="/absent"))
