# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The lock that keeps backup, restore, migration and garbage collection of one installation apart.

It is a Lease named ``pachops-lock`` in the installation's namespace, renewed while the work goes on, so that it expires
when its holder dies.  All times in it are the API server's: the clocks of the hosts that compete are never compared.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import secrets
import socket
import threading
import time
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import BackupError, ClusterError
from ..kube.client import Ref, refusal
from ..kube.kinds import collection_path
from ..pachd.manifests import MANAGED_BY, MANAGER

if TYPE_CHECKING:
    from ..kube.client import Kube, Object
    from ..kube.transport import Response

LOCK = "pachops-lock"
DURATION = 60.0  # seconds for which a lock outlives its holder
_API, _KIND = "coordination.k8s.io/v1", "Lease"
_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_SKEW = 600.0  # seconds that two clocks may differ
_MERGE = "application/merge-patch+json"


class Lock:
    """Context manager: entering takes the lock, leaving gives it back."""

    def __init__(
        self, kube: Kube, namespace: str, operation: str, *, wait: float = 0.0, duration: float = DURATION
    ) -> None:
        """:param operation: what it is taken for (``backup``, ``restore`` …), for those who find it taken.
        :param wait: seconds to wait for another holder.
        :param duration: seconds after which it expires unless renewed, at least 1.
        """
        self._kube = kube
        self._namespace = namespace
        self._wait = wait
        self._duration = duration
        self.holder = f"{operation} by {socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._ref = Ref(_API, _KIND, namespace, LOCK)
        self._ended = threading.Event()
        self._lost = ""
        self._thread: threading.Thread | None = None
        self._renewed = 0.0
        #: Seconds by which this host's clock is ahead of the API server's, known once the lock was asked for.
        self.skew = 0.0
        self._refused = ""

    def __enter__(self) -> Lock:
        deadline = time.monotonic() + self._wait
        while True:
            holder = self._take()
            if not holder:
                break
            if time.monotonic() >= deadline:
                raise BackupError(
                    "another operation holds the installation's lock",
                    where=str(self._ref),
                    why=holder,
                    fix=f"Wait for its end; where it has died, the lock expires {self._duration:.0f} s after it.",
                )
            time.sleep(min(1.0, self._duration / 4))
        self._thread = threading.Thread(target=self._renew, name="lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._lost:
            return
        # Where nothing helps it expires by itself; the work's own result or error is what matters.
        with contextlib.suppress(ClusterError):
            found = self._kube.get(self._ref)
            if found is None or found["spec"].get("holderIdentity") != self.holder:
                return
            try:
                self._kube.delete(self._ref)
            except ClusterError:
                # Who may not delete it can still leave it without a holder.
                self._kube.merge(self._ref, {"spec": {"holderIdentity": None}})

    def check(self) -> None:
        """Return while the lock is held.

        :raises BackupError: when it was lost, so that somebody else may work on the same installation.
        """
        if not self._lost and time.monotonic() - self._renewed > self._duration:
            refused = f": {self._refused}" if self._refused else ""
            self._lost = f"it could not be renewed for {self._duration:.0f} s{refused}"
        if self._lost:
            raise BackupError(
                "the installation's lock was lost",
                where=str(self._ref),
                why=self._lost,
                fix="Run it again when the API server answers and nothing else works on the installation.",
            )

    def check_clock(self) -> None:
        """Return where this host's clock can be trusted with deciding what is old.

        :raises BackupError: when it is not the API server's.
        """
        if abs(self.skew) > _SKEW:
            raise BackupError(
                "this host's clock cannot be trusted with what is old",
                where=socket.gethostname(),
                why=f"it is {abs(self.skew):.0f} s {'ahead of' if self.skew > 0 else 'behind'} the API server's",
                fix="Set the clock that is wrong; nothing was deleted.",
            )

    def _take(self) -> str:
        """Take the lock and return an empty string, or return who has it."""
        begun = time.monotonic()
        response = self._kube.request("GET", self._ref.path())
        now = _server_time(response)
        self.skew = (datetime.now(timezone.utc) - now).total_seconds()
        if response.status == 404:
            response = self._create(now)
            if response.status == 409:
                return self._holder(self._kube.get(self._ref))
        elif response.status == 200:
            found = response.json()
            if found["spec"].get("holderIdentity") and not self._expired(found, now):
                return self._holder(found)
            response = self._patch(found, now, takeover=True)
            if response.status in (404, 409):
                return self._holder(self._kube.get(self._ref))
        if response.status not in (200, 201):
            raise refusal(response, "PATCH", str(self._ref), self._kube.transport.host)
        self._renewed = begun
        return ""

    def _create(self, now: datetime) -> Response:
        metadata = {"name": LOCK, "namespace": self._namespace, "labels": {MANAGED_BY: MANAGER}}
        lease = {"apiVersion": _API, "kind": _KIND, "metadata": metadata, "spec": self._spec(now, acquired=True)}
        path = collection_path(_API, _KIND, self._namespace)
        return self._kube.request("POST", path, body=json.dumps(lease))

    def _patch(self, found: Object, now: datetime, *, takeover: bool) -> Response:
        spec = self._spec(now, acquired=takeover)
        if takeover:
            spec["leaseTransitions"] = int(found["spec"].get("leaseTransitions") or 0) + 1
        body = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "spec": spec}
        return self._kube.request("PATCH", self._ref.path(), body=json.dumps(body), content_type=_MERGE)

    def _spec(self, now: datetime, *, acquired: bool) -> dict[str, Any]:
        moment = now.strftime(_FORMAT)
        spec = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "renewTime": moment,
        }
        return {**spec, "acquireTime": moment} if acquired else spec

    def _expired(self, found: Object, now: datetime) -> bool:
        spec = found["spec"]
        renewed = spec.get("renewTime") or spec.get("acquireTime")
        if not renewed:
            return True
        moment = datetime.strptime(renewed, _FORMAT).replace(tzinfo=timezone.utc)
        return (now - moment).total_seconds() > float(spec.get("leaseDurationSeconds") or 0) + 1.0

    def _holder(self, found: Object | None) -> str:
        spec = (found or {}).get("spec") or {}
        return f"held by: {spec.get('holderIdentity', 'nobody any more')}, since {spec.get('acquireTime', 'now')}"

    def _renew(self) -> None:
        while not self._ended.wait(self._duration / 3):
            begun = time.monotonic()
            try:
                response = self._kube.request("GET", self._ref.path())
                found = response.json() if response.status == 200 else None
                if found is not None and found["spec"].get("holderIdentity") == self.holder:
                    patched = self._patch(found, _server_time(response), takeover=False)
                    if patched.status == 200:
                        self._renewed, self._refused = begun, ""
                    else:
                        self._refused = str(refusal(patched, "PATCH", str(self._ref), self._kube.transport.host))
                elif response.status in (200, 404):
                    self._lost = "it was deleted" if found is None else self._holder(found)
                    return
            except ClusterError:
                continue  # check() decides when that has lasted too long


def _server_time(response: Response) -> datetime:
    stamp = response.headers.get("date", "")
    return email.utils.parsedate_to_datetime(stamp) if stamp else datetime.now(timezone.utc)
