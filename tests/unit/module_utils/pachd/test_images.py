# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: a registry on loopback that speaks the distribution API, and everything it may answer."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils import image_archive
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ImageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import images

LOGIN = images.Credentials("user", "pass:word")


class Registry(ThreadingHTTPServer):
    """Serves manifests by path; with ``auth`` it wants a token, which it gives for LOGIN, or to all for public/*."""

    auth = ""
    status = 0
    asked: list[tuple[str, str]]


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, *_arguments: Any) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path))
        basic = base64.b64encode(f"{LOGIN.user}:{LOGIN.password}".encode()).decode()
        if "scope=repository%3Apublic" in self.path or self.headers.get("Authorization") == f"Basic {basic}":
            self._answer(200, {}, json.dumps({"token": "t0ken"}).encode())
        else:
            self._answer(401, {})

    def do_HEAD(self) -> None:
        self.server.asked.append(("HEAD", self.path))
        host = f"127.0.0.1:{self.server.server_address[1]}"
        if self.server.status:
            self._answer(self.server.status, {})
        elif self.server.auth == "bearer" and self.headers.get("Authorization") != "Bearer t0ken":
            path = self.path.removeprefix("/v2/").partition("/manifests/")[0]
            challenge = f'Bearer realm="http://{host}/token",service="test",scope="repository:{path}:pull"'
            self._answer(401, {"WWW-Authenticate": challenge})
        elif self.server.auth == "basic" and not self.headers.get("Authorization"):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="here"'})
        else:
            assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
            self._answer(200 if "missing" not in self.path else 404, {})

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def image(registry: Registry, name: str) -> str:
    return f"127.0.0.1:{registry.server_address[1]}/{name}"


def ask(registry: Registry, name: str, **credentials: images.Credentials) -> images.Availability:
    host = f"127.0.0.1:{registry.server_address[1]}"
    logins = {host: credentials["login"]} if credentials else None
    (answer,) = images.check([image(registry, name)], credentials=logins)
    return answer


def test_an_open_registry_has_it_or_not(registry: Registry) -> None:
    assert ask(registry, "public/pachd:1.13.4").source == "registry"
    missing = ask(registry, "public/missing:1.13.4")
    assert not missing.available
    assert missing.definite
    assert "does not have it" in missing.reason


def test_a_digest_is_asked_for_by_digest(registry: Registry) -> None:
    digest = f"sha256:{'a' * 64}"
    assert ask(registry, f"public/pachd:1.13.4@{digest}").available
    assert registry.asked == [("HEAD", f"/v2/public/pachd/manifests/{digest}")]


def test_a_token_is_fetched_and_no_pull_is_counted(registry: Registry) -> None:
    registry.auth = "bearer"
    assert ask(registry, "public/pachd:1.13.4").available
    assert [method for method, path in registry.asked if "/manifests/" in path] == ["HEAD", "HEAD"]


def test_a_pull_secret_opens_a_private_repository(registry: Registry) -> None:
    registry.auth = "bearer"
    closed = ask(registry, "private/pachd:1.13.4")
    assert closed.definite
    assert "asks for credentials" in closed.reason
    assert ask(registry, "private/pachd:1.13.4", login=LOGIN).available
    wrong = ask(registry, "private/pachd:1.13.4", login=images.Credentials("user", "wrong"))
    assert "refuses the credentials" in wrong.reason
    assert "wrong" not in wrong.reason.replace("refuses", "")


def test_basic_authentication(registry: Registry) -> None:
    registry.auth = "basic"
    assert not ask(registry, "private/pachd:1.13.4").available
    assert ask(registry, "private/pachd:1.13.4", login=LOGIN).available


@pytest.mark.parametrize(("status", "words"), [(429, "limits the rate"), (500, "HTTP 500"), (503, "HTTP 503")])
def test_a_registry_in_trouble_is_not_taken_for_a_no(registry: Registry, status: int, words: str) -> None:
    registry.status = status
    answer = ask(registry, "public/pachd:1.13.4")
    assert not answer.available
    assert not answer.definite
    assert words in answer.reason


def test_nothing_listens(registry: Registry) -> None:
    registry.shutdown()
    registry.server_close()
    answer = ask(registry, "public/pachd:1.13.4")
    assert not answer.definite
    assert "connection refused" in answer.reason
    assert "0x" not in answer.reason


def test_a_registry_that_never_answers_costs_the_budget_and_no_more() -> None:
    release = threading.Event()

    def hang(*_arguments: Any, **_options: Any) -> Any:
        release.wait(20)
        raise OSError("too late")

    started = time.monotonic()
    names = ["docker.io/a/b:1", "docker.io/c/d:1", "docker.io/e/f:1"]
    answers = images.check(names, send=hang, timeout=0.3)
    assert time.monotonic() - started < 10
    release.set()
    assert [answer.reason for answer in answers] == ["its registry gave no answer within 0 s"] * 3


def test_a_token_is_not_fetched_over_plain_http_from_elsewhere() -> None:
    sent: list[str] = []

    def send(method: str, url: str, **_options: Any) -> Any:
        sent.append(url)
        return SimpleNamespace(status_code=401, headers={"WWW-Authenticate": 'Bearer realm="http://evil.example/t"'})

    (answer,) = images.check(["docker.io/a/b:1"], send=send, credentials={"docker.io": LOGIN})
    assert sent == ["https://registry-1.docker.io/v2/a/b/manifests/1"]
    assert "not https" in answer.reason


def test_archives_and_nodes_are_asked_before_any_registry(tmp_path: Path) -> None:
    def never(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("asked a registry")

    archive = tmp_path / "pachd.tar"
    config = image_archive.ImageConfig(entrypoint=["/pachd"])
    image_archive.write(archive, "pachyderm/pachd:1.13.4", [[image_archive.Entry("pachd", content=b"x")]], config)
    node = {"spec": {}, "status": {"images": [{"names": ["docker.io/pachyderm/etcd:v3.3.5", "<none>:<none>"]}]}}
    answers = images.check(
        ["docker.io/pachyderm/pachd:1.13.4", "docker.io/pachyderm/etcd:v3.3.5"],
        imported=images.archive_images([str(archive)]),
        present=images.node_images([node]),
        send=never,
    )
    assert [answer.source for answer in answers] == ["archive", "nodes"]


def test_every_schedulable_node_has_to_list_it() -> None:
    with_it = {"spec": {}, "status": {"images": [{"names": ["docker.io/a/b:1"]}]}}
    without: dict[str, Any] = {"spec": {}, "status": {}}
    assert images.node_images([with_it, without]) == set()
    assert images.node_images([with_it, {**without, "spec": {"unschedulable": True}}]) == {"docker.io/a/b:1"}
    assert images.node_images([]) == set()


def test_a_node_lists_an_image_with_digest_by_the_digest() -> None:
    digest = f"sha256:{'b' * 64}"
    node = {"spec": {}, "status": {"images": [{"names": [f"docker.io/a/b@{digest}"]}]}}
    (answer,) = images.check([f"docker.io/a/b:1@{digest}"], present=images.node_images([node]))
    assert answer.source == "nodes"


def secret(auths: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    return {"metadata": {"name": "puller", "namespace": "one"}, "data": {".dockerconfigjson": data}}


def test_pull_credentials_in_every_spelling() -> None:
    auth = base64.b64encode(b"user:pass:word").decode()
    found = images.pull_credentials(
        secret(
            {
                "https://index.docker.io/v1/": {"auth": auth},
                "mirror.example:5000": {"username": "user", "password": "pass:word"},
            }
        )
    )
    assert found == {"docker.io": LOGIN, "mirror.example:5000": LOGIN}


@pytest.mark.parametrize("data", [{}, {".dockerconfigjson": "!"}, {".dockerconfigjson": "e30="}])
def test_a_secret_of_another_kind(data: dict[str, str]) -> None:
    with pytest.raises(ImageError, match="one/puller"):
        images.pull_credentials({"metadata": {"name": "puller", "namespace": "one"}, "data": data})
