# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks in etcd as pachd takes them: one leased key per candidate, the oldest holds the lock (src/server/pkg/dlock)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient


def keep_alive(etcd: EtcdClient, lease: int, ttl: int, lost: Callable[[], None]) -> None:
    """Renew a lease from a thread of its own; call ``lost`` when that fails for as long as the lease lives."""

    def renew() -> None:
        end = time.monotonic() + ttl
        while True:
            time.sleep(ttl / 3)
            try:
                if etcd.lease_keepalive(lease) > 0:
                    end = time.monotonic() + ttl
                    continue
            except (EtcdError, StopIteration):
                pass
            if time.monotonic() > end:
                lost()
                return

    threading.Thread(target=renew, daemon=True).start()


def acquire(etcd: EtcdClient, prefix: str, lost: Callable[[], None], ttl: int = 15) -> None:
    """Wait until the lock is ours; ``lost`` is called when it no longer is."""
    lease = etcd.lease_grant(ttl)
    key = f"{prefix}/{lease:x}".encode()
    etcd.put(key, b"", lease)
    keep_alive(etcd, lease, ttl, lost)
    while True:
        holders = sorted(etcd.range(f"{prefix}/".encode()), key=lambda each: each.create_revision)
        if holders and holders[0].key == key:
            return
        time.sleep(0.5)
