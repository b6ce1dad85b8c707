# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in pachd with a real etcd on loopback: the conformance suite, a genuine installation's state, its start-up."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import KeyMigration
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.objects import ObjectMigration
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.objects import Place
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from doubles import genuine
from doubles.etcd import booted, program
from doubles.processes import Installation


@pytest.fixture
def installation(root: Path, tmp_path: Path) -> Iterator[Installation]:
    """An installation that is not started yet."""
    made = Installation(root, tmp_path)
    yield made
    made.stop()


def test_conformance(installation: Installation, root: Path) -> None:
    """The whole suite but for pipelines, twice on one installation."""
    installation.start()
    assert installation.ready()
    address = f"127.0.0.1:{installation.port}"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not pipeline"]
    for _unused in range(2):
        run = subprocess.run(
            [*command, "--pachd-address", address, "tests/conformance"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-9000:] + run.stderr[-2000:] + installation.log.read_text()[-2000:]
    assert "test double" in installation.log.read_text()


def describe(client: Any, repo: str) -> dict[str, Any]:
    """Return what the API says of ``repo``, in the form of truth.json."""
    import python_pachyderm

    commits = []
    for info in client.list_commit(repo):
        commit: dict[str, Any] = {
            "id": info.commit.id,
            "parent": info.parent_commit.id,
            "finished": info.HasField("finished"),
            "size_bytes": info.size_bytes,
            "files": {},
            "provenance": sorted(f"{each.commit.repo.name}@{each.commit.id}" for each in info.provenance),
        }
        if commit["finished"]:
            files = commit["files"]
            for file in client.walk_file((repo, info.commit.id), "/"):
                if file.file_type == python_pachyderm.FileType.FILE.value:
                    content = client.get_file((repo, info.commit.id), file.file.path).read()
                    assert len(content) == file.size_bytes
                    files[file.file.path] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        commits.append(commit)
    branches = {each.branch.name: each.head.id for each in client.list_branch(repo)}
    return {"branches": branches, "commits": commits, "size_bytes": client.inspect_repo(repo).size_bytes}


def restored(installation: Installation) -> None:
    """Give it the genuine installation's state as it was written."""
    snapshot = genuine.snapshot(installation.directory)
    command = [
        str(program().with_name("etcdutl")),
        "snapshot",
        "restore",
        str(snapshot),
        "--data-dir",
        str(installation.etcd_data),
    ]
    subprocess.run(command, check=True, capture_output=True)
    genuine.objects(installation.content)
    installation.start_etcd()


def migrated(installation: Installation) -> None:
    """Give it what a migration makes of that: keys copied one by one, objects by way of a bucket's spelling."""
    directory = installation.directory
    installation.start_etcd()
    with (
        booted(genuine.snapshot(directory), directory / "source") as source,
        EtcdClient(f"127.0.0.1:{installation.etcd_port}") as target,
    ):
        keys = KeyMigration(source, target)
        keys.begin()
        keys.copy()
        keys.verify()
        keys.close()
    genuine.objects(directory / "objects")
    places = [
        Place(DirectoryStore(directory / "objects"), Spelling.DIRECTORY),
        Place(DirectoryStore(directory / "bucket"), Spelling.REVERSED),
        Place(DirectoryStore(installation.content), Spelling.DIRECTORY),
    ]
    for origin, place in itertools.pairwise(places):
        objects = ObjectMigration(origin, place)
        objects.copy()
        objects.close()


@pytest.mark.parametrize("given", [restored, migrated])
def test_state_of_a_genuine_installation(given: Callable[[Installation], None], installation: Installation) -> None:
    """What a genuine 1.13.4 wrote to etcd and to its objects comes out of the stand-in's API."""
    import python_pachyderm

    truth = genuine.truth()
    given(installation)
    installation.serve()
    client = python_pachyderm.Client(host="127.0.0.1", port=installation.port)

    cluster, version = client.inspect_cluster(), client.get_remote_version()
    # The deployment id is the environment's, and the same here.
    assert {"id": cluster.id, "deployment_id": cluster.deployment_id} == truth["cluster"]
    assert {name: getattr(version, name) for name in truth["version"]} == truth["version"]
    assert {info.repo.name for info in client.list_repo()} == set(truth["repos"]) - {"__spec__"}
    versions = 0
    for repo, recorded in truth["repos"].items():
        for commit in recorded["commits"]:
            commit["provenance"].sort()
        assert describe(client, repo) == recorded
        versions += sum(len(commit.get("files", {})) for commit in recorded["commits"])
    assert versions == 103
    jobs = [
        {
            "id": info.job.id,
            "pipeline": info.pipeline.name,
            "state": info.state,
            "output_commit": info.output_commit.id,
            "data_processed": info.data_processed,
        }
        for info in client.list_job()
    ]
    assert jobs == truth["jobs"]
    pipelines = [
        {
            "name": info.pipeline.name,
            "spec_commit": info.spec_commit.id,
            "state": info.state,
            "stopped": info.stopped,
            "version": info.version,
        }
        for info in client.list_pipeline().pipeline_info
    ]
    assert sorted(pipelines, key=str) == sorted(truth["pipelines"], key=str)
    assert list(client.fsck()) == []


@pytest.mark.parametrize(
    ("environment", "secret", "said"),
    [
        ({"ETCD_SERVICE_HOST": ""}, {}, "env key not set when required: ETCD_SERVICE_HOST"),
        (
            {"STORAGE_BACKEND": ""},
            {},
            "External Pachd GRPC Server: error setting up PFS API GRPC Server: storage backend environment variable not found",
        ),
        (
            {"STORAGE_BACKEND": "FLOPPY"},
            {},
            "External Pachd GRPC Server: error setting up PFS API GRPC Server: unrecognized storage backend: FLOPPY",
        ),
        ({"STORAGE_BACKEND": "AMAZON"}, {}, "Block API GRPC Server: amazon-region not found"),
        (
            {"STORAGE_BACKEND": "AMAZON"},
            {"amazon-region": "eu-west-1"},
            "open /pachyderm-storage-secret/amazon-bucket: no such file or directory",
        ),
        ({"STORAGE_BACKEND": "GOOGLE"}, {}, "Block API GRPC Server: google-bucket not found"),
        (
            {"STORAGE_BACKEND": "MINIO"},
            {"minio-bucket": "b"},
            "open /pachyderm-storage-secret/minio-endpoint: no such file or directory",
        ),
        (
            {"STORAGE_BACKEND": "AMAZON"},
            {"amazon-region": "", "amazon-bucket": "b"},
            "Block API GRPC Server: unable to write to object storage: MissingRegion: could not find region configuration",
        ),
        (
            {"STORAGE_BACKEND": "GOOGLE"},
            {"google-bucket": "b", "google-cred": "{}"},
            "Block API GRPC Server: dialing:",
        ),
        ({"PORT": "many"}, {}, 'strconv.ParseInt: parsing "many": invalid syntax'),
    ],
)
def test_refuses_to_start(
    installation: Installation, environment: dict[str, str], secret: dict[str, str], said: str
) -> None:
    installation._extra |= environment
    (installation.directory / "secret").mkdir()
    for key, value in secret.items():
        (installation.directory / "secret" / key).write_text(value)
    installation.start_etcd()
    assert said in installation.start_refused()
    assert not installation.ready()


def test_leaves_when_etcd_is_away(installation: Installation) -> None:
    said = installation.start_refused(status=2)  # Go's status of a panic
    assert "panic: failed to initialize etcd client: context deadline exceeded" in said


def test_refuses_content_that_it_cannot_write(installation: Installation) -> None:
    (installation.directory / "file").write_text("no directory")
    installation._extra["PACH_ROOT"] = str(installation.directory / "file")
    installation.start_etcd()
    assert "file" in installation.start_refused()
