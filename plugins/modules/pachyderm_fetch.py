#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_fetch
short_description: Fetch a file from a repo
version_added: 0.1.0
description:
  - Reads one file of a commit, or of a branch's head, and replaces the destination in one step where it differs.
  - pachd is reached by a port-forward to its pod.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - The file is read and compared, and the destination is left as it is.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  namespace:
    description: Namespace of the installation.
    type: str
    default: pachyderm
  repo:
    description: The repo.
    type: str
    required: true
  commit:
    description: Id of a commit, or a branch.
    type: str
    default: master
  path:
    description: The file's path in the repo.
    type: str
    required: true
  dest:
    description: The file on this host; its directory has to exist.
    type: path
    required: true
  token:
    description: Authentication token, where authentication is active.
    type: str
    default: ""
seealso:
  - module: pachops.pachyderm.pachyderm_copy
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Fetch the ticks
  pachops.pachyderm.pachyderm_fetch:
    namespace: pachyderm
    repo: ticks
    path: /ticks.csv
    dest: /tmp/ticks.csv
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
dest:
  description: The file on this host.
  returned: always
  type: str
  sample: /tmp/ticks.csv
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.files import connected, copy_out
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Fetch, and return the module's result."""
    params = module.params
    progress = Progress()
    progress.stage(f"fetch {params['repo']}@{params['commit']}:{params['path']}")
    kube = connect(params["kubeconfig"], params["context"])
    with connected(kube, params["namespace"], params["token"]) as pachd:
        content, changed = copy_out(
            pachd,
            params["repo"],
            params["commit"],
            params["path"],
            Path(params["dest"]),
            progress,
            write=not module.check_mode,
        )
    return {"changed": changed, "checksum": content.checksum, "size": content.size, "dest": params["dest"]}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "repo": {"type": "str", "required": True},
            "commit": {"type": "str", "default": "master"},
            "path": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
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
