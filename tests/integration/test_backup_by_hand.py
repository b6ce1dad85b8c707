# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup is restored by hand, with the commands of docs/backup_format.md and none of the collection's code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Origin, Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import Source
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling, key_of
from doubles.etcd import running
from servers.build import programs

CLUSTER = "c" * 32
KEYS = {b"cluster-id": CLUSTER.encode(), b"binary/\n\x01\xff": bytes(range(256)), b"master_token": b"t"}
OBJECTS = {"block/a": bytes(5_000_000), "object/b": b"record", "tag/c": b"new", "index/ab": b"i", "tag/100% d": b"d"}


@pytest.fixture(scope="module")
def commands(root: Path) -> list[str]:
    """The page's shell blocks."""
    return re.findall(r"```sh\n(.*?)```", (root / "docs" / "backup_format.md").read_text(), re.DOTALL)


def test_a_backup_is_restored_with_the_pages_commands(commands: list[str], tmp_path: Path) -> None:
    for tool in ("zstd", "sha256sum", "awk"):
        assert shutil.which(tool), f"{tool} is not installed"
    bucket, target, work = tmp_path / "bucket", tmp_path / "target", tmp_path / "work"
    work.mkdir()
    source = DirectoryStore(bucket)
    with running(tmp_path / "etcd") as address, EtcdClient(address) as etcd:
        for key, value in KEYS.items():
            etcd.put(key, value)
        origin = Origin(etcd, source, [Spelling.REVERSED], Source("aws", ""))
        source.write(key_of("tag/c", Spelling.REVERSED), [b"old"])
        back_up(origin, DirectoryStore(tmp_path / "store"), Wishes())
        for name, data in OBJECTS.items():
            source.write(key_of(name, Spelling.REVERSED), [data])
        etcd.put(b"later", b"1")
        manifest = back_up(origin, DirectoryStore(tmp_path / "store"), Wishes()).manifest
        hash_before = etcd.hash_kv(etcd.status().revision)
    assert manifest is not None
    environment = {
        **os.environ,
        "PATH": f"{Path(programs('etcd-3.6')['etcdutl']).parent}:{os.environ['PATH']}",
        "STORE": str(tmp_path / "store"),
        "CLUSTER": CLUSTER,
        "BACKUP": manifest.id,
        "WORK": str(work),
        "TARGET": str(target),
        "REVISION": str(manifest.etcd.revision),
    }

    def run(*parts: str, **more: str) -> str:
        script = "set -eu\n" + "\n".join(block for part in parts for block in commands if part in block)
        done = subprocess.run(
            ["bash", "-c", script], env={**environment, **more}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listing = run('cd "$STORE/$CLUSTER/backups', "sha256sum *.zst*")
    for entry in json.loads((tmp_path / "store" / CLUSTER / "backups" / manifest.id / "manifest.json").read_text())[
        "files"
    ]:
        assert f"{entry['sha256']}  {entry['name']}" in listing
    run('cd "$STORE/$CLUSTER/backups', "sha256sum --check", "etcdutl snapshot restore")
    run('cd "$STORE/$CLUSTER/backups', "sha256sum --check", 'cp "$key"')
    copied = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert {name.replace("%25", "%"): data for name, data in copied.items()} == OBJECTS
    with running(work / "etcd") as address, EtcdClient(address) as restored:
        assert {each.key: each.value for each in restored.range(b"")} == {**KEYS, b"later": b"1"}
        assert restored.hash_kv(manifest.etcd.revision) == hash_before
        counted = run("--count-only", ETCDCTL_ENDPOINTS=address, ETCDCTL_API="3")
        assert f'"Count" : {manifest.etcd.key_count}' in counted


def test_damage_is_found_by_the_pages_commands(commands: list[str], tmp_path: Path) -> None:
    store, source = DirectoryStore(tmp_path / "store"), DirectoryStore(tmp_path / "bucket")
    with running(tmp_path / "etcd") as address, EtcdClient(address) as etcd:
        etcd.put(b"cluster-id", CLUSTER.encode())
        source.write("block/a", [b"content"])
        manifest = back_up(Origin(etcd, source, [Spelling.DIRECTORY], Source("local", "")), store, Wishes()).manifest
    assert manifest is not None
    store.write(f"{CLUSTER}/objects/block/a", [b"kontent"])
    checks = [block for block in commands if 'cd "$STORE' in block]
    environment = {"STORE": str(tmp_path / "store"), "CLUSTER": CLUSTER, "BACKUP": manifest.id, "WORK": str(tmp_path)}
    done: Any = subprocess.run(
        ["bash", "-c", "set -eu\n" + "\n".join(checks)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "block/a: FAILED" in done.stdout


@pytest.mark.parametrize(("folder", "name"), [("etcd-3.3", "etcd"), ("etcd-3.6", "server")])
def test_other_versions_of_etcd_are_backed_up_too(folder: str, name: str, tmp_path: Path) -> None:
    store, source = DirectoryStore(tmp_path / "store"), DirectoryStore(tmp_path / "bucket")
    source.write("block/a", [b"content"])
    with running(tmp_path / "etcd", server=programs(folder)[name]) as address, EtcdClient(address) as etcd:
        for key, value in KEYS.items():
            etcd.put(key, value)
        assert etcd.status().version.startswith(folder.removeprefix("etcd-"))
        made = back_up(Origin(etcd, source, [Spelling.DIRECTORY], Source("local", "")), store, Wishes())
        assert made.manifest is not None
        hashes = made.manifest.etcd.hashes
    snapshot = tmp_path / "snapshot"
    snapshot.write_bytes(b"".join(open_set(store, CLUSTER, made.manifest.id).snapshot()))
    etcdutl = programs("etcd-3.6")["etcdutl"]
    restore = [etcdutl, "snapshot", "restore", str(snapshot), "--data-dir", str(tmp_path / "restored")]
    subprocess.run(restore, check=True, capture_output=True)
    with running(tmp_path / "restored") as address, EtcdClient(address) as restored:
        assert {each.key: each.value for each in restored.range(b"")} == KEYS
        assert restored.hash_kv(made.manifest.etcd.revision) in hashes
