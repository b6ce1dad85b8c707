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

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
REPORTS = ROOT / ".cache" / "reports"
SCENARIOS_FIRST = ("local_cluster",)
# Seconds after which a command is ended: nothing may keep CI waiting for ever.
LONGEST = 2400
# Tests use the cluster that they bring up themselves, never one that happens to be configured on this host.
OWN_KUBECONFIG = "/var/lib/pachops/pachops/kubeconfig"
FOREIGN = ("KUBECONFIG", "K8S_AUTH_KUBECONFIG", "K8S_AUTH_CONTEXT", "K8S_AUTH_HOST", "K8S_AUTH_API_KEY")


@dataclass(frozen=True)
class Command:
    """One program of a stage.

    :param report: the JUnit report that it leaves.
    :param cluster: whether it uses the local cluster, whose state is printed when it fails.
    :param limit: seconds after which it counts as failed although it ends well.
    """

    name: str
    argv: tuple[str, ...]
    report: Path | None = None
    cluster: bool = False
    limit: float | None = None


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


def tool(name: str, *arguments: str, label: str = "") -> Command:
    """Return a command of the project's virtual environment."""
    return Command(label or name, (str(BIN / name), *arguments))


def pytest(label: str, *arguments: str, coverage: bool = False, cluster: bool = False) -> Command:
    """Return a pytest command that leaves a JUnit report, and coverage data where asked."""
    report = REPORTS / f"{label}.xml"
    # The threshold is for all tests together; the stage "coverage" enforces it.
    measured = ("--cov", "--cov-append", "--cov-report=", "--cov-fail-under=0") if coverage else ()
    argv = (str(BIN / "pytest"), *arguments, *measured, f"--junitxml={report}", "-q")
    return Command(f"pytest {label}", argv, report=report, cluster=cluster)


def script(path: str, *arguments: str) -> Command:
    """Return a command that is a program of the checkout."""
    return Command(path, (str(ROOT / path), *arguments))


def scenario(name: str) -> Command:
    """Return the command that runs one molecule scenario."""
    return Command(f"molecule {name}", (str(BIN / "molecule"), "test", "--scenario-name", name), cluster=True)


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
            tool("ansible-lint", "--offline", "-q"),
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
        "cores": [script("tests/gates/cores")],
        "docs": [script("docs/docsite/build")],
        "quickstart": [
            Command("make quickstart", ("make", "quickstart"), cluster=True),
            # Everything is there already: nothing may be built or rolled out again.
            Command("make quickstart, again", ("make", "quickstart"), cluster=True, limit=120),
        ],
        "integration": [pytest("integration", "tests/integration", coverage=True, cluster=True)],
        "coverage": [tool("coverage", "report", label="coverage of module_utils")],
        "conformance": [pytest("conformance", "tests/conformance", cluster=True)],
        "e2e": [*map(scenario, scenarios()), pytest("e2e", "tests/e2e", cluster=True)],
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
    passed = total - failed - skipped
    if (status and not failed) or not total:
        failed += 1
    return passed, failed, skipped


def wait(argv: tuple[str, ...], environment: dict[str, str]) -> int:
    """Run a program and return its exit status; what hangs is ended with everything that it started."""
    try:
        process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", flush=True)
        return 127
    try:
        return process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        print(f"It did not end within {LONGEST} s.", flush=True)
        return 124
    finally:
        if process.poll() is None:
            for deadly in (signal.SIGTERM, signal.SIGKILL):
                os.killpg(process.pid, deadly)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                    break


def run(stage: str, command: Command) -> Outcome:
    """Run one command with its output going straight to the terminal."""
    print(f"\n=== {stage}: {command.name}\n    {shlex.join(command.argv)}", flush=True)
    if command.report:
        command.report.unlink(missing_ok=True)
        command.report.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment["PATH"] = f"{BIN}:{os.environ.get('PATH', os.defpath)}"
    if not sys.stdout.isatty():
        environment["NO_COLOR"] = "1"
    if command.cluster and Path(OWN_KUBECONFIG).exists():
        environment["KUBECONFIG"] = OWN_KUBECONFIG
    status = wait(command.argv, environment)
    seconds = time.monotonic() - start
    if not status and command.limit is not None and seconds > command.limit:
        print(f"It ended well, but took longer than {command.limit:.0f} s.", flush=True)
        status = 1
    passed, failed, skipped = (int(not status), int(bool(status)), 0)
    if command.report:
        passed, failed, skipped = counts(command.report, status)
    outcome = Outcome(stage, command, passed, failed, skipped, seconds)
    print(f"--- {command.name}: {outcome.verdict} in {outcome.seconds:.0f} s", flush=True)
    if failed and "KUBECONFIG" in environment:
        wait((str(ROOT / "tests/e2e/diagnose"),), environment)
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
