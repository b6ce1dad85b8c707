# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Single HTTP exchanges with the API server.

Everything above this module speaks in paths and JSON; tests put a double in the place of :class:`ApiTransport`.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlencode, urlsplit

from .kubeconfig import Endpoint, endpoint, missing_library
from .streams import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

try:
    import urllib3
    import websocket
except ImportError as error:
    MISSING_LIBRARY = str(error)
else:
    MISSING_LIBRARY = ""

CONNECT_TIMEOUT = 8.0  # seconds
READ_TIMEOUT = 30.0  # seconds
USER_AGENT = "pachops.pachyderm"


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

    @property
    def host(self) -> str:
        """Address of the API server."""

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
    """Exchanges with an API server over pooled connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Open nothing yet.

        :raises ClusterError: a Python library is missing.
        """
        if MISSING_LIBRARY:
            raise missing_library(MISSING_LIBRARY)
        self.endpoint = endpoint
        self.host = endpoint.host
        options: dict[str, Any] = {"ssl_context": endpoint.tls} if endpoint.tls else {}
        if endpoint.server_name:
            options |= {"server_hostname": endpoint.server_name, "assert_hostname": endpoint.server_name}
        if endpoint.proxy.startswith("socks"):
            from urllib3.contrib.socks import SOCKSProxyManager

            self._pool: Any = SOCKSProxyManager(endpoint.proxy, maxsize=4, **options)
        elif endpoint.proxy:
            login = urlsplit(endpoint.proxy)
            basic = f"{unquote(login.username)}:{unquote(login.password or '')}" if login.username else None
            headers = urllib3.make_headers(proxy_basic_auth=basic)
            self._pool = urllib3.ProxyManager(endpoint.proxy, maxsize=4, proxy_headers=headers, **options)
        else:
            self._pool = urllib3.PoolManager(maxsize=4, **options)

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
        headers = {"Accept": "application/json, */*", "User-Agent": USER_AGENT, **self._authorization()}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            answer = self._pool.request(
                method,
                self.host + path + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else body.encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=timeout),
                retries=False,
            )
        except urllib3.exceptions.SSLError as error:
            raise _tls_failure(error.args[0] if error.args else error) from None
        except urllib3.exceptions.LocationValueError as error:
            raise UnreachableError(str(error), transient=False) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(_plain(error), transient=True) from None
        return Response(answer.status, answer.data, {key.lower(): value for key, value in answer.headers.items()})

    def open_websocket(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """See :class:`Transport`."""
        endpoint = self.endpoint
        tls: dict[str, Any] = {"context": endpoint.tls} if endpoint.tls else {}
        tls |= {"server_hostname": endpoint.server_name} if endpoint.server_name else {}
        proxy = urlsplit(endpoint.proxy)
        through = {
            "http_proxy_host": proxy.hostname,
            "http_proxy_port": proxy.port,
            "proxy_type": proxy.scheme,
            "http_proxy_auth": (proxy.username, proxy.password) if proxy.username else None,
        }
        url = self.host.replace("http", "ws", 1) + path + (f"?{urlencode(query)}" if query else "")
        try:
            return websocket.create_connection(
                url,
                timeout=CONNECT_TIMEOUT,
                header={"User-Agent": USER_AGENT, **self._authorization()},
                subprotocols=list(PROTOCOLS),
                suppress_origin=True,
                sslopt=tls,
                enable_multithread=False,
                # The environment's proxy has been considered already.
                **(through if endpoint.proxy else {"http_no_proxy": ["*"]}),
            )
        except websocket.WebSocketBadStatusException as error:
            raise UpgradeRefusedError(Response(error.status_code, error.resp_body or b"")) from None
        except ssl.SSLError as error:
            raise _tls_failure(error) from None
        except (websocket.WebSocketException, OSError) as error:
            raise UnreachableError(_plain(error), transient=True) from None

    def close(self) -> None:
        """See :class:`Transport`."""
        self._pool.clear()

    def _authorization(self) -> dict[str, str]:
        value = self.endpoint.authorization()
        return {"Authorization": value} if value else {}


def load(kubeconfig: str | None = None, context: str | None = None) -> ApiTransport:
    """Return a transport for the cluster that the options or the environment name; see :func:`.kubeconfig.endpoint`."""
    return ApiTransport(endpoint(kubeconfig, context))


def _tls_failure(error: BaseException) -> UnreachableError:
    """Tell a handshake that the server dropped, as one does that is stopping, from one that can never succeed."""
    dropped = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return UnreachableError(str(error), transient=dropped, tls=not dropped)


def _plain(error: BaseException) -> str:
    """Return the system's own words, without the library's object names in front."""
    reason = getattr(error, "reason", None) or error.__cause__ or error
    if isinstance(reason, OSError) and reason.strerror:
        return str(reason.strerror)
    text = str(reason).split(">: ", 1)[-1]
    return re.sub(r"^\[Errno -?\d+\] ", "", text)
