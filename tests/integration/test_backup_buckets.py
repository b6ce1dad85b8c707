# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups from buckets into buckets: S3 of two makes and Cloud Storage, with real clients and a real etcd."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import google.auth
import pytest
import requests
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import read_catalogue, record
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin, Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import Source
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.prune import carry_out, make_plan
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.retention import Policy
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import backup_ids, cluster_ids, open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import verify
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.engine import Options, Restorer
from ansible_collections.pachops.pachyderm.plugins.module_utils.status import backups_in
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import (
    HELD,
    ObjectExists,
    ObjectLocked,
    Store,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling, key_of, name_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access, open_location
from botocore.config import Config
from doubles import backups, genuine
from doubles.etcd import running
from doubles.restoring import NAMESPACE, RestoringApi, RestoringKube, connect, etcds, genuine_set
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_genuine_installation_restored_to_each_kind_of_bucket_answers_its_truth(
    make: Make, kind: str, tmp_path: Path
) -> None:
    """The backup is of a directory; pachd is a double that reads the etcd and the bucket as it would."""
    location, access = make(kind, f"restored-{kind}")
    bucket = location.partition("://")[2]
    secret = {"google-bucket": bucket} if kind == "gcs" else {"amazon-bucket": bucket, "amazon-region": "eu-central-1"}
    secret |= {"reverse": "true"} if SPELLINGS[kind] is Spelling.REVERSED else {}
    api = RestoringApi(tmp_path, backend="gcp" if kind == "gcs" else "aws")
    api.keep_secret(secret)
    api.elsewhere = Objects(open_location(location, access), SPELLINGS[kind])
    api.fill(b"empty")
    needed = ("block/", "object/", "tag/")  # pachd writes indexes itself
    objects = {name: data for name, data in backups.real_objects().items() if name.startswith(needed)}
    opened = genuine_set(DirectoryStore(tmp_path / "store", private=True), objects)
    options = Options(level="used", access=access)
    restorer = Restorer(RestoringKube(api, patience=0.0), NAMESPACE, options, etcds=etcds, connect=connect)
    outcome = restorer.restore(opened)
    assert (outcome.journal.state, outcome.written) == ("restored", len(objects))
    found = DirectoryStore(tmp_path / "found")
    for each in api.elsewhere.store.list():
        # All of it under pachd's own names, each read once.
        found.write(name_of(each.key, SPELLINGS[kind]) or "foreign", api.elsewhere.store.read(each.key))
    assert {each.key for each in found.list()} == set(objects)
    with State.open(api.volume() / "member" / "db", Objects(found, Spelling.DIRECTORY)) as state:
        genuine.check_truth(state)


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


# Rights: what docs/backups.md lists for each run is enough, and each of it is needed.

TURNS = itertools.count(1)
SMALL = {"block/a": b"data", "tag/t": b"tag"}
Run = Callable[[EtcdClient, str, Store, Store], None]


def run_backup(etcd: EtcdClient, kind: str, source: Store, store: Store) -> None:
    # Two of the same second and revision would be in each other's way.
    moment = datetime.now(timezone.utc) + timedelta(minutes=next(TURNS))
    assert back_up(origin(etcd, source, kind), store, Wishes(), now=lambda: moment).made


def run_verify(_etcd: EtcdClient, _kind: str, _source: Store, store: Store) -> None:
    backup = read_catalogue(store, CLUSTER).find("latest")
    found = record(store, CLUSTER, verify(open_set(store, CLUSTER, backup.id), "digest"))
    assert found.passed, found.findings


def run_prune(_etcd: EtcdClient, _kind: str, _source: Store, store: Store) -> None:
    def index_of(backup_id: str) -> Iterator[str]:
        return (entry.key for entry in open_set(store, CLUSTER, backup_id).index())

    now = later() + timedelta(days=2)
    plan = make_plan(store, CLUSTER, Policy(last=1), now, index_of)
    assert plan.deletions
    carry_out(store, plan, now)


def run_status(_etcd: EtcdClient, _kind: str, _source: Store, store: Store) -> None:
    found = backups_in(store, CLUSTER, None, datetime.now(timezone.utc))
    # None was verified as deeply as that.
    assert re.fullmatch(r"none of \d+ backups is verified", found["trouble"]), found["trouble"]


RUNS: dict[str, Run] = {"backup": run_backup, "verify": run_verify, "prune": run_prune, "status": run_status}
SOURCE, STORE = "the installation's", "the backups'"
#: Needed only once something has gone wrong.
UNNOTICED = {"s3:AbortMultipartUpload"}


def documented(column: int) -> dict[str, dict[str, list[str]]]:
    """What the page says, by run and bucket; ``column`` 2 is S3, 3 Cloud Storage."""
    page = (Path(__file__).resolve().parents[2] / "docs/backups.md").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = {}
    for line in page.partition("### In the clouds")[2].splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in RUNS:
            found.setdefault(cells[0], {})[cells[1]] = re.findall(r"`([\w:.]+)`", cells[column])
    assert set(found) == set(RUNS)
    return found


def filled(etcd: EtcdClient, kind: str, source: Store, store: Store) -> None:
    """An installation with objects, and two backups of it, with something for prune to delete."""
    for name, data in SMALL.items():
        source.write(key_of(name, SPELLINGS[kind]), [data])
    for _turn in range(2):
        run_backup(etcd, kind, source, store)


def test_every_action_that_is_documented_for_s3_is_needed_and_they_suffice(make: Make, etcd: EtcdClient) -> None:
    location, access = make("moto", "rights-source")
    kept, _access = make("moto", "rights-store")
    iam = boto3.client(
        "iam",
        endpoint_url=access.endpoint,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    iam.create_user(UserName="run")
    key = iam.create_access_key(UserName="run")["AccessKey"]
    own = replace(access, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])
    source, store = open_location(location, access), open_location(kept, access)
    own_source, own_store = open_location(location, own), open_location(kept, own)
    filled(etcd, "moto", source, store)

    def enforce(after: int) -> None:
        requests.post(f"{access.endpoint}/moto-api/reset-auth", data=str(after), timeout=10)

    def go(run: str, grants: dict[str, list[str]]) -> None:
        statements = []
        for bucket, name in ((SOURCE, "rights-source"), (STORE, "rights-store")):
            for action in grants.get(bucket, ()):
                place = name if action.startswith("s3:List") else f"{name}/*"
                statements.append({"Effect": "Allow", "Action": action, "Resource": f"arn:aws:s3:::{place}"})
        # Something new that a backup has to read, and something that no backup names.
        source.write(key_of(f"block/{next(TURNS)}", Spelling.REVERSED), [b"more"])
        store.write(f"{CLUSTER}/objects/block/orphan", [b"less"])
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName="run", PolicyName="run", PolicyDocument=policy)
        enforce(0)
        try:
            RUNS[run](etcd, "moto", own_source, own_store)
        finally:
            enforce(10**9)

    for run, grants in documented(2).items():
        for bucket, actions in grants.items():
            for action in actions:
                fewer = {**grants, bucket: [each for each in actions if each != action]}
                if action in UNNOTICED:
                    continue
                with pytest.raises((PachopsError, AssertionError)) as refused:
                    go(run, fewer)
                place = "rights-source" if bucket == SOURCE else "rights-store"
                place += "" if action.startswith("s3:List") else "/*"
                wanted = f"Allow these credentials {action} on arn:aws:s3:::{place}."
                assert wanted in str(refused.value), f"{run} without {action} on {bucket} bucket: {refused.value}"
        go(run, {bucket: [each for each in actions if each not in UNNOTICED] for bucket, actions in grants.items()})


def test_every_permission_that_is_documented_for_cloud_storage_is_needed_and_they_suffice(
    make: Make, etcd: EtcdClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, access = make("gcs", "rights-source")
    kept, _access = make("gcs", "rights-store")
    filled(etcd, "gcs", open_location(location, access), open_location(kept, access))

    def go(run: str, permissions: set[str]) -> None:
        token = emulator.operator("acme", permissions=tuple(permissions))
        monkeypatch.setattr(google.auth, "default", lambda **_unused: (Credentials(token), "acme"))
        RUNS[run](etcd, "gcs", open_location(location, access), open_location(kept, access))

    for run, grants in documented(3).items():
        needed = {permission for permissions in grants.values() for permission in permissions}
        for permission in sorted(needed):
            with pytest.raises((PachopsError, AssertionError)) as refused:
                go(run, needed - {permission})
            assert f"Grant these credentials {permission} on the bucket rights-" in str(refused.value)
        go(run, needed)
