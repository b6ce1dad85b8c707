# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Whether what is moved has room where it goes, as far as that can be known from here.

etcd's quota and the size of its volume are what the cluster says.  Room for objects and for temporary files is known
where they lie on this host; a bucket has no end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..etcd.maintenance import quota_of
from ..pachd.preflight import quantity
from ..progress_view import size_text
from ..stores.directory import DirectoryStore

if TYPE_CHECKING:
    from ..etcd.migration import KeyPlan
    from ..installation import Installation
    from ..stores.base import Store
    from .objects import ObjectPlan

#: What etcd needs for a key beside the key and the value: its revision in two trees, and pages that are half full.
_PER_KEY, _PAGES = 200, 2


def metadata_need(keys: KeyPlan) -> int:
    """Return about how many bytes the database of a target takes, which holds every key once."""
    return _PAGES * (keys.size + _PER_KEY * keys.keys)


def metadata_problems(target: Installation, keys: KeyPlan, in_use: int) -> Iterator[str]:
    """Yield what is too small for the metadata.

    :param in_use: bytes that the target's database has already, those of an earlier run among them.
    """
    needed = metadata_need(keys)
    quota = quota_of(target)
    if max(needed, in_use) > quota:
        yield (
            f"etcd of the target takes at most {size_text(quota)}, and the metadata need about {size_text(needed)}:"
            " raise its --quota-backend-bytes"
        )
    for claim, size in _claims(target):
        if size < needed:
            yield (
                f"the volume {claim} of the target's etcd has {size_text(size)}, and the metadata need about"
                f" {size_text(needed)}: use a larger one (pachyderm_etcd_storage)"
            )
    directory = target.host_paths.get("metadata", "")
    if directory and os.path.isdir(directory):
        yield from _lacking(Path(directory), max(0, needed - in_use), "the target's metadata")


def object_problems(store: Store, objects: ObjectPlan) -> Iterator[str]:
    """Yield what is too small for the objects that are to be copied."""
    if isinstance(store, DirectoryStore):
        yield from _lacking(Path(store.where), objects.missing_size, "the objects")


def workdir_problems(workdir: str, keys: KeyPlan) -> Iterator[str]:
    """Yield whether the temporary file with the values of all keys has too little room."""
    yield from _lacking(Path(workdir or tempfile.gettempdir()), keys.size, "a temporary file (migrate_workdir)")


def _lacking(directory: Path, needed: int, what: str) -> Iterator[str]:
    there = next((each for each in (directory, *directory.parents) if os.path.exists(each)), Path("/"))
    free = shutil.disk_usage(there).free
    if free < needed:
        yield f"{directory} has {size_text(free)} free, and {what} need {size_text(needed)}"


def _claims(target: Installation) -> Iterator[tuple[str, int]]:
    """Yield the claims that hold the etcd's data with their sizes, where the cluster says them."""
    etcd = target.etcd or {}
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in etcd.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or []
        if volume.get("persistentVolumeClaim")
    }
    made = [each["metadata"]["name"] for each in etcd.get("spec", {}).get("volumeClaimTemplates") or []]
    workload = etcd.get("metadata", {}).get("name", "")
    for claim in target.of_kind("PersistentVolumeClaim"):
        name = claim["metadata"]["name"]
        size = (claim.get("status") or {}).get("capacity", {}).get("storage") or (
            claim["spec"].get("resources", {}).get("requests", {}).get("storage")
        )
        if size and (name in mounted or any(name.startswith(f"{each}-{workload}-") for each in made)):
            yield name, int(quantity(size))


__all__ = ["metadata_need", "metadata_problems", "object_problems", "workdir_problems"]
