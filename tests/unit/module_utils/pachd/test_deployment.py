# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploying: order, the id that never changes, refusals before the first write, and what is taken away."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import deployment, manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings
from doubles.applying import ApplyingKube
from doubles.kube import installation

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": manifests.STORAGE_SECRET, "namespace": "pachyderm", "labels": {"suite": "pachyderm"}},
    "data": {},
}
RECORD = Ref("v1", "ConfigMap", "pachyderm", "pachops-installation")
ETCD = Ref("apps/v1", "StatefulSet", "pachyderm", "etcd")
PACHD = Ref("apps/v1", "Deployment", "pachyderm", "pachd")


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let every wait end at once, and return what was waited for."""
    seen: list[Any] = []
    monkeypatch.setattr(deployment, "wait_for", lambda _kube, ref, _timeout, _progress: seen.append(ref))
    monkeypatch.setattr(deployment, "wait_gone", lambda _kube, ref, _timeout: seen.append(("gone", ref)))
    return seen


def deploy(kube: ApplyingKube, options: dict[str, Any] | None = None, **arguments: Any) -> deployment.Outcome:
    outcome: deployment.Outcome = deployment.deploy(kube, Settings.parse(options or {}), **arguments)
    return outcome


def bare() -> ApplyingKube:
    return ApplyingKube([SECRET])


def deployed(**options: Any) -> ApplyingKube:
    kube = ApplyingKube(installation(**options))
    kube.objects[Ref.of(SECRET)] = copy.deepcopy(SECRET)
    return kube


def test_etcd_is_ready_before_pachd_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = bare()
    order: list[Ref] = kube.applied
    monkeypatch.setattr(deployment, "wait_for", lambda _kube, ref, _timeout, _progress: order.append(("ready", ref)))
    deploy(kube)
    assert order.index(("ready", ETCD)) < order.index(PACHD)
    assert order.index(Ref("v1", "Service", "pachyderm", "etcd")) < order.index(ETCD)
    assert order[0] == Ref("v1", "Namespace", None, "pachyderm")
    assert order[-1] == ("ready", PACHD)


def test_an_etcd_that_does_not_become_ready_keeps_pachd_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_kube: object, ref: Ref, _timeout: float, _progress: object) -> None:
        raise WaitError("is not ready", where=str(ref), why="the image cannot be pulled")

    monkeypatch.setattr(deployment, "wait_for", refuse)
    kube = bare()
    with pytest.raises(WaitError, match="cannot be pulled"):
        deploy(kube)
    assert PACHD not in kube.objects


def test_what_the_bucket_lacks_is_said_where_pachd_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_kube: object, ref: Ref, _timeout: float, _progress: object) -> None:
        if ref == PACHD:
            why = "Error, exit code 1\nlast lines of pachd:\n  unable to read from object storage: AccessDenied: Access Denied"
            raise WaitError("the container pachd crashes again and again", why=why, fix="Read the lines above.")

    monkeypatch.setattr(deployment, "wait_for", refuse)
    with pytest.raises(WaitError, match="Grant the identity that pachd uses s3:GetObject on the bucket") as caught:
        deploy(bare(), {"backend": "aws"})
    assert "Read the lines above" not in str(caught.value)


def test_cluster_deployment_id_is_generated_once_recorded_and_kept() -> None:
    kube = bare()
    first = deploy(kube)
    assert first.id_origin == "generated"
    assert len(first.cluster_deployment_id) == 32
    assert kube.objects[RECORD]["data"]["cluster-deployment-id"] == first.cluster_deployment_id
    second = deploy(kube)
    assert second.id_origin == "recorded"
    assert second.cluster_deployment_id == first.cluster_deployment_id
    assert not second.changed


def test_cluster_deployment_id_is_read_from_pachd_where_the_record_is_lost() -> None:
    kube = deployed()
    del kube.objects[RECORD]
    outcome = deploy(kube)
    assert outcome.cluster_deployment_id == "d3pl0y"
    assert kube.objects[RECORD]["data"]["cluster-deployment-id"] == "d3pl0y"


def test_cluster_deployment_id_that_is_given_wins_and_warns() -> None:
    kube = deployed()
    outcome = deploy(kube, {"cluster_deployment_id": "other"})
    assert outcome.cluster_deployment_id == "other"
    assert outcome.id_origin == "given"
    assert "d3pl0y" in outcome.warnings[0]
    assert "remove-cluster-deployment-id" in outcome.warnings[0]
    assert not deploy(kube, {"cluster_deployment_id": "other"}).warnings


def test_check_mode_writes_nothing_and_tells_the_same_changes() -> None:
    kube = bare()
    predicted = deploy(kube, check_mode=True)
    assert kube.writes == []
    assert predicted.cluster_deployment_id == deployment.UNDRAWN_ID
    real = deploy(kube)
    assert [(change.ref, change.action) for change in predicted.changes] == [
        (change.ref, change.action) for change in real.changes
    ]


def test_check_mode_needs_no_secret_and_a_real_run_does() -> None:
    assert deploy(ApplyingKube(), check_mode=True).changed
    kube = ApplyingKube()
    with pytest.raises(InputError, match="storage secret does not exist"):
        deploy(kube)
    assert kube.writes == []


def test_checksum_of_the_secret_is_in_pachds_template() -> None:
    kube = bare()
    deploy(kube)
    annotations = kube.objects[PACHD]["spec"]["template"]["metadata"]["annotations"]
    before = annotations[manifests.SECRET_CHECKSUM_ANNOTATION]
    kube.objects[Ref.of(SECRET)]["data"] = {"amazon-region": "ZXUtd2VzdC0x"}
    changed = [change.ref for change in deploy(kube).changes if change.changed]
    assert changed == [PACHD]
    annotations = kube.objects[PACHD]["spec"]["template"]["metadata"]["annotations"]
    assert annotations[manifests.SECRET_CHECKSUM_ANNOTATION] != before
    assert [change for change in deploy(kube, checksum="given").changes if change.changed]


def test_somebody_elses_pachyderm_is_refused_before_anything_is_written() -> None:
    kube = deployed()
    for ref in (PACHD, ETCD):
        del kube.objects[ref]["metadata"]["labels"][manifests.MANAGED_BY]
    with pytest.raises(InputError) as caught:
        deploy(kube)
    assert "Deployment pachyderm/pachd" in caught.value.why
    assert "pachyderm_adopt" in caught.value.fix
    assert kube.writes == []


def test_an_object_of_our_name_that_is_not_ours_is_refused() -> None:
    role = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "pachyderm", "namespace": "pachyderm"}}
    kube = ApplyingKube([SECRET, role])
    with pytest.raises(InputError, match="ServiceAccount pachyderm/pachyderm"):
        deploy(kube)
    assert kube.writes == []


def test_adopting_takes_over_a_stateful_set_without_its_pods(waits: list[Any]) -> None:
    kube = deployed()
    del kube.objects[ETCD]["metadata"]["labels"][manifests.MANAGED_BY]
    deploy(kube, adopt=True)
    assert kube.writes.index("delete StatefulSet/etcd") < kube.writes.index("apply StatefulSet/etcd")
    assert kube.objects[ETCD]["metadata"]["labels"][manifests.MANAGED_BY] == manifests.MANAGER
    assert waits


def test_adopting_ends_pachctls_etcd_before_another_opens_its_directory(waits: list[Any]) -> None:
    kube = deployed()
    live = kube.objects.pop(ETCD)
    live["kind"] = "Deployment"
    for obj in (live, kube.objects[PACHD]):
        obj["metadata"]["labels"].pop(manifests.MANAGED_BY)
    del kube.objects[RECORD]
    kube.put(live)
    deploy(kube, adopt=True)
    old = Ref("apps/v1", "Deployment", "pachyderm", "etcd")
    assert old not in kube.objects
    assert waits.index(("gone", PACHD)) < waits.index(("gone", old)) < waits.index(ETCD)
    # The id was read before the pachd that knew it went.
    assert kube.objects[RECORD]["data"]["cluster-deployment-id"] == "d3pl0y"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"etcd_members": 3}, ["number of members was 1 and would become 3"]),
        ({}, {"host_path": "/data/elsewhere"}, ["host-path", "/data/elsewhere/etcd"]),
        ({}, {"backend": "aws"}, ["backend was local and would become aws"]),
        (
            {"images": {"etcd": "docker.io/pachyderm/etcd:v3.5.35"}},
            {"images": {"etcd": "docker.io/pachyderm/etcd:v3.3.5"}},
            ["v3.5.35", "cannot read newer data"],
        ),
        ({}, {"etcd_storage": {"type": "claim"}}, ["volume was the node's directory", "a claim per member"]),
        (
            {"backend": "gcp"},
            {"backend": "gcp", "etcd_storage": {"size": "20Gi", "storage_class": "fast"}},
            ["volume size was 10Gi and would become 20Gi", "storage class was the cluster's default"],
        ),
    ],
)
def test_settings_that_would_leave_data_behind_are_refused(
    before: dict[str, Any], after: dict[str, Any], words: list[str]
) -> None:
    kube = deployed(**before)
    with pytest.raises(InputError) as caught:
        deploy(kube, after)
    for word in words:
        assert word in caught.value.why
    assert kube.writes == []


def test_a_claim_that_pachctl_made_by_hand_is_told_from_ours() -> None:
    kube = deployed(backend="gcp")
    spec = kube.objects[ETCD]["spec"]
    spec.pop("volumeClaimTemplates")
    spec["template"]["spec"]["volumes"] = [
        {"name": "etcd-storage", "persistentVolumeClaim": {"claimName": "etcd-storage"}}
    ]
    with pytest.raises(InputError, match="the claim etcd-storage"):
        deploy(kube, {"backend": "gcp"}, adopt=True)


def test_what_was_switched_off_is_deleted_and_only_then() -> None:
    kube = deployed(dash=True, cluster_roles=True)
    outcome = deploy(kube, {"dash": True, "cluster_roles": True})
    assert not [change for change in outcome.changes if change.action == "deleted"]
    predicted = deploy(kube, check_mode=True)
    outcome = deploy(kube)
    deleted = [str(change.ref) for change in outcome.changes if change.action == "deleted"]
    assert deleted == [
        "ClusterRole pachyderm-pachyderm",
        "ClusterRoleBinding pachyderm-pachyderm",
        "Service pachyderm/dash",
        "Deployment pachyderm/dash",
    ]
    assert [str(change.ref) for change in predicted.changes if change.action == "deleted"] == deleted


def test_who_may_not_read_cluster_roles_is_not_stopped_by_it() -> None:
    kube = deployed()
    kube.denied = {("get", "clusterroles"), ("get", "clusterrolebindings")}
    kube.forbidden = {"ClusterRole", "ClusterRoleBinding"}
    assert not [change for change in deploy(kube).changes if change.action == "deleted"]


def test_a_single_component_prunes_nothing() -> None:
    kube = deployed(dash=True)
    outcome = deploy(kube, components=["etcd"])
    assert {change.ref.name for change in outcome.changes} <= {"etcd", "etcd-headless"}
    assert Ref("apps/v1", "Deployment", "pachyderm", "dash") in kube.objects


def test_somebody_elses_dash_is_left_alone() -> None:
    kube = deployed()
    dash = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dash", "namespace": "pachyderm"}}
    kube.put(dash)
    deploy(kube)
    assert Ref.of(dash) in kube.objects


def test_a_strategy_that_somebody_edited_goes_back() -> None:
    kube = deployed()
    deploy(kube)
    kube.writes.clear()
    kube.objects[PACHD]["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    predicted = deploy(kube, check_mode=True)
    assert kube.writes == []
    done = deploy(kube)
    assert kube.objects[PACHD]["spec"]["strategy"] == {"type": "Recreate"}
    for outcome in (predicted, done):
        assert [change.ref for change in outcome.changes if change.changed] == [PACHD]
    assert kube.writes.index("merge Deployment/pachd") < kube.writes.index("apply Deployment/pachd")
    assert not deploy(kube).changed


def test_two_installations_do_not_see_each_other() -> None:
    kube = ApplyingKube([SECRET, {**SECRET, "metadata": {**SECRET["metadata"], "namespace": "two"}}])
    deploy(kube, {"cluster_roles": True})
    before = copy.deepcopy(kube.objects)
    deploy(kube, {"namespace": "two", "cluster_roles": True})
    assert {ref: obj for ref, obj in kube.objects.items() if ref in before} == before
    assert not deploy(kube, {"cluster_roles": True}).changed


def test_seconds_are_told_per_component() -> None:
    assert list(deploy(bare()).seconds) == ["base", "etcd", "pachd", "dash"]


def test_pachd_can_be_deployed_without_being_started_and_started_later() -> None:
    kube = bare()
    outcome = deploy(kube, paused=True)
    assert outcome.paused
    assert kube.objects[PACHD]["spec"]["replicas"] == 0
    assert quiesce.paused(kube, "pachyderm") == quiesce.Paused("deploy")
    assert not any(change.changed for change in deploy(kube, paused=True).changes)
    assert not deploy(kube).paused
    assert kube.objects[PACHD]["spec"]["replicas"] == 1
    assert quiesce.paused(kube, "pachyderm") is None


def test_who_deploys_while_another_operation_has_paused_it_does_not_start_pachd() -> None:
    kube = deployed()
    pause = quiesce.Paused("restore", 1, {"pipeline-edges-v1": 3})
    kube.merge(PACHD, {"metadata": {"annotations": {quiesce.PAUSED_ANNOTATION: pause.annotation()}}})
    outcome = deploy(kube)
    assert outcome.paused
    assert "restore has paused this installation" in outcome.warnings[0]
    assert kube.objects[PACHD]["spec"]["replicas"] == 0
    assert quiesce.paused(kube, "pachyderm") == pause


def test_an_installation_whose_restore_died_is_not_deployed() -> None:
    kube = deployed()
    journal = {
        "id": "20260102t000000-ab12",
        "backup": "20260101T000000Z-r1",
        "state": "running",
        "steps": [{"step": "exchange"}],
    }
    name = {"name": "pachops-restore", "namespace": "pachyderm"}
    kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"journal": json.dumps(journal)}})
    with pytest.raises(InputError, match=r"running at the step 'exchange'.*undo"):
        deploy(kube)
    assert kube.writes == []
