# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What runs beside a member's volume: it receives the snapshot, and moves data directories by renaming them.

Its source is handed to ``python3 -c`` in a pod that mounts the volume, so it is always as new as what talks to it, and
it needs nothing but the standard library (and zstandard for a shorter way, and etcdutl, if the image has them).  Its
only port is on the pod's loopback, which a port-forward reaches and no other pod.  A volume looks like this while a
restore is kept::

    member/                     what etcd runs on
    pachops-restore-<id>/
        etcd.snapshot           the snapshot, until the data is made of it
        new/                    the directory that etcd's own tool makes
        aside/member/           what was there before; ``aside/nothing`` where nothing was
        undone/member/          what an undo took away again

Every step is one rename, and what there is tells which steps were done; so each may be repeated after a crash.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

PORT = 2378
PREFIX = "pachops-restore-"
_TRAILER = 32
_PAGE = 512
_RESERVE = 64 << 20


class Refused(Exception):
    """What cannot be done, for the other side."""


class Volume:
    """One member's volume; ``root`` is what etcd has as its data directory."""

    def __init__(self, root: str, restore_id: str) -> None:
        self.root = Path(root)
        self.member = self.root / "member"
        self.work = self.root / (PREFIX + restore_id)
        self.snapshot = self.work / "etcd.snapshot"
        self.new = self.work / "new"
        self.aside = self.work / "aside"
        self.undone = self.work / "undone"

    def look(self) -> dict[str, Any]:
        """Return what there is."""
        usage = os.statvfs(self.root)
        return {
            "member": self.member.exists(),
            "made": (self.new / "member").exists(),
            "aside": (self.aside / "member").exists() or (self.aside / "nothing").exists(),
            "undone": (self.undone / "member").exists(),
            "kept": sorted(
                path.name[len(PREFIX) :] for path in self.root.glob(PREFIX + "*") if (path / "aside").exists()
            ),
            "free": usage.f_bavail * usage.f_frsize,
            "zstd": _zstandard() is not None,
            "etcdutl": _etcdutl(),
        }

    def receive(self, chunks: Iterable[bytes], size: int, sha256: str) -> None:
        """Write the snapshot, comparing it with what was promised and with its own trailer."""
        free = self.look()["free"]
        if free < 2 * size + _RESERVE:
            raise Refused(
                f"not enough space on the volume: {free} bytes are free, and {2 * size + _RESERVE} are needed beside "
                "the data that is kept"
            )
        self.work.mkdir(mode=0o700, exist_ok=True)
        # The data is made anew: what a run that died made of it may be half.
        _remove(self.new)
        part = self.work / "etcd.snapshot.part"
        try:
            _write(part, chunks, size, sha256)
        except (OSError, Refused) as error:
            # The etcd that still runs on this volume needs the room.
            part.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise Refused("the volume became full: something else has written to it meanwhile") from error
            raise
        part.rename(self.snapshot)
        _sync(self.work)

    def make(self, arguments: Sequence[str]) -> None:
        """Let this image's own etcdutl make the data of the snapshot."""
        _remove(self.new)
        done = _run(["etcdutl", *arguments])
        if done.returncode:
            raise Refused(" ".join(done.stdout.split())[-500:] or "etcdutl ended without a word")

    def swap(self) -> None:
        """Set aside what is there, and put what was made in its place."""
        if not self.look()["aside"]:
            if not (self.new / "member").exists():
                raise Refused("nothing was made of the snapshot")
            self.aside.mkdir(mode=0o700, exist_ok=True)
            if self.member.exists():
                self.member.rename(self.aside / "member")
            else:
                (self.aside / "nothing").touch()
            _sync(self.aside, self.root)
        if (self.new / "member").exists():
            if self.member.exists():
                raise Refused("etcd has written to the volume meanwhile: there is data where the new data belongs")
            (self.new / "member").rename(self.member)
            _sync(self.new, self.root)
        elif not self.member.exists():
            raise Refused("the data that was made of the snapshot is gone")
        self.snapshot.unlink(missing_ok=True)

    def undo(self) -> None:
        """Put what was set aside back in its place; what was restored is kept beside it until it is dropped."""
        state = self.look()
        if state["aside"]:
            if self.member.exists():
                self.undone.mkdir(mode=0o700, exist_ok=True)
                # Of two, the one that was undone first has been written to by nobody since.
                _remove(self.undone / "member")
                self.member.rename(self.undone / "member")
                _sync(self.undone, self.root)
            if (self.aside / "member").exists():
                (self.aside / "member").rename(self.member)
                _sync(self.aside, self.root)
            (self.aside / "nothing").unlink(missing_ok=True)
        if self.aside.exists() and not any(self.aside.iterdir()):
            self.aside.rmdir()
        _remove(self.new)
        self.snapshot.unlink(missing_ok=True)
        (self.work / "etcd.snapshot.part").unlink(missing_ok=True)
        if self.work.exists() and not any(self.work.iterdir()):
            self.work.rmdir()
        _sync(self.root)

    def drop(self, ids: Sequence[str]) -> None:
        """Delete what was set aside by the restores named."""
        for each in ids:
            if not each or "/" in each:
                raise Refused(f"no id of a restore: {each!r}")
            _remove(self.root / (PREFIX + each))


def _write(path: Path, chunks: Iterable[bytes], size: int, sha256: str) -> None:
    digest, trailer, done, end = hashlib.sha256(), b"", 0, size - _TRAILER
    with path.open("wb") as file:
        for chunk in chunks:
            # All but the trailer is read once for both digests.
            digest.update(chunk[: max(0, end - done)])
            trailer += chunk[max(0, end - done) :]
            done += len(chunk)
            if done > size:
                break
            file.write(chunk)
    # Not synced: it is read at once, and gone before most of it has reached the disk.
    content = digest.digest()
    digest.update(trailer)
    if done != size or digest.hexdigest() != sha256:
        raise Refused(f"the snapshot arrived damaged: {done} bytes of {size}, SHA-256 {digest.hexdigest()}")
    if done % _PAGE == _TRAILER and trailer != content:
        raise Refused("the snapshot is damaged: its own SHA-256 at its end differs")


def _remove(path: Path) -> None:
    # Renamed first, so that nobody takes half of it for the whole.
    if path.exists():
        doomed = path.with_name(path.name + ".doomed")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)


def _sync(*directories: Path) -> None:
    for directory in directories:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )


@functools.lru_cache
def _etcdutl() -> str:
    """Return the version of this image's etcdutl, empty where there is none."""
    if shutil.which("etcdutl") is None:
        return ""
    found = re.search(r"etcdutl version: *v?([0-9.]+)", _run(["etcdutl", "version"]).stdout)
    return found[1] if found else ""


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard


def _frames(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the payload: chunks with their length before each, an empty one at the end."""
    while True:
        header = stream.read(4)
        if len(header) < 4:
            raise Refused("the connection broke off")
        (length,) = struct.unpack(">I", header)
        if not length:
            return
        chunk = stream.read(length)
        if len(chunk) < length:
            raise Refused("the connection broke off")
        yield chunk


def _decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    library = _zstandard()
    machine = library.ZstdDecompressor().decompressobj()
    for chunk in chunks:
        try:
            data = machine.decompress(chunk)
        except library.ZstdError as error:
            raise Refused(f"the snapshot arrived damaged: {error}") from error
        if data:
            yield data


def answer(request: dict[str, Any], stream: BinaryIO, root: str) -> dict[str, Any]:
    """Do what one request asks for, and return the answer."""
    volume = Volume(root, request["id"])
    do = request["do"]
    if do == "receive":
        chunks = _frames(stream)
        volume.receive(_decompressed(chunks) if request["zstd"] else chunks, request["size"], request["sha256"])
    elif do in ("swap", "undo"):
        getattr(volume, do)()
    elif do == "make":
        volume.make(request["arguments"])
    elif do == "drop":
        volume.drop(request["ids"])
    elif do != "look":
        raise Refused(f"not known: {do!r}")
    return volume.look()


def _serve(connection: socket.socket, root: str) -> None:
    with connection, connection.makefile("rb") as stream, connection.makefile("wb") as back:
        try:
            result = answer(json.loads(stream.readline()), stream, root)
        except Refused as refused:
            result = {"refused": str(refused)}
        except (OSError, ValueError, KeyError) as error:
            result = {"refused": f"{type(error).__name__}: {error}"}
        back.write(json.dumps(result).encode() + b"\n")


def serve(root: str, listener: socket.socket, one_by_one: threading.Lock) -> None:
    """Answer requests, for as long as the listener is open."""
    while True:
        try:
            connection, _address = listener.accept()
        except OSError:
            return

        def work(connection: socket.socket = connection) -> None:
            with one_by_one:
                _serve(connection, root)

        threading.Thread(target=work, daemon=True).start()


def main(root: str, port: int) -> None:
    """Serve until the pod ends."""
    Path(root).mkdir(parents=True, exist_ok=True)
    listener = socket.create_server(("127.0.0.1", port), backlog=8)
    serve(root, listener, threading.Lock())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
