# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd of a test's own: no double, but kept where tests look for helpers."""

from __future__ import annotations

import datetime
import hashlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd import restore
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.snapshot import TRAILER
from doubles.kube import FakeKube, installation, node
from servers.ports import free_ports

PROGRAMS = Path("/var/cache/pachops/programs")
# Milliseconds; nobody is to be elected because the machine is busy.
_PATIENT = {"heartbeat-interval": "200", "election-timeout": "1500"}


def program() -> Path:
    """Return the etcd that the local cluster was built with."""
    found = sorted(PROGRAMS.glob("etcd-v*/etcd"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.fail(f"no etcd below {PROGRAMS}: run `make cluster`, which builds it.")
    return found[-1]


def server_of(folder: str) -> str:
    """Return the server that a folder of tests/servers builds."""
    from servers.build import programs

    found = programs(folder)
    return found.get("etcd") or found["server"]


@contextmanager
def running(
    directory: Path,
    *flags: str,
    scheme: str = "http",
    client_options: dict[str, Any] | None = None,
    server: str = "",
) -> Iterator[str]:
    """Run an etcd on ``directory`` and yield its client address once it answers.

    :param server: another program than the local cluster's; it gets only flags that every etcd from 3.2 on knows.
    """
    port, peer = free_ports(2)
    address = f"{scheme}://127.0.0.1:{port}"
    command: Sequence[str] = [
        *((server,) if server else (str(program()), "--unsafe-no-fsync", "--log-level", "error")),
        *("--data-dir", str(directory), "--max-txn-ops", "10000"),
        *("--listen-client-urls", address, "--advertise-client-urls", address),
        *(
            "--listen-peer-urls",
            f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls",
            f"http://127.0.0.1:{peer}",
        ),
        *("--initial-cluster", f"default=http://127.0.0.1:{peer}"),
        *flags,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with EtcdClient(address, timeout=5, **(client_options or {})) as client:
            end = time.monotonic() + 60
            while True:
                try:
                    client.status()
                    break
                except EtcdError:
                    assert process.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


@contextmanager
def members_running(
    etcd: str, members: Sequence[Mapping[str, str]], timeout: float = 5
) -> Iterator[list[tuple[subprocess.Popen[bytes], EtcdClient]]]:
    """Run the members of one etcd, and yield each one's process and a client of it once they have a leader.

    :param members: the options of each by name.
    """
    with ExitStack() as stack:
        found = []
        for flags in members:
            command = [etcd, *(f"--{name}={value}" for name, value in {**_PATIENT, **flags}.items())]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            found.append((process, stack.enter_context(EtcdClient(flags["listen-client-urls"], timeout=timeout))))
        for _process, client in found:
            await_leader(client)
        yield found


def await_leader(client: EtcdClient) -> None:
    """Return when the member has a leader."""
    end = time.monotonic() + 60
    while True:
        with suppress(EtcdError):
            if client.status().leader:
                return
        assert time.monotonic() < end
        time.sleep(0.1)


@contextmanager
def booted(snapshot: Path, data: Path, etcd: str = "") -> Iterator[EtcdClient]:
    """Boot an etcd from the file of a snapshot; ``data`` is made.

    :param etcd: another program than the local cluster's.
    """
    content = snapshot.read_bytes()
    assert hashlib.sha256(content[:-TRAILER]).digest() == content[-TRAILER:]
    restore.make_member([content[:-TRAILER]], data)
    with restore.booted(restore.find_program(etcd or str(program())), data) as client:
        yield client


def fill(address: str) -> None:
    """Put in what a small Pachyderm has, and a history that compaction can shrink."""
    with EtcdClient(address) as client:
        client.put(b"cluster-id", b"c1d")
        client.put(b"pachyderm/1.7.0/pachyderm_pfs/repos/ticks", b"")
        for number in range(300):
            client.put(b"pachyderm/1.7.0/pachyderm_pps/jobs/%d" % (number % 10), b"x" * 20_000)


def behind(address: str, namespace: str = "pachyderm") -> FakeKube:
    """Return a cluster whose etcd pod leads to a real etcd."""
    kube = FakeKube([node(), *installation(namespace)])
    split = urlsplit(address)
    assert split.hostname
    assert split.port
    pods = [ref for ref in kube.objects if ref.kind == "Pod" and ref.name.startswith("etcd")]
    assert pods
    kube.forwarded[(pods[0].name, 2379)] = (split.hostname, split.port)
    return kube


def enable_authentication(client: EtcdClient) -> None:
    """Make the user root with the password ``secret``, and switch authentication on."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.protobuf import declare

    messages = declare(
        "test.etcd",
        {
            "UserAdd": [("name", 1, "string"), ("password", 2, "string")],
            "Grant": [("user", 1, "string"), ("role", 2, "string")],
            "RoleAdd": [("name", 1, "string")],
            "Empty": [],
        },
    )

    def call(method: str, message: object) -> None:
        path = f"/etcdserverpb.Auth/{method}"
        client._channel.unary_unary(path, request_serializer=lambda each: each.SerializeToString())(message, timeout=5)

    call("UserAdd", messages["UserAdd"](name="root", password="secret"))
    call("RoleAdd", messages["RoleAdd"](name="root"))
    call("UserGrantRole", messages["Grant"](user="root", role="root"))
    call("AuthEnable", messages["Empty"]())


def make_certificates(directory: Path) -> Path:
    """Write a CA, a server's certificate for etcd.example, and a client's, and return the directory."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.timezone.utc)

    def make(
        name: str, issuer: x509.Name | None, issuer_key: ec.EllipticCurvePrivateKey | None
    ) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            issuer or subject,
            subject,
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(hours=1),
            now + datetime.timedelta(hours=1),
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        signed = builder.sign(issuer_key or key, hashes.SHA256())
        (directory / f"{name}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (directory / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        return subject, key

    ca = make("ca", None, None)
    make("etcd.example", *ca)
    make("client", *ca)
    return directory
