# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users get wrong: one clear message each, and nothing half-applied."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from e2e.harness import PREFIX, Cluster, Run, namespace_of

NAMESPACE = f"{PREFIX}bad"


@pytest.fixture
def nothing_applied(cluster: Cluster) -> Iterator[None]:
    """The namespace does not exist before, and not after."""
    assert not cluster.exists(NAMESPACE)
    yield
    assert not cluster.exists(NAMESPACE), "something was applied"


def refused(run: Run, *words: str) -> None:
    assert run.status != 0, run.output
    for word in words:
        assert word in run.words, run.output
    assert "Traceback" not in run.output
    assert run.output.count("fatal:") == 1, "one failure, one message"


@pytest.mark.usefixtures("nothing_applied")
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"backend": "floppy"}, ["backend=floppy", "local", "gcp", "aws"]),
        ({"backend": "aws", "storage_secret_aws_bucket": "b"}, ["region"]),
        ({"pachyderm_version": "1.9.12"}, ["1.9.12", "1.13.4"]),
        ({"pachyderm_version": "2.3.1"}, ["2.3.1", "its own chart"]),
        ({"pachyderm_pachd_replicas": 2}, ["pachd_replicas", "must be 1"]),
        ({"backend": "gcp", "storage_secret_gcp_bukket": "b"}, ["storage_secret_gcp_bukket"]),
    ],
    ids=["backend", "s3-region", "old-version", "version-2", "replicas", "misspelt-variable"],
)
def test_wrong_variables(cluster: Cluster, variables: dict[str, Any], words: list[str]) -> None:
    # The defaults of a cloud ask for more than a small node has, which would be told first.
    modest = {"requests": {"cpu": "50m", "memory": "64Mi"}}
    resources = {"etcd": modest, "pachd": modest}
    run = cluster.play("deploy.yml", pachyderm_namespace=NAMESPACE, pachyderm_resources=resources, **variables)
    refused(run, *words)


@pytest.mark.usefixtures("nothing_applied")
def test_an_image_that_cannot_be_had(cluster: Cluster) -> None:
    images = {"pachd": "registry.invalid/pachyderm/pachd:1.13.4"}
    run = cluster.play("deploy.yml", pachyderm_namespace=NAMESPACE, pachyderm_images=images)
    refused(
        run,
        "cannot be had",
        "registry.invalid/pachyderm/pachd:1.13.4: registry.invalid cannot be reached",
        "pachyderm_image_registry",
        "pachyderm_image_pull_secret",
        "pachyderm_image_archives",
    )


def kubeconfig_with(path: Path, server: str, ca: str, token: str) -> str:
    """Write a kubeconfig that logs in with a token."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def cluster_of(kubeconfig: str) -> tuple[str, str]:
    """Return server and CA (base64) of a kubeconfig's only cluster."""
    entry = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))["clusters"][0]["cluster"]
    ca = entry.get("certificate-authority-data")
    if not ca:
        ca = base64.b64encode(Path(entry["certificate-authority"]).read_bytes()).decode()
    return entry["server"], ca


@pytest.mark.usefixtures("nothing_applied")
def test_a_kubeconfig_that_points_nowhere(cluster: Cluster, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    run = cluster.play("deploy.yml", pachyderm_namespace=NAMESPACE, kubeconfig=missing, pachyderm_image_archives=[])
    refused(run, "the kubeconfig does not exist", missing)
    _server, ca = cluster_of(cluster.kubeconfig)
    closed = kubeconfig_with(tmp_path / "closed", "https://127.0.0.1:1", ca, "t")
    run = cluster.play("deploy.yml", pachyderm_namespace=NAMESPACE, kubeconfig=closed, pachyderm_image_archives=[])
    refused(run, "cannot reach the Kubernetes API", "127.0.0.1:1")


def test_a_namespace_without_rights(cluster: Cluster, tmp_path: Path) -> None:
    kube = cluster.kube
    with namespace_of(cluster, "rights") as namespace:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        account = {"name": "visitor", "namespace": namespace}
        kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        rules = [{"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]}]
        api = "rbac.authorization.k8s.io"
        kube.apply({"apiVersion": f"{api}/v1", "kind": "Role", "metadata": account, "rules": rules})
        kube.apply(
            {
                "apiVersion": f"{api}/v1",
                "kind": "RoleBinding",
                "metadata": account,
                "roleRef": {"apiGroup": api, "kind": "Role", "name": "visitor"},
                "subjects": [{"kind": "ServiceAccount", **account}],
            }
        )
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        path = f"{Ref('v1', 'ServiceAccount', namespace, 'visitor').path()}/token"
        answer = kube.request("POST", path, body=json.dumps(request)).json()
        server, ca = cluster_of(cluster.kubeconfig)
        visitor = kubeconfig_with(tmp_path / "visitor", server, ca, answer["status"]["token"])
        before = cluster.names(namespace)
        # Who may not read nodes cannot see which images they have.
        run = cluster.play(
            "deploy.yml",
            pachyderm_namespace=namespace,
            kubeconfig=visitor,
            pachyderm_image_check="off",
            pachyderm_image_archives=[],
        )
        refused(run, "not allowed:", "statefulsets.apps: create", "secrets: create", "administrator")
        assert cluster.names(namespace) == before


def test_a_misspelt_key_in_somebody_elses_secret(cluster: Cluster) -> None:
    kube = cluster.kube
    with namespace_of(cluster, "secret") as namespace:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        metadata = {"name": "pachyderm-storage-secret", "namespace": namespace}
        data = {"amazon-regoin": "eu-central-1", "amazon-bucket": "some-bucket"}
        kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
        before = cluster.names(namespace)
        run = cluster.play("deploy.yml", pachyderm_namespace=namespace, backend="aws", storage_secret_mode="existing")
        refused(run, "amazon-regoin", "amazon-region")
        assert cluster.names(namespace) == before


def test_a_namespace_with_somebody_elses_pachyderm(cluster: Cluster) -> None:
    kube = cluster.kube
    with namespace_of(cluster, "foreign") as namespace:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        labels = {"app": "pachd", "suite": "pachyderm"}
        kube.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "pachd", "namespace": namespace, "labels": labels},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "pachd", "image": "docker.io/pachyderm/pachd:1.13.4"}]},
                    },
                },
            }
        )
        before = cluster.names(namespace)
        refused(cluster.play("deploy.yml", pachyderm_namespace=namespace), "Deployment", "pachd", "pachyderm_adopt")
        assert cluster.names(namespace) == before
        run = cluster.play("playbooks/remove.yml", pachyderm_namespace=namespace)
        refused(run, "not deployed by this collection")
        assert cluster.names(namespace) == before
