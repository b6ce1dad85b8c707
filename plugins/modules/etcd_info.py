#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_info
short_description: Tell how Pachyderm's etcd is
version_added: 0.1.0
description:
  - Asks every member for its version, size, revision and leader, and the whole for alarms and numbers of keys.
  - A member that does not answer is part of the answer; it fails the task only with O(fail_if_unhealthy).
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.etcd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.info_module
  - pachops.pachyderm.attributes.action_group
options:
  fail_if_unhealthy:
    description: Whether the task fails when a member does not answer, has no leader, or an alarm is raised.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.etcd_maintenance
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Ask the etcd of an installation
  pachops.pachyderm.etcd_info:
    namespace: pachyderm
  register: look

- name: Insist on room for a while
  ansible.builtin.assert:
    that: look.etcd.db_size < 0.8 * look.etcd.quota
"""

RETURN = r"""
etcd:
  description: What etcd says; sizes in bytes, null for what is not known.
  returned: always
  type: dict
  contains:
    healthy:
      description: Whether all members answer and have a leader, and no alarm is raised.
      type: bool
    troubles:
      description: Why it is not healthy.
      type: list
      elements: str
    transport:
      description: How it was reached, V(direct) or V(port_forward).
      type: str
    members:
      description: C(name), C(version), C(leader), C(revision), C(db_size), C(db_size_in_use) and C(error) of each.
      type: list
      elements: dict
    alarms:
      description: V(NOSPACE), V(CORRUPT).
      type: list
      elements: str
    quota:
      description: The size at which it stops taking writes; null where only addresses are known.
      type: int
    revision:
      description: The newest revision.
      type: int
    db_size:
      description: Size of the largest member's file.
      type: int
    keys:
      description: Number of keys by kind.
      type: dict
  sample:
    healthy: true
    revision: 4711
    keys: {repos: 12, commits: 3456, jobs: 789, all: 6000}
table:
  description: The same as lines for a person.
  returned: always
  type: list
  elements: str
  sample: ["etcd-0  3.5.21  leader  revision 4711  20.5 kB, 12% free"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.maintenance import (
    ETCD_ARGUMENT_SPEC,
    inspect,
    reach_from,
    table,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect


def run(module: AnsibleModule) -> dict[str, Any]:
    """Ask, and return the module's result."""
    params = module.params
    kube = None if params["endpoints"] else connect(params["kubeconfig"], params["context"])
    with reach_from(params, kube) as reached:
        state = inspect(reached)
    return {"changed": False, "etcd": state, "table": table(state)}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **ETCD_ARGUMENT_SPEC,
            "fail_if_unhealthy": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    if module.params["fail_if_unhealthy"] and not result["etcd"]["healthy"]:
        module.fail_json(msg="etcd is not healthy: " + "; ".join(result["etcd"]["troubles"]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
