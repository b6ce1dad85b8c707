# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in's gRPC services and its start, in the order of src/server/cmd/pachd/main.go of v1.13.4."""

from __future__ import annotations

import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient, Put, Unchanged
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import decode_block_ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects, new_id
from ansible_collections.pachops.pachyderm.plugins.module_utils.protobuf import declare
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from python_pachyderm.proto.auth import auth_pb2_grpc
from python_pachyderm.proto.debug import debug_pb2_grpc
from python_pachyderm.proto.enterprise import enterprise_pb2, enterprise_pb2_grpc
from python_pachyderm.proto.health import health_pb2_grpc
from python_pachyderm.proto.pfs import pfs_pb2 as pb
from python_pachyderm.proto.pfs import pfs_pb2_grpc
from python_pachyderm.proto.pps import pps_pb2_grpc
from python_pachyderm.proto.transaction import transaction_pb2, transaction_pb2_grpc
from python_pachyderm.proto.version.versionpb import version_pb2, version_pb2_grpc

from . import config, logs, storage
from .errors import NotImplementedHere, PachError
from .kube import Kube
from .master import Master
from .pfs import Pfs
from .pps import Pps

NOTICE = "pachd stand-in: a test double, not Pachyderm. Keep nothing in it that you need."
MESSAGE_LIMIT = 20 << 20
_CHUNK = 2 << 20
_THREADS = 256
_METRICS: dict[str, int] = {}


class _Calls(grpc.ServerInterceptor):
    """Logs every call and gives errors the codes and words that pachd's have."""

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        method = details.method.strip("/").replace("/", ".")
        streams = handler.response_streaming
        behaviour = (
            (handler.stream_stream if handler.request_streaming else handler.unary_stream)
            if streams
            else (handler.stream_unary if handler.request_streaming else handler.unary_unary)
        )

        def shown(request: Any) -> Any:
            return {} if handler.request_streaming else MessageToDict(request, preserving_proto_field_name=True)

        def failed(error: Exception, request: Any, context: Any, start: float) -> None:
            code, text = _status(error, method)
            _METRICS[f"{method}_errored"] = _METRICS.get(f"{method}_errored", 0) + 1
            logs.call(method, failed=True, request=shown(request), error=text, duration=time.monotonic() - start)
            context.abort(code, text)

        def once(request: Any, context: Any) -> Any:
            start = time.monotonic()
            logs.call(method, request=shown(request))
            try:
                answer = behaviour(request, context)
            except Exception as error:  # every error has to become a status
                failed(error, request, context, start)
            logs.call(method, request=shown(request), duration=time.monotonic() - start)
            _METRICS[f"{method}_finished"] = _METRICS.get(f"{method}_finished", 0) + 1
            return answer

        def many(request: Any, context: Any) -> Iterator[Any]:
            start = time.monotonic()
            logs.call(method, request=shown(request))
            try:
                yield from behaviour(request, context)
            except Exception as error:  # every error has to become a status
                if not context.is_active():
                    return
                failed(error, request, context, start)
            logs.call(method, request=shown(request), duration=time.monotonic() - start)
            _METRICS[f"{method}_finished"] = _METRICS.get(f"{method}_finished", 0) + 1

        kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if streams else 'unary'}"
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        if method == "health.Health.Health":
            return handler
        return make(many if streams else once, handler.request_deserializer, handler.response_serializer)


def _status(error: Exception, method: str) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, NotImplementedError):
        error = NotImplementedHere(method)
    if isinstance(error, PachError):
        return error.code, str(error)
    if isinstance(error, PachopsError):
        return grpc.StatusCode.UNKNOWN, str(error)
    import traceback

    logs.error(f"{method} failed in the stand-in itself:\n{traceback.format_exc()}")
    return grpc.StatusCode.INTERNAL, f"the pachd stand-in failed: {type(error).__name__}: {error}"


def _bytes(chunks: Iterator[bytes]) -> Iterator[BytesValue]:
    for chunk in chunks:
        for start in range(0, len(chunk), _CHUNK):
            yield BytesValue(value=chunk[start : start + _CHUNK])


class PfsApi(pfs_pb2_grpc.APIServicer):
    """pfs.API"""

    def __init__(self, pfs: Pfs, transactions: Transactions) -> None:
        self._pfs = pfs
        self._transactions = transactions

    def _write(self, context: Any, field: str, request: Any) -> Any:
        return self._transactions.run(context, field, request)

    def CreateRepo(self, request: Any, context: Any) -> Empty:
        self._write(context, "create_repo", request)
        return Empty()

    def InspectRepo(self, request: Any, context: Any) -> pb.RepoInfo:
        if not request.HasField("repo"):
            raise PachError("repo cannot be nil")
        return self._pfs.inspect_repo(request.repo.name)

    def ListRepo(self, request: Any, context: Any) -> pb.ListRepoResponse:
        return pb.ListRepoResponse(repo_info=self._pfs.list_repo())

    def DeleteRepo(self, request: Any, context: Any) -> Empty:
        self._write(context, "delete_repo", request)
        return Empty()

    def StartCommit(self, request: Any, context: Any) -> pb.Commit:
        return self._write(context, "start_commit", request)

    def BuildCommit(self, request: Any, context: Any) -> pb.Commit:
        return self._pfs.write(
            lambda each: self._pfs.make_commit(
                each, request.parent, request.branch, request.provenance, id=request.ID, built=request
            )
        )

    def FinishCommit(self, request: Any, context: Any) -> Empty:
        self._write(context, "finish_commit", request)
        return Empty()

    def InspectCommit(self, request: Any, context: Any) -> pb.CommitInfo:
        if not request.HasField("commit"):
            raise PachError("cannot inspect nil commit")
        return self._pfs.inspect_commit(request.commit, request.block_state, context.is_active)

    def ListCommit(self, request: Any, context: Any) -> pb.CommitInfos:
        return pb.CommitInfos(commit_info=self._pfs.list_commit(request))

    def ListCommitStream(self, request: Any, context: Any) -> Iterator[pb.CommitInfo]:
        return self._pfs.list_commit(request)

    def DeleteCommit(self, request: Any, context: Any) -> Empty:
        self._write(context, "delete_commit", request)
        return Empty()

    def FlushCommit(self, request: Any, context: Any) -> Iterator[pb.CommitInfo]:
        return self._pfs.flush_commit(request, context.is_active)

    def SubscribeCommit(self, request: Any, context: Any) -> Iterator[pb.CommitInfo]:
        return self._pfs.subscribe_commit(request, context.is_active)

    def CreateBranch(self, request: Any, context: Any) -> Empty:
        self._write(context, "create_branch", request)
        return Empty()

    def InspectBranch(self, request: Any, context: Any) -> pb.BranchInfo:
        if not request.HasField("branch"):
            raise PachError("branch cannot be nil")
        if not request.branch.HasField("repo"):
            raise PachError("branch repo cannot be nil")
        return self._pfs.inspect_branch(self._pfs.reading(), request.branch)

    def ListBranch(self, request: Any, context: Any) -> pb.BranchInfos:
        return pb.BranchInfos(branch_info=self._pfs.list_branch(request.repo.name, request.reverse))

    def DeleteBranch(self, request: Any, context: Any) -> Empty:
        self._write(context, "delete_branch", request)
        return Empty()

    def PutFile(self, requests: Any, context: Any) -> Empty:
        try:
            self._pfs.put_files(requests)
        finally:
            for _unused in requests:  # a client that is refused may still be sending
                pass
        return Empty()

    def CopyFile(self, request: Any, context: Any) -> Empty:
        self._pfs.copy_file(request)
        return Empty()

    def GetFile(self, request: Any, context: Any) -> Iterator[BytesValue]:
        if not request.HasField("file"):
            raise PachError("file cannot be nil")
        return _bytes(self._pfs.get_file(request))

    def InspectFile(self, request: Any, context: Any) -> pb.FileInfo:
        return self._pfs.inspect_file(request.file)

    def ListFile(self, request: Any, context: Any) -> pb.FileInfos:
        return pb.FileInfos(file_info=self._pfs.list_file(request))

    def ListFileStream(self, request: Any, context: Any) -> Iterator[pb.FileInfo]:
        return self._pfs.list_file(request)

    def WalkFile(self, request: Any, context: Any) -> Iterator[pb.FileInfo]:
        return self._pfs.walk_file(request.file)

    def GlobFile(self, request: Any, context: Any) -> pb.FileInfos:
        return pb.FileInfos(file_info=self._pfs.glob_file(request.commit, request.pattern))

    def GlobFileStream(self, request: Any, context: Any) -> Iterator[pb.FileInfo]:
        return self._pfs.glob_file(request.commit, request.pattern)

    def DiffFile(self, request: Any, context: Any) -> pb.DiffFileResponse:
        new_files, old_files = self._pfs.diff_file(request)
        return pb.DiffFileResponse(new_files=new_files, old_files=old_files)

    def DeleteFile(self, request: Any, context: Any) -> Empty:
        if not request.HasField("file"):
            raise PachError("file cannot be nil")
        self._pfs.delete_file(request.file)
        return Empty()

    def DeleteAll(self, request: Any, context: Any) -> Empty:
        self._write(context, "delete_repo", pb.DeleteRepoRequest(all=True))
        return Empty()

    def Fsck(self, request: Any, context: Any) -> Iterator[pb.FsckResponse]:
        return self._pfs.fsck(request.fix)


class ObjectApi(pfs_pb2_grpc.ObjectAPIServicer):
    """pfs.ObjectAPI, as far as workers and tools use it; only on the peer port."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def PutObject(self, requests: Any, context: Any) -> pb.Object:
        tags: list[str] = []

        def chunks() -> Iterator[bytes]:
            for request in requests:
                tags.extend(each.name for each in request.tags)
                yield request.value

        name, _unused = self._objects.put(chunks())
        for tag in tags:
            self._objects.tag(name, tag)
        return pb.Object(hash=name)

    def PutObjects(self, requests: Any, context: Any) -> Empty:
        first = next(requests)
        if not first.HasField("block"):
            raise PachError("first put objects request should include a block")
        self._objects.put_block(first.block.hash, (each.value for each in requests))
        return Empty()

    def CreateObject(self, request: Any, context: Any) -> Empty:
        self._objects.point(request.object.hash, decode_block_ref(request.block_ref))
        return Empty()

    def GetObject(self, request: Any, context: Any) -> Iterator[BytesValue]:
        return _bytes(self._objects.read([request.hash]))

    def GetObjects(self, request: Any, context: Any) -> Iterator[BytesValue]:
        names = [each.hash for each in request.objects]
        return _bytes(self._objects.read(names, request.offset_bytes, request.size_bytes))

    def GetBlocks(self, request: Any, context: Any) -> Iterator[BytesValue]:
        blocks = [decode_block_ref(each) for each in request.blockRefs]
        return _bytes(self._objects.read_blocks(blocks, request.offset_bytes, request.size_bytes))

    def InspectObject(self, request: Any, context: Any) -> pb.ObjectInfo:
        return self._info(request.hash)

    def CheckObject(self, request: Any, context: Any) -> pb.CheckObjectResponse:
        return pb.CheckObjectResponse(exists=self._objects.has(request.object.hash))

    def ListObjects(self, request: Any, context: Any) -> Iterator[pb.ObjectInfo]:
        for name in self._objects.names("object"):
            yield self._info(name.rpartition("/")[2])

    def TagObject(self, request: Any, context: Any) -> Empty:
        for tag in request.tags:
            self._objects.tag(request.object.hash, tag.name)
        return Empty()

    def GetTag(self, request: Any, context: Any) -> Iterator[BytesValue]:
        return _bytes(self._objects.read([self._tagged(request.name)]))

    def InspectTag(self, request: Any, context: Any) -> pb.ObjectInfo:
        return self._info(self._tagged(request.name))

    def ListTags(self, request: Any, context: Any) -> Iterator[pb.ListTagsResponse]:
        for name in self._objects.names("tag"):
            tag = name.rpartition("/")[2]
            if tag.startswith(request.prefix):
                answer = pb.ListTagsResponse(tag=pb.Tag(name=tag))
                if request.include_object:
                    answer.object.hash = self._tagged(tag)
                yield answer

    def DeleteTags(self, request: Any, context: Any) -> pb.DeleteTagsResponse:
        for tag in request.tags:
            self._objects.delete(f"tag/{tag.name}")
        return pb.DeleteTagsResponse()

    def PutObjDirect(self, requests: Any, context: Any) -> Empty:
        first = next(requests)

        def chunks() -> Iterator[bytes]:
            yield first.value
            for request in requests:
                yield request.value

        self._objects.store.write(self._direct(first.obj), chunks())
        return Empty()

    def GetObjDirect(self, request: Any, context: Any) -> Iterator[BytesValue]:
        return _bytes(self._objects.store.read(self._direct(request.obj)))

    def _direct(self, path: str) -> str:
        """Return the key of a path that the caller built from PACH_ROOT, or of one outside it."""
        for tree in ("block", "object", "tag", "index"):
            found = re.search(rf"(?:^|/){tree}/([^/]+)$", path)
            if found:
                return self._objects.key(f"{tree}/{found[1]}")
        return self._objects.raw(path)

    def _tagged(self, tag: str) -> str:
        name = self._objects.tagged(tag)
        if name is None:
            raise PachError(f"tagGetter: tag {tag} not found")
        return name

    def _info(self, name: str) -> pb.ObjectInfo:
        block = self._objects.locate(name)
        info = pb.ObjectInfo(object=pb.Object(hash=name))
        info.block_ref.block.hash = block.block
        info.block_ref.range.lower, info.block_ref.range.upper = block.lower, block.upper
        return info


class Transactions(transaction_pb2_grpc.APIServicer):
    """transaction.API: several changes that happen together, or none of them."""

    def __init__(self, pfs: Pfs, prefix: str) -> None:
        from .db import Collection

        self._pfs = pfs
        self._table = Collection(f"{prefix}/transactions", transaction_pb2.TransactionInfo)
        self.pps: Pps | None = None

    def run(self, context: Any, field: str, request: Any) -> Any:
        """Do a change now, or add it to the transaction that the caller has begun."""
        active = dict(context.invocation_metadata()).get("pach-transaction")
        if not active:
            return self._pfs.write(lambda each: self._apply(each, field, request, ""))
        addition = transaction_pb2.TransactionRequest()
        getattr(addition, field).CopyFrom(request)

        def append(each: Any) -> Any:
            info = self._table.get(each.txn, active)
            info.requests.append(addition)
            answers = self._dry_run(info)
            del info.responses[:]
            info.responses.extend(answers)
            self._table.put(each.txn, active, info)
            return answers[-1].commit if answers[-1].HasField("commit") else None

        return self._pfs.write(append)

    def _apply(self, each: Any, field: str, request: Any, id: str) -> Any:
        pfs = self._pfs
        request = type(request).FromString(request.SerializeToString())
        if field == "create_repo":
            if not request.HasField("repo"):
                raise PachError("repo cannot be nil")
            pfs.create_repo(each, request.repo.name, request.description, request.update)
        elif field == "delete_repo":
            names = [info.repo.name for info in pfs.list_repo()] if request.all else [request.repo.name]
            for name in names:
                pfs.delete_repo(each, name, request.force or request.all)
        elif field == "start_commit":
            return pfs.start_commit(each, request, id)
        elif field == "finish_commit":
            pfs.finish_commit(each, request)
        elif field == "delete_commit":
            pfs.delete_commit(each, request.commit)
        elif field == "create_branch":
            if not request.HasField("branch"):
                raise PachError("branch cannot be nil")
            if not request.branch.HasField("repo"):
                raise PachError("branch repo cannot be nil")
            head = request.head if request.HasField("head") else None
            trigger = request.trigger if request.HasField("trigger") else None
            pfs.create_branch(each, request.branch, head, request.provenance, trigger)
        elif field == "delete_branch":
            pfs.delete_branch(each, request.branch, request.force)
        elif field == "update_job_state" and self.pps is not None:
            self.pps.update_job_state(each, request)
        else:
            raise NotImplementedHere(f"{field} in a transaction")
        return None

    def _all(self, each: Any, info: Any) -> list[Any]:
        answers = []
        for position, request in enumerate(info.requests):
            fields = [field for field, _unused in request.ListFields()]
            answer = transaction_pb2.TransactionResponse()
            for field in fields:
                known = info.responses[position].commit.id if position < len(info.responses) else ""
                result = self._apply(each, field.name, getattr(request, field.name), known)
                if isinstance(result, pb.Commit):
                    answer.commit.CopyFrom(result)
            answers.append(answer)
        return answers

    def _dry_run(self, info: Any) -> list[Any]:
        from .pfs import Context

        each = Context(self._pfs, self._pfs.reading())
        answers = self._all(each, info)
        each.finish()
        return answers

    def StartTransaction(self, request: Any, context: Any) -> Any:
        info = transaction_pb2.TransactionInfo(transaction=transaction_pb2.Transaction(id=new_id()))
        info.started.GetCurrentTime()
        self._pfs.write(lambda each: self._table.create(each.txn, info.transaction.id, info))
        return info.transaction

    def InspectTransaction(self, request: Any, context: Any) -> Any:
        return self._table.get(self._pfs.reading(), request.transaction.id)

    def ListTransaction(self, request: Any, context: Any) -> Any:
        infos = [info for _unused, info, _unused in self._table.newest_first(self._pfs.etcd)]
        return transaction_pb2.TransactionInfos(transaction_info=infos)

    def DeleteTransaction(self, request: Any, context: Any) -> Empty:
        self._pfs.write(lambda each: self._table.delete(each.txn, request.transaction.id))
        return Empty()

    def DeleteAll(self, request: Any, context: Any) -> Empty:
        self._pfs.write(lambda each: self._table.clear(each.txn))
        return Empty()

    def FinishTransaction(self, request: Any, context: Any) -> Any:
        def finish(each: Any) -> Any:
            info = self._table.get(each.txn, request.transaction.id)
            answers = self._all(each, info)
            self._table.delete(each.txn, request.transaction.id)
            del info.responses[:]
            info.responses.extend(answers)
            return info

        return self._pfs.write(finish)

    def BatchTransaction(self, request: Any, context: Any) -> Any:
        info = transaction_pb2.TransactionInfo(transaction=transaction_pb2.Transaction(id=new_id()))
        info.started.GetCurrentTime()
        info.requests.extend(request.requests)
        info.responses.extend(self._pfs.write(lambda each: self._all(each, info)))
        return info


class Health(health_pb2_grpc.HealthServicer):
    """health.Health: an error until the server listens."""

    def __init__(self) -> None:
        self.ready = False

    def Health(self, request: Any, context: Any) -> Empty:
        if not self.ready:
            context.abort(grpc.StatusCode.UNKNOWN, "server not ready")
        return Empty()


class Version(version_pb2_grpc.APIServicer):
    """versionpb.API: the version that is stood in for, marked."""

    def __init__(self, version: str) -> None:
        self._version = version_message(version)

    def GetVersion(self, request: Any, context: Any) -> Any:
        return self._version


def version_message(version: str) -> Any:
    """Return a version such as 1.13.4 as a message, with the mark of the stand-in."""
    major, minor, micro = (int(each) for each in version.split("."))
    return version_pb2.Version(major=major, minor=minor, micro=micro, additional="-standin")


def _admin(cluster: str, deployment: str) -> Any:
    """Return admin.API's one method; python-pachyderm's own classes would load every earlier version's with them."""
    info = declare("pachops.admin", {"ClusterInfo": [("id", 1, "string"), ("deployment_id", 2, "string")]})[
        "ClusterInfo"
    ]
    method = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: info(id=cluster, deployment_id=deployment),
        request_deserializer=Empty.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler("admin.API", {"InspectCluster": method})


class Enterprise(enterprise_pb2_grpc.APIServicer):
    """enterprise.API: never activated."""

    def GetState(self, request: Any, context: Any) -> Any:
        return enterprise_pb2.GetStateResponse(state=enterprise_pb2.NONE)


def _refusing(base: Any, message: str) -> Any:
    def refuse(self: Any, request: Any, context: Any) -> Any:
        raise PachError(message, grpc.StatusCode.UNIMPLEMENTED)

    return type("Refusing", (base,), {name: refuse for name in dir(base) if name[0].isupper()})()


class Standin:
    """One pachd stand-in: its state and its servers."""

    def __init__(self, settings: config.Settings, version: str) -> None:
        self.settings = settings
        self.version = version
        self.servers: list[Any] = []

    def etcd(self) -> EtcdClient:
        """Return a working client, or leave with status 2 when etcd stays away for as long as pachd waits."""
        address = f"{self.settings.etcd_host}:{self.settings.etcd_port}"
        end = time.monotonic() + self.settings.etcd_patience
        while True:
            client = EtcdClient(address, timeout=min(60.0, max(1.0, self.settings.etcd_patience)))
            try:
                client.get(b"cluster-id")
                return client
            except EtcdError as error:
                client.close()
                if time.monotonic() >= end:
                    config.fail(
                        f"panic: failed to initialize etcd client: context deadline exceeded\n\n({error})", status=2
                    )
                time.sleep(1)

    def start(self, mode: str) -> None:
        """Start in the mode ``full`` or ``sidecar``; leave when pachd would."""
        print(NOTICE, flush=True)
        logs.set_level(self.settings.env.text("LOG_LEVEL", "info"))
        logs.info(NOTICE)
        logs.info("no Jaeger collector found (JAEGER_COLLECTOR_SERVICE_HOST not set)")
        etcd = self.etcd()
        cluster = _once(etcd, b"cluster-id", new_id().encode()).decode()
        if mode == "full" and _external_address() is None:
            config.fail("error getting pachd external ip: not connected to network")
        name = "Block API"
        if self.settings.backend not in storage.BACKENDS and mode == "full":
            name = "External Pachd GRPC Server: error setting up PFS API"
        try:
            logs.info("started setting up Block API GRPC Server")
            objects = storage.connect(self.settings)
            storage.test(objects)
            logs.info("finished setting up Block API GRPC Server")
            name = "PFS API"
            pfs = Pfs(etcd, objects, self.settings.pfs_prefix)
            pfs.prepare()
            Path(self.settings.cache_root, "pfs-cache").mkdir(parents=True, exist_ok=True)
        except (PachError, PachopsError, OSError) as error:
            config.fail(f"error setting up {name} GRPC Server: {error}")
        kube = Kube(self.settings)
        transactions = Transactions(pfs, self.settings.pfs_prefix)
        pps = Pps(pfs, kube, self.settings)
        transactions.pps = pps
        if mode == "full":
            kube.self_test()
            _once(etcd, b"master_token", StringValue(value=new_id()).SerializeToString())
        admin = _admin(cluster, self.settings.deployment_id)
        health = []
        ports = [self.settings.port, self.settings.peer_port] if mode == "full" else [self.settings.peer_port]
        for port in ports:
            title = "External Pachd" if port == self.settings.port and mode == "full" else "Internal Pachd"
            logs.info(f"started setting up {title} GRPC Server")
            peer = port == self.settings.peer_port
            health.append(self._serve(port, pfs, objects, transactions, pps, admin, peer or self._exposed()))
            logs.info(f"finished setting up {title} GRPC Server")
        if mode == "full":
            self._plain_servers()
            Master(pfs, pps, kube, self.settings, self.version).start()
        for each in health:
            each.ready = True

    def _exposed(self) -> bool:
        return self.settings.env.flag("EXPOSE_OBJECT_API", False)

    def _serve(
        self,
        port: int,
        pfs: Pfs,
        objects: Objects,
        transactions: Transactions,
        pps: Pps,
        admin: Any,
        with_objects: bool,
    ) -> Health:
        server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS),
            interceptors=[_Calls()],
            options=[
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
                ("grpc.so_reuseport", 0),
                # pachd's own enforcement of keepalive (src/client/pkg/grpcutil/server.go).
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        from .pps_api import PpsApi

        pfs_pb2_grpc.add_APIServicer_to_server(PfsApi(pfs, transactions), server)
        pps_pb2_grpc.add_APIServicer_to_server(PpsApi(pps, transactions), server)
        transaction_pb2_grpc.add_APIServicer_to_server(transactions, server)
        if with_objects:
            pfs_pb2_grpc.add_ObjectAPIServicer_to_server(ObjectApi(objects), server)
        auth = _refusing(auth_pb2_grpc.APIServicer, "the auth service is not activated")
        auth_pb2_grpc.add_APIServicer_to_server(auth, server)
        enterprise_pb2_grpc.add_APIServicer_to_server(Enterprise(), server)
        debug = _refusing(debug_pb2_grpc.DebugServicer, str(NotImplementedHere("debug.Debug")))
        debug_pb2_grpc.add_DebugServicer_to_server(debug, server)
        server.add_generic_rpc_handlers((admin,))
        version_pb2_grpc.add_APIServicer_to_server(Version(self.version), server)
        health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        try:
            if Path("/pachd-tls-cert/tls.crt").exists() and port == self.settings.port:
                pair = (Path("/pachd-tls-cert/tls.key").read_bytes(), Path("/pachd-tls-cert/tls.crt").read_bytes())
                server.add_secure_port(f"[::]:{port}", grpc.ssl_server_credentials([pair]))
            else:
                server.add_insecure_port(f"[::]:{port}")
        except RuntimeError as error:
            config.fail(f"listen tcp :{port}: bind: address already in use ({error})")
        server.start()
        self.servers.append(server)
        return health

    def _plain_servers(self) -> None:
        """Serve metrics, and on the ports that users may know a word about what is missing."""
        for port, text in (
            (self.settings.metrics_port, None),
            (self.settings.http_port, "the pachd stand-in does not serve files over HTTP\n"),
            (self.settings.s3_port, "the pachd stand-in has no S3 gateway\n"),
        ):
            try:
                server = http.server.ThreadingHTTPServer(("", port), _handler(text))
            except OSError as error:
                if self.settings.critical_only:
                    logs.error(f"error setting up and/or running server on port {port}: {error}")
                    continue
                config.fail(
                    f"error setting up and/or running server on port {port} (use --require-critical-servers-only deploy "
                    f"flag to ignore errors from noncritical servers): {error}"
                )
            threading.Thread(target=server.serve_forever, daemon=True).start()


def _handler(text: str | None) -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if text is None and self.path == "/metrics":
                body = "".join(
                    f'pachops_standin_calls_total{{method="{name}"}} {count}\n'
                    for name, count in sorted(_METRICS.items())
                )
                self.send_response(200)
            else:
                body = text or "not found\n"
                self.send_response(501 if text else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler


def _once(etcd: EtcdClient, key: bytes, value: bytes) -> bytes:
    """Return what the key holds, after giving it this value if it held none."""
    etcd.txn([Unchanged(key, 0)], [Put(key, value)])
    found = etcd.get(key)
    return found.value if found else value


def _external_address() -> str | None:
    """Return an IPv4 address of this host that is not a loopback one; None when there is none."""
    try:
        addresses = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except OSError:
        addresses = []
    found = [each[4][0] for each in addresses if not each[4][0].startswith("127.")]
    if found:
        return str(found[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return None
