# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipelines: what makes a job run, what it sees, what becomes of it, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from python_pachyderm.proto.pfs import pfs_pb2
from python_pachyderm.proto.pps import pps_pb2

Name = Callable[[str], str]
Repo = Callable[[], str]
Fails = Callable[..., str]
Make = Callable[..., str]
Eventually = Callable[..., Any]

runs = pytest.mark.pipeline


def pfs_input(repo: str, glob: str = "/*", **options: Any) -> Any:
    return pps_pb2.Input(pfs=pps_pb2.PFSInput(repo=repo, glob=glob, **options))


def put(client: Any, repo: str, branch: str = "master", **files: bytes) -> Any:
    with client.commit(repo, branch) as commit, client.put_file_client() as opened:
        for name, content in files.items():
            opened.put_file_from_bytes(commit, f"/{name}", content)
    return commit


def flush(client: Any, *commits: Any) -> list[Any]:
    """Return the jobs that commits cause, when all have ended."""
    return list(client.flush_job(list(commits)))


def output(client: Any, pipeline: str, branch: str = "master") -> dict[str, bytes]:
    found = client.walk_file((pipeline, branch), "/")
    paths = [each.file.path for each in found if each.file_type == pfs_pb2.FILE]
    return {path: b"".join(client.get_file((pipeline, branch), path)) for path in paths}


def settled(client: Any, pipeline: str) -> dict[str, bytes] | None:
    """Return the newest output, or None while its commit is open."""
    return output(client, pipeline) if client.inspect_commit((pipeline, "master")).HasField("finished") else None


def counts(job: Any) -> dict[str, int]:
    return {
        "total": job.data_total,
        "processed": job.data_processed,
        "skipped": job.data_skipped,
        "failed": job.data_failed,
    }


# What needs no worker


def test_a_pipeline_is_wired_when_it_is_created(client: Any, repo: Repo, pipeline: Make) -> None:
    source = repo()
    commit = put(client, source, a=b"a")
    made = pipeline("true", pfs_input(source))
    info = client.inspect_pipeline(made)
    assert (info.pipeline.name, info.version, info.stopped, info.output_branch) == (made, 1, False, "master")
    assert (info.cache_size, info.datum_tries, info.max_queue_size) == ("64M", 3, 1)
    assert (info.input.pfs.name, info.input.pfs.branch, info.input.pfs.glob) == (source, "master", "/*")
    assert re.fullmatch("[0-9a-f]{32}", info.salt)
    assert made in {each.pipeline.name for each in client.list_pipeline().pipeline_info}
    assert client.inspect_repo(made).description == f"Output repo for pipeline {made}."
    branch = client.inspect_branch(made, "master")
    assert [(each.repo.name, each.name) for each in branch.direct_provenance] == [
        ("__spec__", made),
        (source, "master"),
    ]
    result = client.inspect_commit(branch.head)
    assert (result.HasField("finished"), result.origin.kind) == (False, pfs_pb2.AUTO)
    assert {each.commit.id for each in result.provenance} == {commit.id, info.spec_commit.id}


def test_no_data_no_output_commit(client: Any, repo: Repo, pipeline: Make) -> None:
    made = pipeline("true", pfs_input(repo()))
    assert not client.inspect_branch(made, "master").HasField("head")
    assert list(client.list_commit(made)) == []


def test_what_is_no_pipeline(
    client: Any, repo: Repo, pipeline: Make, name: Name, fails: Fails, user_image: str
) -> None:
    source, missing = repo(), name("missing")
    transform = pps_pb2.Transform(image=user_image, cmd=["true"])

    def refused(wanted: str, input: Any) -> str:
        return fails(lambda: client.create_pipeline(wanted, transform, input=input))

    bad = "name (a.b) invalid: only alphanumeric characters, underscores, and dashes are allowed"
    assert refused("a.b", pfs_input(source)) == f"invalid pipeline name: {bad}"
    assert refused("", pfs_input(source)) == "invalid pipeline spec: request.Pipeline.Name cannot be empty"
    long = "x" * 64
    message = f'pipeline name is 64 characters long, but must have at most 63: "{long}"'
    assert refused(long, pfs_input(source)) == message
    assert refused(name("p"), pfs_input(missing)) == f"/pachyderm_pfs/repos/ {missing} not found"
    assert refused(name("p"), pfs_input(source, "")) == "input must specify a glob"
    assert refused(name("p"), pps_pb2.Input()) == "no input set"
    twice = pps_pb2.Input(cross=[pfs_input(source), pfs_input(source)])
    assert refused(name("p"), twice) == f'name "{source}" was used more than once'
    own = pfs_input(source)
    message = f"could not create/update output branch: branch {source}@master cannot be in its own provenance"
    assert refused(source, own) == message
    made = pipeline("true", pfs_input(source))
    assert refused(made, pfs_input(source)) == f"pipeline {made} already exists"
    assert {each.pipeline.name for each in client.list_pipeline().pipeline_info}.isdisjoint({long, source, missing})


def test_missing_pipelines_and_jobs(client: Any, name: Name, fails: Fails) -> None:
    missing = name("missing")
    message = f'pipeline "{missing}" not found'
    assert fails(lambda: client.inspect_pipeline(missing)) == message
    assert fails(lambda: client.start_pipeline(missing)) == message
    assert fails(lambda: client.stop_pipeline(missing)) == message
    assert fails(lambda: client.list_job(missing)) == message
    assert fails(lambda: client.inspect_job(missing)) == f"/pachyderm_pps/jobs/ {missing} not found"
    client.delete_pipeline(missing)


def test_stop_start_update(client: Any, repo: Repo, pipeline: Make) -> None:
    source = repo()
    made = pipeline("true", pfs_input(source))
    first = client.inspect_pipeline(made)
    client.stop_pipeline(made)
    stopped = client.inspect_pipeline(made)
    assert (stopped.stopped, stopped.version) == (True, 1)
    assert stopped.spec_commit.id != first.spec_commit.id
    assert list(client.inspect_branch(made, "master").provenance) == []
    put(client, source, a=b"unseen")
    assert list(client.list_commit(made)) == []
    client.start_pipeline(made)
    assert not client.inspect_pipeline(made).stopped
    assert len(list(client.list_commit(made))) == 1
    assert pipeline("false", pfs_input(source), update=made) == made
    updated = client.inspect_pipeline(made)
    assert (updated.version, updated.salt, list(updated.transform.stdin)) == (2, first.salt, ["false"])
    assert client.inspect_pipeline(f"{made}~1").version == 1
    assert list(client.fsck()) == []


def test_deletion(client: Any, repo: Repo, pipeline: Make, fails: Fails) -> None:
    source = repo()
    put(client, source, a=b"a")
    made, kept = pipeline("true", pfs_input(source)), pipeline("true", pfs_input(source))
    client.delete_pipeline(made)
    fails(lambda: client.inspect_pipeline(made))
    fails(lambda: client.inspect_repo(made))
    client.delete_pipeline(kept, keep_repo=True)
    assert list(client.inspect_branch(kept, "master").provenance) == []
    client.delete_repo(kept)
    assert list(client.inspect_branch(source, "master").subvenance) == []
    assert list(client.fsck()) == []


def test_output_branches_take_no_files(client: Any, repo: Repo, pipeline: Make, fails: Fails) -> None:
    made = pipeline("true", pfs_input(repo()))
    message = "cannot start a commit on an output branch"
    assert fails(lambda: client.put_file_bytes((made, "master"), "/a", b"a")) == message


def test_garbage_collection_is_refused_while_a_pipeline_runs(
    client: Any, repo: Repo, pipeline: Make, fails: Fails
) -> None:
    pipeline("true", pfs_input(repo()))
    message = fails(client.garbage_collect)
    assert re.fullmatch("all pipelines must be stopped to run garbage collection, pipeline: .* is not", message)


def test_garbage_collection_keeps_what_is_needed(client: Any, repo: Repo) -> None:
    if client.list_pipeline().pipeline_info:
        pytest.skip("pipelines exist in this installation, and garbage collection would be refused")
    source = repo()
    with client.commit(source, "master") as commit:
        client.put_file_bytes(commit, "/kept", b"kept for good")
    client.put_file_bytes((source, "master"), "/later", b"later")
    gone = client.start_commit(source, "gone")
    client.put_file_bytes(gone, "/gone", b"nobody needs this")
    client.finish_commit(gone)
    client.delete_commit(gone)
    client.garbage_collect()
    assert b"".join(client.get_file((source, "master"), "/kept")) == b"kept for good"
    assert b"".join(client.get_file((source, "master"), "/later")) == b"later"
    client.put_file_bytes((source, "master"), "/again", b"nobody needs this")
    assert b"".join(client.get_file((source, "master"), "/again")) == b"nobody needs this"
    assert list(client.fsck()) == []


# What needs workers


@runs
def test_a_job_runs_and_its_output_can_be_read(client: Any, repo: Repo, pipeline: Make, eventually: Eventually) -> None:
    source = repo()
    commit = put(client, source, a=b"1\n", b=b"22\n")
    made = pipeline(
        f"cp /pfs/{source}/* /pfs/out/\nmkdir -p /pfs/out/dir\ncat /pfs/{source}/* >> /pfs/out/dir/all",
        pfs_input(source),
    )
    jobs = flush(client, commit)
    assert [(each.pipeline.name, each.state, each.reason) for each in jobs] == [(made, pps_pb2.JOB_SUCCESS, "")]
    assert counts(jobs[0]) == {"total": 2, "processed": 2, "skipped": 0, "failed": 0}
    found = output(client, made)
    assert sorted(found.pop("/dir/all").splitlines()) == [b"1", b"22"]
    assert found == {"/a": b"1\n", "/b": b"22\n"}
    result = client.inspect_commit((made, "master"))
    assert result.commit == jobs[0].output_commit
    assert (len(result.trees), result.HasField("tree"), result.HasField("datums")) == (1, False, True)
    assert result.size_bytes == 10
    file = client.inspect_file((made, "master"), "/a")
    assert (len(file.objects), len(file.blockRefs)) == (0, 1)
    assert [each.file.path for each in client.list_file((made, "master"), "/")] == ["/a", "/b", "/dir"]
    assert [each.file.path for each in client.glob_file((made, "master"), "/d*/*")] == ["/dir/all"]
    info = client.inspect_pipeline(made)
    assert (info.state, info.last_job_state) == (pps_pb2.PIPELINE_RUNNING, pps_pb2.JOB_SUCCESS)
    assert [each.job.id for each in client.list_job(made)] == [jobs[0].job.id]
    full = client.inspect_job(jobs[0].job.id)
    assert (full.input.pfs.commit, full.pipeline_version) == (commit.id, 1)
    assert full.started.ToNanoseconds() <= full.finished.ToNanoseconds()
    upstream = client.inspect_commit(commit)
    assert (upstream.subvenant_commits_total, upstream.subvenant_commits_success) == (1, 1)
    assert list(client.fsck()) == []
    lines = eventually(
        lambda: [each.message for each in client.get_pipeline_logs(made)], "the workers' log can be read"
    )
    assert any("user code" in each for each in lines)


@runs
def test_new_data_is_processed_and_old_data_is_skipped(client: Any, repo: Repo, pipeline: Make) -> None:
    source = repo()
    first = put(client, source, a=b"a", b=b"b")
    made = pipeline(f"cp /pfs/{source}/* /pfs/out/", pfs_input(source))
    flush(client, first)
    second = put(client, source, c=b"c")
    (job,) = flush(client, second)
    assert counts(job) == {"total": 3, "processed": 1, "skipped": 2, "failed": 0}
    assert output(client, made) == {"/a": b"a", "/b": b"b", "/c": b"c"}
    with client.commit(source, "master") as third:
        client.delete_file(third, "/a")
    (job,) = flush(client, third)
    assert (job.state, job.data_total, job.data_processed) == (pps_pb2.JOB_SUCCESS, 2, 0)
    assert output(client, made) == {"/b": b"b", "/c": b"c"}
    assert output(client, made, "master^") == {"/a": b"a", "/b": b"b", "/c": b"c"}


@runs
def test_what_the_users_code_sees(client: Any, repo: Repo, pipeline: Make) -> None:
    source = repo()
    with client.commit(source, "master") as commit:
        client.put_file_bytes(commit, "/day/one", b"1")
        client.put_file_bytes(commit, "/day/two", b"2")
    script = """
        cd /pfs/data/
        find . -type f | sort > /pfs/out/files
        ls /pfs > /pfs/out/pfs
        echo $data > /pfs/out/path
        echo $data_COMMIT > /pfs/out/commit
        echo $PACH_JOB_ID > /pfs/out/job
        echo $PACH_OUTPUT_COMMIT_ID > /pfs/out/output
        echo $PPS_PIPELINE_NAME > /pfs/out/pipeline
    """
    made = pipeline(script, pfs_input(source, "/*", name="data"))
    (job,) = flush(client, commit)
    found = {path: content.decode().splitlines() for path, content in output(client, made).items()}
    assert found == {
        "/files": ["./day/one", "./day/two"],
        "/pfs": ["data", "out"],
        "/path": ["/pfs/data/day"],
        "/commit": [commit.id],
        "/job": [job.job.id],
        "/output": [job.output_commit.id],
        "/pipeline": [made],
    }


@runs
def test_cross_and_union(client: Any, repo: Repo, pipeline: Make) -> None:
    left, right = repo(), repo()
    put(client, left, a=b"a", b=b"b")
    second = put(client, right, x=b"x", y=b"y")
    crossed = pipeline(
        "for l in /pfs/l/*; do for r in /pfs/r/*; do cat $l $r > /pfs/out/$(basename $l)-$(basename $r); done; done",
        pps_pb2.Input(cross=[pfs_input(left, name="l"), pfs_input(right, name="r")]),
    )
    united = pipeline(
        "cp /pfs/*/* /pfs/out/ 2> /dev/null || true",
        pps_pb2.Input(union=[pfs_input(left, name="l"), pfs_input(right, name="r")]),
    )
    jobs = {each.pipeline.name: each for each in flush(client, second)}
    assert {name: (each.state, each.data_total) for name, each in jobs.items()} == {
        crossed: (pps_pb2.JOB_SUCCESS, 4),
        united: (pps_pb2.JOB_SUCCESS, 4),
    }
    assert output(client, crossed) == {"/a-x": b"ax", "/a-y": b"ay", "/b-x": b"bx", "/b-y": b"by"}
    assert output(client, united) == {"/a": b"a", "/b": b"b", "/x": b"x", "/y": b"y"}


@runs
def test_a_chain_of_pipelines_and_what_comes_from_what(client: Any, repo: Repo, pipeline: Make) -> None:
    source = repo()
    first = pipeline(f"cat /pfs/{source}/* > /pfs/out/sum", pfs_input(source, "/"))
    second = pipeline(f"wc -c < /pfs/{first}/sum > /pfs/out/size", pfs_input(first, "/"))
    commit = put(client, source, a=b"12345")
    jobs = flush(client, commit)
    assert [(each.pipeline.name, each.state) for each in jobs] == [
        (first, pps_pb2.JOB_SUCCESS),
        (second, pps_pb2.JOB_SUCCESS),
    ]
    assert output(client, second) == {"/size": b"5\n"}
    provenance = {each.commit.repo.name for each in client.inspect_commit((second, "master")).provenance}
    assert provenance == {"__spec__", source, first}
    assert list(client.fsck()) == []


@runs
def test_failure(client: Any, repo: Repo, pipeline: Make, fails: Fails) -> None:
    source = repo()
    bad = pipeline(f"cp /pfs/{source}/* /pfs/out/\ntest ! -e /pfs/{source}/bad", pfs_input(source))
    after = pipeline("true", pfs_input(bad))
    commit = put(client, source, bad=b"1", good=b"2")
    jobs = flush(client, commit)
    assert [(each.pipeline.name, each.state, each.reason) for each in jobs] == [
        (bad, pps_pb2.JOB_FAILURE, "datum failed"),
        (after, pps_pb2.JOB_FAILURE, f"inputs failed: {bad}"),
    ]
    assert counts(jobs[0]) == {"total": 2, "processed": 1, "skipped": 0, "failed": 1}
    result = client.inspect_commit((bad, "master"))
    assert (result.HasField("finished"), result.HasField("tree"), len(result.trees)) == (True, False, 0)
    assert list(client.list_file((bad, "master"), "/")) == []
    message = f"file /good not found in repo {bad} at commit {result.commit.id}"
    assert fails(lambda: b"".join(client.get_file((bad, "master"), "/good"))) == message
    info = client.inspect_pipeline(bad)
    assert (info.state, info.last_job_state) == (pps_pb2.PIPELINE_RUNNING, pps_pb2.JOB_FAILURE)
    with client.commit(source, "master") as mended:
        client.delete_file(mended, "/bad")
    jobs = flush(client, mended)
    assert [each.state for each in jobs] == [pps_pb2.JOB_SUCCESS, pps_pb2.JOB_SUCCESS]
    assert output(client, bad) == {"/good": b"2"}


@runs
def test_an_update_runs_the_new_code(client: Any, repo: Repo, pipeline: Make, eventually: Eventually) -> None:
    source = repo()
    commit = put(client, source, a=b"a")
    made = pipeline("echo old > /pfs/out/a", pfs_input(source))
    flush(client, commit)
    pipeline("echo new > /pfs/out/a", pfs_input(source), update=made, reprocess=True)
    flush(client, commit)
    eventually(lambda: settled(client, made) == {"/a": b"new\n"}, "the new code's output is there")
    assert client.inspect_pipeline(made).version == 2


@runs
def test_a_stopped_pipeline_runs_nothing_until_it_is_started(
    client: Any, repo: Repo, pipeline: Make, eventually: Eventually
) -> None:
    source = repo()
    made = pipeline(f"cp /pfs/{source}/* /pfs/out/", pfs_input(source))
    first = put(client, source, a=b"a")
    flush(client, first)
    client.stop_pipeline(made)
    eventually(lambda: client.inspect_pipeline(made).state == pps_pb2.PIPELINE_PAUSED, "the pipeline is paused")
    second = put(client, source, b=b"b")
    assert flush(client, second) == []
    assert output(client, made) == {"/a": b"a"}
    client.start_pipeline(made)
    eventually(lambda: settled(client, made) == {"/a": b"a", "/b": b"b"}, "what was missed is processed")
    assert client.inspect_pipeline(made).state == pps_pb2.PIPELINE_RUNNING


@runs
def test_a_job_can_be_stopped(client: Any, repo: Repo, pipeline: Make, eventually: Eventually) -> None:
    source = repo()
    made = pipeline("sleep 600", pfs_input(source))
    put(client, source, a=b"a")
    running = eventually(
        lambda: [each for each in client.list_job(made) if each.state == pps_pb2.JOB_RUNNING], "the job runs"
    )
    client.stop_job(running[0].job.id)
    eventually(lambda: client.inspect_job(running[0].job.id).state == pps_pb2.JOB_KILLED, "the job is killed")
    assert client.inspect_commit((made, "master")).HasField("finished")


@runs
def test_deferred_processing(client: Any, repo: Repo, pipeline: Make) -> None:
    source = repo()
    client.create_branch(source, "master")
    made = pipeline(f"cp /pfs/{source}/* /pfs/out/", pfs_input(source))
    commit = put(client, source, "staging", a=b"a")
    assert list(client.list_job(made)) == []
    client.create_branch(source, "master", (source, "staging"))
    jobs = flush(client, commit)
    assert [each.state for each in jobs] == [pps_pb2.JOB_SUCCESS]
    assert output(client, made) == {"/a": b"a"}


@runs
def test_secrets(client: Any, name: Name, fails: Fails) -> None:
    secret = name("secret")
    client.create_secret(secret, {"user": "someone"})
    assert secret in {each.secret.name for each in client.list_secret()}
    assert client.inspect_secret(secret).secret.name == secret
    client.delete_secret(secret)
    assert fails(lambda: client.inspect_secret(secret)) == f'failed to get secret: secrets "{secret}" not found'
