# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a kubeconfig to exchanges: real HTTP and TLS on loopback, and one clear message for each mistake."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import kubeconfig as kubeconfig_module
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import transport
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response, UnreachableError, load
from cryptography import x509
from doubles.api import FakeApi, answer, kubeconfig, served, status
from doubles.certificates import authority


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "KUBECONFIG",
        "KUBERNETES_SERVICE_HOST",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "https_proxy",
        "http_proxy",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


def test_connects_over_http_and_reads_and_writes(file: Path) -> None:
    api = FakeApi(["default"])
    with served(api) as url:
        file.write_text(kubeconfig(url))
        kube = connect(str(file), "here")
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "ä b", "namespace": "default"},
            "data": {"text": "ünï"},
        }
        assert kube.apply(manifest).action == "created"
        assert kube.apply(manifest).action == "unchanged"
        stored = kube.get(Ref.of(manifest))
        assert stored is not None
        assert stored["data"] == {"text": "ünï"}
        kube.close()
    assert ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews") in api.calls


def test_environment_and_home_are_used_in_kubectls_order(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".kube"
    home.mkdir(parents=True)
    (home / "config").write_text(kubeconfig("http://home.invalid"))
    assert load().host == "http://home.invalid"
    file.write_text(kubeconfig("http://environment.invalid"))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["/absent", str(file)]))
    assert load().host == "http://environment.invalid"
    (tmp_path / "other").write_text(kubeconfig("http://option.invalid"))
    assert load(str(tmp_path / "other")).host == "http://option.invalid"


def test_a_pods_service_account_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ClusterError, match="service account of this pod"):
        load()


@pytest.mark.parametrize(
    ("content", "context", "expected"),
    [
        ("a: [b\n token: tok3n", None, "is not YAML"),
        ("\x00", None, "is not YAML"),
        ("hello", None, "is not a kubeconfig"),
        ("{}", None, "names no clusters"),
        (kubeconfig("https://x.invalid"), "there", "no context 'there'"),
        (kubeconfig("https://x.invalid").replace('"here"}', '""}'), None, "no current context"),
        (
            kubeconfig("https://x.invalid").replace('"user": "jane"', '"user": "joe"'),
            None,
            "names a user that is not in it",
        ),
    ],
)
def test_bad_kubeconfigs(file: Path, content: str, context: str | None, expected: str) -> None:
    file.write_text(content)
    with pytest.raises(ClusterError) as caught:
        load(str(file), context)
    assert expected in str(caught.value)
    assert str(file) in str(caught.value)
    assert "tok3n" not in str(caught.value)
    assert caught.value.fix


def test_no_configuration_at_all_and_one_that_points_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="no Kubernetes cluster is configured"):
        load()
    with pytest.raises(ClusterError, match="the option kubeconfig names no file"):
        load("/absent/kubeconfig")
    monkeypatch.setenv("KUBECONFIG", "/absent/kubeconfig")
    with pytest.raises(ClusterError, match="environment variable KUBECONFIG names no file"):
        load()


def test_a_file_that_the_kubeconfig_names_is_missing(file: Path) -> None:
    file.write_text(kubeconfig("https://x.invalid", **{"certificate-authority": "/absent/ca.crt"}))
    with pytest.raises(ClusterError, match=r"/absent/ca\.crt"):
        load(str(file))


def test_unreadable_kubeconfig(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(kubeconfig("https://x.invalid"))

    def refuse(*_args: object, **_keywords: object) -> str:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(kubeconfig_module.Path, "read_text", refuse)
    with pytest.raises(ClusterError, match=r"cannot be read.*Permission denied"):
        load(str(file))


def test_missing_library_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(kubeconfig("https://x.invalid"))
    monkeypatch.setattr(transport, "MISSING_LIBRARY", "No module named 'urllib3'")
    with pytest.raises(ClusterError, match=r"No module named 'urllib3'.*requirements\.txt"):
        load(str(file))
    monkeypatch.setattr(kubeconfig_module, "MISSING_YAML", "No module named 'yaml'")
    with pytest.raises(ClusterError, match="No module named 'yaml'"):
        load(str(file))


def test_the_first_of_several_files_counts(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(kubeconfig("http://first.invalid"))
    (tmp_path / "second").write_text(kubeconfig("http://second.invalid").replace('"here"', '"there"'))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(file), str(tmp_path / "second")]))
    assert load().host == "http://first.invalid"
    assert load(None, "there").host == "http://first.invalid"  # both clusters are called fake


def changed_user(file: Path, url: str, user: dict[str, Any], **cluster: Any) -> None:
    """Write a kubeconfig whose user is ``user``."""
    content = json.loads(kubeconfig(url, **cluster))
    content["users"][0]["user"] = user
    file.write_text(json.dumps(content))


def test_a_token_file_is_read_anew_each_time(file: Path, tmp_path: Path) -> None:
    with served(FakeApi()) as url:
        changed_user(file, url, {"tokenFile": "token"})
        with pytest.raises(ClusterError, match=r"token\): No such file"):
            load(str(file))
        (tmp_path / "token").write_text("wrong\n")
        kube = Kube(load(str(file)), patience=0)
        with pytest.raises(ClusterError, match="does not accept the credentials"):
            kube.server_version()
        (tmp_path / "token").write_text("right\n")
        assert kube.server_version() == "1.34.4"


def test_an_exec_plugin_is_asked_for_the_token(file: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    version = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "right"}}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    plugin.chmod(0o700)
    with served(FakeApi()) as url:
        changed_user(file, url, {"exec": {"apiVersion": version, "command": str(plugin), "interactiveMode": "Never"}})
        assert connect(str(file)).server_version() == "1.34.4"
    plugin.write_text("#!/bin/sh\nexit 3\n")
    changed_user(file, "http://x.invalid", {"auth-provider": {"name": "none"}, "exec": {"command": "x"}})
    with pytest.raises(ClusterError, match="no credentials could be obtained"):
        load(str(file))


@pytest.mark.parametrize(
    ("variables", "host", "expected"),
    [
        ({}, "https://10.1.2.3:6443", ""),
        ({"https_proxy": "http://p:1"}, "https://10.1.2.3:6443", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,x"}, "https://10.1.2.3:6443", ""),
        ({"https_proxy": "http://p:1", "no_proxy": "192.168.0.0/16"}, "https://10.1.2.3:6443", "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": ".example.com"}, "https://api.example.com", ""),
        ({"https_proxy": "http://p:1"}, "https://api.example.com", "http://p:1"),
    ],
)
def test_the_environments_proxy(
    file: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], host: str, expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file.write_text(kubeconfig(host))
    assert load(str(file)).endpoint.proxy == expected


def test_requests_go_through_the_proxy(file: Path) -> None:
    api = FakeApi()
    with served(api, "right") as proxy:
        login = proxy.replace("http://", "http://me:p%40ss@")
        file.write_text(kubeconfig("http://cluster.invalid", **{"proxy-url": login}))
        assert load(str(file)).request("GET", "/version").status in (200, 404)
    assert api.calls


def test_a_certificate_that_is_none(file: Path) -> None:
    file.write_text(kubeconfig("https://x.invalid", **{"certificate-authority-data": "!"}))
    with pytest.raises(ClusterError, match="certificate-authority-data in the kubeconfig is not base64"):
        load(str(file))
    nonsense = base64.b64encode(b"nonsense").decode()
    file.write_text(kubeconfig("https://x.invalid", **{"certificate-authority-data": nonsense}))
    with pytest.raises(ClusterError, match="certificate or key in the kubeconfig cannot be used"):
        load(str(file))


def test_wrong_credentials(file: Path) -> None:
    with served(FakeApi()) as url:
        file.write_text(kubeconfig(url, "wrong"))
        with pytest.raises(ClusterError, match="does not accept the credentials") as caught:
            connect(str(file))
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    "response",
    [
        answer({"status": {"userInfo": {"username": "system:anonymous"}}}, 201),
        status(403, "Forbidden", 'x is forbidden: User "system:anonymous" cannot create resource "selfsubjectreviews"'),
    ],
)
def test_anonymous_is_not_good_enough(file: Path, response: Response) -> None:
    api = FakeApi()
    api.failures = [response]
    with served(api) as url:
        file.write_text(kubeconfig(url))
        with pytest.raises(ClusterError, match="does not accept the credentials"):
            connect(str(file))


def test_a_server_that_is_no_api_server(file: Path) -> None:
    api = FakeApi()
    api.failures = [Response(200, b"<html>hello</html>", {})]
    with served(api) as url:
        file.write_text(kubeconfig(url))
        with pytest.raises(ClusterError, match=r"answered 200.*hello"):
            connect(str(file))


def test_reviews_may_be_closed_to_us(file: Path) -> None:
    api = FakeApi()
    api.failures = [status(403, "Forbidden", 'User "jane" cannot create resource "selfsubjectreviews"')]
    with served(api) as url:
        file.write_text(kubeconfig(url))
        assert connect(str(file)).server_version() == "1.34.4"


def test_refused_and_unknown_hosts_are_reported_at_once(file: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    started = time.monotonic()
    file.write_text(kubeconfig(f"http://127.0.0.1:{port}"))
    with pytest.raises(ClusterError, match=f"127.0.0.1:{port}.*Connection refused"):
        connect(str(file))
    file.write_text(kubeconfig("http://no-such-host.invalid"))
    with pytest.raises(ClusterError, match=r"cannot reach the Kubernetes API.*no-such-host\.invalid"):
        connect(str(file))
    file.write_text(kubeconfig("http://"))
    with pytest.raises(ClusterError, match="cannot reach the Kubernetes API"):
        connect(str(file))
    # As long as the resolver of this host takes for a name that there is not.
    assert time.monotonic() - started < 60


def test_a_silent_host_is_given_up_in_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 0.3)
    with socket.socket() as full:
        # A listener whose queue is full drops further connections, as a black hole does.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _number in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        file.write_text(kubeconfig(f"http://127.0.0.1:{full.getsockname()[1]}"))
        with pytest.raises(ClusterError, match="timed out"):
            connect(str(file))
        for filler in fillers:
            filler.close()


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Yield (URL, CA in base64) of a server that only shakes hands."""
    own = authority(x509.DNSName("elsewhere.invalid"))
    both = tmp_path / "server.pem"
    both.write_bytes(own.certificate + own.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}", base64.b64encode(own.certificate).decode()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_another_clusters_certificate(file: Path, tls_server: tuple[str, str]) -> None:
    url, authority = tls_server
    file.write_text(kubeconfig(url))
    with pytest.raises(ClusterError, match="certificate is not the one that the kubeconfig trusts"):
        connect(str(file))
    file.write_text(kubeconfig(url, **{"certificate-authority-data": authority}))
    with pytest.raises(ClusterError, match=r"certificate is not the one.*127\.0\.0\.1"):
        connect(str(file))
    with pytest.raises(UnreachableError) as caught:
        load(str(file)).open_websocket("/api")
    assert caught.value.tls
    assert not caught.value.transient
    named = {"certificate-authority-data": authority, "tls-server-name": "elsewhere.invalid"}
    for trust in (named, {"insecure-skip-tls-verify": True}):
        file.write_text(kubeconfig(url, **trust))
        # The handshake succeeds; this server has nothing to say after it.
        with pytest.raises(ClusterError, match="cannot reach the Kubernetes API"):
            connect(str(file))


def test_a_client_certificate_logs_in(file: Path, tmp_path: Path, tls_server: tuple[str, str]) -> None:
    url, authority = tls_server
    pem = (tmp_path / "server.pem").read_bytes()
    named = {"certificate-authority-data": authority, "tls-server-name": "elsewhere.invalid"}
    encoded = base64.b64encode(pem).decode()
    for user in (
        {"client-certificate-data": encoded, "client-key-data": encoded},
        {"client-certificate": "server.pem", "client-key": "server.pem"},
    ):
        changed_user(file, url, user, **named)
        assert load(str(file)).endpoint.authorization() == ""
        with pytest.raises(ClusterError, match="cannot reach the Kubernetes API"):
            connect(str(file))
