# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down all that an installation says of itself: ``said.py KUBECONFIG NAMESPACE FILE [login]``.

Repos, branches, commits with provenance and every file's SHA-256, pipelines, jobs and cluster id through its API;
users' logins from its etcd, with the time that they have left in hours.  With ``login``, two logins are made first.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import python_pachyderm

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".cache" / "collections"))

from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect

TOKENS = b"pachyderm/1.7.0/pachyderm_auth/tokens/"


def commits(client: python_pachyderm.Client, repo: str) -> list[dict[str, Any]]:
    """Return the commits of a repo, the newest first, with their files."""
    found = []
    for info in client.list_commit(repo):
        name = (repo, info.commit.id)
        files = {}
        if info.finished.seconds:
            for file in client.walk_file(name, "/"):
                if file.file_type == 1:
                    content = client.get_file(name, file.file.path).read()
                    files[file.file.path] = hashlib.sha256(content).hexdigest()
        provenance = sorted(f"{each.commit.repo.name}@{each.commit.id}" for each in info.provenance)
        found.append(
            {"id": info.commit.id, "parent": info.parent_commit.id, "open": not info.finished.seconds,
             "size": info.size_bytes, "provenance": provenance, "files": files}
        )  # fmt: skip
    return found


def said(client: python_pachyderm.Client) -> dict[str, Any]:
    """Return what the API says."""
    repos = [each.repo.name for each in client.list_repo()]
    return {
        "cluster": client.inspect_cluster().id,
        "repos": {
            repo: {
                "branches": {each.branch.name: each.head.id for each in client.list_branch(repo)},
                "provenance": {
                    each.branch.name: sorted(f"{up.repo.name}@{up.name}" for up in each.direct_provenance)
                    for each in client.list_branch(repo)
                },
                "commits": commits(client, repo),
            }
            for repo in sorted(repos)
        },
        "pipelines": {
            each.pipeline.name: [each.version, each.spec_commit.id, each.state]
            for each in client.list_pipeline().pipeline_info
        },
        "jobs": [[each.job.id, each.pipeline.name, each.state, each.output_commit.id] for each in client.list_job()],
    }


def logins(etcd: EtcdClient) -> dict[str, Any]:
    """Return users' logins: the value, and the hours left, 0 for those without an end."""
    return {
        each.key.decode(): [each.value.decode(), round(etcd.lease_remaining(each.lease) / 3600) if each.lease else 0]
        for each in etcd.range(TOKENS)
    }


def main() -> None:
    """Do what the command line says."""
    kubeconfig, namespace, file, *login = sys.argv[1:]
    kube = connect(kubeconfig)
    seen = observe(kube, namespace)
    with kube.portforward(namespace, seen.ready_pod("pachd"), 650) as (host, port):
        found = said(python_pachyderm.Client(host=host, port=port))
    with (
        kube.portforward(namespace, seen.ready_pod("etcd"), 2379) as (host, port),
        EtcdClient(f"{host}:{port}") as etcd,
    ):
        if login:
            etcd.put(TOKENS + b"robot", b"for ever")
            etcd.put(TOKENS + b"user", b"for thirty days", etcd.lease_grant(30 * 86400))
        found["logins"] = logins(etcd)
    Path(file).write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")


if __name__ == "__main__":
    main()
