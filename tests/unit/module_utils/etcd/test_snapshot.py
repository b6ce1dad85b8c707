# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot's stream: every way in which it may be damaged is found where it happened."""

from __future__ import annotations

import hashlib
import random

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.snapshot import SnapshotStream, parse
from ansible_collections.pachops.pachyderm.plugins.module_utils.protobuf import declare

MESSAGES = declare(
    "test.snapshot",
    {
        "Header": [("cluster_id", 1, "uint64"), ("member_id", 2, "uint64")],
        "Answer": [
            ("header", 1, "Header"),
            ("remaining_bytes", 2, "uint64"),
            ("blob", 3, "bytes"),
            ("version", 4, "string"),
        ],
    },
)
DATABASE = random.Random(5).randbytes(100_000)


def answer(blob: bytes, remaining: int, **fields: object) -> bytes:
    return bytes(MESSAGES["Answer"](remaining_bytes=remaining, blob=blob, **fields).SerializeToString())


def stream(size: int = 32_768, database: bytes = DATABASE, **fields: object) -> list[bytes]:
    parts = [database[at : at + size] for at in range(0, len(database), size)]
    left = len(database)
    messages = []
    for part in parts:
        left -= len(part)
        messages.append(answer(part, left, **fields))
    return [*messages, answer(hashlib.sha256(database).digest(), 0)]


def test_the_content_is_the_database_and_its_digest() -> None:
    checked = SnapshotStream(stream(), "etcd")
    assert b"".join(checked) == DATABASE + hashlib.sha256(DATABASE).digest()
    assert checked.total == checked.done == len(DATABASE) + 32


def test_fields_of_newer_servers_are_passed_over() -> None:
    messages = stream(version="3.6.0", header=MESSAGES["Header"](cluster_id=2**63, member_id=1))
    assert len(b"".join(SnapshotStream(messages, "etcd"))) == len(DATABASE) + 32


@pytest.mark.parametrize(
    ("name", "messages", "at"),
    [
        ("nothing", [], 0),
        ("one message only", stream()[:1], 32_768),
        ("a message lost at the start", stream()[1:], 67_232),
        ("a message lost in the middle", [*stream()[:1], *stream()[2:]], 32_768),
        ("a message lost before the trailer", [*stream()[:-2], stream()[-1]], 98_304),
        ("no trailer", stream()[:-1], 100_000),
        ("half a trailer", [*stream()[:-1], answer(bytes(16), 0)], 100_016),
        ("a message twice", [*stream()[:2], *stream()[1:]], 65_536),
        ("two messages in the wrong order", [stream()[0], stream()[2], stream()[1], *stream()[3:]], 32_768),
        ("bytes behind the trailer", [*stream(), answer(b"x", 0)], 100_033),
        ("another trailer", [*stream()[:-1], answer(bytes(32), 0)], 100_000),
        ("no message at all", [*stream()[:2], b"\x18\xff"], 65_536),
        ("a message cut short", [stream()[0], stream()[1][:-5]], 32_768),
    ],
)
def test_damage_is_told_with_its_place(name: str, messages: list[bytes], at: int) -> None:
    with pytest.raises(EtcdError, match=f"etcd-0.*at byte {at}:"):
        list(SnapshotStream(messages, "etcd-0"))


def test_a_flipped_bit_anywhere_is_found() -> None:
    database = DATABASE[:3000]
    generator = random.Random(7)
    for _unused in range(300):
        messages = stream(1024, database)
        number = generator.randrange(len(messages))
        damaged = bytearray(messages[number])
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        messages[number] = bytes(damaged)
        try:
            content = b"".join(SnapshotStream(messages, "etcd"))
        except EtcdError:
            continue
        # Some bits say nothing: an unknown field's number, or the length of one that is empty.
        assert content == database + hashlib.sha256(database).digest()


def test_the_digest_comes_last_so_that_nothing_unproven_is_complete() -> None:
    messages = [*stream()[:-1], answer(bytes(32), 0)]
    seen = []
    with pytest.raises(EtcdError):
        seen.extend(SnapshotStream(messages, "etcd"))
    assert len(b"".join(seen)) <= len(DATABASE)


def test_messages_are_read_as_the_library_reads_them() -> None:
    for remaining in (0, 1, 127, 128, 1 << 40):
        for size in (0, 1, 200, 32_768):
            blob = bytes(range(256)) * 128
            assert parse(answer(blob[:size], remaining), "etcd", 0) == (remaining, blob[:size])
