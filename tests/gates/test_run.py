# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test runner itself: what fails has to be seen to fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import run
import verdicts
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
    outcomes = run.Lanes().run([[("one", left)]], [[("two", right), ("two", wrong)]])
    assert [outcome.failed for outcome in outcomes] == [0, 0, 1]
    capfd.readouterr()
    assert run.summary(outcomes) == 1
    printed = capfd.readouterr().out
    assert "wrong failed (two-wrong.log has all of it):\n  fatal: no such thing\n\ntests: 2 passed, 1 failed" in printed


def test_of_what_passed_only_the_skips_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    right = Command("right", ("bash", "-c", "echo much; echo 'SKIPPED [1] a.py: no chromium'"))
    wrong = Command("wrong", ("bash", "-c", "echo why; exit 3"))
    run.Lanes().run([[("one", right), ("one", wrong)]])
    printed = capfd.readouterr().out
    assert "SKIPPED [1] a.py: no chromium\n--- right: ok" in printed
    assert "\nmuch" not in printed
    assert "\nwhy\n--- wrong: FAILED" in printed
    assert "much" in (tmp_path / "one-right.log").read_text()


def test_what_failed_beside_others_is_run_alone_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    shaky = Command("shaky", ("bash", "-c", "echo 'fatal: too slow'; mkdir been && exit 1; exit 0"))
    wrong = Command("wrong", ("false",))
    fine = Command("fine", ("mkdir", "fine"))
    first = run.Lanes().run([[("one", each) for each in (shaky, wrong, fine)]])
    outcomes = [run.once_more(each) for each in first]
    assert [each.verdict for each in outcomes] == ["ok (UNDER LOAD IT FAILED)", "FAILED", "ok"]
    capfd.readouterr()
    assert run.summary(outcomes) == 1
    printed = capfd.readouterr().out
    assert "shaky failed (one-shaky.log has all of it):\n  fatal: too slow" in printed
    assert printed.endswith("tests: 2 passed, 1 failed, 0 skipped; only when run alone: shaky\n")
    assert run.summary([outcomes[0], outcomes[2]]) == 0


def test_make_test_leaves_nothing_out() -> None:
    known = run.stages()
    laid = [each for queue in {id(queue): queue for lane in run.lanes() for queue in lane}.values() for each in queue]
    planned = [*laid, *((stage, each) for stage in (*run.BEFORE, *run.AFTER) for each in known[stage])]
    assert sorted(command.name for _unused, command in planned) == sorted(
        command.name for commands in known.values() for command in commands
    )


@pytest.mark.parametrize(
    ("left", "right", "bears"),
    [
        ({}, {"alone": True}, True),
        ({"cluster": True}, {"cluster": True}, True),
        ({"cluster": True}, {"cluster": True, "alone": True}, False),
        ({"cluster": True, "apart": True}, {"cluster": True, "alone": True}, True),
        ({"takes": "a port"}, {"takes": "a port"}, False),
        ({"takes": "a port"}, {"takes": "another"}, True),
    ],
)
def test_what_bears_what(left: dict[str, Any], right: dict[str, Any], bears: bool) -> None:
    one, other = Command("one", ("true",), **left), Command("other", ("true",), **right)
    assert one.bears(other) is other.bears(one) is bears


def test_what_bears_nothing_else_runs_alone_and_a_list_is_worked_off_by_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    alone = f"mkdir {tmp_path}/taken && sleep 0.3 && rmdir {tmp_path}/taken"
    # Each waits for the other's file, and neither bears that somebody is alone meanwhile.
    meet = f"mkdir {tmp_path}/{{0}}; timeout 10 bash -c 'until [ -e {tmp_path}/{{1}} ]; do sleep 0.05; done'"
    queue = [
        ("stage", Command("first", ("bash", "-c", alone), cluster=True, alone=True)),
        (
            "stage",
            Command("left", ("bash", "-c", f"[ ! -e {tmp_path}/taken ] && {meet.format('a', 'b')}"), cluster=True),
        ),
        ("stage", Command("right", ("bash", "-c", meet.format("b", "a")), cluster=True)),
        ("stage", Command("last", ("bash", "-c", alone), cluster=True, alone=True)),
    ]
    outcomes = run.Lanes().run([queue], [queue])
    assert sorted((each.command.name, each.failed) for each in outcomes) == [
        ("first", 0),
        ("last", 0),
        ("left", 0),
        ("right", 0),
    ]


def test_who_shares_the_cluster_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    told = ("bash", "-c", f'[ -n "${run.SHARED}" ]')
    queue = [
        ("stage", Command("beside", told, cluster=True)),
        ("stage", Command("alone", told, cluster=True, alone=True)),
        ("stage", Command("without", told)),
    ]
    assert [(each.command.name, each.failed) for each in run.Lanes().run([queue])] == [
        ("beside", 0),
        ("alone", 1),
        ("without", 1),
    ]


def test_who_does_not_bear_what_runs_lets_others_pass_and_comes_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    # The first ends only when the third has run; the second takes what the first has.
    first = f"timeout 10 bash -c 'until [ -e {tmp_path}/third ]; do sleep 0.05; done'; touch {tmp_path}/over"
    queue = [
        ("stage", Command("first", ("bash", "-c", first), takes="a port")),
        ("stage", Command("second", ("test", "-e", f"{tmp_path}/over"), takes="a port")),
        ("stage", Command("third", ("touch", f"{tmp_path}/third"))),
    ]
    assert [each.failed for each in run.Lanes().run([queue], [queue])] == [0, 0, 0]


def test_a_lane_helps_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path)
    meet = "touch {0}/$0; for _ in {{1..100}}; do [ -e {0}/$1 ] && exit; sleep 0.1; done; exit 1"
    own = [("stage", Command("own", ("true",)))]
    both = [
        ("stage", Command("left", ("bash", "-c", meet.format(tmp_path), "a", "b"))),
        ("stage", Command("right", ("bash", "-c", meet.format(tmp_path), "b", "a"))),
    ]
    assert [each.failed for each in run.Lanes().run([own, both], [both])] == [0, 0, 0]


def test_what_kills_parts_of_the_cluster_is_alone_with_it() -> None:
    known = {command.name: command for commands in run.stages().values() for command in commands}
    assert {name for name, command in known.items() if command.alone} == {"pytest kills"}
    assert {name for name in run.FIRST if name not in known} == set()


def test_no_integration_test_is_left_out_and_none_runs_twice() -> None:
    def collected(*options: str) -> set[str]:
        listed = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/integration", "--collect-only", "-q", *options],
            cwd=run.ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return {line for line in listed.stdout.splitlines() if "::" in line}

    cluster, servers = collected("--cluster"), collected("--servers")
    assert cluster | servers == collected()
    assert cluster
    assert servers
    assert not cluster & servers


def test_processor_time_is_that_of_the_children_too() -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    _status, cpu = run.wait(("bash", "-c", f"{sys.executable} -c '{busy}'; true"), dict(os.environ))
    assert 0.2 <= cpu < 2


def test_what_takes_too_long_fails() -> None:
    assert outcome("sleep", "0.2", limit=0.1).failed == 1
    assert outcome("true", limit=60).failed == 0


def test_what_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LONGEST", 3)
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
run.Lanes().run([[("stage", one), ("stage", one)]])
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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with a lock and an environment, and a cache of verdicts of its own."""
    root = tmp_path / "checkout"
    about = root / ".venv/lib/python3.11/site-packages/tool-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "RECORD").write_text("tool.py,sha256=abc,3\ntool-1.0.dist-info/INSTALLER,sha256=x,2\n", encoding="utf-8")
    (root / ".venv/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n", encoding="utf-8")
    (root / ".gitignore").write_text("/.venv/\n/ignored\n", encoding="utf-8")
    (root / "lock").write_text("one==1.0\n", encoding="utf-8")
    (root / "module.py").write_text("pass\n", encoding="utf-8")
    (root / "script").symlink_to("module.py")
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    monkeypatch.setattr(verdicts, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("PACHOPS_GATES", raising=False)
    return root


CHANGES: dict[str, Callable[[Path], object]] = {
    "one byte": lambda root: (root / "module.py").write_text("pasS\n", encoding="utf-8"),
    "the lock": lambda root: (root / "lock").write_text("one==1.1\n", encoding="utf-8"),
    "a new file": lambda root: (root / "new.py").touch(),
    "a file less": lambda root: (root / "lock").unlink(),
    "another name": lambda root: (root / "lock").rename(root / "kcol"),
    "a mode": lambda root: (root / "module.py").chmod(0o755),
    "a link's aim": lambda root: subprocess.run(["ln", "-sfn", "lock", str(root / "script")], check=True),
    "a tool's version": lambda root: next(root.glob(".venv/lib/*/*/tool-*")).rename(
        root / ".venv/lib/python3.11/site-packages/tool-1.1.dist-info"
    ),
    "a tool's content": lambda root: next(root.glob(".venv/lib/*/*/tool-*/RECORD")).write_text(
        "tool.py,sha256=abd,3\n", encoding="utf-8"
    ),
    "a tool more": lambda root: (root / ".venv/lib/python3.11/site-packages/b-1.dist-info").mkdir(),
    "the Python": lambda root: (root / ".venv/pyvenv.cfg").write_text("version = 3.12.1\n", encoding="utf-8"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_gives_another_digest(checkout: Path, change: Callable[[Path], object]) -> None:
    before = verdicts.digest(checkout, ["gate"])
    assert before == verdicts.digest(checkout, ["gate"])
    change(checkout)
    assert before != verdicts.digest(checkout, ["gate"])


def test_the_command_and_the_environment_count_and_the_place_and_the_installer_do_not(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verdicts.digest(checkout, [f"{checkout}/gate"])
    assert before != verdicts.digest(checkout, [f"{checkout}/gate", "--easy"])
    next(checkout.glob(".venv/lib/*/*/tool-*/RECORD")).write_text(
        "tool-1.0.dist-info/INSTALLER,sha256=y,2\ntool.py,sha256=abc,3\n", encoding="utf-8"
    )
    moved = checkout.rename(checkout.parent / "elsewhere")
    assert before == verdicts.digest(moved, [f"{moved}/gate"])
    monkeypatch.setenv("ANSIBLE_CONFIG", "/somewhere")
    assert before != verdicts.digest(moved, [f"{moved}/gate"])


def test_without_git_nothing_is_kept(checkout: Path) -> None:
    (checkout / ".gitignore").write_text("*\n", encoding="utf-8")
    assert verdicts.digest(checkout, ["gate"]) is None, "a copy that somebody else's repository ignores"
    (checkout / ".git").rename(checkout / "no-git")
    assert verdicts.digest(checkout, ["gate"]) is None
    verdicts.keep("gate", None)
    assert verdicts.passed("gate", None) is None


def test_what_uses_a_cluster_is_never_left_out() -> None:
    commands = [command for commands in run.stages().values() for command in commands]
    assert not [command.name for command in commands if command.pure and command.cluster]
    assert [command.name for command in commands if not command.pure and not command.cluster] == [
        "make setup",
        "image for pipelines",
        "coverage",
        "coverage of module_utils",
    ]


def test_the_number_of_tests_and_what_they_covered_are_kept_with_a_verdict(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ROOT", checkout)
    report, data = checkout.parent / "report.xml", checkout.parent / "data"
    script = f"""echo '<testsuite tests="5" failures="0" errors="0" skipped="2"/>' > {report}; echo lines > {data}"""
    command = Command("tests", ("bash", "-c", script), report, coverage=data, pure=True)
    run.run("stage", command)
    data.unlink()
    outcome = run.run("stage", command)
    assert (outcome.passed, outcome.failed, outcome.skipped, outcome.unchanged) == (3, 0, 2, True)
    assert data.read_text(encoding="utf-8") == "lines\n"
    for kept in verdicts.CACHE.glob("*.coverage"):
        kept.unlink()
    assert not run.run("stage", command).unchanged, "without its coverage data it is worth nothing"


def test_a_verdict_is_kept_for_a_week(checkout: Path) -> None:
    digest = verdicts.digest(checkout, ["gate"])
    verdicts.keep("gate", digest)
    assert verdicts.passed("gate", digest)
    for kept in verdicts.CACHE.iterdir():
        os.utime(kept, (0, time.time() - 8 * 86400))
    assert verdicts.passed("gate", digest) is None


def test_a_gate_runs_again_only_when_something_changed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "ROOT", checkout)
    ran = checkout / "ignored"
    command = Command("gate", ("bash", "-c", f"echo ran >> {ran}"), pure=True)

    def times() -> int:
        run.run("stage", command)
        return len(ran.read_text(encoding="utf-8").splitlines())

    assert (times(), times()) == (1, 1)
    assert "unchanged since it passed on 20" in capfd.readouterr().out
    outcome = run.run("stage", command)
    assert (outcome.passed, outcome.failed, outcome.verdict) == (1, 0, "ok (unchanged)")
    monkeypatch.setenv("PACHOPS_GATES", "fresh")
    assert times() == 2
    monkeypatch.delenv("PACHOPS_GATES")
    (checkout / "lock").write_text("one==1.1\n", encoding="utf-8")
    assert (times(), times()) == (3, 3)


def test_neither_a_failure_nor_what_was_edited_meanwhile_is_kept(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ROOT", checkout)
    for script, failed in (("exit 1", 1), (f"date +%s%N >> {checkout}/module.py", 0)):
        command = Command("gate", ("bash", "-c", script), pure=True)
        for _again in range(2):
            outcome = run.run("stage", command)
            assert (outcome.failed, outcome.unchanged) == (failed, False)


def test_every_stage_can_be_selected() -> None:
    for name in run.stages():
        assert list(run.selected([name]))
    assert [command.name for _unused, command in run.selected(["molecule:deploy_local"])] == ["molecule deploy_local"]
    with pytest.raises(SystemExit, match="no stage 'nonsense'"):
        list(run.selected(["nonsense"]))
