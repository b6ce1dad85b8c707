# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""From a kubeconfig to single HTTP exchanges with the API server, through the ``kubernetes`` library.

Everything above this module speaks in paths and JSON; tests put a double in the place of :class:`ApiTransport`.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode, urlsplit

from ..errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

try:
    import certifi
    import urllib3
    import websocket
    import yaml
    from kubernetes import client as kubernetes_client
    from kubernetes import config as kubernetes_config
except ImportError as error:
    MISSING_LIBRARY = str(error)
else:
    MISSING_LIBRARY = ""

CONNECT_TIMEOUT = 8.0  # seconds
READ_TIMEOUT = 30.0  # seconds
WEBSOCKET_PROTOCOL = "v4.channel.k8s.io"

_IN_CLUSTER_VARIABLE = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True)
class Response:
    """One answer of the API server; header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the decoded body, None where it is no JSON (a proxy's error page, plain text)."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class UnreachableError(Exception):
    """No answer came: refused, reset, timed out, or the TLS handshake failed.

    ``transient`` says whether trying again can help, ``tls`` whether it is the handshake that failed.
    """

    def __init__(self, reason: str, *, transient: bool, tls: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient
        self.tls = tls


class UpgradeRefusedError(Exception):
    """The server answered the request for a websocket with something else, kept in ``response``."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"the server answered {response.status}")
        self.response = response


class Transport(Protocol):
    """What the client needs from below."""

    host: str

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: str | None = None,
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
    ) -> Response:
        """Return the answer whatever its status; raise :class:`UnreachableError` when none came."""

    def open_websocket(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """Return an open ``websocket.WebSocket``; raise :class:`UnreachableError` or :class:`UpgradeRefusedError`."""

    def close(self) -> None:
        """Close pooled connections."""


class ApiTransport:
    """Exchanges over ``kubernetes.client.ApiClient``: its TLS, its credentials and their renewal."""

    def __init__(self, api: Any) -> None:
        """:param api: a configured ``kubernetes.client.ApiClient``."""
        self.api = api
        self.host = str(api.configuration.host)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: str | None = None,
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
    ) -> Response:
        """See :class:`Transport`."""
        headers = {"Accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = content_type
        configuration = self.api.configuration
        self.api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            # Bytes pass through unparsed, whatever the content type.
            answer = self.api.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else body.encode(),
                headers={**self.api.default_headers, **headers},
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=timeout),
                retries=False,
            )
        except urllib3.exceptions.SSLError as error:
            raise UnreachableError(str(error), transient=False, tls=True) from None
        except urllib3.exceptions.LocationValueError as error:
            raise UnreachableError(str(error), transient=False) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(_plain(error), transient=True) from None
        return Response(answer.status, answer.data, {key.lower(): value for key, value in answer.headers.items()})

    def open_websocket(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """See :class:`Transport`.

        The library's own helper connects without any timeout and hides the server's answer, so it is not used.
        """
        configuration = self.api.configuration
        headers: dict[str, str] = {}
        self.api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        verified = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": configuration.ssl_ca_cert or certifi.where()}
        options: dict[str, Any] = verified if configuration.verify_ssl else {"cert_reqs": ssl.CERT_NONE}
        options |= {"certfile": configuration.cert_file} if configuration.cert_file else {}
        options |= {"keyfile": configuration.key_file} if configuration.key_file else {}
        options |= {"server_hostname": configuration.tls_server_name} if configuration.tls_server_name else {}
        proxy = urlsplit(configuration.proxy) if configuration.proxy else None
        # Without a proxy of the configuration's own, "*" keeps the environment's out, as for all other calls.
        bypass = configuration.no_proxy.split(",") if configuration.no_proxy and proxy else [] if proxy else ["*"]
        url = configuration.host.replace("http", "ws", 1) + path + (f"?{urlencode(query)}" if query else "")
        try:
            return websocket.create_connection(
                url,
                timeout=CONNECT_TIMEOUT,
                header=headers,
                subprotocols=[WEBSOCKET_PROTOCOL],
                suppress_origin=True,
                sslopt=options,
                enable_multithread=False,
                http_proxy_host=proxy.hostname if proxy else None,
                http_proxy_port=proxy.port if proxy else None,
                http_no_proxy=bypass,
            )
        except websocket.WebSocketBadStatusException as error:
            raise UpgradeRefusedError(Response(error.status_code, error.resp_body or b"")) from None
        except ssl.SSLError as error:
            raise UnreachableError(str(error), transient=False, tls=True) from None
        except (websocket.WebSocketException, OSError) as error:
            raise UnreachableError(_plain(error), transient=True) from None

    def close(self) -> None:
        """See :class:`Transport`."""
        self.api.close()


def load(kubeconfig: str | None = None, context: str | None = None) -> ApiTransport:
    """Return a transport for the cluster that the options or the environment name; nothing is contacted yet.

    The order: ``kubeconfig``, the environment's ``KUBECONFIG`` (a list of files is merged as kubectl does),
    ``~/.kube/config``, and the service account of the pod that this runs in.

    :raises ClusterError: no configuration, an unreadable one, or one without the wanted context.
    """
    if MISSING_LIBRARY:
        raise ClusterError(
            "a Python library is missing",
            where=sys.executable,
            why=MISSING_LIBRARY,
            fix="Install the collection's requirements.txt for this interpreter, or choose another interpreter.",
        )
    configuration: Any = kubernetes_client.Configuration()
    paths = _kubeconfig_paths(kubeconfig)
    try:
        if paths:
            _check_files(paths, context)
            load_file: Any = kubernetes_config.load_kube_config
            load_file(
                config_file=os.pathsep.join(paths),
                context=context or None,
                client_configuration=configuration,
                persist_config=False,
            )
        else:
            load_pod: Any = kubernetes_config.load_incluster_config
            load_pod(client_configuration=configuration)
    except kubernetes_config.ConfigException as error:
        raise ClusterError(
            "the cluster's configuration cannot be used",
            where=os.pathsep.join(paths) or "service account of this pod",
            why=str(error).splitlines()[0] if str(error) else "the credentials could not be obtained",
            fix="Check that `kubectl get namespaces` works with the same kubeconfig and context.",
        ) from None
    except OSError as error:
        raise ClusterError(
            "a file that the kubeconfig names cannot be read",
            where=str(error.filename or os.pathsep.join(paths)),
            why=str(error.strerror or error),
            fix="Correct the path or the permissions.",
        ) from None
    configuration.retries = False
    return ApiTransport(kubernetes_client.ApiClient(configuration))


def cluster_name(kubeconfig: str | None = None, context: str | None = None) -> str:
    """Return what the kubeconfig calls the cluster that :func:`load` would choose; empty for a pod's own account.

    :raises ClusterError: see :func:`load`.
    """
    paths = _kubeconfig_paths(kubeconfig)
    if not paths:
        return ""
    _check_files(paths, context)
    list_contexts: Any = kubernetes_config.list_kube_config_contexts
    contexts, current = list_contexts(config_file=os.pathsep.join(paths))
    chosen = next((entry for entry in contexts if entry["name"] == context), current)
    return str(chosen["context"]["cluster"])


def _kubeconfig_paths(kubeconfig: str | None) -> list[str]:
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


def _check_files(paths: Sequence[str], context: str | None) -> None:
    """Refuse what the library would only report in its own terms; never quote a line, it may hold a token."""
    contexts: dict[str, dict[str, Any]] = {}
    named: dict[str, set[str]] = {"cluster": set(), "user": set()}
    current = ""
    for path in paths:
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
                fix="Fetch it again from your cluster's provider.",
            ) from None
        if not isinstance(content, dict) or not content.get("clusters"):
            raise ClusterError(
                "the file is not a kubeconfig",
                where=path,
                why="it is empty or names no clusters",
                fix="Fetch it again from your cluster's provider.",
            )
        for entry in content.get("contexts") or []:
            contexts.setdefault(str(entry.get("name")), entry.get("context") or {})
        for kind, names in named.items():
            names |= {str(entry.get("name")) for entry in content.get(f"{kind}s") or []}
        current = str(content.get("current-context") or current)
    chosen = context or current
    known = ", ".join(contexts) or "none"
    if not chosen:
        raise ClusterError(
            "the kubeconfig has no current context",
            where=os.pathsep.join(paths),
            why=f"its contexts are: {known}",
            fix="Set kube_context to one of them.",
        )
    if chosen not in contexts:
        raise ClusterError(
            f"the kubeconfig has no context {chosen!r}",
            where=os.pathsep.join(paths),
            why=f"its contexts are: {known}",
            fix="Set kube_context to one of them.",
        )
    for kind, names in named.items():
        # Without its user, the library would go on as nobody.
        if str(contexts[chosen].get(kind)) not in names:
            raise ClusterError(
                f"the kubeconfig's context {chosen!r} names a {kind} that is not in it",
                where=os.pathsep.join(paths),
                why=f"it names {contexts[chosen].get(kind)!r}; there are: {', '.join(sorted(names)) or 'none'}",
                fix="Set kube_context to another context, or fetch the kubeconfig again.",
            )


def _plain(error: BaseException) -> str:
    """Return the system's own words, without the library's object names in front."""
    reason = getattr(error, "reason", None) or error.__cause__ or error
    if isinstance(reason, OSError) and reason.strerror:
        return str(reason.strerror)
    text = str(reason).split(">: ", 1)[-1]
    return re.sub(r"^\[Errno -?\d+\] ", "", text)
