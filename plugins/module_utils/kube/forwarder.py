# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The program behind a port-forward that stays: ``python -m <package>.kube.forwarder CONFIG``.

It listens on loopback, one stable port per service, and leads each connection to the pod that is ready at that moment.
While there is none, connections wait.  pachd's own health call (``src/client/health/health.proto`` upstream) says all
the time whether what is behind the ports works; what it says is in the log and, for programs, in the file
``status.json`` beside the configuration::

    config.json  name, kubeconfig (paths, joined as in KUBECONFIG), context, namespace,
                 ports {service: local port}, patience, keepalive and interval (seconds), environment {variable: value}
    status.json  pid, ports, healthy, since (seconds since the epoch), pod, error, connections

It ends on SIGTERM and SIGINT, and by itself when the process that started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ClusterError
from .client import Kube
from .portforward import LOOPBACK, PortForward
from .transport import READ_TIMEOUT, ApiTransport, Response, UnreachableError, load

CONFIG, STATUS = "config.json", "status.json"
_HEALTH_TIMEOUT = 5.0  # seconds for one health call
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0  # seconds before a health call that failed is repeated
_SAME_WORDS = 60.0  # seconds for which a message that repeats itself is not logged again


class Service(NamedTuple):
    """A port of a pod: the pod's label ``app``, and the port in it."""

    app: str
    port: int


# What pachyderm 1.13 serves (``src/server/pkg/deploy/assets/assets.go``); the S3 gateway is served but not declared.
SERVICES: Mapping[str, Service] = {
    "grpc": Service("pachd", 650),
    "s3": Service("pachd", 600),
    "http": Service("pachd", 652),
    "saml": Service("pachd", 654),
    "git": Service("pachd", 655),
    "metrics": Service("pachd", 656),
    "oidc": Service("pachd", 657),
    "dash": Service("dash", 8080),
    "dash_websocket": Service("dash", 8081),
}
# Health is asked on pachd's internal port, which is never TLS.
_PEER_PORT = 653


def selector(app: str) -> str:
    """Return the labels of the pods of one of Pachyderm's programs, those that pachctl looks for too."""
    return f"suite=pachyderm,app={app}"


class RenewedTransport:
    """The API server as the kubeconfig names it now.

    The file is read again when it was changed, and when the server no longer accepts who asks: whoever stays connected
    for weeks outlives certificates and tokens.
    """

    def __init__(self, context: str, make: Callable[[str | None, str | None], ApiTransport] = load) -> None:
        """:param context: name in the kubeconfig that the environment's KUBECONFIG names."""
        self._context = context
        self._make = make
        self._lock = threading.Lock()
        self._inner: ApiTransport | None = None
        self._stamp: list[float] = []

    @property
    def host(self) -> str:
        """Address of the API server, empty until it is known."""
        return self._inner.host if self._inner is not None else ""

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
        """See :class:`.transport.Transport`."""
        current = self._current()
        try:
            response = current.request(method, path, query=query, body=body, content_type=content_type, timeout=timeout)
        except UnreachableError as failure:
            if failure.tls:
                self._forget(current)
            raise
        if response.status == 401:
            self._forget(current)
        return response

    def open_websocket(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """See :class:`.transport.Transport`."""
        return self._current().open_websocket(path, query)

    def close(self) -> None:
        """See :class:`.transport.Transport`."""
        if self._inner is not None:
            self._inner.close()

    def _current(self) -> ApiTransport:
        stamp: list[float] = []
        for path in filter(None, os.environ.get("KUBECONFIG", "").split(os.pathsep)):
            with contextlib.suppress(FileNotFoundError):
                stamp.append(Path(path).stat().st_mtime)
        with self._lock:
            if self._inner is None or stamp != self._stamp:
                self._inner, self._stamp = self._make(None, self._context), stamp
            return self._inner

    def _forget(self, transport: ApiTransport) -> None:
        with self._lock:
            if self._inner is transport:
                self._inner = None


class Log:
    """Lines with the time in UTC; one that repeats itself is counted instead of written."""

    def __init__(self, write: Callable[[str], Any], clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def __call__(self, line: str) -> None:
        """Write one line."""
        now = self._clock()
        with self._lock:
            if now - self._last.get(line, -_SAME_WORDS) < _SAME_WORDS:
                self._left_out[line] = self._left_out.get(line, 0) + 1
                return
            again = self._left_out.pop(line, 0)
            self._last = {text: when for text, when in self._last.items() if now - when < _SAME_WORDS}
            self._last[line] = now
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
            self._write(f"{stamp} {line}{f' (and {again} times before)' if again else ''}\n")


class Forwarder:
    """All ports of one context, and what pachd's health call says of them."""

    def __init__(self, config: Mapping[str, Any], directory: Path, kube: Kube, log: Callable[[str], None]) -> None:
        self._config = config
        self._status_file = directory / STATUS
        self._log = log
        self._stopping = threading.Event()
        self._state: dict[str, Any] = {"healthy": False, "since": time.time(), "pod": "", "error": "not asked yet"}
        patience, keepalive = float(config["patience"]), float(config["keepalive"])

        def forward(name: str, service: Service, local_port: int) -> PortForward:
            return PortForward(
                kube,
                config["namespace"],
                service.port,
                selector=selector(service.app),
                patience=patience,
                local_port=local_port,
                eager=False,
                keepalive=keepalive,
                tell=lambda why: log(f"{name}: {why}"),
            )

        self._forwards = {name: forward(name, SERVICES[name], port) for name, port in config["ports"].items()}
        # Health has no patience: that pachd is away is to be known at once.
        self._health = PortForward(
            kube,
            config["namespace"],
            _PEER_PORT,
            selector=selector("pachd"),
            patience=0.0,
            eager=False,
            keepalive=keepalive,
        )

    def run(self) -> None:
        """Forward until :meth:`stop` is called.

        :raises OSError: a port is taken.
        """
        with contextlib.ExitStack() as stack:
            for name, forward in self._forwards.items():
                try:
                    stack.enter_context(forward)
                except OSError as error:
                    port = self._config["ports"][name]
                    raise OSError(
                        error.errno, f"cannot listen on {LOOPBACK}:{port} ({name}): {error.strerror}"
                    ) from None
            stack.callback(lambda: self._status_file.unlink(missing_ok=True))
            self._log(f"listening: {', '.join(f'{name} {port}' for name, port in self._config['ports'].items())}")
            self._note()
            self._watch()
        self._log("stopped")

    def stop(self) -> None:
        """End :meth:`run`; safe to call from a signal handler."""
        self._stopping.set()

    def _watch(self) -> None:
        """Ask pachd for its health, for as long as this runs."""
        interval = float(self._config["interval"])
        parent = os.getppid()
        pause = 0.0
        with self._health as address, _health_call(*address) as call:
            while not self._stopping.wait(pause):
                if os.getppid() != parent:
                    self._log("ending: the supervisor is gone, and nobody else would stop this")
                    return
                try:
                    call()
                except ClusterError as error:
                    # The forward knows more than the client at its end, who saw a reset connection.
                    self._turned(healthy=False, error=self._health.error or str(error))
                    pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE, interval)
                else:
                    self._health.error = ""
                    self._turned(healthy=True, error="")
                    pause = interval

    def _turned(self, *, healthy: bool, error: str) -> None:
        pod = self._health.target
        before = self._state
        self._state = {"healthy": healthy, "since": before["since"], "pod": pod, "error": error}
        if healthy != before["healthy"] or (healthy and pod != before["pod"]):
            now = time.time()
            self._state["since"] = now
            after = f" after {now - before['since']:.1f} s" if healthy and not before["healthy"] else ""
            self._log(f"pachd answers: pod {pod}{after}" if healthy else f"pachd does not answer: {error}")
        elif error != before["error"]:
            self._log(f"pachd does not answer: {error}")
        self._note()

    def _note(self) -> None:
        status = {
            "pid": os.getpid(),
            "ports": self._config["ports"],
            **self._state,
            "connections": sum(forward.connections for forward in self._forwards.values()),
        }
        new = self._status_file.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk must not end a forward
            new.write_text(json.dumps(status, indent=1) + "\n", encoding="utf-8")
            new.replace(self._status_file)


@contextlib.contextmanager
def _health_call(host: str, port: int) -> Iterator[Callable[[], None]]:
    """Yield a function that calls ``health.Health/Health`` and raises :class:`ClusterError` where it fails."""
    import grpc

    options = [("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", 100)]
    options += [("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
    with grpc.insecure_channel(f"{host}:{port}", options=options) as channel:
        # Both messages are empty, so that no generated code is needed.
        method = channel.unary_unary("/health.Health/Health", request_serializer=bytes, response_deserializer=bytes)

        def call() -> None:
            try:
                method(b"", timeout=_HEALTH_TIMEOUT)
            except grpc.RpcError as error:
                raise ClusterError("its health call failed", why=error.details() or error.code().name.lower()) from None

        yield call


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the program; return its exit status."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    file = Path(path)
    config = json.loads(file.read_text(encoding="utf-8"))
    os.environ.update({"KUBECONFIG": config["kubeconfig"], **config["environment"]})
    log = Log(sys.stderr.write)
    kube = Kube(RenewedTransport(config["context"]), patience=0.0)
    forwarder = Forwarder(config, file.parent, kube, log)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: forwarder.stop())
    try:
        forwarder.run()
    except OSError as error:
        log(str(error.strerror or error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
