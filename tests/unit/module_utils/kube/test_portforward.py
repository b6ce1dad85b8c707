# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port-forwarding against a websocket server on loopback that speaks both of the API server's protocols."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import portforward as portforward_module
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.portforward import PortForward
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.streams import Channels, Spdy
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import (
    ApiTransport,
    UnreachableError,
    load,
)
from doubles.api import FakeApi, kubeconfig
from doubles.tcp import exchange

PORT = 650
BINARY, CLOSE, PING, PONG, CONTINUATION = 2, 8, 9, 10, 0


class Peer:
    """The API server's end of one websocket; what is said in it is up to the subclasses."""

    PROTOCOL: str

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = connection.makefile("rwb")
        request = self.stream.readline().decode()
        self.path = request.split()[1]
        self.headers: dict[str, str] = {}
        while line := self.stream.readline().decode().strip():
            name, _colon, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self.pings = 0
        self.answers_pings = True

    def say(self, data: bytes) -> None:
        """Send data of the pod."""
        raise NotImplementedError

    def complain(self, why: str) -> None:
        """Say what went wrong, and that this is all."""
        raise NotImplementedError

    def end(self) -> None:
        """Say that the pod has closed its connection."""
        raise NotImplementedError

    def hear(self) -> bytes:
        """Return the next data for the pod, nothing when there will be none; pings on the way are answered."""
        raise NotImplementedError

    def accept(self) -> None:
        """Take the connection, up to where data can be sent."""
        self.upgrade()

    def upgrade(self) -> None:
        magic = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        token = base64.b64encode(hashlib.sha1(magic.encode(), usedforsecurity=False).digest()).decode()
        self.stream.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {token}\r\nSec-WebSocket-Protocol: {self.PROTOCOL}\r\n\r\n".encode()
        )
        self.stream.flush()

    def refuse(self, status: str, body: str) -> None:
        self.stream.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        self.stream.flush()

    def send(self, data: bytes, opcode: int = BINARY, *, final: bool = True) -> None:
        length = len(data)
        head = bytes([(0x80 if final else 0) | opcode])
        size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length) if length < 1 << 16 else b""
        self.stream.write(head + (size or b"\x7f" + struct.pack(">Q", length)) + data)
        self.stream.flush()

    def receive(self) -> tuple[int, bytes]:
        """Return one frame's opcode and payload; an empty stream counts as a close."""
        head = self.stream.read(2)
        if len(head) < 2:
            return CLOSE, b""
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.stream.read(8))
        mask = self.stream.read(4)
        data = self.stream.read(length)
        pad = (mask * (length // 4 + 1))[:length]
        return head[0] & 0x0F, (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(length, "big")


class ChannelsPeer(Peer):
    """The container runtime behind an API server that hands websockets through."""

    PROTOCOL = "v4.channel.k8s.io"

    def accept(self) -> None:
        super().accept()
        for channel in (0, 1):
            self.send(bytes([channel]) + struct.pack("<H", PORT))

    def say(self, data: bytes) -> None:
        self.send(b"\0" + data)

    def complain(self, why: str) -> None:
        self.send(b"\1" + why.encode())

    def end(self) -> None:
        self.send(b"", CLOSE)

    def hear(self) -> bytes:
        while True:
            opcode, data = self.receive()
            if opcode == CLOSE:
                return b""
            if opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    self.send(data, PONG)
            elif opcode == BINARY:
                assert data[:1] == b"\0"
                return data[1:]


class SpdyPeer(Peer):
    """The container runtime behind an API server that takes SPDY out of websockets."""

    PROTOCOL = "SPDY/3.1+portforward.k8s.io"
    ERROR, DATA = 1, 3
    SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY = 1, 2, 3, 4, 6, 7

    def upgrade(self) -> None:
        super().upgrade()
        self.said = b""
        self.opened: list[tuple[int, int, dict[str, str]]] = []

    def accept(self) -> None:
        super().accept()
        self.reply([self.frame(), self.frame()])

    def reply(self, requests: list[tuple[int, int, bytes]]) -> None:
        inflate = zlib.decompressobj()
        for word, flags, content in requests:
            assert word == 0x8003 << 16 | self.SYN_STREAM
            stream, parent, _priority = struct.unpack(">IIH", content[:10])
            assert parent == 0
            self.opened.append((stream, flags, self.headers_of(inflate.decompress(content[10:]))))
            # Nobody reads the headers, so that it does not matter that there are none.
            self.control(self.SYN_REPLY, struct.pack(">I", stream) + zlib.compress(bytes(4)))

    @staticmethod
    def headers_of(block: bytes) -> dict[str, str]:
        (count,), texts, block = struct.unpack(">I", block[:4]), [], block[4:]
        while block:
            length = int.from_bytes(block[:4], "big")
            texts.append(block[4 : 4 + length].decode())
            block = block[4 + length :]
        assert len(texts) == 2 * count
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def frame(self) -> tuple[int, int, bytes]:
        """Return the next frame's first word, flags and content; zeros where there is none."""
        while len(self.said) < 8 or len(self.said) < 8 + int.from_bytes(self.said[5:8], "big"):
            opcode, data = self.receive()
            if opcode == CLOSE:
                return 0, 0, b""
            assert opcode == BINARY
            self.said += data
        end = 8 + int.from_bytes(self.said[5:8], "big")
        frame, self.said = self.said[:end], self.said[end:]
        return int.from_bytes(frame[:4], "big"), frame[4], frame[8:]

    def control(self, kind: int, content: bytes, flags: int = 0) -> None:
        self.send(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(content)) + content)

    def data(self, stream: int, data: bytes, flags: int = 0) -> None:
        # As the Go library writes it: each part on its own, so that each is a message.
        self.send(struct.pack(">I", stream))
        self.send(struct.pack(">I", flags << 24 | len(data)))
        if data:
            self.send(data)

    def say(self, data: bytes) -> None:
        self.data(self.DATA, data)

    def complain(self, why: str) -> None:
        self.data(self.ERROR, why[:5].encode())
        self.data(self.ERROR, why[5:].encode())
        self.end()

    def end(self) -> None:
        self.data(self.ERROR, b"", 1)
        self.data(self.DATA, b"", 1)

    def hear(self) -> bytes:
        while True:
            word, flags, content = self.frame()
            if word == 0x8003 << 16 | self.PING:
                assert int.from_bytes(content, "big") == 2 * self.pings + 1
                self.pings += 1
                if self.answers_pings:
                    self.control(self.PING, content)
            else:
                assert (word, flags) in ((self.DATA, 0), (0, 0))
                return content


class Cluster(FakeApi):
    """An API server whose websockets are real, on loopback."""

    def __init__(self, url: str, directory: Any) -> None:
        super().__init__(["pachyderm"])
        config = directory / "kubeconfig"
        config.write_text(kubeconfig(url))
        self.transport: ApiTransport = load(str(config))
        self.host = url

    def open_websocket(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        return self.transport.open_websocket(path, query)

    def pod(self, name: str, phase: str = "Running", **metadata: Any) -> None:
        conditions = [{"type": "Ready", "status": "True"}] if phase == "Running" else []
        meta = {"name": name, "namespace": "pachyderm", "labels": {"app": "pachd"}, **metadata}
        status = {"phase": phase, "conditions": conditions}
        self.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status})


Behaviour = Callable[[Peer], None]


@pytest.fixture(params=[SpdyPeer, ChannelsPeer], ids=["spdy", "channels"])
def speaker(request: pytest.FixtureRequest) -> type[Peer]:
    """What the API server understands."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def cluster(tmp_path: Any, speaker: type[Peer]) -> Iterator[tuple[Cluster, list[Behaviour], list[Any]]]:
    """Yield (cluster, what each next connection does, the connections so far)."""
    listener = socket.create_server(("127.0.0.1", 0))
    behaviours: list[Behaviour] = []
    peers: list[Peer] = []
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        # A client that has seen enough may be gone before its peer is done.
        with connection, contextlib.suppress(OSError):
            peer = speaker(connection)
            peers.append(peer)
            (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(peer)
            peer.stream.close()

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=serve, daemon=True)
    acceptor.start()
    yield Cluster(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path), behaviours, peers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in (acceptor, *threads):
        thread.join(timeout=10)


def echo(peer: Peer) -> None:
    """Send every byte back until the other side goes."""
    peer.accept()
    while data := peer.hear():
        peer.say(data)


def test_bytes_go_there_and_back(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, peers = cluster
    behaviours.append(echo)
    api.pod("pachd-0")
    with Kube(api).portforward("pachyderm", "pachd-0", PORT) as address:
        data = bytes(range(256)) * 20_000
        assert exchange(address, data, len(data)) == data
        assert exchange(address, b"x", 1) == b"x"
    assert peers[0].path == f"/api/v1/namespaces/pachyderm/pods/pachd-0/portforward?ports={PORT}"
    assert peers[0].headers["authorization"] == "Bearer right"
    assert peers[0].headers["sec-websocket-protocol"] == "SPDY/3.1+portforward.k8s.io,v4.channel.k8s.io"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


@pytest.mark.parametrize("speaker", [ChannelsPeer])
def test_pings_are_answered_and_fragments_joined(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, _peers = cluster
    answers: list[tuple[int, bytes]] = []

    def speak(peer: Peer) -> None:
        peer.accept()
        peer.send(b"are you there", PING)
        answers.append(peer.receive())
        peer.send(b"\0one ", final=False)
        peer.send(b"two", CONTINUATION)
        peer.send(b"", CLOSE)

    behaviours.append(speak)
    api.pod("pachd-0")
    with Kube(api).portforward("pachyderm", "pachd-0", PORT) as address:
        assert exchange(address, b"", 100) == b"one two"
    assert answers == [(PONG, b"are you there")]


def test_the_last_word_of_a_half_closed_client_is_answered(
    cluster: tuple[Cluster, list[Behaviour], list[Peer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, behaviours, _peers = cluster
    monkeypatch.setattr(portforward_module, "_LINGER", 3.0)
    behaviours.append(echo)
    api.pod("pachd-0")
    received = bytearray()
    with (
        Kube(api).portforward("pachyderm", "pachd-0", PORT) as address,
        socket.create_connection(address, timeout=20) as connection,
    ):
        connection.sendall(b"question")
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(100):
            received += piece
    assert received == b"question"


def test_what_the_pod_refuses_resets_the_connection(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, _peers = cluster

    def refuse(peer: Peer) -> None:
        peer.accept()
        peer.complain("connection refused")
        peer.receive()

    behaviours.append(refuse)
    api.pod("pachd-0")
    forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0")
    with forward as address, pytest.raises(ConnectionResetError):
        exchange(address, b"", 1)
    assert forward.error == "connection refused"


def test_a_missing_right_is_final(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, peers = cluster
    message = 'pods "pachd-0" is forbidden: User "jane" cannot get resource "pods/portforward"'
    body = json.dumps({"kind": "Status", "message": message})
    behaviours.append(lambda peer: peer.refuse("403 Forbidden", body))
    api.pod("pachd-0")
    forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0")
    with forward as address, pytest.raises(ConnectionResetError):
        exchange(address, b"", 1)
    assert "not allowed to get pods/portforward" in forward.error
    assert len(peers) == 1


def test_a_pod_that_is_replaced(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, peers = cluster
    behaviours += [lambda peer: peer.refuse("500 Internal Server Error", "pod is gone"), echo]
    api.pod("old", creationTimestamp="2026-01-01T00:00:00Z")
    api.pod("pending", phase="Pending")
    api.pod("unready", creationTimestamp="2026-01-01T00:00:08Z")
    api.stored(Ref("v1", "Pod", "pachyderm", "unready"))["status"]["conditions"] = []
    api.pod("going", deletionTimestamp="x", creationTimestamp="2026-01-01T00:00:09Z")
    with PortForward(Kube(api), "pachyderm", PORT, selector="app=pachd") as address:
        api.pod("new", creationTimestamp="2026-01-01T00:00:05Z")
        assert exchange(address, b"hello", 5) == b"hello"
    assert [peer.path.split("/")[6] for peer in peers] == ["new", "new"]


def test_nobody_comes_back(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, _peers = cluster
    behaviours.append(echo)
    api.pod("pachd-0")
    forward = PortForward(Kube(api), "pachyderm", PORT, selector="app=pachd", patience=0.6)
    with forward as address:
        api.objects.clear()
        with pytest.raises(ConnectionResetError):
            exchange(address, b"", 1)
    assert "no such pod" in forward.error


def test_the_api_server_is_away(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, _behaviours, _peers = cluster
    api.pod("pachd-0")

    def away(*_args: Any) -> Any:
        raise UnreachableError("Connection refused", transient=True)

    api.open_websocket = away  # type: ignore[method-assign]
    forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0", patience=0.1)
    with forward as address, pytest.raises(ConnectionResetError):
        exchange(address, b"", 1)
    assert "cannot reach the pod (pachyderm/pachd-0): Connection refused" in forward.error


def test_the_pod_ends_the_connection(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, _peers = cluster

    def end(peer: Peer) -> None:
        peer.accept()
        peer.say(b"all")
        peer.end()
        peer.hear()

    behaviours.append(end)
    api.pod("pachd-0")
    forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0")
    with forward as address:
        assert exchange(address, b"", 100) == b"all"
    assert forward.error == ""


def hang_up(peer: Peer) -> None:
    peer.accept()
    peer.say(b"half")


@pytest.mark.parametrize("speaker", [ChannelsPeer])
def test_the_server_hangs_up_in_the_middle(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    """Without an end of its own, the protocol cannot say that this is none."""
    api, behaviours, _peers = cluster
    behaviours.append(hang_up)
    api.pod("pachd-0")
    with Kube(api).portforward("pachyderm", "pachd-0", PORT) as address:
        assert exchange(address, b"", 100) == b"half"


def go_away(peer: SpdyPeer) -> None:
    hang_up(peer)
    peer.control(peer.GOAWAY, bytes(8))
    peer.hear()


def close(peer: SpdyPeer) -> None:
    hang_up(peer)
    peer.send(b"", CLOSE)
    peer.hear()


def reset(peer: SpdyPeer) -> None:
    hang_up(peer)
    peer.control(peer.RST_STREAM, struct.pack(">II", peer.DATA, 5))
    peer.hear()


@pytest.mark.parametrize("speaker", [SpdyPeer])
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (hang_up, "the pod's side closed the connection"),
        (close, "the pod's side closed the connection"),
        (go_away, "the pod's side closed the connection"),
        (reset, "the kubelet ended the stream (RST_STREAM 5)"),
    ],
)
def test_an_end_that_is_none_resets_the_connection(
    cluster: tuple[Cluster, list[Any], list[SpdyPeer]], behaviour: Callable[[SpdyPeer], None], error: str
) -> None:
    """A file that is cut in the middle must not pass for a whole one."""
    api, behaviours, _peers = cluster
    behaviours.append(behaviour)
    api.pod("pachd-0")
    forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0")
    with forward as address, pytest.raises(ConnectionResetError):
        exchange(address, b"", 100)
    assert forward.error == error


def test_a_connection_that_breaks_resets_the_clients(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    """In no protocol is that an end, whether the client was only listening or also had more to say."""
    api, behaviours, _peers = cluster

    def break_off(peer: Peer) -> None:
        hang_up(peer)
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    behaviours.append(break_off)
    api.pod("pachd-0")
    for data in (b"", bytes(20_000_000)):
        forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0")
        with forward as address, pytest.raises((ConnectionResetError, BrokenPipeError)):
            exchange(address, data, 100)
        assert forward.error == "the connection to the API server broke"


@pytest.mark.parametrize("speaker", [SpdyPeer])
def test_nothing_is_sent_before_the_stream_is_accepted(cluster: tuple[Cluster, list[Any], list[SpdyPeer]]) -> None:
    """What arrives before the stream's reply is dropped without a word by moby/spdystream."""
    api, behaviours, peers = cluster
    between: list[tuple[int, int, bytes]] = []

    def slow(peer: SpdyPeer) -> None:
        peer.upgrade()
        requests = [peer.frame(), peer.frame()]
        peer.control(peer.SETTINGS, bytes(12))  # what nobody needs is passed over
        peer.control(peer.PING, struct.pack(">I", 2))
        peer.control(peer.SYN_REPLY, struct.pack(">I", peer.ERROR))
        between.append(peer.frame())
        time.sleep(0.2)
        assert not peer.said
        peer.reply(requests)
        peer.say(peer.hear())
        peer.hear()

    behaviours.append(slow)
    api.pod("pachd-0")
    with Kube(api).portforward("pachyderm", "pachd-0", PORT) as address:
        assert exchange(address, b"impatient", 9) == b"impatient"
    assert between == [(0x80030006, 0, struct.pack(">I", 2))]
    headers = {"port": str(PORT), "requestid": "0"}
    assert peers[0].opened == [
        (SpdyPeer.ERROR, 1, {**headers, "streamtype": "error"}),
        (SpdyPeer.DATA, 0, {**headers, "streamtype": "data"}),
    ]


def test_a_silent_connection_is_kept_alive(
    cluster: tuple[Cluster, list[Behaviour], list[Peer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many times the keepalive, in which the other side answers pings and nothing else is said."""
    monkeypatch.setattr(portforward_module, "_DEAF", 50)
    api, behaviours, peers = cluster
    behaviours.append(echo)
    api.pod("pachd-0")
    forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0", keepalive=0.2)
    with forward as address, socket.create_connection(address, timeout=10) as connection:
        end = time.monotonic() + 20
        while (not peers or peers[0].pings < 5) and time.monotonic() < end:
            time.sleep(0.05)
        connection.sendall(b"still there")
        assert connection.recv(100) == b"still there"
    assert peers[0].pings >= 5
    assert forward.error == ""


def test_who_does_not_answer_pings_is_given_up(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    """What a firewall that forgot a connection leaves behind: neither an answer nor an end."""
    api, behaviours, _peers = cluster
    over = threading.Event()

    def dead(peer: Peer) -> None:
        peer.accept()
        over.wait(20)

    behaviours.append(dead)
    api.pod("pachd-0")
    forward = PortForward(Kube(api), "pachyderm", PORT, pod="pachd-0", keepalive=0.1)
    with forward as address, socket.create_connection(address, timeout=20) as connection:
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        over.set()
    assert "the API server or the kubelet has not answered for" in forward.error


def test_leaving_ends_open_connections(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, behaviours, _peers = cluster
    behaviours.append(echo)
    api.pod("pachd-0")
    before = threading.active_count()
    with Kube(api).portforward("pachyderm", "pachd-0", PORT) as address:
        connection = socket.create_connection(address, timeout=20)
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    assert connection.recv(1) == b""
    connection.close()
    assert threading.active_count() <= before + 1  # the server's thread of this connection may still be ending


def test_a_pod_that_is_not_there_is_refused_at_once(cluster: tuple[Cluster, list[Behaviour], list[Peer]]) -> None:
    api, _behaviours, _peers = cluster
    with pytest.raises(ClusterError, match=r"no running pod.*no such pod"), Kube(api).portforward("pachyderm", "x", 1):
        pass
    api.pod("x", phase="Failed")
    with pytest.raises(ClusterError, match="x is Failed"), Kube(api).portforward("pachyderm", "x", 1):
        pass
    api.pod("going", deletionTimestamp="x")
    api.pod("unready")
    api.stored(Ref("v1", "Pod", "pachyderm", "unready"))["status"]["conditions"] = []
    states = "no ready pod.*going is stopping, unready is Running, not ready, x is Failed"
    with pytest.raises(ClusterError, match=states), PortForward(Kube(api), "pachyderm", 1, selector="app=pachd"):
        pass
    with pytest.raises(ValueError, match="either pod or selector"):
        PortForward(Kube(api), "pachyderm", 1)


class Pieces:
    """A socket that gives its bytes in pieces of the sizes asked for, then says that there is nothing yet."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._parts = []
        for size in sizes:
            self._parts.append(data[:size])
            data = data[size:]
        self._parts.append(data)

    def recv(self, _size: int) -> bytes:
        while self._parts:
            if part := self._parts.pop(0):
                return part
        raise BlockingIOError


def frame(data: bytes) -> bytes:
    length = len(data)
    if length < 126:
        return bytes([0x82, length]) + data
    return (
        b"\x82\x7e" + struct.pack(">H", length) if length < 1 << 16 else b"\x82\x7f" + struct.pack(">Q", length)
    ) + data


def pump(data: bytes, step: int, within: Any) -> portforward_module._Pump:
    """Return a pump that has read everything, in pieces of so many bytes."""
    remote = type("Remote", (), {"sock": Pieces(data, [step] * (len(data) // step))})()
    pump = portforward_module._Pump(socket.socket(), remote, within, threading.Event())
    pump._read_remote()
    pump.local.close()
    return pump


@pytest.mark.parametrize(
    ("step", "sizes"),
    [
        (1, [0, 1, 124, 125, 126, 65_535]),
        (3, [0, 1, 124, 125, 126, 127]),
        (127, [0, 1, 124, 125, 126, 65_534, 65_535, 70_000]),
        (65_537, [0, 1, 124, 125, 126, 65_534, 65_535, 70_000]),
    ],
)
def test_frames_are_whole_however_they_arrive(step: int, sizes: list[int]) -> None:
    port = struct.pack("<H", PORT)
    contents = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    after = pump(b"".join(frame(b"\0" + content) for content in [port, *contents]), step, Channels())
    assert bytes(after.to_local) == b"".join(contents)
    assert after.frames == b""


@pytest.mark.parametrize("step", [1, 5, 8, 16, 1000])
def test_a_spdy_frame_may_begin_and_end_anywhere_in_messages(step: int) -> None:
    reply = struct.pack(">HHII", 0x8003, 2, 4, Spdy._DATA)
    long = struct.pack(">HHI", 0x8003, 8, 30) + bytes(30)
    contents = [bytes([number]) * size for number, size in enumerate([0, 1, 7, 8, 9, 300])]
    session = reply + b"".join(struct.pack(">II", Spdy._DATA, len(each)) + each + long for each in contents)
    session += struct.pack(">II", Spdy._ERROR, 3) + b"why" + struct.pack(">II", Spdy._ERROR, 1 << 24)
    session += struct.pack(">II", Spdy._DATA, 1 << 24 | 4) + b"last"
    messages = [session[start : start + step] for start in range(0, len(session), step)]
    after = pump(b"".join(map(frame, messages)), 1000, Spdy(PORT))
    assert bytes(after.to_local) == b"".join([*contents, b"last"])
    assert after.within.accepts
    assert after.within.ended
    assert after.problem == "why"
    assert not after.remote_open


@pytest.mark.parametrize("head", [b"\x82\x81", b"\xc2\x01"], ids=["masked", "reserved bit"])
def test_what_is_no_frame_ends_the_connection(head: bytes) -> None:
    with pytest.raises(portforward_module.websocket.WebSocketException, match="no frame"):
        pump(head + b"\0\0\0\0\0", 100, Channels())
