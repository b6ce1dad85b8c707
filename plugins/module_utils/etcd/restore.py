# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A scratch etcd that boots from a snapshot, on this host, for nobody else to see.

It listens on a socket in a private directory and on no port at all, and it ends with the program that started it.
The data directory is made by etcd's own tool: ``etcdutl snapshot restore`` from 3.5 on, ``etcdctl snapshot restore``
before; 3.6 removed the latter (etcd's CHANGELOG-3.6).  The snapshot's SHA-256 trailer is the caller's to check, who has
read all of it anyway; here it is not read a second time for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EtcdError, InputError
from .client import EtcdClient

#: Where the collection's own local cluster keeps the programs it has built.
BUILT = Path("/var/cache/pachops/programs")

_PREFIX = "pachops-etcd-"
_MEMBER = "scratch"
# Never listened on: etcd wants a host and a port in the addresses that it would tell to others.
_ADVERTISED = "http://127.0.0.1:2380"
_VERSION = re.compile(r"[vV]ersion: *v?(\d+)\.(\d+)\.(\d+)")
# A socket's path may have 107 bytes on Linux.
_LONGEST_DIRECTORY = 90


@dataclass(frozen=True)
class Programs:
    """The programs of one etcd release.

    :param etcd: path of the server.
    :param restorer: path of the tool that has ``snapshot restore``: etcdutl or etcdctl.
    :param version: the server's version, such as ``3.5.21``.
    """

    etcd: str
    restorer: str
    version: str

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers."""
        return _numbers(self.version)

    def as_new_as(self, version: str) -> bool:
        """Return whether its minor release is that of ``version`` or a later one."""
        return self.release[:2] >= _numbers(version)[:2]


def find_programs(etcd: str = "", preferred: str = "", built: Path = BUILT) -> Programs:
    """Return the etcd to use: the one that is named, one on PATH, or the newest that the local cluster has built.

    The tool that restores is looked for beside it first, then on PATH.

    :param etcd: path of the server, empty to look for one.
    :param preferred: the version that wrote the snapshot; the first etcd that is as new is taken, else the first.
    :raises InputError: when there is none, or none that can restore.
    """
    candidates = [etcd] if etcd else [path for path in (shutil.which("etcd") or "", *_built(built)) if path]
    refused = "a backup is proven by booting an etcd from it, and none was found"
    usable = []
    for server in candidates:
        if not os.access(server, os.X_OK):
            refused = f"{server} is no program"
            continue
        restorer = _restorer(Path(server).resolve().parent)
        if restorer:
            usable.append(Programs(server, restorer, _dotted(_version(server))))
        else:
            refused = f"neither etcdutl nor an etcdctl before 3.6 is beside {server} or on PATH"
    if not usable:
        raise InputError(
            "there is no etcd program to verify with",
            where=etcd or "etcd_program",
            why=refused,
            fix="Install etcd with etcdutl or etcdctl of the same release, and name it with etcd_program.",
        )
    return next((each for each in usable if each.as_new_as(preferred)), usable[0])


def _built(programs: Path) -> list[str]:
    found = sorted(programs.glob("etcd-v*/etcd"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [str(path) for path in found]


def _restorer(beside: Path) -> str:
    for tool in ("etcdutl", "etcdctl"):
        for candidate in (str(beside / tool), shutil.which(tool) or ""):
            if candidate and os.access(candidate, os.X_OK) and (tool == "etcdutl" or _version(candidate) < (3, 6, 0)):
                return candidate
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _version(program: str) -> tuple[int, int, int]:
    tool = Path(program).name.startswith(("etcdutl", "etcdctl"))
    result = _run([program, "version" if tool else "--version"])
    match = _VERSION.search(result.stdout)
    if not match:
        raise InputError("the program does not tell etcd's version", where=program, why=result.stdout[:200])
    return int(match[1]), int(match[2]), int(match[3])


def _run(command: list[str], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ.get("PATH", ""), "ETCDCTL_API": "3"}
    try:
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EtcdError("cannot run a program of etcd", where=command[0], why=str(error)) from error


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

    :param size: bytes of the snapshot, which is needed twice: as a file and as the database made from it.
    :raises InputError: when there is less.
    """
    wanted = 2 * size + (200 << 20)
    free = shutil.disk_usage(directory).free
    if free < wanted:
        raise InputError(
            "not enough disk space to boot an etcd from the snapshot",
            where=str(directory),
            why=f"{free} bytes are free, {wanted} are needed",
            fix="Name a directory with more space as workdir.",
        )


def restore_snapshot(programs: Programs, snapshot: Path, data: Path) -> None:
    """Make the data directory of a single member from a snapshot whose trailer was checked.

    :raises EtcdError: when the tool refuses the snapshot.
    """
    command = [programs.restorer]
    if not Path(programs.restorer).name.startswith("etcdutl"):
        command += ["--command-timeout=1h"]
    command += ["snapshot", "restore", str(snapshot), "--skip-hash-check", f"--data-dir={data}", f"--name={_MEMBER}"]
    command += [f"--initial-cluster={_MEMBER}={_ADVERTISED}", f"--initial-advertise-peer-urls={_ADVERTISED}"]
    result = _run(command, timeout=3600.0)
    if result.returncode != 0:
        raise EtcdError("etcd's own tool cannot restore the snapshot", where=str(snapshot), why=_reason(result.stdout))


def database(data: Path) -> Path:
    """Return the database in a data directory, to be read when no etcd runs on it."""
    return data / "member" / "snap" / "db"


def _reason(output: str) -> str:
    """Return the line that says most: a panic or an error, else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"^panic:|^Error:|\b(fatal|panic)\b", line)]
    return (told or lines or ["it said nothing"])[-1 if not told else 0][:500]


@contextlib.contextmanager
def booted(programs: Programs, data: Path, timeout: float = 120.0) -> Iterator[EtcdClient]:
    """Yield a client of an etcd that runs on ``data``; it is stopped afterwards.

    :param data: a data directory in a private one, beside which the log is kept.  The sockets have a private directory
        of their own, since a socket's path must be short and a data directory's need not.
    :param timeout: seconds that it may take until it has a leader and answers.
    :raises EtcdError: when it does not come up; ``why`` is the reason in its log.
    """
    with tempfile.TemporaryDirectory(prefix="pachops-") as sockets:
        if len(sockets) > _LONGEST_DIRECTORY:
            raise InputError("the path is too long for a socket", where=sockets, fix="Set TMPDIR to a shorter one.")
        with _booted(programs, data, Path(sockets), timeout) as client:
            yield client


@contextlib.contextmanager
def _booted(programs: Programs, data: Path, sockets: Path, timeout: float) -> Iterator[EtcdClient]:
    client_socket, peer_socket, log = sockets / "client.sock", sockets / "peer.sock", data.parent / "etcd.log"
    command = [
        # Without it an etcd would outlive a killed verification.
        *(["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []),
        programs.etcd,
        f"--name={_MEMBER}",
        f"--data-dir={data}",
        f"--listen-client-urls=unix://{client_socket}",
        "--advertise-client-urls=http://127.0.0.1:2379",
        f"--listen-peer-urls=unix://{peer_socket}",
        f"--initial-advertise-peer-urls={_ADVERTISED}",
        f"--initial-cluster={_MEMBER}={_ADVERTISED}",
        # The default quota would raise an alarm on a database larger than 2 GiB.
        f"--quota-backend-bytes={64 << 30}",
        *(["--unsafe-no-fsync"] if programs.release >= (3, 5) else []),
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
