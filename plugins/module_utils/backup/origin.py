# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Finding what has to be backed up: an installation's etcd, its objects, and the description of its cluster."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackupError, EtcdError, InputError
from ..etcd.client import EtcdClient, Login, Tls
from ..etcd.options import LOGIN_ARGUMENT_SPEC, login_of, tls_of
from ..installation import Installation, decoded, name
from ..kube.apply import SECRETIVE
from ..pachd.manifests import ETCD_CLIENT_PORT
from ..pachd.versions import DEFAULT_VERSION
from ..stores.base import Store
from ..stores.directory import DirectoryStore
from ..stores.gcs import HOST as GCS_HOST
from ..stores.gcs import GcsStore
from ..stores.keys import ROOT, Spelling
from ..stores.location import Access
from ..stores.s3 import S3Options, S3Store
from .create import Origin
from .manifest import Source

if TYPE_CHECKING:
    from ..kube.client import Kube

#: The ways to an etcd; a backup can also be made by a Job beside it.
TRANSPORTS = ("auto", "direct", "port_forward")
_BUCKET_SPELLINGS = (Spelling.SLASH, Spelling.PLAIN, Spelling.REVERSED)
_CONNECT = 1.0  # seconds in which a pod's own address has to answer
_TIMEOUT = 60.0  # seconds for one call to etcd


class NoWay(EtcdError):
    """The API server leads to no pod: forwarding a port is forbidden, or broken."""


@dataclass(frozen=True)
class EtcdAccess:
    """How to reach etcd.

    :param transport: ``direct``, ``port_forward``, or ``auto``: directly where the pod's address answers from here.
    :param endpoint: an address of this etcd that is known to work, such as ``https://etcd.example:2379``.
    """

    transport: str = "auto"
    endpoint: str = ""
    tls: Tls | None = None
    login: Login | None = None


@contextmanager
def etcd_of(
    kube: Kube, installation: Installation, access: EtcdAccess, member: str = ""
) -> Iterator[tuple[EtcdClient, str]]:
    """Yield a client of the installation's etcd, and the transport that it uses.

    :param member: the pod to reach, whether the cluster calls it ready or not; default: one that is ready.
    :raises EtcdError: when etcd cannot be reached.
    :raises BackupError: when no pod of it is ready.
    """

    def client(endpoint: str) -> EtcdClient:
        return EtcdClient(endpoint, _TIMEOUT, access.tls, access.login)

    if access.endpoint:
        with client(access.endpoint) as etcd:
            etcd.status()
            yield etcd, "direct"
        return
    chosen = member or installation.ready_pod("etcd")
    if not chosen:
        raise BackupError(
            "etcd cannot be backed up while it is not ready",
            where=f"namespace {installation.namespace}",
            why=installation.unreadable.get("Pod")
            or ("it has no ready pod" if installation.pods("etcd") else "there is no pod of it"),
            fix="Look at the pod's events and log, or run the playbook doctor.",
        )
    scheme = "https://" if access.tls else ""
    pod = {name(each): each for each in installation.pods("etcd")}[chosen]
    address = str(pod.get("status", {}).get("podIP") or "")
    direct = f"{scheme}[{address}]:{ETCD_CLIENT_PORT}" if ":" in address else f"{scheme}{address}:{ETCD_CLIENT_PORT}"
    if access.transport == "direct":
        with client(direct) as etcd:
            etcd.status()
            yield etcd, "direct"
        return
    with contextlib.ExitStack() as stack:
        forward = kube.portforward(installation.namespace, chosen, ETCD_CLIENT_PORT)
        host, port = stack.enter_context(forward)
        etcd = stack.enter_context(client(f"{scheme}{host}:{port}"))
        try:
            own_id = etcd.status().member_id
        except EtcdError as error:
            # What the API server said tells more than a connection that was reset.
            refused = getattr(forward, "error", "")
            if not refused:
                raise
            raise NoWay(
                "cannot reach etcd by port-forward",
                where=chosen,
                why=refused,
                fix="Let a Job in the cluster make the backup (transport: job), or use the transport direct.",
            ) from error
        if access.transport == "auto" and _answers(address):
            near = stack.enter_context(client(direct))
            # Pods' addresses are private: elsewhere the same one may be another etcd.
            with contextlib.suppress(EtcdError):
                if near.status().member_id == own_id:
                    yield near, "direct"
                    return
        yield etcd, "port_forward"


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, ETCD_CLIENT_PORT), timeout=_CONNECT):
            return True
    except OSError:
        return False


def origin_of(
    kube: Kube, installation: Installation, etcd: EtcdClient, access: Access | None = None, path: str = ""
) -> Origin:
    """Return the installation as something that can be backed up.

    :param access: replaces what the storage secret says of endpoint, region and credentials, field by field.
    :param path: the directory of the objects on this host, for ``backend: local``.
    :raises BackupError: when there is no installation, or its objects cannot be reached from here.
    """
    if installation.pachd is None:
        raise BackupError(
            "there is no Pachyderm to back up",
            where=f"namespace {installation.namespace}",
            why=installation.unreadable.get("Deployment") or "no Deployment pachd",
            fix="Check the namespace (pachyderm_namespace).",
        )
    store, spellings, root = objects_of(installation, access, path)
    source = Source(
        backend=installation.backend,
        spelling="",
        namespace=installation.namespace,
        pachyderm_version=str(installation.settings().get("version") or DEFAULT_VERSION),
        cluster_deployment_id=installation.deployment_id,
    )
    return Origin(etcd, store, spellings, source, describe(kube, installation), root)


def objects_of(
    installation: Installation, access: Access | None = None, path: str = ""
) -> tuple[Store, Sequence[Spelling], str]:
    """Return the store of the installation's objects, the spellings to look for (pachd's own first), and PACH_ROOT.

    :raises BackupError: they cannot be reached from here.
    """
    environment = {
        key: variable.value for key, variable in installation.pachd_environment().items() if variable.value is not None
    }
    store, spellings = _objects(installation, environment, access or Access(), path)
    return store, spellings, environment.get("PACH_ROOT") or ROOT


def _objects(
    installation: Installation, environment: Mapping[str, str], access: Access, path: str
) -> tuple[Store, Sequence[Spelling]]:
    """Return the store of the objects, and the spellings to look for, pachd's own first."""
    backend = installation.backend
    if backend == "local":
        directory = path or installation.host_paths.get("data", "")
        if not directory or not Path(directory).is_dir():
            raise BackupError(
                "the objects are not on this host",
                where=directory or f"namespace {installation.namespace}",
                why="with backend local they are a directory of the node that pachd runs on",
                fix="Run this on that node, or mount the directory and give its path (backup_source_path).",
            )
        return DirectoryStore(directory), [Spelling.DIRECTORY]
    if installation.storage_secret is None and "Secret" in installation.unreadable:
        raise BackupError(
            "cannot read the storage secret, which names the bucket",
            where=f"namespace {installation.namespace}",
            why=installation.unreadable["Secret"],
        )
    secret = decoded(installation.storage_secret) if installation.storage_secret else {}
    secret = {key: value.strip() for key, value in secret.items()}
    if backend == "gcp":
        return _gcs(installation, secret, access), _first(Spelling.SLASH)
    if backend == "aws":
        own = Spelling.REVERSED if _flag(environment.get("REVERSE", "")) else Spelling.PLAIN
        return _s3(secret, environment, access), _first(own)
    if backend == "minio":
        return _minio(secret, access), _first(Spelling.PLAIN)
    raise BackupError(
        "this backend cannot be backed up",
        where=f"namespace {installation.namespace}",
        why=f"pachd's STORAGE_BACKEND is {environment.get('STORAGE_BACKEND', '')!r}",
        fix="Backups know local, gcp, aws and minio.",
    )


def _first(own: Spelling) -> Sequence[Spelling]:
    return [own, *(each for each in _BUCKET_SPELLINGS if each is not own)]


def _wanted(secret: Mapping[str, str], key: str) -> str:
    if not secret.get(key):
        raise BackupError(
            "the storage secret lacks a key", where=key, fix="Mend it with the role storage_secret, or run doctor."
        )
    return secret[key]


def _gcs(installation: Installation, secret: Mapping[str, str], access: Access) -> Store:
    bucket = _wanted(secret, "google-bucket")
    info = None
    if secret.get("google-cred") and not access.credentials_file:
        try:
            info = json.loads(secret["google-cred"])
        except ValueError as error:
            where = f"{installation.namespace}/{name(installation.storage_secret or {})}"
            raise BackupError("the storage secret's google-cred is no key file", where=where, why=str(error)) from None
    return GcsStore(
        bucket,
        access.credentials_file,
        access.ca_file or True,
        access.endpoint or GCS_HOST,
        credentials_info=info,
        chain=True,
    )


def _s3(secret: Mapping[str, str], environment: Mapping[str, str], access: Access) -> Store:
    if secret.get("amazon-vault-addr") and not secret.get("amazon-id") and not access.access_key:
        raise BackupError(
            "pachd's credentials come from Vault, which this does not ask",
            where="amazon-vault-addr",
            fix="Give credentials that may list and read the bucket (backup_source_access).",
        )
    endpoint = access.endpoint or secret.get("custom-endpoint", "")
    if endpoint and "://" not in endpoint:
        endpoint = ("http://" if _flag(environment.get("DISABLE_SSL", "")) else "https://") + endpoint
    verify: bool | str = access.ca_file or not _flag(environment.get("NO_VERIFY_SSL", ""))
    return S3Store(
        S3Options(
            bucket=_wanted(secret, "amazon-bucket"),
            region=access.region or secret.get("amazon-region", ""),
            endpoint=endpoint,
            access_key=access.access_key or secret.get("amazon-id", ""),
            secret_key=access.secret_key or secret.get("amazon-secret", ""),
            session_token=access.session_token or ("" if access.access_key else secret.get("amazon-token", "")),
            verify=verify,
            retries=6,
            timeout=60.0,
        )
    )


def _minio(secret: Mapping[str, str], access: Access) -> Store:
    scheme = "https" if secret.get("minio-secure") == "1" else "http"
    return S3Store(
        S3Options(
            bucket=_wanted(secret, "minio-bucket"),
            region=access.region or "us-east-1",
            endpoint=access.endpoint or f"{scheme}://{_wanted(secret, 'minio-endpoint')}",
            access_key=access.access_key or _wanted(secret, "minio-id"),
            secret_key=access.secret_key or _wanted(secret, "minio-secret"),
            verify=access.ca_file or True,
            retries=6,
            timeout=60.0,
            signature_version="s3" if secret.get("minio-signature") == "1" else "s3v4",
        )
    )


def _flag(text: str) -> bool:
    """Return what Go's strconv.ParseBool makes of it; anything else is false."""
    return text in ("1", "t", "T", "true", "TRUE", "True")


def describe(kube: Kube, installation: Installation) -> dict[str, Any]:
    """Return what a person needs to set such an installation up again; no value of any Secret is in it."""
    parts: dict[str, Any] = {}
    for part, workload in (("pachd", installation.pachd), ("etcd", installation.etcd)):
        if workload is None:
            continue
        container = installation.container(workload, part)
        parts[part] = {
            "image": container.get("image", ""),
            "replicas": workload["spec"].get("replicas"),
            "resources": container.get("resources") or {},
            "arguments": [*(container.get("command") or []), *(container.get("args") or [])],
            "environment": {
                key: "(hidden)" if SECRETIVE.search(key) else variable.value
                for key, variable in sorted(installation.environment(container).items())
                if variable.source == "value"
            },
        }
    return {
        **parts,
        "not_readable": sorted(installation.unreadable),
        "kubernetes": kube.server_version(),
        "namespace": installation.namespace,
        "settings": _plain(installation.settings()),
        "record": dict(installation.recorded),
        "storage_secret_keys": sorted((installation.storage_secret or {}).get("data") or {}),
        "store": installation.store,
        "pipelines_workers": {name(each): each["spec"].get("replicas") for each in installation.workers},
        "storage_claims": {
            name(each): each["spec"].get("resources", {}).get("requests", {}).get("storage")
            for each in installation.of_kind("PersistentVolumeClaim")
        },
    }


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def etcd_access_of(options: Mapping[str, Any] | None, transport: str = "auto") -> EtcdAccess:
    """Return the access that a module's ``etcd`` option describes."""
    options = options or {}
    endpoint = options.get("endpoint") or ""
    if transport == "port_forward" and endpoint:
        raise InputError(
            "an endpoint of etcd is used directly", where=endpoint, fix="Leave one of the two options out."
        )
    return EtcdAccess(transport, endpoint, tls_of(options), login_of(options))


ETCD_ARGUMENT_SPEC: Mapping[str, Any] = {
    "transport": {"type": "str", "choices": list(TRANSPORTS), "default": "auto"},
    "etcd": {
        "type": "dict",
        "default": {},
        "options": {
            "endpoint": {"type": "str", "default": ""},
            **LOGIN_ARGUMENT_SPEC,
        },
    },
}
