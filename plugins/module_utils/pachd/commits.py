# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Commits of a running Pachyderm: their history, and the files that they hold."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError, WaitError
from . import branches, shown
from .client import Pachd, TimeUp
from .shown import Data

_FINISHED = {"open": False, "finished": True}
_TYPES = {1: "file", 2: "dir"}


@dataclass(frozen=True)
class Wanted:
    """Which commits: of a branch's history, or all of a repo, the newest first.

    :param commit: the newest one, by id or branch with or without ``^n``; all branches where empty.
    :param oldest: an ancestor where the history ends, which does not belong to it.
    :param limit: at most so many; 0: all.
    :param state: ``open``, ``finished`` or empty for both.
    """

    repo: str
    commit: str = ""
    oldest: str = ""
    limit: int = 0
    state: str = ""


def history(pachd: Pachd, wanted: Wanted) -> list[Data]:
    """Return the commits that are wanted.

    :raises InputError: there is no such repo, branch or commit.
    """
    pfs = pachd.pfs_pb2
    repo = pfs.Repo(name=wanted.repo)
    request = pfs.ListCommitRequest(repo=repo)
    if wanted.commit:
        request.to.CopyFrom(pfs.Commit(repo=repo, id=branches.resolve(pachd, wanted.repo, wanted.commit)))
    if wanted.oldest:
        if not wanted.commit:
            raise InputError("an end without a beginning", where=wanted.repo, fix="Name the newest commit too.")
        getattr(request, "from").CopyFrom(pfs.Commit(repo=repo, id=branches.resolve(pachd, wanted.repo, wanted.oldest)))
    if not wanted.state:
        request.number = wanted.limit
    found: list[Data] = []
    for info in pachd.stream(pachd.pfs.ListCommitStream, request, f"for the commits of {wanted.repo}"):
        if wanted.state and info.HasField("finished") != _FINISHED[wanted.state]:
            continue
        found.append(shown.commit(info))
        if wanted.limit and len(found) == wanted.limit:
            break
    return found


def files(pachd: Pachd, repo: str, commit: str, path: str) -> list[Data]:
    """Return what is at a path of a commit and below it, with the hashes that Pachyderm records."""
    return [
        {
            "path": info.file.path,
            "type": _TYPES.get(info.file_type, "other"),
            "size": int(info.size_bytes),
            "hash": bytes(info.hash).hex(),
        }
        for info in pachd.walk(repo, commit, path)
    ]


def flush(pachd: Pachd, commits: list[tuple[str, str]], pipeline: str, timeout: float) -> list[Data]:
    """Return the commits that descend from all of the given ones, when they are finished.

    :param pipeline: only what leads to its output; everything where empty.
    :raises WaitError: they were not finished in ``timeout`` seconds.
    """
    pfs = pachd.pfs_pb2
    request = pfs.FlushCommitRequest()
    for repo, reference in commits:
        request.commits.add(repo=pfs.Repo(name=repo), id=branches.resolve(pachd, repo, reference))
    if pipeline:
        request.to_repos.add(name=pipeline)
    shown_commits = ", ".join(f"{repo}@{reference}" for repo, reference in commits)
    found: list[Data] = []
    try:
        infos = pachd.stream(pachd.pfs.FlushCommit, request, f"for what follows {shown_commits}", limit=timeout)
        found.extend(shown.commit(info) for info in infos)
    except TimeUp:
        raise WaitError(
            f"not everything was computed after {timeout:.0f} s",
            where=f"what descends from {shown_commits}",
            why=f"{len(found)} commits are finished",
            fix="Look at the jobs with pachyderm_job_info, or wait longer.",
        ) from None
    return found
