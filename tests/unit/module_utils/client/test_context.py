# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pachctl's configuration: one context changes, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.client.context import Context
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError
from ansible_collections.pachops.pachyderm.plugins.modules import pachctl_context

USED: dict[str, Any] = {
    "user_id": "3f0e0a3c",
    "v2": {
        "active_context": "elsewhere",
        "contexts": {
            "elsewhere": {"source": 3, "pachd_address": "grpcs://a:443", "session_token": "kept", "new": {"a": 1}},
            "local": {"port_forwarders": {"pachd": 30650}, "session_token": "secret", "cluster_deployment_id": "one"},
        },
        "metrics": True,
        "max_shell_completions": "64",
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(USED))
    path.chmod(0o644)
    return path


def run(run_module: Callable[..., Any], file: Path, **options: Any) -> Any:
    given = {"name": "local", "path": str(file), "address": "grpc://127.0.0.1:30650", **options}
    return run_module(pachctl_context.main, **given)


def test_one_context_changes_and_nothing_else(file: Path, run_module: Callable[..., Any]) -> None:
    result = run(run_module, file, cluster_deployment_id="one", activate=False)
    assert result.changed
    after = json.loads(file.read_text())
    wanted = json.loads(json.dumps(USED))
    del wanted["v2"]["contexts"]["local"]["port_forwarders"]
    wanted["v2"]["contexts"]["local"]["pachd_address"] = "grpc://127.0.0.1:30650"
    assert after == wanted
    assert list(after["v2"]["contexts"]) == ["elsewhere", "local"]
    assert file.stat().st_mode & 0o777 == 0o644
    assert "secret" not in json.dumps(result["diff"])
    assert "secret" not in json.dumps(result["context"])
    assert not run(run_module, file, cluster_deployment_id="one", activate=False).changed


def test_check_mode_says_the_same_and_writes_nothing(file: Path, run_module: Callable[..., Any]) -> None:
    before = file.read_text()
    predicted = run(run_module, file, check_mode=True)
    assert file.read_text() == before
    done = run(run_module, file)
    assert predicted["diff"] == done["diff"]
    assert (predicted.changed, predicted["active_context"]) == (done.changed, "local")


def test_another_installation_ends_the_session(file: Path, run_module: Callable[..., Any]) -> None:
    run(run_module, file, cluster_deployment_id="two")
    local = json.loads(file.read_text())["v2"]["contexts"]["local"]
    assert local == {"cluster_deployment_id": "two", "pachd_address": "grpc://127.0.0.1:30650"}


def test_a_new_file_is_private(tmp_path: Path, run_module: Callable[..., Any]) -> None:
    path = tmp_path / "new" / "config.json"
    assert run(run_module, path, namespace="trial").changed
    after = json.loads(path.read_text())
    assert after["v2"]["contexts"] == {"local": {"pachd_address": "grpc://127.0.0.1:30650", "namespace": "trial"}}
    assert after["user_id"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not run(run_module, path, namespace="trial").changed


def test_what_older_versions_wrote_is_kept(tmp_path: Path, run_module: Callable[..., Any]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"user_id": "x", "v1": {"pachd_address": "old:30650", "session_token": "t"}}))
    run(run_module, path)
    contexts = json.loads(path.read_text())["v2"]["contexts"]
    assert contexts["default"] == {"source": 1, "pachd_address": "old:30650", "session_token": "t"}


def test_absent(file: Path, run_module: Callable[..., Any]) -> None:
    run(run_module, file)
    result = run(run_module, file, state="absent")
    assert (result.changed, result["active_context"], result["context"]) == (True, "", {})
    after = json.loads(file.read_text())
    assert after["v2"]["contexts"] == {"elsewhere": USED["v2"]["contexts"]["elsewhere"]}
    assert not run(run_module, file, state="absent").changed


def test_certificates_are_for_tls() -> None:
    made = Context("grpcs://pachd.example.com", server_cas="PEM").checked()
    assert made.address == "grpcs://pachd.example.com:30650"
    assert made.applied_to({})["server_cas"] == base64.b64encode(b"PEM").decode()
    with pytest.raises(InputError, match="without TLS"):
        Context("grpc://a:1", server_cas="PEM").checked()


@pytest.mark.parametrize("address", ["", "a", "http://a:1", "grpc://a:99999", "grpc://a b:1", "grpc://a:1/x"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InputError, match="no address of a pachd"):
        Context(address).checked()


@pytest.mark.parametrize("content", ["{", "[]", '{"v2": {"contexts": []}}', '{"v2": {"contexts": ["a"]}}'])
def test_a_file_that_is_no_configuration_is_left_alone(
    tmp_path: Path, run_module: Callable[..., Any], content: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    result = run(run_module, path)
    if content == '{"v2": {"contexts": []}}':  # as empty as none
        assert not result.failed
        return
    assert result.failed
    assert "pachctl's configuration cannot be used" in result["msg"]
    assert path.read_text() == content
