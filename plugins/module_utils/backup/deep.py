# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Deep verification: from every commit through its file trees to every object and block, down to the last byte.

Three passes.  The first walks the trees of all commits, which checks the trees themselves, and notes what they need.
The second follows every object and tag to the block that holds it.  The third reads every range of every block once and
compares it with the hashes that are recorded of it.  What is noted is kept in a temporary database on disk, so memory
does not grow with the installation.

Objects are named by the SHA-512 of their content.  A file that a job wrote is recorded with the SHA-512 of its content;
where several datums wrote to one file, Pachyderm hashed their hashes together in an order that it did not keep.  Such a
file is proven by the records of the datums; where these are gone, it is counted as *unproven*: its bytes exist, and
nothing in Pachyderm says what they should be.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

from ..errors import StorageError
from ..pachd.hashtree import INDEX_SUFFIX, BlockRange, Damaged, decode_index, decode_node, frames, shard_entries
from ..pachd.objects import BlockShort
from ..pachd.records import STATS_BRANCH
from ..pachd.state import Reference, State
from ..progress import Progress
from ..stores.base import ObjectMissing
from ..stores.parallel import many

#: Unneeded bytes between two ranges of a block that are rather read along than skipped by a further request.
_GAP = 64 << 10
_CACHE_KIB = 32 << 10
_SHOWN_PLACES = 20
_MAX_JOINED = 8
#: The hash of a file without objects.
_NOTHING = hashlib.sha256().digest()

_TABLES = """
CREATE TABLE object (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE size (name TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID;
CREATE TABLE listing (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE tag (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE result (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE file (names TEXT, ranges TEXT, size INTEGER, hash BLOB, PRIMARY KEY (names, ranges, size, hash))
    WITHOUT ROWID;
CREATE TABLE part (block TEXT, lower INTEGER, upper INTEGER, digest BLOB, PRIMARY KEY (block, lower, upper, digest))
    WITHOUT ROWID;
CREATE TABLE found (block TEXT, lower INTEGER, upper INTEGER, digest BLOB, PRIMARY KEY (block, lower, upper))
    WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    :param kind: ``missing``, ``size``, ``hash`` or ``damaged`` (it cannot be understood).
    :param name: the canonical name of what is wrong, or the commit where that is not one thing.
    :param hurts: where it is needed, as ``repo@commit:path``, the whole commit without a path; the first ones.
    :param hurts_total: how many such places there are.
    """

    kind: str
    name: str
    why: str
    hurts: tuple[str, ...] = ()
    hurts_total: int = 0

    def __str__(self) -> str:
        more = self.hurts_total - len(self.hurts)
        return f"{self.kind}: {self.name}: {self.why}; needed by {', '.join(self.hurts) or 'nothing'}" + (
            f" and {more} more" if more else ""
        )


@dataclass
class DeepResult:
    """What was checked.  ``files`` are distinct contents, ``bytes`` those that were read and compared."""

    revision: int
    repos: int = 0
    commits: int = 0
    files: int = 0
    objects: int = 0
    blocks: int = 0
    tags: int = 0
    bytes: int = 0
    unproven: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return the figures and findings for a report."""
        return {**asdict(self), "passed": self.passed}


class _Part(NamedTuple):
    """A range of a block, with the SHA-512 that it is to have, empty where only its own is asked for."""

    block: str
    lower: int
    upper: int
    digest: bytes

    @property
    def token(self) -> str:
        return _token(self)


class _Wrong(NamedTuple):
    """Something wrong: ``token`` is what the references that need it are recognised by."""

    token: str
    kind: str
    name: str
    why: str


@dataclass(frozen=True)
class _Followed:
    """What following one object, tag or listing brought.

    :param size: of the object in bytes, None unless it is one.
    :param read: bytes that were read and compared already.
    :param result: the object that a tag leads to.
    """

    name: str
    size: int | None = None
    read: int = 0
    parts: Sequence[_Part] = ()
    wrong: _Wrong | None = None
    result: str = ""


def verify(state: State, *, workers: int = 8, progress: Progress | None = None) -> DeepResult:
    """Check everything that the commits of ``state`` need.

    :param workers: how many reads at once.
    :raises StorageError: the store cannot be read, which says nothing about what it holds.
    :raises EtcdError: a record in etcd is damaged.
    """
    deep = _Deep(state, workers, progress or Progress())
    try:
        return deep.run()
    finally:
        deep.close()


class _Deep:
    def __init__(self, state: State, workers: int, progress: Progress) -> None:
        self._state = state
        self._workers = workers
        self._progress = progress
        self._result = DeepResult(state.keys.revision)
        self._wrong: dict[str, _Wrong] = {}
        # The empty name is a private database on disk, removed when it is closed.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            f"PRAGMA cache_size = -{_CACHE_KIB}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF"
        )
        self._db.executescript(_TABLES)

    def close(self) -> None:
        self._db.close()

    def run(self) -> DeepResult:
        self._db.execute("BEGIN")
        self._walk()
        self._follow()
        self._read()
        self._check_files()
        self._find_places()
        return self._result

    def _blame(self, wrong: _Wrong) -> None:
        self._wrong.setdefault(wrong.token, wrong)

    # First pass: what the commits need

    def _walk(self) -> None:
        self._progress.stage("walk the commits")
        repos, trees = self._state.repos(), 0
        self._result.repos = len(repos)
        self._result.commits = sum(1 for repo in repos for _unused in self._state.commits(repo.name))
        for reference in self._state.references(self._lost):
            if reference.kind in ("file", "shared"):
                self._need(reference)
            elif reference.kind == "tag":
                self._add("tag", (reference.name,))
            else:
                self._add("listing", (reference.kind, reference.name))
                trees += 1
                self._progress.update(trees, unit="trees", detail=str(reference.commit))

    def _lost(self, reference: Reference, error: StorageError) -> None:
        """Note that what lists files is wrong."""
        if reference.names:
            self._blame(self._judged(f"object/{reference.name}", reference.name, error))
        else:
            self._blame(_Wrong(str(reference.commit), _kind(error), str(reference.commit), str(error)))

    def _need(self, reference: Reference) -> None:
        blocks = reference.blocks
        new = self._add("file", _file_row(reference))
        self._result.files += new and reference.kind == "file"
        for name in reference.names:
            self._add("object", (name,))
        size = sum(each.size for each in blocks)
        if not reference.names and size != reference.size and not _is_statistic(reference):
            name = f"block/{blocks[0].block}" if blocks else str(reference)
            self._blame(_Wrong(_file_token(reference), "size", name, _sizes(reference.size, size)))
        digest = reference.hash if _is_direct(blocks, reference.hash) else b""
        for block in blocks:
            self._add("part", (block.block, block.lower, block.upper, digest))

    # Second pass: which blocks hold the objects

    def _follow(self) -> None:
        self._result.objects = self._number("object") + self._number("listing")
        self._progress.stage("find the objects")
        work: Iterator[Callable[[], _Followed]] = itertools.chain(
            (partial(self._follow_tag, name) for (name,) in self._rows("SELECT name FROM tag")),
            (partial(self._follow_object, name) for (name,) in self._rows("SELECT name FROM object")),
            (partial(self._follow_listing, *row) for row in self._rows("SELECT kind, name FROM listing")),
        )
        self._do(work, self._result.objects + self._number("tag"))
        # Where there was one datum, its result is the tree of the commit too, and that was walked.
        names = "SELECT name FROM result EXCEPT SELECT name FROM listing"
        total = int(self._one(f"SELECT count(*) FROM ({names})"))  # noqa: S608 our own words
        self._progress.stage("read the results of datums")
        self._do((partial(self._follow_result, name) for (name,) in self._rows(names)), total)

    def _do(self, work: Iterator[Callable[[], _Followed]], total: int) -> None:
        for done, followed in enumerate(many(_call, work, self._workers), 1):
            self._progress.update(done, total, "objects")
            self._result.bytes += followed.read
            for part in followed.parts:
                self._add("part", part)
            if followed.wrong:
                self._blame(followed.wrong)
            if followed.size is not None:
                self._add("size", (followed.name, followed.size))
            if followed.result:
                self._result.tags += 1
                self._add("result", (followed.result,))

    def _follow_object(self, name: str) -> _Followed:
        try:
            found = self._state.objects.locate(name)
            return _Followed(
                name, found.size, parts=[_Part(found.block, found.lower, found.upper, bytes.fromhex(name))]
            )
        except (StorageError, ValueError) as error:
            return _Followed(name, wrong=self._judged(f"object/{name}", name, error))

    def _follow_listing(self, kind: str, name: str) -> _Followed:
        """Check what stands beside an object that lists files; its content was compared when it was walked."""
        try:
            found = self._state.objects.locate(name)
        except StorageError as error:
            return _Followed(name, wrong=self._judged(f"object/{name}", name, error))
        wrong = None
        if kind == "shard":
            index = f"block/{found.block}{INDEX_SUFFIX}"
            try:
                self._check_index(index, found.size)
            except StorageError as error:
                why = f"{error.why or error.what}; pachd cannot list these files without it"
                wrong = _Wrong(f"object/{name}", _kind(error), index, why)
        return _Followed(name, read=found.size, wrong=wrong)

    def _check_index(self, index: str, size: int) -> None:
        objects, last = self._state.objects, -1
        for data in frames(objects.store.read(objects.key(index))):
            offset = decode_index(data)[1]
            if not last < offset < size:
                raise Damaged("an index is damaged", why=f"the offset {offset} comes after {last} of {size}")
            last = offset

    def _follow_tag(self, tag: str) -> _Followed:
        try:
            # Garbage collection takes the tags of earlier versions of a pipeline, and of deleted ones: None is sound.
            return _Followed(tag, result=self._state.objects.tagged(tag) or "")
        except StorageError as error:
            return _Followed(tag, wrong=self._judged(f"tag/{tag}", "", error))

    def _follow_result(self, name: str) -> _Followed:
        """Check the result of one datum, which also tells what the ranges of its block are to hash to."""
        try:
            parts = []
            for _key, value in shard_entries(self._state.checked_object(name)):
                node = decode_node(value)
                if _is_direct(node.blocks, node.hash):
                    block = node.blocks[0]
                    parts.append(_Part(block.block, block.lower, block.upper, node.hash))
            return _Followed(name, read=self._state.objects.locate(name).size, parts=parts)
        except StorageError as error:
            return _Followed(name, wrong=self._judged(f"object/{name}", name, error))

    def _judged(self, token: str, name: str, error: Exception) -> _Wrong:
        """Return what a failed look at the object ``name`` means; a store that cannot be asked ends everything."""
        kind = _kind(error)
        why = (error.why or error.what) if isinstance(error, StorageError) else str(error)
        where = f"object/{name}" if name else token
        if name:
            with contextlib.suppress(StorageError):
                where = f"block/{self._state.objects.locate(name).block}"
        return _Wrong(token, kind, where, why)

    # Third pass: every byte

    def _read(self) -> None:
        query = "SELECT coalesce(sum(upper - lower), 0) FROM (SELECT DISTINCT block, lower, upper FROM part)"
        total, done = int(self._one(query)), 0
        self._progress.stage("read the blocks")
        parts = itertools.starmap(_Part, self._rows("SELECT * FROM part ORDER BY block, lower, upper, digest"))
        work = (list(group) for _block, group in itertools.groupby(parts, lambda part: part.block))
        for block, digests in many(self._read_block, work, self._workers):
            self._result.blocks += 1
            last = None
            for part, actual in digests:
                if actual is None:
                    self._blame(_Wrong(part.token, "size", f"block/{block}", f"it ends before byte {part.upper}"))
                elif not part.digest:
                    self._add("found", (block, part.lower, part.upper, actual))
                elif part.digest != actual:
                    why = f"bytes {part.lower} to {part.upper} have the SHA-512 {actual.hex()}, not {part.digest.hex()}"
                    self._blame(_Wrong(part.token, "hash", f"block/{block}", why))
                if part.token != last:
                    last = part.token
                    done += part.upper - part.lower
            if not digests:
                self._blame(_Wrong(f"block/{block}", "missing", f"block/{block}", "the block does not exist"))
            self._progress.update(done, total, "B")
        self._result.bytes += done

    def _read_block(self, parts: list[_Part]) -> tuple[str, list[tuple[_Part, bytes | None]]]:
        """Return the SHA-512 of every range of one block, None for one that ends too early; none without a block."""
        digests: list[tuple[_Part, bytes | None]] = []
        try:
            for run in _runs(parts):
                digests += self._read_run(run)
        except ObjectMissing:
            return parts[0].block, []
        return parts[0].block, digests

    def _read_run(self, parts: list[_Part]) -> Iterator[tuple[_Part, bytes | None]]:
        """Read on from the first range to the end of the last, and hash each as its bytes pass."""
        objects, block, position = self._state.objects, parts[0].block, parts[0].lower
        whole = BlockRange(block, position, max(part.upper for part in parts))
        if not whole.size and not objects.store.exists(objects.key(f"block/{block}")):
            raise ObjectMissing("the object does not exist", where=f"block/{block}")
        waiting = deque(parts)
        hashing: dict[str, tuple[Any, list[_Part]]] = {}
        try:
            for chunk in itertools.chain(objects.read_blocks([whole]), [b""]):
                view, end = memoryview(chunk), position + len(chunk)
                while waiting and waiting[0].lower <= end:
                    part = waiting.popleft()
                    hashing.setdefault(part.token, (hashlib.sha512(), []))[1].append(part)
                for token, (digest, same) in list(hashing.items()):
                    lower, upper = same[0].lower, same[0].upper
                    digest.update(view[max(lower - position, 0) : max(upper - position, 0)])
                    if upper <= end:
                        del hashing[token]
                        yield from ((part, digest.digest()) for part in same)
                position = end
        except BlockShort:
            left = [part for _digest, same in hashing.values() for part in same]
            yield from ((part, None) for part in (*left, *waiting))

    # What follows for the files

    def _check_files(self) -> None:
        for row in self._rows("SELECT * FROM file"):
            names, ranges, size, recorded = row
            blocks = [BlockRange(*each_range) for each_range in json.loads(ranges)]
            if blocks:
                if not _is_direct(blocks, recorded):
                    self._check_joined(" ".join(map(str, row)), blocks, recorded)
                continue
            sizes = [self._one("SELECT size FROM size WHERE name = ?", name) for name in json.loads(names)]
            if sizes and None not in sizes and sum(sizes) != size:
                why = _sizes(size, sum(sizes))
                self._blame(_Wrong(" ".join(map(str, row)), "size", f"object/{json.loads(names)[0]}", why))

    def _check_joined(self, token: str, blocks: list[BlockRange], recorded: bytes) -> None:
        """Check a file that consists of several ranges, or whose hash is one of names of objects."""
        found = "SELECT digest FROM found WHERE block = ? AND lower = ? AND upper = ?"
        known = "SELECT 1 FROM part WHERE block = ? AND lower = ? AND upper = ? AND digest != x''"
        digests = [self._one(found, block.block, block.lower, block.upper) for block in blocks]
        if None in digests or joins(digests, recorded):
            return
        if len(recorded) == len(_NOTHING) and recorded != _NOTHING:
            why = f"the {len(blocks)} parts of the file do not hash to {recorded.hex()}"
            self._blame(_Wrong(token, "hash", f"block/{blocks[0].block}", why))
        elif not all(self._one(known, block.block, block.lower, block.upper) for block in blocks):
            self._result.unproven += 1

    def _find_places(self) -> None:
        """Find out what is hurt by what is wrong, by a second walk, which only a damaged state needs."""
        if not self._wrong:
            return
        self._progress.stage("look up what is hurt")
        places: dict[str, dict[str, None]] = {token: {} for token in self._wrong}
        totals = dict.fromkeys(self._wrong, 0)

        def hurt(tokens: Iterable[str], place: str) -> None:
            for token in tokens:
                if token in places and place not in places[token]:
                    totals[token] += 1
                    if len(places[token]) < _SHOWN_PLACES:
                        places[token][place] = None

        def lost(reference: Reference, _error: StorageError) -> None:
            hurt([f"object/{reference.name}", str(reference.commit)], str(reference.commit))

        located = functools.lru_cache(maxsize=100_000)(self._object_tokens)
        for reference in self._state.references(lost, every=True):
            place = f"{reference.commit} (result of a datum)" if reference.kind == "tag" else str(reference)
            hurt(self._tokens(reference, located), place)
        for token, wrong in self._wrong.items():
            self._result.findings.append(
                Finding(wrong.kind, wrong.name, wrong.why, tuple(places[token]), totals[token])
            )
        self._result.findings.sort(key=lambda finding: (finding.name, finding.kind, finding.why))

    def _tokens(self, reference: Reference, located: Callable[[str], tuple[str, ...]]) -> Iterator[str]:
        """Yield all by which something wrong may be known that the reference needs."""
        names: Iterable[str] = reference.names
        if reference.kind == "tag":
            yield f"tag/{reference.name}"
            with contextlib.suppress(StorageError):
                names = filter(None, [self._state.objects.tagged(reference.name)])
        else:
            yield _file_token(reference)
        for block in reference.blocks:
            yield from (f"block/{block.block}", _token(block))
        for name in names:
            yield from located(name)

    def _object_tokens(self, name: str) -> tuple[str, ...]:
        """Return all by which something wrong with an object may be known."""
        try:
            block = self._state.objects.locate(name)
        except StorageError:
            return (f"object/{name}",)
        return f"object/{name}", f"block/{block.block}", _token(block)

    # The database

    def _add(self, table: str, row: Sequence[Any]) -> bool:
        """Add a row and return whether it is new."""
        query = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})"  # noqa: S608 our own names
        return self._db.execute(query, row).rowcount > 0

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        return iter(self._db.execute(query))

    def _one(self, query: str, *arguments: Any) -> Any:
        row = self._db.execute(query, arguments).fetchone()
        return row[0] if row else None

    def _number(self, table: str) -> int:
        return int(self._one(f"SELECT count(*) FROM {table}"))  # noqa: S608 our own names


def joins(digests: Sequence[bytes], recorded: bytes) -> bool:
    """Return whether ``recorded`` is how Pachyderm hashes a file of several parts.

    A copied input file has the SHA-256 of its objects' names.  Parts that datums wrote are joined in pairs, again and
    again, by the SHA-512 of the two hashes one after the other; in which order the pairs were joined is not recorded.

    :param digests: the SHA-512 of each part.
    """
    if len(recorded) == len(_NOTHING):
        return hashlib.sha256("".join(each.hex() for each in digests).encode()).digest() == recorded
    total = hashlib.sha512
    if functools.reduce(lambda left, right: total(left + right).digest(), digests) == recorded:
        return True
    count = len(digests)
    if count > _MAX_JOINED:
        return False
    # What the parts from one to another may have been joined to, the shortest rows first.
    rows: dict[tuple[int, int], set[bytes]] = {(at, at + 1): {digests[at]} for at in range(count)}
    for length in range(2, count + 1):
        for start in range(count - length + 1):
            rows[start, start + length] = {
                total(left + right).digest()
                for middle in range(start + 1, start + length)
                for left in rows[start, middle]
                for right in rows[middle, start + length]
            }
    return recorded in rows[0, count]


def _is_direct(blocks: Sequence[BlockRange], digest: bytes) -> bool:
    """Return whether the digest is the SHA-512 of the one range."""
    return len(blocks) == 1 and len(digest) == hashlib.sha512().digest_size


def _is_statistic(reference: Reference) -> bool:
    """Return whether a file's size means nothing: workers record logs as empty, and list inputs without content."""
    return reference.commit.branch == STATS_BRANCH and (not reference.size or not reference.blocks)


def _file_row(reference: Reference) -> tuple[str, str, int, bytes]:
    return json.dumps(reference.names), _ranges(reference.blocks), reference.size, reference.hash


def _file_token(reference: Reference) -> str:
    return " ".join(map(str, _file_row(reference)))


def _runs(parts: list[_Part]) -> Iterator[list[_Part]]:
    """Yield the ranges of one block in rows that are read in one go."""
    run, end = [parts[0]], parts[0].upper
    for part in parts[1:]:
        if part.lower > end + _GAP:
            yield run
            run = []
        run.append(part)
        end = max(end, part.upper)
    yield run


def _kind(error: Exception) -> str:
    """Return the kind of finding; an error that says nothing about what is stored is raised again."""
    if isinstance(error, ObjectMissing):
        return "missing"
    if isinstance(error, BlockShort):
        return "size"
    if isinstance(error, (Damaged, ValueError)):
        return "damaged"
    raise error


def _token(block: BlockRange | _Part) -> str:
    return f"{block.block} {block.lower} {block.upper}"


def _ranges(blocks: Iterable[BlockRange]) -> str:
    return json.dumps([(each.block, each.lower, each.upper) for each in blocks])


def _sizes(recorded: int, found: int) -> str:
    return f"{recorded} bytes are recorded, and its parts have {found}"


def _call(function: Callable[[], _Followed]) -> _Followed:
    return function()
