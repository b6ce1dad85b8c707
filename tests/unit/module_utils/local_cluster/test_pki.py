# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of the local cluster: who is named, who signs, what is renewed, and that openssl believes it."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.pki import LEAF_DAYS, RENEW_DAYS, Pki
from cryptography import x509
from cryptography.x509.oid import NameOID


def make(tmp_path: Path, **changes: str) -> Pki:
    settings = {"cluster": "dev", "node_address": "198.18.7.2", "service_address": "10.96.0.1", **changes}
    return Pki(directory=tmp_path / "pki", kubeconfig=tmp_path / "kubeconfig", **settings)


def certificate(tmp_path: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((tmp_path / "pki" / f"{name}.crt").read_bytes())


def test_second_run_writes_nothing(tmp_path: Path) -> None:
    pki = make(tmp_path)
    assert "kube-apiserver" in pki.ensure()
    before = pki.fingerprints()
    assert pki.ensure() == []
    assert pki.ensure(dry_run=True) == []
    assert pki.fingerprints() == before


def test_dry_run_foretells_and_writes_nothing(tmp_path: Path) -> None:
    pki = make(tmp_path)
    foretold = pki.ensure(dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert pki.ensure() == foretold


def test_everything_secret_is_the_owners_alone(tmp_path: Path) -> None:
    make(tmp_path).ensure()
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700
    for place in [tmp_path / "kubeconfig", *(tmp_path / "pki").iterdir()]:
        assert place.stat().st_mode & 0o777 == 0o600, place


def test_openssl_accepts_every_certificate_for_its_use(tmp_path: Path) -> None:
    pki = make(tmp_path)
    pki.ensure()
    for leaf in pki.leaves:
        for purpose in [use for use, wanted in (("sslserver", leaf.server), ("sslclient", leaf.client)) if wanted]:
            files = [tmp_path / "pki" / f"{leaf.authority}.crt", tmp_path / "pki" / f"{leaf.file}.crt"]
            command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", *map(str, files)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_no_cluster_certificate_opens_the_database(tmp_path: Path) -> None:
    pki = make(tmp_path)
    pki.ensure()
    authorities = {leaf.file: leaf.authority for leaf in pki.leaves}
    assert {name for name, authority in authorities.items() if authority == "etcd-ca"} == {"etcd-server", "etcd-client"}
    with pytest.raises(ValueError, match="does not match"):
        certificate(tmp_path, "admin").verify_directly_issued_by(certificate(tmp_path, "etcd-ca"))


def test_api_server_answers_to_the_veth_address_and_the_service(tmp_path: Path) -> None:
    make(tmp_path).ensure()
    names = certificate(tmp_path, "kube-apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    addresses = names.value.get_values_for_type(x509.IPAddress)
    assert {ipaddress.ip_address("198.18.7.2"), ipaddress.ip_address("10.96.0.1")} <= set(addresses)
    assert "kubernetes.default.svc" in names.value.get_values_for_type(x509.DNSName)


def test_node_is_named_as_its_authorizer_wants(tmp_path: Path) -> None:
    make(tmp_path).ensure()
    subject = certificate(tmp_path, "kubelet").subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:dev"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_kubeconfig_is_complete(tmp_path: Path) -> None:
    make(tmp_path).ensure()
    document = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert document["current-context"] == "dev"
    assert document["clusters"][0]["cluster"]["server"] == "https://198.18.7.2:6443"
    embedded = base64.b64decode(document["users"][0]["user"]["client-certificate-data"])
    assert x509.load_pem_x509_certificate(embedded) == certificate(tmp_path, "admin")


def test_another_address_renews_what_carries_it(tmp_path: Path) -> None:
    make(tmp_path).ensure()
    moved = make(tmp_path, node_address="198.18.9.2")
    foretold = moved.ensure(dry_run=True)
    written = moved.ensure()
    assert written[:2] == ["kube-apiserver", "kubelet-server"]
    assert {"kubeconfig", "kubelet.kubeconfig"} <= set(written)
    assert foretold == written
    assert moved.ensure() == []


def test_what_ends_soon_is_renewed_and_keys_that_have_no_end_stay(tmp_path: Path) -> None:
    pki = make(tmp_path)
    pki.ensure()
    accounts = (tmp_path / "pki" / "sa.key").read_bytes()
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=LEAF_DAYS - RENEW_DAYS + 1)
    written = pki.ensure(now=later)
    assert {leaf.file for leaf in pki.leaves} <= set(written)
    assert "ca" not in written
    assert "sa" not in written
    assert (tmp_path / "pki" / "sa.key").read_bytes() == accounts


@pytest.mark.parametrize("damage", ["missing", "garbage", "other"])
def test_damaged_authority_renews_what_it_signed(tmp_path: Path, damage: str) -> None:
    pki = make(tmp_path)
    pki.ensure()
    place = tmp_path / "pki" / "etcd-ca.key"
    if damage == "missing":
        place.unlink()
    else:
        place.write_bytes(b"garbage" if damage == "garbage" else (tmp_path / "pki" / "ca.key").read_bytes())
    assert pki.ensure() == ["etcd-ca", "etcd-server", "etcd-client"]


def test_foreign_authority_is_noticed(tmp_path: Path) -> None:
    pki, other = make(tmp_path / "a"), make(tmp_path / "b")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pki.ensure()
    other.ensure()
    for suffix in ("crt", "key"):
        (tmp_path / "a/pki" / f"ca.{suffix}").write_bytes((tmp_path / "b/pki" / f"ca.{suffix}").read_bytes())
    written = pki.ensure()
    assert "kube-apiserver" in written
    assert "etcd-server" not in written


def test_key_of_another_kind_is_replaced(tmp_path: Path) -> None:
    pki = make(tmp_path)
    pki.ensure()
    (tmp_path / "pki" / "admin.key").write_bytes((tmp_path / "pki" / "sa.key").read_bytes())
    assert pki.ensure() == ["admin", "kubeconfig"]


def test_loosened_kubeconfig_is_tightened(tmp_path: Path) -> None:
    pki = make(tmp_path)
    pki.ensure()
    (tmp_path / "kubeconfig").chmod(0o644)
    assert pki.ensure() == ["kubeconfig"]
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o777 == 0o600


def test_unwritable_directory_says_which(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file in the way")
    with pytest.raises(ClusterError, match=r"cannot write the local cluster's certificates .*pki"):
        make(tmp_path).ensure()
