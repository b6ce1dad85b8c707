# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real etcds, started on what a restore makes of a snapshot on their volumes: versions, numbers of members, TLS, users,
and a volume that is full.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.manifest import EtcdState
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import compare
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient, KvHash, Login, Tls
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.snapshot import SnapshotStream
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import agent, members
from doubles.etcd import (
    enable_authentication,
    make_certificates,
    members_running,
    program,
    running,
    server_of,
)
from servers.ports import free_ports

RESTORE = "20260304t120000-abcd"
KEYS = {b"cluster-id": b"c" * 32, b"binary/\n\x01\xff": bytes(range(256)), b"master_token": b"t"}


def server(version: str) -> str:
    """Return the server of a version, that of the local cluster for 3.5."""
    return server_of(f"etcd-{version}") if version != "3.5" else str(program())


def restorer(version: str) -> str:
    """Return the program that an image of that version has, by the order in which a restore tries them."""
    container = {"image": f"docker.io/pachyderm/etcd:v{version}.1", "command": [server(version)]}
    beside = Path(server(version)).parent
    names = [Path(each).name for each in members.tools(container)]
    return next(str(beside / each) for each in names if (beside / each).exists())


def keep(version: str, directory: Path) -> tuple[bytes, KvHash]:
    """Return a snapshot of an etcd of that version that has a history, and its hash."""
    with running(directory, server="" if version == "3.5" else server(version)) as address, EtcdClient(address) as etcd:
        assert etcd.status().version.startswith(version)
        for number in range(30):
            etcd.put(b"old/%d" % (number % 3), b"%d" % number)
        for key, value in KEYS.items():
            etcd.put(key, value)
        etcd.delete(b"old/1")
        etcd.compact(20)
        found = etcd.hash_kv(etcd.status().revision)
        assert found
        return b"".join(SnapshotStream(etcd.snapshot_messages(), address)), found


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, KvHash]:
    return keep("3.3", tmp_path_factory.mktemp("oldest"))


def cluster(count: int) -> list[members.Member]:
    """Return members on loopback, as their StatefulSet would describe them."""
    ports = free_ports(2 * count)
    peers = [f"http://127.0.0.1:{port}" for port in ports[:count]]
    initial = ",".join(f"etcd-{number}={peer}" for number, peer in enumerate(peers))
    found = []
    for number, peer in enumerate(peers):
        words = ["--name=$(NAME)", f"--initial-cluster={initial}", "--initial-cluster-token=pach-cluster"]
        client = f"http://127.0.0.1:{ports[count + number]}"
        words += [f"--initial-advertise-peer-urls={peer}", f"--data-dir=/etcd-{number}"]
        env = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
        flags = members.flags_of({"command": words, "env": env}, {"metadata.name": f"etcd-{number}"})
        volume = {"name": "data", "hostPath": {"path": client}}
        found.append(members.Member(f"etcd-{number}", flags, volume, f"etcd-{number}"))
    return found


@contextlib.contextmanager
def started(version: str, found: list[members.Member]) -> Iterator[list[EtcdClient]]:
    """Run every member with the flags that its data was made with."""
    options = []
    for each in found:
        client, peer = each.volume["hostPath"]["path"], each.flags["initial-advertise-peer-urls"]
        flags = {**each.flags, "data-dir": each.root, "listen-peer-urls": peer, "initial-cluster-state": "existing"}
        options.append(flags | {"listen-client-urls": client, "advertise-client-urls": client})
    with members_running(server(version), options) as several:
        yield [client for _process, client in several]


def exchange(content: bytes, version: str, found: list[members.Member]) -> None:
    """Do to every volume what a restore does, each part by the program that does it there."""
    for each in found:
        volume = agent.Volume(each.root, RESTORE)
        volume.root.mkdir(exist_ok=True)
        volume.receive([content], len(content), hashlib.sha256(content).hexdigest())
        tool, arguments = Path(restorer(version)), each.restore_arguments(RESTORE)
        if tool.name == "etcdutl":
            # As the agent does where its own image has this.
            with mock.patch.dict(os.environ, {"PATH": str(tool.parent)}):
                agent._etcdutl.cache_clear()
                assert volume.look()["etcdutl"].startswith(version)
                volume.make(arguments)
                with pytest.raises(agent.Refused, match="bad flag"):
                    volume.make([*arguments, "--bad flag"])
                volume.make(arguments)
        else:
            done = subprocess.run(
                [tool, *arguments], env={"ETCDCTL_API": "3"}, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        volume.swap()


@pytest.mark.parametrize(("version", "count"), [("3.3", 1), ("3.5", 3), ("3.6", 1)])
def test_state_of_etcd_3_3_runs_in_every_later_one(
    version: str, count: int, oldest: tuple[bytes, KvHash], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(oldest, version, count, tmp_path, monkeypatch)


def test_one_member_of_3_5_becomes_three_of_3_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(keep("3.5", tmp_path / "source"), "3.6", 3, tmp_path, monkeypatch)


def check(
    source: tuple[bytes, KvHash], version: str, count: int, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, wanted = source
    monkeypatch.setattr(members, "VOLUME", str(directory))
    found = cluster(count)
    exchange(content, version, found)
    with started(version, found) as clients:
        for client in clients:
            assert client.status().version.startswith(version)
            assert client.status().revision == wanted.revision
            assert client.hash_kv(wanted.revision) == wanted
            held = {each.key: each.value for each in client.range(b"") if not each.key.startswith(b"old/")}
            assert held == KEYS
        clients[0].put(b"after", b"the restore")
        for client in clients:
            after = client.get(b"after")
            assert after is not None
            assert after.value == b"the restore", "the members do not agree"
            assert (after.mod_revision, after.version) == (wanted.revision + 1, 1)
    for each in found:
        agent.Volume(each.root, RESTORE).undo()
        assert not (Path(each.root) / "member").exists(), "nothing was there before"


def test_users_and_certificates_are_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its users are in the snapshot; its certificates are flags and files that a restore does not touch."""
    certificates = make_certificates(tmp_path)
    tls = Tls(
        str(certificates / "ca.crt"),
        str(certificates / "client.crt"),
        str(certificates / "client.key"),
        "etcd.example",
    )
    flags = [f"--cert-file={certificates}/etcd.example.crt", f"--key-file={certificates}/etcd.example.key"]
    flags += ["--client-cert-auth", f"--trusted-ca-file={certificates}/ca.crt"]
    options: dict[str, Any] = {"scheme": "https", "client_options": {"tls": tls}}
    root = Login("root", "secret")
    with running(tmp_path / "source", *flags, **options) as address, EtcdClient(address, tls=tls) as etcd:
        etcd.put(b"cluster-id", b"c" * 32)
        enable_authentication(etcd)
        with EtcdClient(address, tls=tls, login=root) as own:
            wanted = own.hash_kv(own.status().revision)
            content = b"".join(SnapshotStream(own.snapshot_messages(), address))
            state = EtcdState(own.status().revision, own.status().version, own.count(b""), len(content), (wanted,))
    volume = agent.Volume(str(tmp_path / "target"), RESTORE)
    with running(volume.root, *flags, **options) as address, EtcdClient(address, tls=tls) as etcd:
        etcd.put(b"was here", b"before, with no users")
    monkeypatch.setattr(members, "VOLUME", str(tmp_path))
    peer = "http://127.0.0.1:2380"
    named = {"name": "default", "initial-cluster": f"default={peer}", "initial-advertise-peer-urls": peer}
    exchange(content, "3.5", [members.Member("etcd-0", named, {"name": "data"}, "target")])
    with running(volume.root, *flags, **options) as address:
        with EtcdClient(address, tls=tls, login=root) as etcd:
            assert list(compare(etcd, state)) == []
            assert etcd.get(b"was here") is None
        with EtcdClient(address, tls=tls) as nobody, pytest.raises(EtcdError, match="permission denied"):
            nobody.get(b"cluster-id")
    volume.undo()
    with running(volume.root, *flags, **options) as address, EtcdClient(address, tls=tls) as etcd:
        assert etcd.get(b"was here")


FULL = """
import hashlib, pathlib, subprocess, sys
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import agent
restorer, root, content = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).read_bytes()
agent._RESERVE = 0
(root / "member").mkdir()
(root / "member" / "db").write_bytes(b"in use")
volume = agent.Volume(str(root), "20260304t120000-abcd")
asked = {"id": "20260304t120000-abcd", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
filler = root / "somebody-elses"

def fill(leave):
    with filler.open("wb") as file:
        file.write(bytes(max(0, volume.look()["free"] - leave)))

def bring(chunks, size=len(content)):
    try:
        volume.receive(chunks, size, asked["sha256"])
    except agent.Refused as refused:
        print(refused)
    else:
        print("received")

bring([content], size=1 << 30)

def chunks():
    yield content[:10_000]
    fill(0)
    for start in range(10_000, len(content), 10_000):
        yield content[start : start + 10_000]

bring(chunks())
print(sorted(path.name for path in volume.work.iterdir()))
filler.unlink()
bring([content])
fill(4096)
command = [restorer, "snapshot", "restore", str(volume.snapshot), "--skip-hash-check", f"--data-dir={volume.new}"]
done = subprocess.run(command, capture_output=True, text=True)
print(done.returncode != 0, "no space left on device" in done.stdout + done.stderr)
filler.unlink()
volume.undo()
print(sorted(path.name for path in root.iterdir()), (root / "member" / "db").read_bytes())
"""


def test_a_volume_that_is_full_or_becomes_full_keeps_what_it_has(
    oldest: tuple[bytes, KvHash], tmp_path: Path, root: Path
) -> None:
    (tmp_path / "snapshot").write_bytes(oldest[0])
    volume = tmp_path / "volume"
    volume.mkdir()
    inside = f'mount -t tmpfs -o size=2m none {volume} && exec {sys.executable} -c "$0" "$@"'
    command = ["unshare", "--mount", "sh", "-c", inside, FULL, restorer("3.5"), str(volume), str(tmp_path / "snapshot")]
    environment = {**os.environ, "PYTHONPATH": str(root / ".cache" / "collections")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    first, *more = done.stdout.splitlines() or [""]
    assert re.fullmatch(r"not enough space on the volume: 2\d{6} bytes are free, and 2147483648 are needed .*", first)
    assert more == [
        "the volume became full: something else has written to it meanwhile",
        "[]",
        "received",
        "True True",
        "['member'] b'in use'",
    ], done.stdout + done.stderr
