# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Repos of a running Pachyderm: look, create, describe, delete."""

from __future__ import annotations

from ..errors import InputError
from . import shown
from .client import NotThere, Pachd
from .shown import Change, Data


def every(pachd: Pachd) -> list[Data]:
    """Return all repos by name, but for the one of the pipelines' specifications."""
    return sorted((shown.repo(info) for info in pachd.repo_infos()), key=lambda each: str(each["name"]))


def find(pachd: Pachd, name: str) -> Data | None:
    """Return one repo, None where there is none of that name."""
    pfs = pachd.pfs_pb2
    try:
        info = pachd.call(
            pachd.pfs.InspectRepo, pfs.InspectRepoRequest(repo=pfs.Repo(name=name)), f"for the repo {name}"
        )
    except NotThere:
        return None
    return shown.repo(info)


def ensure(pachd: Pachd, name: str, description: str | None, *, write: bool) -> tuple[Change, Data]:
    """Create a repo or change its description, and return the change and the repo.

    :param description: None leaves it as it is.
    """
    found = find(pachd, name)
    before = {"name": name, "description": found["description"]} if found else {}
    after = {"name": name, "description": before.get("description", "") if description is None else description}
    change = Change(f"repo {name}", before, after)
    if change.changed and write:
        pachd.create_repo(name, after["description"], update=found is not None)
        found = find(pachd, name)
    new: Data = {**after, "created": None, "size": 0, "branches": []}
    return change, {**(found or new), **after}


def remove(pachd: Pachd, name: str, *, force: bool, write: bool) -> tuple[Change, Data]:
    """Delete a repo with all of its commits, and return the change and the repo as it was.

    :raises InputError: other repos' branches descend from it, and ``force`` is not set.
    """
    found = find(pachd, name)
    if found is None:
        return Change(f"repo {name}", {}, {}), {}
    dependent = sorted({each for branch in branches(pachd, name) for each in branch["subvenance"]})
    dependent = [each for each in dependent if not each.startswith(f"{name}@")]
    if dependent and not force:
        raise InputError(
            "the repo is in use",
            where=f"repo {name}",
            why=f"{', '.join(dependent)} descend{'s' if len(dependent) == 1 else ''} from it",
            fix="Delete the pipelines that read it first; with force they lose their input.",
        )
    if write:
        pachd.delete_repo(name, force=force)
    return Change(f"repo {name}", {"name": name, "description": found["description"]}, {}), found


def branches(pachd: Pachd, name: str) -> list[Data]:
    """Return the branches of a repo by name.

    :raises NotThere: there is no such repo.
    """
    pfs = pachd.pfs_pb2
    request = pfs.ListBranchRequest(repo=pfs.Repo(name=name))
    answer = pachd.call(pachd.pfs.ListBranch, request, f"for the branches of {name}")
    return sorted((shown.branch(info) for info in answer.branch_info), key=lambda each: str(each["name"]))
