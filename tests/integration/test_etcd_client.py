# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The etcd client against a real etcd."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import (
    Delete,
    EtcdClient,
    Login,
    Put,
    Tls,
    Unchanged,
    prefix_end,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.snapshot import SnapshotStream
from doubles.etcd import enable_authentication, make_certificates, members_running, program, running
from servers.ports import free_ports

BINARY = bytes(range(256))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdClient]:
    with running(tmp_path_factory.mktemp("etcd")) as address, EtcdClient(address, timeout=5) as made:
        yield made


@contextlib.contextmanager
def first_connection_ends_at_http(behind: str) -> Iterator[str]:
    """Yield an address whose first connection gets HTTP/2's 404 from whatever is asked, and the others ``behind``."""
    listener = socket.create_server(("127.0.0.1", 0))
    settings, not_found = bytes.fromhex("000000040000000000"), bytes.fromhex("0000010105000000018d")

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            one, _unused = listener.accept()
            one.sendall(settings)
            # Its headers are the request's; the stream that is answered exists only from then on.
            while b"/etcdserverpb" not in one.recv(65536):
                pass
            one.sendall(not_found)
            while True:
                near, _unused = listener.accept()
                host, _colon, port = behind.removeprefix("http://").partition(":")
                far = socket.create_connection((host, int(port)))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_connection_that_ends_at_an_http_server_is_made_anew(tmp_path: Path) -> None:
    with (
        running(tmp_path / "etcd") as address,
        first_connection_ends_at_http(address) as front,
        EtcdClient(front, timeout=5) as client,
    ):
        assert client.put(b"key", b"value") > 0
        found = client.get(b"key")
        assert found is not None
        assert found.value == b"value"


def test_keys_and_values_are_bytes(client: EtcdClient) -> None:
    assert client.get(BINARY) is None
    revision = client.put(BINARY, BINARY)
    found = client.get(BINARY)
    assert found is not None
    assert (found.key, found.value, found.mod_revision, found.version, found.lease) == (BINARY, BINARY, revision, 1, 0)
    assert client.delete(BINARY) == 1
    assert client.delete(BINARY) == 0
    assert client.get(BINARY) is None


def test_a_range_has_all_pages_as_of_one_revision(client: EtcdClient) -> None:
    names = [f"page/{number:05}".encode() for number in range(2500)]
    for start in range(0, len(names), 100):
        assert client.txn([], [Put(name, name) for name in names[start : start + 100]])
    client.put(b"pagf", b"outside")
    assert client.count(b"page/") == 2500
    pages = client.range(b"page/")
    first = next(pages)
    client.put(names[-1], b"later")
    client.delete(names[1500])
    assert [first.key, *(each.key for each in pages)] == names
    assert len(list(client.range(b"page/"))) == 2499
    assert [each.value for each in client.range(b"page/", since=client.status().revision - 1)] == [b"later"]
    assert {b"pagf", names[0]} <= {each.key for each in client.range(b"")}
    assert client.delete(b"page/", prefix_end(b"page/")) == 2499


def test_a_page_has_as_many_keys_as_have_some_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[int] = []
    with running(tmp_path / "etcd") as address, EtcdClient(address, timeout=5) as client:
        for number in range(400):
            client.put(b"large/%04d" % number, b"x" * 100_000)
        for start in range(0, 12_000, 100):
            assert client.txn([], [Put(b"small/%05d" % number, b"x") for number in range(start, start + 100)])
        call = client._call

        def counted(*arguments: Any, **fields: Any) -> Any:
            answer = call(*arguments, **fields)
            pages.append(len(answer))
            return answer

        monkeypatch.setattr(client, "_call", counted)
        assert len(list(client.range(b"large/"))) == 400
        assert max(pages[1:]) < 5_000_000
        assert len(pages) == 6
        pages.clear()
        assert len(list(client.range(b"small/"))) == 12_000
        assert len(pages) == 4
        pages.clear()
        names = [each.key for each in client.range(b"small/", keys_only=True)]
        assert names == [b"small/%05d" % number for number in range(12_000)]
        assert len(pages) == 2


def three_members(directory: Path) -> list[dict[str, str]]:
    """Return the options of three members of one etcd."""
    ports = free_ports(6)
    peers = [f"http://127.0.0.1:{port}" for port in ports[:3]]
    initial = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
    return [
        {
            "name": f"m{number}",
            "data-dir": f"{directory}/{number}",
            "unsafe-no-fsync": "true",
            "initial-cluster": initial,
            **dict.fromkeys(("listen-peer-urls", "initial-advertise-peer-urls"), peer),
            **dict.fromkeys(("listen-client-urls", "advertise-client-urls"), f"http://127.0.0.1:{port}"),
        }
        for number, (peer, port) in enumerate(zip(peers, ports[3:], strict=True))
    ]


def test_the_newest_revision_is_known_to_a_member_that_lagged(tmp_path: Path) -> None:
    with members_running(str(program()), three_members(tmp_path), timeout=20) as members:
        leader = members[0][1].status().leader
        writer = next(client for _process, client in members if client.status().member_id == leader)
        lagging, behind = next(each for each in members if each[1] is not writer)
        before = behind.revision()
        lagging.send_signal(signal.SIGSTOP)
        try:
            for number in range(200):
                newest = writer.put(b"key/%d" % number, b"value")
        finally:
            lagging.send_signal(signal.SIGCONT)
        assert newest == before + 200
        assert behind.revision() >= newest
        assert behind.status().revision >= newest
        found = behind.get(b"key/199")
        assert found is not None
        assert found.mod_revision == newest


def test_a_transaction_is_all_or_nothing(client: EtcdClient) -> None:
    assert client.txn([Unchanged(b"t/a", 0)], [Put(b"t/a", b"1"), Put(b"t/b", b"1")])
    assert not client.txn([Unchanged(b"t/a", 0)], [Put(b"t/a", b"2"), Delete(b"t/b")])
    found = client.get(b"t/a")
    assert found is not None
    assert found.value == b"1"
    assert client.txn([Unchanged(b"t/a", found.mod_revision)], [Delete(b"t/", prefix_end(b"t/"))])
    assert client.count(b"t/") == 0


def test_a_lease_takes_its_keys_with_it(client: EtcdClient) -> None:
    lease = client.lease_grant(30)
    client.put(b"leased", b"x", lease)
    assert client.lease_keepalive(lease) == 30
    found = client.get(b"leased")
    assert found is not None
    assert found.lease == lease
    client.lease_revoke(lease)
    assert client.get(b"leased") is None
    assert client.lease_keepalive(lease) == 0
    with pytest.raises(EtcdError, match="refused LeaseRevoke"):
        client.lease_revoke(lease)


def test_nothing_listens() -> None:
    with EtcdClient("http://127.0.0.1:9/", timeout=1) as away, pytest.raises(EtcdError, match="cannot reach etcd"):
        away.get(b"x")


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"a\xff\xfe", b"a\xff\xff"), (b"", b"\0"), (b"\xff", b"\0")]
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


def test_a_snapshot_is_whole_and_ends_with_its_digest(client: EtcdClient) -> None:
    client.put(b"snapshot", bytes(300_000))
    stream = SnapshotStream(client.snapshot_messages(), client.endpoint)
    data = b"".join(stream)
    assert len(data) == stream.done == stream.total
    assert len(data) % 512 == 32
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]


def test_a_hash_of_all_keys_can_be_taken_again_later(client: EtcdClient) -> None:
    revision = client.put(b"hash", b"1")
    before = client.hash_kv(revision)
    assert before == client.hash_kv()
    client.put(b"hash", b"2")
    assert client.hash_kv(revision) == before
    assert client.hash_kv() != before
    assert (client.get(b"hash", revision) or client).value == b"1"  # type: ignore[union-attr]
    with pytest.raises(EtcdError, match="refused HashKV"):
        client.hash_kv(revision + 1000)


def test_compacting_and_defragmenting_free_space(client: EtcdClient) -> None:
    for number in range(50):
        revision = client.put(b"large", bytes([number]) * 200_000)
    size = client.status().db_size
    client.compact(revision)
    client.defragment()
    assert client.status().db_size < size / 2
    with pytest.raises(EtcdError, match="compacted"):
        client.get(b"large", revision - 1)
    with pytest.raises(EtcdError, match="compacted"):
        client.compact(revision - 1)
    assert client.count(b"large", revision) == 1


def test_a_watch_sees_changes_in_order_and_says_when_history_is_gone(client: EtcdClient) -> None:
    start = client.put(b"w/a", b"1")
    client.put(b"w/b", b"2")
    client.delete(b"w/a")
    changes = client.watch(b"w/", start)
    seen = []
    timer = threading.Timer(0.3, client.put, (b"w/c", b"3"))
    timer.start()
    while len(seen) < 4:
        seen += next(changes)
    changes.close()
    timer.join()
    assert [(each.kv.key, each.kv.value, each.deleted) for each in seen] == [
        (b"w/a", b"1", False),
        (b"w/b", b"2", False),
        (b"w/a", b"", True),
        (b"w/c", b"3", False),
    ]
    client.compact(start + 2)
    with pytest.raises(EtcdError, match="compacted"):
        next(client.watch(b"w/", start))


def test_an_alarm_is_seen_and_cleared(tmp_path: Path) -> None:
    with running(tmp_path, "--quota-backend-bytes", "2000000") as address, EtcdClient(address) as full:
        with pytest.raises(EtcdError, match="space exceeded"):
            for number in range(2000):  # the size that the quota is compared with is brought up to date every 100 ms
                full.put(b"k%d" % number, bytes(100_000))
        assert full.alarms() == ["NOSPACE"]
        # A full etcd can still be backed up.
        assert b"".join(SnapshotStream(full.snapshot_messages(), full.endpoint))
        full.delete(b"k", b"l")
        full.compact(full.status().revision)
        full.defragment()
        assert full.disarm() == ["NOSPACE"]
        assert full.alarms() == []
        full.put(b"k", b"again")


def test_users_log_in_and_their_tokens_are_renewed(tmp_path: Path) -> None:
    flags = ("--auth-token-ttl", "1")
    with running(tmp_path, *flags) as address, EtcdClient(address) as open_client:
        enable_authentication(open_client)
        with pytest.raises(EtcdError, match="user name is empty"):
            open_client.get(b"x")
        with EtcdClient(address, login=Login("root", "wrong")) as wrong, pytest.raises(EtcdError, match="Authenticate"):
            wrong.get(b"x")
        with EtcdClient(address, login=Login("root", "secret")) as root:
            root.put(b"x", b"1")
            assert b"".join(SnapshotStream(root.snapshot_messages(), address))
            root._token = "stale.1"
            assert (root.get(b"x") or root).value == b"1"  # type: ignore[union-attr]
            root._token = "stale.1"
            assert b"".join(SnapshotStream(root.snapshot_messages(), address))
    assert "secret" not in repr(Login("root", "secret"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_with_client_certificates(certificates: Path, tmp_path: Path) -> None:
    ca, server = str(certificates / "ca.crt"), str(certificates / "etcd.example")
    tls = Tls(ca, str(certificates / "client.crt"), str(certificates / "client.key"), "etcd.example")
    flags = (
        "--cert-file",
        f"{server}.crt",
        "--key-file",
        f"{server}.key",
        "--client-cert-auth",
        "--trusted-ca-file",
        ca,
    )
    with running(tmp_path, *flags, scheme="https", client_options={"tls": tls}) as address:
        with EtcdClient(address, tls=tls) as client:
            client.put(b"x", b"1")
            assert client.count(b"x") == 1
        for wrong in (Tls(ca, server_name="etcd.example"), Tls(ca, tls.cert_file, tls.key_file), None):
            with (
                EtcdClient(address, timeout=3, tls=wrong) as client,
                pytest.raises(EtcdError, match="cannot reach etcd"),
            ):
                client.count(b"x")


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.crt"):
        EtcdClient("https://127.0.0.1:1", tls=Tls(ca_file=str(tmp_path / "absent.crt")))
