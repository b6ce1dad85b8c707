# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``play_role``: sequences of a role's runs, each sequence in one ansible-playbook."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Step(dict[str, Any]):
    """One run of a role: ``Step("name", tasks_from="main", check=False, **variables)``."""

    def __init__(self, name: str, tasks_from: str = "main", *, check: bool = False, **variables: Any) -> None:
        super().__init__(variables)
        self.name, self.tasks_from, self.check = name, tasks_from, check


class Played:
    """What a sequence of steps did: ``changed[name]``, whether ``name in failed``, and all that was printed."""

    def __init__(self, output: str) -> None:
        self.output = output
        recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) .*?rescued=(\d+)", output, re.MULTILINE)
        self.changed = {name: int(changed) for name, changed, _rescued in recap}
        self.failed = {name for name, _changed, rescued in recap if rescued != "0"}


@pytest.fixture
def play_role(root: Path, tmp_path: Path) -> Callable[..., Played]:
    """``play_role(role, base, *steps, flags=…)`` runs the steps in one ansible-playbook, each as its own host.

    A role that fails ends its step, not the sequence.
    """

    def run(role: str, base: dict[str, Any], *steps: Step, flags: tuple[str, ...] = ("--diff",)) -> Played:
        plays = []
        for step in steps:
            (tmp_path / f"{step.name}.json").write_text(json.dumps({**base, **step}))
            include = {
                "name": "Run the role",
                "ansible.builtin.include_role": {
                    "name": f"pachops.pachyderm.{role}",
                    "tasks_from": step.tasks_from,
                    # Where it says nothing, --check decides.
                    "apply": {"check_mode": True} if step.check else {},
                },
            }
            told = {"name": "Tell", "ansible.builtin.debug": {"msg": "FAILED {{ ansible_failed_result.msg }}"}}
            plays.append(
                {
                    "name": step.name,
                    "hosts": step.name,
                    "gather_facts": False,
                    "vars_files": [str(tmp_path / f"{step.name}.json")],
                    "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
                    "tasks": [{"name": "Step", "block": [include], "rescue": [told]}],
                }
            )
        (tmp_path / "play.json").write_text(json.dumps(plays))
        hosts = {step.name: {"ansible_connection": "local"} for step in steps}
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        process = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                *flags,
                "-i",
                str(tmp_path / "hosts.json"),
                str(tmp_path / "play.json"),
            ],
            capture_output=True,
            text=True,
            cwd=root,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(root / "ansible.cfg")},
            check=False,
        )
        return Played(process.stdout + process.stderr)

    return run


class Watch:
    """What others on this host could see meanwhile: every process' arguments, and temporary files that all may read."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        # A module's process lives for about a second.
        while not self._over.wait(0.15):
            with contextlib.suppress(OSError):
                self._read(Path("/proc").glob("[0-9]*/cmdline"))
            with contextlib.suppress(OSError):
                found = Path(os.path.expanduser("~/.ansible/tmp")).glob("ansible-*/**/*")
                self._read(path for path in found if self._open_to_all(path))

    def _read(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                self.seen.add(path.read_bytes())

    @staticmethod
    def _open_to_all(path: Path) -> bool:
        try:
            return bool(path.is_file() and path.stat().st_mode & 0o044 and path.parent.stat().st_mode & 0o011)
        except OSError:
            return False

    def found(self, secret: str) -> bool:
        """Whether the secret could be seen."""
        assert any(b"ansible-playbook" in item for item in self.seen), "nothing was watched"
        return any(secret.encode() in item for item in self.seen)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Watches while the test runs."""
    with Watch() as watching:
        yield watching


@pytest.fixture
def step() -> type[Step]:
    """The class that describes one run of a role."""
    return Step
