# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The settings of one installation, typed and checked as a whole.

``Settings.parse(options)`` takes the options of the ``pachyderm_deploy`` module (see its documentation for each) and
either returns an immutable object that ``manifests`` can render without asking further questions, or raises one
:class:`InputError` that names every wrong option at once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ImageError, InputError
from ..image_archive import full_name
from .storage_secret import ENVIRONMENT, STORAGE_BACKEND
from .versions import DEFAULT_VERSION, SUPPORTED, Release, release, why_unsupported

Object = dict[str, Any]

# backend of the user -> STORAGE_BACKEND of pachd
STORAGE_BACKENDS = STORAGE_BACKEND
COMPONENTS: tuple[str, ...] = ("pachd", "worker", "etcd", "dash", "grpc_proxy")
DEFAULT_HOST_PATH = "/var/pachyderm"

# Port names of the Services, which are also the keys of ``node_ports``. The order is part of the contract: Kubernetes
# derives PACHD_SERVICE_PORT from the first port, and clients inside the cluster read it.
PACHD_PORTS: Mapping[str, tuple[int, int]] = {
    "api-grpc-port": (650, 650),
    "trace-port": (651, 651),
    "api-http-port": (652, 652),
    "saml-port": (654, 654),
    "oidc-port": (657, 657),
    "api-git-port": (655, 655),
    "s3gateway-port": (600, 600),
    "prom-metrics": (656, 656),
}
DASH_PORTS: Mapping[str, tuple[int, int]] = {"dash-http": (8080, 8080), "grpc-proxy-http": (8081, 8081)}

# Variables that the manifests set themselves; one of them set a second time would make pachd's behaviour depend on the
# order of a list. ETCD_PREFIX and the service-link variables must not be set at all: workers never receive them.
OWNED_ENVIRONMENT: frozenset[str] = frozenset(
    (
        *("PACH_ROOT", "PACH_CACHE_ROOT", "PACH_NAMESPACE", "PACHD_POD_NAME", "PACHD_VERSION", "PACHD_MEMORY_REQUEST"),
        *("ETCD_PREFIX", "ETCD_SERVICE_HOST", "ETCD_SERVICE_PORT", "STORAGE_BACKEND", "STORAGE_HOST_PATH"),
        *("STORAGE_UPLOAD_CONCURRENCY_LIMIT", "STORAGE_PUT_FILE_CONCURRENCY_LIMIT", "STORAGE_V2", "BLOCK_CACHE_BYTES"),
        *("WORKER_IMAGE", "WORKER_SIDECAR_IMAGE", "WORKER_IMAGE_PULL_POLICY", "WORKER_SERVICE_ACCOUNT"),
        *("IMAGE_PULL_SECRET", "METRICS", "LOG_LEVEL", "IAM_ROLE", "NO_EXPOSE_DOCKER_SOCKET", "PPS_WORKER_GRPC_PORT"),
        *("CLUSTER_DEPLOYMENT_ID", "PACHYDERM_AUTHENTICATION_DISABLED_FOR_TESTING"),
    )
)

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_BYTES = re.compile(r"\d+(\.\d+)?[KMGT]?i?B?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEPLOYMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REGISTRY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?(/[a-z0-9]+([._/-][a-z0-9]+)*)?")


@dataclass(frozen=True)
class Service:
    """How a Service is reached from outside: ``node_ports`` maps port names to numbers, empty means "let Kubernetes
    choose", so that two installations never fight over one.
    """

    type: str = "ClusterIP"
    annotations: Mapping[str, str] | None = None
    node_ports: Mapping[str, int] | None = None
    source_ranges: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tls:
    """The certificate that pachd serves: a Secret of the user's, or one written from ``cert`` and ``key`` (PEM)."""

    secret_name: str
    cert: str = ""
    key: str = ""


@dataclass(frozen=True)
class EtcdStorage:
    """Where etcd keeps its data: ``host_path`` (a directory of the node), ``claim`` (one that exists), or a claim of
    ``size`` from ``storage_class`` (empty: the cluster's default) that is made for each member.
    """

    host_path: str = ""
    claim: str = ""
    storage_class: str = ""
    size: str = "10Gi"


@dataclass(frozen=True)
class Settings:
    """Everything that decides the objects of one installation. Read only; made by :meth:`parse`."""

    namespace: str
    release: Release
    backend: str
    images: Mapping[str, str]
    image_pull_policy: str
    image_pull_secret: str
    cluster_deployment_id: str
    host_path: str
    etcd_members: int
    etcd_storage: EtcdStorage
    log_level: str
    block_cache: str
    upload_concurrency: int
    put_file_concurrency: int
    resources: Mapping[str, Object]
    service: Service
    dash: bool
    dash_service: Service
    tls: Tls | None
    node_selector: Mapping[str, str]
    tolerations: tuple[Object, ...]
    priority_class: str
    iam_role: str
    service_account_annotations: Mapping[str, str]
    cluster_roles: bool
    network_policy: bool
    extra_env: Mapping[str, str]
    extra_volumes: tuple[Object, ...]
    extra_volume_mounts: tuple[Object, ...]
    host_aliases: tuple[Object, ...]
    ca_bundle: str

    @property
    def storage_backend(self) -> str:
        """STORAGE_BACKEND of pachd."""
        return STORAGE_BACKENDS[self.backend]

    @property
    def wanted_images(self) -> tuple[str, ...]:
        """The images that the installation runs, each once: pachd, worker and etcd, with dash its two as well."""
        names = COMPONENTS if self.dash else ("pachd", "worker", "etcd")
        return tuple(dict.fromkeys(self.images[name] for name in names))

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Settings:
        """Check ``options`` (absent ones take their defaults) and return the settings.

        :raises InputError: ``why`` lists everything that is wrong, one finding per clause.
        """
        return _Parser(options).parse()


def mirrored_image(reference: str, mirror: str) -> str:
    """Return the full name of ``reference`` in ``mirror``, a registry with or without a path; "" changes nothing.

    The registry of ``reference`` is dropped and the rest kept, the rule of ``pachctl deploy --registry``.
    """
    name = full_name(reference)
    return f"{mirror}/{name.partition('/')[2]}" if mirror else name


class _Parser:
    """Collects problems instead of stopping at the first."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._problems: list[str] = []

    def parse(self) -> Settings:
        facts = self._release()
        backend = self._choice("backend", "local", tuple(STORAGE_BACKENDS))
        namespace = self._match("namespace", "pachyderm", _LABEL, "a Kubernetes namespace (a-z, 0-9, hyphens)")
        self._one_pachd()
        host_path = self._host_path(namespace)
        dash = bool(self._get("dash", False))
        settings = Settings(
            namespace=namespace,
            release=facts,
            backend=backend,
            images=self._images(facts),
            image_pull_policy=self._choice("image_pull_policy", "IfNotPresent", ("IfNotPresent", "Always", "Never")),
            image_pull_secret=self._optional("image_pull_secret", _SUBDOMAIN, "the name of a Secret"),
            cluster_deployment_id=self._optional("cluster_deployment_id", _DEPLOYMENT_ID, "letters, digits, . _ -"),
            host_path=host_path if backend == "local" else "",
            etcd_members=self._members(),
            etcd_storage=self._etcd_storage(backend, host_path),
            log_level=self._choice("log_level", "info", ("debug", "info", "error")),
            block_cache=self._optional("block_cache", _BYTES, "a number of bytes such as 256M or 1G")
            or {"local": "256M", "gcp": "0G"}.get(backend, "1G"),
            upload_concurrency=self._positive("upload_concurrency", 100),
            put_file_concurrency=self._positive("put_file_concurrency", 100),
            resources=self._resources(backend),
            service=self._service("service", PACHD_PORTS),
            dash=dash,
            dash_service=self._service("dash_service", DASH_PORTS),
            tls=self._tls(),
            node_selector=self._strings("node_selector"),
            tolerations=self._objects("tolerations"),
            priority_class=self._optional("priority_class", _SUBDOMAIN, "the name of a PriorityClass"),
            iam_role=str(self._get("iam_role", "")),
            service_account_annotations=self._strings("service_account_annotations"),
            cluster_roles=bool(self._get("cluster_roles", False)),
            network_policy=bool(self._get("network_policy", True)),
            extra_env=self._extra_env(),
            extra_volumes=self._objects("extra_volumes"),
            extra_volume_mounts=self._volume_mounts(),
            host_aliases=self._host_aliases(),
            ca_bundle=self._pem("ca_bundle"),
        )
        if self._problems:
            number = len(self._problems)
            raise InputError(
                "the settings cannot be used" if number > 1 else "a setting cannot be used",
                where=f"namespace {namespace}",
                why="; ".join(self._problems),
                fix="Nothing was changed. Correct "
                + ("these variables" if number > 1 else "this variable")
                + " and run again.",
            )
        return settings

    def _get(self, name: str, default: Any) -> Any:
        value = self._options.get(name)
        return default if value is None else value

    def _problem(self, text: str) -> None:
        self._problems.append(text)

    def _release(self) -> Release:
        version = str(self._get("version", DEFAULT_VERSION))
        if version in SUPPORTED:
            return release(version)
        self._problem(f"version is {version!r}, must be one of {', '.join(SUPPORTED)} ({why_unsupported(version)})")
        return release(DEFAULT_VERSION)

    def _choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = str(self._get(name, default))
        if value not in choices:
            self._problem(f"{name} is {value!r}, must be one of {', '.join(choices)}")
            return default
        return value

    def _match(self, name: str, default: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = str(self._get(name, default))
        if not pattern.fullmatch(value):
            self._problem(f"{name} is {value!r}, must be {wanted}")
        return value

    def _optional(self, name: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = str(self._get(name, ""))
        if value and not pattern.fullmatch(value):
            self._problem(f"{name} is {value!r}, must be {wanted}")
        return value

    def _positive(self, name: str, default: int) -> int:
        value = int(self._get(name, default))
        if value < 1:
            self._problem(f"{name} is {value}, must be at least 1")
        return value

    def _strings(self, name: str) -> dict[str, str]:
        return {str(key): str(value) for key, value in dict(self._get(name, {})).items()}

    def _objects(self, name: str) -> tuple[Object, ...]:
        return tuple(dict(item) for item in self._get(name, []))

    def _one_pachd(self) -> None:
        replicas = int(self._get("pachd_replicas", 1))
        if replicas != 1:
            self._problem(
                f"pachd_replicas is {replicas}, must be 1: Pachyderm 1.x shards its cache through etcd's v2 API, which "
                "is off since etcd 3.4, and two pachds would write one bucket without knowing of each other"
            )

    def _members(self) -> int:
        members = int(self._get("etcd_members", 1))
        if members not in (1, 3):
            reason = "two stop as soon as one is lost" if members == 2 else "a majority must be able to outlive one"
            self._problem(f"etcd_members is {members}, must be 1 or 3: {reason}")
            return 1
        return members

    def _images(self, facts: Release) -> dict[str, str]:
        mirror = str(self._get("image_registry", "")).rstrip("/")
        if mirror and not _REGISTRY.fullmatch(mirror):
            self._problem(f"image_registry is {mirror!r}, must be a host with optional port and path, without https://")
            mirror = ""
        images = {name: mirrored_image(reference, mirror) for name, reference in facts.images.items()}
        for name, reference in dict(self._get("images", {})).items():
            if not reference:
                continue
            if name not in COMPONENTS:
                self._problem(f"images.{name} is not known, known are {', '.join(COMPONENTS)}")
                continue
            try:
                # An image named in full by the user is taken as it is: a mirror is for the defaults.
                images[name] = full_name(str(reference))
            except ImageError:
                self._problem(f"images.{name} is {reference!r}, must be registry/name:tag or registry/name@sha256:…")
        return images

    def _host_path(self, namespace: str) -> str:
        path = str(self._get("host_path", "")).rstrip("/")
        if not path:
            # One directory per installation: two in one cluster must never write into each other's objects.
            return f"{DEFAULT_HOST_PATH}/{namespace}"
        if not path.startswith("/") or ".." in path.split("/") or path.count("/") < 2:
            self._problem(f"host_path is {path!r}, must be an absolute directory below one of the root's")
        return path

    def _etcd_storage(self, backend: str, host_path: str) -> EtcdStorage:
        given = dict(self._get("etcd_storage", {}))
        kind = str(given.get("type") or "auto")
        size = str(given.get("size") or "10Gi")
        storage_class = str(given.get("storage_class") or "")
        claim = str(given.get("claim") or "")
        if kind not in ("auto", "claim", "existing_claim", "host_path"):
            hint = ": etcd's data must outlive its pod" if kind.lower() == "emptydir" else ""
            self._problem(f"etcd_storage.type is {kind!r}, must be auto, claim, existing_claim or host_path{hint}")
        if (kind == "existing_claim") != bool(claim):
            self._problem("etcd_storage.claim names the claim of type existing_claim, one goes with the other")
        if claim and not _SUBDOMAIN.fullmatch(claim):
            self._problem(f"etcd_storage.claim is {claim!r}, must be the name of a PersistentVolumeClaim")
        if claim and int(self._get("etcd_members", 1)) > 1:
            self._problem("etcd_storage.claim is one volume, which cannot hold the data of several members")
        if not _QUANTITY.fullmatch(size):
            self._problem(f"etcd_storage.size is {size!r}, must be a quantity such as 10Gi")
        if storage_class and not _SUBDOMAIN.fullmatch(storage_class):
            self._problem(f"etcd_storage.storage_class is {storage_class!r}, must be the name of a StorageClass")
        if kind == "host_path" or (kind == "auto" and backend == "local"):
            return EtcdStorage(host_path=f"{host_path}/etcd", size=size)
        if claim:
            return EtcdStorage(claim=claim, size=size)
        return EtcdStorage(storage_class=storage_class, size=size)

    def _resources(self, backend: str) -> dict[str, Object]:
        small = backend == "local"
        pachd = {"requests": {"cpu": "100m" if small else "1", "memory": "512M" if small else "3G"}}
        if backend == "gcp":
            pachd["requests"]["memory"] = "2G"
        if not small:
            # Guaranteed memory: pachd is the last to be evicted, and PACHD_MEMORY_REQUEST sizes its buffers.
            pachd["limits"] = {"memory": pachd["requests"]["memory"]}
        resources: dict[str, Object] = {
            "pachd": pachd,
            "etcd": {"requests": {"cpu": "100m" if small else "1", "memory": "512M" if small else "2G"}},
            "dash": {},
        }
        for name, given in dict(self._get("resources", {})).items():
            if name not in resources:
                self._problem(f"resources.{name} is not known, known are {', '.join(resources)}")
                continue
            chosen: Object = {}
            for kind in ("requests", "limits"):
                values = dict((given or {}).get(kind) or {})
                for resource, quantity in values.items():
                    if not _QUANTITY.fullmatch(str(quantity)):
                        self._problem(f"resources.{name}.{kind}.{resource} is {quantity!r}, must be a quantity")
                if values:
                    chosen[kind] = {str(resource): str(quantity) for resource, quantity in values.items()}
            if chosen:
                resources[name] = chosen
        if "memory" not in resources["pachd"].get("requests", {}):
            self._problem("resources.pachd.requests.memory is missing: pachd sizes its buffers from it")
        return resources

    def _service(self, name: str, ports: Mapping[str, tuple[int, int]]) -> Service:
        given = dict(self._get(name, {}))
        kind = str(given.get("type") or "ClusterIP")
        if kind not in ("ClusterIP", "NodePort", "LoadBalancer"):
            self._problem(f"{name}.type is {kind!r}, must be ClusterIP, NodePort or LoadBalancer")
        node_ports: dict[str, int] = {}
        for port, number in dict(given.get("node_ports") or {}).items():
            if port not in ports:
                self._problem(f"{name}.node_ports.{port} is not known, known are {', '.join(ports)}")
            elif not str(number).isdecimal() or not 1 <= int(number) <= 65535:
                self._problem(f"{name}.node_ports.{port} is {number}, must be a port")
            else:
                node_ports[port] = int(number)
        if node_ports and kind == "ClusterIP":
            self._problem(f"{name}.node_ports is given, but a ClusterIP Service has none")
        source_ranges = tuple(str(item) for item in given.get("source_ranges") or ())
        for item in source_ranges:
            try:
                ipaddress.ip_network(item)
            except ValueError:
                self._problem(f"{name}.source_ranges holds {item!r}, must be networks such as 10.0.0.0/8")
        if source_ranges and kind != "LoadBalancer":
            self._problem(f"{name}.source_ranges is given, but only a LoadBalancer honours it")
        annotations = {str(key): str(value) for key, value in dict(given.get("annotations") or {}).items()}
        return Service(kind, annotations, node_ports, source_ranges)

    def _tls(self) -> Tls | None:
        given = dict(self._get("tls", {}))
        name, cert, key = (str(given.get(part) or "") for part in ("secret_name", "cert", "key"))
        if bool(cert) != bool(key):
            self._problem("tls needs both cert and key")
        if name and cert:
            self._problem("tls takes either secret_name or cert and key, not both")
        if name and not _SUBDOMAIN.fullmatch(name):
            self._problem(f"tls.secret_name is {name!r}, must be the name of a Secret")
        for part, text, marker in (("cert", cert, "CERTIFICATE"), ("key", key, "PRIVATE KEY")):
            if text and not re.search(rf"-----BEGIN [A-Z ]*{marker}-----", text):
                self._problem(f"tls.{part} is not PEM")
        if name:
            return Tls(name)
        return Tls("pachd-tls-cert", cert, key) if cert and key else None

    def _pem(self, name: str) -> str:
        text = str(self._get(name, ""))
        if text and "-----BEGIN CERTIFICATE-----" not in text:
            self._problem(f"{name} is not a PEM certificate")
        return text

    def _extra_env(self) -> dict[str, str]:
        variables = self._strings("extra_env")
        for variable in variables:
            if not _VARIABLE.fullmatch(variable):
                self._problem(f"extra_env.{variable} is not a variable's name")
            elif variable in OWNED_ENVIRONMENT or variable in ENVIRONMENT.values():
                self._problem(f"extra_env.{variable} is set by the collection itself and cannot be overridden here")
        return variables

    def _volume_mounts(self) -> tuple[Object, ...]:
        mounts = self._objects("extra_volume_mounts")
        volumes = {volume.get("name") for volume in self._objects("extra_volumes")}
        for mount in mounts:
            if mount.get("name") not in volumes:
                self._problem(f"extra_volume_mounts names {mount.get('name')!r}, which extra_volumes does not define")
        return mounts

    def _host_aliases(self) -> tuple[Object, ...]:
        aliases: list[Object] = []
        for alias in self._objects("host_aliases"):
            address, names = str(alias.get("ip") or ""), [str(name) for name in _sequence(alias.get("hostnames"))]
            try:
                ipaddress.ip_address(address)
            except ValueError:
                self._problem(f"host_aliases has ip {address!r}, must be an address")
            if not names:
                self._problem(f"host_aliases for {address or 'an entry'} has no hostnames")
            aliases.append({"ip": address, "hostnames": names})
        return tuple(aliases)


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else []
