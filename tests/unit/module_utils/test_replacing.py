# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that change in one step."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.replacing import mode_of, replacing, usual_mode


def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path, 0o640, durable=True) as file:
        file.write(b"new")
        assert path.read_text() == "old"
        (partial,) = (each for each in tmp_path.iterdir() if each != path)
        assert partial.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_or_is_unwanted_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        file.write(b"%d" % (1 // 0))
    with replacing(path) as file:
        file.wanted = False
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "file"):
        pass


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert mode_of(path) == usual_mode()
    assert mode_of(path, 0o604) == 0o604
    path.write_text("")
    assert path.stat().st_mode & 0o777 == usual_mode()
    path.chmod(0o631)
    assert mode_of(path, 0o604) == 0o631
