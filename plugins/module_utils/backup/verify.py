# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Proof that a backup can be restored, at three levels that each include the ones before.

``digest``: every file of the set and every object of its index is read again and is what the manifest and the index
say.  ``restore``: an etcd boots from the snapshot and has the HashKV, the revision and the numbers of keys that the
live one had, and every record of Pachyderm's in it can be read.  ``deep``: from every commit through its file trees to
its objects and blocks, everything exists and has the right size and hash.

What is wrong with a backup is a finding, and recorded.  What keeps a verification from being made (a store that does
not answer, a missing program, a missing identity) is an error, and says nothing about the backup.
"""

from __future__ import annotations

import datetime as dt
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BackupError, EtcdError, InputError, PachopsError
from ..etcd import restore
from ..etcd.client import EtcdClient, KvHash
from ..etcd.keyspace import LiveKeyspace
from ..pachd.objects import Objects
from ..pachd.state import State
from ..progress import Progress
from ..stores.keys import Spelling
from ..stores.parallel import each as in_parallel
from . import deep
from .catalogue import LEVELS, Verification
from .index import IndexEntry
from .manifest import CLUSTER, INDEX, SNAPSHOT, EtcdState
from .sets import OpenedSet

_SHOWN = 20  # findings of one kind; the rest is counted


@dataclass(frozen=True)
class Options:
    """How to verify.

    :param etcd_program: path of the etcd to boot, empty to look for one.
    :param workdir: where the restored data is put meanwhile, empty for the system's directory for temporary files.
    :param workers: how many objects are read at once.
    """

    etcd_program: str = ""
    workdir: str = ""
    workers: int = 16


@dataclass
class _Run:
    opened: OpenedSet
    options: Options
    progress: Progress
    findings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)

    def wrong(self, findings: Sequence[str]) -> None:
        """Add findings, the first ones in words and the rest as a number."""
        self.findings += findings[:_SHOWN]
        if len(findings) > _SHOWN:
            self.findings.append(f"and {len(findings) - _SHOWN} more of this kind")

    def timed(self, name: str, work: Callable[[], None]) -> None:
        """Do one part of the work and note how long it took."""
        self.progress.stage(name)
        began = time.monotonic()
        work()
        self.figures[f"{name.replace(' ', '_')}_seconds"] = round(time.monotonic() - began, 3)


def verify(
    opened: OpenedSet,
    level: str,
    options: Options | None = None,
    progress: Progress | None = None,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc),
) -> Verification:
    """Return what a verification finds; the caller records it.

    :param level: one of :data:`~.catalogue.LEVELS`.
    :raises InputError: there is no etcd to boot, or no space for it.
    :raises BackupError: the set is encrypted, and the identities do not open it.
    :raises StorageError: the store cannot be read.
    """
    if level not in LEVELS:
        raise InputError("there is no such level of verification", where=level, fix=f"Use one of {', '.join(LEVELS)}.")
    run = _Run(opened, options or Options(), progress or Progress())
    began = time.monotonic()
    depth = LEVELS.index(level)
    program = None
    if depth >= LEVELS.index("restore"):
        # All that would be in the way is found out before gigabytes are read.
        program = restore.find_program(run.options.etcd_program, opened.manifest.etcd.version)
        run.tools["etcd"] = program.version
        if opened.manifest.encryption:
            opened.unlock()
    run.timed("files", lambda: _check_files(run, skip_snapshot=program is not None))
    run.timed("objects", lambda: _check_objects(run))
    if program is not None:
        with restore.private_directory(run.options.workdir) as directory:
            _check_restore(run, program, directory)
            if level == "deep" and not run.findings:
                run.timed("deep", lambda: _check_deep(run, restore.database(directory / "data")))
    run.figures["seconds"] = round(time.monotonic() - began, 3)
    run.tools["python"] = platform.python_version()
    return Verification(
        opened.manifest.id, level, now(), not run.findings, tuple(run.findings), run.figures, dict(run.tools)
    )


def _check_files(run: _Run, *, skip_snapshot: bool) -> None:
    """Read the set's files again; the snapshot is not read twice where an etcd is going to boot from it."""
    size = 0
    for entry in run.opened.manifest.files:
        if skip_snapshot and entry is run.opened.manifest.file(SNAPSHOT):
            continue
        try:
            for chunk in run.opened.stored(entry):
                size += len(chunk)
                run.progress.update(size, unit="B")
        except BackupError as error:
            run.wrong([str(error)])
    try:
        for name in (SNAPSHOT, INDEX, CLUSTER):
            run.opened.manifest.file(name)
    except BackupError as error:
        run.wrong([str(error)])
    run.figures["files_bytes"] = size


def _check_objects(run: _Run) -> None:
    """Read every object of the index again."""
    manifest = run.opened.manifest
    wrong: list[str] = []
    trees: dict[str, int] = {}
    count = size = 0

    def check(entry: IndexEntry) -> tuple[IndexEntry, str]:
        try:
            for _chunk in run.opened.stored_object(entry):
                pass
        except BackupError as error:
            return entry, str(error)
        return entry, ""

    try:
        for entry, why in in_parallel(check, run.opened.index(), run.options.workers):
            count, size = count + 1, size + entry.stored_size
            tree = entry.name.partition("/")[0]
            trees[tree] = trees.get(tree, 0) + 1
            if why:
                wrong.append(f"{entry.name}: {why}")
            run.progress.update(count, manifest.objects.count, "objects")
    except BackupError as error:
        run.wrong([str(error)])
    else:
        counted = {name: number for name, number in manifest.objects.trees.items() if number}
        if count != manifest.objects.count or (counted and counted != trees):
            run.wrong([f"the index names {count} objects ({trees}), the manifest {manifest.objects.count} ({counted})"])
    run.wrong(sorted(wrong))
    run.figures |= {"objects": count, "objects_bytes": size}


def _check_restore(run: _Run, program: restore.Program, directory: Path) -> None:
    """Boot an etcd from the snapshot and compare it with the manifest."""
    entry = run.opened.manifest.file(SNAPSHOT)
    restore.require_space(directory, entry.raw_size)
    data = directory / "data"
    try:
        run.timed("restore", lambda: restore.make_member(run.opened.database(), data))
        run.figures["snapshot_bytes"] = entry.raw_size
        run.progress.stage("etcd", "booting")
        began = time.monotonic()
        with restore.booted(program, data) as client:
            run.figures["boot_seconds"] = round(time.monotonic() - began, 3)
            # etcd hashes everything it holds, which takes as long as reading the records does, on another core.
            with ThreadPoolExecutor(1, thread_name_prefix="compare") as beside:
                differences = beside.submit(lambda: list(compare(client, run.opened.manifest.etcd)))
                try:
                    run.timed("records", lambda: _check_records(run, client))
                except EtcdError:
                    # An etcd that is not the one that was backed up need not have the revision to read at.
                    if not differences.result():
                        raise
                run.timed("compare", lambda: run.wrong(differences.result()))
    except EtcdError as error:
        if not program.as_new_as(run.opened.manifest.etcd.version):
            raise InputError(
                "this etcd does not boot from the snapshot, and it may be too old for it",
                where=f"{program.etcd}, {program.version}",
                why=f"the snapshot was written by etcd {run.opened.manifest.etcd.version}: {error}",
                fix="Name a newer etcd with etcd_program.",
            ) from error
        run.wrong([str(error)])
    except BackupError as error:
        run.wrong([str(error)])


def compare(client: EtcdClient, wanted: EtcdState) -> Iterator[str]:
    """Yield the differences between an etcd and what a manifest says of it, as of the manifest's revision."""
    revision = client.status().revision
    if revision < wanted.revision:
        yield f"the restored etcd is at revision {revision}, the backup was made at {wanted.revision}"
        return
    yield from _compare_hash(client.hash_kv(wanted.revision) if wanted.hashes else None, wanted)
    found = client.count(b"", wanted.revision)
    if found != wanted.key_count:
        yield f"the restored etcd has {found} keys, the live one had {wanted.key_count}"
    for prefix, number in wanted.counts.items():
        key = prefix.encode()
        if prefix.endswith("/"):
            found = client.count(key, wanted.revision)
        else:
            found = int(client.get(key, wanted.revision) is not None)
        if found != number:
            yield f"the restored etcd has {found} keys {prefix}, the live one had {number}"


def _compare_hash(answer: KvHash | None, wanted: EtcdState) -> Iterator[str]:
    if answer is None:
        if wanted.hashes:
            yield "the restored etcd does not tell a HashKV, although the live one did"
        return
    comparable = [each for each in wanted.hashes if each.compact_revision == answer.compact_revision]
    if not comparable:
        known = ", ".join(str(each.compact_revision) for each in wanted.hashes)
        yield (
            f"HashKV cannot be compared: the restored etcd is compacted at {answer.compact_revision}, "
            f"the live one was at {known}"
        )
    elif comparable[0].hash != answer.hash:
        yield f"the restored etcd's HashKV is {answer.hash}, the live one's was {comparable[0].hash}"


def _check_records(run: _Run, client: EtcdClient) -> None:
    """Read every record that Pachyderm keeps."""
    manifest = run.opened.manifest
    state = State(LiveKeyspace(client, manifest.etcd.revision))
    if state.cluster_id not in ("", manifest.cluster_id):
        run.wrong([f"the snapshot is that of cluster {state.cluster_id}, the manifest says {manifest.cluster_id}"])
    counts = {"repos": 0, "branches": 0, "commits": 0, "jobs": 0, "pipelines": 0}
    wrong: list[str] = []

    def count(kind: str, read: Callable[[], Iterator[Any] | Sequence[Any]]) -> list[Any]:
        found: list[Any] = []
        try:
            for each in read():
                counts[kind] += 1
                if kind == "repos":
                    found.append(each)
                run.progress.update(sum(counts.values()), unit="records")
        except PachopsError as error:
            wrong.append(f"a record cannot be read: {error}")
        return found

    for repo in count("repos", state.repos):
        count("branches", lambda name=repo.name: state.branches(name))  # type: ignore[misc]
        count("commits", lambda name=repo.name: state.commits(name))  # type: ignore[misc]
    count("jobs", state.jobs)
    count("pipelines", state.pipelines)
    run.wrong(wrong)
    run.figures["records"] = counts


def _check_deep(run: _Run, database: Path) -> None:
    objects = Objects(run.opened.objects, Spelling.DIRECTORY)
    try:
        with State.open(database, objects, run.opened.manifest.etcd.revision) as state:
            result = deep.verify(state, workers=run.options.workers, progress=run.progress)
    except EtcdError as error:
        run.wrong([str(error)])
        return
    run.wrong([str(each) for each in result.findings])
    figures = result.as_dict()
    run.figures["deep"] = {name: figures[name] for name in figures if name not in ("findings", "passed")}
