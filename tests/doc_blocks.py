# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code blocks in README.md and docs/, and what is to be done with each.

Data and programs (yaml, json, ini, python, jinja) are parsed by a test as they stand.  A shell block says in an HTML
comment on the line before it, which no reader sees, what makes sure that it works::

    <!-- block: run -->            a test runs it from the checkout's root, without a cluster
    <!-- block: e2e -->            a test runs it from the checkout's root on the local cluster, in the document's order
    <!-- block: scenario NAME/PART -->   the molecule scenario NAME runs it by tests/runbook.yml, as its PART
    <!-- block: ci -->             nothing but commands that CI itself runs, such as `make test`
    <!-- block: shown REASON -->   nothing runs it, for the stated reason

The same comment may exempt another block from parsing (``shown``).  Trees and output are ``text``.
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHELL = ("bash", "sh", "console", "shell")
DATA = ("yaml", "json", "ini", "python", "jinja")
OTHER = ("text", "diff", "{toctree}")
_FENCE = re.compile(
    r"^(?P<comment>[ ]*<!--\s*block:\s*(?P<kind>\w+)(?:\s+(?P<reason>.*?))?\s*-->[ ]*\n)?"
    r"^(?P<indent>[ ]*)(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    document: str
    line: int
    language: str
    kind: str
    reason: str
    body: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """Return the documents that users read."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def blocks() -> list[Block]:
    """Return the fenced blocks of all documents in their order."""
    found = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        found += [
            Block(
                document=str(path.relative_to(ROOT)),
                line=text.count("\n", 0, match.start("indent")) + 1,
                language=match["language"].strip().split(" ")[0],
                kind=match["kind"] or "",
                reason=match["reason"] or "",
                body=textwrap.dedent(match["body"]),
            )
            for match in _FENCE.finditer(text)
        ]
    return found


def scenario(part: str) -> Block:
    """Return the block that a scenario runs as ``NAME/PART``."""
    return next(block for block in shell("scenario") if block.reason == part)


def shell(kind: str) -> list[Block]:
    """Return the shell blocks of one kind."""
    return [block for block in blocks() if block.language in SHELL and block.kind == kind]


if __name__ == "__main__":
    sys.stdout.write(scenario(sys.argv[1]).body)
