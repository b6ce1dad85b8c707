# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pps.API"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from python_pachyderm.proto.pps import pps_pb2 as pb
from python_pachyderm.proto.pps import pps_pb2_grpc

from .errors import NotImplementedHere, PachError
from .pps import Pps


class PpsApi(pps_pb2_grpc.APIServicer):
    """Pipelines, jobs, logs, secrets, garbage collection."""

    def __init__(self, pps: Pps, transactions: Any) -> None:
        self._pps = pps
        self._transactions = transactions

    def CreatePipeline(self, request: Any, context: Any) -> Empty:
        if dict(context.invocation_metadata()).get("pach-transaction"):
            raise NotImplementedHere("CreatePipeline in a transaction")
        self._pps.create_pipeline(request)
        return Empty()

    def InspectPipeline(self, request: Any, context: Any) -> pb.PipelineInfo:
        return self._pps.inspect_pipeline(request.pipeline.name)

    def ListPipeline(self, request: Any, context: Any) -> pb.PipelineInfos:
        return pb.PipelineInfos(pipeline_info=self._pps.list_pipeline(request))

    def DeletePipeline(self, request: Any, context: Any) -> Empty:
        self._pps.delete_pipeline(request)
        return Empty()

    def StartPipeline(self, request: Any, context: Any) -> Empty:
        self._pps.set_stopped(request.pipeline.name, False)
        return Empty()

    def StopPipeline(self, request: Any, context: Any) -> Empty:
        self._pps.set_stopped(request.pipeline.name, True)
        return Empty()

    def RunCron(self, request: Any, context: Any) -> Empty:
        self._pps.inspect_pipeline(request.pipeline.name)
        raise PachError("pipeline must have a cron input")

    def CreateJob(self, request: Any, context: Any) -> pb.Job:
        return self._pps.create_job(request)

    def UpdateJobState(self, request: Any, context: Any) -> Empty:
        self._transactions.run(context, "update_job_state", request)
        return Empty()

    def InspectJob(self, request: Any, context: Any) -> pb.JobInfo:
        return self._pps.inspect_job(request, context.is_active)

    def ListJob(self, request: Any, context: Any) -> pb.JobInfos:
        return pb.JobInfos(job_info=self._pps.list_job(request))

    def ListJobStream(self, request: Any, context: Any) -> Iterator[pb.JobInfo]:
        return self._pps.list_job(request)

    def FlushJob(self, request: Any, context: Any) -> Iterator[pb.JobInfo]:
        return self._pps.flush_job(request, context.is_active)

    def StopJob(self, request: Any, context: Any) -> Empty:
        self._pps.stop_job(request.job.id)
        return Empty()

    def DeleteJob(self, request: Any, context: Any) -> Empty:
        self._pps.delete_job(request.job.id)
        return Empty()

    def ListDatum(self, request: Any, context: Any) -> pb.ListDatumResponse:
        return self._pps.list_datum(request)

    def ListDatumStream(self, request: Any, context: Any) -> Iterator[pb.ListDatumStreamResponse]:
        answer = self._pps.list_datum(request)
        for position, info in enumerate(answer.datum_infos):
            each = pb.ListDatumStreamResponse(datum_info=info)
            if not position:
                each.page, each.total_pages = answer.page, answer.total_pages
            yield each

    def InspectDatum(self, request: Any, context: Any) -> pb.DatumInfo:
        job = self._pps.inspect_job(pb.InspectJobRequest(job=request.datum.job), context.is_active)
        raise PachError(f"stats not enabled on {job.pipeline.name}")

    def GetLogs(self, request: Any, context: Any) -> Iterator[pb.LogMessage]:
        return self._pps.logs(request)

    def CreateSecret(self, request: Any, context: Any) -> Empty:
        self._pps.create_secret(request.file)
        return Empty()

    def DeleteSecret(self, request: Any, context: Any) -> Empty:
        self._pps.delete_secret(request.secret.name)
        return Empty()

    def InspectSecret(self, request: Any, context: Any) -> pb.SecretInfo:
        return self._pps.inspect_secret(request.secret.name)

    def ListSecret(self, request: Any, context: Any) -> pb.SecretInfos:
        return pb.SecretInfos(secret_info=self._pps.list_secret())

    def GarbageCollect(self, request: Any, context: Any) -> pb.GarbageCollectResponse:
        self._pps.garbage_collect()
        return pb.GarbageCollectResponse()

    def DeleteAll(self, request: Any, context: Any) -> Empty:
        self._pps.delete_all()
        return Empty()
