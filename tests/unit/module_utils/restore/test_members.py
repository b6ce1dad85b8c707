# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members as their workload describes them, ours and those of ``pachctl deploy``, and the pods that handle their volumes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import Installation
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import members
from doubles.kube import installation, pod

HEADLESS = "etcd-headless.pachyderm.svc:2380"


def seen(*objects: dict[str, Any]) -> Installation:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for obj in objects:
        kinds.setdefault(obj["kind"], []).append(obj)
    return Installation("pachyderm", None, kinds)


def ours(**options: Any) -> Installation:
    return seen(*installation(**options))


def test_one_member_on_a_directory_of_its_node() -> None:
    found = ours()
    found.pods("etcd")[0]["spec"]["nodeName"] = "node-7"
    (member,) = members.members_of(found)
    assert (member.pod, member.root, member.node) == ("etcd-0", "/volume", "node-7")
    assert member.volume["hostPath"]["path"] in member.place
    assert member.restore_arguments("x1") == [
        "snapshot",
        "restore",
        "/volume/pachops-restore-x1/etcd.snapshot",
        "--skip-hash-check",
        "--data-dir=/volume/pachops-restore-x1/new",
        "--name=etcd-0",
        "--initial-cluster=etcd-0=http://127.0.0.1:2380",
        "--initial-cluster-token=pach-cluster",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    ]


def test_three_members_know_each_other_also_while_they_are_scaled_to_zero() -> None:
    found = ours(backend="aws", etcd_members=3)
    assert found.etcd
    found.etcd["spec"]["replicas"] = 0
    all_of_them = members.members_of(found)
    assert [each.place for each in all_of_them] == [f"claim etcd-storage-etcd-{number}" for number in range(3)]
    assert all_of_them[2].flags["name"] == "etcd-2"
    assert all_of_them[2].flags["initial-advertise-peer-urls"] == f"http://etcd-2.{HEADLESS}"
    assert all_of_them[2].flags["initial-cluster"].count(HEADLESS) == 3
    assert {each.node for each in all_of_them} == {""}


def test_three_members_on_one_directory_have_one_each_below_it() -> None:
    assert [each.root for each in members.members_of(ours(etcd_members=3))] == [f"/volume/etcd-{n}" for n in range(3)]


def deployment(**volume: Any) -> Installation:
    """Return etcd as ``pachctl deploy local`` makes it: a Deployment, its own defaults, no name."""
    command = ["/usr/local/bin/etcd", "--listen-client-urls=http://0.0.0.0:2379", "--data-dir=/var/data/etcd"]
    container = {
        "name": "etcd",
        "image": "pachyderm/etcd:v3.3.5",
        "command": command,
        "volumeMounts": [{"name": "etcd-storage", "mountPath": "/var/data/etcd"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "etcd-storage", **volume}]}
    labels = {"suite": "pachyderm", "app": "etcd"}
    workload = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }
    metadata = {"name": "etcd", "namespace": "pachyderm", "labels": labels}
    found = pod("pachyderm", "etcd-5d9f-abcde", "etcd")
    found["spec"]["nodeName"] = "node-1"
    return seen({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": workload}, found)


def test_the_deployment_of_pachctl() -> None:
    found = deployment(hostPath={"path": "/var/pachyderm/etcd"})
    (member,) = members.members_of(found)
    assert (member.pod, member.node, member.root) == ("etcd", "node-1", "/volume")
    assert not [each for each in member.restore_arguments("x1") if each.startswith(("--name", "--initial"))]
    assert found.etcd
    assert members.tools(found.container(found.etcd, "etcd")) == ["/usr/local/bin/etcdctl", "/usr/local/bin/etcdutl"]


def test_the_stateful_set_of_pachctl_expands_in_a_shell() -> None:
    container = {
        "command": ["/bin/sh", "-c"],
        "args": [
            " ".join(
                [
                    '"/usr/local/bin/etcd" "--data-dir=/var/data/etcd" "--initial-cluster-token=pach-cluster"',
                    '"--initial-advertise-peer-urls=http://${ETCD_NAME}.etcd-headless.${NAMESPACE}.svc.cluster.local:2380"',
                ]
            )
        ],
        "env": [
            {"name": "ETCD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
    }
    assert members.flags_of(container, {"metadata.name": "etcd-1", "metadata.namespace": "old"}) == {
        "data-dir": "/var/data/etcd",
        "initial-cluster-token": "pach-cluster",
        "initial-advertise-peer-urls": "http://etcd-1.etcd-headless.old.svc.cluster.local:2380",
        "name": "etcd-1",
    }


def test_what_would_be_lost_with_its_pod_is_refused() -> None:
    with pytest.raises(InputError, match="on no volume that outlives its pod"):
        members.members_of(deployment(emptyDir={}))
    with pytest.raises(InputError, match=r"no etcd to restore into.*pachyderm_paused=true"):
        members.members_of(seen())


def test_its_pods_are_etcds_user_and_have_no_way_into_the_api() -> None:
    found = ours(images={"etcd": "registry.example/etcd:v3.6.1"}, tolerations=[{"key": "data"}])
    (member,) = members.members_of(found)
    for made in (
        members.agent_pod(found, member, "x1", "runner"),
        members.tool_pod(found, member, "x1", "registry.example/etcd:v3.6.1", "etcdutl", "node-1"),
    ):
        spec = made["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["tolerations"] == [{"key": "data"}]
        assert spec["containers"][0]["securityContext"]["runAsUser"] == 0
        assert "sh" not in spec["containers"][0]["command"]
        assert made["metadata"]["labels"][members.RESTORE_LABEL] == "x1"
    assert found.etcd
    found.etcd["spec"]["template"]["spec"]["securityContext"] = {"runAsUser": 1000}
    assert (
        "runAsUser" not in members.agent_pod(found, member, "x1", "runner")["spec"]["containers"][0]["securityContext"]
    )


def test_the_agents_source_is_not_read_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsafe(_object: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr("inspect.getsource", unsafe)
    found = ours()
    (member,) = members.members_of(found)
    command = members.agent_pod(found, member, "x1", "runner")["spec"]["containers"][0]["command"]
    assert "def serve(" in command[2]
