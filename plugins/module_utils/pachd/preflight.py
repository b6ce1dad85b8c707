# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Everything that would keep a deployment from working, found before anything is written, and all at once.

Each check is a function of :class:`Request` that yields findings; none stops the others, and what an identity may not
look at is a warning and not a failure.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, Literal

from .. import findings
from ..errors import ClusterError, ImageError, InputError, PachopsError
from ..findings import Finding
from ..kube.apply import data_of
from ..kube.client import Access, Kube, Ref
from ..kube.kinds import kind_of
from . import deployment, images, manifests, storage_secret
from .settings import Settings
from .versions import KUBERNETES_MINORS, SUPPORTED

Object = dict[str, Any]
ImageCheck = Literal["error", "warning", "off"]

# Seconds for all of it; connecting to an unreachable API takes ten of them.
BUDGET = 18.0

_UNITS: Mapping[str, Decimal] = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_QUANTITY = re.compile(r"(?P<number>\d+(\.\d+)?(e\d+)?)(?P<unit>[A-Za-z]*)")
# What the scheduler counts.
_SCHEDULED = ("cpu", "memory")
_IN_TREE = {"kubernetes.io/gce-pd": "pd.csi.storage.gke.io", "kubernetes.io/aws-ebs": "ebs.csi.aws.com"}


@dataclass
class Request:
    """What is to be deployed, and where.

    :param settings: None where the options could not be used; only checks that do without run then.
    :param archives: image archives that are, or are about to be, imported into the cluster's nodes.
    :param imported: names of images that were imported already.
    :param image_check: how grave it is that a registry cannot be asked from here; ``off`` asks none.
    :param secret_comes_later: the storage secret is written after the preflight, so that its absence is no finding.
    :param send: see :func:`.images.check`.
    """

    namespace: str
    settings: Settings | None = None
    archives: Sequence[str] = ()
    imported: Sequence[str] = ()
    image_check: ImageCheck = "error"
    secret_comes_later: bool = False
    adopt: bool = False
    send: images.Send | None = None
    started: float = field(default_factory=time.monotonic)


def inspect(connect: Callable[[], Kube], options: Mapping[str, Any], request: Request) -> list[Finding]:
    """Run all checks and return their findings.

    :param connect: returns the cluster's client; its failure is a finding like any other.
    :param options: the options of ``pachyderm_deploy``, from which ``request.settings`` is made.
    """
    found: list[Finding] = []
    try:
        request.settings = Settings.parse(options)
        found.append(
            findings.ok("settings", f"Pachyderm {request.settings.release.version}, all settings fit together")
        )
    except InputError as error:
        found += [findings.error("settings", part, "", error.fix) for part in error.why.split("; ")]
    found += _libraries()
    try:
        kube = connect()
        found.append(findings.ok("api", f"answers as Kubernetes {kube.server_version()}"))
    except ClusterError as error:
        kube = None
        found.append(findings.error("api", _found(error), "an API server that answers", error.fix))
    if kube is not None:
        for check in _CHECKS:
            found += _guarded(check, kube, request)
    found += _images(kube, request)
    return found


def _guarded(check: Callable[[Kube, Request], Iterable[Finding]], kube: Kube, request: Request) -> list[Finding]:
    try:
        return list(check(kube, request))
    except ClusterError as error:
        name = check.__name__.strip("_").replace("_", "-")
        return [findings.warning(name, _found(error), "it can be looked at", error.fix)]


def _found(error: PachopsError) -> str:
    place = f"{error.what} ({error.where})" if error.where else error.what
    return f"{place}: {error.why}" if error.why else place


def _libraries() -> Iterator[Finding]:
    missing = [name for name in ("grpc", "python_pachyderm", "requests") if find_spec(name) is None]
    if missing:
        fix = "Install the collection's requirements.txt into ansible_playbook_python."
        yield findings.error("python-libraries", f"missing: {', '.join(missing)}", "all are installed", fix)


def _kubernetes_version(kube: Kube, _request: Request) -> Iterator[Finding]:
    version = kube.server_version()
    wanted = f"1.{KUBERNETES_MINORS[0]} to 1.{KUBERNETES_MINORS[-1]}"
    major, minor = (int("".join(char for char in part if char.isdigit()) or 0) for part in version.split(".")[:2])
    if major == 1 and minor in KUBERNETES_MINORS:
        yield findings.ok("kubernetes-version", version, wanted)
    elif (major, minor) < (1, KUBERNETES_MINORS[0]):
        yield findings.error("kubernetes-version", version, wanted, "Upgrade the cluster, or give another kubeconfig.")
    else:
        fix = "Go on if you like: newer releases usually work, but this collection is not tested on them."
        yield findings.warning("kubernetes-version", version, wanted, fix)


def _namespace(kube: Kube, request: Request) -> Iterator[Finding]:
    check = "namespace"
    live = kube.get(Ref("v1", "Namespace", None, request.namespace))
    if live is None:
        yield findings.ok(check, f"{request.namespace} does not exist yet and will be created")
        return
    if (live.get("status") or {}).get("phase") == "Terminating":
        fix = "Wait until it is gone, or choose another one."
        yield findings.error(check, f"{request.namespace} is being deleted", "a namespace that stays", fix)
        return
    yield findings.ok(check, f"{request.namespace} exists")
    level = (live["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce", "privileged")
    backend = request.settings.backend if request.settings else ""
    # Workers run as root, and with backend=local everything mounts a directory of the node.
    allowed = "privileged" if backend == "local" else "baseline or privileged"
    if level == "restricted" or (level == "baseline" and backend == "local"):
        reason = "mounts a directory of the node" if level == "baseline" else "runs as root, and so do its workers"
        fix = f"kubectl label --overwrite namespace {request.namespace} pod-security.kubernetes.io/enforce=" + (
            "privileged" if backend == "local" else "baseline"
        )
        yield findings.error("pod-security", f"the namespace enforces {level}, but pachd {reason}", allowed, fix)


def _permissions(kube: Kube, request: Request) -> Iterator[Finding]:
    if request.settings is None:
        return
    namespace = request.namespace
    everything = [("*", "*", "*", None)] if request.settings.cluster_roles else [("*", "*", "*", namespace)]
    denied = kube.can_i(everything) and kube.can_i(_accesses(kube, request.settings))
    if not denied:
        yield findings.ok("permissions", "all that a deployment needs")
        return
    verbs: dict[str, set[str]] = {}
    for access in denied:
        verbs.setdefault(_resource(access), set()).add(access.verb)
    lines = [f"{resource}: {', '.join(sorted(verbs[resource]))}" for resource in sorted(verbs)]
    fix = f"Let an administrator grant them in namespace {namespace}, or use another context."
    yield findings.error("permissions", "not allowed:\n" + "\n".join(lines), "all that a deployment needs", fix)


def _resource(access: Access) -> str:
    name = f"{access.resource}.{access.group}" if access.group else access.resource
    return name if access.namespace else f"{name} (cluster-wide)"


def _accesses(kube: Kube, settings: Settings) -> list[Access]:
    """Return every right that a deployment of ``settings`` uses, those that it hands on to pachd included."""
    namespace = settings.namespace
    wanted: dict[Access, None] = {}
    for obj in manifests.all_objects(settings):
        group = obj["apiVersion"].rpartition("/")[0]
        row = kind_of(obj["apiVersion"], obj["kind"])
        for verb in ("get", "create", "patch"):
            wanted[Access(verb, group, row.plural, namespace if row.namespaced else None)] = None
        # Nobody can grant more than they hold: the API server refuses a Role with other rules.
        for rule in obj.get("rules") or []:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    wanted[Access(verb, "", resource, namespace if row.namespaced else None)] = None
    for verb, group, resource in (
        ("get", "", "secrets"),
        ("create", "", "secrets"),
        ("patch", "", "secrets"),
        ("list", "", "pods"),
        ("get", "", "pods/log"),
        ("list", "", "events"),
        ("get", "", "pods/portforward"),
        ("list", "apps", "deployments"),
        ("list", "apps", "statefulsets"),
    ):
        wanted[Access(verb, group, resource, namespace)] = None
    if kube.get(Ref("v1", "Namespace", None, namespace)) is None:
        for verb in ("create", "patch"):
            wanted[Access(verb, "", "namespaces", None)] = None
    return list(wanted)


def _foreign_installation(kube: Kube, request: Request) -> Iterator[Finding]:
    if request.settings is None:
        return
    if not request.adopt:
        try:
            deployment.refuse_foreign(kube, request.settings)
        except InputError as error:
            yield findings.error("foreign-installation", error.why, "an empty namespace, or our own", error.fix)
    try:
        deployment.refuse_orphaned_data(kube, request.settings)
    except InputError as error:
        yield findings.error("existing-data", error.why, "the values that the installation has", error.fix)


def _version_step(kube: Kube, request: Request) -> Iterator[Finding]:
    record = kube.get(Ref("v1", "ConfigMap", request.namespace, manifests.INSTALLATION_NAME))
    old = str(((record or {}).get("data") or {}).get("pachyderm-version", ""))
    if request.settings is None or old not in SUPPORTED or old == request.settings.release.version:
        return
    new = request.settings.release.version
    if SUPPORTED.index(new) < SUPPORTED.index(old):
        fix = f"Keep pachyderm_version={old}, or take a backup first: Pachyderm's makers never supported this."
        yield findings.warning("version-step", f"{old} would go back to {new}", "the same version, or a newer one", fix)
    else:
        yield findings.ok("version-step", f"{old} will be upgraded to {new}; workers follow when pachd is ready")


def _storage_class(kube: Kube, request: Request) -> Iterator[Finding]:
    if request.settings is None or request.settings.etcd_storage.host_path:
        return
    check, name = "storage-class", request.settings.etcd_storage.storage_class
    classes = kube.list("storage.k8s.io/v1", "StorageClass")
    names = ", ".join(item["metadata"]["name"] for item in classes) or "none"
    if name:
        chosen = [item for item in classes if item["metadata"]["name"] == name]
    else:
        mark = "storageclass.kubernetes.io/is-default-class"
        chosen = [item for item in classes if (item["metadata"].get("annotations") or {}).get(mark) == "true"]
    if not chosen:
        found = f"{name} is not among the cluster's classes: {names}" if name else f"no default; there are: {names}"
        fix = "Set pachyderm_etcd_storage.storage_class to one of them, or create one: etcd's claim would stay unbound."
        yield findings.error(check, found, name or "a default StorageClass", fix)
        return
    provisioner = str(chosen[0].get("provisioner", ""))
    found = f"{chosen[0]['metadata']['name']} ({provisioner})"
    if provisioner == "kubernetes.io/no-provisioner":
        fix = f"Make sure that {request.settings.etcd_members} volumes of this class are free."
        yield findings.warning(check, f"{found}: volumes are made by hand", "dynamic volumes", fix)
    elif provisioner in _IN_TREE:
        fix = f"Make sure that the driver {_IN_TREE[provisioner]} is installed: Kubernetes hands this class over to it."
        yield findings.warning(check, found, "a CSI driver", fix)
    else:
        yield findings.ok(check, found)


def _usable_nodes(kube: Kube, settings: Settings) -> list[Object]:
    selector = settings.node_selector.items()
    return [
        node
        for node in kube.list("v1", "Node")
        if not node.get("spec", {}).get("unschedulable")
        and selector <= (node["metadata"].get("labels") or {}).items()
        and any(
            item["type"] == "Ready" and item["status"] == "True"
            for item in node.get("status", {}).get("conditions") or []
        )
    ]


def _nodes(kube: Kube, request: Request) -> Iterator[Finding]:
    if request.settings is None:
        return
    usable = [node["metadata"]["name"] for node in _usable_nodes(kube, request.settings)]
    if not usable:
        fix = "Check `kubectl get nodes` and pachyderm_node_selector."
        yield findings.error("nodes", "no node is ready, schedulable and selected", "at least one", fix)
    elif len(usable) > 1 and request.settings.host_path:
        found = f"{len(usable)} nodes can take pachd and its workers: {', '.join(sorted(usable)[:5])}"
        fix = "Set pachyderm_node_selector to one node (kubernetes.io/hostname), or use an object store."
        wanted = "one node: backend=local keeps everything in its directory"
        yield findings.error("nodes", found, wanted, fix)
    else:
        yield findings.ok("nodes", f"{len(usable)} ready")


def _capacity(kube: Kube, request: Request) -> Iterator[Finding]:
    """Judge whether the pods will find a place: the scheduler counts what others asked for, not what they use."""
    if request.settings is None:
        return
    asked = {
        name: {resource: _request(resources, resource) for resource in _SCHEDULED}
        for name, resources in _containers(request.settings)
    }
    free = _free(kube, request, asked)
    if not free:
        return
    names = [*asked, *["etcd"] * (request.settings.etcd_members - 1)]
    homeless = []
    for name in sorted(names, key=lambda each: asked[each]["cpu"], reverse=True):
        rooms = [room for room in free.values() if all(room[part] >= asked[name][part] for part in _SCHEDULED)]
        if not rooms:
            homeless.append(f"{name} asks for {_amounts(asked[name])}")
            continue
        room = max(rooms, key=lambda each: each["cpu"])
        for part in _SCHEDULED:
            room[part] -= asked[name][part]
    if not homeless:
        yield findings.ok("capacity", "the nodes have the CPU and the memory that is asked for")
        return
    left = [f"node {name} would have {_amounts(room)} left" for name, room in sorted(free.items())[:5]]
    fix = (
        "Remove what is not needed (`kubectl describe node` lists who asked for how much), add a node, or ask for less "
        "with pachyderm_resources."
    )
    yield findings.error("capacity", "\n".join([*homeless, *left]), "a node that has this to spare for each", fix)


def _free(kube: Kube, request: Request, replaced: Iterable[str]) -> dict[str, dict[str, Decimal]]:
    """Return what each usable node has to spare of each resource; nodes that do not say are left out.

    :param replaced: names of the applications whose pods give their place to their successors.
    """
    free = {}
    for node in _usable_nodes(kube, request.settings) if request.settings else []:
        allocatable = node.get("status", {}).get("allocatable") or {}
        if set(_SCHEDULED) <= set(allocatable):
            free[node["metadata"]["name"]] = {part: quantity(str(allocatable[part])) for part in _SCHEDULED}
    for pod in kube.list("v1", "Pod") if free else []:
        room = free.get(pod["spec"].get("nodeName", ""))
        labels = pod["metadata"].get("labels") or {}
        ours = pod["metadata"]["namespace"] == request.namespace and labels.get("suite") == "pachyderm"
        ended = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        if room and not ended and not (ours and str(labels.get("app")) in replaced):
            for part in _SCHEDULED:
                room[part] -= _pod_request(pod["spec"], part)
    return free


def _amounts(resources: Mapping[str, Decimal]) -> str:
    return f"{resources['cpu'].normalize():f} CPUs and {int(resources['memory']) // 2**20} MiB"


def _request(resources: Mapping[str, Any], resource: str) -> Decimal:
    # Kubernetes takes the limit where nothing is asked for.
    asked = (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(resource)
    return quantity(str(asked or 0))


def _pod_request(spec: Mapping[str, Any], resource: str) -> Decimal:
    """Return what a pod counts for: its containers together, or its greediest init container, and its overhead."""
    together = sum((_request(item.get("resources") or {}, resource) for item in spec["containers"]), Decimal(0))
    starting = Decimal(0)
    for item in spec.get("initContainers") or []:
        asked = _request(item.get("resources") or {}, resource)
        if item.get("restartPolicy") == "Always":
            together += asked
        else:
            starting = max(starting, asked)
    return max(together, starting) + quantity(str((spec.get("overhead") or {}).get(resource, 0)))


def _limits(kube: Kube, request: Request) -> Iterator[Finding]:
    if request.settings is None:
        return
    ranges = [
        item
        for limit_range in kube.list("v1", "LimitRange", request.namespace)
        for item in limit_range.get("spec", {}).get("limits") or []
        if item.get("type") == "Container"
    ]
    problems = [
        problem
        for name, resources in _containers(request.settings)
        for item in ranges
        for problem in _range_problems(name, resources, item)
    ]
    if problems:
        fix = "Set pachyderm_resources, or let an administrator change the LimitRange."
        yield findings.error("limit-range", "\n".join(problems), "limits that leave room for the requests", fix)
    for quota in kube.list("v1", "ResourceQuota", request.namespace):
        hard = quota.get("spec", {}).get("hard") or {}
        for resource in ("cpu", "memory"):
            bare = [name for name, item in _containers(request.settings) if resource not in item.get("limits", {})]
            default = any(resource in (item.get("default") or {}) for item in ranges)
            if f"limits.{resource}" in hard and bare and not default:
                found = f"quota {quota['metadata']['name']} wants a {resource} limit, and {', '.join(bare)} has none"
                fix = f"Set pachyderm_resources.{bare[0]}.limits.{resource}."
                yield findings.error("resource-quota", found, f"a {resource} limit for each", fix)


def _containers(settings: Settings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("pachd", "etcd", *(["dash"] if settings.dash else [])):
        yield name, settings.resources[name]


def _range_problems(name: str, resources: Mapping[str, Any], item: Mapping[str, Any]) -> Iterator[str]:
    for resource, asked in (resources.get("requests") or {}).items():
        limit = (resources.get("limits") or {}).get(resource)
        most, least = (item.get("max") or {}).get(resource), (item.get("min") or {}).get(resource)
        default = (item.get("default") or {}).get(resource)
        if most and quantity(str(limit or asked)) > quantity(most):
            yield f"{name} asks for {limit or asked} of {resource}, the most is {most}"
        if least and quantity(str(asked)) < quantity(least):
            yield f"{name} asks for {asked} of {resource}, the least is {least}"
        if default and not limit and quantity(str(asked)) > quantity(default):
            yield f"{name} asks for {asked} of {resource}, and would be limited to {default} by default"


def quantity(text: str) -> Decimal:
    """Return a Kubernetes quantity as a number; ``512M`` is 512000000, ``250m`` 0.25.

    :raises ValueError: not a quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match["unit"] not in _UNITS:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match["number"]) * _UNITS[match["unit"]]


def _secrets(kube: Kube, request: Request) -> Iterator[Finding]:
    settings = request.settings
    if settings is None:
        return
    secret = kube.get(Ref("v1", "Secret", request.namespace, manifests.STORAGE_SECRET))
    if secret is not None:
        judged = storage_secret.check_existing(data_of(secret), settings.backend)
        yield from judged if not request.secret_comes_later else ()
        if not judged:
            yield findings.ok("storage-secret", f"holds what backend {settings.backend} needs")
    elif not request.secret_comes_later:
        fix = "Run the role pachops.pachyderm.storage_secret first, or create the Secret yourself."
        found = f"Secret {request.namespace}/{manifests.STORAGE_SECRET} does not exist"
        yield findings.error("storage-secret", found, "it exists, whatever the backend", fix)
    if settings.tls and not settings.tls.cert:
        live = kube.get(Ref("v1", "Secret", request.namespace, settings.tls.secret_name))
        missing = [name for name in ("tls.crt", "tls.key") if name not in ((live or {}).get("data") or {})]
        if missing:
            found = f"Secret {settings.tls.secret_name} " + (
                f"lacks {', '.join(missing)}" if live else "does not exist"
            )
            fix = "Create it with `kubectl create secret tls`, or give pachyderm_tls.cert and pachyderm_tls.key."
            yield findings.error("tls-secret", found, "a Secret with tls.crt and tls.key", fix)


def _images(kube: Kube | None, request: Request) -> Iterator[Finding]:
    settings = request.settings
    if settings is None or request.image_check == "off":
        return
    imported = set(request.imported)
    try:
        imported |= images.archive_images(request.archives)
    except ImageError as error:
        yield findings.error("image-archives", _found(error), "archives that can be read", error.fix)
    present: set[str] = set()
    credentials: dict[str, images.Credentials] = {}
    if kube is not None:
        try:
            present = images.node_images(kube.list("v1", "Node"))
        except ClusterError:
            # Who may not list nodes still gets the registries' answers.
            present = set()
        if settings.image_pull_secret:
            secret = kube.get(Ref("v1", "Secret", request.namespace, settings.image_pull_secret))
            if secret is None:
                found = f"Secret {request.namespace}/{settings.image_pull_secret} does not exist"
                fix = "Create it with `kubectl create secret docker-registry`."
                yield findings.error(
                    "image-pull-secret", found, "the Secret that pachyderm_image_pull_secret names", fix
                )
            else:
                try:
                    credentials = images.pull_credentials(secret)
                except ImageError as error:
                    yield findings.error("image-pull-secret", _found(error), "a docker-registry Secret", error.fix)
    timeout = max(3.0, BUDGET - (time.monotonic() - request.started))
    answers = images.check(
        settings.wanted_images,
        present=present,
        imported=imported,
        credentials=credentials,
        send=request.send,
        timeout=timeout,
    )
    yield from _image_findings(answers, request)


def _image_findings(answers: Sequence[images.Availability], request: Request) -> Iterator[Finding]:
    had = [answer for answer in answers if answer.available]
    if had:
        yield findings.ok("images", "; ".join(f"{answer.image} from {_SOURCES[answer.source]}" for answer in had))
    for definite in (True, False):
        lines = [f"{item.image}: {item.reason}" for item in answers if not item.available and item.definite == definite]
        if not lines:
            continue
        fix = images.THREE_WAYS
        if not definite:
            fix += " Where only the nodes reach the registry, set pachyderm_image_check=warning."
        make = findings.error if definite or request.image_check == "error" else findings.warning
        yield make("images", "cannot be had:\n" + "\n".join(lines), "images that the nodes can pull", fix)


_SOURCES = {"archive": "an imported archive", "nodes": "the nodes", "registry": "its registry"}
_CHECKS: tuple[Callable[[Kube, Request], Iterable[Finding]], ...] = (
    _kubernetes_version,
    _namespace,
    _permissions,
    _foreign_installation,
    _version_step,
    _storage_class,
    _nodes,
    _capacity,
    _limits,
    _secrets,
)
