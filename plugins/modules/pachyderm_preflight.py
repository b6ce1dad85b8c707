#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what would keep Pachyderm from being deployed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_preflight
short_description: Find what would keep Pachyderm from being deployed
version_added: 0.1.0
description:
  - Looks at the options, the cluster and the images, and reports all findings at once, each with what was found, what
    is wanted and how to get there.
  - It takes at most 20 seconds and changes nothing.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.settings
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.info_module
  - pachops.pachyderm.attributes.action_group
options:
  image_archives:
    description:
      - Archives that are imported into the cluster's nodes before the deployment.
      - The images in them count as available.
    type: list
    elements: path
    default: []
  imported_images:
    description: Full names of images that the nodes are known to have.
    type: list
    elements: str
    default: []
  image_check:
    description:
      - How grave it is when an image's registry cannot be asked from the controller.
      - A registry that answers that it does not have the image, or not for you, is always an error; V(off) asks none.
    type: str
    choices: [error, warning, "off"]
    default: error
  storage_secret:
    description: Whether the storage secret has to exist already, or is written V(later).
    type: str
    choices: [required, later]
    default: required
  adopt:
    description: Whether the deployment will take over what somebody else deployed.
    type: bool
    default: false
  fail_on_error:
    description: Whether an error among the findings fails the task.
    type: bool
    default: true
seealso:
  - module: pachops.pachyderm.pachyderm_deploy
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Find what stands in the way
  pachops.pachyderm.pachyderm_preflight:
    backend: local
    storage_secret: later
  register: preflight

- name: Show it
  ansible.builtin.debug:
    msg: "{{ preflight.table }}"
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
    - check: images
      severity: error
      found: docker.io/pachyderm/pachd:1.13.4 cannot be had, docker.io does not have it
      wanted: an image that the nodes can pull
      fix: Give a registry that has it (pachyderm_image_registry) ...
table:
  description: The findings as lines for a person, the gravest first. When the task fails, the message has the errors.
  returned: success
  type: list
  elements: str
  sample: ["✔ api  answers as Kubernetes 1.34.4"]
summary:
  description: How many checks ran and how they ended.
  returned: always
  type: str
  sample: "9 checks: 0 errors, 0 warnings, 9 ok"
duration:
  description: Wall time in seconds.
  returned: always
  type: float
  sample: 1.3
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils import findings
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import preflight
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.options import SETTINGS_SPEC


def run(module: AnsibleModule) -> dict[str, Any]:
    """Run the checks, and return the module's result."""
    started = time.monotonic()
    params = module.params
    request = preflight.Request(
        namespace=params["namespace"],
        archives=params["image_archives"],
        imported=params["imported_images"],
        image_check=params["image_check"],
        secret_comes_later=params["storage_secret"] == "later",  # noqa: S105 - no password, a choice
        adopt=params["adopt"],
    )
    found = preflight.inspect(lambda: connect(params["kubeconfig"], params["context"]), params, request)
    result: dict[str, Any] = {
        "changed": False,
        "findings": [finding.as_dict() for finding in found],
        "table": findings.table(found),
        "summary": findings.summary(found),
        "duration": round(time.monotonic() - started, 2),
    }
    grave = findings.errors(found)
    if grave and params["fail_on_error"]:
        lines = "\n".join(findings.table(grave))
        number = f"{len(grave)} things have" if len(grave) > 1 else "One thing has"
        del result["table"]
        result |= {"failed": True, "msg": f"{number} to be put right before Pachyderm can be deployed:\n{lines}"}
    return result


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **SETTINGS_SPEC,
            "image_archives": {"type": "list", "elements": "path", "default": []},
            "imported_images": {"type": "list", "elements": "str", "default": []},
            "image_check": {"type": "str", "choices": ["error", "warning", "off"], "default": "error"},
            "storage_secret": {
                "type": "str",
                "choices": ["required", "later"],
                "default": "required",
                "no_log": False,
            },
            "adopt": {"type": "bool", "default": False},
            "fail_on_error": {"type": "bool", "default": True},
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
