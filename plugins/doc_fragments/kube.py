# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the modules of this collection find their cluster; private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for C(extends_documentation_fragment: pachops.pachyderm.kube[.namespace])."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The kubeconfig to use.
      - Without it, the environment's E(KUBECONFIG) is used, then C(~/.kube/config), then the service account of the pod
        that this runs in.
    type: path
  context:
    description: The context in the kubeconfig; its current one by default.
    type: str
requirements:
  - PyYAML, urllib3 and websocket-client (Python libraries)
  - kubernetes (Python library), for kubeconfigs with exec plugins or auth providers and inside a pod
notes:
  - Changes are made by server-side apply with the field manager C(pachops.pachyderm). In check mode the API server is
    asked for a real dry run, so the prediction includes its defaults and its admission rules.
"""

    NAMESPACE = r"""
options:
  namespace:
    description: Namespace of the installation.
    type: str
    default: pachyderm
"""
