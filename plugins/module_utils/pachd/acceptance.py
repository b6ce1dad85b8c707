# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Prove that a deployed pachd works; a Ready pod alone proves little.

Readiness says nothing about RBAC, about the object store's content or about the workers, so the proof asks pachd
itself: its version and id, its own test of the Kubernetes API, a file's way through the object store and back, and
where asked a pipeline's output.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import findings
from ..errors import PachdError, PachopsError
from ..findings import Finding
from ..installation import pod_ready, selector_of
from ..kube.client import Kube, Ref
from ..progress import Progress
from .client import PASSING, SETTLING, Cluster, Pachd
from .versions import Release

# What the test bed's double of pachd appends to its version, so that nobody takes it for Pachyderm.
STAND_IN = "-standin"
REPO_PREFIX = "pachops-acceptance-"
BRANCH = "master"
PATH = "/probe"

# src/server/pps/server/api_server.go (validateKube) of pachyderm v1.13.4: these lines are errors in the log, and pachd
# goes on without what they name.
_COMPLAINT = "unable to "
_NODES = "unable to access kubernetes nodeslist"
_LOGS = "unable to access kubernetes logs"
_FORBIDDEN = "forbidden"
_LOG_LINES = 5000
_JOB_SUCCESS, _JOB_FAILURES = 3, {2: "failed", 4: "was killed"}


@dataclass(frozen=True)
class Expected:
    """What the deployment is supposed to be.

    :param deployment_id: CLUSTER_DEPLOYMENT_ID; "" when it does not matter.
    :param cluster_roles: whether pachd may read nodes; without it one line of its self-test is expected.
    """

    release: Release
    deployment_id: str = ""
    cluster_roles: bool = False


class Proof(NamedTuple):
    """What was proven; ``version`` as pachd says it, in full."""

    version: str
    findings: list[Finding]


def prove(
    kube: Kube,
    namespace: str,
    expected: Expected,
    *,
    token: str = "",
    pipeline_image: str = "",
    pod_patch: str = "",
    write: bool = True,
    timeout: float = 120.0,
    settling: float = SETTLING,
    progress: Progress | None = None,
    connect: Callable[..., Pachd] = Pachd,
) -> Proof:
    """Return one finding per proof; all are tried, whatever the others say.

    :param token: authentication token; without one, proofs that need it are reported as warnings on a cluster where
        authentication is active.
    :param pipeline_image: image for a copying pipeline (it has to hold ``cp``); "" leaves that proof out.
    :param write: False leaves out the proofs that write, for check mode.
    :param pod_patch: what the installation's pipelines need to reach what pachd reaches.
    :param timeout: seconds for one call and for the pipeline's job.
    :param settling: seconds for which pachd may refuse because it has no connection to its etcd.
    :raises PachopsError: there is no ready pachd pod, or it cannot be reached.
    """
    progress = progress or Progress()
    progress.stage("acceptance", f"asking pachd in namespace {namespace}")
    pod = ready_pod(kube, namespace)
    name = pod["metadata"]["name"]
    tls = any(volume["name"] == "pachd-tls-cert" for volume in pod["spec"].get("volumes") or [])
    # The peer port answers the same calls and never speaks TLS, whose certificate would not name a local port.
    port = expected.release.peer_port if tls else expected.release.grpc_port
    found: list[Finding] = []
    with kube.portforward(namespace, name, port) as address:
        host, local = address
        with connect(host, local, token=token, timeout=timeout) as pachd:
            version = pachd.version()
            found += _identity(version, pachd.cluster(), expected)
            found.append(_self_test(kube, pachd, namespace, name, expected))
            if not write:
                return Proof(version, found)
            progress.update(detail="a file goes through the object store", done=2, total=4, unit="proofs")
            found.append(_guarded("object-store", lambda: _round_trip(pachd, namespace, name), settling))
            if pipeline_image:
                progress.update(detail="a pipeline runs", done=3, total=4, unit="proofs")
                found.append(
                    _guarded(
                        "pipeline", lambda: _pipeline(pachd, pipeline_image, pod_patch, timeout, progress), settling
                    )
                )
    progress.update(done=4, total=4, unit="proofs")
    return Proof(version, found)


def ready_pod(kube: Kube, namespace: str) -> dict[str, Any]:
    """Return the ready pachd pod.

    :raises PachdError: there is none.
    """
    selector = selector_of(kube.get(Ref("apps/v1", "Deployment", namespace, "pachd")), "pachd")
    pods = kube.list("v1", "Pod", namespace, labels=",".join(f"{key}={value}" for key, value in selector.items()))
    for pod in pods:
        if pod_ready(pod):
            return pod
    state = ", ".join(f"{pod['metadata']['name']} is {pod.get('status', {}).get('phase')}" for pod in pods)
    raise PachdError(
        "there is no ready pachd",
        where=f"namespace {namespace}",
        why=state or "no pod has the labels suite=pachyderm, app=pachd",
        fix="Deploy it first, or run `ansible-playbook playbooks/doctor.yml` to see why it is not ready.",
    )


def _identity(version: str, cluster: Cluster, expected: Expected) -> list[Finding]:
    wanted = expected.release.version
    answers = []
    if version == f"{wanted}{STAND_IN}":
        found = f"pachd {version} answers, the stand-in: a test double, not Pachyderm"
        fix = "Nothing to do in a test; otherwise see where the images come from (pachyderm_images and its like)."
        answers.append(findings.warning("version", found, f"Pachyderm {wanted}", fix))
    # Builds other than the maker's own append something, "-dirty" or a commit.
    elif version == wanted or version.startswith((f"{wanted}-", f"{wanted}+")):
        answers.append(findings.ok("version", f"pachd {version} answers", wanted))
    else:
        fix = "Check which image the tag holds (pachyderm_images, pachyderm_image_registry)."
        answers.append(findings.error("version", f"pachd says {version}", wanted, fix))
    if expected.deployment_id and cluster.deployment_id != expected.deployment_id:
        fix = "Deploy again; pachctl refuses with 'connected to the wrong cluster' until the ids agree."
        answers.append(findings.error("deployment-id", cluster.deployment_id or "none", expected.deployment_id, fix))
    else:
        answers.append(findings.ok("deployment-id", cluster.deployment_id))
    answers.append(findings.ok("cluster-id", cluster.id))
    return answers


def _self_test(kube: Kube, pachd: Pachd, namespace: str, pod: str, expected: Expected) -> Finding:
    check = "kubernetes-self-test"
    lines = kube.logs(namespace, pod, "pachd", tail=_LOG_LINES).splitlines()
    complaints = {_message(line): line for line in lines if _COMPLAINT in line and "kubernetes" in line}
    unexpected = [
        message
        for message, line in complaints.items()
        if not (message.startswith(_NODES) and not expected.cluster_roles)
        and not (message.startswith(_LOGS) and _FORBIDDEN not in line and _reads_logs(pachd))
    ]
    if unexpected:
        fix = "Deploy again: it restores the Role; if it stays, an admission rule or network policy is in the way."
        return findings.error(check, "\n".join(unexpected), "no complaint in pachd's log", fix)
    if any(message.startswith(_NODES) for message in complaints):
        return findings.ok(check, "clean, but for nodes, which pachd may not read (pachyderm_cluster_roles is off)")
    return findings.ok(check, "clean")


def _reads_logs(pachd: Pachd) -> bool:
    """Return whether pachd can read logs by now.

    Its test reads its own pod's log within a second of its start, when the kubelet has often not reported the container
    as running yet; the API server then refuses for that reason alone.
    """
    try:
        return bool(pachd.own_log())
    except PachdError:
        return False


def _message(line: str) -> str:
    """Return the complaint without time and level, and once only: pachd's two servers both test."""
    return line[line.index(_COMPLAINT) :].partition(" error: ")[0].rstrip('"\\')


def _guarded(check: str, proof: Callable[[], Finding], settling: float = SETTLING) -> Finding:
    """Return the proof's finding; an error that may pass by itself counts once it has stood ``settling`` seconds."""
    started = time.monotonic()
    while True:
        try:
            return proof()
        except PachdError as error:
            if "no authentication token" in error.why:
                fix = "Give pachyderm_auth_token, a token of a user who may create repos."
                return findings.warning(check, "not tried: authentication is active", "a token", fix)
            if not PASSING.search(error.why) or time.monotonic() - started >= settling:
                return findings.error(check, str(error), "no error", "Run `ansible-playbook playbooks/doctor.yml`.")
        time.sleep(1)


def _round_trip(pachd: Pachd, namespace: str, pod: str) -> Finding:
    # The same pod writes the same content again, so that repeated proofs pile up no garbage in the store: deleting
    # a repo leaves its objects until the next garbage collection. A new pod, with no cache, gets new content.
    content = hashlib.sha512(f"{namespace}/{pod}".encode()).digest() * 512
    repo = f"{REPO_PREFIX}{hashlib.sha256(content).hexdigest()[:8]}"
    started = time.monotonic()
    with suppress(PachopsError):
        pachd.delete_repo(repo, force=True)
    pachd.create_repo(repo, "A proof by pachops.pachyderm; it deletes this repo at its end.")
    try:
        pachd.put_file(repo, BRANCH, PATH, io.BytesIO(content))
        back = b"".join(pachd.get_file(repo, BRANCH, PATH))
    finally:
        pachd.delete_repo(repo, force=True)
    size = f"{len(content)} bytes"
    if back == content:
        return findings.ok("object-store", f"{size} went in and came back in {time.monotonic() - started:.1f} s")
    fix = "Check what stands between pachd and its object store; nothing that changes content may."
    return findings.error("object-store", f"{len(back)} other bytes came back", f"the same {size}", fix)


def _pipeline(pachd: Pachd, image: str, pod_patch: str, timeout: float, progress: Progress) -> Finding:
    name = f"{REPO_PREFIX}{hashlib.sha256(str(time.time_ns()).encode()).hexdigest()[:8]}"
    source, content = f"{name}-in", b"through a pipeline\n"
    pps = pachd.pps_pb2
    request = pps.CreatePipelineRequest(
        pipeline=pps.Pipeline(name=name),
        transform=pps.Transform(image=image, cmd=["cp", f"/pfs/{source}{PATH}", f"/pfs/out{PATH}"]),
        input=pps.Input(pfs=pps.PFSInput(repo=source, branch=BRANCH, glob="/*")),
        pod_patch=pod_patch,
    )
    pachd.create_repo(source)
    try:
        pachd.put_file(source, BRANCH, PATH, io.BytesIO(content))
        pachd.create_pipeline(request)
        seconds = _wait_for_job(pachd, name, timeout, progress)
        back = b"".join(pachd.get_file(name, BRANCH, PATH))
    finally:
        pachd.delete_pipeline(name)
        pachd.delete_repo(source, force=True)
    if back == content:
        return findings.ok("pipeline", f"a job ran and its output was read back after {seconds:.0f} s")
    return findings.error("pipeline", "the output differs from the input", "a copy", "Check the pipeline's image.")


def _wait_for_job(pachd: Pachd, pipeline: str, timeout: float, progress: Progress) -> float:
    started = time.monotonic()
    while True:
        jobs = pachd.jobs(pipeline)
        state = jobs[0].state if jobs else -1
        waited = time.monotonic() - started
        if state == _JOB_SUCCESS:
            return waited
        if state in _JOB_FAILURES:
            raise PachdError(f"the job {_JOB_FAILURES[state]}", where=f"pipeline {pipeline}", why=jobs[0].reason)
        if waited > timeout:
            raise PachdError(
                f"the job has not ended after {timeout:.0f} s",
                where=f"pipeline {pipeline}",
                why="no job was started" if not jobs else "its worker is not ready, or it is still running",
                fix="Look at the events of the pods with the label component=worker.",
            )
        progress.update(detail=f"waiting for the job of {pipeline}, {waited:.0f} s")
        time.sleep(1)
