# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Where the cluster is, and how to log in to it: from a kubeconfig or from a pod's service account.

Plain users (certificate, token, token file) are read here, since loading the ``kubernetes`` library costs more than a
second of processor time in each module; it is loaded for users that need it: exec plugins, auth providers, passwords.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import ssl
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ClusterError

try:
    import yaml
except ImportError as error:
    MISSING_YAML = str(error)
else:
    MISSING_YAML = ""

_IN_CLUSTER_VARIABLE = "KUBERNETES_SERVICE_HOST"
_PLAIN = frozenset(
    {"client-certificate", "client-certificate-data", "client-key", "client-key-data", "token", "tokenFile"}
)
_FETCH_AGAIN = "Fetch it again from your cluster's provider."
_CHOOSE_CONTEXT = "Set kube_context to one of them."


@dataclass
class Endpoint:
    """An API server and an identity.

    ``authorization`` returns the current value of the header of that name, empty where a certificate says who asks.
    """

    host: str
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    proxy: str = ""
    authorization: Callable[[], str] = field(default=lambda: "")


@dataclass
class _Entry:
    """One named entry of a kubeconfig, with the directory to which its paths are relative."""

    content: dict[str, Any]
    directory: Path

    def text(self, name: str) -> str:
        return str(self.content.get(name) or "")

    def data(self, name: str) -> bytes:
        """Return what ``name`` or ``name-data`` holds; empty where neither is given."""
        encoded = self.text(f"{name}-data")
        try:
            return base64.b64decode(encoded, validate=True) if encoded else self.file(name)
        except binascii.Error:
            raise ClusterError(f"{name}-data in the kubeconfig is not base64", fix=_FETCH_AGAIN) from None

    def file(self, name: str) -> bytes:
        path = self.directory / Path(self.text(name)).expanduser()
        return path.read_bytes() if self.text(name) else b""


def endpoint(kubeconfig: str | None = None, context: str | None = None) -> Endpoint:
    """Return the API server and identity that the options or the environment name; nothing is contacted yet.

    The order: ``kubeconfig``, the environment's ``KUBECONFIG`` (a list of files is merged as kubectl does),
    ``~/.kube/config``, and the service account of the pod that this runs in.

    :raises ClusterError: no configuration, an unreadable one, or one without the wanted context.
    """
    if MISSING_YAML:
        raise missing_library(MISSING_YAML)
    paths = _paths(kubeconfig)
    try:
        if not paths:
            return _by_library(lambda config, target: config.load_incluster_config(client_configuration=target))
        chosen, cluster, user = _read(paths, context)
        if set(user.content) <= _PLAIN:
            return _plain(cluster, user)
        return _by_library(
            lambda config, target: config.load_kube_config(
                config_file=os.pathsep.join(paths), context=chosen, client_configuration=target, persist_config=False
            )
        )
    except OSError as error:
        raise ClusterError(
            "a file that the kubeconfig names cannot be read",
            where=str(error.filename or os.pathsep.join(paths)),
            why=str(error.strerror or error),
            fix="Correct the path or the permissions.",
        ) from None


def context_name(kubeconfig: str | None = None, context: str | None = None) -> str:
    """Return the context that :func:`endpoint` would use; empty for the service account of a pod.

    :raises ClusterError: no configuration, an unreadable one, or one without the wanted context.
    """
    paths = _paths(kubeconfig)
    return _read(paths, context)[0] if paths else ""


def missing_library(why: str) -> ClusterError:
    """Return the error for an interpreter without the collection's requirements."""
    return ClusterError(
        "a Python library is missing",
        where=sys.executable,
        why=why,
        fix="Install the collection's requirements.txt for this interpreter, or choose another interpreter.",
    )


def _paths(kubeconfig: str | None) -> list[str]:
    if kubeconfig:
        wanted = [kubeconfig]
        origin = "option kubeconfig"
    elif os.environ.get("KUBECONFIG"):
        wanted = [path for path in os.environ["KUBECONFIG"].split(os.pathsep) if path]
        origin = "environment variable KUBECONFIG"
    elif Path("~/.kube/config").expanduser().is_file():
        wanted = ["~/.kube/config"]
        origin = "default place"
    elif os.environ.get(_IN_CLUSTER_VARIABLE):
        return []
    else:
        raise ClusterError(
            "no Kubernetes cluster is configured",
            where="option kubeconfig, KUBECONFIG, ~/.kube/config, a pod's service account",
            why="none of them is there",
            fix="Set kubeconfig to your cluster's file; with backend=local deploy.yml can bring up a cluster itself.",
        )
    present = [str(Path(path).expanduser()) for path in wanted if Path(path).expanduser().is_file()]
    if not present:
        raise ClusterError(
            "the kubeconfig does not exist",
            where=os.pathsep.join(wanted),
            why=f"the {origin} names no file that is there",
            fix="Correct the path, or unset it to use another configuration.",
        )
    return present


def _read(paths: Sequence[str], context: str | None) -> tuple[str, _Entry, _Entry]:
    """Return the chosen context's name, its cluster and its user; in doubt the first file's entry counts."""
    entries: dict[str, dict[str, _Entry]] = {"contexts": {}, "clusters": {}, "users": {}}
    current = ""
    for path in paths:
        document = _document(path)
        current = current or str(document.get("current-context") or "")
        for kind, named in entries.items():
            for item in document.get(kind) or []:
                content = item.get(kind[:-1]) or {}
                named.setdefault(str(item.get("name")), _Entry(content, Path(path).resolve().parent))
    where = os.pathsep.join(paths)
    chosen = context or current
    known = f"its contexts are: {', '.join(entries['contexts']) or 'none'}"
    if not chosen:
        raise ClusterError("the kubeconfig has no current context", where=where, why=known, fix=_CHOOSE_CONTEXT)
    if chosen not in entries["contexts"]:
        what = f"the kubeconfig has no context {chosen!r}"
        raise ClusterError(what, where=where, why=known, fix=_CHOOSE_CONTEXT)
    found = []
    for kind in ("cluster", "user"):
        name = entries["contexts"][chosen].text(kind)
        if name not in entries[f"{kind}s"]:
            raise ClusterError(
                f"the kubeconfig's context {chosen!r} names a {kind} that is not in it",
                where=where,
                why=f"it names {name!r}; there are: {', '.join(sorted(entries[f'{kind}s'])) or 'none'}",
                fix="Set kube_context to another context, or fetch the kubeconfig again.",
            )
        found.append(entries[f"{kind}s"][name])
    return chosen, found[0], found[1]


def _document(path: str) -> dict[str, Any]:
    """Return one file's content; an error never quotes a line, for it may hold a token."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterError(
            "the kubeconfig cannot be read",
            where=path,
            why=str(error.strerror),
            fix="Make it readable for the user who runs Ansible, mode 0600.",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ClusterError(
            "the kubeconfig is not YAML",
            where=f"{path}, line {mark.line + 1}" if mark else path,
            why=str(getattr(error, "problem", None) or "it is not text"),
            fix=_FETCH_AGAIN,
        ) from None
    if not isinstance(content, dict) or not content.get("clusters"):
        why = "it is empty or names no clusters"
        raise ClusterError("the file is not a kubeconfig", where=path, why=why, fix=_FETCH_AGAIN)
    return content


def _plain(cluster: _Entry, user: _Entry) -> Endpoint:
    host = cluster.text("server").rstrip("/")
    certificate, key = user.data("client-certificate"), user.data("client-key")
    authority = cluster.data("certificate-authority")
    verified = not cluster.content.get("insecure-skip-tls-verify")
    tls = _tls(authority, certificate, key, verified=verified) if host.startswith("https") else None

    def authorization() -> str:
        # A token file is read anew each time: its owner replaces it before the token expires.
        token = user.text("token") or user.file("tokenFile").decode().strip()
        return f"Bearer {token}" if token else ""

    authorization()  # a token file that is missing is reported now
    return Endpoint(
        host,
        tls,
        server_name=cluster.text("tls-server-name"),
        proxy=cluster.text("proxy-url") or _proxy_from_environment(host),
        authorization=authorization,
    )


def _by_library(load: Callable[[Any, Any], Any]) -> Endpoint:
    """Return what the ``kubernetes`` library finds: exec plugins, auth providers, passwords, a pod's own account."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise missing_library(str(error)) from None
    configuration: Any = client.Configuration()
    try:
        load(config, configuration)
    except config.ConfigException as error:
        raise ClusterError(
            "the cluster's configuration cannot be used",
            where="the kubeconfig's user, or the service account of this pod",
            why=str(error).splitlines()[0] if str(error) else "the credentials could not be obtained",
            fix="Check that `kubectl get namespaces` works with the same kubeconfig and context.",
        ) from None

    def contents(path: str | None) -> bytes:
        return Path(path).read_bytes() if path else b""

    def authorization() -> str:
        settings = configuration.auth_settings().get("BearerToken") or {}
        return str(settings.get("value") or "")

    if not authorization() and not configuration.cert_file:
        # The library only logs that a plugin failed, and would go on as nobody.
        raise ClusterError(
            "no credentials could be obtained",
            where="the kubeconfig's user",
            why="its exec plugin or auth provider gave neither a token nor a certificate",
            fix="Run `kubectl get namespaces` with the same kubeconfig and context to see why.",
        )
    parts = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    secure = str(configuration.host).startswith("https")
    return Endpoint(
        str(configuration.host),
        _tls(*map(contents, parts), verified=bool(configuration.verify_ssl)) if secure else None,
        server_name=configuration.tls_server_name or "",
        proxy=configuration.proxy or _proxy_from_environment(str(configuration.host)),
        authorization=authorization,
    )


def _tls(authority: bytes, certificate: bytes, key: bytes, *, verified: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        # Cluster authorities are seldom as strict as Python 3.13 wants them by default.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            # OpenSSL takes a certificate from a file only; this one is nobody else's and gone at once.
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / "client.pem"
                file.touch(mode=0o600)
                file.write_bytes(certificate + b"\n" + key)
                context.load_cert_chain(file)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ClusterError(
            "a certificate or key in the kubeconfig cannot be used",
            why=str(getattr(error, "reason", None) or error),
            fix=_FETCH_AGAIN,
        ) from None
    return context


def _proxy_from_environment(host: str) -> str:
    """Return the proxy that the usual variables name for ``host``; ranges in NO_PROXY count as they do for kubectl."""
    parts = urlsplit(host)
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or not parts.hostname or urllib.request.proxy_bypass(parts.netloc):
        return ""
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return proxy
    for item in proxies.get("no", "").split(","):
        try:
            if address in ipaddress.ip_network(item.strip(), strict=False):
                return ""
        except ValueError:
            continue
    return proxy
