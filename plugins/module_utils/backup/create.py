# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Making a backup set of a running installation.

The order is what makes it consistent without stopping anything: first the etcd snapshot, then every object that it can
refer to, since pachd writes content before the metadata that names it; then the index, the description of the cluster,
and the manifest last and only where none is.  The only thing that removes content is garbage collection: the lock keeps
it away, and where it ran all the same the backup ends without a manifest.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import BackupError, EtcdError, PachopsError, StorageError
from ..etcd.client import EtcdClient, KvHash
from ..etcd.snapshot import SnapshotStream
from ..pachd.records import COLLECTIONS, SINGLE_KEYS, collection
from ..progress import Progress
from ..stores import parallel
from ..stores.base import ObjectExists, Store
from ..stores.keys import ROOT, Spelling
from . import index
from .crypt import Cipher, Keyring
from .index import IndexEntry
from .manifest import (
    AGE,
    CLUSTER,
    INDEX,
    MANIFEST,
    SNAPSHOT,
    Encryption,
    EtcdState,
    Manifest,
    SetFile,
    Source,
    dump,
    is_cluster_id,
    make_id,
    utc,
)
from .objects import Copied, Copier, Listing, existing, list_source, matched
from .sets import RUNNING, OpenedSet, newest, set_path
from .streams import Count, ahead, compressed, large

if TYPE_CHECKING:
    from .lock import Lock

#: What is counted for the manifest, by key or prefix.
COUNTED = (
    *SINGLE_KEYS,
    *(collection(service, kind).decode() for service, kinds in COLLECTIONS.items() for kind in kinds),
)
_SNAPSHOTS = 3  # attempts while compactions come between


@dataclass(frozen=True)
class Origin:
    """The installation that is backed up.

    :param etcd: a client of its etcd.
    :param store: where its objects are.
    :param spellings: the key spellings that are possible there; the first is the one that pachd uses.
    :param source: what the manifest says of it; spelling and generation are filled in.
    :param cluster: the description for ``cluster.yaml``, without any secret.
    :param root: PACH_ROOT.
    """

    etcd: EtcdClient
    store: Store
    spellings: Sequence[Spelling]
    source: Source
    cluster: Mapping[str, Any] = field(default_factory=dict)
    root: str = ROOT


@dataclass(frozen=True)
class Wishes:
    """What the user wants.

    :param recipients: public age keys to encrypt to; none: no encryption.
    :param identities: texts of identity files, needed only where recipients have changed.
    :param if_changed: whether nothing is made where the last proven backup has all there is.
    :param tools: versions of what takes part, for the manifest.
    """

    recipients: Sequence[str] = ()
    identities: Sequence[str] = ()
    if_changed: bool = False
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    :param made: whether a set was made, or would be.
    :param manifest: of the new set, or of the one that has all there is; in check mode None where one would be made.
    :param new_objects: objects that were, or would be, read from the source, with ``new_bytes``.
    :param foreign: keys in the source that are none of Pachyderm's.
    :param vanished: blocks that were deleted while they were copied; no metadata needs them.
    """

    made: bool
    manifest: Manifest | None
    new_objects: int
    new_bytes: int
    foreign: int
    vanished: int = 0


def back_up(
    origin: Origin,
    store: Store,
    wishes: Wishes,
    *,
    lock: Lock | None = None,
    proven: Callable[[Store, str], str] = lambda _store, _cluster: "",
    progress: Progress | None = None,
    check: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Outcome:
    """Make one backup set, or find that it is not needed.

    :param lock: held by the caller already; asked before the manifest is written.
    :param proven: returns the id of the newest verified set of a cluster, or an empty string.
    :param check: change nothing, and return what would be done.
    :param now: the clock.
    :raises BackupError: when no sound set can be made; nothing is listed then.
    :raises PachopsError: when etcd or a store refuses; nothing is listed then either.
    """
    return _Backup(origin, store, wishes, lock, progress or Progress(), now).run(proven, check)


class _Backup:
    def __init__(
        self,
        origin: Origin,
        store: Store,
        wishes: Wishes,
        lock: Lock | None,
        progress: Progress,
        now: Callable[[], datetime],
    ) -> None:
        self._origin = origin
        self._store = store
        self._wishes = wishes
        self._lock = lock
        self._progress = progress
        self._now = now
        self._started = now()
        self._etcd = origin.etcd
        self._revision = self._etcd.revision()
        self._cluster_id = self._read_cluster_id()
        self._id = make_id(self._started, self._revision)
        self._base = set_path(self._cluster_id, self._id)
        self._cipher: Cipher | None = None
        self._written = [self._base + RUNNING]
        # This takes long, and everything else that is done before objects are copied need not wait for it.
        self._existing = parallel.beside(lambda: existing(self._store, self._cluster_id))

    def run(self, proven: Callable[[Store, str], str], check: bool) -> Outcome:
        keyring = Keyring(self._store, self._cluster_id)
        if self._wishes.recipients:
            self._cipher = keyring.cipher(self._wishes.recipients, self._wishes.identities, check=check)
        if check or self._wishes.if_changed:
            plan = self._plan(proven)
            if check or not plan.made:
                return plan
        return self._make()

    def _read_cluster_id(self) -> str:
        found = self._etcd.get(b"cluster-id")
        cluster_id = found.value.decode("utf-8", "replace") if found else ""
        if not is_cluster_id(cluster_id):
            raise BackupError(
                "this etcd holds no Pachyderm that can be backed up",
                where=self._etcd.endpoint,
                why=f"its key cluster-id is {cluster_id!r}" if found else "it has no key cluster-id",
                fix="Ask pachd once (`pachctl inspect cluster`), which writes it, and check that this is pachd's etcd.",
            )
        return cluster_id

    def _generation(self) -> str:
        found = self._etcd.get(b"gc-generation")
        return found.value.decode("utf-8", "replace") if found else ""

    # What is there already

    @cached_property
    def _previous(self) -> OpenedSet | None:
        """The newest complete set; a damaged one is as good as none, and a new one is made beside it."""
        try:
            manifest = newest(self._store, self._cluster_id)
        except BackupError as error:
            self._progress.note(str(error))
            return None
        return OpenedSet(self._store, manifest) if manifest else None

    def _matched(self, listing: Listing) -> Sequence[IndexEntry | None]:
        """Return what the newest complete set has of each object; nothing where its index is damaged."""
        try:
            return matched(listing.objects, self._previous.index() if self._previous else ())
        except BackupError as error:
            self._progress.note(str(error))
            return matched(listing.objects, ())

    def _copier(self, spelling: Spelling) -> Copier:
        return Copier(
            self._origin.store,
            spelling,
            self._store,
            self._cluster_id,
            self._id,
            root=self._origin.root,
            existing=self._existing.result(),
            cipher=self._cipher,
        )

    def _list(self) -> Listing:
        self._progress.stage("list objects", self._origin.store.where)
        listing = list_source(self._origin.store, self._origin.spellings, self._origin.root)
        if listing.spelling not in (None, self._origin.spellings[0]):
            raise BackupError(
                "pachd does not find the objects that this store holds",
                where=self._origin.store.where,
                why=f"it is set up for keys spelled '{self._origin.spellings[0].value}',"
                f" and there are {len(listing.objects)} spelled '{listing.spelling.value}'",
                fix="Correct the storage settings (on S3: REVERSE, in all pods), or the bucket, and back up again.",
            )
        return listing

    def _plan(self, proven: Callable[[Store, str], str]) -> Outcome:
        previous = self._previous
        listing = self._list()
        new = list(listing.objects)
        if listing.spelling is not None:
            pairs = zip(new, self._matched(listing), strict=True)
            copier = self._copier(listing.spelling)
            new = [each for each, old in pairs if not copier.unchanged(each, old)]
        same = (
            previous is not None
            and self._wishes.if_changed
            and not new
            and previous.manifest.objects.count == len(listing.objects)
            and previous.manifest.etcd.revision == self._revision
            and proven(self._store, self._cluster_id) == previous.manifest.id
        )
        manifest = previous.manifest if previous is not None and same else None
        return Outcome(not same, manifest, len(new), sum(each.size for each in new), listing.foreign)

    # The new set

    def _make(self) -> Outcome:
        if next(iter(self._store.list(self._base)), None) is not None:
            raise self._taken()
        running = {"host": socket.gethostname(), "process": os.getpid(), "started": utc(self._started)}
        try:
            self._store.write(self._base + RUNNING, [json.dumps(running).encode()], if_absent=True)
        except ObjectExists as error:
            raise self._taken() from error
        try:
            return self._fill()
        except PachopsError:
            # A crash leaves these to prune; an error need not.  Objects stay, for the next backup.
            with contextlib.suppress(PachopsError):
                for each in self._written:
                    self._store.delete(each)
            raise

    def _taken(self) -> BackupError:
        return BackupError(
            "another backup with the same time and revision exists",
            where=f"{self._store.where}/{self._base}",
            fix="Back up again.",
        )

    def _fill(self) -> Outcome:
        generation = self._generation()
        state, snapshot = self._snapshot()
        listing = self._list()
        copied = self._copy(listing)
        files = [snapshot, self._write(INDEX, index.dump(copied.entries), encrypt=False)]
        files.append(self._write(CLUSTER, [_yaml(self._origin.cluster)]))
        after = self._generation()
        if after != generation:
            raise BackupError(
                "garbage was collected while the backup ran",
                where=self._etcd.endpoint,
                why=f"gc-generation was {generation or 'unset'} and is {after}: objects of the snapshot may be gone",
                fix="Back up again.",
            )
        source = replace(
            self._origin.source,
            spelling=listing.spelling.value if listing.spelling else "",
            gc_generation=generation,
        )
        encryption = Encryption(self._cipher.key, tuple(sorted(set(self._wishes.recipients)))) if self._cipher else None
        manifest = Manifest(
            id=self._id,
            cluster_id=self._cluster_id,
            started=utc(self._started),
            finished=utc(self._now()),
            etcd=state,
            files=tuple(files),
            objects=copied.totals(),
            source=source,
            encryption=encryption,
            tools={"python": platform.python_version(), **self._wishes.tools},
        )
        self._publish(manifest)
        return Outcome(True, manifest, copied.copied, copied.copied_bytes, listing.foreign, len(copied.vanished))

    def _copy(self, listing: Listing) -> Copied:
        if listing.spelling is None:
            return Copied()
        self._progress.stage("copy objects", f"{len(listing.objects)} objects")
        previous = self._matched(listing)
        return self._copier(listing.spelling).run(listing.objects, previous, self._progress)

    def _publish(self, manifest: Manifest) -> None:
        self._progress.stage("publish")
        self._store.flush()
        if self._lock:
            self._lock.check()
        self._store.write(self._base + MANIFEST, [dump(manifest)], if_absent=True)
        self._store.flush()
        # The backup is complete.  Who may not delete, or has a store that keeps everything for a time, leaves the mark.
        with contextlib.suppress(StorageError):
            self._store.delete(self._base + RUNNING)

    def _snapshot(self) -> tuple[EtcdState, SetFile]:
        """Write the snapshot, and return what etcd says of it.

        A compaction during the snapshot leaves two possible hashes.  Where it went beyond the revision itself, nothing
        could be compared any more, so the snapshot is taken anew.
        """
        for attempt in range(1, _SNAPSHOTS + 1):
            self._progress.stage("etcd snapshot", self._etcd.endpoint)
            status = self._etcd.status()
            try:
                before = self._etcd.hash_kv(self._revision)
                counts = {each: self._etcd.count(each.encode(), self._revision) for each in COUNTED}
                keys = self._etcd.count(b"", self._revision)
                written, after = self._stream(again=attempt > 1)
            except EtcdError as error:
                if "compacted" not in error.why or attempt == _SNAPSHOTS:
                    raise
                self._revision = self._etcd.revision()
                continue
            hashes = tuple(dict.fromkeys(each for each in (before, after) if each))
            return EtcdState(
                self._revision,
                status.version,
                keys,
                status.db_size,
                hashes,
                {name: count for name, count in counts.items() if count},
            ), written
        raise AssertionError("the loop returns or raises")

    def _stream(self, *, again: bool) -> tuple[SetFile, KvHash | None]:
        """Write the snapshot, and return what etcd hashed meanwhile.

        etcd has fixed what it sends before it sends anything, so the hash may be asked for with the first chunk.
        """
        stream = SnapshotStream(self._etcd.snapshot_messages(), self._etcd.endpoint)
        asked: list[Future[KvHash | None]] = []

        def chunks() -> Iterator[bytes]:
            for chunk in stream:
                if not asked:
                    asked.append(beside.submit(self._etcd.hash_kv, self._revision))
                self._progress.update(stream.done, stream.total, "bytes")
                yield chunk

        with ThreadPoolExecutor(1, thread_name_prefix="hash") as beside:
            # What checks the stream has its digest already.
            name, stored = self._put(SNAPSHOT, ahead(large(chunks())), again=again)
            return SetFile(name, stored.size, stored.sha256, stream.done, stream.sha256), asked[0].result()

    def _write(self, name: str, chunks: Iterable[bytes], *, encrypt: bool = True) -> SetFile:
        raw = Count()
        name, stored = self._put(name, raw(ahead(large(chunks))), encrypt=encrypt)
        return SetFile(name, stored.size, stored.sha256, raw.size, raw.sha256)

    def _put(
        self, name: str, chunks: Iterable[bytes], *, encrypt: bool = True, again: bool = False
    ) -> tuple[str, Count]:
        """Write one file of the set, and return its name there and what was stored."""
        stored = Count()
        content: Iterable[bytes] = compressed(chunks)
        if self._cipher and encrypt:
            content = self._cipher.encrypt(content)
            name += AGE
        self._store.write(self._base + name, stored(content), if_absent=not again)
        self._written.insert(0, self._base + name)
        return name, stored


def _yaml(document: Mapping[str, Any]) -> bytes:
    import yaml

    return str(yaml.safe_dump(dict(document), sort_keys=True, allow_unicode=True)).encode()
