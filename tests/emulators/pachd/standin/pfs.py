# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repos, branches, commits and files, with the rules and records of src/server/pfs/server/driver.go of v1.13.4."""

from __future__ import annotations

import collections
import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import (
    BlockRange,
    HashTree,
    Node,
    TreeConflict,
    parent_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects, new_id
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.writes import apply_records
from google.protobuf.timestamp_pb2 import Timestamp
from python_pachyderm.proto.pfs import pfs_pb2 as pb

from . import paths
from .db import Collection, Txn, transact
from .errors import (
    CommitFinished,
    CommitNotFound,
    FileNotFound,
    NoHead,
    NotFound,
    NotImplementedHere,
    PachError,
    PathNotFound,
)
from .names import SPEC_REPO, branch_of, commit_of

T = TypeVar("T")
Alive = Callable[[], bool]

OBJECT_SIZE = 512 << 20
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_UUID = re.compile(r"[0-9a-f]{12}4[0-9a-f]{19}")
_POLL = 0.2


def now() -> Timestamp:
    """Return the present time."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def is_id(text: str) -> bool:
    """Return whether a reference to a commit is its id and no branch's name."""
    return bool(_UUID.search(text))


def validate_name(name: str) -> None:
    """Raise PachError when a repo or branch must not have this name."""
    if not _NAME.fullmatch(name):
        raise PachError(f"name ({name}) invalid: only alphanumeric characters, underscores, and dashes are allowed")


def parse_ancestry(reference: str) -> tuple[str, int]:
    """Return the branch or commit and how many generations back to go; negative: counted from the first commit on."""
    found = re.search(r"[\^~.]", reference)
    if not found:
        return reference, 0
    base, separator, rest = reference[: found.start()], found[0], reference[found.end() :]
    if rest.isdigit():
        return base, -int(rest) if separator == "." else int(rest)
    for char in rest:
        if char != separator:
            raise PachError(f'invalid ancestry syntax "{reference}", cannot mix {separator} and {char} characters')
    count = len(rest) + 1
    return base, -count if separator == "." else count


def _key(branch: pb.Branch) -> tuple[str, str]:
    return branch.repo.name, branch.name


def _sort_key(branch: pb.Branch) -> str:
    return f"{branch.repo.name}/{branch.name}"


def _add(branches: Any, branch: pb.Branch) -> None:
    if all(_key(each) != _key(branch) for each in branches):
        kept = sorted([*branches, branch], key=_sort_key)
        kept = [pb.Branch.FromString(each.SerializeToString()) for each in kept]
        del branches[:]
        branches.extend(kept)


def _remove(branches: Any, branch: pb.Branch) -> None:
    for position, each in enumerate(branches):
        if _key(each) == _key(branch):
            del branches[position]
            return


def provenant_on_input(provenance: Iterable[pb.CommitProvenance]) -> bool:
    """Return whether a commit is the output of something other than only a pipeline's specification."""
    repos = [each.commit.repo.name for each in provenance]
    if SPEC_REPO in repos:
        repos.remove(SPEC_REPO)
    return bool(repos)


class Context:
    """One transaction with what is to be done at its end."""

    def __init__(self, pfs: Pfs, txn: Txn) -> None:
        self.txn = txn
        self._pfs = pfs
        self._branches: list[pb.Branch] = []
        self._new_commit = False
        self._finishing: list[pb.Branch] = []

    def propagate(self, branch: pb.Branch, new_commit: bool) -> None:
        """Start commits downstream of the branch when all else is done."""
        self._branches.append(branch)
        self._new_commit = new_commit

    def finish_later(self, branch: pb.Branch) -> None:
        """Finish the branch's open commits, empty, before anything is propagated."""
        self._finishing.append(branch)

    def finish(self) -> None:
        """Do what was put off."""
        for branch in self._finishing:
            self._pfs.finish_open_commits(self, branch)
        self._pfs.propagate(self.txn, self._branches, self._new_commit)


class Pfs:
    """Pachyderm's file system on etcd and an object store."""

    def __init__(self, etcd: EtcdClient, objects: Objects, prefix: str) -> None:
        self.etcd = etcd
        self.objects = objects
        self._prefix = prefix
        self.repos = Collection(f"{prefix}/repos", pb.RepoInfo)
        self.records = Collection(f"{prefix}/putFileRecords", pb.PutFileRecords)
        self.open = Collection(f"{prefix}/openCommits", pb.Commit)
        self._trees: collections.OrderedDict[str, HashTree] = collections.OrderedDict()
        self._trees_lock = threading.Lock()

    def commits(self, repo: str) -> Collection:
        """Return the collection of a repo's commits."""
        return Collection(f"{self._prefix}/commits/{repo}", pb.CommitInfo, ("provenance",))

    def branches(self, repo: str) -> Collection:
        """Return the collection of a repo's branches."""

        def check(name: str) -> None:
            if is_id(name):
                raise PachError("branch name cannot be a UUID V4")

        return Collection(f"{self._prefix}/branches/{repo}", pb.BranchInfo, check=check)

    def write(self, action: Callable[[Context], T]) -> T:
        """Run the action in a transaction, with what it puts off to its end."""

        def whole(txn: Txn) -> T:
            context = Context(self, txn)
            result = action(context)
            context.finish()
            return result

        return transact(self.etcd, whole)

    def reading(self) -> Txn:
        """Return a transaction that only reads."""
        return Txn(self.etcd)

    def prepare(self) -> None:
        """Create the repo of pipelines' specifications where it is missing."""

        def create(context: Context) -> None:
            if self.repos.find(context.txn, SPEC_REPO) is None:
                info = pb.RepoInfo(repo=pb.Repo(name=SPEC_REPO), created=now())
                self.repos.create(context.txn, SPEC_REPO, info)

        self.write(create)

    # Repos

    def create_repo(self, context: Context, name: str, description: str = "", update: bool = False) -> None:
        """Create a repo, or with ``update`` change an existing one's description."""
        validate_name(name)
        existing = self.repos.find(context.txn, name)
        if existing is None:
            info = pb.RepoInfo(repo=pb.Repo(name=name), created=now(), description=description)
            self.repos.create(context.txn, name, info)
            return
        if not update:
            raise PachError(f"repo {name} already exists")
        if existing.description != description:
            existing.description = description
            self.repos.put(context.txn, name, existing)

    def inspect_repo(self, name: str) -> pb.RepoInfo:
        """Return a repo."""
        return self.repos.get(self.reading(), name)

    def list_repo(self) -> list[pb.RepoInfo]:
        """Return all repos but that of specifications, the newest first."""
        return [info for name, info, _unused in self.repos.newest_first(self.etcd) if name != SPEC_REPO]

    def delete_repo(self, context: Context, name: str, force: bool = False) -> None:
        """Delete a repo with all in it; a missing one is no error."""
        txn = context.txn
        repo = self.repos.find(txn, name)
        visited = set()
        for _unused, info, _unused in self.commits(name).entries(self.etcd):
            for provenance in info.provenance:
                other = provenance.commit
                if other.id in visited or other.repo.name == name or self.repos.find(txn, other.repo.name) is None:
                    continue
                visited.add(other.id)
                upstream = self.commits(other.repo.name).get(txn, other.id)
                kept = [each for each in upstream.subvenance if each.upper.repo.name != name]
                del upstream.subvenance[:]
                upstream.subvenance.extend(kept)
                self.commits(other.repo.name).put(txn, other.id, upstream)
        infos = [self.inspect_branch(txn, branch) for branch in (repo.branches if repo else ())]
        for info in sorted(infos, key=lambda each: len(each.provenance), reverse=True):
            try:
                self.delete_branch(context, info.branch, force)
            except PachError as error:
                raise PachError(f"delete branch {_show_branch(info.branch)}: {error}") from error
        self.branches(name).clear(txn)
        self.commits(name).clear(txn)
        if self.repos.find(txn, name) is not None:
            self.repos.delete(txn, name)

    # Branches

    def inspect_branch(self, txn: Txn, branch: pb.Branch) -> pb.BranchInfo:
        """Return a branch."""
        return self.branches(branch.repo.name).get(txn, branch.name)

    def list_branch(self, repo: str, reverse: bool = False) -> list[pb.BranchInfo]:
        """Return a repo's branches, the newest first."""
        if repo:
            self.inspect_repo(repo)
        entries = self.branches(repo).newest_first(self.etcd)
        sign = -1 if reverse else 1
        entries.sort(key=lambda each: (-sign * each[2].create_revision, sign * len(each[1].provenance)))
        return [info for _unused, info, _unused in entries]

    def create_branch(
        self,
        context: Context,
        branch: pb.Branch,
        head: pb.Commit | None = None,
        provenance: Iterable[pb.Branch] = (),
        trigger: pb.Trigger | None = None,
    ) -> None:
        """Create a branch, move its head, or change its provenance."""
        txn, provenance = context.txn, list(provenance)
        self._live_repo(txn, branch.repo)
        if trigger is not None:
            self._check_trigger(branch, trigger)
        validate_name(branch.name)
        info = None
        if head is not None and provenance and (branch.repo.name, branch.name) != (head.repo.name, head.id):
            info = self.resolve(txn, head)
            for each in provenance:
                upstream = self.branches(each.repo.name).find(txn, each.name)
                for commit in info.provenance if upstream is not None else ():
                    if _key(each) == _key(commit.branch) and upstream.head.id != commit.commit.id:
                        raise PachError(
                            f'cannot create branch "{branch.name}" with commit "{head.id}" as head because commit has '
                            f'"{commit.commit.repo.name}/{commit.commit.id}" as provenance but that commit is not the '
                            f'head of branch "{commit.branch.repo.name}/{commit.branch.name}"'
                        )
        if head is not None:
            try:
                self.resolve(txn, head)
            except NoHead:
                head = None
            except PachError as error:
                raise PachError(f"unable to inspect {head.repo.name}@{head.id}: {error}") from error
        table = self.branches(branch.repo.name)
        record = table.find(txn, branch.name) or pb.BranchInfo()
        record.name = branch.name
        record.branch.CopyFrom(branch)
        record.ClearField("head")
        if head is not None:
            record.head.CopyFrom(head)
        del record.direct_provenance[:]
        for each in provenance:
            if _key(each) == _key(branch):
                raise PachError(f"branch {branch.repo.name}@{branch.name} cannot be in its own provenance")
            _add(record.direct_provenance, each)
        if trigger is not None and trigger.branch:
            record.trigger.CopyFrom(trigger)
        table.put(txn, branch.name, record)
        repo = self.repos.get(txn, branch.repo.name)
        _add(repo.branches, branch)
        if branch.name == "master" and head is not None:
            repo.size_bytes = self.resolve(txn, head).size_bytes
        self.repos.put(txn, branch.repo.name, repo)

        affected = [record, *(self.branches(each.repo.name).get(txn, each.name) for each in record.subvenance)]
        for each in sorted(affected, key=lambda item: len(item.provenance)):
            self._renew_provenance(txn, each, info)

        triggered: list[pb.Branch] = []
        if head is not None:
            info = info or self.resolve(txn, head)
            if info.HasField("finished"):
                triggered = self._trigger(txn, info.commit)
        for each in [*triggered, branch]:
            context.propagate(each, False)

    def _renew_provenance(self, txn: Txn, info: pb.BranchInfo, head: pb.CommitInfo | None) -> None:
        old = list(info.provenance)
        del info.provenance[:]
        for direct in info.direct_provenance:
            self._add_provenance(txn, info, direct)
            for each in self.branches(direct.repo.name).get(txn, direct.name).provenance:
                self._add_provenance(txn, info, each)
        for each in head.provenance if head is not None else ():
            if _key(each.branch) == _key(info.branch):
                info.head.CopyFrom(each.commit)
        self.branches(info.branch.repo.name).put(txn, info.branch.name, info)
        kept = {_key(each) for each in info.provenance}
        for each in old:
            if _key(each) not in kept:
                upstream = self.branches(each.repo.name).get(txn, each.name)
                _remove(upstream.subvenance, info.branch)
                self.branches(each.repo.name).put(txn, each.name, upstream)

    def _add_provenance(self, txn: Txn, info: pb.BranchInfo, branch: pb.Branch) -> None:
        if _key(branch) == _key(info.branch):
            raise PachError(f"provenance loop, branch {branch.repo.name}/{branch.name} cannot be provenance for itself")
        _add(info.provenance, branch)
        table = self.branches(branch.repo.name)
        upstream = table.find(txn, branch.name) or pb.BranchInfo()
        upstream.name = branch.name
        upstream.branch.CopyFrom(branch)
        _add(upstream.subvenance, info.branch)
        table.put(txn, branch.name, upstream)
        repo = self.repos.get(txn, branch.repo.name)
        _add(repo.branches, branch)
        self.repos.put(txn, branch.repo.name, repo)

    def delete_branch(self, context: Context, branch: pb.Branch, force: bool = False) -> None:
        """Delete a branch and leave its commits; a missing one is no error."""
        txn = context.txn
        info = self.branches(branch.repo.name).find(txn, branch.name)
        if info is not None:
            if info.subvenance and not force:
                shown = " ".join(_show_branch(each) for each in info.subvenance)
                raise PachError(
                    f"branch {branch.name} has [{shown}] as subvenance, deleting it would break those branches"
                )
            self.branches(branch.repo.name).delete(txn, branch.name)
            for each in info.provenance:
                upstream = self.branches(each.repo.name).find(txn, each.name)
                if upstream is not None:
                    _remove(upstream.subvenance, branch)
                    self.branches(each.repo.name).put(txn, each.name, upstream)
        repo = self.repos.find(txn, branch.repo.name)
        if repo is None:
            if force:
                return
            raise NotFound(self.repos.prefix, branch.repo.name)
        _remove(repo.branches, branch)
        self.repos.put(txn, branch.repo.name, repo)

    def _live_repo(self, txn: Txn, repo: pb.Repo) -> pb.RepoInfo:
        info = self.repos.get(txn, repo.name)
        if info.tombstone:
            raise PachError(f"repo {repo.name} was deleted")
        return info

    def _check_trigger(self, branch: pb.Branch, trigger: pb.Trigger) -> None:
        if not trigger.branch:
            raise PachError("triggers must specify a branch to trigger on")
        if trigger.cron_spec or trigger.size:
            raise NotImplementedHere("triggers on time or size")
        if trigger.commits < 0:
            raise PachError("can't trigger on a negative number of commits")
        infos = {each.branch.name: each for each in self.list_branch(branch.repo.name)}
        name = trigger.branch
        while True:
            if name == branch.name:
                raise PachError("triggers cannot form a loop")
            if name not in infos or not infos[name].HasField("trigger"):
                return
            name = infos[name].trigger.branch

    def _trigger(self, txn: Txn, commit: pb.Commit) -> list[pb.Branch]:
        table, commits = self.branches(commit.repo.name), self.commits(commit.repo.name)
        new_head = commits.get(txn, commit.id)
        repo = self.repos.get(txn, commit.repo.name)
        infos = {each.name: table.get(txn, each.name) for each in repo.branches}
        heads = {name for name, info in infos.items() if info.head.id == commit.id}
        if new_head.HasField("branch"):
            heads.add(new_head.branch.name)
        moved: list[pb.Branch] = []
        seen: set[str] = set()

        def visit(name: str) -> None:
            if name in seen or name not in infos:
                return
            seen.add(name)
            info = infos[name]
            if not info.HasField("trigger"):
                return
            visit(info.trigger.branch)
            if info.trigger.branch in heads and self._is_triggered(txn, info, new_head):
                info.head.CopyFrom(new_head.commit)
                table.put(txn, name, info)
                moved.append(branch_of(commit.repo.name, name))
                heads.add(name)

        for name in infos:
            visit(name)
        return moved

    def _is_triggered(self, txn: Txn, info: pb.BranchInfo, new_head: pb.CommitInfo) -> bool:
        trigger = info.trigger
        result = trigger.all
        if trigger.commits:
            count, current = 0, new_head
            while count < trigger.commits:
                count += 1
                parent = current.parent_commit.id
                if not parent or parent == info.head.id:
                    break
                current = self.commits(current.commit.repo.name).get(txn, parent)
            reached = count == trigger.commits
            result = result and reached if trigger.all else result or reached
        return result

    # Commits

    def resolve(self, txn: Txn, commit: pb.Commit) -> pb.CommitInfo:
        """Return the commit that an id or a branch's name, with ancestors counted, means; ``commit`` gets its real id."""
        if not commit.HasField("repo"):
            raise PachError("cannot resolve commit with no repo")
        if not commit.id:
            raise PachError("cannot resolve commit with no ID or branch")
        reference, generations = parse_ancestry(commit.id)
        branch = None
        if not is_id(reference):
            info = self.branches(commit.repo.name).get(txn, reference)
            if not info.HasField("head"):
                raise NoHead(info.branch.name)
            branch, reference = info.branch, info.head.id
        table = self.commits(commit.repo.name)
        chain: list[pb.CommitInfo] = []
        wanted = generations + 1 if generations >= 0 else None
        current: str | None = reference
        while current and (wanted is None or len(chain) < wanted):
            found = table.find(txn, current)
            if found is None:
                if chain:
                    raise PachError(f"parent commit {current} not found in repo {commit.repo.name}")
                raise CommitNotFound(commit)
            chain.append(found)
            current = found.parent_commit.id
        if generations < 0:
            if len(chain) < -generations:
                raise CommitNotFound(commit)
            result = chain[generations]
        else:
            if len(chain) <= generations:
                raise CommitNotFound(commit)
            result = chain[-1]
        if not result.HasField("branch") and branch is not None:
            result.branch.CopyFrom(branch)
        commit.id = result.commit.id
        return result

    def inspect_commit(self, commit: pb.Commit, state: int = pb.STARTED, alive: Alive = lambda: True) -> pb.CommitInfo:
        """Return a commit, if asked for when it (FINISHED) or what it comes from (READY) is finished."""
        info = self.resolve(self.reading(), commit)
        if state == pb.READY:
            for each in info.provenance:
                try:
                    self.inspect_commit(each.commit, pb.FINISHED, alive)
                except PachError:
                    continue
        while state == pb.FINISHED and not info.HasField("finished") and alive():
            time.sleep(_POLL)
            found = self.commits(commit.repo.name).find(self.reading(), commit.id)
            if found is None:
                raise PachError(f"commit {commit.repo.name}/{commit.id} was deleted")
            info = found
        return info

    def start_commit(self, context: Context, request: pb.StartCommitRequest, id: str = "") -> pb.Commit:
        """Start a commit and return it."""
        if not request.HasField("parent"):
            raise PachError("parent cannot be nil")
        return self.make_commit(
            context, request.parent, request.branch, request.provenance, id=id, description=request.description
        )

    def make_commit(
        self,
        context: Context,
        parent: pb.Commit,
        branch: str,
        provenance: Iterable[pb.CommitProvenance] = (),
        *,
        id: str = "",
        description: str = "",
        records: list[tuple[str, pb.PutFileRecords]] | None = None,
        built: pb.BuildCommitRequest | None = None,
    ) -> pb.Commit:
        """Make a commit on a branch or a parent: open, or finished from ``records`` or from what ``built`` says."""
        txn = context.txn
        self._live_repo(txn, parent.repo)
        repo_name = parent.repo.name
        new = commit_of(repo_name, id or new_id())
        info = pb.CommitInfo(commit=new, origin=pb.CommitOrigin(kind=pb.USER), description=description, started=now())
        if branch:
            validate_name(branch)
        provenance = [pb.CommitProvenance.FromString(each.SerializeToString()) for each in provenance]
        parent = pb.Commit.FromString(parent.SerializeToString())
        commits, repo = self.commits(repo_name), self.repos.get(txn, repo_name)
        finished = records is not None
        if built is not None:
            if built.HasField("origin"):
                info.origin.CopyFrom(built.origin)
            if built.HasField("started"):
                info.started.CopyFrom(built.started)
            if built.HasField("finished"):
                info.finished.CopyFrom(built.finished)
                if not built.HasField("started") or info.started.ToNanoseconds() > info.finished.ToNanoseconds():
                    info.started.CopyFrom(info.finished)
            finished = finished or built.HasField("tree") or bool(built.trees) or built.HasField("finished")
        allowed = set()
        if branch:
            allowed = self._point_branch(
                txn, parent, branch, new, provenance, built is not None and built.HasField("tree")
            )
            _add(repo.branches, branch_of(repo_name, branch))
            info.branch.CopyFrom(branch_of(repo_name, branch))
        if finished:
            if records is not None:
                tree = self._finished_tree(txn, parent).copy()
                for path, record in records:
                    self._apply(tree, path, record)
                info.tree.hash, _unused = self.objects.put([tree.serialize()])
                info.size_bytes = tree.size
            elif built is not None:
                if built.HasField("tree"):
                    info.tree.CopyFrom(built.tree)
                info.trees.extend(built.trees)
                if built.HasField("datums"):
                    info.datums.CopyFrom(built.datums)
                info.size_bytes = built.size_bytes
            if not info.HasField("finished"):
                info.finished.CopyFrom(now())
            if branch == "master":
                repo.size_bytes = info.size_bytes
        else:
            self.open.put(txn, new.id, new)
        self.repos.put(txn, repo_name, repo)
        if parent.id:
            self._adopt(txn, parent, info)
        self._set_provenance(txn, info, provenance, allowed)
        commits.create(txn, new.id, info)
        if branch:
            triggered = self._trigger(txn, new) if info.HasField("finished") else []
            for each in [*triggered, branch_of(repo_name, branch)]:
                context.propagate(each, True)
        return new

    def _point_branch(
        self,
        txn: Txn,
        parent: pb.Commit,
        branch: str,
        new: pb.Commit,
        provenance: list[pb.CommitProvenance],
        has_tree: bool,
    ) -> set[tuple[str, str]]:
        """Move the branch to the new commit; return the branches that the commit may come from."""
        repo = parent.repo.name
        info = self.branches(repo).find(txn, branch) or pb.BranchInfo()
        if not parent.id and info.HasField("head"):
            parent.id = info.head.id
        allowed = {(repo, branch), *map(_key, info.provenance)}
        if info.HasField("head"):
            head = self.commits(repo).get(txn, info.head.id)
            allowed.update(_key(each.branch) for each in head.provenance)
        upstream = [each.repo.name for each in info.provenance]
        if SPEC_REPO in upstream:
            upstream.remove(SPEC_REPO)
        by_pipeline = any(each.commit.repo.name == SPEC_REPO for each in provenance)
        if upstream and not has_tree and not by_pipeline:
            raise PachError("cannot start a commit on an output branch")
        info.name = branch
        info.head.CopyFrom(new)
        info.branch.CopyFrom(branch_of(repo, branch))
        self.branches(repo).put(txn, branch, info)
        return allowed

    def _adopt(self, txn: Txn, parent: pb.Commit, info: pb.CommitInfo) -> None:
        try:
            found = self.resolve(txn, parent)
        except PachError as error:
            raise PachError(f"parent commit not found: {error}") from error
        if not found.HasField("finished"):
            raise PachError(f"parent commit {parent.repo.name}@{parent.id} has not been finished")
        info.parent_commit.CopyFrom(parent)
        if not info.HasField("branch") and found.HasField("branch"):
            info.branch.CopyFrom(found.branch)
        found.child_commits.append(info.commit)
        self.commits(parent.repo.name).put(txn, parent.id, found)

    def _set_provenance(
        self, txn: Txn, info: pb.CommitInfo, provenance: list[pb.CommitProvenance], allowed: set[tuple[str, str]]
    ) -> None:
        for each in provenance:
            self._resolve_provenance(txn, each)
        represented = {_key(each.branch) for each in provenance}
        whole: dict[str, pb.CommitProvenance] = {}
        for each in provenance:
            whole[each.commit.id] = each
            for further in self.resolve(txn, each.commit).provenance:
                if _key(further.branch) not in represented:
                    whole[further.commit.id] = further
                    represented.add(_key(further.branch))
        seen: set[tuple[str, str]] = set()
        for each in whole.values():
            self._resolve_provenance(txn, each)
            branch = _key(each.branch)
            if branch in seen:
                raise PachError("the commit provenance contains multiple commits from the same branch")
            seen.add(branch)
            if allowed and branch[0] != SPEC_REPO and branch[1] and branch not in allowed:
                raise PachError("the commit provenance contains a branch which the branch is not provenant on")
        self._link_provenance(txn, info, list(whole.values()))

    def _link_provenance(self, txn: Txn, info: pb.CommitInfo, provenance: list[pb.CommitProvenance]) -> None:
        """Write down where a new commit comes from, on both sides."""
        for each in provenance:
            table = self.commits(each.commit.repo.name)
            upstream = table.get(txn, each.commit.id)
            _append_subvenance(upstream, info)
            table.put(txn, each.commit.id, upstream)

        def compare(one: pb.CommitProvenance, other: pb.CommitProvenance) -> int:
            left, right = _key(one.branch), _key(other.branch)
            left, right = (one.commit.repo.name, left[1]), (other.commit.repo.name, right[1])
            if left != right:
                return -1 if left < right else 1
            if self.resolve(txn, other.commit).parent_commit.id == one.commit.id:
                return -1
            return 1 if self.resolve(txn, one.commit).parent_commit.id == other.commit.id else 0

        info.provenance.extend(sorted(provenance, key=functools.cmp_to_key(compare)))

    def _resolve_provenance(self, txn: Txn, provenance: pb.CommitProvenance) -> None:
        reference = provenance.commit.id
        info = self.resolve(txn, provenance.commit)
        if not provenance.branch.name:
            if info.HasField("branch"):
                provenance.branch.CopyFrom(info.branch)
            if info.commit.id != reference:
                provenance.branch.name = reference
                provenance.commit.CopyFrom(info.commit)

    def finish_commit(self, context: Context, request: pb.FinishCommitRequest) -> None:
        """Finish a commit: from what was put into it, from trees that a pipeline made, or empty."""
        if not request.HasField("commit"):
            raise PachError("commit cannot be nil")
        if not request.commit.HasField("repo"):
            raise PachError("commit repo cannot be nil")
        txn, commit = context.txn, request.commit
        info = self.resolve(txn, commit)
        if request.trees:
            if info.HasField("finished"):
                raise PachError(f"commit {commit.repo.name}/{commit.id} has already been finished")
            info.trees.extend(request.trees)
            if request.HasField("datums"):
                info.datums.CopyFrom(request.datums)
            info.size_bytes = request.size_bytes
        else:
            if info.HasField("finished"):
                raise CommitFinished(commit)
            if request.description:
                info.description = request.description
            if not request.empty:
                if request.HasField("tree"):
                    tree = self.objects.tree(request.tree.hash)
                    info.tree.CopyFrom(request.tree)
                else:
                    tree = self._open_tree(txn, commit, self._last_tree(txn, info), "")
                    info.tree.hash, _unused = self.objects.put([tree.serialize()])
                info.size_bytes = tree.size
        info.finished.CopyFrom(now())
        for each in info.provenance:
            table = self.commits(each.commit.repo.name)
            upstream = table.get(txn, each.commit.id)
            if request.trees or not request.empty:
                upstream.subvenant_commits_success += 1
            else:
                upstream.subvenant_commits_failure += 1
            table.put(txn, each.commit.id, upstream)
        self.commits(commit.repo.name).put(txn, commit.id, info)
        self.open.delete(txn, commit.id)
        repo = self.repos.get(txn, commit.repo.name)
        if any(each.name == "master" for each in repo.branches):
            if self.branches(commit.repo.name).get(txn, "master").head.id == commit.id:
                repo.size_bytes = info.size_bytes
                self.repos.put(txn, commit.repo.name, repo)
        for each in self._trigger(txn, info.commit):
            context.propagate(each, False)

    def finish_open_commits(self, context: Context, branch: pb.Branch) -> None:
        """Finish all open commits of a branch, empty."""
        info = self.branches(branch.repo.name).find(context.txn, branch.name)
        current = info.head.id if info is not None else ""
        while current:
            commit = self.commits(branch.repo.name).find(context.txn, current)
            if commit is None:
                return
            if not commit.HasField("finished"):
                request = pb.FinishCommitRequest(commit=commit.commit, empty=True)
                self.finish_commit(context, request)
            current = commit.parent_commit.id

    def propagate(self, txn: Txn, branches: list[pb.Branch], new_commit: bool) -> None:
        """Start output commits downstream of branches, so that every head comes from the heads of its provenance."""
        infos: dict[tuple[str, str], pb.BranchInfo] = {}
        for branch in branches:
            if _key(branch) not in infos:
                infos[_key(branch)] = self.inspect_branch(txn, branch)
            for each in infos[_key(branch)].subvenance:
                if _key(each) not in infos:
                    infos[_key(each)] = self.inspect_branch(txn, each)
        for key in sorted(infos, key=lambda each: len(infos[each].provenance)):
            if new_commit and len(branches) == 1 and key == _key(branches[0]):
                continue
            self._propagate_to(txn, self.inspect_branch(txn, infos[key].branch))

    def _propagate_to(self, txn: Txn, info: pb.BranchInfo) -> None:
        repo = info.branch.repo.name
        wanted: dict[tuple[str, str], pb.CommitProvenance] = {}
        for branch in info.provenance:
            upstream = self.branches(branch.repo.name).find(txn, branch.name)
            if upstream is None or not upstream.HasField("head"):
                continue
            head = upstream.head
            wanted[head.id, branch.name] = pb.CommitProvenance(commit=head, branch=branch)
            for each in self.commits(branch.repo.name).get(txn, head.id).provenance:
                self._resolve_provenance(txn, each)
                wanted[each.commit.id, each.branch.name] = each
        if all(each.branch.repo.name == SPEC_REPO for each in wanted.values()):
            return
        if info.HasField("head"):
            head_info = self.commits(repo).find(txn, info.head.id)
            if head_info is None:
                raise CommitNotFound(info.head)
            if set(wanted) <= {(each.commit.id, each.branch.name) for each in head_info.provenance}:
                return
        new = commit_of(repo, new_id())
        commit = pb.CommitInfo(commit=new, origin=pb.CommitOrigin(kind=pb.AUTO), started=now(), branch=info.branch)
        if info.HasField("head"):
            commit.parent_commit.CopyFrom(info.head)
            parent = self.commits(repo).get(txn, info.head.id)
            parent.child_commits.append(new)
            self.commits(repo).put(txn, info.head.id, parent)
        info.head.CopyFrom(new)
        self.branches(repo).put(txn, info.branch.name, info)
        self._link_provenance(txn, commit, list(wanted.values()))
        self.commits(repo).create(txn, new.id, commit)
        self.open.put(txn, new.id, new)

    def list_commit(self, request: pb.ListCommitRequest) -> Iterator[pb.CommitInfo]:
        """Yield a repo's commits, the newest first, or the ancestors of one commit."""
        name = request.repo.name
        start = getattr(request, "from")
        for field in ("from", "to"):
            if request.HasField(field) and getattr(request, field).repo.name != name:
                raise PachError(f"`from` and `to` commits need to be from repo {name}")
        if name:
            self.inspect_repo(name)
        if request.HasField("from"):
            self.inspect_commit(start)
        if request.HasField("to"):
            try:
                self.inspect_commit(request.to)
            except NoHead:
                return
        left = request.number or None
        if request.HasField("from") and not request.HasField("to"):
            raise PachError("cannot use `from` commit without `to` commit")
        if not request.HasField("to"):
            entries = self.commits(name).newest_first(self.etcd)
            entries.sort(key=lambda each: (-each[2].create_revision, -len(each[1].provenance)))
            if request.reverse:
                entries.reverse()
            for _unused, info, _unused in entries[:left]:
                yield info
            return
        if request.reverse:
            raise PachError("cannot use 'Reverse' while also using 'From' or 'To'")
        current, txn = request.to.id, self.reading()
        while current and left != 0 and current != start.id:
            info = self.commits(name).get(txn, current)
            yield info
            current = info.parent_commit.id
            left = None if left is None else left - 1

    def flush_commit(self, request: pb.FlushCommitRequest, alive: Alive) -> Iterator[pb.CommitInfo]:
        """Yield the commits downstream of all given ones, each when it is finished."""
        if not request.commits:
            raise PachError("fromCommits cannot be empty")
        watched: dict[tuple[str, str], pb.Commit] = {}
        for position, commit in enumerate(request.commits):
            info = self.inspect_commit(commit)
            uppers = {(each.upper.repo.name, each.upper.id): each.upper for each in info.subvenance}
            watched = uppers if not position else {key: each for key, each in uppers.items() if key in watched}
        repos = {each.name for each in request.to_repos}
        done: set[tuple[str, str]] = set()
        while len(done) < len(watched) and alive():
            for key, commit in list(watched.items()):
                if key in done:
                    continue
                done.add(key)
                if repos and key[0] not in repos:
                    continue
                try:
                    info = self.inspect_commit(commit, pb.FINISHED, alive)
                except CommitNotFound:
                    continue
                if not alive():
                    return
                yield info
                for each in info.subvenance:
                    watched[each.upper.repo.name, each.upper.id] = each.upper
        for commit in request.commits:
            try:
                self.inspect_commit(commit, pb.FINISHED, alive)
            except CommitNotFound:
                continue

    def subscribe_commit(self, request: pb.SubscribeCommitRequest, alive: Alive) -> Iterator[pb.CommitInfo]:
        """Yield a repo's commits as they appear, each when it has the wanted state."""
        repo, start = request.repo.name, getattr(request, "from")
        if request.HasField("from") and start.repo.name != repo:
            raise PachError(f"the `from` commit needs to be from repo {repo}")
        seen, since = {start.id}, 0
        while alive():
            entries = sorted(
                self.commits(repo).entries(self.etcd, since=since), key=lambda each: each[2].create_revision
            )
            since = max([since, *(found.mod_revision + 1 for _unused, _unused, found in entries)])
            for name, info, _unused in entries:
                if request.HasField("prov") and request.prov not in info.provenance:
                    continue
                if info.HasField("branch") and (
                    info.branch.name == "stats" or (request.branch and info.branch.name != request.branch)
                ):
                    continue
                if name not in seen:
                    seen.add(name)
                    result = self.inspect_commit(commit_of(repo, name), request.state, alive)
                    if alive():
                        yield result
            time.sleep(_POLL)

    def delete_commit(self, context: Context, commit: pb.Commit) -> None:
        """Delete an input commit with everything downstream of it."""
        txn = context.txn
        try:
            info = self.resolve(txn, commit)
        except PachError as error:
            raise PachError(f"resolveCommit: {error}") from error
        if provenant_on_input(info.provenance):
            raise PachError(
                f'cannot delete the commit "{commit.repo.name}/{commit.id}" because it has non-empty provenance'
            )
        deleted: dict[str, pb.CommitInfo] = {}
        ranges = [(info.commit, info.commit), *((each.lower, each.upper) for each in info.subvenance)]
        for lower, upper in ranges:
            table, current = self.commits(lower.repo.name), upper.id
            while current:
                found = table.find(txn, current)
                if found is None:
                    break
                deleted.setdefault(current, found)
                table.delete(txn, current)
                if current == lower.id:
                    break
                current = found.parent_commit.id
        self._forget_subvenance(txn, deleted)
        self._rejoin(txn, deleted)
        for repo in sorted({lower.repo.name for lower, _unused in ranges}):
            self._move_heads(context, repo, deleted)

    def _forget_subvenance(self, txn: Txn, deleted: dict[str, pb.CommitInfo]) -> None:
        """Take deleted commits out of the ranges that remaining commits name as their results."""
        upstream = {
            (each.commit.repo.name, each.commit.id)
            for info in deleted.values()
            for each in info.provenance
            if each.commit.id not in deleted
        }
        for repo, name in sorted(upstream):
            info = self.commits(repo).get(txn, name)
            kept = []
            for each in info.subvenance:
                chain = [each.upper.id]
                while chain[-1] != each.lower.id:
                    link = deleted.get(chain[-1]) or self.commits(each.lower.repo.name).get(txn, chain[-1])
                    if not link.parent_commit.id:
                        break
                    chain.append(link.parent_commit.id)
                alive = [link for link in chain if link not in deleted]
                if alive:
                    each.upper.id, each.lower.id = alive[0], alive[-1]
                    kept.append(each)
            del info.subvenance[:]
            info.subvenance.extend(kept)
            self.commits(repo).put(txn, name, info)

    def _rejoin(self, txn: Txn, deleted: dict[str, pb.CommitInfo]) -> None:
        """Make the parents and children of deleted commits each other's."""
        for info in deleted.values():
            parent = info.parent_commit
            if parent.id in deleted:
                continue
            children, queue = set(), list(info.child_commits)
            while queue:
                child = queue.pop()
                if child.id in deleted:
                    queue.extend(deleted[child.id].child_commits)
                else:
                    children.add(child.id)
            table = self.commits(info.commit.repo.name)
            for child in sorted(children):
                record = table.get(txn, child)
                record.ClearField("parent_commit")
                if parent.id:
                    record.parent_commit.CopyFrom(parent)
                table.put(txn, child, record)
            if parent.id:
                record = table.get(txn, parent.id)
                ids = {each.id for each in record.child_commits if each.id not in deleted} | children
                del record.child_commits[:]
                record.child_commits.extend(commit_of(parent.repo.name, each) for each in sorted(ids))
                table.put(txn, parent.id, record)

    def _move_heads(self, context: Context, repo: str, deleted: dict[str, pb.CommitInfo]) -> None:
        """Point branches with a deleted head at its nearest ancestor."""
        txn = context.txn
        record = self.repos.get(txn, repo)
        for branch in record.branches:
            info = self.branches(repo).find(txn, branch.name)
            if info is None:
                continue
            before = info.head.id
            while info.head.id in deleted:
                parent = deleted[info.head.id].parent_commit
                if parent.id:
                    info.head.CopyFrom(parent)
                else:
                    info.ClearField("head")
            if info.head.id != before:
                self.branches(repo).put(txn, branch.name, info)
                if info.head.id:
                    context.propagate(branch, False)
            if branch.name == "master":
                record.size_bytes = self.resolve(txn, info.head).size_bytes if info.head.id else 0
        self.repos.put(txn, repo, record)

    # Files: reading

    def _cached_tree(self, name: str) -> HashTree:
        with self._trees_lock:
            if name in self._trees:
                self._trees.move_to_end(name)
                return self._trees[name]
        tree = self.objects.tree(name)
        with self._trees_lock:
            self._trees[name] = tree
            while len(self._trees) > 16:
                self._trees.popitem(last=False)
        return tree

    def _finished_tree(self, txn: Txn, commit: pb.Commit) -> HashTree:
        if not commit.id:
            return HashTree()
        info = self.resolve(txn, commit)
        if not info.HasField("finished"):
            raise PachError("cannot read from an open commit")
        return self._cached_tree(info.tree.hash) if info.HasField("tree") else HashTree()

    def _last_tree(self, txn: Txn, info: pb.CommitInfo) -> HashTree:
        """Return the tree of the nearest ancestor that has one."""
        while info.HasField("parent_commit"):
            info = self.resolve(txn, info.parent_commit)
            if info.HasField("tree"):
                return self._finished_tree(txn, info.commit)
        return HashTree()

    def _open_tree(self, txn: Txn, commit: pb.Commit, parent: HashTree, path: str) -> HashTree:
        """Return the parent's tree with what was written below ``path`` since."""
        cleaned = paths.go_clean("/" + path)
        paths.check_file_path(cleaned)
        tree = parent.copy()
        prefix = paths.join(commit.repo.name, commit.id, cleaned)
        entries = sorted(self.records.entries(self.etcd, prefix), key=lambda each: each[2].mod_revision)
        for rest, record, _unused in entries:
            self._apply(tree, paths.join(path, rest), record)
        tree.finish()
        return tree

    def _tree_for(self, file: pb.File) -> HashTree:
        if not file.HasField("commit"):
            return HashTree()
        txn = self.reading()
        info = self.resolve(txn, file.commit)
        if info.HasField("finished"):
            return self._finished_tree(txn, file.commit)
        parent = self._finished_tree(txn, info.parent_commit)
        return self._open_tree(txn, file.commit, parent, file.path)

    @staticmethod
    def _apply(tree: HashTree, path: str, records: pb.PutFileRecords) -> None:
        """Do to the tree what one record says."""
        if records.split:
            raise NotImplementedHere("files that were put with split")
        try:
            apply_records(tree, path, records)
        except (TreeConflict, InputError) as error:
            raise PachError(str(error)) from error

    def _nodes(self, info: pb.CommitInfo) -> dict[str, Node] | None:
        """Return the nodes of an output commit; None when it has none.

        :raises PachError: while it is open.
        """
        if not info.HasField("finished"):
            raise PachError(f"output commit {info.commit.id} not finished")
        return self.objects.shards(each.hash for each in info.trees) if info.trees else None

    @staticmethod
    def _uses_tree(info: pb.CommitInfo) -> bool:
        return not provenant_on_input(info.provenance) or info.HasField("tree")

    def get_file(self, request: pb.GetFileRequest) -> Iterator[bytes]:
        """Return a file's content; a pattern gives that of all files it matches."""
        file = request.file
        _check_file(file)
        info = self.inspect_commit(file.commit)
        offset, size = request.offset_bytes, request.size_bytes
        objects: list[str] = []
        blocks: list[BlockRange] = []
        if self._uses_tree(info):
            tree = self._tree_for(pb.File(commit=file.commit))
            found, footer, previous = 0, "", None
            for path, node in _glob(tree.items(), tree.nodes, file.path):
                found += 1
                if node.directory:
                    continue
                parent = parent_of(path)
                if parent != previous:
                    objects += [footer] if footer else []
                    footer, previous = "", parent
                    shared = tree.nodes[parent].shared
                    if node.has_header_footer and shared is not None:
                        objects += [shared.header] if shared.header else []
                        footer = shared.footer
                objects += node.objects
                blocks += node.blocks
            objects += [footer] if footer else []
            if not found:
                raise FileNotFound(file)
            if not blocks:
                return self.objects.read(objects, offset, size)
            return self.objects.read_blocks(blocks, offset, size)
        nodes = self._nodes(info)
        pattern = paths.glob(paths.clean(file.path))
        files = [node for path, node in (nodes or {}).items() if pattern.fullmatch(path) and not node.directory]
        if not files:
            raise FileNotFound(file)
        return self.objects.read_blocks([block for node in files for block in node.blocks], offset, size)

    def inspect_file(self, file: pb.File) -> pb.FileInfo:
        """Return what is known of one path."""
        _check_file(file)
        info = self.inspect_commit(file.commit)
        if self._uses_tree(info):
            nodes: dict[str, Node] | None = self._tree_for(file).nodes
        else:
            nodes = self._nodes(info)
        node = (nodes or {}).get(paths.clean(file.path))
        if node is None:
            raise FileNotFound(file)
        return _file_info(info, file.path, node, nodes or {}, full=True)

    def list_file(self, request: pb.ListFileRequest) -> Iterator[pb.FileInfo]:
        """Yield the files of a directory, or of all directories that a pattern matches."""
        file = request.file
        _check_file(file)
        info = self.inspect_commit(file.commit)
        if self._uses_tree(info):
            tree = self._tree_for(pb.File(commit=file.commit))
            pattern = paths.glob(file.path)
            listed = []
            for path, node in _glob(tree.items(), tree.nodes, file.path):
                if not node.directory:
                    listed.append((path or "/", node))
                    continue
                for child, entry in tree.children(path):
                    if not pattern.fullmatch(child):
                        listed.append((child, entry))
            nodes = tree.nodes
        else:
            nodes = self._nodes(info) or {}
            pattern = paths.glob(paths.clean(file.path) or "/")
            listed = [
                (path, node)
                for path, node in nodes.items()
                if (pattern.fullmatch(path) and not node.directory)
                or pattern.fullmatch((parent_of(path) or "/") if path else ".")
            ]
        for path, node in listed:
            if request.history:
                yield from self._history(pb.File(commit=file.commit, path=path), request.history)
            else:
                yield _file_info(info, path, node, nodes, request.full)

    def _history(self, file: pb.File, history: int) -> Iterator[pb.FileInfo]:
        newest = None
        while True:
            try:
                found = self.inspect_file(file)
            except FileNotFound:
                break
            if newest is not None and newest.hash != found.hash:
                yield newest
                history -= 1
                if not history:
                    return
            newest = found
            info = self.inspect_commit(file.commit)
            if not info.HasField("parent_commit"):
                break
            file = pb.File(commit=info.parent_commit, path=file.path)
        if newest is not None:
            yield newest

    def walk_file(self, file: pb.File) -> Iterator[pb.FileInfo]:
        """Yield a path and everything below it."""
        _check_file(file)
        info = self.inspect_commit(file.commit)
        if self._uses_tree(info):
            tree = self._tree_for(file)
            nodes = dict(tree.items())
        else:
            nodes = self._nodes(info) or {}
        top = paths.clean(file.path)
        for path, node in nodes.items():
            shown = path or "/"
            if shown == top or shown.startswith(top + "/"):
                yield _file_info(info, shown, node, nodes)

    def glob_file(self, commit: pb.Commit, pattern: str) -> Iterator[pb.FileInfo]:
        """Yield the paths that a pattern matches."""
        if not commit.HasField("repo"):
            raise PachError("commit repo cannot be nil")
        info = self.inspect_commit(commit)
        if self._uses_tree(info):
            tree = self._tree_for(pb.File(commit=commit))
            try:
                for path, node in _glob(tree.items(), tree.nodes, pattern):
                    yield _file_info(info, path or "/", node, tree.nodes)
            except PathNotFound:
                return
            return
        nodes = self._nodes(info) or {}
        matcher = paths.glob(paths.clean(pattern))
        for path, node in nodes.items():
            if matcher.fullmatch(path):
                yield _file_info(info, path or "/", node, nodes)

    def diff_file(self, request: pb.DiffFileRequest) -> tuple[list[pb.FileInfo], list[pb.FileInfo]]:
        """Return the new and the old files that differ between two paths; by default with the parent commit."""
        new_file = request.new_file
        if not request.HasField("new_file"):
            raise PachError("file cannot be nil")
        _check_file(new_file)
        new_tree = self._tree_for(new_file)
        new_info = self.inspect_commit(new_file.commit)
        if request.HasField("old_file"):
            old_file = request.old_file
        else:
            old_file = pb.File(path=new_file.path)
            if new_info.HasField("parent_commit"):
                old_file.commit.CopyFrom(new_info.parent_commit)
        old_info = self.inspect_commit(old_file.commit) if old_file.HasField("commit") else None
        old_tree = self._tree_for(old_file)
        new_files: list[pb.FileInfo] = []
        old_files: list[pb.FileInfo] = []

        def compare(new_path: str, old_path: str, depth: int) -> None:
            new, old = new_tree.nodes.get(paths.clean(new_path)), old_tree.nodes.get(paths.clean(old_path))
            if new == old or (new is not None and old is not None and new.hash == old.hash):
                return
            if new is not None and (not new.directory or not depth):
                new_files.append(_file_info(new_info, new_path, new, new_tree.nodes))
            if old is not None and old_info is not None and (not old.directory or not depth):
                old_files.append(_file_info(old_info, old_path, old, old_tree.nodes))
            if not depth:
                return
            names = {path.rpartition("/")[2] for path, _unused in new_tree.children(paths.clean(new_path))}
            names |= {path.rpartition("/")[2] for path, _unused in old_tree.children(paths.clean(old_path))}
            for name in sorted(names):
                compare(paths.join(new_path, name), paths.join(old_path, name), depth - 1 if depth > 0 else depth)

        compare(new_file.path, old_file.path, 1 if request.shallow else -1)
        return new_files, old_files

    # Files: writing

    def put_files(self, requests: Iterator[pb.PutFileRequest]) -> None:
        """Take the stream of one PutFile call: into an open commit, or as a commit of its own on a branch."""
        written: list[tuple[pb.File, pb.PutFileRecords]] = []
        repo, raw_id, commit_id, branch, one_off = "", None, "", "", False
        request = next(requests, None)
        while request is not None:
            if not request.HasField("file"):
                raise PachError("must send a request with a file first")
            file = request.file
            if not file.HasField("commit"):
                raise PachError("file commit cannot be nil")
            if not file.commit.HasField("repo"):
                raise PachError("file commit repo cannot be nil")
            if raw_id is None:
                repo, raw_id = file.commit.repo.name, file.commit.id
                branch = "" if is_id(raw_id) else raw_id
                one_off = self._is_one_off(file.commit, branch)
                commit_id = file.commit.id
            elif file.commit.id != raw_id:
                raise PachError(
                    "all requests in a put files call must have the same commit ID; "
                    f"expected '{raw_id}', got '{file.commit.id}'"
                )
            elif file.commit.repo.name != repo:
                raise PachError(
                    "all requests in a put files call must have the same repo name; "
                    f"expected '{repo}', got '{file.commit.repo.name}'"
                )
            file.commit.id = commit_id
            first, following = request, _Until(requests)
            written.append((file, self._put_file(first, following)))
            request = following.rest()
        if not written:
            return
        if one_off:
            records = [(file.path, record) for file, record in written]
            self.write(lambda context: self.make_commit(context, commit_of(repo, ""), branch, records=records))
            return
        for file, record in written:
            self._record(file, record)

    def _is_one_off(self, commit: pb.Commit, branch: str) -> bool:
        try:
            info = self.inspect_commit(commit)
        except PachError as error:
            if branch and (isinstance(error, NoHead) or "not found" in str(error)):
                return True
            raise
        if info.HasField("finished"):
            if not branch:
                raise CommitFinished(commit)
            return True
        return False

    def _put_file(self, request: pb.PutFileRequest, following: Iterator[pb.PutFileRequest]) -> pb.PutFileRecords:
        file, records = request.file, pb.PutFileRecords()
        if request.delete:
            records.tombstone = True
            return records
        if request.url:
            raise NotImplementedHere("putting files from URLs")
        split = request.target_file_bytes or request.target_file_datums or request.header_records
        if request.delimiter != pb.NONE:
            raise NotImplementedHere("putting files with split")
        if split:
            raise PachError(
                "cannot set split options--targetFileBytes, targetFileDatums, or headerRecords--"
                "with delimiter == NONE, split disabled"
            )
        overwrite = request.HasField("overwrite_index")
        if overwrite and not request.overwrite_index.index:
            records.tombstone = True
        paths.check_file_path(file.path)
        paths.validate(file.path)
        for position, (name, size) in enumerate(self._split(request, following)):
            record = records.records.add(size_bytes=size, object_hash=name)
            if not position and overwrite and request.overwrite_index.index:
                record.overwrite_index.CopyFrom(request.overwrite_index)
        return records

    def _split(self, request: pb.PutFileRequest, following: Iterator[pb.PutFileRequest]) -> Iterator[tuple[str, int]]:
        """Store the content as objects of at most OBJECT_SIZE bytes; yield their hashes and sizes."""
        rest = request.value
        source = (each.value for each in following)
        more = True

        def chunks() -> Iterator[bytes]:
            nonlocal rest, more
            left = OBJECT_SIZE
            while left:
                if not rest:
                    value = next(source, None)
                    if value is None:
                        more = False
                        return
                    rest = value
                    continue
                chunk, rest = rest[:left], rest[left:]
                left -= len(chunk)
                yield chunk

        while more:
            yield self.objects.put(chunks())

    def _record(self, file: pb.File, record: pb.PutFileRecords) -> None:
        """Note a change in an open commit."""
        cleaned = paths.go_clean("/" + file.path)
        paths.check_file_path(cleaned)
        name = paths.join(file.commit.repo.name, file.commit.id, cleaned)

        def upsert(txn: Txn) -> None:
            self.open.get(txn, file.commit.id)
            existing = self.records.find(txn, name) or pb.PutFileRecords()
            if record.tombstone:
                existing.tombstone = True
                del existing.records[:]
            existing.split = record.split
            existing.records.extend(record.records)
            self.records.put(txn, name, existing)

        transact(self.etcd, upsert)

    def delete_file(self, file: pb.File) -> None:
        """Delete a path in an open commit, or with a commit of its own on a branch."""
        _check_file(file)
        paths.check_file_path(file.path)
        branch = "" if is_id(file.commit.id) else file.commit.id
        info = self.inspect_commit(file.commit)
        gone = pb.PutFileRecords(tombstone=True)
        if not info.HasField("finished"):
            self._record(file, gone)
            return
        if not branch:
            raise CommitFinished(file.commit)
        repo = file.commit.repo.name
        self.write(lambda context: self.make_commit(context, commit_of(repo, ""), branch, records=[(file.path, gone)]))

    def copy_file(self, request: pb.CopyFileRequest) -> None:
        """Make a path refer to the content that another path has."""
        source, target = request.src, request.dst
        for name, file in (("src", source), ("dst", target)):
            if not request.HasField(name):
                raise PachError(f"{name} cannot be nil")
            if not file.HasField("commit"):
                raise PachError(f"{name} commit cannot be nil")
            if not file.commit.HasField("repo"):
                raise PachError(f"{name} commit repo cannot be nil")
        paths.check_file_path(target.path)
        paths.validate(target.path)
        branch, is_open = "" if is_id(target.commit.id) else target.commit.id, False
        try:
            is_open = not self.inspect_commit(target.commit).HasField("finished")
        except NoHead:
            pass
        if not is_open and not branch:
            raise CommitFinished(target.commit)
        collected: list[tuple[str, pb.PutFileRecords]] = []
        if request.overwrite:
            if is_open:
                self.delete_file(pb.File(commit=target.commit, path=target.path))
            else:
                collected.append((target.path, pb.PutFileRecords(tombstone=True)))
        top = paths.clean(source.path)
        info = self.inspect_commit(source.commit)
        nodes = dict(self._tree_for(source).items()) if self._uses_tree(info) else self._nodes(info) or {}
        for path, node in nodes.items():
            if node.directory or not (path == top or path.startswith(top + "/")):
                continue
            if node.has_header_footer:
                raise NotImplementedHere("files that were put with split")
            record = pb.PutFileRecords()
            for position, name in enumerate(node.objects):
                record.records.add(object_hash=name, size_bytes=0 if position else node.size)
            for block in node.blocks:
                added = record.records.add(size_bytes=block.size)
                added.block_ref.block.hash = block.block
                added.block_ref.range.lower, added.block_ref.range.upper = block.lower, block.upper
            new_path = paths.go_clean(paths.join(target.path, path[len(top) :]))
            if is_open:
                self._record(pb.File(commit=target.commit, path=new_path), record)
            else:
                collected.append((new_path, record))
        if not is_open:
            parent = commit_of(target.commit.repo.name, "")
            self.write(lambda context: self.make_commit(context, parent, branch, records=collected))

    # Consistency

    def fsck(self, fix: bool) -> Iterator[pb.FsckResponse]:
        """Yield what is inconsistent between branches and commits; the stand-in mends nothing."""
        if fix:
            raise NotImplementedHere("mending by fsck")
        branches: dict[tuple[str, str], pb.BranchInfo] = {}
        commits: dict[tuple[str, str], pb.CommitInfo] = {}
        for repo, _unused, _unused in self.repos.newest_first(self.etcd):
            commits.update({(repo, name): info for name, info, _unused in self.commits(repo).entries(self.etcd)})
            branches.update({(repo, name): info for name, info, _unused in self.branches(repo).entries(self.etcd)})
        for info in branches.values():
            yield from self._fsck_branch(info, branches, commits)
        for info in commits.values():
            yield from self._fsck_commit(info, commits)

    def _fsck_branch(
        self,
        info: pb.BranchInfo,
        branches: dict[tuple[str, str], pb.BranchInfo],
        commits: dict[tuple[str, str], pb.CommitInfo],
    ) -> Iterator[pb.FsckResponse]:
        closure = {_key(info.branch)}
        for direct in info.direct_provenance:
            closure.add(_key(direct))
            closure.update(_key(each) for each in branches.get(_key(direct), pb.BranchInfo()).provenance)
        missing = closure - {_key(info.branch), *map(_key, info.provenance)}
        if missing or closure != {_key(info.branch), *map(_key, info.provenance)}:
            lines = "".join(f"{name} in repo {repo}\n" for repo, name in sorted(missing))
            yield pb.FsckResponse(
                error=f"consistency error: branch provenance was not transitive\non branch {info.name} in repo "
                f"{info.branch.repo.name}\nthe following branches are missing from the provenance:\n{lines}"
            )
        if not info.HasField("head"):
            return
        for branch in info.provenance:
            upstream = branches.get(_key(branch))
            if upstream is None:
                yield pb.FsckResponse(
                    error=f"consistency error: the branch {branch.name} on repo {branch.repo.name} could not be found\n"
                )
                continue
            if not upstream.HasField("head"):
                continue
            head = commits.get((info.head.repo.name, info.head.id))
            if head is None:
                yield _lost(info.head, "head commit provenance (=>)")
                continue
            if head.origin.kind == pb.AUTO and head.provenance:
                continue
            if (upstream.head.id, branch.name) not in {(e.commit.id, e.branch.name) for e in head.provenance}:
                yield pb.FsckResponse(
                    error="consistency error: head provenance is not consistent with branch provenance\n"
                    f"on branch {info.name} in repo {info.branch.repo.name}\nwhich has head commit {head.commit.id}\n"
                    f"this branch is provenant on the branch {upstream.name} in repo {branch.repo.name}\n"
                    f"which has head commit {upstream.head.id}\n"
                    "but this commit is missing from the head commit provenance\n"
                )

    def _fsck_commit(
        self, info: pb.CommitInfo, commits: dict[tuple[str, str], pb.CommitInfo]
    ) -> Iterator[pb.FsckResponse]:
        own = {(each.commit.repo.name, each.commit.id) for each in info.provenance}
        for each in info.provenance:
            if each.commit.repo.name != each.branch.repo.name:
                yield pb.FsckResponse(
                    error=f"consistency error: the commit provenance has repo {each.branch.repo.name} for the branch "
                    f"but repo {each.commit.repo.name} for the commit"
                )
            upstream = commits.get((each.commit.repo.name, each.commit.id))
            if upstream is None:
                yield _lost(each.commit, "provenance transitivity")
                continue
            for further in upstream.provenance:
                if (further.commit.repo.name, further.commit.id) not in own:
                    yield pb.FsckResponse(
                        error="consistency error: commit provenance was not transitive\n"
                        f"on commit {info.commit.id} in repo {info.commit.repo.name}\n"
                        "the following commit provenances are missing from the full provenance:\n"
                        f"{further.commit.id} in repo {further.commit.repo.name}\n"
                    )
            if not any(info.commit.id in _range(span, commits) for span in upstream.subvenance):
                yield pb.FsckResponse(
                    error="consistency error: the commit was not in its provenance's subvenance\n"
                    f"commit {info.commit.id} in repo {info.commit.repo.name}\n"
                    f"provenance commit {each.commit.id} in repo {each.commit.repo.name}\n"
                )
        for span in info.subvenance:
            for name in _range(span, commits):
                downstream = commits.get((span.upper.repo.name, name))
                if downstream is None:
                    yield _lost(
                        commit_of(span.upper.repo.name, name), "subvenance for provenance-subvenance duality (<=)"
                    )
                elif info.commit.id not in {name, *(each.commit.id for each in downstream.provenance)}:
                    yield pb.FsckResponse(
                        error="consistency error: the commit was not in its subvenance's provenance\n"
                        f"commit {info.commit.id} in repo {info.commit.repo.name}\n"
                        f"subvenance commit {name} in repo {span.upper.repo.name}\n"
                    )


class _Until:
    """The requests of one stream up to the next that names a file; that one is kept."""

    def __init__(self, requests: Iterator[pb.PutFileRequest]) -> None:
        self._requests = requests
        self._next: pb.PutFileRequest | None = None
        self._ended = False

    def __iter__(self) -> _Until:
        return self

    def __next__(self) -> pb.PutFileRequest:
        if not self._ended:
            request = next(self._requests, None)
            if request is not None and not request.HasField("file"):
                return request
            self._next, self._ended = request, True
        raise StopIteration

    def rest(self) -> pb.PutFileRequest | None:
        """Return the request that ended the iteration, after reading up to it."""
        for _unused in self:
            pass
        return self._next


def _show_branch(branch: pb.Branch) -> str:
    return f'repo:<name:"{branch.repo.name}" > name:"{branch.name}" '


def _lost(commit: pb.Commit, where: str) -> pb.FsckResponse:
    return pb.FsckResponse(
        error=f"consistency error: the commit {commit.id} in repo {commit.repo.name} could not be found while "
        f"checking {where}"
    )


def _range(span: pb.CommitRange, commits: dict[tuple[str, str], pb.CommitInfo]) -> list[str]:
    names, current = [], span.upper.id
    while current:
        names.append(current)
        if current == span.lower.id or (span.upper.repo.name, current) not in commits:
            break
        current = commits[span.upper.repo.name, current].parent_commit.id
    return names


def _append_subvenance(upstream: pb.CommitInfo, info: pb.CommitInfo) -> None:
    if info.HasField("parent_commit"):
        for span in upstream.subvenance:
            if span.upper.id == info.parent_commit.id:
                span.upper.CopyFrom(info.commit)
                return
    upstream.subvenance.add(lower=info.commit, upper=info.commit)
    upstream.subvenant_commits_total += 1


def _check_file(file: pb.File) -> None:
    if not file.HasField("commit"):
        raise PachError("file commit cannot be nil")
    if not file.commit.HasField("repo"):
        raise PachError("file commit repo cannot be nil")


def _glob(items: list[tuple[str, Node]], nodes: dict[str, Node], pattern: str) -> Iterator[tuple[str, Node]]:
    """Yield what a pattern matches in a tree; a plain path must exist."""
    pattern = paths.clean(pattern)
    if not paths.is_glob(pattern):
        if pattern not in nodes:
            raise PathNotFound(pattern)
        yield pattern, nodes[pattern]
        return
    matcher = paths.glob(pattern)
    for path, node in items:
        if matcher.fullmatch(path):
            yield path, node


def _file_info(info: pb.CommitInfo, path: str, node: Node, nodes: dict[str, Node], full: bool = False) -> pb.FileInfo:
    result = pb.FileInfo(
        file=pb.File(commit=info.commit, path=path),
        size_bytes=node.size,
        hash=node.hash,
        file_type=pb.DIR if node.directory else pb.FILE,
    )
    if info.HasField("finished"):
        result.committed.CopyFrom(info.finished)
    objects = list(node.objects)
    if node.has_header_footer:
        shared = nodes[parent_of(paths.clean(path))].shared
        if shared is not None:
            objects = [*filter(None, [shared.header]), *objects, *filter(None, [shared.footer])]
            result.size_bytes += shared.header_size + shared.footer_size
            result.hash = hashlib.sha256("".join(objects).encode()).digest()
    if full and not node.directory:
        result.objects.extend(pb.Object(hash=each) for each in objects)
        for block in node.blocks:
            added = result.blockRefs.add()
            added.block.hash = block.block
            added.range.lower, added.range.upper = block.lower, block.upper
    return result
