#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Wait until a local cluster works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster_ready
short_description: Wait until a local cluster works
version_added: 0.1.0
description:
  - Waits until the API server is ready and, with O(addons), until the kubelet has reported, the node is ready, cluster
    DNS answers and the volume provisioner's pod is ready.
  - Fails with what was missing last.
author: [The pachops.pachyderm contributors (@pachops)]
extends_documentation_fragment: [pachops.pachyderm.attributes, pachops.pachyderm.attributes.info_module]
options:
  address:
    description: The API server's address.
    type: str
    required: true
  node:
    description: The node's name.
    type: str
    required: true
  pki:
    description: Directory of the cluster's certificates, see M(pachops.pachyderm.local_cluster_pki).
    type: path
    required: true
  addons:
    description: Whether to wait for more than the API server.
    type: bool
    default: true
  since:
    description: What the kubelet reported before this time, in seconds since the epoch, counts for nothing.
    type: float
    default: 0
  timeout:
    description: How long to wait, in seconds.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Wait until the cluster works
  pachops.pachyderm.local_cluster_ready:
    address: 198.18.7.2
    node: dev
    pki: /var/lib/pachops/dev/pki
"""

RETURN = r"""
seconds:
  description: How long the wait took.
  returned: success
  type: float
  sample: 12.5
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.ready import Cluster, wait
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Wait, and return the module's result."""
    options = module.params
    begin = time.monotonic()
    wait(
        Cluster(options["address"], options["node"], Path(options["pki"])),
        addons=options["addons"],
        since=options["since"],
        seconds=options["timeout"],
        progress=Progress(),
    )
    return {"changed": False, "seconds": round(time.monotonic() - begin, 1)}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "node": {"type": "str", "required": True},
            "pki": {"type": "path", "required": True},
            "addons": {"type": "bool", "default": True},
            "since": {"type": "float", "default": 0},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
