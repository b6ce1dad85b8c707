# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of single files into a repo and out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import files
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.files import Content, copy_in, copy_out, remote
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from doubles.kube import FakeKube, pod

TEXT = b"time,price\n1,2\n" * 1000


class FakePachd:
    """Files in a dict, with pachd 1.13's own words for what is missing."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.made: list[str] = []
        self.trouble = ""

    def repos(self) -> list[str]:
        return sorted({repo for repo, _branch, _path in self.files} | set(self.made))

    def create_repo(self, repo: str) -> None:
        self.made.append(repo)

    def put_file(self, repo: str, branch: str, path: str, content: IO[bytes]) -> None:
        self.files[(repo, branch, path)] = content.read()

    def get_file(self, repo: str, commit: str, path: str) -> Iterator[bytes]:
        if self.trouble:
            raise PachdError("pachd refused", why=self.trouble)
        content = self.files.get((repo, commit, path))
        if content is None:
            raise PachdError("pachd refused", why=f'file "{path}" not found')
        yield content[:7]
        yield content[7:]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "ticks.csv"
    path.write_bytes(TEXT)
    return path


def test_in_once_and_out_again(source: Path, tmp_path: Path) -> None:
    pachd: Any = FakePachd()
    expected = Content(hashlib.sha256(TEXT).hexdigest(), len(TEXT))
    assert copy_in(pachd, source, "ticks", "master", "/t", write=False) == (expected, True)
    assert pachd.made == []
    assert copy_in(pachd, source, "ticks", "master", "/t", write=True) == (expected, True)
    assert pachd.made == ["ticks"]
    assert copy_in(pachd, source, "ticks", "master", "/t", write=True) == (expected, False)
    back = tmp_path / "back.csv"
    assert copy_out(pachd, "ticks", "master", "/t", back, Progress(""), write=False) == (expected, True)
    assert not back.exists()
    assert copy_out(pachd, "ticks", "master", "/t", back, Progress(""), write=True) == (expected, True)
    assert back.read_bytes() == TEXT
    assert copy_out(pachd, "ticks", "master", "/t", back, Progress(""), write=True) == (expected, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.csv", "ticks.csv"]


def test_a_changed_file_is_written_again_and_keeps_its_mode_outside(source: Path, tmp_path: Path) -> None:
    pachd: Any = FakePachd()
    copy_in(pachd, source, "ticks", "master", "/t", write=True)
    source.write_bytes(b"other")
    assert copy_in(pachd, source, "ticks", "master", "/t", write=True)[1]
    back = tmp_path / "back.csv"
    back.write_bytes(b"old")
    back.chmod(0o640)
    copy_out(pachd, "ticks", "master", "/t", back, Progress(""), write=True)
    assert back.read_bytes() == b"other"
    assert back.stat().st_mode & 0o777 == 0o640


def test_what_is_missing_and_what_is_refused() -> None:
    pachd: Any = FakePachd()
    assert remote(pachd, "ticks", "master", "/t") is None
    pachd.trouble = "the branch \"master\" has no head (create one with 'start commit')"
    assert remote(pachd, "ticks", "master", "/t") is None
    pachd.trouble = "no authentication token"
    with pytest.raises(PachdError, match="no authentication token"):
        remote(pachd, "ticks", "master", "/t")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    pachd: Any = FakePachd()
    with pytest.raises(InputError, match="cannot be read"):
        copy_in(pachd, tmp_path / "nothing", "ticks", "master", "/t", write=True)
    with pytest.raises(InputError, match="directory does not exist"):
        copy_out(pachd, "ticks", "master", "/t", tmp_path / "no" / "t", Progress(""), write=True)
    with pytest.raises(PachdError, match="not found"):
        copy_out(pachd, "ticks", "master", "/t", tmp_path / "t", Progress(""), write=True)
    assert list(tmp_path.iterdir()) == [], "nothing half-written stays"


def test_the_connection_goes_to_the_ready_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    kube: Any = FakeKube([pod("ns", "pachd-1", "pachd", ready=False), pod("ns", "pachd-2", "pachd")])
    kube.forwarded = {("pachd-2", 653): ("127.0.0.1", 7)}
    seen: list[tuple[Any, ...]] = []

    class Pachd:
        def __init__(self, *address: Any, token: str) -> None:
            seen.append((*address, token))

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_error: object) -> None:
            seen.append(("closed",))

    monkeypatch.setattr(files, "Pachd", Pachd)
    with files.connected(kube, "ns", "t0ken"):
        pass
    assert seen == [("127.0.0.1", 7, "t0ken"), ("closed",)]
