#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_remove
short_description: Remove an installation, to a level
version_added: 0.1.0
description:
  - Deletes what this collection and its pachd made in a namespace, and waits until it is gone; whatever else lies
    there is named and left alone.
  - In check mode it returns the plan and changes nothing.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.attributes.action_group
options:
  level:
    description:
      - V(app) removes what runs and keeps etcd's data, the storage secret and the deployment id, so that a deploy
        brings everything back.
      - V(metadata) also removes etcd's claims or directory.
      - V(data) also removes the objects, the storage secret, the deployment id, and the namespace where this collection
        made it and nothing else is in it. It is refused where the objects are in a bucket.
    type: str
    choices: [app, metadata, data]
    default: app
  confirm:
    description:
      - The installation's name, which is that of its namespace, or of the cluster as the kubeconfig's context calls it.
      - Needed for the levels V(metadata) and V(data), outside check mode.
    type: str
    default: ""
  timeout:
    description: Seconds to wait until everything is gone.
    type: float
    default: 300.0
notes:
  - Directories of a node are removed only when that node is the host that this module runs on, as with
    P(pachops.pachyderm.local_cluster#role); this takes root.
seealso:
  - module: pachops.pachyderm.pachyderm_deploy
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Remove what runs, and keep everything that is needed to bring it back
  pachops.pachyderm.pachyderm_remove:
    namespace: pachyderm

- name: See what would be destroyed
  pachops.pachyderm.pachyderm_remove:
    namespace: pachyderm
    level: data
  check_mode: true
  register: plan

- name: Destroy it
  pachops.pachyderm.pachyderm_remove:
    namespace: pachyderm
    level: data
    confirm: pachyderm
  when: plan.changed
"""

RETURN = r"""
plan:
  description: What goes and what stays.
  returned: always
  type: dict
  contains:
    namespace:
      description: The namespace.
      type: str
    level:
      description: The level.
      type: str
    names:
      description: The words of which one confirms the levels V(metadata) and V(data).
      type: list
      elements: str
    objects:
      description: C(kind), C(namespace) and C(name) of each object that goes, in order.
      type: list
      elements: dict
    directories:
      description: C(part), C(path) and C(node) of each directory that goes, and whether it is C(here) on this host.
      type: list
      elements: dict
    keeps:
      description: What stays of the installation.
      type: list
      elements: str
    foreign:
      description: What is in the namespace and was not made by this collection.
      type: list
      elements: str
    lines:
      description: The plan for a person.
      type: list
      elements: str
  sample:
    level: app
    objects: [{kind: Deployment, namespace: pachyderm, name: pachd}]
    keeps: [ConfigMap pachops-installation]
    lines: ["Remove app of the installation in namespace pachyderm:", "  delete Deployment: pachd"]
removed:
  description: The objects and directories that were removed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [Deployment pachyderm/pachd]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.kubeconfig import context_name
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.remove import LEVELS, remove


def run(module: AnsibleModule) -> dict[str, Any]:
    """Plan, carry out unless in check mode, and return the module's result."""
    params = module.params
    outcome = remove(
        connect(params["kubeconfig"], params["context"]),
        params["namespace"],
        params["level"],
        Progress(),
        context=context_name(params["kubeconfig"], params["context"]),
        confirm=params["confirm"],
        check_mode=module.check_mode,
        timeout=params["timeout"],
    )
    result: dict[str, Any] = {
        "changed": bool(outcome.removed),
        "plan": outcome.plan.as_dict(),
        "removed": outcome.removed,
    }
    if module._diff:  # noqa: SLF001 - there is no public name
        result["diff"] = [change.diff() for change in outcome.changes]
    return result


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "level": {"type": "str", "choices": list(LEVELS), "default": "app"},
            "confirm": {"type": "str", "default": ""},
            "timeout": {"type": "float", "default": 300.0},
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
