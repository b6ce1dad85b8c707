# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""IAM policy of a Cloud Storage bucket."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gcs_bucket_iam
short_description: Grant and withdraw roles on a Cloud Storage bucket
version_added: 0.1.0
description:
  - Reads the bucket's IAM policy, changes it and writes it back under its etag; reads again where others were faster.
  - Policies are read and written in version 3, so that conditions are kept.
author:
  - The pachops.pachyderm contributors (@pachops)
extends_documentation_fragment:
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.gcp
options:
  bucket:
    description: Name of the bucket.
    type: str
    required: true
  state:
    description: Whether the members are to have the roles. V(absent) takes away exactly the members that are named.
    type: str
    choices: [present, absent]
    default: present
  mode:
    description:
      - V(additive) adds the members and leaves all others.
      - V(role) makes the members of each named role (with its condition) exactly those given.
      - V(policy) makes the whole policy exactly O(bindings), so name the bucket's administrators, too.
    type: str
    choices: [additive, role, policy]
    default: additive
  bindings:
    description: Roles and who has them.
    type: list
    elements: dict
    required: true
    suboptions:
      role:
        description: Name of the role, for instance V(roles/storage.objectUser).
        type: str
        required: true
      members:
        description: Who has it, for instance V(serviceAccount:NAME@PROJECT.iam.gserviceaccount.com).
        type: list
        elements: str
        required: true
      condition:
        description: Condition of the grant. It needs uniform bucket-level access.
        type: dict
        suboptions:
          title:
            description: Short title.
            type: str
            required: true
          expression:
            description: Expression in the Common Expression Language.
            type: str
            required: true
          description:
            description: Longer text.
            type: str
  purge_deleted:
    description: Drop the C(deleted:) traces of members that are granted anew.
    type: bool
    default: false
  wait:
    description:
      - Wait until the policy shows the change, and until a service account made a moment ago is known as a member.
      - A grant may need two minutes more to have effect; M(pachops.pachyderm.object_store_probe) waits for that.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait for that, and to keep trying while others change the policy.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Let Pachyderm's service account use the bucket's objects
  pachops.pachyderm.gcs_bucket_iam:
    bucket: acme-pachyderm
    bindings:
      - role: roles/storage.objectUser
        members:
          - serviceAccount:pachyderm@acme-data.iam.gserviceaccount.com
"""

RETURN = r"""
bindings:
  description: The bucket's bindings after the change.
  returned: success
  type: list
  elements: dict
  sample:
    - role: roles/storage.objectUser
      members:
        - serviceAccount:pachyderm@acme-data.iam.gserviceaccount.com
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import iam
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import (
    GCP_ARGUMENT_SPEC,
    GCP_MUTUALLY_EXCLUSIVE,
    from_options,
)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options say."""
    options = module.params
    grants = iam.grants_from(options["bindings"])
    gcp = from_options(options)

    def wanted(policy: iam.Policy) -> iam.Policy:
        if options["state"] == "absent":
            return iam.without(policy, grants)
        return iam.merged(policy, grants, mode=options["mode"], purge_deleted=options["purge_deleted"])

    change = iam.change_policy(
        gcp,
        iam.bucket_policy(gcp, options["bucket"]),
        wanted,
        check_mode=module.check_mode,
        wait=options["wait"],
        timeout=options["wait_timeout"],
    )
    return {
        "changed": change.changed,
        "bindings": change.after,
        "diff": {"before": {"bindings": change.before}, "after": {"bindings": change.after}},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **GCP_ARGUMENT_SPEC,
            "bucket": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "mode": {"type": "str", "choices": ["additive", "role", "policy"], "default": "additive"},
            "bindings": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "role": {"type": "str", "required": True},
                    "members": {"type": "list", "elements": "str", "required": True},
                    "condition": {
                        "type": "dict",
                        "options": {
                            "title": {"type": "str", "required": True},
                            "expression": {"type": "str", "required": True},
                            "description": {"type": "str"},
                        },
                    },
                },
            },
            "purge_deleted": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 120},
        },
        mutually_exclusive=GCP_MUTUALLY_EXCLUSIVE,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
