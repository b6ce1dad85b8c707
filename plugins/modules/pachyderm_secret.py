#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_secret
short_description: Keep secrets for pipelines
version_added: 0.1.0
description:
  - Makes a Kubernetes secret through Pachyderm's API, as C(pachctl create secret) does, for C(transform.secrets) and
    C(transform.image_pull_secrets) of a pipeline.
  - pachd never tells what is in a secret. Where the cluster can be asked, which is without O(address) or with
    O(kubeconfig), the values are compared there; elsewhere a secret of that name and type counts as right.
  - Secrets that are not for pipelines, such as the storage secret, are refused. pachd itself would delete them.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.attributes.action_group
options:
  name:
    description: The secret.
    type: str
    required: true
  data:
    description: The values by key.
    type: dict
  type:
    description: Kubernetes type of the secret, such as V(kubernetes.io/dockerconfigjson).
    type: str
    default: Opaque
  replace:
    description: Make it anew without comparing. This is a change each time.
    type: bool
    default: false
  state:
    description: Whether it is to be there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pachops.pachyderm.pachyderm_pipeline
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Keep a password for a pipeline
  pachops.pachyderm.pachyderm_secret:
    name: market-data
    data:
      password: "{{ market_data_password }}"
"""

RETURN = r"""
secret:
  description: The secret without its values; as it was where it is deleted; empty where there was none.
  returned: always
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    type:
      description: Its type.
      type: str
    created:
      description: When it was made, in UTC; null where it would be made.
      type: str
    keys:
      description: The keys of O(data).
      type: list
      elements: str
  sample: {name: market-data, type: Opaque, created: "2026-11-22T10:00:00Z", keys: [password]}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Ref, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import secrets
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the secret to its state, and return the module's result."""
    params, write = module.params, not module.check_mode
    look = None
    if not params["address"] or params["kubeconfig"]:
        kube = connect(params["kubeconfig"], params["context"])

        def look(name: str) -> Any:
            return kube.get(Ref("v1", "Secret", params["namespace"], name))

    with opened(params) as pachd:
        if params["state"] == "present":
            change, secret = secrets.ensure(
                pachd,
                params["name"],
                {key: str(value) for key, value in params["data"].items()},
                params["type"],
                replace=params["replace"],
                look=look,
                write=write,
            )
        else:
            change, secret = secrets.remove(pachd, params["name"], write=write)
    return {"changed": change.changed, "secret": secret, "diff": change.diff()}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "name": {"type": "str", "required": True},
            "data": {"type": "dict", "no_log": True},
            "type": {"type": "str", "default": secrets.TYPE},
            "replace": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("data",))],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
