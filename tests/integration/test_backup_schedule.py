# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedules of this host: the line in the crontab, the private script behind it, and what it does when it is run."""

from __future__ import annotations

import configparser
import getpass
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Play = Callable[..., str]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run schedule.yml with doubles of crontab and systemctl, which keep in files what they are told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "crontab").symlink_to(ROOT / "molecule/schedule/files/crontab")
    (programs / "systemctl").write_text(
        f"""#!/bin/sh
# A double of systemctl: a unit is loaded and does not run yet; what else is asked of it is written down.
case $1 in
show) echo LoadState=loaded; echo ActiveState=inactive; echo UnitFileState=disabled ;;
is-enabled) echo disabled; exit 1 ;;
*) echo "$@" >>{tmp_path}/systemctl ;;
esac
"""
    )
    (programs / "systemctl").chmod(0o755)

    def run(*flags: str, **variables: object) -> str:
        given = {
            "backup_schedule_directory": str(tmp_path / "schedules"),
            "backup_schedule_user": getpass.getuser(),
            "kubeconfig": str(tmp_path / "kubeconfig"),
            **variables,
        }
        process = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                "playbooks/schedule.yml",
                *flags,
                "-e",
                json.dumps(given),
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "CRONTAB_TABLE": str(tmp_path / "crontab"),
                "ANSIBLE_NOCOLOR": "1",
            },
            check=False,
        )
        return process.stdout + process.stderr

    return run


def test_a_crontab_runs_the_playbook_one_at_a_time(play: Play, tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = tmp_path / "ansible-playbook"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{told}\nsleep "$(cat {tmp_path}/sleep)"\nexit "$(cat {tmp_path}/status)"\n'
    )
    program.chmod(0o755)
    (tmp_path / "sleep").write_text("0")
    (tmp_path / "status").write_text("0")
    wanted = {
        "backup_schedule_time": "5 */6 * * mon-fri",
        "backup_schedule_history": 2,
        "backup_schedule_ansible_playbook": str(program),
        "backup_schedule_variables": {"backup_store": "/backups", "scheduled_pushgateway_password": "s3cret-word"},
    }
    planned = play("--check", "--diff", **wanted)
    assert "failed=0" in planned
    assert "s3cret-word" not in planned
    assert not (tmp_path / "crontab").exists()
    made = play("--diff", **wanted)
    assert "failed=0" in made, made
    assert "s3cret-word" not in made
    home = tmp_path / "schedules" / "pachyderm-backup"
    line = (tmp_path / "crontab").read_text().splitlines()[-1]
    assert line == f"5 */6 * * mon-fri {home}/run"
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "variables.json").stat().st_mode & 0o777 == 0o600
    variables = json.loads((home / "variables.json").read_text())
    assert variables["backup_store"] == "/backups"
    assert variables["scheduled_time"] == "5 */6 * * mon-fri"
    assert variables["scheduled_zone"] == "local"
    assert variables["kubeconfig"] == str(tmp_path / "kubeconfig")
    assert "changed=0" in play(**wanted), "a second time there is nothing to do"

    assert subprocess.run([home / "run"], check=False).returncode == 0
    assert told.read_text() == "pachops.pachyderm.scheduled_backup -e @variables.json\n"
    (tmp_path / "status").write_text("2")
    for _turn in range(3):
        assert subprocess.run([home / "run"], check=False).returncode == 2
        time.sleep(1.1)  # output is named by the second
    kinds = sorted(path.suffix for path in (home / "log").iterdir())
    assert kinds == [".failed", ".failed", ".passed"], "two of each kind stay"
    (tmp_path / "sleep").write_text("5")
    before = told.read_text()
    first = subprocess.Popen([home / "run"])
    deadline = time.monotonic() + 60
    while told.read_text() == before and time.monotonic() < deadline:
        time.sleep(0.05)
    second = subprocess.run([home / "run"], capture_output=True, text=True, check=False)
    assert second.returncode == 75
    assert "has not ended yet" in second.stderr
    assert first.wait() == 2

    gone = play(backup_schedule_state="absent", **wanted)
    assert "failed=0" in gone, gone
    assert not home.exists()
    assert "run" not in (tmp_path / "crontab").read_text() if (tmp_path / "crontab").exists() else True


def test_systemd_gets_a_timer_that_makes_up_for_what_was_slept_through(play: Play, tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    wanted = {
        "backup_schedule_kind": "systemd",
        "backup_schedule_time": "30 1 * * sun",
        "backup_schedule_timeout": 600,
        "backup_schedule_variables": {"backup_store": "/backups"},
        "__backup_schedule_units_directory": str(units),
    }
    made = play(**wanted)
    assert "failed=0" in made, made
    read = {}
    for kind in ("service", "timer"):
        read[kind] = configparser.ConfigParser()
        read[kind].optionxform = str  # type: ignore[assignment,method-assign]
        read[kind].read(units / f"pachyderm-backup.{kind}")
    home = tmp_path / "schedules" / "pachyderm-backup"
    assert read["service"]["Service"]["ExecStart"] == f"{home}/run"
    assert read["service"]["Service"]["Type"] == "oneshot"
    # The script ends the run itself, and says so; systemd only ends a script that hangs.
    assert int(read["service"]["Service"]["TimeoutStartSec"]) > 600
    timer = dict(read["timer"]["Timer"])
    assert timer == {"OnCalendar": "Sun *-*-* 01:30:00 UTC", "Persistent": "true"}
    assert json.loads((home / "variables.json").read_text())["scheduled_zone"] == "UTC"
    told = (tmp_path / "systemctl").read_text().splitlines()
    assert "daemon-reload" in told
    assert "enable pachyderm-backup.timer" in told
    assert "start pachyderm-backup.timer" in told
    gone = play(**wanted, backup_schedule_state="absent")
    assert "failed=0" in gone, gone
    assert not list(units.iterdir())
    assert not home.exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"backup_schedule_variables": {}}, "Name the store"),
        ({"backup_schedule_variables": {"backup_store": "/b"}, "backup_schedule_time": "@daily"}, "five fields"),
        ({"backup_schedule_variables": {"backup_store": "/b"}, "backup_schedule_name": "No Name"}, "lower-case"),
        ({"backup_schedule_variables": {"backup_store": "/b"}, "backup_schedule_tiem": "x"}, "backup_schedule_tiem"),
        (
            {
                "backup_schedule_variables": {"backup_store": "/b"},
                "backup_schedule_kind": "systemd",
                "backup_schedule_time": "0 0 1 * mon",
            },
            "systemd cannot say this time",
        ),
    ],
)
def test_what_cannot_work_is_refused_first(
    play: Play, tmp_path: Path, variables: dict[str, object], words: str
) -> None:
    output = play(**variables)
    assert "failed=1" in output
    assert words in " ".join(output.split())
    assert not (tmp_path / "schedules").exists()
