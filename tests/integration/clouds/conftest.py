# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``play_role``: sequences of a role's runs, each sequence in one ansible-playbook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
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
                    "apply": {"check_mode": step.check},
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


@pytest.fixture
def step() -> type[Step]:
    """The class that describes one run of a role."""
    return Step
