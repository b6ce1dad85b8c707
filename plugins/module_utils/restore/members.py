# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""etcd's members as its workload describes them: where the data of each is, and how it is made anew.

Read from the StatefulSet or Deployment itself, whoever made it, so that the data that is made has the very names and
addresses that etcd will be started with.
"""

from __future__ import annotations

import copy
import inspect
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..installation import Installation, name
from ..pachd.manifests import ETCD_DATA, MANAGED_BY, MANAGER
from . import agent

Object = dict[str, Any]

VOLUME = "/volume"
#: On every pod of a restore: its id.
RESTORE_LABEL = "pachops.io/restore"
_FLAGS = ("name", "data-dir", "initial-cluster", "initial-cluster-token", "initial-advertise-peer-urls")
_WHOLE_TEMPLATE = ("imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName", "securityContext")
# Read once, by one thread: the cache below inspect loses lines when several threads ask it for one file in an archive,
# which is what modules are run from.
_AGENT = inspect.getsource(agent)
_VERSION = re.compile(r":v?(\d+)\.(\d+)")
_DEADLINE = 24 * 3600  # seconds after which a pod that nobody needs any more ends by itself


@dataclass(frozen=True)
class Member:
    """One member of etcd.

    :param pod: the name of its pod, or of its workload where that is a Deployment.
    :param flags: etcd's own options by name, with what the kubelet would expand expanded.
    :param volume: the pod's volume that holds the data.
    :param directory: the data directory below that volume, empty where it is the volume itself.
    :param node: the node that it runs on, empty where it has no pod: most volumes are on one node at a time.
    """

    pod: str
    flags: Mapping[str, str]
    volume: Mapping[str, Any]
    directory: str = ""
    node: str = ""

    @property
    def root(self) -> str:
        """The data directory as pods of the restore see it."""
        return posixpath.join(VOLUME, self.directory).rstrip("/")

    @property
    def place(self) -> str:
        """The volume in words."""
        claim = self.volume.get("persistentVolumeClaim")
        if claim:
            return f"claim {claim['claimName']}"
        host = self.volume.get("hostPath")
        return f"directory {host['path']} of node {self.node or '?'}" if host else f"volume {self.volume['name']}"

    def restore_arguments(self, restore_id: str) -> list[str]:
        """Return the arguments of etcd's tool that makes this member's data of the snapshot."""
        work = f"{self.root}/{agent.PREFIX}{restore_id}"
        # The agent has compared the snapshot with its digest while it wrote it.
        arguments = ["snapshot", "restore", f"{work}/etcd.snapshot", "--skip-hash-check", f"--data-dir={work}/new"]
        wanted = [each for each in _FLAGS if each != "data-dir" and self.flags.get(each)]
        return arguments + [f"--{each}={self.flags[each]}" for each in wanted]


def members_of(installation: Installation) -> list[Member]:
    """Return the members of an installation's etcd, in order.

    :raises InputError: there is no etcd, or its data is on no volume that outlives its pod.
    """
    workload = workload_of(installation)
    spec = workload["spec"]
    container = installation.container(workload, "etcd")
    if workload["kind"] == "Deployment":
        pods = [name(workload)]
    else:
        pods = [f"{name(workload)}-{number}" for number in range(_members(workload))]
    nodes = {name(pod): pod.get("spec", {}).get("nodeName", "") for pod in installation.pods("etcd")}
    found = []
    for pod in pods:
        flags = flags_of(container, {"metadata.name": pod, "metadata.namespace": installation.namespace})
        volume, directory = _data(spec, container, pod, flags.get("data-dir") or ETCD_DATA)
        node = next((nodes[each] for each in sorted(nodes) if each == pod or each.startswith(f"{pod}-")), "")
        found.append(Member(pod, flags, volume, directory, node))
    return found


def workload_of(installation: Installation) -> Object:
    """Return etcd's StatefulSet or Deployment.

    :raises InputError: there is none.
    """
    if installation.etcd is not None:
        return installation.etcd
    raise InputError(
        "there is no etcd to restore into",
        where=f"namespace {installation.namespace}",
        fix="Deploy the installation first, without starting pachd: deploy.yml with pachyderm_paused=true.",
    )


def _members(workload: Mapping[str, Any]) -> int:
    """Return how many members etcd has, also while it is scaled to zero."""
    flags = flags_of(workload["spec"]["template"]["spec"]["containers"][0], {})
    initial = flags.get("initial-cluster", "")
    return max(int(workload["spec"].get("replicas") or 0), initial.count("=") if initial else 1, 1)


def flags_of(container: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, str]:
    """Return the options of etcd that matter here.

    :param fields: field references of the pod and their values.
    """
    words = " ".join([*(container.get("command") or []), *(container.get("args") or [])])
    values = {}
    for entry in container.get("env") or []:
        reference = (entry.get("valueFrom") or {}).get("fieldRef", {}).get("fieldPath", "")
        values[entry["name"]] = fields.get(reference, "") if reference else str(entry.get("value") or "")
    expanded = re.sub(r"\$[({](\w+)[)}]", lambda match: values.get(match[1], match[0]), words)
    found = {}
    for flag in _FLAGS:
        match = re.search(rf"(?:^|[\s\"'])--{flag}[= ][\"']?([^\s\"']+)", expanded)
        if match:
            found[flag] = match[1]
    if "name" not in found and values.get("ETCD_NAME"):
        found["name"] = values["ETCD_NAME"]
    return found


def _data(spec: Mapping[str, Any], container: Mapping[str, Any], pod: str, directory: str) -> tuple[Object, str]:
    mounts = [
        mount
        for mount in container.get("volumeMounts") or []
        if directory == mount["mountPath"] or directory.startswith(mount["mountPath"].rstrip("/") + "/")
    ]
    if mounts:
        mount = max(mounts, key=lambda each: len(each["mountPath"]))
        below = directory[len(mount["mountPath"].rstrip("/")) :].strip("/")
        sub = mount.get("subPath") or re.sub(r"\$\(\w+\)", pod, mount.get("subPathExpr") or "")
        below = posixpath.join(sub, below).strip("/")
        templates = {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates") or []}
        if mount["name"] in templates:
            return {"name": "data", "persistentVolumeClaim": {"claimName": f"{mount['name']}-{pod}"}}, below
        for volume in spec["template"]["spec"].get("volumes") or []:
            if volume["name"] == mount["name"] and "emptyDir" not in volume:
                return {**copy.deepcopy(volume), "name": "data"}, below
    raise InputError(
        "etcd's data is on no volume that outlives its pod",
        where=f"{pod}: {directory}",
        fix="Nothing can be set aside there. Deploy etcd with a claim or a directory of the node.",
    )


def tools(container: Mapping[str, Any]) -> list[str]:
    """Return the programs that may make the data, the likelier first, as the target's own etcd image has them.

    ``etcdutl snapshot restore`` since 3.5, ``etcdctl snapshot restore`` until 3.5 (CHANGELOG-3.6 of etcd).
    """
    release = release_of(container)
    old = bool(release) and release < (3, 5)
    command = str((container.get("command") or ["etcd"])[0])
    beside = command[: -len("etcd")] if command.endswith("/etcd") else ""
    names = ["etcdctl", "etcdutl"] if old else ["etcdutl", "etcdctl"]
    return [beside + each for each in names]


def release_of(container: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the minor release of etcd that its image's tag tells, such as (3, 5); nothing where it tells none."""
    match = _VERSION.search(str(container.get("image", "")))
    return (int(match[1]), int(match[2])) if match else ()


def agent_pod(installation: Installation, member: Member, restore_id: str, image: str) -> Object:
    """Return the pod that has a member's volume and waits to be told."""
    command = ["python3", "-c", _AGENT, member.root, str(agent.PORT)]
    pod = _pod(installation, member, restore_id, f"{member.pod}-restore", image, command)
    pod["spec"]["containers"][0]["env"] = [{"name": "PYTHONPATH", "value": "/opt/pachops/lib"}]
    return pod


def tool_pod(installation: Installation, member: Member, restore_id: str, image: str, tool: str, node: str) -> Object:
    """Return the pod in which etcd's own tool makes the data of the snapshot."""
    command = [tool, *member.restore_arguments(restore_id)]
    pod = _pod(installation, member, restore_id, f"{member.pod}-restore-data", image, command)
    pod["spec"]["nodeName"] = node
    pod["spec"]["containers"][0]["env"] = [{"name": "ETCDCTL_API", "value": "3"}]
    return pod


def _as_etcd(own: Mapping[str, Any], pods: Mapping[str, Any]) -> Object:
    """Return the security context of etcd's container, with the user named: what is made here, etcd has to read.

    Where it names none, etcd is the user of its own image, which is root in all that Pachyderm ever named; another
    image may have another user.
    """
    named = "runAsUser" in own or "runAsUser" in pods
    return {"allowPrivilegeEscalation": False, **own, **({} if named else {"runAsUser": 0})}


def _pod(
    installation: Installation, member: Member, restore_id: str, pod: str, image: str, command: Sequence[str]
) -> Object:
    workload = workload_of(installation)
    template = workload["spec"]["template"]["spec"]
    own = installation.container(workload, "etcd")
    spec: Object = {key: copy.deepcopy(template[key]) for key in _WHOLE_TEMPLATE if key in template}
    if member.node:
        spec["nodeName"] = member.node
    spec |= {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "activeDeadlineSeconds": _DEADLINE,
        "volumes": [dict(member.volume)],
        "containers": [
            {
                "name": "restore",
                "image": image,
                "imagePullPolicy": own.get("imagePullPolicy", "IfNotPresent"),
                "command": list(command),
                "volumeMounts": [{"name": "data", "mountPath": VOLUME}],
                "securityContext": _as_etcd(own.get("securityContext") or {}, template.get("securityContext") or {}),
            }
        ],
    }
    labels = {MANAGED_BY: MANAGER, RESTORE_LABEL: restore_id}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod, "namespace": installation.namespace, "labels": labels},
        "spec": spec,
    }
