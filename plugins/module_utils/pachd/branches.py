# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Branches of a running Pachyderm: where they point, what they depend on, and what moves them.

A branch is a name for a commit.  Moving it publishes the commit, moving it back takes that back; no commit is lost by
either.  ``CreateBranch`` does it all, and replaces head and provenance whatever is given, so that both are always sent
(``createBranch`` in ``src/server/pfs/server/driver.go`` of v1.13.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, PachdError
from . import shown
from .client import NotThere, Pachd
from .shown import Change, Data

#: Of a branch, what a user decides.
_FIELDS = ("repo", "name", "head", "provenance", "trigger")
_NO_TRIGGER: Data = {"branch": "", "all": False, "cron_spec": "", "size": "", "commits": 0}


@dataclass(frozen=True)
class Wanted:
    """What a branch is to be; None leaves it as it is.

    :param head: a commit's id or a branch of the repo, with ``^`` or ``~`` and a number for an ancestor.
    :param provenance: branches that it depends on, ``repo@branch`` each.
    :param trigger: fields of a ``pfs.Trigger``; without a ``branch`` the branch is to have none.
    """

    repo: str
    name: str
    head: str | None = None
    provenance: Sequence[str] | None = None
    trigger: Mapping[str, Any] | None = None

    @property
    def where(self) -> str:
        """The branch in pachctl's form."""
        return f"{self.repo}@{self.name}"


def find(pachd: Pachd, repo: str, name: str) -> Data | None:
    """Return one branch, None where there is none of that name or no such repo."""
    info = _inspect(pachd, repo, name)
    return shown.branch(info) if info is not None else None


def _inspect(pachd: Pachd, repo: str, name: str) -> Any | None:
    pfs = pachd.pfs_pb2
    request = pfs.InspectBranchRequest(branch=pfs.Branch(repo=pfs.Repo(name=repo), name=name))
    try:
        return pachd.call(pachd.pfs.InspectBranch, request, f"for the branch {repo}@{name}")
    except NotThere:
        return None


def resolve(pachd: Pachd, repo: str, reference: str) -> str:
    """Return the id of the commit that a reference names, such as ``master^2``.

    :raises InputError: there is none.
    """
    pfs = pachd.pfs_pb2
    request = pfs.InspectCommitRequest(commit=pfs.Commit(repo=pfs.Repo(name=repo), id=reference))
    try:
        return str(pachd.call(pachd.pfs.InspectCommit, request, f"for the commit {repo}@{reference}").commit.id)
    except NotThere as error:
        raise InputError(
            "the commit does not exist",
            where=f"{repo}@{reference}",
            why=error.why,
            fix="Look at the repo's commits and branches with pachyderm_commit_info.",
        ) from None


def ensure(pachd: Pachd, wanted: Wanted, *, write: bool) -> tuple[Change, Data]:
    """Make a branch what is wanted, and return the change and the branch.

    :raises InputError: the head or a branch of the provenance does not exist, or the provenance is a circle.
    """
    found = find(pachd, wanted.repo, wanted.name)
    before = _decided(found)
    after = dict(before) or {"repo": wanted.repo, "name": wanted.name, "head": None, "provenance": [], "trigger": None}
    if wanted.head is not None:
        after["head"] = resolve(pachd, wanted.repo, wanted.head)
    if wanted.provenance is not None:
        after["provenance"] = sorted(set(wanted.provenance))
        _check_provenance(pachd, wanted, after["provenance"])
    if wanted.trigger is not None:
        after["trigger"] = _trigger(wanted)
    change = Change(wanted.where, before, after)
    if change.changed and write:
        _write(pachd, before, after)
        found = find(pachd, wanted.repo, wanted.name)
        return change, found or {**after, "subvenance": []}
    return change, {**after, "subvenance": found["subvenance"] if found else []}


def remove(pachd: Pachd, repo: str, name: str, *, force: bool, write: bool) -> tuple[Change, Data]:
    """Delete a branch, and return the change and the branch as it was; its commits stay.

    :raises InputError: other branches descend from it, and ``force`` is not set.
    """
    found = find(pachd, repo, name)
    if found is None:
        return Change(f"{repo}@{name}", {}, {}), {}
    if found["subvenance"] and not force:
        raise InputError(
            "the branch is in use",
            where=f"{repo}@{name}",
            why=f"{', '.join(found['subvenance'])} descend from it",
            fix="Delete the pipelines that read it first; with force they lose their input.",
        )
    if write:
        _delete(pachd, repo, name, force=force)
    return Change(f"{repo}@{name}", _decided(found), {}), found


def _decided(found: Data | None) -> Data:
    return {key: found[key] for key in _FIELDS} if found else {}


def _branch(pachd: Pachd, text: str) -> Any:
    repo, separator, name = text.partition("@")
    if not separator or not repo or not name:
        raise InputError("not a branch", where=text, fix="Write repo@branch.")
    return pachd.pfs_pb2.Branch(repo=pachd.pfs_pb2.Repo(name=repo), name=name)


def _check_provenance(pachd: Pachd, wanted: Wanted, provenance: Sequence[str]) -> None:
    """Refuse what pachd would not: it would make a branch of a missing one, and accepts circles of more than one."""
    for text in provenance:
        branch = _branch(pachd, text)
        if text == wanted.where:
            raise InputError("a branch cannot depend on itself", where=text)
        upstream = _inspect(pachd, branch.repo.name, branch.name)
        if upstream is None:
            raise InputError(
                "the branch does not exist",
                where=text,
                why=f"{wanted.where} is to depend on it",
                fix="Create it first.",
            )
        # What pachd keeps as a branch's provenance is all that it depends on, directly or not.
        if wanted.where in map(shown.branch_name, upstream.provenance):
            raise InputError("the branches would depend on each other", where=f"{wanted.where} and {text}")


def _trigger(wanted: Wanted) -> Data | None:
    """Return the wanted trigger in full, None for none.

    :raises InputError: it cannot be one.
    """
    given = {key: value for key, value in (wanted.trigger or {}).items() if value is not None}
    full = {**_NO_TRIGGER, **given}
    if not full["branch"]:
        if given and (given.keys() - {"branch"}):
            fix = "Name the branch whose new commits move this one, as trigger.branch."
            raise InputError("a trigger without a branch", where=wanted.where, fix=fix)
        return None
    if full["branch"] == wanted.name:
        raise InputError("a branch cannot trigger itself", where=wanted.where)
    if not (full["cron_spec"] or full["size"] or full["commits"]):
        fix = "Give commits, size or cron_spec."
        raise InputError("a trigger without a condition never moves its branch", where=wanted.where, fix=fix)
    return full


def _write(pachd: Pachd, before: Data, after: Data) -> None:
    pfs, where = pachd.pfs_pb2, f"{after['repo']}@{after['name']}"
    repo = pfs.Repo(name=after["repo"])
    request = pfs.CreateBranchRequest(branch=pfs.Branch(repo=repo, name=after["name"]))
    if before.get("trigger") and after["trigger"] is None:
        # pachd never takes a trigger away from a branch.
        _delete(pachd, after["repo"], after["name"], force=False)
        before = {}
    if after["head"] is not None:
        # Named by the branch itself, the head is not compared with the heads of the provenance.
        same = after["head"] == before.get("head")
        request.head.CopyFrom(pfs.Commit(repo=repo, id=after["name"] if same else after["head"]))
    request.provenance.extend(_branch(pachd, text) for text in after["provenance"])
    if after["trigger"]:
        request.trigger.CopyFrom(pfs.Trigger(**after["trigger"]))
    try:
        pachd.call(pachd.pfs.CreateBranch, request, f"to make the branch {where}")
    except PachdError as error:
        if "as provenance but that commit is not the head" not in error.why:
            raise
        fix = "Move the branch that its pipeline reads; the output follows."
        raise InputError("an output cannot be moved without its input", where=where, why=error.why, fix=fix) from None


def _delete(pachd: Pachd, repo: str, name: str, *, force: bool) -> None:
    pfs = pachd.pfs_pb2
    request = pfs.DeleteBranchRequest(branch=pfs.Branch(repo=pfs.Repo(name=repo), name=name), force=force)
    pachd.call(pachd.pfs.DeleteBranch, request, f"to delete the branch {repo}@{name}")
