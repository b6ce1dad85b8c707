# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A scratch etcd that boots from a snapshot, on this host, for nobody else to see.

It listens on a socket in a private directory and on no port at all, and it ends with the program that started it.

A snapshot is the database of a member, and a new member is made of it by putting it where that member looks for its
own, for which it need not be copied.  What etcd keeps in it about the member that it was is made what ``etcdutl
snapshot restore`` makes it: nothing of a log was applied yet.  Facts: ``server/etcdserver/cindex`` and
``etcdutl/snapshot/v3_snapshot.go`` of etcd; 3.5 and 3.6 boot so from what 3.3 to 3.6 wrote.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EtcdError, InputError
from .bolt import Bolt
from .client import EtcdClient

#: Where the collection's own local cluster keeps the programs it has built.
BUILT = Path("/var/cache/pachops/programs")

_PREFIX = "pachops-etcd-"
_MEMBER = "scratch"
# Never listened on: etcd wants a host and a port in the addresses that it would tell to others.  No member that is
# named in a snapshot has this one.
_ADVERTISED = "http://127.0.0.1:1"
_VERSION = re.compile(r"[vV]ersion: *v?(\d+\.\d+\.\d+)")
# The first that listens on sockets with a path.
_OLDEST = (3, 5)
# What a member keeps of itself in its database, by bucket and key, and what a new one finds there: how much of its log
# it has applied (3.6 waits for ever where its log is younger), and whether users need a password.
_RESET = {b"meta": {b"consistent_index": bytes(8)}, b"auth": {b"authEnabled": bytes(1)}}
# A socket's path may have 107 bytes on Linux.
_LONGEST_DIRECTORY = 90


@dataclass(frozen=True)
class Program:
    """An etcd on this host.

    :param etcd: path of the server.
    :param version: such as ``3.5.21``.
    """

    etcd: str
    version: str

    def as_new_as(self, version: str) -> bool:
        """Return whether its minor release is that of ``version`` or a later one."""
        return _numbers(self.version)[:2] >= _numbers(version)[:2]


def find_program(etcd: str = "", preferred: str = "", built: Path = BUILT) -> Program:
    """Return the etcd to use: the one that is named, one on PATH, or the newest that the local cluster has built.

    :param etcd: path of the server, empty to look for one.
    :param preferred: the version that wrote the snapshot; the first etcd that is as new is taken, else the first.
    :raises InputError: when there is none, or none that is new enough.
    """
    candidates = [etcd] if etcd else [path for path in (shutil.which("etcd") or "", *_built(built)) if path]
    refused = "a backup is proven by booting an etcd from it, and none was found"
    usable = []
    for server in candidates:
        if not os.access(server, os.X_OK):
            refused = f"{server} is no program"
            continue
        version = _version(server)
        if _numbers(version) >= _OLDEST:
            usable.append(Program(server, version))
        else:
            refused = f"{server} is etcd {version}, and what boots here is 3.5 or later"
    if not usable:
        raise InputError(
            "there is no etcd program to verify with",
            where=etcd or "etcd_program",
            why=refused,
            fix="Install etcd 3.5 or later, or name one with etcd_program.",
        )
    return next((each for each in usable if each.as_new_as(preferred)), usable[0])


def _built(programs: Path) -> list[str]:
    found = sorted(programs.glob("etcd-v*/etcd"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [str(path) for path in found]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _version(program: str) -> str:
    try:
        result = subprocess.run(
            [program, "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={"PATH": os.environ.get("PATH", "")},
            timeout=30.0,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError("cannot run etcd", where=program, why=str(error)) from error
    match = _VERSION.search(result.stdout)
    if not match:
        raise InputError("the program does not tell etcd's version", where=program, why=result.stdout[:200])
    return match[1]


@contextlib.contextmanager
def private_directory(parent: str = "") -> Iterator[Path]:
    """Yield a directory that only this user can enter, and remove it afterwards.

    Directories that a killed run left behind are removed on the way.

    :param parent: where to make it; default: the system's directory for temporary files.
    """
    place = Path(parent or tempfile.gettempdir())
    _sweep(place)
    try:
        made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    except OSError as error:
        raise InputError(
            "cannot make a directory for the verification",
            where=str(place),
            why=str(error),
            fix="Name another workdir.",
        ) from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(place: Path) -> None:
    for path in place.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if owner.isdigit() and path.stat().st_uid == os.getuid() and not Path("/proc", owner).exists():
                shutil.rmtree(path, ignore_errors=True)


def require_space(directory: Path, size: int) -> None:
    """Refuse early what would fill the disk.

    :param size: bytes of the snapshot; some more are for the log that every etcd begins with.
    :raises InputError: when there is less.
    """
    wanted = size + (200 << 20)
    free = shutil.disk_usage(directory).free
    if free < wanted:
        raise InputError(
            "not enough disk space to boot an etcd from the snapshot",
            where=str(directory),
            why=f"{free} bytes are free, {wanted} are needed",
            fix="Name a directory with more space as workdir.",
        )


def make_member(chunks: Iterable[bytes], data: Path) -> None:
    """Make the data directory of a new member out of a snapshot.

    :param chunks: the database alone, without the SHA-256 at a snapshot's end, which is the caller's to compare.
    :raises EtcdError: they are no database.
    :raises InputError: there is no space for it.
    """
    path = database(data)
    path.parent.mkdir(mode=0o700, parents=True)
    for each in (data, data / "member"):
        each.chmod(0o700)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.writelines(chunks)
    except OSError as error:
        raise InputError(
            "cannot write the database of an etcd to be booted",
            where=str(path),
            why=error.strerror or str(error),
            fix="Free space there, or name another workdir.",
        ) from error
    with Bolt(path) as found, path.open("r+b") as file:
        buckets = found.buckets()
        for name, wanted in _RESET.items():
            for key, value, where in buckets[name].items() if name in buckets else ():
                if len(value) == len(wanted.get(key, b"")):
                    file.seek(where)
                    file.write(wanted[key])


def database(data: Path) -> Path:
    """Return the database in a data directory, to be read when no etcd runs on it."""
    return data / "member" / "snap" / "db"


def _reason(output: str) -> str:
    """Return the line that says most: a panic or an error, else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"^panic:|^Error:|\b(fatal|panic)\b", line)]
    return (told or lines or ["it said nothing"])[-1 if not told else 0][:500]


@contextlib.contextmanager
def booted(program: Program, data: Path, timeout: float = 120.0) -> Iterator[EtcdClient]:
    """Yield a client of an etcd that runs on ``data``; it is stopped afterwards.

    :param data: a data directory in a private one, beside which the log is kept.  The sockets have a private directory
        of their own, since a socket's path must be short and a data directory's need not.
    :param timeout: seconds that it may take until it has a leader and answers.
    :raises EtcdError: when it does not come up; ``why`` is the reason in its log.
    """
    with tempfile.TemporaryDirectory(prefix="pachops-") as sockets:
        if len(sockets) > _LONGEST_DIRECTORY:
            raise InputError("the path is too long for a socket", where=sockets, fix="Set TMPDIR to a shorter one.")
        with _booted(program, data, Path(sockets), timeout) as client:
            yield client


@contextlib.contextmanager
def _booted(program: Program, data: Path, sockets: Path, timeout: float) -> Iterator[EtcdClient]:
    client_socket, peer_socket, log = sockets / "client.sock", sockets / "peer.sock", data.parent / "etcd.log"
    command = [
        # Without it an etcd would outlive a killed verification.
        *(["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []),
        program.etcd,
        f"--name={_MEMBER}",
        f"--data-dir={data}",
        f"--listen-client-urls=unix://{client_socket}",
        "--advertise-client-urls=http://127.0.0.1:2379",
        f"--listen-peer-urls=unix://{peer_socket}",
        f"--initial-advertise-peer-urls={_ADVERTISED}",
        f"--initial-cluster={_MEMBER}={_ADVERTISED}",
        # The default quota would raise an alarm on a database larger than 2 GiB.
        f"--quota-backend-bytes={64 << 30}",
        "--unsafe-no-fsync",
        # Alone it is elected after a few heartbeats, and nobody waits for them.
        "--heartbeat-interval=10",
        "--election-timeout=100",
    ]
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(data.parent)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        # HashKV of a large database takes long, and nobody else keeps this etcd busy.
        with EtcdClient(f"unix://{client_socket}", timeout=600.0) as client:
            _await_leader(client, process, client_socket, log, timeout)
            yield client
    finally:
        process.kill()
        process.wait()


def _await_leader(
    client: EtcdClient, process: subprocess.Popen[bytes], socket: Path, log: Path, timeout: float
) -> None:
    end = time.monotonic() + timeout
    trouble = "it made no socket"
    while process.poll() is None and time.monotonic() < end:
        # Before the socket exists every attempt would only make the channel wait longer for its next one.
        if socket.exists():
            try:
                if client.status().leader:
                    return
                trouble = "it has no leader"
            except EtcdError as error:
                trouble = error.why
        time.sleep(0.02)
    told = _reason(log.read_text(encoding="utf-8", errors="replace"))
    raise EtcdError(
        "an etcd does not boot from the snapshot",
        where=str(log.parent),
        why=f"it ended: {told}" if process.poll() is not None else f"not ready after {timeout:.0f} s: {trouble}",
    )
