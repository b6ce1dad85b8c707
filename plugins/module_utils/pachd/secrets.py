# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Kubernetes secrets for pipelines, made through Pachyderm's API.

pachd makes and deletes such secrets and never tells what is in them, so that they are compared in the cluster where it
can be asked.  Facts: ``CreateSecret`` in ``src/server/pps/server/api_server.go`` of v1.13.4.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Optional

from ..errors import InputError
from ..kube.apply import data_of
from .client import NotThere, Pachd
from .shown import Change, Data

#: What Kubernetes takes a Secret to be that says nothing.
TYPE = "Opaque"
_HIDDEN, _OTHER = "(hidden)", "(hidden, another one)"

#: Return the secret in the cluster, None where there is none.
Look = Callable[[str], Optional[Mapping[str, Any]]]  # noqa: UP045 - evaluated at import


def find(pachd: Pachd, name: str) -> Data | None:
    """Return what pachd says of a secret, None where there is none."""
    pps = pachd.pps_pb2
    request = pps.InspectSecretRequest(secret=pps.Secret(name=name))
    try:
        info = pachd.call(pachd.pps.InspectSecret, request, f"for the secret {name}")
    except NotThere:
        return None
    return {"name": info.secret.name, "type": info.type, "created": info.creation_timestamp.ToJsonString()}


def ensure(
    pachd: Pachd, name: str, data: Mapping[str, str], kind: str, *, replace: bool, look: Look | None, write: bool
) -> tuple[Change, Data]:
    """Make a secret, anew where it is another one, and return the change, which never has values, and the secret.

    :param replace: make it anew in any case.
    :param look: how to see its values; without it a secret that is there counts as right.
    :raises InputError: a secret of that name is there that is not for pipelines.
    """
    found, kind = find(pachd, name), kind or TYPE
    if found is not None:
        _check_ours(pachd, name)
    seen = look(name) if found is not None and look is not None else None
    want = {key: value.encode() for key, value in data.items()}
    have = want
    if seen is not None:
        have = data_of(seen)
    after = {"name": name, "type": kind, "values": dict.fromkeys(sorted(data), _HIDDEN)}
    before: Data = {}
    if found is not None:
        values = {key: _HIDDEN if have[key] == want.get(key) and not replace else _OTHER for key in sorted(have)}
        before = {"name": name, "type": found["type"], "values": values}
    change = Change(f"secret {name}", before, after)
    if change.changed and write:
        if found is not None:
            _delete(pachd, name)
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": kind,
            "data": {key: base64.b64encode(value).decode() for key, value in want.items()},
        }
        request = pachd.pps_pb2.CreateSecretRequest(file=json.dumps(manifest).encode())
        pachd.call(pachd.pps.CreateSecret, request, f"to make the secret {name}")
        found = find(pachd, name)
    return change, {"name": name, "type": kind, "created": found["created"] if found else None, "keys": sorted(data)}


def remove(pachd: Pachd, name: str, *, write: bool) -> tuple[Change, Data]:
    """Delete a secret, and return the change and the secret as it was.

    :raises InputError: it is not one for pipelines.
    """
    found = find(pachd, name)
    if found is None:
        return Change(f"secret {name}", {}, {}), {}
    _check_ours(pachd, name)
    if write:
        _delete(pachd, name)
    return Change(f"secret {name}", {"name": name, "type": found["type"]}, {}), {**found, "keys": []}


def _check_ours(pachd: Pachd, name: str) -> None:
    """Refuse what pachd would not: it deletes any secret of its namespace, its own storage secret too."""
    answer = pachd.call(pachd.pps.ListSecret, pachd.empty, "for the secrets")
    if name not in {info.secret.name for info in answer.secret_info}:
        raise InputError("this secret is not one for pipelines", where=name, fix="Choose another name.")


def _delete(pachd: Pachd, name: str) -> None:
    pps = pachd.pps_pb2
    pachd.call(
        pachd.pps.DeleteSecret, pps.DeleteSecretRequest(secret=pps.Secret(name=name)), f"to delete secret {name}"
    )
