# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the one screen and the data behind it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.report import (
    STAGES,
    Run,
    Stage,
    record_run,
    run_key,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.evidence import EtcdState, Evidence, gather
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.answers import Answers
from ansible_collections.pachops.pachyderm.plugins.module_utils.status import backups_in, report, screen
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from doubles.backups import CLUSTER, NOW, put, verify
from doubles.kube import FakeKube, installation, node, now, pod, worker

NAMESPACE = "pachyderm"
HEALTHY = EtcdState("3.5.21", 1234, 20480, 16384, ("etcd-0",), ())
ANSWERS = Answers(
    "1.13.4",
    "c1d",
    "d3pl0y",
    {"ticks": 1000, "out": 24, "__spec__": 5},
    {"a": "RUNNING", "b": "FAILURE", "c": "RUNNING"},
)


def evidence(kube: FakeKube, **changes: Any) -> Evidence:
    seen = gather(kube, NAMESPACE)
    answered = {"etcd": HEALTHY, "etcd_trouble": "", "pachd": ANSWERS, "pachd_trouble": ""}
    return dataclasses.replace(seen, **{**answered, **changes})


def installed(**options: Any) -> FakeKube:
    return FakeKube([node(), *installation(NAMESPACE, **options), *worker(NAMESPACE, "a")])


def lines(state: dict[str, Any]) -> dict[str, str]:
    return {line[:15].strip(): line[15:].strip() for line in screen(state)}


def test_a_running_installation_on_one_screen() -> None:
    state = report(evidence(installed()), now(7300))
    assert state["installed"]
    assert state["managed"]
    assert state["pachd"] == {
        "version": "1.13.4",
        "replicas": 1,
        "ready": True,
        "pod": "pachd-7d9f",
        "age": 7300,
        "restarts": 0,
        "waiting": "",
    }
    assert state["repos"] == {"count": 2, "size": 1024}
    assert state["pipelines"] == {"count": 3, "states": {"failure": 1, "running": 2}}
    assert state["workers"] == {"controllers": 1, "pods": 1, "ready": 1}
    assert state["unknown"] == {}
    shown = lines(state)
    assert shown["pachyderm"] == "1.13.4 in namespace pachyderm on Kubernetes 1.34.4"
    assert shown["pachd"] == "ready, up 2 h, 0 restarts, pod pachd-7d9f"
    assert shown["etcd"] == "3.5.21, 1 of 1 members ready, no alarm, 20.5 kB, revision 1234"
    assert shown["address"] == "pachd.pachyderm.svc:650 in the cluster; from outside by port-forward"
    assert shown["data"] == "local, /var/pachyderm/pachyderm/pachd"
    assert shown["metadata"] == "directory /var/pachyderm/pachyderm/etcd of the node"
    assert shown["pipelines"] == "3 (1 failure, 2 running)"
    assert shown["image pachd"] == "docker.io/pachyderm/pachd:1.13.4"
    assert shown["cluster id"] == "c1d"
    assert len(screen(state)) <= 24


def test_claims_and_what_a_stand_in_is() -> None:
    seen = evidence(installed(etcd_storage={"type": "claim"}), first_words="pachd stand-in: a test double")
    state = report(seen, now())
    assert state["claims"] == [
        {"name": "etcd-storage-etcd-0", "phase": "Bound", "size": "10Gi", "storage_class": "local-path"}
    ]
    shown = lines(state)
    assert shown["metadata"] == "claim etcd-storage-etcd-0 Bound 10Gi local-path"
    assert shown[""] == "this pachd is a stand-in for tests, not Pachyderm"


def test_what_cannot_be_reached_is_said() -> None:
    kube = installed()
    kube.forbidden = {"PersistentVolumeClaim"}
    seen = evidence(
        kube, etcd=None, etcd_trouble="timed out", pachd=None, pachd_trouble="refused", etcd_cluster_id="e7c"
    )
    state = report(seen, now())
    assert state["cluster_id"] == "e7c"
    assert state["repos"] == {"count": None, "size": None}
    assert set(state["unknown"]) == {"etcd", "pachd", "PersistentVolumeClaim"}
    text = screen(state)
    assert "not known: etcd: timed out" in text
    shown = lines(state)
    assert shown["repos"] == "not known"
    assert shown["pipelines"] == "not known"
    assert shown["etcd"] == "1 of 1 members ready, not reached"


def test_trouble_is_on_the_screen() -> None:
    kube = installed()
    crash = {"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    kube.put(pod(NAMESPACE, "pachd-7d9f", "pachd", ready=False, containerStatuses=[crash]))
    alarmed = dataclasses.replace(HEALTHY, alarms=("NOSPACE",))
    shown = lines(report(evidence(kube, etcd=alarmed), now(90)))
    assert shown["pachd"] == "not ready (CrashLoopBackOff), up 90 s, 4 restarts, pod pachd-7d9f"
    assert "ALARM NOSPACE" in shown["etcd"]


@pytest.mark.parametrize(("replicas", "text"), [(0, "scaled to zero"), (1, "no pod")])
def test_no_pod_of_pachd(replicas: int, text: str) -> None:
    kube = installed()
    del kube.objects[Ref("v1", "Pod", NAMESPACE, "pachd-7d9f")]
    kube.objects[Ref("apps/v1", "Deployment", NAMESPACE, "pachd")]["spec"]["replicas"] = replicas
    state = report(evidence(kube), now())
    assert state["pachd"]["age"] is None
    assert lines(state)["pachd"] == text


@pytest.mark.parametrize(
    ("spec", "status", "external"),
    [
        (
            {"type": "NodePort", "ports": [{"name": "api-grpc-port", "port": 650, "nodePort": 31650}]},
            {},
            "any node, port 31650",
        ),
        (
            {"type": "LoadBalancer", "ports": [{"name": "api-grpc-port", "port": 650}]},
            {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}},
            "192.0.2.7:650",
        ),
    ],
)
def test_addresses_from_outside(spec: dict[str, Any], status: dict[str, Any], external: str) -> None:
    kube = installed()
    service = kube.objects[Ref("v1", "Service", NAMESPACE, "pachd")]
    service["spec"], service["status"] = spec, status
    state = report(evidence(kube), now())
    assert state["address"]["external"] == external
    assert external in lines(state)["address"]


def test_an_empty_namespace_and_one_whose_data_is_kept() -> None:
    empty = report(evidence(FakeKube(), etcd=None, pachd=None), now())
    assert screen(empty) == ["No Pachyderm in namespace pachyderm."]
    assert empty["address"]["cluster"] == ""
    kube = installed()
    for ref in list(kube.objects):
        if ref.kind in ("Deployment", "StatefulSet", "Pod", "Service"):
            del kube.objects[ref]
    state = report(evidence(kube, etcd=None, pachd=None), now())
    assert state["kept"]
    assert not state["installed"]
    assert set(state) == set(empty)
    shown = lines(state)
    assert "a deploy brings it back" in shown["pachyderm"]
    assert shown["deployment id"] == "d3pl0y"


def test_an_installation_of_somebody_else_and_without_a_service() -> None:
    kube = installed()
    kube.objects[Ref("apps/v1", "Deployment", NAMESPACE, "pachd")]["metadata"]["labels"] = {"suite": "pachyderm"}
    del kube.objects[Ref("v1", "Service", NAMESPACE, "pachd")]
    state = report(evidence(kube, pachd=None), now(10 * 86400))
    assert not state["managed"]
    shown = lines(state)
    assert shown["pachyderm"].startswith("of unknown version")
    assert shown["pachyderm"].endswith("not deployed by this collection")
    assert shown["address"] == "no Service pachd"
    assert "up 10 d" in shown["pachd"]


def test_backups_turn_red_without_a_verified_one_that_is_young_enough(tmp_path: Path) -> None:
    def line_of(
        max_age: int | None = 7200, cluster: str = CLUSTER, store: DirectoryStore | None = None
    ) -> tuple[bool, str]:
        state = report(evidence(installed()), now(7300))
        state["backups"] = backups_in(store or DirectoryStore(tmp_path), cluster, max_age, NOW)
        assert screen(state)[0].startswith("pachyderm")
        return state["backups"]["sound"], lines(state)["backups"]

    assert line_of() == (False, f"✗ there is no backup; 0 in {tmp_path}")
    store = DirectoryStore(tmp_path)
    old = put(store, dt.timedelta(hours=3), 1)
    assert line_of() == (False, f"✗ none of 1 backups is verified; 1 in {tmp_path}")
    verify(store, old)
    shown = f"1 in {tmp_path}, newest verified {old}, 3 h old"
    assert line_of() == (False, f"✗ the newest verified backup is 3 h old, 2 h are allowed; {shown}")
    assert line_of(None) == (True, f"✔ {shown}")
    stages = tuple(Stage(name) for name in STAGES)
    began = NOW - dt.timedelta(minutes=30)
    record_run(store, Run(CLUSTER, "pachyderm", began, began, (*stages[:2], Stage("prune", error="403")), old))
    assert line_of() == (True, f"✔ {shown}, nothing new 30 min ago"), "what has everything does not grow old"
    store.delete(run_key(CLUSTER, began))
    record_run(store, Run(CLUSTER, "pachyderm", began, began, (stages[0], Stage("verify", error="wrong")), old))
    store.write(run_key(CLUSTER, began + dt.timedelta(minutes=1)), [b"[]"])
    assert not line_of()[0], "nor does a run count that could not verify, or whose record is damaged"
    new = put(store, dt.timedelta(hours=1), 2)
    assert not line_of()[0], "a newer one that is not verified does not count"
    verify(store, new)
    assert line_of()[0]
    verify(store, new, "deep", passed=False, after=60)
    sound, text = line_of()
    assert not sound
    assert "1 FAILED their verification" in text
    assert line_of(cluster="") == (
        False,
        "✗ the cluster id is not known: neither pachd nor etcd could be asked for it",
    )


def test_without_a_store_backups_are_not_looked_at() -> None:
    state = report(evidence(installed()), now(7300))
    assert state["backups"] is None
    assert "backups" not in lines(state)


def test_what_restores_left_is_said() -> None:
    kube = installed()
    content = {"id": "20260303t000000-ab12", "state": "restored", "kept": ["20260301t000000-cd34"]}
    steps = [{"step": "exchange", "begun": "2026-03-03T00:00:01Z", "done": ""}]
    metadata = {"name": "pachops-restore", "namespace": NAMESPACE}

    def put(text: str) -> None:
        kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"journal": text}})

    put(json.dumps({**content, "steps": steps}))
    state = report(evidence(kube), now())
    assert state["restores"] == {
        "unfinished": "",
        "step": "",
        "set_aside": ["20260301t000000-cd34", "20260303t000000-ab12"],
        "since": "2026-03-01T00:00:00Z",
    }
    assert any("set aside by 2 restores since 2026-03-01T00:00:00Z" in line for line in screen(state))
    put(json.dumps({**content, "kept": [], "state": "running", "backup": "20260302T000000Z-r7", "steps": steps}))
    text = screen(report(evidence(kube), now()))
    assert any("✗ not finished: 20260302T000000Z-r7, at the step 'exchange'" in line for line in text)
    put("{")
    assert any("cannot be read" in line for line in screen(report(evidence(kube), now())))
