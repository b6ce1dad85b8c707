# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What pachd, a pipeline's workers, a job or a datum wrote to their logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .client import NotThere, Pachd, TimeUp
from .shown import Data, moment


@dataclass(frozen=True)
class Wanted:
    """Whose log and how much of it; pachd's own where neither pipeline nor job is named.

    :param data: only lines about files with these paths.
    :param since: seconds to look back.
    :param tail: the last so many lines of each pod; 0: all.
    :param master: lines of the one worker that deals the work out, instead of what processes data.
    :param follow: seconds to go on for, while the workers write.
    :param limit: at most so many lines.
    """

    pipeline: str = ""
    job: str = ""
    datum: str = ""
    data: Sequence[str] = ()
    since: float = 86400.0
    tail: int = 0
    master: bool = False
    follow: float = 0.0
    limit: int = 1000


def read(pachd: Pachd, wanted: Wanted) -> tuple[list[Data], bool]:
    """Return the lines, and whether there are more of them than the limit allows.

    :raises InputError: there is no such pipeline or job.
    """
    pps = pachd.pps_pb2
    if (wanted.datum or wanted.data) and not (wanted.pipeline or wanted.job):
        raise InputError("a datum belongs to a job", fix="Name the pipeline or the job too.")
    request = pps.GetLogsRequest(
        data_filters=wanted.data, tail=wanted.tail, master=wanted.master, follow=bool(wanted.follow)
    )
    request.since.FromMilliseconds(round(wanted.since * 1000))
    if wanted.pipeline:
        request.pipeline.name = wanted.pipeline
    if wanted.job:
        request.job.id = wanted.job
    if wanted.datum:
        request.datum.id = wanted.datum
        request.datum.job.id = wanted.job
    whose = f"{'job ' + wanted.job if wanted.job else 'pipeline ' + wanted.pipeline if wanted.pipeline else 'pachd'}"
    found: list[Data] = []
    try:
        for message in pachd.stream(pachd.pps.GetLogs, request, f"for the log of {whose}", limit=wanted.follow or None):
            if len(found) == wanted.limit:
                return found, True
            found.append(
                {
                    "time": moment(message, "ts"),
                    "pipeline": message.pipeline_name,
                    "job": message.job_id,
                    "datum": message.datum_id,
                    "worker": message.worker_id,
                    "user": message.user,
                    "message": message.message.rstrip("\n"),
                }
            )
    except TimeUp:
        pass
    except NotThere as error:
        raise InputError(f"there is no log of {whose}", why=error.why) from None
    return found, False
