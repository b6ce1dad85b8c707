# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a genuine installation as a backup, and the truth about it asked of whatever it was restored into.

``set STORE``, or ``ask KUBECONFIG NAMESPACE``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import python_pachyderm

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / each) for each in (".cache/collections", "tests", "tests/unit", "tests/integration")]

from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import manifest as manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.keyspace import Snapshot
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from doubles import backups, genuine
from test_standin_conformance import describe


def write(store: str) -> None:
    """Write the state as a set, verified by nobody."""
    content = backups.real_snapshot()
    with tempfile.TemporaryDirectory() as place, Snapshot(genuine.snapshot(Path(place))) as keys:
        state = manifests.EtcdState(keys.revision, "3.5.21", len(keys), len(content))
    objects = {
        name: data for name, data in backups.real_objects().items() if name.startswith(("block/", "object/", "tag/"))
    }
    backups.write_set(DirectoryStore(store, private=True), backups.NOW, state, content, objects)


def ask(client: python_pachyderm.Client) -> None:
    """Compare; what is still open or running may have gone on meanwhile."""
    truth = genuine.truth()
    assert client.inspect_cluster().id == truth["cluster"]["id"]
    versions = 0
    for repo, recorded in truth["repos"].items():
        found = describe(client, repo)
        commits = {each["id"]: each for each in found["commits"]}
        for commit in recorded["commits"]:
            wanted: dict[str, Any] = {**commit, "provenance": sorted(commit["provenance"])}
            if wanted["finished"]:
                assert commits[wanted["id"]] == wanted, wanted["id"]
                versions += len(wanted["files"])
            else:
                assert wanted["id"] in commits
        assert set(found["branches"]) == set(recorded["branches"])
    assert versions == genuine.FILE_VERSIONS
    assert {each["id"] for each in truth["jobs"]} <= {info.job.id for info in client.list_job()}
    pipelines = {info.pipeline.name: info.version for info in client.list_pipeline().pipeline_info}
    assert pipelines == {each["name"]: each["version"] for each in truth["pipelines"]}
    assert list(client.fsck()) == []
    sys.stdout.write(json.dumps({"file versions": versions, "jobs": len(truth["jobs"])}) + "\n")


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1] == "set":
        write(sys.argv[2])
        return
    kube = connect(sys.argv[2], None)
    pod = observe(kube, sys.argv[3]).ready_pod("pachd")
    with kube.portforward(sys.argv[3], pod, 650) as (host, port):
        ask(python_pachyderm.Client(host=host, port=port))


if __name__ == "__main__":
    main()
