# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3-compatible storage: role aws_storage and object_store_probe on versitygw, which is stricter than moto."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.modules import object_store_probe
from servers.s3 import S3Server


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"acme-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=name)
    return name


def options(server: S3Server, bucket: str, **rest: Any) -> dict[str, Any]:
    return {
        "backend": "aws",
        "bucket": bucket,
        "region": server.region,
        "endpoint_url": server.address,
        "access_key": server.key,
        "secret_key": server.secret,
        **rest,
    }


def test_role_makes_the_bucket_and_nothing_else(
    play_role: Any, step: Any, run_module: Any, server: S3Server, s3: Any, tmp_path: Path
) -> None:
    name = f"acme-{secrets.token_hex(4)}"
    path = tmp_path / "credentials"
    path.write_text(f"[default]\naws_access_key_id = {server.key}\naws_secret_access_key = {server.secret}\n")
    path.chmod(0o600)
    base = {
        "aws_storage_bucket": name,
        "aws_storage_region": server.region,
        "aws_storage_s3_compatible": True,
        "aws_storage_identity": "provided",
        "aws_storage_credentials_file": str(path),
        "aws_storage_endpoint_url": server.address,
        "aws_storage_access_key": server.key,
        "aws_storage_secret_key": server.secret,
    }
    played = play_role("aws_storage", base, step("first"), step("again"), flags=("-vvv", "--diff"))
    assert not played.failed, played.output[-3000:]
    assert played.changed == {"first": 1, "again": 0}
    assert server.secret not in played.output
    given = {key: value for key, value in options(server, name).items() if key not in ("access_key", "secret_key")}
    result = run_module(object_store_probe.main, **given, aws_credentials_file=str(path))
    assert not result.failed, result
    s3.put_object(Bucket=name, Key="x", Body=b"x")
    gone = play_role("aws_storage", base, step("data", "remove", aws_storage_remove_data=name))
    assert gone.changed == {"data": 1}, gone.output[-3000:]
    assert name not in [item["Name"] for item in s3.list_buckets()["Buckets"]]


def test_sound_bucket(run_module: Any, server: S3Server, s3: Any, bucket: str) -> None:
    result = run_module(object_store_probe.main, **options(server, bucket))
    assert not result.failed, result
    assert {item["severity"] for item in result["findings"]} == {"ok"}
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["0a/kcolb/hcap", "1b/tcejbo/hcap"], ""),
        (["pach/block/a0"], "Set reverse: false"),
        (["0a/kcolb/hcap", "pach/object/b1"], "mixture"),
    ],
)
def test_spelling(run_module: Any, server: S3Server, s3: Any, bucket: str, keys: list[str], words: str) -> None:
    """A listing of a hierarchy of directories orders keys in another way than moto's flat one."""
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    result = run_module(object_store_probe.main, **options(server, bucket))
    assert result.failed == bool(words), result
    assert words in result.get("msg", "")


def test_bad_key_bucket_and_region(run_module: Any, server: S3Server, bucket: str) -> None:
    """Signatures are checked here, which moto leaves out: each mistake has its own message."""
    wrong = run_module(object_store_probe.main, **options(server, bucket, secret_key="another-secret"))
    assert "credentials are refused: SignatureDoesNotMatch" in wrong["msg"]
    unknown = run_module(object_store_probe.main, **options(server, bucket, access_key="nobody"))
    assert "credentials are refused: XAdminUserNotFound" in unknown["msg"]
    missing = run_module(object_store_probe.main, **options(server, "no-such-bucket"))
    assert "s3://no-such-bucket does not exist" in missing["msg"]
    elsewhere = run_module(object_store_probe.main, **options(server, bucket, region="us-west-2"))
    assert elsewhere.failed
    assert f"is in region {server.region}, not in us-west-2" in elsewhere["msg"]
    for result in (wrong, unknown, missing, elsewhere):
        assert server.secret not in json.dumps(result)


def test_clock_that_is_off(run_module: Any, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is signed an hour late, by a host whose clock says so."""
    import datetime
    import time
    from types import SimpleNamespace

    import botocore.auth
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores import probe_s3

    monkeypatch.setattr(probe_s3, "time", SimpleNamespace(time=lambda: time.time() - 3600))
    late = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_given: late.replace(tzinfo=None))
    result = run_module(object_store_probe.main, **options(server, bucket))
    assert result.failed
    assert re.search(r"this host's clock is 3(59|60)\d s off", result["msg"]), result["msg"]


def test_authority_of_ones_own(run_module: Any, secure: tuple[S3Server, Path]) -> None:
    server, authority = secure
    untrusted = run_module(object_store_probe.main, **options(server, "any"))
    assert "TLS" in untrusted["msg"]
    assert "Name the authority's certificate" in untrusted["msg"]
    trusted = run_module(object_store_probe.main, **options(server, "any", ca_file=str(authority)))
    assert "s3://any does not exist" in trusted["msg"]
    plain = run_module(
        object_store_probe.main, **options(server, "any", endpoint_url=server.address.replace("https", "http"))
    )
    assert plain.failed
