# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The two installations of a migration as modules' options name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backup.origin import ETCD_ARGUMENT_SPEC, etcd_access_of
from ..kube.client import connect
from ..stores.location import STORE_ARGUMENT_SPEC, access_of
from .engine import Side

#: Documented by the fragment ``pachops.pachyderm.migrate``.
SIDE: Mapping[str, Any] = {
    "namespace": {"type": "str", "default": "pachyderm"},
    "kubeconfig": {"type": "path", "default": ""},
    "context": {"type": "str", "default": ""},
    "path": {"type": "path", "default": ""},
    "access": STORE_ARGUMENT_SPEC["store_access"],
    **ETCD_ARGUMENT_SPEC,
}


def side_of(params: Mapping[str, Any], name: str) -> Side:
    """Return one of the two installations."""
    given = params[name]
    kubeconfig = given["kubeconfig"] or params["kubeconfig"]
    context = given["context"] or (None if given["kubeconfig"] else params["context"])
    return Side(
        connect(kubeconfig, context),
        given["namespace"],
        etcd_access_of(given["etcd"], given["transport"]),
        access_of(given["access"]),
        given["path"],
    )
