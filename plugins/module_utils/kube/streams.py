# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What is said inside the websocket of a port-forward: the bytes of a connection to a pod, and what went wrong with it.

The API server is offered both protocols and chooses.  Since Kubernetes 1.31 it knows :class:`Spdy`, kubectl's own, and
hands its frames on to the kubelet as they are; the older :class:`Channels` goes through to the container runtime.
"""

from __future__ import annotations

import struct
import zlib
from typing import Protocol

_BINARY, _PING = 2, 9  # opcodes of a websocket (RFC 6455, section 5.2)


class Streams(Protocol):
    """A protocol inside a websocket."""

    answer: bytes
    """What has to be sent as a message of its own; whoever sends it empties this."""

    @property
    def problem(self) -> str:
        """What the pod's side reported, or how it ended if not in order."""

    @property
    def accepts(self) -> bool:
        """Whether data may be sent already."""

    @property
    def ended(self) -> bool:
        """Whether the pod's side has nothing more to say."""

    @property
    def cut(self) -> str:
        """What is to be said of a websocket that ends now."""

    def head(self, length: int) -> bytes:
        """Return what goes in front of so many bytes of data in a message."""

    def ping(self) -> tuple[int, bytes]:
        """Return opcode and content of a message that the farthest end answers."""

    def take(self, data: memoryview, final: bool, into: bytearray) -> None:
        """Understand a piece of a message, and append the pod's bytes in it to ``into``.

        :param final: whether the message ends with this piece.
        """


class Channels:
    """``v4.channel.k8s.io``: a message's first byte is the channel; each channel's first message is the port."""

    NAME = "v4.channel.k8s.io"
    _DATA, _ERROR = 0, 1
    accepts = True
    cut = ""  # there is no other way to end

    def __init__(self) -> None:
        """Nothing has been said yet."""
        self.problem = ""
        self.answer = b""
        self.ended = False
        self._announced: set[int] = set()  # channels whose first message has passed
        self._channel: int | None = None  # of the message that is under way

    def head(self, length: int) -> bytes:
        """See :class:`Streams`."""
        del length
        return bytes([self._DATA])

    def ping(self) -> tuple[int, bytes]:
        """See :class:`Streams`."""
        return _PING, b""

    def take(self, data: memoryview, final: bool, into: bytearray) -> None:
        """See :class:`Streams`."""
        if self._channel is None and data:
            self._channel, data = data[0], data[1:]
        if self._channel is not None and self._channel not in self._announced:
            self._announced.add(self._channel)
            data = data[2:]
        if self._channel == self._DATA:
            into += data
        elif self._channel == self._ERROR and data:
            self.problem += bytes(data).decode("utf-8", "replace")
            self.ended = True
        if final:
            self._channel = None


class Spdy:
    """``SPDY/3.1+portforward.k8s.io``: a SPDY session in binary messages, whose ends mean nothing (KEP-4006).

    Each connection has a session of its own with two streams, one for errors and one for data, as in client-go's
    ``tools/portforward``.  Of SPDY this is the part that the kubelet and the container runtimes speak
    (moby/spdystream): no windows, no settings.  Headers are sent without the protocol's dictionary, which zlib allows,
    and those that come are not read: what matters is that a stream was accepted.
    """

    NAME = "SPDY/3.1+portforward.k8s.io"
    _ERROR, _DATA = 1, 3  # a client's streams have odd numbers
    _VERSION = 0x8003
    _SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
    _FIN = 1
    _KEPT = 8  # bytes of a control frame of which any is read here

    def __init__(self, port: int) -> None:
        """:param port: the pod's port."""
        deflate = zlib.compressobj()
        headers = {"port": str(port), "requestid": "0"}
        self.answer = b"".join(
            self._control(
                self._SYN_STREAM,
                flags,
                struct.pack(">IIH", stream, 0, 0)
                + deflate.compress(_block({**headers, "streamtype": kind}))
                + deflate.flush(zlib.Z_SYNC_FLUSH),
            )
            for stream, kind, flags in ((self._ERROR, "error", self._FIN), (self._DATA, "data", 0))
        )
        self.accepts = False
        self._report = bytearray()
        self._reset = ""
        self._open = {self._ERROR, self._DATA}  # streams on which the pod's side may still say something
        self._head = bytearray()  # of the frame under way, as far as it is here
        self._rest = 0  # bytes of that frame which are still to come
        self._kept = bytearray()  # the first bytes of a control frame
        self._pings = -1

    @property
    def problem(self) -> str:
        """See :class:`Streams`."""
        # The report may come in pieces; its stream's end makes it whole.
        return self._report.decode("utf-8", "replace") or self._reset

    @property
    def ended(self) -> bool:
        """See :class:`Streams`."""
        return not self._open

    @property
    def cut(self) -> str:
        """See :class:`Streams`."""
        return "the pod's side closed the connection" if self._DATA in self._open else ""

    def head(self, length: int) -> bytes:
        """See :class:`Streams`."""
        return struct.pack(">II", self._DATA, length)

    def ping(self) -> tuple[int, bytes]:
        """See :class:`Streams`."""
        self._pings = (self._pings + 2) & 0x7FFFFFFF
        return _BINARY, self._control(self._PING, 0, struct.pack(">I", self._pings))

    def take(self, data: memoryview, final: bool, into: bytearray) -> None:
        """See :class:`Streams`."""
        del final
        while data:
            if len(self._head) < 8:
                missing = 8 - len(self._head)
                self._head += data[:missing]
                data = data[missing:]
                if len(self._head) < 8:
                    return
                self._rest = int.from_bytes(self._head[5:], "big")
            piece = data[: self._rest]
            data = data[len(piece) :]
            self._rest -= len(piece)
            stream = int.from_bytes(self._head[:4], "big")
            if stream == self._DATA:
                into += piece
            elif stream == self._ERROR:
                self._report += piece
            else:
                self._kept += piece[: self._KEPT - len(self._kept)]
            if not self._rest:
                self._end_frame()

    def _end_frame(self) -> None:
        word, flags = int.from_bytes(self._head[:4], "big"), self._head[4]
        if word >> 16 == self._VERSION:
            self._obey(word & 0xFFFF, flags)
        elif flags & self._FIN:
            self._open.discard(word)
        self._head.clear()
        self._kept.clear()

    def _obey(self, kind: int, flags: int) -> None:
        stream, status = struct.unpack(">II", self._kept.ljust(self._KEPT, b"\0"))
        if kind == self._SYN_REPLY:
            self.accepts |= stream == self._DATA
            if flags & self._FIN:
                self._open.discard(stream)
        elif kind == self._RST_STREAM:
            if stream in self._open:
                self._reset = self._reset or f"the kubelet ended the stream (RST_STREAM {status})"
            self._open.clear()
        elif kind == self._PING and not stream & 1:
            self.answer += self._control(self._PING, 0, struct.pack(">I", stream))
        elif kind == self._GOAWAY:
            self._reset = self._reset or self.cut
            self._open.clear()

    def _control(self, kind: int, flags: int, content: bytes) -> bytes:
        return struct.pack(">HHI", self._VERSION, kind, flags << 24 | len(content)) + content


# What the API server is offered, the better first.
PROTOCOLS = (Spdy.NAME, Channels.NAME)


def streams(protocol: str, port: int) -> Streams:
    """Return the side of a client that asked for a pod's port and was given ``protocol``, whatever its case."""
    return Spdy(port) if protocol.lower() == Spdy.NAME.lower() else Channels()


def _block(headers: dict[str, str]) -> bytes:
    """Return a header block of SPDY/3: the number of pairs, and each text after its length."""
    texts = [text.encode() for pair in headers.items() for text in pair]
    return struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(text)) + text for text in texts)
