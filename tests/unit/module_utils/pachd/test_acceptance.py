# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N802 - the method names are those of the gRPC services
"""Acceptance: a gRPC server that answers as pachd does, and every way in which a ready pachd may still not work."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.findings import Finding
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import acceptance
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import Pachd
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.versions import release
from doubles.kube import FakeKube, pod
from google.protobuf import empty_pb2, wrappers_pb2
from python_pachyderm.proto.admin import admin_pb2, admin_pb2_grpc
from python_pachyderm.proto.pfs import pfs_pb2, pfs_pb2_grpc
from python_pachyderm.proto.pps import pps_pb2, pps_pb2_grpc
from python_pachyderm.proto.version.versionpb import version_pb2, version_pb2_grpc

CLEAN = 'time=… level=info msg="validating kubernetes access returned no errors"\n'
NODES = (
    'time="…" level=error msg="unable to access kubernetes nodeslist, Pachyderm will continue to work but it will not '
    'be possible to use COEFFICIENT parallelism. error: nodes is forbidden"\n'
)
CREATE = (
    'time="…" level=error msg="unable to create kubernetes replication controllers, Pachyderm will not function '
    'properly until this is fixed. error: forbidden"\n'
)
EXPECTED = acceptance.Expected(release=release("1.13.4"), deployment_id="d3pl0y")


class Server(
    version_pb2_grpc.APIServicer, admin_pb2_grpc.APIServicer, pfs_pb2_grpc.APIServicer, pps_pb2_grpc.APIServicer
):
    """Keeps files in a dict; attributes make it misbehave."""

    def __init__(self) -> None:
        self.micro = 4
        self.additional = ""
        self.repos: dict[str, dict[str, bytes]] = {}
        self.refuse = ""
        self.garble = False
        self.logs = True
        self.token = ""
        self.job_states: list[int] = [pps_pb2.JOB_RUNNING, pps_pb2.JOB_SUCCESS]
        self.pipelines: list[str] = []
        self.pod_patches: list[str] = []
        self.requests: list[str] = []
        self.written: list[bytes] = []

    def _check(self, context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authn-token", "")
        if self.token and given != self.token:
            context.abort(grpc.StatusCode.UNKNOWN, "no authentication token (try logging in)")
        if self.refuse:
            context.abort(grpc.StatusCode.UNKNOWN, self.refuse)

    def GetVersion(self, _request: Any, _context: Any) -> Any:
        return version_pb2.Version(major=1, minor=13, micro=self.micro, additional=self.additional)

    def InspectCluster(self, _request: Any, _context: Any) -> Any:
        return admin_pb2.ClusterInfo(id="c1u5ter", deployment_id="d3pl0y")

    def CreateRepo(self, request: Any, context: Any) -> Any:
        self._check(context)
        self.repos[request.repo.name] = {}
        return empty_pb2.Empty()

    def ListRepo(self, _request: Any, _context: Any) -> Any:
        infos = [pfs_pb2.RepoInfo(repo=pfs_pb2.Repo(name=name)) for name in self.repos]
        return pfs_pb2.ListRepoResponse(repo_info=infos)

    def DeleteRepo(self, request: Any, _context: Any) -> Any:
        self.repos.pop(request.repo.name, None)
        return empty_pb2.Empty()

    def PutFile(self, requests: Iterator[Any], _context: Any) -> Any:
        messages = list(requests)
        file = messages[0].file
        self.requests.append(f"{len(messages)} messages, overwrite {messages[0].HasField('overwrite_index')}")
        content = b"".join(message.value for message in messages)
        self.written.append(content)
        self.repos[file.commit.repo.name][file.path] = content
        return empty_pb2.Empty()

    def GetFile(self, request: Any, _context: Any) -> Iterator[Any]:
        name = request.file.commit.repo.name
        source = f"{name}-in" if name in self.pipelines else name
        content = self.repos[source][request.file.path]
        yield wrappers_pb2.BytesValue(value=content[:10])
        yield wrappers_pb2.BytesValue(value=b"?" if self.garble else content[10:])

    def CreatePipeline(self, request: Any, _context: Any) -> Any:
        self.pipelines.append(request.pipeline.name)
        self.pod_patches.append(request.pod_patch)
        return empty_pb2.Empty()

    def DeletePipeline(self, request: Any, _context: Any) -> Any:
        self.pipelines.remove(request.pipeline.name)
        return empty_pb2.Empty()

    def GetLogs(self, _request: Any, context: Any) -> Iterator[Any]:
        if not self.logs:
            context.abort(grpc.StatusCode.UNKNOWN, "pods is forbidden")
        yield pps_pb2.LogMessage(message="a line")

    def ListJobStream(self, request: Any, _context: Any) -> Iterator[Any]:
        state = self.job_states.pop(0) if len(self.job_states) > 1 else self.job_states[0]
        if state >= 0:
            yield pps_pb2.JobInfo(pipeline=request.pipeline, state=state, reason="datum failed")


@pytest.fixture
def server() -> Iterator[Server]:
    service = Server()
    runner = grpc.server(futures.ThreadPoolExecutor(4))
    version_pb2_grpc.add_APIServicer_to_server(service, runner)
    admin_pb2_grpc.add_APIServicer_to_server(service, runner)
    pfs_pb2_grpc.add_APIServicer_to_server(service, runner)
    pps_pb2_grpc.add_APIServicer_to_server(service, runner)
    service.port = runner.add_insecure_port("127.0.0.1:0")  # type: ignore[attr-defined]
    runner.start()
    yield service
    runner.stop(None).wait()


@pytest.fixture
def kube(server: Server) -> FakeKube:
    fake = FakeKube([pod("pachyderm", "pachd-1", "pachd")])
    fake.logged["pachd-1"] = CLEAN
    for port in (650, 653):
        fake.forwarded[("pachd-1", port)] = ("127.0.0.1", server.port)  # type: ignore[attr-defined]
    return fake


def prove(kube: FakeKube, expected: acceptance.Expected = EXPECTED, **options: Any) -> dict[str, Finding]:
    arguments = {"timeout": 5.0, **options}
    return {finding.check: finding for finding in acceptance.prove(kube, "pachyderm", expected, **arguments).findings}


def test_a_working_pachd_passes_and_nothing_is_left(kube: FakeKube, server: Server) -> None:
    found = prove(kube)
    assert {check: finding.severity for check, finding in found.items()} == dict.fromkeys(
        ["version", "deployment-id", "cluster-id", "kubernetes-self-test", "object-store"], "ok"
    )
    assert "32768 bytes" in found["object-store"].found
    assert server.repos == {}


def test_the_same_pod_writes_the_same_content_and_another_one_does_not(kube: FakeKube, server: Server) -> None:
    prove(kube)
    prove(kube)
    assert server.written[0] == server.written[1]
    kube.put(pod("pachyderm", "pachd-0", "pachd"))
    kube.objects = dict(reversed(kube.objects.items()))
    kube.forwarded[("pachd-0", 650)] = kube.forwarded[("pachd-1", 650)]
    prove(kube)
    assert server.written[2] != server.written[0]


def test_another_version_answers(kube: FakeKube, server: Server) -> None:
    server.micro = 3
    finding = prove(kube)["version"]
    assert finding.severity == "error"
    assert "1.13.3" in finding.found


def test_a_build_of_the_same_version_is_named_in_full(kube: FakeKube, server: Server) -> None:
    server.additional = "-dirty"
    finding = prove(kube)["version"]
    assert finding.severity == "ok"
    assert "1.13.4-dirty" in finding.found


def test_the_stand_in_is_announced(kube: FakeKube, server: Server) -> None:
    server.additional = "-standin"
    finding = prove(kube)["version"]
    assert finding.severity == "warning"
    assert "not Pachyderm" in finding.found


def test_another_deployment_id(kube: FakeKube) -> None:
    expected = acceptance.Expected(release=release("1.13.4"), deployment_id="another")
    finding = prove(kube, expected)["deployment-id"]
    assert finding.severity == "error"
    assert (finding.found, finding.wanted) == ("d3pl0y", "another")
    assert prove(kube, acceptance.Expected(release=release("1.13.4")))["deployment-id"].severity == "ok"


def test_pachds_complaints_about_kubernetes(kube: FakeKube) -> None:
    kube.logged["pachd-1"] = NODES + CREATE + CREATE
    finding = prove(kube)["kubernetes-self-test"]
    assert finding.severity == "error"
    assert finding.found.splitlines() == [
        "unable to create kubernetes replication controllers, Pachyderm will not function properly until this is fixed."
    ]


def test_nodes_are_out_of_reach_by_design(kube: FakeKube) -> None:
    kube.logged["pachd-1"] = NODES
    assert prove(kube)["kubernetes-self-test"].severity == "ok"
    asked = acceptance.Expected(release=release("1.13.4"), cluster_roles=True)
    assert prove(kube, asked)["kubernetes-self-test"].severity == "error"


def test_a_log_that_could_not_be_read_too_early_is_read_again(kube: FakeKube, server: Server) -> None:
    line = "unable to access kubernetes logs, Pachyderm will continue to work but 'pachctl logs' will not work. error: "
    kube.logged["pachd-1"] = line + "the server rejected our request for an unknown reason (get pods pachd-1)"
    assert prove(kube)["kubernetes-self-test"].severity == "ok"
    server.logs = False
    assert prove(kube)["kubernetes-self-test"].severity == "error"
    server.logs = True
    kube.logged["pachd-1"] = line + 'pods "pachd-1" is forbidden'
    assert prove(kube)["kubernetes-self-test"].severity == "error"


def test_an_object_store_that_changes_content(kube: FakeKube, server: Server) -> None:
    server.garble = True
    finding = prove(kube)["object-store"]
    assert finding.severity == "error"
    assert "other bytes" in finding.found
    assert server.repos == {}


def test_a_pachd_whose_etcd_was_just_replaced_gets_time_to_find_it(
    kube: FakeKube, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refuse = "etcdserver: leader changed"

    def mend(_seconds: float) -> None:
        server.refuse = ""

    monkeypatch.setattr(acceptance.time, "sleep", mend)
    assert prove(kube)["object-store"].severity == "ok"


def test_an_etcd_that_stays_away_is_an_error(kube: FakeKube, server: Server) -> None:
    server.refuse = "etcdserver: no leader"
    assert "no leader" in prove(kube, settling=0.0)["object-store"].found


def test_an_object_store_that_refuses(kube: FakeKube, server: Server) -> None:
    server.refuse = "unable to write to object storage"
    finding = prove(kube)["object-store"]
    assert finding.severity == "error"
    assert "unable to write to object storage" in finding.found


def test_active_authentication_without_a_token_is_a_warning(kube: FakeKube, server: Server) -> None:
    server.token = "t0ken"
    assert prove(kube)["object-store"].severity == "warning"
    assert prove(kube, token="t0ken")["object-store"].severity == "ok"


def test_check_mode_writes_nothing(kube: FakeKube, server: Server) -> None:
    assert set(prove(kube, write=False)) == {"version", "deployment-id", "cluster-id", "kubernetes-self-test"}
    assert server.requests == []


def test_a_pipelines_output_is_read_back(kube: FakeKube, server: Server) -> None:
    patch = '[{"op":"add","path":"/hostAliases","value":[]}]'
    assert prove(kube, pipeline_image="any", pod_patch=patch)["pipeline"].severity == "ok"
    assert server.pod_patches == [patch]
    assert server.pipelines == []
    assert server.repos == {}


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([pps_pb2.JOB_FAILURE], ["the job failed", "datum failed"]),
        ([pps_pb2.JOB_KILLED], ["the job was killed"]),
        ([-1], ["no job was started"]),
        ([pps_pb2.JOB_RUNNING], ["still running"]),
    ],
)
def test_a_pipeline_that_does_not_end_well(kube: FakeKube, server: Server, states: list[int], words: list[str]) -> None:
    server.job_states = states
    finding = prove(kube, pipeline_image="any", timeout=1.2)["pipeline"]
    assert finding.severity == "error"
    for word in words:
        assert word in finding.found
    assert server.pipelines == []


def test_tls_is_avoided_by_the_peer_port(kube: FakeKube) -> None:
    (live,) = kube.objects.values()
    live["spec"]["volumes"] = [{"name": "pachd-tls-cert"}]
    del kube.forwarded[("pachd-1", 650)]
    assert prove(kube)["version"].severity == "ok"


def test_no_ready_pod() -> None:
    with pytest.raises(PachdError, match="no pod has the labels"):
        acceptance.prove(FakeKube(), "pachyderm", EXPECTED)
    waiting = FakeKube([pod("pachyderm", "pachd-1", "pachd", ready=False, phase="Pending")])
    with pytest.raises(PachdError, match="pachd-1 is Pending"):
        acceptance.prove(waiting, "pachyderm", EXPECTED)


def test_nobody_answers() -> None:
    with Pachd("127.0.0.1", 1, timeout=0.3) as pachd, pytest.raises(PachdError, match="gave no answer"):
        pachd.version()


def test_files_go_in_chunks_and_replace_what_was_there(server: Server) -> None:
    with Pachd("127.0.0.1", server.port, timeout=5) as pachd:  # type: ignore[attr-defined]
        pachd.create_repo("one")
        assert pachd.repos() == ["one"]
        pachd.put_file("one", "master", "/big", io.BytesIO(b"x" * (2 << 20)))
        pachd.put_file("one", "master", "/empty", io.BytesIO(b""), overwrite=False)
        assert server.requests == ["2 messages, overwrite True", "1 messages, overwrite False"]
        assert len(b"".join(pachd.get_file("one", "master", "/big"))) == 2 << 20
