# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pausing: pachd first, then its workers, nothing forgotten whoever dies in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from doubles.controllers import ControlledApi
from doubles.kube import installation, worker

NAMESPACE = "pachyderm"
PACHD = quiesce.pachd_ref(NAMESPACE)
WORKERS = Ref("v1", "ReplicationController", NAMESPACE, "pipeline-edges-v1")


@pytest.fixture
def api() -> ControlledApi:
    api = ControlledApi([NAMESPACE])
    for obj in [*installation(NAMESPACE), *worker(NAMESPACE, "edges")]:
        if obj["kind"] != "Pod":
            api.put(obj)
    api.objects[WORKERS]["spec"]["replicas"] = 3
    api.reconcile()
    return api


@pytest.fixture
def kube(api: ControlledApi) -> Kube:
    return Kube(api, patience=0.0)


def pods(api: ControlledApi) -> list[str]:
    return sorted(ref.name for ref in api.objects if ref.kind == "Pod")


def test_pachd_goes_first_and_workers_after_it(api: ControlledApi, kube: Kube) -> None:
    ended: list[str] = []
    api.on_stop = lambda pod: ended.append(pod["metadata"]["name"])

    paused = quiesce.pause(kube, NAMESPACE, "restore")

    assert ended[0] == "pachd-0"
    assert sorted(ended[1:]) == [f"pipeline-edges-v1-{number}" for number in range(3)]
    assert pods(api) == ["etcd-0"]
    assert paused == quiesce.Paused("restore", 1, {"pipeline-edges-v1": 3}) == quiesce.paused(kube, NAMESPACE)


def test_starting_again_forgets_the_pause(api: ControlledApi, kube: Kube) -> None:
    quiesce.pause(kube, NAMESPACE, "restore")

    assert quiesce.resume(kube, NAMESPACE)
    assert "pachd-0" in pods(api)
    assert quiesce.paused(kube, NAMESPACE) is None
    assert not quiesce.resume(kube, NAMESPACE), "there is nothing to start any more"


def test_who_died_in_between_is_followed_by_one_who_knows_the_counts(api: ControlledApi, kube: Kube) -> None:
    real, calls = kube.scale, []

    def dies(*args: Any, **options: Any) -> Any:
        calls.append(args)
        raise KeyboardInterrupt

    kube.scale = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        quiesce.pause(kube, NAMESPACE, "garbage collection")
    assert calls
    kube.scale = real  # type: ignore[method-assign]
    api.objects[WORKERS]["spec"]["replicas"] = 2  # someone meddles

    assert quiesce.pause(kube, NAMESPACE, "restore") == quiesce.Paused("garbage collection", 1, {WORKERS.name: 3})
    assert pods(api) == ["etcd-0"]


def test_the_annotation_and_the_number_change_together(api: ControlledApi, kube: Kube) -> None:
    seen = []
    api.on_stop = lambda _pod: seen.append(
        json.loads(api.stored(PACHD)["metadata"]["annotations"]["pachops.io/paused"])
    )
    quiesce.pause(kube, NAMESPACE, "restore")
    assert seen[0] == {"by": "restore", "pachd": 1, "workers": {"pipeline-edges-v1": 3}}


def test_a_pod_that_does_not_end_is_named_with_its_node(api: ControlledApi, kube: Kube) -> None:
    api.stuck.add("pachd-0")
    with pytest.raises(WaitError, match=r"pods of pachd have not ended.*pachd-0 on node-1.*force"):
        quiesce.pause(kube, NAMESPACE, "restore", timeout=0.0)
    assert quiesce.paused(kube, NAMESPACE) is not None, "it stays paused"
    assert "pipeline-edges-v1-0" in pods(api), "pachd would have brought them back"


def test_workers_whose_pachd_is_gone(api: ControlledApi, kube: Kube) -> None:
    del api.objects[PACHD]
    api.reconcile()
    assert quiesce.pause(kube, NAMESPACE, "restore").pachd == 0
    assert pods(api) == ["etcd-0"]
    assert not quiesce.resume(kube, NAMESPACE)


def test_a_pachd_that_somebody_had_stopped_is_started(api: ControlledApi, kube: Kube) -> None:
    kube.scale(PACHD, 0)
    quiesce.pause(kube, NAMESPACE, "restore")
    assert quiesce.resume(kube, NAMESPACE)
    assert "pachd-0" in pods(api)


def test_an_annotation_of_somebody_else(api: ControlledApi, kube: Kube) -> None:
    api.objects[PACHD]["metadata"].setdefault("annotations", {})[quiesce.PAUSED_ANNOTATION] = "yes"
    with pytest.raises(ClusterError, match="cannot read how many replicas"):
        quiesce.pause(kube, NAMESPACE, "restore")
