# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore, from the command to a pachd that is ready, against the least that bare tools take, on the same data.

    python benchmarks/restore.py [--runs 5] [--etcd-mib 500]

The least is ``etcdutl snapshot restore`` of the same file on the same disk, the start of etcd's pod on that data, and
the start of pachd's: nobody is told whether what came back is right.  Ours verifies, moves the file to the volume by
port-forward and compares HashKV; that it reads files through pachd comes after that.  Needs the local cluster with the
images of the tests; wanted is at most 2.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from _common import KUBECONFIG, play, timed

NAMESPACE = "bench-restore"
IMAGES = Path("/var/cache/pachops/images")


def runner() -> str:
    """Return an archive of the image that holds etcd's volume, packed where there is none."""
    if not list(IMAGES.glob("runner-*.tar")):
        play("runner_image", NAMESPACE)
    return str(max(IMAGES.glob("runner-*.tar"), key=lambda path: path.stat().st_mtime))


def fill(kube: Any, mib: int) -> None:
    """Let etcd's database grow to ``mib`` MiB, of small records of ids in hexadecimal digits, as Pachyderm's are."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import EtcdAccess, etcd_of
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import Put
    from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe

    with etcd_of(kube, observe(kube, NAMESPACE), EtcdAccess()) as (etcd, _transport):
        for number in itertools.count():
            names = (b"benchmark/%d/%d" % (number, each) for each in range(500))
            assert etcd.txn([], [Put(each, os.urandom(850).hex().encode()) for each in names])
            if etcd.status().db_size >= mib << 20:
                return


def pods_start(kube: Any) -> float:
    """Return the seconds from nothing to an etcd that is ready and then a pachd that is."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.wait import wait_for
    from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress

    etcd = Ref("apps/v1", "StatefulSet", NAMESPACE, "etcd")
    quiesce.pause(kube, NAMESPACE, "benchmark")
    kube.scale(etcd, 0)
    quiesce.await_no_pods(kube, NAMESPACE, "suite=pachyderm,app=etcd", "etcd", 60, Progress())

    def start() -> None:
        kube.scale(etcd, 1)
        wait_for(kube, etcd, 120)
        quiesce.resume(kube, NAMESPACE)

    return timed(start)


def seconds(step: dict[str, str]) -> float:
    """Return how long a step of the journal took."""
    begun, done = (datetime.fromisoformat(step[each].replace("Z", "+00:00")) for each in ("begun", "done"))
    return (done - begun).total_seconds()


def main() -> None:
    """Run what the arguments ask for."""
    from conftest import pytest_configure

    pytest_configure()
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import choose_cluster
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import OpenedSet, newest
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.restore import find_program
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect
    from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import journal as journals
    from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--etcd-mib", type=int, default=500)
    options = parser.parse_args()
    kube = connect(KUBECONFIG, None)
    # On the disk that etcd's volume is on.
    Path("/var/pachyderm").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pachops-bench-", dir="/var/pachyderm") as name:
        place = Path(name)
        backups = str(place / "store")
        try:
            memory = {"limits": {"memory": "3Gi"}, "requests": {"memory": "1Gi"}}
            play("deploy", NAMESPACE, pachyderm_resources={"etcd": memory}, pachyderm_image_archives=[runner()])
            fill(kube, options.etcd_mib)
            play("backup", NAMESPACE, backup_store=backups)
            store = DirectoryStore(backups, private=True)
            manifest = newest(store, choose_cluster(store, ""))
            assert manifest is not None
            snapshot = OpenedSet(store, manifest).snapshot_file(place)
            etcdutl = Path(find_program(preferred=manifest.etcd.version).etcd).with_name("etcdutl")
            bare = [str(etcdutl), "snapshot", "restore", str(snapshot), f"--data-dir={place / 'data'}"]
            wishes = {"restore_backup_id": "latest", "restore_level": "used"}
            ours, theirs, steps = [], [], []
            for _unused in range(options.runs):
                theirs.append(timed(lambda: subprocess.run(bare, check=True, capture_output=True)) + pods_start(kube))
                shutil.rmtree(place / "data")
                began = datetime.now(timezone.utc).isoformat()
                play("restore", NAMESPACE, restore_store=backups, **wishes)
                made = journals.read(kube, NAMESPACE).steps
                first = {"step": "before", "begun": began, "done": made[0]["begun"]}
                steps.append({each["step"]: each for each in (first, *made)})
                # pachd is ready when that step is done; what follows asks it, and says what became of it.
                ours.append(seconds({"begun": began, "done": steps[-1]["resume"]["done"]}))
                play("restore", NAMESPACE, restore_action="confirm")
            mine, other = statistics.median(ours), statistics.median(theirs)
            size = snapshot.stat().st_size >> 20
            for step in steps[0]:
                print(f"  {step:12} {statistics.median(seconds(each[step]) for each in steps):8.2f} s")
            ratio = f"ratio {mine / other:5.2f} (wanted ≤ 2)"
            print(f"restore of {size} MiB, command to Ready {mine:8.2f} s  {other:8.2f} s  {ratio}")
        finally:
            play("remove", NAMESPACE, remove_level="data", remove_confirm=NAMESPACE)


if __name__ == "__main__":
    main()
