# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups against the tools that users have, on the same data, server and machine, in one run.

Usage: benchmarks/run backup.py [--runs 5] [--etcd-mib 1024] [--objects 50000] [--object-kb 20] [--blocks 250]

* etcd to S3: one process of the engine that streams, against ``etcdctl snapshot save`` followed by ``aws s3 cp``.
* objects to S3: the first copy and one that finds nothing new, against ``rclone copy`` and ``rclone sync`` where rclone
  is installed.

etcd is the local cluster's, the S3 server versitygw, both on loopback.  Wanted: etcd at most 0.7 of the tools' time
with at most 200 MB of memory; objects no slower than rclone, and at most 0.3 of it where nothing is new.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

ONE = """
import resource, sys
sys.path[:0] = {paths!r}
from conftest import pytest_configure
pytest_configure()
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin, Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import Source
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access, open_location
access = Access(region={region!r}, endpoint={address!r}, access_key={key!r}, secret_key={secret!r})
with EtcdClient({etcd!r}, timeout=120) as etcd:
    origin = Origin(etcd, DirectoryStore({source!r}), [Spelling.DIRECTORY], Source("local", ""))
    back_up(origin, open_location({location!r}, access), Wishes())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds ``action`` took."""
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def report(what: str, ours: list[float], theirs: list[float], wanted: float, note: str = "") -> None:
    """Print one line: both medians, and their ratio."""
    mine, other = statistics.median(ours), statistics.median(theirs) if theirs else float("nan")
    print(f"{what:34} {mine:8.2f} s  {other:8.2f} s  ratio {mine / other:5.2f} (wanted ≤ {wanted})  {note}", flush=True)


def fill(address: str, mib: int) -> None:
    """Put ``mib`` MiB into an etcd, of what Pachyderm's metadata consist of: random ids in hexadecimal digits."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient

    with EtcdClient(address, timeout=60) as etcd:
        etcd.put(b"cluster-id", b"benchmark")
        for number in range(mib):
            etcd.put(b"value/%d" % number, os.urandom(1 << 19).hex().encode())


def main() -> None:
    """Run what the arguments ask for."""
    from conftest import pytest_configure

    pytest_configure()
    from doubles.etcd import running
    from servers import s3

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--etcd-mib", type=int, default=1024)
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--object-kb", type=int, default=20)
    parser.add_argument("--only", choices=["etcd", "objects"], default="")
    parser.add_argument("--blocks", type=int, default=250, help="blocks of 8 MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pachops-bench-") as name:
        place = Path(name)
        quota = str((options.etcd_mib + 512) << 21)
        flags = ("--quota-backend-bytes", quota, "--max-request-bytes", "52428800")
        with s3.running(place / "s3") as server, running(place / "etcd", *flags) as etcd:
            for bucket in ("ours", "theirs"):
                (place / "s3" / "buckets" / bucket).mkdir()
            fill(etcd, options.etcd_mib if options.only != "objects" else 1)
            if options.only != "objects":
                bench_etcd(place, server, etcd, options)
            if options.only != "etcd":
                bench_objects(place, server, etcd, options)


def back_up_once(server: object, etcd: str, source: Path, location: str) -> int:
    """Back up in a process of its own, and return its peak memory in MB."""
    values = {each: getattr(server, each) for each in ("region", "address", "key", "secret")}
    paths = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]
    script = ONE.format(paths=paths, etcd=etcd, source=str(source), location=location, **values)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) // 1024


def tools_environment(server: object) -> dict[str, str]:
    """Return the environment in which aws and rclone reach the server."""
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_REGION": server.region,
        "ETCDCTL_API": "3",
        "RCLONE_CONFIG_S_TYPE": "s3",
        "RCLONE_CONFIG_S_PROVIDER": "Other",
        "RCLONE_CONFIG_S_ENDPOINT": server.address,
        "RCLONE_CONFIG_S_REGION": server.region,
        "RCLONE_CONFIG_S_ENV_AUTH": "true",
        "RCLONE_CONFIG": "/dev/null",
    }


def bench_etcd(place: Path, server: object, etcd: str, options: argparse.Namespace) -> None:
    """Time the metadata's way to S3."""
    environment = tools_environment(server)
    aws = ["aws", "--endpoint-url", server.address, "s3"]
    empty = place / "empty"
    empty.mkdir()
    peaks: list[int] = []
    ours, theirs = [], []
    for number in range(options.runs):
        ours.append(timed(lambda n=number: peaks.append(back_up_once(server, etcd, empty, f"s3://ours/{n}"))))
        clear(place, "ours")
        file = place / "snapshot"

        def tools(file: Path = file) -> None:
            save = ["etcdctl", "--endpoints", etcd, "--command-timeout", "600s", "snapshot", "save", str(file)]
            subprocess.run(save, env=environment, check=True, capture_output=True)
            subprocess.run([*aws, "cp", str(file), "s3://theirs/"], env=environment, check=True, capture_output=True)

        theirs.append(timed(tools))
        file.unlink()
        clear(place, "theirs")
    report(f"etcd, {options.etcd_mib} MiB, to S3", ours, theirs, 0.7, f"peak {max(peaks)} MB (wanted ≤ 200)")


def clear(place: Path, bucket: str) -> None:
    """Empty a bucket behind the server's back, so that disks do not fill up."""
    for part in ("buckets", "metadata"):
        shutil.rmtree(place / "s3" / part / bucket, ignore_errors=True)
    (place / "s3" / "buckets" / bucket).mkdir()


def bench_objects(place: Path, server: object, etcd: str, options: argparse.Namespace) -> None:
    """Time the objects' way to S3, all of them and none of them new."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient

    with EtcdClient(etcd, timeout=300) as client:
        client.delete(b"value/", b"value0")
        client.compact(client.status().revision)
        client.defragment()
    environment, rclone = tools_environment(server), shutil.which("rclone")
    if not rclone:
        print("rclone is not installed: its times are left out", flush=True)
    for title, count, size in (
        (f"{options.objects} objects of {options.object_kb} KB", options.objects, options.object_kb * 1000),
        (f"{options.blocks} blocks of 8 MB", options.blocks, 8_000_000),
    ):
        source = place / "source"
        (source / "block").mkdir(parents=True)
        for number in range(count):
            (source / "block" / f"{number:032x}").write_bytes(os.urandom(size))
        times: dict[str, list[float]] = {"first": [], "again": [], "copy": [], "sync": []}
        for _unused in range(options.runs):
            for part in ("first", "again"):
                times[part].append(timed(lambda src=source: back_up_once(server, etcd, src, "s3://ours")))
                time.sleep(1.1)  # ids have whole seconds
            clear(place, "ours")
            for part in ("copy", "sync") if rclone else ():
                command = [rclone, part, str(source), "s:theirs"]
                times[part].append(timed(lambda c=command: subprocess.run(c, env=environment, check=True)))
            clear(place, "theirs")
        report(f"{title}, first", times["first"], times["copy"], 1.0)
        report(f"{title}, nothing new", times["again"], times["sync"], 0.3)
        shutil.rmtree(source)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"largest process of all: {peak} MB", flush=True)


if __name__ == "__main__":
    main()
