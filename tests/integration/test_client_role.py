# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role client installs as pachctl: only what has the right checksum, from a file or a download."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Look at this host
      ansible.builtin.command: uname -sm
      changed_when: false
      register: __client_host
    - name: Try each way
      ansible.builtin.include_tasks: one.yml
      loop:
        - {name: wrong_file, file: "{{ release }}", sum: "sha256:{{ '0' * 64 }}"}
        - {name: wrong_download, url: "file://{{ release }}", sum: "sha256:{{ '0' * 64 }}"}
        - {name: none, url: "file://{{ release }}", sum: "", version: 9.9.9}
        - {name: right, url: "file://{{ release }}", sum: "sha256:{{ digest }}"}
      loop_control: {loop_var: way}
"""
ONE = """
- block:
    - ansible.builtin.include_role: {name: pachops.pachyderm.client, tasks_from: install_pachctl}
      vars:
        client_pachctl_version: "{{ way.version | default('1.13.4') }}"
        client_pachctl_file: "{{ way.file | default('') }}"
        client_pachctl_url: "{{ way.url | default('') }}"
        client_pachctl_checksum: "{{ way.sum }}"
        client_pachctl_directory: "{{ place }}/{{ way.name }}"
  rescue:
    - ansible.builtin.debug:
        msg: "refused {{ way.name }}: {{ ansible_failed_result.msg }}"
"""


def test_what_has_another_checksum_is_not_installed(tmp_path: Path) -> None:
    program = tmp_path / "pachctl"
    program.write_text("#!/bin/sh\necho 1.13.4\n")
    program.chmod(0o755)
    release = tmp_path / "pachctl_1.13.4.tar.gz"
    with tarfile.open(release, "w:gz") as archive:
        archive.add(program, "pachctl_1.13.4/pachctl")
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "one.yml").write_text(ONE)
    given = [
        f"{name}={value}"
        for name, value in {
            "release": release,
            "digest": hashlib.sha256(release.read_bytes()).hexdigest(),
            "place": tmp_path,
        }.items()
    ]
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "play.yml"), "-e", " ".join(given)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "COLUMNS": "400"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"refused wrong_file: its SHA-256 is not sha256:{'0' * 64}" in said
    assert "refused wrong_download: The checksum for" in said
    assert "refused none: no checksum of pachctl_9.9.9_" in said
    assert "refused right" not in said
    assert [each for each in ("wrong_file", "wrong_download", "none", "right") if (tmp_path / each).exists()] == [
        "right"
    ]
    assert (tmp_path / "right" / "pachctl").read_text() == program.read_text()
