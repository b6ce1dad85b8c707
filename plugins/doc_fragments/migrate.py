# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The two installations of a migration; private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for C(extends_documentation_fragment: pachops.pachyderm.migrate[.source])."""

    SOURCE = r"""
options:
  source:
    description: The installation that is moved.
    type: dict
    suboptions: &side
      namespace:
        description: Its namespace.
        type: str
        default: pachyderm
      kubeconfig:
        description: The kubeconfig of its cluster, where that is not the one of O(kubeconfig).
        type: path
        default: ""
      context:
        description: The context in that kubeconfig.
        type: str
        default: ""
      path:
        description: The directory of its objects on this host, with the backend C(local); the node's own by default.
        type: path
        default: ""
      access:
        description: Replaces what its storage secret says about the way to the bucket, for hosts that need another one.
        type: dict
        default: {}
        suboptions:
          region:
            description: The bucket's region.
            type: str
            default: ""
          endpoint:
            description: Address of the object storage service.
            type: str
            default: ""
          access_key:
            description: Access key id, for S3.
            type: str
            default: ""
          secret_key:
            description: Secret access key, for S3.
            type: str
            default: ""
          session_token:
            description: Session token of temporary credentials, for S3.
            type: str
            default: ""
          credentials_file:
            description: A Google service account's key file.
            type: path
            default: ""
          ca_file:
            description: CA certificates to trust instead of the system's.
            type: path
            default: ""
      transport:
        description:
          - How its etcd is reached. V(direct) uses the address of its pod, V(port_forward) goes through the API server.
          - V(auto) takes the direct way where it leads to the same etcd.
        type: str
        choices: [auto, direct, port_forward]
        default: auto
      etcd:
        description: How to reach an etcd with TLS, users or an address of its own.
        type: dict
        default: {}
        suboptions:
          endpoint:
            description: Its client address, such as V(https://etcd.example:2379).
            type: str
            default: ""
          ca_file:
            description: CA certificates that its own is checked against.
            type: path
            default: ""
          cert_file:
            description: The client certificate.
            type: path
            default: ""
          key_file:
            description: The client certificate's private key.
            type: path
            default: ""
          server_name:
            description: The name in its certificate, where that is not the address.
            type: str
            default: ""
          user:
            description: Its user, where authentication is on.
            type: str
            default: ""
          password:
            description: The user's password.
            type: str
            default: ""
"""


# The anchor is in the text of the source.  Outside of the class, because ansible-test wants literals in it.
ModuleDocFragment.DOCUMENTATION = (
    ModuleDocFragment.SOURCE
    + r"""
  target:
    description: Where it is moved to. Not used with O(state=paused).
    type: dict
    default: {}
    suboptions: *side
"""
)
