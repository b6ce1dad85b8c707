# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks share; importing it makes the doubles and servers of the tests importable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]
sys.path[:0] = TESTS
KUBECONFIG = os.environ.get("KUBECONFIG") or "/var/lib/pachops/pachops/kubeconfig"


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds ``action`` took."""
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def environment(server: Any) -> dict[str, str]:
    """Return an environment in which aws and rclone (as ``s:``) reach an S3 server."""
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_REGION": server.region,
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_S_TYPE": "s3",
        "RCLONE_CONFIG_S_PROVIDER": "Other",
        "RCLONE_CONFIG_S_ENDPOINT": server.address,
        "RCLONE_CONFIG_S_REGION": server.region,
        # With AWS_* alone rclone asks for checksums that it cannot send without TLS.
        "RCLONE_CONFIG_S_ACCESS_KEY_ID": server.key,
        "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": server.secret,
    }


def clear(place: Path, bucket: str) -> None:
    """Make or empty a bucket of the S3 server in ``place``, behind its back, so that disks do not fill up."""
    for part in ("buckets", "metadata"):
        shutil.rmtree(place / part / bucket, ignore_errors=True)
    (place / "buckets" / bucket).mkdir()


def play(name: str, namespace: str, **variables: Any) -> str:
    """Run one of the collection's playbooks in the local cluster, and return what it said."""
    given = {"kubeconfig": KUBECONFIG, "pachyderm_namespace": namespace, **variables}
    program = Path(sys.executable).parent / "ansible-playbook"
    command = [str(program), str(ROOT / "playbooks" / f"{name}.yml"), "--extra-vars", json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-4000:] + done.stderr[-1000:])
    return done.stdout
