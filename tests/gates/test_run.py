# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test runner itself: what fails has to be seen to fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run
from run import Command


@pytest.mark.parametrize(
    ("suite", "status", "expected"),
    [
        ('tests="5" failures="0" errors="0" skipped="1"', 0, (4, 0, 1)),
        ('tests="5" failures="1" errors="1" skipped="0"', 1, (3, 2, 0)),
        ('tests="5" failures="0" errors="0" skipped="0"', 1, (5, 1, 0)),
        ('tests="0" failures="0" errors="0" skipped="0"', 5, (0, 1, 0)),
        ('tests="0" failures="0" errors="0" skipped="0"', 0, (0, 1, 0)),
    ],
    ids=["passed", "failed", "interrupted", "none collected", "none at all"],
)
def test_reports_are_counted(tmp_path: Path, suite: str, status: int, expected: tuple[int, int, int]) -> None:
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite name='pytest' {suite}/></testsuites>", encoding="utf-8")
    assert run.counts(report, status) == expected


def test_a_missing_report_is_a_failure(tmp_path: Path) -> None:
    assert run.counts(tmp_path / "none.xml", 0) == (0, 1, 0)


def outcome(*argv: str, limit: float | None = None) -> run.Outcome:
    return run.run("stage", Command("what", argv, limit=limit))


def test_one_failure_fails_the_run_and_the_last_line_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = [outcome("true"), outcome("false"), outcome("no-such-program")]
    assert run.summary(outcomes) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "tests: 1 passed, 2 failed, 0 skipped"
    assert run.summary(outcomes[:1]) == 0


def test_lanes_run_side_by_side_and_a_failure_is_repeated_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    # Each waits for the other's file: one after the other they would wait for ever.
    meet = "touch {0}; until [ -e {1} ]; do sleep 0.05; done"
    left = Command("left", ("timeout", "10", "bash", "-c", meet.format("a", "b")))
    right = Command("right", ("timeout", "10", "bash", "-c", meet.format("b", "a")))
    wrong = Command("wrong", ("bash", "-c", "echo usual; echo 'fatal: no such thing'; exit 3"))
    outcomes = run.Lanes().run([("one", left)], [("two", right), ("two", wrong)])
    assert [outcome.failed for outcome in outcomes] == [0, 0, 1]
    capfd.readouterr()
    assert run.summary(outcomes) == 1
    printed = capfd.readouterr().out
    assert "wrong failed (two-wrong.log has all of it):\n  fatal: no such thing\n\ntests: 2 passed, 1 failed" in printed


def test_make_test_leaves_nothing_out() -> None:
    known = run.stages()
    one, other = run.lanes()
    planned = [*one, *other, *((stage, each) for stage in (*run.BEFORE, *run.AFTER) for each in known[stage])]
    assert sorted(command.name for _unused, command in planned) == sorted(
        command.name for commands in known.values() for command in commands
    )


def test_restless_commands_never_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    alone = f"mkdir {tmp_path}/taken && sleep 0.3 && rmdir {tmp_path}/taken"
    lanes = [[("stage", Command(name, ("bash", "-c", alone), restless=True))] for name in ("left", "right")]
    assert [outcome.failed for outcome in run.Lanes().run(*lanes)] == [0, 0]


def test_processor_time_is_that_of_the_children_too() -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    _status, cpu = run.wait(("bash", "-c", f"{sys.executable} -c '{busy}'; true"), dict(os.environ))
    assert 0.2 <= cpu < 2


def test_what_takes_too_long_fails() -> None:
    assert outcome("sleep", "0.2", limit=0.1).failed == 1
    assert outcome("true", limit=60).failed == 0


def test_what_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LONGEST", 1)
    started = time.monotonic()
    assert run.wait(("bash", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; sleep 60"), dict(os.environ)) == (124, 0.0)
    assert time.monotonic() - started < 15
    child = int((tmp_path / "pid").read_text(encoding="utf-8"))
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_run_that_is_ended_ends_what_it_started(tmp_path: Path) -> None:
    script = f"""
import signal, sys
sys.path.insert(0, {str(Path(run.__file__).parent)!r})
import run
from pathlib import Path
run.LOGS = Path({str(tmp_path)!r})
signal.signal(signal.SIGTERM, run.stop)
one = run.Command("one", ("bash", "-c", "echo $$ > {tmp_path}/pid; sleep 60"))
run.Lanes().run([("stage", one), ("stage", one)])
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text(encoding="utf-8"):
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text(encoding="utf-8"))
    process.terminate()
    assert process.wait(10) == 143
    assert not alive(child)


def test_no_foreign_cluster_is_used(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somebody/elses")
    assert outcome("bash", "-c", "echo KUBECONFIG=${KUBECONFIG-unset}").failed == 0
    assert "KUBECONFIG=unset" in capfd.readouterr().out


def test_every_stage_can_be_selected() -> None:
    for name in run.stages():
        assert list(run.selected([name]))
    assert [command.name for _unused, command in run.selected(["molecule:deploy_local"])] == ["molecule deploy_local"]
    with pytest.raises(SystemExit, match="no stage 'nonsense'"):
        list(run.selected(["nonsense"]))
