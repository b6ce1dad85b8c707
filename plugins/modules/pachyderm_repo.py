#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_repo
short_description: Create, describe and delete repos
version_added: 0.1.0
description:
  - Makes a repo, changes its description, or deletes it with all of its commits.
  - What a deleted repo took in the object store stays there until the next garbage collection.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.attributes.action_group
options:
  name:
    description: The repo.
    type: str
    required: true
  description:
    description: What it is for; without it the description is left as it is.
    type: str
  state:
    description: Whether it is to be there.
    type: str
    choices: [present, absent]
    default: present
  force:
    description: Delete it although branches of other repos descend from it; they lose their input.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.pachyderm_branch
  - module: pachops.pachyderm.pachyderm_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Make a repo
  pachops.pachyderm.pachyderm_repo:
    address: grpc://127.0.0.1:30650
    name: ticks
    description: Prices by the minute
"""

RETURN = r"""
repo:
  description: The repo, as it is or would be; as it was where it is deleted; empty where there was none.
  returned: always
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    description:
      description: Its description.
      type: str
    created:
      description: When it was made, in UTC; null where it would be made.
      type: str
    size:
      description: Bytes of the head of V(master), which is what Pachyderm calls a repo's size.
      type: int
    branches:
      description: Names of its branches.
      type: list
      elements: str
  sample: {name: ticks, description: Prices, created: "2026-11-22T10:00:00Z", size: 356502, branches: [master, staging]}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import repos
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the repo to its state, and return the module's result."""
    params, write = module.params, not module.check_mode
    with opened(params) as pachd:
        if params["state"] == "present":
            change, repo = repos.ensure(pachd, params["name"], params["description"], write=write)
        else:
            change, repo = repos.remove(pachd, params["name"], force=params["force"], write=write)
    return {"changed": change.changed, "repo": repo, "diff": change.diff()}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "name": {"type": "str", "required": True},
            "description": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "force": {"type": "bool", "default": False},
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
