# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What pachd answers, as plain data that modules return: names as in pps.proto and pfs.proto, times in ISO 8601."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .records import JOB_STATES, PIPELINE_STATES

Data = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What a thing was and what it became, or would become; empty where it did not or will not exist."""

    where: str
    before: Data
    after: Data

    @property
    def changed(self) -> bool:
        """Whether there is a difference."""
        return self.before != self.after

    def diff(self) -> Data:
        """Return the differences and nothing else, in the form that Ansible shows."""
        fields = list(differences(self.before, self.after))
        return {
            "before_header": self.where,
            "after_header": self.where,
            "before": {path: before for path, before, _unused in fields if before is not None},
            "after": {path: after for path, _unused, after in fields if after is not None},
        }


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield path, old and new value of every field that differs, ``transform.cmd`` or ``input.cross[0].pfs.glob``.

    A value is None where there is none; a list of another length, or of anything but mappings, is one value.
    """
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(each for each in after if each not in before)]:
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif _comparable(before, after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}[{number}]")
    else:
        yield path, before, after


def _comparable(before: Any, after: Any) -> bool:
    return (
        isinstance(before, list)
        and isinstance(after, list)
        and len(before) == len(after)
        and all(isinstance(each, Mapping) for each in [*before, *after])
    )


def moment(message: Any, field: str) -> str | None:
    """Return a message's timestamp in UTC, None where it is not set."""
    return str(getattr(message, field).ToJsonString()) if message.HasField(field) else None


def branch_name(branch: Any) -> str:
    """Return ``repo@branch``."""
    return f"{branch.repo.name}@{branch.name}"


def commit_name(commit: Any) -> str:
    """Return ``repo@id``."""
    return f"{commit.repo.name}@{commit.id}"


def repo(info: Any) -> Data:
    """Return a ``pfs.RepoInfo``; its size is that of the head of ``master``."""
    return {
        "name": info.repo.name,
        "description": info.description,
        "created": moment(info, "created"),
        "size": int(info.size_bytes),
        "branches": sorted(each.name for each in info.branches),
    }


def trigger(message: Any) -> Data:
    """Return a ``pfs.Trigger``."""
    return {
        "branch": message.branch,
        "all": message.all,
        "cron_spec": message.cron_spec,
        "size": message.size,
        "commits": int(message.commits),
    }


def branch(info: Any) -> Data:
    """Return a ``pfs.BranchInfo``; its provenance is what it depends on directly."""
    return {
        "repo": info.branch.repo.name,
        "name": info.branch.name,
        "head": info.head.id if info.HasField("head") else None,
        "provenance": sorted(branch_name(each) for each in info.direct_provenance),
        "subvenance": sorted(branch_name(each) for each in info.subvenance),
        "trigger": trigger(info.trigger) if info.HasField("trigger") else None,
    }


def commit(info: Any) -> Data:
    """Return a ``pfs.CommitInfo``."""
    return {
        "repo": info.commit.repo.name,
        "id": info.commit.id,
        "branch": info.branch.name,
        "parent": info.parent_commit.id if info.HasField("parent_commit") else None,
        "children": [each.id for each in info.child_commits],
        "description": info.description,
        "origin": info.origin.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number[info.origin.kind].name,
        "started": moment(info, "started"),
        "finished": moment(info, "finished"),
        "size": int(info.size_bytes),
        "provenance": sorted(commit_name(each.commit) for each in info.provenance),
        "subvenance": sorted({commit_name(each.upper) for each in info.subvenance}),
    }


def pipeline(info: Any) -> Data:
    """Return what a ``pps.PipelineInfo`` says of how a pipeline is, not of what it does."""
    return {
        "name": info.pipeline.name,
        "version": int(info.version),
        "description": info.description,
        "state": PIPELINE_STATES[info.state].lower(),
        "stopped": info.stopped,
        "reason": info.reason,
        "created": moment(info, "created_at"),
        "last_job_state": JOB_STATES[info.last_job_state].lower() if any(info.job_counts.values()) else None,
        "jobs": {JOB_STATES[state].lower(): count for state, count in sorted(info.job_counts.items()) if count},
        "inputs": inputs(info.input),
        "output_branch": info.output_branch,
    }


#: Inputs that are made of others.
COMPOUND = ("cross", "union", "join", "group")


def visit(message: Any) -> Iterator[Any]:
    """Yield a ``pps.Input`` and all that it is made of, the innermost first."""
    for kind in COMPOUND:
        for each in getattr(message, kind):
            yield from visit(each)
    yield message


def inputs(message: Any) -> list[str]:
    """Return what a ``pps.Input`` reads, ``repo@branch`` each."""
    found = set()
    for each in visit(message):
        if each.HasField("pfs"):
            found.add(f"{each.pfs.repo}@{each.pfs.branch or 'master'}")
        elif each.HasField("cron"):
            found.add(f"{each.cron.repo}@master")
        elif each.HasField("git"):
            found.add(f"{each.git.name}@{each.git.branch or 'master'}")
    return sorted(found)


def job(info: Any) -> Data:
    """Return a ``pps.JobInfo``."""
    started, finished = (
        getattr(info, each).ToNanoseconds() / 1e9 if info.HasField(each) else None for each in ("started", "finished")
    )
    return {
        "id": info.job.id,
        "pipeline": info.pipeline.name,
        "version": int(info.pipeline_version),
        "state": JOB_STATES[info.state].lower(),
        "reason": info.reason,
        "started": moment(info, "started"),
        "finished": moment(info, "finished"),
        "seconds": round(finished - started, 3) if started is not None and finished is not None else None,
        "output_commit": commit_name(info.output_commit) if info.output_commit.id else None,
        "input_commits": sorted(
            f"{each.pfs.repo}@{each.pfs.commit}"
            for each in visit(info.input)
            if each.HasField("pfs") and each.pfs.commit
        ),
        "restarts": int(info.restart),
        "data": {
            "total": int(info.data_total),
            "processed": int(info.data_processed),
            "skipped": int(info.data_skipped),
            "failed": int(info.data_failed),
            "recovered": int(info.data_recovered),
        },
    }
