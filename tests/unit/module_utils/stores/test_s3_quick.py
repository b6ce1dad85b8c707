# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short way to S3: its signature is the SDK's, and what it cannot do the SDK does."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import botocore.auth
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores import s3_quick
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import ObjectExists, ObjectMissing
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.s3 import S3Options, S3Store
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from doubles.buckets import Bucket, served

NOW = dt.datetime(2026, 1, 31, 23, 59, 59, tzinfo=dt.timezone.utc)
STAMP = "20260131T235959Z"


@pytest.mark.parametrize("origin", ["", "bucket/block/%C3%A4"])
@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/bucket/block/0123", ""),
        ("/bucket/%C3%A4%20b%2Bc~d", ""),
        ("/bucket//pach/x", ""),
        ("/bucket", "continuation-token=a%2Bb%3D&encoding-type=url&list-type=2&prefix=a%2Fb"),
    ],
)
def test_the_signature_is_the_sdks(path: str, query: str, token: str | None, origin: str) -> None:
    body = b"content"
    address = s3_quick.Address("https", "s3.example:9000", "/bucket/", "eu-west-1")
    digest = hashlib.sha256(body).hexdigest()
    ours = s3_quick.signed(address, s3_quick.Keys("id", "secret", token), "PUT", path, query, digest, STAMP, origin)
    url = f"https://{address.host}{path}" + (f"?{query}" if query else "")
    request = AWSRequest("PUT", url, data=body, headers={"x-amz-copy-source": origin} if origin else {})
    request.context["payload_signing_enabled"] = True
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=NOW):
        botocore.auth.S3SigV4Auth(Credentials("id", "secret", token), "s3", "eu-west-1").add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with served() as made:
        yield made


@pytest.fixture
def store(bucket: Bucket) -> S3Store:
    return S3Store(S3Options("bucket", "eu-west-1", endpoint=bucket.url, access_key="a", secret_key="b", retries=2))


@pytest.fixture
def sdk(store: S3Store) -> list[str]:
    """The names of the operations that the SDK did."""
    done: list[str] = []
    store._client.meta.events.register("before-call.s3.*", lambda model, **_more: done.append(model.name))
    return done


def test_a_connection_serves_one_reader_at_a_time(store: S3Store) -> None:
    for name in "abc":
        store.write(name, [name.encode()])
    quick = store._quick
    assert quick

    def begun(name: str) -> Iterator[bytes]:
        answered = quick.get(name)
        assert answered
        return answered[0]

    first = begun("a")
    assert next(first) == b"a"
    second = begun("b")  # on the connection that has become free
    assert next(first, None) is None
    third = begun("c")
    assert [b"".join(second), b"".join(third)] == [b"b", b"c"]


def test_the_ordinary_goes_the_short_way(store: S3Store, bucket: Bucket, sdk: list[str]) -> None:
    names = {f"block/{number}ä +%": b"x" * number for number in (0, 1, 3_000_000)}
    for name, content in names.items():
        store.write(name, [content], if_absent=True)
    assert bucket.objects == names
    assert {name: b"".join(store.read(name)) for name in names} == names
    assert {each.key: each.size for each in store.list("block/")} == {name: len(data) for name, data in names.items()}
    assert sdk == []


def test_copies_go_the_short_way(store: S3Store, bucket: Bucket, sdk: list[str]) -> None:
    store.write("block/ä +", [b"1"])
    assert store.copy_from(store, "block/ä +", "+ ä/kcolb", 1)
    assert bucket.objects["+ ä/kcolb"] == b"1"
    assert sdk == []
    bucket.late = True
    assert store.copy_from(store, "block/ä +", "again", 1), "a copy that failed in the end is made by the SDK"
    assert sdk == ["CopyObject"]


def test_a_refusal_is_the_sdks_error(store: S3Store, bucket: Bucket, sdk: list[str]) -> None:
    store.write("a", [b"1"])
    with pytest.raises(ObjectExists):
        store.write("a", [b"2"], if_absent=True)
    with pytest.raises(ObjectMissing):
        store.read("b")
    bucket.fail = 403
    for attempt in (lambda: store.write("a", [b"3"]), lambda: list(store.list())):
        with pytest.raises(StorageError, match=r"403|AccessDenied"):
            attempt()
    assert sdk == []


@pytest.mark.parametrize("status", [500, 503, 0])
def test_what_passes_is_tried_again_by_the_sdk(store: S3Store, bucket: Bucket, sdk: list[str], status: int) -> None:
    bucket.passing = [status]
    store.write("a", [b"1"])
    bucket.passing = [status]
    assert b"".join(store.read("a")) == b"1"
    bucket.passing = [status]
    assert [each.key for each in store.list()] == ["a"]
    assert sdk == ["PutObject", "GetObject", "ListObjectsV2"]


def test_a_listing_in_parts_goes_either_way(store: S3Store, sdk: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"p/{digit}{number}" for digit in "048c" for number in range(4)]
    for name in names:
        store.write(name, [b"x"])
    assert sorted(each.key for each in store.list_parts("p/", ["p/4", "p/8", "p/c"])) == names
    assert sdk == []
    monkeypatch.setitem(vars(store), "_quick", None)
    assert sorted(each.key for each in store.list_parts("p/", ["p/4", "p/8", "p/c"])) == names
    assert set(sdk) == {"ListObjectsV2"}


def test_odd_answers_end_it(store: S3Store, bucket: Bucket, sdk: list[str]) -> None:
    for number in range(5):
        bucket.passing = [409] if number < 3 else []
        store.write("a", [b"1"])
    assert sdk == ["PutObject"] * 5, "after three odd answers it is the SDK's"
    assert len(bucket.requests) == 3 * 2 + 2


def test_proxies_and_unchecked_certificates_are_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    def way(**options: Any) -> object:
        given = {"endpoint": "https://s3.example", "access_key": "a", "secret_key": "b"}
        return S3Store(S3Options("bucket", "eu-west-1", **{**given, **options}))._quick

    assert way()
    assert way(endpoint="") is not None
    assert way(verify=False) is None
    assert way(signature_version="s3") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    assert way() is None
