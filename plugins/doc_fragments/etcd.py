# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of modules that talk to etcd."""

from __future__ import annotations


class ModuleDocFragment:
    """How etcd is reached: by its addresses, or through its pods."""

    DOCUMENTATION = r"""
requirements:
  - grpcio and protobuf (Python libraries)
options:
  namespace:
    description: Namespace of the installation whose etcd is meant; its pods are reached by port-forward.
    type: str
    default: pachyderm
  endpoints:
    description:
      - Addresses of all members, C(host:port) or C(https://host:port), instead of the pods.
      - The cluster is not asked then.
    type: list
    elements: str
    default: []
  ca_file:
    description: PEM file with the authority of etcd's certificates; the system's authorities without it.
    type: path
    default: ""
  cert_file:
    description: PEM file with the certificate to show, where etcd asks for one.
    type: path
    default: ""
  key_file:
    description: PEM file with its key.
    type: path
    default: ""
  server_name:
    description: The name in etcd's certificate, where that is not the one in the address.
    type: str
    default: ""
  user:
    description: User, where etcd's authentication is switched on.
    type: str
    default: ""
  password:
    description: The user's password.
    type: str
    default: ""
  timeout:
    description: Seconds that each question may take.
    type: float
    default: 20.0
"""
