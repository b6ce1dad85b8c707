# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A typed client for etcd's v3 API (etcd 3.2 to 3.6) over gRPC.

Keys and values are bytes: Pachyderm's index keys embed binary messages that no text form round-trips.
Field numbers: etcd's ``api/etcdserverpb/rpc.proto`` and ``api/mvccpb/kv.proto``.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EtcdError, InputError
from ..protobuf import declare

_PAGE = 1000
_TIMEOUT = 10.0
_ALARMS = {1: "NOSPACE", 2: "CORRUPT"}


@dataclass(frozen=True)
class KeyValue:
    """One key as etcd holds it; ``lease`` is 0 for a key without one."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


@dataclass(frozen=True)
class Put:
    """Store ``value`` under ``key``, bound to ``lease`` unless that is 0."""

    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True)
class Delete:
    """Remove ``key``, or with ``end`` every key of the range [``key``, ``end``)."""

    key: bytes
    end: bytes = b""


@dataclass(frozen=True)
class Unchanged:
    """The condition that ``key`` was last modified at ``mod_revision``; 0 means that it does not exist."""

    key: bytes
    mod_revision: int


@dataclass(frozen=True)
class Status:
    """What one member says of itself; sizes in bytes.

    ``db_size_in_use`` is what a defragmentation would leave, 0 before etcd 3.4; ``leader`` is 0 without one.
    """

    version: str
    db_size: int
    db_size_in_use: int
    leader: int
    revision: int
    member_id: int
    cluster_id: int


def prefix_end(prefix: bytes) -> bytes:
    r"""Return the end of the range that holds exactly the keys beginning with ``prefix`` (``\0``: all keys)."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"


@functools.cache
def _messages() -> dict[str, Any]:
    return declare(
        "pachops.etcd",
        {
            "Header": [("cluster_id", 1, "uint64"), ("member_id", 2, "uint64"), ("revision", 3, "int64")],
            "KeyValue": [
                ("key", 1, "bytes"),
                ("create_revision", 2, "int64"),
                ("mod_revision", 3, "int64"),
                ("version", 4, "int64"),
                ("value", 5, "bytes"),
                ("lease", 6, "int64"),
            ],
            "RangeRequest": [
                ("key", 1, "bytes"),
                ("range_end", 2, "bytes"),
                ("limit", 3, "int64"),
                ("revision", 4, "int64"),
                ("keys_only", 8, "bool"),
                ("count_only", 9, "bool"),
                ("min_mod_revision", 10, "int64"),
            ],
            "RangeResponse": [
                ("header", 1, "Header"),
                ("kvs", 2, "repeated KeyValue"),
                ("more", 3, "bool"),
                ("count", 4, "int64"),
            ],
            "PutRequest": [("key", 1, "bytes"), ("value", 2, "bytes"), ("lease", 3, "int64")],
            "DeleteRangeRequest": [("key", 1, "bytes"), ("range_end", 2, "bytes")],
            "DeleteRangeResponse": [("header", 1, "Header"), ("deleted", 2, "int64")],
            "RequestOp": [
                ("request_put", 2, "PutRequest", "request"),
                ("request_delete_range", 3, "DeleteRangeRequest", "request"),
            ],
            "Compare": [
                ("result", 1, "int32"),
                ("target", 2, "int32"),
                ("key", 3, "bytes"),
                ("mod_revision", 6, "int64", "target_union"),
            ],
            "TxnRequest": [("compare", 1, "repeated Compare"), ("success", 2, "repeated RequestOp")],
            "TxnResponse": [("header", 1, "Header"), ("succeeded", 2, "bool")],
            "WriteResponse": [("header", 1, "Header")],
            "LeaseGrantRequest": [("TTL", 1, "int64"), ("ID", 2, "int64")],
            "LeaseResponse": [("header", 1, "Header"), ("ID", 2, "int64"), ("TTL", 3, "int64")],
            "LeaseRequest": [("ID", 1, "int64")],
            "StatusRequest": [],
            "StatusResponse": [
                ("header", 1, "Header"),
                ("version", 2, "string"),
                ("dbSize", 3, "int64"),
                ("leader", 4, "uint64"),
                ("dbSizeInUse", 9, "int64"),
            ],
            "AlarmRequest": [("action", 1, "int32"), ("memberID", 2, "uint64"), ("alarm", 3, "int32")],
            "AlarmMember": [("memberID", 1, "uint64"), ("alarm", 2, "int32")],
            "AlarmResponse": [("header", 1, "Header"), ("alarms", 2, "repeated AlarmMember")],
            "MemberListRequest": [],
            "Member": [("ID", 1, "uint64"), ("name", 2, "string")],
            "MemberListResponse": [("header", 1, "Header"), ("members", 2, "repeated Member")],
        },
    )


class EtcdClient:
    """One connection to one endpoint; safe for use by many threads."""

    def __init__(self, endpoint: str, timeout: float = _TIMEOUT) -> None:
        """:param endpoint: ``host:port``, optionally with ``http://`` before it.
        :param timeout: seconds that one call may take.
        :raises InputError: when the grpcio library is missing.
        """
        try:
            import grpc
        except ImportError as error:
            raise InputError(
                "the Python library grpcio is missing", why=str(error), fix="Install the collection's requirements.txt."
            ) from error
        self.endpoint = endpoint.removeprefix("http://").rstrip("/")
        self._timeout = timeout
        self._grpc = grpc
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(self.endpoint, options=options)
        self._calls: dict[str, Any] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> EtcdClient:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def get(self, key: bytes) -> KeyValue | None:
        """Return what ``key`` holds, or None."""
        found = self._call("KV", "Range", "RangeRequest", "RangeResponse", key=key).kvs
        return _key_value(found[0]) if found else None

    def range(self, prefix: bytes, revision: int = 0, since: int = 0) -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix`` in key order, all as of one revision.

        :param revision: the revision to read at; default: the newest when the first page is read.
        :param since: leave out keys whose last modification is older than this revision.
        """
        key, end = prefix or b"\0", prefix_end(prefix)
        while True:
            page = self._call(
                "KV",
                "Range",
                "RangeRequest",
                "RangeResponse",
                key=key,
                range_end=end,
                limit=_PAGE,
                revision=revision,
                min_mod_revision=since,
            )
            revision = revision or page.header.revision
            yield from map(_key_value, page.kvs)
            if not page.more:
                return
            key = page.kvs[-1].key + b"\0"

    def count(self, prefix: bytes) -> int:
        """Return how many keys begin with ``prefix``."""
        answer = self._call(
            "KV",
            "Range",
            "RangeRequest",
            "RangeResponse",
            key=prefix or b"\0",
            range_end=prefix_end(prefix),
            count_only=True,
        )
        return int(answer.count)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Store ``value`` under ``key`` and return the revision of the write."""
        answer = self._call("KV", "Put", "PutRequest", "WriteResponse", key=key, value=value, lease=lease)
        return int(answer.header.revision)

    def delete(self, key: bytes, end: bytes = b"") -> int:
        """Remove ``key``, or the range [``key``, ``end``), and return how many keys went."""
        answer = self._call("KV", "DeleteRange", "DeleteRangeRequest", "DeleteRangeResponse", key=key, range_end=end)
        return int(answer.deleted)

    def txn(self, unchanged: Sequence[Unchanged], operations: Sequence[Put | Delete]) -> bool:
        """Apply ``operations`` in one revision if every condition holds; return whether it did."""
        messages = _messages()
        compare = [messages["Compare"](target=2, key=each.key, mod_revision=each.mod_revision) for each in unchanged]
        success = []
        for operation in operations:
            if isinstance(operation, Put):
                put = messages["PutRequest"](key=operation.key, value=operation.value, lease=operation.lease)
                success.append(messages["RequestOp"](request_put=put))
            else:
                delete = messages["DeleteRangeRequest"](key=operation.key, range_end=operation.end)
                success.append(messages["RequestOp"](request_delete_range=delete))
        answer = self._call("KV", "Txn", "TxnRequest", "TxnResponse", compare=compare, success=success)
        return bool(answer.succeeded)

    def lease_grant(self, ttl: int) -> int:
        """Return the id of a new lease that lives ``ttl`` seconds without a keep-alive."""
        return int(self._call("Lease", "LeaseGrant", "LeaseGrantRequest", "LeaseResponse", TTL=ttl).ID)

    def lease_revoke(self, lease: int) -> None:
        """End ``lease`` and remove the keys bound to it."""
        self._call("Lease", "LeaseRevoke", "LeaseRequest", "WriteResponse", ID=lease)

    def lease_keepalive(self, lease: int) -> int:
        """Renew ``lease`` once and return its new time to live in seconds; 0 when it has expired already."""
        request = _messages()["LeaseRequest"](ID=lease)
        call = self._method("Lease", "LeaseKeepAlive", "LeaseResponse", streaming=True)
        with self._translated("LeaseKeepAlive"):
            answers = call(iter([request]), timeout=self._timeout)
            return int(next(answers).TTL)

    def status(self) -> Status:
        """Return what the member at the endpoint says of itself."""
        answer = self._call("Maintenance", "Status", "StatusRequest", "StatusResponse")
        header = answer.header
        return Status(
            version=answer.version,
            db_size=answer.dbSize,
            db_size_in_use=answer.dbSizeInUse,
            leader=answer.leader,
            revision=header.revision,
            member_id=header.member_id,
            cluster_id=header.cluster_id,
        )

    def alarms(self) -> list[str]:
        """Return the alarms that are raised, ``NOSPACE`` or ``CORRUPT``, each once."""
        answer = self._call("Maintenance", "Alarm", "AlarmRequest", "AlarmResponse")
        return list(dict.fromkeys(_ALARMS.get(each.alarm, str(each.alarm)) for each in answer.alarms))

    def members(self) -> list[str]:
        """Return the names of the cluster's members; one that has not started yet has an empty name."""
        answer = self._call("Cluster", "MemberList", "MemberListRequest", "MemberListResponse")
        return [each.name for each in answer.members]

    def _call(self, service: str, method: str, request: str, response: str, **fields: Any) -> Any:
        message = _messages()[request](**fields)
        with self._translated(method):
            return self._method(service, method, response)(message, timeout=self._timeout)

    def _method(self, service: str, method: str, response: str, streaming: bool = False) -> Any:
        path = f"/etcdserverpb.{service}/{method}"
        with self._lock:
            if path not in self._calls:
                make = self._channel.stream_stream if streaming else self._channel.unary_unary
                self._calls[path] = make(
                    path,
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=_messages()[response].FromString,
                )
            return self._calls[path]

    def _translated(self, method: str) -> _Translated:
        return _Translated(self._grpc, self.endpoint, method)


class _Translated:
    """Turns gRPC's errors into EtcdError."""

    def __init__(self, grpc: Any, endpoint: str, method: str) -> None:
        self._grpc, self._endpoint, self._method = grpc, endpoint, method

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self._grpc.RpcError) and isinstance(error, self._grpc.Call):
            unreachable = error.code() in (self._grpc.StatusCode.UNAVAILABLE, self._grpc.StatusCode.DEADLINE_EXCEEDED)
            raise EtcdError(
                "cannot reach etcd" if unreachable else f"etcd refused {self._method}",
                where=self._endpoint,
                why=f"{error.details()} ({error.code().name})",
                fix="Check that etcd runs and that this address is its client address." if unreachable else "",
            ) from error


def _key_value(message: Any) -> KeyValue:
    return KeyValue(
        message.key, message.value, message.create_revision, message.mod_revision, message.version, message.lease
    )
