#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachctl_context
short_description: Keep a context in pachctl's configuration
version_added: 0.1.0
description:
  - Gives pachctl a context with an explicit address, so that it does not open port-forwards of its own.
  - C(port_forwarders) that C(pachctl port-forward) left behind in the context are removed, since pachctl refuses to go
    on because of them. Everything else in the file stays as it is.
extends_documentation_fragment:
  - pachops.pachyderm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The diff has this context and which one is active; a session's token is never shown.
  idempotent:
    support: full
options:
  name:
    description: Name of the context.
    type: str
    required: true
  state:
    description: Whether the configuration has the context.
    type: str
    choices: [present, absent]
    default: present
  path:
    description:
      - pachctl's configuration.
      - By default the one that pachctl itself uses, E(PACH_CONFIG), otherwise C(~/.pachyderm/config.json).
    type: path
  address:
    description:
      - Address of pachd, C(grpc://host:port), or C(grpcs://host:port) for TLS. Port 30650 where none is given.
      - Required with O(state=present).
    type: str
  cluster_deployment_id:
    description:
      - The C(CLUSTER_DEPLOYMENT_ID) of the pachd behind the address; pachctl refuses every command where another one
        answers.
      - Empty leaves what there is, and a new context without one, which pachctl then fills in.
      - Where it changes, the context leads to another installation, and its session and its transaction are dropped.
    type: str
    default: ""
  server_cas:
    description: Certificates in PEM form that pachctl is to trust; only with C(grpcs://).
    type: str
    default: ""
  namespace:
    description: Kubernetes namespace that the context remembers; empty leaves it.
    type: str
    default: ""
  activate:
    description: Whether pachctl uses this context from now on.
    type: bool
    default: true
seealso:
  - module: pachops.pachyderm.pachyderm_port_forward
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Use the port-forward of this host
  pachops.pachyderm.pachctl_context:
    name: production
    address: grpc://127.0.0.1:30650
    cluster_deployment_id: Zx4rQ3nYtB

- name: Forget it
  pachops.pachyderm.pachctl_context:
    name: production
    state: absent
"""

RETURN = r"""
path:
  description: The configuration.
  returned: always
  type: str
  sample: ~/.pachyderm/config.json
active_context:
  description: Name of the context that pachctl uses, empty where it uses none.
  returned: always
  type: str
  sample: production
context:
  description: The context as it is now, without secrets; empty where there is none.
  returned: always
  type: dict
  sample: {pachd_address: "grpc://127.0.0.1:30650", cluster_deployment_id: Zx4rQ3nYtB}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.client import context as contexts
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the context to the wanted state and return the module's result."""
    params = module.params
    path = Path(params["path"]) if params["path"] else contexts.default_path()
    name = params["name"]
    before = contexts.read(path)
    if params["state"] == "present":
        wanted = contexts.Context(
            params["address"], params["cluster_deployment_id"], params["server_cas"], params["namespace"]
        )
        after = contexts.with_context(before, name, wanted.checked(), activate=params["activate"])
    else:
        after = contexts.without_context(before, name)
    changed = before != after
    if changed and not module.check_mode:
        contexts.write(path, after)
    shown = contexts.shown(after, name)
    return {
        "changed": changed,
        "path": str(path),
        **shown,
        "diff": {
            "before_header": str(path),
            "after_header": str(path),
            "before": contexts.shown(before, name),
            "after": shown,
        },
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path"},
            "address": {"type": "str"},
            "cluster_deployment_id": {"type": "str", "default": ""},
            "server_cas": {"type": "str", "default": ""},
            "namespace": {"type": "str", "default": ""},
            "activate": {"type": "bool", "default": True},
        },
        required_if=[("state", "present", ["address"])],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
