# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What the modules that read backups have in common: whose backups, and the keys to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BackupError, InputError
from ..stores.base import Store
from ..stores.location import STORE_ARGUMENT_SPEC, access_of, open_location
from .manifest import is_cluster_id
from .sets import cluster_ids

#: The options that name a store and a cluster in it.
CATALOGUE_ARGUMENT_SPEC: Mapping[str, Any] = {**STORE_ARGUMENT_SPEC, "cluster_id": {"type": "str", "default": ""}}


def store_of(params: Mapping[str, Any]) -> Store:
    """Return the store that a module's options name; nothing is asked yet."""
    return open_location(params["store"], access_of(params["store_access"]))


def choose_cluster(store: Store, wanted: str) -> str:
    """Return the cluster that is wanted, or the only one that has backups in the store.

    :raises BackupError: when there is none, or several to choose from.
    """
    if wanted:
        if not is_cluster_id(wanted):
            raise InputError("not the id of a cluster", where=repr(wanted), fix="It is on the first screen of status.")
        return wanted
    found = cluster_ids(store)
    if len(found) == 1:
        return found[0]
    raise BackupError(
        "the store has backups of several clusters" if found else "the store has no backups",
        where=store.where,
        why=", ".join(found),
        fix="Name one as cluster_id." if found else "Make one with the playbook backup, or name another store.",
    )


def read_identities(paths: Sequence[str]) -> list[str]:
    """Return the contents of identity files.

    :raises InputError: when one cannot be read; what is in it is never part of the message.
    """
    texts = []
    for path in paths:
        try:
            texts.append(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise InputError("cannot read an identity file", where=path, why=str(reason)) from None
    return texts
