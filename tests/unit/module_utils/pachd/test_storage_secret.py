# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of the storage secret: what is written, what is refused, and what somebody else's secret lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.findings import Finding, errors
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret import (
    CONFIDENTIAL,
    ENVIRONMENT,
    KEYS,
    MAY_BE_EMPTY,
    STORAGE_BACKEND,
    TUNING,
    StorageOptions,
    check_existing,
    checksum,
    desired,
    gcp_project,
    raise_for,
    validate,
)

JSON_KEY = json.dumps(
    {
        "type": "service_account",
        "project_id": "example-project",
        "client_email": "pachyderm@example-project.iam.gserviceaccount.com",
        "private_key": "-----BEGIN PRIVATE KEY-----\nnot-a-real-key\n-----END PRIVATE KEY-----\n",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
)
S3 = StorageOptions("aws", aws_bucket="example-bucket", aws_region="eu-central-1")
STATIC = replace(S3, aws_auth="keys", aws_id="AKIAEXAMPLE", aws_secret="example-secret")
VAULT = replace(
    S3, aws_auth="vault", vault_addr="https://vault.example.com:8200", vault_role="pachd", vault_token="s.example"
)
GCS = StorageOptions("gcp", gcp_bucket="example-bucket")
MINIO = StorageOptions(
    "minio",
    aws_bucket="example-bucket",
    aws_endpoint_url="http://minio.example.com:9000",
    aws_id="minio",
    aws_secret="example-secret",
)
# Every way to be deployed, by the name under which a failure is reported.
MODES = {
    "local": StorageOptions("local"),
    "gcp key": replace(GCS, gcp_credentials=JSON_KEY),
    "gcp keyless": GCS,
    "aws keys": STATIC,
    "aws session token": replace(STATIC, aws_id="ASIAEXAMPLE", aws_token="example-token"),
    "aws role": S3,
    "aws vault": VAULT,
    "s3-compatible": replace(STATIC, aws_region="", aws_endpoint_url="https://s3.example.com"),
    "s3-compatible over http": replace(STATIC, aws_id="minio", aws_endpoint_url="http://127.0.0.1:9000"),
    "minio v4": MINIO,
    "minio v2": replace(MINIO, minio_signature="v2", aws_endpoint_url="https://minio.example.com"),
}


def found(findings: list[Finding]) -> str:
    return "\n".join(f"{item.severity}: {item.found} | {item.wanted} | {item.fix}" for item in findings)


def test_the_environment_is_pachds() -> None:
    assert len(ENVIRONMENT) == 30
    assert len(set(ENVIRONMENT.values())) == 30
    assert ENVIRONMENT["log-options"] == "OBJ_LOG_OPTS"
    for key, variable in ENVIRONMENT.items():
        assert key == "log-options" or variable == key.upper().replace("-", "_")
    assert set(TUNING) <= set(ENVIRONMENT)
    assert len(TUNING) == 9
    assert CONFIDENTIAL - {"cloudfrontPrivateKey"} <= set(ENVIRONMENT)


@pytest.mark.parametrize("name", MODES)
def test_pachyderm_2878_nothing_that_pachd_needs_is_missing_or_empty(name: str) -> None:
    options = MODES[name]
    content = desired(options)
    auth = options.aws_auth if options.backend == "aws" else ""
    assert tuple(sorted(content)) == tuple(sorted(KEYS[(options.backend, auth)]))
    assert not [key for key, value in content.items() if not value and key not in MAY_BE_EMPTY]
    if options.backend == "aws":
        # What made pachd 1.7.1 crash-loop with an IAM role, and what pachd 1.9.6 to 1.11.5 misread when absent.
        assert content["amazon-region"]
        assert content["amazon-bucket"] == "example-bucket"
        assert set(TUNING) <= set(content)
        assert content["amazon-distribution"] == ""
    assert set(content) <= set(ENVIRONMENT)
    # What is written passes the judgement of what others write.
    assert errors(check_existing(content, options.backend)) == []
    assert STORAGE_BACKEND[options.backend] in ("LOCAL", "GOOGLE", "AMAZON", "MINIO")


def test_tuning_is_what_pachctl_writes_unless_given() -> None:
    content = desired(S3)
    assert {key: content[key] for key in TUNING} == {
        "retries": "10",
        "timeout": "5m",
        "upload-acl": "bucket-owner-full-control",
        "reverse": "true",
        "part-size": "5242880",
        "max-upload-parts": "10000",
        "disable-ssl": "false",
        "no-verify-ssl": "false",
        "log-options": "",
    }
    given: dict[str, Any] = {"reverse": False, "part_size": 8388608, "timeout": "1m30s", "log_options": "debug,signing"}
    content = desired(replace(S3, tuning={**given, "retries": None}))
    assert content["reverse"] == "false"
    assert content["part-size"] == "8388608"
    assert content["timeout"] == "1m30s"
    assert content["retries"] == "10"


def test_the_endpoint_decides_about_tls() -> None:
    assert desired(MODES["s3-compatible over http"])["disable-ssl"] == "true"
    assert desired(MODES["s3-compatible"])["disable-ssl"] == "false"
    assert desired(MODES["s3-compatible"])["amazon-region"] == "us-east-1"
    assert desired(MODES["minio v4"])["minio-secure"] == "0"
    assert desired(MODES["minio v4"])["minio-endpoint"] == "minio.example.com:9000"
    assert desired(MODES["minio v4"])["minio-signature"] == "0"
    assert desired(MODES["minio v2"])["minio-secure"] == "1"
    assert desired(MODES["minio v2"])["minio-signature"] == "1"


def test_white_space_around_values_is_dropped() -> None:
    content = desired(replace(STATIC, aws_secret=" example-secret\n", aws_region=" eu-central-1 "))
    assert content["amazon-secret"] == "example-secret"
    assert content["amazon-region"] == "eu-central-1"


def key_without(**changes: Any) -> str:
    document = {**json.loads(JSON_KEY), **changes}
    return json.dumps({name: value for name, value in document.items() if value is not None})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (StorageOptions("asw"), "did you mean aws?"),
        (StorageOptions("gcp"), "gcp_bucket is missing"),
        (replace(GCS, gcp_bucket="gs://example-bucket/x"), "Write example-bucket."),
        (replace(GCS, gcp_bucket="ab"), "3 to 63"),
        (replace(GCS, gcp_bucket="Example"), "lower-case"),
        (replace(GCS, gcp_bucket="10.0.0.1"), "IP address"),
        (replace(GCS, gcp_bucket="my-google-bucket"), "google"),
        (replace(GCS, gcp_credentials="{"), "no JSON (line 1)"),
        (replace(GCS, gcp_credentials="[1]"), "no object"),
        (replace(GCS, gcp_credentials='{"type": "authorized_user"}'), "of type 'authorized_user'"),
        (replace(GCS, gcp_credentials="{}"), "names no type"),
        (replace(GCS, gcp_credentials=key_without(client_email=None)), "has no client_email"),
        (replace(GCS, gcp_credentials=key_without(token_uri=None)), "has no token_uri"),
        (replace(GCS, gcp_credentials=key_without(token_uri="oauth2")), "token_uri in gcp_credentials is no URL"),
        (replace(GCS, gcp_credentials=key_without(token_uri="http://[")), "token_uri in gcp_credentials is no URL"),
        (replace(GCS, gcp_credentials=key_without(private_key="abc")), "no PEM key"),
        (replace(S3, aws_region=""), "aws_region is missing"),
        (replace(S3, aws_region="eu-central-1a"), "an availability zone"),
        (replace(S3, aws_region="frankfurt"), "aws_region is 'frankfurt'"),
        (replace(S3, aws_bucket=""), "aws_bucket is missing"),
        (replace(S3, aws_bucket="a" * 64), "3 to 63"),
        (replace(S3, aws_bucket="under_score"), "only lower-case"),
        (replace(S3, aws_bucket="a..b"), "two dots"),
        (replace(S3, aws_bucket="10.0.0.1"), "IP address"),
        (replace(S3, aws_bucket="xn--example"), "reserved"),
        (replace(S3, aws_auth="rolle"), "did you mean role?"),
        (replace(S3, aws_id="AKIA"), "aws_auth is role, but aws_id given too"),
        (replace(STATIC, vault_role="x"), "aws_auth is keys, but vault_role given too"),
        (replace(STATIC, aws_secret=""), "aws_secret is missing"),
        (replace(STATIC, aws_secret="two words"), "contains white space"),
        (replace(STATIC, aws_id="ASIAEXAMPLE"), "aws_token is missing"),
        (replace(STATIC, aws_token="x"), "permanent key"),
        (replace(VAULT, vault_token=""), "vault_token is missing"),
        (replace(VAULT, vault_addr="vault.example.com"), "vault_addr is 'vault.example.com'"),
        (replace(S3, aws_endpoint_url="minio:9000"), "aws_endpoint_url is 'minio:9000'"),
        (replace(S3, aws_endpoint_url="http://minio:port"), "aws_endpoint_url is"),
        (replace(S3, aws_endpoint_url="http://me:pass@minio:9000"), "contains a user or password"),
        (replace(S3, aws_endpoint_url="http://minio:9000/bucket"), "Remove what follows"),
        (replace(S3, aws_endpoint_url="http://minio:9000", aws_bucket="a/b"), "only letters"),
        (replace(S3, tuning={"revrse": True}), "did you mean reverse?"),
        (replace(S3, tuning={"retries": -1}), "retries is '-1'"),
        (replace(S3, tuning={"timeout": "5 minutes"}), "a Go duration"),
        (replace(S3, tuning={"timeout": "0s"}), "above zero"),
        (replace(S3, tuning={"part-size": 1024}), "part-size is '1024'"),
        (replace(S3, tuning={"max_upload_parts": 10001}), "max-upload-parts is '10001'"),
        (replace(S3, tuning={"reverse": "yes"}), "true or false"),
        (replace(S3, tuning={"upload_acl": "mine"}), "a canned ACL"),
        (replace(S3, tuning={"log_options": "verbose"}), "comma-separated"),
        (
            replace(S3, aws_endpoint_url="http://minio:9000", tuning={"disable_ssl": False}),
            "disable-ssl is 'false', but aws_endpoint_url begins with http://",
        ),
        (replace(MINIO, aws_endpoint_url=""), "aws_endpoint_url is missing"),
        (replace(MINIO, minio_signature="v3"), "v2 or v4"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(options: StorageOptions, expected: str) -> None:
    wrong = errors(validate(options))
    assert expected in found(wrong)
    assert all(item.fix and item.wanted for item in wrong)
    with pytest.raises(InputError):
        desired(options)


def test_everything_is_reported_at_once_and_nothing_confidential() -> None:
    options = replace(
        STATIC, aws_bucket="", aws_region="", aws_secret="tell no body", tuning={"retries": "x", "nope": 1}
    )
    with pytest.raises(InputError) as caught:
        desired(options)
    message = str(caught.value)
    for part in ("aws_bucket is missing", "aws_region is missing", "retries is 'x'", "'nope'", "aws_secret contains"):
        assert part in message
    assert "tell no body" not in message
    assert "tell no body" not in repr(options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (MODES["aws session token"], "the credentials are temporary"),
        (replace(S3, tuning={"upload_acl": "public-read"}), "makes every object public"),
    ],
)
def test_what_is_doubtful_is_a_warning(options: StorageOptions, expected: str) -> None:
    findings = validate(options)
    assert expected in found(findings)
    assert errors(findings) == []
    assert desired(options)


def test_a_local_installation_is_its_own_warning_free_mode() -> None:
    assert desired(StorageOptions("local", aws_bucket="Not Used")) == {}
    assert validate(replace(S3, tuning={"timeout": "1h0m0.5s", "upload_acl": ""})) == []


@pytest.mark.parametrize(
    ("backend", "changes", "expected"),
    [
        ("aws", {"amazon-region": None}, "key amazon-region is missing"),
        ("aws", {"amazon-region": ""}, "key amazon-region is empty"),
        ("aws", {"amazon-region": None, "amazon-regoin": "x"}, "key amazon-regoin, did you mean amazon-region?"),
        ("aws", {"amazon-region": "europe"}, "amazon-region is 'europe'"),
        ("aws", {"amazon-bucket": "s3://x"}, "amazon-bucket is 's3://x'"),
        ("aws", {"reverse": None}, "key reverse is missing"),
        ("aws", {"reverse": "yes"}, "reverse is 'yes'"),
        ("aws", {"amazon-id": "AKIA"}, "key amazon-secret is missing"),
        ("aws", {"amazon-vault-addr": "https://v"}, "key amazon-vault-token is missing"),
        ("aws", {"custom-endpoint": "minio:9000/x", "disable-ssl": "true"}, "custom-endpoint is"),
        ("aws", {"amazon-distribution": "abc"}, "cloudfrontPrivateKey and cloudfrontKeyPairId missing"),
        ("gcp", {}, "key google-bucket is missing"),
        ("gcp", {"google-bucket": "example-bucket", "google-cred": "x"}, "google-cred is no JSON"),
        ("minio", {"minio-bucket": "b", "minio-endpoint": "http://h"}, "key minio-id is missing"),
        ("minio", {"minio-bucket": "b", "minio-secure": "true"}, "key minio-secure is 'true'"),
        ("ceph", {}, "backend is 'ceph'"),
    ],
)
def test_somebody_elses_secret_is_judged_by_its_keys(backend: str, changes: dict[str, Any], expected: str) -> None:
    content = {**desired(S3), **changes}
    given = {key: value.encode() for key, value in content.items() if value is not None}
    wrong = errors(check_existing(given, backend))
    assert expected in found(wrong)
    assert "aws_" not in found(wrong)


def test_somebody_elses_secret_may_differ_where_pachd_does_not_care() -> None:
    content = {**desired(S3), "other": "x", "google-cred": "y"}
    for key in ("amazon-distribution", "custom-endpoint"):
        del content[key]
    assert check_existing(content, "aws") == []
    del content["retries"]
    (finding,) = check_existing(content, "aws")
    assert (finding.severity, finding.found) == ("warning", "key retries is missing")
    bare = {**content, "retries": "10", "custom-endpoint": "minio:9000", "disable-ssl": "true"}
    assert check_existing(bare, "aws") == []
    assert check_existing({**bare, "custom-endpoint": "http://minio:9000"}, "aws") == []
    front = {**desired(S3), "amazon-distribution": "d", "cloudfrontPrivateKey": "k", "cloudfrontKeyPairId": "i"}
    (finding,) = check_existing(front, "aws")
    assert "plain HTTP" in finding.found
    assert check_existing({}, "local") == []


def test_checksum_follows_what_pachd_reads() -> None:
    first = checksum(desired(S3))
    assert first == checksum({key: value.encode() for key, value in desired(S3).items()})
    assert first == checksum({**desired(S3), "somebody-elses": "key"})
    assert first != checksum(desired(replace(S3, aws_region="eu-west-1")))
    assert len(first) == 32


def test_the_project_of_a_key_file() -> None:
    assert gcp_project(JSON_KEY) == "example-project"
    assert gcp_project("") == ""
    assert gcp_project("[]") == ""
    raise_for([])
