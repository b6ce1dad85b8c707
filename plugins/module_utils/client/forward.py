# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Keeping :mod:`..kube.forwarder` running: its files, and the supervisor that starts it again when it ends.

Everything of one forward is in one directory of its own, a copy of the program included, so that it goes on whatever
becomes of the collection that set it up; under systemd there is a unit besides.  Nothing remains of one that is taken
away.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pkgutil
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import ClusterError, InputError, PachopsError
from ..kube import forwarder
from ..kube.kubeconfig import context_name
from ..kube.portforward import LOOPBACK
from ..replacing import replacing

# The program and all that it imports.  Its package has a name of its own, so that it never meets the collection's.
PACKAGE = "pachops_port_forward"
_MODULES = ("apply", "client", "forwarder", "kinds", "kubeconfig", "portforward", "streams", "transport")
PROGRAM = ("errors.py", *(f"kube/{name}.py" for name in _MODULES))
LIBRARIES = ("grpc", "urllib3", "websocket", "yaml")
LOG = "forward.log"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PATIENCE_WITH_AN_END = 20.0  # seconds that a program may take to stop
_PATIENCE_WITH_A_KILL = 10.0
_TAIL = 12  # lines of the log that a message quotes
_PROXIES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True)
class Wanted:
    """One forward as it is to be.

    :param name: the context of pachctl that it belongs to.
    :param base: directory below which every forward has one of its own.
    :param kubeconfig: path, or empty for what the environment says.
    :param kube_context: name in it, or empty for its current one.
    :param ports: service (see :data:`..kube.forwarder.SERVICES`) to local port.
    :param patience: seconds that a new connection waits for a pod.
    :param keepalive: seconds of silence after which a connection is pinged.
    :param interval: seconds between two health calls.
    :param environment: further variables of the program, for credential plugins.
    """

    name: str
    base: Path
    namespace: str = "pachyderm"
    kubeconfig: str = ""
    kube_context: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    patience: float = 60.0
    keepalive: float = 20.0
    interval: float = 10.0
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable

    @property
    def directory(self) -> Path:
        """The forward's own directory."""
        return self.base / self.name

    def check(self) -> None:
        """Refuse what cannot work, all of it at once.

        :raises InputError: a name, a service or a port that is none, or a library that is missing.
        """
        wrong = []
        if not _NAME.fullmatch(self.name):
            wrong.append(f"the name {self.name!r} is not of at most 63 letters, digits, dots, hyphens and underscores")
        unknown = sorted(set(self.ports) - set(forwarder.SERVICES))
        if unknown:
            wrong.append(f"no such service: {', '.join(unknown)} (there are {', '.join(forwarder.SERVICES)})")
        if not self.ports:
            wrong.append("no port is named")
        wrong += [f"{name}: {port} is no port" for name, port in self.ports.items() if not 0 < int(port) < 65536]
        if len(set(self.ports.values())) < len(self.ports):
            wrong.append("two services have the same local port")
        missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            wrong.append(f"{self.python} lacks the Python libraries {', '.join(missing)} (requirements.txt has them)")
        if wrong:
            raise InputError(
                "this port-forward cannot be set up",
                where=self.name,
                why="; ".join(wrong),
                fix="Correct it; nothing was changed.",
            )

    def config(self) -> dict[str, Any]:
        """Return the program's configuration; the kubeconfig's current context is pinned, so that it may change."""
        named = self.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        paths = [str(Path(path).expanduser().absolute()) for path in named.split(os.pathsep) if path]
        proxies = {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
        return {
            "name": self.name,
            "kubeconfig": os.pathsep.join(paths),
            "context": context_name(self.kubeconfig or None, self.kube_context or None),
            "namespace": self.namespace,
            "ports": dict(self.ports),
            "patience": self.patience,
            "keepalive": self.keepalive,
            "interval": self.interval,
            "environment": {**proxies, **self.environment},
        }

    def command(self) -> list[str]:
        """Return the program's command line."""
        return [self.python, "-m", f"{PACKAGE}.kube.forwarder", str(self.directory / forwarder.CONFIG)]

    def files(self) -> dict[Path, str]:
        """Return the files of the forward, without its supervisor's."""
        package = __package__.rpartition(".")[0]
        library = self.directory / "lib" / PACKAGE
        program = {library / name: _source(package, name) for name in PROGRAM}
        return {self.directory / forwarder.CONFIG: json.dumps(self.config(), indent=2) + "\n", **program}


class Supervisor(Protocol):
    """What starts the program again when it ends."""

    name: str

    def files(self, wanted: Wanted) -> dict[Path, str]:
        """Return the files that it needs."""

    def running(self, wanted: Wanted) -> bool:
        """Return whether it looks after the forward now."""

    def start(self, wanted: Wanted) -> None:
        """Start it, with its files in place."""

    def stop(self, wanted: Wanted) -> None:
        """Stop it and the program; its files stay."""

    def log(self, wanted: Wanted) -> list[str]:
        """Return the last lines that the program wrote."""


class Supervisord:
    """A supervisord of the forward's own, in the background; it does not survive a reboot of this host."""

    name = "supervisord"

    def files(self, wanted: Wanted) -> dict[Path, str]:
        """See :class:`Supervisor`."""
        home = wanted.directory

        def quoted(text: object) -> str:
            return str(text).replace("%", "%%")

        # No socket: its path would be too long in many a home directory, and signals are enough.
        text = f"""[supervisord]
nodaemon = false
directory = {quoted(home)}
pidfile = {quoted(home / "supervisord.pid")}
logfile = {quoted(home / "supervisord.log")}
logfile_maxbytes = 500KB
logfile_backups = 0
umask = 077

[program:forward]
command = {quoted(shlex.join(wanted.command()))}
environment = PYTHONPATH="{quoted(home / "lib")}",PYTHONUNBUFFERED="1"
autorestart = true
startsecs = 1
startretries = 1000000
stopwaitsecs = 10
redirect_stderr = true
stdout_logfile = {quoted(home / LOG)}
stdout_logfile_maxbytes = 2MB
stdout_logfile_backups = 1
"""
        return {home / "supervisord.conf": text}

    def running(self, wanted: Wanted) -> bool:
        """See :class:`Supervisor`."""
        return self._pid(wanted) is not None

    def start(self, wanted: Wanted) -> None:
        """See :class:`Supervisor`.

        :raises PachopsError: it could not be started.
        """
        command = [wanted.python, "-m", "supervisor.supervisord", "--configuration", str(self._file(wanted))]
        _run(command, "supervisord could not be started")

    def stop(self, wanted: Wanted) -> None:
        """See :class:`Supervisor`."""
        pid = self._pid(wanted)
        if pid is not None:
            _end(pid)
        (wanted.directory / "supervisord.pid").unlink(missing_ok=True)

    def log(self, wanted: Wanted) -> list[str]:
        """See :class:`Supervisor`."""
        with contextlib.suppress(OSError):
            return (wanted.directory / LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        return []

    def _file(self, wanted: Wanted) -> Path:
        return wanted.directory / "supervisord.conf"

    def _pid(self, wanted: Wanted) -> int | None:
        """Return the process id, None where the process that had it is gone or is another one by now."""
        try:
            pid = int((wanted.directory / "supervisord.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if str(self._file(wanted)) in _command_line(pid) else None


class Systemd:
    """A unit of the user's own systemd, started again after a reboot where the user lingers (``loginctl``)."""

    name = "systemd"

    def files(self, wanted: Wanted) -> dict[Path, str]:
        """See :class:`Supervisor`."""

        def quoted(text: object) -> str:
            return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'

        text = f"""[Unit]
Description=Port-forward to Pachyderm ({wanted.name})
StartLimitIntervalSec=0

[Service]
ExecStart={" ".join(quoted(word).replace("$", "$$") for word in wanted.command())}
Environment={quoted(f"PYTHONPATH={wanted.directory / 'lib'}")} PYTHONUNBUFFERED=1
UMask=0077
Restart=always
RestartSec=1
TimeoutStopSec=10

[Install]
WantedBy=default.target
"""
        return {self._unit_file(wanted): text}

    def running(self, wanted: Wanted) -> bool:
        """See :class:`Supervisor`."""
        if not self._unit_file(wanted).exists():
            return False
        state = self._control("is-active", self._unit(wanted), check=False).strip()
        return state in ("active", "activating", "reloading")

    def start(self, wanted: Wanted) -> None:
        """See :class:`Supervisor`.

        :raises PachopsError: systemd refused.
        """
        self._control("daemon-reload")
        self._control("enable", self._unit(wanted))
        self._control("restart", self._unit(wanted))

    def stop(self, wanted: Wanted) -> None:
        """See :class:`Supervisor`."""
        if self._unit_file(wanted).exists():
            self._control("disable", "--now", self._unit(wanted))

    def log(self, wanted: Wanted) -> list[str]:
        """See :class:`Supervisor`."""
        command = ["journalctl", "--user", "--unit", self._unit(wanted), "--lines", str(_TAIL), "--output", "cat"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_of_the_user())
        return done.stdout.splitlines()

    def _unit(self, wanted: Wanted) -> str:
        return f"pachops-port-forward-{wanted.name}.service"

    def _unit_file(self, wanted: Wanted) -> Path:
        root = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        return root / "systemd" / "user" / self._unit(wanted)

    def _control(self, *arguments: str, check: bool = True) -> str:
        command = ["systemctl", "--user", *arguments]
        return _run(command, "systemd refused", env=_of_the_user(), check=check)


SUPERVISORS: Mapping[str, Supervisor] = {"systemd": Systemd(), "supervisord": Supervisord()}


def choose(name: str) -> Supervisor:
    """Return the supervisor of that name; ``auto`` is systemd where it runs for this user, else supervisord.

    :raises InputError: supervisord is wanted, and this interpreter has none.
    """
    if name == "auto":
        name = "systemd" if _systemd_serves_this_user() else "supervisord"
    if name == "supervisord" and importlib.util.find_spec("supervisor") is None:
        raise InputError(
            "there is no supervisor for the port-forward",
            where=sys.executable,
            why="systemd does not run for this user, and the Python package supervisor is missing",
            fix="Install supervisor for this interpreter (requirements.txt has it), or log in with a systemd session.",
        )
    return SUPERVISORS[name]


@dataclass
class Outcome:
    """What was done, or would be.

    :param before: the forward's files that matter to a person, by path; empty where there was none.
    :param status: what the program says of itself, see :mod:`..kube.forwarder`; empty where it does not run.
    """

    changed: bool
    before: dict[str, str]
    after: dict[str, str]
    status: dict[str, Any] = field(default_factory=dict)


def keep(wanted: Wanted, supervisor: Supervisor, *, wait: float = 30.0, dry_run: bool = False) -> Outcome:
    """Have the forward, running and healthy.

    :param wait: seconds for pachd to answer through it; 0 does not wait.
    :raises InputError: it cannot work as wanted, or a port is taken by somebody else.
    :raises ClusterError: pachd does not answer; the forward goes on trying.
    """
    wanted.check()
    files = {**wanted.files(), **supervisor.files(wanted)}
    others = [each for each in SUPERVISORS.values() if each is not supervisor and each.running(wanted)]
    running = supervisor.running(wanted)
    stale = {path for path, text in files.items() if _text(path) != text}
    before = _shown(files, _text) if (wanted.directory / forwarder.CONFIG).exists() else {}
    outcome = Outcome(bool(stale) or not running or bool(others), before, _shown(files, files.get))
    _refuse_taken_ports(wanted, _ports(wanted.directory) if running or others else {})
    if outcome.changed and not dry_run:
        for each in (*others, supervisor):
            each.stop(wanted)
        for each in others:
            _remove(each.files(wanted))
        wanted.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in stale:
            _write(path, files[path])
        _end_stray(wanted)
        supervisor.start(wanted)
    if wait and not dry_run:
        outcome.status = _healthy(wanted, supervisor, wait)
    else:
        outcome.status = status(wanted.directory)
    return outcome


def drop(wanted: Wanted, *, dry_run: bool = False) -> Outcome:
    """Take the forward away with everything that belongs to it."""
    present = [path for each in SUPERVISORS.values() for path in each.files(wanted) if path.exists()]
    config = wanted.directory / forwarder.CONFIG
    exists = bool(present) or wanted.directory.exists()
    outcome = Outcome(exists, {str(config): _text(config) or ""} if exists else {}, {})
    if exists and not dry_run:
        for each in SUPERVISORS.values():
            if each.running(wanted):
                each.stop(wanted)
        _end_stray(wanted)
        _remove(present)
        shutil.rmtree(wanted.directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            wanted.base.rmdir()
    return outcome


def status(directory: Path) -> dict[str, Any]:
    """Return what the program in ``directory`` says of itself; empty where it does not run."""
    try:
        found: dict[str, Any] = json.loads((directory / forwarder.STATUS).read_text(encoding="utf-8"))
        return found if _alive(int(found["pid"])) else {}
    except (OSError, ValueError, KeyError):
        return {}


def _healthy(wanted: Wanted, supervisor: Supervisor, wait: float) -> dict[str, Any]:
    deadline = time.monotonic() + wait
    while True:
        found = status(wanted.directory)
        if found.get("healthy"):
            return found
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    raise ClusterError(
        f"pachd does not answer through the port-forward after {wait:.0f} s",
        where=f"{wanted.name}, namespace {wanted.namespace}",
        why=found.get("error") or "; ".join(supervisor.log(wanted)[-3:]) or "the program did not start",
        fix="The port-forward goes on trying. Run the playbook doctor to see what is wrong with pachd.",
    )


def _refuse_taken_ports(wanted: Wanted, own: Mapping[str, int]) -> None:
    """Refuse ports that somebody else listens on; a forward whose supervisor was killed is nobody else."""
    if status(wanted.directory):
        own = _ports(wanted.directory)
    taken = _taken({name: port for name, port in wanted.ports.items() if port not in own.values()})
    if not taken:
        return
    others = [file.parent for file in wanted.base.glob(f"*/{forwarder.CONFIG}") if file.parent != wanted.directory]
    holders = {port: other.name for other in others for port in _ports(other).values()}
    raise InputError(
        "local ports are taken",
        where=f"port-forward {wanted.name}",
        why="; ".join(
            f"{port} ({name}), by " + (f"the port-forward {holders[port]}" if port in holders else "another program")
            for name, port in taken.items()
        ),
        fix="Give other ports; each context needs its own. `ss -ltnp` shows who listens.",
    )


def _taken(ports: Mapping[str, int]) -> dict[str, int]:
    taken = {}
    for name, port in ports.items():
        try:
            socket.create_server((LOOPBACK, port)).close()
        except OSError:
            taken[name] = port
    return taken


def _ports(directory: Path) -> dict[str, int]:
    try:
        return dict(json.loads((directory / forwarder.CONFIG).read_text(encoding="utf-8"))["ports"])
    except (OSError, ValueError, KeyError):
        return {}


def _shown(files: Mapping[Path, str], read: Any) -> dict[str, str]:
    """Return what a diff shows: the configuration without the environment's values, and whether the program is new."""
    shown = {}
    for path in files:
        text = read(path) or ""
        if path.name == forwarder.CONFIG and text:
            with contextlib.suppress(ValueError):
                config = json.loads(text)
                config["environment"] = sorted(config.get("environment") or {})
                text = json.dumps(config, indent=2) + "\n"
        elif path.suffix == ".py":
            continue
        shown[str(path)] = text
    return shown


def _systemd_serves_this_user() -> bool:
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        return False
    command = ["systemctl", "--user", "show-environment"]
    return subprocess.run(command, capture_output=True, check=False, env=_of_the_user()).returncode == 0


def _of_the_user() -> dict[str, str]:
    """Return the environment in which the user's own systemd is found, from a cron job too."""
    return {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", **os.environ}


def _source(package: str, name: str) -> str:
    data = pkgutil.get_data(package, name)
    if data is None:
        raise RuntimeError(f"cannot read {name} of {package}: its loader gives no files")
    return data.decode()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write(text.encode())


def _remove(files: Iterable[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)


def _run(command: list[str], what: str, *, check: bool = True, env: Mapping[str, str] | None = None) -> str:
    """Run a program whose children may go on in the background, and return what it printed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=None if env is None else dict(env),
    )
    if check and done.returncode != 0:
        raise PachopsError(what, where=shlex.join(command), why=done.stdout.strip() or f"status {done.returncode}")
    return done.stdout


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        command = ["ps", "-o", "command=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that its parent has not asked about yet does not."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _children(pid: int) -> Iterator[int]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name may hold blanks and brackets, so the fields are counted from its end.
            if int(file.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(file.parent.name)


def _end_stray(wanted: Wanted) -> None:
    """End a program whose supervisor was killed; it would do so itself, but later.

    While it does, its status is gone already, so that it has to be looked for.
    """
    pids = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
    for pid in pids or {int(status(wanted.directory).get("pid") or 0)}:
        line = _command_line(pid)
        if PACKAGE in line and str(wanted.directory / forwarder.CONFIG) in line:
            _end(pid)
    (wanted.directory / forwarder.STATUS).unlink(missing_ok=True)


def _end(pid: int) -> None:
    """End a process and its children; kindly first."""
    children = list(_children(pid))
    deadline = time.monotonic() + _PATIENCE_WITH_AN_END
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGTERM)
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    ours = [left for left in (pid, *children) if left == pid or PACKAGE in _command_line(left)]
    for left in ours:
        with contextlib.suppress(OSError):
            os.kill(left, signal.SIGKILL)
    # Whoever was killed still has to die, and only then is its port free.
    deadline = time.monotonic() + _PATIENCE_WITH_A_KILL
    while any(map(_alive, ours)) and time.monotonic() < deadline:
        time.sleep(0.05)
