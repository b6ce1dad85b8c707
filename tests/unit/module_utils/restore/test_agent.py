# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent on an etcd volume does with a snapshot that arrives damaged."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import agent

SNAPSHOT = os.urandom(300_000)


def framed(data: bytes, piece: int = 65536) -> io.BytesIO:
    chunks = [data[place : place + piece] for place in range(0, len(data), piece)]
    return io.BytesIO(b"".join(struct.pack(">I", len(chunk)) + chunk for chunk in [*chunks, b""]))


def receive(root: Path, data: bytes) -> None:
    request = {
        "id": "r",
        "do": "receive",
        "zstd": True,
        "size": len(SNAPSHOT),
        "sha256": hashlib.sha256(SNAPSHOT).hexdigest(),
    }
    agent.answer(request, framed(data), str(root))


def test_a_snapshot_arrives(tmp_path: Path) -> None:
    receive(tmp_path, zstandard.compress(SNAPSHOT))
    (received,) = tmp_path.rglob("etcd.snapshot")
    assert received.read_bytes() == SNAPSHOT


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"no zstd at all" * 10_000,
        lambda whole: whole[:100_000] + bytes(100_000) + whole[200_000:],
        lambda whole: whole[:-1000],
        lambda whole: zstandard.compress(SNAPSHOT + b"more"),
    ],
    ids=["another format", "zeros", "cut", "longer"],
)
def test_a_damaged_one_is_refused_and_leaves_nothing(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(agent.Refused, match="arrived damaged"):
        receive(tmp_path, damage(zstandard.compress(SNAPSHOT)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
