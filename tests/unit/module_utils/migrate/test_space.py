# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for what is moved: quota and volumes of the target's etcd."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import KeyPlan
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate import space
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.durable import Kind
from doubles.kube import FakeKube, installation
from emulators.pachctl.shapes import Shape, pachctl

GB = 10**9


def plan(size: int) -> KeyPlan:
    return KeyPlan(7, {Kind.STATE: 1000}, size)


def problems(objects: list[dict[str, Any]], size: int, in_use: int = 0) -> list[str]:
    kube = FakeKube(objects)
    return list(space.metadata_problems(observe(kube, "pachyderm"), plan(size), in_use))


def test_quota_of_the_flags_or_etcds_own_decides() -> None:
    ours = installation(etcd_storage={"type": "claim", "size": "100Gi"})
    assert problems(ours, GB) == []
    assert "at most 8.6 GB, and the metadata need about 10.0 GB" in problems(ours, 5 * GB)[0]
    # Even where all of it is there already, by an earlier run, it cannot grow.
    assert "at most 8.6 GB" in problems(ours, GB, 9 * GB)[0]
    without = [each for each in pachctl(Shape("pachyderm")) if "namespace" in each["metadata"]]
    for each in without:
        if each["metadata"]["name"] == "etcd" and "template" in each.get("spec", {}):
            container = each["spec"]["template"]["spec"]["containers"][0]
            container["command"], container["args"] = ["/usr/local/bin/etcd"], []
    assert "at most 2.1 GB" in problems(without, 2 * GB)[0]


@pytest.mark.parametrize(
    ("size", "wanted"), [("10Gi", []), ("1Gi", ["the volume etcd-storage-etcd-0 of the target's etcd has 1.1 GB"])]
)
def test_the_volume_decides_too(size: str, wanted: list[str]) -> None:
    objects = installation(etcd_storage={"type": "claim", "size": size})
    for each in objects:
        if each["kind"] == "PersistentVolumeClaim":
            each.setdefault("status", {})["capacity"] = {"storage": size}
    found = problems(objects, GB)
    assert [text[: len(each)] for text, each in zip(found, wanted, strict=True)] == wanted
