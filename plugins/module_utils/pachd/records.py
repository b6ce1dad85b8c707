# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The records that Pachyderm 1.13 keeps in etcd, as types.

Facts: ``src/client/pfs/pfs.proto``, ``src/client/pps/pps.proto`` and ``src/client/auth/auth.proto`` of v1.13.4; the
keys are those of ``src/server/pkg/collection``, ``src/server/pkg/pfsdb`` and ``src/server/pkg/ppsdb``.  Values that are
secret (tokens) are never decoded, only counted.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any

from ..errors import EtcdError
from ..protobuf import declare

#: The root of nearly all keys.
PREFIX = "pachyderm/1.7.0"
#: The keys outside it.
SINGLE_KEYS = ("cluster-id", "master_token", "gc-generation")
#: The kinds of records below it, by the service that keeps them.
COLLECTIONS = {
    "pfs": ("repos", "branches", "commits", "openCommits", "putFileRecords", "transactions"),
    "pps": ("pipelines", "jobs"),
    "auth": ("tokens", "acls", "admins", "members", "groups"),
}
#: The repo whose commits hold the specifications of pipelines, each in a file of this path.
SPEC_REPO, SPEC_FILE = "__spec__", "/spec"
#: The branch of an output repo that holds statistics, where a pipeline makes them.
STATS_BRANCH = "stats"

ORIGINS = ("USER", "AUTO", "FSCK")
JOB_STATES = ("STARTING", "RUNNING", "FAILURE", "SUCCESS", "KILLED", "MERGING", "EGRESSING")
PIPELINE_STATES = ("STARTING", "RUNNING", "RESTARTING", "FAILURE", "PAUSED", "STANDBY", "CRASHING")


def collection(service: str, kind: str) -> bytes:
    """Return what the keys of one kind of records begin with."""
    return f"{PREFIX}/pachyderm_{service}/{kind}/".encode()


def tag_prefix(salt: str) -> str:
    """Return what the tags of all results of a pipeline begin with (``DatumTagPrefix`` of v1.13.4)."""
    return hashlib.sha256(salt.encode()).hexdigest()[:4]


@dataclass(frozen=True)
class Ref:
    """A commit or a branch: a repo's name, and the commit's id or the branch's name."""

    repo: str
    name: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.name}"


@dataclass(frozen=True)
class Repo:
    """A repo; ``size`` is that of the head of its master branch, in bytes."""

    name: str
    created: datetime.datetime | None
    size: int
    description: str
    branches: tuple[Ref, ...]
    tombstone: bool


@dataclass(frozen=True)
class Branch:
    """A branch; ``head`` is None before its first commit, ``trigger`` the branch that moves it, empty without one."""

    repo: str
    name: str
    head: str | None
    provenance: tuple[Ref, ...]
    subvenance: tuple[Ref, ...]
    direct_provenance: tuple[Ref, ...]
    trigger: str


@dataclass(frozen=True)
class Provenance:
    """One commit that another was made from, and the branch on which it was."""

    commit: Ref
    branch: Ref


@dataclass(frozen=True)
class Commit:
    """A commit; sizes in bytes.

    Its files are in ``tree`` (an object's hash) or in ``trees`` (several), which an open commit and the output of a
    failed job have neither of; ``datums`` is the object that lists the datums behind an output.
    """

    repo: str
    id: str
    branch: str
    origin: str
    description: str
    parent: str | None
    children: tuple[str, ...]
    started: datetime.datetime | None
    finished: datetime.datetime | None
    size: int
    provenance: tuple[Provenance, ...]
    #: The oldest and the newest commit of every row of commits that were made from this one.
    subvenance: tuple[tuple[Ref, Ref], ...]
    tree: str
    trees: tuple[str, ...]
    datums: str

    @property
    def open(self) -> bool:
        """Whether it can still be written to."""
        return self.finished is None

    @property
    def is_output(self) -> bool:
        """Whether something other than a pipeline's specification is in its provenance."""
        return any(each.commit.repo != SPEC_REPO for each in self.provenance)

    def __str__(self) -> str:
        return f"{self.repo}@{self.id}"


@dataclass(frozen=True)
class Job:
    """A job; the counts are of datums."""

    id: str
    pipeline: str
    output_commit: Ref
    stats_commit: Ref | None
    state: str
    reason: str
    restart: int
    started: datetime.datetime | None
    finished: datetime.datetime | None
    data_processed: int
    data_skipped: int
    data_total: int
    data_failed: int
    data_recovered: int


@dataclass(frozen=True)
class PipelineSpec:
    """What a specification says, as far as it concerns where data comes from and goes to.

    ``inputs`` are the branches read; ``raw`` is the whole ``PipelineInfo`` message.
    """

    name: str
    version: int
    image: str
    salt: str
    output_branch: str
    enable_stats: bool
    stopped: bool
    description: str
    inputs: tuple[Ref, ...]
    raw: bytes = field(repr=False)


@dataclass(frozen=True)
class Pipeline:
    """A pipeline as etcd has it; the specification is a file of the commit ``spec_commit``."""

    name: str
    state: str
    reason: str
    spec_commit: Ref
    last_job_state: str
    jobs: dict[str, int]
    parallelism: int
    #: Whether the record holds an authentication token; the token itself is not decoded.
    has_token: bool


@dataclass(frozen=True)
class Auth:
    """What there is of authentication: how many of each kind, never which, and whether it is active."""

    active: bool
    tokens: int
    leased_tokens: int
    codes: int
    acls: int
    members: int
    groups: int
    configured: bool


@functools.cache
def messages() -> dict[str, Any]:
    """Return the message classes of the records, by name."""
    time = [("seconds", 1, "int64"), ("nanos", 2, "int32")]
    name = [("name", 1, "string")]
    return declare(
        "pachops.records",
        {
            "Timestamp": time,
            "Repo": name,
            "Branch": [("repo", 1, "Repo"), ("name", 2, "string")],
            "Commit": [("repo", 1, "Repo"), ("id", 2, "string")],
            "Object": [("hash", 1, "string")],
            "Block": [("hash", 1, "string")],
            "ByteRange": [("lower", 1, "uint64"), ("upper", 2, "uint64")],
            "BlockRef": [("block", 1, "Block"), ("range", 2, "ByteRange")],
            "RepoInfo": [
                ("repo", 1, "Repo"),
                ("created", 2, "Timestamp"),
                ("size_bytes", 3, "uint64"),
                ("description", 5, "string"),
                ("branches", 7, "repeated Branch"),
                ("tombstone", 8, "bool"),
            ],
            "Trigger": [("branch", 1, "string")],
            "BranchInfo": [
                ("branch", 4, "Branch"),
                ("head", 2, "Commit"),
                ("provenance", 3, "repeated Branch"),
                ("subvenance", 5, "repeated Branch"),
                ("direct_provenance", 6, "repeated Branch"),
                ("trigger", 7, "Trigger"),
            ],
            "Origin": [("kind", 1, "int32")],
            "CommitProvenance": [("commit", 1, "Commit"), ("branch", 2, "Branch")],
            "CommitRange": [("lower", 1, "Commit"), ("upper", 2, "Commit")],
            "CommitInfo": [
                ("commit", 1, "Commit"),
                ("branch", 15, "Branch"),
                ("origin", 17, "Origin"),
                ("description", 8, "string"),
                ("parent_commit", 2, "Commit"),
                ("child_commits", 11, "repeated Commit"),
                ("started", 3, "Timestamp"),
                ("finished", 4, "Timestamp"),
                ("size_bytes", 5, "uint64"),
                ("provenance", 16, "repeated CommitProvenance"),
                ("subvenance", 9, "repeated CommitRange"),
                ("tree", 7, "Object"),
                ("trees", 13, "repeated Object"),
                ("datums", 14, "Object"),
            ],
            "OverwriteIndex": [("index", 1, "int64")],
            "PutFileRecord": [
                ("size_bytes", 1, "int64"),
                ("object_hash", 2, "string"),
                ("overwrite_index", 3, "OverwriteIndex"),
                ("block_ref", 4, "BlockRef"),
            ],
            "PutFileRecords": [
                ("split", 1, "bool"),
                ("records", 2, "repeated PutFileRecord"),
                ("tombstone", 3, "bool"),
                ("header", 4, "PutFileRecord"),
                ("footer", 5, "PutFileRecord"),
            ],
            "Name": name,
            "Id": [("id", 1, "string")],
            "EtcdJobInfo": [
                ("job", 1, "Id"),
                ("pipeline", 2, "Name"),
                ("output_commit", 3, "Commit"),
                ("restart", 4, "uint64"),
                ("data_processed", 5, "int64"),
                ("data_skipped", 6, "int64"),
                ("data_total", 7, "int64"),
                ("data_failed", 8, "int64"),
                ("data_recovered", 15, "int64"),
                ("stats_commit", 10, "Commit"),
                ("state", 11, "int32"),
                ("reason", 12, "string"),
                ("started", 13, "Timestamp"),
                ("finished", 14, "Timestamp"),
            ],
            # A map is a repeated message of key and value.
            "Count": [("key", 1, "int32"), ("value", 2, "int32")],
            "EtcdPipelineInfo": [
                ("state", 1, "int32"),
                ("reason", 4, "string"),
                ("spec_commit", 2, "Commit"),
                ("job_counts", 3, "repeated Count"),
                ("auth_token", 5, "bytes"),
                ("last_job_state", 6, "int32"),
                ("parallelism", 7, "uint64"),
            ],
            "Transform": [("image", 1, "string")],
            "FileInput": [("name", 1, "string"), ("repo", 2, "string"), ("branch", 3, "string")],
            "CronInput": [
                ("name", 1, "string"),
                ("repo", 2, "string"),
                ("spec", 4, "string"),
                ("start", 5, "Timestamp"),
            ],
            "GitInput": [("name", 1, "string"), ("branch", 3, "string")],
            "Input": [
                ("pfs", 6, "FileInput"),
                ("join", 7, "repeated Input"),
                ("group", 8, "repeated Input"),
                ("cross", 2, "repeated Input"),
                ("union", 3, "repeated Input"),
                ("cron", 4, "CronInput"),
                ("git", 5, "GitInput"),
            ],
            "PipelineInfo": [
                ("pipeline", 1, "Name"),
                ("version", 11, "uint64"),
                ("transform", 2, "Transform"),
                ("stopped", 38, "bool"),
                ("output_branch", 16, "string"),
                ("input", 20, "Input"),
                ("description", 21, "string"),
                ("enable_stats", 24, "bool"),
                ("salt", 25, "string"),
            ],
        },
    )


def parse(kind: str, data: bytes, where: str) -> Any:
    """Return the message of the named kind.

    :param where: what the error names when ``data`` is no such message.
    :raises EtcdError: it is none.
    """
    try:
        return messages()[kind].FromString(data)
    except Exception as error:  # protobuf's implementations raise different classes
        raise EtcdError("a record is damaged", where=where, why=f"not a {kind}: {error}") from error


def repo(data: bytes, where: str) -> Repo:
    """Return the repo of a ``RepoInfo``."""
    info = parse("RepoInfo", data, where)
    return Repo(
        info.repo.name, _time(info, "created"), info.size_bytes, info.description, _refs(info.branches), info.tombstone
    )


def branch(data: bytes, where: str) -> Branch:
    """Return the branch of a ``BranchInfo``."""
    info = parse("BranchInfo", data, where)
    return Branch(
        info.branch.repo.name,
        info.branch.name,
        info.head.id or None,
        _refs(info.provenance),
        _refs(info.subvenance),
        _refs(info.direct_provenance),
        info.trigger.branch,
    )


def commit(data: bytes, where: str) -> Commit:
    """Return the commit of a ``CommitInfo``."""
    info = parse("CommitInfo", data, where)
    return Commit(
        repo=info.commit.repo.name,
        id=info.commit.id,
        branch=info.branch.name,
        origin=_named(ORIGINS, info.origin.kind),
        description=info.description,
        parent=info.parent_commit.id or None,
        children=tuple(each.id for each in info.child_commits),
        started=_time(info, "started"),
        finished=_time(info, "finished"),
        size=info.size_bytes,
        provenance=tuple(Provenance(_ref(each.commit), _ref(each.branch)) for each in info.provenance),
        subvenance=tuple((_ref(each.lower), _ref(each.upper)) for each in info.subvenance),
        tree=info.tree.hash,
        trees=tuple(each.hash for each in info.trees),
        datums=info.datums.hash,
    )


def job(data: bytes, where: str) -> Job:
    """Return the job of an ``EtcdJobInfo``."""
    info = parse("EtcdJobInfo", data, where)
    return Job(
        id=info.job.id,
        pipeline=info.pipeline.name,
        output_commit=_ref(info.output_commit),
        stats_commit=_ref(info.stats_commit) if info.HasField("stats_commit") else None,
        state=_named(JOB_STATES, info.state),
        reason=info.reason,
        restart=info.restart,
        started=_time(info, "started"),
        finished=_time(info, "finished"),
        data_processed=info.data_processed,
        data_skipped=info.data_skipped,
        data_total=info.data_total,
        data_failed=info.data_failed,
        data_recovered=info.data_recovered,
    )


def pipeline(name: str, data: bytes, where: str) -> Pipeline:
    """Return the pipeline of an ``EtcdPipelineInfo``, whose name is only in its key."""
    info = parse("EtcdPipelineInfo", data, where)
    return Pipeline(
        name=name,
        state=_named(PIPELINE_STATES, info.state),
        reason=info.reason,
        spec_commit=_ref(info.spec_commit),
        last_job_state=_named(JOB_STATES, info.last_job_state),
        jobs={_named(JOB_STATES, each.key): each.value for each in info.job_counts},
        parallelism=info.parallelism,
        has_token=bool(info.auth_token),
    )


def pipeline_spec(data: bytes, where: str) -> PipelineSpec:
    """Return the specification of a ``PipelineInfo``."""
    info = parse("PipelineInfo", data, where)
    return PipelineSpec(
        name=info.pipeline.name,
        version=info.version,
        image=info.transform.image,
        salt=info.salt,
        output_branch=info.output_branch,
        enable_stats=info.enable_stats,
        stopped=info.stopped,
        description=info.description,
        inputs=tuple(_inputs(info.input)),
        raw=data,
    )


def _inputs(info: Any) -> list[Ref]:
    found = []
    if info.HasField("pfs"):
        found.append(Ref(info.pfs.repo, info.pfs.branch))
    if info.HasField("cron"):
        found.append(Ref(info.cron.repo, "master"))
    if info.HasField("git"):
        found.append(Ref(info.git.name, info.git.branch))
    for several in (info.join, info.group, info.cross, info.union):
        for each in several:
            found += _inputs(each)
    return found


def _ref(message: Any) -> Ref:
    """Return what a ``Commit`` or a ``Branch`` message names."""
    return Ref(message.repo.name, message.id if hasattr(message, "id") else message.name)


def _refs(found: Any) -> tuple[Ref, ...]:
    return tuple(_ref(each) for each in found)


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _time(message: Any, name: str) -> datetime.datetime | None:
    if not message.HasField(name):
        return None
    stamp = getattr(message, name)
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return start + datetime.timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
