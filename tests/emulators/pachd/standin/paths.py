# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which paths and patterns pachd takes, with its own words for those that it refuses (src/server/pkg/path)."""

from __future__ import annotations

import re

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import paths
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.paths import (
    clean,
    globbing_character,
    go_clean,
    is_glob,
)

from .errors import PachError

__all__ = ["check_file_path", "clean", "glob", "go_clean", "is_glob", "join", "validate"]

_PRINTABLE = re.compile(r"[ -~]+")


def join(*parts: str) -> str:
    """Return what Go's path.Join gives: empty parts are left out, the rest is cleaned."""
    kept = [part for part in parts if part]
    return go_clean("/".join(kept)) if kept else ""


def check_file_path(path: str) -> None:
    """Raise PachError when the path leaves the root."""
    if go_clean(path).startswith("../"):
        raise PachError(f"path ({go_clean(path)}) invalid: traverses above root")


def validate(path: str) -> None:
    """Raise PachError when a file of this path must not be written."""
    path = clean(path)
    if not _PRINTABLE.fullmatch(path):
        raise PachError(f"path ({path}) invalid: only printable ASCII characters allowed")
    found = globbing_character(path)
    if found:
        raise PachError(f"path ({path}) invalid: globbing character ({found}) not allowed in path")


def glob(pattern: str) -> re.Pattern[str]:
    """Return the pattern as a regular expression to be used with fullmatch."""
    try:
        return paths.glob(pattern)
    except InputError as error:
        raise PachError(str(error)) from error
