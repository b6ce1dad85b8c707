# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Pipelines of a running Pachyderm: look, create, update by what differs, stop, start, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError, PachdError, WaitError
from ..kube.apply import SECRETIVE
from . import repos, shown, specs
from .client import NotThere, Pachd
from .shown import Change, Data

_HIDDEN, _NEW = "(hidden)", "(hidden, another one)"
_ENDED = ("failure", "crashing")
_DONE = {"create": "created", "update": "updated", "reprocess": "computed anew"}
_POLL = 1.0


@dataclass(frozen=True)
class Outcome:
    """What was done, or would be.

    :param pipeline: as :func:`shown.pipeline` has it, with its ``spec``; empty where there is none.
    :param actions: of ``create``, ``update``, ``reprocess``, ``start``, ``stop`` and ``delete``, in their order.
    """

    change: Change
    pipeline: Data
    actions: Sequence[str] = field(default=())


def every(pachd: Pachd) -> list[Data]:
    """Return all pipelines by name."""
    return sorted((shown.pipeline(info) for info in pachd.pipeline_infos()), key=lambda each: str(each["name"]))


def find(pachd: Pachd, name: str) -> Any | None:
    """Return one ``pps.PipelineInfo``, None where there is none of that name."""
    pps = pachd.pps_pb2
    request = pps.InspectPipelineRequest(pipeline=pps.Pipeline(name=name))
    try:
        return pachd.call(pachd.pps.InspectPipeline, request, f"for the pipeline {name}")
    except NotThere:
        return None


def ensure(
    pachd: Pachd, name: str, spec: Mapping[str, Any] | None, run: bool | None, *, reprocess: bool, write: bool
) -> Outcome:
    """Bring a pipeline to a specification and to run or not to.

    :param spec: None leaves what it does as it is.
    :param run: True starts it, False stops it, None leaves that as it is.
    :param reprocess: compute everything anew.
    :raises InputError: the specification is wrong, or what it reads does not exist.
    """
    request = specs.parse(pachd, spec) if spec is not None else None
    name = name or (request.pipeline.name if request is not None else "")
    if request is not None and request.pipeline.name != name:
        raise InputError("the specification is another pipeline's", where=name, why=f"it is {request.pipeline.name}'s")
    found = find(pachd, name)
    if found is None and request is None:
        raise InputError("the pipeline does not exist", where=name, fix="Give its specification (spec or src).")
    before = _state(pachd, found, request)
    after = _state(pachd, request, request) if request is not None else dict(before)
    stopped = before.get("stopped", False)
    after["stopped"] = stopped if run is None else not run
    actions = ["create"] if found is None else ["reprocess"] if reprocess else []
    if not actions and before["spec"] != after["spec"]:
        actions = ["update"]
    if request is not None and actions:
        _check_inputs(pachd, request)
    if after["stopped"] != stopped:
        actions.append("stop" if after["stopped"] else "start")
    if write:
        for action in actions:
            _act(pachd, name, action, request, found)
        found = find(pachd, name)
    same = _secrets(before) == _secrets(after)
    change = Change(f"pipeline {name}", _masked(before, _HIDDEN), _masked(after, _HIDDEN if same else _NEW))
    shape = shown.pipeline(found) if found is not None else _planned(pachd, request)
    spec = _masked(after, _HIDDEN)["spec"]
    return Outcome(change, {**shape, "stopped": after["stopped"], "spec": spec}, actions)


def remove(pachd: Pachd, name: str, *, keep_repo: bool, force: bool, write: bool) -> Outcome:
    """Delete a pipeline with its output repo.

    :raises InputError: other pipelines read its output, and neither ``keep_repo`` nor ``force`` is set.
    """
    found = find(pachd, name)
    if found is None:
        return Outcome(Change(f"pipeline {name}", {}, {}), {})
    readers = sorted(each["name"] for each in every(pachd) if any(one.startswith(f"{name}@") for one in each["inputs"]))
    if readers and not keep_repo and not force:
        raise InputError(
            "the pipeline's output is in use",
            where=f"pipeline {name}",
            why=f"{', '.join(readers)} read{'s' if len(readers) == 1 else ''} it",
            fix="Delete these first, or keep the output with keep_repo; with force they lose their input.",
        )
    before = _state(pachd, found, None)
    if write:
        pachd.delete_pipeline(name, force=force, keep_repo=keep_repo)
    before = _masked(before, _HIDDEN)
    change = Change(f"pipeline {name}", before, {})
    return Outcome(change, {**shown.pipeline(found), "spec": before["spec"]}, ["delete"])


def set_running(pachd: Pachd, name: str, run: bool) -> None:
    """Start or stop a pipeline; both write a new version of its specification."""
    pps = pachd.pps_pb2
    if run:
        request = pps.StartPipelineRequest(pipeline=pps.Pipeline(name=name))
        pachd.call(pachd.pps.StartPipeline, request, f"to start the pipeline {name}")
    else:
        request = pps.StopPipelineRequest(pipeline=pps.Pipeline(name=name))
        pachd.call(pachd.pps.StopPipeline, request, f"to stop the pipeline {name}")


def wait(pachd: Pachd, name: str, timeout: float, sleep: Callable[[float], None] = time.sleep) -> Data:
    """Return the pipeline when it runs, or stands by, or is paused where it was stopped.

    :raises WaitError: it has not come that far in ``timeout`` seconds, or has failed.
    """
    end = time.monotonic() + timeout
    while True:
        info = find(pachd, name)
        if info is None:
            raise WaitError("the pipeline is gone", where=f"pipeline {name}")
        state = shown.pipeline(info)
        if state["state"] in (("paused", "failure") if info.stopped else ("running", "standby")):
            return state
        late = time.monotonic() >= end
        if late or (state["state"] in _ENDED and not info.stopped):
            raise WaitError(
                f"the pipeline is {state['state']}" + (f" after {timeout:.0f} s" if late else ""),
                where=f"pipeline {name}",
                why=state["reason"],
                fix="Look at its workers' events and at pachyderm_logs.",
            )
        sleep(_POLL)


def upstream_first(pipelines: Sequence[Data]) -> list[str]:
    """Return the names in an order in which every pipeline comes after those whose output it reads."""
    reads = {each["name"]: {text.partition("@")[0] for text in each["inputs"]} for each in pipelines}
    order: list[str] = []
    left = sorted(reads)
    while left:
        ready = [name for name in left if not (reads[name] & {*left} - {name})] or left[:1]
        order += ready
        left = [name for name in left if name not in ready]
    return order


def _state(pachd: Pachd, message: Any | None, wanted: Any | None) -> Data:
    """Return what a user decides of a pipeline; what pachd chose where ``wanted`` says nothing is left out."""
    if message is None:
        return {}
    salted = bool(wanted is not None and wanted.salt)
    spec = specs.normal(pachd, message, salted=salted)
    if wanted is None or not any(each.HasField("start") for each in specs.starts(wanted)):
        _drop_starts(spec.get("input", {}))
    return {"spec": spec, "stopped": bool(getattr(message, "stopped", False))}


def _drop_starts(part: Data) -> None:
    """Forget when ticks began: pachd takes the time of each update where a specification names none."""
    part.get("cron", {}).pop("start", None)
    for kind in shown.COMPOUND:
        for each in part.get(kind, []):
            _drop_starts(each)


def _planned(pachd: Pachd, request: Any) -> Data:
    info = pachd.pps_pb2.PipelineInfo(pipeline=request.pipeline, description=request.description, version=1)
    info.input.CopyFrom(request.input)
    return {**shown.pipeline(info), "output_branch": request.output_branch or "master"}


def _act(pachd: Pachd, name: str, action: str, request: Any | None, found: Any | None) -> None:
    if action in ("start", "stop"):
        set_running(pachd, name, action == "start")
        return
    if request is None:
        request = _request_of(pachd, found)
    request.update = action != "create"
    request.reprocess = action == "reprocess"
    try:
        pachd.create_pipeline(request)
    except PachdError as error:
        raise PachdError(f"the pipeline could not be {_DONE[action]}", where=name, why=error.why) from None


def _request_of(pachd: Pachd, info: Any) -> Any:
    """Return the request that would make a pipeline as it is, for one that is only to compute anew."""
    from google.protobuf import json_format

    request = pachd.pps_pb2.CreatePipelineRequest()
    return json_format.ParseDict(specs.normal(pachd, info, salted=True), request)


def _check_inputs(pachd: Pachd, request: Any) -> None:
    name, wanted = request.pipeline.name, specs.repos_of(request)
    known = {each["name"] for each in repos.every(pachd)}
    missing = [repo for repo in wanted if repo not in known and repo != name]
    if missing:
        raise InputError(
            "the pipeline reads what does not exist",
            where=f"pipeline {name}",
            why=f"there is no repo {', '.join(missing)}",
            fix="Make these repos, or the pipelines that write them, first; nothing was sent.",
        )
    reads = {each["name"]: {text.partition("@")[0] for text in each["inputs"]} for each in every(pachd)}
    reads[name] = set(wanted)
    circle = _circle(name, reads, (name,))
    if circle:
        raise InputError(
            "the pipeline would read its own output",
            where=f"pipeline {name}",
            why=" reads ".join(circle),
            fix="Take one of these inputs away; nothing was sent.",
        )


def _circle(name: str, reads: Mapping[str, set[str]], path: tuple[str, ...]) -> tuple[str, ...]:
    for each in sorted(reads.get(path[-1], ())):
        if each == name:
            return (*path, each)
        if each not in path and (found := _circle(name, reads, (*path, each))):
            return found
    return ()


def _masked(state: Data, value: str) -> Data:
    """Return the state with ``value`` for what looks like a secret in the environment."""
    transform = state.get("spec", {}).get("transform", {})
    if "env" not in transform:
        return state
    shown_env = {key: value if SECRETIVE.search(key) else each for key, each in transform["env"].items()}
    return {**state, "spec": {**state["spec"], "transform": {**transform, "env": shown_env}}}


def _secrets(state: Data) -> Data:
    environment = state.get("spec", {}).get("transform", {}).get("env", {})
    return {key: value for key, value in environment.items() if SECRETIVE.search(key)}
