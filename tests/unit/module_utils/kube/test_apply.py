# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change shows of an object, and what it keeps to itself."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.apply import compare
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref


def pachd(**environment: str) -> dict[str, Any]:
    variables = [{"name": name, "value": value} for name, value in environment.items()]
    variables.append({"name": "GOOGLE_CRED", "valueFrom": {"secretKeyRef": {"name": "s", "key": "google-cred"}}})
    pod = {"spec": {"containers": [{"name": "pachd", "env": variables}]}}
    metadata = {"name": "pachd", "namespace": "p"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": pod}}


def test_variables_that_are_called_like_secrets_are_hidden() -> None:
    before, after = pachd(LOG_LEVEL="info", API_TOKEN="t0p", SAME_KEY="k3y"), pachd(API_TOKEN="n3w", SAME_KEY="k3y")
    change = compare(Ref.of(before), before, after)
    assert change.changed
    text = json.dumps(change.diff())
    assert not any(secret in text for secret in ("t0p", "n3w", "k3y"))
    assert change.after
    shown = {
        each["name"]: each.get("value") for each in change.after["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert shown == {"API_TOKEN": "(hidden, changed)", "SAME_KEY": "(hidden, same)", "GOOGLE_CRED": None}
    assert before["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] == "t0p"
    assert not compare(Ref.of(before), before, before).changed
