# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups from buckets into buckets: S3 of two makes and Cloud Storage, with real clients and a real etcd."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import google.auth
import pytest
import requests
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin, Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import Source
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import backup_ids, cluster_ids, open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import (
    HELD,
    ObjectExists,
    ObjectLocked,
    Store,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling, key_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access, open_location
from botocore.config import Config
from doubles.etcd import running
from google.oauth2.credentials import Credentials
from moto.server import ThreadedMotoServer
from servers import s3 as versitygw

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "emulators" / "gcp"))
from gcp_emulator.server import Emulator

CLUSTER = "b" * 32
LARGE = bytes(range(256)) * 4096 * 20  # 20 MiB: several parts
OBJECTS = {"block/a": LARGE, "block/a-index": b"i", "object/b": b"record", "tag/t": b"tag", "index/ab": b"index"}


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdClient]:
    with running(tmp_path_factory.mktemp("etcd")) as address, EtcdClient(address, timeout=20) as client:
        client.put(b"cluster-id", CLUSTER.encode())
        for number in range(12):
            client.put(b"k%d" % number, bytes([number]) * 1_000_000)
        yield client


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[versitygw.S3Server]:
    with versitygw.running(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    made = Emulator(tmp_path_factory.mktemp("gcp"))
    made.state.configure({"projects": {"acme": "111111111111"}})
    made.start()
    yield made
    made.stop()


def s3_client(endpoint: str, key: str, secret: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}),
    )


Make = Callable[..., tuple[str, Access]]


@pytest.fixture
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """``make("moto", "bucket")`` makes a bucket and returns its location and the way to it."""

    def build(kind: str, bucket: str, **options: Any) -> tuple[str, Access]:
        if kind == "gcs":
            emulator = request.getfixturevalue("emulator")
            token = emulator.operator("acme")
            monkeypatch.setattr(google.auth, "default", lambda **_unused: (Credentials(token), "acme"))
            answer = requests.post(
                f"{emulator.address}/storage/v1/b",
                params={"project": "acme"},
                json={"name": bucket, **options},
                headers={"Authorization": f"Bearer {token}"},
                verify=str(emulator.ca_file),
                timeout=10,
            )
            assert answer.status_code == 200, answer.text
            return f"gs://{bucket}", Access(endpoint=emulator.address, ca_file=str(emulator.ca_file))
        if kind == "moto":
            endpoint, key, secret = request.getfixturevalue("moto"), "test", "test"
        else:
            server = request.getfixturevalue("gateway")
            endpoint, key, secret = server.address, server.key, server.secret
        place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
        s3_client(endpoint, key, secret).create_bucket(Bucket=bucket, **place, **options)
        return f"s3://{bucket}", Access(region="eu-central-1", endpoint=endpoint, access_key=key, secret_key=secret)

    return build


KINDS = ["moto", "versitygw", "gcs"]
#: How pachd spells its keys in each of them.
SPELLINGS = {"moto": Spelling.REVERSED, "versitygw": Spelling.PLAIN, "gcs": Spelling.SLASH}


def origin(etcd: EtcdClient, source: Store, kind: str) -> Origin:
    own = SPELLINGS[kind]
    others = [each for each in (Spelling.SLASH, Spelling.PLAIN, Spelling.REVERSED) if each is not own]
    return Origin(etcd, source, [own, *others], Source("gcp" if kind == "gcs" else "aws", ""))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bucket_is_backed_up_into_a_bucket(make: Make, etcd: EtcdClient, kind: str) -> None:
    source = open_location(*make(kind, f"source-{kind}"))
    location, access = make(kind, f"store-{kind}")
    store = open_location(f"{location}/a/prefix", access)
    for name, data in OBJECTS.items():
        source.write(key_of(name, SPELLINGS[kind]), [data])
    source.write("foreign/object", [b"x"])
    source.write("README", [b"x"])
    open_location(location, access).write("foreign", [b"x"])
    wishes = Wishes()
    first = back_up(origin(etcd, source, kind), store, wishes)
    assert (first.new_objects, first.foreign) == (len(OBJECTS), 2)
    source.write(key_of("tag/t", SPELLINGS[kind]), [b"new"])
    etcd.put(b"more", b"1")
    second = back_up(origin(etcd, source, kind), store, wishes)
    assert (second.new_objects, second.new_bytes) == (1, 3)
    assert cluster_ids(store) == [CLUSTER]
    ids = backup_ids(store, CLUSTER)
    assert len(ids) == 2
    for backup_id, expected in zip(ids, (OBJECTS, {**OBJECTS, "tag/t": b"new"}), strict=True):
        opened = open_set(store, CLUSTER, backup_id)
        assert {entry.name: b"".join(opened.object(entry)) for entry in opened.index()} == expected
        assert sum(map(len, opened.snapshot())) == opened.manifest.file("etcd.snapshot.zst").raw_size
    manifest = f"{CLUSTER}/backups/{ids[0]}/manifest.json"
    with pytest.raises(ObjectExists):
        store.write(manifest, [b"{}"], if_absent=True)
    with pytest.raises(ObjectExists):
        store.write(manifest, [LARGE], if_absent=True)


def test_a_locked_bucket_keeps_what_it_has_to_keep(make: Make, etcd: EtcdClient) -> None:
    location, access = make("moto", "worm", ObjectLockEnabledForBucket=True)
    client = s3_client(access.endpoint, "test", "test")
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 7}}
    client.put_object_lock_configuration(
        Bucket="worm", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    source, store = open_location(*make("moto", "worm-source")), open_location(location, access)
    for name, data in OBJECTS.items():
        source.write(key_of(name, Spelling.REVERSED), [data])
    manifest = back_up(origin(etcd, source, "moto"), store, Wishes()).manifest
    assert manifest is not None
    assert back_up(origin(etcd, source, "moto"), store, Wishes(), now=later).new_objects == 0
    client.put_object_retention(
        Bucket="worm",
        Key=f"{CLUSTER}/objects/block/a",
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": later()},
    )
    client.put_object_legal_hold(Bucket="worm", Key=f"{CLUSTER}/objects/tag/t", LegalHold={"Status": "ON"})
    until = store.locked_until(f"{CLUSTER}/objects/block/a")
    assert until is not None
    assert until > datetime.now(timezone.utc)
    assert store.locked_until(f"{CLUSTER}/objects/tag/t") == HELD


def later() -> datetime:
    return datetime.now(timezone.utc) + timedelta(hours=1)


def test_a_retention_policy_of_cloud_storage_is_told_from_a_refusal(make: Make) -> None:
    store = open_location(*make("gcs", "retained", retentionPolicy={"retentionPeriod": "3600"}))
    store.write("a", [b"x"])
    with pytest.raises(ObjectLocked, match="retention policy"):
        store.delete("a")
    assert b"".join(store.read("a")) == b"x"


def test_unfinished_uploads_are_swept(make: Make) -> None:
    # moto dates every upload to 2010.
    location, access = make("versitygw", "unfinished")
    client = s3_client(access.endpoint, access.access_key, access.secret_key)
    client.create_multipart_upload(Bucket="unfinished", Key=f"{CLUSTER}/objects/block/x")
    client.create_multipart_upload(Bucket="unfinished", Key="foreign")
    store = open_location(location, access)
    assert store.sweep(f"{CLUSTER}/", datetime.now(timezone.utc) - timedelta(hours=1)) == 0
    assert store.sweep(f"{CLUSTER}/", later()) == 1
    left = client.list_multipart_uploads(Bucket="unfinished")["Uploads"]
    assert [each["Key"] for each in left] == ["foreign"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_bucket_is_named(make: Make, etcd: EtcdClient, kind: str) -> None:
    location, access = make(kind, f"there-{kind}")
    missing = open_location(location.replace("there", "missing"), access)
    with pytest.raises(StorageError, match=f"missing-{kind}"):
        back_up(origin(etcd, open_location(location, access), kind), missing, Wishes())


@pytest.mark.parametrize("method", ["read", "write"])
def test_denied_permissions_of_cloud_storage_are_named(
    make: Make, etcd: EtcdClient, emulator: Emulator, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, access = make("gcs", f"denied-{method}")
    allowed = ("storage.objects.list", *(["storage.objects.get"] if method == "write" else ["storage.objects.create"]))
    source = open_location(location, access)
    source.write(key_of("block/a", Spelling.SLASH), [b"x"])
    token = emulator.operator("acme", number="5", permissions=allowed)
    monkeypatch.setattr(google.auth, "default", lambda **_unused: (Credentials(token), "acme"))
    denied = open_location(location, access)
    with pytest.raises(PachopsError, match=r"403.*(get|create)"):
        back_up(origin(etcd, denied, "gcs"), denied, Wishes())


#: What backing up needs in S3, by the bucket in which it does.
VERBS = {
    "source": ["s3:ListBucket", "s3:GetObject"],
    "backups": ["s3:ListBucket", "s3:GetObject", "s3:PutObject"],
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[str, Any]]:
    """S3 that asks IAM, and a client of IAM that it does not ask about."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    iam = boto3.client(
        "iam", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
    )
    yield endpoint, iam
    requests.post(f"{endpoint}/moto-api/reset-auth", data="inf", timeout=10)
    server.stop()


def grants(verbs: dict[str, list[str]]) -> str:
    """Return a policy with these verbs, each on its bucket or on what is in it."""
    statements = [
        {
            "Effect": "Allow",
            "Action": verb,
            "Resource": f"arn:aws:s3:::{bucket}" + ("" if verb == "s3:ListBucket" else "/*"),
        }
        for bucket, granted in verbs.items()
        for verb in granted
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def test_each_verb_of_s3_is_needed_and_named(guarded: tuple[str, Any], etcd: EtcdClient) -> None:
    endpoint, iam = guarded
    place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    admin = s3_client(endpoint, "t", "t")
    for bucket in VERBS:
        admin.create_bucket(Bucket=bucket, **place)
    admin.put_object(Bucket="source", Key=key_of("block/a", Spelling.PLAIN), Body=b"a")
    lacking = [(bucket, verb) for bucket, verbs in VERBS.items() for verb in verbs]
    users: dict[tuple[str, str] | None, Access] = {}
    for number, missing in enumerate([None, *lacking]):
        verbs = {bucket: [each for each in all_ if (bucket, each) != missing] for bucket, all_ in VERBS.items()}
        iam.create_user(UserName=f"u{number}")
        iam.put_user_policy(UserName=f"u{number}", PolicyName="p", PolicyDocument=grants(verbs))
        key = iam.create_access_key(UserName=f"u{number}")["AccessKey"]
        users[missing] = Access("eu-central-1", endpoint, key["AccessKeyId"], key["SecretAccessKey"])
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=10)

    def attempt(access: Access) -> None:
        source, store = open_location("s3://source", access), open_location("s3://backups/p", access)
        back_up(Origin(etcd, source, [Spelling.PLAIN], Source("aws", "")), store, Wishes())
        # What is verified and restored afterwards is read.
        for backup_id in backup_ids(store, CLUSTER):
            for entry in open_set(store, CLUSTER, backup_id).index():
                b"".join(open_set(store, CLUSTER, backup_id).object(entry))

    def without(bucket: str, verb: str) -> None:
        with pytest.raises(StorageError, match=rf"s3://{bucket}.*AccessDenied"):
            attempt(users[bucket, verb])

    for bucket, verb in lacking:
        if (bucket, verb) != ("backups", "s3:GetObject"):
            without(bucket, verb)
    attempt(users[None])
    without("backups", "s3:GetObject")
