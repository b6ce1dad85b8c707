#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Describe an installation of Pachyderm 1.x, whoever deployed it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_discover
short_description: Describe an installation of Pachyderm 1.x, whoever deployed it
version_added: 0.1.0
description:
  - Reads what C(pachctl deploy), an old chart or this collection made in a namespace, and returns it as data, as the
    variables of the playbook C(deploy) that describe it, and as the text of an inventory.
  - Asks the API server by a dry run what a deployment with these variables would change, and gives a reason for each
    difference. Nothing is written.
  - No value of a Secret is returned; the storage secret stays where it is and is referred to.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.info_module
  - pachops.pachyderm.attributes.action_group
options:
  plan:
    description:
      - Ask what a deployment would change. It needs the right to do what a deployment does, for the API server judges
        dry runs as it judges the real thing.
    type: bool
    default: true
seealso:
  - module: pachops.pachyderm.pachyderm_deploy
  - module: pachops.pachyderm.pachyderm_status
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: See what is there
  pachops.pachyderm.pachyderm_discover:
    namespace: default
  register: found

- name: Say what a deployment would change
  ansible.builtin.debug:
    msg: "{{ found.table }}"

- name: Insist that it can be taken over in place
  ansible.builtin.assert:
    that: found.adoptable
"""

RETURN = r"""
installation:
  description: What was found.
  returned: success
  type: dict
  contains:
    maker:
      description: V(pachops), V(pachctl), V(chart) with its name and version, or V(unknown).
      type: str
    version:
      description: Version of pachd, empty where nothing tells it.
      type: str
    deployment_id:
      description: The id that users' pachctl remembers.
      type: str
    storage:
      description:
        - C(backend), C(bucket) or C(host_path), C(region), C(endpoint), the C(spelling) of keys (V(directory),
          V(slash), V(plain) or V(reversed)), how pachd logs in (C(auth)), and the names of the secret's keys
          (C(secret_keys)).
      type: dict
    etcd:
      description:
        - C(kind), C(members), C(image), C(version), and where its data is (C(volume), C(place), C(size),
          C(storage_class), C(data_dir)), whether it speaks C(tls), and its C(flags).
      type: dict
    services:
      description: C(type), C(ports), C(annotations) and C(source_ranges) by name.
      type: dict
    rbac:
      description: How far pachd's rights reach, V(cluster), V(namespaced) or V(none).
      type: str
    environment:
      description: pachd's variables with plain values; those that may be secret are hidden.
      type: dict
    pipelines:
      description: Number of workers by ReplicationController.
      type: dict
  sample:
    maker: pachctl
    version: 1.13.4
adoptable:
  description: Whether a deployment may take it over in place.
  returned: success
  type: bool
  sample: true
findings:
  description:
    - What the variables cannot say. An C(error) stands in the way of taking the installation over in place; a
      C(warning) names what a deployment would leave out.
  returned: success
  type: list
  elements: dict
  sample:
    - check: etcd-flags
      severity: warning
      found: etcd is started with --snapshot-count
      wanted: nothing else than what the collection sets
      fix: A deployment leaves these out; see whether you need them.
findings_table:
  description: The findings as lines for a person.
  returned: success
  type: list
  elements: str
  sample: ["! etcd-flags  found:  etcd is started with --snapshot-count"]
variables:
  description: Variables of the playbook C(deploy) that describe the installation; defaults are left out.
  returned: success
  type: dict
  sample:
    backend: local
    pachyderm_host_path: /var/pachyderm
    storage_secret_mode: existing
inventory:
  description: The same as the text of a C(group_vars/all.yml), with what was found as comments.
  returned: success
  type: str
  sample: "---\nbackend: local\n"
differences:
  description: What a deployment would change, one entry per object and reason; empty with O(plan=false).
  returned: success
  type: list
  elements: dict
  contains:
    object:
      description: Kind and name.
      type: str
    action:
      description: V(created), V(updated), V(replaced) or V(deleted).
      type: str
    why:
      description: The reason, empty where there is none.
      type: str
    fields:
      description: Path, old and new value of each field.
      type: list
      elements: str
    restarts:
      description: V(pachd), V(etcd), V(dash) or empty.
      type: str
  sample:
    - object: Deployment/pachd
      action: replaced
      why: pachd reports to its maker's host otherwise
      fields: ["spec.template.spec.containers[pachd].env[METRICS].value: true → false"]
      restarts: pachd
table:
  description: The differences as lines for a person.
  returned: success
  type: list
  elements: str
  sample: ["Deployment/pachd (replaced, restarts pachd)"]
restarts:
  description: What a deployment would restart.
  returned: success
  type: list
  elements: str
  sample: [etcd, pachd]
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils import adoption, findings
from ansible_collections.pachops.pachyderm.plugins.module_utils.discovery import discover
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and return the module's result."""
    params = module.params
    kube = connect(params["kubeconfig"], params["context"])
    discovery = discover(kube, params["namespace"])
    plan = adoption.plan(kube, discovery, ask=params["plan"])
    return {
        "changed": False,
        "installation": discovery.as_dict(),
        "adoptable": plan.adoptable,
        "findings": [finding.as_dict() for finding in plan.findings],
        "findings_table": findings.table(plan.findings),
        "variables": dict(plan.variables),
        "inventory": adoption.inventory(discovery, plan.variables, plan.findings),
        "differences": [asdict(difference) for difference in plan.differences],
        "table": adoption.table(plan.differences),
        "restarts": plan.restarts,
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "plan": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
