# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and logs through Pachyderm's API, with doubles of pachd in memory."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import joblogs, secrets
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.client import NotThere, TimeUp
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from python_pachyderm.proto.pps import pps_pb2 as pps


class FakePachd:
    """Secrets and log lines, with pachd 1.13's own words; a double."""

    pps_pb2 = pps
    empty = Empty()

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {"storage": {"type": "Opaque", "data": {}}}
        self.ours: set[str] = set()
        self.lines: list[Any] = []
        self.asked: Any = None
        self.pps = SimpleNamespace(
            InspectSecret=self._inspect, ListSecret=self._list, CreateSecret=self._create,
            DeleteSecret=self._delete, GetLogs=None,
        )  # fmt: skip

    def call(self, method: Any, request: Any, what: str) -> Any:
        return method(request)

    def stream(self, method: Any, request: Any, what: str, *, limit: float | None = None) -> Any:
        self.asked = request
        yield from self.lines
        if limit:
            raise TimeUp("not through")

    def _inspect(self, request: Any) -> Any:
        name = request.secret.name
        if name not in self.stored:
            raise NotThere("refused", why=f'failed to get secret: secrets "{name}" not found')
        info = pps.SecretInfo(secret=request.secret, type=self.stored[name]["type"])
        info.creation_timestamp.CopyFrom(Timestamp(seconds=1700000000))
        return info

    def _list(self, _request: Any) -> Any:
        return pps.SecretInfos(secret_info=[pps.SecretInfo(secret=pps.Secret(name=name)) for name in self.ours])

    def _create(self, request: Any) -> Any:
        manifest = json.loads(request.file)
        self.stored[manifest["metadata"]["name"]] = manifest
        self.ours.add(manifest["metadata"]["name"])

    def _delete(self, request: Any) -> Any:
        del self.stored[request.secret.name]


def ensure(pachd: Any, seen: bool = True, write: bool = True, replace: bool = False, **data: str) -> Any:
    look = pachd.stored.get if seen else None
    change, _secret = secrets.ensure(pachd, "mine", data, "", replace=replace, look=look, write=write)
    assert "hunter2" not in str(change)
    return change


def test_values_are_compared_where_they_can_be_seen() -> None:
    pachd: Any = FakePachd()
    assert ensure(pachd, write=False, password="hunter2").changed
    assert "mine" not in pachd.stored
    assert ensure(pachd, password="hunter2").diff()["before"] == {}
    assert base64.b64decode(pachd.stored["mine"]["data"]["password"]) == b"hunter2"
    assert not ensure(pachd, password="hunter2").changed
    assert not ensure(pachd, seen=False, password="other").changed
    assert ensure(pachd, write=False, replace=True, password="hunter2").changed
    other = ensure(pachd, password="other").diff()
    assert (other["before"], other["after"]) == (
        {"values.password": "(hidden, another one)"},
        {"values.password": "(hidden)"},
    )
    assert base64.b64decode(pachd.stored["mine"]["data"]["password"]) == b"other"


def test_other_secrets_are_left_alone() -> None:
    pachd: Any = FakePachd()
    with pytest.raises(InputError, match="not one for pipelines"):
        secrets.remove(pachd, "storage", write=True)
    with pytest.raises(InputError, match="not one for pipelines"):
        secrets.ensure(pachd, "storage", {}, "", replace=False, look=None, write=True)
    assert not secrets.remove(pachd, "nope", write=True)[0].changed
    ensure(pachd, a="b")
    assert secrets.remove(pachd, "mine", write=False)[0].changed
    assert "mine" in pachd.stored
    assert secrets.remove(pachd, "mine", write=True)[0].changed
    assert "mine" not in pachd.stored


def test_lines_of_a_log() -> None:
    pachd: Any = FakePachd()
    pachd.lines = [pps.LogMessage(message=f"line {each}\n", job_id="j", user=True) for each in range(3)]
    lines, truncated = joblogs.read(pachd, joblogs.Wanted(job="j", since=90, follow=1))
    assert [each["message"] for each in lines] == ["line 0", "line 1", "line 2"]
    assert not truncated
    assert (pachd.asked.since.seconds, pachd.asked.follow, pachd.asked.HasField("pipeline")) == (90, True, False)
    assert joblogs.read(pachd, joblogs.Wanted(pipeline="p", limit=2))[1]
    assert not joblogs.read(pachd, joblogs.Wanted(limit=3))[1]
    with pytest.raises(InputError, match="a datum belongs to a job"):
        joblogs.read(pachd, joblogs.Wanted(datum="d"))
