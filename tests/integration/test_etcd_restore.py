# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scratch etcd boots from real Pachyderm's snapshot, unseen, and nothing of it stays."""

from __future__ import annotations

import lzma
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd import restore
from doubles.etcd import program, running

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def programs() -> restore.Programs:
    return restore.find_programs(str(program()))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshot") / "etcd.snapshot"
    path.write_bytes(lzma.decompress((ROOT / "tests/fixtures/pachyderm-1.13.4/etcd.snapshot.xz").read_bytes()))
    return path


def test_a_real_snapshot_boots_on_no_port_and_leaves_nothing(programs: restore.Programs, snapshot: Path) -> None:
    # Servers that other tests share may run already.
    others = _children()
    with restore.private_directory() as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        restore.restore_snapshot(programs, snapshot, directory / "data")
        with restore.booted(programs, directory / "data") as client:
            status = client.status()
            assert status.leader
            assert status.revision >= 300
            assert client.count(b"pachyderm/1.7.0/") > 100
            identity = client.get(b"cluster-id")
            assert identity is not None
            assert identity.value == b"409c242bb548417889e65e611dafda4a"
            answer = client.hash_kv(status.revision)
            assert answer is not None
            assert answer.revision == status.revision
            assert _ports_of(_children() - others) == set()
            processes = _children() - others
            assert len(processes) == 1
    assert not directory.exists()
    assert _children() <= others


def _children() -> set[int]:
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {int(pid) for pid in path.read_text().split()}


def _ports_of(processes: set[int]) -> set[str]:
    """Return the listening sockets, by inode, that one of the processes holds open."""
    listening = {
        line.split()[9]
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    held = set()
    for pid in processes:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
            held |= {match[1]} if match else set()
    return listening & held


def test_what_was_written_is_what_boots(programs: restore.Programs, tmp_path: Path) -> None:
    with running(tmp_path / "source") as address:
        from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
        from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.snapshot import SnapshotStream

        with EtcdClient(address) as source:
            for number in range(50):
                source.put(b"key/%d" % (number % 20), bytes(range(256)))
            source.compact(30)
            revision = source.status().revision
            before = source.hash_kv(revision)
            (tmp_path / "s").write_bytes(b"".join(SnapshotStream(source.snapshot_messages(), address)))
    with restore.private_directory(str(tmp_path)) as directory:
        restore.restore_snapshot(programs, tmp_path / "s", directory / "data")
        with restore.booted(programs, directory / "data") as client:
            assert client.hash_kv(revision) == before
            assert client.count(b"key/") == 20


def test_what_is_no_database_is_refused_with_the_tools_reason(programs: restore.Programs, tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"\0" * 8192 + b"x" * 32)
    with restore.private_directory(str(tmp_path)) as directory:
        with pytest.raises(EtcdError, match="cannot restore the snapshot") as told:
            restore.restore_snapshot(programs, tmp_path / "broken", directory / "data")
        assert told.value.why


def test_an_etcd_that_does_not_come_up_says_why(programs: restore.Programs, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(0o700)
    (data / "member").write_text("a file where a directory belongs")
    with pytest.raises(EtcdError, match="does not boot") as told, restore.booted(programs, data, timeout=20):
        pass
    assert "it ended:" in told.value.why
    assert len(told.value.why) > 20


def test_directories_of_killed_runs_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    abandoned = tmp_path / f"pachops-etcd-{dead.pid}-x"
    alive = tmp_path / f"pachops-etcd-{os.getpid()}-x"
    other = tmp_path / "pachops-etcd-notes"
    for path in (abandoned, alive, other):
        path.mkdir()
    with restore.private_directory(str(tmp_path)):
        assert not abandoned.exists()
    assert alive.exists()
    assert other.exists()


def test_programs_are_looked_for_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = restore.find_programs(built=program().parents[1])
    assert found.etcd == str(program())
    assert found.restorer.endswith("etcdutl")
    assert found.release >= (3, 5)
    with pytest.raises(InputError, match="etcd_program"):
        restore.find_programs(built=tmp_path)
    with pytest.raises(InputError, match="is no program"):
        restore.find_programs(str(tmp_path / "nothing"))
    assert restore.find_programs(preferred="3.9.1", built=program().parents[1]) == found, (
        "the first where none is as new"
    )
    assert found.as_new_as("3.5.9")
    assert not found.as_new_as("3.9.0")
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    _program(lonely / "etcd", "etcd Version: 3.6.1")
    _program(lonely / "etcdctl", "etcdctl version: 3.6.1")
    with pytest.raises(InputError, match=r"neither etcdutl nor an etcdctl before 3\.6"):
        restore.find_programs(str(lonely / "etcd"))
    _program(lonely / "etcdctl", "etcdctl version: 3.4.23")
    assert restore.find_programs(str(lonely / "etcd")).restorer == str(lonely / "etcdctl")
    _program(lonely / "etcd", "no number")
    with pytest.raises(InputError, match="does not tell"):
        restore.find_programs(str(lonely / "etcd"))


def _program(path: Path, says: str) -> None:
    path.write_text(f"#!{sys.executable}\nprint('{says}')\n")
    path.chmod(0o755)


def test_too_little_space_and_too_long_a_path_are_said_first(
    programs: restore.Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="not enough disk space"):
        restore.require_space(tmp_path, 1 << 60)
    restore.require_space(tmp_path, 1)
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(deep))
        with pytest.raises(InputError, match="too long for a socket"), restore.booted(programs, tmp_path / "data"):
            pass
    with (
        pytest.raises(InputError, match="cannot make a directory for the verification"),
        restore.private_directory(str(tmp_path / "no")),
    ):
        pass
