#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the room in which a local cluster runs, or remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster_sandbox
short_description: Namespaces, addresses and cgroups of a local Kubernetes cluster
version_added: 0.1.0
description:
  - Gives a local cluster a network namespace and a mount namespace of its own, a veth pair to the host, an nftables
    table that masquerades its way out and keeps other machines from being forwarded in, and its cgroups.
  - Removing it ends every process inside, and deletes namespaces, mounts, interface, table, cgroups and directories.
    The settings of the machine that a cluster changes are put back when the last one goes.
  - The role P(pachops.pachyderm.local_cluster#role) uses it; it is of little use alone.
author: [The pachops.pachyderm contributors (@pachops)]
extends_documentation_fragment: [pachops.pachyderm.attributes, pachops.pachyderm.attributes.full]
options:
  name:
    description: The cluster's name, 1 to 12 lower-case letters, digits and hyphens, a letter first.
    type: str
    required: true
  state:
    description: Whether the sandbox is there.
    type: str
    choices: [present, absent]
    default: present
  state_dir:
    description: Directory of what survives a reboot. V(state=absent) deletes it.
    type: path
    required: true
  run_dir:
    description: Directory of what does not survive a reboot. V(state=absent) deletes it.
    type: path
    required: true
  node_subnet:
    description: IPv4 network of the veth pair; its first address is the host's, its second the node's.
    type: str
    required: true
  pod_subnet:
    description: IPv4 network of the pods, seen inside only.
    type: str
    required: true
  masquerade:
    description: Whether the inside reaches other machines.
    type: bool
    default: true
  stop_strays:
    description:
      - Also end the cluster's own programs, though not the pods, before anything else is done.
      - For when their supervisor is gone and cannot end them.
    type: bool
    default: false
requirements: [iproute2, nftables, util-linux]
"""

EXAMPLES = r"""
- name: Make room for a cluster
  pachops.pachyderm.local_cluster_sandbox:
    name: dev
    state_dir: /var/lib/pachops/dev
    run_dir: /run/pachops/dev
    node_subnet: 198.18.7.0/24
    pod_subnet: 10.244.0.0/16

- name: Remove everything of it
  pachops.pachyderm.local_cluster_sandbox:
    name: dev
    state: absent
    state_dir: /var/lib/pachops/dev
    run_dir: /run/pachops/dev
    node_subnet: 198.18.7.0/24
    pod_subnet: 10.244.0.0/16
"""

RETURN = r"""
parts:
  description: What was made or removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [namespaces, link, filter, cgroups]
enter:
  description: Command prefix that runs a program inside.
  returned: success
  type: list
  elements: str
  sample: [nsenter, --net=/run/pachops/dev/ns/net, --mount=/run/pachops/dev/ns/mnt, --]
node_address:
  description: The node's address as seen from the host.
  returned: success
  type: str
  sample: 198.18.7.2
host_address:
  description: The host's address as seen from inside.
  returned: success
  type: str
  sample: 198.18.7.1
cgroup:
  description: The pods' cgroup.
  returned: success
  type: str
  sample: /pachops/dev
mtu:
  description: Largest packet that leaves the machine unfragmented, in bytes.
  returned: success
  type: int
  sample: 1500
"""

import ipaddress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.sandbox import Sandbox


def network(option: str, value: str) -> ipaddress.IPv4Network:
    """Return the option's value as a network."""
    try:
        return ipaddress.IPv4Network(value)
    except ValueError as error:
        raise InputError(
            "not an IPv4 network", where=f"{option}: {value}", why=str(error), fix="Write it like 198.18.7.0/24."
        ) from error


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask, and return the module's result."""
    options = module.params
    sandbox = Sandbox(
        options["name"],
        Path(options["state_dir"]),
        Path(options["run_dir"]),
        network("node_subnet", options["node_subnet"]),
        network("pod_subnet", options["pod_subnet"]),
        options["masquerade"],
    )
    strays: list[int] = []
    if options["stop_strays"] and not module.check_mode:
        strays = sandbox.stop_strays()
    if options["state"] == "present":
        parts = sandbox.missing() if module.check_mode else sandbox.up()
    else:
        parts = sandbox.remains() if module.check_mode else sandbox.down()
    listing = "".join(f"{part}\n" for part in parts)
    present = options["state"] == "present"
    return {
        "changed": bool(parts or strays),
        "parts": parts,
        "enter": sandbox.enter,
        "node_address": sandbox.node_address,
        "host_address": sandbox.host_address,
        "cgroup": sandbox.cgroup,
        "mtu": sandbox.mtu,
        "diff": {"before": "" if present else listing, "after": listing if present else ""},
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "state_dir": {"type": "path", "required": True},
            "run_dir": {"type": "path", "required": True},
            "node_subnet": {"type": "str", "required": True},
            "pod_subnet": {"type": "str", "required": True},
            "masquerade": {"type": "bool", "default": True},
            "stop_strays": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
