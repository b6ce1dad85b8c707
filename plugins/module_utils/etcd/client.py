# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A typed client for etcd's v3 API (etcd 3.2 to 3.6) over gRPC.

Keys and values are bytes: Pachyderm's index keys embed binary messages that no text form round-trips.
Field numbers: etcd's ``api/etcdserverpb/rpc.proto`` and ``api/mvccpb/kv.proto``.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import EtcdError, InputError
from ..protobuf import declare, varint

# A page has so many keys at first, then as many as have about so many bytes, and never more than those: what comes next
# may be larger. Not fewer either: for each page etcd counts all keys that are left.
_FIRST_PAGE, _PAGE_BYTES, _MOST_VALUES, _MOST_KEYS = 200, 4 << 20, 5000, 20_000
_TIMEOUT = 10.0
_DIALS, _REDIAL_PAUSE = 4, 0.5
_HTTP_ANSWER = "http2 header with status"
# Hashing, compacting and defragmenting take time in proportion to the database; all writes wait for a defragmentation.
_LONG_TIMEOUT = 900.0
_STEP = ("/etcdserverpb.KV/Txn", "")
#: The tags of a RangeResponse's fields on the wire.
_HEADER, _KVS, _MORE = 0x0A, 0x12, 0x18
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
class AtVersion:
    """The condition that ``key`` was written ``version`` times since it was created; 0 means that it does not exist."""

    key: bytes
    version: int


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


@dataclass(frozen=True)
class KvHash:
    """A hash over all keys and their history up to ``revision``, without what was compacted.

    Two hashes can be compared only where revision and ``compact_revision`` are equal; the same holds between all
    versions of etcd from 3.3 on.
    """

    revision: int
    hash: int
    compact_revision: int


@dataclass(frozen=True)
class Event:
    """One change that a watch saw; ``deleted`` events have an empty value."""

    kv: KeyValue
    deleted: bool


@dataclass(frozen=True)
class Tls:
    """Certificates for an ``https://`` endpoint, as paths; all may be empty: then the system's CAs decide.

    :param server_name: the name in the server's certificate, where that is not the one in the endpoint (port-forwards).
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""


@dataclass(frozen=True)
class Login:
    """A user of etcd, where its authentication is on."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


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
                ("sort_order", 5, "int32"),
                ("sort_target", 6, "int32"),
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
                ("version", 4, "int64", "target_union"),
                ("mod_revision", 6, "int64", "target_union"),
            ],
            "TxnRequest": [("compare", 1, "repeated Compare"), ("success", 2, "repeated RequestOp")],
            "TxnResponse": [("header", 1, "Header"), ("succeeded", 2, "bool")],
            "WriteResponse": [("header", 1, "Header")],
            "LeaseGrantRequest": [("TTL", 1, "int64"), ("ID", 2, "int64")],
            "LeaseResponse": [("header", 1, "Header"), ("ID", 2, "int64"), ("TTL", 3, "int64")],
            "LeaseRequest": [("ID", 1, "int64")],
            "LeaseTimeToLiveResponse": [("header", 1, "Header"), ("ID", 2, "int64"), ("TTL", 3, "int64")],
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
            "HashKVRequest": [("revision", 1, "int64")],
            "HashKVResponse": [("header", 1, "Header"), ("hash", 2, "uint32"), ("compact_revision", 3, "int64")],
            "CompactionRequest": [("revision", 1, "int64"), ("physical", 2, "bool")],
            "SnapshotRequest": [],
            "AuthenticateRequest": [("name", 1, "string"), ("password", 2, "string")],
            "AuthenticateResponse": [("header", 1, "Header"), ("token", 2, "string")],
            "WatchCreateRequest": [
                ("key", 1, "bytes"),
                ("range_end", 2, "bytes"),
                ("start_revision", 3, "int64"),
                ("fragment", 8, "bool"),
            ],
            "WatchRequest": [("create_request", 1, "WatchCreateRequest", "request_union")],
            "Event": [("type", 1, "int32"), ("kv", 2, "KeyValue")],
            "WatchResponse": [
                ("header", 1, "Header"),
                ("created", 3, "bool"),
                ("canceled", 4, "bool"),
                ("compact_revision", 5, "int64"),
                ("cancel_reason", 6, "string"),
                ("fragment", 7, "bool"),
                ("events", 11, "repeated Event"),
            ],
            "MemberListRequest": [],
            "Member": [("ID", 1, "uint64"), ("name", 2, "string")],
            "MemberListResponse": [("header", 1, "Header"), ("members", 2, "repeated Member")],
        },
    )


class EtcdClient:
    """One connection to one endpoint; safe for use by many threads."""

    def __init__(
        self, endpoint: str, timeout: float = _TIMEOUT, tls: Tls | None = None, login: Login | None = None
    ) -> None:
        """:param endpoint: ``host:port``, optionally with ``http://`` before it, or ``https://`` for TLS; or ``unix:///path``.
        :param timeout: seconds that one call may take.
        :raises InputError: when the grpcio library is missing, or a certificate cannot be read.
        """
        try:
            import grpc
        except ImportError as error:
            raise InputError(
                "the Python library grpcio is missing", why=str(error), fix="Install the collection's requirements.txt."
            ) from error
        split = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        self.endpoint = f"unix:{split.path}" if split.scheme == "unix" else split.netloc
        self._timeout = timeout
        self._grpc = grpc
        self._login = login
        self._token = ""
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # A snapshot has 32 messages per MiB, and handing each from one thread to another takes longer than it does.
            ("SingleThreadedUnaryStream", 1),
            # The default waits up to two minutes before it tries a server again that was away.
            ("grpc.initial_reconnect_backoff_ms", 200),
            # However slow it is: this is also how long one attempt may take.
            ("grpc.min_reconnect_backoff_ms", 10000),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # A watch would wait for ever on a server that is gone without a word.
            ("grpc.keepalive_time_ms", 20000),
            ("grpc.keepalive_timeout_ms", 10000),
        ]
        if split.scheme == "https":
            tls = tls or Tls()
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            credentials = grpc.ssl_channel_credentials(*map(_pem, (tls.ca_file, tls.key_file, tls.cert_file)))
            self._dial = functools.partial(grpc.secure_channel, self.endpoint, credentials, options=options)
        else:
            self._dial = functools.partial(grpc.insecure_channel, self.endpoint, options=options)
        self._channel: Any = self._dial()
        self._calls: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> EtcdClient:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        """Return what ``key`` holds at ``revision`` or now, or None."""
        found = self._call("KV", "Range", "RangeRequest", "RangeResponse", key=key, revision=revision).kvs
        return _key_value(found[0]) if found else None

    def range(self, prefix: bytes, revision: int = 0, since: int = 0, *, keys_only: bool = False) -> Iterator[KeyValue]:
        """Yield the keys that begin with ``prefix`` in key order, all as of one revision.

        :param revision: the revision to read at; default: the newest when the first page is read.
        :param since: leave out keys whose last modification is older than this revision.
        :param keys_only: leave out the values, which are empty then.
        """
        key, end = prefix or b"\0", prefix_end(prefix)
        limit, most = _FIRST_PAGE, _MOST_KEYS if keys_only else _MOST_VALUES
        while True:
            # Not by messages: where protobuf is in Python alone, they take three times as long.
            page = self._call(
                "KV",
                "Range",
                "RangeRequest",
                "",
                key=key,
                range_end=end,
                limit=limit,
                revision=revision,
                min_mod_revision=since,
                keys_only=keys_only,
            )
            found, more, at = _range_response(page)
            revision = revision or at
            yield from found
            if not more:
                return
            key = found[-1].key + b"\0"
            limit = min(most, 1 + _PAGE_BYTES * len(found) // len(page))

    def revision(self) -> int:
        """Return the newest revision that the members agree on.

        ``status`` tells the one that this member has, which may lack what others have confirmed to pachd already; when
        this returns, this member has it too (a linearizable read, ``server/etcdserver/v3_server.go`` of etcd).
        """
        answer = self._call("KV", "Range", "RangeRequest", "RangeResponse", key=b"\0", limit=1, keys_only=True)
        return int(answer.header.revision)

    def count(self, prefix: bytes, revision: int = 0) -> int:
        """Return how many keys begin with ``prefix``, at ``revision`` or now."""
        answer = self._call(
            "KV",
            "Range",
            "RangeRequest",
            "RangeResponse",
            key=prefix or b"\0",
            range_end=prefix_end(prefix),
            revision=revision,
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

    def txn(self, conditions: Sequence[Unchanged | AtVersion], operations: Sequence[Put | Delete]) -> bool:
        """Apply ``operations`` in one revision if every condition holds; return whether it did."""
        answer = self._call("KV", "Txn", "TxnRequest", "TxnResponse", **_txn(conditions, operations))
        return bool(answer.succeeded)

    def begin_step(self, request: bytes) -> Callable[[], bool]:
        """Send what ``step_request`` made, and return what waits for whether it was the turn of one of its steps."""
        self._authenticated("Txn", self._metadata)
        with self._lock:
            call = self._calls.get(_STEP) or self._channel.unary_unary(_STEP[0])
            self._calls[_STEP] = call
        future = call.future(request, timeout=self._timeout, metadata=self._metadata())

        def result() -> bool:
            with self._translated("Txn"):
                return _step_applied(future.result())

        return result

    def lease_grant(self, ttl: int, lease: int = 0) -> int:
        """Return the id of a new lease that lives ``ttl`` seconds without a keep-alive.

        :param lease: the id that it is to have; default: etcd chooses one.
        """
        return int(self._call("Lease", "LeaseGrant", "LeaseGrantRequest", "LeaseResponse", TTL=ttl, ID=lease).ID)

    def lease_remaining(self, lease: int) -> int:
        """Return how many seconds ``lease`` has left; less than 1 when it has ended."""
        return int(self._call("Lease", "LeaseTimeToLive", "LeaseRequest", "LeaseTimeToLiveResponse", ID=lease).TTL)

    def lease_revoke(self, lease: int) -> None:
        """End ``lease`` and remove the keys bound to it."""
        self._call("Lease", "LeaseRevoke", "LeaseRequest", "WriteResponse", ID=lease)

    def lease_keepalive(self, lease: int) -> int:
        """Renew ``lease`` once and return its new time to live in seconds; 0 when it has expired already."""
        request = _messages()["LeaseRequest"](ID=lease)
        call = self._method("Lease", "LeaseKeepAlive", "LeaseResponse", "stream_stream")

        def renew() -> int:
            answers = call(iter([request]), timeout=self._timeout, metadata=self._metadata())
            return int(next(answers).TTL)

        return int(self._authenticated("LeaseKeepAlive", renew))

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

    def disarm(self) -> Sequence[str]:
        """Clear every alarm, and return those that were raised."""
        raised = self._call("Maintenance", "Alarm", "AlarmRequest", "AlarmResponse").alarms
        for each in raised:
            arguments = {"action": 2, "memberID": each.memberID, "alarm": each.alarm}
            self._call("Maintenance", "Alarm", "AlarmRequest", "AlarmResponse", **arguments)
        return list(dict.fromkeys(_ALARMS.get(each.alarm, str(each.alarm)) for each in raised))

    def hash_kv(self, revision: int = 0) -> KvHash | None:
        """Return the hash of all keys up to ``revision`` or now; None from etcd older than 3.3, which has none.

        :raises EtcdError: also when ``revision`` has been compacted, or lies in the future.
        """
        try:
            answer = self._call(
                "Maintenance", "HashKV", "HashKVRequest", "HashKVResponse", timeout=_LONG_TIMEOUT, revision=revision
            )
        except EtcdError as refusal:
            if _code(refusal) == "UNIMPLEMENTED":
                return None
            raise
        return KvHash(revision or answer.header.revision, answer.hash, answer.compact_revision)

    def compact(self, revision: int, physical: bool = True) -> None:
        """Drop the history before ``revision``; ``physical`` waits until the space is free for reuse."""
        self._call(
            "KV",
            "Compact",
            "CompactionRequest",
            "WriteResponse",
            timeout=_LONG_TIMEOUT,
            revision=revision,
            physical=physical,
        )

    def defragment(self) -> None:
        """Give free space back to the file system; the member answers nothing meanwhile."""
        self._call("Maintenance", "Defragment", "StatusRequest", "WriteResponse", timeout=_LONG_TIMEOUT)

    def snapshot_messages(self, timeout: float | None = None) -> Iterator[bytes]:
        """Yield the encoded messages of the snapshot's stream; ``etcd.snapshot`` makes a checked file of them."""
        call = self._method("Maintenance", "Snapshot", "", "unary_stream")
        request = _messages()["SnapshotRequest"]()
        first: bytes | None = None
        stream: Any = None

        def begin() -> None:
            nonlocal first, stream
            stream = call(request, timeout=timeout, metadata=self._metadata())
            first = next(stream, None)

        self._authenticated("Snapshot", begin)
        try:
            if first is not None:
                yield first
            with self._translated("Snapshot"):
                yield from stream
        finally:
            stream.cancel()

    def watch(
        self,
        prefix: bytes,
        start_revision: int = 0,
        opened: Callable[[Callable[[], None]], object] = lambda _end: None,
    ) -> Iterator[Sequence[Event]]:
        """Yield the changes of the keys that begin with ``prefix``, in order, until the caller closes the generator.

        What etcd changed in one revision comes in one piece.

        :param start_revision: the first revision wanted; default: changes from now on.
        :param opened: is called with a function that ends the iteration from any thread.
        :raises EtcdError: also when the history from ``start_revision`` on is compacted.
        """
        messages = _messages()
        create = messages["WatchCreateRequest"](
            key=prefix or b"\0", range_end=prefix_end(prefix), start_revision=start_revision, fragment=True
        )
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        requests.put(messages["WatchRequest"](create_request=create))
        self._authenticated("Watch", self._metadata)
        call = self._method("Watch", "Watch", "WatchResponse", "stream_stream")
        answers = call(iter(requests.get, None), metadata=self._metadata())
        ended = threading.Event()

        def end() -> None:
            ended.set()
            answers.cancel()

        opened(end)
        try:
            with self._translated("Watch"):
                yield from self._revisions(answers)
        except EtcdError:
            if not ended.is_set():
                raise
        finally:
            requests.put(None)
            answers.cancel()

    def _revisions(self, answers: Any) -> Iterator[Sequence[Event]]:
        """Yield the events of a watch's answers; large ones come in fragments, which may end amid a revision."""
        held: list[Event] = []
        for answer in answers:
            if answer.canceled:
                compacted = f"compacted up to revision {answer.compact_revision}"
                why = answer.cancel_reason or (compacted if answer.compact_revision else "")
                raise EtcdError("etcd ended the watch", where=self.endpoint, why=why)
            events = held + [Event(_key_value(each.kv), each.type == 1) for each in answer.events]
            held = []
            if answer.fragment:
                last = events[-1].kv.mod_revision if events else 0
                held = [each for each in events if each.kv.mod_revision == last]
                events = events[: len(events) - len(held)]
            if events:
                yield events

    def members(self) -> list[str]:
        """Return the names of the cluster's members; one that has not started yet has an empty name."""
        answer = self._call("Cluster", "MemberList", "MemberListRequest", "MemberListResponse")
        return [each.name for each in answer.members]

    def _call(self, service: str, method: str, request: str, response: str, timeout: float = 0.0, **fields: Any) -> Any:
        """Ask once; again on a new connection where the old one turned out not to lead to etcd's gRPC server.

        A connection that was made while etcd was being replaced can end at its HTTP server and stay there.  What that
        answers was never seen by etcd, so asking again repeats nothing.
        """
        for left in reversed(range(_DIALS)):
            channel = self._channel
            try:
                return self._once(service, method, request, response, timeout, fields)
            except EtcdError as error:
                if not left or _HTTP_ANSWER not in error.why:
                    raise
            with self._lock:
                if self._channel is channel:
                    channel.close()
                    self._channel = self._dial()
                    self._calls.clear()
            time.sleep(_REDIAL_PAUSE)
        raise AssertionError("the loop returns or raises")

    def _once(
        self, service: str, method: str, request: str, response: str, timeout: float, fields: Mapping[str, Any]
    ) -> Any:
        message = _messages()[request](**fields)
        call = self._method(service, method, response)
        return self._authenticated(
            method, lambda: call(message, timeout=timeout or self._timeout, metadata=self._metadata())
        )

    def _authenticated(self, method: str, attempt: Callable[[], Any]) -> Any:
        """Return what ``attempt`` does; once more with a new token where etcd no longer takes the old one."""
        if self._login and not self._token:
            self._authenticate(self._login)
        try:
            with self._translated(method):
                return attempt()
        except EtcdError as refusal:
            if not self._login or "invalid auth token" not in refusal.why:
                raise
        self._authenticate(self._login)
        with self._translated(method):
            return attempt()

    def _authenticate(self, login: Login) -> None:
        call = self._method("Auth", "Authenticate", "AuthenticateResponse")
        request = _messages()["AuthenticateRequest"](name=login.user, password=login.password)
        with self._translated("Authenticate"):
            self._token = str(call(request, timeout=self._timeout).token)

    def _metadata(self) -> list[tuple[str, str]]:
        return [("token", self._token)] if self._token else []

    def _method(self, service: str, method: str, response: str, form: str = "unary_unary") -> Any:
        """Return what calls a method; ``response``: the message that it answers by, empty for its bytes."""
        path = f"/etcdserverpb.{service}/{method}"
        with self._lock:
            if (path, response) not in self._calls:
                self._calls[path, response] = getattr(self._channel, form)(
                    path,
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=_messages()[response].FromString if response else None,
                )
            return self._calls[path, response]

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


def _pem(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise InputError("cannot read the certificate", where=path, why=str(error)) from error


def _txn(conditions: Sequence[Unchanged | AtVersion], operations: Sequence[Put | Delete]) -> dict[str, Any]:
    """Return the fields of a transaction's request."""
    messages = _messages()
    compare = [
        messages["Compare"](target=2, key=each.key, mod_revision=each.mod_revision)
        if isinstance(each, Unchanged)
        else messages["Compare"](target=0, key=each.key, version=each.version)
        for each in conditions
    ]
    success = []
    for operation in operations:
        if isinstance(operation, Put):
            put = messages["PutRequest"](key=operation.key, value=operation.value, lease=operation.lease)
            success.append(messages["RequestOp"](request_put=put))
        else:
            delete = messages["DeleteRangeRequest"](key=operation.key, range_end=operation.end)
            success.append(messages["RequestOp"](request_delete_range=delete))
    return {"compare": compare, "success": success}


def step(key: bytes, version: int, operations: Sequence[Put | Delete]) -> bytes:
    """Return a step, encoded: ``operations``, if ``key`` was written ``version`` times since it was created."""
    # By hand: the Python form of protobuf takes milliseconds for nested messages.
    condition = _bytes_field(1, _bytes_field(3, key) + b"\x20" + _varint(version))
    return condition + b"".join(map(_operation, operations))


def step_request(steps: Sequence[bytes]) -> bytes:
    """Return a transaction that applies the one of ``steps`` whose turn it is.

    Each step has to write the key of its condition once, and waits for one version more than the one before it.  So as
    many of these requests as there are steps, under way at once, apply one step each, in their order, in whichever
    order etcd comes to the requests; it promises none.
    """
    request = b""
    for each in reversed(steps):
        request = each + (_bytes_field(3, _bytes_field(4, request)) if request else b"")
    return request


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _bytes_field(number: int, data: bytes) -> bytes:
    return b"%c%b%b" % (number << 3 | 2, _varint(len(data)), data)


def _operation(each: Put | Delete) -> bytes:
    """Return what a transaction does, if its condition holds: a RequestOp, in field 2."""
    key = b"\x0a%b%b" % (_varint(len(each.key)), each.key)
    if isinstance(each, Put):
        lease = b"\x18" + _varint(each.lease) if each.lease else b""
        request = b"%b\x12%b%b%b" % (key, _varint(len(each.value)), each.value, lease)
        operation = b"\x12%b%b" % (_varint(len(request)), request)
    else:
        operation = _bytes_field(3, key + (_bytes_field(2, each.end) if each.end else b""))
    return b"\x12%b%b" % (_varint(len(operation)), operation)


def _step_applied(answer: bytes) -> bool:
    """Return whether a TxnResponse, or the one nested in it, says that its condition held."""
    position = 0
    while position < len(answer):
        tag, size, shift = answer[position], 0, 0
        position += 1
        while True:
            byte = answer[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if tag == 0x10:  # succeeded
            return bool(size)
        if tag in (0x1A, 0x22):  # the first of the responses, and the transaction in it
            return _step_applied(answer[position : position + size])
        position += size
    return False


def _code(error: EtcdError) -> str:
    """Return the name of the gRPC status behind the error, empty where there is none."""
    code = getattr(error.__cause__, "code", None)
    return str(code().name) if code else ""


def _range_response(data: bytes) -> tuple[list[KeyValue], bool, int]:
    """Return a RangeResponse's keys, whether there are more, and the revision in its header."""
    found: list[KeyValue] = []
    more, revision, position, end = 0, 0, 0, len(data)
    while position < end:
        tag = data[position]
        number, position = varint(data, position + 1)
        if tag == _KVS:
            found.append(read_key_value(data, position, position + number))
        elif tag == _HEADER:
            revision = _messages()["Header"].FromString(data[position : position + number]).revision
        elif tag == _MORE:
            more = number
        position += number if tag & 7 == 2 else 0
    return found, bool(more), revision


def read_key_value(data: bytes, position: int, end: int) -> KeyValue:
    """Return the KeyValue message that stands in ``data`` from ``position`` to ``end``.

    :raises ValueError: or LookupError: there is none.
    """
    key = value = b""
    created = modified = version = lease = 0
    while position < end:
        tag, number = data[position], data[position + 1]
        position += 2
        if number > 0x7F:
            number, position = varint(data, position - 1)
        if tag == 0x0A:
            key, position = data[position : position + number], position + number
        elif tag == 0x10:
            created = number
        elif tag == 0x18:
            modified = number
        elif tag == 0x20:
            version = number
        elif tag == 0x2A:
            value, position = data[position : position + number], position + number
        elif tag == 0x30:
            # Signed: a negative number has ten bytes on the wire.
            lease = number - (1 << 64) if number >> 63 else number
        else:
            raise ValueError(f"no field of a KeyValue begins with byte {tag}")
    if position > end:
        raise ValueError("it is cut short")
    return KeyValue(key, value, created, modified, version, lease)


def _key_value(message: Any) -> KeyValue:
    return KeyValue(
        message.key, message.value, message.create_revision, message.mod_revision, message.version, message.lease
    )
