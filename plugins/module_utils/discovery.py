# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What an installation of Pachyderm 1.x is made of, whoever deployed it: typed, and as the options that describe it.

``discover`` reads a namespace, ``describe`` judges what was read.  Known are the layouts of this collection, of
``pachctl deploy`` (``src/server/pkg/deploy/assets/assets.go`` of v1.13.4), of the old chart ``stable/pachyderm`` and of
the 1.x chart.  What no option can say is a finding: an error where the installation cannot be taken over as it is, a
warning where a deployment would leave something out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import ClusterError, ImageError, InputError
from .findings import Finding, error, warning
from .image_archive import full_name, tag
from .installation import BUCKET_KEYS, Installation, Variable, decoded, labels, name, observe, ours
from .kube.apply import SECRETIVE
from .pachd.manifests import ETCD_DATA, all_objects, etcd_arguments, pachd_environment
from .pachd.settings import OWNED_ENVIRONMENT, PACHD_PORTS, Settings
from .pachd.storage_secret import ENVIRONMENT, TUNING, check_existing, credentials_of
from .pachd.versions import DEFAULT_VERSION, SUPPORTED, why_unsupported
from .stores.keys import Spelling

if TYPE_CHECKING:
    from .kube.client import Kube

Object = dict[str, Any]

_VERSION = re.compile(r"v?(\d+\.\d+\.\d+)(?:-|\Z)")
_FLAG = re.compile(r"--([a-z0-9-]+)(?:[= ](?P<quote>[\"']?)([^\s\"']*)(?P=quote))?")
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
# Variables under which metadata or objects lie elsewhere than where the collection's pachd looks.
_DECISIVE: Mapping[str, tuple[str, ...]] = {
    "PACH_ROOT": ("/pach",),
    "ETCD_PREFIX": ("", "pachyderm/1.7.0"),
    "STORAGE_V2": ("false", ""),
}
# Variables whose values the manifests set on purpose, whatever was there; the plan of an adoption says why.
_DELIBERATE = OWNED_ENVIRONMENT - set(_DECISIVE)
_DOCKER_SOCKET = "/var/run/docker.sock"
_PROMETHEUS = ("prometheus.io/scrape", "prometheus.io/port")
# Annotations that belong to whoever applied the object, or to a controller, and describe nothing.
_TOOLS = re.compile(r"(kubectl\.kubernetes\.io|deployment\.kubernetes\.io|meta\.helm\.sh|helm\.sh)/")


@dataclass(frozen=True)
class ServiceLayout:
    """One Service: ``ports`` maps names to (port, port of the pod, port of the nodes or 0)."""

    name: str
    type: str
    ports: Mapping[str, tuple[int, int | str, int]]
    annotations: Mapping[str, str]
    source_ranges: Sequence[str] = ()

    @property
    def node_ports(self) -> dict[str, int]:
        """Name to port of the nodes, where there is one."""
        return {key: node for key, (_port, _target, node) in self.ports.items() if node}


@dataclass(frozen=True)
class EtcdLayout:
    """The etcd of an installation.

    :param kind: ``StatefulSet`` or ``Deployment``; "" where there is none in the namespace.
    :param version: as its image's tag says it, "" where the tag says nothing.
    :param volume: ``host_path``, ``claims`` (one per member, by template), ``existing_claim``, ``empty_dir`` or "".
    :param place: the node's directory or the claim's name; "" for a template's claims.
    :param flags: its command line without what names addresses and members.
    """

    kind: str
    members: int
    image: str
    version: str
    volume: str
    place: str
    size: str
    storage_class: str
    data_dir: str
    tls: bool
    flags: Mapping[str, str]


@dataclass(frozen=True)
class StorageLayout:
    """Where the objects are, and how pachd gets at them; no credential is part of it.

    :param backend: ``local``, ``gcp``, ``aws``, ``minio``, ``azure`` or "".
    :param spelling: how pachd spells the objects' keys, a value of :class:`.stores.keys.Spelling`.
    :param auth: ``none``, ``keys``, ``role``, ``vault``, ``key_file`` or ``metadata_server``.
    :param secret_keys: names of the storage secret's keys.
    """

    backend: str
    bucket: str
    region: str
    endpoint: str
    spelling: str
    auth: str
    host_path: str
    secret_keys: Sequence[str]


@dataclass(frozen=True)
class Discovery:
    """What one namespace holds.

    :param maker: ``pachops``, ``pachctl``, ``chart NAME-VERSION`` or ``unknown``.
    :param rbac: ``cluster``, ``namespaced`` or ``none``: how far pachd's rights reach.
    :param options: options of the module ``pachyderm_deploy`` under which it is as it is, as far as options can say.
    """

    namespace: str
    maker: str
    version: str
    deployment_id: str
    images: Mapping[str, str]
    storage: StorageLayout
    etcd: EtcdLayout
    services: Mapping[str, ServiceLayout]
    resources: Mapping[str, Object]
    rbac: str
    service_account: str
    tls_secret: str
    image_pull_secrets: Sequence[str]
    dash: bool
    environment: Mapping[str, str]
    pipelines: Mapping[str, int]
    options: Mapping[str, Any]
    findings: Sequence[Finding]

    def as_dict(self) -> Object:
        """Return plain data, as a module returns it, without options and findings."""
        known = asdict(self)
        return {key: value for key, value in known.items() if key not in ("options", "findings")}


def discover(kube: Kube, namespace: str) -> Discovery:
    """Read a namespace and describe what is in it.

    :raises ClusterError: the API cannot be reached.
    :raises InputError: there is no Pachyderm.
    """
    try:
        bindings = kube.list("rbac.authorization.k8s.io/v1", "ClusterRoleBinding")
    except ClusterError:
        bindings = []  # who may not list them learns of it from the finding about rights
    return describe(observe(kube, namespace), bindings)


def describe(installation: Installation, cluster_bindings: Iterable[Object] = ()) -> Discovery:
    """Return the description of what :func:`.installation.observe` saw.

    :raises InputError: there is no pachd in the namespace.
    """
    pachd = installation.pachd
    if pachd is None:
        raise InputError(
            "there is no Pachyderm to describe",
            where=f"namespace {installation.namespace}",
            why=installation.unreadable.get("Deployment") or "no Deployment pachd",
            fix="Check the namespace (pachyderm_namespace) and the cluster (kubeconfig).",
        )
    return _Reader(installation, pachd, list(cluster_bindings)).read()


class _Reader:
    def __init__(self, installation: Installation, pachd: Object, cluster_bindings: list[Object]) -> None:
        self.seen = installation
        self.pachd = pachd
        self.container = installation.container(pachd, "pachd")
        self.pod: Object = pachd["spec"]["template"]["spec"]
        self.variables = installation.pachd_environment()
        self.cluster_bindings = cluster_bindings
        self.findings: list[Finding] = []

    def read(self) -> Discovery:
        etcd = self._etcd()
        storage = self._storage()
        services = {part: _service(self.seen.find("Service", part)) for part in ("pachd", "pachd-peer", "etcd", "dash")}
        found = {part: layout for part, layout in services.items() if layout}
        version = self._version()
        rbac = self._rbac()
        options = self._options(version, storage, etcd, found, rbac)
        self._judge_leftovers(options)
        self._judge_workers()
        return Discovery(
            namespace=self.seen.namespace,
            maker=_maker(self.pachd),
            version=version,
            deployment_id=self.seen.deployment_id,
            images=self.images,
            storage=storage,
            etcd=etcd,
            services=found,
            resources=self.resources,
            rbac=rbac,
            service_account=self.account,
            tls_secret=self.tls_secret,
            image_pull_secrets=self.pull_secrets,
            dash=self.seen.find("Deployment", "dash") is not None,
            environment={
                key: "(hidden)" if SECRETIVE.search(key) else variable.value or ""
                for key, variable in sorted(self.variables.items())
                if variable.source == "value"
            },
            pipelines={name(each): int(each["spec"].get("replicas") or 0) for each in self.seen.workers},
            options=options,
            findings=tuple(self.findings),
        )

    # -- parts --------------------------------------------------------------------------------------------------------

    def _value(self, variable: str, otherwise: str = "") -> str:
        return (self.variables[variable].value or "") if variable in self.variables else otherwise

    def _version(self) -> str:
        told = _VERSION.match(self._value("PACHD_VERSION"))
        image = str(self.container.get("image") or "")
        tagged = _VERSION.match(tag(image))
        version = (told or tagged)[1] if told or tagged else ""  # type: ignore[index]
        if told and tagged and told[1] != tagged[1]:
            self.findings.append(
                warning(
                    "version",
                    f"PACHD_VERSION is {told[1]}, the image is {image}",
                    "one version",
                    "Set pachyderm_version to what `pachctl version` answers.",
                )
            )
        if version not in SUPPORTED:
            reason = why_unsupported(version) if version else "neither PACHD_VERSION nor the image's tag tells it"
            self.findings.append(
                error(
                    "version",
                    f"pachd is {version or 'of an unknown version'}",
                    f"one of {', '.join(SUPPORTED)}: {reason}",
                    "Upgrade it to 1.13.4 with its own tool first, or move its data into a new installation.",
                )
            )
        return version

    @cached_property
    def images(self) -> dict[str, str]:
        images = {"pachd": str(self.container.get("image") or ""), "worker": self._value("WORKER_IMAGE")}
        if self.seen.etcd:
            images["etcd"] = str(self.seen.container(self.seen.etcd, "etcd").get("image") or "")
        dash = self.seen.find("Deployment", "dash")
        for container in dash["spec"]["template"]["spec"]["containers"] if dash else []:
            part = "grpc_proxy" if "proxy" in container["name"] else "dash"
            images[part] = str(container.get("image") or "")
        return {part: image for part, image in images.items() if image}

    @cached_property
    def resources(self) -> dict[str, Object]:
        found: dict[str, Object] = {"pachd": dict(self.container.get("resources") or {})}
        if self.seen.etcd:
            found["etcd"] = dict(self.seen.container(self.seen.etcd, "etcd").get("resources") or {})
        return found

    @cached_property
    def account(self) -> str:
        return str(self.pod.get("serviceAccountName") or "default")

    @cached_property
    def tls_secret(self) -> str:
        mounted = {
            mount["name"]
            for mount in self.container.get("volumeMounts") or []
            if mount.get("mountPath") == "/pachd-tls-cert"
        }
        secrets = (
            volume["secret"]["secretName"]
            for volume in self.pod.get("volumes") or []
            if volume.get("name") in mounted and volume.get("secret")
        )
        return str(next(secrets, ""))

    def _rbac(self) -> str:
        if any(self._binds(binding) for binding in self.cluster_bindings):
            return "cluster"
        return "namespaced" if any(self._binds(binding) for binding in self.seen.of_kind("RoleBinding")) else "none"

    def _binds(self, binding: Object) -> bool:
        """Whether a binding gives pachd's account its rights."""
        wanted = ("ServiceAccount", self.account, self.seen.namespace)
        return any(
            (item.get("kind"), item.get("name"), item.get("namespace", self.seen.namespace)) == wanted
            for item in binding.get("subjects") or []
        )

    def _etcd(self) -> EtcdLayout:
        workload = self.seen.etcd
        if workload is None:
            service = self.seen.find("Service", "etcd")
            where = "behind a Service of its own" if service else "nowhere to be seen"
            self.findings.append(
                error(
                    "etcd",
                    f"there is neither a StatefulSet nor a Deployment etcd; etcd is {where}",
                    "an etcd in the namespace",
                    "Move the data: back it up with an explicit endpoint, and restore it into a new installation.",
                )
            )
            return EtcdLayout("", 0, "", "", "", "", "", "", "", False, {})
        container = self.seen.container(workload, "etcd")
        line = " ".join(str(item) for item in [*(container.get("command") or []), *(container.get("args") or [])])
        flags = {match[1]: match[3] or "" for match in _FLAG.finditer(line)}
        image = str(container.get("image") or "")
        tagged = _VERSION.match(tag(image))
        volume, place, size, storage_class = _etcd_volume(workload, container, flags.get("data-dir", ETCD_DATA))
        layout = EtcdLayout(
            kind=str(workload["kind"]),
            members=int(workload["spec"].get("replicas", 1) or 0),
            image=image,
            version=tagged[1] if tagged else "",
            volume=volume,
            place=place,
            size=size,
            storage_class=storage_class,
            data_dir=flags.get("data-dir", ""),
            tls="cert-file" in flags or "https://" in flags.get("listen-client-urls", ""),
            flags={key: value for key, value in flags.items() if key not in _ETCD_ADDRESSES},
        )
        self._judge_etcd(layout)
        return layout

    def _judge_etcd(self, etcd: EtcdLayout) -> None:
        move = "Move the data: back the installation up and restore it into a new one."
        if etcd.data_dir != ETCD_DATA:
            self.findings.append(
                error("etcd-data", f"etcd's data is at {etcd.data_dir or 'a place it chooses'}", ETCD_DATA, move)
            )
        if etcd.volume in ("", "empty_dir"):
            self.findings.append(
                error(
                    "etcd-volume",
                    "etcd's data is on no volume that outlives its pod",
                    "a claim or a directory of the node: it is lost when the pod goes, and a deployment replaces it",
                    move,
                )
            )
        if etcd.members not in (0, 1, 3):
            self.findings.append(error("etcd-members", f"etcd has {etcd.members} members", "1 or 3", move))
        if etcd.members == 0:
            self.findings.append(
                warning("etcd-members", "etcd is scaled to zero", "1 or 3", "Give pachyderm_etcd_members what it had.")
            )
        if etcd.tls:
            self.findings.append(
                error("etcd-tls", "etcd speaks TLS, which pachd 1.x does not", "plain HTTP inside the cluster", move)
            )
        known = {match[1] for item in etcd_arguments(Settings.parse({})) for match in _FLAG.finditer(item)}
        lost = sorted(set(etcd.flags) - known)
        if lost:
            self.findings.append(
                warning(
                    "etcd-flags",
                    f"etcd is started with {', '.join('--' + flag for flag in lost)}",
                    "nothing else than what the collection sets",
                    "A deployment leaves these out; see whether you need them.",
                )
            )

    def _storage(self) -> StorageLayout:
        backend = self.seen.backend
        secret = {key: value.strip() for key, value in decoded(self.seen.storage_secret or {}).items()}
        if backend in ("", "azure"):
            self.findings.append(
                error(
                    "backend",
                    f"STORAGE_BACKEND is {self._value('STORAGE_BACKEND') or 'not set'}",
                    "LOCAL, GOOGLE, AMAZON or MINIO",
                    "The collection does not deploy it. Copy its objects into another store first.",
                )
            )
        elif self.seen.storage_secret is None:
            self.findings.append(
                error(
                    "storage-secret",
                    self.seen.unreadable.get("Secret") or "there is no Secret pachyderm-storage-secret",
                    "the Secret that pachd mounts",
                    "Use an identity that may read it, or create it.",
                )
            )
        else:
            self.findings += [item for item in check_existing(secret, backend) if item.severity != "ok"]
            self._judge_mapping(backend, secret)
        bucket, endpoint = _bucket(backend, secret)
        return StorageLayout(
            backend=backend,
            bucket=bucket,
            region=secret.get("amazon-region", "") if backend == "aws" else "",
            endpoint=endpoint,
            spelling=self._spelling(backend),
            auth=credentials_of(secret, backend),
            host_path=self.seen.host_paths.get("data", "") if backend == "local" else "",
            secret_keys=tuple(sorted((self.seen.storage_secret or {}).get("data") or {})),
        )

    def _spelling(self, backend: str) -> str:
        if backend == "local":
            return Spelling.DIRECTORY.value
        if backend in ("gcp", "azure"):
            return Spelling.SLASH.value
        reverse = backend == "aws" and self._value("REVERSE") in _TRUE
        return (Spelling.REVERSED if reverse else Spelling.PLAIN).value if backend else ""

    def _judge_mapping(self, backend: str, secret: Mapping[str, str]) -> None:
        """Name tuning options that are in the secret and do not reach pachd, but would after a deployment."""
        if backend != "aws":
            return
        for key in TUNING:
            variable = self.variables.get(ENVIRONMENT[key])
            reaches = variable.value if variable else None
            if secret.get(key) and reaches != secret[key] and not (key != "reverse" and reaches is None):
                self.findings.append(
                    error(
                        "storage-mapping",
                        f"the secret's {key} is {secret[key]!r}, and pachd is given {reaches or 'nothing'!r}",
                        f"the variable {ENVIRONMENT[key]} from the secret's key: a deployment maps it, "
                        "and pachd would then spell or store its objects in another way",
                        f"Put into the secret what pachd works with now ({key}: {reaches or 'false'}).",
                    )
                )

    # -- options ------------------------------------------------------------------------------------------------------

    def _options(
        self,
        version: str,
        storage: StorageLayout,
        etcd: EtcdLayout,
        services: Mapping[str, ServiceLayout],
        rbac: str,
    ) -> dict[str, Any]:
        options: dict[str, Any] = {
            "namespace": self.seen.namespace,
            "version": version if version in SUPPORTED else DEFAULT_VERSION,
            "backend": storage.backend if storage.backend not in ("", "azure") else "local",
            "images": self._full_images(),
            "image_pull_policy": str(self.container.get("imagePullPolicy") or "IfNotPresent"),
            "image_pull_secret": self._value("IMAGE_PULL_SECRET") or self._pull_secret(),
            "host_path": self._host_path(storage, etcd),
            "etcd_members": etcd.members or 1,
            "etcd_storage": {"type": "auto"},
            "log_level": self._value("LOG_LEVEL") or "info",
            "block_cache": self._value("BLOCK_CACHE_BYTES"),
            "upload_concurrency": int(self._value("STORAGE_UPLOAD_CONCURRENCY_LIMIT") or 100),
            "put_file_concurrency": int(self._value("STORAGE_PUT_FILE_CONCURRENCY_LIMIT") or 100),
            "resources": self._resource_options(),
            "service": _service_options(services.get("pachd")),
            "dash": self.seen.find("Deployment", "dash") is not None,
            "dash_service": _service_options(services.get("dash")),
            "tls": {"secret_name": self.tls_secret} if self.tls_secret else {},
            "node_selector": dict(self.pod.get("nodeSelector") or {}),
            "tolerations": list(self.pod.get("tolerations") or []),
            "priority_class": str(self.pod.get("priorityClassName") or ""),
            "iam_role": self._value("IAM_ROLE"),
            "service_account_annotations": self._account_annotations(),
            "cluster_roles": rbac == "cluster",
            "network_policy": self.seen.find("NetworkPolicy", "etcd") is not None,
            "host_aliases": list(self.pod.get("hostAliases") or []),
        }
        if etcd.volume in ("host_path", "existing_claim"):
            options["etcd_storage"] = {"type": etcd.volume}
            if etcd.volume == "existing_claim":
                options["etcd_storage"]["claim"] = etcd.place
        elif etcd.volume == "claims":
            options["etcd_storage"] = {"type": "claim", "size": etcd.size, "storage_class": etcd.storage_class}
        self._judge_pods(services)
        options["ca_bundle"] = self._ca_bundle()
        options["extra_env"] = self._extra_env(options)
        options["extra_volumes"], options["extra_volume_mounts"] = self._extra_volumes()
        return options

    def _full_images(self) -> dict[str, str]:
        images = {}
        for part, image in self.images.items():
            try:
                images[part] = full_name(image)
            except ImageError:
                images[part] = image
        return images

    @cached_property
    def pull_secrets(self) -> list[str]:
        return [str(item.get("name")) for item in self.pod.get("imagePullSecrets") or []]

    def _pull_secret(self) -> str:
        names = self.pull_secrets
        if len(names) > 1:
            self.findings.append(
                warning(
                    "image-pull-secret",
                    f"pachd's pod names {len(names)} pull secrets: {', '.join(names)}",
                    "one",
                    "A deployment keeps the first; put all registries into one Secret.",
                )
            )
        return names[0] if names else ""

    def _host_path(self, storage: StorageLayout, etcd: EtcdLayout) -> str:
        """Return the directory above ``pachd`` and ``etcd``, as pachctl's ``--host-path`` has it."""
        wanted = {}
        if storage.backend == "local":
            wanted["pachd"] = storage.host_path
            told = self._value("STORAGE_HOST_PATH").rstrip("/")
            if told != storage.host_path:
                self.findings.append(
                    error(
                        "host-path",
                        f"STORAGE_HOST_PATH is {told or 'empty'}, pachd mounts {storage.host_path or 'no directory'}",
                        "the same directory for pachd and its workers",
                        "Set both to where the objects are.",
                    )
                )
        if etcd.volume == "host_path":
            wanted["etcd"] = etcd.place
        parents = {}
        for part, path in wanted.items():
            parent, _slash, last = path.rpartition("/")
            if last != part or not parent:
                self.findings.append(
                    error(
                        "host-path",
                        f"{part} keeps its data in {path or 'no directory of the node'}",
                        f"a directory called {part}",
                        "Move the data: back the installation up and restore it into a new one.",
                    )
                )
            else:
                parents[part] = parent
        if len(set(parents.values())) > 1:
            self.findings.append(
                error(
                    "host-path",
                    " and ".join(f"{part} is below {parent}" for part, parent in parents.items()),
                    "one directory above both",
                    "Move the data: back the installation up and restore it into a new one.",
                )
            )
        return next(iter(parents.values()), "")

    def _resource_options(self) -> dict[str, Object]:
        chosen: dict[str, Object] = {}
        for part, resources in self.resources.items():
            kept = {kind: dict(resources[kind]) for kind in ("requests", "limits") if resources.get(kind)}
            if kept:
                chosen[part] = kept
        if not chosen.get("pachd", {}).get("requests", {}).get("memory"):
            chosen.pop("pachd", None)
            self.findings.append(
                warning(
                    "resources",
                    "pachd requests no memory",
                    "a request: pachd sizes its buffers from it",
                    "A deployment requests the default of the backend (pachyderm_resources).",
                )
            )
        return chosen

    def _account_annotations(self) -> dict[str, str]:
        account = self.seen.find("ServiceAccount", self.account)
        annotations = dict((account or {}).get("metadata", {}).get("annotations") or {})
        return {key: value for key, value in annotations.items() if not _TOOLS.match(key)}

    def _ca_bundle(self) -> str:
        held = self.seen.find("ConfigMap", "pachyderm-ca")
        return str((held or {}).get("data", {}).get("ca.crt", "")) if held and ours(held) else ""

    def _extra_env(self, options: Mapping[str, Any]) -> dict[str, str]:
        try:
            settings = Settings.parse({**options, "images": {}, "resources": {}})
        except InputError:
            settings = Settings.parse({})
        standard = {item["name"]: item.get("value") for item in pachd_environment(settings)}
        described = {*_DELIBERATE, *_OPTIONS_OF_THEIR_OWN, *ENVIRONMENT.values()}
        if options.get("ca_bundle"):
            described.add("SSL_CERT_DIR")
        extra: dict[str, str] = {}
        for key, variable in self.variables.items():
            if key in _DECISIVE:
                if (variable.value or "") not in _DECISIVE[key]:
                    self.findings.append(
                        error(
                            "environment",
                            f"{key} is {variable.value!r}",
                            f"{_DECISIVE[key][0] or 'empty'}: the collection's pachd looks for its data there",
                            "Move the data: back the installation up and restore it into a new one.",
                        )
                    )
            elif key in described or variable.source == "field":
                continue
            elif variable.source != "value" or SECRETIVE.search(key):
                self._lost_variable(key, variable)
            elif key not in standard or variable.value != standard[key]:
                extra[key] = variable.value or ""
        return extra

    def _lost_variable(self, key: str, variable: Variable) -> None:
        where = "a value that is none of a description's business" if variable.source == "value" else variable.source
        self.findings.append(
            warning(
                "environment",
                f"pachd's variable {key} comes from {where}",
                "pachyderm_extra_env, which holds plain text",
                f"Give {key} in pachyderm_extra_env yourself, from a vault; a deployment leaves it out otherwise.",
            )
        )

    def _extra_volumes(self) -> tuple[list[Object], list[Object]]:
        mounts = [
            mount
            for mount in self.container.get("volumeMounts") or []
            if str(mount.get("mountPath")) not in _KNOWN_MOUNTS
            and not str(mount.get("mountPath")).startswith("/var/run/secrets/kubernetes.io")
        ]
        names = {mount["name"] for mount in mounts}
        volumes = [volume for volume in self.pod.get("volumes") or [] if volume.get("name") in names]
        return volumes, mounts

    def _judge_leftovers(self, options: Mapping[str, Any]) -> None:
        """Name what belongs to this Pachyderm and what no deployment would touch."""
        try:
            wanted = {(obj["kind"], name(obj)) for obj in all_objects(Settings.parse(options))}
        except InputError:
            return
        suite = labels(self.pachd).get("suite")
        left = [
            f"{kind}/{name(obj)}"
            for kind in ("Service", "ServiceAccount", "Role", "RoleBinding")
            for obj in self.seen.of_kind(kind)
            if labels(obj).get("suite") == suite
            and not {"component", "pipelineName"} & set(labels(obj))
            and (kind, name(obj)) not in wanted
        ]
        for binding in self.cluster_bindings:
            # Once ours has another role, nothing of the cluster-wide one is used.
            if self._binds(binding):
                role = binding["roleRef"]["name"]
                kept = ("ClusterRoleBinding", name(binding)) in wanted
                left += [] if ("ClusterRole", role) in wanted else [f"ClusterRole/{role}"]
                left += [] if kept else [f"ClusterRoleBinding/{name(binding)}"]
        if left:
            self.findings.append(
                warning(
                    "leftovers",
                    f"a deployment leaves {', '.join(left)} as they are",
                    "nothing that nobody uses, and no more rights than pachd needs",
                    "Delete them once it is taken over, where no other installation uses them.",
                )
            )

    def _judge_workers(self) -> None:
        """Name workers that were made for nodes with Docker: pachd keeps them as they are, whatever it is told now."""
        bound = [
            name(worker)
            for worker in self.seen.workers
            for volume in worker["spec"].get("template", {}).get("spec", {}).get("volumes") or []
            if (volume.get("hostPath") or {}).get("path") == _DOCKER_SOCKET
        ]
        if bound:
            self.findings.append(
                warning(
                    "workers",
                    f"the workers of {len(bound)} pipelines mount Docker's socket: {', '.join(bound)}",
                    "workers that need no Docker: on other nodes these crash (pachyderm/pachyderm#4575)",
                    "After the deployment, delete these ReplicationControllers; pachd makes them anew without it.",
                )
            )

    def _judge_pods(self, services: Mapping[str, ServiceLayout]) -> None:
        def lost(what: str, wanted: str, fix: str) -> None:
            self.findings.append(warning("pods", what, wanted, fix))

        others = [item["name"] for item in self.pod["containers"] if item["name"] != self.container["name"]]
        if others:
            lost(
                f"pachd's pod has further containers: {', '.join(others)}",
                "pachd alone",
                "A deployment leaves them out; run them in a pod of their own.",
            )
        if self.pod.get("initContainers"):
            names = ", ".join(item["name"] for item in self.pod["initContainers"])
            lost(f"pachd's pod has init containers: {names}", "none", "A deployment leaves them out.")
        if self.pod.get("affinity"):
            lost("pachd's pod has an affinity", "pachyderm_node_selector", "Say the same with a node selector.")
        replicas = int(self.pachd["spec"].get("replicas", 1) or 0)
        if replicas != 1:
            lost(f"pachd has {replicas} replicas", "1", "A deployment scales it to 1.")
        unknown = sorted(set(services["pachd"].ports) - set(PACHD_PORTS)) if "pachd" in services else []
        if unknown:
            lost(f"the Service pachd has ports {', '.join(unknown)}", "those of pachctl", "They stay as they are.")


_ETCD_ADDRESSES = frozenset(
    (
        "name",
        "listen-client-urls",
        "advertise-client-urls",
        "listen-peer-urls",
        "initial-advertise-peer-urls",
        "initial-cluster",
        "initial-cluster-token",
        "initial-cluster-state",
        "data-dir",
    )
)
_KNOWN_MOUNTS = ("/pach", "/pach-cache", "/pachyderm-storage-secret", "/pachd-tls-cert", "/pachyderm-ca")
# Variables that are set through an option and not through pachyderm_extra_env.
_OPTIONS_OF_THEIR_OWN = frozenset(("STORAGE_PUT_FILE_CONCURRENCY_LIMIT", "PACHD_POD_NAMESPACE"))


def _maker(pachd: Object) -> str:
    if ours(pachd):
        return "pachops"
    marks = labels(pachd)
    chart = marks.get("helm.sh/chart") or marks.get("chart")
    if chart or marks.get("heritage") in ("Tiller", "Helm") or marks.get("app.kubernetes.io/managed-by") == "Helm":
        return f"chart {chart}".strip() if chart else "chart"
    return "pachctl" if marks.get("suite") == "pachyderm" else "unknown"


def _etcd_volume(workload: Object, container: Object, data_dir: str) -> tuple[str, str, str, str]:
    """Return kind, place, size and storage class of the volume that etcd's data is on."""
    mounted = [mount["name"] for mount in container.get("volumeMounts") or [] if mount.get("mountPath") == data_dir]
    spec = workload["spec"]
    for template in spec.get("volumeClaimTemplates") or []:
        if template["metadata"]["name"] in mounted:
            wanted = template["spec"]
            annotations = template["metadata"].get("annotations") or {}
            return (
                "claims",
                "",
                str(wanted.get("resources", {}).get("requests", {}).get("storage", "")),
                str(wanted.get("storageClassName") or annotations.get("volume.beta.kubernetes.io/storage-class") or ""),
            )
    for volume in spec["template"]["spec"].get("volumes") or []:
        if volume["name"] not in mounted:
            continue
        if volume.get("hostPath"):
            return "host_path", str(volume["hostPath"]["path"]).rstrip("/"), "", ""
        if volume.get("persistentVolumeClaim"):
            return "existing_claim", str(volume["persistentVolumeClaim"]["claimName"]), "", ""
        return "empty_dir" if "emptyDir" in volume else "", "", "", ""
    return "", "", "", ""


def _bucket(backend: str, secret: Mapping[str, str]) -> tuple[str, str]:
    bucket, endpoint = BUCKET_KEYS.get(backend, ("", ""))
    # On Azure that key holds the account, which is not an address.
    return secret.get(bucket, ""), "" if backend == "azure" else secret.get(endpoint, "")


def _service(service: Object | None) -> ServiceLayout | None:
    if service is None:
        return None
    spec = service["spec"]
    annotations = service["metadata"].get("annotations") or {}
    return ServiceLayout(
        name=name(service),
        type="Headless" if spec.get("clusterIP") == "None" else str(spec.get("type") or "ClusterIP"),
        ports={
            str(port.get("name") or port["port"]): (
                int(port["port"]),
                port.get("targetPort") or int(port["port"]),
                int(port.get("nodePort") or 0),
            )
            for port in spec.get("ports") or []
        },
        annotations={key: value for key, value in annotations.items() if not _TOOLS.match(key)},
        source_ranges=tuple(spec.get("loadBalancerSourceRanges") or ()),
    )


def _service_options(service: ServiceLayout | None) -> dict[str, Any]:
    if service is None:
        return {}
    kept = {key: value for key, value in service.annotations.items() if key not in _PROMETHEUS}
    options: dict[str, Any] = {"type": service.type if service.type in _SERVICE_TYPES else "ClusterIP"}
    if kept:
        options["annotations"] = kept
    if service.node_ports and options["type"] != "ClusterIP":
        options["node_ports"] = service.node_ports
    if service.source_ranges and options["type"] == "LoadBalancer":
        options["source_ranges"] = list(service.source_ranges)
    return options


_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
