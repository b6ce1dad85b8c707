# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring: what is refused, what a failure leaves, and a program that dies at any point, continued or undone."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup import manifest as manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import OpenedSet
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import (
    BackupError,
    ClusterError,
    InputError,
    PachopsError,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import agent, engine, volumes
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.engine import Options, Restorer
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling, key_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import Access
from doubles import backups
from doubles.buckets import served
from doubles.mortal import Killed
from doubles.restoring import (
    NAMESPACE,
    OLD,
    DataEtcd,
    RestoringApi,
    RestoringKube,
    connect,
    etcds,
    genuine_set,
    snapshot_of,
)

PACHD = quiesce.pachd_ref(NAMESPACE)
ETCD = Ref("apps/v1", "StatefulSet", NAMESPACE, "etcd")
JOURNAL = Ref("v1", "ConfigMap", NAMESPACE, "pachops-restore")
MINE = OLD + backups.CLUSTER.encode()


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> OpenedSet:
    """A set of the genuine state, made by hand, with the counts that its etcd would tell."""
    return genuine_set(DirectoryStore(tmp_path_factory.mktemp("store"), private=True), objects())


@functools.lru_cache
def objects() -> dict[str, bytes]:
    return backups.real_objects()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All objects, for tests that leave them alone: where nothing is missing nothing is written."""
    directory = tmp_path_factory.mktemp("bucket")
    for name, data in objects().items():
        DirectoryStore(directory).write(name, [data])
    return directory


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "_PATIENCE", 0.5)
    monkeypatch.setattr(agent, "_etcdutl", lambda: "")


def installed(directory: Path, data: bytes = MINE, **options: Any) -> RestoringApi:
    api = RestoringApi(directory, **options)
    api.fill(data)
    return api


def restorer(api: RestoringApi, **options: Any) -> Restorer:
    kube = RestoringKube(api, patience=0.0)
    wanted = Options(**{"level": "used", **options})
    return Restorer(kube, NAMESPACE, wanted, etcds=etcds, connect=connect, settling=0.0)


def put_all(api: RestoringApi, bucket: Path) -> None:
    (api.directory / "host").mkdir()
    (api.directory / "host" / "pachd").symlink_to(bucket)


def content(backup: OpenedSet) -> bytes:
    return b"".join(backup.snapshot())


def check_runs(api: RestoringApi, data: bytes) -> None:
    """Everything runs on ``data``, and nothing is half."""
    assert api.data() == data
    assert api.stored(PACHD)["spec"]["replicas"] == 1
    assert quiesce.PAUSED_ANNOTATION not in api.stored(PACHD)["metadata"].get("annotations", {})
    assert api.stored(ETCD)["spec"]["replicas"] == 1
    assert [pod for pod in api.pods() if "pipeline" not in pod] == ["etcd-0", "pachd-0"]
    assert not [ref for ref in api.objects if ref.kind == "Lease"]


def test_it_restores_and_undoes_and_lets_go(tmp_path: Path, backup: OpenedSet) -> None:
    api = installed(tmp_path)
    outcome = restorer(api).restore(backup, "deep")

    assert (outcome.changed, outcome.continued, outcome.written) == (True, False, len(objects()))
    check_runs(api, content(backup))
    assert outcome.journal.state == "restored"
    assert all(step["done"] for step in outcome.journal.steps)

    assert restorer(api).undo().journal.state == "undone"
    check_runs(api, MINE)
    assert not restorer(api).undo().changed
    kept = restorer(api).journal()
    assert kept.set_aside == [outcome.journal.id]
    lines = restorer(api).plan(backup, "deep", None, kept).lines()
    assert [line for line in lines if "set aside there already" in line and outcome.journal.id in line]
    assert list(api.volume().glob("pachops-restore-*/undone/member")), "what was restored is kept until it is confirmed"

    assert restorer(api).confirm().changed
    assert not list(api.volume().glob("pachops-*"))
    check_runs(api, MINE)
    assert restorer(api).journal().set_aside == []
    assert not restorer(api).confirm().changed


def test_objects_are_there_before_pachd_starts_and_only_what_is_missing_is_written(
    tmp_path: Path, backup: OpenedSet
) -> None:
    api = installed(tmp_path)
    for name, data in objects().items():
        api.bucket.write(name, [data])
    lost, damaged, cut = [name for name in sorted(objects()) if name.startswith("block/")][:3]
    api.bucket.delete(lost)
    api.bucket.write(damaged, [bytes(len(objects()[damaged]))])
    api.bucket.write(cut, [objects()[cut][:-1]])
    api.bucket.write("block/of-a-later-commit", [b"new"])
    complete = []
    starts = api.on_start

    def on_start(pod: dict[str, Any]) -> None:
        if pod["metadata"]["name"].startswith("pachd"):
            complete.append({name: b"".join(api.bucket.read(name)) for name in objects()} == objects())
        starts(pod)

    api.on_start = on_start
    outcome = restorer(api).restore(backup)
    assert outcome.plan
    assert outcome.plan.survey
    assert {each.name for each in outcome.plan.survey.missing} == {lost, cut}
    assert outcome.written == 3
    assert complete == [True]
    assert b"".join(api.bucket.read("block/of-a-later-commit")) == b"new"


def test_a_plan_tells_everything_and_writes_nothing(tmp_path: Path, backup: OpenedSet) -> None:
    api = installed(tmp_path)
    before = json.dumps({str(ref): obj for ref, obj in api.objects.items()}, sort_keys=True)
    plan = restorer(api).plan(backup, "deep")
    assert json.dumps({str(ref): obj for ref, obj in api.objects.items()}, sort_keys=True) == before
    text = "\n".join(plan.lines())
    assert f"replaced: 5 keys at revision 7 of cluster {backups.CLUSTER}" in text
    assert f"objects put back from the backup: {len(objects())}" in text
    assert "paused" in text
    assert plan.as_dict()["problems"] == []


def steps(api: RestoringApi) -> list[str]:
    return [each["step"] for each in json.loads(api.stored(JOURNAL)["data"]["journal"])["steps"]]


@pytest.mark.parametrize("then", ["restored", "undone"])
def test_a_program_that_dies_at_any_point_is_continued_or_undone(
    tmp_path: Path, backup: OpenedSet, bucket: Path, then: str
) -> None:
    """Every write to the cluster is a point to die at, the journal's own among them."""
    died_in = set()
    for point in range(200):
        api = installed(tmp_path / str(point))
        put_all(api, bucket)
        api.die_at = point
        try:
            restorer(api).restore(backup)
        except Killed:
            pass
        else:
            break
        died_in.update(steps(api)[-1:] if JOURNAL in api.objects else [])
        api.revive()
        if then == "restored":
            restorer(api).restore(backup)
            check_runs(api, content(backup))
        else:
            restorer(api).undo()
            check_runs(api, MINE)
    assert point > 20
    assert died_in >= {"pause", "stop etcd", "receive", "make", "exchange", "start etcd", "resume", "ask pachd"}


def test_an_undo_that_dies_at_any_point_is_finished_by_the_next(
    tmp_path: Path, backup: OpenedSet, bucket: Path
) -> None:
    for point in range(100):
        api = installed(tmp_path / str(point))
        put_all(api, bucket)
        restorer(api).restore(backup)
        api.die_at, api.count = point, 0
        try:
            restorer(api).undo()
        except Killed:
            pass
        else:
            break
        api.revive()
        restorer(api).undo()
        check_runs(api, MINE)
    assert point > 10


def test_what_an_other_restore_left_unfinished_is_not_covered_up(
    tmp_path: Path, backup: OpenedSet, bucket: Path
) -> None:
    api = installed(tmp_path)
    put_all(api, bucket)
    api.die_at = 20
    with pytest.raises(Killed):
        restorer(api).restore(backup)
    api.revive()
    journal = json.loads(api.stored(JOURNAL)["data"]["journal"])
    api.stored(JOURNAL)["data"]["journal"] = json.dumps({**journal, "backup": "20200101T000000Z-r1"})
    with pytest.raises(InputError, match="a restore of 20200101T000000Z-r1 died at the step"):
        restorer(api).restore(backup)
    with pytest.raises(InputError, match="not finished cannot be confirmed"):
        restorer(api).confirm()


FAILURES: dict[str, Callable[[pytest.MonkeyPatch, RestoringApi], None]] = {}
#: Found while everything runs on.
EARLY = ("pods_that_do_not_start", "no_tool_in_the_image", "a_damaged_transfer")


def failure(function: Callable[[pytest.MonkeyPatch, RestoringApi], None]) -> None:
    FAILURES[function.__name__] = function


@failure
def pods_that_do_not_start(monkeypatch: pytest.MonkeyPatch, api: RestoringApi) -> None:
    def refuse(*_arguments: Any) -> None:
        raise ClusterError("the pod cannot start", why="ImagePullBackOff")

    real = volumes.wait_for
    monkeypatch.setattr(volumes, "wait_for", refuse)
    monkeypatch.setattr(engine.Restorer, "_fail", undoing(monkeypatch, "wait_for", real))


@failure
def no_tool_in_the_image(_monkeypatch: pytest.MonkeyPatch, api: RestoringApi) -> None:
    api.refusing_tools = {"etcdutl", "etcdctl"}


@failure
def another_hash(monkeypatch: pytest.MonkeyPatch, _api: RestoringApi) -> None:
    monkeypatch.setattr(DataEtcd, "count", lambda *_arguments: 3)


@failure
def a_pachd_that_serves_something_else(monkeypatch: pytest.MonkeyPatch, _api: RestoringApi) -> None:
    monkeypatch.setattr("doubles.mortal.StatePachd.get_file", lambda *_arguments: iter([b"other"]))


@failure
def a_damaged_transfer(monkeypatch: pytest.MonkeyPatch, _api: RestoringApi) -> None:
    real = OpenedSet.stored

    def damaged(self: OpenedSet, entry: Any) -> Any:
        for chunk in real(self, entry):
            yield chunk[:-1000] if entry.name == manifests.SNAPSHOT else chunk

    monkeypatch.setattr(OpenedSet, "stored", damaged)


def undoing(monkeypatch: pytest.MonkeyPatch, name: str, real: Any) -> Any:
    """Return ``_fail`` that takes the cause away first: what failed once need not fail the way back."""
    fail = engine.Restorer._fail

    def mended(self: Restorer, error: PachopsError, recorder: Any) -> None:
        monkeypatch.setattr(volumes, name, real)
        fail(self, error, recorder)

    return mended


@pytest.mark.parametrize("cause", sorted(FAILURES))
def test_any_failure_puts_the_old_state_back(
    cause: str, tmp_path: Path, backup: OpenedSet, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = installed(tmp_path)
    put_all(api, bucket)
    FAILURES[cause](monkeypatch, api)
    api.started.clear()
    told = "Nothing was paused" if cause in EARLY else "The old state is back and runs"
    with pytest.raises(PachopsError, match=told):
        restorer(api).restore(backup)
    check_runs(api, MINE)
    assert ({"etcd-0", "pachd-0"} <= set(api.started)) == (cause not in EARLY)
    journal = json.loads(api.stored(JOURNAL)["data"]["journal"])
    assert (journal["state"], bool(journal["reason"])) == ("undone", True)


def test_not_enough_space_is_found_before_anything_is_exchanged(
    tmp_path: Path, backup: OpenedSet, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = installed(tmp_path)
    put_all(api, bucket)
    monkeypatch.setattr("ansible_collections.pachops.pachyderm.plugins.module_utils.restore.agent._RESERVE", 1 << 60)
    api.started.clear()
    with pytest.raises(BackupError, match=r"not enough space on the volume: .*Nothing was paused"):
        restorer(api).restore(backup)
    check_runs(api, MINE)
    assert api.started == ["etcd-0-restore", "etcd-0-restore"], "something was stopped"
    assert not list(api.volume().glob("pachops-*"))


def test_objects_that_vanish_meanwhile_bring_the_old_state_back(tmp_path: Path, backup: OpenedSet) -> None:
    api = installed(tmp_path)
    lost = next(name for name in sorted(objects()) if name.startswith("block/"))
    stops = api.on_stop

    def on_stop(pod: dict[str, Any]) -> None:
        if pod["metadata"]["name"].startswith("pachd"):
            api.bucket.delete(lost)
        stops(pod)

    api.on_stop = on_stop
    told = rf"objects vanished from the bucket .*{lost} for one.*The old state is back"
    with pytest.raises(BackupError, match=told):
        restorer(api).restore(backup)
    check_runs(api, MINE)


def test_another_clusters_backup_needs_the_name(tmp_path: Path, backup: OpenedSet) -> None:
    api = installed(tmp_path, OLD + b"ffffffffffffffffffffffffffffffff")
    with pytest.raises(InputError, match=r"the backup is of cluster .* set confirm to ffff.* or pachyderm"):
        restorer(api).restore(backup)
    check_runs(api, OLD + b"ffffffffffffffffffffffffffffffff")
    assert JOURNAL not in api.objects
    restorer(api, confirm=NAMESPACE).restore(backup)
    check_runs(api, content(backup))


def test_another_minor_version_and_an_older_etcd_are_refused_together(tmp_path: Path, backup: OpenedSet) -> None:
    other = dataclasses.replace(
        backup.manifest,
        source=dataclasses.replace(backup.manifest.source, pachyderm_version="1.12.5"),
        etcd=dataclasses.replace(backup.manifest.etcd, version="3.6.5"),
    )
    api = installed(tmp_path)
    with pytest.raises(InputError, match=r"Pachyderm 1\.12\.5, and 1\.13\.4 is deployed.*etcd 3\.5\.21 does not read"):
        restorer(api).restore(OpenedSet(backup.store, other))


@pytest.mark.parametrize("state", [MINE, b"empty"])
def test_a_differently_spelled_bucket_is_refused(tmp_path: Path, backup: OpenedSet, state: bytes) -> None:
    api = RestoringApi(tmp_path, backend="aws")
    secret = {"amazon-bucket": "bucket", "amazon-region": "eu-central-1"}
    api.keep_secret(secret)
    api.fill(state)
    api.started.clear()
    with served() as bucket:
        bucket.page = 1000
        bucket.objects |= {key_of(name, Spelling.REVERSED): data for name, data in objects().items()}
        before = dict(bucket.objects)
        access = Access(endpoint=bucket.url, access_key="k", secret_key="s")
        with pytest.raises(InputError, match=r"keys spelled 'plain', and there are \d+ spelled 'reversed'"):
            restorer(api, access=access).restore(backup)
        assert bucket.objects == before
    assert api.data() == state
    assert api.started == [], "something was started on it"
    assert JOURNAL not in api.objects


def test_an_empty_installation_that_never_started_gets_state_and_identity(tmp_path: Path, backup: OpenedSet) -> None:
    api = installed(tmp_path, b"empty")
    kube = RestoringKube(api, patience=0.0)
    quiesce.pause(kube, NAMESPACE, quiesce.DEPLOYED)
    source = dataclasses.replace(backup.manifest.source, cluster_deployment_id="users-remember-this")
    api.started.clear()
    restorer(api).restore(OpenedSet(backup.store, dataclasses.replace(backup.manifest, source=source)))
    check_runs(api, content(backup))
    assert api.started.count("pachd-0") == 1
    record = api.stored(Ref("v1", "ConfigMap", NAMESPACE, "pachops-installation"))
    assert record["data"]["cluster-deployment-id"] == "users-remember-this"

    restorer(api).undo()
    assert api.data() == b"empty"
    assert quiesce.paused(kube, NAMESPACE) == quiesce.Paused("deploy", 1, {"pipeline-edges-v1": 1})
    assert record["data"]["cluster-deployment-id"] != "users-remember-this" or (
        api.stored(Ref("v1", "ConfigMap", NAMESPACE, "pachops-installation"))["data"]["cluster-deployment-id"]
        == "d3pl0y"
    )


def test_an_empty_installation_on_anothers_bucket_is_refused(tmp_path: Path, backup: OpenedSet) -> None:
    api = installed(tmp_path, b"empty")
    api.bucket.write("block/somebodys", [b"data"])
    with pytest.raises(InputError, match="two installations on one bucket destroy each other's objects"):
        restorer(api).restore(backup)


def test_corrupt_data_of_the_same_installation_needs_no_confirmation(
    tmp_path: Path, backup: OpenedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = installed(tmp_path, b"corrupt", images={"etcd": "docker.io/pachyderm/etcd:v3.5.21"})
    source = dataclasses.replace(backup.manifest.source, cluster_deployment_id="d3pl0y")
    outcome = restorer(api).restore(OpenedSet(backup.store, dataclasses.replace(backup.manifest, source=source)))
    assert outcome.plan
    assert "cannot be asked" in "\n".join(outcome.plan.lines())
    check_runs(api, content(backup))

    # pachd was ready on it, but cannot become so again.
    awaited: list[bool] = []
    real = quiesce.resume

    def resume(*arguments: Any, wait: bool, **options: Any) -> Any:
        awaited.append(wait)
        return real(*arguments, wait=wait, **options)

    monkeypatch.setattr(quiesce, "resume", resume)
    assert restorer(api).undo().journal.state == "undone"
    assert awaited == [False]
    assert api.data() == b"corrupt"


def test_three_members_are_made_of_one_file(tmp_path: Path, backup: OpenedSet, bucket: Path) -> None:
    api = RestoringApi(tmp_path, etcd_members=3)
    put_all(api, bucket)
    restorer(api).restore(backup)
    for member in ("etcd-0", "etcd-1", "etcd-2"):
        assert api.data(member) == content(backup)
    restorer(api).undo()
    assert [api.data(f"etcd-{number}") for number in range(3)] == [b"empty"] * 3


@pytest.mark.parametrize(("version", "pods"), [("3.5.99", 0), ("3.6.1", 1)])
def test_the_pods_own_image_makes_the_data_where_it_has_the_tool_of_that_release(
    tmp_path: Path, backup: OpenedSet, bucket: Path, monkeypatch: pytest.MonkeyPatch, version: str, pods: int
) -> None:
    api = installed(tmp_path, images={"etcd": "registry.example:5000/etcd:v3.5.21"})
    put_all(api, bucket)

    def run(command: list[str]) -> Any:
        api.make(command)
        return subprocess.CompletedProcess(command, 0, "")

    monkeypatch.setattr(agent, "_etcdutl", lambda: version)
    monkeypatch.setattr(agent, "_run", run)
    restorer(api).restore(backup)
    check_runs(api, content(backup))
    assert api.started.count("etcd-0-restore-data") == pods


def test_pods_that_end_while_objects_are_put_back_are_made_again(tmp_path: Path, backup: OpenedSet) -> None:
    api = installed(tmp_path)
    put_back = engine.put.put_back

    def long(*arguments: Any, **options: Any) -> Any:
        api.stored(Ref("v1", "Pod", NAMESPACE, "etcd-0-restore"))["status"] = {"phase": "Failed"}
        return put_back(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.put, "put_back", long)
        restorer(api).restore(backup)
    check_runs(api, content(backup))
    assert api.started.count("etcd-0-restore") == 2


def test_two_at_once(tmp_path: Path, backup: OpenedSet) -> None:
    from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.lock import Lock

    api = installed(tmp_path)
    with (
        Lock(RestoringKube(api, patience=0.0), NAMESPACE, "backup"),
        pytest.raises(BackupError, match="holds the installation's lock"),
    ):
        restorer(api).restore(backup)
    check_runs(api, MINE)


def test_a_damaged_backup_touches_nothing(tmp_path: Path, backup: OpenedSet) -> None:
    store = DirectoryStore(tmp_path / "copy", private=True)
    for each in backup.store.list():
        store.write(each.key, backup.store.read(each.key))
    block = next(name for name in sorted(objects()) if name.startswith("block/"))
    store.write(f"{backups.CLUSTER}/objects/{block}", [bytes(len(objects()[block]))])
    api = installed(tmp_path)
    with pytest.raises(BackupError, match="the backup is damaged and is not restored"):
        restorer(api, level="digest").restore(OpenedSet(store, backup.manifest))
    check_runs(api, MINE)
    assert snapshot_of(content(backup)).revision == backup.manifest.etcd.revision
    assert dt.datetime.now(dt.timezone.utc) > backup.manifest.taken
