# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipelines and jobs, with the rules and records of src/server/pps/server/api_server.go of v1.13.4."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import new_id
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.records import tag_prefix
from google.protobuf import json_format
from python_pachyderm.proto.pfs import pfs_pb2 as pfs_pb
from python_pachyderm.proto.pps import pps_pb2 as pb

from .config import Settings
from .datums import Glob, datum_hash, datums, visit
from .db import Collection, Txn, transact
from .errors import NotFound, NotImplementedHere, PachError
from .kube import Kube
from .names import SPEC_REPO, TERMINAL, branch_of, commit_of, controller_name
from .pfs import Alive, Context, Pfs, now, parse_ancestry, validate_name

DEFAULT_IMAGE = "ubuntu:16.04"
_MOST_PIPELINES, _MOST_WORKERS = 16, 8
_POLL = 0.2
_KEPT = [
    "pipeline",
    "transform",
    "tf_job",
    "parallelism_spec",
    "hashtree_spec",
    "input",
    "output_branch",
    "egress",
    "resource_requests",
    "resource_limits",
    "sidecar_resource_limits",
    "description",
    "cache_size",
    "enable_stats",
    "salt",
    "max_queue_size",
    "service",
    "spout",
    "chunk_spec",
    "datum_timeout",
    "job_timeout",
    "standby",
    "datum_tries",
    "scheduling_spec",
    "pod_spec",
    "pod_patch",
    "s3_out",
    "metadata",
    "autoscaling",
    "reprocess_spec",
]
_OF_JOB = [
    "transform",
    "parallelism_spec",
    "egress",
    "service",
    "spout",
    "output_branch",
    "resource_requests",
    "resource_limits",
    "sidecar_resource_limits",
    "enable_stats",
    "salt",
    "chunk_spec",
    "datum_timeout",
    "job_timeout",
    "datum_tries",
    "scheduling_spec",
    "pod_spec",
    "pod_patch",
]
_OF_RECORD = [
    "job",
    "pipeline",
    "output_commit",
    "restart",
    "data_processed",
    "data_skipped",
    "data_total",
    "data_failed",
    "data_recovered",
    "stats",
    "stats_commit",
    "state",
    "reason",
    "started",
    "finished",
]


def _copy(source: Any, target: Any, fields: list[str]) -> None:
    for field in fields:
        descriptor = source.DESCRIPTOR.fields_by_name[field]
        if descriptor.label == descriptor.LABEL_REPEATED:
            getattr(target, field).extend(getattr(source, field))
        elif descriptor.message_type is None:
            setattr(target, field, getattr(source, field))
        elif source.HasField(field):
            getattr(target, field).CopyFrom(getattr(source, field))


class Pps:
    """Pachyderm's pipeline system, without the master that runs workers."""

    def __init__(self, pfs: Pfs, kube: Kube, settings: Settings) -> None:
        self._pfs = pfs
        self._kube = kube
        self._etcd = pfs.etcd
        self.prefix = settings.pps_prefix
        self.pipelines = Collection(f"{self.prefix}/pipelines", pb.EtcdPipelineInfo)
        self.jobs = Collection(f"{self.prefix}/jobs", pb.EtcdJobInfo, ("pipeline", "output_commit"))
        #: Set whenever the master may have something to do.
        self.changed = threading.Event()

    # Pipelines: reading

    def specification(self, name: str, pointer: pb.EtcdPipelineInfo, complete: bool = True) -> pb.PipelineInfo:
        """Return what a pipeline's specification and its record say together."""
        info = pb.PipelineInfo()
        request = pfs_pb.GetFileRequest(
            file=pfs_pb.File(commit=commit_of(SPEC_REPO, pointer.spec_commit.id), path="spec")
        )
        try:
            info = pb.PipelineInfo.FromString(b"".join(self._pfs.get_file(request)))
        except Exception as error:  # whatever keeps it from being read is the same to the caller
            if complete:
                raise PachError(
                    f"could not retrieve pipeline spec file from PFS for pipeline '{name}' ({error})"
                ) from error
        info.pipeline.name = name
        info.state, info.reason = pointer.state, pointer.reason
        info.job_counts.clear()
        info.job_counts.update(pointer.job_counts)
        info.last_job_state = pointer.last_job_state
        info.spec_commit.CopyFrom(pointer.spec_commit)
        return info

    def inspect_pipeline(self, reference: str) -> pb.PipelineInfo:
        """Return a pipeline, or with ancestors counted (name~1) an earlier version of it."""
        name, generations = parse_ancestry(reference)
        pointer = self.pipelines.find(self._pfs.reading(), name)
        if pointer is None:
            raise PachError(f'pipeline "{name}" not found')
        if generations:
            separator = "~" if generations > 0 else "."
            pointer.spec_commit.id += f"{separator}{abs(generations)}"
            self._pfs.inspect_commit(pointer.spec_commit)
        info = self.specification(name, pointer)
        workers = f"{self.prefix}/workers/{controller_name(name, info.version)}/".encode()
        info.workers_available = self._etcd.count(workers)
        info.workers_requested = pointer.parallelism
        return info

    def _pointers(self, name: str, history: int) -> Iterator[tuple[str, pb.EtcdPipelineInfo]]:
        if name:
            pointer = self.pipelines.find(self._pfs.reading(), name)
            if pointer is None:
                raise PachError(f'pipeline "{name}" not found')
            found = [(name, pointer)]
        else:
            found = [(key, each) for key, each, _unused in self.pipelines.newest_first(self._etcd)]
        for key, pointer in found:
            generation = 0
            while True:
                yield key, pointer
                if 0 <= history <= generation:
                    break
                parent = self._pfs.inspect_commit(commit_of(SPEC_REPO, pointer.spec_commit.id)).parent_commit
                if not parent.id:
                    break
                pointer.spec_commit.CopyFrom(parent)
                generation += 1

    def list_pipeline(self, request: pb.ListPipelineRequest) -> list[pb.PipelineInfo]:
        """Return all pipelines, the newest first, or one; with their earlier versions if asked for."""
        if request.jqFilter:
            raise NotImplementedHere("jq filters")
        return [
            self.specification(name, pointer, not request.allow_incomplete)
            for name, pointer in self._pointers(request.pipeline.name, request.history)
        ]

    # Pipelines: writing

    def create_pipeline(self, request: pb.CreatePipelineRequest) -> None:
        """Create a pipeline, or update an existing one."""
        self._check_request(request)
        info = pb.PipelineInfo(version=1, created_at=now())
        if not request.salt or request.reprocess:
            request.salt = new_id()
        _copy(request, info, _KEPT)
        name = info.pipeline.name
        _set_defaults(info)
        self._check(info)
        existing = self.pipelines.find(self._pfs.reading(), name)
        if existing is not None and not request.update:
            raise PachError(f"pipeline {name} already exists")
        self._check_limits(info, existing)
        old = None
        if existing is not None:
            if not self._pfs.inspect_commit(commit_of(SPEC_REPO, name)).HasField("finished"):
                raise PachError(
                    "the HEAD commit of this pipeline's spec branch is open; another update runs or was broken off"
                )
            old = self.specification(name, existing)
            info.version = old.version + 1
            info.stopped = old.stopped
            if not request.reprocess:
                info.salt = old.salt
        spec_commit = self._write_specification(info, f"{name}_{uuid.uuid4().hex[:12]}", existing is not None)
        try:
            self._pfs.write(lambda context: self._establish(context, info, spec_commit, existing, request.reprocess))
        except PachError:
            self._pfs.write(lambda context: self._pfs.delete_commit(context, spec_commit))
            raise
        self.changed.set()

    def _write_specification(self, info: pb.PipelineInfo, branch: str, update: bool) -> pfs_pb.Commit:
        """Put a specification into a commit on a branch of its own, which is given up again, and return the commit."""
        start = pfs_pb.StartCommitRequest(
            parent=commit_of(SPEC_REPO, info.pipeline.name if update else ""), branch=branch
        )
        commit = self._pfs.write(lambda context: self._pfs.start_commit(context, start))
        self._pfs.put_files(iter([_specification_file(info, commit.id)]))
        self._pfs.write(lambda context: self._pfs.delete_branch(context, branch_of(SPEC_REPO, branch)))
        finish = pfs_pb.FinishCommitRequest(commit=commit)
        self._pfs.write(lambda context: self._pfs.finish_commit(context, finish))
        return commit

    def _establish(
        self,
        context: Context,
        info: pb.PipelineInfo,
        spec_commit: pfs_pb.Commit,
        existing: pb.EtcdPipelineInfo | None,
        reprocess: bool,
    ) -> None:
        name, pfs = info.pipeline.name, self._pfs
        output, head = branch_of(name, info.output_branch), None
        provenance = [*_input_branches(info.input), branch_of(SPEC_REPO, name)]
        pfs.create_branch(context, branch_of(SPEC_REPO, name), commit_of(SPEC_REPO, spec_commit.id))
        if existing is None:
            if pfs.repos.find(context.txn, name) is None:
                pfs.create_repo(context, name, f"Output repo for pipeline {name}.")
            pointer = pb.EtcdPipelineInfo(
                spec_commit=spec_commit, state=pb.PIPELINE_STARTING, parallelism=_workers(info)
            )
            self.pipelines.create(context.txn, name, pointer)
        else:
            context.finish_later(output)
            if info.stopped:
                provenance = []
            pointer = self.pipelines.get(context.txn, name)
            pointer.spec_commit.CopyFrom(spec_commit)
            pointer.state, pointer.reason, pointer.parallelism = pb.PIPELINE_STARTING, "", _workers(info)
            self.pipelines.put(context.txn, name, pointer)
            if not reprocess and pfs.branches(name).find(context.txn, info.output_branch) is not None:
                head = commit_of(name, info.output_branch)
        try:
            pfs.create_branch(context, output, head, provenance)
        except PachError as error:
            raise PachError(f"could not create/update output branch: {error}") from error
        for each in visit(info.input):
            if each.HasField("pfs") and each.pfs.HasField("trigger"):
                source = branch_of(each.pfs.repo, each.pfs.branch)
                known = pfs.branches(each.pfs.repo).find(context.txn, each.pfs.branch)
                old_head = commit_of(each.pfs.repo, each.pfs.branch) if known is not None else None
                pfs.create_branch(context, source, old_head, trigger=each.pfs.trigger)

    def _check_request(self, request: pb.CreatePipelineRequest) -> None:
        if not request.HasField("pipeline"):
            raise PachError("invalid pipeline spec: request.Pipeline cannot be nil")
        name = request.pipeline.name
        if not name:
            raise PachError("invalid pipeline spec: request.Pipeline.Name cannot be empty")
        try:
            validate_name(name)
        except PachError as error:
            raise PachError(f"invalid pipeline name: {error}") from error
        if len(name) > 63:
            raise PachError(f'pipeline name is {len(name)} characters long, but must have at most 63: "{name}"')
        if request.HasField("tf_job"):
            raise PachError("embedding TFJobs in pipelines is not supported yet")
        if not request.HasField("transform"):
            raise PachError("pipeline must specify a transform")
        if request.reprocess_spec not in ("", "until_success", "every_job"):
            raise PachError("invalid pipeline spec: ReprocessSpec must be one of 'until_success' or 'every_job'")
        for field in ("egress", "service", "spout"):
            if request.HasField(field):
                raise NotImplementedHere(f"pipelines with {field}")
        for field in ("enable_stats", "s3_out", "standby", "autoscaling"):
            if getattr(request, field):
                raise NotImplementedHere(f"pipelines with {field}")
        if request.hashtree_spec.constant > 1:
            raise NotImplementedHere("pipelines with more than one hashtree")
        if request.parallelism_spec.coefficient:
            raise NotImplementedHere("parallelism by coefficient")
        if request.HasField("spec_commit"):
            raise NotImplementedHere("creating a pipeline from an extracted specification")

    def _check(self, info: pb.PipelineInfo) -> None:
        if not info.pipeline.name[0].isalnum():
            raise PachError("pipeline names must start with an alphanumeric character")
        if info.HasField("input"):
            _check_names({}, info.input)
            for each in visit(info.input):
                self._check_input(each)
        for kind, text in (("PodSpec", info.pod_spec), ("PodPatch", info.pod_patch)):
            try:
                json.loads(text or "null")
            except ValueError as error:
                raise PachError(f"malformed {kind}") from error
        if not re.fullmatch(r"[+-]?[0-9.]+([KMGTPE]i?|[kmnu]|[eE][+-]?[0-9]+)?", info.cache_size):
            raise PachError(f"could not parse cacheSize '{info.cache_size}'")

    def _check_input(self, each: pb.Input) -> None:
        kinds = [kind for kind in ("pfs", "cron", "git") if each.HasField(kind)]
        kinds += [kind for kind in ("cross", "union", "join", "group") if getattr(each, kind)]
        if not kinds:
            raise PachError("no input set")
        if len(kinds) > 1:
            raise PachError("multiple input types set")
        if kinds[0] not in ("pfs", "cross", "union"):
            raise NotImplementedHere(f"{kinds[0]} inputs")
        if kinds[0] != "pfs":
            return
        pfs = each.pfs
        if pfs.name == "out":
            raise PachError('input cannot be named "out", as pachyderm already creates /pfs/out to collect job output')
        if not pfs.repo:
            raise PachError("input must specify a repo")
        if pfs.s3:
            raise NotImplementedHere("inputs through the S3 gateway")
        if not pfs.glob:
            raise PachError("input must specify a glob")
        self._pfs.inspect_repo(pfs.repo)

    def _check_limits(self, info: pb.PipelineInfo, existing: pb.EtcdPipelineInfo | None) -> None:
        if existing is not None:
            return
        if info.parallelism_spec.constant > _MOST_WORKERS:
            raise PachError(
                f"an activation key is required to create pipelines with parallelism more than {_MOST_WORKERS}"
            )
        count = self._etcd.count(self.pipelines.prefix.encode())
        if count >= _MOST_PIPELINES:
            raise PachError(
                f"an activation key is required to create more than {_MOST_PIPELINES} total pipelines (you have {count})"
            )

    def delete_pipeline(self, request: pb.DeletePipelineRequest) -> None:
        """Delete a pipeline with its output repo and its jobs; a missing one is no error."""
        if request.all:
            for name, _unused, _unused in self.pipelines.newest_first(self._etcd):
                self.delete_pipeline(pb.DeletePipelineRequest(pipeline=pb.Pipeline(name=name), force=request.force))
            return
        name, pfs = request.pipeline.name, self._pfs
        spec_branch = branch_of(SPEC_REPO, name)
        pointer = self.pipelines.find(pfs.reading(), name)
        if pointer is None:
            pfs.write(lambda context: pfs.delete_branch(context, spec_branch, force=True))
            return
        if request.keep_repo:
            output = branch_of(name, self.specification(name, pointer, complete=False).output_branch or "master")
            head = commit_of(name, output.name)
            pfs.write(lambda context: pfs.create_branch(context, output, head))
        else:
            pfs.write(lambda context: pfs.delete_repo(context, name, request.force))
        for job, _unused in self.jobs.by_index(self._etcd, "pipeline", pb.Pipeline(name=name)):
            try:
                self.delete_job(job)
            except NotFound:
                continue
        pfs.write(lambda context: pfs.delete_branch(context, spec_branch, request.force))
        transact(self._etcd, lambda txn: self.pipelines.delete(txn, name))
        self.changed.set()

    def set_stopped(self, name: str, stopped: bool) -> None:
        """Stop a pipeline, or start it again; both write a new specification."""
        info = self.inspect_pipeline(name)
        name, pfs = info.pipeline.name, self._pfs
        output = branch_of(name, info.output_branch)
        provenance = [] if stopped else [*_input_branches(info.input), branch_of(SPEC_REPO, name)]

        def wire() -> None:
            head = commit_of(name, info.output_branch)
            pfs.write(lambda context: pfs.create_branch(context, output, head, provenance))

        if stopped:
            wire()
        info.stopped = stopped
        pfs.put_files(iter([_specification_file(info, name)]))
        commit = pfs.inspect_branch(pfs.reading(), branch_of(SPEC_REPO, name)).head

        def point(txn: Txn) -> None:
            pointer = self.pipelines.get(txn, name)
            pointer.spec_commit.CopyFrom(commit)
            self.pipelines.put(txn, name, pointer)

        transact(self._etcd, point)
        if not stopped:
            wire()
        self.changed.set()

    def set_state(self, name: str, state: int, reason: str = "") -> None:
        """Change a pipeline's state; only an update brings it out of failure."""

        def change(txn: Txn) -> None:
            pointer = self.pipelines.get(txn, name)
            if pointer.state != pb.PIPELINE_FAILURE:
                pointer.state, pointer.reason = state, reason
                self.pipelines.put(txn, name, pointer)

        transact(self._etcd, change)
        self.changed.set()

    # Jobs

    def create_job(self, request: pb.CreateJobRequest) -> pb.Job:
        """Write a job's record and return the job."""
        record = pb.EtcdJobInfo(job=pb.Job(id=new_id()))
        fields = [each for each in _OF_RECORD if each not in ("job", "state", "reason")]
        _copy(request, record, fields)
        record.stats.SetInParent()
        transact(self._etcd, lambda txn: self._move_job(txn, record, request.state, request.reason))
        return record.job

    def update_job_state(self, context: Context, request: pb.UpdateJobStateRequest) -> None:
        """Change a job that has not ended."""
        record = self.jobs.get(context.txn, request.job.id)
        if record.state in TERMINAL:
            raise PachError(f"job {record.job.id} has already finished")
        fields = ["restart", "data_processed", "data_skipped", "data_failed", "data_recovered", "data_total"]
        _copy(request, record, fields)
        record.ClearField("stats")
        if request.HasField("stats"):
            record.stats.CopyFrom(request.stats)
        self._move_job(context.txn, record, request.state, request.reason)

    def _move_job(self, txn: Txn, record: pb.EtcdJobInfo, state: int, reason: str) -> None:
        pointer = self.pipelines.get(txn, record.pipeline.name)
        if pointer.job_counts[record.state]:
            pointer.job_counts[record.state] -= 1
        pointer.job_counts[state] += 1
        pointer.last_job_state = state
        self.pipelines.put(txn, record.pipeline.name, pointer)
        if state == pb.JOB_STARTING:
            record.started.GetCurrentTime()
        elif state in TERMINAL:
            record.finished.GetCurrentTime()
        record.state, record.reason = state, reason
        self.jobs.put(txn, record.job.id, record)

    def job_info(self, record: pb.EtcdJobInfo, full: bool) -> pb.JobInfo:
        """Return a job; the fields of its specification only if ``full``."""
        info = pb.JobInfo()
        _copy(record, info, _OF_RECORD)
        info.output_repo.name = record.pipeline.name
        output = self._pfs.inspect_commit(commit_of(record.output_commit.repo.name, record.output_commit.id))
        spec = [
            each.commit
            for each in output.provenance
            if each.commit.repo.name == SPEC_REPO and each.branch.name == record.pipeline.name
        ]
        if not spec:
            raise PachError(f"couldn't find spec commit for job {record.job.id}, (this is likely a bug)")
        info.spec_commit.CopyFrom(spec[0])
        if full:
            pointer = self.pipelines.get(self._pfs.reading(), record.pipeline.name)
            pointer.spec_commit.CopyFrom(spec[0])
            pipeline = self.specification(record.pipeline.name, pointer)
            _copy(pipeline, info, _OF_JOB)
            info.pipeline_version = pipeline.version
            if pipeline.HasField("input"):
                info.input.CopyFrom(_with_commits(pipeline.input, output))
        return info

    def list_job(self, request: pb.ListJobRequest) -> Iterator[pb.JobInfo]:
        """Yield jobs, the newest first: of a pipeline, with an output commit, with input commits, or all."""
        if request.jqFilter:
            raise NotImplementedHere("jq filters")
        for commit in [request.output_commit] if request.HasField("output_commit") else []:
            self._pfs.inspect_commit(commit)
        for commit in request.input_commit:
            self._pfs.inspect_commit(commit)
        name = request.pipeline.name
        specs = {pointer.spec_commit.id for _unused, pointer in self._pointers(name, request.history)}
        if name:
            records = self.jobs.by_index(self._etcd, "pipeline", pb.Pipeline(name=name))
        elif request.HasField("output_commit"):
            records = self.jobs.by_index(self._etcd, "output_commit", request.output_commit)
        else:
            records = [(key, record) for key, record, _unused in self.jobs.newest_first(self._etcd)]
        wanted = {commit.id for commit in request.input_commit}
        for _unused, record in records:
            try:
                info = self.job_info(record, request.full or bool(wanted))
            except PachError as error:
                if "not found" in str(error):
                    continue
                raise
            used = {each.pfs.commit for each in visit(info.input) if each.HasField("pfs")}
            if wanted <= used and info.spec_commit.id in specs:
                yield info

    def inspect_job(self, request: pb.InspectJobRequest, alive: Alive) -> pb.JobInfo:
        """Return a job, if asked for when it has ended."""
        if not request.HasField("job") and not request.HasField("output_commit"):
            raise PachError("must specify either a Job or an OutputCommit")
        name = request.job.id
        if request.HasField("output_commit"):
            if request.HasField("job"):
                raise PachError("can't set both Job and OutputCommit")
            commit = request.output_commit
            found = list(self.list_job(pb.ListJobRequest(output_commit=commit, history=-1)))
            if not found:
                raise PachError(f"job with output commit {commit.id} not found")
            name = found[0].job.id
        record = self.jobs.get(self._pfs.reading(), name)
        while request.block_state and record.state not in TERMINAL and alive():
            time.sleep(_POLL)
            record = self.jobs.find(self._pfs.reading(), name)
            if record is None:
                raise PachError(f"job {name} was deleted")
        return self.job_info(record, full=True)

    def flush_job(self, request: pb.FlushJobRequest, alive: Alive) -> Iterator[pb.JobInfo]:
        """Yield the jobs downstream of commits, each when it has ended."""
        flush = pfs_pb.FlushCommitRequest(commits=request.commits)
        flush.to_repos.extend(pfs_pb.Repo(name=each.name) for each in request.to_pipelines)
        for info in self._pfs.flush_commit(flush, alive):
            found = list(self.list_job(pb.ListJobRequest(output_commit=info.commit, history=-1)))
            if found:
                yield self.inspect_job(pb.InspectJobRequest(job=found[0].job, block_state=True), alive)

    def stop_job(self, name: str) -> None:
        """End a job by finishing its output commit empty; the worker marks it as killed."""
        record = self.jobs.get(self._pfs.reading(), name)
        finish = pfs_pb.FinishCommitRequest(commit=record.output_commit, empty=True)
        try:
            self._pfs.write(lambda context: self._pfs.finish_commit(context, finish))
        except PachError as error:
            if not re.search("has already finished|not found in repo|was deleted|not found", str(error)):
                raise

    def delete_job(self, name: str) -> None:
        """Stop a job and forget it."""
        self.stop_job(name)
        transact(self._etcd, lambda txn: self.jobs.delete(txn, name))

    def glob(self) -> Glob:
        """Return how datums list the files of a commit."""
        return lambda repo, commit, pattern: self._pfs.glob_file(commit_of(repo, commit), pattern)

    def list_datum(self, request: pb.ListDatumRequest) -> pb.ListDatumResponse:
        """Return the datums of a job or of an input; what became of each is not kept without statistics."""
        if request.HasField("job") == request.HasField("input"):
            raise PachError(
                "can't specify both job and input to list datums from"
                if request.HasField("job")
                else "must specify either job or input to list datums from"
            )
        job = self.inspect_job(pb.InspectJobRequest(job=request.job), lambda: True) if request.HasField("job") else None
        source = job.input if job else request.input
        if job is None:
            _set_input_defaults(source)
            for each in visit(source):
                if each.HasField("pfs"):
                    each.pfs.commit = self._pfs.inspect_commit(commit_of(each.pfs.repo, each.pfs.branch)).commit.id
        found = datums(source, self.glob())
        answer = pb.ListDatumResponse()
        if request.page_size:
            start = request.page * request.page_size
            answer.page, answer.total_pages = request.page, -(-len(found) // request.page_size)
            if start >= len(found):
                raise PachError("EOF")
            found = found[start : start + request.page_size]
        for datum in found:
            info = answer.datum_infos.add(state=pb.STARTING)
            info.datum.id = datum_hash(job.pipeline.name, job.salt, datum) if job else ""
            if job:
                info.datum.job.CopyFrom(job.job)
            for part in datum:
                file = pfs_pb.File(commit=commit_of(part.repo, part.commit), path=part.path)
                info.data.append(self._pfs.inspect_file(file))
        return answer

    def logs(self, request: pb.GetLogsRequest) -> Iterator[pb.LogMessage]:
        """Yield log lines of pachd, or of a pipeline's or job's workers."""
        if request.use_loki_backend:
            raise NotImplementedHere("logs from Loki")
        pipeline = request.pipeline.name
        if not pipeline and not request.HasField("job"):
            if request.data_filters or request.HasField("datum"):
                raise PachError("must specify the Job or Pipeline that the datum is from to get logs for it")
            name, container = "pachd", "pachd"
        else:
            if not pipeline:
                pipeline = self.jobs.get(self._pfs.reading(), request.job.id).pipeline.name
            info = self.inspect_pipeline(pipeline)
            name, container = controller_name(pipeline, info.version), "user"
        try:
            pods = sorted(each["metadata"]["name"] for each in self._kube.list("pods", f"app={name}"))
        except PachError as error:
            raise PachError(f'could not get pods in rc "{name}" containing logs: {error}') from error
        if not pods:
            raise PachError(f'no pods belonging to the rc "{name}" were found')
        since = request.since.seconds or 24 * 3600
        for pod in pods:
            for line in self._kube.logs(pod, container, request.follow, request.tail, since):
                message = _log_message(line, container == "user")
                if message is not None and (container == "pachd" or _wanted(request, message)):
                    yield message

    # Secrets

    def create_secret(self, file: bytes) -> None:
        """Create a Kubernetes secret that pipelines may use."""
        try:
            secret = json.loads(file)
        except ValueError as error:
            raise PachError(f"failed to unmarshal secret: {error}") from error
        metadata = secret.setdefault("metadata", {})
        labels = metadata["labels"] = metadata.get("labels") or {}
        if labels.get("suite", "pachyderm") != "pachyderm":
            raise PachError(f"invalid suite label set on secret: suite={labels['suite']}")
        labels.update({"suite": "pachyderm", "secret-source": "pachyderm-user"})
        try:
            self._kube.call("POST", "secrets", json=secret)
        except PachError as error:
            raise PachError(f"failed to create secret: {error}") from error

    def delete_secret(self, name: str) -> None:
        """Delete such a secret."""
        try:
            self._kube.call("DELETE", f"secrets/{name}")
        except PachError as error:
            raise PachError(f"failed to delete secret: {error}") from error

    def inspect_secret(self, name: str) -> pb.SecretInfo:
        """Return what is known of a secret, never its content."""
        try:
            return _secret_info(self._kube.call("GET", f"secrets/{name}").json())
        except PachError as error:
            raise PachError(f"failed to get secret: {error}") from error

    def list_secret(self) -> list[pb.SecretInfo]:
        """Return all such secrets."""
        try:
            return [_secret_info(each) for each in self._kube.list("secrets", "secret-source=pachyderm-user")]
        except PachError as error:
            raise PachError(f"failed to list secrets: {error}") from error

    # Garbage

    def garbage_collect(self) -> None:
        """Delete objects that no commit and tags that no pipeline needs; all pipelines must be stopped."""
        infos = self.list_pipeline(pb.ListPipelineRequest())
        for info in infos:
            name = info.pipeline.name
            if info.state not in (pb.PIPELINE_PAUSED, pb.PIPELINE_FAILURE):
                raise PachError(f"all pipelines must be stopped to run garbage collection, pipeline: {name} is not")
            if self._kube.list("pods", f"pipelineName={name}"):
                raise PachError(
                    f"pipeline {name} is paused, but still has running workers, this should resolve itself, if it "
                    "doesn't you can manually delete them with kubectl delete"
                )
        objects, needed, tags = self._pfs.objects, set(), set()
        for repo, _unused, _unused in self._pfs.repos.newest_first(self._etcd):
            for _unused, commit, _unused in self._pfs.commits(repo).entries(self._etcd):
                needed.update(each.hash for each in commit.trees)
                needed.add(commit.datums.hash)
                if commit.HasField("tree"):
                    needed.add(commit.tree.hash)
                    for node in objects.tree(commit.tree.hash).nodes.values():
                        needed.update(node.objects)
        prefixes = tuple(f"tag/{tag_prefix(info.salt)}" for info in infos)
        for name in list(objects.names("tag")):
            if prefixes and name.startswith(prefixes):
                tags.add(name)
                needed.add(objects.tagged(name.removeprefix("tag/")) or "")
        for name in list(objects.names("object")):
            digest = name.removeprefix("object/")
            if digest not in needed:
                block = objects.locate(digest).block
                objects.delete(name)
                objects.delete(f"block/{block}")
        for name in list(objects.names("tag")):
            if name not in tags:
                objects.delete(name)
        key = b"gc-generation"
        found = self._etcd.get(key)
        self._etcd.put(key, str(int(found.value) + 1 if found else 1).encode())

    def delete_all(self) -> None:
        """Delete all pipelines with their repos, and users' secrets."""
        self.delete_pipeline(pb.DeletePipelineRequest(all=True, force=True))
        for info in self.list_secret():
            self.delete_secret(info.secret.name)
        self._pfs.write(lambda context: self._pfs.delete_repo(context, SPEC_REPO, force=True))
        self._pfs.prepare()


def _specification_file(info: pb.PipelineInfo, reference: str) -> pfs_pb.PutFileRequest:
    return pfs_pb.PutFileRequest(
        file=pfs_pb.File(commit=commit_of(SPEC_REPO, reference), path="spec"),
        value=info.SerializeToString(),
        overwrite_index=pfs_pb.OverwriteIndex(index=0),
    )


def _workers(info: pb.PipelineInfo) -> int:
    return info.parallelism_spec.constant or 1


def _set_defaults(info: pb.PipelineInfo) -> None:
    info.transform.image = info.transform.image or DEFAULT_IMAGE
    if info.HasField("input"):
        _set_input_defaults(info.input, info.pipeline.name)
    info.output_branch = info.output_branch or "master"
    info.cache_size = info.cache_size or "64M"
    info.max_queue_size = max(1, info.max_queue_size)
    info.datum_tries = info.datum_tries or 3
    info.reprocess_spec = info.reprocess_spec or "until_success"


def _set_input_defaults(input: pb.Input, pipeline: str = "") -> None:
    triggers: dict[str, int] = {}
    for each in visit(input):
        if not each.HasField("pfs"):
            continue
        if not each.pfs.branch:
            if each.pfs.HasField("trigger"):
                triggers[each.pfs.repo] = triggers.get(each.pfs.repo, 0) + 1
                each.pfs.branch = f"{pipeline}-trigger-{triggers[each.pfs.repo]}"
                each.pfs.trigger.branch = each.pfs.trigger.branch or "master"
            else:
                each.pfs.branch = "master"
        each.pfs.name = each.pfs.name or each.pfs.repo
    for each in visit(input):
        for kind in ("cross", "union", "join", "group"):
            parts = getattr(each, kind)
            ordered = sorted(parts, key=_input_name)
            copies = [pb.Input.FromString(part.SerializeToString()) for part in ordered]
            del parts[:]
            parts.extend(copies)


def _input_name(input: pb.Input) -> str:
    for kind in ("cross", "join", "group", "union"):
        for each in getattr(input, kind):
            return _input_name(each)
    return str(input.pfs.name or input.cron.name or input.git.name)


def _input_branches(input: pb.Input) -> list[pfs_pb.Branch]:
    return [branch_of(each.pfs.repo, each.pfs.branch) for each in visit(input) if each.HasField("pfs")]


def _check_names(names: dict[str, bool], input: pb.Input) -> None:
    if input.HasField("pfs"):
        if input.pfs.name in names:
            raise PachError(f'name "{input.pfs.name}" was used more than once')
        names[input.pfs.name] = True
    merged: dict[str, bool] = {}
    for each in input.union:
        separate = dict(names)
        _check_names(separate, each)
        merged.update(separate)
    names.update(merged)
    for kind in ("cross", "join", "group"):
        for each in getattr(input, kind):
            _check_names(names, each)


def _with_commits(input: pb.Input, output: pfs_pb.CommitInfo) -> pb.Input:
    """Return the input with the commits that an output commit was made from."""
    commits = {(each.commit.repo.name, each.branch.name): each.commit.id for each in output.provenance}
    result = pb.Input.FromString(input.SerializeToString())
    for each in visit(result):
        if each.HasField("pfs"):
            each.pfs.commit = commits.get((each.pfs.repo, each.pfs.branch), each.pfs.commit)
    return result


def _secret_info(secret: dict[str, Any]) -> pb.SecretInfo:
    info = pb.SecretInfo(secret=pb.Secret(name=secret["metadata"]["name"]), type=secret.get("type", ""))
    info.creation_timestamp.FromJsonString(secret["metadata"]["creationTimestamp"])
    return info


def _log_message(line: str, structured: bool) -> pb.LogMessage | None:
    if not structured:
        return pb.LogMessage(message=line)
    try:
        return json_format.Parse(line, pb.LogMessage())
    except json_format.ParseError:
        return None


def _wanted(request: pb.GetLogsRequest, message: pb.LogMessage) -> bool:
    if request.HasField("pipeline") and message.pipeline_name != request.pipeline.name:
        return False
    if request.HasField("job") and message.job_id != request.job.id:
        return False
    if request.HasField("datum") and message.datum_id != request.datum.id:
        return False
    paths = {each.path for each in message.data} | {each.hash.hex() for each in message.data}
    return request.master == message.master and set(request.data_filters) <= paths
