# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plugins: what their documentation promises has to be complete, and its examples have to be plays.

ansible-test's validate-modules compares options with the argument spec; these tests look at what it does not.
"""

from __future__ import annotations

import ast
import runpy
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FRAGMENTS = "pachops.pachyderm.attributes"
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
TASK_KEYWORDS = {
    "name", "register", "when", "loop", "loop_control", "vars", "delegate_to", "no_log", "become", "until", "retries",
    "delay", "changed_when", "failed_when", "check_mode", "diff", "module_defaults", "environment", "block", "rescue",
    "always", "notify", "run_once", "tags",
}  # fmt: skip


@cache
def documentation(module: str) -> dict[str, Any]:
    """Return a module's DOCUMENTATION, EXAMPLES and RETURN without importing it."""
    tree = ast.parse((ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8"))
    blocks = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }
    return {name: yaml.safe_load(text) for name, text in blocks.items()}


def fragments(module: str) -> list[str]:
    """Return the documentation fragments that a module extends."""
    found = documentation(module)["DOCUMENTATION"].get("extends_documentation_fragment", [])
    return [found] if isinstance(found, str) else list(found)


def test_action_group_has_every_module_that_asks_the_cluster() -> None:
    """Their connection is what `module_defaults` is good for; the others would refuse a kubeconfig."""
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    connecting = {"pachops.pachyderm.kube", "pachops.pachyderm.pachd"}
    members = [module for module in MODULES if connecting & {*fragments(module)}]
    assert members
    assert runtime["action_groups"] == {"pachyderm": members}
    assert members == [module for module in MODULES if f"{FRAGMENTS}.action_group" in fragments(module)]


@pytest.mark.parametrize("module", MODULES)
def test_attributes_are_stated(module: str) -> None:
    document = documentation(module)["DOCUMENTATION"]
    extended = fragments(module)
    assert FRAGMENTS in extended
    if {f"{FRAGMENTS}.full", f"{FRAGMENTS}.info_module"} & {*extended}:
        return
    stated = document.get("attributes", {})
    for name in ("check_mode", "diff_mode", "idempotent"):
        assert stated.get(name, {}).get("support") in ("full", "partial", "none", "N/A"), name
        if stated[name]["support"] == "partial":
            assert stated[name].get("details"), f"{name} is partial: in which way?"


def returned(values: dict[str, Any], where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every return value at every depth; a value's sample serves what it contains, too."""
    for name, value in values.items():
        yield f"{where}{name}", value
        inner = value.get("contains") or {}
        if "sample" in value:
            inner = {key: {"sample": None, **each} for key, each in inner.items()}
        yield from returned(inner, f"{where}{name}.")


@pytest.mark.parametrize("module", MODULES)
def test_return_values_have_samples(module: str) -> None:
    findings = []
    for name, value in returned(documentation(module)["RETURN"] or {}):
        top = "." not in name
        if not value.get("description") or not value.get("type") or (top and not value.get("returned")):
            findings.append(f"{name} lacks description, type or returned")
        if "sample" not in value and not value.get("contains"):
            findings.append(f"{name} has no sample")
    assert not findings


@pytest.mark.parametrize("module", MODULES)
def test_examples_use_full_names(module: str) -> None:
    examples = documentation(module)["EXAMPLES"]
    assert isinstance(examples, list)
    used = set()
    for task in examples:
        assert task.get("name"), task
        actions = set(task) - TASK_KEYWORDS
        assert all(action.count(".") == 2 for action in actions), f"{task['name']}: {sorted(actions)}"
        used |= actions
    assert f"pachops.pachyderm.{module}" in used


def test_examples_are_plays(tmp_path: Path) -> None:
    if not MODULES:
        pytest.fail("there are no modules")
    plays = [
        {"name": module, "hosts": "localhost", "gather_facts": False, "tasks": documentation(module)["EXAMPLES"]}
        for module in MODULES
    ]
    playbook = tmp_path / "examples.yml"
    playbook.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "--syntax-check", "-i", "localhost,", str(playbook)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("module", MODULES)
def test_examples_use_known_options(module: str) -> None:
    document = documentation(module)["DOCUMENTATION"]
    known = set(document.get("options", {}))
    for name in fragments(module):
        known |= set(fragment_options(name))
    for task in documentation(module)["EXAMPLES"]:
        given = task.get(f"pachops.pachyderm.{module}") or {}
        assert not [option for option in given if option not in known], task["name"]


def fragment_options(name: str) -> dict[str, Any]:
    """Return the options of one of this collection's documentation fragments."""
    _namespace, _collection, fragment, *part = name.split(".")
    made = runpy.run_path(str(ROOT / "plugins" / "doc_fragments" / f"{fragment}.py"))["ModuleDocFragment"]
    text = getattr(made, (part or ["DOCUMENTATION"])[0].upper(), None)
    if text:
        found: dict[str, Any] = yaml.safe_load(text).get("options") or {}
        return found
    pytest.fail(f"no documentation fragment {name}")


def test_both_sides_of_a_migration_are_documented_alike() -> None:
    """One text serves both, with and without the target."""
    sides = fragment_options("pachops.pachyderm.migrate")
    alone = fragment_options("pachops.pachyderm.migrate.source")
    assert sides["source"] == alone["source"]
    assert sides["source"]["suboptions"] == sides["target"]["suboptions"]
