# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a genuine Pachyderm 1.13.4, unpacked for a test, with its objects under any spelling of their keys."""

from __future__ import annotations

import hashlib
import json
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import records
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import StoredObject
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import TREES, Spelling, key_of

FIXTURE = Path(__file__).parents[2] / "fixtures" / "pachyderm-1.13.4"
#: What was read through its API: file versions of finished commits.
FILE_VERSIONS = 103


def truth() -> dict[str, Any]:
    """Return what the installation's API said of itself."""
    return dict(json.loads((FIXTURE / "truth.json").read_text()))


def snapshot(directory: Path) -> Path:
    """Unpack the snapshot of its etcd."""
    path = directory / "etcd.snapshot"
    path.write_bytes(lzma.decompress((FIXTURE / "etcd.snapshot.xz").read_bytes()))
    return path


def objects(directory: Path, spelling: Spelling = Spelling.DIRECTORY) -> Objects:
    """Unpack its objects, each under the key that the spelling gives it."""
    store = DirectoryStore(directory)
    with tarfile.open(FIXTURE / "objects-local.tar.xz") as archive:
        for member in archive:
            if member.isfile() and member.name.removeprefix("./").startswith(TREES):
                content = archive.extractfile(member)
                assert content
                # A directory is no bucket: of keys that begin with a slash it keeps the rest.
                store.write(key_of(member.name.removeprefix("./"), spelling).lstrip("/"), [content.read()])
    return Objects(Slashless(store) if spelling is Spelling.SLASH else store, spelling)


def state(directory: Path) -> State:
    """Open the whole state."""
    return State.open(snapshot(directory), objects(directory / "pach"))


def said(state: State) -> dict[str, Any]:
    """Return what the state says, in the form of truth.json."""
    repos = {}
    for repo in state.repos():
        commits = []
        for commit in state.commits(repo.name):
            files = {}
            if not commit.open:
                for file in state.files(commit):
                    if file.type == "file":
                        content = b"".join(state.content(file))
                        assert len(content) == file.size
                        files[file.path] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            commits.append(
                {
                    "id": commit.id,
                    "parent": commit.parent or "",
                    "finished": not commit.open,
                    "size_bytes": commit.size,
                    "provenance": sorted(str(each.commit) for each in commit.provenance),
                    "files": files,
                }
            )
        branches = {each.name: each.head for each in state.branches(repo.name)}
        repos[repo.name] = {"size_bytes": repo.size, "branches": branches, "commits": commits}
    pipelines = []
    for pipeline in state.pipelines():
        spec = state.spec(pipeline)
        pipelines.append(
            {
                "name": spec.name,
                "spec_commit": pipeline.spec_commit.name,
                "state": records.PIPELINE_STATES.index(pipeline.state),
                "stopped": spec.stopped,
                "version": spec.version,
            }
        )
    current = {str(each.spec_commit) for each in state.pipelines()}
    jobs = [
        {
            "id": job.id,
            "pipeline": job.pipeline,
            "state": records.JOB_STATES.index(job.state),
            "output_commit": job.output_commit.name,
            "data_processed": job.data_processed,
        }
        for job in state.jobs()
        # Like pachd's list, without the jobs of earlier versions of a pipeline; stopping one makes a new version.
        if current & {str(each.commit) for each in state.commit(*vars(job.output_commit).values()).provenance}
    ]
    return {"cluster": state.cluster_id, "repos": repos, "pipelines": pipelines, "jobs": jobs}


def told(truth: dict[str, Any]) -> dict[str, Any]:
    """Return the recorded truth in the same order of what has none."""
    repos = {
        name: {
            "size_bytes": repo["size_bytes"],
            "branches": repo["branches"],
            "commits": [
                {**each, "provenance": sorted(each["provenance"]), "files": each.get("files", {})}
                for each in repo["commits"]
            ],
        }
        for name, repo in truth["repos"].items()
    }
    return {"cluster": truth["cluster"]["id"], "repos": repos, "pipelines": truth["pipelines"], "jobs": truth["jobs"]}


def check_truth(state: State) -> None:
    """Compare all that the state says with what the installation's API said."""
    found, wanted = said(state), told(truth())
    found["repos"].pop("__spec__")
    assert found["repos"] == wanted["repos"]
    assert found["jobs"] == wanted["jobs"]
    assert sorted(found["pipelines"], key=str) == sorted(wanted["pipelines"], key=str)
    assert found["cluster"] == wanted["cluster"]


class Slashless(DirectoryStore):
    """A directory that takes keys with a slash in front, as a bucket does."""

    def __init__(self, store: DirectoryStore) -> None:
        """:param store: a directory that keeps them without it, which listings therefore put back."""
        super().__init__(store._root)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for each in super().list(prefix.lstrip("/")):
            yield StoredObject(f"/{each.key}" if each.key.startswith("pach/") else each.key, each.size, each.token)

    def _path(self, key: str) -> Path:
        return super()._path(key.lstrip("/"))
