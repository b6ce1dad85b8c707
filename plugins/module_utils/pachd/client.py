# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""pachd's own API, as far as the collection asks for it, with a time limit on every call.

The messages and stubs are those that python-pachyderm ships; its client is not used because it has no time limits and
honours proxies for a port-forward on this host.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ..errors import PachdError
from ..protobuf import Field, declare

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_TIMEOUT = 30.0
CHUNK = 1 << 20
# pachd's own limit for one message (src/client/pkg/grpcutil/server.go).
MAX_MESSAGE = 20 << 20
# pachd stays Ready while its etcd is replaced, and refuses until its client has found the new one.
SETTLING = 60.0
PASSING = re.compile(r"etcd|unavailable|transport|connection (refused|reset|closed)", re.IGNORECASE)
_RETRY = 1.0
_LOOK = 1.0  # seconds between two looks at a transfer
# What pachd 1.13 says of what does not exist; its gRPC code is UNKNOWN for nearly everything.
_NOT_THERE = re.compile(r"not found|has no head|has no commits")


# src/client/admin/admin.proto. The generated file would import the messages of six older releases with it, which takes
# longer than everything else that is imported here.
_CLUSTER_INFO: Sequence[Field] = (("id", 1, "string"), ("deployment_id", 2, "string"))


@contextmanager
def _package_without_its_init(name: str) -> Iterator[None]:
    """Let modules of a package be imported without what its ``__init__`` imports; a package that is loaded stays.

    :raises ImportError: there is no such package.
    """
    if name in sys.modules:
        yield
        return
    spec = find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"No module named {name!r}")
    package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
    try:
        yield
    finally:
        # Whoever imports it next gets the whole of it.
        del sys.modules[name]


def chunks(content: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a stream in pieces of :data:`CHUNK`, which a message may have."""
    return iter(lambda: content.read(CHUNK), b"")


class NotThere(PachdError):
    """What was asked for does not exist: a repo, branch, commit, file, pipeline, job or secret."""


class TimeUp(PachdError):
    """A stream had not ended within the time that it was given."""


class Cluster(NamedTuple):
    """What pachd says about itself: the id in its etcd, and the CLUSTER_DEPLOYMENT_ID of its environment."""

    id: str
    deployment_id: str


class Pachd:
    """One connection to pachd; a context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        authority: bytes | None = None,
    ) -> None:
        """:param token: an authentication token, where authentication is active.
        :param timeout: seconds for one call; a transfer of content ends when nothing moved for that long.
        :param authority: speak TLS and trust these certificates (PEM), the system's where empty.
        :raises PachdError: python-pachyderm or grpcio is not installed.
        """
        try:
            import grpc
            from google.protobuf.empty_pb2 import Empty

            with _package_without_its_init("python_pachyderm"):
                from python_pachyderm.proto.pfs import pfs_pb2, pfs_pb2_grpc
                from python_pachyderm.proto.pps import pps_pb2, pps_pb2_grpc
                from python_pachyderm.proto.version.versionpb import version_pb2_grpc
        except ImportError as error:
            raise PachdError(
                "a Python library is missing on the controller",
                why=str(error),
                fix="Install the collection's requirements.txt into ansible_playbook_python.",
            ) from None
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.pfs_pb2 = pfs_pb2
        self.pps_pb2 = pps_pb2
        self.empty = Empty()
        self._error = grpc.RpcError
        self._timed_out = grpc.FutureTimeoutError
        self._timeout = timeout
        self._metadata = [("authn-token", token)] if token else []
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.enable_http_proxy", 0),
            # So that a stream over a dead connection ends; pachctl's own values (src/client/client.go).
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ]
        if authority is None:
            self._channel = grpc.insecure_channel(self.address, options)
        else:
            credentials = grpc.ssl_channel_credentials(authority or None)
            self._channel = grpc.secure_channel(self.address, credentials, options)
        cluster_info = declare("pachops.admin", {"ClusterInfo": _CLUSTER_INFO})["ClusterInfo"]
        self._inspect_cluster = self._channel.unary_unary(
            "/admin.API/InspectCluster",
            request_serializer=Empty.SerializeToString,
            response_deserializer=cluster_info.FromString,
        )
        self._health = self._channel.unary_unary(
            "/health.Health/Health",
            request_serializer=Empty.SerializeToString,
            response_deserializer=Empty.FromString,
        )
        self._version = version_pb2_grpc.APIStub(self._channel)
        self.pfs = pfs_pb2_grpc.APIStub(self._channel)
        self.pps = pps_pb2_grpc.APIStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def version(self) -> str:
        """Return pachd's version, e.g. ``1.13.4``."""
        answer = self.call(self._version.GetVersion, self.empty, "its version")
        return f"{answer.major}.{answer.minor}.{answer.micro}{answer.additional}"

    def cluster(self) -> Cluster:
        """Return the cluster's ids."""
        answer = self.call(self._inspect_cluster, self.empty, "the cluster's id")
        return Cluster(answer.id, answer.deployment_id)

    def trouble(self) -> str:
        """Return why pachd does not call itself healthy, nothing where it does."""
        try:
            self.call(self._health, self.empty, "for its health")
        except PachdError as error:
            return error.why
        return ""

    def settle(self, seconds: float = SETTLING) -> None:
        """Wait while pachd has no connection to its etcd, for at most so many seconds.

        :raises PachdError: it still has none.
        """
        nothing = self.pfs_pb2.InspectRepoRequest(repo=self.pfs_pb2.Repo(name="pachops-none"))
        deadline = time.monotonic() + seconds
        while True:
            try:
                # The cheapest question that it cannot answer out of its own memory.
                self.call(self.pfs.InspectRepo, nothing, "whether it reaches its etcd")
            except PachdError as error:
                unanswered = "deadline_exceeded" in error.why
                if unanswered or (PASSING.search(error.why) and time.monotonic() >= deadline):
                    raise
                if not PASSING.search(error.why):
                    return
            else:
                return
            time.sleep(_RETRY)

    def repo_infos(self) -> list[Any]:
        """Return all repos as ``pfs.RepoInfo``, but for the one of the pipelines' specifications."""
        return list(self.call(self.pfs.ListRepo, self.pfs_pb2.ListRepoRequest(), "the repos").repo_info)

    def repos(self) -> list[str]:
        """Return the names of all repos."""
        return [info.repo.name for info in self.repo_infos()]

    def create_repo(self, name: str, description: str = "", *, update: bool = False) -> None:
        """Create a repo; an existing one is an error.

        :param update: change the description of an existing one instead.
        """
        repo = self.pfs_pb2.Repo(name=name)
        request = self.pfs_pb2.CreateRepoRequest(repo=repo, description=description, update=update)
        self.call(self.pfs.CreateRepo, request, f"to create repo {name}")

    def delete_repo(self, name: str, *, force: bool = False) -> None:
        """Delete a repo; pachd 1.13 accepts the deletion of a missing one.

        :param force: delete it although commits of other repos descend from it.
        """
        repo = self.pfs_pb2.Repo(name=name)
        self.call(self.pfs.DeleteRepo, self.pfs_pb2.DeleteRepoRequest(repo=repo, force=force), f"to delete repo {name}")

    def put_file(self, repo: str, branch: str, path: str, content: IO[bytes], *, overwrite: bool = True) -> None:
        """Write one file in one commit on ``branch``, which is made where it does not exist.

        :param overwrite: replace a file of that name; otherwise the content is appended to it, pachd's default.
        """
        requests = self.file_requests(self.file(repo, branch, path), chunks(content), overwrite=overwrite)
        self.send(self.pfs.PutFile, requests, f"to write {repo}@{branch}:{path}")

    def file_requests(self, file: Any, content: Iterable[bytes], *, overwrite: bool = True) -> Iterator[Any]:
        """Yield the messages of one file for a call of ``PutFile``, which may have those of several."""
        head: dict[str, Any] = {"file": file}
        if overwrite:
            head["overwrite_index"] = self.pfs_pb2.OverwriteIndex(index=0)
        for chunk in content:
            yield self.pfs_pb2.PutFileRequest(value=chunk, **head)
            head = {}
        if head:
            yield self.pfs_pb2.PutFileRequest(value=b"", **head)

    def get_file(self, repo: str, commit: str, path: str) -> Iterator[bytes]:
        """Yield the content of a file; ``commit`` is an id or a branch."""
        request = self.pfs_pb2.GetFileRequest(file=self.file(repo, commit, path))
        for message in self.stream(self.pfs.GetFile, request, f"for {repo}@{commit}:{path}"):
            yield bytes(message.value)

    def walk(self, repo: str, commit: str, path: str) -> Iterable[Any]:
        """Yield ``pfs.FileInfo`` of what is at a path and below it."""
        request = self.pfs_pb2.WalkFileRequest(file=self.file(repo, commit, path))
        return self.stream(self.pfs.WalkFile, request, f"for the files of {repo}@{commit}:{path}")

    def file(self, repo: str, commit: str, path: str) -> Any:
        """Return a ``pfs.File``; ``commit`` is an id or a branch."""
        where = self.pfs_pb2.Commit(repo=self.pfs_pb2.Repo(name=repo), id=commit)
        return self.pfs_pb2.File(commit=where, path=path)

    def pipeline_infos(self) -> list[Any]:
        """Return all pipelines as ``pps.PipelineInfo``."""
        # Incomplete answers come from etcd alone, so that one unreadable specification does not hide the rest.
        request = self.pps_pb2.ListPipelineRequest(allow_incomplete=True)
        return list(self.call(self.pps.ListPipeline, request, "the pipelines").pipeline_info)

    def create_pipeline(self, request: Any) -> None:
        """Create the pipeline of a ``pps.CreatePipelineRequest``."""
        self.call(self.pps.CreatePipeline, request, f"to create pipeline {request.pipeline.name}")

    def delete_pipeline(self, name: str, *, force: bool = True, keep_repo: bool = False) -> None:
        """Delete a pipeline and its output repo.

        :param force: delete it although others read its output.
        """
        pipeline = self.pps_pb2.Pipeline(name=name)
        request = self.pps_pb2.DeletePipelineRequest(pipeline=pipeline, force=force, keep_repo=keep_repo)
        self.call(self.pps.DeletePipeline, request, f"to delete pipeline {name}")

    def jobs(self, pipeline: str) -> list[Any]:
        """Return the jobs of a pipeline as ``pps.JobInfo``, newest first."""
        request = self.pps_pb2.ListJobRequest(pipeline=self.pps_pb2.Pipeline(name=pipeline), history=-1)
        return list(self.stream(self.pps.ListJobStream, request, f"for the jobs of {pipeline}"))

    def own_log(self) -> list[str]:
        """Return a few lines of pachd's own log, which pachd reads through the Kubernetes API."""
        request = self.pps_pb2.GetLogsRequest(tail=5)
        return [message.message for message in self.stream(self.pps.GetLogs, request, "for its own log")]

    def call(self, method: Callable[..., Any], request: Any, what: str, *, timeout: float = 0.0) -> Any:
        """Send one request and return the answer.

        :param what: the object of "could not ask pachd …", for the message.
        :param timeout: seconds, where the connection's own limit for one call is not enough.
        :raises NotThere: what it is about does not exist.
        :raises PachdError: pachd refused or gave no answer.
        """
        try:
            return method(request, timeout=timeout or self._timeout, metadata=self._metadata, wait_for_ready=True)
        except self._error as error:
            raise self._refused(error, what) from None

    def send(self, method: Any, requests: Iterator[Any], what: str) -> Any:
        """Send a stream of requests and return the answer; it ends when none was taken for the connection's timeout."""
        moved = time.monotonic()

        def counted() -> Iterator[Any]:
            nonlocal moved
            for request in requests:
                moved = time.monotonic()
                yield request
            moved = time.monotonic()

        call = method.future(counted(), metadata=self._metadata, wait_for_ready=True)
        try:
            while True:
                try:
                    return call.result(timeout=_LOOK)
                except self._timed_out:
                    if time.monotonic() - moved > self._timeout:
                        raise PachdError(
                            f"pachd took nothing any more when asked {what}",
                            where=self.address,
                            why=f"no progress for {self._timeout:.0f} s",
                            fix="Run it again; give a longer timeout where pachd or its object store is that slow.",
                        ) from None
        except self._error as error:
            raise self._refused(error, what) from None
        finally:
            call.cancel()

    def stream(
        self, method: Callable[..., Any], request: Any, what: str, *, limit: float | None = None
    ) -> Iterable[Any]:
        """Send one request and yield the answers, for as long as they come.

        :param limit: seconds that it may take as a whole.
        :raises TimeUp: it was not through by then.
        """
        try:
            yield from method(request, timeout=limit, metadata=self._metadata, wait_for_ready=False)
        except self._error as error:
            if limit is not None and error.code().name == "DEADLINE_EXCEEDED":
                raise TimeUp(f"not through after {limit:.0f} s when asked {what}", where=self.address) from None
            raise self._refused(error, what) from None

    def _refused(self, error: Any, what: str) -> PachdError:
        code, details = error.code().name, error.details() or ""
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            return PachdError(
                f"pachd gave no answer when asked {what}",
                where=self.address,
                why=f"{details or 'no reason given'} ({code.lower()})",
                fix="Run `ansible-playbook playbooks/doctor.yml` to see why.",
            )
        if code == "UNAUTHENTICATED" or "(try logging in" in details:
            return PachdError(
                f"pachd wants a valid token when asked {what}",
                where=self.address,
                why=details,
                fix="Log in with `pachctl auth login` and give its session_token (~/.pachyderm/config.json) as token.",
            )
        kind = NotThere if _NOT_THERE.search(details) else PachdError
        return kind(f"pachd refused when asked {what}", where=self.address, why=details or code.lower())
