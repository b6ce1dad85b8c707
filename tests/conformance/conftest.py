# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user relies on in a pachd 1.13, asked through python-pachyderm.  Every pachd must pass, real or stand-in.

    pytest tests/conformance --pachd-address HOST:PORT [--user-image IMAGE] [-m "not pipeline"]
    KUBECONFIG=… pytest tests/conformance [--pachd-namespace NAMESPACE]

Tests make repos and pipelines with names of their own and remove them, so a second run on the same installation passes
too.  Nothing else in the installation is touched, except that garbage collection runs when no pipeline exists.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

USER_IMAGE = "docker.io/pachops/python:3.11"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--pachd-address", default=os.environ.get("PACHD_ADDRESS"), help="host:port of the pachd to test")
    group.addoption(
        "--pachd-namespace",
        default=os.environ.get("PACHD_NAMESPACE", "pachyderm"),
        help="where pachd is in the cluster that KUBECONFIG names, when no address is given",
    )
    group.addoption(
        "--user-image",
        default=os.environ.get("PACHD_USER_IMAGE", USER_IMAGE),
        help="an image with sh and coreutils for pipelines, which the cluster can get",
    )
    group.addoption(
        "--pachd-version", default=os.environ.get("PACHD_VERSION", "1.13.4"), help="the version that must answer"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pipeline: needs a pachd that can start workers")
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:python_pachyderm")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--pachd-address") and not os.environ.get("KUBECONFIG"):
        reason = "needs a pachd: --pachd-address HOST:PORT or PACHD_ADDRESS, or KUBECONFIG and --pachd-namespace"
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Where the pachd under test is; in a cluster it is reached by a port-forward."""
    given = request.config.getoption("--pachd-address")
    if given:
        host, _unused, port = given.rpartition(":")
        yield host, int(port)
        return
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.portforward import PortForward

    kube = connect(os.environ["KUBECONFIG"], "")
    namespace = request.config.getoption("--pachd-namespace")
    with PortForward(kube, namespace, 650, selector="suite=pachyderm,app=pachd") as local:
        yield local


@pytest.fixture(scope="session")
def client(address: tuple[str, int]) -> Any:
    """A client of the pachd under test."""
    import python_pachyderm

    return python_pachyderm.Client(host=address[0], port=address[1])


@pytest.fixture(scope="session")
def wanted_version(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--pachd-version"))


@pytest.fixture(scope="session")
def user_image(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--user-image"))


@pytest.fixture
def name() -> Callable[[str], str]:
    """Make names that no other test and no other run uses."""
    run, counter = uuid.uuid4().hex[:8], itertools.count()

    def make(kind: str = "x") -> str:
        return f"conf-{kind}-{run}-{next(counter)}"

    return make


@pytest.fixture
def repo(client: Any, name: Callable[[str], str]) -> Iterator[Callable[[], str]]:
    """Create repos that are removed after the test, the last one first."""
    created: list[str] = []

    def make() -> str:
        created.append(name("repo"))
        client.create_repo(created[-1])
        return created[-1]

    yield make
    for each in reversed(created):
        client.delete_repo(each, force=True)


@pytest.fixture
def pipeline(client: Any, name: Callable[[str], str], user_image: str) -> Iterator[Callable[..., str]]:
    """Create pipelines that are removed after the test, the last one first."""
    from python_pachyderm.proto.pps import pps_pb2

    created: list[str] = []

    def make(script: str, input: Any, update: str = "", **options: Any) -> str:
        pipeline_name = update or name("pipe")
        if not update:
            created.append(pipeline_name)
        transform = pps_pb2.Transform(image=user_image, cmd=["sh"], stdin=script.strip().splitlines())
        client.create_pipeline(pipeline_name, transform, input=input, update=bool(update), **options)
        return pipeline_name

    yield make
    for each in reversed(created):
        client.delete_pipeline(each, force=True)


@pytest.fixture
def fails() -> Callable[..., str]:
    """Return the words of the error that an action must end with; its gRPC code is UNKNOWN like almost all of pachd's."""

    def check(action: Callable[[], Any], code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> str:
        with pytest.raises(grpc.RpcError) as failure:
            result = action()
            if hasattr(result, "__next__"):
                list(result)
        assert failure.value.code() is code, failure.value.details()
        return str(failure.value.details())

    return check


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 180.0) -> Any:
    """Return the first true answer of the condition; fail after ``timeout`` seconds."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        last = condition()
        if last:
            return last
        time.sleep(0.5)
    raise AssertionError(f"after {timeout:.0f} s still not: {what} (last answer: {last!r})")


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return wait_until
