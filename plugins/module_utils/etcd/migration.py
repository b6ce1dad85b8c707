# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Moving an installation's metadata from one running etcd into another, while the source is in use.

First everything as of one revision is copied, then the watch is followed; where the source has compacted what would
come next, what has changed since is listed and copied, which is the same as the first copy, only later.  ``finish``
copies the rest once nothing writes any more, and compares.

Orders.  A key's revisions cannot be copied, but which key comes before which can (see ``pachd.durable``): keys that are
listed together go into different transactions where their revisions differ, and into one where they are equal.  Keys
that are never listed together share transactions, so that the longest list decides how many are needed.

Transactions.  Waiting for one before the next is sent would take a round trip and a sync to disk for each.  So several
are under way at once, and since etcd promises no order between them, each is able to do any of their steps and does the
one whose turn it is, which the version of the journal, a key of the target, tells: each step writes it.  What was sent
twice counts once, and two migrations into one etcd find out.  The journal says which revision of the source the target
has, so a run that died is continued by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import os
import queue
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import IO, NamedTuple

from ..errors import EtcdError, MigrationError
from ..pachd.durable import Kind, Order, kind_of, listed_with, order_of
from ..progress import Progress
from .client import AtVersion, Delete, EtcdClient, Event, KeyValue, Put, step, step_request

#: In the target while a migration is under way.
JOURNAL = b"pachops/migration"
COPIED = (Kind.STATE, Kind.LOGIN)
# What every etcd takes with its defaults: 128 operations and 1.5 MiB; the journal is one of them.
_OPERATIONS, _BYTES = 127, 1 << 20
# Steps that are sent together, and their bytes: each transaction carries them all.
_TOGETHER, _BYTES_TOGETHER = 16, 64 << 10
_LISTINGS = 5  # attempts while compactions come between
_PATIENCE = 120.0  # seconds for which an etcd may be away
_PAUSE, _DRAIN_PAUSE = 0.5, 0.02
_SLACK = 60  # seconds
_AWAY = "cannot reach etcd"
_COMPACTED = "compacted"


@dataclass(frozen=True)
class Journal:
    """How far a migration is.

    :param source: the cluster id of the installation that is moved.
    :param revision: of the source's etcd, which the target has in full; 0: of none yet.
    :param run: the program that writes it.
    """

    source: str
    revision: int = 0
    run: str = ""

    def dump(self) -> bytes:
        """Return the journal's value."""
        return json.dumps({"source": self.source, "revision": self.revision, "run": self.run}).encode()

    @classmethod
    def load(cls, data: bytes) -> Journal:
        """Return what a journal's value says.

        :raises MigrationError: it is none.
        """
        try:
            fields = json.loads(data)
            return cls(str(fields["source"]), int(fields["revision"]), str(fields["run"]))
        except (ValueError, KeyError, TypeError) as error:
            raise MigrationError(
                "the journal of the migration cannot be read",
                where=JOURNAL.decode(),
                why=f"{type(error).__name__}: {data[:100]!r}",
                fix="Undo the migration, or use an empty etcd.",
            ) from error


@dataclass(frozen=True)
class KeyPlan:
    """What a source holds; ``size`` in bytes of keys and values that are copied, ``kinds`` counts keys."""

    revision: int
    kinds: Mapping[Kind, int]
    size: int
    foreign: Sequence[bytes] = ()

    @property
    def keys(self) -> int:
        """How many keys are copied."""
        return sum(self.kinds.get(each, 0) for each in COPIED)


@dataclass(frozen=True)
class RangeDigest:
    """What all that is copied hashes to: keys, values, and which came before which."""

    keys: int
    sha256: str
    revision: int = field(compare=False)


@dataclass(frozen=True)
class Lag:
    """How far the target is behind: revisions that it has not seen, and for how many seconds that has been so."""

    revisions: int
    seconds: float


class _Key(NamedTuple):
    """A key as it is listed; its value lies in the spool."""

    key: bytes
    created: int
    modified: int
    lease: int
    offset: int
    size: int


class KeyMigration:
    """The metadata's way from ``source``, which is only read, to ``target``."""

    def __init__(
        self,
        source: EtcdClient,
        target: EtcdClient,
        *,
        progress: Progress | None = None,
        workdir: str = "",
        patience: float = _PATIENCE,
    ) -> None:
        """:param workdir: where an unnamed file of the database's size may lie; default: where temporary files do.
        :param patience: seconds for which either etcd may be away before that is an error.
        """
        self._source = source
        self._target = target
        self._progress = progress or Progress("")
        self._workdir = workdir or None
        self._patience = patience
        self._writer: _Writer | None = None
        self._leases: dict[int, bool] = {}
        self._compared: tuple[RangeDigest, RangeDigest] | None = None

    # Before

    def plan(self) -> KeyPlan:
        """Return what would be copied; nothing is written.

        :raises MigrationError: when the source holds no installation.
        """
        revision = self._source.revision()
        kinds: Counter[Kind] = Counter()
        foreign: list[bytes] = []
        size = 0
        for each in self._source.range(b"", revision):
            kind = kind_of(each.key, each.lease)
            kinds[kind] += 1
            if kind in COPIED:
                size += len(each.key) + len(each.value)
            elif kind is Kind.FOREIGN and len(foreign) < 3:
                foreign.append(each.key)
        self.cluster_id()
        return KeyPlan(revision, kinds, size, foreign)

    def cluster_id(self) -> str:
        """Return the source's cluster id.

        :raises MigrationError: when it has none, and therefore no Pachyderm.
        """
        found = self._source.get(b"cluster-id")
        if found is None:
            raise MigrationError(
                "this etcd holds no Pachyderm that can be moved",
                where=self._source.endpoint,
                why="it has no key cluster-id",
                fix="Check that this is pachd's etcd; pachd writes the key when it is asked (pachctl inspect cluster).",
            )
        return found.value.decode("utf-8", "replace")

    def journal(self) -> Journal | None:
        """Return how far the target is with a migration; None where there is none in it."""
        found = self._target.get(JOURNAL)
        return Journal.load(found.value) if found else None

    def require_target(self) -> Journal | None:
        """Return the journal of the migration that can be continued, None where the target is empty.

        :raises MigrationError: when the target holds something else.
        """
        journal, source = self.journal(), self.cluster_id()
        if journal is None:
            held = next((each.key for each in self._target.range(b"", keys_only=True) if _copied(each)), None)
            if held is not None:
                raise MigrationError(
                    "the target's etcd is not empty",
                    where=self._target.endpoint,
                    why=f"it holds {held[:80]!r}, and no migration is under way in it",
                    fix="Use a new installation that was deployed without starting pachd, or remove this one first.",
                )
        elif journal.source != source:
            raise MigrationError(
                "another installation is being moved into the target",
                where=self._target.endpoint,
                why=f"the migration under way is of cluster {journal.source}, and the source is {source}",
                fix="Continue that one or undo it, or use another target.",
            )
        return journal

    def begin(self) -> Journal:
        """Start writing, where an earlier run ended if there was one, and return where that was.

        :raises MigrationError: when the target cannot be used.
        """
        before = self.require_target()
        journal = replace(before or Journal(self.cluster_id()), run=secrets.token_hex(8))
        found = self._target.get(JOURNAL)
        self._writer = _Writer(self._target, journal, found.version if found else 0, self._patience)
        self._writer.add([])
        self._writer.flush()
        return journal

    # Copying

    @property
    def revision(self) -> int:
        """The source's revision that the target has; 0 before the first copy is through."""
        return self._started().journal.revision

    @property
    def applied(self) -> int:
        """The source's revision that the target has by now, in full but while the first copy is under way."""
        return self._started().applied

    def copy(self) -> int:
        """Copy everything, or what has changed since the target's revision, and return the revision reached."""
        writer = self._started()
        since = writer.journal.revision
        if since and self._unchanged(since):
            writer.add([], since)
            writer.flush()
            return since
        with tempfile.TemporaryFile(prefix="pachops-migration-", dir=self._workdir) as spool:
            revision, found, wanted = self._list(spool, since)
            gone = self._gone(found, wanted, since)
            for start in range(0, len(gone), _OPERATIONS):
                writer.add([Delete(key) for key in gone[start : start + _OPERATIONS]])
            done = 0
            for batch in _batches(found, since):
                writer.add(
                    [
                        Put(each.key, os.pread(spool.fileno(), each.size, each.offset), each.lease)
                        for each in batch
                        if self._leased(each.lease)
                    ]
                )
                done += len(batch)
                self._progress.update(done, len(found), "keys")
        writer.add([], revision)
        writer.flush()
        return revision

    def _unchanged(self, since: int) -> bool:
        patience = _Patience(self._patience)
        while True:
            try:
                return self._source.revision() == since
            except EtcdError as error:
                patience.wait(error)

    def _list(self, spool: IO[bytes], since: int) -> tuple[int, list[_Key], set[bytes]]:
        """Return a revision, what was modified after ``since`` (values: in the spool), and which keys there are."""
        patience, compacted = _Patience(self._patience), 0
        while True:
            try:
                revision = self._source.revision()
                found = self._spooled(spool, revision, since)
                if not since:
                    return revision, found, {each.key for each in found}
                keys = self._source.range(b"", revision, keys_only=True)
                return revision, found, {each.key for each in keys if _copied(each)}
            except EtcdError as error:
                compacted += _COMPACTED in error.why
                if _COMPACTED not in error.why:
                    patience.wait(error)
                elif compacted >= _LISTINGS:
                    raise

    def _spooled(self, spool: IO[bytes], revision: int, since: int) -> list[_Key]:
        spool.seek(0)
        spool.truncate()
        found: list[_Key] = []
        offset = 0
        for each in self._source.range(b"", revision, since + 1 if since else 0):
            if _copied(each):
                size = spool.write(each.value)
                found.append(_Key(each.key, each.create_revision, each.mod_revision, each.lease, offset, size))
                offset += size
                self._progress.update(len(found), unit="keys", detail="listing")
        spool.flush()
        return found

    def _gone(self, found: Iterable[_Key], wanted: set[bytes], since: int) -> list[bytes]:
        """Return what the target has and the source has not, or has made anew, so that it will be put again."""
        anew = {each.key for each in found if each.created > since}
        held = (each.key for each in self._target.range(b"", keys_only=True) if _copied(each))
        return [key for key in held if key in anew or key not in wanted]

    def _leased(self, lease: int) -> bool:
        """Give the target a lease of the same id and remaining time; return whether the source's still lives."""
        if not lease or self._leases.get(lease):
            return True
        left = self._source.lease_remaining(lease)
        if left > 0:
            try:
                # Never shorter than the source's: that a login has ended is the source's to say.
                self._target.lease_grant(left + _SLACK, lease)
            except EtcdError as error:
                if "already exists" not in error.why:
                    raise
            self._leases[lease] = True
        return left > 0

    # Following

    def follow(self, opened: Callable[[Callable[[], None]], object]) -> None:
        """Apply what the source changes, revision by revision, until the watch is ended.

        :param opened: is called with a function that ends it from another thread, for every watch that is begun.
        :raises EtcdError: when one of the two stays away, or refuses.
        :raises MigrationError: when somebody else writes to the target.
        """
        writer = self._started()
        patience = _Patience(self._patience)
        while True:
            try:
                with _Watched(self._source, writer.journal.revision + 1, opened) as watched:
                    for events in watched:
                        patience = _Patience(self._patience)
                        for revision, group in groupby(events, key=lambda each: each.kv.mod_revision):
                            writer.add(self._operations(group), revision)
                        if watched.idle:
                            writer.flush()
                return
            except EtcdError as error:
                if _COMPACTED in error.why:
                    self._progress.note("the source has compacted what comes next: listing what has changed")
                    self.copy()
                else:
                    patience.wait(error)

    def _operations(self, events: Iterable[Event]) -> list[Put | Delete]:
        operations: list[Put | Delete] = []
        for each in events:
            # The event of a deletion does not say which lease the key had.
            if each.deleted and kind_of(each.kv.key, 0) is Kind.STATE:
                operations.append(Delete(each.kv.key))
            elif not each.deleted and _copied(each.kv) and self._leased(each.kv.lease):
                operations.append(Put(each.kv.key, each.kv.value, each.kv.lease))
        return operations

    @contextlib.contextmanager
    def following(self) -> Iterator[Follower]:
        """Yield a thread that follows the source while the context lasts."""
        follower = Follower(self, self._source)
        follower.start()
        try:
            yield follower
        finally:
            follower.stop()

    # After

    def compare_early(self) -> None:
        """Compare both sides while the source is in use, so that ``verify`` reads only what has changed since.

        Where that cannot be done, or they differ, ``verify`` compares all.
        """
        self._compared = None
        with contextlib.suppress(EtcdError):
            revision = self._target.revision()
            found = self._target.get(JOURNAL, revision)
            reached = Journal.load(found.value).revision if found else 0
            if reached:
                # A step is one revision of the source, and writes the journal: the target has no more and no less.
                ours, theirs = self._digests(reached, revision)
                self._compared = (ours, theirs) if ours == theirs else None

    def verify(self, revision: int = 0) -> RangeDigest:
        """Return what both sides hash to.

        :param revision: the source's that is compared; default: its newest.
        :raises MigrationError: when they differ.
        """
        if self._compared and not revision:
            before, there = self._compared
            with contextlib.suppress(EtcdError):
                ours, theirs = self._digests(0, 0, before.revision, there.revision)
                if ours == theirs:
                    both = hashlib.sha256(f"{before.sha256}{ours.sha256}".encode()).hexdigest()
                    return replace(ours, sha256=both)
        ours, theirs = self._digests(revision)
        if ours != theirs:
            raise MigrationError(
                "the copy of the metadata differs from the source",
                where=self._target.endpoint,
                why=f"the source has {ours.keys} keys of hash {ours.sha256[:16]}…,"
                f" the target {theirs.keys} of {theirs.sha256[:16]}…",
                fix="See to it that nothing writes to either of them, and run it again.",
            )
        return ours

    def _digests(
        self, revision: int, target_revision: int = 0, since: int = 0, target_since: int = 0
    ) -> tuple[RangeDigest, RangeDigest]:
        """Return what both sides hash to; while one of them is awaited, the other is read."""
        with ThreadPoolExecutor(1) as beside:
            theirs = beside.submit(digest, self._target, target_revision, target_since)
            return digest(self._source, revision, since), theirs.result()

    def close(self) -> None:
        """End the migration: the target is complete, and forgets that it was ever moved."""
        self._started().close()
        self._writer = None

    def undo(self) -> int:
        """Empty the target of what a migration that is under way put there; return how many keys that were.

        :raises MigrationError: when no migration is under way: what is there may be somebody's.
        """
        if self.journal() is None:
            raise MigrationError(
                "no migration is under way in the target", where=self._target.endpoint, fix="There is nothing to undo."
            )
        return self.wipe()

    def wipe(self) -> int:
        """Empty the target of everything that a migration copies; return how many keys that were."""
        held = list(self._target.range(b"", keys_only=True))
        keys = [each.key for each in held if _copied(each)]
        for start in range(0, len(keys), _OPERATIONS):
            self._target.txn([], [Delete(key) for key in keys[start : start + _OPERATIONS]])
        for lease in {each.lease for each in held if each.lease and _copied(each)}:
            self._target.lease_revoke(lease)
        self._target.delete(JOURNAL)
        return len(keys)

    def _started(self) -> _Writer:
        if self._writer is None:
            raise MigrationError("the migration was not begun", fix="Call begin() first.")
        return self._writer


class Follower(threading.Thread):
    """Follows the source until it is stopped, and knows how far behind it is."""

    def __init__(self, migration: KeyMigration, source: EtcdClient) -> None:
        super().__init__(name="follower", daemon=True)
        self._migration = migration
        self._source = source
        self._level = time.monotonic()
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._end: Callable[[], None] = lambda: None
        self._stopped = False

    def run(self) -> None:
        """Follow; the thread's own work."""
        try:
            while not self._stopped:
                self._migration.follow(self._opened)
        except Exception as error:  # noqa: BLE001 - it is raised where the thread is asked
            self._error = error

    def _opened(self, end: Callable[[], None]) -> None:
        with self._lock:
            self._end = end
            if self._stopped:
                end()

    def lag(self) -> Lag:
        """Return how far the target is behind.

        :raises PachopsError: what ended the following.
        """
        self.check()
        behind = max(0, self._source.revision() - self._migration.applied)
        now = time.monotonic()
        if not behind:
            self._level = now
        return Lag(behind, now - self._level)

    def check(self) -> None:
        """Return while it follows.

        :raises PachopsError: what ended it.
        """
        if self._error is not None:
            raise self._error

    def drain(self, seconds: float) -> bool:
        """Return whether the target has all that the source, which is paused, has written; ``seconds`` are awaited.

        :raises PachopsError: what ended it.
        """
        end = time.monotonic() + seconds
        while self.lag().revisions:
            if time.monotonic() >= end:
                return False
            time.sleep(_DRAIN_PAUSE)
        return True

    def stop(self) -> None:
        """End it; what it has begun to apply is applied."""
        with self._lock:
            self._stopped = True
            self._end()
        self.join()


class _Patience:
    """Waits while an etcd is away, for so long."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def wait(self, error: EtcdError) -> None:
        """Return after a pause where ``error`` may pass, and time is left.

        :raises EtcdError: where not.
        """
        if error.what != _AWAY or time.monotonic() >= self._until:
            raise error
        time.sleep(_PAUSE)


class _Watched:
    """Iterates over what a watch sees, and knows whether more is waiting already."""

    def __init__(self, etcd: EtcdClient, revision: int, opened: Callable[[Callable[[], None]], object]) -> None:
        self._events: queue.SimpleQueue[Sequence[Event] | Exception | None] = queue.SimpleQueue()
        self._end: Callable[[], None] = lambda: None
        self._opened = opened
        self._thread = threading.Thread(target=self._read, args=(etcd, revision), name="watch", daemon=True)

    def __enter__(self) -> _Watched:
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._end()
        self._thread.join()

    def __iter__(self) -> Iterator[Sequence[Event]]:
        while (events := self._events.get()) is not None:
            if isinstance(events, Exception):
                raise events
            yield events

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting."""
        return self._events.empty()

    def _begun(self, end: Callable[[], None]) -> None:
        self._end = end
        self._opened(end)

    def _read(self, etcd: EtcdClient, revision: int) -> None:
        try:
            for events in etcd.watch(b"", revision, self._begun):
                self._events.put(events)
            self._events.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the events are taken
            self._events.put(error)


class _Step(NamedTuple):
    """A transaction to come: what it writes, and how often the journal was written before it and what it says after."""

    version: int
    request: bytes
    journal: Journal
    empty: bool

    @classmethod
    def made(cls, version: int, journal: Journal, operations: Sequence[Put | Delete]) -> _Step:
        """Return the step that applies ``operations`` and writes the journal."""
        writes = (*operations, Put(JOURNAL, journal.dump()))
        return cls(version, step(JOURNAL, version, writes), journal, not operations)


class _Writer:
    """Writes steps into the target in their order, several under way at once."""

    def __init__(self, etcd: EtcdClient, journal: Journal, version: int, patience: float) -> None:
        """:param version: how often the journal's key was written since it was created."""
        self._etcd = etcd
        self._version = version
        self._patience = patience
        self._steps: list[_Step] = []
        self._size = 0
        self._sent: list[_Step] = []
        self._answers: list[Callable[[], bool]] = []
        #: As it is after the last step that was added.
        self.journal = journal
        #: The revision up to which the target has everything.
        self.applied = journal.revision

    def add(self, operations: Sequence[Put | Delete], revision: int = 0) -> None:
        """Apply ``operations`` as one step, sooner or later.

        :param revision: what the target has in full afterwards; default: as much as before.
        """
        if revision:
            self.journal = replace(self.journal, revision=revision)
            if not operations and self._steps and self._steps[-1].empty:
                self._steps[-1] = _Step.made(self._steps[-1].version, self.journal, ())
                return
        made = _Step.made(self._version, self.journal, operations)
        if self._steps and (len(self._steps) >= _TOGETHER or self._size + len(made.request) > _BYTES_TOGETHER):
            self._send()
        self._steps.append(made)
        self._size += len(made.request)
        self._version += 1

    def flush(self) -> None:
        """Return when everything that was added is applied."""
        self._send()
        self._wait()

    def _send(self) -> None:
        """Send what was added, after what was sent before is applied; what comes next is prepared meanwhile."""
        self._wait()
        self._sent, self._steps, self._size = self._steps, [], 0
        request = step_request([each.request for each in self._sent])
        with contextlib.suppress(EtcdError):
            for _each in self._sent:
                self._answers.append(self._etcd.begin_step(request))

    def _wait(self) -> None:
        """Return when everything that was sent is applied."""
        sent, answers, self._sent, self._answers = self._sent, self._answers, [], []
        if not sent:
            return
        applied = 0
        for each in answers:
            # Each is waited for, so that none is under way when they are repeated.
            with contextlib.suppress(EtcdError):
                applied += each()
        if applied < len(sent):
            for step_sent in sent:
                self._repeat(step_sent)
        self.applied = sent[-1].journal.revision

    def close(self) -> None:
        """Remove the journal, unless somebody else has written it."""
        self.flush()
        if not self._etcd.txn([AtVersion(JOURNAL, self._version)], [Delete(JOURNAL)]) and self._etcd.get(JOURNAL):
            raise self._taken()

    def _repeat(self, lost: _Step) -> None:
        """See to it that a step that was lost, or not, is applied."""
        patience = _Patience(self._patience)
        while True:
            try:
                found = self._etcd.get(JOURNAL)
                reached = found.version if found else 0
                if found and reached > lost.version and Journal.load(found.value).run == self.journal.run:
                    return
                if reached != lost.version:
                    raise self._taken()
                if self._etcd.begin_step(lost.request)():
                    return
            except EtcdError as error:
                patience.wait(error)

    def _taken(self) -> MigrationError:
        return MigrationError(
            "another migration writes to the same target",
            where=self._etcd.endpoint,
            why=f"its journal {JOURNAL.decode()} was changed by another run",
            fix="Let one of them end, then run this again; it continues where the other one was.",
        )


def _copied(each: KeyValue) -> bool:
    return kind_of(each.key, each.lease) in COPIED


def _batches(found: Iterable[_Key], since: int) -> Iterator[list[_Key]]:
    """Yield what to put, in transactions that keep the orders.

    :param since: keys created after this revision are new to the target.
    """
    lists: dict[bytes, list[_Key]] = {}
    for each in found:
        lists.setdefault(listed_with(each.key), []).append(each)
    chains = [chain for name, keys in lists.items() for chain in _chains(keys, order_of(name), since) if chain]
    # The longest first: it decides how many transactions are needed.
    waiting = [(-len(chain), number, 0) for number, chain in enumerate(chains)]
    heapq.heapify(waiting)
    while waiting:
        batch: list[_Key] = []
        size = 0
        taken: list[tuple[int, int, int]] = []
        while waiting:
            left, number, position = waiting[0]
            group = chains[number][position]
            bytes_of = sum(len(each.key) + each.size for each in group)
            if batch and (len(batch) + len(group) > _OPERATIONS or size + bytes_of > _BYTES):
                break
            heapq.heappop(waiting)
            batch += group
            size += bytes_of
            if left < -1:
                taken.append((left + 1, number, position + 1))
        for rest in taken:
            heapq.heappush(waiting, rest)
        yield batch


def _chains(keys: Sequence[_Key], order: Order, since: int) -> Iterator[list[list[_Key]]]:
    """Yield the keys of one list in groups; those of one chain have to be put one after the other."""
    created = _groups((each for each in keys if each.created > since), lambda each: each.created)
    if Order.MODIFIED not in order:
        yield created
        # Where nothing is read in the order of modifications, what is there already may come in any.
        yield from ([[each]] for each in keys if each.created <= since)
        return
    modified = _groups(keys, lambda each: each.modified)
    yield modified if Order.CREATED not in order or modified == created else created + modified


def _groups(keys: Iterable[_Key], revision: Callable[[_Key], int]) -> list[list[_Key]]:
    return [list(group) for _unused, group in groupby(sorted(keys, key=revision), key=revision)]


def digest(etcd: EtcdClient, revision: int = 0, since: int = 0) -> RangeDigest:
    """Return what all that is copied hashes to, with which keys of a list came before which, and which at once.

    :param since: leave out the content and the place of what was not written after this revision; every key counts all
        the same.  Where two etcds were equal at their revisions then, they are now if this is.
    """
    revision = revision or etcd.revision()
    result = hashlib.sha256()
    lists: dict[bytes, list[_Row]] = {}
    count = 0
    if since:
        for each in etcd.range(b"", revision, keys_only=True):
            if _copied(each):
                result.update(b"%d:%b" % (len(each.key), each.key))
                count += 1
    for each in etcd.range(b"", revision, since + 1 if since else 0):
        if _copied(each):
            content = hashlib.sha256(b"%d:%b" % (each.lease, each.value)).digest()
            row = _Row(each.key, content, each.create_revision, each.mod_revision)
            lists.setdefault(listed_with(each.key), []).append(row)
            count += not since
    for name, rows in sorted(lists.items()):
        order = order_of(name)
        for flag, column in _COLUMNS.items():
            if flag in order:
                result.update(b"%d:%b" % (len(name), name))
                rank, last = 0, 0
                # What was there then comes before all that came later.
                for at, row in sorted((max(0, column(row) - since), row) for row in rows):
                    rank += at != last
                    last = at
                    result.update(b"%d:%d:%b%b" % (rank, len(row.key), row.key, row.content))
    return RangeDigest(count, result.hexdigest(), revision)


class _Row(NamedTuple):
    """A key as it is hashed; the key comes first, so that rows of one revision are in the order of their keys."""

    key: bytes
    content: bytes
    created: int
    modified: int


_COLUMNS: Mapping[Order, Callable[[_Row], int]] = {
    Order.CREATED: attrgetter("created"),
    Order.MODIFIED: attrgetter("modified"),
}
