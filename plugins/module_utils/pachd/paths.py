# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Paths and glob patterns of files in commits, as Pachyderm treats them.

Facts: ``src/server/pkg/path`` of v1.13.4 and the ohmyglob library that it uses.
"""

from __future__ import annotations

import functools
import posixpath
import re

from ..errors import InputError

_GLOB = re.compile(r"[*?\[\]{}!()@+^]")


def go_clean(path: str) -> str:
    """Return what Go's path.Clean gives: unlike Python's, two leading slashes become one."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def clean(path: str) -> str:
    """Return the canonical form: a leading slash and none at the end; the root is the empty string."""
    cleaned = go_clean("/" + path)
    return "" if cleaned == "/" else cleaned


def is_glob(pattern: str) -> bool:
    """Return whether the pattern has a globbing character."""
    return bool(_GLOB.search(clean(pattern)))


def globbing_character(path: str) -> str:
    """Return the first globbing character of ``path``, or the empty string."""
    found = _GLOB.search(path)
    return found[0] if found else ""


@functools.lru_cache(maxsize=1024)
def glob(pattern: str) -> re.Pattern[str]:
    """Return the pattern as a regular expression to be used with fullmatch.

    Known: * and ? (within one directory), **, [abc], [!abc], {a,b}, and the groups (a|b) with an optional @ ? * + or !
    before.

    :raises InputError: the pattern is malformed.
    """
    result, closers = _translated(pattern)
    if closers:
        raise InputError("unexpected end of input")
    try:
        return re.compile(result, re.DOTALL)
    except re.error as error:
        raise InputError(f"malformed glob {pattern!r}: {error}") from error


def _translated(pattern: str) -> tuple[str, list[str]]:  # noqa: C901 one branch per character of the language
    result, position = "", 0
    closers: list[str] = []
    while position < len(pattern):
        char, rest = pattern[position], pattern[position + 1 :]
        position += 1
        if char == "\\" and rest:
            result += re.escape(rest[0])
            position += 1
        elif char in "@?*+!" and rest.startswith("("):
            result += "(?!" if char == "!" else "(?:"
            closers.append(")[^/]*" if char == "!" else {"@": ")", "?": ")?", "*": ")*", "+": ")+"}[char])
            position += 1
        elif char == "(":
            result += "("
            closers.append(")")
        elif char == ")" and closers:
            result += closers.pop()
        elif char == "|" and closers:
            result += "|"
        elif char == "*":
            if rest.startswith("*"):
                result += ".*"
                position += len(rest) - len(rest.lstrip("*"))
            else:
                result += "[^/]*"
        elif char == "?":
            result += "[^/]"
        elif char == "[":
            if "]" not in rest:
                raise InputError("unexpected end of input")
            end = rest.index("]", 1 if rest.startswith("!") else 0)
            body = rest[:end].replace("\\", "\\\\")
            result += "[" + ("^" + body[1:] if body.startswith(("!", "^")) else body) + "]"
            position += end + 1
        elif char == "{":
            result += "(?:"
            closers.append("}")
        elif char == "}" and closers and closers[-1] == "}":
            closers.pop()
            result += ")"
        elif char == "," and "}" in closers:
            result += "|"
        else:
            result += re.escape(char)
    return result, closers
