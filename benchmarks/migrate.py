# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration against the tools that users have, on the same data, servers and machine, in one run; medians.

    python benchmarks/migrate.py [--runs 5] [--keys 200000] [--objects 20000] [--object-kb 20] [--rclone PATH]
                                 [--only keys|pause|objects]

* keys: all of an etcd's keys into another etcd, against ``etcdctl make-mirror``, which is timed until it has them all.
  The keys are those of the genuine installation that the tests have, many times over: per commit of the input six
  records of files, and three pipelines one after another with a commit, a job and their index keys each.  Beside it
  the worst case: one list, no two keys of which may share a transaction; make-mirror keeps no order for its part.
* pause: how long the source stands still in a cut-over by the playbook ``migrate``, between two installations in the
  local cluster (which has to be there, with the images of the tests), while 500 keys a second are written to the
  source until its pachd is stopped.  Most of its keys are records of files, which pachd never deletes.
* objects: one bucket into another, each key spelled anew, against ``rclone copy``, which keeps them; copied by the
  server itself, and through this host as between two servers.

Targets sync to disk, everything is on this host; S3 is versitygw.  Wanted: keys at least 5 times make-mirror's rate, a
pause of at most 15 s, objects no slower than rclone.  ``--runs 1 --keys 3000 --objects 200`` tries it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _common import KUBECONFIG, clear, environment, play, timed

PFS, PPS = b"pachyderm/1.7.0/pachyderm_pfs/", b"pachyderm/1.7.0/pachyderm_pps/"
FLAGS = ("--max-request-bytes", "52428800", "--quota-backend-bytes", str(8 << 30), "--log-level", "error")
WANTED_RATE, WANTED_PAUSE = 5.0, 15.0
SOURCE, TARGET = "bench-from", "bench-to"
RECORDS = PFS + b"putFileRecords/benchmark/"
WRITES = 500  # a second
SMALL = {part: {"requests": {"cpu": "50m", "memory": "256M"}} for part in ("etcd", "pachd")}
UNDER_WAY = 32


def verdict(holds: bool) -> str:
    """Return the word for it."""
    return "pass" if holds else "FAIL"


def peak() -> str:
    """Return how much memory this process has had."""
    return f"peak memory so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"


def write_all(etcd: Any, transactions: Iterable[Sequence[Any]]) -> None:
    """Apply each in a revision of its own, several under way at once; the cluster's id has to be there."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import step, step_request

    waiting: deque[Callable[[], bool]] = deque()
    for operations in transactions:
        waiting.append(etcd.begin_step(step_request([step(b"cluster-id", 1, operations)])))
        if len(waiting) >= UNDER_WAY:
            waiting.popleft()()
    for each in waiting:
        each()


def fill(etcd: Any, keys: int) -> None:
    """Write about ``keys`` keys as pachd does: 31 for each commit of the input."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Put

    chance = random.Random(1)  # noqa: S311 - the same keys in every run

    def name() -> bytes:
        return b"%032x" % chance.getrandbits(128)

    def transactions() -> Iterator[list[Put]]:
        for _unused in range(max(1, keys // 31)):
            first = name()
            yield [Put(PFS + b"commits/ticks/%b" % first, chance.randbytes(170).hex().encode())]
            for number in range(6):
                path = PFS + b"putFileRecords/ticks/%b/2026/11/23/00/%02d" % (first, number)
                yield [Put(path, chance.randbytes(70).hex().encode())]
            before = [b"ticks"]
            for pipeline in (b"rebin", b"measure", b"best"):
                commit, job = name(), name()
                origins = [*before, *(b"spec-" + each for each in (*before[1:], pipeline))]
                yield [
                    Put(PFS + b"commits/%b/%b" % (pipeline, commit), chance.randbytes(170).hex().encode()),
                    *(
                        Put(PFS + b"commits/%b__index_Provenance/\n.\n\n\n\x08%b/%b" % (pipeline, each, commit), commit)
                        for each in origins
                    ),
                    Put(PPS + b"jobs/%b" % job, chance.randbytes(75).hex().encode()),
                    Put(PPS + b"jobs__index_Pipeline/\n\x01%b/%b" % (pipeline, job), job),
                    Put(PPS + b"jobs__index_OutputCommit/\n\x01%b/%b" % (commit, job), job),
                ]
                before.append(pipeline)

    etcd.put(b"cluster-id", b"c" * 32)
    write_all(etcd, transactions())


def fill_one_list(etcd: Any, keys: int) -> None:
    """Write one list of ``keys`` keys, each at a revision of its own."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Put

    etcd.put(b"cluster-id", b"c" * 32)
    write_all(etcd, ([Put(PPS + b"jobs/%032x" % (number * 7919), b"x" * 140)] for number in range(keys)))


@contextlib.contextmanager
def empty_etcd(place: Path, *, syncing: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield address and client of an empty etcd; one that is only read need not sync what it writes."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
    from doubles.etcd import program, running

    shutil.rmtree(place, ignore_errors=True)
    flags = FLAGS if syncing else (*FLAGS, "--unsafe-no-fsync")
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
    from doubles.etcd import program

    command = [str(program().with_name("etcdctl")), "--endpoints", source, "make-mirror", target]
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
    for title, write_to, keys, wanted in (
        ("keys as pachd writes them", fill, options.keys, WANTED_RATE),
        ("keys of one list (worst case)", fill_one_list, options.keys // 10, 0.0),
    ):
        with empty_etcd(place / "source", syncing=False) as (address, source):
            write_to(source, keys)
            count = source.count(b"")
            mine, theirs = [], []
            for _unused in range(options.runs):
                with empty_etcd(place / "target") as (_where, target):
                    mine.append(ours(source, target))
                with empty_etcd(place / "target") as (where, target):
                    theirs.append(mirror(address, where, target, count))
            rates = [count / statistics.median(each) for each in (mine, theirs)]
            ratio = rates[0] / rates[1]
            print(
                f"{count} {title}: {rates[0]:.0f}/s, make-mirror {rates[1]:.0f}/s, ratio {ratio:.1f}"
                + (f" (wanted ≥ {wanted:.0f}): {verdict(ratio >= wanted)}" if wanted else "")
                + f"; {peak()}",
                flush=True,
            )


def write_until_paused(kube: Any, namespace: str, ended: threading.Event) -> float:
    """Write 500 records a second until pachd is stopped or all has ended, and return how many a second they were."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import EtcdAccess, etcd_of
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Put
    from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce

    with etcd_of(kube, observe(kube, namespace), EtcdAccess()) as (etcd, _transport):
        written, begun = 0, time.monotonic()
        while not ended.is_set() and not quiesce.paused(kube, namespace):
            due = int((time.monotonic() - begun) * WRITES) + 1
            keys = (RECORDS + b"open/%d" % (number % 5000) for number in range(written, due))
            write_all(etcd, ([Put(key, b"x" * 140)] for key in keys))
            written = due
            time.sleep(0.01)
        return written / (time.monotonic() - begun)


def records(keys: int) -> Iterator[list[Any]]:
    """Yield what pachd writes of about so many files, 50 to a commit."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Put

    for commit in range(keys // 50):
        yield [Put(RECORDS + b"%032x/%d" % (commit, each), os.urandom(70).hex().encode()) for each in range(50)]


def bench_pause(options: argparse.Namespace) -> None:
    """Time the pause of the source, from its beginning until the target's pachd is ready."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import EtcdAccess, etcd_of
    from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect

    kube = connect(KUBECONFIG, None)
    pauses, rates = [], []
    try:
        play("deploy", SOURCE, pachyderm_resources=SMALL)
        with etcd_of(kube, observe(kube, SOURCE), EtcdAccess()) as (etcd, _transport):
            write_all(etcd, records(options.keys))
            count = etcd.count(b"")
        for _unused in range(options.runs):
            ended = threading.Event()
            with ThreadPoolExecutor(1) as pool:
                writer = pool.submit(write_until_paused, kube, SOURCE, ended)
                try:
                    said = play("migrate", TARGET, pachyderm_resources=SMALL, migrate_source={"namespace": SOURCE})
                finally:
                    ended.set()
                rates.append(writer.result())
            found = re.search(r"paused\s+for\s+([0-9.]+)\s+s", said)
            assert found, said[-2000:]
            pauses.append(float(found[1]))
            play("migrate", TARGET, migrate_source={"namespace": SOURCE}, migrate_action="undo")
            play("remove", TARGET, remove_level="data", remove_confirm=TARGET)
    finally:
        for namespace in (TARGET, SOURCE):
            play("remove", namespace, remove_level="data", remove_confirm=namespace)
    pause = statistics.median(pauses)
    print(
        f"pause in a cut-over of {count} keys at {statistics.median(rates):.0f} writes/s: {pause:.1f} s"
        f" until the target is ready (wanted ≤ {WANTED_PAUSE:.0f}): {verdict(pause <= WANTED_PAUSE)}",
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
    rclone = options.rclone or shutil.which("rclone")
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
            ratio = seconds[0] / seconds[1]
            print(
                f"{title}, {mine}: {seconds[0]:.1f} s, rclone copy {seconds[1]:.1f} s, ratio {ratio:.2f} (wanted ≤ 1):"
                f" {verdict(ratio <= 1)}; {peak()}",
                flush=True,
            )
        else:
            print(
                f"{title}, {mine}: {statistics.median(times[mine]):.1f} s; rclone is not installed; {peak()}",
                flush=True,
            )


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
    parser.add_argument("--rclone", default="", help="path of the program, where it is not on PATH")
    parser.add_argument("--only", choices=["keys", "pause", "objects"], default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pachops-bench-") as name:
        place = Path(name)
        if options.only in ("", "keys"):
            bench_keys(place, options)
        if options.only in ("", "pause"):
            bench_pause(options)
        if options.only in ("", "objects"):
            with s3.running(place / "s3") as server:
                clear(place / "s3", "source")
                bench_objects(place, server, options)


if __name__ == "__main__":
    main()
