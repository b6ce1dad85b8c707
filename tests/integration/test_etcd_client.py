# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The etcd client against a real etcd."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import (
    Delete,
    EtcdClient,
    Put,
    Unchanged,
    prefix_end,
)

PROGRAMS = Path("/var/cache/pachops/programs")
BINARY = bytes(range(256))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdClient]:
    found = sorted(PROGRAMS.glob("etcd-v*/etcd"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.fail(f"no etcd below {PROGRAMS}: run `make cluster`, which builds it.")
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        address, peer = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (one, two))
    command = [str(found[-1]), "--data-dir", str(tmp_path_factory.mktemp("etcd")), "--unsafe-no-fsync"]
    command += ["--listen-client-urls", address, "--advertise-client-urls", address, "--listen-peer-urls", peer]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with EtcdClient(address, timeout=5) as made:
            end = time.monotonic() + 60
            while True:
                try:
                    made.status()
                    break
                except EtcdError:
                    assert process.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.1)
            yield made
    finally:
        process.kill()
        process.wait()


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
