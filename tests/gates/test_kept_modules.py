# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packed modules that tests keep from run to run do what freshly packed ones do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
    - ansible.builtin.stat: {path: /}
    - pachops.pachyderm.pachyderm_status: {kubeconfig: /nonexistent, namespace: x}
      ignore_errors: true
"""


def play(directory: Path, **environment: str) -> list[dict[str, Any]]:
    """Run the play; return the modules' results."""
    (directory / "play.yml").write_text(PLAY, encoding="utf-8")
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(directory / "play.yml")],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            **environment,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    [told] = json.loads(ran.stdout[ran.stdout.index("{") :])["plays"]
    return [task["hosts"]["localhost"] for task in told["tasks"]]


def test_a_kept_module_says_what_a_packed_one_says(tmp_path: Path) -> None:
    keeping = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/ansible/callback"),
        "PACHOPS_CACHE": str(tmp_path / "cache"),
    }
    results = [play(tmp_path), play(tmp_path, **keeping)]
    archives = sorted((tmp_path / "cache").glob("modules/*/*.zip"))
    assert len(archives) == 2
    written = [archive.stat().st_mtime_ns for archive in archives]
    results.append(play(tmp_path, **keeping))
    assert written == [archive.stat().st_mtime_ns for archive in archives], "packed once"
    stated = [result[0]["stat"] for result in results]
    assert all(set(each) == set(stated[0]) and each["isdir"] for each in stated)
    assert all(result[1] == results[0][1] for result in results)
    assert "/nonexistent" in str(results[0][1]["msg"])


def test_sources_are_read_from_a_kept_archive(tmp_path: Path) -> None:
    script = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import kept_modules, inspect, zipfile, io
from pathlib import Path
from typing import Any
sources = {"ansible/__init__.py": b"", "ansible/agent.py": b"def run():\\n    return 42\\n"}
lead = kept_modules.kept(kept_modules.packed(sources, zipfile.ZIP_DEFLATED), Path(sys.argv[2]) / "kept.zip")
Path(sys.argv[2], "lead.zip").write_bytes(lead)
for name in [name for name in sys.modules if name.split(".")[0] == "ansible"]:
    del sys.modules[name]
sys.path.insert(0, sys.argv[2] + "/lead.zip")
from ansible import agent
print(agent.__file__, agent.run(), inspect.getsource(agent))
"""
    told = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "tests/ansible/callback"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == f"{tmp_path}/kept.zip/ansible/agent.pyc 42 def run():\n    return 42\n\n"
