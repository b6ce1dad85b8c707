# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of day-to-day work against the stand-in pachd with a real etcd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import Pachd
from ansible_collections.pachops.pachyderm.plugins.modules import (
    pachyderm_branch,
    pachyderm_commit_info,
    pachyderm_file,
    pachyderm_info,
    pachyderm_job_info,
    pachyderm_pipeline,
    pachyderm_repo,
)
from doubles.processes import DEPLOYMENT_ID, Installation

Run = Callable[..., Any]
Exact = Callable[..., Any]


@pytest.fixture(scope="module")
def pachd(root: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pachd]:
    """One stand-in for all tests here, which use repos of their own."""
    installation = Installation(root, tmp_path_factory.mktemp("pachd"))
    try:
        installation.start()
        with Pachd("127.0.0.1", installation.port) as connection:
            yield connection
    finally:
        installation.stop()


@pytest.fixture
def exact(run_module: Run, pachd: Pachd) -> Exact:
    """Run a module as predicted, for real, and again: the prediction is right and the second run changes nothing."""

    def run(module: Any, **options: Any) -> Any:
        options["address"] = f"grpc://{pachd.address}"
        predicted = run_module(module.main, check_mode=True, diff=True, **options)
        again_predicted = run_module(module.main, check_mode=True, diff=True, **options)
        assert predicted == again_predicted, "check mode changed something"
        done = run_module(module.main, diff=True, **options)
        assert predicted.keys() == done.keys()
        assert predicted.failed == done.failed
        if done.failed:
            assert predicted["msg"] == done["msg"]
            return done
        assert predicted.changed == done.changed
        assert predicted.get("diff") == done.get("diff")
        assert not run_module(module.main, **options).changed
        return done

    return run


def write(pachd: Pachd, repo: str, branch: str, **files: bytes) -> str:
    """Write files in one commit each, and return the last commit's id."""
    import io

    for name, content in files.items():
        pachd.put_file(repo, branch, f"/{name}", io.BytesIO(content))
    commit = pachd.pfs_pb2.Commit(repo=pachd.pfs_pb2.Repo(name=repo), id=branch)
    return str(pachd.pfs.InspectCommit(pachd.pfs_pb2.InspectCommitRequest(commit=commit)).commit.id)


def test_repos(exact: Exact, run_module: Run, pachd: Pachd) -> None:
    made = exact(pachyderm_repo, name="r-ticks", description="Prices")
    assert made.changed
    assert made["diff"]["after"] == {"name": "r-ticks", "description": "Prices"}
    assert made["repo"]["created"]
    described = exact(pachyderm_repo, name="r-ticks", description="Prices by the minute")
    assert described["diff"]["before"] == {"description": "Prices"}
    assert described["diff"]["after"] == {"description": "Prices by the minute"}
    assert not exact(pachyderm_repo, name="r-ticks").changed, "no description leaves it"
    assert (
        "only alphanumeric characters"
        in run_module(pachyderm_repo.main, address=f"grpc://{pachd.address}", name="r/1")["msg"]
    )
    gone = exact(pachyderm_repo, name="r-ticks", state="absent")
    assert gone.changed
    assert gone["repo"]["description"] == "Prices by the minute"
    assert not exact(pachyderm_repo, name="r-ticks", state="absent").changed


def test_publish_and_take_back(exact: Exact, pachd: Pachd) -> None:
    pachd.create_repo("b-ticks")
    first, second = (write(pachd, "b-ticks", "staging", **{name: b"x"}) for name in ("one", "two"))
    published = exact(pachyderm_branch, repo="b-ticks", name="master", head="staging")
    assert published["branch"]["head"] == second
    assert published["previous_head"] is None
    back = exact(pachyderm_branch, repo="b-ticks", name="master", head="staging^")
    assert (back["branch"]["head"], back["previous_head"]) == (first, second)
    assert back["diff"]["before"] == {"head": second}
    assert back["diff"]["after"] == {"head": first}
    assert not exact(pachyderm_branch, repo="b-ticks", name="master").changed
    missing = exact(pachyderm_branch, repo="b-ticks", name="master", head="staging^9")
    assert "the commit does not exist (b-ticks@staging^9)" in missing["msg"]


def test_what_moves_a_branch(exact: Exact, pachd: Pachd) -> None:
    pachd.create_repo("t-ticks")
    write(pachd, "t-ticks", "master", one=b"x")
    made = exact(pachyderm_branch, repo="t-ticks", name="daily", trigger={"branch": "master", "commits": 2})
    assert made["branch"]["trigger"]["commits"] == 2
    write(pachd, "t-ticks", "master", two=b"x", three=b"x")
    kept = exact(pachyderm_branch, repo="t-ticks", name="daily")
    assert not kept.changed
    assert kept["branch"]["head"], "the trigger moved it"
    changed = exact(pachyderm_branch, repo="t-ticks", name="daily", trigger={"branch": "master", "commits": 3})
    assert changed["diff"]["before"] == {"trigger.commits": 2}
    none = exact(pachyderm_branch, repo="t-ticks", name="daily", trigger={})
    assert none["branch"]["trigger"] is None
    assert none["branch"]["head"] == kept["branch"]["head"]
    for trigger, said in {
        "commits": "a trigger without a branch",
        "branch": "without a condition",
    }.items():
        value = {"branch": "master"} if trigger == "branch" else {"commits": 1}
        assert said in exact(pachyderm_branch, repo="t-ticks", name="daily", trigger=value)["msg"]


def test_what_a_branch_depends_on(exact: Exact, pachd: Pachd) -> None:
    for name in ("p-in", "p-out"):
        pachd.create_repo(name)
        write(pachd, name, "master", one=b"x")
    assert (
        "the branch does not exist (p-in@nope)"
        in exact(pachyderm_branch, repo="p-out", name="master", provenance=["p-in@nope"])["msg"]
    )
    assert (
        "cannot depend on itself"
        in exact(pachyderm_branch, repo="p-in", name="master", provenance=["p-in@master"])["msg"]
    )
    made = exact(pachyderm_branch, repo="p-out", name="derived", provenance=["p-in@master"])
    assert made["branch"]["provenance"] == ["p-in@master"]
    assert (
        "depend on each other"
        in exact(pachyderm_branch, repo="p-in", name="master", provenance=["p-out@derived"])["msg"]
    )
    assert "the repo is in use" in exact(pachyderm_repo, name="p-in", state="absent")["msg"]
    assert "p-out@derived descend" in exact(pachyderm_branch, repo="p-in", name="master", state="absent")["msg"]
    assert exact(pachyderm_branch, repo="p-out", name="derived", state="absent").changed
    assert exact(pachyderm_repo, name="p-in", state="absent").changed


SPEC: dict[str, Any] = {
    "pipeline": {"name": "s-sums"},
    "transform": {"image": "busybox:1.36", "cmd": ["sh"], "stdin": ["true"], "env": {"PASSWORD": "hunter2"}},
    "input": {"cross": [{"pfs": {"repo": "s-two", "glob": "/*"}}, {"pfs": {"repo": "s-one", "glob": "/"}}]},
    "datum_timeout": "1h30m",
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**SPEC, **parts}


def test_pipelines(exact: Exact, run_module: Run, pachd: Pachd) -> None:
    for name in ("s-one", "s-two"):
        pachd.create_repo(name)
    made = exact(pachyderm_pipeline, spec=SPEC)
    assert made["actions"] == ["create"]
    assert made["pipeline"]["inputs"] == ["s-one@master", "s-two@master"]
    assert made["diff"]["before"] == {}
    assert "hunter2" not in str([made["diff"], made["pipeline"]])
    other = exact(pachyderm_pipeline, spec=changed(transform={**SPEC["transform"], "image": "busybox:1.37"}))
    assert other["actions"] == ["update"]
    assert other["diff"]["before"] == {"spec.transform.image": "busybox:1.36"}
    assert other["diff"]["after"] == {"spec.transform.image": "busybox:1.37"}
    assert other["pipeline"]["version"] == 2
    secret = exact(
        pachyderm_pipeline,
        spec=changed(transform={**SPEC["transform"], "image": "busybox:1.37", "env": {"PASSWORD": "swordfish"}}),
    )
    assert secret["diff"]["before"] == {"spec.transform.env.PASSWORD": "(hidden)"}
    assert "swordfish" not in str([secret["diff"], secret["pipeline"]])
    stopped = exact(pachyderm_pipeline, name="s-sums", state="stopped")
    assert stopped["actions"] == ["stop"]
    assert stopped["diff"]["after"] == {"stopped": True}
    assert exact(pachyderm_pipeline, name="s-sums", state="started")["actions"] == ["start"]
    again = run_module(
        pachyderm_pipeline.main, address=f"grpc://{pachd.address}", name="s-sums", reprocess=True, check_mode=True
    )
    assert again["actions"] == ["reprocess"]
    look = run_module(pachyderm_info.main, address=f"grpc://{pachd.address}")
    assert look["deployment_id"] == DEPLOYMENT_ID
    assert look["healthy"]
    assert [each["name"] for each in look["pipelines"]] == ["s-sums"]
    circle = exact(
        pachyderm_pipeline,
        spec=changed(input={"pfs": {"repo": "s-sums", "glob": "/"}}),
    )
    assert "s-sums reads s-sums" in circle["msg"]
    gone = exact(pachyderm_pipeline, name="s-sums", state="absent")
    assert gone["actions"] == ["delete"]


def test_circles_of_pipelines(exact: Exact, pachd: Pachd) -> None:
    pachd.create_repo("c-in")

    def spec(name: str, repo: str) -> dict[str, Any]:
        return {**SPEC, "pipeline": {"name": name}, "input": {"pfs": {"repo": repo, "glob": "/"}}}

    exact(pachyderm_pipeline, spec=spec("c-a", "c-in"))
    exact(pachyderm_pipeline, spec=spec("c-b", "c-a"))
    said = exact(pachyderm_pipeline, spec=spec("c-a", "c-b"))["msg"]
    assert "c-a reads c-b reads c-a" in said
    assert "c-b reads it" in exact(pachyderm_pipeline, name="c-a", state="absent")["msg"]
    for name in ("c-b", "c-a"):
        exact(pachyderm_pipeline, name=name, state="absent")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (changed(parallelism={"constant": 2}), "parallelism is not known (is parallelism_spec meant?)"),
        (changed(transform={"image": "x", "cmd": "sh"}), "transform.cmd has to be a list, not a string"),
        (changed(transform={"image": "x", "stdin": ["true"]}), "transform.cmd is missing: stdin needs a command"),
        (changed(transform={"cmd": ["sh"]}), "transform.image is missing"),
        (changed(transform={"image": "x", "cmd": ["sh"], "env": {"A": 1}}), "env.A has to be a string, in quotes"),
        (changed(datum_tries="many"), "datum_tries has to be a whole number, not a string"),
        (changed(standby="yes"), "standby has to be true or false, not a string"),
        (changed(job_timeout="soon"), "job_timeout has to be a duration such as 90s"),
        (changed(pipeline={"name": "a.b"}), "letters, digits, _ and - only"),
        (changed(input={"pfs": {"repo": "nope", "glob": "/"}}), "there is no repo nope"),
        (changed(input={"pfs": {"repo": "nope"}}), "input.pfs.glob is missing"),
        (changed(input={"pfs": {"glob": "/"}, "cron": {"name": "n"}}), "exactly one of"),
        (changed(input={"cross": [{"pfs": {"repo": "a", "glob": "/"}}] * 2}), "two inputs are called a"),
        (changed(input={"cron": {"name": "tick"}}), "input.cron.spec is missing"),
        (changed(pod_patch="{"), "pod_patch is not JSON"),
        ({}, "pipeline.name is missing; transform.cmd is missing; transform.image is missing; input is missing"),
    ],
)
def test_bad_specifications(exact: Exact, spec: dict[str, Any], said: str) -> None:
    assert said in exact(pachyderm_pipeline, spec=spec)["msg"]


def test_specifications_in_files(exact: Exact, pachd: Pachd, tmp_path: Any) -> None:
    import json

    pachd.create_repo("f-in")
    one, two = ({**SPEC, "pipeline": {"name": name}, "input": {"pfs": {"repo": "f-in", "glob": "/"}}} for name in "ab")
    path = tmp_path / "pipelines.json"
    path.write_text(f"{json.dumps(one)}\n{json.dumps(two)}\n")
    assert "it holds 2: a, b" in exact(pachyderm_pipeline, src=str(path))["msg"]
    assert exact(pachyderm_pipeline, src=str(path), name="b")["pipeline"]["name"] == "b"
    exact(pachyderm_pipeline, name="b", state="absent")
    path.write_text("pipeline: {name: [\n")
    assert "neither JSON nor YAML" in exact(pachyderm_pipeline, src=str(path))["msg"]
    assert "cannot be read" in exact(pachyderm_pipeline, src="/nowhere/at/all.yml")["msg"]


def states(result: Any) -> dict[str, str]:
    return {each["path"]: each["state"] for each in result["files"]}


def test_files_in_and_out(exact: Exact, pachd: Pachd, tmp_path: Any) -> None:
    tree, back = tmp_path / "tree", tmp_path / "back"
    (tree / "deep").mkdir(parents=True)
    (tree / "a.csv").write_bytes(b"1,2\n" * 1000)
    (tree / "deep" / "b.csv").write_bytes(b"")
    made = exact(pachyderm_file, repo="x-in", src=str(tree), path="/2026")
    assert states(made) == {"/2026/a.csv": "created", "/2026/deep/b.csv": "created"}
    (tree / "a.csv").write_bytes(b"3,4\n" * 1000)
    again = exact(pachyderm_file, repo="x-in", src=str(tree), path="/2026")
    assert states(again) == {"/2026/a.csv": "changed", "/2026/deep/b.csv": "same"}
    assert again["diff"]["before"].keys() == {"/2026/a.csv"}
    (tree / "deep" / "b.csv").unlink()
    purged = exact(pachyderm_file, repo="x-in", src=str(tree), path="/2026", purge=True)
    assert states(purged) == {"/2026/a.csv": "same", "/2026/deep/b.csv": "removed"}
    got = exact(pachyderm_file, repo="x-in", state="fetched", path="/", commit="master^", dest=str(back))
    assert states(got) == {"/2026/a.csv": "created", "/2026/deep/b.csv": "created"}
    assert (back / "2026" / "a.csv").read_bytes() == b"3,4\n" * 1000
    (back / "2026" / "a.csv").write_bytes(b"3,5\n" * 1000)
    (back / "2026" / "a.csv").chmod(0o640)
    assert states(exact(pachyderm_file, repo="x-in", state="fetched", commit="master^", dest=str(back))) == {
        "/2026/a.csv": "changed",
        "/2026/deep/b.csv": "same",
    }
    assert (back / "2026" / "a.csv").stat().st_mode & 0o777 == 0o640
    removed = exact(pachyderm_file, repo="x-in", state="absent", path="/2026")
    assert states(removed) == {"/2026/a.csv": "removed"}
    commits = pachd.pfs.ListCommit(pachd.pfs_pb2.ListCommitRequest(repo=pachd.pfs_pb2.Repo(name="x-in")))
    assert len(commits.commit_info) == 4, "one commit for each change, none for what was the same"


def test_single_files(exact: Exact, run_module: Run, pachd: Pachd, tmp_path: Any) -> None:
    source, back = tmp_path / "t.csv", tmp_path / "back.csv"
    source.write_bytes(b"abc")
    made = exact(pachyderm_file, repo="y-in", branch="staging", src=str(source))
    assert made["file"] == "y-in@staging:/t.csv"
    written = exact(pachyderm_file, repo="y-in", branch="staging", path="p/q", content="text")
    assert states(written) == {"/p/q": "created"}
    options = {"address": f"grpc://{pachd.address}", "repo": "y-in", "branch": "staging"}
    for _unused in range(2):
        assert run_module(pachyderm_file.main, **options, path="/t.csv", content="def", append=True).changed
    exact(pachyderm_file, repo="y-in", branch="staging", state="fetched", path="/t.csv", dest=str(back))
    assert back.read_bytes() == b"abcdefdef"
    assert not run_module(pachyderm_file.main, **options, path="/t.csv", content="abcdefdef").changed, "read to compare"
    for extra, said in {
        "/nope": "the file does not exist (y-in@staging:/nope)",
        "/t*": "the file does not exist",
    }.items():
        result = exact(pachyderm_file, repo="y-in", branch="staging", state="fetched", path=extra, dest=str(back))
        assert said in result["msg"]
    bad = run_module(pachyderm_file.main, **options, path="/a*b", content="x")
    assert "globbing character (*) not allowed" in bad["msg"]
    head = written["commit"]
    pfs = pachd.pfs_pb2
    pachd.pfs.StartCommit(pfs.StartCommitRequest(parent=pfs.Commit(repo=pfs.Repo(name="y-in")), branch="staging"))
    opened = exact(pachyderm_file, repo="y-in", branch="staging", content="x", path="/z")
    assert "the branch has an open commit" in opened["msg"]
    assert head
    assert (
        "the directory does not exist"
        in exact(pachyderm_file, repo="y-in", state="fetched", commit=head, path="/t.csv", dest="/no/where/at/all")[
            "msg"
        ]
    )


def test_history_of_commits(exact: Exact, run_module: Run, pachd: Pachd) -> None:
    pachd.create_repo("h-in")
    ids = [write(pachd, "h-in", "master", **{name: b"abc"}) for name in ("one", "two", "three")]

    def found(**options: Any) -> list[str]:
        return [each["id"] for each in exact(pachyderm_commit_info, repo="h-in", **options)["commits"]]

    assert found() == found(commit="master") == ids[::-1]
    assert found(commit="master^") == ids[1::-1]
    assert found(commit="master", oldest="master^2") == ids[:0:-1]
    assert found(limit=1) == found(commit=ids[2], limit=1) == [ids[2]]
    assert found(state="open") == []
    look = exact(pachyderm_commit_info, repo="h-in", commit="master^2", limit=1, files=True)
    assert [(each["path"], each["type"], each["size"]) for each in look["files"]] == [
        ("/", "dir", 3),
        ("/one", "file", 3),
    ]
    commit = look["commits"][0]
    assert (commit["parent"], commit["children"], commit["size"]) == (None, [ids[1]], 3)
    assert "h-in@nope" in exact(pachyderm_commit_info, repo="h-in", commit="nope")["msg"]
    assert "no commit is named" in exact(pachyderm_commit_info, repo="h-in", files=True)["msg"]
    assert exact(pachyderm_commit_info, repo="h-in", commit="master", wait=5)["computed"] == []


def test_jobs_by_what_they_did(exact: Exact, pachd: Pachd) -> None:
    pfs, pps = pachd.pfs_pb2, pachd.pps_pb2
    pachd.create_repo("j-in")
    first = write(pachd, "j-in", "master", one=b"x")
    exact(
        pachyderm_pipeline,
        spec={**SPEC, "pipeline": {"name": "j-sums"}, "input": {"pfs": {"repo": "j-in", "glob": "/"}}},
    )

    def work(state: int) -> str:
        """Be the worker that makes a job for the newest output commit, and ends it."""
        branch = pfs.Branch(repo=pfs.Repo(name="j-sums"), name="master")
        commit = pachd.pfs.InspectBranch(pfs.InspectBranchRequest(branch=branch)).head
        job = pachd.pps.CreateJob(pps.CreateJobRequest(pipeline=pps.Pipeline(name="j-sums"), output_commit=commit))
        pachd.pps.UpdateJobState(pps.UpdateJobStateRequest(job=job, state=state, data_total=3))
        pachd.pfs.FinishCommit(pfs.FinishCommitRequest(commit=commit, empty=True))
        return str(job.id)

    failed = work(pps.JOB_FAILURE)
    second = write(pachd, "j-in", "master", two=b"x")
    late = exact(pachyderm_commit_info, repo="j-in", commit="master", wait=1)
    assert "not everything was computed after 1 s" in late["msg"]
    done = work(pps.JOB_SUCCESS)

    def found(**options: Any) -> list[str]:
        return [each["id"] for each in exact(pachyderm_job_info, **options)["jobs"]]

    assert found(pipeline="j-sums") == [done, failed]
    assert found(pipeline="j-sums", states=["failure"]) == [failed]
    assert found(pipeline="j-sums", limit=1) == [done]
    assert found(input_commits=["j-in@master"]) == found(input_commits=[f"j-in@{second}"]) == [done]
    assert (
        found(input_commits=["j-in@master^"]) == found(pipeline="j-sums", input_commits=[f"j-in@{first}"]) == [failed]
    )
    assert found(output_commit="j-sums@master") == [done]
    assert found(pipeline="j-sums", output_commit="j-sums@master^") == [failed]
    assert found(pipeline="j-sums", since="1h") == [done, failed]
    assert found(pipeline="j-sums", until="1h") == found(pipeline="j-sums", since="2100-01-01") == []
    one = exact(pachyderm_job_info, job=failed)
    assert one["states"] == {"failure": 1}
    assert one["jobs"][0]["input_commits"] == [f"j-in@{first}"]
    assert one["jobs"][0]["spec"]["cmd"] == ["sh"]
    assert one["jobs"][0]["data"]["total"] == 3
    for options, said in {
        ("job", "nope"): "the job does not exist",
        ("pipeline", "nope"): "the pipeline does not exist",
        ("since", "soon"): "neither a time nor a duration",
        ("output_commit", "nope"): "Write repo@commit",
    }.items():
        assert said in exact(pachyderm_job_info, **{options[0]: options[1]})["msg"]
    assert exact(pachyderm_commit_info, repo="j-in", commit="master", wait=5)["computed"][0]["repo"] == "j-sums"
    exact(pachyderm_pipeline, name="j-sums", state="absent")


def test_addresses(run_module: Run, pachd: Pachd, tmp_path: Any) -> None:
    from servers.ports import free_ports

    (dead,) = free_ports(1)
    for address, said in {
        f"grpc://127.0.0.1:{dead}": f"cannot reach pachd (grpc://127.0.0.1:{dead}): Connection refused",
        f"grpcs://{pachd.address}": "write grpc:// instead of grpcs://",
        "http://somewhere": "not an address of pachd (http://somewhere)",
    }.items():
        result = run_module(pachyderm_info.main, address=address, timeout=5)
        assert result.failed
        assert said in result["msg"]
    result = run_module(pachyderm_info.main, address=f"grpc://{pachd.address}", ca_file=str(tmp_path))
    assert "ca_file is of no use without TLS" in result["msg"]
