# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker: it runs the user's code on the datums of each output commit, through the sidecar of its own pod.

One worker of a pipeline does all of its work, while the others wait for its lock: what the stand-in has of parallelism.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.hashtree import (
    INDEX_SUFFIX,
    BlockRange,
    Node,
    frame,
    frames,
    merge,
    output_tree,
    read_shard,
    write_shard,
)
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToJson
from python_pachyderm.proto.health.health_pb2_grpc import HealthStub
from python_pachyderm.proto.pfs import pfs_pb2 as pfs_pb
from python_pachyderm.proto.pfs import pfs_pb2_grpc
from python_pachyderm.proto.pps import pps_pb2 as pb
from python_pachyderm.proto.pps import pps_pb2_grpc
from python_pachyderm.proto.transaction import transaction_pb2, transaction_pb2_grpc

from . import lock
from .config import Environment, fail
from .datums import Datum, datum_hash, datum_id, datums, visit
from .names import SPEC_REPO, TERMINAL, branch_of, commit_of, controller_name

_CHUNK = 1 << 20
_LEASE = 10


class Killed(Exception):
    """The output commit was closed or deleted, or the job's time is over."""


class Log:
    """Lines of JSON, each a pps.LogMessage."""

    def __init__(self, pipeline: str, pod: str) -> None:
        self._pipeline, self._pod = pipeline, pod
        self._lock = threading.Lock()

    def write(self, text: str, *, job: str = "", datum: Datum = (), master: bool = False, user: bool = False) -> None:
        """Print one line."""
        message = pb.LogMessage(
            pipeline_name=self._pipeline, worker_id=self._pod, job_id=job, master=master, user=user, message=text
        )
        message.ts.GetCurrentTime()
        if datum:
            message.datum_id = datum_id(datum)
            message.data.extend(pb.InputFile(path=part.path, hash=part.hash) for part in datum)
        with self._lock:
            print(MessageToJson(message, indent=None), flush=True)


class Sidecar:
    """The calls of the sidecar's API that the worker makes."""

    def __init__(self, port: int) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.health = HealthStub(channel)
        self.pfs = pfs_pb2_grpc.APIStub(channel)
        self.objects = pfs_pb2_grpc.ObjectAPIStub(channel)
        self.pps = pps_pb2_grpc.APIStub(channel)
        self.transactions = transaction_pb2_grpc.APIStub(channel)

    def wait(self) -> None:
        """Wait until the sidecar serves."""
        while True:
            try:
                self.health.Health(Empty(), timeout=5)
                return
            except grpc.RpcError:
                time.sleep(0.2)

    def content(self, name: str) -> bytes:
        """Return the content of an object."""
        return b"".join(each.value for each in self.objects.GetObject(pfs_pb.Object(hash=name)))

    def put(self, data: bytes, tag: str = "") -> str:
        """Store an object, with a tag if there is one, and return its hash."""

        def requests() -> Iterator[Any]:
            for start in range(0, len(data), _CHUNK) or [0]:
                yield pfs_pb.PutObjectRequest(value=data[start : start + _CHUNK])
            if tag:
                yield pfs_pb.PutObjectRequest(tags=[pfs_pb.Tag(name=tag)])

        return str(self.objects.PutObject(requests()).hash)

    def tagged(self, tag: str) -> bytes | None:
        """Return the content of the object with this tag, or None."""
        try:
            return b"".join(each.value for each in self.objects.GetTag(pfs_pb.Tag(name=tag)))
        except grpc.RpcError as error:
            if "not found" in (error.details() or ""):
                return None
            raise


class Worker:
    """All that one pipeline's worker does."""

    def __init__(self, sidecar: Sidecar, info: pb.PipelineInfo, root: str, log: Log, pfs: Path = Path("/pfs")) -> None:
        self._sidecar = sidecar
        self._info = info
        self._name = info.pipeline.name
        self._root = root
        self._log = log
        self._pfs = pfs

    def run(self) -> None:
        """Process each output commit of this version of the pipeline, in order, for ever."""
        request = pfs_pb.SubscribeCommitRequest(repo=pfs_pb.Repo(name=self._name), state=pfs_pb.READY)
        request.prov.commit.CopyFrom(commit_of(SPEC_REPO, self._info.spec_commit.id))
        request.prov.branch.CopyFrom(branch_of(SPEC_REPO, self._name))
        self._log.write("transform spawner started", master=True)
        for info in self._sidecar.pfs.SubscribeCommit(request):
            try:
                self._commit(info)
            except grpc.RpcError as error:
                if "not found" not in (error.details() or ""):
                    raise
                self._log.write(f"output commit {info.commit.id} is gone: {error.details()}", master=True)

    def _commit(self, info: pfs_pb.CommitInfo) -> None:
        info = self._sidecar.pfs.InspectCommit(pfs_pb.InspectCommitRequest(commit=info.commit))
        request = pb.ListJobRequest(output_commit=info.commit, history=-1, full=True)
        found = list(self._sidecar.pps.ListJobStream(request))
        if info.HasField("finished"):
            for job in found:
                if job.state not in TERMINAL:
                    done = info.HasField("tree") or bool(info.trees)
                    reason = (
                        "" if done else "output commit is finished without data, but job state has not been updated"
                    )
                    self._update(job, pb.JOB_SUCCESS if done else pb.JOB_KILLED, reason)
            return
        if found:
            job = found[0]
            if job.pipeline_version < self._info.version:
                self._update(job, pb.JOB_KILLED, "pipeline has been updated")
                return
        else:
            create = pb.CreateJobRequest(pipeline=self._info.pipeline, output_commit=info.commit)
            name = self._sidecar.pps.CreateJob(create)
            self._log.write(f'created new job "{name.id}" for output commit "{info.commit.id}"', master=True)
            job = self._sidecar.pps.InspectJob(pb.InspectJobRequest(job=name))
        Job(self, job, info).run()

    def _update(self, job: pb.JobInfo, state: int, reason: str = "") -> None:
        job.state, job.reason = state, reason
        self._sidecar.pps.UpdateJobState(_state_request(job))


def _state_request(job: pb.JobInfo) -> pb.UpdateJobStateRequest:
    return pb.UpdateJobStateRequest(
        job=job.job,
        state=job.state,
        reason=job.reason,
        restart=job.restart,
        data_processed=job.data_processed,
        data_skipped=job.data_skipped,
        data_failed=job.data_failed,
        data_recovered=job.data_recovered,
        data_total=job.data_total,
        stats=job.stats,
    )


class Job:
    """One run of the pipeline for one output commit."""

    def __init__(self, worker: Worker, job: pb.JobInfo, commit: pfs_pb.CommitInfo) -> None:
        self._worker = worker
        self._sidecar = worker._sidecar
        self._info = worker._info
        self._job = job
        self._commit = commit
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._killed = ""
        self._ended = threading.Event()

    def _say(self, text: str, datum: Datum = (), user: bool = False, master: bool = True) -> None:
        self._worker._log.write(text, job=self._job.job.id, datum=datum, user=user, master=master and not user)

    def run(self) -> None:
        """Bring the job to an end."""
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            self._run()
        except Killed:
            self._say(f"killing job with reason: {self._killed}")
            self._finish(pb.JOB_KILLED, self._killed)
        finally:
            self._ended.set()

    def _run(self) -> None:
        failed = self._failed_inputs()
        if failed:
            self._finish(pb.JOB_FAILURE, f"inputs failed: {', '.join(failed)}")
            return
        found = datums(self._job.input, self._glob)
        tags = [datum_hash(self._info.pipeline.name, self._info.salt, datum) for datum in found]
        self._job.data_total = len(found)
        self._update(pb.JOB_RUNNING)
        parent = self._parent()
        base = Counter(frames([self._sidecar.content(parent.datums.hash)])) if parent is not None else Counter()
        additive = parent is not None and not base - Counter(tag.encode() for tag in tags)
        if self._info.reprocess_spec == "every_job":
            base, additive = Counter(), False
        shards = [self._sidecar.content(each.hash) for each in parent.trees] if additive and parent is not None else []
        left = base if additive else Counter()
        for datum, tag in zip(found, tags, strict=True):
            if left[tag.encode()]:
                left[tag.encode()] -= 1
                continue
            shard = self._datum(datum, tag)
            if shard is not None:
                shards.append(shard)
            self._update(pb.JOB_RUNNING)
        counted = self._job.data_processed + self._job.data_failed + self._job.data_recovered
        self._job.data_skipped = self._job.data_total - counted
        if self._job.data_failed:
            self._finish(pb.JOB_FAILURE, "datum failed")
            return
        self._update(pb.JOB_MERGING)
        self._succeed(shards, tags)

    def _glob(self, repo: str, commit: str, pattern: str) -> Iterator[Any]:
        request = pfs_pb.GlobFileRequest(commit=commit_of(repo, commit), pattern=pattern)
        return self._sidecar.pfs.GlobFileStream(request)

    def _failed_inputs(self) -> list[str]:
        failed = []
        for each in visit(self._job.input):
            if each.HasField("pfs") and each.pfs.commit:
                commit = commit_of(each.pfs.repo, each.pfs.commit)
                request = pfs_pb.InspectCommitRequest(commit=commit, block_state=pfs_pb.FINISHED)
                info = self._sidecar.pfs.InspectCommit(request)
                if not info.HasField("tree") and not info.trees:
                    failed.append(each.pfs.name)
        return failed

    def _parent(self) -> pfs_pb.CommitInfo | None:
        """Return the nearest ancestor with output; open ones on the way are finished empty."""
        info = self._commit
        while info.HasField("parent_commit"):
            info = self._sidecar.pfs.InspectCommit(pfs_pb.InspectCommitRequest(commit=info.parent_commit))
            if not info.HasField("finished"):
                self._sidecar.pfs.FinishCommit(pfs_pb.FinishCommitRequest(commit=info.commit, empty=True))
            elif info.trees:
                return info
        return None

    def _watch(self) -> None:
        """Kill the user's code when the output commit is closed by somebody else or the job's time is over."""
        limit = self._job.job_timeout.ToSeconds() if self._job.HasField("job_timeout") else 0
        start = time.monotonic()
        while not self._ended.wait(1.0):
            try:
                info = self._sidecar.pfs.InspectCommit(pfs_pb.InspectCommitRequest(commit=self._commit.commit))
                if info.HasField("finished"):
                    self._killed = "output commit closed"
            except grpc.RpcError as error:
                if "not found" in (error.details() or ""):
                    self._killed = "output commit missing"
            if limit and time.monotonic() - start > limit:
                self._killed = "job timed out"
            if self._killed and not self._ended.is_set():
                self._kill()
                return

    def _kill(self) -> None:
        """Kill the user's code with all that it started, since children keep its output open."""
        with self._lock:
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _check(self) -> None:
        if self._killed:
            raise Killed

    def _update(self, state: int) -> None:
        self._check()
        self._say(f"updating job info, state: {pb.JobState.Name(state)}")
        self._worker._update(self._job, state)

    def _succeed(self, shards: list[bytes], tags: list[str]) -> None:
        nodes = merge([read_shard(each) for each in shards] or [[("", Node("", directory=True))]])
        shard, index = write_shard(nodes.items())
        tree = self._sidecar.put(shard)
        block = self._sidecar.objects.InspectObject(pfs_pb.Object(hash=tree)).block_ref.block.hash
        path = f"{self._worker._root}/block/{block}{INDEX_SUFFIX}"
        self._sidecar.objects.PutObjDirect(iter([pfs_pb.PutObjDirectRequest(obj=path, value=index)]))
        listed = self._sidecar.put(b"".join(frame(tag.encode()) for tag in tags))
        self._say("job successful, closing commits")
        self._finish(pb.JOB_SUCCESS, "", tree, listed, nodes[""].size if nodes else 0)

    def _finish(self, state: int, reason: str, tree: str = "", listed: str = "", size: int = 0) -> None:
        """Finish the output commit and the job together."""
        self._ended.set()
        finish = pfs_pb.FinishCommitRequest(commit=self._commit.commit, empty=not tree, size_bytes=size)
        if tree:
            finish.trees.add(hash=tree)
            finish.datums.hash = listed
        self._job.state, self._job.reason = state, reason
        requests = [
            transaction_pb2.TransactionRequest(finish_commit=finish),
            transaction_pb2.TransactionRequest(update_job_state=_state_request(self._job)),
        ]
        batch = transaction_pb2.BatchTransactionRequest(requests=requests)
        try:
            self._sidecar.transactions.BatchTransaction(batch)
        except grpc.RpcError as error:
            details = error.details() or ""
            if "already" not in details and "not found" not in details:
                raise
            try:
                self._worker._update(self._job, state, reason)
            except grpc.RpcError as again:
                self._say(f"the job's state could not be updated: {again.details()}")

    # One datum

    def _datum(self, datum: Datum, tag: str) -> bytes | None:
        """Return the output of a datum as a shard: from an earlier job, or from running the user's code now."""
        if self._info.reprocess_spec != "every_job":
            earlier = self._sidecar.tagged(tag)
            if earlier is not None:
                return earlier
        error = "none"
        for attempt in range(self._info.datum_tries):
            scratch = self._worker._pfs / ".scratch" / uuid.uuid4().hex
            try:
                self._check()
                return self._attempt(datum, tag, scratch, last=attempt + 1 == self._info.datum_tries)
            except Killed:
                raise
            except (OSError, ValueError, subprocess.SubprocessError) as failure:
                self._check()
                error = str(failure)
                self._say(f"failed processing datum: {error}, retrying in 0s", datum, master=False)
            finally:
                self._unlink()
                shutil.rmtree(scratch, ignore_errors=True)
        self._say(f"failed to process datum with error: {error}", datum, master=False)
        self._job.data_failed += 1
        return None

    def _attempt(self, datum: Datum, tag: str, scratch: Path, last: bool) -> bytes | None:
        stats, start = self._job.stats, time.monotonic()
        (scratch / "out").mkdir(parents=True)
        for part in datum:
            stats.download_bytes += self._download(part, scratch / part.name)
        _add_time(stats.download_time, start)
        for name in ["out", *{part.name for part in datum}]:
            (self._worker._pfs / name).symlink_to(scratch / name)
        transform, start = self._info.transform, time.monotonic()
        try:
            self._execute(list(transform.cmd), list(transform.stdin), datum)
        except (OSError, ValueError, subprocess.SubprocessError):
            if not last or not transform.err_cmd or self._killed:
                raise
            self._execute(list(transform.err_cmd), list(transform.err_stdin), datum)
            self._job.data_recovered += 1
            return None
        finally:
            _add_time(stats.process_time, start)
        start = time.monotonic()
        shard = self._upload(scratch / "out", tag)
        _add_time(stats.upload_time, start)
        self._job.data_processed += 1
        return shard

    def _download(self, part: Any, target: Path) -> int:
        size = 0
        commit = commit_of(part.repo, part.commit)
        target.mkdir(parents=True, exist_ok=True)
        for info in self._sidecar.pfs.WalkFile(pfs_pb.WalkFileRequest(file=pfs_pb.File(commit=commit, path=part.path))):
            local = target / info.file.path.lstrip("/")
            if info.file_type == pfs_pb.DIR:
                local.mkdir(parents=True, exist_ok=True)
                continue
            local.parent.mkdir(parents=True, exist_ok=True)
            with local.open("wb") as file:
                if not part.empty_files:
                    request = pfs_pb.GetFileRequest(file=pfs_pb.File(commit=commit, path=info.file.path))
                    for each in self._sidecar.pfs.GetFile(request):
                        file.write(each.value)
                    size += info.size_bytes
        return size

    def _unlink(self) -> None:
        for each in self._worker._pfs.iterdir():
            if each.name == ".scratch":
                continue
            if each.is_symlink() or each.is_file():
                each.unlink()
            else:
                shutil.rmtree(each)

    def _execute(self, command: list[str], stdin: list[str], datum: Datum) -> None:
        """Run the user's code.

        :raises ValueError: when it ends with a status that the pipeline does not accept.
        """
        if not command:
            raise ValueError("invalid pipeline transform, no command specified")
        transform = self._info.transform
        environment = dict(os.environ)
        for part in datum:
            environment[part.name] = str(self._worker._pfs / part.name) + part.path
            environment[f"{part.name}_COMMIT"] = part.commit
        environment["PACH_JOB_ID"] = self._job.job.id
        environment["PACH_OUTPUT_COMMIT_ID"] = self._commit.commit.id
        arguments: dict[str, Any] = {}
        if transform.user:
            user = pwd.getpwnam(transform.user)
            arguments = {"user": user.pw_uid, "group": user.pw_gid}
        self._say("beginning to run user code", datum, master=False)
        with self._lock:
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                cwd=transform.working_dir or None,
                start_new_session=True,
                **arguments,
            )
        if self._killed:  # while there was no process to kill yet
            self._kill()
        limit = self._info.datum_timeout.ToSeconds() if self._info.HasField("datum_timeout") else None
        timer = threading.Timer(limit, self._kill) if limit else None
        if timer:
            timer.start()
        feeder = threading.Thread(target=_feed, args=(process, "\n".join(stdin) + "\n" if stdin else ""))
        feeder.start()
        for line in process.stdout or ():
            self._say(line.rstrip("\n"), datum, user=True)
        status = process.wait()
        feeder.join()
        with self._lock:
            self._process = None
        if timer:
            timer.cancel()
        self._check()
        if status < 0 and timer is not None and timer.finished.is_set() and status == -9:
            raise ValueError("context deadline exceeded")
        if status and status not in transform.accept_return_code:
            raise ValueError(f"exit status {status}" if status > 0 else f"signal: {-status}")

    def _upload(self, out: Path, tag: str) -> bytes:
        """Store the files below /pfs/out as one block and a tagged shard, and return the shard."""
        block, offset = uuid.uuid4().hex, 0
        files: list[tuple[str, Node]] = []
        directories: list[str] = []

        def requests() -> Iterator[Any]:
            nonlocal offset
            yield pfs_pb.PutObjectRequest(block=pfs_pb.Block(hash=block))
            for directory, names, found in os.walk(out, followlinks=True):
                names.sort()
                base = Path(directory)
                directories.extend("/" + (base / name).relative_to(out).as_posix() for name in names)
                for name in sorted(found):
                    path = base / name
                    if not path.is_file():
                        raise ValueError(f"cannot upload special file: {path.relative_to(out)}")
                    digest, lower = hashlib.sha512(), offset
                    with path.open("rb") as file:
                        while chunk := file.read(_CHUNK):
                            digest.update(chunk)
                            offset += len(chunk)
                            yield pfs_pb.PutObjectRequest(value=chunk)
                    node = Node(name, hash=digest.digest(), size=offset - lower)
                    node.blocks.append(BlockRange(block, lower, offset))
                    files.append(("/" + path.relative_to(out).as_posix(), node))

        failure: list[ValueError] = []

        def guarded() -> Iterator[Any]:
            try:
                yield from requests()
            except ValueError as error:
                failure.append(error)

        self._sidecar.objects.PutObjects(guarded())
        if failure:
            raise failure[0]
        self._job.stats.upload_bytes += offset
        shard, _unused = write_shard(output_tree(files, directories))
        self._sidecar.put(shard, tag)
        return shard


def _add_time(total: Any, start: float) -> None:
    total.FromNanoseconds(total.ToNanoseconds() + int((time.monotonic() - start) * 1e9))


def _feed(process: subprocess.Popen[str], text: str) -> None:
    try:
        if process.stdin is not None:
            process.stdin.write(text)
            process.stdin.close()
    except BrokenPipeError:
        pass


def main() -> None:
    """Start as the command of a pipeline's user container."""
    env = Environment()
    kind = "serviceenv.WorkerSpecificConfiguration"
    host = env.required("ETCD_SERVICE_HOST", "serviceenv.GlobalConfiguration")
    port = env.required("ETCD_SERVICE_PORT", "serviceenv.GlobalConfiguration")
    address = env.required("PPS_WORKER_IP", kind)
    name = env.required("PPS_PIPELINE_NAME", kind)
    pod = env.required("PPS_POD_NAME", kind)
    prefix = env.text("PPS_ETCD_PREFIX", "pachyderm_pps")
    print("pachd stand-in worker: a test double, not Pachyderm.", flush=True)
    docker = Path("/var/run/docker.sock")
    if docker.exists() and not docker.is_socket():
        fail(f"error inspecting image: cannot connect to Docker endpoint {docker}")
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/pach-bin"
    sidecar = Sidecar(env.number("PEER_PORT", 653))
    sidecar.wait()
    etcd = EtcdClient(f"{host}:{port}")
    found = etcd.get(f"{prefix}/pipelines/{name}".encode())
    if found is None:
        fail(f"error getting pipelineInfo: expected to find 1 pipeline ({name}), got 0")
    pointer = pb.EtcdPipelineInfo.FromString(found.value)
    spec_commit = env.text("PPS_SPEC_COMMIT", pointer.spec_commit.id)
    request = pfs_pb.GetFileRequest(file=pfs_pb.File(commit=commit_of(SPEC_REPO, spec_commit), path="spec"))
    info = pb.PipelineInfo.FromString(b"".join(each.value for each in sidecar.pfs.GetFile(request)))
    info.spec_commit.CopyFrom(commit_of(SPEC_REPO, spec_commit))

    def lost() -> None:
        fail("the worker lost its lease in etcd")

    lease = etcd.lease_grant(_LEASE)
    etcd.put(f"{prefix}/workers/{controller_name(name, info.version)}/{address}".encode(), b"", lease)
    lock.keep_alive(etcd, lease, _LEASE, lost)
    lock.acquire(etcd, f"{prefix}/_master_worker_lock/{name}/{info.salt}", lost)
    run: Callable[[], None] = Worker(sidecar, info, env.text("PACH_ROOT", "/pach"), Log(name, pod)).run
    while True:
        try:
            run()
        except grpc.RpcError as error:
            print(f"worker: {error.code().name}: {error.details()}; trying again", file=sys.stderr, flush=True)
            time.sleep(2)


if __name__ == "__main__":
    main()
