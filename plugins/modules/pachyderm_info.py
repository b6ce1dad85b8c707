#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_info
short_description: Look at a running Pachyderm
version_added: 0.1.0
description:
  - Returns version, ids, health, the repos with their sizes, and the pipelines with their states.
  - M(pachops.pachyderm.pachyderm_status) asks Kubernetes and etcd too; this asks pachd alone, and needs no more than
    an address.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
  - pachops.pachyderm.attributes.info_module
seealso:
  - module: pachops.pachyderm.pachyderm_status
  - module: pachops.pachyderm.pachyderm_repo
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Ask the pachd behind a port-forward
  pachops.pachyderm.pachyderm_info:
    address: grpc://127.0.0.1:30650
  register: look

- name: Insist on health
  ansible.builtin.assert:
    that: look.healthy
    fail_msg: "{{ look.trouble }}"
"""

RETURN = r"""
version:
  description: pachd's version, in full.
  returned: always
  type: str
  sample: 1.13.4
cluster_id:
  description: The id in etcd, which pachctl calls the cluster's.
  returned: always
  type: str
  sample: 4bf6ff19a0e24b5c9b3e5ba6e0c5cd72
deployment_id:
  description: The id that pachctl's contexts remember.
  returned: always
  type: str
  sample: 0e5d4c2a5b8d4ab7b54d3a1bd6c8e7f1
healthy:
  description: What pachd's own health call says.
  returned: always
  type: bool
  sample: true
trouble:
  description: Why it is not healthy; empty where it is.
  returned: always
  type: str
  sample: ""
repos:
  description: The repos by name, as M(pachops.pachyderm.pachyderm_repo) returns them.
  returned: always
  type: list
  elements: dict
  sample:
    - {name: ticks, description: Prices, created: "2026-11-22T10:00:00Z", size: 356502, branches: [master, staging]}
pipelines:
  description: The pipelines by name, as M(pachops.pachyderm.pachyderm_pipeline) returns them.
  returned: always
  type: list
  elements: dict
  sample:
    - {name: measure, version: 2, state: running, stopped: false, inputs: [ticks@master], jobs: {success: 5}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import pipelines, repos
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and return the module's result."""
    with opened(module.params) as pachd:
        cluster, trouble = pachd.cluster(), pachd.trouble()
        return {
            "changed": False,
            "version": pachd.version(),
            "cluster_id": cluster.id,
            "deployment_id": cluster.deployment_id,
            "healthy": not trouble,
            "trouble": trouble,
            "repos": repos.every(pachd),
            "pipelines": pipelines.every(pachd),
        }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
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
