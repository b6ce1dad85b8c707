# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the modules that talk to pachd reach it; private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for C(extends_documentation_fragment: pachops.pachyderm.pachd)."""

    DOCUMENTATION = r"""
options:
  address:
    description:
      - Where pachd listens, C(grpc://host:port), or C(grpcs://host:port) for TLS, as in C(pachd_address) of pachctl's
        configuration. Without a port it is 30650, without a scheme there is no TLS.
      - Without it, the module makes a port-forward of its own to the ready pod of pachd in O(namespace).
    type: str
    default: ""
  ca_file:
    description: PEM file with the authority of pachd's certificate, with C(grpcs://); the system's without it.
    type: path
    default: ""
  token:
    description: Authentication token, where authentication is active; C(session_token) in pachctl's configuration.
    type: str
    default: ""
  timeout:
    description: Seconds that one call may take; a transfer ends when nothing moved for that long.
    type: float
    default: 30.0
  namespace:
    description: Namespace of the installation, where no O(address) is given.
    type: str
    default: pachyderm
  kubeconfig:
    description:
      - The kubeconfig to use, where no O(address) is given.
      - Without it, the environment's E(KUBECONFIG) is used, then C(~/.kube/config), then the service account of the pod
        that this runs in.
    type: path
  context:
    description: The context in the kubeconfig; its current one by default.
    type: str
requirements:
  - python-pachyderm 6.3, grpcio and protobuf (Python libraries)
  - PyYAML, urllib3 and websocket-client (Python libraries), where no address is given
"""
