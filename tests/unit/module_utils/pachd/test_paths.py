# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths and glob patterns as Pachyderm treats them."""

from __future__ import annotations

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import paths


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("", ""), ("/", ""), ("a", "/a"), ("//a//b/", "/a/b"), ("/a/./b/../c", "/a/c"), ("../a", "/a"), ("///", "")],
)
def test_paths_have_one_form(path: str, cleaned: str) -> None:
    assert paths.clean(path) == cleaned


def test_globbing_characters_are_seen() -> None:
    assert paths.is_glob("/a/*")
    assert not paths.is_glob("/a/b-c_d.e")
    assert paths.globbing_character("/a[b]") == "["
    assert paths.globbing_character("/ab") == ""


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("/*", ["/a", "/"], ["/a/b", ""]),
        ("/**", ["/a", "/a/b/c"], ["a"]),
        ("/?", ["/a"], ["/ab", "//"]),
        ("/[ab]x", ["/ax", "/bx"], ["/cx"]),
        ("/[!ab]x", ["/cx"], ["/ax"]),
        ("/[]]x".replace("[]]", "[a-c]"), ["/bx"], ["/dx"]),
        ("/{a,b}c", ["/ac", "/bc"], ["/c"]),
        ("/(a|b)", ["/a", "/b"], ["/c"]),
        ("/@(a|b)", ["/a"], ["/ab"]),
        ("/?(a)b", ["/b", "/ab"], ["/aab"]),
        ("/*(a)b", ["/b", "/aab"], ["/c"]),
        ("/+(a)b", ["/ab", "/aab"], ["/b"]),
        ("/!(a)", ["/b"], ["/a"]),
        ("/a\\*", ["/a*"], ["/ab"]),
        ("/a.b", ["/a.b"], ["/axb"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], other: list[str]) -> None:
    compiled = paths.glob(pattern)
    assert [each for each in [*matching, *other] if compiled.fullmatch(each)] == matching


@pytest.mark.parametrize("pattern", ["/[a", "/{a", "/(a", "/[z-a]"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match=r"unexpected end of input|malformed glob"):
        paths.glob(pattern)
