# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the project's gates and tests in stages, all of them even when one fails, and sums up at the end.

Usage: python3 tests/run.py [stage ...]   without a stage: all, which is what `make test` and CI do
       python3 tests/run.py --list        the stages in their order

A stage is done by one or more commands; the commands of one stage all run.  Where a command writes a JUnit report its
tests are counted one by one, any other command counts as one test.  Without a stage named, two queues are worked off
side by side once the cluster is up: what needs the cluster, which mostly waits and of which three run at once; and what
needs only the checkout, with the time that the others leave.  The output of each command is then kept in .cache/logs, and
printed when it failed; of one that passed the reasons of skipped tests are.  What failed beside others is run once more
when nothing else runs: if it passes then, it fails under load only, which the table and the last line say and which is to
be mended like any failure, but does not fail the run.

What is a pure function of the checkout is not run again while nothing that it depends on has changed (see verdicts.py):
gates, unit tests, and those integration tests that start all that they talk to.  PACHOPS_GATES=fresh runs them all the
same.  Needs nothing but Python's standard library, since the first stage is what installs everything else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import verdicts

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
REPORTS = ROOT / ".cache" / "reports"
LOGS = ROOT / ".cache" / "logs"
COVERAGE = ROOT / ".cache" / "coverage"
# This one brings up a cluster of its own.
SCENARIOS_APART = ("local_cluster",)
# Before the queues: what they need, and the builds that take both cores.  After them: what needs the results of both.
BEFORE, AFTER = ("setup", "quickstart"), ("coverage",)
# How many commands use the cluster at once.
SIDE_BY_SIDE = 3
# Their order: first what bears nothing beside it, then what mostly waits, then the longest.
FIRST = (
    "pytest kills",
    "molecule local_cluster",
    "pytest conformance",
    "molecule disaster",
    "molecule migrate",
    "molecule backup_restore",
    "molecule deploy_aws",
    "molecule client",
    "pytest e2e",
    "pytest cluster",
    "molecule deploy_local",
    "molecule deploy_gcp",
    "pytest operations",
)
KILLS, OPERATIONS = "tests/e2e/test_kills.py", "tests/e2e/test_operations.py"
IN_TWO = ("-n", "2", "--dist", "worksteal")
MEASURED = ("unit", "servers", "cluster")
# Seconds between two lines that say what runs, and how many lines of a failure the end repeats.
HEARTBEAT = 60
REPEATED = 15
TELLING = re.compile(r"\s*(fatal: |failed: |\[ERROR\]|E  |FAILED |ERROR +\S+\.py|It (ended|did not)|\S*[Ee]rror: )")
# Of what passed: this program's own lines, and what was skipped and why.
TOLD = re.compile(r"(=== |    /|--- |unchanged since|SKIPPED )")
# Seconds after which a command is ended: nothing may keep CI waiting for ever.
LONGEST = 2400
# Has Ansible keep its packed modules, except in the quickstart, which is timed as users have it.
KEEPING = ROOT / "tests" / "ansible" / "callback"
# Tells tests that others use the cluster and both cores meanwhile: nothing may be killed that others need, and no limit of
# seconds tells anything.
SHARED = "PACHOPS_CLUSTER_SHARED"
# Tests use the cluster that they bring up themselves, never one that happens to be configured on this host.
OWN_KUBECONFIG = "/var/lib/pachops/pachops/kubeconfig"
FOREIGN = ("KUBECONFIG", "K8S_AUTH_KUBECONFIG", "K8S_AUTH_CONTEXT", "K8S_AUTH_HOST", "K8S_AUTH_API_KEY")
# Set in many containers; every start of Ansible and of a module would then compile some 700 files anew.
WASTEFUL = ("PYTHONDONTWRITEBYTECODE",)
# What judges files alone takes the time that the others leave.
POLITELY = ("nice", "-n", "10")


# The process groups that run now, and whether they are to be the last.
_running: set[int] = set()
_stopping = threading.Event()


@dataclass(frozen=True)
class Command:
    """One program of a stage.

    :param report: the JUnit report that it leaves.
    :param cluster: whether it is told of the local cluster, whose state is printed when it fails.
    :param alone: whether it kills parts of that cluster, or cannot bear that: no other command uses it meanwhile.
    :param apart: whether it has a cluster of its own, so that nothing that befalls the other one matters.
    :param takes: what only one command at a time can have; of two that take the same the first goes first.
    :param limit: seconds after which it counts as failed although it ends well.
    :param coverage: file for its coverage data; each command has its own, since two may run at once.
    :param pure: whether nothing but the checkout and the installed tools decides how it ends.
    """

    name: str
    argv: tuple[str, ...]
    report: Path | None = None
    cluster: bool = False
    limit: float | None = None
    coverage: Path | None = None
    alone: bool = False
    apart: bool = False
    takes: str = ""
    pure: bool = False

    def bears(self, other: Command) -> bool:
        """Whether the two may run at once."""
        if self.takes and self.takes == other.takes:
            return False
        both_use_it = all(each.cluster and not each.apart for each in (self, other))
        return not (both_use_it and (self.alone or other.alone))


@dataclass
class Outcome:
    """What became of one command."""

    stage: str
    command: Command
    passed: int
    failed: int
    skipped: int
    seconds: float
    cpu: float = 0.0
    log: Path | None = None
    unchanged: bool = False
    before: Outcome | None = None

    @property
    def verdict(self) -> str:
        """A word or two for the table."""
        if self.failed:
            return "FAILED"
        if self.before:
            return "ok (UNDER LOAD IT FAILED)"
        return "ok (unchanged)" if self.unchanged else "ok"


def tool(name: str, *arguments: str, label: str = "", pure: bool = False) -> Command:
    """Return a command of the project's virtual environment."""
    return Command(label or name, (str(BIN / name), *arguments), pure=pure)


def pytest(
    label: str,
    *arguments: str,
    coverage: bool = False,
    cluster: bool = False,
    alone: bool = False,
    pure: bool = False,
) -> Command:
    """Return a pytest command that leaves a JUnit report, and coverage data where asked."""
    report = REPORTS / f"{label}.xml"
    # The threshold is for all tests together; the stage "coverage" enforces it.
    measured = ("--cov", "--cov-report=", "--cov-fail-under=0") if coverage else ()
    argv = (str(BIN / "pytest"), *arguments, *measured, f"--junitxml={report}", "-q")
    data = COVERAGE / label / "data" if coverage else None
    return Command(f"pytest {label}", argv, report, cluster, coverage=data, alone=alone, pure=pure)


def gate(path: str) -> Command:
    """Return a command that is a program of the checkout and judges nothing but its files."""
    return Command(path, (str(ROOT / path),), pure=True)


def scenario(name: str) -> Command:
    """Return the command that runs one molecule scenario."""
    return Command(
        f"molecule {name}",
        (str(BIN / "molecule"), "test", "--scenario-name", name),
        cluster=True,
        apart=name in SCENARIOS_APART,
    )


def scenarios() -> list[str]:
    """Return the molecule scenarios: those that others build on first, then by name."""
    found = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    return sorted(found, key=lambda name: name not in SCENARIOS_APART)


def stages() -> dict[str, list[Command]]:
    """Return the stages in the order in which `make test` runs them."""
    return {
        "setup": [Command("make setup", ("make", "setup"))],
        "lint": [
            tool("ruff", "check", "--quiet", ".", label="ruff check", pure=True),
            tool("ruff", "format", "--check", "--quiet", ".", label="ruff format", pure=True),
            gate("tests/gates/mypy"),
            tool("yamllint", "--strict", ".", pure=True),
            tool("ansible-lint", "--offline", "-q", pure=True),
            tool("reuse", "lint", "--lines", pure=True),
            tool("antsibull-changelog", "lint", pure=True),
        ],
        "gates": [pytest("gates", "tests/gates", pure=True)],
        "sanity": [gate("tests/gates/sanity")],
        "importer": [gate("tests/gates/importer")],
        "unit": [pytest("unit", "tests/unit", "-n", "auto", coverage=True, pure=True)],
        "cores": [gate("tests/gates/cores")],
        "docs": [gate("docs/docsite/build")],
        "quickstart": [
            Command("make quickstart", ("make", "quickstart"), cluster=True),
            # Archives of pachd that somebody gives bring no image for pipelines along; others build images as well.
            tool("ansible-playbook", "tests/images/pipelines.yml", label="image for pipelines"),
            # Everything is there already: nothing may be built or rolled out again.
            Command("make quickstart, again", ("make", "quickstart"), cluster=True, limit=120),
            Command("make deploy, again", ("make", "deploy"), cluster=True, limit=20),
        ],
        "integration": [
            pytest("servers", "tests/integration", "--servers", *IN_TWO, coverage=True, pure=True),
            pytest("cluster", "tests/integration", "--cluster", *IN_TWO, coverage=True, cluster=True),
        ],
        "coverage": [
            tool("coverage", "combine", "--keep", *(str(COVERAGE / label / "data") for label in MEASURED)),
            tool("coverage", "report", label="coverage of module_utils"),
        ],
        "conformance": [
            replace(pytest("conformance", "tests/conformance", cluster=True), takes="the quickstart's pachd"),
        ],
        "e2e": [
            pytest("kills", KILLS, cluster=True, alone=True),
            pytest("operations", OPERATIONS, cluster=True),
            replace(
                pytest("e2e", "tests/e2e", f"--ignore={KILLS}", f"--ignore={OPERATIONS}", cluster=True),
                takes="the quickstart's pachd",
            ),
            *map(scenario, scenarios()),
        ],
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


def wait(argv: tuple[str, ...], environment: dict[str, str], log: Path | None = None) -> tuple[int, float]:
    """Run a program; what hangs is ended with everything that it started.

    :param log: file that gets its output; otherwise the terminal does.
    :returns: exit status, and seconds of processor time (of it and all that it waited for).
    """
    with log.open("ab") if log else contextlib.nullcontext() as output:
        try:
            process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
        except OSError as error:
            say(f"{argv[0]}: {error.strerror}", log)
            return 127, 0.0
        deadline = time.monotonic() + LONGEST
        _running.add(process.pid)
        if _stopping.is_set():
            # The signal came between the two lines above, and found nothing to end.
            os.killpg(process.pid, signal.SIGTERM)
        while True:
            # Popen.wait would throw the resource usage away.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                _running.discard(process.pid)
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage.ru_utime + usage.ru_stime
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        _running.discard(process.pid)
        say(f"It did not end within {LONGEST} s.", log)
        for deadly in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, deadly)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break
        return 124, 0.0


def say(text: str, log: Path | None = None) -> None:
    """Print a line, or add it to a command's log."""
    if log is None:
        print(text, flush=True)
    else:
        with log.open("a", encoding="utf-8") as target:
            target.write(f"{text}\n")


def run(stage: str, command: Command, log: Path | None = None) -> Outcome:
    """Run one command, its output going to the terminal or to ``log``."""
    say(f"\n=== {stage}: {command.name}\n    {shlex.join(command.argv)}", log)
    digest = verdicts.digest(ROOT, command.argv) if command.pure else None
    if kept := verdicts.passed(command.name, digest, command.coverage):
        say(
            f"unchanged since it passed on {kept.on}, digest {digest}; run with PACHOPS_GATES=fresh to run it again",
            log,
        )
        return Outcome(stage, command, kept.passed, 0, kept.skipped, 0.0, log=log, unchanged=True)
    if command.report:
        command.report.unlink(missing_ok=True)
        command.report.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name not in (*FOREIGN, *WASTEFUL)}
    environment["PATH"] = f"{BIN}:{os.environ.get('PATH', os.defpath)}"
    if log or not sys.stdout.isatty():
        environment["NO_COLOR"] = "1"
    if command.cluster and Path(OWN_KUBECONFIG).exists():
        environment["KUBECONFIG"] = OWN_KUBECONFIG
    if log and command.cluster and not command.alone:
        environment[SHARED] = "1"
    if (command.cluster and stage not in BEFORE) or stage == "integration":
        environment["ANSIBLE_CALLBACK_PLUGINS"] = str(KEEPING)
    if command.coverage:
        command.coverage.parent.mkdir(parents=True, exist_ok=True)
        environment["COVERAGE_FILE"] = str(command.coverage)
    # Tests have timeouts, so they get their share; those of "cores" leave no report.
    patient = command.pure and not command.report and stage != "cores"
    status, cpu = wait((*POLITELY, *command.argv) if patient else command.argv, environment, log)
    seconds = time.monotonic() - start
    if not status and command.limit is not None and seconds > command.limit:
        say(f"It ended well, but took longer than {command.limit:.0f} s.", log)
        status = 1
    passed, failed, skipped = (int(not status), int(bool(status)), 0)
    if command.report:
        passed, failed, skipped = counts(command.report, status)
    # What was edited meanwhile has not been judged.
    if command.pure and not failed and digest == verdicts.digest(ROOT, command.argv):
        verdicts.keep(command.name, digest, passed, skipped, command.coverage)
    outcome = Outcome(stage, command, passed, failed, skipped, seconds, cpu, log)
    say(f"--- {command.name}: {outcome.verdict} in {outcome.seconds:.0f} s", log)
    if failed and "KUBECONFIG" in environment:
        wait((str(ROOT / "tests/e2e/diagnose"),), environment, log)
    return outcome


Queue = list[tuple[str, Command]]


class Lanes:
    """Runs lists of commands side by side, and prints each command's output in one piece."""

    def __init__(self) -> None:
        self._printing = threading.Lock()
        self._turn = threading.Condition()
        self._busy: list[Command] = []
        self._running: dict[str, float] = {}
        LOGS.mkdir(parents=True, exist_ok=True)

    def run(self, *lanes: Sequence[Queue]) -> list[Outcome]:
        """Return the outcomes.  A lane works off its queues one after the other, together with others that have them too."""
        queues = {id(queue): list(queue) for lane in lanes for queue in lane}
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        beat.start()
        with ThreadPoolExecutor(len(lanes)) as pool:
            done = pool.map(lambda lane: [each for queue in lane for each in self._work(queues[id(queue)])], lanes)
            outcomes = [each for lane in done for each in lane]
        ended.set()
        beat.join()
        return outcomes

    def _work(self, waiting: Queue) -> list[Outcome]:
        outcomes = []
        while (each := self._next(waiting)) and not _stopping.is_set():
            try:
                outcomes.append(self._one(*each))
            finally:
                with self._turn:
                    self._busy.remove(each[1])
                    self._turn.notify_all()
        return outcomes

    def _next(self, waiting: Queue) -> tuple[str, Command] | None:
        """Take the first command that bears all that run now; None when there are no more."""
        with self._turn:
            while waiting and not _stopping.is_set():
                for each in waiting:
                    if all(each[1].bears(other) for other in self._busy):
                        waiting.remove(each)
                        self._busy.append(each[1])
                        return each
                self._turn.wait(1)
        return None

    def _one(self, stage: str, command: Command) -> Outcome:
        log = log_of(stage, command)
        self._running[command.name] = time.monotonic()
        outcome = run(stage, command, log)
        del self._running[command.name]
        text = log.read_text(encoding="utf-8", errors="replace")
        with self._printing:
            sys.stdout.write(text if outcome.failed else brief(text))
            sys.stdout.flush()
        return outcome

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT):
            now = time.monotonic()
            names = ", ".join(f"{name} for {now - since:.0f} s" for name, since in list(self._running.items()))
            with self._printing:
                say(f"... running: {names}")


def log_of(stage: str, command: Command, ending: str = "") -> Path:
    """Return the empty file that is to get the output of a command."""
    log = LOGS / f"{stage}-{re.sub(r'[^a-z0-9]+', '-', command.name.lower())}{ending}.log"
    log.write_bytes(b"")
    return log


def brief(log: str) -> str:
    """Return what is worth printing of a passed command's output: this program's own lines, and what was skipped."""
    return "".join(line for line in log.splitlines(keepends=True) if TOLD.match(line))


def once_more(outcome: Outcome) -> Outcome:
    """Run a command that failed beside others once more, alone; the log of the first time stays."""
    if not outcome.failed or _stopping.is_set():
        return outcome
    log = log_of(outcome.stage, outcome.command, "-again")
    say(f"... {outcome.command.name} failed beside others; running it alone")
    again = run(outcome.stage, outcome.command, log)
    print(log.read_text(encoding="utf-8", errors="replace"), flush=True)
    return replace(again, before=outcome)


def selected(names: list[str]) -> Iterator[tuple[str, Command]]:
    """Yield the commands of the named stages; ``molecule:<scenario>`` names one scenario."""
    known = stages()
    for name in names:
        if match := re.fullmatch(r"molecule:(\w+)", name):
            yield "e2e", scenario(match[1])
        elif name in known:
            yield from ((name, command) for command in known[name])
        else:
            sys.exit(f"tests/run.py: no stage {name!r}; known: {', '.join(known)}, molecule:<{'|'.join(scenarios())}>")


def summary(outcomes: list[Outcome], seconds: float | None = None) -> int:
    """Print the table of stages, what failed, and the closing line; return the exit status."""
    print(f"\n{'stage':<12} {'what':<28} {'time':>7} {'cpu':>7}  result")
    for outcome in outcomes:
        skipped = f" ({outcome.skipped} skipped)" if outcome.skipped else ""
        times = f"{clock(outcome.seconds):>7} {clock(outcome.cpu):>7}"
        print(f"{outcome.stage:<12} {outcome.command.name:<28} {times}  {outcome.verdict}{skipped}")
    total = sum(outcome.seconds for outcome in outcomes) if seconds is None else seconds
    print(f"{'total':<12} {'':<28} {clock(total):>7} {clock(sum(outcome.cpu for outcome in outcomes)):>7}")
    for outcome in outcomes:
        for each in filter(None, (outcome.before, outcome)):
            if each.failed and each.log:
                print(f"\n{each.command.name} failed ({each.log.relative_to(ROOT)} has all of it):")
                print("\n".join(telling(each.log.read_text(encoding="utf-8", errors="replace"))))
    passed, failed, skipped = (sum(getattr(o, name) for o in outcomes) for name in ("passed", "failed", "skipped"))
    shaky = [outcome.command.name for outcome in outcomes if outcome.before and not outcome.failed]
    told = f"; only when run alone: {', '.join(shaky)}" if shaky else ""
    print(f"\ntests: {passed} passed, {failed} failed, {skipped} skipped{told}", flush=True)
    return 1 if failed else 0


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def telling(log: str) -> list[str]:
    """Return the lines of a failed command's output that most likely say why, shortened."""
    # Without the heading and the last line, which are this program's own.
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("--- ")][2:]
    chosen = [line for line in lines if TELLING.match(line)][:REPEATED] or lines[-REPEATED:]
    return [f"  {line[:400]}" for line in chosen]


def lanes() -> list[list[Queue]]:
    """Return what `make test` runs side by side: what needs the cluster, as often as is run at once; and all the rest.

    Where nothing waits for the cluster any more, one lane of those helps with the rest; and where no file needs to be
    judged, the cores have time for one command more that uses the cluster.
    """
    using: Queue = []
    judging: Queue = []
    for stage, commands in stages().items():
        if stage not in (*BEFORE, *AFTER):
            for command in commands:
                (judging if command.pure else using).append((stage, command))
    using.sort(key=lambda each: FIRST.index(each[1].name) if each[1].name in FIRST else len(FIRST))
    return [*[[using]] * (SIDE_BY_SIDE - 1), [using, judging], [judging, using]]


def everything() -> list[Outcome]:
    """Run all stages."""
    known = stages()
    outcomes: list[Outcome] = []
    for stage in BEFORE:
        outcomes += [run(stage, command) for command in known[stage]]
        if stage == "setup" and outcomes[-1].failed:
            return outcomes
    outcomes += [once_more(outcome) for outcome in Lanes().run(*lanes())]
    return [*outcomes, *(run(stage, command) for stage in AFTER for command in known[stage])]


def only(names: list[str]) -> list[Outcome]:
    """Run the named stages, one after the other."""
    outcomes: list[Outcome] = []
    for stage, command in selected(names):
        outcomes.append(run(stage, command))
        if stage == "setup" and outcomes[-1].failed:
            break
    return outcomes


def stop(_signal: int, _frame: object) -> None:
    """End what runs, so that a run that is ended leaves nothing behind that goes on using the cluster."""
    _stopping.set()
    for group in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
    sys.exit(143)


def main() -> int:
    """Run what the arguments name."""
    signal.signal(signal.SIGTERM, stop)
    if sys.argv[1:] == ["--list"]:
        for name, commands in stages().items():
            print(f"{name:<12} {', '.join(command.name for command in commands)}")
        return 0
    start = time.monotonic()
    outcomes = only(sys.argv[1:]) if sys.argv[1:] else everything()
    if outcomes[0].failed and outcomes[0].stage == "setup":
        print("Nothing else can run without its tools.", file=sys.stderr)
    return summary(outcomes, time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
