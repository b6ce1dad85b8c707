#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_copy
short_description: Copy a file into a repo
version_added: 0.1.0
description:
  - Writes one file in one commit on a branch, and replaces what was under that path before.
  - Nothing is written where the same content is there already.
  - pachd is reached by a port-forward to its pod.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  namespace:
    description: Namespace of the installation.
    type: str
    default: pachyderm
  src:
    description: The file on this host.
    type: path
    required: true
  repo:
    description: The repo; it is made where it does not exist.
    type: str
    required: true
  branch:
    description: The branch; it is made where it does not exist.
    type: str
    default: master
  path:
    description: The file's path in the repo; the name of O(src) by default.
    type: str
    default: ""
  token:
    description: Authentication token, where authentication is active.
    type: str
    default: ""
seealso:
  - module: pachops.pachyderm.pachyderm_fetch
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Bring the ticks into their repo
  pachops.pachyderm.pachyderm_copy:
    namespace: pachyderm
    src: examples/quickstart/ticks.csv
    repo: ticks
"""

RETURN = r"""
checksum:
  description: SHA-256 of the content.
  returned: always
  type: str
  sample: 6f5a5571930ce189077b048c69a2c8dc11941000581cb8c631a7e85f20572c05
size:
  description: Size in bytes.
  returned: always
  type: int
  sample: 356502
file:
  description: Where the file is, as pachctl writes it.
  returned: always
  type: str
  sample: ticks@master:/ticks.csv
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.files import connected, copy_in


def run(module: AnsibleModule) -> dict[str, Any]:
    """Copy, and return the module's result."""
    params = module.params
    source = Path(params["src"])
    path = "/" + (params["path"] or source.name).lstrip("/")
    kube = connect(params["kubeconfig"], params["context"])
    with connected(kube, params["namespace"], params["token"]) as pachd:
        content, changed = copy_in(pachd, source, params["repo"], params["branch"], path, write=not module.check_mode)
    return {
        "changed": changed,
        "checksum": content.checksum,
        "size": content.size,
        "file": f"{params['repo']}@{params['branch']}:{path}",
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "src": {"type": "path", "required": True},
            "repo": {"type": "str", "required": True},
            "branch": {"type": "str", "default": "master"},
            "path": {"type": "str", "default": ""},
            "token": {"type": "str", "default": "", "no_log": True},
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
