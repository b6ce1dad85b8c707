# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must never be in the repository: secrets, one machine's paths, hosts of package registries, binaries."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BINARIES_ALLOWED = ("tests/fixtures/",)
LARGEST = 1 << 20

# Spelled in parts, so that this file passes its own test.
PATTERNS = {
    "a developer's machine": r"/wo" + r"rk/|/home/(?!runner\b)[a-z]\w*/|/root/(?!\.kube)\w",
    "a registry's host": r"\b(py" + r"pi\.org|python" + r"hosted\.org|proxy\.gol" + r"ang\.org|sum\.gol" + r"ang\.org"
    r"|crat" + r"es\.io|registry\.np" + r"mjs\.org|deb\.deb" + r"ian\.org|repo1?\.ma" + r"ven\.[\w.]+)",
    "a private key": r"-----BEGIN ([A-Z]+ )?PRIV" + r"ATE KEY-----\s+[A-Za-z0-9+/=]{20}",
    "a cloud credential": r"\bAK" + r"IA[0-9A-Z]{16}\b|\bAI" + r"za[0-9A-Za-z_-]{35}\b",
    "a token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bey" + r"J[\w-]{20,}\.ey" + r"J[\w-]{20,}\.",
}  # fmt: skip
# The identifier that Amazon's own documentation uses in every example.
HARMLESS = re.compile("AK" + "IAIOSFODNN7EXAMPLE")


def tracked() -> list[str]:
    """Return the files that are or could be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


TEXTS = {
    name: (ROOT / name).read_text(encoding="utf-8", errors="replace")
    for name in tracked()
    if not name.startswith(BINARIES_ALLOWED)
}


@pytest.mark.parametrize("what", PATTERNS)
def test_nothing_private_is_in_a_file(what: str) -> None:
    pattern = re.compile(PATTERNS[what])
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(HARMLESS.sub("", line))
    ]
    assert not found


def test_files_are_text_of_moderate_size() -> None:
    assert not [name for name, text in TEXTS.items() if "\0" in text]
    assert not [name for name in TEXTS if (ROOT / name).stat().st_size > LARGEST]


def test_no_sanity_test_is_ignored() -> None:
    assert not list((ROOT / "tests" / "sanity").glob("ignore*"))


def test_the_changelog_names_what_is_new() -> None:
    """A release is described by fragments until antsibull-changelog turns them into its entry."""
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    released = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))["releases"]
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "changelogs" / "fragments").glob("*.yml")]
    assert texts or version in released
    text = "\n".join(texts) + str(released)
    roles = [path.name for path in (ROOT / "roles").iterdir() if path.is_dir()]
    playbooks = [path.stem for path in (ROOT / "playbooks").glob("*.yml")]
    assert not [name for name in roles + playbooks if name not in text]


def test_ansible_core_is_what_the_metadata_says() -> None:
    """The lock's ansible-core is one that meta/runtime.yml accepts."""
    from packaging.specifiers import SpecifierSet

    accepted = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    locked = re.search(r"^ansible-core==(.+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked
    assert SpecifierSet(accepted).contains(locked[1])


def test_both_locks_agree() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))

    assert pins("requirements.txt") <= pins("requirements-dev.txt")
