# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""object_store_probe on S3, and the grant of role aws_storage evaluated by moto: not too narrow, not too wide."""

from __future__ import annotations

import base64
import configparser
import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.modules import iam_oidc_provider, object_store_probe
from botocore.exceptions import ClientError

REGION = "eu-central-1"
BUCKET = "acme-pachyderm"
# What the grant must not allow, as (service, method, arguments).
FORBIDDEN = (
    ("s3", "delete_bucket", {"Bucket": BUCKET}),
    ("s3", "put_bucket_policy", {"Bucket": BUCKET, "Policy": "{}"}),
    ("s3", "put_bucket_versioning", {"Bucket": BUCKET, "VersioningConfiguration": {"Status": "Suspended"}}),
    ("s3", "put_object_tagging", {"Bucket": BUCKET, "Key": "mine", "Tagging": {"TagSet": []}}),
    ("s3", "get_object_tagging", {"Bucket": BUCKET, "Key": "mine"}),
    ("s3", "list_objects_v2", {"Bucket": "another-bucket"}),
    ("s3", "put_object", {"Bucket": "another-bucket", "Key": "x", "Body": b""}),
    ("s3", "get_object", {"Bucket": "another-bucket", "Key": "theirs"}),
    ("iam", "list_users", {}),
    ("iam", "create_access_key", {"UserName": "pachyderm"}),
)


def allowed_beyond(aws: Any, key: tuple[str, str]) -> list[str]:
    """The forbidden calls that are allowed all the same."""
    found = []
    for service, method, arguments in FORBIDDEN:
        try:
            getattr(aws.client(service, *key), method)(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("AccessDenied", "403", "UnauthorizedOperation"):
                continue
        found.append(f"{service}:{method}")
    return found


@pytest.fixture
def user(aws: Any) -> tuple[str, str]:
    """A user without any grant, and two buckets."""
    iam, s3 = aws.client("iam"), aws.client("s3")
    iam.create_user(UserName="pachyderm")
    key = iam.create_access_key(UserName="pachyderm")["AccessKey"]
    for name in (BUCKET, "another-bucket"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="another-bucket", Key="theirs", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="mine", Body=b"x")
    return key["AccessKeyId"], key["SecretAccessKey"]


def options(aws: Any, key: tuple[str, str], **rest: Any) -> dict[str, Any]:
    return {
        "backend": "aws",
        "bucket": BUCKET,
        "region": REGION,
        "endpoint_url": aws.address,
        "access_key": key[0],
        "secret_key": key[1],
        **rest,
    }


def test_grant_of_the_role(play_role: Any, step: Any, run_module: Any, aws: Any, user: Any, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    base = {
        "aws_storage_bucket": BUCKET,
        "aws_storage_region": REGION,
        "aws_storage_bucket_mode": "existing",
        "aws_storage_identity": "static_keys",
        "aws_storage_credentials_file": str(path),
        "aws_storage_endpoint_url": aws.address,
        "aws_storage_iam_endpoint_url": aws.address,
        "aws_storage_sts_endpoint_url": aws.address,
        "aws_storage_access_key": "test",
        "aws_storage_secret_key": "test",
    }
    played = play_role("aws_storage", base, step("first"))
    assert not played.failed, played.output[-3000:]
    parser = configparser.ConfigParser()
    parser.read(path)
    key = (parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"])
    iam = aws.client("iam")
    policy = iam.get_user_policy(UserName="pachyderm", PolicyName="pachyderm-bucket")["PolicyDocument"]

    def judge(document: Any) -> tuple[Any, list[str]]:
        aws.enforce(after=10**9)
        iam.put_user_policy(UserName="pachyderm", PolicyName="pachyderm-bucket", PolicyDocument=json.dumps(document))
        aws.enforce()
        file = {"aws_credentials_file": str(path)}
        given = {name: value for name, value in options(aws, key).items() if name not in ("access_key", "secret_key")}
        return run_module(object_store_probe.main, **given, **file), allowed_beyond(aws, key)

    result, beyond = judge(policy)
    assert not result.failed, result
    assert beyond == []
    # Each action taken away is noticed, and named.
    for action in ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        narrow = copy.deepcopy(policy)
        for statement in narrow["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            statement["Action"] = [item for item in actions if item != action] or ["s3:GetBucketTagging"]
        result, _beyond = judge(narrow)
        assert result.failed, action
        assert action in result["denied"]
    # And each widening.
    for wider in ({"Action": "s3:*", "Resource": "*"}, {"Action": "s3:*"}, {"Action": "*", "Resource": "*"}):
        wide = copy.deepcopy(policy)
        wide["Statement"][1].update(wider)
        assert judge(wide)[1]


def test_acl_right_is_limited_to_the_one_that_pachd_sends(root: Path) -> None:
    """Moto does not evaluate conditions, so this one is held against the text."""
    import yaml

    variables = yaml.safe_load((root / "roles/aws_storage/vars/main.yml").read_text())
    (statement,) = variables["__aws_storage_acl_statements"]
    assert statement["Action"] == "s3:PutObjectAcl"
    assert statement["Condition"] == {"StringEquals": {"s3:x-amz-acl": "{{ aws_storage_upload_acl }}"}}


def test_sound_bucket(run_module: Any, aws: Any, user: Any) -> None:
    result = run_module(object_store_probe.main, **options(aws, user))
    assert not result.failed, result
    assert [item["Key"] for item in aws.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]] == ["mine"]
    assert not run_module(object_store_probe.main, **options(aws, user), check_mode=True).failed


@pytest.mark.parametrize(
    ("keys", "reverse", "words"),
    [
        (["a/kcolb/hcap", "b/tcejbo/hcap"], True, ""),
        (["pach/block/a"], False, ""),
        (["pach/block/a"], True, "Set reverse: false"),
        (["a/kcolb/hcap"], False, "Set reverse: true"),
        (["a/kcolb/hcap", "pach/block/b"], True, "mixture"),
        (["unrelated"], True, ""),
    ],
)
def test_spelling(run_module: Any, aws: Any, user: Any, keys: list[str], reverse: bool, words: str) -> None:
    for key in keys:
        aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"")
    result = run_module(object_store_probe.main, **options(aws, user, reverse=reverse))
    assert result.failed == bool(words)
    assert words in result.get("msg", "")


def test_bad_bucket_credentials_and_endpoint(run_module: Any, aws: Any, user: Any) -> None:
    missing = run_module(object_store_probe.main, **{**options(aws, user), "bucket": "no-such-bucket"})
    assert "s3://no-such-bucket does not exist" in missing["msg"]
    nobody = run_module(object_store_probe.main, **{**options(aws, user), "endpoint_url": "http://127.0.0.1:1"})
    assert "cannot be reached" in nobody["msg"]
    aws.enforce()
    stranger = run_module(object_store_probe.main, **options(aws, ("AKIAUNKNOWN", "x" * 40)))
    assert stranger.failed
    assert "credentials are refused" in stranger["msg"]
    assert "x" * 40 not in json.dumps(stranger)


@pytest.mark.parametrize(
    ("code", "headers", "words"),
    [
        ("PermanentRedirect", {"x-amz-bucket-region": "us-west-2"}, "is in region us-west-2, not in eu-central-1"),
        ("AuthorizationHeaderMalformed", {"x-amz-bucket-region": "us-west-2"}, "is in region us-west-2"),
        ("RequestTimeTooSkewed", {"date": "Sun, 22 Nov 2026 00:00:00 GMT"}, "clock is"),
        ("ExpiredToken", {}, "credentials are refused: ExpiredToken"),
        ("AccessControlListNotSupported", {}, "takes no ACLs"),
        ("AccessDenied", {}, "s3:ListBucket is denied"),
        ("SlowDown", {}, "SlowDown"),
    ],
)
def test_what_aws_answers_and_moto_does_not(code: str, headers: dict[str, str], words: str) -> None:
    """Through botocore's own stub: these answers are AWS's, and moto never gives them."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores import probe, probe_s3
    from botocore.stub import Stubber

    target = probe_s3.S3Target(probe_s3.S3Access(BUCKET, REGION, access_key="k", secret_key="s"))
    with Stubber(target._client) as stub:
        for method in ("list_objects_v2", "get_object"):
            stub.add_client_error(method, service_error_code=code, response_meta={"HTTPHeaders": headers})
        findings = probe.probe(target, None, read_only=True).findings
    assert words in findings[0].found


def test_acl_denial_is_told_apart() -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores import probe_s3
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.probe import Refused
    from botocore.stub import Stubber

    target = probe_s3.S3Target(probe_s3.S3Access(BUCKET, REGION, access_key="k", secret_key="s"))
    with Stubber(target._client) as stub:
        stub.add_client_error("put_object", service_error_code="AccessDenied")
        stub.add_response("put_object", {})
        with pytest.raises(Refused, match="s3:PutObjectAcl is denied"):
            target.write("k", b"")


ISSUER = "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE"


def issued(account: str, audience: str = "sts.amazonaws.com", issuer: str = ISSUER, seconds: int = 900) -> str:
    """A token of ``namespace:name`` as a cluster issues it; its signature is not looked at."""
    now = int(time.time())
    claims = {"iss": f"https://{issuer}", "sub": f"system:serviceaccount:{account}", "aud": [audience], "iat": now}
    body = base64.urlsafe_b64encode(json.dumps({**claims, "exp": now + seconds}).encode()).decode().rstrip("=")
    return f"e30.{body}.c2lnbmF0dXJl"


def test_irsa_chain(run_module: Any, aws: Any, user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that the cluster issued is exchanged at STS; who the role trusts, and what it may do, decides."""
    iam = aws.client("iam")
    provider = iam.create_open_id_connect_provider(Url=f"https://{ISSUER}", ClientIDList=["sts.amazonaws.com"])
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": provider["OpenIDConnectProviderArn"]},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                f"{ISSUER}:aud": "sts.amazonaws.com",
                f"{ISSUER}:sub": ["system:serviceaccount:pachyderm:pachyderm"],
            }
        },
    }
    trust = {"Version": "2012-10-17", "Statement": [statement]}
    iam.create_role(RoleName="pachyderm", AssumeRolePolicyDocument=json.dumps(trust))
    allow = [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"},
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"arn:aws:s3:::{BUCKET}/*"},
    ]
    document = {"Version": "2012-10-17", "Statement": allow}
    iam.put_role_policy(RoleName="pachyderm", PolicyName="p", PolicyDocument=json.dumps(document))
    asked = []

    def token(given: dict[str, Any], audience: str) -> str:
        asked.append((given["namespace"], given["service_account"], audience))
        return issued(f"{given['namespace']}:{given['service_account']}", audience)

    monkeypatch.setattr(object_store_probe, "issued_token", token)
    arn = iam.get_role(RoleName="pachyderm")["Role"]["Arn"]
    given = {key: value for key, value in options(aws, user).items() if key not in ("access_key", "secret_key")}
    aws.enforce(after=1)  # STS answers; then the role's policy counts
    result = run_module(object_store_probe.main, **given, role_arn=arn, sts_endpoint_url=aws.address, upload_acl="")
    assert asked == [("pachyderm", "pachyderm", "sts.amazonaws.com")]
    assert result.failed
    assert result["denied"] == ["s3:DeleteObject"]
    aws.enforce(after=10**9)
    assume = {**given, "role_arn": arn, "sts_endpoint_url": aws.address}
    strangers = {
        "Not authorized to perform sts:AssumeRoleWithWebIdentity": issued("another:pachyderm"),
        "Incorrect token audience": issued("pachyderm:pachyderm", "another"),
        "No OpenIDConnect provider found": issued("pachyderm:pachyderm", issuer="oidc.example.com"),
        "Token expired": issued("pachyderm:pachyderm", seconds=-1),
    }
    for words, stranger in strangers.items():
        monkeypatch.setattr(object_store_probe, "issued_token", lambda *_given, stranger=stranger: stranger)
        refused = run_module(object_store_probe.main, **assume)
        assert refused.failed
        assert words in refused["msg"]
        assert "trust policy" in refused["msg"]
        assert stranger not in json.dumps(refused)


def test_missing_audience_is_added() -> None:
    """Through botocore's stub: moto does not have this call."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.aws import oidc
    from botocore.stub import Stubber

    arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/id/E"
    iam = oidc.connect({"access_key": "k", "secret_key": "s"})
    with Stubber(iam) as stub:
        stub.add_response("list_open_id_connect_providers", {"OpenIDConnectProviderList": [{"Arn": arn}]})
        stub.add_response("get_open_id_connect_provider", {"ClientIDList": ["other"]})
        stub.add_response(
            "add_client_id_to_open_id_connect_provider",
            {},
            {"OpenIDConnectProviderArn": arn, "ClientID": "sts.amazonaws.com"},
        )
        change = oidc.ensure(iam, "https://oidc.example.com/id/E")
        stub.assert_no_pending_responses()
    assert change.action == "updated"
    assert change.after["audiences"] == ["other", "sts.amazonaws.com"]


def test_oidc_provider(run_module: Any, aws: Any) -> None:
    given = {
        "url": "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE",
        "endpoint_url": aws.address,
        "access_key": "test",
        "secret_key": "test",
    }
    planned = run_module(iam_oidc_provider.main, **given, check_mode=True)
    assert planned.changed
    assert aws.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
    made = run_module(iam_oidc_provider.main, **given, diff=True)
    assert made["provider"]["arn"].endswith("oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE")
    assert not run_module(iam_oidc_provider.main, **given).changed
    assert run_module(iam_oidc_provider.main, **{**given, "url": "http://x"}).failed
    assert run_module(iam_oidc_provider.main, **given, state="absent").changed
    assert not run_module(iam_oidc_provider.main, **given, state="absent").changed
