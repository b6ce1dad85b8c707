# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearsals: everything that is made goes again, nothing of anybody else's is touched, and a record is left."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.rehearsals import Rehearsal, newest, record
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import KeyPlan
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate import sides
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.engine import Options as MigrateOptions
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.engine import Outcome as Migrated
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.engine import Plan, Side
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.objects import ObjectPlan
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import deployment
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.durable import Kind
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import rehearsal
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.engine import Options, Outcome
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.journal import Journal
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.rehearsal import (
    MARKER,
    Wish,
    rehearse,
    rehearse_migration,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.status import screen
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.modules import pachyderm_rehearse
from doubles import backups
from doubles.applying import ApplyingKube
from doubles.kube import installation

NAMESPACE = Ref("v1", "Namespace", None, "rehearsal")
ID = "20260304T110000Z-r100"


class Opened:
    """A backup as far as a rehearsal asks for it."""

    where = "/backups"

    def __init__(self, **changes: Any) -> None:
        self.manifest = backups.manifest(ID, **changes)

    def cluster(self) -> dict[str, Any]:
        return {"settings": {"images": {"pachd": "example.com/pachd:1.13.4", "etcd": "example.com/etcd:v3.5.35"}}}


class Migrators:
    """Copies nothing, and remembers what was there when it was asked to."""

    def __init__(self, kube: ApplyingKube, error: Exception | None = None, **changes: Any) -> None:
        self.kube = kube
        self.error = error
        kinds = {Kind.STATE: 7}
        self.plan = Plan(
            "old (aws: aws:acme)",
            "rehearsal",
            backups.CLUSTER,
            KeyPlan(9, kinds, 700),
            ObjectPlan(5, 500, 5, 500, 0, 0, 0),
        )
        self.plan = dataclasses.replace(self.plan, **changes)
        self.there: set[str] = set()

    def __call__(self, _source: Side, target: Side, _options: Any, _progress: Any = None, **_more: Any) -> Migrators:
        self.target = target
        return self

    def measure(self) -> Plan:
        return self.plan

    def rehearse(self, stage: Any) -> Migrated:
        with stage("metadata"):
            self.there = {f"{ref.kind}/{ref.name}" for ref in self.kube.objects}
            assert Path(self.target.path).is_dir()
        if self.error:
            raise self.error
        return Migrated("rehearsed", True, keys=7, revision=9)


class Restorers:
    """Restores nothing, and remembers what was there when it was asked to."""

    def __init__(self, kube: ApplyingKube, error: Exception | None = None) -> None:
        self.kube = kube
        self.error = error
        self.options: Options | None = None
        self.there: set[str] = set()

    def __call__(self, _kube: Any, _namespace: str, options: Options, _progress: Any) -> Restorers:
        self.options = options
        return self

    def restore(self, _opened: Any, _level: str) -> Outcome:
        self.there = {f"{ref.kind}/{ref.name}" for ref in self.kube.objects}
        assert self.options
        Path(self.options.path, "block").mkdir()
        if self.error:
            raise self.error
        steps = [{"step": "objects", "begun": "2026-03-04T12:00:00Z", "done": "2026-03-04T12:00:07Z"}]
        return Outcome(True, Journal(steps=steps), written=5, written_bytes=500)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "wait_for", lambda *_arguments, **_options: None)


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    return Wish("rehearsal", str(tmp_path / "var" / "rehearsal"))


def rehearsed(kube: ApplyingKube, wish: Wish, error: Exception | None = None) -> tuple[Rehearsal, Restorers]:
    restorers = Restorers(kube, error)
    return rehearse(kube, Opened(), "deep", wish, restorers=restorers, now=lambda: backups.NOW), restorers


def test_it_is_deployed_paused_restored_and_taken_away(wish: Wish) -> None:
    kube = ApplyingKube()
    made, restorers = rehearsed(kube, wish)
    assert made.passed
    assert made.removed
    assert not wish.place.exists()
    assert NAMESPACE not in kube.objects
    assert {"StatefulSet/etcd", "Deployment/pachd", "Secret/pachyderm-storage-secret"} <= restorers.there
    assert "ServiceAccount/pachyderm-worker" not in restorers.there, "no worker's pod can be made"
    pachd = kube.objects[Ref("apps/v1", "Deployment", "rehearsal", "pachd")]
    assert pachd["spec"]["replicas"] == 0, "pachd meets no etcd that is not restored"
    container = pachd["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "example.com/pachd:1.13.4", "the image of the backup's installation"
    assert {"name": "STORAGE_BACKEND", "value": "LOCAL"} in container["env"], "no bucket is shared with anybody"
    assert restorers.options
    assert restorers.options.path == str(wish.place / "pachd")
    assert [(stage.name, stage.seconds, stage.bytes) for stage in made.stages if stage.bytes] == [
        ("restore: objects", 7.0, 500)
    ]
    assert any("5 objects" in text for text in made.proven)
    assert "passed" in made.table()[0]


def test_after_a_failure_everything_is_gone_too(wish: Wish) -> None:
    kube = ApplyingKube()
    made, _restorers = rehearsed(kube, wish, BackupError("the backup is damaged"))
    assert not made.passed
    assert made.error == "the backup is damaged"
    assert made.removed
    assert NAMESPACE not in kube.objects
    assert not wish.place.exists()
    assert any("✗ the backup is damaged" in line for line in made.table())


def test_a_bug_takes_it_away_as_well(wish: Wish) -> None:
    kube = ApplyingKube()
    with pytest.raises(ZeroDivisionError):
        rehearsed(kube, wish, ZeroDivisionError())
    assert NAMESPACE not in kube.objects
    assert not wish.place.exists()


def test_what_a_dead_rehearsal_left_goes_first(wish: Wish) -> None:
    kube = ApplyingKube()
    rehearsed(kube, dataclasses.replace(wish, keep=True))
    assert NAMESPACE in kube.objects
    assert (wish.place / MARKER).exists()
    made, _restorers = rehearsed(kube, wish)
    assert made.passed
    assert not wish.place.exists()


@pytest.mark.parametrize("whose", ["namespace", "directory", "space"])
def test_what_is_anybody_elses_is_refused(whose: str, wish: Wish, tmp_path: Path) -> None:
    kube = ApplyingKube()
    opened = Opened()
    if whose == "namespace":
        kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rehearsal"}})
    elif whose == "directory":
        wish.place.mkdir(parents=True)
        (wish.place / "precious").touch()
    else:
        opened = Opened(objects=dataclasses.replace(opened.manifest.objects, bytes=1 << 62))
    before = sorted(tmp_path.glob("**/*"))
    with pytest.raises(InputError, match="not begun"):
        rehearse(kube, opened, "deep", wish, restorers=Restorers(kube))
    assert kube.writes == []
    assert sorted(tmp_path.glob("**/*")) == before


def migrated(kube: ApplyingKube, wish: Wish, migrators: Migrators) -> Rehearsal:
    source = Side(kube, "old")  # type: ignore[arg-type]  # it has what is used
    return rehearse_migration(source, kube, wish, MigrateOptions(), migrators=migrators, now=lambda: backups.NOW)  # type: ignore[arg-type]


def test_a_migration_is_copied_from_an_installation_that_goes_on(wish: Wish) -> None:
    kube = ApplyingKube()
    for each in installation("old", backend="aws", version="1.12.5", cluster_deployment_id="users-remember-this"):
        kube.put(each)
    before = {ref: each for ref, each in kube.objects.items() if ref.namespace == "old"}
    migrators = Migrators(kube)
    made = migrated(kube, wish, migrators)
    assert (made.passed, made.removed, made.backup_id, made.error) == (True, True, "", "")
    assert [stage.name for stage in made.stages] == [
        "what an earlier rehearsal left",
        "deploy",
        "metadata",
        "take away",
    ]
    assert not wish.place.exists()
    assert NAMESPACE not in kube.objects
    assert {"StatefulSet/etcd", "Deployment/pachd"} <= migrators.there
    assert "ServiceAccount/pachyderm-worker" not in {
        f"{ref.kind}/{ref.name}" for ref in kube.objects if ref.namespace == "rehearsal"
    }, "no worker's pod can be made"
    container = kube.objects[Ref("apps/v1", "Deployment", "rehearsal", "pachd")]["spec"]["template"]["spec"][
        "containers"
    ][0]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["STORAGE_BACKEND"] == "LOCAL", "no bucket is shared with anybody"
    assert environment["PACHD_VERSION"] == "1.12.5"
    assert environment["CLUSTER_DEPLOYMENT_ID"] == "users-remember-this"
    assert {ref: each for ref, each in kube.objects.items() if ref.namespace == "old"} == before, (
        "the source was touched"
    )
    assert made.table()[0] == "Rehearsal of a migration of old (aws: aws:acme): passed"
    assert any("7 keys of the source's revision 9" in text for text in made.proven)


def test_a_migration_that_fails_or_cannot_be_begun(wish: Wish) -> None:
    kube = ApplyingKube()
    for each in installation("old"):
        kube.put(each)
    made = migrated(kube, wish, Migrators(kube, BackupError("objects are missing")))
    assert (made.passed, made.removed, made.error) == (False, True, "objects are missing")
    assert not wish.place.exists()
    written = len(kube.writes)
    with pytest.raises(InputError, match="no Pachyderm"):
        migrated(kube, wish, Migrators(kube, keys=None, problems=("there is no Pachyderm",)))
    with pytest.raises(InputError, match="bytes free"):
        migrated(kube, wish, Migrators(kube, objects=ObjectPlan(5, 1 << 62, 5, 1 << 62, 0, 0, 0)))
    assert len(kube.writes) == written


def test_records_and_the_newest_of_them(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    assert newest(store, backups.CLUSTER) == {}
    for day, passed in ((1, True), (2, False)):
        started = backups.NOW + dt.timedelta(days=day)
        key = record(
            store, Rehearsal(backups.CLUSTER, ID, started, passed, restore_seconds=23.4, error="" if passed else "no")
        )
        assert key.startswith(f"{backups.CLUSTER}/rehearsals/2026030")
    found = newest(store, backups.CLUSTER)
    assert (found["passed"], found["error"]) == (False, "no")
    (tmp_path / backups.CLUSTER / "rehearsals" / "20270101T000000Z.json").write_text("{", encoding="utf-8")
    assert newest(store, backups.CLUSTER) == found, "what cannot be read does not hide what can"


def test_status_says_how_long_a_restore_takes() -> None:
    made = Rehearsal(backups.CLUSTER, ID, backups.NOW, True, restore_seconds=23.4).as_dict()
    state = {
        "namespace": "x",
        "installed": False,
        "kept": True,
        "deployment_id": "",
        "backend": "local",
        "store": "",
        "host_paths": {},
        "claims": [],
        "unknown": {},
        "backups": None,
    }
    assert not any("would take" in line for line in screen(state))
    assert made["restore_seconds"] == 23.4


@pytest.mark.parametrize("check_mode", [True, False])
def test_module(run_module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wish: Wish, check_mode: bool) -> None:
    kube = ApplyingKube()
    store = DirectoryStore(tmp_path / "store")
    (tmp_path / "store").mkdir()
    made = backups.put(store, dt.timedelta(hours=1))
    backups.verify(store, made)
    monkeypatch.setattr(pachyderm_rehearse, "connect", lambda *_arguments: kube)
    monkeypatch.setattr(pachyderm_rehearse, "open_set", lambda *_arguments: Opened())

    def restorer(_kube: Any, namespace: str, options: Options, *, progress: Any) -> Restorers:
        return Restorers(kube, BackupError("no"))(kube, namespace, options, progress)

    monkeypatch.setattr(rehearsal, "Restorer", restorer)
    given = {"store": str(tmp_path / "store"), "namespace": "rehearsal", "directory": str(wish.place)}
    result = run_module(pachyderm_rehearse.main, **given, check_mode=check_mode)
    assert result.failed is not check_mode
    assert {"rehearsal", "record", "table", "changed"} <= set(result)
    assert bool(newest(store, backups.CLUSTER)) is not check_mode
    assert kube.writes == [] or not check_mode


@pytest.mark.parametrize("check_mode", [True, False])
def test_module_with_a_source(run_module: Any, monkeypatch: pytest.MonkeyPatch, wish: Wish, check_mode: bool) -> None:
    kube = ApplyingKube()
    for each in installation("old"):
        kube.put(each)
    monkeypatch.setattr(pachyderm_rehearse, "connect", lambda *_arguments: kube)
    monkeypatch.setattr(sides, "connect", lambda *_arguments: kube)
    monkeypatch.setattr(rehearsal, "Migrator", Migrators(kube))
    given = {"source": {"namespace": "old"}, "namespace": "rehearsal", "directory": str(wish.place)}
    result = run_module(pachyderm_rehearse.main, **given, check_mode=check_mode)
    assert not result.failed
    assert {"rehearsal", "record", "table", "changed"} <= set(result)
    assert result["rehearsal"]["passed"] is not check_mode
    assert (result["rehearsal"]["source"], result["record"]) == ("old (aws: aws:acme)", "")
    assert kube.writes == [] or not check_mode
