# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pachd says about itself, in the messages that it really sends."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import answers, client
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.answers import Answers, ask
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import Cluster
from doubles.kube import FakeKube, pod
from python_pachyderm.proto.pfs import pfs_pb2
from python_pachyderm.proto.pps import pps_pb2


class Stub:
    """Answers two calls; what is asked of ListPipeline is kept."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ListRepo(self, _request: Any) -> Any:  # noqa: N802
        infos = [("ticks", 1000), ("__spec__", 7)]
        return pfs_pb2.ListRepoResponse(
            repo_info=[pfs_pb2.RepoInfo(repo=pfs_pb2.Repo(name=name), size_bytes=size) for name, size in infos]
        )

    def ListPipeline(self, request: Any) -> Any:  # noqa: N802
        self.asked.append(request)
        infos = [("rebin", pps_pb2.PIPELINE_RUNNING), ("best", pps_pb2.PIPELINE_CRASHING)]
        return pps_pb2.PipelineInfos(
            pipeline_info=[
                pps_pb2.PipelineInfo(pipeline=pps_pb2.Pipeline(name=name), state=state) for name, state in infos
            ]
        )


class Pachd:
    repo_infos, pipeline_infos = client.Pachd.repo_infos, client.Pachd.pipeline_infos
    stub = Stub()
    pfs, pps = stub, stub
    pfs_pb2, pps_pb2 = pfs_pb2, pps_pb2

    def __init__(self, host: str, port: int, *, timeout: float) -> None:
        assert (host, port, timeout) == ("127.0.0.1", 7, 9.0)

    def __enter__(self) -> Pachd:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def version(self) -> str:
        return "1.13.4"

    def cluster(self) -> Cluster:
        return Cluster("c1d", "d1d")

    def call(self, method: Any, request: Any, _what: str) -> Any:
        return method(request)


def test_everything_is_asked_on_the_port_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "Pachd", Pachd)
    kube: Any = FakeKube([pod("ns", "pachd-1", "pachd")])
    kube.forwarded = {("pachd-1", 653): ("127.0.0.1", 7)}
    assert ask(kube, "ns", "pachd-1", 9.0) == Answers(
        "1.13.4", "c1d", "d1d", {"ticks": 1000, "__spec__": 7}, {"rebin": "RUNNING", "best": "CRASHING"}
    )
    assert Pachd.stub.asked[0].allow_incomplete, "one unreadable spec must not hide the others"


def test_a_pod_that_cannot_be_reached() -> None:
    with pytest.raises(ClusterError, match="cannot forward"):
        kube: Any = FakeKube()
        ask(kube, "ns", "pachd-1", 9.0)
