# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Certificates, keys and kubeconfigs of a local cluster.

Two authorities: one for Kubernetes, one for its etcd, so that no certificate that the cluster itself signs opens the
database.  Who carries which name and group is Kubernetes' own rule ("PKI certificates and requirements" in its
documentation).  Everything secret is written with mode 0600 and never returned.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClusterError
from ..replacing import replacing

try:
    import yaml
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    MISSING_LIBRARY: ImportError | None = error
else:
    MISSING_LIBRARY = None

CA_DAYS = 3650
LEAF_DAYS = 730
# A run of the role renews what would expire before somebody is likely to run it again.
RENEW_DAYS = 90


@dataclass(frozen=True)
class Leaf:
    """One certificate: its file name, its authority, whom it names and what it may be used for."""

    file: str
    authority: str
    common_name: str
    organization: str = ""
    server: bool = False
    client: bool = True
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pki:
    """Everything that :meth:`ensure` keeps in order.

    :param directory: where certificates and keys are; mode 0700.
    :param cluster: the cluster's name, used as the kubeconfigs' context.
    :param node_address: the address of the API server and the kubelet.
    :param service_address: the first address of the service network: the Service ``kubernetes``.
    :param kubeconfig: the administrator's kubeconfig.
    """

    directory: Path
    cluster: str
    node_address: str
    service_address: str
    kubeconfig: Path

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The certificates."""
        kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
        return (
            Leaf("etcd-server", "etcd-ca", "etcd", server=True, names=("localhost",), addresses=("127.0.0.1",)),
            Leaf("etcd-client", "etcd-ca", "kube-apiserver"),
            Leaf(
                "kube-apiserver",
                "ca",
                "kube-apiserver",
                server=True,
                client=False,
                names=(*kubernetes, "kubernetes.default.svc.cluster.local", "localhost"),
                addresses=(self.node_address, self.service_address, "127.0.0.1"),
            ),
            Leaf("kube-apiserver-kubelet", "ca", "kube-apiserver-kubelet-client", "system:masters"),
            Leaf(
                "kubelet-server",
                "ca",
                f"system:node:{self.cluster}",
                "system:nodes",
                server=True,
                client=False,
                names=(self.cluster,),
                addresses=(self.node_address,),
            ),
            *(client for client, _file in self._clients()),
        )

    def _clients(self) -> tuple[tuple[Leaf, Path], ...]:
        """Return the certificates that go into kubeconfigs, with the kubeconfig's path."""
        here = self.directory
        return (
            (Leaf("admin", "ca", "kubernetes-admin", "system:masters"), self.kubeconfig),
            (
                Leaf("kube-controller-manager", "ca", "system:kube-controller-manager"),
                here / "kube-controller-manager.kubeconfig",
            ),
            (Leaf("kube-scheduler", "ca", "system:kube-scheduler"), here / "kube-scheduler.kubeconfig"),
            (Leaf("kube-proxy", "ca", "system:kube-proxy"), here / "kube-proxy.kubeconfig"),
            (Leaf("kubelet", "ca", f"system:node:{self.cluster}", "system:nodes"), here / "kubelet.kubeconfig"),
        )

    def ensure(self, *, dry_run: bool = False, now: datetime.datetime | None = None) -> list[str]:
        """Write what is missing, wrong or near its end, and return the names of what was (or would be) written.

        A new authority renews everything that it signs.

        :raises ClusterError: when a file cannot be written.
        """
        moment = now or datetime.datetime.now(datetime.timezone.utc)
        work = _Work(self.directory, dry_run, moment)
        try:
            if not dry_run:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.directory.chmod(0o700)
            for authority in ("ca", "etcd-ca"):
                work.authority(authority)
            for leaf in self.leaves:
                work.leaf(leaf)
            work.service_account()
            for leaf, target in self._clients():
                work.file(target.name, target, lambda leaf=leaf: self._kubeconfig(leaf))  # type: ignore[misc]
        except OSError as error:
            raise ClusterError(
                "cannot write the local cluster's certificates",
                where=str(error.filename or self.directory),
                why=error.strerror or str(error),
            ) from error
        return work.written

    def fingerprints(self) -> dict[str, str]:
        """Return, by file name, a digest of every certificate and public key: changes when a server must reload."""
        return {
            place.name: hashlib.sha256(place.read_bytes()).hexdigest()[:16]
            for place in sorted(self.directory.glob("*"))
            if place.suffix in (".crt", ".pub")
        }

    def _kubeconfig(self, leaf: Leaf) -> bytes:
        def embed(place: Path) -> str:
            return base64.b64encode(place.read_bytes()).decode()

        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": self.cluster,
                    "cluster": {
                        "server": f"https://{self.node_address}:6443",
                        "certificate-authority-data": embed(self.directory / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": leaf.file,
                    "user": {
                        "client-certificate-data": embed(self.directory / f"{leaf.file}.crt"),
                        "client-key-data": embed(self.directory / f"{leaf.file}.key"),
                    },
                }
            ],
            "contexts": [{"name": self.cluster, "context": {"cluster": self.cluster, "user": leaf.file}}],
            "current-context": self.cluster,
        }
        return yaml.safe_dump(document, sort_keys=False).encode()


class _Work:
    """One pass over the files: what it wrote, and which authorities are new."""

    def __init__(self, directory: Path, dry_run: bool, now: datetime.datetime) -> None:
        self.directory = directory
        self.dry_run = dry_run
        self.now = now
        self.written: list[str] = []
        self.renewed: set[str] = set()

    def authority(self, name: str) -> None:
        current = self._load(name)
        if current and self._fresh(current):
            return
        self.renewed.add(name)
        self.written.append(name)
        if self.dry_run:
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"pachops local {name}")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        certificate = (
            self._builder(subject, subject, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._store(name, key, certificate)

    def leaf(self, leaf: Leaf) -> None:
        current = self._load(leaf.file)
        subject = x509.Name(
            [
                *([x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization)] if leaf.organization else []),
                x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name),
            ]
        )
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in leaf.names]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in leaf.addresses]
        if (
            current
            and leaf.authority not in self.renewed
            and self._fresh(current)
            and current.subject == subject
            and _alternative_names(current) == names
            and self._signed_by(current, leaf.authority)
        ):
            return
        self.written.append(leaf.file)
        if self.dry_run:
            return
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.load_pem_x509_certificate((self.directory / f"{leaf.authority}.crt").read_bytes())
        signer = _load_key(self.directory / f"{leaf.authority}.key")
        server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
        uses = [use for use, wanted in ((server, leaf.server), (client, leaf.client)) if wanted]
        builder = (
            self._builder(subject, authority.subject, key.public_key(), LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self._store(leaf.file, key, builder.sign(signer, hashes.SHA256()))

    def service_account(self) -> None:
        """The key that signs service accounts' tokens; it has no end, and a new one would invalidate every token."""
        if (self.directory / "sa.key").exists() and (self.directory / "sa.pub").exists():
            return
        self.written.append("sa")
        if self.dry_run:
            return
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        _write(self.directory / "sa.key", _pem(key))
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write(self.directory / "sa.pub", public)

    def file(self, name: str, target: Path, content: Callable[[], bytes]) -> None:
        if self.dry_run:
            # Its content follows from certificates that a dry run has not made.
            if self.written or not target.exists() or target.read_bytes() != content():
                self.written.append(name)
            return
        wanted = content()
        with contextlib.suppress(FileNotFoundError):
            if target.read_bytes() == wanted and target.stat().st_mode & 0o777 == 0o600:
                return
        self.written.append(name)
        _write(target, wanted)

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            # Clocks that are set back a little must not make a new cluster unusable.
            .not_valid_before(self.now - datetime.timedelta(hours=1))
            .not_valid_after(self.now + datetime.timedelta(days=days))
        )

    def _load(self, name: str) -> x509.Certificate | None:
        """Return the certificate if it can be read and its key belongs to it."""
        try:
            certificate = x509.load_pem_x509_certificate((self.directory / f"{name}.crt").read_bytes())
            key = _load_key(self.directory / f"{name}.key")
        except (OSError, ValueError):
            return None
        return certificate if certificate.public_key() == key.public_key() else None

    def _fresh(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_after_utc - self.now > datetime.timedelta(days=RENEW_DAYS)

    def _signed_by(self, certificate: x509.Certificate, authority: str) -> bool:
        issuer = x509.load_pem_x509_certificate((self.directory / f"{authority}.crt").read_bytes())
        try:
            certificate.verify_directly_issued_by(issuer)
        except Exception:  # noqa: BLE001  # whatever is wrong with it, it has to be replaced
            return False
        return True

    def _store(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        _write(self.directory / f"{name}.key", _pem(key))
        _write(self.directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _alternative_names(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _load_key(place: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(place.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{place} holds another kind of key")  # noqa: TRY004  # the file is wrong, not the call
    return key


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(target: Path, content: bytes) -> None:
    """Write atomically, readable by its owner alone from the first byte on."""
    with replacing(target) as file:
        file.write(content)
