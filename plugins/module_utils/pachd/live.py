# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A running installation below its API: its etcd and its object store, read while it works."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..backup.create import Origin
from ..backup.objects import Listing, list_source
from ..backup.origin import ETCD_ARGUMENT_SPEC, etcd_access_of, etcd_of, origin_of
from ..installation import NAMESPACED, Installation, observe
from ..kube.client import Kube
from ..stores.keys import TREES
from ..stores.location import STORE_ARGUMENT_SPEC, access_of
from .objects import Objects
from .state import State

#: Documented by the fragment ``pachops.pachyderm.live``.
LIVE_ARGUMENT_SPEC: dict[str, Any] = {
    **ETCD_ARGUMENT_SPEC,
    # A Job in the cluster is for what streams; here single keys are read.
    "source_path": {"type": "path", "default": ""},
    "source_access": STORE_ARGUMENT_SPEC["store_access"],
}

Usage = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Live:
    """What :func:`reading` yields."""

    installation: Installation
    origin: Origin

    def listing(self) -> Listing:
        """List the object store."""
        return list_source(self.origin.store, self.origin.spellings, self.origin.root)

    def state(self, listing: Listing) -> State:
        """Return the state as of now."""
        spelling = listing.spelling or self.origin.spellings[0]
        return State.open(self.origin.etcd, Objects(self.origin.store, spelling, self.origin.root))

    def records(self) -> State:
        """Return the state as of now without any content."""
        return State.open(self.origin.etcd)


@contextlib.contextmanager
def reading(kube: Kube, params: Mapping[str, Any]) -> Iterator[Live]:
    """Yield the installation that a module's options name.

    :raises BackupError: there is none, or its objects cannot be reached from here.
    """
    installation = observe(kube, params["namespace"], NAMESPACED)
    access = etcd_access_of(params["etcd"], params["transport"])
    with etcd_of(kube, installation, access) as (etcd, _transport):
        yield Live(
            installation, origin_of(kube, installation, etcd, access_of(params["source_access"]), params["source_path"])
        )


def usage(sizes: Mapping[str, int], names: Iterable[str] | None = None) -> Usage:
    """Return number and bytes of objects by tree, and of all as ``total``.

    :param sizes: bytes by canonical name.
    :param names: which of them count; all where None.
    """
    count: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name in sizes if names is None else names:
        tree = name.partition("/")[0]
        count[tree] += 1
        total[tree] += sizes.get(name, 0)
    found = {tree: {"count": count[tree], "bytes": total[tree]} for tree in TREES}
    return {**found, "total": {"count": count.total(), "bytes": total.total()}}


def sizes_of(listing: Listing) -> dict[str, int]:
    """Return the bytes of every object by canonical name."""
    return {each.key: each.size for each in listing.objects}
