# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the project's gates and tests in stages, all of them even when one fails, and sums up at the end.

Usage: python3 tests/run.py [stage ...]   without a stage: all, which is what `make test` and CI do
       python3 tests/run.py --list        the stages in their order

A stage is done by one or more commands; the commands of one stage all run.  Where a command writes a JUnit report its
tests are counted one by one, any other command counts as one test.  Needs nothing but Python's standard library, since
the first stage is what installs everything else.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
REPORTS = ROOT / ".cache" / "reports"
SCENARIOS_FIRST = ("local_cluster",)


@dataclass(frozen=True)
class Command:
    """One program of a stage."""

    name: str
    argv: tuple[str, ...]
    report: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    diagnose: bool = False


@dataclass
class Outcome:
    """What became of one command."""

    stage: str
    command: Command
    passed: int
    failed: int
    skipped: int
    seconds: float

    @property
    def verdict(self) -> str:
        """A word for the table."""
        return "FAILED" if self.failed else "ok"


def tool(name: str, *arguments: str | Path, label: str = "", diagnose: bool = False) -> Command:
    """Return a command of the project's virtual environment."""
    return Command(label or name, (str(BIN / name), *map(str, arguments)), diagnose=diagnose)


def pytest(label: str, *arguments: str, coverage: bool = False, diagnose: bool = False) -> Command:
    """Return a pytest command that leaves a JUnit report, and coverage data where asked."""
    report = REPORTS / f"{label}.xml"
    measured = ("--cov", "--cov-append", "--cov-report=") if coverage else ()
    argv = (str(BIN / "pytest"), *arguments, *measured, f"--junitxml={report}", "-q")
    return Command(f"pytest {label}", argv, report=report, diagnose=diagnose)


def script(path: str, *arguments: str, diagnose: bool = False) -> Command:
    """Return a command that is a program of the checkout."""
    return Command(path, (str(ROOT / path), *arguments), diagnose=diagnose)


def scenario(name: str) -> Command:
    """Return the command that runs one molecule scenario."""
    return tool("molecule", "test", "--scenario-name", name, label=f"molecule {name}", diagnose=True)


def scenarios() -> list[str]:
    """Return the molecule scenarios: those that others build on first, then by name."""
    found = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    return sorted(found, key=lambda name: SCENARIOS_FIRST.index(name) if name in SCENARIOS_FIRST else len(found))


def stages() -> dict[str, list[Command]]:
    """Return the stages in the order in which `make test` runs them."""
    return {
        "setup": [Command("make setup", ("make", "setup"))],
        "lint": [
            tool("ruff", "check", "--quiet", ".", label="ruff check"),
            tool("ruff", "format", "--check", "--quiet", ".", label="ruff format"),
            script("tests/gates/mypy"),
            tool("yamllint", "--strict", "."),
            tool("ansible-lint", "--offline", "--quiet"),
            tool("reuse", "lint", "--lines"),
            tool("antsibull-changelog", "lint"),
        ],
        "gates": [pytest("gates", "tests/gates")],
        "sanity": [script("tests/gates/sanity")],
        "importer": [script("tests/gates/importer")],
        "unit": [
            tool("coverage", "erase"),
            pytest("unit", "tests/unit", "-n", "auto", coverage=True),
        ],
        "docs": [script("docs/docsite/build")],
        "integration": [pytest("integration", "tests/integration", coverage=True)],
        "coverage": [tool("coverage", "report", label="coverage")],
        "e2e": [scenario(name) for name in scenarios()],
    }


def counts(report: Path, status: int) -> tuple[int, int, int]:
    """Return passed, failed and skipped from a JUnit report; no report at all is one failure."""
    if not report.exists():
        return 0, 1, 0
    suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314 our own pytest wrote it
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    # A run that collected nothing, or that was interrupted, did not pass.
    if (status and not failed) or not total:
        failed += 1
    return max(total - failed - skipped, 0), failed, skipped


def run(stage: str, command: Command) -> Outcome:
    """Run one command with its output going straight to the terminal."""
    print(f"\n=== {stage}: {command.name}\n    {shlex.join(command.argv)}", flush=True)
    if command.report:
        command.report.unlink(missing_ok=True)
        command.report.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    environment = {**os.environ, **command.environment, "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}"}
    try:
        status = subprocess.run(
            command.argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False
        ).returncode
    except OSError as error:
        print(f"{command.argv[0]}: {error.strerror}", flush=True)
        status = 127
    passed, failed, skipped = (
        counts(command.report, status) if command.report else (int(not status), int(bool(status)), 0)
    )
    outcome = Outcome(stage, command, passed, failed, skipped, time.monotonic() - start)
    print(f"--- {command.name}: {outcome.verdict} in {outcome.seconds:.0f} s", flush=True)
    if failed and command.diagnose:
        subprocess.run([str(ROOT / "tests/e2e/diagnose")], cwd=ROOT, env=environment, check=False)
    return outcome


def selected(names: list[str]) -> Iterator[tuple[str, Command]]:
    """Yield the commands of the named stages; ``molecule:<scenario>`` names one scenario."""
    known = stages()
    for name in names or list(known):
        if match := re.fullmatch(r"molecule:(\w+)", name):
            yield "e2e", scenario(match[1])
        elif name in known:
            yield from ((name, command) for command in known[name])
        else:
            sys.exit(f"tests/run.py: no stage {name!r}; known: {', '.join(known)}, molecule:<{'|'.join(scenarios())}>")


def summary(outcomes: list[Outcome]) -> int:
    """Print the table of stages and the closing line; return the exit status."""
    print(f"\n{'stage':<12} {'what':<28} {'time':>7}  result")
    for outcome in outcomes:
        skipped = f" ({outcome.skipped} skipped)" if outcome.skipped else ""
        minutes, seconds = divmod(round(outcome.seconds), 60)
        print(
            f"{outcome.stage:<12} {outcome.command.name:<28} {minutes:>3}:{seconds:02d}    {outcome.verdict}{skipped}"
        )
    minutes, seconds = divmod(round(sum(outcome.seconds for outcome in outcomes)), 60)
    print(f"{'total':<12} {'':<28} {minutes:>3}:{seconds:02d}")
    passed, failed, skipped = (sum(getattr(o, name) for o in outcomes) for name in ("passed", "failed", "skipped"))
    print(f"\ntests: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


def main() -> int:
    """Run what the arguments name."""
    if sys.argv[1:] == ["--list"]:
        for name, commands in stages().items():
            print(f"{name:<12} {', '.join(command.name for command in commands)}")
        return 0
    outcomes = []
    for stage, command in selected(sys.argv[1:]):
        outcomes.append(run(stage, command))
        if stage == "setup" and outcomes[-1].failed:
            print("Nothing else can run without its tools.", file=sys.stderr)
            break
    return summary(outcomes)


if __name__ == "__main__":
    sys.exit(main())
