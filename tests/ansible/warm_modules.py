# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs kept modules in processes that have imported already what they need, for the project's own tests alone.

Most of a task's time goes into starting Python and importing, the same for every task of a module.  So one process, the
nursery, imports the large libraries, and for every kept archive that it is told of forks a process that imports this
module's code from that archive and waits: the module's template.  Whoever wants the module run connects to the template's
socket and hands over the environment, the place, the descriptors for the output, and the very program that ansible-core
would have given to a new Python.  The template forks, and the fork runs that program to its end as a new Python would.

Who finds no template has the nursery start one; where that cannot be had, a new Python is started as always.  Templates end
when nobody has asked for anything for five minutes, and after them the nursery.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import fcntl
import gc
import hashlib
import importlib
import io
import json
import os
import re
import selectors
import shlex
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# What many modules import, beside what is in their archives.
LIBRARIES = (
    "boto3",
    "botocore.client",
    "google.auth.transport.requests",
    "google.oauth2.service_account",
    "google.protobuf.descriptor_pb2",
    "requests",
    "urllib3",
    "yaml",
)
# Seconds.
UNUSED = 300.0
NURSERY = "nursery"
# What the nursery answers when there is a template.
READY = b"+"
# Bytes of what is told about the call, and of the program; exit status.
_SIZES, _STATUS = struct.Struct(">II"), struct.Struct(">i")
# How ansible-core's program names the module, and the archive that it carries.
_MODULE = re.compile(rb"^module_fqn='([\w.]+)',$", re.MULTILINE)
_ARCHIVE = re.compile(rb"^zip_data='([\w+/=]+)',$", re.MULTILINE)
# How that archive names the one that was kept, see kept_modules.py.
_KEPT = re.compile(r"^sys\.path\.insert\(0, '(/\S+\.zip)'\)$", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """What ansible-core asks a connection to run: a new Python that reads a module's program.

    :param environment: what the task adds to the environment.
    :param module: the module's full name.
    :param archive: the kept archive that has its code.
    """

    environment: dict[str, str]
    module: str
    archive: Path
    program: bytes

    @classmethod
    def parse(cls, command: str, program: bytes) -> Call | None:
        """Return None where it is anything else, or what a template cannot do."""
        module, archive = _MODULE.search(program), _ARCHIVE.search(program)
        if not (module and archive):
            return None
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(archive[1]))) as lead:
            kept = _KEPT.search(lead.read("ansible/__init__.py").decode())
        shell = shlex.split(command)
        words = shlex.split(shell[2]) if len(shell) == 3 else []
        if not kept or words[-4:] != [sys.executable, "&&", "sleep", "0"]:
            return None
        settings = [word.partition("=") for word in words[:-4]]
        # Python reads these before anything else.
        if any(not equals or name.startswith("PYTHON") for name, equals, _value in settings):
            return None
        environment = {name: value for name, _equals, value in settings}
        return cls(environment, module[1].decode(), Path(kept[1]), program)


def place(directory: Path) -> Path:
    """Return the directory for the sockets of this very Python with these very libraries."""
    libraries = sysconfig.get_path("purelib")
    told = f"{sys.executable} {os.stat(libraries).st_mtime_ns} {os.environ.get('PYTHONPATH', '')} {os.getuid()}"
    return directory / hashlib.sha256(told.encode() + Path(__file__).read_bytes()).hexdigest()[:8]


def start(sockets: Path) -> None:
    """Start the nursery; where one runs already, this one ends at once."""
    # Whoever may connect has things run.
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.Popen(
        [sys.executable, __file__, str(sockets)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def run(sockets: Path, call: Call) -> tuple[int, bytes, bytes] | None:
    """Run a module; return its status, output and errors, or None where there is no template for it."""
    try:
        connection = _to_template(sockets, call)
    except OSError:
        return None
    mask = os.umask(0)
    os.umask(mask)
    told = json.dumps([os.getcwd(), mask, {**os.environ, **call.environment}]).encode()
    with connection, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        sizes = _SIZES.pack(len(told), len(call.program))
        socket.send_fds(connection, [sizes], [output.fileno(), errors.fileno()])
        connection.sendall(told + call.program)
        [status] = _STATUS.unpack(connection.makefile("rb").read(_STATUS.size))
        output.seek(0)
        errors.seek(0)
        return status, output.read(), errors.read()


def _to_template(sockets: Path, call: Call) -> socket.socket:
    path = sockets / _name(call.archive)
    with contextlib.suppress(OSError):
        return _connected(path)
    try:
        nursery = _connected(sockets / NURSERY)
    except OSError:
        start(sockets)
        raise
    with nursery:
        nursery.sendall(json.dumps([str(call.archive), call.module]).encode())
        if nursery.recv(1) != READY:
            raise ConnectionError("another process has just asked for it, or its code cannot be imported")
    return _connected(path)


def _name(archive: Path) -> str:
    # A socket's path may have no more than 107 bytes.
    return hashlib.sha256(str(archive).encode()).hexdigest()[:16]


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def listening(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``, in the place of one that an ended process left."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    return listener


def serve(listener: socket.socket, answer: Callable[[socket.socket], NoReturn]) -> None:
    """Fork for every connection, and tell it the status at the end; return when there were none for a while."""
    path = Path(listener.getsockname())
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    running: dict[int, tuple[int, socket.socket]] = {}
    last = time.monotonic()
    while True:
        unused = not running and time.monotonic() - last > UNUSED
        if unused:
            # Whoever connected before this is still answered; nobody can connect any more.
            path.unlink(missing_ok=True)
        ready = selector.select(0 if unused else UNUSED / 4)
        if unused and not ready:
            return
        for key, _events in ready:
            last = time.monotonic()
            if key.fileobj is listener:
                connection, _address = listener.accept()
                child = os.fork()
                if not child:
                    selector.close()
                    listener.close()
                    answer(connection)
                watched = os.pidfd_open(child)
                running[watched] = child, connection
                selector.register(watched, selectors.EVENT_READ)
            else:
                selector.unregister(key.fd)
                child, connection = running.pop(key.fd)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with connection, contextlib.suppress(OSError):
                    # As a shell tells it.
                    connection.sendall(_STATUS.pack(status if status >= 0 else 128 - status))


def alone(path: Path) -> io.FileIO:
    """Return the lock that says that this process serves ``path``; end the process where another has it."""
    lock = path.with_suffix(".lock").open("ab", buffering=0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os._exit(0)
    return lock


def nursery(sockets: Path) -> None:
    """Import the libraries, and start a template for whoever asks."""
    lock = alone(sockets / NURSERY)
    for failed in sockets.glob("*.failed"):
        failed.unlink()
    # Who asks meanwhile waits.
    listener = listening(sockets / NURSERY)
    # The directory of this file.
    sys.path.pop(0)
    for library in LIBRARIES:
        importlib.import_module(library)

    def begin(connection: socket.socket) -> NoReturn:
        lock.close()
        archive, module = json.loads(connection.recv(1 << 16))
        template(sockets / _name(Path(archive)), archive, module, connection)

    serve(listener, begin)


def template(path: Path, archive: str, module: str, asking: socket.socket) -> NoReturn:
    """Import what the module imports, and run it for whoever asks; say so when it can be."""
    failed = path.with_suffix(".failed")
    if failed.exists():
        os._exit(0)
    _lock = alone(path)
    try:
        sys.path.insert(0, archive)
        importlib.import_module("ansible.module_utils._internal._ansiballz._loader")
        importlib.import_module(module)
        # It is run as __main__.
        del sys.modules[module]
    except (Exception, SystemExit):  # noqa: BLE001 whatever it is, a new Python will say it
        failed.write_text(traceback.format_exc())
        os._exit(1)
    gc.freeze()
    listener = listening(path)
    with asking, contextlib.suppress(OSError):
        asking.sendall(READY)
    serve(listener, work)
    os._exit(0)


def work(connection: socket.socket) -> NoReturn:
    """Be the new Python that runs a module's program."""
    status = 1
    try:
        sizes, outputs, *_flags = socket.recv_fds(connection, _SIZES.size, 2)
        with connection, connection.makefile("rb") as source:
            told, program = map(source.read, _SIZES.unpack(sizes))
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
            os.close(output)
        directory, mask, environment = json.loads(told)
        os.setsid()
        os.chdir(directory)
        os.umask(mask)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        sys.argv = [""]
        sys.path.insert(0, "")
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(program, "<stdin>", "exec"), main.__dict__)  # noqa: S102 the program is ansible-core's
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 as a new Python does
        traceback.print_exc()
    finally:
        # What a Python does at its end, but for freeing its memory piece by piece.
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


if __name__ == "__main__":
    nursery(Path(sys.argv[1]))
