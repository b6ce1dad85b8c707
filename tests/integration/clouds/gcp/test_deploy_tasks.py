# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What deploy.yml does before etcd and pachd, on a real cluster: a key that the cluster's secret alone holds."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

EMAIL = "pachyderm@acme-data.iam.gserviceaccount.com"


def test_key_is_probed_and_kept_in_the_secret_and_nowhere_else(
    root: Path,
    emulator: Any,
    options: dict[str, Any],
    kube: Any,
    kubeconfig: str,
    namespace: str,
    watch: Any,
    tmp_path: Path,
) -> None:
    """At -vvv and with --diff: no output, no argument, no file that others could read has it."""
    from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref

    variables = {
        "backend": "gcp",
        "cluster_backend": "gcp",
        "cluster_namespace": namespace,
        "cluster_context": "",
        "pachyderm_kubeconfig": kubeconfig,
        "gcp_storage_project": "acme-data",
        "gcp_storage_bucket": "acme-pachyderm",
        "gcp_storage_location": "EU",
        "gcp_storage_auth": "key",
        "gcp_storage_storage_endpoint": options["storage_endpoint"],
        "gcp_storage_iam_endpoint": options["iam_endpoint"],
        "gcp_storage_token_endpoint": f"{options['storage_endpoint']}/token",
        "gcp_storage_ca_file": options["ca_file"],
        "gcp_storage_access_token": options["access_token"],
        "storage_secret_kubeconfig": kubeconfig,
        "storage_secret_namespace": namespace,
        "storage_secret_backend": "gcp",
        "__deploy_pool": "",
        "__deploy_role": "",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(tmp_path / "variables.json")],
        "tasks": [
            {"ansible.builtin.include_tasks": str(root / "playbooks/tasks/cloud_storage.yml")},
            {"ansible.builtin.include_role": {"name": "pachops.pachyderm.storage_secret"}},
        ],
    }
    (tmp_path / "variables.json").write_text(json.dumps(variables))
    (tmp_path / "play.json").write_text(json.dumps([play]))
    secrets: list[str] = []
    outputs: list[str] = []
    for flags in ((), ("-e", "gcp_storage_key_rotate=true")):
        process = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                "-vvv",
                "--diff",
                str(tmp_path / "play.json"),
                *flags,
            ],
            capture_output=True,
            text=True,
            cwd=root,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(root / "ansible.cfg")},
            check=False,
        )
        outputs.append(process.stdout + process.stderr)
        assert process.returncode == 0, outputs[-1][-3000:]
        data = kube.get(Ref("v1", "Secret", namespace, "pachyderm-storage-secret"))["data"]
        key = json.loads(base64.b64decode(data["google-cred"]))
        assert key["private_key_id"] in emulator.state.accounts[EMAIL].keys
        secrets.append(key["private_key"].splitlines()[1])
    assert secrets[0] != secrets[1]
    probes = [item["query"].get("name", "") for item in emulator.requests if item["call"] == "storage.objects.insert"]
    assert len(probes) == 2, "each key was tried out"
    for secret in (*secrets, options["access_token"]):
        assert not any(secret in output for output in outputs)
        assert not watch.found(secret)
