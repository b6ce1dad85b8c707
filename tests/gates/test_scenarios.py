# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every step that a molecule scenario names is really run: molecule only warns about a playbook that it cannot find."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(ROOT.glob("molecule/*/molecule.yml"))
SHARED = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text(encoding="utf-8"))
# Steps with a playbook of their own name; the others (check, idempotence) run converge.yml.
OWN_PLAYBOOK = {"cleanup", "converge", "prepare", "side_effect", "verify"}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_every_step_has_its_playbook(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    given = config.get("provisioner", {}).get("playbooks", {})
    named = "test_sequence" in config.get("scenario", {})
    sequence = (config if named else SHARED)["scenario"]["test_sequence"]
    missing = []
    for entry in sequence:
        step, *files = entry.split()
        if step not in OWN_PLAYBOOK:
            continue
        # With a file named, molecule still passes the step over unless its default playbook exists too.
        wanted = [given.get(step, f"{step}.yml"), *files]
        missing += [f"{entry}: {file}" for file in wanted if named and not (path.parent / file).exists()]
    assert not missing


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_what_prepares_is_destroyed(path: Path) -> None:
    """Else molecule remembers that it prepared, and leaves that out in the next run from the same folder."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    sequence = config.get("scenario", {}).get("test_sequence", SHARED["scenario"]["test_sequence"])
    if "prepare" in sequence and (path.parent / "prepare.yml").exists():
        assert sequence.index("destroy") < sequence.index("prepare")
        assert sequence[-1] == "destroy"
        assert config["provisioner"]["playbooks"]["destroy"] == "cleanup.yml"


def test_there_are_scenarios() -> None:
    assert SCENARIOS
