# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Taking over an installation that somebody else deployed: the inventory that describes it, and what would change.

The inventory's variables are those of the playbook deploy; no secret is among them, for the storage secret stays
where it is.  The plan is a server-side dry run of that deployment with a reason for each difference, so that a person
decides before anything is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .discovery import Discovery
from .errors import InputError
from .findings import Finding, error
from .installation import ours
from .kube.apply import SECRETIVE, Change
from .pachd import deployment
from .pachd.settings import Settings

if TYPE_CHECKING:
    from .kube.client import Kube

_LICENCE = "# Written by the playbook adopt. A line here overrides a default of the collection; see docs/adopt.md.\n"
# Never left to a default: where a cluster brings its own image of etcd, that would be another version of it.
_ALWAYS = ("etcd",)
_LONGEST = 60  # characters of a value in the table


@dataclass(frozen=True)
class Difference:
    """One thing that a deployment does to one object.

    :param object: kind, namespace and name.
    :param action: ``created``, ``updated``, ``replaced`` or ``deleted``.
    :param why: the reason, "" where there is none: then somebody should look before deploying.
    :param fields: what changes, as ``path: old → new``; empty for a whole object.
    :param restarts: ``pachd``, ``etcd``, ``dash`` or "".
    """

    object: str
    action: str
    why: str
    fields: Sequence[str]
    restarts: str


@dataclass(frozen=True)
class Plan:
    """What a deployment with the inventory would do; nothing where ``findings`` has errors."""

    variables: Mapping[str, Any]
    differences: Sequence[Difference]
    findings: Sequence[Finding]

    @property
    def adoptable(self) -> bool:
        """Whether a deployment may take the installation over in place."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def restarts(self) -> list[str]:
        """What would be restarted."""
        return sorted({item.restarts for item in self.differences if item.restarts})

    @property
    def unexplained(self) -> list[Difference]:
        """The differences without a reason."""
        return [item for item in self.differences if not item.why]


def plan(kube: Kube, discovery: Discovery, *, ask: bool = True) -> Plan:
    """Ask the API server what a deployment would change; nothing is written.

    :param ask: without it the differences stay empty.
    :raises ClusterError: the API cannot be reached or refuses.
    """
    findings = list(discovery.findings)
    differences: list[Difference] = []
    try:
        settings = Settings.parse(discovery.options)
        if ask:
            differences = explain(deployment.deploy(kube, settings, check_mode=True, adopt=True).changes)
    except InputError as refusal:
        findings.append(
            error(
                "in-place",
                refusal.why or refusal.what,
                "settings under which the existing data is found",
                "Move the data: back the installation up and restore it into a new one (playbooks backup, restore).",
            )
        )
    return Plan(variables(discovery), differences, findings)


# -- inventory --------------------------------------------------------------------------------------------------------


def variables(discovery: Discovery) -> dict[str, Any]:
    """Return the variables that describe the installation; what equals the collection's defaults is left out."""
    options = minimal(discovery.options)
    result: dict[str, Any] = {
        "backend": options.pop("backend", "local"),
        "pachyderm_namespace": options.pop("namespace", discovery.namespace),
        "pachyderm_version": options.pop("version", discovery.version),
        "pachyderm_adopt": True,
        "storage_secret_mode": "existing",
    }
    return {**result, **{f"pachyderm_{key}": value for key, value in options.items()}}


def minimal(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``options`` without those that change nothing."""
    kept = {key: value for key, value in options.items() if value not in (None, "", {}, [])}
    wanted = Settings.parse(kept)

    def needed(candidate: Mapping[str, Any]) -> bool:
        try:
            return Settings.parse(candidate) != wanted
        except InputError:
            return True

    for key in list(kept):
        if key in ("backend", "namespace", "version"):
            continue
        parts = kept[key]
        if isinstance(parts, dict) and key in ("images", "resources"):
            for part in list(parts):
                fewer = {name: value for name, value in parts.items() if name != part}
                if not (key == "images" and part in _ALWAYS) and not needed({**kept, key: fewer}):
                    parts = fewer
            kept[key] = parts
        rest = {name: value for name, value in kept.items() if name != key}
        if parts == {} or (not needed(rest) and key != "images"):
            kept = rest
    return kept


def inventory(discovery: Discovery, variables: Mapping[str, Any], findings: Iterable[Finding]) -> str:
    """Return the text of a ``group_vars/all.yml``: what was found as comments, then the variables."""
    import yaml  # ansible-core has it, and the engine's other parts do without

    storage, etcd = discovery.storage, discovery.etcd
    place = storage.bucket or storage.host_path
    version = discovery.version or "of an unknown version"
    where = f"{storage.backend or 'unknown'} {place}{' at ' + storage.endpoint if storage.endpoint else ''}"
    lines = [
        _LICENCE.rstrip(),
        f"# Found in namespace {discovery.namespace}: Pachyderm {version}, made by {discovery.maker}.",
        f"# Objects: {where}, keys {storage.spelling}, credentials: {storage.auth}.",
        f"# etcd: {etcd.kind or 'none'} with {etcd.members} of {etcd.version or etcd.image}, on "
        f"{etcd.volume.replace('_', ' ') or 'nothing'} {etcd.place}".rstrip()
        + ".",
        f"# Users' pachctl knows it as {discovery.deployment_id or 'nothing'}; a deployment keeps that.",
        "# The storage secret stays as it is; pachyderm_adopt may go once a deployment has taken the objects over.",
        "---",
    ]
    text = yaml.safe_dump(dict(variables), sort_keys=False, default_flow_style=False, width=110, allow_unicode=True)
    notes = [f"# {item.severity}: {item.found}. {item.fix}" for item in findings]
    return "\n".join(
        [*lines, text.rstrip(), *(["", "# What these variables cannot say:"] if notes else []), *notes, ""]
    )


# -- differences ------------------------------------------------------------------------------------------------------

_LABELS = "marks the object as kept by the collection"
_BEGIN = r"spec\.template\."
_CONTAINER = r"spec\.template\.spec\.containers\[[\w-]+\]\."

# Kind/name, then the path, each as a whole; the first that fits explains.
_REASONS: Sequence[tuple[str, str, str]] = (
    (r".*", r"metadata\.labels.*", _LABELS),
    (r".*", r"metadata\.annotations\[deployment\.kubernetes\.io/.*", "a new object counts its revisions anew"),
    (r".*", r"metadata\.annotations\[(meta\.helm\.sh|helm\.sh)/.*", "the chart no longer keeps the object"),
    (r"ServiceAccount/.*", r"metadata\.annotations.*", "the account that pachd runs under has the identity"),
    (r"Service/etcd", r"spec\.(type|externalTrafficPolicy|ports.*nodePort)", "etcd has no password"),
    (r"Service/.*", r"spec\.ports.*\.(targetPort|protocol|name|appProtocol|port)", "the same ports, spelt out"),
    (r"Service/.*", r"spec\.ports.*", "ports that pachd listens on and the Service lacked, or reaches otherwise"),
    (r"Service/.*", r"spec\.selector.*", "selects this Pachyderm's pods and no others of that name"),
    (r"Service/etcd-headless", r"spec\..*", "members find each other before they are ready"),
    (r"Service/.*", r"metadata\.annotations.*", "Prometheus finds the port"),
    (r"ClusterRoleBinding/.*", r"(roleRef|subjects).*", "a role of this namespace's own, which allows to count nodes"),
    (r"(Role|RoleBinding)/.*", r".*", "rights within the namespace, and no more than pachd uses"),
    (r"ConfigMap/.*", r".*", "what outlives a redeployment, the deployment id above all"),
    (r"StatefulSet/etcd", r"spec\.volumeClaimTemplates.*", "the same claims, described in today's form"),
    (r"StatefulSet/etcd", r"spec\.(podManagementPolicy|updateStrategy|persistentVolumeClaim|minReady).*",
     "members start together: none of them waits for a quorum that cannot be"),
    (r"(StatefulSet|Deployment)/etcd", _CONTAINER + r"(command|args|env).*",
     "the same limits without a shell, which images since etcd 3.5.7 lack"),
    (r"Deployment/pachd", r"spec\.(strategy|progressDeadline|revisionHistory|minReady).*",
     "never two pachds on one etcd and bucket"),
    (r"Deployment/.*", r"spec\.(strategy|progressDeadline|revisionHistory|minReady|replicas).*",
     "a new object has the defaults of today's Kubernetes"),
    (r"(Deployment|StatefulSet)/.*", r"spec\.selector.*", "the labels that pachd and pachctl select by"),
    (r"(Deployment|StatefulSet)/.*", _BEGIN + r"metadata\.labels.*", "the labels that pachd and pachctl select by"),
    (r"Deployment/pachd", _BEGIN + r"metadata\.annotations\[pachops.*", "a new secret restarts pachd"),
    (r"Deployment/pachd", _BEGIN + r"metadata\.annotations.*",
     "an empty role confuses kube2iam (pachyderm/pachyderm#3352)"),
    (r".*", _BEGIN + r"metadata\.(annotations|name|namespace|creationTimestamp).*", "described in today's form"),
    (r"Deployment/pachd", _CONTAINER + r"env\[NO_EXPOSE_DOCKER_SOCKET\].*",
     "workers die on nodes without Docker otherwise (pachyderm/pachyderm#4575)"),
    (r"Deployment/pachd", _CONTAINER + r"env\[METRICS\].*", "pachd reports to its maker's host otherwise"),
    (r"Deployment/pachd", _CONTAINER + r"env\[(WORKER_IMAGE|WORKER_SIDECAR_IMAGE)\].*",
     "the same image, its name in full"),
    (r"Deployment/pachd", _CONTAINER + r"env\[PACHYDERM_AUTHENTICATION_DISABLED_FOR_TESTING\].*",
     "no installation with data runs without authentication by accident"),
    (r"Deployment/pachd", _CONTAINER + r"env\[(PACHD_POD_NAME|PACH_NAMESPACE|PACHD_POD_NAMESPACE|"
     r"PACHD_MEMORY_REQUEST|PPS_WORKER_GRPC_PORT|STORAGE_\w+|WORKER_SERVICE_ACCOUNT|CLUSTER_DEPLOYMENT_ID|"
     r"REQUIRE_CRITICAL_SERVERS_ONLY|EXPOSE_OBJECT_API|IMAGE_PULL_SECRET|NUM_SHARDS|IAM_ROLE|ETCD_PREFIX|"
     r"WORKER_IMAGE_PULL_POLICY|LOG_LEVEL|BLOCK_CACHE_BYTES)\].*", "pachd of this version wants it said"),
    (r"Deployment/pachd", _CONTAINER + r"env\[\w+\]\.valueFrom.*", "tuning of the storage secret reaches pachd"),
    (r".*", _CONTAINER + r"(readinessProbe|startupProbe|livenessProbe).*",
     "a busy node answers later than the one second that Kubernetes allows by default"),
    (r".*", _CONTAINER + r"securityContext.*", "no powers that it does not need"),
    (r".*", _CONTAINER + r"image\b.*", "the same image, its name in full"),
    (r".*", _CONTAINER + r"imagePullPolicy", "one policy for every part"),
    (r".*", _CONTAINER + r"ports.*", "the ports in full; the same answer"),
    (r".*", _CONTAINER + r"resources.*", "without a request of memory pachd cannot size its buffers"),
    (r"Deployment/pachd", r"spec\.template\.spec\.(volumes|containers\[[\w-]+\]\.volumeMounts)\[/?pach-cache\].*",
     "the cache has a volume of its own"),
    (r".*", r"spec\.template\.spec\.(volumes|containers\[[\w-]+\]\.volumeMounts).*",
     "the same volume under the name that the collection gives it"),
    (r".*", r"spec\.template\.spec\.(enableServiceLinks|automountServiceAccountToken)",
     "etcd takes variables of its own Service for options; pachd needs those"),
    (r".*", r"spec\.template\.spec\.(serviceAccount|serviceAccountName)", "the account with the rights above"),
    (r".*", r"spec\.template\.spec\.imagePullSecrets.*", "the secret that the workers pull with"),
    (r"StatefulSet/etcd", r"spec\.template\.spec\.(affinity|nodeSelector|tolerations|priorityClassName).*",
     "placed as pachd is; members on different nodes"),
)  # fmt: skip

_WHOLE: Sequence[tuple[str, str, str]] = (
    ("ConfigMap/pachops-installation", "created", "what outlives a redeployment, the deployment id above all"),
    ("ServiceAccount/.*", "created", "pachd and its workers have accounts of these names"),
    ("ClusterRole/.*", "created", "allows to count nodes, and is this namespace's own"),
    ("ClusterRoleBinding/.*", "created", "allows to count nodes, and is this namespace's own"),
    ("Role(Binding)?/.*", "created", "rights within the namespace, and no more than pachd uses"),
    ("StatefulSet/etcd", "created", "etcd goes on under a StatefulSet, on the same directory or claim"),
    ("Deployment/etcd", "deleted", "etcd goes on under a StatefulSet, on the same directory or claim"),
    ("Service/etcd-headless", "created", "names for etcd's members"),
    ("Service/pachd-peer", "created", "workers reach pachd by it"),
    ("NetworkPolicy/etcd", "created", "etcd has no password: only pachd, workers and backups reach it"),
)


def explain(changes: Iterable[Change]) -> list[Difference]:
    """Return what ``changes`` do, one entry per object and reason."""
    found: list[Difference] = []
    for change in changes:
        if not change.changed:
            continue
        ref = change.ref
        title = f"{ref.kind}/{ref.name}"
        restarts = ref.name if ref.kind in ("Deployment", "StatefulSet") and ref.name in _RESTARTED else ""
        if change.before is None or change.after is None:
            why = next(
                (why for what, action, why in _WHOLE if re.fullmatch(what, title) and action == change.action), ""
            )
            found.append(Difference(title, change.action, why, (), restarts))
            continue
        reasons: dict[str, list[str]] = {}
        for path, old, new in _leaves(change.before, change.after, ""):
            reasons.setdefault(_reason(title, path), []).append(_shown(path, old, new))
        replaced = restarts and not ours(change.before)
        touched = any("spec.template." in text for texts in reasons.values() for text in texts)
        action = "replaced" if replaced else change.action
        restart = restarts if replaced or touched else ""
        found += [Difference(title, action, why, tuple(texts), restart) for why, texts in reasons.items()]
    return found


def table(differences: Sequence[Difference]) -> list[str]:
    """Return the differences as lines for a person, object by object."""
    if not differences:
        return ["Nothing: the cluster has what the inventory says."]
    lines: list[str] = []
    last = ""
    for item in differences:
        head = f"{item.object} ({item.action}{', restarts ' + item.restarts if item.restarts else ''})"
        if head != last:
            lines.append(head)
            last = head
        lines.append(f"    {item.why or 'NOT EXPLAINED: look before you deploy'}")
        lines += [f"        {text}" for text in item.fields if item.why != _LABELS]
    return lines


_RESTARTED = ("pachd", "etcd", "dash")


def _reason(title: str, path: str) -> str:
    return next((why for what, where, why in _REASONS if re.fullmatch(what, title) and re.fullmatch(where, path)), "")


def _leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, old and new value of everything that differs; None is "not there"."""
    if old == new:
        return
    if isinstance(old, list) or isinstance(new, list):
        before, after = _keyed(old), _keyed(new)
        if before is not None and after is not None:
            for item in dict.fromkeys([*before, *after]):
                yield from _leaves(before.get(item), after.get(item), f"{path}[{item}]")
            return
    elif isinstance(old, dict) or isinstance(new, dict):
        before, after = old if isinstance(old, dict) else {}, new if isinstance(new, dict) else {}
        opened = ("labels", "annotations", "spec", "metadata")
        # One line for a whole part that comes or goes, but variables and labels by their names.
        if path and (old in (None, {}) or new in (None, {})) and not path.endswith(opened):
            yield path, old, new
            return
        for key in dict.fromkeys([*before, *after]):
            where = f"{path}[{key}]" if path.endswith(("annotations", "labels")) else f"{path}.{key}".lstrip(".")
            yield from _leaves(before.get(key), after.get(key), where)
        return
    yield path, old, new


def _keyed(items: Any) -> dict[str, Any] | None:
    """Return a list's items by what tells them apart, None where nothing does."""
    if items is None:
        return {}
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    for key in ("mountPath", "name", "port", "containerPort"):
        if items and all(key in item for item in items):
            return {str(item[key]): item for item in items}
    return {} if not items else None


def _shown(path: str, old: Any, new: Any) -> str:
    hidden = SECRETIVE.search(path.rpartition("env[")[2].partition("]")[0]) if "env[" in path else None
    return f"{path}: {_brief(old, bool(hidden))} → {_brief(new, bool(hidden))}"


def _brief(value: Any, hidden: bool) -> str:
    if value is None:
        return "–"
    if hidden and not (isinstance(value, dict) and "value" not in value):
        return "(hidden)"
    text = (value if isinstance(value, str) else json.dumps(value, sort_keys=True)) or '""'
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
