# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress callback in real runs of ansible-playbook, on a terminal and without one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPORTER = """
import json, os, time
path = os.environ["PACHOPS_PROGRESS"]
assert oct(os.stat(path).st_mode & 0o777) == "0o600", path
open("{seen}", "w").write(path)
def say(**event):
    with open(path, "a") as events:
        events.write(json.dumps(dict(dict(time=time.time(), stage="copy"), **event)) + chr(10))
say(note=True, detail="first words")
with open(path, "a") as events:
    events.write("not json" + chr(10) + "[1]" + chr(10))
began = time.time()
for done in range(0, 31):
    # What it says of the rate is then exact, however late the line is.
    say(done=done * 1000000, total=60000000, unit="B", detail="block/ab", time=began + done / 10)
    time.sleep(0.1)
"""

PLAYBOOK = """
- name: Test
  hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{python}"
  tasks:
    - name: Report
      ansible.builtin.command: "{python} {script}"
      changed_when: false
    - name: Sleep in silence
      ansible.builtin.command: sleep 2.5
      changed_when: false
    - name: Skipped
      ansible.builtin.command: sleep 1
      when: false
    - name: Fails, and is forgiven
      ansible.builtin.command: "false"
      ignore_errors: true
"""


@pytest.fixture
def run_directory(tmp_path: Path, root: Path) -> Path:
    script = tmp_path / "report.py"
    script.write_text(REPORTER.replace("{seen}", str(tmp_path / "seen")), encoding="utf-8")
    (tmp_path / "play.yml").write_text(
        PLAYBOOK.replace("{python}", sys.executable).replace("{script}", str(script)), encoding="utf-8"
    )
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\n"
        f"collections_path = {root / '.cache' / 'collections'}\n"
        "callbacks_enabled = pachops.pachyderm.progress\n"
        "[callback_progress]\nheartbeat = 1\ninterval = 1\n",
        encoding="utf-8",
    )
    return tmp_path


def command() -> list[str]:
    return [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml"]


def environment(directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PACHOPS_"))}
    return {**kept, "ANSIBLE_CONFIG": str(directory / "ansible.cfg"), "TMPDIR": str(directory), "TERM": "xterm"}


def leftovers(directory: Path) -> list[Path]:
    return sorted(directory.glob("pachops-progress-*"))


def test_plain_lines_go_to_standard_error_and_the_file_is_removed(run_directory: Path) -> None:
    outer = run_directory / "outer"
    outer.touch()
    environ = environment(run_directory) | {"PACHOPS_PROGRESS": str(outer)}
    run = subprocess.run(command(), cwd=run_directory, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "copy: first words" in run.stderr
    assert re.search(r"Sleep in silence: still running, [123] s", run.stderr)
    assert "…" not in run.stdout
    assert "\x1b[K" not in run.stderr
    assert (run_directory / "seen").read_text(encoding="utf-8").startswith(str(run_directory))
    assert leftovers(run_directory) == []
    assert outer.read_text(encoding="utf-8") == "", "the event file of an enclosing run is not ours to write"


def test_a_terminal_gets_one_line_that_is_rewritten_and_cleared(run_directory: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command(), cwd=run_directory, env=environment(run_directory), stdin=follower, stdout=follower, stderr=follower
    ) as run:
        os.close(follower)
        chunks = []
        while True:
            try:
                chunk = os.read(leader, 65536)
            except OSError:
                break
            if not chunk:
                break
            chunks.append(chunk)
        run.wait()
    os.close(leader)
    text = b"".join(chunks).decode()
    assert run.returncode == 0, text
    drawn = re.findall(r"\r\x1b\[K  … (copy: \d[^\r]*)\r", text)
    assert len(drawn) >= 3, text
    assert re.fullmatch(r"copy: [\d.]+ MB of 60\.0 MB \(\d+ %\), (9\.\d|10\.\d) MB/s, \d s left, block/ab", drawn[-1])
    # Every line of the default callback begins on a line that was cleared first.
    assert re.search(r"\r\x1b\[K(\x1b\[\d;\d+m)?ok: \[localhost\]", text)
    assert leftovers(run_directory) == []


def test_a_run_goes_on_when_the_event_file_cannot_be_made(run_directory: Path) -> None:
    (run_directory / "play.yml").write_text(
        "- hosts: localhost\n  connection: local\n  gather_facts: false\n"
        "  tasks:\n    - ansible.builtin.debug:\n        msg: reached\n",
        encoding="utf-8",
    )
    missing = environment(run_directory) | {"PACHOPS_PROGRESS_HEARTBEAT": "1"}
    config = run_directory / "ansible.cfg"
    # A plugin whose set-up raises: its temporary directory is gone by the time that the playbook starts.
    wrapper = run_directory / "wrapped.py"
    wrapper.write_text(
        "import sys, tempfile\n"
        "def refuse(*args, **kwargs):\n"
        "    if kwargs.get('prefix') == 'pachops-progress-':\n"
        "        raise OSError('no space')\n"
        "    return original(*args, **kwargs)\n"
        "original, tempfile.mkstemp = tempfile.mkstemp, refuse\n"
        "from ansible.cli.playbook import main\n"
        "sys.exit(main(['ansible-playbook', '-vv', '-i', 'localhost,', 'play.yml']))\n",
        encoding="utf-8",
    )
    assert config.exists()
    run = subprocess.run(
        [sys.executable, str(wrapper)], cwd=run_directory, env=missing, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "reached" in run.stdout
    assert "switched itself off" in run.stdout + run.stderr
