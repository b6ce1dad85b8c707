# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What runs in one namespace: as data for programs, and on one screen for people.

``report`` turns gathered evidence into plain data with the same keys in every state of an installation; ``screen``
prints that data and nothing else.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from .backup.catalogue import read_catalogue
from .backup.rehearsals import newest as newest_rehearsal
from .backup.report import current_at
from .errors import BackupError, PachopsError
from .installation import labels, name, ours, pod_ready, restarts, waiting
from .pachd.manifests import RESTORE_JOURNAL
from .progress_view import size_text
from .restore import journal as journals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .evidence import Evidence
    from .installation import Installation
    from .stores.base import Store

Object = dict[str, Any]

GRPC_PORT = "api-grpc-port"


def report(evidence: Evidence, now: dt.datetime) -> Object:
    """Return the state of the installation; sizes in bytes, ages in seconds, None or "" for what is not known.

    ``backups`` is for what :func:`backups_in` says, where a store is named.

    :param now: the time to count ages from, with its time zone.
    """
    installation = evidence.installation
    return {
        "namespace": installation.namespace,
        "installed": installation.runs,
        "managed": installation.runs and not installation.foreign,
        "kept": installation.record is not None and not installation.runs,
        "kubernetes": evidence.kubernetes,
        "backend": installation.backend,
        "store": installation.store,
        "cluster_id": evidence.pachd.cluster_id if evidence.pachd else evidence.etcd_cluster_id,
        "deployment_id": installation.deployment_id,
        "address": _address(installation),
        "pachd": _pachd(evidence, now),
        "etcd": _etcd(evidence),
        "claims": _claims(installation),
        "host_paths": installation.host_paths,
        "repos": _repos(evidence),
        "pipelines": _pipelines(evidence),
        "workers": _workers(installation),
        "images": _images(installation),
        "stand_in": evidence.stand_in,
        "restores": _restores(installation),
        "backups": None,
        "unknown": dict(evidence.unseen)
        | ({"etcd": evidence.etcd_trouble} if evidence.etcd_trouble else {})
        | ({"pachd": evidence.pachd_trouble} if evidence.pachd_trouble else {}),
    }


def backups_in(store: Store, cluster_id: str, max_age: int | None, now: dt.datetime) -> Object:
    """Return how the backups of a cluster are; a store that cannot be read is part of the answer.

    :param max_age: seconds after which the newest verified backup is too old, counted from when it was last known
        to have everything; None: it never is.
    """
    found: Object = {
        "store": store.where,
        "count": None,
        "verified": None,
        "failed": None,
        "latest": "",
        "latest_age": None,
        "latest_verified": "",
        "latest_verified_age": None,
        "latest_verified_current_age": None,
        "max_age": max_age,
        "rehearsal": {},
        "sound": False,
        "trouble": "",
    }
    try:
        if not cluster_id:
            raise BackupError("the cluster id is not known", why="neither pachd nor etcd could be asked for it")
        catalogue = read_catalogue(store, cluster_id)
        found["rehearsal"] = newest_rehearsal(store, cluster_id)
        newest = catalogue.latest_verified
        current = current_at(store, newest) if newest else None
    except PachopsError as error:
        return found | {"trouble": str(error)}
    found |= {
        "count": len(catalogue.backups),
        "verified": sum(each.verified for each in catalogue.backups),
        "failed": sum(each.failed for each in catalogue.backups),
    }
    for which, backup in (("latest", catalogue.latest), ("latest_verified", newest)):
        if backup is not None:
            found |= {which: backup.id, f"{which}_age": max(0, int((now - backup.time).total_seconds()))}
    if current is None:
        found["trouble"] = f"none of {found['count']} backups is verified" if found["count"] else "there is no backup"
        return found
    age = found["latest_verified_current_age"] = max(0, int((now - current).total_seconds()))
    if max_age is not None and age > max_age:
        found["trouble"] = f"the newest verified backup is {_age(age)} old, {_age(max_age)} are allowed"
    return found | {"sound": not found["trouble"]}


def _address(installation: Installation) -> Object:
    service = installation.find("Service", "pachd")
    if service is None:
        return {"cluster": "", "external": "", "type": ""}
    spec = service["spec"]
    port: Object = next((item for item in spec.get("ports") or [] if item.get("name") == GRPC_PORT), {})
    external = ""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress:
        external = f"{ingress[0].get('hostname') or ingress[0].get('ip')}:{port.get('port')}"
    elif spec.get("type") == "NodePort" and port.get("nodePort"):
        external = f"any node, port {port['nodePort']}"
    return {
        "cluster": f"pachd.{installation.namespace}.svc:{port.get('port', 650)}",
        "external": external,
        "type": str(spec.get("type") or "ClusterIP"),
    }


def _pachd(evidence: Evidence, now: dt.datetime) -> Object:
    installation = evidence.installation
    pods = installation.pods("pachd")
    pod = pods[0] if pods else None
    started = ((pod or {}).get("status") or {}).get("startTime")
    return {
        "version": evidence.pachd.version if evidence.pachd else "",
        "replicas": int((installation.pachd or {"spec": {}})["spec"].get("replicas", 1)) if installation.pachd else 0,
        "ready": bool(pod and pod_ready(pod)),
        "pod": name(pod) if pod else "",
        "age": _seconds_since(started, now),
        "restarts": restarts(pod) if pod else 0,
        "waiting": waiting(pod) if pod else "",
    }


def _seconds_since(stamp: str | None, now: dt.datetime) -> int | None:
    if not stamp:
        return None
    # Python 3.10 does not read the Z that Kubernetes writes.
    then = dt.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    return max(0, int((now - then).total_seconds()))


def _etcd(evidence: Evidence) -> Object:
    installation = evidence.installation
    workload = installation.etcd
    etcd = evidence.etcd
    return {
        "version": etcd.version if etcd else "",
        "members": int(workload["spec"].get("replicas") or 0) if workload else 0,
        "ready": int(workload.get("status", {}).get("readyReplicas") or 0) if workload else 0,
        "revision": etcd.revision if etcd else None,
        "size": etcd.size if etcd else None,
        "size_in_use": etcd.size_in_use if etcd else None,
        "alarms": list(etcd.alarms) if etcd else [],
    }


def _claims(installation: Installation) -> list[Object]:
    return [
        {
            "name": name(claim),
            "phase": str(claim.get("status", {}).get("phase") or ""),
            "size": str((claim.get("status", {}).get("capacity") or {}).get("storage") or ""),
            "storage_class": str(claim["spec"].get("storageClassName") or ""),
        }
        for claim in installation.of_kind("PersistentVolumeClaim")
        if labels(claim).get("suite") == "pachyderm" or ours(claim)
    ]


def _repos(evidence: Evidence) -> Object:
    if evidence.pachd is None:
        return {"count": None, "size": None}
    # __spec__ holds pipelines' specifications and is pachd's own.
    own = {repo: size for repo, size in evidence.pachd.repos.items() if repo != "__spec__"}
    return {"count": len(own), "size": sum(own.values())}


def _pipelines(evidence: Evidence) -> Object:
    if evidence.pachd is None:
        return {"count": None, "states": {}}
    states: dict[str, int] = {}
    for state in evidence.pachd.pipelines.values():
        states[state.lower()] = states.get(state.lower(), 0) + 1
    return {"count": len(evidence.pachd.pipelines), "states": dict(sorted(states.items()))}


def _workers(installation: Installation) -> Object:
    pods = [
        pod
        for pod in installation.of_kind("Pod")
        if labels(pod).get("suite") == "pachyderm" and labels(pod).get("component") == "worker"
    ]
    return {
        "controllers": len(installation.workers),
        "pods": len(pods),
        "ready": sum(1 for pod in pods if pod_ready(pod)),
    }


def _restores(installation: Installation) -> Object:
    found: Object = {"unfinished": "", "step": "", "set_aside": [], "since": ""}
    try:
        journal = journals.of(installation.find("ConfigMap", RESTORE_JOURNAL), installation.namespace)
    except PachopsError as error:
        return found | {"unfinished": str(error)}
    aside = journal.set_aside
    unfinished = journal.backup if journal.unfinished else ""
    return {
        "unfinished": unfinished,
        "step": journal.last if unfinished else "",
        "set_aside": aside,
        "since": journals.made(aside[0]) if aside else "",
    }


def _images(installation: Installation) -> Object:
    images = {}
    for part, workload in (("pachd", installation.pachd), ("etcd", installation.etcd)):
        images[part] = str(installation.container(workload, part).get("image") or "") if workload else ""
    worker = installation.pachd_environment().get("WORKER_IMAGE")
    images["worker"] = (worker.value or "") if worker else ""
    return images


def screen(state: Mapping[str, Any]) -> list[str]:
    """Return the report as lines of one screen."""
    namespace = state["namespace"]
    if not state["installed"]:
        if state["kept"]:
            rows = [
                ("pachyderm", f"removed from namespace {namespace}; its data is kept, and a deploy brings it back"),
                ("deployment id", state["deployment_id"]),
                ("data", _data(state)),
                ("backups", _backups_line(state.get("backups"))),
            ]
            return _table(rows)
        return [f"No Pachyderm in namespace {namespace}.", *_unknown(state)]
    rows = [
        ("pachyderm", _pachyderm(state)),
        ("", "this pachd is a stand-in for tests, not Pachyderm" if state["stand_in"] else ""),
        ("pachd", _pachd_line(state["pachd"])),
        ("etcd", _etcd_line(state["etcd"])),
        ("address", _address_line(state["address"])),
        ("cluster id", state["cluster_id"]),
        ("deployment id", state["deployment_id"]),
        ("data", _data(state)),
        ("metadata", _metadata(state)),
        ("repos", _repos_line(state["repos"])),
        ("pipelines", _pipelines_line(state["pipelines"])),
        ("workers", _workers_line(state["workers"])),
        ("backups", _backups_line(state.get("backups"))),
        ("restore", _restore_line(state.get("backups"))),
        ("", _unfinished_line(state["restores"])),
        ("", _set_aside_line(state["restores"])),
        *((f"image {part}", image) for part, image in state["images"].items()),
    ]
    return [*_table(rows), *_unknown(state)]


def _restore_line(backups: Mapping[str, Any] | None) -> str:
    """Return what the newest rehearsal says of how long a restore takes."""
    rehearsal = (backups or {}).get("rehearsal")
    if not rehearsal:
        return ""
    which = f"rehearsed {rehearsal['started']} with {rehearsal['backup_id']}"
    if rehearsal["passed"]:
        return f"✔ would take about {rehearsal['restore_seconds']:.0f} s, {which}"
    return f"✗ {which}: {rehearsal['error']}"


def _unfinished_line(restores: Mapping[str, Any]) -> str:
    if not restores["unfinished"]:
        return ""
    where = f", at the step '{restores['step']}'" if restores["step"] else ""
    return f"✗ not finished: {restores['unfinished']}{where}"


def _set_aside_line(restores: Mapping[str, Any]) -> str:
    count = len(restores["set_aside"])
    if not count:
        return ""
    return f"set aside by {count} restore{'s' if count > 1 else ''} since {restores['since']}, until one is confirmed"


def _backups_line(backups: Mapping[str, Any] | None) -> str:
    if backups is None:
        return ""
    if backups["count"] is None:
        return f"✗ {backups['trouble']}"
    parts = [f"{backups['count']} in {backups['store']}"]
    if backups["latest_verified"]:
        age = _age(backups["latest_verified_age"])
        parts.append(f"newest verified {backups['latest_verified']}, {age} old")
        if backups["latest_verified_current_age"] < backups["latest_verified_age"]:
            parts.append(f"nothing new {_age(backups['latest_verified_current_age'])} ago")
    if backups["failed"]:
        parts.append(f"{backups['failed']} FAILED their verification")
    line = ", ".join(parts)
    return f"✗ {backups['trouble']}; {line}" if backups["trouble"] else f"✔ {line}"


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(label) for label, _text in rows)
    return [f"{label:<{width}}  {text}".rstrip() for label, text in rows if text]


def _unknown(state: Mapping[str, Any]) -> list[str]:
    return [f"not known: {what}: {why}" for what, why in state["unknown"].items()]


def _pachyderm(state: Mapping[str, Any]) -> str:
    version = state["pachd"]["version"] or "of unknown version"
    owner = "" if state["managed"] else ", not deployed by this collection"
    return f"{version} in namespace {state['namespace']} on Kubernetes {state['kubernetes']}{owner}"


def _pachd_line(pachd: Mapping[str, Any]) -> str:
    if not pachd["pod"]:
        return "scaled to zero" if pachd["replicas"] == 0 else "no pod"
    state = "ready" if pachd["ready"] else f"not ready ({pachd['waiting'] or 'starting'})"
    age = "" if pachd["age"] is None else f", up {_age(pachd['age'])}"
    return f"{state}{age}, {pachd['restarts']} restarts, pod {pachd['pod']}"


def _age(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _etcd_line(etcd: Mapping[str, Any]) -> str:
    members = f"{etcd['ready']} of {etcd['members']} members ready"
    if etcd["revision"] is None:
        return f"{members}, not reached"
    alarms = f"ALARM {', '.join(etcd['alarms'])}" if etcd["alarms"] else "no alarm"
    return f"{etcd['version']}, {members}, {alarms}, {size_text(etcd['size'])}, revision {etcd['revision']}"


def _address_line(address: Mapping[str, Any]) -> str:
    if not address["cluster"]:
        return "no Service pachd"
    outside = f"; from outside {address['external']}" if address["external"] else "; from outside by port-forward"
    return f"{address['cluster']} in the cluster{outside}"


def _data(state: Mapping[str, Any]) -> str:
    backend = state["backend"] or "unknown backend"
    return f"{backend}, {state['store'].partition(':')[2] or 'place not known'}"


def _metadata(state: Mapping[str, Any]) -> str:
    if "metadata" in state["host_paths"]:
        return f"directory {state['host_paths']['metadata']} of the node"
    claims = [
        f"{claim['name']} {claim['phase']} {claim['size']} {claim['storage_class']}".replace("  ", " ").rstrip()
        for claim in state["claims"]
    ]
    return f"claim {', '.join(claims)}" if claims else "no claim"


def _repos_line(repos: Mapping[str, Any]) -> str:
    return "not known" if repos["count"] is None else f"{repos['count']}, {size_text(repos['size'])} at their heads"


def _pipelines_line(pipelines: Mapping[str, Any]) -> str:
    if pipelines["count"] is None:
        return "not known"
    states = ", ".join(f"{count} {state}" for state, count in pipelines["states"].items())
    return f"{pipelines['count']}" + (f" ({states})" if states else "")


def _workers_line(workers: Mapping[str, Any]) -> str:
    return f"{workers['ready']} of {workers['pods']} pods ready, {workers['controllers']} controllers"
