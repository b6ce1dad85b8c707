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
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd import restore
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient, Login
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.snapshot import SnapshotStream
from doubles.etcd import booted, enable_authentication, program, running, server_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def etcd() -> restore.Program:
    return restore.find_program(str(program()))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshot") / "etcd.snapshot"
    path.write_bytes(lzma.decompress((ROOT / "tests/fixtures/pachyderm-1.13.4/etcd.snapshot.xz").read_bytes()))
    return path


def test_a_real_snapshot_boots_on_no_port_and_leaves_nothing(snapshot: Path) -> None:
    # Servers that other tests share may run already.
    others = _children()
    with restore.private_directory() as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        with booted(snapshot, directory / "data") as client:
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
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_dir()} == {0o700}
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


@pytest.mark.parametrize(("old", "new"), [("", ""), ("etcd-3.3", ""), ("etcd-3.3", "etcd-3.6"), ("", "etcd-3.6")])
def test_what_was_written_is_what_boots_and_takes_more(old: str, new: str, tmp_path: Path) -> None:
    with running(tmp_path / "source", server=server_of(old) if old else "") as address:
        with EtcdClient(address) as source:
            for number in range(50):
                source.put(b"key/%d" % (number % 20), bytes(range(256)))
            source.compact(30)
            revision = source.status().revision
            before = source.hash_kv(revision)
            if not new:
                # Nobody has a user's password when a backup is verified.
                enable_authentication(source)
        with EtcdClient(address, login=None if new else Login("root", "secret")) as source:
            (tmp_path / "s").write_bytes(b"".join(SnapshotStream(source.snapshot_messages(), address)))
    with booted(tmp_path / "s", tmp_path / "data", server_of(new) if new else "") as client:
        assert client.hash_kv(revision) == before
        assert client.count(b"key/") == 20
        assert client.status().revision == revision
        # As every write does, this waits until it is applied: no number of the old member's log is in its way.
        client.put(b"new", b"")
        assert client.status().revision == revision + 1


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EtcdError, match="not a bbolt file"):
        restore.make_member([b"\0" * 8192], tmp_path / "data")


def test_a_disk_that_becomes_full_is_no_word_about_the_snapshot(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="another workdir") as told:
        restore.make_member(chunks(), tmp_path / "data")
    assert "No space left" in told.value.why


def test_an_etcd_that_does_not_come_up_says_why(etcd: restore.Program, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(0o700)
    (data / "member").write_text("a file where a directory belongs")
    with pytest.raises(EtcdError, match="does not boot") as told, restore.booted(etcd, data, timeout=20):
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
    found = restore.find_program(built=program().parents[1])
    assert found.etcd == str(program())
    with pytest.raises(InputError, match="etcd_program"):
        restore.find_program(built=tmp_path)
    with pytest.raises(InputError, match="is no program"):
        restore.find_program(str(tmp_path / "nothing"))
    assert restore.find_program(preferred="3.9.1", built=program().parents[1]) == found, (
        "the first where none is as new"
    )
    assert found.as_new_as("3.5.9")
    assert not found.as_new_as("3.9.0")
    other = tmp_path / "etcd"
    _program(other, "etcd Version: 3.10.1")
    assert restore.find_program(preferred="3.9.1", built=tmp_path) == restore.Program(str(other), "3.10.1")
    _program(other, "etcd Version: 3.4.23")
    with pytest.raises(InputError, match=r"is etcd 3\.4\.23, and what boots here is 3\.5 or later"):
        restore.find_program(str(other))
    _program(other, "no number")
    with pytest.raises(InputError, match="does not tell"):
        restore.find_program(str(other))


def _program(path: Path, says: str) -> None:
    path.write_text(f"#!{sys.executable}\nprint('{says}')\n")
    path.chmod(0o755)


def test_too_little_space_and_too_long_a_path_are_said_first(
    etcd: restore.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="not enough disk space"):
        restore.require_space(tmp_path, 1 << 60)
    restore.require_space(tmp_path, 1)
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(deep))
        with pytest.raises(InputError, match="too long for a socket"), restore.booted(etcd, tmp_path / "data"):
            pass
    with (
        pytest.raises(InputError, match="cannot make a directory for the verification"),
        restore.private_directory(str(tmp_path / "no")),
    ):
        pass
