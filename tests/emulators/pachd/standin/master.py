# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The PPS master: it keeps each pipeline's workers as its state wants them (src/server/pps/server/pipeline_controller.go)."""

from __future__ import annotations

import threading
import time
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from python_pachyderm.proto.pps import pps_pb2 as pb

from . import config, lock, logs
from .errors import PachError
from .kube import Kube, KubeError
from .names import branch_of, controller_name
from .pfs import Pfs
from .pps import Pps
from .workers import objects, token_hash

_POLL = 2.0
_ATTEMPTS = 3
_FAILURES = ("InvalidImageName", "ErrImagePull", "ImagePullBackOff")


class Master:
    """One thread that holds the master's lock and steps through all pipelines."""

    def __init__(self, pfs: Pfs, pps: Pps, kube: Kube, settings: config.Settings, version: str) -> None:
        self._pfs = pfs
        self._pps = pps
        self._kube = kube
        self._settings = settings
        self._version = f"{version}-standin"
        self._attempts: dict[str, int] = {}

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        prefix = f"{self._pps.prefix}/_master_lock"
        try:
            lock.acquire(
                self._pfs.etcd, prefix, lambda: config.fail("panic: the PPS master lost its lock in etcd", status=2)
            )
        except PachopsError as error:
            config.fail(f"panic: the PPS master cannot take its lock: {error}", status=2)
        logs.info("PPS master: launching master process")
        while True:
            self._pps.changed.clear()
            try:
                self._round()
            except (PachError, PachopsError) as error:
                logs.error(f"PPS master: error in a round over all pipelines: {error}")
            self._pps.changed.wait(_POLL)

    def _round(self) -> None:
        pointers = {name: pointer for name, pointer, _unused in self._pps.pipelines.newest_first(self._pfs.etcd)}
        for name, pointer in pointers.items():
            try:
                self._step(name, pointer)
            except (PachError, PachopsError) as error:
                logs.error(f'PPS master: could not update resources for pipeline "{name}": {error}')
        for controller in self._kube.list("replicationcontrollers", "suite=pachyderm,pipelineName"):
            name = controller["metadata"]["labels"]["pipelineName"]
            if name not in pointers and self._pps.pipelines.find(self._pfs.reading(), name) is None:
                self._delete(name)

    def _step(self, name: str, pointer: pb.EtcdPipelineInfo) -> None:
        info = self._specification(name, pointer)
        if info is None:
            return
        if pointer.state == pb.PIPELINE_FAILURE:
            output = branch_of(name, info.output_branch or "master")
            self._pfs.write(lambda context: self._pfs.finish_open_commits(context, output))
            self._delete(name)
            return
        controllers = self._kube.list("replicationcontrollers", f"pipelineName={name}")
        stale = [each for each in controllers if not self._is_fresh(each, pointer, info)]
        if stale:
            logs.info(f'PPS master: workers of "{name}" are stale')
            self._delete(name)
            controllers = []
        if not controllers:
            self._create(name, pointer, info)
            if pointer.state not in (pb.PIPELINE_STARTING, pb.PIPELINE_RESTARTING):
                self._pps.set_state(name, pb.PIPELINE_RESTARTING)
            elif info.stopped:
                self._pps.set_state(name, pb.PIPELINE_PAUSED)
            else:
                self._pps.set_state(name, pb.PIPELINE_RUNNING)
            return
        self._settle(name, pointer, info, controllers[0])

    def _settle(
        self, name: str, pointer: pb.EtcdPipelineInfo, info: pb.PipelineInfo, controller: dict[str, Any]
    ) -> None:
        """Bring state and number of workers together, for a pipeline whose controller is as it should be."""
        wanted = pb.PIPELINE_PAUSED if info.stopped else pb.PIPELINE_RUNNING
        problem = "" if info.stopped else self._problem(name)
        if problem:
            wanted = pb.PIPELINE_CRASHING
        replicas = 0 if info.stopped else pointer.parallelism or 1
        if controller["spec"].get("replicas", 0) != replicas:
            logs.info(f'PPS master: scaling {"down" if info.stopped else "up"} workers for "{name}"')
            self._kube.scale(controller, replicas)
        if pointer.state != wanted:
            self._pps.set_state(name, wanted, problem)

    def _problem(self, name: str) -> str:
        """Return why a pod of the pipeline cannot start, in Kubernetes' words; empty when nothing is wrong."""
        for pod in self._kube.list("pods", f"suite=pachyderm,component=worker,pipelineName={name}"):
            status = pod.get("status", {})
            for container in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
                waiting = container.get("state", {}).get("waiting") or {}
                if waiting.get("reason") in _FAILURES:
                    return str(waiting.get("message") or waiting["reason"])
            for condition in status.get("conditions", ()):
                if condition.get("reason") == "Unschedulable":
                    return str(condition.get("message", "Unschedulable"))
        return ""

    def _specification(self, name: str, pointer: pb.EtcdPipelineInfo) -> pb.PipelineInfo | None:
        """Return a pipeline's specification; a pipeline whose specification stays unreadable fails for good."""
        try:
            info = self._pps.specification(name, pointer)
            self._attempts.pop(name, None)
            return info
        except PachError as error:
            attempts = self._attempts[name] = self._attempts.get(name, 0) + 1
            if attempts < _ATTEMPTS:
                logs.error(f'PPS master: error retrieving spec for "{name}": {error}')
                return None
            if pointer.state != pb.PIPELINE_FAILURE:
                reason = f'error retrieving spec for "{name}" after {_ATTEMPTS} attempts: {error}'
                self._pps.set_state(name, pb.PIPELINE_FAILURE, reason)
                return None
            return pb.PipelineInfo(pipeline=pb.Pipeline(name=name))

    def _is_fresh(self, controller: dict[str, Any], pointer: pb.EtcdPipelineInfo, info: pb.PipelineInfo) -> bool:
        metadata = controller["metadata"]
        annotations = metadata.get("annotations", {})
        return (
            metadata["name"] == controller_name(info.pipeline.name, info.version)
            and annotations.get("specCommit") == pointer.spec_commit.id
            and annotations.get("version") == self._version
            and annotations.get("authTokenHash") == token_hash(pointer.auth_token)
        )

    def _create(self, name: str, pointer: pb.EtcdPipelineInfo, info: pb.PipelineInfo) -> None:
        logs.info(f'PPS master: upserting workers for "{name}"')
        try:
            controller, service = objects(self._settings, self._version, pointer, info)
        except (PachError, KeyError, IndexError, ValueError) as error:
            self._pps.set_state(name, pb.PIPELINE_FAILURE, f"could not generate RC options: {error}")
            raise PachError(f"could not generate RC options: {error}") from error
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._kube.create("replicationcontrollers", controller)
                self._kube.create("services", service)
                return
            except KubeError as error:
                if attempt == _ATTEMPTS:
                    reason = f"failed to create RC/service after {attempt} attempts: {error}"
                    self._pps.set_state(name, pb.PIPELINE_FAILURE, reason)
                    raise
                time.sleep(1)

    def _delete(self, name: str) -> None:
        for kind in ("services", "secrets", "replicationcontrollers"):
            for each in self._kube.list(kind, f"pipelineName={name}"):
                logs.info(f'PPS master: deleting {kind} {each["metadata"]["name"]} of pipeline "{name}"')
                self._kube.delete(kind, each["metadata"]["name"])
