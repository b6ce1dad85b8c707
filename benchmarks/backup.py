# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups and their verification against the tools that users have: same data, server and machine, in turn, in one run.

* etcd to S3: one process of the engine, against ``etcdctl snapshot save`` followed by ``aws s3 cp``: ≤ 0.7 of its time,
  at most 200 MB of memory whatever the size, no temporary file above 64 MiB.
* verification ``restore`` of that set, against ``etcdutl snapshot restore`` alone: ≤ 1.5.
* an installation's objects, small ones and large blocks together: the first copy against ``rclone copy``: ≤ 1.0; one
  that finds nothing new against ``rclone sync``: ≤ 0.3.

etcd is a release of the local cluster's, the S3 server versitygw, both on loopback.  All that is timed starts its
process anew, and what was written before is on the disk by then.  ``--size 0.02`` makes everything that much smaller,
to try the benchmark itself: fixed costs tell more then.  Without rclone on PATH (or ``--rclone``) its columns stay
empty.

    python benchmarks/backup.py [--rounds 5] [--size 1.0] [--only etcd|objects|small|large] [--rclone PATH]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from _common import ROOT, clear, environment, timed

COLLECTIONS = str(ROOT / ".cache" / "collections" / "ansible_collections")

BACK_UP = """
import resource, sys, types
# As ansible hands a module its collection: no loader, and none of the tests' libraries.
package = sys.modules["ansible_collections"] = types.ModuleType("ansible_collections")
package.__path__ = [{collections!r}]
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access, open_location
store = open_location({location!r}, Access({region!r}, {address!r}, {key!r}, {secret!r}))
if {verified!r}:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import newest, open_set
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import Options, verify
    manifest = newest(store, "benchmark")
    verdict = verify(open_set(store, "benchmark", manifest.id), "restore", Options(workdir={source!r}))
    assert verdict.passed, verdict.findings
else:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin, Wishes, back_up
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import Source
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
    with EtcdClient({etcd!r}, timeout=120) as etcd:
        origin = Origin(etcd, DirectoryStore({source!r}), [Spelling.DIRECTORY], Source("local", ""))
        back_up(origin, store, Wishes())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@dataclass
class Row:
    """One comparison: seconds of each round."""

    what: str
    wanted: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def line(self) -> str:
        """Return the medians and what they make."""
        mine = statistics.median(self.ours)
        if not self.theirs:
            return f"{self.what:<52}{mine:>9.2f}{'-':>9}{'-':>8}{self.wanted:>8}"
        other = statistics.median(self.theirs)
        verdict = judged(mine / other, self.wanted)
        return f"{self.what:<52}{mine:>9.2f}{other:>9.2f}{mine / other:>8.2f}{self.wanted:>8}{verdict}"


def judged(found: float, wanted: float) -> str:
    """Return whether an aim was met, as the last column."""
    return "  met" if found <= wanted else "  MISSED"


class Largest:
    """Watches the largest file below a directory for temporary files while something runs, in MiB."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mib = 0

    def __enter__(self) -> Largest:
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            for path in self._directory.rglob("*"):
                try:
                    self.mib = max(self.mib, path.stat().st_size >> 20)
                except FileNotFoundError:
                    continue


class Bench:
    """One etcd, one S3 server, and a place for files."""

    def __init__(self, place: Path, server: object, etcd: str, options: argparse.Namespace) -> None:
        self.place, self.server, self.etcd, self.options = place, server, etcd, options
        self.rows: list[Row] = []
        self.peaks: list[int] = []
        self.temporary = 0
        for folder in ("tmp", "work", "empty"):
            (place / folder).mkdir()
        for bucket in ("ours", "theirs"):
            self.clear(bucket)
        self.environment = {**environment(server), "TMPDIR": str(place / "tmp"), "ETCDCTL_API": "3"}
        # A user's Python keeps what it has compiled, for the engine as for aws.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def timed(self, row: Row, side: str, action: Callable[[], object]) -> None:
        """Note how long ``action`` took, and say so."""
        os.sync()  # or one side would wait for what the other wrote
        seconds = timed(action)
        getattr(row, side).append(seconds)
        load = os.getloadavg()[0]
        print(f"round {len(getattr(row, side))}: {row.what}: {side}: {seconds:.2f} s (load {load:.1f})", flush=True)

    def engine(self, source: Path, location: str, *, verified: bool = False) -> None:
        """Back up, or verify, in a process of its own."""
        values = {each: getattr(self.server, each) for each in ("region", "address", "key", "secret")}
        script = BACK_UP.format(
            collections=COLLECTIONS, etcd=self.etcd, source=str(source), location=location, verified=verified, **values
        )
        with Largest(self.place / "tmp") as largest:
            out = self.run(sys.executable, "-c", script)
        if not verified:
            self.peaks.append(int(out.split()[-1]))
            self.temporary = max(self.temporary, largest.mib)

    def run(self, *command: str) -> str:
        """Run a program, and show what it said when it fails."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)[:200]} failed:\n{done.stdout[-4000:]}")
        return done.stdout

    def clear(self, bucket: str) -> None:
        """Make or empty a bucket."""
        clear(self.place / "s3", bucket)

    def bench_etcd(self, mib: int) -> None:
        """Time the way to S3, and the verification of what is there."""
        from doubles.etcd import program

        fill(self.etcd, mib)
        copy = Row(f"etcd of {mib} MiB to S3", 0.7)
        proof = Row(f"verification of {mib} MiB by restore", 1.5)
        self.rows += [copy, proof]
        etcdctl, etcdutl = (str(program().with_name(tool)) for tool in ("etcdctl", "etcdutl"))
        aws = [shutil.which("aws") or "", "--endpoint-url", self.server.address, "s3", "cp"]
        file, data = self.place / "work" / "snapshot", self.place / "work" / "data"

        def save() -> None:
            self.run(etcdctl, "--endpoints", self.etcd, "--command-timeout", "600s", "snapshot", "save", str(file))
            if aws[0]:
                self.run(*aws, "--only-show-errors", str(file), "s3://theirs/")

        for _round in range(self.options.rounds):
            self.timed(copy, "ours", lambda: self.engine(self.place / "empty", "s3://ours"))
            self.timed(copy, "theirs", save)
            self.timed(proof, "ours", lambda: self.engine(self.place / "work", "s3://ours", verified=True))
            self.timed(
                proof, "theirs", lambda: self.run(etcdutl, "snapshot", "restore", str(file), f"--data-dir={data}")
            )
            file.unlink()
            shutil.rmtree(data)
            self.clear("ours")
            self.clear("theirs")

    def bench_objects(self, kinds: Mapping[int, int]) -> None:
        """Time the objects' way to S3, all of them and none of them new.

        :param kinds: how many there are of each size in bytes.
        """
        shown = " + ".join(f"{count} x {size_text(size)}" for size, count in kinds.items())
        first, again = Row(f"{shown}, first copy", 1.0), Row(f"{shown}, nothing new", 0.3)
        self.rows += [first, again]
        source = self.place / "source"
        (source / "block").mkdir(parents=True)
        for size, count in kinds.items():
            for _number in range(count):
                (source / "block" / uuid.uuid4().hex).write_bytes(os.urandom(size))  # as pachd names its blocks
        rclone = self.options.rclone or shutil.which("rclone")
        for _round in range(self.options.rounds):
            for row in (first, again):
                self.timed(row, "ours", lambda: self.engine(source, "s3://ours"))
                time.sleep(1.1)  # ids have whole seconds
            self.clear("ours")
            for row, verb in ((first, "copy"), (again, "sync")) if rclone else ():
                self.timed(row, "theirs", lambda verb=verb: self.run(rclone, verb, str(source), "s:theirs"))
            self.clear("theirs")
        shutil.rmtree(source)

    def report(self) -> None:
        """Print the table."""
        title = f"median of {self.options.rounds}, seconds"
        print(f"\n{title:<52}{'ours':>9}{'theirs':>9}{'ratio':>8}{'wanted':>8}")
        for row in self.rows:
            print(row.line())
        for what, found, wanted in (
            ("peak memory of a backup, MB", max(self.peaks), 200),
            ("largest temporary file of a backup, MiB", self.temporary, 64),
        ):
            print(f"{what:<52}{found:>9}{'':>17}{wanted:>8}{judged(found, wanted)}")
        if not shutil.which("aws"):
            print("aws is not installed: the time of its copy is missing")
        if not self.options.rclone and not shutil.which("rclone"):
            print("rclone is not installed: its times are left out")


def size_text(size: int) -> str:
    """Return a size for a person."""
    return f"{size // 1000} KB" if size < 1_000_000 else f"{size // 1_000_000} MB"


def fill(address: str, mib: int) -> None:
    """Put ``mib`` MiB into an etcd, of what Pachyderm's metadata consist of: random ids in hexadecimal digits."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient

    with EtcdClient(address, timeout=60) as etcd:
        for number in range(mib):
            etcd.put(b"value/%d" % number, os.urandom(1 << 19).hex().encode())


def empty(address: str) -> None:
    """Leave nothing in an etcd but what makes it an installation's."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient

    with EtcdClient(address, timeout=300) as client:
        client.put(b"cluster-id", b"benchmark")
        client.delete(b"value/", b"value0")
        client.compact(client.status().revision)
        client.defragment()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=float, default=1.0, help="1.0: 1 GiB of etcd, 50,000 objects, 250 blocks")
    parser.add_argument("--only", choices=["etcd", "objects", "small", "large"], default="")
    parser.add_argument("--rclone", default="", help="path of the program, where it is not on PATH")
    options = parser.parse_args()
    from conftest import pytest_configure

    pytest_configure()
    from doubles.etcd import running
    from servers import s3

    mib, objects, blocks = (max(1, round(number * options.size)) for number in (1024, 50_000, 250))
    with tempfile.TemporaryDirectory(prefix="pachops-bench-") as name:
        place = Path(name)
        flags = ("--quota-backend-bytes", str((mib + 512) << 21), "--max-request-bytes", "52428800")
        with s3.running(place / "s3") as server, running(place / "etcd", *flags) as etcd:
            bench = Bench(place, server, etcd, options)
            empty(etcd)
            if options.only in ("", "etcd"):
                bench.bench_etcd(mib)
                empty(etcd)
            small, large = {20_000: objects}, {8_000_000: blocks}
            if options.only != "etcd":
                bench.bench_objects({"small": small, "large": large}.get(options.only, small | large))
            bench.report()


if __name__ == "__main__":
    main()
