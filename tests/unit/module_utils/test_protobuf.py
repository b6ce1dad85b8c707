# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared messages: the same bytes as generated ones, and no collision with them."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.protobuf import declare


def test_a_declaration_writes_what_generated_code_writes() -> None:
    from python_pachyderm.proto.pfs import pfs_pb2

    declared = declare(
        "pfs",  # the generated file's own package: each declaration has a pool of its own
        {
            "Block": [("hash", 1, "string")],
            "ByteRange": [("lower", 1, "uint64"), ("upper", 2, "uint64")],
            "BlockRef": [("block", 1, "Block"), ("range", 2, "ByteRange")],
        },
    )
    ours = declared["BlockRef"](block={"hash": "b"}, range={"lower": 3, "upper": 2**63})
    theirs = pfs_pb2.BlockRef(block=pfs_pb2.Block(hash="b"), range=pfs_pb2.ByteRange(lower=3, upper=2**63))
    assert ours.SerializeToString() == theirs.SerializeToString()
    assert pfs_pb2.BlockRef.FromString(ours.SerializeToString()) == theirs


def test_repeated_fields_and_oneofs() -> None:
    declared = declare(
        "test",
        {
            "One": [("text", 1, "string", "kind"), ("number", 2, "int64", "kind")],
            "Many": [("ones", 1, "repeated One"), ("names", 2, "repeated string")],
        },
    )
    one = declared["One"](text="x")
    one.number = 3
    assert one.WhichOneof("kind") == "number"
    many = declared["Many"](ones=[one, one], names=["a", "b"])
    again = declared["Many"].FromString(many.SerializeToString())
    assert [each.number for each in again.ones] == [3, 3]
    assert list(again.names) == ["a", "b"]


def test_a_missing_library_is_an_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(InputError, match="protobuf is missing"):
        declare("test", {})
