# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets of a real etcd: what they hold, what a second one copies, and every way in which one may go wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyrage
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin, Outcome, Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import Source
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import OpenedSet, backup_ids, open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError, PachopsError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient, Put
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import Store
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling, key_of
from doubles.etcd import running
from doubles.proxy import proxied

CLUSTER = "0123456789abcdef0123456789abcdef"
P = "pachyderm/1.7.0/pachyderm_pfs"
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)


@dataclass
class Installation:
    """A real etcd, and objects in a directory under the spelling that a test wants."""

    etcd: EtcdClient
    objects: DirectoryStore
    store: DirectoryStore
    spelling: Spelling = Spelling.REVERSED
    ticks: Iterator[datetime] = field(default_factory=lambda: (START + timedelta(seconds=n) for n in range(10_000)))
    content: dict[str, bytes] = field(default_factory=dict)

    def put(self, name: str, data: bytes) -> None:
        self.objects.write(key_of(name, self.spelling), [data])
        self.content[name] = data

    def commit(self, name: str) -> int:
        return self.etcd.put(f"{P}/commits/repo/{name}".encode(), b"commit " + name.encode())

    def origin(self) -> Origin:
        source = Source("aws", "", "pachyderm", "1.13.4", "deployment")
        return Origin(self.etcd, self.objects, [self.spelling], source, {"pachd": {"REVERSE": "true"}})

    def back_up(self, **options: Any) -> Outcome:
        wishes = options.pop("wishes", Wishes(tools={"test": "1"}))
        options.setdefault("store", self.store)
        return back_up(self.origin(), options.pop("store"), wishes, now=self.ticks.__next__, **options)

    def complete(self) -> list[str]:
        return list(backup_ids(self.store, CLUSTER))


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdClient]:
    with running(tmp_path_factory.mktemp("etcd")) as address, EtcdClient(address, timeout=20) as client:
        client.put(b"cluster-id", CLUSTER.encode())
        client.put(b"master_token", b"token")
        for number in range(20):
            client.put(f"{P}/commits/repo/{number}".encode(), bytes(2000))
        client.put(f"{P}/commits/repo__index_Provenance/\n\x01\xff/1".encode("latin-1"), b"1")
        yield client


@pytest.fixture
def installation(etcd: EtcdClient, tmp_path: Path) -> Installation:
    etcd.delete(b"gc-generation")
    made = Installation(etcd, DirectoryStore(tmp_path / "bucket"), DirectoryStore(tmp_path / "store", private=True))
    for number in range(30):
        made.put(f"block/{number:032x}", bytes([number]) * 1000)
        made.put(f"object/{number:0128x}", b"record %d" % number)
    made.put(f"block/{99:032x}", bytes(range(256)) * 20_000)  # 5 MB: more than is read into memory
    made.put("tag/a", b"tag")
    made.put("index/ab", b"index")
    return made


def everything(opened: OpenedSet) -> dict[str, bytes]:
    """Return every object of a set, as its index and as its store-like view give it."""
    by_entry = {entry.name: b"".join(opened.object(entry)) for entry in opened.index()}
    view = opened.objects
    assert {each.key: b"".join(view.read(each.key)) for each in view.list()} == by_entry
    return by_entry


def newest_set(installation: Installation, identities: Iterable[str] = ()) -> OpenedSet:
    return open_set(installation.store, CLUSTER, installation.complete()[-1], list(identities))


def files(installation: Installation) -> list[str]:
    return sorted(each.key for each in installation.store.list())


def test_a_set_has_the_snapshot_every_object_and_the_truth_about_them(installation: Installation) -> None:
    outcome = installation.back_up()
    opened = newest_set(installation)
    manifest = opened.manifest
    assert outcome.manifest == manifest
    snapshot = b"".join(opened.snapshot())
    assert hashlib.sha256(snapshot[:-32]).digest() == snapshot[-32:]
    assert manifest.id == f"20260301T120000Z-r{installation.etcd.status().revision}"
    assert manifest.etcd.hashes == (installation.etcd.hash_kv(manifest.etcd.revision),)
    assert manifest.etcd.key_count == installation.etcd.count(b"")
    assert manifest.etcd.counts[f"{P}/commits/"] == installation.etcd.count(f"{P}/commits/".encode())
    assert manifest.etcd.counts["cluster-id"] == 1
    assert everything(opened) == installation.content
    assert manifest.objects.trees == {"block": 31, "object": 30, "tag": 1, "index": 1}
    assert manifest.objects.copied == manifest.objects.count == 63
    assert opened.cluster() == {"pachd": {"REVERSE": "true"}}
    base = f"{CLUSTER}/backups/{manifest.id}/"
    assert [each for each in files(installation) if "/backups/" in each] == [
        f"{base}{name}" for name in ("cluster.yaml.zst", "etcd.snapshot.zst", "manifest.json", "objects.index.zst")
    ]


def test_a_second_backup_copies_only_what_is_new(installation: Installation) -> None:
    installation.back_up()
    installation.put("block/new", b"new")
    reads: list[str] = []
    original = installation.objects.read
    installation.objects.read = lambda key, *rest: (reads.append(key), original(key, *rest))[1]  # type: ignore[method-assign, assignment, misc]
    outcome = installation.back_up()
    assert reads == [key_of("block/new", Spelling.REVERSED)]
    assert (outcome.new_objects, outcome.new_bytes) == (1, 3)
    assert everything(newest_set(installation)) == installation.content


def test_a_rewritten_object_is_copied_beside_the_old_one(installation: Installation) -> None:
    first = installation.back_up()
    before = dict(installation.content)
    installation.put("tag/a", b"other")
    installation.put(f"object/{1:0128x}", b"another record")
    installation.put("index/ab", b"index")  # written anew with the same content
    outcome = installation.back_up()
    assert outcome.new_objects == 2
    assert everything(newest_set(installation)) == installation.content
    assert first.manifest is not None
    assert everything(open_set(installation.store, CLUSTER, first.manifest.id)) == before
    installation.put("tag/a", b"tag")  # back to what it was
    assert installation.back_up().new_objects == 0
    assert everything(newest_set(installation)) == installation.content


def test_a_lost_copy_is_made_again(installation: Installation) -> None:
    installation.back_up()
    installation.store.delete(f"{CLUSTER}/objects/tag/a")
    assert installation.back_up().new_objects == 1
    assert everything(newest_set(installation)) == installation.content


# A directory has no keys with a slash in front; the stores' own tests have them.
@pytest.mark.parametrize("spelling", [Spelling.DIRECTORY, Spelling.PLAIN, Spelling.REVERSED])
def test_every_spelling_becomes_the_same_backup(installation: Installation, tmp_path: Path, spelling: Spelling) -> None:
    other = replace(installation, objects=DirectoryStore(tmp_path / "other"), spelling=spelling, content={})
    for name, data in installation.content.items():
        other.put(name, data)
    other.objects.write("README", [b"foreign"])
    outcome = other.back_up()
    assert outcome.foreign == 1
    opened = newest_set(other)
    assert everything(opened) == installation.content
    assert opened.manifest.source.spelling == spelling.value


def test_objects_in_another_spelling_than_pachds_are_refused(installation: Installation) -> None:
    origin = replace(installation.origin(), spellings=[Spelling.PLAIN, Spelling.REVERSED])
    with pytest.raises(BackupError, match=r"'plain'.*63 spelled 'reversed'"):
        back_up(origin, installation.store, Wishes())
    installation.objects.write("pach/block/x", [b"x"])
    with pytest.raises(StorageError, match="mixture"):
        back_up(origin, installation.store, Wishes())
    assert not [each for each in files(installation) if "/backups/" in each]


def test_check_mode_writes_nothing_and_tells_what_would_be_done(installation: Installation) -> None:
    outcome = installation.back_up(check=True)
    assert (outcome.made, outcome.manifest, outcome.new_objects) == (True, None, 63)
    identity = pyrage.x25519.Identity.generate()
    installation.back_up(check=True, wishes=Wishes([str(identity.to_public())]))
    assert files(installation) == []
    installation.back_up()
    written = files(installation)
    assert installation.back_up(check=True).new_objects == 0
    assert files(installation) == written


def test_if_changed_returns_the_proven_backup_that_has_all(installation: Installation) -> None:
    wishes = Wishes(if_changed=True)
    first = installation.back_up(wishes=wishes)
    assert first.made
    assert first.manifest is not None
    proven = first.manifest.id
    assert installation.back_up(wishes=wishes).made, "it has not been verified"
    proven = installation.complete()[-1]
    unchanged = installation.back_up(wishes=wishes, proven=lambda _store, _cluster: proven)
    assert not unchanged.made
    assert unchanged.manifest is not None
    assert unchanged.manifest.id == proven
    installation.put("block/new", b"new")
    assert installation.back_up(wishes=wishes, proven=lambda _store, _cluster: proven).made
    proven = installation.complete()[-1]
    installation.commit("changed")
    assert installation.back_up(wishes=wishes, proven=lambda _store, _cluster: proven).made


# Encryption


def keys(count: int) -> tuple[list[str], list[str]]:
    identities = [pyrage.x25519.Identity.generate() for _unused in range(count)]
    return [str(each) for each in identities], [str(each.to_public()) for each in identities]


def test_an_encrypted_set_can_be_read_by_every_recipient_and_nobody_else(installation: Installation) -> None:
    secrets, public = keys(3)
    installation.back_up(wishes=Wishes(public[:2]))
    for secret in secrets[:2]:
        opened = newest_set(installation, [f"# created: today\n{secret}\n"])
        assert everything(opened) == installation.content
        assert opened.cluster() == {"pachd": {"REVERSE": "true"}}
        part = opened.objects.read(f"block/{99:032x}", 1_000_000, 10)
        assert b"".join(part) == installation.content[f"block/{99:032x}"][1_000_000:1_000_010]
    for wrong in ([], [secrets[2]]):
        opened = newest_set(installation, wrong)
        with pytest.raises(BackupError, match=f"decrypted|is encrypted.*{public[0]}"):
            b"".join(opened.snapshot())
        assert len(list(opened.index())) == 63, "the index is readable for verification and pruning"
        for entry in opened.index():
            b"".join(opened.stored_object(entry))
    for key in files(installation):
        if key.endswith((".age", "index.zst", ".json", ".recipients")):
            continue
        pytest.fail(f"{key} is not encrypted")
    for needle in (b"record 7", CLUSTER.encode() * 2, b"REVERSE"):
        assert all(needle not in b"".join(installation.store.read(key)) for key in files(installation))


def test_an_encrypted_backup_is_incremental_without_any_secret(installation: Installation) -> None:
    secrets, public = keys(1)
    assert installation.back_up(wishes=Wishes(public)).new_objects == 63
    installation.put("tag/a", b"other")
    assert installation.back_up(wishes=Wishes(public)).new_objects == 1
    assert everything(newest_set(installation, secrets)) == installation.content


def test_encryption_that_is_switched_on_later_leaves_nothing_readable_in_new_sets(installation: Installation) -> None:
    secrets, public = keys(1)
    installation.back_up()
    outcome = installation.back_up(wishes=Wishes(public))
    assert outcome.new_objects == 63
    assert all(entry.key.endswith(".age") for entry in newest_set(installation, secrets).index())
    assert installation.back_up().new_objects == 0, "the plain ones are still there"
    assert everything(newest_set(installation)) == installation.content


def test_recipients_change_with_the_identity_of_an_old_one(installation: Installation) -> None:
    secrets, public = keys(3)
    installation.back_up(wishes=Wishes(public[:2]))
    with pytest.raises(BackupError, match="recipients of the encryption have changed"):
        installation.back_up(wishes=Wishes(public[1:]))
    with pytest.raises(BackupError, match="cannot be decrypted"):
        installation.back_up(wishes=Wishes(public[1:], [secrets[2]]))
    before = newest_set(installation).manifest
    assert before.encryption is not None
    outcome = installation.back_up(wishes=Wishes(public[1:], [secrets[1]]))
    assert outcome.new_objects == 0
    after = newest_set(installation, [secrets[2]])
    assert everything(after) == installation.content
    assert after.manifest.encryption is not None
    assert after.manifest.encryption.key != before.encryption.key, "a dropped recipient may have kept the old key"
    assert everything(open_set(installation.store, CLUSTER, before.id, [secrets[2]])) == installation.content
    with pytest.raises(BackupError, match="cannot be decrypted"):
        b"".join(newest_set(installation, [secrets[0]]).snapshot())


def test_what_is_encrypted_can_be_decrypted_by_the_library_alone(installation: Installation) -> None:
    secrets, public = keys(1)
    installation.back_up(wishes=Wishes(public))
    identity = pyrage.x25519.Identity.from_str(secrets[0])
    stored = {key.rpartition("/")[2]: b"".join(installation.store.read(key)) for key in files(installation)}
    (sealed,) = [data for name, data in stored.items() if name.startswith("age1") and name.endswith(".age")]
    data_key = pyrage.x25519.Identity.from_str(pyrage.decrypt(sealed, [identity]).decode().strip())
    assert pyrage.decrypt(stored["a.age"], [data_key]) == b"tag"


@pytest.mark.parametrize("recipient", ["", "age1nonsense", "AGE-SECRET-KEY-1X", "ssh-rsa nonsense"])
def test_a_wrong_recipient_is_an_instruction(installation: Installation, recipient: str) -> None:
    with pytest.raises(PachopsError, match="not a public key to encrypt to"):
        installation.back_up(wishes=Wishes([recipient]))
    assert files(installation) == []


# Damage


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "append", "remove"])
def test_damage_anywhere_is_found_and_named(installation: Installation, damage: str, encrypted: bool) -> None:
    secrets, public = keys(1)
    installation.back_up(wishes=Wishes(public if encrypted else ()))
    (backup_id,) = installation.complete()
    originals = {
        key: b"".join(installation.store.read(key))
        for key in files(installation)
        if "/objects/" not in key or key.endswith(("/a", "/a.age", f"/{99:032x}", f"/{99:032x}.age"))
    }
    for key, data in originals.items():
        if key.endswith(".recipients"):
            continue
        for at in sorted({0, len(data) // 2, len(data) - 1}):
            if damage == "flip":
                installation.store.write(key, [data[:at], bytes([data[at] ^ 1]), data[at + 1 :]])
            elif damage == "truncate":
                installation.store.write(key, [data[:at]])
            elif damage == "append":
                installation.store.write(key, [data, b"\0"])
            else:
                installation.store.delete(key)
            with pytest.raises(BackupError) as caught:
                opened = open_set(installation.store, CLUSTER, backup_id, secrets)
                b"".join(opened.snapshot())
                opened.cluster()
                everything(opened)
            assert key.removeprefix(CLUSTER).split("/")[1] in str(caught.value)
            installation.store.write(key, [data])
    assert everything(open_set(installation.store, CLUSTER, backup_id, secrets)) == installation.content


# Faults while a backup is made


class Failing(Store):
    """Passes everything on, until something fails."""

    def __init__(self, store: Store, fail: Callable[[str, str], None]) -> None:
        self._store = store
        self._fail = fail
        self.where = store.where

    def write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> None:
        self._fail("write", key)
        self._store.write(key, chunks, if_absent=if_absent)

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        self._fail("read", key)
        return self._store.read(key, offset, size)

    def exists(self, key: str) -> bool:
        return self._store.exists(key)

    def delete(self, key: str) -> None:
        self._fail("delete", key)
        self._store.delete(key)

    def list(self, prefix: str = "") -> Any:
        self._fail("list", prefix)
        return self._store.list(prefix)


STAGES = ["running.json", "etcd.snapshot", "objects/", "objects.index", "cluster.yaml", "manifest.json"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_store_that_fails_leaves_no_backup_and_the_next_one_succeeds(installation: Installation, stage: str) -> None:
    def fail(operation: str, key: str) -> None:
        if operation == "write" and stage in key:
            raise StorageError("cannot write the object", where=key, why="the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        installation.back_up(store=Failing(installation.store, fail))
    assert installation.complete() == []
    assert not [each for each in files(installation) if "/backups/" in each]
    installation.back_up()
    assert everything(newest_set(installation)) == installation.content


KILLED = """
import os, sys
sys.path[:0] = {paths!r}
from conftest import pytest_configure
pytest_configure()
import importlib.util
spec = importlib.util.spec_from_file_location("tests_backup", {test!r})
module = importlib.util.module_from_spec(spec)
sys.modules["tests_backup"] = module
spec.loader.exec_module(module)
from pathlib import Path
def fail(operation, key):
    if operation == {operation!r} and {stage!r} in key:
        os.kill(os.getpid(), 9)
with module.EtcdClient({etcd!r}) as etcd:
    made = module.Installation(etcd, module.DirectoryStore({bucket!r}), module.DirectoryStore({store!r}))
    made.back_up(store=module.Failing(made.store, fail))
"""


@pytest.mark.parametrize(("operation", "stage"), [*(("write", each) for each in STAGES), ("delete", "running.json")])
def test_a_killed_backup_is_never_listed_half(
    installation: Installation, tmp_path: Path, root: Path, operation: str, stage: str
) -> None:
    script = KILLED.format(
        paths=[str(root / "tests"), str(root / "tests" / "unit")],
        test=__file__,
        operation=operation,
        stage=stage,
        etcd=installation.etcd.endpoint,
        bucket=str(tmp_path / "bucket"),
        store=str(tmp_path / "store"),
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == -9, ended.stderr
    if operation == "delete":
        assert everything(newest_set(installation)) == installation.content
    else:
        assert installation.complete() == []
        left = backup_ids(installation.store, CLUSTER, complete=False)
        assert len(left) == (stage != "running.json")
    next(installation.ticks)
    outcome = installation.back_up()
    if stage in ("objects.index", "cluster.yaml", "manifest.json"):
        assert outcome.new_objects == 0, "objects of the backup that was killed are not copied again"
    assert everything(newest_set(installation)) == installation.content


def test_two_backups_at_once_are_both_whole(installation: Installation) -> None:
    failures: list[PachopsError] = []

    def one() -> None:
        try:
            installation.back_up()
        except PachopsError as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _unused in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for backup_id in installation.complete():
        assert everything(open_set(installation.store, CLUSTER, backup_id)) == installation.content


def test_two_backups_of_the_same_second_do_not_mix(installation: Installation) -> None:
    installation.back_up()
    again = replace(installation, ticks=iter([START] * 10))
    with pytest.raises(BackupError, match="same time and revision"):
        again.back_up()
    assert everything(newest_set(installation)) == installation.content


def while_copying(installation: Installation, act: Callable[[], object], tree: str = "objects/") -> Failing:
    """Return the store in which ``act`` happens once, when the first object is written."""
    acts = [act]

    def fail(operation: str, key: str) -> None:
        if operation == "write" and tree in key and acts:
            acts.pop()()

    return Failing(installation.store, fail)


def test_garbage_collection_meanwhile_is_found(installation: Installation) -> None:
    store = while_copying(installation, lambda: installation.etcd.put(b"gc-generation", b"1"))
    with pytest.raises(BackupError, match=r"garbage was collected.*was unset and is 1"):
        installation.back_up(store=store)
    assert installation.complete() == []
    installation.back_up()
    assert newest_set(installation).manifest.source.gc_generation == "1"


def test_an_object_that_vanishes_means_garbage_collection(installation: Installation) -> None:
    last = f"object/{29:0128x}"
    key = key_of(last, Spelling.REVERSED)
    store = while_copying(installation, lambda: installation.objects.delete(key), "cluster.yaml")
    installation.back_up(store=store)
    original = installation.objects.list
    listed = list(original())
    installation.objects.list = lambda prefix="": iter([*listed, replace(listed[0], key=key)])  # type: ignore[method-assign]
    with pytest.raises(BackupError, match="deleted while they were backed up"):
        installation.back_up()
    assert len(installation.complete()) == 1


def test_a_block_that_vanishes_was_a_duplicate(installation: Installation) -> None:
    listed = list(installation.objects.list())
    gone = replace(listed[0], key=key_of("block/gone", Spelling.REVERSED))
    installation.objects.list = lambda prefix="": iter([*listed, gone])  # type: ignore[method-assign]
    assert installation.back_up().vanished == 1
    assert everything(newest_set(installation)) == installation.content


def test_writes_meanwhile_do_not_change_what_is_counted(installation: Installation) -> None:
    count = installation.etcd.count(b"")

    def write() -> None:
        for number in range(50):
            installation.commit(f"new{number}")

    revision = installation.etcd.status().revision
    installation.back_up(store=while_copying(installation, write, "etcd.snapshot"))
    manifest = newest_set(installation).manifest
    assert (manifest.etcd.revision, manifest.etcd.key_count) == (revision, count)
    assert manifest.etcd.hashes == (installation.etcd.hash_kv(revision),)
    for number in range(50):
        installation.etcd.delete(f"{P}/commits/repo/new{number}".encode())


def test_a_compaction_meanwhile_leaves_both_hashes(installation: Installation) -> None:
    for _unused in range(5):
        revision = installation.commit("compacted")

    def compact() -> None:
        installation.etcd.compact(revision - 2)

    installation.back_up(store=while_copying(installation, compact, "etcd.snapshot"))
    hashes = newest_set(installation).manifest.etcd.hashes
    assert len(hashes) == 2
    assert {each.revision for each in hashes} == {revision}
    assert hashes[1].compact_revision == revision - 2


def test_a_compaction_beyond_the_revision_takes_the_snapshot_anew(installation: Installation) -> None:
    def compact() -> None:
        for _unused in range(3):
            revision = installation.commit("compacted")
        installation.etcd.compact(revision)

    before = installation.etcd.status().revision
    installation.back_up(store=while_copying(installation, compact, "etcd.snapshot"))
    manifest = newest_set(installation).manifest
    assert manifest.etcd.revision == before + 3
    assert manifest.etcd.hashes == (installation.etcd.hash_kv(before + 3),)
    assert b"".join(newest_set(installation).snapshot())


def test_an_etcd_without_pachyderm_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "etcd") as address, EtcdClient(address) as empty:
        store = DirectoryStore(tmp_path / "store")
        installation = Installation(empty, DirectoryStore(tmp_path / "bucket"), store)
        with pytest.raises(BackupError, match="no key cluster-id"):
            installation.back_up()
        empty.put(b"cluster-id", b"../../etc")
        with pytest.raises(BackupError, match=r"\.\./\.\./etc"):
            installation.back_up()
        assert list(store.list()) == []


def test_a_full_etcd_is_backed_up_all_the_same(tmp_path: Path) -> None:
    with running(tmp_path / "etcd", "--quota-backend-bytes", "2000000") as address, EtcdClient(address) as full:
        full.put(b"cluster-id", CLUSTER.encode())
        with pytest.raises(PachopsError, match="space exceeded"):
            for number in range(2000):
                full.txn([], [Put(b"k%d" % number, bytes(100_000))])
        installation = Installation(full, DirectoryStore(tmp_path / "bucket"), DirectoryStore(tmp_path / "store"))
        installation.back_up()
        assert b"".join(newest_set(installation).snapshot())


def test_an_installation_without_objects_is_backed_up(installation: Installation, tmp_path: Path) -> None:
    empty = replace(installation, objects=DirectoryStore(tmp_path / "nothing"))
    empty.back_up()
    opened = newest_set(empty)
    assert list(opened.index()) == []
    assert opened.manifest.source.spelling == ""


def test_a_damaged_predecessor_does_not_stop_the_next_backup(installation: Installation) -> None:
    installation.back_up()
    (backup_id,) = installation.complete()
    key = f"{CLUSTER}/backups/{backup_id}/manifest.json"
    installation.store.write(key, [b"{"])
    outcome = installation.back_up()
    assert outcome.new_objects == 0, "the objects are there"
    assert everything(newest_set(installation)) == installation.content


def test_nothing_is_readable_for_others(installation: Installation, tmp_path: Path) -> None:
    installation.back_up()
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "store").rglob("*")}
    assert modes == {"0o700", "0o600"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_on_the_way_from_etcd_leaves_no_backup(installation: Installation, share: float) -> None:
    for number in range(4):
        installation.etcd.put(b"filling/%d" % number, bytes([number]) * 1_000_000)
    size = installation.etcd.status().db_size
    with proxied(installation.etcd.endpoint) as way, EtcdClient(way.address, timeout=20) as client:
        cut = replace(installation, etcd=client)
        whole = client.snapshot_messages

        def snapshot_messages(timeout: float | None = None) -> Iterator[bytes]:
            way.back = int(size * share)
            return whole(timeout)

        client.snapshot_messages = snapshot_messages  # type: ignore[method-assign]
        with pytest.raises(PachopsError, match=r"cannot reach etcd|did not arrive whole") as failure:
            cut.back_up()
        assert way.cuts == 1
        assert way.address in str(failure.value)
        assert cut.complete() == []
        assert files(installation) == [], "nothing of the set is left"
        client.snapshot_messages = whole  # type: ignore[method-assign]
        assert cut.back_up().made, "the next one finds its way again"
    assert len(installation.complete()) == 1
