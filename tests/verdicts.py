# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdicts of gates and tests that are pure functions of the checkout, so that the same input is not judged twice.

Only a pass is kept: its date, how many tests it was and the coverage that they measured, in files named by the command
and the digest of all that it depends on, in ``gates`` below /var/cache/pachops (PACHOPS_CACHE replaces that), and for a
week, since something may be missing below.  The digest covers

- every file of the checkout that git does not ignore: its name, content and mode; the locks are among them;
- what is installed in .venv, by the digests that its installer recorded, and the version of its Python;
- the programs of this host that they use where they find them, those that the local cluster's build left in its cache, and
  the variables of the environment that steer Ansible, pytest and Python;
- the command itself.

So whatever changes, the command runs again; ``PACHOPS_GATES=fresh`` makes it run in any case.  Never for what touches a
cluster, this host's network, or a server that it did not start itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

CACHE = Path(os.environ.get("PACHOPS_CACHE", "/var/cache/pachops")) / "gates"
KEPT = timedelta(days=7)
# Tests take etcd from here.
PROGRAMS = Path("/var/cache/pachops/programs")
STEERING = re.compile(r"(ANSIBLE|PYTEST|PYTHON|MYPY|RUFF|COVERAGE)")
# What is tested with where it is there: a host without one has not tested with it.  Not the browser: the test that wants
# one installs it, and all that passed before would have to pass again.
FOUND = (
    "python3.12",
    "python3.13",
    "shellcheck",
    "apt-get",
    "go",
    "openssl",
    "sha256sum",
    "systemd-analyze",
    "zstd",
)
# What an installer notes of itself, or of this very environment, and not of what it installed.
UNTOLD = re.compile(rb"\.\./|\S*\.dist-info/(INSTALLER|REQUESTED|direct_url\.json|RECORD),|\S*\.pyc,")


def digest(root: Path, argv: Sequence[str]) -> str | None:
    """Return the digest of all that the command ``argv`` depends on in the checkout ``root``; None without git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=root,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    names = sorted({os.fsdecode(name) for name in listed.split(b"\0") if name})
    if not names:
        return None
    total = hashlib.sha256()
    for part in (*_command(root, argv), *_files(root, names), *_installed(root), *_host()):
        # The length keeps two parts from looking like two others.
        total.update(b"%d:%s" % (len(part), part))
    return total.hexdigest()


@dataclass(frozen=True)
class Verdict:
    """When it passed, and how many tests passed and were skipped."""

    on: str
    passed: int
    skipped: int


def passed(name: str, digest: str | None, coverage: Path | None = None) -> Verdict | None:
    """Return the verdict for this digest, or None where there is none, it is old, or the command is to run in any case.

    :param coverage: file that gets the coverage data that was kept with it; without them it does not count.
    """
    if digest is None or os.environ.get("PACHOPS_GATES") == "fresh":
        return None
    try:
        kept = _verdict(name, digest)
        if datetime.now(timezone.utc) - datetime.fromtimestamp(kept.stat().st_mtime, timezone.utc) > KEPT:
            return None
        verdict = Verdict(**json.loads(kept.read_text(encoding="utf-8")))
        if coverage:
            coverage.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_data(kept), coverage)
        return verdict
    except (OSError, TypeError, ValueError):
        return None


def keep(name: str, digest: str | None, passed: int = 1, skipped: int = 0, coverage: Path | None = None) -> None:
    """Keep that the command passed; a cache that cannot be written only costs the next run its time."""
    if digest is None:
        return
    kept = _verdict(name, digest)
    on = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    with contextlib.suppress(OSError):
        CACHE.mkdir(parents=True, exist_ok=True)
        half = kept.with_name(f".{kept.name}.{os.getpid()}")
        if coverage:
            shutil.copyfile(coverage, half)
            half.rename(_data(kept))
        half.write_text(json.dumps({"on": on, "passed": passed, "skipped": skipped}), encoding="utf-8")
        half.rename(kept)
        oldest = (datetime.now(timezone.utc) - KEPT).timestamp()
        for each in CACHE.iterdir():
            if each.stat().st_mtime < oldest:
                each.unlink()


def _data(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.coverage")


def _verdict(name: str, digest: str) -> Path:
    return CACHE / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{digest}"


def _command(root: Path, argv: Sequence[str]) -> Iterator[bytes]:
    # Another checkout with the same content gives the same verdict.
    for argument in argv:
        yield argument.replace(str(root), ".").encode()


def _files(root: Path, names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        path = root / name
        yield os.fsencode(name)
        if path.is_symlink():
            yield b"link " + os.fsencode(path.readlink())
        elif path.is_file():
            yield b"%d " % (path.stat().st_mode & 0o111) + hashlib.sha256(path.read_bytes()).digest()
        else:
            yield b"absent"


def _installed(root: Path) -> Iterator[bytes]:
    for settings in sorted((root / ".venv").glob("pyvenv.cfg")):
        yield from re.findall(rb"(?m)^version(?:_info)? *= *(.*)$", settings.read_bytes())
    for about in sorted((root / ".venv").glob("lib/python*/site-packages/*.dist-info")):
        yield about.name.encode()
        with contextlib.suppress(OSError):
            lines = (about / "RECORD").read_bytes().splitlines()
            yield b"\n".join(sorted(line for line in lines if not UNTOLD.match(line)))


def _host() -> Iterator[bytes]:
    yield f"{platform.python_version()} {platform.platform()} user {os.geteuid()}".encode()
    for name in FOUND:
        yield str(shutil.which(name)).encode()
    for places in ((Path.home() / ".pyenv" / "versions").glob("3.*"), PROGRAMS.glob("*")):
        yield from sorted(str(path).encode() for path in places)
    for name, value in sorted(os.environ.items()):
        if STEERING.match(name):
            yield f"{name}={value}".encode()
