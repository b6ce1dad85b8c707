# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Try out a bucket before pachd does, with the credentials that pachd will have, and say what is missing.

pachd writes, reads and deletes an object of its own at each start, reads one that does not exist, and exits when any of
that fails (``src/server/pkg/obj/obj.go`` of v1.13.4); its log then has the SDK's words.  The probe does the same, one
verb after the other, and goes on after a failure, so that one run names every missing permission.
"""

from __future__ import annotations

import abc
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import StorageError
from ..findings import Finding, error, errors, ok
from .keys import Spelling, detect

CONTENT = b"pachops.pachyderm probe; this object can be deleted\n"
# A reversed key has no common prefix, so finding one means reading the listing; this many keys are looked at.
SCAN = 10_000
_PREFIXES = ("/pach/", "pach/", "block/", "object/", "tag/", "index/")


class Refused(Exception):
    """A store's refusal, with what a finding needs.

    :param kind: ``denied``, ``missing``, ``bucket``, ``region``, ``clock``, ``credentials``, ``tls``, ``unreachable``
        or ``other``.
    """

    def __init__(self, kind: str, found: str, fix: str) -> None:
        super().__init__(found)
        self.kind, self.found, self.fix = kind, found, fix


class Target(abc.ABC):
    """A bucket as the probe sees it; every method raises :class:`Refused`."""

    #: Verb of the probe -> permission that the store asks for.
    permissions: dict[str, str]
    where: str

    @abc.abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Store an object as pachd does."""

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """Return an object's content."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object."""

    @abc.abstractmethod
    def list(self, prefix: str, limit: int) -> Iterator[str]:
        """Yield at most ``limit`` keys that begin with the prefix."""


@dataclass
class Result:
    """What was found.

    :param spelling: None for a bucket without Pachyderm's objects.
    :param denied: the permissions that are missing.
    """

    findings: list[Finding] = field(default_factory=list)
    spelling: Spelling | None = None
    denied: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether pachd can use the bucket."""
        return not errors(self.findings)


def probe(target: Target, expected: Spelling | None, *, read_only: bool = False) -> Result:
    """Try every verb.

    :param expected: the spelling that the installation is configured for; None to accept any one.
    :param read_only: leave out what writes.
    """
    result = Result()
    key = f"pachops-probe-{uuid.uuid4().hex}"
    # What no other verb could do better ends the probe: without a bucket or a connection, the rest is noise.
    if not _attempt(result, target, "list", lambda: list(target.list("", 1))):
        return result
    _attempt(result, target, "read-missing", lambda: _expect_missing(target, key))
    if not read_only:
        if _attempt(result, target, "write", lambda: target.write(key, CONTENT)):
            _attempt(result, target, "read", lambda: _expect_content(target, key))
        # Also where the write seems to have failed: its answer may have got lost.
        _attempt(result, target, "delete", lambda: target.delete(key))
    if not any(item.check == "bucket-list" for item in errors(result.findings)):
        _judge_spelling(result, target, expected)
    return result


def _attempt(result: Result, target: Target, verb: str, act: Callable[[], object]) -> bool:
    """Do one verb; False where going on makes no sense (or, for a write, where it failed)."""
    check = f"bucket-{verb}"
    try:
        act()
    except Refused as refusal:
        found, fix = refusal.found, refusal.fix
        if refusal.kind == "denied":
            permission = target.permissions[verb]
            result.denied.append(permission)
            found = f"{permission} is denied on {target.where}"
            if verb == "read-missing":
                found = f"reading an object that does not exist is denied on {target.where}: {permission} is missing"
            fix = fix or f"Grant {permission} to the identity that pachd uses."
        result.findings.append(error(check, found, f"pachd can {verb.replace('-', ' ')}", fix))
        return refusal.kind in ("denied", "missing", "other") and verb != "write"
    result.findings.append(ok(check, f"can {verb.replace('-', ' ')} on {target.where}"))
    return True


def _expect_missing(target: Target, key: str) -> None:
    try:
        target.read(f"{key}-missing")
    except Refused as refusal:
        if refusal.kind != "missing":
            raise
    else:
        raise Refused("other", "an object that was never written could be read", "Check what answers at the endpoint.")


def _expect_content(target: Target, key: str) -> None:
    content = target.read(key)
    if content != CONTENT:
        raise Refused(
            "other",
            f"{len(content)} other bytes came back than the {len(CONTENT)} that were written",
            "Check what answers at the endpoint, a cache for instance.",
        )


def _judge_spelling(result: Result, target: Target, expected: Spelling | None) -> None:
    """Compare the spelling of the keys that are there with the configured one."""
    try:
        samples = itertools.chain.from_iterable(target.list(prefix, 10) for prefix in _PREFIXES)
        result.spelling = detect(itertools.chain(samples, target.list("", SCAN)))
    except Refused as refusal:
        result.findings.append(error("bucket-spelling", refusal.found, "a listing", refusal.fix))
    except StorageError as mixture:
        result.findings.append(error("bucket-spelling", f"{mixture.what}: {mixture.why}", "one spelling", mixture.fix))
    else:
        result.findings.append(_spelling_finding(result.spelling, expected))


def _spelling_finding(found: Spelling | None, expected: Spelling | None) -> Finding:
    check = "bucket-spelling"
    if found is None:
        return ok(check, f"the bucket holds no objects of Pachyderm ({SCAN} keys looked at)")
    if expected is None or found is expected:
        return ok(check, f"the bucket's objects are spelt {found.value}")
    fixes = {
        Spelling.REVERSED: "Set reverse: true among the storage secret's tuning (storage_secret_tuning).",
        Spelling.PLAIN: "Set reverse: false among the storage secret's tuning (storage_secret_tuning).",
    }
    return error(
        check,
        f"the bucket's objects are spelt {found.value}, and the configuration says {expected.value}",
        f"objects spelt {expected.value}, or none: pachd would find nothing, and fail every pipeline for good",
        fixes.get(found, "Use the backend that wrote the objects, or copy them under their new names first."),
    )


def summarise(findings: Sequence[Finding]) -> str:
    """All errors in one message."""
    return "; ".join(f"{item.found}. {item.fix}".rstrip() for item in errors(findings))
