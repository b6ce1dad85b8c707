#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_doctor
short_description: Find everything that is wrong with an installation
version_added: 0.1.0
description:
  - Looks at the settings, the cluster, the images and, where Pachyderm is installed, at etcd, the storage secret, pachd
    and its workers, and reports all findings at once, each with what was found, what is wanted and how to get there.
  - It changes nothing, and findings do not fail the task unless O(fail_on_error) is set.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.settings
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.info_module
  - pachops.pachyderm.attributes.action_group
options:
  image_archives:
    description:
      - Archives that are imported into the cluster's nodes before a deployment.
      - The images in them count as available.
    type: list
    elements: path
    default: []
  image_check:
    description:
      - How grave it is when an image's registry cannot be asked from the controller.
      - A registry that answers that it does not have the image, or not for you, is always an error; V(off) asks none.
    type: str
    choices: [error, warning, "off"]
    default: error
  timeout:
    description: Seconds that each question to etcd or pachd may take.
    type: float
    default: 20.0
  fail_on_error:
    description: Whether an error among the findings fails the task.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.pachyderm_preflight
  - module: pachops.pachyderm.pachyderm_status
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Find what is wrong
  pachops.pachyderm.pachyderm_doctor:
    namespace: pachyderm
    backend: local
  register: doctor

- name: Show it
  ansible.builtin.debug:
    msg: "{{ doctor.table }}"
"""

RETURN = r"""
findings:
  description: One entry per answer of a check.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: Stable name of the check.
      type: str
    severity:
      description: V(ok), V(warning) or V(error).
      type: str
    found:
      description: What is there.
      type: str
    wanted:
      description: What should be there.
      type: str
    fix:
      description: The next step; empty where nothing is to be done.
      type: str
  sample:
    - check: etcd-flags
      severity: error
      found: --max-txn-ops is 128
      wanted: --max-txn-ops=10000
      fix: Run deploy again ...
table:
  description: The findings as lines for a person, the gravest first.
  returned: always
  type: list
  elements: str
  sample: ["✔ etcd-health  etcd 3.5.21, revision 1234, 1 member, no alarm"]
summary:
  description: How many checks ran and how they ended.
  returned: always
  type: str
  sample: "27 checks: 0 errors, 1 warnings, 26 ok"
errors:
  description: Number of findings of severity V(error).
  returned: always
  type: int
  sample: 0
installed:
  description: Whether Pachyderm runs in the namespace.
  returned: always
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils import findings
from ansible_collections.pachops.pachyderm.plugins.module_utils.doctor import diagnose
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.options import SETTINGS_SPEC


def run(module: AnsibleModule) -> dict[str, Any]:
    """Run the checks, and return the module's result."""
    params = module.params
    diagnosis = diagnose(
        lambda: connect(params["kubeconfig"], params["context"]),
        params,
        archives=params["image_archives"],
        image_check=params["image_check"],
        timeout=params["timeout"],
    )
    found = diagnosis.findings
    grave = findings.errors(found)
    result: dict[str, Any] = {
        "changed": False,
        "findings": [finding.as_dict() for finding in found],
        "table": findings.table(found),
        "summary": findings.summary(found),
        "errors": len(grave),
        "installed": diagnosis.installed,
    }
    if grave and params["fail_on_error"]:
        lines = "\n".join(findings.table(grave))
        number = f"{len(grave)} things have" if len(grave) > 1 else "One thing has"
        result |= {"failed": True, "msg": f"{number} to be put right:\n{lines}"}
    return result


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **SETTINGS_SPEC,
            "image_archives": {"type": "list", "elements": "path", "default": []},
            "image_check": {"type": "str", "choices": ["error", "warning", "off"], "default": "error"},
            "timeout": {"type": "float", "default": 20.0},
            "fail_on_error": {"type": "bool", "default": False},
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
