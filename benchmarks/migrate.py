# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration against the tools that users have, on the same data, servers and machine, in one run.

    python benchmarks/migrate.py [--runs 5] [--keys 200000] [--objects 20000] [--object-kb 20]
                                 [--only keys|pause|objects]

* keys: all of an etcd's keys into another etcd, against ``etcdctl make-mirror``, which is timed until it has them all.
  The keys are what pachd writes: per job a commit with its index keys, and the job with its own, in 12 repos.  Beside
  it the worst case: one list, no two keys of which may share a transaction.
* pause: what a live migration adds to the stop and the start of pachd, while 500 keys a second are written until then.
* objects: one bucket into another, each key spelled anew, against ``rclone copy``, which keeps them.

etcds sync to disk, both on loopback; S3 is versitygw.  Wanted: keys at least 5 times make-mirror's rate, a pause of at
most 15 s, objects no slower than rclone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _common import clear, environment, timed

PFS, PPS = b"pachyderm/1.7.0/pachyderm_pfs/", b"pachyderm/1.7.0/pachyderm_pps/"
REPOS = 12
SYNCING = ("--max-request-bytes", "52428800", "--quota-backend-bytes", str(8 << 30))


def fill(etcd: Any, keys: int) -> None:
    """Write about ``keys`` keys as pachd does, several in a transaction."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Put

    chance = random.Random(1)  # noqa: S311 - the same keys in every run
    etcd.put(b"cluster-id", b"c" * 32)
    for _unused in range(keys // 6):
        name, repo = b"%032x" % chance.getrandbits(128), b"repo%d" % chance.randrange(REPOS)
        commit = chance.randbytes(150).hex().encode()
        etcd.txn(
            [],
            [
                Put(PFS + b"commits/%b/%b" % (repo, name), commit),
                Put(PFS + b"commits/%b__index_Provenance/\n\x06\n\x04%b/%b" % (repo, repo, name), name),
                Put(PFS + b"commits/%b__index_Provenance/\n\x06\n\x04spec/%b" % (repo, name), name),
                Put(PPS + b"jobs/%b" % name, commit[:140]),
                Put(PPS + b"jobs__index_Pipeline/\n\x01%b/%b" % (repo, name), name),
                Put(PPS + b"jobs__index_OutputCommit/\n\x01%b/%b" % (name, name), name),
            ],
        )


def fill_one_list(etcd: Any, keys: int) -> None:
    """Write one list of ``keys`` keys, each at a revision of its own."""
    etcd.put(b"cluster-id", b"c" * 32)
    for number in range(keys):
        etcd.put(PPS + b"jobs/%032x" % (number * 7919), b"x" * 140)


@contextlib.contextmanager
def empty_etcd(place: Path) -> Iterator[tuple[str, Any]]:
    """Yield address and client of an empty etcd that syncs what it writes."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
    from doubles.etcd import program, running

    shutil.rmtree(place, ignore_errors=True)
    flags = (*SYNCING, "--log-level", "error")
    with running(place, *flags, server=str(program())) as address, EtcdClient(address, 120) as client:
        yield address, client


def ours(source: Any, target: Any) -> float:
    """Return how long the engine takes, without the comparison that it makes in the end."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import KeyMigration

    migration = KeyMigration(source, target)

    def copy() -> None:
        migration.begin()
        migration.copy()

    seconds = timed(copy)
    migration.verify()
    return seconds


def mirror(source: str, target: str, client: Any, keys: int) -> float:
    """Return how long ``etcdctl make-mirror`` takes until all keys are there."""
    command = ["etcdctl", "--endpoints", source, "make-mirror", target]
    begun = time.monotonic()
    with subprocess.Popen(command, env={**os.environ, "ETCDCTL_API": "3"}, stdout=subprocess.DEVNULL) as process:
        try:
            while client.count(b"") < keys:
                time.sleep(0.05)
            return time.monotonic() - begun
        finally:
            process.kill()


def bench_keys(place: Path, options: argparse.Namespace) -> None:
    """Time the metadata's way."""
    for title, write, keys in (
        ("keys as pachd writes them", fill, options.keys),
        ("keys of one list (worst case)", fill_one_list, options.keys // 10),
    ):
        with empty_etcd(place / "source") as (address, source):
            write(source, keys)
            count = source.count(b"")
            mine, theirs = [], []
            for _unused in range(options.runs):
                with empty_etcd(place / "target") as (_where, target):
                    mine.append(ours(source, target))
                with empty_etcd(place / "target") as (where, target):
                    theirs.append(mirror(address, where, target, count))
            rates = [count / statistics.median(each) for each in (mine, theirs)]
            print(
                f"{count} {title}: {rates[0]:.0f}/s, make-mirror {rates[1]:.0f}/s,"
                f" ratio {rates[0] / rates[1]:.1f} (wanted ≥ 5 for what pachd writes)",
                flush=True,
            )
    print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB", flush=True)


def write(address: str, stop: threading.Event) -> int:
    """Write 500 records a second until told to stop, and return how many there were."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient

    written, begun = 0, time.monotonic()
    with EtcdClient(address, 30) as etcd:
        while not stop.is_set():
            etcd.put(PFS + b"putFileRecords/repo1/open/%d" % (written % 5000), b"x" * 140)
            written += 1
            time.sleep(max(0.0, begun + written / 500 - time.monotonic()))
    return written


def bench_pause(place: Path, options: argparse.Namespace) -> None:
    """Time what is between the end of the writing and a compared target."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import KeyMigration

    pauses, lags, rates = [], [], []
    for _unused in range(options.runs):
        with empty_etcd(place / "source") as (address, source), empty_etcd(place / "target") as (_where, target):
            fill(source, options.keys)
            migration = KeyMigration(source, target)
            migration.begin()
            migration.copy()
            stop = threading.Event()
            with migration.following() as follower, ThreadPoolExecutor(1) as pool:
                begun = time.monotonic()
                writer = pool.submit(write, address, stop)
                time.sleep(10)
                lags.append(follower.lag().revisions)
                stop.set()
                rates.append(writer.result() / (time.monotonic() - begun))
                paused = time.monotonic()
            migration.copy()
            migration.verify()
            pauses.append(time.monotonic() - paused)
    print(
        f"pause at {statistics.median(rates):.0f} writes/s, {options.keys} keys: {statistics.median(pauses):.1f} s to"
        f" drain and compare (wanted ≤ 15 with pachd's stop and start);"
        f" {statistics.median(lags):.0f} revisions behind when it began",
        flush=True,
    )


def bench_objects(place: Path, server: Any, options: argparse.Namespace) -> None:
    """Time the objects' way."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.objects import ObjectMigration
    from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.objects import Place
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling, key_of
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access, open_location

    access = Access(region=server.region, endpoint=server.address, access_key=server.key, secret_key=server.secret)
    variables = environment(server)
    rclone = shutil.which("rclone")
    source = open_location("s3://source", access)
    for number in range(options.objects):
        source.write(key_of(f"block/{number:032x}", Spelling.PLAIN), [os.urandom(options.object_kb * 1000)])
    times: dict[str, list[float]] = {"server-side": [], "through": [], "rclone": [], "rclone through": []}

    for _unused in range(options.runs):
        for way in ("server-side", "through"):
            clear(place / "s3", "target")
            target = open_location("s3://target", access)
            if way == "through":
                target.copy_from = lambda *_arguments: False
            move = ObjectMigration(Place(source, Spelling.PLAIN), Place(target, Spelling.REVERSED))
            times[way].append(timed(move.copy))
        for way, more in (("rclone", []), ("rclone through", ["--disable", "copy"])) if rclone else ():
            clear(place / "s3", "target")
            command = [rclone, "copy", *more, "s:source", "s:target"]
            times[way].append(timed(lambda c=command: subprocess.run(c, env=variables, check=True)))
    title = f"{options.objects} objects of {options.object_kb} KB, re-keyed"
    for mine, other in (("server-side", "rclone"), ("through", "rclone through")):
        if times[other]:
            seconds = statistics.median(times[mine]), statistics.median(times[other])
            print(
                f"{title}, {mine}: {seconds[0]:.1f} s, rclone copy {seconds[1]:.1f} s,"
                f" ratio {seconds[0] / seconds[1]:.2f} (wanted ≤ 1)",
                flush=True,
            )
        else:
            print(f"{title}, {mine}: {statistics.median(times[mine]):.1f} s; rclone is not installed", flush=True)


def main() -> None:
    """Run what the arguments ask for."""
    from conftest import pytest_configure

    pytest_configure()
    from servers import s3

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--object-kb", type=int, default=20)
    parser.add_argument("--only", choices=["keys", "pause", "objects"], default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pachops-bench-") as name:
        place = Path(name)
        if options.only in ("", "keys"):
            bench_keys(place, options)
        if options.only in ("", "pause"):
            bench_pause(place, options)
        if options.only in ("", "objects"):
            with s3.running(place / "s3") as server:
                clear(place / "s3", "source")
                bench_objects(place, server, options)


if __name__ == "__main__":
    main()
