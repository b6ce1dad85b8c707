# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulator itself: Google's own clients believe it, and it refuses what Google refuses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

PROJECT = "acme-data"
PIECE = 256 * 1024


@pytest.fixture
def http(emulator: Any, options: dict[str, Any]) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.verify = str(emulator.ca_file)
    session.headers["Authorization"] = f"Bearer {options['access_token']}"
    return session


@pytest.fixture
def bucket(emulator: Any, http: requests.Session) -> str:
    answer = http.post(f"{emulator.address}/storage/v1/b", params={"project": PROJECT}, json={"name": "acme-data"})
    assert answer.status_code == 200
    return "acme-data"


@pytest.fixture
def google(emulator: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Google's own storage client."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(emulator.ca_file))
    from google.cloud import storage
    from google.oauth2.credentials import Credentials

    return storage.Client(
        project=PROJECT,
        credentials=Credentials(options["access_token"]),
        client_options={"api_endpoint": emulator.address},
    )


def test_googles_client_does_its_work(google: Any) -> None:
    bucket = google.create_bucket("acme-data", location="EU")
    blob = bucket.blob("/pach/block/one")
    blob.upload_from_string(b"content", checksum="crc32c")
    assert blob.download_as_bytes() == b"content"
    assert blob.download_as_bytes(start=2, end=3) == b"nt"
    assert [item.name for item in google.list_blobs("acme-data", prefix="/pach/")] == ["/pach/block/one"]
    copy = bucket.copy_blob(blob, bucket, "copy")
    assert copy.size == 7
    blob.delete()
    assert bucket.get_blob("/pach/block/one") is None
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:a@b.c"}})
    bucket.set_iam_policy(policy)
    bucket.versioning_enabled = True
    bucket.patch()
    bucket.reload()
    assert bucket.versioning_enabled
    assert bucket.test_iam_permissions(["storage.objects.get", "storage.objects.list"]) == [
        "storage.objects.get",
        "storage.objects.list",
    ]


def test_googles_client_uploads_in_pieces(google: Any, emulator: Any) -> None:
    content = os.urandom(9 * 1024 * 1024 + 17)  # up to 8 MiB it would be one request
    blob = google.create_bucket("acme-data").blob("large", chunk_size=4 * PIECE)
    blob.upload_from_string(content)
    assert hashlib.sha256(blob.download_as_bytes()).digest() == hashlib.sha256(content).digest()
    pieces = [item for item in emulator.requests if item["method"] == "PUT"]
    assert [item["status"] for item in pieces] == [308] * 9 + [200]


def test_googles_client_meets_preconditions(google: Any) -> None:
    from google.api_core.exceptions import PreconditionFailed

    blob = google.create_bucket("acme-data").blob("once")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string(b"2", if_generation_match=0)
    assert blob.download_as_bytes() == b"1"
    blob.upload_from_string(b"3", if_generation_match=blob.generation)


def _begin(http: requests.Session, emulator: Any, bucket: str, name: str, **params: str) -> str:
    answer = http.post(
        f"{emulator.address}/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "resumable", "name": name, **params},
        json={"contentType": "text/plain"},
    )
    assert answer.status_code == 200
    address = answer.headers["Location"]
    assert address.startswith("https://")
    return address


def test_resumable_session(http: requests.Session, emulator: Any, bucket: str) -> None:
    address = _begin(http, emulator, bucket, "piece")
    status = http.put(address, headers={"Content-Range": "bytes */*"})
    assert status.status_code == 308
    assert "Range" not in status.headers
    first = http.put(address, data=b"a" * PIECE, headers={"Content-Range": f"bytes 0-{PIECE - 1}/*"})
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{PIECE - 1}")
    assert http.get(f"{emulator.address}/storage/v1/b/{bucket}/o/piece").status_code == 404
    gap = http.put(address, data=b"b", headers={"Content-Range": f"bytes {PIECE + 5}-{PIECE + 5}/{PIECE + 6}"})
    assert gap.status_code == 400
    odd = http.put(address, data=b"b" * 10, headers={"Content-Range": f"bytes {PIECE}-{PIECE + 9}/*"})
    assert odd.status_code == 400
    last = http.put(address, data=b"bb", headers={"Content-Range": f"bytes {PIECE}-{PIECE + 1}/{PIECE + 2}"})
    assert last.status_code == 200
    assert last.json()["size"] == str(PIECE + 2)
    again = http.put(address, headers={"Content-Range": f"bytes */{PIECE + 2}"})
    assert again.json()["generation"] == last.json()["generation"]


def test_resumable_session_for_clients_that_cannot_take_a_308(
    http: requests.Session, emulator: Any, bucket: str
) -> None:
    """What the Go library inside pachd 1.13 sends: it gives up at a plain 308."""
    address = _begin(http, emulator, bucket, "/pach/block/x")
    no308 = {"X-GUploader-No-308": "yes"}
    first = http.post(address, data=b"a" * PIECE, headers={"Content-Range": f"bytes 0-{PIECE - 1}/*", **no308})
    assert first.status_code == 200
    assert first.headers["X-Http-Status-Code-Override"] == "308"
    last = http.post(address, data=b"b", headers={"Content-Range": f"bytes {PIECE}-{PIECE}/{PIECE + 1}", **no308})
    assert last.status_code == 200
    assert "X-Http-Status-Code-Override" not in last.headers
    read = http.get(f"{emulator.address}/{bucket}//pach/block/x")
    assert read.content == b"a" * PIECE + b"b"


def test_cancelled_session_is_gone(http: requests.Session, emulator: Any, bucket: str) -> None:
    address = _begin(http, emulator, bucket, "x")
    assert http.delete(address).status_code == 499
    assert http.put(address, data=b"x").status_code == 404


def test_multipart_upload_keeps_every_byte(http: requests.Session, emulator: Any, bucket: str) -> None:
    content = b"\r\n--b0undary is part of the content\n\r\n\x00\xff\r\n"
    body = (
        b'--mark\r\nContent-Type: application/json\r\n\r\n{"name": "m"}\r\n--mark\r\nContent-Type: text/x\r\n\r\n'
        + content
        + b"\r\n--mark--"
    )
    answer = http.post(
        f"{emulator.address}/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "multipart"},
        data=body,
        headers={"Content-Type": "multipart/related; boundary=mark"},
    )
    assert answer.status_code == 200
    assert http.get(f"{emulator.address}/{bucket}/m").content == content
    assert http.get(f"{emulator.address}/{bucket}/m", headers={"Range": "bytes=2-5"}).content == content[2:6]
    assert http.get(f"{emulator.address}/{bucket}/m", headers={"Range": "bytes=-3"}).content == content[-3:]
    assert http.get(f"{emulator.address}/{bucket}/m", headers={"Range": "bytes=900-"}).status_code == 416


def test_chunked_request_body(http: requests.Session, emulator: Any, bucket: str) -> None:
    answer = http.post(
        f"{emulator.address}/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "media", "name": "c"},
        data=iter([b"one", b"two"]),
    )
    assert answer.json()["size"] == "6"


def test_wrong_checksum_stores_nothing(http: requests.Session, emulator: Any, bucket: str) -> None:
    body = b'--m\r\n\r\n{"name": "m", "crc32c": "AAAAAA=="}\r\n--m\r\n\r\nx\r\n--m--'
    answer = http.post(
        f"{emulator.address}/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "multipart"},
        data=body,
        headers={"Content-Type": "multipart/related; boundary=m"},
    )
    assert answer.status_code == 400
    assert not emulator.state.buckets[bucket].objects


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "word"),
    [
        ("POST", "/storage/v1/b", {"project": PROJECT}, {"name": "abc", "colour": "red"}, "unknown field"),
        ("POST", "/storage/v1/b", {"project": PROJECT, "x": "1"}, {"name": "abc"}, "unknown query parameter x"),
        ("POST", "/storage/v1/b", {}, {"name": "abc"}, "project is required"),
        ("POST", "/storage/v1/b", {"project": PROJECT}, {"name": "abc", "labels": {"a": 1}}, "expected string"),
        ("PATCH", "/storage/v1/b/abc", {"ifMetagenerationMatch": "x"}, {}, "is no number"),
        ("GET", "/storage/v1/buckets", {}, None, "no such method"),
        ("POST", f"/v1/projects/{PROJECT}/serviceAccounts", {}, {"accountId": "abcdef", "email": "x"}, "unknown field"),
        (
            "POST",
            f"/v1/projects/{PROJECT}/serviceAccounts/a@b.c/keys",
            {},
            {"keyAlgorithm": "KEY_ALG_RSA_9"},
            "is none of",
        ),
    ],
)
def test_what_googles_documents_do_not_know_is_refused(
    http: requests.Session, emulator: Any, method: str, path: str, query: dict[str, str], body: Any, word: str
) -> None:
    answer = http.request(method, f"{emulator.address}{path}", params=query, json=body)
    assert answer.status_code in (400, 404)
    assert any(word in violation for violation in emulator.violations)
    emulator.violations.clear()


def test_grants_decide(http: requests.Session, emulator: Any, bucket: str) -> None:
    """The verbs that pachd needs, each missing in turn."""
    reader = requests.Session()
    reader.trust_env = False
    reader.verify = http.verify
    reader.headers["Authorization"] = f"Bearer {emulator.state.issue('user:reader@example.com')}"
    place = f"{emulator.address}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=o"
    assert reader.post(place, data=b"x").status_code == 403
    emulator.state.buckets[bucket].policy.replace(
        [{"role": "roles/storage.objectCreator", "members": ["user:reader@example.com"]}], 0.0
    )
    assert reader.post(place, data=b"x").status_code == 200
    assert reader.post(place, data=b"y").status_code == 403  # overwriting needs delete
    assert reader.get(f"{emulator.address}/{bucket}/o").status_code == 403
    emulator.state.buckets[bucket].policy.replace(
        [{"role": "roles/storage.objectUser", "members": ["user:reader@example.com"]}], 0.0
    )
    assert reader.get(f"{emulator.address}/{bucket}/missing").status_code == 404
    emulator.state.configure({"denied": [["user:reader@example.com", "storage.objects.list"]]})
    assert reader.get(f"{emulator.address}/{bucket}/missing").status_code == 403


def test_retention_is_enforced(http: requests.Session, emulator: Any, bucket: str) -> None:
    place = f"{emulator.address}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=o"
    http.post(place, data=b"x")
    http.patch(f"{emulator.address}/storage/v1/b/{bucket}", json={"retentionPolicy": {"retentionPeriod": "3600"}})
    assert http.delete(f"{emulator.address}/storage/v1/b/{bucket}/o/o").status_code == 403
    assert http.post(place, data=b"y").status_code == 403


def test_workload_identity_through_the_metadata_server(tmp_path: Path) -> None:
    from gcp_emulator.server import Emulator

    emulator = Emulator(tmp_path, metadata_listen=("127.0.0.1", 0))
    emulator.operator(PROJECT)
    emulator.start()
    try:
        email = f"pachyderm@{PROJECT}.iam.gserviceaccount.com"
        identity = {
            "pool": f"{PROJECT}.svc.id.goog",
            "namespace": "pachyderm",
            "service_account": "pachyderm",
            "google_service_account": email,
        }
        emulator.state.configure({"metadata": identity})
        address = f"http://{emulator.metadata_address}/computeMetadata/v1/instance/service-accounts/default/token"
        session = requests.Session()
        session.trust_env = False
        assert session.get(address).status_code == 403
        session.headers["Metadata-Flavor"] = "Google"
        assert session.get(address).status_code == 403
        from gcp_emulator.state import Account, Policy

        binding = {
            "role": "roles/iam.workloadIdentityUser",
            "members": [f"serviceAccount:{PROJECT}.svc.id.goog[pachyderm/pachyderm]"],
        }
        project = emulator.state.projects[PROJECT]
        emulator.state.accounts[email] = Account(email, project, "1", {}, 0.0, Policy([binding]))
        token = session.get(address).json()["access_token"]
        assert emulator.state.tokens[token].principal == f"serviceAccount:{email}"
    finally:
        emulator.stop()


def test_runs_as_a_program(tmp_path: Path, root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gcp_emulator", "--directory", str(tmp_path / "e")],
        cwd=root / "tests" / "emulators" / "gcp",
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = tmp_path / "e" / "emulator.json"
        for _attempt in range(200):
            if told.exists():
                break
            time.sleep(0.05)
        info = json.loads(told.read_text())
        assert "test double" in info["double"]
        session = requests.Session()
        session.trust_env = False
        session.verify = info["ca_file"]
        health = session.get(f"{info['address']}/_emulator/health")
        assert "test double" in health.headers["Server"]
        assert told.stat().st_mode & 0o077 == 0
    finally:
        process.terminate()
        _out, err = process.communicate(timeout=10)
    assert "not Google Cloud" in err
    assert process.returncode == 0
