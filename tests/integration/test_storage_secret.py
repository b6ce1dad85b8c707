# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage secret on a real API server: field ownership decides what is kept, what goes and what is refused."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import ClusterError, InputError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.apply import data_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret import StorageOptions
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret_sync import (
    ensure,
    inspect,
    secret_ref,
)

ROLE = StorageOptions("aws", aws_bucket="example-bucket", aws_region="eu-central-1")
KEYS = StorageOptions(
    "aws",
    aws_bucket="example-bucket",
    aws_region="eu-central-1",
    aws_auth="keys",
    aws_id="AKIAEXAMPLEEXAMPLE",
    aws_secret="wJalrXUtnFEMI-EXAMPLEKEY",
)


def content(kube: Kube, namespace: str) -> dict[str, bytes]:
    secret = kube.get(secret_ref(namespace))
    assert secret is not None
    return data_of(secret)


def kubectl_patch(kube: Kube, namespace: str, **data: str) -> None:
    """Change single keys as somebody else would."""
    encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    query = [("fieldManager", "kubectl-patch")]
    body = json.dumps({"data": encoded})
    path = secret_ref(namespace).path()
    response = kube.request("PATCH", path, query=query, body=body, content_type="application/merge-patch+json")
    assert response.status == 200, response.body


def by_pachctl(kube: Kube, namespace: str, **data: str) -> None:
    """Create the secret as ``kubectl apply`` of pachctl's manifest does."""
    encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"name": secret_ref(namespace).name, "namespace": namespace, "labels": {"suite": "pachyderm"}}
    body = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})
    path = secret_ref(namespace).path().rpartition("/")[0]
    query = [("fieldManager", "kubectl-client-side-apply")]
    assert kube.request("POST", path, query=query, body=body).status == 201


def test_created_with_its_namespace_then_unchanged(kube: Kube, namespace: str) -> None:
    fresh = f"{namespace}-x"
    try:
        predicted = ensure(kube, fresh, ROLE, check_mode=True)
        assert [change.action for change in predicted.changes] == ["created", "created"]
        assert kube.get(Ref("v1", "Namespace", None, fresh)) is None
        done = ensure(kube, fresh, ROLE)
        assert [change.action for change in done.changes] == ["created", "created"]
        assert done.checksum == predicted.checksum
        again = ensure(kube, fresh, ROLE)
        assert not any(change.changed for change in again.changes)
        assert again.checksum == done.checksum
    finally:
        kube.delete(Ref("v1", "Namespace", None, fresh))


def test_switching_the_way_to_log_in_removes_our_keys_and_keeps_others(kube: Kube, namespace: str) -> None:
    ensure(kube, namespace, KEYS)
    kubectl_patch(kube, namespace, google_cred="{}", other="theirs")
    version = kube.get(secret_ref(namespace))
    predicted = ensure(kube, namespace, ROLE, check_mode=True)
    assert kube.get(secret_ref(namespace)) == version
    outcome = ensure(kube, namespace, ROLE)
    after = content(kube, namespace)
    assert "amazon-id" not in after
    assert "amazon-secret" not in after
    assert after["other"] == b"theirs"
    assert outcome.kept == ["google-cred", "other"]
    assert predicted.checksum == outcome.checksum
    assert predicted.changes == outcome.changes
    assert set(outcome.changes[1].diff()["after"]["data"].values()) == {"(hidden, same)"}


def test_pachctls_secret_is_taken_over_only_when_asked(kube: Kube, namespace: str) -> None:
    by_pachctl(kube, namespace, amazon_region="us-east-1", amazon_bucket="example-bucket", amazon_id="OLD", extra="x")
    with pytest.raises(InputError, match=r"somebody else's.*kubectl-client-side-apply.*amazon-id.*adopt"):
        ensure(kube, namespace, ROLE)
    assert content(kube, namespace)["amazon-region"] == b"us-east-1"
    ensure(kube, namespace, ROLE, adopt=True)
    after = content(kube, namespace)
    assert after["amazon-region"] == b"eu-central-1"
    assert after["amazon-id"] == b"", "a left-over key would win over the role"
    assert after["extra"] == b"x"
    for adopt in (False, True):
        assert not any(change.changed for change in ensure(kube, namespace, ROLE, adopt=adopt).changes)


def test_a_key_that_somebody_changed_is_a_conflict(kube: Kube, namespace: str) -> None:
    ensure(kube, namespace, ROLE)
    kubectl_patch(kube, namespace, reverse="false")
    with pytest.raises(ClusterError, match=r'"kubectl-patch" using v1 owns \.data\.reverse'):
        ensure(kube, namespace, ROLE)
    assert content(kube, namespace)["reverse"] == b"false"
    ensure(kube, namespace, ROLE, adopt=True)
    assert content(kube, namespace)["reverse"] == b"true"


def test_credentials_that_would_win_are_refused(kube: Kube, namespace: str) -> None:
    ensure(kube, namespace, ROLE)
    kubectl_patch(kube, namespace, amazon_id="AKIASOMEBODYELSE", amazon_secret="value-of-somebody-else")
    with pytest.raises(InputError, match="amazon-id, amazon-secret are set by somebody else") as caught:
        ensure(kube, namespace, ROLE)
    assert "value-of-somebody-else" not in str(caught.value)


def test_an_existing_secret_is_judged_and_left_alone(kube: Kube, namespace: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        inspect(kube, namespace, "aws")
    by_pachctl(kube, namespace, amazon_regoin="eu-central-1", amazon_bucket="example-bucket")
    with pytest.raises(InputError, match=r"amazon-region is missing.*did you mean amazon-region"):
        inspect(kube, namespace, "aws")
    assert sorted(content(kube, namespace)) == ["amazon-bucket", "amazon-regoin"]


def test_a_namespace_without_rights(kube: Kube, kubeconfig: str, namespace: str, tmp_path: Path) -> None:
    metadata = {"name": "nobody", "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    config = as_service_account(kube, kubeconfig, namespace, "nobody", tmp_path)
    with pytest.raises(ClusterError, match=r"not allowed to get secrets.*nobody"):
        ensure(connect(str(config)), namespace, ROLE)
    assert kube.get(secret_ref(namespace)) is None


def as_service_account(kube: Kube, kubeconfig: str, namespace: str, name: str, tmp_path: Path) -> Path:
    """Return a kubeconfig for a service account of the test's namespace."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    token = kube.request("POST", path, body=json.dumps({"spec": {"expirationSeconds": 600}})).json()["status"]["token"]
    cluster = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))["clusters"][0]["cluster"]
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(content))
    return file


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  roles:
    - role: pachops.pachyderm.storage_secret
"""


def play(root: Path, tmp_path: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role as a user does."""
    playbook, given = tmp_path / "play.yml", tmp_path / "variables.json"
    playbook.write_text(PLAY)
    given.write_text(json.dumps(variables))
    program = Path(sys.executable).parent / "ansible-playbook"
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(root / "ansible.cfg")}
    command = [str(program), "-i", "localhost,", str(playbook), "-e", f"@{given}", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_the_role_is_idempotent_and_leaks_nothing_however_loud(
    root: Path, kube: Kube, kubeconfig: str, namespace: str, tmp_path: Path
) -> None:
    secrets = {
        "storage_secret_aws_id": "AKIAIOSFODNN7EXAMPLE",
        "storage_secret_aws_secret": "tell-nobody-0123456789abcdef",
    }
    variables = {
        "backend": "aws",
        "kubeconfig": kubeconfig,
        "storage_secret_namespace": namespace,
        "storage_secret_aws_bucket": "example-bucket",
        "storage_secret_aws_region": "eu-central-1",
        "storage_secret_aws_auth": "keys",
        **secrets,
    }
    outputs = []
    check = play(root, tmp_path, "-vvv", "--check", "--diff", **variables)
    assert kube.get(secret_ref(namespace)) is None
    first = play(root, tmp_path, "-vvv", "--diff", **variables)
    second = play(root, tmp_path, "-vvv", "--diff", **variables)
    assert content(kube, namespace)["amazon-secret"].decode() == secrets["storage_secret_aws_secret"]
    refused = play(root, tmp_path, "-vvv", **{**variables, "storage_secret_mode": "sometimes"})
    invalid = play(root, tmp_path, "-vvv", **{**variables, "storage_secret_aws_region": ""})
    misspelt = play(root, tmp_path, "-vvv", **variables, storage_secret_aws_regoin="x")
    for run, expected in (
        (check, "changed=1"),
        (first, "changed=1"),
        (second, "changed=0"),
        (refused, "must be one of"),
        (invalid, "aws_region is missing"),
        (misspelt, "storage_secret_aws_regoin"),
    ):
        outputs.append(run.stdout + run.stderr)
        assert expected in outputs[-1], outputs[-1]
    assert "(hidden, changed)" in outputs[0]
    for output in outputs:
        for value in secrets.values():
            assert value not in output
            assert base64.b64encode(value.encode()).decode() not in output


def test_a_json_key_in_a_variable_does_not_leak(
    root: Path, kube: Kube, kubeconfig: str, namespace: str, tmp_path: Path
) -> None:
    key = {
        "type": "service_account",
        "project_id": "example-project",
        "client_email": "pachyderm@example-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        "private_key": "-----BEGIN PRIVATE KEY-----\ntell-nobody-0123456789abcdef\n-----END PRIVATE KEY-----\n",
    }
    variables = {
        "backend": "gcp",
        "kubeconfig": kubeconfig,
        "storage_secret_namespace": namespace,
        "storage_secret_gcp_bucket": "example-bucket",
    }
    for given in (key, json.dumps(key)):
        run = play(root, tmp_path, "-vvv", "--diff", **variables, storage_secret_gcp_credentials=given)
        assert run.returncode == 0, run.stdout
        assert "tell-nobody" not in run.stdout + run.stderr
    assert json.loads(content(kube, namespace)["google-cred"]) == key
