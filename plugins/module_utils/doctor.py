# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What is wrong with an installation, all of it at once.

``examine`` judges what :mod:`evidence` gathered, without talking to anything.  The traps behind the checks are those
of pachd 1.13 (``src/server/cmd/pachd/main.go`` and ``src/server/pkg/deploy/assets/assets.go`` upstream) and the issues
that the messages name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import ClusterError
from .evidence import DNS_NAMESPACE, DNS_SERVICE, gather
from .findings import Finding, error, ok, warning
from .image_archive import tag
from .installation import labels, name, pod_ready, restarts, waiting
from .kube.wait import telling_lines
from .pachd.manifests import ETCD_CLIENT_PORT, ETCD_DATA, RESTORE_JOURNAL
from .pachd.options import SETTINGS_SPEC
from .pachd.preflight import ImageCheck, Request, inspect
from .pachd.storage_secret import ENVIRONMENT
from .restore import journal as journals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .evidence import EtcdState, Evidence
    from .kube.client import Kube

Object = dict[str, Any]

CLOCK_TOLERANCE = 60.0
"""Seconds; signed requests to object stores are refused from 15 minutes on, certificates and leases suffer earlier."""

ETCD_FLAGS: Mapping[str, int] = {
    "max-txn-ops": 10000,
    "max-request-bytes": 52428800,
    "quota-backend-bytes": 8589934592,
}
COMPACTION_FLAG = "auto-compaction-retention"
FORGOTTEN = 7 * 86400.0
"""Seconds for which what a restore set aside may wait for a person's decision."""
QUOTA_SHARE = 0.8
"""Share of etcd's quota from which on it is called full: at 100 % etcd refuses every write until it is compacted."""

EXPLICIT: tuple[str, ...] = (
    "STORAGE_BACKEND",
    "PACHD_POD_NAME",
    "PACH_NAMESPACE",
    "WORKER_IMAGE",
    "WORKER_SIDECAR_IMAGE",
    "WORKER_SERVICE_ACCOUNT",
    "STORAGE_UPLOAD_CONCURRENCY_LIMIT",
    "PPS_WORKER_GRPC_PORT",
    "CLUSTER_DEPLOYMENT_ID",
)
"""What pachd exits without, or reads from the environment behind its own defaults' back."""

_BAD_CONDITIONS = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
# pachd 1.13 logs "<time> ERROR <message>"; other versions and the workers use JSON or key=value.
_TROUBLE = re.compile(
    r"^\S+ (ERROR|FATAL|PANIC) |level=(error|fatal|panic)|\"level\":\s*\"(error|fatal|panic)\"|^panic: "
)
# Seen on healthy installations of 1.13.4: a request that failed by its sender's fault, the cache between several pachds
# asking for etcd's v2 API, watches opened anew, pipelines just created or deleted.
_HARMLESS = re.compile(
    r"(ERROR|\") ?(\w+\.)+API\.\w+ \{|Error setting server state|sharder\.|Too large resource version"
    r"|PPS master: (error retrieving RC|could not update resources)|falling back to"
)
# src/server/pps/server/api_server.go (validateKube): what pachd may not do in Kubernetes; it goes on without it.
_SELF_TEST = re.compile(r"unable to .*kubernetes")
# Reading nodes is needed only for pipelines with a COEFFICIENT, and namespaced roles cannot allow it.
_NODES = "unable to access kubernetes nodeslist"
# pachd reads its own log within a second of its start, when the kubelet has often not reported its container as
# running; only a refusal by RBAC is a lasting one.
_FORBIDDEN = "forbidden"


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and whether Pachyderm is installed at all."""

    findings: list[Finding]
    installed: bool


def diagnose(
    connect: Callable[[], Kube],
    options: Mapping[str, Any],
    *,
    archives: Sequence[str] = (),
    image_check: ImageCheck = "error",
    timeout: float = 20.0,
) -> Diagnosis:
    """Find what would keep a deployment from working, and what is wrong with the one that is there.

    :param connect: returns the cluster's client; its failure is a finding like any other.
    :param options: the options of ``pachyderm_deploy``; those at their defaults are taken from the installation.
    :param archives: image archives whose images count as available.
    :param image_check: how grave it is that a registry cannot be asked.
    :param timeout: seconds for each question to etcd or pachd.
    """
    namespace = str(options.get("namespace") or "pachyderm")
    evidence: Evidence | None = None
    # An API that does not answer is the preflight's finding.
    with contextlib.suppress(ClusterError):
        evidence = gather(connect(), namespace, str(options.get("version") or ""), timeout)
    installed = evidence is not None and evidence.installation.runs
    if evidence is not None:
        options = judged_by(options, evidence.installation.settings())
    request = Request(namespace, archives=archives, image_check=image_check, secret_comes_later=not installed)
    found = inspect(connect, options, request)
    return Diagnosis(found + (examine(evidence) if evidence else []), installed)


def judged_by(options: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``options`` with what ``found`` says wherever the user left an option at its default.

    An installation is healthy or not by its own settings; whether others would fit it is the preflight's question.
    """
    judged = dict(options)
    for option, value in found.items():
        given = options.get(option)
        if isinstance(value, dict):
            kept = {
                key: item
                for key, item in (given or {}).items()
                if not _left(item, SETTINGS_SPEC[option]["options"][key])
            }
            judged[option] = {**(given or {}), **{key: item for key, item in value.items() if item}, **kept}
        elif value and _left(given, SETTINGS_SPEC[option]):
            judged[option] = value
    return judged


def _left(value: Any, spec: Mapping[str, Any]) -> bool:
    return value in (None, "", {}, []) or value == spec.get("default")


def examine(evidence: Evidence) -> list[Finding]:
    """Return all findings; where nothing is installed, only those about the cluster."""
    checks = [*CLUSTER_CHECKS, *(INSTALLATION_CHECKS if evidence.installation.runs else ())]
    return [finding for check in checks for finding in check(evidence)]


# -- the cluster ------------------------------------------------------------------------------------------------------


def check_unseen(evidence: Evidence) -> Iterator[Finding]:
    """Say what could not be looked at, so that silence is not mistaken for health."""
    for what, why in evidence.unseen.items():
        yield warning(
            "not-examined", f"{what}: {why}", "it can be read", "Run again with an identity that may read it."
        )


def check_nodes(evidence: Evidence) -> Iterator[Finding]:
    """Every node is ready and under no pressure."""
    ready = 0
    for node in evidence.nodes:
        conditions = {item["type"]: item for item in node.get("status", {}).get("conditions") or []}
        condition = conditions.get("Ready", {})
        if condition.get("status") != "True":
            why = condition.get("message") or condition.get("reason") or "no condition Ready"
            yield error(
                "node-ready",
                f"node {name(node)} is not ready: {why}",
                "every node is ready",
                f"Look at the kubelet of {name(node)}.",
            )
            continue
        under = [kind for kind in _BAD_CONDITIONS if conditions.get(kind, {}).get("status") == "True"]
        for kind in under:
            yield error(
                "node-pressure",
                f"node {name(node)} reports {kind}: {conditions[kind].get('message', '')}".rstrip(": "),
                "no pressure: pods under it are evicted",
                f"Free the resource on {name(node)}, or add a node.",
            )
        ready += not under
    if ready:
        yield ok("node-conditions", f"{ready} of {len(evidence.nodes)} nodes ready and without pressure")


def check_dns(evidence: Evidence) -> Iterator[Finding]:
    """The cluster's DNS answers; without it workers and clients inside the cluster find nothing by name."""
    addresses = evidence.dns_addresses
    if addresses is None:
        return
    if addresses:
        yield ok("cluster-dns", f"{addresses} ready addresses behind {DNS_SERVICE}")
    else:
        yield error(
            "cluster-dns",
            f"no ready pod behind the Service {DNS_NAMESPACE}/{DNS_SERVICE}",
            "at least one",
            f"Look at the DNS pods: kubectl -n {DNS_NAMESPACE} get pods -l k8s-app={DNS_SERVICE}.",
        )


def check_clock(evidence: Evidence) -> Iterator[Finding]:
    """The cluster's clock and ours agree."""
    skew = evidence.clock_skew
    if skew is None:
        return
    if abs(skew) <= CLOCK_TOLERANCE:
        yield ok("clock", "the API server's clock agrees with this host's")
        return
    side = "ahead of" if skew > 0 else "behind"
    yield warning(
        "clock",
        f"the API server's clock is {abs(skew):.0f} s {side} this host's",
        "at most a minute apart",
        "Let both keep time by NTP: object stores refuse signatures that are 15 minutes off.",
    )


# -- etcd -------------------------------------------------------------------------------------------------------------


def check_etcd_workload(evidence: Evidence) -> Iterator[Finding]:
    """All members of etcd are ready."""
    etcd = evidence.installation.etcd
    namespace = evidence.installation.namespace
    if etcd is None:
        yield error(
            "etcd",
            f"there is no etcd in namespace {namespace}",
            "the StatefulSet etcd",
            "Run deploy again; if its data is gone as well, restore a backup.",
        )
        return
    wanted = int(etcd["spec"].get("replicas") or 0)
    ready = int(etcd.get("status", {}).get("readyReplicas") or 0)
    if ready >= wanted > 0:
        yield ok("etcd", f"{ready} of {wanted} members ready")
        return
    if wanted == 0:
        yield error("etcd", "etcd is scaled to zero", "1 or 3 members", "Run deploy again.")
        return
    reasons = "; ".join(
        f"pod {name(pod)}: {waiting(pod)}" for pod in evidence.installation.pods("etcd") if waiting(pod)
    )
    yield error(
        "etcd",
        f"{ready} of {wanted} members ready" + (f" ({reasons})" if reasons else ""),
        f"{wanted} ready",
        f"Look at kubectl -n {namespace} describe pods -l app=etcd, and at their logs.",
    )


def check_etcd_service(evidence: Evidence) -> Iterator[Finding]:
    """The Service that pachd and the workers read from their environment."""
    service = evidence.installation.find("Service", "etcd")
    if service is None:
        yield error(
            "etcd-service",
            "there is no Service named etcd",
            "a Service of exactly that name: pachd and workers read ETCD_SERVICE_HOST and ETCD_SERVICE_PORT",
            "Run deploy again, then restart pachd and the workers so that they see the variables.",
        )
        return
    spec = service["spec"]
    port = (spec.get("ports") or [{}])[0].get("port")
    if spec.get("clusterIP") in (None, "", "None"):
        yield error(
            "etcd-service",
            "the Service etcd is headless",
            "one with an address of its own: a headless one sets no variables",
            "Run deploy again, then restart pachd and the workers.",
        )
    elif port != ETCD_CLIENT_PORT:
        yield error(
            "etcd-service",
            f"the first port of the Service etcd is {port}",
            f"{ETCD_CLIENT_PORT}",
            "Run deploy again, then restart pachd and the workers.",
        )
    else:
        yield ok("etcd-service", f"etcd at {spec['clusterIP']}:{port}")


def check_etcd_flags(evidence: Evidence) -> Iterator[Finding]:
    """The limits without which big transactions fail and the history fills the disk."""
    etcd = evidence.installation.etcd
    if etcd is None:
        return
    flags = etcd_flags(evidence.installation.container(etcd, "etcd"))
    wrong = []
    for flag, wanted in ETCD_FLAGS.items():
        found = flags.get(flag)
        if found is None or not found.isdigit() or int(found) < wanted:
            wrong.append((flag, found, str(wanted)))
    retention = flags.get(COMPACTION_FLAG)
    if retention in (None, "", "0", "0s", "0h"):
        wrong.append((COMPACTION_FLAG, retention, "1"))
    if not wrong:
        yield ok("etcd-flags", "limits, quota and compaction as pachd needs them")
        return
    yield error(
        "etcd-flags",
        ", ".join(f"--{flag} is {found or 'not set'}" for flag, found, _wanted in wrong),
        ", ".join(f"--{flag}={wanted}" for flag, _found, wanted in wrong),
        "Run deploy again: with etcd's defaults large deletes fail (pachyderm/pachyderm#4121) and its disk fills up.",
    )


def etcd_flags(container: Mapping[str, Any]) -> dict[str, str]:
    """Return etcd's flags by name, from arguments, a shell line, or ``ETCD_…`` variables; arguments win."""
    flags = {
        str(entry["name"])[5:].lower().replace("_", "-"): str(entry.get("value") or "")
        for entry in container.get("env") or []
        if str(entry["name"]).startswith("ETCD_")
    }
    words = " ".join([*(container.get("command") or []), *(container.get("args") or [])])
    for match in re.finditer(r"--([a-z0-9-]+)(?:=|\s+(?!-))[\"']?([^\s\"']+)", words):
        flags[match[1]] = match[2]
    return flags


def check_etcd_volume(evidence: Evidence) -> Iterator[Finding]:
    """The data of etcd outlives its pod, and its claims are bound."""
    installation = evidence.installation
    etcd = installation.etcd
    if etcd is None:
        return
    template = etcd["spec"]["template"]["spec"]
    container = installation.container(etcd, "etcd")
    flags = etcd_flags(container)
    directory = flags.get("data-dir", ETCD_DATA)
    mounted = {item["name"] for item in container.get("volumeMounts") or [] if item.get("mountPath") == directory}
    claims = {item["metadata"]["name"] for item in etcd["spec"].get("volumeClaimTemplates") or []}
    volumes = [item for item in template.get("volumes") or [] if item.get("name") in mounted]
    lasting = [item for item in volumes if item.get("hostPath") or item.get("persistentVolumeClaim")]
    if not lasting and not mounted & claims:
        found = "an emptyDir" if volumes else f"no volume at {directory}"
        yield error(
            "etcd-volume",
            f"etcd writes to {found}: all metadata is lost with its pod",
            "a claim or a hostPath",
            "Back it up now, then deploy a new installation with etcd_storage set and restore into it.",
        )
        return
    unbound = [
        f"{name(claim)} is {claim.get('status', {}).get('phase', 'unknown')}"
        for claim in installation.of_kind("PersistentVolumeClaim")
        if name(claim).startswith("etcd-storage") and claim.get("status", {}).get("phase") != "Bound"
    ]
    if unbound:
        yield error(
            "etcd-volume",
            ", ".join(unbound),
            "every claim Bound",
            f"Look at kubectl -n {installation.namespace} describe pvc; usually the StorageClass cannot provide it.",
        )
    else:
        kind = (
            "the node's directory " + lasting[0]["hostPath"]["path"]
            if lasting and lasting[0].get("hostPath")
            else "claims"
        )
        yield ok("etcd-volume", f"etcd's data is on {kind}")


def check_etcd_health(evidence: Evidence) -> Iterator[Finding]:
    """What etcd says about itself: health, leader, alarms, and the room that is left."""
    if evidence.etcd_trouble:
        yield error("etcd-health", evidence.etcd_trouble, "etcd answers", "Look at the etcd pod's log.")
        return
    etcd = evidence.etcd
    if etcd is None:
        return
    if etcd.alarms:
        yield error(
            "etcd-alarms",
            f"raised: {', '.join(etcd.alarms)}",
            "no alarm: until it is cleared every write fails",
            "NOSPACE: compact, defragment, then disarm. CORRUPT: stop pachd and restore a backup.",
        )
    else:
        members = f"{len(etcd.members)} member{'s' if len(etcd.members) > 1 else ''}"
        yield ok("etcd-health", f"etcd {etcd.version}, revision {etcd.revision}, {members}, no alarm")
    yield from _etcd_room(evidence, etcd)


def _etcd_room(evidence: Evidence, etcd: EtcdState) -> Iterator[Finding]:
    installation = evidence.installation
    if installation.etcd is None:
        return
    quota = etcd_flags(installation.container(installation.etcd, "etcd")).get("quota-backend-bytes", "")
    if not quota.isdigit() or int(quota) == 0:
        return
    if etcd.size > QUOTA_SHARE * int(quota):
        free = " (defragmenting would free most of it)" if 0 < etcd.size_in_use < etcd.size / 2 else ""
        yield warning(
            "etcd-size",
            f"{etcd.size} of {quota} bytes of etcd's quota are used{free}",
            f"less than {QUOTA_SHARE:.0%}",
            "Defragment etcd, delete old commits, or raise the quota.",
        )


# -- storage ----------------------------------------------------------------------------------------------------------


def check_storage_environment(evidence: Evidence) -> Iterator[Finding]:
    """Tuning keys of the secret reach pachd as variables; mounting the secret is not enough."""
    installation = evidence.installation
    secret = installation.storage_secret
    if installation.pachd is None or secret is None or installation.backend in ("", "local"):
        return
    variables = installation.pachd_environment()
    lost = [
        f"{key} (variable {variable})"
        for key, variable in ENVIRONMENT.items()
        if key in (secret.get("data") or {}) and variables.get(variable) is None
    ]
    if lost:
        yield error(
            "storage-environment",
            f"not mapped into pachd: {', '.join(lost)}",
            "every key of the secret is mapped",
            "Run deploy again: without REVERSE and its like pachd looks for objects under other names.",
        )
    else:
        yield ok("storage-environment", "every key of the storage secret reaches pachd")


def check_shared_store(evidence: Evidence) -> Iterator[Finding]:
    """No second live installation uses the same objects."""
    store = evidence.installation.store
    if not store:
        return
    sharing = [namespace for namespace, other in evidence.stores.items() if other == store]
    if sharing:
        yield error(
            "shared-store",
            f"{store} is also used by the pachd in {', '.join(sharing)}",
            "one installation per store",
            "Scale one of them to zero at once: a garbage collection on either deletes the other's objects.",
        )
    else:
        yield ok("shared-store", f"{store} is used by this installation only, as far as this cluster shows")


# -- pachd ------------------------------------------------------------------------------------------------------------


def check_pachd_workload(evidence: Evidence) -> Iterator[Finding]:
    """Exactly one pachd, replaced and never doubled, with links and a patient probe."""
    installation = evidence.installation
    pachd = installation.pachd
    if pachd is None:
        yield error(
            "pachd",
            f"there is no pachd in namespace {installation.namespace}",
            "the Deployment pachd",
            "Run deploy again.",
        )
        return
    spec = pachd["spec"]
    replicas = spec.get("replicas", 1)
    if replicas > 1:
        yield error(
            "pachd-replicas",
            f"{replicas} replicas of pachd",
            "exactly 1",
            f"kubectl -n {installation.namespace} scale deployment pachd --replicas=1",
        )
    elif replicas == 0:
        yield warning(
            "pachd-replicas",
            "pachd is scaled to zero",
            "1 replica",
            "Run deploy again, unless a backup or restore holds it.",
        )
    strategy = (spec.get("strategy") or {}).get("type", "RollingUpdate")
    if strategy != "Recreate":
        yield warning(
            "pachd-strategy",
            f"update strategy {strategy}",
            "Recreate: two versions must never share one etcd",
            "Run deploy again.",
        )
    template = spec["template"]["spec"]
    if template.get("enableServiceLinks") is False:
        yield error(
            "pachd-service-links",
            "enableServiceLinks is false",
            "true: pachd reads ETCD_SERVICE_HOST from them",
            "Run deploy again.",
        )
    probe = installation.container(pachd, "pachd").get("readinessProbe") or {}
    if int(probe.get("timeoutSeconds") or 1) < 5:
        yield warning(
            "pachd-probe",
            f"the readiness probe gives up after {probe.get('timeoutSeconds') or 1} s",
            "5 s or more: the default of 1 s fails on busy nodes",
            "Run deploy again.",
        )


def check_pachd_environment(evidence: Evidence) -> Iterator[Finding]:
    """The variables without which pachd does not start, or starts and harms."""
    installation = evidence.installation
    if installation.pachd is None:
        return
    variables = installation.pachd_environment()
    values = {key: variable.value for key, variable in variables.items()}
    found = []
    missing = [key for key in EXPLICIT if key not in variables or values[key] == ""]
    if missing:
        found.append(
            error(
                "pachd-environment",
                f"not set: {', '.join(missing)}",
                "set explicitly",
                "Run deploy again: pachd has no default for these, or some of its code does not use it.",
            )
        )
    if values.get("NO_EXPOSE_DOCKER_SOCKET") != "true":
        found.append(
            error(
                "pachd-docker-socket",
                f"NO_EXPOSE_DOCKER_SOCKET is {values.get('NO_EXPOSE_DOCKER_SOCKET') or 'not set'}",
                "true: on nodes without Docker every worker dies otherwise (pachyderm/pachyderm#4575)",
                "Run deploy again.",
            )
        )
    if values.get("METRICS") != "false":
        found.append(
            warning(
                "pachd-metrics",
                f"METRICS is {values.get('METRICS') or 'not set'}",
                "false: anything else reports to a host of pachd's maker",
                "Run deploy again.",
            )
        )
    if values.get("ETCD_PREFIX"):
        found.append(
            error(
                "pachd-etcd-prefix",
                f"ETCD_PREFIX is {values['ETCD_PREFIX']}",
                "empty: workers never receive it and look elsewhere",
                "Back up first, then run deploy again.",
            )
        )
    by_hand = [key for key in ("ETCD_SERVICE_HOST", "ETCD_SERVICE_PORT") if key in variables]
    if by_hand:
        found.append(
            warning(
                "pachd-etcd-address",
                f"set by hand: {', '.join(by_hand)}",
                "taken from the Service etcd, as the workers do",
                "Run deploy again.",
            )
        )
    if installation.backend == "" and values.get("STORAGE_BACKEND"):
        found.append(
            error(
                "pachd-backend",
                f"STORAGE_BACKEND is {values['STORAGE_BACKEND']}",
                "LOCAL, GOOGLE, AMAZON or MINIO",
                "Run deploy again.",
            )
        )
    yield from found or [ok("pachd-environment", f"{len(variables)} variables, all that pachd and its workers need")]


def check_images(evidence: Evidence) -> Iterator[Finding]:
    """pachd, worker and sidecar are of one version, and of the wanted one."""
    installation = evidence.installation
    if installation.pachd is None:
        return
    pachd = str(installation.container(installation.pachd, "pachd").get("image") or "")
    variables = installation.pachd_environment()
    worker, sidecar = (
        (variables[key].value or "") if key in variables else "" for key in ("WORKER_IMAGE", "WORKER_SIDECAR_IMAGE")
    )
    if sidecar and sidecar != pachd:
        yield error(
            "pachd-images",
            f"workers' sidecar is {sidecar}, pachd is {pachd}",
            "the same image",
            "Run deploy again: different versions on one etcd corrupt it.",
        )
    elif worker and tag(worker) != tag(pachd) and "" not in (tag(worker), tag(pachd)):
        yield error("pachd-images", f"worker is {worker}, pachd is {pachd}", "the same version", "Run deploy again.")
    else:
        yield ok("pachd-images", f"pachd {pachd}")


def check_pachd_pods(evidence: Evidence) -> Iterator[Finding]:
    """One pod of pachd is ready, has not been restarted again and again, and its log is free of trouble."""
    installation = evidence.installation
    if installation.pachd is None or installation.pachd["spec"].get("replicas", 1) == 0:
        return
    look = f"kubectl -n {installation.namespace} describe pods -l app=pachd, and their logs (--previous)"
    pods = installation.pods("pachd")
    ready = [pod for pod in pods if pod_ready(pod)]
    if ready:
        yield ok("pachd", f"pod {name(ready[0])} is ready")
    else:
        reasons = "; ".join(f"pod {name(pod)}: {waiting(pod)}" for pod in pods if waiting(pod))
        found = "no pod of pachd is ready" if pods else "pachd has no pod"
        yield error("pachd", f"{found} ({reasons})" if reasons else found, "one ready pod", f"Look at {look}.")
    for pod in pods:
        if restarts(pod) >= 3:
            yield warning(
                "pachd-restarts",
                f"pod {name(pod)} was restarted {restarts(pod)} times",
                "no restarts",
                f"Look at {look}.",
            )
    yield from _log_findings(evidence.log, running=bool(ready))


def _log_findings(log: str, *, running: bool) -> Iterator[Finding]:
    lines = [line.strip() for line in log.splitlines() if not _HARMLESS.search(line)]
    complaints = [line for line in lines if _SELF_TEST.search(line)]
    self_test = [line for line in complaints if _NODES not in line and _FORBIDDEN in line]
    if self_test:
        yield error(
            "pachd-self-test",
            _last([line[line.index("unable to") :] for line in self_test]),
            "pachd's self-test against Kubernetes is clean: pipelines never start otherwise",
            "Run deploy again: it restores the Role; if that does not help, look for an admission rule.",
        )
    if not running:
        # The reason of a crash comes last, behind hundreds of lines of goroutines.
        words = telling_lines(log, 2)
        if words:
            yield error("pachd-log", "\n".join(words), "pachd starts", "Put right what these last lines name.")
        return
    trouble = [line for line in lines if _TROUBLE.search(line) and line not in complaints]
    if trouble:
        yield warning("pachd-log", _last(trouble), "no errors in pachd's log", "Follow the message.")


def _last(lines: Sequence[str], count: int = 3) -> str:
    shown = [line if len(line) <= 300 else f"{line[:297]}..." for line in dict.fromkeys(lines)]
    return "\n".join(shown[-count:])


def check_pachd_services(evidence: Evidence) -> Iterator[Finding]:
    """The Services that clients and workers use."""
    wanted = {"pachd": 650, "pachd-peer": 30653}
    for service_name, port in wanted.items():
        service = evidence.installation.find("Service", service_name)
        first = ((service or {}).get("spec", {}).get("ports") or [{}])[0].get("port")
        if service is None:
            yield error(
                "pachd-service",
                f"there is no Service {service_name}",
                f"a Service with port {port}",
                "Run deploy again.",
            )
        elif first != port:
            yield error(
                "pachd-service",
                f"the first port of the Service {service_name} is {first}",
                f"{port}: PACHD_SERVICE_PORT is taken from the first one",
                "Run deploy again.",
            )


def check_pachd_answers(evidence: Evidence) -> Iterator[Finding]:
    """What pachd itself says: version, cluster id, deployment id, pipelines."""
    if evidence.pachd_trouble:
        yield error("pachd-api", evidence.pachd_trouble, "pachd answers", "Look at pachd's log.")
    answers = evidence.pachd
    if answers is None:
        return
    wanted = evidence.wanted_version
    # Builds of other people may carry a suffix, as the stand-in does.
    if wanted and answers.version.partition("-")[0] != wanted:
        yield error(
            "pachd-version", f"pachd is {answers.version}", wanted, "Run deploy again, or correct pachyderm_version."
        )
    else:
        yield ok("pachd-version", f"pachd {answers.version} answers")
    if evidence.etcd_cluster_id and answers.cluster_id != evidence.etcd_cluster_id:
        yield error(
            "cluster-id",
            f"pachd says {answers.cluster_id}, its etcd holds {evidence.etcd_cluster_id}",
            "the same",
            "Restart pachd: it read another etcd when it started.",
        )
    recorded = evidence.installation.recorded.get("cluster-deployment-id", "")
    if recorded and answers.deployment_id != recorded:
        yield error(
            "deployment-id",
            f"pachd reports {answers.deployment_id or 'none'}",
            f"{recorded}, as recorded",
            'Run deploy again: every user\'s pachctl refuses with "connected to the wrong cluster" until then.',
        )
    bad = {pipeline: state for pipeline, state in answers.pipelines.items() if state in ("FAILURE", "CRASHING")}
    if bad:
        listed = ", ".join(f"{pipeline} ({state.lower()})" for pipeline, state in sorted(bad.items()))
        yield warning(
            "pipelines",
            listed,
            "no pipeline in failure or crashing",
            "See pachctl inspect pipeline NAME; before restarting one, make sure that the bucket is the right one.",
        )


# -- restores ---------------------------------------------------------------------------------------------------------


def check_restores(evidence: Evidence) -> Iterator[Finding]:
    """None died on the way, and nobody has forgotten what they set aside."""
    installation = evidence.installation
    try:
        journal = journals.of(installation.find("ConfigMap", RESTORE_JOURNAL), installation.namespace)
    except ClusterError as broken:
        yield error("restore", f"{broken.what}: {broken.why}", "a journal that can be read", broken.fix)
        return
    if journal.unfinished:
        yield warning(
            "restore",
            f"the restore of {journal.backup} is not finished, at the step '{journal.last}'",
            "no restore under way",
            "Let it end. If it died, run it again with the same backup, or undo it (restore_action=undo).",
        )
    elif journal.set_aside:
        since = journals.made(journal.set_aside[0])
        age = dt.datetime.now(dt.timezone.utc) - journals.begun_at(journal.set_aside[0])
        count = len(journal.set_aside)
        if age.total_seconds() > FORGOTTEN:
            yield warning(
                "restore-set-aside",
                f"what {count} restore{'s' if count > 1 else ''} set aside is on etcd's volume since {since}",
                f"undone or confirmed within {FORGOTTEN // 86400:.0f} days: it takes room that etcd may need",
                "If the restore was right, delete it: restore_action=confirm. There is no undo after that.",
            )


# -- workers ----------------------------------------------------------------------------------------------------------


def check_workers(evidence: Evidence) -> Iterator[Finding]:
    """Workers belong to a pipeline, and their pods come up."""
    installation = evidence.installation
    if evidence.pachd is not None:
        orphans = [
            f"{name(worker)} (pipeline {labels(worker).get('pipelineName', '')})"
            for worker in installation.workers
            if labels(worker).get("pipelineName") not in evidence.pachd.pipelines
        ]
        if orphans:
            yield error(
                "worker-orphans",
                f"ReplicationControllers without a pipeline: {', '.join(orphans)}",
                "every worker belongs to a pipeline that pachd knows",
                "Make sure that pachd uses the right etcd before anything else; it deletes them itself.",
            )
    stuck = [
        f"{name(pod)}: {waiting(pod)}"
        for pod in installation.of_kind("Pod")
        if labels(pod).get("suite") == "pachyderm" and labels(pod).get("component") == "worker" and waiting(pod)
    ]
    if stuck:
        yield error(
            "worker-pods",
            "\n".join(stuck[:5]),
            "workers run",
            "For images: give a registry or archives that have them. For Docker errors: see pachd-docker-socket.",
        )


CLUSTER_CHECKS: tuple[Callable[[Evidence], Iterable[Finding]], ...] = (
    check_unseen,
    check_nodes,
    check_dns,
    check_clock,
)
INSTALLATION_CHECKS: tuple[Callable[[Evidence], Iterable[Finding]], ...] = (
    check_etcd_workload,
    check_etcd_service,
    check_etcd_flags,
    check_etcd_volume,
    check_etcd_health,
    check_storage_environment,
    check_shared_store,
    check_pachd_workload,
    check_pachd_environment,
    check_images,
    check_pachd_pods,
    check_pachd_services,
    check_pachd_answers,
    check_restores,
    check_workers,
)
