# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup by a Job, as far as no cluster is needed: what is handed over, what is said, what is left behind."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import job
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Wishes
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError, InputError, WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.runner import RUNNER_ARGUMENT_SPEC
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from doubles.kube import FakeKube

ROOT = Path(__file__).resolve().parents[4]
RUNNER = {name: option["default"] for name, option in RUNNER_ARGUMENT_SPEC.items()}


class Cluster(FakeKube):
    """A cluster whose controllers do nothing; what is applied is kept, with a uid."""

    applied: list[Any]

    def apply(self, obj: Any, dry_run: bool = False, *, force: Any = False) -> Any:
        del dry_run, force
        self._allowed("create", obj["kind"])
        stored = self.put(obj)
        stored["metadata"]["uid"] = f"uid of {obj['kind']}"
        self.applied.append(obj)

    def merge(self, ref: Ref, patch: Any) -> None:
        self.objects[ref]["metadata"] |= patch["metadata"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    made.applied = []
    monkeypatch.setattr(job, "_POLL", 0.01)

    def ended(kube: Cluster, ref: Ref, _timeout: float, _progress: Progress) -> None:
        labels = {"job-name": ref.name}
        status = {"containerStatuses": [{"name": "backup", "state": {"terminated": made.end}}]}
        metadata = {"name": "pod", "namespace": ref.namespace, "labels": labels}
        kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status})
        if made.trouble:
            raise WaitError("the job failed", where=str(ref), why=made.trouble)

    made.trouble, made.end = "", {"reason": "Completed", "exitCode": 0}  # type: ignore[attr-defined]
    monkeypatch.setattr(job, "wait_for", ended)
    return made


def params(**changes: Any) -> dict[str, Any]:
    given = {"namespace": "n", "store": "s3://b/p", "source_path": "", "if_changed": False, "lock_wait": 0}
    given |= {"store_access": {"secret_key": "s3cret"}, "source_access": {}, "etcd": {}}
    return {**given, "job": {**RUNNER, **changes.pop("runner", {})}, **changes}


def said(*lines: Any) -> str:
    return "some words\n" + "".join(json.dumps(line) + "\n" for line in lines)


def test_the_jobs_result_and_progress_come_back_and_nothing_stays(cluster: Cluster, tmp_path: Path) -> None:
    events = [{"time": 1.5, "stage": "publish", "done": 1.0}]
    cluster.logged["pod"] = said(*events, *events, {"result": {"changed": True}})
    authority = tmp_path / "ca.pem"
    authority.write_text("an authority")
    told: list[Any] = []
    given = params(store_access={"secret_key": "s3cret", "ca_file": str(authority)})
    wishes = Wishes(identities=["AGE-SECRET-KEY-1"])
    result = job.run_job(given, cluster, wishes, Progress(say=told.append))  # type: ignore[arg-type]
    assert result == {"changed": True}
    assert [each for each in told if each.get("stage") == "publish"] == events, "each event once"
    kinds = [each["kind"] for each in cluster.applied]
    assert kinds == ["ServiceAccount", "Role", "RoleBinding", "Job", "Secret"], "the Secret never without its Job"
    secret = cluster.applied[-1]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid of Job"
    config = json.loads(base64.b64decode(secret["data"]["backup.json"]))
    assert config["store_access"]["ca_file"] == "/etc/pachops/store_access.ca_file"
    assert base64.b64decode(secret["data"]["store_access.ca_file"]) == b"an authority"
    assert config["identities"] == ["AGE-SECRET-KEY-1"]
    others = json.dumps(cluster.applied[:-1])
    assert "s3cret" not in others
    assert "AGE-SECRET" not in others
    spec = cluster.applied[3]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 21600)
    assert spec["ttlSecondsAfterFinished"] > 0
    assert {ref.kind for ref in cluster.objects} == {"Pod"}


@pytest.mark.parametrize(
    ("logged", "trouble", "end", "words"),
    [
        (said({"error": {"what": "etcd is away", "why": "w", "where": "e", "fix": "f"}}), "x", {}, "etcd is away"),
        ("", "BackoffLimitExceeded: …", {"reason": "OOMKilled", "exitCode": 137}, "Raise the memory"),
        ("", "DeadlineExceeded: …", {}, "Raise the option timeout"),
        (said(), "", {"reason": "Completed", "exitCode": 0}, "its log says no result"),
    ],
)
def test_an_end_without_result_is_explained(
    cluster: Cluster, logged: str, trouble: str, end: dict[str, Any], words: str
) -> None:
    cluster.logged["pod"] = logged
    cluster.trouble, cluster.end = trouble, end  # type: ignore[attr-defined]
    with pytest.raises(BackupError, match=words):
        job.run_job(params(), cluster, Wishes(), Progress(""))  # type: ignore[arg-type]
    assert {ref.kind for ref in cluster.objects} == {"Pod"}


def test_what_was_begun_is_undone_where_a_right_is_missing(cluster: Cluster) -> None:
    cluster.forbidden = {"RoleBinding"}
    with pytest.raises(Exception, match="not allowed to create RoleBinding"):
        job.run_job(params(), cluster, Wishes(), Progress(""))  # type: ignore[arg-type]
    assert not cluster.objects


def test_a_service_account_of_the_users_is_left_alone(cluster: Cluster) -> None:
    cluster.logged["pod"] = said({"result": {}})
    job.run_job(params(runner={"service_account": "mine"}), cluster, Wishes(), Progress(""))  # type: ignore[arg-type]
    assert [each["kind"] for each in cluster.applied] == ["Job", "Secret"]
    assert cluster.applied[0]["spec"]["template"]["spec"]["serviceAccountName"] == "mine"


def test_orphans_go_and_the_young_stay(cluster: Cluster) -> None:
    for name, made, owners in (
        ("old", "2020-01-01T00:00:00Z", []),
        ("young", "2999-01-01T00:00:00Z", []),
        ("owned", "2020-01-01T00:00:00Z", [{"uid": "x"}]),
    ):
        labels = {job.PURPOSE: "backup-job"}
        metadata = {"name": name, "namespace": "n", "labels": labels, "creationTimestamp": made}
        metadata |= {"ownerReferences": owners}
        cluster.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    cluster.logged["pod"] = said({"result": {}})
    job.run_job(params(), cluster, Wishes(), Progress(""))  # type: ignore[arg-type]
    assert {ref.name for ref in cluster.objects if ref.kind == "ServiceAccount"} == {"young", "owned"}


def test_a_directory_has_to_be_mounted() -> None:
    mounted = {"volume_mounts": [{"name": "b", "mountPath": "/backups"}]}
    job.refuse(params(store="/backups/store", runner=mounted))
    for changes in ({"store": "/backup"}, {"store": "/backupsx", "runner": mounted}, {"source_path": "/objects"}):
        with pytest.raises(InputError, match="the Job has no directory"):
            job.refuse(params(**changes))


def test_it_may_do_what_a_scheduled_backup_may_but_forward_ports_and_tell_events() -> None:
    scheduled = yaml.safe_load((ROOT / "roles/backup_schedule/vars/main.yml").read_text())["__backup_schedule_rules"]
    assert list(job.rules("pachyderm-storage-secret")) == [
        rule for rule in scheduled if rule["resources"] not in (["pods/portforward"], ["events"])
    ]
