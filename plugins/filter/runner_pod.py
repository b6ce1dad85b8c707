# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pod of the runner image."""

from __future__ import annotations

DOCUMENTATION = r"""
name: runner_pod
short_description: Specify a pod that does the collection's work inside a cluster
version_added: 0.1.0
description:
  - Returns the specification of a pod that runs the runner image once, without privileges and with a file system that
    it cannot write to, apart from C(/tmp).
author:
  - The pachops.pachyderm contributors (@pachops)
options:
  _input:
    description:
      - C(image), C(image_pull_policy), C(image_pull_secret), C(run_as), C(resources), C(volumes), C(volume_mounts) and
        C(node_selector), as the option O(pachops.pachyderm.etcd_backup#module:job) has them.
    type: dict
    required: true
  service_account:
    description: The service account that it runs as.
    type: str
    required: true
  secret:
    description: The secret that is mounted at C(/etc/pachops).
    type: str
    required: true
  container:
    description: What else its container has; C(name), and C(args) or C(command).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the pod of a scheduled backup
  ansible.builtin.debug:
    msg: >-
      {{ {'image': 'docker.io/pachops/runner:latest'} | pachops.pachyderm.runner_pod('backup', 'backup',
      {'name': 'backup', 'args': ['pachops.pachyderm.scheduled_backup']}) }}
"""

RETURN = r"""
_value:
  description: The pod's C(spec).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.runner import RUNNER_ARGUMENT_SPEC, pod_spec


def runner_pod(
    runner: Mapping[str, Any], service_account: str, secret: str, container: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the pod's specification."""
    defaults = {name: option["default"] for name, option in RUNNER_ARGUMENT_SPEC.items()}
    return pod_spec({**defaults, **runner}, service_account, secret, container)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"runner_pod": runner_pod}
