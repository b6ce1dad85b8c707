#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep a local cluster's certificates, keys and kubeconfigs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster_pki
short_description: Certificates and kubeconfigs of a local Kubernetes cluster
version_added: 0.1.0
description:
  - Writes the authorities, certificates, keys and kubeconfigs that the programs of a single-node cluster need.
  - What is missing, names other addresses than wanted, or ends within 90 days is renewed; everything else stays.
  - All files are readable by their owner alone, and no secret is returned.
author: [The pachops.pachyderm contributors (@pachops)]
extends_documentation_fragment: [pachops.pachyderm.attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Certificates and keys are not shown.
  idempotent:
    support: full
options:
  path:
    description: Directory of the files; made with mode 0700.
    type: path
    required: true
  name:
    description: The cluster's name, also the node's.
    type: str
    required: true
  node_address:
    description: IPv4 address of the API server and the kubelet.
    type: str
    required: true
  service_address:
    description: IPv4 address of the Service C(kubernetes), the first of the service network.
    type: str
    required: true
  kubeconfig:
    description: Where the administrator's kubeconfig is written.
    type: path
    required: true
requirements: [cryptography >= 42, PyYAML]
"""

EXAMPLES = r"""
- name: Write the certificates of a cluster
  pachops.pachyderm.local_cluster_pki:
    path: /var/lib/pachops/dev/pki
    name: dev
    node_address: 198.18.7.2
    service_address: 10.96.0.1
    kubeconfig: /var/lib/pachops/dev/kubeconfig
"""

RETURN = r"""
written:
  description: Names of what was written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [ca, kube-apiserver]
fingerprints:
  description: A digest of every certificate and public key, by file name.
  returned: success
  type: dict
  sample: {ca.crt: 0a1b2c3d4e5f6071}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.pki import MISSING_LIBRARY, Pki


def run(module: AnsibleModule) -> dict[str, Any]:
    """Write what has to be written, and return the module's result."""
    options = module.params
    pki = Pki(
        Path(options["path"]),
        options["name"],
        options["node_address"],
        options["service_address"],
        Path(options["kubeconfig"]),
    )
    written = pki.ensure(dry_run=module.check_mode)
    return {"changed": bool(written), "written": written, "fingerprints": pki.fingerprints()}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "node_address": {"type": "str", "required": True},
            "service_address": {"type": "str", "required": True},
            "kubeconfig": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if MISSING_LIBRARY is not None:
        library = missing_required_lib(MISSING_LIBRARY.name or "cryptography")
        module.fail_json(msg=library, exception=str(MISSING_LIBRARY))
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
