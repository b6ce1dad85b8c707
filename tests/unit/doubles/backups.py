# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests and sets' files written by hand, for tests of what only reads or deletes them."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import index as indexes
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import manifest as manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import Verification, record
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.crypt import Keyring
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.streams import Count, compressed
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import Store

CLUSTER = "409c242bb548417889e65e611dafda4a"
FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "pachyderm-1.13.4"
NOW = dt.datetime(2026, 3, 4, 12, 0, tzinfo=dt.timezone.utc)


def manifest(backup_id: str, cluster_id: str = CLUSTER, **changes: Any) -> manifests.Manifest:
    """Return a manifest that passes for a backup of that id."""
    when, revision = manifests.parse_id(backup_id)
    fields: dict[str, Any] = {
        "id": backup_id,
        "cluster_id": cluster_id,
        "started": manifests.utc(when),
        "finished": manifests.utc(when),
        "etcd": manifests.EtcdState(revision, "3.5.21", 10, 348160),
        "files": tuple(
            manifests.SetFile(name, 3, "0" * 64, 30, "1" * 64)
            for name in (manifests.SNAPSHOT, manifests.INDEX, manifests.CLUSTER)
        ),
        "objects": manifests.ObjectTotals(5, 500),
        "source": manifests.Source("local", "directory", "pachyderm", "1.13.4"),
    }
    return manifests.Manifest(**{**fields, **changes})


def put(store: Store, ago: dt.timedelta, revision: int = 100, *, complete: bool = True, **changes: Any) -> str:
    """Write a set that was begun that long before NOW, and return its id; without a manifest it is a leftover."""
    backup_id = manifests.make_id(NOW - ago, revision)
    prefix = f"{CLUSTER}/backups/{backup_id}/"
    for name in (manifests.SNAPSHOT, manifests.INDEX, manifests.CLUSTER):
        store.write(prefix + name, [b"abc"])
    if complete:
        store.write(prefix + manifests.MANIFEST, [manifests.dump(manifest(backup_id, **changes))])
    return backup_id


def verify(
    store: Store, backup_id: str, level: str = "restore", *, passed: bool = True, after: int = 0
) -> Verification:
    """Write a verification's record, ``after`` seconds after NOW."""
    findings = () if passed else ("the snapshot is damaged",)
    made = Verification(backup_id, level, NOW + dt.timedelta(seconds=after), passed, findings, {"seconds": 1.5})
    return record(store, CLUSTER, made)


def real_snapshot() -> bytes:
    """Return the etcd snapshot of a real installation."""
    return lzma.decompress((FIXTURE / "etcd.snapshot.xz").read_bytes())


def real_objects() -> dict[str, bytes]:
    """Return the objects of the same installation by canonical name."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress((FIXTURE / "objects-local.tar.xz").read_bytes()))) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                found[member.name.removeprefix("./")] = file.read()
    return found


def write_set(
    store: Store,
    when: dt.datetime,
    etcd: manifests.EtcdState,
    snapshot: bytes,
    objects: Mapping[str, bytes],
    recipients: Sequence[str] = (),
) -> str:
    """Write a whole set by hand, in the form that docs/backup_format.md gives, and return its id."""
    cipher = Keyring(store, CLUSTER).cipher(recipients, ()) if recipients else None
    suffix = manifests.AGE if cipher else ""
    backup_id = manifests.make_id(when, etcd.revision)
    prefix = f"{CLUSTER}/backups/{backup_id}/"
    entries = []
    trees: dict[str, int] = {}
    for name, content in sorted(objects.items()):
        digest = hashlib.sha256(content).hexdigest()
        sealed = cipher.encrypt_small(content) if cipher else content
        sealed_digest, key = hashlib.sha256(sealed).hexdigest(), name + suffix
        entries.append(indexes.IndexEntry(name, len(content), digest, "", key, len(sealed), sealed_digest))
        store.write(f"{CLUSTER}/objects/{key}", [sealed])
        tree = name.partition("/")[0]
        trees[tree] = trees.get(tree, 0) + 1
    files = []
    parts: list[tuple[str, Iterable[bytes]]] = [
        (manifests.SNAPSHOT, [snapshot]),
        (manifests.INDEX, indexes.dump(entries)),
        (manifests.CLUSTER, [b"schema: 1\n"]),
    ]
    for name, chunks in parts:
        raw, stored = Count(), Count()
        content = compressed(raw(chunks))
        if cipher and name != manifests.INDEX:
            content, name = cipher.encrypt(content), name + suffix  # noqa: PLW2901
        store.write(prefix + name, stored(content))
        files.append(manifests.SetFile(name, stored.size, stored.sha256, raw.size, raw.sha256))
    totals = manifests.ObjectTotals(len(entries), sum(map(len, objects.values())), trees)
    encryption = manifests.Encryption(cipher.key, tuple(recipients)) if cipher else None
    made = manifest(backup_id, etcd=etcd, files=tuple(files), objects=totals, encryption=encryption)
    store.write(prefix + manifests.MANIFEST, [manifests.dump(made)])
    return backup_id
