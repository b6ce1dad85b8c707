# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N802 - the method names are those of the gRPC services
"""The way to pachd as a module's options describe it: TLS, tokens, and a pachd that has lost its etcd for a while."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import client, connection
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import opened
from ansible_collections.pachops.pachyderm.plugins.modules import pachyderm_repo
from cryptography import x509
from doubles.certificates import Authority, authority
from python_pachyderm.proto.pfs import pfs_pb2, pfs_pb2_grpc
from python_pachyderm.proto.version.versionpb import version_pb2, version_pb2_grpc

# What pachd 1.13.4 says (src/client/auth/auth.go, and its etcd client's words).
EXPIRED = "provided auth token is corrupted or has expired (try logging in again)"
MISSING = "no authentication token (try logging in)"
NO_LEADER = "etcdserver: no leader"
NO_REPO = "repo pachops-none not found"


class Server(version_pb2_grpc.APIServicer, pfs_pb2_grpc.APIServicer):
    """Knows one token where it has one, and says of repos what it is told to, the last of it for good."""

    def __init__(self) -> None:
        self.token = ""
        self.says: list[str] = [NO_REPO]
        self.asked: list[str] = []
        self.hangs = 0.0

    def GetVersion(self, _request: Any, context: Any) -> Any:
        self.asked.append("version")
        self._check(context)
        return version_pb2.Version(major=1, minor=13, micro=4)

    def ListRepo(self, _request: Any, context: Any) -> Any:
        self._check(context)
        return pfs_pb2.ListRepoResponse()

    def InspectRepo(self, request: Any, context: Any) -> Any:
        self.asked.append(request.repo.name)
        time.sleep(self.hangs)
        self._check(context)
        context.abort(grpc.StatusCode.UNKNOWN, self.says.pop(0) if len(self.says) > 1 else self.says[0])

    def _check(self, context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authn-token", "")
        if given != self.token and self.token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, EXPIRED if given else MISSING)


HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def serve(server: Server) -> Iterator[Callable[..., int]]:
    """Return a function that serves, with a certificate where it is given one, and returns the port."""
    runners: list[grpc.Server] = []

    def start(own: Authority | None = None) -> int:
        runner = grpc.server(futures.ThreadPoolExecutor(2))
        runners.append(runner)
        version_pb2_grpc.add_APIServicer_to_server(server, runner)
        pfs_pb2_grpc.add_APIServicer_to_server(server, runner)
        if own is None:
            port = runner.add_insecure_port("127.0.0.1:0")
        else:
            credentials = grpc.ssl_server_credentials([(own.key, own.certificate)])
            port = runner.add_secure_port("127.0.0.1:0", credentials)
        runner.start()
        return int(port)

    yield start
    for runner in runners:
        runner.stop(None).wait()


def options(address: str, **given: Any) -> dict[str, Any]:
    return {"address": address, "ca_file": "", "token": "", "timeout": 5.0, **given}


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trusted(tmp_path: Path) -> Callable[[Authority], str]:
    def write(own: Authority) -> str:
        (tmp_path / "ca.pem").write_bytes(own.certificate)
        return str(tmp_path / "ca.pem")

    return write


def test_tls_by_an_authority_of_ones_own(serve: Callable[..., int], trusted: Callable[[Authority], str]) -> None:
    own = authority(HERE)
    with opened(options(f"grpcs://127.0.0.1:{serve(own)}", ca_file=trusted(own))) as pachd:
        assert pachd.version() == "1.13.4"


@pytest.mark.parametrize(
    ("own", "given", "why", "fix"),
    [
        pytest.param(authority(HERE), authority(HERE), "self.signed certificate", "authority", id="another authority"),
        pytest.param(authority(HERE), None, "self.signed certificate", "ca_file", id="the system's authorities"),
        pytest.param(
            authority(x509.DNSName("pachd.example")), ..., "IP address mismatch", "the name that", id="another name"
        ),
        pytest.param(authority(HERE, days=-1), ..., "has expired", "authority", id="expired certificate"),
    ],
)
def test_what_is_wrong_with_a_certificate(
    serve: Callable[..., int], trusted: Callable[[Authority], str], own: Authority, given: Any, why: str, fix: str
) -> None:
    ca_file = trusted(own if given is ... else given) if given else ""
    begun = time.monotonic()
    with (
        pytest.raises(PachdError, match=why) as caught,
        opened(options(f"grpcs://127.0.0.1:{serve(own)}", ca_file=ca_file, timeout=60.0)),
    ):
        pytest.fail("it was trusted")
    assert fix in caught.value.fix
    assert "cannot reach pachd" in str(caught.value)
    assert time.monotonic() - begun < 30, "said at once, not after the time-out"


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "said"), [("of-last-year", EXPIRED), ("", MISSING)])
def test_a_token_that_is_not_valid(
    serve: Callable[..., int], server: Server, run_module: Callable[..., Any], token: str, said: str
) -> None:
    server.token = "valid"
    result = run_module(pachyderm_repo.main, name="x", address=f"grpc://127.0.0.1:{serve()}", token=token)
    assert result.failed
    assert "pachd wants a valid token" in result["msg"]
    assert said in result["msg"]
    assert "pachctl auth login" in result["msg"]
    assert "of-last-year" not in result["msg"]


def test_a_valid_token_over_tls(serve: Callable[..., int], server: Server, trusted: Callable[[Authority], str]) -> None:
    server.token, own = "valid", authority(HERE)
    with opened(options(f"grpcs://127.0.0.1:{serve(own)}", ca_file=trusted(own), token="valid")) as pachd:
        assert pachd.repos() == []


# -- while pachd's etcd is away ---------------------------------------------------------------------------------------


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_RETRY", 0.01)


@pytest.mark.usefixtures("_soon")
def test_what_passes_is_waited_for(serve: Callable[..., int], server: Server) -> None:
    server.says = [NO_LEADER, NO_LEADER, NO_REPO]
    with opened(options(f"grpc://127.0.0.1:{serve()}")) as pachd:
        assert server.asked == ["pachops-none"] * 3
        assert pachd.version() == "1.13.4"


def test_who_has_its_etcd_is_asked_once(serve: Callable[..., int], server: Server) -> None:
    with opened(options(f"grpc://127.0.0.1:{serve()}")):
        assert server.asked == ["pachops-none"]


@pytest.mark.usefixtures("_soon")
def test_what_does_not_pass_is_said_in_time(
    serve: Callable[..., int], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SETTLING", 1.0)
    server.says = [NO_LEADER]
    begun = time.monotonic()
    with (
        pytest.raises(PachdError, match=r"whether it reaches its etcd.*no leader"),
        opened(options(f"grpc://127.0.0.1:{serve()}", timeout=60.0)),
    ):
        pytest.fail("it never had a leader")
    assert 1 <= time.monotonic() - begun < 30
    assert len(server.asked) > 2


def test_no_answer_at_all_is_not_waited_for_twice(serve: Callable[..., int], server: Server) -> None:
    server.hangs = 4.0
    with (
        pytest.raises(PachdError, match="gave no answer when asked whether it reaches its etcd"),
        opened(options(f"grpc://127.0.0.1:{serve()}", timeout=2.0)),
    ):
        pytest.fail("it did not answer")
    assert server.asked == ["pachops-none"]
