# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role aws_storage, run by ansible-playbook against moto."""

from __future__ import annotations

import configparser
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

REGION = "eu-central-1"
BUCKET = "acme-pachyderm"
ISSUER = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE"


@pytest.fixture
def base(aws: Any) -> dict[str, Any]:
    return {
        "aws_storage_bucket": BUCKET,
        "aws_storage_region": REGION,
        "aws_storage_oidc_issuer": ISSUER,
        "aws_storage_endpoint_url": aws.address,
        "aws_storage_iam_endpoint_url": aws.address,
        "aws_storage_sts_endpoint_url": aws.address,
        "aws_storage_access_key": "test",
        "aws_storage_secret_key": "an-operators-secret",
    }


def test_irsa_from_nothing_to_nothing(play_role: Any, step: Any, base: Any, aws: Any) -> None:
    played = play_role("aws_storage", base, step("plan", check=True))
    assert not played.failed, played.output[-3000:]
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.client("iam").list_roles()["Roles"] == []
    played = play_role(
        "aws_storage",
        base,
        step("first"),
        step("again"),
        step("planned_again", check=True),
        step("misspelt", aws_storage_buckte="x"),
        step("elsewhere", aws_storage_region="us-west-2"),
        step("pod", aws_storage_identity="pod_identity"),
        step("removal_by_default", "remove"),
    )
    assert played.failed == {"misspelt", "elsewhere", "pod"}, played.output[-4000:]
    assert played.changed["first"] == 5
    assert {name: count for name, count in played.changed.items() if count} == {"first": 5}
    for words in ("aws_storage_buckte", "is in region eu-central-1", "loopback addresses"):
        assert words in played.output
    iam, s3 = aws.client("iam"), aws.client("s3")
    trust = iam.get_role(RoleName="pachyderm")["Role"]["AssumeRolePolicyDocument"]["Statement"]
    name = ISSUER.removeprefix("https://")
    assert trust[0]["Condition"]["StringEquals"] == {
        f"{name}:aud": "sts.amazonaws.com",
        f"{name}:sub": [
            "system:serviceaccount:pachyderm:pachyderm",
            "system:serviceaccount:pachyderm:pachyderm-worker",
        ],
    }
    assert iam.list_instance_profiles()["InstanceProfiles"] == []
    assert s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"]
    policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert [item["Sid"] for item in policy["Statement"]] == ["PachopsDenyWithoutTls"]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rules[0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7

    s3.delete_bucket_policy(Bucket=BUCKET)  # moto evaluates it, and is spoken to without TLS
    s3.put_object(Bucket=BUCKET, Key="x", Body=b"x")
    gone = play_role(
        "aws_storage",
        base,
        step("wrong_name", "remove", aws_storage_remove_data="acme-pachydrem"),
        step("identity", "remove", aws_storage_remove_identity=True),
        step("data", "remove", aws_storage_remove_data=BUCKET),
        step("nothing", "remove", aws_storage_remove_identity=True, aws_storage_remove_data=BUCKET),
    )
    assert gone.failed == {"wrong_name"}
    assert gone.changed == {"wrong_name": 0, "identity": 1, "data": 1, "nothing": 0}
    assert len(iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]) == 1  # others may use it


def test_statements_of_others_stay_in_the_bucket_policy(play_role: Any, step: Any, base: Any, aws: Any) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    theirs = {"Sid": "Audit", "Effect": "Deny", "Principal": "*", "Action": "s3:PutBucketLogging", "Resource": "*"}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [theirs]}))
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    base["aws_storage_identity"] = "vault"
    played = play_role("aws_storage", base, step("first"), step("again"))
    assert not played.failed, played.output[-3000:]
    assert played.changed["again"] == 0
    statements = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert theirs in statements
    assert {item["Sid"] for item in statements} == {"Audit", "PachopsDenyWithoutTls"}
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"


def test_static_key_is_rotated_with_overlap_and_never_printed(
    play_role: Any, step: Any, base: Any, aws: Any, tmp_path: Path
) -> None:
    path = tmp_path / "credentials"
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    base.update(
        aws_storage_identity="static_keys", aws_storage_credentials_file=str(path), aws_storage_bucket_mode="existing"
    )
    first = play_role("aws_storage", base, step("first"), flags=("-vvv", "--diff"))
    assert not first.failed, first.output[-3000:]
    assert first.changed == {"first": 4}  # user, grant, key, file
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    old = _key(path)
    second = play_role(
        "aws_storage",
        base,
        step("rotate", aws_storage_key_rotate=True),
        step("within_overlap"),
        step("after_overlap", aws_storage_key_overlap=0),
        flags=("-vvv", "--diff"),
    )
    assert not second.failed, second.output[-3000:]
    assert second.changed["within_overlap"] == 0
    assert second.changed["after_overlap"] == 1
    new = _key(path)
    iam = aws.client("iam")
    held = iam.list_access_keys(UserName="pachyderm")["AccessKeyMetadata"]
    assert [item["AccessKeyId"] for item in held] == [new[0]] != [old[0]]
    gone = play_role(
        "aws_storage",
        base,
        step("identity", "remove", aws_storage_remove_identity=True),
        step("nothing", "remove", aws_storage_remove_identity=True, aws_storage_remove_data=BUCKET),
    )
    assert not gone.failed, gone.output[-3000:]
    assert gone.changed == {"identity": 2, "nothing": 0}  # user with key and grant, file; the bucket was there before
    assert iam.list_users()["Users"] == []
    assert not path.exists()
    for output in (first.output, second.output, gone.output):
        for secret in (old[1], new[1], "an-operators-secret"):
            assert secret not in output


def _key(path: Path) -> tuple[str, str]:
    parser = configparser.ConfigParser()
    parser.read(path)
    return parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]


def test_store_that_is_not_aws_is_asked_for_nothing_but_a_bucket(
    play_role: Any, step: Any, base: Any, aws: Any, tmp_path: Path
) -> None:
    base = {key: value for key, value in base.items() if "iam" not in key and "sts" not in key}
    base.update(aws_storage_s3_compatible=True, aws_storage_oidc_issuer="")
    played = play_role(
        "aws_storage",
        base,
        step("without_identity"),
        step("first", aws_storage_identity="provided", aws_storage_credentials_file=str(tmp_path / "c")),
        step("again", aws_storage_identity="provided", aws_storage_credentials_file=str(tmp_path / "c")),
    )
    assert played.failed == {"without_identity"}, played.output[-3000:]
    assert "stores have no IAM" in played.output
    assert (played.changed["first"], played.changed["again"]) == (1, 0)
    with pytest.raises(ClientError):
        aws.client("s3").get_bucket_policy(Bucket=BUCKET)
