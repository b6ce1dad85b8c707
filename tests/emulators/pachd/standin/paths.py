# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths and glob patterns as Pachyderm treats them (src/server/pkg/path and the ohmyglob library)."""

from __future__ import annotations

import functools
import posixpath
import re

from .errors import PachError

_GLOB = re.compile(r"[*?\[\]{}!()@+^]")
_PRINTABLE = re.compile(r"[ -~]+")


def go_clean(path: str) -> str:
    """Return what Go's path.Clean gives: unlike Python's, two leading slashes become one."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def clean(path: str) -> str:
    """Return the canonical form: a leading slash and none at the end; the root is the empty string."""
    cleaned = go_clean("/" + path)
    return "" if cleaned == "/" else cleaned


def join(*parts: str) -> str:
    """Return what Go's path.Join gives: empty parts are left out, the rest is cleaned."""
    kept = [part for part in parts if part]
    return go_clean("/".join(kept)) if kept else ""


def is_glob(pattern: str) -> bool:
    """Return whether the pattern has a globbing character."""
    return bool(_GLOB.search(clean(pattern)))


def check_file_path(path: str) -> None:
    """Raise PachError when the path leaves the root."""
    if go_clean(path).startswith("../"):
        raise PachError(f"path ({go_clean(path)}) invalid: traverses above root")


def validate(path: str) -> None:
    """Raise PachError when a file of this path must not be written."""
    path = clean(path)
    if not _PRINTABLE.fullmatch(path):
        raise PachError(f"path ({path}) invalid: only printable ASCII characters allowed")
    found = _GLOB.search(path)
    if found:
        raise PachError(f"path ({path}) invalid: globbing character ({found[0]}) not allowed in path")


@functools.lru_cache(maxsize=1024)
def glob(pattern: str) -> re.Pattern[str]:
    """Return the pattern as a regular expression to be used with fullmatch.

    Known: * and ? (within one directory), **, [abc], [!abc], {a,b}, and the groups (a|b) with an optional @ ? * + or ! before.
    """
    result, position, closers = "", 0, []
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
                raise PachError("unexpected end of input")
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
    if closers:
        raise PachError("unexpected end of input")
    try:
        return re.compile(result, re.DOTALL)
    except re.error as error:
        raise PachError(f"malformed glob {pattern!r}: {error}") from error
