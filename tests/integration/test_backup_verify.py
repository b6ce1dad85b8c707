# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification of a real installation's backup: what is right passes at every level, what is wrong is found and named."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import manifest as manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import Verification
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import EtcdState, KvHash
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import Options, verify
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, InputError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd import restore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from doubles.backups import CLUSTER, NOW, real_objects, real_snapshot, write_set
from doubles.etcd import booted, program

PREFIXES = (
    "pachyderm/1.7.0/pachyderm_pfs/commits/",
    "pachyderm/1.7.0/pachyderm_pps/jobs/",
    "cluster-id",
    "no/such/key",
)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> EtcdState:
    """What the live etcd said of itself: it is played by one that runs on the real installation's data."""
    directory = tmp_path_factory.mktemp("live")
    (directory / "s").write_bytes(real_snapshot())
    with booted(directory / "s", directory / "data") as client:
        revision = client.status().revision
        answer = client.hash_kv(revision)
        assert answer
        counts = {prefix: client.count(prefix.encode(), revision) for prefix in PREFIXES}
        assert counts["pachyderm/1.7.0/pachyderm_pfs/commits/"] == 94
        return EtcdState(revision, "3.5.21", client.count(b"", revision), 348160, (answer,), counts)


@pytest.fixture(scope="module")
def made(etcd: EtcdState, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("made")
    return root, write_set(DirectoryStore(root), NOW, etcd, real_snapshot(), real_objects())


@dataclasses.dataclass
class Made:
    """A store of the test's own with one set in it."""

    root: Path
    backup_id: str

    def file(self, name: str) -> Path:
        return self.root / CLUSTER / "backups" / self.backup_id / name

    def object(self, name: str) -> Path:
        return self.root / CLUSTER / "objects" / name

    def verify(self, level: str, **options: str) -> Verification:
        store = DirectoryStore(self.root)
        chosen = Options(**{"etcd_program": str(program()), **options})  # type: ignore[arg-type]
        return verify(open_set(store, CLUSTER, self.backup_id), level, chosen, now=lambda: NOW)

    def change_manifest(self, change: Callable[[manifests.Manifest], manifests.Manifest]) -> None:
        path = self.file(manifests.MANIFEST)
        path.write_bytes(manifests.dump(change(manifests.load(path.read_bytes(), str(path)))))


@pytest.fixture
def backup(made: tuple[Path, str], tmp_path: Path) -> Made:
    root, backup_id = made
    shutil.copytree(root, tmp_path / "store")
    return Made(tmp_path / "store", backup_id)


@pytest.mark.parametrize("level", ["digest", "restore", "deep"])
def test_a_right_backup_passes(backup: Made, level: str, tmp_path: Path) -> None:
    found = backup.verify(level, workdir=str(tmp_path))
    assert found.findings == ()
    assert found.passed
    assert (found.backup_id, found.level, found.time) == (backup.backup_id, level, NOW)
    assert found.figures["objects"] == len(real_objects())
    if level != "digest":
        assert found.figures["records"]["commits"] > 10
        assert found.figures["records"]["pipelines"] == 4
        assert found.figures["snapshot_bytes"] == len(real_snapshot())
        assert found.tools["etcd"].startswith("3.")
    if level == "deep":
        assert found.figures["deep"]["files"] > 10
        assert found.figures["deep"]["blocks"] > 10
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "nothing of it stays"


@pytest.mark.parametrize("level", ["digest", "restore"])
@pytest.mark.parametrize("name", ["etcd.snapshot.zst", "objects.index.zst", "cluster.yaml.zst"])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "lose"])
def test_damage_of_any_file_is_found(backup: Made, level: str, name: str, damage: str) -> None:
    path = backup.file(name)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "grow":
        data += b"x"
    path.write_bytes(data)
    if damage == "lose":
        path.unlink()
    found = backup.verify(level)
    assert not found.passed
    assert name in " ".join(found.findings)


@pytest.mark.parametrize("end", [b"?", b""])
def test_a_snapshot_that_ends_with_another_digest_than_its_own_is_found(
    etcd: EtcdState, end: bytes, tmp_path: Path
) -> None:
    """It is what the manifest says, and etcd's own tool would refuse it all the same."""
    store = DirectoryStore(tmp_path / "store")
    backup_id = write_set(store, NOW, etcd, real_snapshot()[:-1] + end, real_objects())
    found = Made(tmp_path / "store", backup_id).verify("restore")
    assert len(found.findings) == 1
    assert "the snapshot ends with" in found.findings[0]


@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_damage_of_an_object_is_found_and_named(backup: Made, damage: str) -> None:
    name = max(real_objects(), key=lambda each: (each.startswith("block/"), len(real_objects()[each])))
    path = backup.object(name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80
    if damage == "lose":
        path.unlink()
    else:
        path.write_bytes(data[: None if damage == "flip" else -1])
    found = backup.verify("digest")
    assert len(found.findings) == 1
    assert found.findings[0].startswith(name)
    assert not backup.verify("deep").passed


def test_many_findings_are_counted(backup: Made) -> None:
    for name in real_objects():
        backup.object(name).unlink()
    found = backup.verify("digest")
    assert len(found.findings) == 21
    assert found.findings[-1] == f"and {len(real_objects()) - 20} more of this kind"


def changed(etcd: EtcdState, **changes: object) -> Callable[[manifests.Manifest], manifests.Manifest]:
    return lambda made: dataclasses.replace(made, etcd=dataclasses.replace(etcd, **changes))  # type: ignore[arg-type]


def test_an_etcd_that_differs_from_the_live_one_is_found(backup: Made, etcd: EtcdState) -> None:
    right = etcd.hashes[0]
    cases: list[tuple[dict[str, object], str]] = [
        ({"hashes": (dataclasses.replace(right, hash=1),)}, f"HashKV is {right.hash}, the live one's was 1"),
        ({"hashes": (dataclasses.replace(right, compact_revision=99999),)}, "HashKV cannot be compared"),
        ({"key_count": etcd.key_count + 1}, f"has {etcd.key_count} keys, the live one had {etcd.key_count + 1}"),
        (
            {"counts": {"pachyderm/1.7.0/pachyderm_pfs/commits/": 1}},
            "keys pachyderm/1.7.0/pachyderm_pfs/commits/, the live one had 1",
        ),
        ({"counts": {"cluster-id": 0}}, "has 1 keys cluster-id, the live one had 0"),
    ]
    for changes, words in cases:
        backup.change_manifest(changed(etcd, **changes))
        found = backup.verify("restore")
        assert len(found.findings) == 1, found.findings
        assert words in found.findings[0]
    other = KvHash(etcd.revision, 1, right.compact_revision + 1)
    backup.change_manifest(changed(etcd, hashes=(other, right)))
    assert backup.verify("restore").passed, "one of two, before and after a compaction"
    backup.change_manifest(changed(etcd, hashes=()))
    assert backup.verify("restore").passed, "an etcd older than 3.3 tells none"
    backup.change_manifest(changed(etcd, revision=etcd.revision + 1))
    assert "is at revision" in backup.verify("restore").findings[0]


def test_a_manifest_that_counts_other_objects_is_found(backup: Made) -> None:
    backup.change_manifest(
        lambda made: dataclasses.replace(made, objects=dataclasses.replace(made.objects, count=made.objects.count + 1))
    )
    assert "the index names" in backup.verify("digest").findings[0]


def test_a_record_that_cannot_be_read_is_found(etcd: EtcdState, tmp_path: Path) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.snapshot import SnapshotStream

    (tmp_path / "s").write_bytes(real_snapshot())
    with booted(tmp_path / "s", tmp_path / "data") as client:
        client.put(b"pachyderm/1.7.0/pachyderm_pps/jobs/0123456789abcdef0123456789abcdef", b"\xff\xff\xff")
        revision = client.status().revision
        answer = client.hash_kv(revision)
        assert answer
        state = dataclasses.replace(
            etcd, revision=revision, key_count=client.count(b"", revision), hashes=(answer,), counts={}
        )
        snapshot = b"".join(SnapshotStream(client.snapshot_messages(), "here"))
    store = DirectoryStore(tmp_path / "store")
    backup_id = write_set(store, NOW, state, snapshot, real_objects())
    found = Made(tmp_path / "store", backup_id).verify("restore")
    assert len(found.findings) == 1
    assert "a record cannot be read" in found.findings[0]
    assert "0123456789abcdef0123456789abcdef" in found.findings[0]


def test_an_etcd_that_may_be_too_old_is_no_finding(
    backup: Made, etcd: EtcdState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_unused: object) -> None:
        raise EtcdError("an etcd does not boot from the snapshot", why="unknown bucket")

    monkeypatch.setattr(restore, "make_member", refuse)
    assert "unknown bucket" in backup.verify("restore").findings[0]
    backup.change_manifest(changed(etcd, version="3.9.0"))
    with pytest.raises(InputError, match=r"written by etcd 3\.9\.0"):
        backup.verify("restore")


def test_what_keeps_from_verifying_is_an_error_and_no_finding(
    backup: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="etcd_program"):
        backup.verify("restore", etcd_program=str(tmp_path / "none"))
    with pytest.raises(InputError, match="no such level"):
        backup.verify("thorough")

    def refuse(*_unused: object) -> Iterator[bytes]:
        raise StorageError("cannot read the object", why="403")

    opened = open_set(DirectoryStore(backup.root), CLUSTER, backup.backup_id)
    monkeypatch.setattr(opened.store, "read", refuse)
    with pytest.raises(StorageError, match="403"):
        verify(opened, "digest")
