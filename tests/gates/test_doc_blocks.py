# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every code block of README and docs is parsed, run, or says why not; see tests/doc_blocks.py for the convention."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import doc_blocks
import jinja2
import pytest
import yaml
from doc_blocks import ROOT, Block

BLOCKS = doc_blocks.blocks()
# What CI or its stages run in so many words.
CI_COMMANDS = {"make test", "make quickstart", "make lint", "make test-unit", "make test-integration", "make docs"}
ROLE_VARIABLE = re.compile(rf"({'|'.join(path.name for path in (ROOT / 'roles').iterdir() if path.is_dir())})_\w+")


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and block.kind != "shown"]


def test_blocks_are_found() -> None:
    assert len(BLOCKS) >= 4
    fences = sum(
        len(re.findall(r"^ *```+\S", path.read_text(encoding="utf-8"), re.MULTILINE)) for path in doc_blocks.documents()
    )
    assert len(BLOCKS) == fences, "a fence is not closed, or has no language"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_says_what_it_is(block: Block) -> None:
    assert block.language in (*doc_blocks.SHELL, *doc_blocks.DATA, *doc_blocks.OTHER), block.language
    if block.language in doc_blocks.SHELL:
        assert block.kind in ("run", "e2e", "ci", "scenario", "shown"), (
            "<!-- block: run|e2e|ci|scenario NAME/PART|shown REASON --> is missing before it"
        )
    else:
        assert block.kind in ("", "shown")
    if block.kind == "shown":
        assert len(block.reason) > 5, "why is it not run?"


@pytest.mark.parametrize("block", of(*doc_blocks.DATA), ids=str)
def test_data_block_is_valid(block: Block, tmp_path: Path) -> None:
    if block.language == "yaml":
        check_yaml(block.body, tmp_path)
    elif block.language == "json":
        json.loads(block.body)
    elif block.language == "ini":
        configparser.ConfigParser(allow_no_value=True, delimiters=("=",)).read_string(block.body)
    elif block.language == "python":
        ast.parse(block.body)
    else:
        jinja2.Environment(autoescape=True).parse(block.body)


def check_yaml(text: str, folder: Path) -> None:
    """Check plays and tasks with Ansible, and variables against the roles' declarations."""
    for document in yaml.safe_load_all(text):
        if isinstance(document, list) and all(isinstance(item, dict) for item in document):
            syntax_check(document, folder)
        elif isinstance(document, dict) and "apiVersion" not in document:
            assert not undeclared(document)


def syntax_check(items: list[dict[str, Any]], folder: Path) -> None:
    """Let Ansible parse plays, or tasks inside one; paths are those of the checkout."""
    plays: list[dict[str, Any]]
    are_plays = all("hosts" in item or any(key.endswith("import_playbook") for key in item) for item in items)
    plays = items if are_plays else [{"name": "Tasks", "hosts": "localhost", "tasks": items}]
    for play in plays:
        assert not undeclared(play.get("vars") or {})
        for key in [key for key in play if key.endswith("import_playbook")]:
            if (ROOT / str(play[key])).exists():
                play[key] = str(ROOT / play[key])
    playbook = folder / "block.yml"
    playbook.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "--syntax-check", "-i", "localhost,", str(playbook)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def undeclared(variables: dict[str, Any]) -> list[str]:
    """Return the variables that look like a role's but are none."""
    declared = set()
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        declared |= {name for spec in specs.values() for name in spec.get("options", {})}
    return [name for name in variables if ROLE_VARIABLE.fullmatch(str(name)) and name not in declared]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in doc_blocks.SHELL], ids=str)
def test_shell_block_works(block: Block) -> None:
    assert not undeclared(dict.fromkeys(re.findall(r"\b(\w+)=", block.body)))
    if block.kind == "ci":
        assert not [line for line in block.body.splitlines() if line not in CI_COMMANDS]
    if block.kind != "run":
        return
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.body],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("block", doc_blocks.shell("scenario"), ids=str)
def test_a_scenario_runs_what_a_runbook_says(block: Block) -> None:
    scenario = ROOT / "molecule" / block.reason.partition("/")[0]
    assert scenario.is_dir(), block.reason
    texts = [path.read_text(encoding="utf-8") for path in scenario.glob("**/*.yml")]
    assert any(re.search(rf"runbook_part: {re.escape(block.reason)}$", text, re.MULTILINE) for text in texts)


@pytest.mark.parametrize("document", doc_blocks.documents(), ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:|#", link)]
    assert not [link for link in links if link and not (document.parent / link).exists()]


def test_tests_that_documents_name_exist() -> None:
    named = {name for path in doc_blocks.documents() for name in re.findall(r"`(test_\w+)`", path.read_text())}
    assert named
    written = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert named <= written
