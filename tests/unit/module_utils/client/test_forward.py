# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping a port-forward: its files, its supervisor, what is refused, and what is left at the end."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.client import forward
from ansible_collections.pachops.pachyderm.plugins.module_utils.client.forward import Wanted, drop, keep
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, InputError
from ansible_collections.pachops.pachyderm.plugins.modules import pachyderm_port_forward
from doubles.api import kubeconfig
from servers.ports import free_ports

SUPERVISORD, SYSTEMD = forward.SUPERVISORS["supervisord"], forward.SUPERVISORS["systemd"]


class Noted:
    """A supervisor that runs nothing and remembers what it was told."""

    name = "noted"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.up = False

    def files(self, wanted: Wanted) -> dict[Path, str]:
        return {wanted.directory / "noted.conf": f"run {wanted.command()[-1]}\n"}

    def running(self, _wanted: Wanted) -> bool:
        return self.up

    def start(self, wanted: Wanted) -> None:
        self.calls.append("start")
        self.up = True
        status = {"pid": os.getpid(), "healthy": True, "pod": "pachd-0", "error": ""}
        (wanted.directory / "status.json").write_text(json.dumps(status))

    def stop(self, _wanted: Wanted) -> None:
        self.calls.append("stop")
        self.up = False

    def log(self, _wanted: Wanted) -> list[str]:
        return ["the log's last line"]


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    supervisor = Noted()
    monkeypatch.setattr(forward, "SUPERVISORS", {"noted": supervisor})
    return supervisor


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig("http://127.0.0.1:1"))
    return Wanted("prod", tmp_path / "forwards", kubeconfig=str(config), ports={"grpc": free_ports(1)[0]}, interval=0.2)


def test_it_is_kept_and_restarted_only_for_a_reason(wanted: Wanted, noted: Noted) -> None:
    assert keep(wanted, noted, dry_run=True).changed
    assert not wanted.base.exists()
    first = keep(wanted, noted)
    assert (first.changed, first.status["pod"], noted.calls) == (True, "pachd-0", ["stop", "start"])
    assert wanted.directory.stat().st_mode & 0o777 == 0o700
    assert not keep(wanted, noted).changed
    noted.up = False
    assert keep(wanted, noted).changed
    other = dataclasses.replace(wanted, namespace="other")
    predicted = keep(other, noted, dry_run=True)
    done = keep(other, noted)
    assert (predicted.before, predicted.after) == (done.before, done.after)
    assert '"namespace": "other"' in done.after[str(wanted.directory / "config.json")]
    assert noted.calls == ["stop", "start"] * 3


def test_nothing_is_left(wanted: Wanted, noted: Noted) -> None:
    keep(wanted, noted)
    (wanted.directory / "status.json").unlink()  # its process is this test's own
    assert drop(wanted, dry_run=True).changed
    assert wanted.directory.exists()
    assert drop(wanted).changed
    assert not wanted.base.exists()
    assert not drop(wanted).changed
    assert noted.calls[-1] == "stop"


def test_secrets_of_the_environment_are_in_no_diff(wanted: Wanted, noted: Noted) -> None:
    wanted = dataclasses.replace(wanted, environment={"TOKEN": "very secret"})
    outcome = keep(wanted, noted)
    assert "very secret" in (wanted.directory / "config.json").read_text()
    assert (wanted.directory / "config.json").stat().st_mode & 0o777 == 0o600
    assert "very secret" not in json.dumps(outcome.after)
    assert "TOKEN" in json.dumps(outcome.after)


def test_the_context_of_now_is_pinned(wanted: Wanted) -> None:
    assert wanted.config()["context"]
    assert Path(wanted.config()["kubeconfig"]).is_absolute()


def test_taken_ports_name_who_has_them(wanted: Wanted, noted: Noted) -> None:
    keep(wanted, noted)
    (wanted.directory / "status.json").unlink()
    trial = dataclasses.replace(wanted, name="trial", ports={"s3": wanted.ports["grpc"], "http": free_ports(1)[0]})
    with (
        socket.create_server(("127.0.0.1", wanted.ports["grpc"])),
        socket.create_server(("127.0.0.1", trial.ports["http"])),
        pytest.raises(InputError, match=r"\(s3\), by the port-forward prod.*\(http\), by another program"),
    ):
        keep(trial, noted)
    assert not trial.directory.exists()


def test_everything_wrong_is_said_at_once(wanted: Wanted) -> None:
    wrong = dataclasses.replace(wanted, name="a/b", ports={"grpc": 1, "s4": 1, "http": 70000})
    with pytest.raises(InputError, match=r"a/b.*s4.*70000 is no port.*same local port"):
        wrong.check()
    with pytest.raises(InputError, match="no port is named"):
        dataclasses.replace(wanted, ports={}).check()


def test_a_pachd_that_does_not_answer_is_reported_with_the_log(wanted: Wanted, noted: Noted) -> None:
    noted.start = lambda _wanted: None  # type: ignore[method-assign]
    with pytest.raises(ClusterError, match=r"does not answer.*the log's last line.*goes on trying"):
        keep(wanted, noted, wait=0.3)


def test_the_copied_program_has_all_that_it_imports(wanted: Wanted) -> None:
    for path, text in wanted.files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    program = "import pachops_port_forward.kube.forwarder, sys; print([m for m in sys.modules if 'ansible' in m])"
    environment = {"PYTHONPATH": str(wanted.directory / "lib"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def real(wanted: Wanted) -> Iterator[Wanted]:
    """A forward under a real supervisord, to an API server that refuses connections."""
    keep(wanted, SUPERVISORD, wait=0)
    yield wanted
    drop(wanted)


def test_under_supervisord_it_listens_says_why_and_goes(real: Wanted) -> None:
    deadline = time.monotonic() + 60
    while "not asked" in forward.status(real.directory).get("error", "not asked") and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(ClusterError, match=r"does not answer.*(refused|Kubernetes).*goes on trying"):
        keep(real, SUPERVISORD, wait=0.1)
    state = forward.status(real.directory)
    assert not state["healthy"]
    socket.create_connection(("127.0.0.1", real.ports["grpc"]), timeout=5).close()
    assert "listening: grpc" in "\n".join(SUPERVISORD.log(real))
    # It goes with a supervisor that nobody can ask any more.
    pid = int((real.directory / "supervisord.pid").read_text())
    os.kill(pid, 9)
    assert drop(real).changed
    assert not real.base.exists()
    assert not forward._alive(state["pid"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", real.ports["grpc"]), timeout=5)


def test_a_program_that_is_ending_itself_is_waited_for(real: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_PATIENCE_WITH_AN_END", 0.5)
    deadline = time.monotonic() + 60
    while not forward.status(real.directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    pid = forward.status(real.directory)["pid"]
    supervisor = int((real.directory / "supervisord.pid").read_text())
    os.kill(supervisor, 9)
    # Not before: who is stopped when its parent goes is woken by the kernel.
    os.kill(pid, 19)
    # The first that it does when it ends.
    (real.directory / "status.json").unlink(missing_ok=True)
    assert forward._alive(pid)
    assert drop(real).changed
    assert not forward._alive(pid)


def test_a_pid_that_belongs_to_somebody_else_is_left_alone(wanted: Wanted) -> None:
    wanted.directory.mkdir(parents=True)
    (wanted.directory / "supervisord.pid").write_text(str(os.getpid()))
    assert not SUPERVISORD.running(wanted)
    assert drop(wanted).changed


def test_the_unit_of_systemd(wanted: Wanted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "with blanks, 100 % and $HOME"))
    odd = dataclasses.replace(wanted, base=tmp_path / "50 % of $HOME")
    ((path, text),) = SYSTEMD.files(odd).items()
    assert path.name == "pachops-port-forward-prod.service"
    assert "Restart=always" in text
    assert "StartLimitIntervalSec=0" in text
    assert "50 %% of $$HOME" in text
    analyze = shutil.which("systemd-analyze")
    if analyze:
        path.parent.mkdir(parents=True)
        path.write_text(text)
        done = subprocess.run([analyze, "verify", "--user", str(path)], capture_output=True, text=True, check=False)
        assert "port-forward" not in done.stderr, done.stderr


def test_the_module_returns_addresses(wanted: Wanted, noted: Noted, run_module: Callable[..., Any]) -> None:
    keep(wanted, noted)
    given = {"name": "prod", "directory": str(wanted.base), "kubeconfig": wanted.kubeconfig, "interval": 0.2}
    forward.SUPERVISORS = {**forward.SUPERVISORS, "supervisord": noted}  # type: ignore[misc]
    result = run_module(
        pachyderm_port_forward.main, ports=dict(wanted.ports), supervisor="supervisord", check_mode=True, **given
    )
    assert not result.failed, result["msg"]
    assert (result.changed, result["diff"]) == (False, [])
    assert result["addresses"] == {"grpc": f"127.0.0.1:{wanted.ports['grpc']}"}
    assert result["status"]["healthy"]
