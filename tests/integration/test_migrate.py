# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole migration of a genuine installation's state between two real etcds, its faults, and the way back."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, MigrationError, StorageError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.keyspace import LiveKeyspace
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.migration import (
    JOURNAL,
    Follower,
    KeyMigration,
    digest,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate import space
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.objects import ObjectMigration
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.durable import ROOT
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.objects import Objects
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.objects import Place
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.directory import DirectoryStore
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling, key_of
from doubles import genuine
from doubles.etcd import booted, running
from doubles.migrating import NEW, OLD, Movable
from doubles.mortal import Killed
from emulators.pachctl.shapes import Shape, chart, pachctl

FIRST_DEPLOYED = "d3pl0y"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdClient]:
    """An etcd that was booted from the genuine snapshot."""
    place = tmp_path_factory.mktemp("source")
    with booted(genuine.snapshot(place), place / "data") as client:
        yield client


@pytest.fixture(scope="module")
def emptied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdClient]:
    with running(tmp_path_factory.mktemp("target")) as address, EtcdClient(address, 10) as client:
        yield client


@pytest.fixture
def target(emptied: EtcdClient) -> EtcdClient:
    emptied.delete(b"\0", b"\0")
    return emptied


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The genuine installation's objects."""
    place = tmp_path_factory.mktemp("objects")
    genuine.objects(place)
    return place


@pytest.fixture
def api(tmp_path: Path, source: EtcdClient, target: EtcdClient, objects: Path) -> Movable:
    made = Movable(tmp_path, source, target)
    shutil.copytree(objects, tmp_path / OLD / "pachd", dirs_exist_ok=True)
    return made


def check_before(api: Movable) -> None:
    """The source runs as before, and the target was never started."""
    assert api.runs(OLD)
    assert not api.runs(NEW)
    assert quiesce.paused_of(api.stored(quiesce.pachd_ref(OLD))) is None
    assert not [ref for ref in api.objects if ref.kind == "Lease"]


def check_after(api: Movable) -> None:
    """The target runs on the whole of it, and the source is paused."""
    assert api.starts
    assert all(api.starts), "pachd was started on an installation that was not whole"
    assert api.runs(NEW)
    assert not api.runs(OLD)
    assert api.etcd[NEW].get(JOURNAL) is None
    assert not list(api.store(NEW).list("pachops-migration/"))
    assert digest(api.etcd[OLD]) == digest(api.etcd[NEW])


def test_it_moves_undoes_and_finds_itself_done(api: Movable, source: EtcdClient) -> None:
    before = source.status().revision
    outcome = api.migrator().migrate()
    check_after(api)
    assert (outcome.state, outcome.changed, outcome.keys) == ("migrated", True, digest(source).keys)
    assert source.status().revision == before, "the source was written to"
    record = api.stored(quiesce.pachd_ref(NEW))
    assert any(
        each.get("value") == FIRST_DEPLOYED
        for each in record["spec"]["template"]["spec"]["containers"][0]["env"]
        if each["name"] == "CLUSTER_DEPLOYMENT_ID"
    )
    assert "migrate_action=undo" in outcome.way_back

    again = api.migrator().migrate()
    assert (again.state, again.changed) == ("migrated", False)
    assert api.migrator().plan().lines()[-1] == "It has been done already."

    assert api.migrator().undo(check=True).changed
    assert api.runs(NEW)
    assert api.migrator().undo().state == "undone"
    check_before(api)
    assert not api.migrator().undo().changed
    # What the target holds is the source's own state, so it may go, and the way is free for another attempt.
    assert api.migrator().migrate().changed
    check_after(api)


def test_plan_says_what_and_how_much_and_writes_nothing(api: Movable, target: EtcdClient) -> None:
    before, revision = sorted(api.objects), target.status().revision
    plan = api.migrator().plan()
    assert not plan.problems
    assert plan.keys
    assert plan.objects
    assert plan.objects.count == plan.objects.missing == len(list(api.store(OLD).list())) - plan.objects.foreign
    lines = "\n".join(plan.lines())
    assert f"{plan.keys.keys} keys" in lines
    assert "copying takes about" in lines
    assert (sorted(api.objects), target.status().revision) == (before, revision)
    assert not list(api.store(NEW).list())


def test_a_target_that_is_not_deployed_yet_is_planned_for(api: Movable) -> None:
    del api.objects[quiesce.pachd_ref(NEW)]
    plan = api.migrator().plan()
    assert not plan.problems
    assert "deployed first" in plan.lines()[-1]
    with pytest.raises(InputError, match="deploy it there first"):
        api.migrator().migrate()


def test_copying_first_and_going_over_later(api: Movable) -> None:
    outcome = api.migrator(cutover=False).migrate()
    assert outcome.state == "copied"
    check_before(api)
    api.store(OLD).write("block/later", [b"new"])
    outcome = api.migrator().migrate()
    assert sum(each.copied for each in outcome.passes) == 1
    check_after(api)


def test_a_rehearsal_starts_a_copy_of_one_revision_while_the_source_goes_on(api: Movable, source: EtcdClient) -> None:
    stages = []

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        stages.append(name)
        yield
        if name == "metadata":
            source.put(ROOT + b"pfs/repos/later", b"")

    before = digest(source)
    try:
        outcome = api.migrator().rehearse(stage)
        assert digest(api.etcd[NEW]) == before == digest(source, outcome.revision)
        assert digest(source) != before
    finally:
        source.delete(ROOT + b"pfs/repos/later")
    assert stages == ["metadata", "objects", "references", "compare", "start pachd", "ask pachd"]
    assert api.etcd[NEW].get(JOURNAL) is None
    assert api.runs(OLD), "the source was paused"
    assert api.runs(NEW)
    assert not [ref for ref in api.objects if ref.kind == "Lease"]


def refused(api: Movable, words: str, **options: Any) -> None:
    """A migration is refused, by the plan with the same words, and nothing has changed."""
    assert any(words in each for each in api.migrator(**options).plan().problems)
    with pytest.raises(InputError, match="refused") as caught:
        api.migrator(**options).migrate()
    assert words in str(caught.value)
    check_before(api)
    assert api.etcd[NEW].get(JOURNAL) is None


def test_refusals(api: Movable, target: EtcdClient) -> None:
    refused(api, "cluster f00 was named", cluster_id="f00")
    api.store(NEW).write("block/somebodys", [b"x"])
    refused(api, "store is not empty")
    api.store(NEW).delete("block/somebodys")
    target.put(ROOT + b"pachyderm_pfs/repos/mine", b"")
    refused(api, "etcd is not empty")
    target.delete(ROOT + b"pachyderm_pfs/repos/mine")
    api.store(OLD).write("pach/block/spelled-for-a-bucket", [b"x"])
    assert not api.migrator().plan().problems, "in a directory that is no object's name"


def test_a_target_whose_pachd_runs_is_refused(api: Movable) -> None:
    quiesce.resume(engine_kube(api), NEW)
    api.starts.clear()
    assert any("must never start" in each for each in api.migrator().plan().problems)
    with pytest.raises(InputError, match="must never start"):
        api.migrator().migrate()
    assert api.runs(OLD)


def engine_kube(api: Movable, namespace: str = NEW) -> Any:
    migrator = api.migrator()
    return (migrator._target if namespace == NEW else migrator._source).kube


def test_one_store_for_both_is_refused(tmp_path: Path, source: EtcdClient, target: EtcdClient) -> None:
    api = Movable(tmp_path, source, target, host_path=str(tmp_path / OLD))
    refused(api, "delete each other's objects")


def test_version_skew_is_refused_unless_wanted(
    tmp_path: Path, source: EtcdClient, target: EtcdClient, objects: Path
) -> None:
    api = Movable(tmp_path, source, target, version="1.12.5")
    shutil.copytree(objects, tmp_path / OLD / "pachd", dirs_exist_ok=True)
    refused(api, "the target 1.12.5")
    assert not api.migrator(version_skew=True).plan().problems


def test_a_target_without_room_is_refused(api: Movable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    etcd = next(each for ref, each in api.objects.items() if (ref.kind, ref.namespace) == ("StatefulSet", NEW))
    command = etcd["spec"]["template"]["spec"]["containers"][0]["args"]
    flag = next(number for number, word in enumerate(command) if word.startswith("--quota-backend-bytes"))
    command[flag] = "--quota-backend-bytes=20000"
    refused(api, "etcd of the target takes at most 20.0 kB, and the metadata need about")
    command[flag] = "--quota-backend-bytes=8589934592"
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    refused(api, "1.0 kB free, and the objects need")
    refused(api, "1.0 kB free, and a temporary file (migrate_workdir) need")


@pytest.mark.parametrize("made", [pachctl, chart])
def test_what_others_deployed_is_moved_and_comes_back(
    made: Callable[[Shape], list[Any]], tmp_path: Path, source: EtcdClient, target: EtcdClient, objects: Path
) -> None:
    api = Movable(tmp_path, source, target, lambda path: made(Shape(OLD, host_path=path)))
    shutil.copytree(objects, tmp_path / OLD / "pachd", dirs_exist_ok=True)
    deployment = observe(engine_kube(api, OLD), OLD).deployment_id
    assert deployment
    assert observe(engine_kube(api, OLD), OLD).foreign
    before = sorted(api.objects)
    assert api.migrator().migrate().changed
    check_after(api)
    assert observe(engine_kube(api), NEW).deployment_id == deployment
    assert api.migrator().undo().changed
    check_before(api)
    assert [ref for ref in before if ref.namespace == OLD and ref.kind != "Pod"] == [
        ref for ref in sorted(api.objects) if ref.namespace == OLD and ref.kind != "Pod"
    ]


def test_a_source_that_writes_on_while_it_is_backed_up_is_seen(api: Movable, source: EtcdClient) -> None:
    """Offline migration pauses, backs up, and asks once more: who starts pachd meanwhile has written since."""
    before = source.status().revision
    assert api.migrator().pause(check=True).changed
    assert api.runs(OLD)
    assert api.migrator().pause().changed
    assert not api.runs(OLD)
    assert not api.migrator().pause(check=True).changed
    assert not api.migrator().pause().changed
    deployment = api.stored(quiesce.pachd_ref(OLD))
    deployment["spec"]["replicas"] = 1  # as a GitOps controller or a user does
    api.put(deployment)
    api.reconcile()
    assert api.migrator().pause(check=True).changed
    assert api.migrator().undo().state == "undone"
    check_before(api)
    assert source.status().revision == before


def test_two_at_once_are_refused(api: Movable) -> None:
    with api.migrator()._locks(0), pytest.raises(Exception, match="another operation holds"):
        api.migrator().migrate()
    check_before(api)


def test_objects_that_the_source_has_lost_stop_it_before_the_pause(api: Movable) -> None:
    lost = next(each.key for each in api.store(OLD).list("block/"))
    api.store(OLD).delete(lost)
    with pytest.raises(MigrationError, match="does not have"):
        api.migrator().migrate()
    check_before(api)


def test_a_pachd_that_answers_wrongly_sends_everything_back(api: Movable) -> None:
    api.answer = "1.9.0"
    with pytest.raises(MigrationError, match=r"1\.9\.0.*The source runs again"):
        api.migrator().migrate()
    check_before(api)
    api.answer = ""
    assert api.migrator().migrate().changed
    check_after(api)


@pytest.mark.parametrize("followed", [True, False])
def test_a_source_that_writes_on_sends_everything_back(
    api: Movable, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    """Whether the last changes came by the watch, or were listed because that did not see them in time."""
    drain, stop, copy = Follower.drain, Follower.stop, KeyMigration.copy
    sneaked = ROOT + b"pachyderm_pfs/repos/sneaked"

    def stopped(self: Follower) -> None:
        stop(self)
        if followed:
            api.etcd[OLD].put(sneaked, b"")

    def copied(self: KeyMigration) -> int:
        reached = copy(self)
        if not api.runs(OLD):
            assert not followed
            api.etcd[OLD].put(sneaked, b"")
        return reached

    monkeypatch.setattr(Follower, "drain", lambda *arguments: drain(*arguments) and followed)
    monkeypatch.setattr(Follower, "stop", stopped)
    monkeypatch.setattr(KeyMigration, "copy", copied)
    try:
        with pytest.raises(MigrationError, match="differs"):
            api.migrator().migrate()
    finally:
        api.etcd[OLD].delete(sneaked)
    check_before(api)


@pytest.mark.parametrize("fate", ["continued", "undone"])
def test_a_run_that_died_at_any_step(
    tmp_path: Path, source: EtcdClient, emptied: EtcdClient, objects: Path, fate: str
) -> None:
    """Every write to the clusters and to the target's etcd is a step."""

    def fresh(name: str) -> Movable:
        emptied.delete(b"\0", b"\0")
        shutil.copytree(objects, tmp_path / name / OLD / "pachd", copy_function=_link)
        return Movable(tmp_path / name, source, emptied)

    whole = fresh("whole")
    whole.die_at = 10_000
    whole.migrator(check_references=False).migrate()
    for step in range(whole.count):
        api = fresh(str(step))
        api.die_at = step
        with contextlib.suppress(Killed):
            api.migrator(check_references=False).migrate()
        if not api.dead:
            break  # the number of steps depends a little on how fast the watch is
        api.revive()
        if fate == "continued":
            api.migrator(check_references=False).migrate()
            check_after(api)
        elif api.runs(NEW) and not api.runs(OLD):
            check_after(api)  # it died after the end, with nothing left but to let go of a lock
        else:
            api.migrator().undo()
            check_before(api)
            assert emptied.get(b"cluster-id") is None
    assert step > 20


def _link(source: str, place: str) -> None:
    Path(place).hardlink_to(source)


@pytest.mark.parametrize("spelling", list(Spelling))
def test_all_of_the_truth_comes_out_of_every_backend(
    spelling: Spelling, tmp_path: Path, source: EtcdClient, target: EtcdClient, objects: Path
) -> None:
    """There, and back into a directory from where it went."""
    keys = KeyMigration(source, target)
    keys.begin()
    keys.copy()
    keys.verify()
    keys.close()
    there: DirectoryStore = DirectoryStore(tmp_path / "there")
    if spelling is Spelling.SLASH:
        there = genuine.Slashless(there)
    places = [
        Place(DirectoryStore(objects), Spelling.DIRECTORY),
        Place(there, spelling),
        Place(DirectoryStore(tmp_path / "back"), Spelling.DIRECTORY),
    ]
    for origin, place in itertools.pairwise(places):
        moved = ObjectMigration(origin, place)
        moved.copy()
        assert moved.copy().copied == 0
        moved.close()
        genuine.check_truth(State(LiveKeyspace(target), Objects(place.store, place.spelling)))
    names = {each.key for each in places[0].store.list() if each.key.startswith(("block/", "object/", "tag/"))}
    assert names == {each.key for each in places[2].store.list()}


def small(tmp_path: Path, name: str, spelling: Spelling = Spelling.DIRECTORY) -> Place:
    return Place(DirectoryStore(tmp_path / name), spelling, [each for each in Spelling if each is not spelling])


def test_objects_rewritten_at_the_source_are_copied_again(tmp_path: Path) -> None:
    origin, place = small(tmp_path, "a"), small(tmp_path, "b", Spelling.REVERSED)
    for key, data in (("block/one", b"1" * 10), ("tag/two", b"2"), ("artifacts/job-7/x", b"3")):
        origin.store.write(key, [data])
    (tmp_path / "a" / "hashtree").write_bytes(b"scratch")
    moved = ObjectMigration(origin, place)
    assert moved.copy().copied == 3
    assert {each.key for each in place.store.list()} == {
        "pach/block/one"[::-1],
        "pach/tag/two"[::-1],
        "artifacts/job-7/x"[::-1],
        "pachops-migration/1",
    }
    origin.store.write("tag/two", [b"4"])
    assert ObjectMigration(origin, place).copy().copied == 1
    assert b"".join(place.store.read("owt/gat/hcap")) == b"4"


def test_objects_that_are_written_while_they_are_copied_are_copied_again(tmp_path: Path) -> None:
    source, target = small(tmp_path, "source"), small(tmp_path, "target", Spelling.REVERSED)
    source.store.write("block/growing", [b"half"])
    read, migration = source.store.read, ObjectMigration(source, target)

    def grows(key: str, *arguments: Any, **options: Any) -> Iterator[bytes]:
        (tmp_path / "source" / "block" / "growing").write_bytes(b"half and half")
        return read(key, *arguments, **options)

    source.store.read = grows  # type: ignore[method-assign]
    source.store.copy_from = target.store.copy_from = lambda *_arguments: False  # type: ignore[method-assign]
    migration.copy()
    source.store.read = read  # type: ignore[method-assign]
    assert migration.copy().compared == 1
    assert b"".join(target.store.read(key_of("block/growing", Spelling.REVERSED))) == b"half and half"


def test_objects_that_are_there_already_are_compared(tmp_path: Path) -> None:
    origin, place = small(tmp_path, "a"), small(tmp_path, "b", Spelling.PLAIN)
    for name in ("same", "other"):
        origin.store.write(f"block/{name}", [b"right"])
    place.store.write("pach/block/same", [b"right"])
    place.store.write("pach/block/other", [b"wrong"])
    done = ObjectMigration(origin, place).copy()
    assert (done.copied, done.compared) == (1, 1)
    assert b"".join(place.store.read("pach/block/other")) == b"right"


def test_a_target_spelled_otherwise_is_refused(tmp_path: Path) -> None:
    origin, place = small(tmp_path, "a"), small(tmp_path, "b", Spelling.REVERSED)
    origin.store.write("block/one", [b"1"])
    place.store.write("pach/block/one", [b"1"])
    with pytest.raises(StorageError, match="spelled 'plain'"):
        ObjectMigration(origin, place).plan()
