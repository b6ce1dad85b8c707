# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A local TCP port that leads to a port of a pod, through the API server.

Each local connection gets a websocket of its own; what is said in it is the matter of :mod:`.streams`.  The pod is
chosen anew for every connection, so that a forward made by selector outlives the pod.  A silent connection is pinged:
what lies between drops it otherwise, and one whose other end is gone would never end.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError
from .kinds import Ref
from .streams import Streams, streams
from .transport import UnreachableError, UpgradeRefusedError

if TYPE_CHECKING:
    from types import TracebackType

    from .apply import Object
    from .client import Kube

try:
    import websocket
except ImportError:  # reported by .transport.load, without which nobody gets here
    websocket = None  # type: ignore[assignment]

LOOPBACK = "127.0.0.1"

_CHUNK = 256 * 1024
_HEAD = 22  # bytes before the data of a frame: its own head has at most 14, that of the protocol within at most 8
_HIGH_WATER = 1024 * 1024  # bytes waiting in one direction before its source is no longer read
_LINGER = 5.0  # seconds that the pod's side may stay silent after the local side has said its last word
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0  # seconds between two looks for a pod
_DEAF = 3  # times the keepalive that the other side may say nothing at all
_BROKEN = "the connection to the API server broke"


class PortForward:
    """Context manager: entering yields (host, port), leaving closes the listener and every connection."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        port: int,
        *,
        pod: str = "",
        selector: str = "",
        patience: float = 30.0,
        local_port: int = 0,
        eager: bool = True,
        keepalive: float = 30.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """:param pod: the pod's name; or
        :param selector: labels of the pod, e.g. ``suite=pachyderm,app=pachd``: the youngest ready one is taken.
        :param patience: seconds that a new connection waits for a pod that can take it.
        :param local_port: port to listen on, 0 for any that is free.
        :param eager: whether a pod that is not there is an error at once; otherwise it may come later.
        :param keepalive: seconds of silence after which a connection is pinged.
        :param tell: called with what went wrong, from any thread.
        """
        if bool(pod) == bool(selector):
            raise ValueError("give either pod or selector")
        self._kube = kube
        self._namespace = namespace
        self._port = port
        self._pod = pod
        self._selector = selector
        self._patience = patience
        self._local_port = local_port
        self._eager = eager
        self._keepalive = keepalive
        self._tell = tell
        self._listener: socket.socket | None = None
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self.error = ""
        """What went wrong last, in the words of the system that refused; empty while all is well."""
        self.target = ""
        """Name of the pod that the newest connection leads to."""

    def __enter__(self) -> tuple[str, int]:
        if self._eager:
            self._target()  # a pod that is not there is an error here, not a reset connection later
        self._listener = socket.create_server((LOOPBACK, self._local_port), backlog=64)
        self._spawn(self._accept, self._listener)
        host, port = self._listener.getsockname()
        return host, port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._listener is not None:
            # Closing alone does not wake a thread that is blocked in accept.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for thread in self._threads:
            thread.join(timeout=5.0)

    @property
    def connections(self) -> int:
        """Number of connections that are open now."""
        return sum(thread.is_alive() for thread in self._threads[1:])

    def _failed(self, why: str) -> None:
        self.error = why
        if self._tell is not None:
            self._tell(why)

    def _spawn(self, target: Any, *args: Any) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, args=args, name=f"port-forward {self._port}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                local, _address = listener.accept()
            except OSError:
                return
            self._spawn(self._serve, local)

    def _serve(self, local: socket.socket) -> None:
        with local:
            try:
                remote = self._open()
            except ClusterError as error:
                if not self._closing.is_set():
                    self._failed(str(error))
                _abort(local)
                return
            try:
                problem = _Pump(
                    local, remote, streams(remote.subprotocol or "", self._port), self._closing, self._keepalive
                ).run()
            finally:
                remote.shutdown()
            if problem:
                self._failed(problem)
                _abort(local)

    def _open(self) -> Any:
        """Return a websocket to the pod, waiting for a pod that is being replaced."""
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            pod = self._selector
            try:
                pod = self._target()
                path = f"{Ref('v1', 'Pod', self._namespace, pod).path()}/portforward"
                remote = self._kube.transport.open_websocket(path, [("ports", str(self._port))])
                self.target = pod
                return remote
            except UpgradeRefusedError as refused:
                error = self._refusal(refused, pod)
                final = refused.response.status in (401, 403)
            except UnreachableError as failure:
                error = ClusterError("cannot reach the pod", where=f"{self._namespace}/{pod}", why=failure.reason)
                final = not failure.transient
            except ClusterError as failure:
                error, final = failure, False
            if final or time.monotonic() >= deadline or self._closing.wait(pause):
                raise error
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _refusal(self, refused: UpgradeRefusedError, pod: str) -> ClusterError:
        from .client import refusal

        where = f"port {self._port} of pod {self._namespace}/{pod}"
        return refusal(refused.response, "GET", where, self._kube.transport.host)

    def _target(self) -> str:
        """Return the name of the pod to connect to: it runs, and is ready where only labels were given."""
        if self._pod:
            pod = self._kube.get(Ref("v1", "Pod", self._namespace, self._pod))
            candidates = [pod] if pod else []
        else:
            candidates = self._kube.list("v1", "Pod", self._namespace, labels=self._selector)
        usable = [pod for pod in candidates if _running(pod) and (self._pod or _ready(pod))]
        if not usable:
            states = [f"{pod['metadata']['name']} is {_state(pod)}" for pod in candidates]
            raise ClusterError(
                f"no {'running' if self._pod else 'ready'} pod to connect to",
                where=f"{self._namespace}/{self._pod or self._selector}",
                why=", ".join(states) or "no such pod",
                fix="Look at the pod's events.",
            )
        youngest = max(usable, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        return str(youngest["metadata"]["name"])


class _Pump:
    """Moves bytes between a local socket and a websocket, in one thread: an SSL socket must not be shared by two."""

    def __init__(
        self,
        local: socket.socket,
        remote: Any,
        within: Streams,
        closing: threading.Event,
        keepalive: float = 30.0,
    ) -> None:
        self.local = local
        self.remote = remote
        self.within = within
        self.closing = closing
        self.keepalive = keepalive
        self.heard = time.monotonic()  # when the other side said something last
        self.pinged = 0.0  # when it was asked since then whether it is there
        self.to_local = bytearray()
        self.to_remote: deque[memoryview] = deque()
        # What is read gets its head in place, and a full frame fills TLS records to the last byte.
        self.room = memoryview(bytearray(_CHUNK))
        self.frames = bytearray()  # received, and not yet a whole frame
        self.local_open = True  # the local side may still send
        self.remote_open = True
        self.broken = ""  # why what was sent, or would have come, may be lost
        self.problem = ""
        self.linger_until = 0.0

    def run(self) -> str:
        """Move bytes until either side is done; return what the pod's side reported on the error channel."""
        self.local.setblocking(False)
        with contextlib.suppress(OSError):
            self.local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.remote.settimeout(0)
        with selectors.DefaultSelector() as selector:
            selector.register(self.local, selectors.EVENT_READ)
            selector.register(self.remote.sock, selectors.EVENT_READ)
            try:
                self._answer()
                while not self.closing.is_set() and not self._finished():
                    self._round(selector)
                    self._keep_alive()
            except (OSError, websocket.WebSocketException) as error:
                if not self.local_open or isinstance(error, (BrokenPipeError, ConnectionResetError)):
                    return self.problem
                # How the API server ends a stream whose pod is gone.
                cut = isinstance(error, ssl.SSLEOFError)
                reason = "the pod's side closed the connection" if cut else str(error)
                self.problem = self.problem or self.within.problem or reason
        return self.problem

    def _may_read_local(self) -> bool:
        return self.local_open and self.within.accepts and not self.to_remote

    def _finished(self) -> bool:
        if not self.remote_open and not self.to_local:
            return True
        return not self.local_open and not self.to_remote and time.monotonic() >= self.linger_until

    def _round(self, selector: selectors.BaseSelector) -> None:
        local_events = selectors.EVENT_READ if self._may_read_local() else 0
        local_events |= selectors.EVENT_WRITE if self.to_local else 0
        remote_events = selectors.EVENT_READ if self.remote_open and len(self.to_local) < _HIGH_WATER else 0
        remote_events |= selectors.EVENT_WRITE if self.to_remote and self.remote_open else 0
        _watch(selector, self.local, local_events)
        _watch(selector, self.remote.sock, remote_events)
        # TLS may hold decrypted bytes that no selector sees.
        held = isinstance(self.remote.sock, ssl.SSLSocket) and self.remote.sock.pending() > 0
        ready = {key.fileobj: mask for key, mask in selector.select(0 if held else min(0.5, self.keepalive))}
        if ready.get(self.local, 0) & selectors.EVENT_READ:
            self._read_local()
        if (held or ready.get(self.remote.sock, 0) & selectors.EVENT_READ) and remote_events & selectors.EVENT_READ:
            self._read_remote()
        if self.to_local:
            self._write_local()
        if self.to_remote and self.remote_open:
            self._write_remote()

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if len(self.to_local) >= _HIGH_WATER:
            self.heard, self.pinged = now, 0.0  # nobody listens to the other side, so its silence says nothing
        if self.pinged and now - self.pinged > (_DEAF - 1) * self.keepalive:
            self.problem = f"the API server or the kubelet has not answered for {now - self.heard:.0f} s"
            self.remote_open = False
        elif not self.pinged and now - self.heard > self.keepalive:
            self.pinged = now
            self._send(*self.within.ping())

    def _read_local(self) -> None:
        length = self.local.recv_into(self.room[_HEAD:])
        if length:
            head = self.within.head(length)
            head = _frame_head(websocket.ABNF.OPCODE_BINARY, len(head) + length) + head
            self.room[_HEAD - len(head) : _HEAD] = head
            self.to_remote.append(self.room[_HEAD - len(head) : _HEAD + length])
        else:
            # The protocol has no half-close: give the pod's answer some time, then end.
            self.local_open = False
            self.linger_until = time.monotonic() + _LINGER

    def _read_remote(self) -> None:
        """Take every whole frame that is there.

        By hand: the library reads each frame in small pieces, which costs more than everything else together.
        """
        while self.remote_open and len(self.to_local) < _HIGH_WATER:
            try:
                data = self.remote.sock.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except ConnectionResetError:
                # Not the client's, which is nobody's loss.
                self.broken, data = _BROKEN, b""
            if not data:
                self._cut(self.broken or self.within.cut)
                return
            self.heard, self.pinged = time.monotonic(), 0.0
            self.frames += data
            self._take_frames()

    def _take_frames(self) -> None:
        """Take the whole frames in the buffer (RFC 6455, section 5.2); a server never masks its own."""
        position, end = 0, len(self.frames)
        while self.remote_open and end - position >= 2:
            first, length = self.frames[position], self.frames[position + 1]
            if first & 0x70 or length & 0x80:
                raise websocket.WebSocketProtocolException("the server sent no frame of a plain websocket")
            begin = position + 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                length = int.from_bytes(self.frames[begin : begin + wide], "big")
                begin += wide
            if end < begin + length:
                break
            position = begin + length
            with memoryview(self.frames) as held, held[begin:position] as data:
                self._take(first & 0x0F, data, bool(first & 0x80))
        del self.frames[:position]

    def _take(self, opcode: int, data: memoryview, final: bool) -> None:
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self._cut(self.within.cut)
        elif opcode == websocket.ABNF.OPCODE_PING:
            self._send(websocket.ABNF.OPCODE_PONG, bytes(data))
        elif opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_CONT):
            before = len(self.to_local)
            self.within.take(data, final, self.to_local)
            if not self.local_open and len(self.to_local) > before:
                self.linger_until = time.monotonic() + _LINGER
            self._answer()
            if self.within.ended:
                self.problem = self.within.problem
                self.remote_open = False

    def _cut(self, why: str) -> None:
        """Take note that the other side has ended the websocket; ``why`` tells that the stream has not."""
        self.remote_open = False
        self.problem = self.within.problem or (why if self.local_open else "")

    def _answer(self) -> None:
        if self.within.answer:
            self._send(websocket.ABNF.OPCODE_BINARY, self.within.answer)
            self.within.answer = b""

    def _send(self, opcode: int, data: bytes) -> None:
        self.to_remote.append(memoryview(_frame_head(opcode, len(data)) + data))

    def _write_local(self) -> None:
        with contextlib.suppress(BlockingIOError):
            with memoryview(self.to_local) as held, held[:_CHUNK] as piece:
                sent = self.local.send(piece)
            del self.to_local[:sent]

    def _write_remote(self) -> None:
        try:
            while self.to_remote:
                sent = self.remote.sock.send(self.to_remote[0])
                self.to_remote[0] = self.to_remote[0][sent:]
                if not self.to_remote[0]:
                    self.to_remote.popleft()
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except (BrokenPipeError, ConnectionResetError):
            # The pod's last words may still be there to be read, and that it ended in order.
            self.broken = _BROKEN
            self.to_remote.clear()


def _frame_head(opcode: int, length: int) -> bytes:
    """Return the head of a frame (RFC 6455, section 5.2) that is masked with zeros.

    A client has to mask.  The key keeps scripts in browsers from choosing what a proxy reads; here nobody chooses,
    TLS is around it, and zeros leave the data as they are, which saves most of the time that an upload takes.
    """
    wide = b"" if length < 126 else struct.pack(">H", length) if length < 1 << 16 else struct.pack(">Q", length)
    kind = length if length < 126 else 126 if length < 1 << 16 else 127
    return bytes((0x80 | opcode, 0x80 | kind)) + wide + bytes(4)


def _watch(selector: selectors.BaseSelector, sock: Any, events: int) -> None:
    registered = sock in selector.get_map()
    if events and registered:
        selector.modify(sock, events)
    elif events:
        selector.register(sock, events)
    elif registered:
        selector.unregister(sock)


def _abort(sock: socket.socket) -> None:
    """Make the coming close a reset, which tells the client that this is no orderly end of the stream."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _running(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")


def _state(pod: Object) -> str:
    phase = "stopping" if pod["metadata"].get("deletionTimestamp") else pod.get("status", {}).get("phase", "Unknown")
    return f"{phase}, not ready" if phase == "Running" else phase


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
