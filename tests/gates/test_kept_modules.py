# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packed modules that tests keep from run to run, and run in Pythons that wait for them, do what freshly packed ones do."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    - ansible.builtin.command: {argv: [sh, -c, 'echo "$ONE" $(umask) $(pwd); echo error >&2; exit 7'], chdir: /usr}
      environment: {ONE: "a  'b' c"}
      ignore_errors: true
    - ansible.builtin.command: {argv: [sh, -c, "ps -o args= -p $PPID"]}
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


@pytest.fixture
def cache() -> Iterator[Path]:
    """Yield a cache of the test's own, whose path is short enough for sockets; nothing that serves it stays."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
        for path in Path(directory).glob("modules/*/*/*"):
            if path.is_socket():
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(path))
                    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                    os.kill(struct.unpack("3i", told)[0], signal.SIGKILL)


@pytest.fixture
def keeping(cache: Path) -> dict[str, str]:
    """Return the environment that has modules kept in that cache."""
    return {"ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/ansible/callback"), "PACHOPS_CACHE": str(cache)}


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Compare what the modules said, but for times."""
    assert set(one[0]["stat"]) == set(other[0]["stat"])
    assert one[0]["stat"]["isdir"]
    assert one[1] == other[1]
    assert "/nonexistent" in str(one[1]["msg"])
    assert all(one[2][key] == other[2][key] for key in ("stdout", "stderr", "rc", "msg"))
    assert one[2]["stdout"].startswith("a  'b' c 00")
    assert one[2]["stdout"].endswith(" /usr")
    assert (one[2]["stderr"], one[2]["rc"]) == ("error", 7)


def test_a_kept_module_says_what_a_packed_one_says(tmp_path: Path, cache: Path, keeping: dict[str, str]) -> None:
    packed = play(tmp_path)
    same(packed, play(tmp_path, **keeping))
    archives = sorted(cache.glob("modules/*/*.zip"))
    assert len(archives) == 3
    written = [archive.stat().st_mtime_ns for archive in archives]
    same(packed, play(tmp_path, **keeping))
    assert written == [archive.stat().st_mtime_ns for archive in archives], "packed once"


def test_a_module_whose_python_waited_for_it_says_the_same(
    tmp_path: Path, cache: Path, keeping: dict[str, str]
) -> None:
    packed = play(tmp_path)
    assert "warm_modules" not in packed[3]["stdout"]
    for _run in range(20):
        found = play(tmp_path, **keeping)
        same(packed, found)
        if "warm_modules" in found[3]["stdout"]:
            break
    else:
        pytest.fail("nothing ran in a Python that waited for it")
    assert not list(cache.glob("modules/*/*/*.failed"))
    [sockets] = cache.glob("modules/*/*/")
    assert sockets.stat().st_mode & 0o777 == 0o700, "who may connect has things run"


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
