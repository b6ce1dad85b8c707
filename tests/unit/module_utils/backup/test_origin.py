# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is backed up is found in the cluster: bucket, credentials, spelling, and a description without secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import google.auth
import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import (
    EtcdAccess,
    describe,
    etcd_access_of,
    etcd_of,
    origin_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError, EtcdError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import Installation, observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.gcs import GcsStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.s3 import S3Store
from doubles.kube import FakeKube, installation
from google.auth.credentials import AnonymousCredentials

AWS = {
    "amazon-bucket": "pach",
    "amazon-region": "eu-west-1",
    "amazon-id": "AKIAIOSFODNN7EXAMPLE",
    "amazon-secret": "s3cr3t-value",
    "custom-endpoint": "minio.example:9000",
}


def cluster(backend: str, secret: dict[str, str] | None = None, **environment: str) -> tuple[FakeKube, Installation]:
    kube = FakeKube(installation("pachyderm"))
    data = {key: base64.b64encode(value.encode()).decode() for key, value in (secret or {}).items()}
    kube.objects[Ref("v1", "Secret", "pachyderm", "pachyderm-storage-secret")]["data"] = data
    pachd = kube.objects[Ref("apps/v1", "Deployment", "pachyderm", "pachd")]
    container = pachd["spec"]["template"]["spec"]["containers"][0]
    kept = [each for each in container["env"] if each["name"] not in {"STORAGE_BACKEND", *environment}]
    given = {"STORAGE_BACKEND": backend, **environment}
    container["env"] = [*kept, *({"name": name, "value": value} for name, value in given.items())]
    return kube, observe(kube, "pachyderm")  # type: ignore[arg-type]


def origin(kube: FakeKube, found: Installation, **options: Any) -> Any:
    return origin_of(kube, found, None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reverse", "spelling"),
    [("true", Spelling.REVERSED), ("1", Spelling.REVERSED), ("false", Spelling.PLAIN), ("", Spelling.PLAIN)],
)
def test_s3_as_pachd_reaches_it(reverse: str, spelling: Spelling) -> None:
    found = origin(*cluster("AMAZON", AWS, REVERSE=reverse, DISABLE_SSL="true", NO_VERIFY_SSL="true"))
    assert found.spellings[0] is spelling
    assert set(found.spellings) == {Spelling.SLASH, Spelling.PLAIN, Spelling.REVERSED}
    assert isinstance(found.store, S3Store)
    options = found.store._options
    assert (options.bucket, options.region, options.endpoint) == ("pach", "eu-west-1", "http://minio.example:9000")
    assert (options.access_key, options.secret_key, options.verify) == ("AKIAIOSFODNN7EXAMPLE", "s3cr3t-value", False)
    assert found.source.backend == "aws"


def test_the_way_to_the_bucket_can_be_another_one_from_here() -> None:
    access = Access(endpoint="https://here.example", access_key="k", secret_key="s", region="r", ca_file="/ca.pem")
    options = origin(*cluster("AMAZON", {**AWS, "amazon-token": "t"}), access=access).store._options
    assert (options.endpoint, options.region, options.access_key) == ("https://here.example", "r", "k")
    assert (options.secret_key, options.session_token, options.verify) == ("s", "", "/ca.pem")


def test_minio() -> None:
    secret = {
        "minio-bucket": "b",
        "minio-endpoint": "m:9000",
        "minio-id": "i",
        "minio-secret": "s",
        "minio-secure": "1",
    }
    found = origin(*cluster("MINIO", secret))
    assert found.spellings[0] is Spelling.PLAIN
    assert found.store._options.endpoint == "https://m:9000"


def test_cloud_storage_with_and_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.auth, "default", lambda **_unused: (AnonymousCredentials(), "p"))
    found = origin(*cluster("GOOGLE", {"google-bucket": "g", "google-cred": ""}))
    assert isinstance(found.store, GcsStore)
    assert found.store.where == "gs://g"
    assert found.spellings[0] is Spelling.SLASH
    with pytest.raises(BackupError, match="no key file"):
        origin(*cluster("GOOGLE", {"google-bucket": "g", "google-cred": "{nonsense"}))


def test_a_directory_has_to_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kube, found = cluster("LOCAL")
    assert origin(kube, found, path=str(tmp_path)).store.where == str(tmp_path)
    monkeypatch.setattr(Path, "is_dir", lambda _path: False)  # the host may have a Pachyderm of its own there
    with pytest.raises(BackupError, match=r"/var/pachyderm/pachyderm/pachd.*backup_source_path"):
        origin(kube, found)


@pytest.mark.parametrize(
    ("backend", "secret", "message"),
    [
        ("AMAZON", {}, "amazon-bucket"),
        ("GOOGLE", {}, "google-bucket"),
        ("AMAZON", {"amazon-bucket": "b", "amazon-vault-addr": "https://vault"}, "Vault"),
        ("MICROSOFT", {}, "cannot be backed up"),
        ("", {}, "cannot be backed up"),
    ],
)
def test_what_cannot_be_backed_up_says_why(backend: str, secret: dict[str, str], message: str) -> None:
    with pytest.raises(BackupError, match=message):
        origin(*cluster(backend, secret))


def test_the_description_has_no_secret_in_it() -> None:
    kube, found = cluster("AMAZON", AWS, MY_TOKEN="s3cr3t-token", PLAIN="shown")
    described = describe(kube, found)  # type: ignore[arg-type]
    text = json.dumps(described) + yaml.safe_dump(described)
    assert "s3cr3t" not in text
    assert "AKIAIOSFODNN7EXAMPLE" not in text
    assert described["pachd"]["environment"]["PLAIN"] == "shown"
    assert described["storage_secret_keys"] == sorted(AWS)


def test_etcd_has_to_be_ready() -> None:
    kube, found = cluster("LOCAL")
    for pod in found.pods("etcd"):
        pod["status"] = {"podIP": "127.0.0.9", "conditions": []}
    with pytest.raises(BackupError, match="not ready"), etcd_of(kube, found, EtcdAccess()):  # type: ignore[arg-type]
        pass
    # One that is named is asked itself.
    named = pod["metadata"]["name"]
    with (
        pytest.raises(EtcdError, match="cannot reach etcd"),
        etcd_of(kube, found, EtcdAccess("direct"), named),  # type: ignore[arg-type]
    ):
        pass


def test_an_endpoint_that_does_not_answer_is_an_error() -> None:
    kube, found = cluster("LOCAL")
    access = etcd_access_of({"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(EtcdError, match="cannot reach etcd"), etcd_of(kube, found, access):  # type: ignore[arg-type]
        pass


def test_options_of_etcd_are_read() -> None:
    assert etcd_access_of(None) == EtcdAccess()
    full = etcd_access_of({"endpoint": "https://e:2379", "ca_file": "/ca", "user": "root", "password": "p"}, "direct")
    assert full.tls is not None
    assert full.login is not None
    assert (full.tls.ca_file, full.login.user, full.endpoint) == ("/ca", "root", "https://e:2379")
    with pytest.raises(InputError, match="used directly"):
        etcd_access_of({"endpoint": "e"}, "port_forward")
