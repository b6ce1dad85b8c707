# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""How modules reach pachd: at an address, with TLS or without, or by a port-forward of their own to its pod."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, PachdError
from ..kube.client import KUBE_ARGUMENT_SPEC, Kube, connect
from .acceptance import ready_pod
from .client import DEFAULT_TIMEOUT, SETTLING, Pachd

PEER_PORT = 653
"""Port inside the pod that answers the same calls as the outer one, and never speaks TLS, whose certificate would not
name a local port (src/server/cmd/pachd/main.go upstream)."""

DEFAULT_PORT = 30650
"""The port that pachctl takes where an address has none (src/client/client.go upstream)."""

#: Documented by the fragment ``pachops.pachyderm.pachd``.
PACHD_ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_ARGUMENT_SPEC,
    "namespace": {"type": "str", "default": "pachyderm"},
    "address": {"type": "str", "default": ""},
    "ca_file": {"type": "path", "default": ""},
    "token": {"type": "str", "default": "", "no_log": True},
    "timeout": {"type": "float", "default": DEFAULT_TIMEOUT},
}

_ADDRESS = re.compile(
    r"(?:(?P<scheme>grpcs?)://)?(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[^/:\s\[\]]+))(?::(?P<port>[0-9]{1,5}))?/?"
)


@dataclass(frozen=True)
class Address:
    """Where pachd listens."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that pachctl would write so: ``grpc://host:port``, ``grpcs://host:port``, ``host:port``.

        :raises InputError: it is none.
        """
        found = _ADDRESS.fullmatch(text.strip())
        port = int(found["port"] or DEFAULT_PORT) if found else 0
        if found is None or not 0 < port < 1 << 16:
            fix = "Write grpc://host:port, or grpcs://host:port for TLS, as in pachctl's pachd_address."
            raise InputError("not an address of pachd", where=text, fix=fix)
        return cls(found["six"] or found["host"], port, found["scheme"] == "grpcs")

    def __str__(self) -> str:
        return f"{'grpcs' if self.tls else 'grpc'}://{self.host}:{self.port}"


@contextlib.contextmanager
def opened(options: Mapping[str, Any]) -> Iterator[Pachd]:
    """Yield a connection as a module's options of :data:`PACHD_ARGUMENT_SPEC` describe it.

    :raises PachdError: nothing that could be pachd answers there, no pod of it is ready, or it has lost its etcd.
    :raises ClusterError: the cluster cannot be reached, or refuses the port-forward.
    """
    token, timeout = options["token"] or "", options["timeout"]
    if not options["address"]:
        if options["ca_file"]:
            raise InputError("ca_file belongs to an address", fix="Give address: grpcs://host:port, or leave it out.")
        kube = connect(options["kubeconfig"], options["context"])
        with connected(kube, options["namespace"], token, timeout=timeout) as pachd:
            pachd.settle(min(timeout, SETTLING))
            yield pachd
        return
    address = Address.parse(options["address"])
    authority = _authority(address, options["ca_file"])
    _reach(address, authority, timeout)
    with Pachd(address.host, address.port, token=token, timeout=timeout, authority=authority) as pachd:
        pachd.settle(min(timeout, SETTLING))
        yield pachd


@contextlib.contextmanager
def connected(kube: Kube, namespace: str, token: str = "", *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[Pachd]:
    """Yield a connection to the namespace's pachd by a port-forward.

    :raises PachdError: there is no ready pachd.
    """
    pod = ready_pod(kube, namespace)["metadata"]["name"]
    with (
        kube.portforward(namespace, pod, PEER_PORT) as address,
        Pachd(*address, token=token, timeout=timeout) as pachd,
    ):
        yield pachd


def _authority(address: Address, ca_file: str | None) -> bytes | None:
    """Return the certificates to trust in PEM form, None for a connection without TLS; empty is the system's."""
    if not address.tls:
        if ca_file:
            raise InputError("ca_file is of no use without TLS", where=str(address), fix="Write grpcs:// for TLS.")
        return None
    if not ca_file:
        return b""
    try:
        return Path(ca_file).read_bytes()
    except OSError as error:
        raise InputError("the CA file cannot be read", where=ca_file, why=error.strerror or str(error)) from None


def _reach(address: Address, authority: bytes | None, timeout: float) -> None:
    """Open a connection once by hand, for what keeps it from being opened is lost in gRPC's messages.

    :raises PachdError: with the reason.
    """
    try:
        with socket.create_connection((address.host, address.port), timeout=min(timeout, 10.0)) as plain:
            if authority is not None:
                context = ssl.create_default_context(cadata=authority.decode("ascii", "replace") or None)
                context.set_alpn_protocols(["h2"])
                with context.wrap_socket(plain, server_hostname=address.host):
                    pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            fix = "Give the authority of pachd's certificate as ca_file, and the name that the certificate has."
        elif isinstance(error, ssl.SSLError):
            fix = "Where pachd speaks no TLS, write grpc:// instead of grpcs://."
        else:
            fix = "Check the address and that its port-forward runs, or leave it out, so that the module makes its own."
        raise PachdError("cannot reach pachd", where=str(address), why=reason, fix=fix) from None
