# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ``ansible_collections.pachops.pachyderm`` importable for every test.

The ``ansible`` wheel ships an ``ansible_collections`` package of its own, so a plain ``sys.path`` entry would find
either that one or ours; ansible-core's collection loader joins them, as it does at run time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

ROOT = Path(__file__).resolve().parent.parent
COLLECTIONS = ROOT / ".cache" / "collections"


def pytest_configure() -> None:
    """Install ansible-core's collection loader with the checkout in front."""
    link = COLLECTIONS / "ansible_collections" / "pachops" / "pachyderm"
    if link.resolve() != ROOT:
        raise pytest.UsageError(f"{link} does not lead to this checkout. Run `make setup` first.")
    if AnsibleCollectionConfig.collection_finder is None:
        _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's root directory."""
    return ROOT
