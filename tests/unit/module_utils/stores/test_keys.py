# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key spellings: every canonical name survives the way to a key and back, in each spelling."""

from __future__ import annotations

import random
import uuid

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import (
    TREES,
    Spelling,
    detect,
    key_of,
    name_of,
    raw_key,
)

RANDOM = random.Random(20261122)
NAMES = [
    f"{tree}/{name}"
    for tree in TREES
    for name in (
        uuid.UUID(int=RANDOM.getrandbits(128)).hex,
        RANDOM.randbytes(64).hex(),
        f"{RANDOM.randbytes(16).hex()}-index",
        "pach/block/x",
        "a b?c=d&e/%2F/ü",
        "job-merge/" + RANDOM.randbytes(8).hex(),
    )
]


@pytest.mark.parametrize(
    ("spelling", "key"),
    [
        (Spelling.DIRECTORY, "block/0123"),
        (Spelling.SLASH, "/pach/block/0123"),
        (Spelling.PLAIN, "pach/block/0123"),
        (Spelling.REVERSED, "3210/kcolb/hcap"),
    ],
)
def test_keys_are_pachds(spelling: Spelling, key: str) -> None:
    assert key_of("block/0123", spelling) == key


@pytest.mark.parametrize("root", ["/pach", "/pach/", "/deep/root"])
@pytest.mark.parametrize("spelling", list(Spelling))
def test_every_name_comes_back(spelling: Spelling, root: str) -> None:
    keys = {key_of(name, spelling, root): name for name in NAMES}
    assert len(keys) == len(NAMES)
    for key, name in keys.items():
        assert name_of(key, spelling, root) == name
    assert detect(keys, root) is spelling


@pytest.mark.parametrize("spelling", [Spelling.SLASH, Spelling.PLAIN, Spelling.DIRECTORY])
def test_a_tree_is_a_prefix(spelling: Spelling) -> None:
    prefix = key_of("block/", spelling)
    assert all(key_of(name, spelling).startswith(prefix) == name.startswith("block/") for name in NAMES)


@pytest.mark.parametrize(
    "key", ["", "other", "pach/", "pach/block", "pach/block/", "pach/blocks/x", "backup/block/x", "/"]
)
def test_foreign_keys_are_no_content(key: str) -> None:
    assert name_of(key, Spelling.PLAIN) is None


@pytest.mark.parametrize("name", ["", "block", "blocks/x", "test/123", "/block/x"])
def test_names_outside_the_trees_are_refused(name: str) -> None:
    with pytest.raises(StorageError):
        key_of(name, Spelling.PLAIN)


def test_detection_ignores_what_is_not_content_and_refuses_a_mixture() -> None:
    assert detect(["readme.txt", "pach/blocks/x"]) is None
    assert detect(["readme.txt", "pach/tag/x"]) is Spelling.PLAIN
    with pytest.raises(StorageError, match="plain"):
        detect(["pach/tag/x", key_of("tag/y", Spelling.REVERSED)])


def test_other_objects_are_only_reversed() -> None:
    assert raw_key("test/abc", Spelling.REVERSED) == "cba/tset"
    assert raw_key("/test/abc", Spelling.SLASH) == "/test/abc"
