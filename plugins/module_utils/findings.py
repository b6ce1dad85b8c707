# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What a check found: one type for the preflight, the doctor and the acceptance of a deployment.

A check never stops at the first trouble.  It returns findings, each with what was found, what is wanted and how to get
there, so that one run tells a person everything that has to be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["ok", "warning", "error"]

_ORDER: dict[str, int] = {"error": 0, "warning": 1, "ok": 2}
_MARK: dict[str, str] = {"ok": "✔", "warning": "!", "error": "✗"}


@dataclass(frozen=True)
class Finding:
    """One answer of one check.

    :param check: stable, hyphenated name of the check ("default-storage-class"); programs match on it.
    :param severity: ``ok``, ``warning`` (works, but not as it should) or ``error`` (will not work).
    :param found: what is there, with the value seen.
    :param wanted: what should be there.
    :param fix: the next step, as an imperative sentence; empty where nothing is to be done.
    """

    check: str
    severity: Severity
    found: str
    wanted: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as a module returns it: ``check``, ``severity``, ``found``, ``wanted``, ``fix``."""
        return asdict(self)


def ok(check: str, found: str, wanted: str = "") -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check, "ok", found, wanted)


def warning(check: str, found: str, wanted: str, fix: str) -> Finding:
    """Return a finding that does not stand in the way."""
    return Finding(check, "warning", found, wanted, fix)


def error(check: str, found: str, wanted: str, fix: str) -> Finding:
    """Return a finding that has to be put right first."""
    return Finding(check, "error", found, wanted, fix)


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings of severity ``error``."""
    return [finding for finding in findings if finding.severity == "error"]


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the gravest severity among ``findings``; ``ok`` when there are none."""
    return min((finding.severity for finding in findings), key=_ORDER.__getitem__, default="ok")


def summary(findings: Sequence[Finding]) -> str:
    """Return one line: how many checks ran, and how they ended."""
    count = {severity: sum(1 for finding in findings if finding.severity == severity) for severity in _ORDER}
    return f"{len(findings)} checks: {count['error']} errors, {count['warning']} warnings, {count['ok']} ok"


def table(findings: Iterable[Finding]) -> list[str]:
    """Return the findings as lines for a person, the gravest first, each with found, wanted and fix.

    A finding that is ok takes one line; the others take one line per part, aligned behind the check's name.
    """
    ordered = sorted(findings, key=lambda finding: _ORDER[finding.severity])
    width = max((len(finding.check) for finding in ordered), default=0)
    lines: list[str] = []
    for finding in ordered:
        head = f"{_MARK[finding.severity]} {finding.check:<{width}}  "
        if finding.severity == "ok":
            lines.append(f"{head}{finding.found}")
            continue
        parts = [("found", finding.found), ("wanted", finding.wanted), ("fix", finding.fix)]
        for name, text in [(name, text) for name, text in parts if text]:
            for number, line in enumerate(text.splitlines()):
                label = f"{name + ':':<8}" if number == 0 else " " * 8
                lines.append(f"{head}{label}{line}".rstrip())
                head = " " * len(head)
    return lines
