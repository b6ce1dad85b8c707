# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: defaults that work, and every wrong option named at once."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings, mirrored_image
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.versions import SUPPORTED, release

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMA==\n-----END RSA PRIVATE KEY-----\n"


def test_defaults_are_a_small_local_installation() -> None:
    settings = Settings.parse({})
    assert settings.namespace == "pachyderm"
    assert settings.storage_backend == "LOCAL"
    assert settings.host_path == "/var/pachyderm/pachyderm"
    assert settings.etcd_storage.host_path == "/var/pachyderm/pachyderm/etcd"
    assert settings.etcd_members == 1
    assert settings.service.type == "ClusterIP"
    assert not settings.cluster_roles
    assert settings.network_policy
    assert settings.wanted_images == (
        "docker.io/pachyderm/pachd:1.13.4",
        "docker.io/pachyderm/worker:1.13.4",
        "docker.io/pachyderm/etcd:v3.3.5",
    )


@pytest.mark.parametrize(
    ("backend", "storage_backend", "memory", "cache"),
    [("local", "LOCAL", "512M", "256M"), ("gcp", "GOOGLE", "2G", "0G"), ("aws", "AMAZON", "3G", "1G")],
)
def test_sizes_follow_the_backend(backend: str, storage_backend: str, memory: str, cache: str) -> None:
    settings = Settings.parse({"backend": backend})
    assert settings.storage_backend == storage_backend
    assert settings.resources["pachd"]["requests"]["memory"] == memory
    assert settings.block_cache == cache


def test_clouds_keep_etcd_on_a_claim_and_nothing_on_the_node() -> None:
    settings = Settings.parse({"backend": "aws", "etcd_storage": {"storage_class": "gp3", "size": "50Gi"}})
    assert settings.host_path == ""
    assert settings.etcd_storage.host_path == ""
    assert (settings.etcd_storage.storage_class, settings.etcd_storage.size) == ("gp3", "50Gi")


def test_local_takes_a_claim_where_asked() -> None:
    settings = Settings.parse({"etcd_storage": {"type": "claim"}})
    assert settings.etcd_storage.host_path == ""
    assert settings.host_path == "/var/pachyderm/pachyderm"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": "2.11.6"}, ["version", "chart", "1.13.4"]),
        ({"version": "v1.13.4"}, ["without a leading v"]),
        ({"version": "1.9.0"}, ["1.12.5"]),
        ({"backend": "azure"}, ["backend", "local, gcp, aws"]),
        ({"namespace": "No_Good"}, ["namespace", "'No_Good'"]),
        ({"pachd_replicas": 2}, ["pachd_replicas is 2", "must be 1", "v2 API"]),
        ({"etcd_members": 2}, ["etcd_members is 2", "1 or 3", "as soon as one is lost"]),
        ({"etcd_members": 0}, ["etcd_members is 0"]),
        ({"etcd_storage": {"type": "emptyDir"}}, ["emptyDir", "outlive"]),
        ({"etcd_storage": {"size": "ten"}}, ["etcd_storage.size"]),
        ({"etcd_storage": {"storage_class": "A B"}}, ["storage_class"]),
        ({"host_path": "relative"}, ["host_path"]),
        ({"host_path": "/data"}, ["host_path"]),
        ({"host_path": "/data/../etc"}, ["host_path"]),
        ({"image_registry": "https://mirror.example"}, ["image_registry", "without https://"]),
        ({"images": {"pachd": "Not An Image"}}, ["images.pachd"]),
        ({"images": {"pachctl": "x/y:1"}}, ["images.pachctl", "pachd, worker"]),
        ({"image_pull_policy": "Sometimes"}, ["image_pull_policy"]),
        ({"image_pull_secret": "Bad_Name"}, ["image_pull_secret"]),
        ({"cluster_deployment_id": "has spaces"}, ["cluster_deployment_id"]),
        ({"log_level": "verbose"}, ["log_level"]),
        ({"block_cache": "much"}, ["block_cache"]),
        ({"upload_concurrency": 0}, ["upload_concurrency"]),
        ({"resources": {"pachd": {"requests": {"memory": "lots"}}}}, ["resources.pachd.requests.memory"]),
        ({"resources": {"pachd": {"requests": {"cpu": "1"}}}}, ["memory is missing"]),
        ({"resources": {"worker": {}}}, ["resources.worker"]),
        ({"service": {"type": "ExternalName"}}, ["service.type"]),
        ({"service": {"type": "ClusterIP", "node_ports": {"api-grpc-port": 30650}}}, ["ClusterIP Service has none"]),
        ({"service": {"type": "NodePort", "node_ports": {"grpc": 30650}}}, ["node_ports.grpc", "api-grpc-port"]),
        ({"service": {"type": "NodePort", "node_ports": {"api-grpc-port": 0}}}, ["must be a port"]),
        ({"service": {"type": "NodePort", "node_ports": {"api-grpc-port": "http"}}}, ["must be a port"]),
        ({"service": {"type": "LoadBalancer", "source_ranges": ["ten/8"]}}, ["source_ranges"]),
        ({"service": {"source_ranges": ["10.0.0.0/8"]}}, ["only a LoadBalancer"]),
        ({"tls": {"cert": PEM}}, ["both cert and key"]),
        ({"tls": {"cert": PEM, "key": KEY, "secret_name": "mine"}}, ["not both"]),
        ({"tls": {"cert": "hello", "key": KEY}}, ["tls.cert is not PEM"]),
        ({"tls": {"secret_name": "Bad_Name"}}, ["tls.secret_name"]),
        ({"ca_bundle": "hello"}, ["ca_bundle"]),
        ({"extra_env": {"1BAD": "x"}}, ["extra_env.1BAD"]),
        ({"extra_env": {"ETCD_PREFIX": "x"}}, ["extra_env.ETCD_PREFIX", "itself"]),
        ({"extra_env": {"REVERSE": "false"}}, ["extra_env.REVERSE"]),
        ({"extra_volume_mounts": [{"name": "x", "mountPath": "/x"}]}, ["extra_volume_mounts", "'x'"]),
        ({"host_aliases": [{"ip": "here", "hostnames": ["a"]}]}, ["host_aliases"]),
        ({"host_aliases": [{"ip": "10.0.0.1"}]}, ["no hostnames"]),
        ({"priority_class": "Bad_Name"}, ["priority_class"]),
    ],
)
def test_a_wrong_option_is_named_with_what_it_must_be(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Settings.parse(options)
    for word in words:
        assert word in caught.value.why
    assert "Nothing was changed" in caught.value.fix


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Settings.parse({"version": "3.0.0", "backend": "tape", "pachd_replicas": 2, "log_level": "loud"})
    for word in ("3.0.0", "tape", "pachd_replicas", "loud"):
        assert word in str(caught.value)


def test_empty_options_mean_the_default() -> None:
    options = {"images": {"pachd": ""}, "tls": {}, "service": None, "etcd_storage": {"type": None}, "block_cache": ""}
    assert Settings.parse(options) == Settings.parse({})


@pytest.mark.parametrize(
    ("reference", "mirror", "expected"),
    [
        ("pachyderm/pachd:1.13.4", "", "docker.io/pachyderm/pachd:1.13.4"),
        ("docker.io/pachyderm/pachd:1.13.4", "mirror:5000", "mirror:5000/pachyderm/pachd:1.13.4"),
        ("quay.io/coreos/etcd:v3.5.21", "10.0.0.1:5000/cache", "10.0.0.1:5000/cache/coreos/etcd:v3.5.21"),
    ],
)
def test_mirror_replaces_the_registry_and_keeps_the_rest(reference: str, mirror: str, expected: str) -> None:
    assert mirrored_image(reference, mirror) == expected


def test_an_image_of_the_users_is_not_mirrored_and_may_be_pinned() -> None:
    digest = "registry.example/pachd@sha256:" + "a" * 64
    settings = Settings.parse({"image_registry": "mirror.example", "images": {"pachd": digest}})
    assert settings.images["pachd"] == digest
    assert settings.images["worker"] == "mirror.example/pachyderm/worker:1.13.4"


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_supported_version_has_its_images(version: str) -> None:
    facts = release(version)
    assert facts.images["pachd"].endswith(f":{version}")
    assert facts.images["worker"].endswith(f":{version}")
    assert ".".join(str(number) for number in facts.numbers) == version


def test_an_unsupported_version_lists_the_supported_ones() -> None:
    with pytest.raises(InputError) as caught:
        release("1.14.0")
    for version in SUPPORTED:
        assert version in caught.value.fix
