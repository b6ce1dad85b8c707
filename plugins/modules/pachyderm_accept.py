#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove that a deployed Pachyderm works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_accept
short_description: Prove that a deployed Pachyderm works
version_added: 0.1.0
description:
  - Asks pachd through a port-forward for its version and ids, reads its own test of the Kubernetes API in its log, and
    sends a small file through the object store and back.
  - A ready pod alone proves none of these.
  - The file lives in a repository of its own, which is deleted at the end. Its one object stays in the store until the
    next garbage collection; another proof of the same pod writes the same object again.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - In check mode nothing is written, so that only the version, the ids and the log are looked at.
  diff_mode:
    support: N/A
    details:
      - What this module writes is gone when it ends.
  idempotent:
    support: full
options:
  version:
    description: The version that pachd has to answer.
    type: str
    default: 1.13.4
  cluster_deployment_id:
    description: The id that pachd has to answer; without it the one that is recorded in the cluster.
    type: str
  cluster_roles:
    description: Whether pachd may read nodes. If not, its complaint about that is expected.
    type: bool
    default: false
  token:
    description: Authentication token, where authentication is active.
    type: str
  pipeline_image:
    description:
      - Image with C(cp) for a pipeline that copies a file. The workers' nodes must be able to pull it.
      - Without it no pipeline is run.
    type: str
  timeout:
    description: Seconds for each call, and for the pipeline's job.
    type: int
    default: 120
seealso:
  - module: pachops.pachyderm.pachyderm_deploy
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Prove that the deployment works
  pachops.pachyderm.pachyderm_accept:
    namespace: pachyderm

- name: Prove that pipelines work, too
  pachops.pachyderm.pachyderm_accept:
    namespace: pachyderm
    pipeline_image: docker.io/library/busybox:1.36
"""

RETURN = r"""
findings:
  description: One entry per proof.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: Stable name of the proof.
      type: str
    severity:
      description: V(ok), V(warning) or V(error).
      type: str
    found:
      description: What was found.
      type: str
    wanted:
      description: What was wanted.
      type: str
    fix:
      description: The next step; empty where nothing is to be done.
      type: str
  sample:
    - check: object-store
      severity: ok
      found: 32768 bytes went in and came back in 0.2 s
      wanted: ""
      fix: ""
version:
  description: The version that pachd answered, in full.
  returned: always
  type: str
  sample: 1.13.4
table:
  description: The findings as lines for a person, the gravest first. When the task fails, the message has the errors.
  returned: success
  type: list
  elements: str
  sample: ["✔ version  pachd 1.13.4 answers"]
duration:
  description: Wall time in seconds.
  returned: always
  type: float
  sample: 1.1
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils import findings
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import acceptance, deployment
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.versions import DEFAULT_VERSION, release
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Try the proofs, and return the module's result."""
    started = time.monotonic()
    params = module.params
    namespace = params["namespace"]
    facts = release(params["version"])
    kube = connect(params["kubeconfig"], params["context"])
    expected = acceptance.Expected(
        release=facts,
        deployment_id=params["cluster_deployment_id"] or deployment.deployment_id(kube, namespace),
        cluster_roles=params["cluster_roles"],
    )
    proof = acceptance.prove(
        kube,
        namespace,
        expected,
        token=params["token"] or "",
        pipeline_image=params["pipeline_image"] or "",
        pod_patch=deployment.recorded_pod_patch(kube, namespace) if params["pipeline_image"] else "",
        write=not module.check_mode,
        timeout=params["timeout"],
        progress=Progress(),
    )
    found = proof.findings
    result: dict[str, Any] = {
        "changed": False,
        "version": proof.version,
        "findings": [finding.as_dict() for finding in found],
        "table": findings.table(found),
        "duration": round(time.monotonic() - started, 2),
    }
    grave = findings.errors(found)
    if grave:
        lines = "\n".join(findings.table(grave))
        del result["table"]
        result |= {"failed": True, "msg": f"pachd in namespace {namespace} is ready, but does not work:\n{lines}"}
    return result


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "version": {"type": "str", "default": DEFAULT_VERSION},
            "cluster_deployment_id": {"type": "str"},
            "cluster_roles": {"type": "bool", "default": False},
            "token": {"type": "str", "no_log": True},
            "pipeline_image": {"type": "str"},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
