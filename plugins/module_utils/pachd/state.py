# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Pachyderm 1.13's state, read with no Pachyderm running: the records in etcd and the content behind them.

Metadata comes from a running etcd or from a snapshot file, content from any store under any spelling of its keys.
``docs/state_format.md`` describes every form that is read here.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from ..errors import InputError, StorageError
from ..etcd.client import EtcdClient, KeyValue
from ..etcd.keyspace import Keyspace, LiveKeyspace, Snapshot
from ..stores.base import ObjectMissing
from ..stores.parallel import in_order, many
from . import paths, records
from .hashtree import (
    INDEX_SUFFIX,
    BlockRange,
    Damaged,
    HashTree,
    Node,
    Shared,
    decode_node,
    encode_node,
    frames,
    key_of,
    merge,
    parent_of,
    path_of,
    shard_entries,
    tree_entries,
)
from .objects import Objects
from .records import PREFIX, SPEC_FILE, SPEC_REPO, STATS_BRANCH, Auth, Branch, Commit, Job, Pipeline, PipelineSpec, Repo
from .writes import apply_records

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
_COMMIT_ID = re.compile(r"[0-9a-f]{12}4[0-9a-f]{19}")
_ANCESTRY = re.compile(r"[\^~.]")
#: How many small reads are under way at once.
_WORKERS = 16
#: How many listings of files are read in advance, and how many bytes of each.
_LISTINGS, _READ_AHEAD = 8, 2 << 20
_SHA512_SIZE = hashlib.sha512().digest_size
#: How many nodes of trees are remembered as seen: neighbouring commits have nearly the same ones.
_REMEMBERED = 200_000
#: What a tag's name gets behind it for the datum's statistics.
STATS_SUFFIX = "_stats"


class NotInState(InputError):
    """There is no such repo, branch, commit or file."""


@dataclass(frozen=True)
class File:
    """A file or directory of a commit.

    :param type: ``file`` or ``dir``.
    :param size: bytes; of a directory the sum of what is below it.
    :param hash: in hexadecimal digits, as Pachyderm's API gives it: no hash of the bytes alone.
    """

    path: str
    type: str
    size: int
    hash: str
    objects: tuple[str, ...] = field(default=(), repr=False)
    blocks: tuple[BlockRange, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Reference:
    """One thing that a commit needs.

    :param kind: ``tree`` and ``shard`` are objects that list files, ``datums`` is the object that lists datums, ``tag``
        the name of a datum's result, ``file`` the content of a file, ``shared`` header and footer of a directory.
    :param names: hashes of objects, or the one tag.
    :param path: the file or directory concerned, empty where it is the whole commit.
    :param blocks: where the content of a file is that has no objects.
    :param size: what the file's content, or header and footer together, are recorded to have, in bytes.
    :param hash: what the file is recorded to hash to.
    """

    kind: str
    names: tuple[str, ...]
    commit: Commit
    path: str = ""
    blocks: tuple[BlockRange, ...] = ()
    size: int = 0
    hash: bytes = b""

    @property
    def name(self) -> str:
        """The one object or tag; empty where there is none."""
        return self.names[0] if self.names else ""

    def __str__(self) -> str:
        return f"{self.commit}:{self.path}" if self.path else str(self.commit)


#: Told of an object that a commit needs and that cannot be read; whatever it raises ends the walk.
Lost = Callable[[Reference, StorageError], None]


class State:
    """The state of one installation as of one revision.  A context manager."""

    def __init__(self, keys: Keyspace, objects: Objects | None = None, prefix: str = PREFIX) -> None:
        """:param objects: the content, where files are to be read.
        :param prefix: the root of Pachyderm's keys, another one only where ETCD_PREFIX was set.
        """
        self.keys = keys
        self._objects = objects
        self._prefix = prefix

    @classmethod
    def open(
        cls, source: str | Path | BinaryIO | EtcdClient, objects: Objects | None = None, revision: int = 0
    ) -> Self:
        """Return the state that is in ``source``.

        :param source: a running etcd, or a snapshot file.
        :param revision: an older revision than the newest.
        :raises EtcdError: etcd cannot be reached, or the snapshot is damaged or does not hold the revision.
        """
        keys: Keyspace = (
            LiveKeyspace(source, revision) if isinstance(source, EtcdClient) else Snapshot(source, revision)
        )
        return cls(keys, objects)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the snapshot; a running etcd's client stays open, for it is the caller's."""
        if isinstance(self.keys, Snapshot):
            self.keys.close()

    @property
    def objects(self) -> Objects:
        """The content.

        :raises InputError: the state was opened without any.
        """
        if self._objects is None:
            raise InputError(
                "content is needed, and only metadata was opened", fix="Name the object store that belongs to it."
            )
        return self._objects

    # Records

    @property
    def cluster_id(self) -> str:
        """What identifies the installation; empty before pachd's first start."""
        found = self.keys.get(b"cluster-id")
        return found.value.decode() if found else ""

    def repos(self) -> list[Repo]:
        """Return all repos, the one of the specifications too, the last created first."""
        return [records.repo(each.value, _shown(each.key)) for each in self.keys.newest_first(self._key("pfs/repos/"))]

    def branches(self, repo: str) -> list[Branch]:
        """Return the branches of a repo, the last created first.

        :raises NotInState: there is no such repo.
        """
        self._check_repo(repo)
        found = self.keys.newest_first(self._key(f"pfs/branches/{repo}/"))
        return [records.branch(each.value, _shown(each.key)) for each in found]

    def branch(self, repo: str, name: str) -> Branch:
        """Return one branch.

        :raises NotInState: there is no such branch.
        """
        return self._one(f"pfs/branches/{repo}/{name}", records.branch, f"{repo}@{name}", "branch")

    def commits(self, repo: str) -> Iterator[Commit]:
        """Yield the commits of a repo, the last created first.

        :raises NotInState: there is no such repo.
        """
        self._check_repo(repo)
        for each in self.keys.newest_first(self._key(f"pfs/commits/{repo}/")):
            yield records.commit(each.value, _shown(each.key))

    def commit(self, repo: str, reference: str) -> Commit:
        """Return one commit.

        :param reference: a commit's id or a branch's name, with ``^`` or ``~`` and a number for an ancestor, or with
            ``.`` and a number counted from the first commit on.
        :raises NotInState: there is no such branch or commit.
        """
        name, back = _parse_ancestry(reference)
        if not _COMMIT_ID.search(name):
            head = self.branch(repo, name).head
            if head is None:
                raise NotInState("the branch has no commits", where=f"{repo}@{name}")
            name = head
        found = self._commit(repo, name)
        if back < 0:
            row = deque([found], maxlen=-back)
            while found.parent:
                found = self._commit(repo, found.parent)
                row.append(found)
            if len(row) == -back:
                return row[0]
            raise NotInState("the commit does not exist", where=f"{repo}@{reference}", why="there are not so many")
        for _unused in range(back):
            if not found.parent:
                raise NotInState("the commit does not exist", where=f"{repo}@{reference}", why="there are not so many")
            found = self._commit(repo, found.parent)
        return found

    def open_commits(self) -> list[Commit]:
        """Return the commits that are not finished."""
        found = []
        for each in self.keys.range(self._key("pfs/openCommits/")):
            ref = records.parse("Commit", each.value, _shown(each.key))
            # Deleting a repo leaves the entries of its open commits behind (``deleteRepo`` of v1.13.4).
            with contextlib.suppress(NotInState):
                found.append(self._commit(ref.repo.name, ref.id))
        return found

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs, the last created first."""
        for each in self.keys.newest_first(self._key("pps/jobs/")):
            yield records.job(each.value, _shown(each.key))

    def pipelines(self) -> list[Pipeline]:
        """Return the pipelines, the last created first."""
        prefix = self._key("pps/pipelines/")
        return [
            records.pipeline(each.key[len(prefix) :].decode(), each.value, _shown(each.key))
            for each in self.keys.newest_first(prefix)
        ]

    def spec(self, pipeline: Pipeline) -> PipelineSpec:
        """Return a pipeline's specification, a file in the repo of specifications.

        :raises NotInState: the commit or the file is missing.
        :raises StorageError: its content is missing or damaged.
        """
        commit = self.commit(pipeline.spec_commit.repo, pipeline.spec_commit.name)
        return records.pipeline_spec(b"".join(self.read(commit, SPEC_FILE)), f"{commit}:{SPEC_FILE}")

    def auth(self) -> Auth:
        """Return what there is of authentication, in counts; no token or name is decoded."""

        def found(name: str) -> list[KeyValue]:
            return list(self.keys.range(self._key(f"auth/{name}/")))

        tokens = found("tokens")
        return Auth(
            active=bool(found("admins") or found("fs-admins")),
            tokens=len(tokens),
            leased_tokens=sum(1 for each in tokens if each.lease),
            codes=len(found("auth-codes")),
            acls=len(found("acls")),
            members=len(found("members")),
            groups=len(found("groups")),
            configured=bool(found("config")),
        )

    # Files

    def files(self, commit: Commit, path: str = "/", *, recursive: bool = True) -> Iterator[File]:
        """Yield the file or directory at ``path`` and what is below it, in key order; the root comes as ``/``.

        :param recursive: False: of what is below a directory, only what is directly in it.
        :raises NotInState: there is nothing at ``path``.
        :raises StorageError: what lists the files is missing or damaged, or the commit is the open output of a job.
        """
        top = paths.clean(path)
        depth = top.count("/") + 1
        missing = bool(top)
        for found, node, shared in self._nodes(commit, top):
            missing = False
            if recursive or found.count("/") <= depth:
                yield _file(found, node, shared)
        if missing:
            raise NotInState("the file does not exist", where=f"{commit}:{top}")

    def file(self, commit: Commit, path: str) -> File:
        """Return the file or directory at ``path``; errors as for ``files``."""
        for found in self.files(commit, path, recursive=False):
            return found
        return File("/", "dir", 0, "")

    def read(self, commit: Commit, path: str) -> Iterator[bytes]:
        """Yield the content of a file; errors as for ``files`` and ``content``."""
        found = self.file(commit, path)
        if found.type == "dir":
            raise NotInState("this is a directory, no file", where=f"{commit}:{found.path}")
        return self.content(found)

    def content(self, found: File) -> Iterator[bytes]:
        """Yield the content of a file that ``files`` gave.

        Every object is compared with the hash that it is named by, and content in blocks with the file's hash where
        that is a hash of the bytes; the error comes after the last byte.

        :raises StorageError: something is missing, too short or differs.
        """
        for name in found.objects:
            yield from self.checked_object(name)
        digest, size = hashlib.sha512(), 0
        for chunk in self.objects.read_blocks(found.blocks):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        whole = len(found.blocks) == 1 and len(found.hash) == 2 * _SHA512_SIZE
        if whole and digest.hexdigest() != found.hash:
            raise Damaged(
                "the content is damaged",
                where=f"{found.path}, block/{found.blocks[0].block}",
                why=f"its SHA-512 is {digest.hexdigest()}, and {found.hash} was recorded",
            )

    def checked_object(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object, and compare it with the hash that it is named by.

        :raises StorageError: it is missing, too short, or differs, which shows after the last byte.
        """
        digest = hashlib.sha512()
        for chunk in self.objects.read([name]):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != name:
            raise Damaged(
                "an object is damaged",
                where=f"object/{name}",
                why=f"the SHA-512 of its content is {digest.hexdigest()}",
            )

    # What the metadata reaches

    def references(self, lost: Lost | None = None, *, every: bool = False) -> Iterator[Reference]:
        """Yield what the commits of all repos need, tags of their datums included.

        :param lost: what to do about an object that lists files or datums and cannot be read; default: raise.
        :param every: whether to yield what several commits share once for each of them; else it comes once, or a few
            times where the commits are far apart.
        """
        seen = None if every else _Recent()
        return self._walk(self._listings(seen), seen, lost)

    def references_of(self, commit: Commit) -> Iterator[Reference]:
        """Yield what one commit needs, but for the tags of its datums.

        :raises StorageError: what lists its files cannot be read, or it is the open output of a job.
        """
        listings = ((each, False) for each in self._listings_of(commit, None))
        return (each for each in self._walk(listings, None, None) if each.kind != "tag")

    def reachable(self) -> Iterator[str]:
        """Yield the canonical names of all that the metadata reaches: objects, blocks, tags and indexes.

        A name comes once, or a few times.  What is missing is named as far as its name is known.
        """
        seen = _Recent()
        for name in self.names_of(self.references()):
            if seen.add(name.encode()):
                yield name

    def names_of(self, references: Iterable[Reference]) -> Iterator[str]:
        """Yield the canonical names of what references need, in no promised order; the store is asked in parallel."""
        return chain.from_iterable(many(lambda each: list(self.names(each)), references, _WORKERS))

    def block_of(self, name: str) -> str:
        """Return the canonical name of the block that holds an object, empty where there is no such object."""
        try:
            return f"block/{self.objects.locate(name).block}"
        except ObjectMissing:
            return ""

    def blocks_of(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield objects with their blocks, as ``block_of`` does, in no promised order; the store is asked in parallel.

        :param names: hashes of objects, each once.
        """
        return many(lambda name: (name, self.block_of(name)), names, _WORKERS)

    def names(self, reference: Reference) -> Iterator[str]:
        """Yield the canonical names of what one reference needs."""
        for block in reference.blocks:
            yield f"block/{block.block}"
        names = reference.names
        if reference.kind == "tag":
            tagged = self.objects.tagged(reference.name)
            if tagged is None:
                return
            yield self.objects.place_of_tag(reference.name)
            names = (tagged,)
        for name in names:
            yield self.objects.place_of(name)
            held = self.block_of(name)
            if held:
                yield held
            if held and reference.kind == "shard":
                yield held + INDEX_SUFFIX

    def _listings(self, seen: _Recent | None) -> Iterator[tuple[Reference, bool]]:
        """Yield what lists the files and datums of all commits, and whether there are statistics of the datums."""
        for repo in sorted(each.name for each in self.repos()):
            stats = self.keys.get(self._key(f"pfs/branches/{repo}/{STATS_BRANCH}")) is not None
            for each in self.keys.range(self._key(f"pfs/commits/{repo}/")):
                commit = records.commit(each.value, _shown(each.key))
                yield from ((found, stats) for found in self._listings_of(commit, seen))

    @staticmethod
    def _listings_of(commit: Commit, seen: _Recent | None) -> Iterator[Reference]:
        """Yield what lists the files and datums of a commit; the records of an open one have no name."""
        trees = ((commit.tree,) if commit.tree else (), commit.trees, (commit.datums,) if commit.datums else ())
        for kind, names in zip(("tree", "shard", "datums"), trees, strict=True):
            mark = b"datums" if kind == "datums" else b"tree"
            yield from (
                Reference(kind, (name,), commit) for name in names if seen is None or seen.add(mark + name.encode())
            )
        if commit.open and not commit.is_output:
            yield Reference("tree", (), commit)

    def _walk(
        self, listings: Iterable[tuple[Reference, bool]], seen: _Recent | None, lost: Lost | None
    ) -> Iterator[Reference]:
        """Yield references to the listings and to what is listed; the next ones are read in advance."""

        def begun(listing: tuple[Reference, bool]) -> tuple[Reference, bool, Iterator[bytes]]:
            name = listing[0].name
            return (*listing, _begun(self.checked_object(name)) if name else iter(()))

        for reference, stats, chunks in in_order(begun, listings, _LISTINGS):
            if reference.name:
                yield reference
            try:
                yield from self._listed(reference, stats, chunks, seen)
            except StorageError as error:
                # What was written into an open commit cannot be told apart by object.
                if lost is None:
                    raise
                lost(reference, error)

    def _listed(
        self, reference: Reference, stats: bool, chunks: Iterator[bytes], seen: _Recent | None
    ) -> Iterator[Reference]:
        """Yield what each entry of a listing needs, while the object itself is compared with its hash."""
        commit = reference.commit
        if reference.kind == "datums":
            for tag in frames(chunks):
                yield from _tag_references(commit, tag, stats, seen)
            return
        entries: Iterable[tuple[bytes, bytes]]
        if not reference.name:
            entries = ((key_of(path), encode_node(node)) for path, node in self._open_tree(commit).items())
        else:
            entries = (tree_entries if reference.kind == "tree" else shard_entries)(chunks)
        for entry in entries:
            yield from self._node_references(commit, entry, seen)

    @staticmethod
    def _node_references(commit: Commit, entry: tuple[bytes, bytes], seen: _Recent | None) -> Iterator[Reference]:
        key, value = entry
        if seen is not None and not seen.add(value):
            return
        node, path = decode_node(value), path_of(key)
        if node.shared:
            both = tuple(filter(None, (node.shared.header, node.shared.footer)))
            yield Reference("shared", both, commit, path, size=node.shared.header_size + node.shared.footer_size)
        if not node.directory:
            yield Reference("file", tuple(node.objects), commit, path, tuple(node.blocks), node.size, node.hash)

    # Inside

    def _key(self, path: str) -> bytes:
        return f"{self._prefix}/pachyderm_{path}".encode()

    def _one(self, path: str, decode: Callable[[bytes, str], T], shown: str, what: str) -> T:
        found = self.keys.get(self._key(path))
        if found is None:
            raise NotInState(f"the {what} does not exist", where=shown, why=f"as of revision {self.keys.revision}")
        return decode(found.value, _shown(found.key))

    def _check_repo(self, name: str) -> None:
        self._one(f"pfs/repos/{name}", records.repo, name, "repo")

    def _commit(self, repo: str, name: str) -> Commit:
        return self._one(f"pfs/commits/{repo}/{name}", records.commit, f"{repo}@{name}", "commit")

    def _nodes(self, commit: Commit, top: str) -> Iterator[tuple[str, Node, Shared | None]]:
        """Yield path, node and the header and footer around it, of ``top`` and what is below it, in key order."""
        first = key_of(top) if top else b""
        below = first + b"\0" if top else b""
        above = key_of(parent_of(top)) if top else None
        shared: dict[str, Shared] = {}
        for key, value in self._entries(commit):
            inside = key == first or key.startswith(below)
            if not inside and key != above:
                if top and key > below:
                    return
                continue
            path, node = path_of(key), decode_node(value)
            if node.shared:
                shared[path] = node.shared
            if inside:
                around = shared.get(parent_of(path)) if node.has_header_footer else None
                if node.has_header_footer and around is None:
                    raise Damaged("a file's header is missing", where=f"{commit}:{path}")
                yield path, node, around

    def _entries(self, commit: Commit) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of every node of a commit, in key order."""
        if commit.tree:
            return tree_entries(self.checked_object(commit.tree))
        if commit.trees:
            return _merged([shard_entries(self.checked_object(name)) for name in commit.trees])
        if not commit.open:
            return iter(())
        if commit.is_output:
            raise StorageError("the commit is not finished", where=str(commit), why="it is the output of a job")
        return ((key_of(path), encode_node(node)) for path, node in self._open_tree(commit).items())

    def _open_tree(self, commit: Commit) -> HashTree:
        parent = self._commit(commit.repo, commit.parent) if commit.parent else None
        if parent and parent.open:
            raise StorageError("the parent of an open commit is open too", where=str(commit), why=f"it is {parent}")
        if parent and parent.tree:
            tree = HashTree({path_of(key): decode_node(value) for key, value in self._entries(parent)})
        else:
            tree = HashTree()
        prefix = self._key(f"pfs/putFileRecords/{commit.repo}/{commit.id}")
        for each in sorted(self.keys.range(prefix), key=lambda found: found.mod_revision):
            path = each.key[len(prefix) :].decode()
            apply_records(tree, path, records.parse("PutFileRecords", each.value, _shown(each.key)))
        tree.finish()
        return tree


def _begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the beginning, and yield that and the rest; what goes wrong comes out in its place."""
    parts: list[bytes] = []
    size = 0

    def failed(error: Exception) -> Iterator[bytes]:
        yield from parts
        raise error

    try:
        for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= _READ_AHEAD:
                return chain(parts, chunks)
    except Exception as error:  # noqa: BLE001  raised again where it is read
        return failed(error)
    return iter(parts)


class _Recent:
    """What was met lately, in a fixed amount of memory."""

    def __init__(self) -> None:
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()

    def add(self, item: bytes) -> bool:
        """Return whether the item was not met lately, and remember it."""
        digest = hashlib.blake2b(item, digest_size=16).digest()
        if digest in self._new:
            return False
        if len(self._new) >= _REMEMBERED:
            self._old, self._new = self._new, set()
        self._new.add(digest)
        return digest not in self._old


def _tag_references(commit: Commit, tag: bytes, stats: bool, seen: _Recent | None) -> Iterator[Reference]:
    if seen is None or seen.add(b"tag" + tag):
        yield Reference("tag", (tag.decode(),), commit)
        if stats:
            yield Reference("tag", (tag.decode() + STATS_SUFFIX,), commit)


def _merged(shards: list[Iterator[tuple[bytes, bytes]]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of several shards in key order, those of one path as one."""
    for key, group in groupby(heapq.merge(*shards, key=lambda entry: entry[0]), key=lambda entry: entry[0]):
        values = [value for _unused, value in group]
        if len(values) == 1:
            yield key, values[0]
        else:
            path = path_of(key)
            yield key, encode_node(merge([(path, decode_node(value))] for value in values)[path])


def _file(path: str, node: Node, shared: Shared | None) -> File:
    objects, size, digest = list(node.objects), node.size, node.hash
    if shared:
        objects = [*filter(None, [shared.header]), *objects, *filter(None, [shared.footer])]
        size += shared.header_size + shared.footer_size
        digest = hashlib.sha256("".join(objects).encode()).digest()
    kind = "dir" if node.directory else "file"
    return File(path or "/", kind, size, digest.hex(), tuple(objects), tuple(node.blocks))


def _parse_ancestry(reference: str) -> tuple[str, int]:
    """Return the branch or commit and how many generations back to go; negative: counted from the first commit on."""
    found = _ANCESTRY.search(reference)
    if not found:
        return reference, 0
    base, separator, rest = reference[: found.start()], found[0], reference[found.end() :]
    if rest.strip(separator) == "":
        count = len(rest) + 1
    elif rest.isdecimal():
        count = int(rest)
    else:
        raise InputError(
            "not a way to name a commit", where=reference, fix="Write branch, id, branch^2, branch~2 or branch.2."
        )
    return base, -count if separator == "." else count


def _shown(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


__all__ = ["SPEC_REPO", "File", "NotInState", "Reference", "State"]
