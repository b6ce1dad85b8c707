# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server before which a program dies in the middle of its work, and a pachd that answers from what is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube import quiesce
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import records
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import State
from doubles.api import FakeApi
from doubles.controllers import ControlledApi


class Killed(BaseException):
    """The program was ended: nothing that it would still have done is done."""


class MortalApi(ControlledApi):
    """``die_at`` is the number of the step that is the program's last try; every request that writes is a step."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        super().__init__(namespaces)
        self.die_at: int | None = None
        self.count = 0
        self.dead = False

    def request(self, method: str, path: str, **options: object) -> Response:  # type: ignore[override]
        if method != "GET":
            self.step()
        if self.dead:
            raise Killed
        return super().request(method, path, **options)

    def step(self) -> None:
        """Count one thing that the program does to the world."""
        if self.die_at is not None:
            self.dead = self.dead or self.count >= self.die_at
            self.count += 1
        if self.dead:
            raise Killed

    def revive(self) -> None:
        """Let a new program begin; the locks of the dead one have expired."""
        self.dead, self.die_at = False, None
        for ref in [ref for ref in self.objects if ref.kind == "Lease"]:
            del self.objects[ref]


class StatePachd:
    """Answers from its state, as pachd would; its deployment id is what its Deployment says."""

    def __init__(self, api: FakeApi, namespace: str, state: State, version: str = "1.13.4") -> None:
        self._api, self._namespace, self._state, self._version = api, namespace, state, version
        self.pps = SimpleNamespace(ListPipeline=None)
        self.pps_pb2 = SimpleNamespace(ListPipelineRequest=lambda: None)

    def version(self) -> str:
        return self._version

    def cluster(self) -> Any:
        pachd = self._api.stored(quiesce.pachd_ref(self._namespace))
        variables = pachd["spec"]["template"]["spec"]["containers"][0]["env"]
        deployment = next(each["value"] for each in variables if each["name"] == "CLUSTER_DEPLOYMENT_ID")
        return SimpleNamespace(id=self._state.cluster_id, deployment_id=deployment)

    def repos(self) -> list[str]:
        return [each.name for each in self._state.repos()]

    def call(self, method: Any, request: Any, what: str) -> Any:
        found = [
            SimpleNamespace(pipeline=SimpleNamespace(name=each.name), state=records.PIPELINE_STATES.index(each.state))
            for each in self._state.pipelines()
        ]
        return SimpleNamespace(pipeline_info=found)

    def get_file(self, repo: str, commit: str, path: str) -> Iterator[bytes]:
        return self._state.read(self._state.commit(repo, commit), path)
