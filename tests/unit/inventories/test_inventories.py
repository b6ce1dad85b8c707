# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories: every variable that a user may set is there with a comment, and none that nobody reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
BACKENDS = ["local", "gcp", "aws"]
SWITCHES = {"backend", "kubeconfig", "kube_context"}
VARIABLE = re.compile(r"^(?:# )?([a-z][a-z0-9]*(?:_[a-z0-9]+)*):(?: |$)", re.MULTILINE)
# Set by the playbook, or by the three switches.
NOT_IN_INVENTORIES = {
    *("pachyderm_kubeconfig", "pachyderm_kube_context", "pachyderm_backend"),
    *("pachyderm_storage_secret", "pachyderm_storage_secret_checksum"),
    *("pachyderm_default_images", "pachyderm_imported_images"),
    *("storage_secret_kubeconfig", "storage_secret_context", "storage_secret_namespace", "storage_secret_backend"),
}
OF_ANOTHER_BACKEND = {
    "local": re.compile(r"storage_secret_"),
    "gcp": re.compile(r"storage_secret_(aws|vault|minio|tuning)|pachyderm_(host_path|image_archives|iam_role)"),
    "aws": re.compile(r"storage_secret_gcp|pachyderm_(host_path|image_archives)"),
}
EVERYWHERE = {"pachyderm_service_account_annotations", "pachyderm_iam_role"}


def declared(role: str) -> set[str]:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return set(specs["argument_specs"]["main"]["options"])


def text(backend: str) -> str:
    return (ROOT / "inventories" / backend / "group_vars" / "all.yml").read_text(encoding="utf-8")


def mentioned(backend: str) -> set[str]:
    return {name for name in VARIABLE.findall(text(backend)) if "_" in name or name in SWITCHES}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_variable_in_it_exists(backend: str) -> None:
    roles = ("pachyderm", "storage_secret", "local_cluster", "gcp_storage", "aws_storage")
    known = SWITCHES.union(*map(declared, roles))
    assert mentioned(backend) - known == set()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_variable_that_fits_the_backend_is_in_it(backend: str) -> None:
    wanted = declared("pachyderm") | declared("storage_secret")
    foreign = {name for name in wanted if OF_ANOTHER_BACKEND[backend].match(name)}
    if backend == "local":
        foreign |= EVERYWHERE
    assert wanted - NOT_IN_INVENTORIES - foreign - mentioned(backend) == set()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_in_force_is_the_backend_alone(backend: str) -> None:
    assert yaml.safe_load(text(backend)) == {"backend": backend}


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_the_comment_signs_it_is_yaml_with_the_defaults(backend: str) -> None:
    defaults: dict[str, Any] = yaml.safe_load((ROOT / "roles/pachyderm/defaults/main.yml").read_text(encoding="utf-8"))
    example = re.compile(r"example", re.IGNORECASE)
    for line in text(backend).splitlines():
        match = re.match(r"# (pachyderm_\w+): (.+)", line)
        if (
            match
            and not example.search(line)
            and match[1] not in ("pachyderm_image_archives", "pachyderm_pipeline_image")
        ):
            assert yaml.safe_load(match[2]) == defaults[match[1]], line


@pytest.mark.parametrize("backend", BACKENDS)
def test_everything_runs_on_the_controller(backend: str) -> None:
    hosts = yaml.safe_load((ROOT / "inventories" / backend / "hosts.yml").read_text(encoding="utf-8"))
    assert list(hosts["all"]["hosts"]) == ["localhost"]
    assert hosts["all"]["hosts"]["localhost"]["ansible_connection"] == "local"
