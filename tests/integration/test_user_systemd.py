# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port-forward's unit under a real systemd of the user: kept, killed, started again by a reboot, taken away.

PID 1 may be anything: this file runs itself as a program in a mount namespace of its own, whose /run says that systemd
booted this host, and starts a systemd of root's own there, in a cgroup of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SYSTEMD = shutil.which("systemd") or "/lib/systemd/systemd"
RUNTIME = Path("/run/user/0")
PATIENCE = 60.0  # seconds

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces and cgroups need root"),
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="systemd is not installed"),
]


def test_the_unit_lives_under_systemd(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(RUNTIME)}
    for name in ("XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS"):
        environment.pop(name, None)
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, __file__]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=4 * PATIENCE, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "all of it\n"


@contextlib.contextmanager
def cgroup() -> Iterator[None]:
    """Put this process into a cgroup of its own, of which systemd can make what it likes."""
    parents = [
        path
        for path in map(Path, ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"))
        if (path / "cgroup.procs").exists()
    ]
    own = [path / f"pachops-test-{os.getpid()}" for path in parents]
    for path in own:
        path.mkdir()
        (path / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        for parent, path in zip(parents, own, strict=True):
            (parent / "cgroup.procs").write_text("0")
            subprocess.run(["find", str(path), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], check=False)


@contextlib.contextmanager
def booted() -> Iterator[None]:
    """Run a systemd of the user, from the start of its default target to the end of everything in it."""
    manager = subprocess.Popen([SYSTEMD, "--user", "--unit=default.target"], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(["systemctl", "--user", "is-system-running"], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "systemd does not start"
            time.sleep(0.1)
        yield
    finally:
        manager.terminate()
        manager.wait(PATIENCE)


def live(home: Path) -> None:
    """Keep a forward to an API server that refuses connections, and do to it what days do."""
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    root = Path(__file__).resolve().parents[2]
    _AnsibleCollectionFinder(paths=[str(root / ".cache" / "collections")])._install()
    sys.path.insert(0, str(root / "tests" / "unit"))
    from ansible_collections.pachops.pachyderm.plugins.module_utils.client import forward
    from doubles.api import kubeconfig

    (home / "kubeconfig").write_text(kubeconfig("http://127.0.0.1:1"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    wanted = forward.Wanted(
        "prod", home / "forwards", kubeconfig=str(home / "kubeconfig"), ports={"grpc": port}, interval=0.2
    )

    def listening(since: int = 0) -> int:
        """Return the process, another than the one given, once it has asked pachd for the first time."""
        deadline = time.monotonic() + PATIENCE
        state: dict[str, Any] = {}
        while time.monotonic() < deadline:
            state = forward.status(wanted.directory)
            if state and state["pid"] != since and "refused" in state["error"]:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return int(state["pid"])
            time.sleep(0.1)
        raise AssertionError(f"it does not run: {state}, {systemd.log(wanted)}")

    with booted():
        systemd = forward.choose("auto")
        assert systemd.name == "systemd"
        assert forward.keep(wanted, systemd, wait=0).changed
        first = listening()
        assert "pachops-port-forward-prod.service" in Path(f"/proc/{first}/cgroup").read_text()
        assert not forward.keep(wanted, systemd, wait=0).changed
        os.kill(first, signal.SIGKILL)
        second = listening(first)
    assert not Path(f"/proc/{second}").exists()
    with booted():
        third = listening(second)
        assert not forward.keep(wanted, systemd, wait=0).changed
        assert forward.drop(wanted).changed
        assert not Path(f"/proc/{third}").exists()
        assert not wanted.base.exists()
        assert [path for path in (home / ".config").rglob("*") if "port-forward" in path.name] == []
        assert not forward.drop(wanted).changed
    sys.stdout.write("all of it\n")


def main() -> None:
    """Make the room, which goes with this process, and live in it."""
    for path in (Path("/run/systemd"), RUNTIME.parent):
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=True)
    Path("/run/systemd/system").mkdir()
    RUNTIME.mkdir(mode=0o700)
    with cgroup():
        live(Path.home())


if __name__ == "__main__":
    main()
