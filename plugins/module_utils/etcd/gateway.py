# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Small questions to one etcd member over its JSON gateway, with nothing but the standard library.

For health, alarms, sizes and single keys; not for bulk data.  The gateway's path depends on the server: ``/v3`` from
3.4 on, ``/v3beta`` in 3.3, ``/v3alpha`` in 3.2 (etcd's api_grpc_gateway page).  64-bit numbers arrive as strings.
"""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any

from ..errors import ClusterError

Object = dict[str, Any]

_OLD_GATEWAYS = {(3, 3): "/v3beta", (3, 2): "/v3alpha"}


@dataclass(frozen=True)
class EtcdStatus:
    """The state of one member.

    :param version: of the server, e.g. ``3.5.21``.
    :param healthy: what ``/health`` says: the member has a leader and can commit.
    :param revision: of the key space.
    :param size: bytes of the database file; ``size_in_use`` is what a defragmentation would leave, 0 before 3.4.
    :param leader: whether the member knows a leader.
    :param members: names of the cluster's members.
    :param alarms: raised alarms, e.g. ``NOSPACE``.
    """

    version: str
    healthy: bool
    revision: int
    size: int
    size_in_use: int
    leader: bool
    members: tuple[str, ...]
    alarms: tuple[str, ...]


class EtcdGateway:
    """A client for one member."""

    def __init__(self, host: str, port: int, timeout: float = 10.0) -> None:
        """:param timeout: seconds for each call."""
        self._host = host
        self._port = port
        self._timeout = timeout
        self._version = ""

    def version(self) -> str:
        """Return the server's version."""
        if not self._version:
            self._version = str(self._get("/version").get("etcdserver") or "")
        return self._version

    def healthy(self) -> bool:
        """Return whether the member calls itself healthy; older servers answer with an error status when not."""
        try:
            return str(self._get("/health").get("health")).lower() == "true"
        except ClusterError as refusal:
            if "answered 503" in refusal.why:
                return False
            raise

    def status(self) -> EtcdStatus:
        """Return everything about the member that is worth a line.

        :raises ClusterError: it does not answer.
        """
        answer = self._call("/maintenance/status", {})
        alarms = self._call("/maintenance/alarm", {"action": "GET"})
        members = self._call("/cluster/member/list", {})
        return EtcdStatus(
            version=str(answer.get("version") or self.version()),
            healthy=self.healthy(),
            revision=int(answer.get("header", {}).get("revision") or 0),
            size=int(answer.get("dbSize") or 0),
            size_in_use=int(answer.get("dbSizeInUse") or 0),
            leader=int(answer.get("leader") or 0) != 0,
            members=tuple(str(member.get("name") or "") for member in members.get("members") or []),
            alarms=tuple(str(alarm.get("alarm") or "") for alarm in alarms.get("alarms") or []),
        )

    def value(self, key: bytes) -> bytes | None:
        """Return the value of one key, or None where it does not exist."""
        found = self._call("/kv/range", {"key": _base64(key)}).get("kvs") or []
        return base64.b64decode(found[0].get("value") or "") if found else None

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return the keys that begin with ``prefix``, in order, without their values."""
        query = {"key": _base64(prefix), "range_end": _base64(_after(prefix)), "keys_only": True}
        return [base64.b64decode(entry["key"]) for entry in self._call("/kv/range", query).get("kvs") or []]

    def _call(self, path: str, query: Object) -> Object:
        numbers = tuple(int(part) for part in self.version().split(".")[:2] if part.isdigit())
        gateway = _OLD_GATEWAYS.get((numbers[0], numbers[1]), "/v3") if len(numbers) == 2 else "/v3"
        return self._request("POST", gateway + path, json.dumps(query))

    def _get(self, path: str) -> Object:
        return self._request("GET", path, None)

    def _request(self, method: str, path: str, body: str | None) -> Object:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, path, body=body)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise self._refusal(path, f"it answered {response.status}")
            answer = json.loads(text)
        except (OSError, http.client.HTTPException, ValueError) as failure:
            raise self._refusal(path, str(failure) or type(failure).__name__) from failure
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise self._refusal(path, "its answer is not that of an etcd")
        return answer

    def _refusal(self, path: str, why: str) -> ClusterError:
        return ClusterError(
            "etcd does not answer as it should",
            where=f"http://{self._host}:{self._port}{path}",
            why=why,
            fix="Look at the etcd pod's log and events.",
        )


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _after(prefix: bytes) -> bytes:
    """Return the first key behind all keys with ``prefix``."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\x00"
