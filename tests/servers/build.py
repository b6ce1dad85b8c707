# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the servers that tests run against, from their published Go modules; each folder here has a pinned
go.mod whose tool directives name them.

Usage: python3 tests/servers/build.py [folder ...]   without a folder: all; prints where each program is, as JSON

Programs are kept in /var/cache/pachops/servers (PACHOPS_CACHE replaces /var/cache/pachops), under the digest of what they
were built from, so that a second call costs nothing.  Go is taken from PATH, else from the local cluster's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("PACHOPS_CACHE", "/var/cache/pachops"))


def go_program() -> str:
    """Return the Go tool.

    :raises SystemExit: there is none.
    """
    found = shutil.which("go") or next(map(str, sorted(CACHE.glob("go-*/bin/go"))), None)
    if not found:
        sys.exit("tests/servers/build.py: no Go here. Run `make cluster`, which installs one, or put go on PATH.")
    return found


def programs(folder: str) -> dict[str, str]:
    """Return the programs of a folder, name -> path, built if they are not there yet.

    :raises subprocess.CalledProcessError: the build failed; its output went to stderr.
    """
    source = HERE / folder
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((source / name).read_bytes())
    place = CACHE / "servers" / f"{folder}-{digest.hexdigest()[:12]}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with (place.parent / f".{folder}.lock").open("w") as lock:
            # Test processes run side by side; the second one finds what the first has built.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.is_dir():
                _build(source, place)
    return {item.name: str(item) for item in sorted(place.iterdir())}


def _build(source: Path, place: Path) -> None:
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOMODCACHE": str(CACHE / "go" / "mod"),
        "GOCACHE": str(CACHE / "go" / "build"),
    }
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".partial-") as directory:
        partial = Path(directory) / "programs"
        partial.mkdir()
        argv = [go_program(), "build", "-trimpath", "-ldflags=-s -w", "-o", f"{partial}/", "tool"]
        sys.stderr.write(f"building {source.name}\n")
        subprocess.run(argv, cwd=source, env=environment, check=True, stdout=sys.stderr)
        partial.rename(place)


def main() -> None:
    """Build what the arguments name."""
    folders = sys.argv[1:] or sorted(item.parent.name for item in HERE.glob("*/go.mod"))
    sys.stdout.write(json.dumps({folder: programs(folder) for folder in folders}, indent=2) + "\n")


if __name__ == "__main__":
    main()
