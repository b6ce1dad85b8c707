# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""One backup as the options of the module ``etcd_backup`` describe it, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..installation import NAMESPACED, observe
from ..progress import Progress
from ..stores.location import access_of
from .catalogue import read_catalogue
from .create import Outcome, Wishes, back_up
from .lock import Lock
from .origin import etcd_access_of, etcd_of, origin_of
from .sets import set_path

if TYPE_CHECKING:
    from ..kube.client import Kube
    from ..stores.base import Store


def run_backup(
    params: Mapping[str, Any], kube: Kube, store: Store, wishes: Wishes, progress: Progress, *, check: bool = False
) -> dict[str, Any]:
    """Take the lock, back up, and return what the module returns, ``vanished`` besides.

    :param params: the module's options; those about the cluster, the store and the wishes have been read already.
    :raises PachopsError: when no sound set can be made.
    """
    begun = time.monotonic()
    namespace = params["namespace"]
    installation = observe(kube, namespace, NAMESPACED)
    lock = None if check else Lock(kube, namespace, "backup", wait=params["lock_wait"])
    access = etcd_access_of(params["etcd"], params["transport"])
    with lock or nullcontext(), etcd_of(kube, installation, access) as (etcd, transport):
        origin = origin_of(kube, installation, etcd, access_of(params["source_access"]), params["source_path"])
        outcome = back_up(origin, store, wishes, lock=lock, proven=_proven, progress=progress, check=check)
    return {
        "changed": outcome.made,
        "backup": describe(store, outcome),
        "copied": {"count": outcome.new_objects, "bytes": outcome.new_bytes},
        "foreign": outcome.foreign,
        "vanished": outcome.vanished,
        "transport": transport,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _proven(store: Store, cluster_id: str) -> str:
    latest = read_catalogue(store, cluster_id).latest_verified
    return latest.id if latest else ""


def describe(store: Store, outcome: Outcome | None) -> dict[str, Any]:
    """Return the set as the module returns it, with empty members where there is none yet."""
    manifest = outcome.manifest if outcome else None
    if manifest is None:
        return {
            "id": "",
            "cluster_id": "",
            "location": "",
            "revision": 0,
            "key_count": 0,
            "objects": {"count": 0, "bytes": 0},
            "encrypted": False,
        }
    return {
        "id": manifest.id,
        "cluster_id": manifest.cluster_id,
        "location": f"{store.where}/{set_path(manifest.cluster_id, manifest.id)}".rstrip("/"),
        "revision": manifest.etcd.revision,
        "key_count": manifest.etcd.key_count,
        "objects": {"count": manifest.objects.count, "bytes": manifest.objects.bytes},
        "encrypted": manifest.encryption is not None,
    }
