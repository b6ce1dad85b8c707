# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The freeze: which pipelines stop and start, in which order, and that they start whatever happens."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachdError, WaitError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import garbage
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import Pachd
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.modules import pachyderm_garbage_collect
from doubles import locks
from doubles.applying import ApplyingKube
from doubles.kube import worker
from python_pachyderm.proto.pps import pps_pb2 as pps


class FakePachd:
    """Pipelines that obey at once; ``deaf`` ones do not start.  A double."""

    pps_pb2 = pps
    pipeline_infos = Pachd.pipeline_infos

    def __init__(self, reads: dict[str, str]) -> None:
        self.infos: dict[str, Any] = {}
        for name, repo in reads.items():
            info = pps.PipelineInfo(pipeline=pps.Pipeline(name=name), state=pps.PIPELINE_RUNNING)
            info.input.pfs.repo = repo
            self.infos[name] = info
        self.done: list[str] = []
        self.deaf: set[str] = set()
        self.collecting = lambda: None
        self.pps = SimpleNamespace(
            ListPipeline=lambda _request: pps.PipelineInfos(pipeline_info=self.infos.values()),
            InspectPipeline=lambda request: self.infos[request.pipeline.name],
            StopPipeline=lambda request: self._set(request.pipeline.name, True),
            StartPipeline=lambda request: self._set(request.pipeline.name, False),
            GarbageCollect=self._collect,
        )

    def call(self, method: Any, request: Any, what: str, *, timeout: float = 0.0) -> Any:
        return method(request)

    def _set(self, name: str, stopped: bool) -> None:
        self.done.append(f"{'stop' if stopped else 'start'} {name}")
        if not (name in self.deaf and not stopped):
            self.infos[name].stopped = stopped
            self.infos[name].state = pps.PIPELINE_PAUSED if stopped else pps.PIPELINE_RUNNING

    def _collect(self, request: Any) -> None:
        self.done.append(f"collect with {request.memory_bytes}")
        self.collecting()


SIZES = {"block/garbage": 10, "object/garbage": 1, "block/kept": 5}


def planned(pachd: Any, **parts: Any) -> garbage.Plan:
    running = [garbage.shown.pipeline(info) for info in pachd.infos.values() if garbage._runs(info)]
    fields: dict[str, Any] = {
        "sizes": SIZES,
        "doomed": frozenset({"block/garbage", "object/garbage"}),
        "needed": frozenset({"block/kept"}),
        "left": frozenset(),
        "memory": 7,
        "seconds": 1.0,
        "running": garbage.pipelines.upstream_first(running),
        "commits": frozenset(),
    }
    return garbage.Plan(**{**fields, **parts})


class World:
    """A collection with everything around it replaced, but for what is under test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kube = ApplyingKube()
        self.pachd: Any = FakePachd(
            {"last": "middle", "first": "ticks", "middle": "first", "off": "ticks", "bad": "ticks"}
        )
        self.pachd.infos["off"].stopped = True
        self.pachd.infos["off"].state = pps.PIPELINE_PAUSED
        self.pachd.infos["bad"].state = pps.PIPELINE_FAILURE
        self.parts: dict[str, Any] = {}
        self.after = {"block/kept": 5}
        listing = SimpleNamespace(objects=[])
        self.live: Any = SimpleNamespace(
            installation=SimpleNamespace(namespace="ns"),
            origin=SimpleNamespace(store=SimpleNamespace(where="store")),
            listing=lambda: listing,
        )
        locks.noted(monkeypatch, garbage)
        monkeypatch.setattr(garbage, "_busy", lambda _live: [])
        monkeypatch.setattr(garbage, "plan", lambda *_arguments: planned(self.pachd, **self.parts))
        monkeypatch.setattr(garbage, "_still_safe", lambda _live, _pachd, found, *_rest: found)
        monkeypatch.setattr(garbage, "sizes_of", lambda _listing: self.after)

    def collect(self, **wishes: Any) -> garbage.Result:
        wanted = garbage.Wishes(timeout=0.0, **wishes)
        return garbage.collect(
            self.kube, self.live, self.pachd, wanted, Progress(), write=True, sleep=lambda _seconds: None
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


STOPPED = ["stop last", "stop middle", "stop first"]
STARTED = ["start first", "start middle", "start last"]


def test_exactly_what_ran_is_stopped_and_started(world: World) -> None:
    result = world.collect()
    assert world.pachd.done == [*STOPPED, "collect with 7", *STARTED]
    assert (result.before["total"]["bytes"], result.after["total"]["bytes"]) == (16, 5)
    assert garbage.stopped(world.kube, "ns") == []
    assert any("freed" in line and "11 B" in line for line in garbage.table(result))


def test_they_start_when_the_collection_fails(world: World) -> None:
    def fail() -> None:
        raise PachdError("pachd refused", why="out of memory")

    world.pachd.collecting = fail
    with pytest.raises(PachdError, match="out of memory"):
        world.collect()
    assert world.pachd.done[-3:] == STARTED


def test_they_start_when_workers_do_not_go(world: World) -> None:
    for obj in worker("ns", "first"):
        world.kube.put(obj)
    with pytest.raises(WaitError, match="pod pipeline-first-v1-abcde is not gone"):
        world.collect()
    assert world.pachd.done == [*STOPPED, *STARTED]


def test_what_a_killed_run_left_is_repaired_by_the_next(world: World) -> None:
    world.pachd.deaf = {"middle"}
    with pytest.raises(WaitError, match="middle is still paused"):
        world.collect()
    assert garbage.stopped(world.kube, "ns") == ["first", "middle", "last"]
    world.pachd.deaf = set()
    world.pachd.done.clear()
    world.parts = {"doomed": frozenset()}
    assert not world.collect().collected
    assert world.pachd.done == ["start middle"]
    assert garbage.stopped(world.kube, "ns") == []


def test_a_loss_is_never_silent(world: World) -> None:
    world.after = {}
    with pytest.raises(garbage.StorageError, match="deleted what is needed"):
        world.collect()
    assert world.pachd.done[-3:] == STARTED


def test_nothing_is_stopped_for_nothing(world: World) -> None:
    assert not world.collect(least=1000).collected
    assert world.pachd.done == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_is_left_is_started_without_a_plan(
    monkeypatch: pytest.MonkeyPatch, world: World, run_module: Any, check_mode: bool
) -> None:
    def unwanted(*_arguments: Any) -> Any:
        raise AssertionError("the installation is read")

    monkeypatch.setattr(pachyderm_garbage_collect, "connect", lambda *_arguments: world.kube)
    monkeypatch.setattr(pachyderm_garbage_collect, "opened", lambda _options: contextlib.nullcontext(world.pachd))
    monkeypatch.setattr(pachyderm_garbage_collect, "reading", unwanted)
    monkeypatch.setattr(garbage, "plan", unwanted)
    arguments = {"check_mode": check_mode, "diff": True, "namespace": "ns", "state": "resumed"}
    nothing = run_module(pachyderm_garbage_collect.main, **arguments)
    assert (nothing.changed, nothing["pipelines"]) == (False, [])
    garbage._record(world.kube, "ns", ["off"])
    left = run_module(pachyderm_garbage_collect.main, **arguments)
    assert (left.changed, left["pipelines"], left["diff"]) == (True, ["off"], {"before": ["off"], "after": []})
    assert left.keys() == nothing.keys()
    assert world.pachd.done == ([] if check_mode else ["start off"])
    assert garbage.stopped(world.kube, "ns") == (["off"] if check_mode else [])


def test_who_waits_too_long_is_told_for_what(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(garbage, "_busy", lambda _live: [f"job {each} is running" for each in range(12)])
    with pytest.raises(InputError, match="job 9 is running and 2 more"):
        world.collect()
    assert world.pachd.done == []
