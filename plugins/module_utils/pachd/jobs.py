# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Jobs of a running Pachyderm, found by what they belong to, how they went and when they ran."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from . import branches, shown
from .client import NotThere, Pachd
from .records import JOB_STATES
from .shown import Data

STATES = tuple(each.lower() for each in JOB_STATES)


@dataclass(frozen=True)
class Wanted:
    """Which jobs; what is empty or None does not restrict.

    :param job: the one job with this id.
    :param inputs: commits or branches that all have to be among what the job read, ``repo@reference``.
    :param output: the commit that the job wrote, ``repo@reference``.
    :param since: started then or later.
    :param until: started before.
    :param history: how many earlier versions of the pipelines count, -1 for all.
    :param limit: at most so many, the newest.
    :param full: give the specification that each job ran with, too.
    """

    job: str = ""
    pipeline: str = ""
    states: Sequence[str] = ()
    inputs: Sequence[str] = ()
    output: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    history: int = 0
    limit: int = 0
    full: bool = False


def find(pachd: Pachd, wanted: Wanted) -> list[Data]:
    """Return the jobs that are wanted, the newest first.

    :raises InputError: a job, pipeline or commit that is named does not exist.
    """
    found: list[tuple[int, Data]] = []
    for info in _one(pachd, wanted) if wanted.job else _listed(pachd, wanted):
        job = shown.job(info)
        if wanted.states and job["state"] not in wanted.states:
            continue
        # A job that has not started yet started no earlier than now.
        started = _time(info)
        if wanted.since and started and started < wanted.since:
            continue
        if wanted.until and (started is None or started >= wanted.until):
            continue
        if wanted.job or wanted.full:
            job["spec"] = _spec(info)
        found.append((info.started.ToNanoseconds() if info.HasField("started") else 1 << 63, job))
    found.sort(key=lambda each: -each[0])
    jobs = [job for _unused, job in found]
    return jobs[: wanted.limit] if wanted.limit else jobs


def _one(pachd: Pachd, wanted: Wanted) -> list[Any]:
    pps = pachd.pps_pb2
    request = pps.InspectJobRequest(job=pps.Job(id=wanted.job))
    try:
        return [pachd.call(pachd.pps.InspectJob, request, f"for the job {wanted.job}")]
    except NotThere:
        raise InputError("the job does not exist", where=wanted.job, fix="List the jobs of its pipeline.") from None


def _listed(pachd: Pachd, wanted: Wanted) -> list[Any]:
    pps = pachd.pps_pb2
    request = pps.ListJobRequest(history=wanted.history, full=wanted.full)
    if wanted.pipeline:
        request.pipeline.name = wanted.pipeline
    for text in wanted.inputs:
        request.input_commit.append(_commit(pachd, text))
    if wanted.output:
        request.output_commit.CopyFrom(_commit(pachd, wanted.output))
    try:
        infos = list(pachd.stream(pachd.pps.ListJobStream, request, "for the jobs"))
    except NotThere as error:
        raise InputError(
            "the pipeline does not exist", where=wanted.pipeline, why=error.why, fix="List them with pachyderm_info."
        ) from None
    if wanted.pipeline and wanted.output:
        # pachd looks at the pipeline alone where both are named.
        infos = [each for each in infos if each.output_commit.id == request.output_commit.id]
    return infos


def _commit(pachd: Pachd, text: str) -> Any:
    repo, separator, reference = text.partition("@")
    if not separator or not repo or not reference:
        raise InputError("not a commit", where=text, fix="Write repo@commit, repo@branch or repo@branch^2.")
    pfs = pachd.pfs_pb2
    return pfs.Commit(repo=pfs.Repo(name=repo), id=branches.resolve(pachd, repo, reference))


def _time(info: Any) -> dt.datetime | None:
    if not info.HasField("started"):
        return None
    return dt.datetime.fromtimestamp(info.started.ToNanoseconds() / 1e9, dt.timezone.utc)


def _spec(info: Any) -> Data:
    """Return image, command and input of a job; its environment may hold secrets and is left out."""
    from google.protobuf import json_format

    return {
        "image": info.transform.image,
        "cmd": list(info.transform.cmd),
        "stdin": list(info.transform.stdin),
        "input": json_format.MessageToDict(info.input, preserving_proto_field_name=True),
        "parallelism": int(info.parallelism_spec.constant) or 1,
    }
