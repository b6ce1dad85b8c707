#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find out whether this machine can serve a local cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster_preflight
short_description: Find out whether this machine can serve a local cluster
version_added: 0.1.0
description:
  - Looks at the operating system, rights, packages, memory, disk and networks, and returns everything that stands in
    the way of a local cluster at once. Changes nothing, and fails only when an option is malformed.
author: [The pachops.pachyderm contributors (@pachops)]
extends_documentation_fragment: [pachops.pachyderm.attributes, pachops.pachyderm.attributes.info_module]
options:
  name:
    description: The cluster's name.
    type: str
    required: true
  directory:
    description: Where most of the disk space is needed; need not exist.
    type: path
    required: true
  disk:
    description: Disk space that has to be free, in GiB.
    type: float
    required: true
  memory:
    description: Memory that the machine has to have, in GiB.
    type: float
    required: true
  node_subnet:
    description: IPv4 network of the veth pair.
    type: str
    required: true
  packages:
    description: Distribution packages that are needed.
    type: list
    elements: str
    default: []
  go_minimum:
    description: Least version of Go that builds the programs.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Look whether this machine can serve a local cluster
  pachops.pachyderm.local_cluster_preflight:
    name: dev
    directory: /var/lib/pachops
    disk: 12
    memory: 2
    node_subnet: 198.18.7.0/24
  register: preflight
"""

RETURN = r"""
findings:
  description: What was found, errors first.
  returned: success
  type: list
  elements: dict
  contains:
    check:
      description: Name of the check.
      type: str
      sample: disk
    severity:
      description: V(ok), V(warning) or V(error).
      type: str
      sample: error
    found:
      description: What is there.
      type: str
      sample: 3.1 GiB free
    wanted:
      description: What should be there.
      type: str
      sample: 12.0 GiB free (local_cluster_required_disk)
    fix:
      description: The next step.
      type: str
      sample: Free some space.
usable:
  description: Whether no finding is an error.
  returned: success
  type: bool
  sample: true
report:
  description: The findings as lines for a person.
  returned: success
  type: list
  elements: str
  sample: ["✔ host  Linux amd64, 24 GiB of memory, 70 GiB of disk free"]
missing_packages:
  description: Those of O(packages) that are not installed.
  returned: success
  type: list
  elements: str
  sample: [containerd]
go:
  description: Path of a Go that is recent enough, empty where there is none.
  returned: success
  type: str
  sample: /usr/local/go/bin/go
supervisor:
  description: What can keep the cluster's programs running, V(systemd) or V(supervisord).
  returned: success
  type: str
  sample: supervisord
"""

import ipaddress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.findings import errors, table
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster import preflight
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.sandbox import Sandbox


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and return the module's result."""
    options = module.params
    try:
        subnet = ipaddress.IPv4Network(options["node_subnet"])
    except ValueError as problem:
        raise InputError(
            "not an IPv4 network",
            where=f"local_cluster_node_subnet: {options['node_subnet']}",
            why=str(problem),
            fix="Write it like 198.18.7.0/24.",
        ) from problem
    nowhere = Path("/nonexistent")
    sandbox = Sandbox(options["name"], nowhere, nowhere, subnet, subnet)
    host = preflight.examine(Path(options["directory"]))
    findings = preflight.check(
        host,
        disk=int(options["disk"] * preflight.GIB),
        memory=int(options["memory"] * preflight.GIB),
        subnet=subnet,
        interface=sandbox.interface,
    )
    recent = preflight.version_key(host.go) >= preflight.version_key(options["go_minimum"])
    return {
        "changed": False,
        "findings": [finding.as_dict() for finding in findings],
        "usable": not errors(findings),
        "report": table(findings),
        "missing_packages": sorted(set(options["packages"]) - host.packages),
        "go": host.go_path if host.go and recent else "",
        "supervisor": "systemd" if host.systemd else "supervisord",
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "disk": {"type": "float", "required": True},
            "memory": {"type": "float", "required": True},
            "node_subnet": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "default": []},
            "go_minimum": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as problem:
        module.fail_json(**problem.as_result())


if __name__ == "__main__":
    main()
