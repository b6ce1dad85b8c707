#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Import image archives into a local cluster's containerd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster_images
short_description: Import image archives into the local cluster
version_added: 0.1.0
description:
  - Imports OCI and Docker image archives into containerd, under the names that the archives carry, completed as pods
    complete them (C(docker.io/library/…)), and pins them so that the kubelet never removes them.
  - An image is the same when its configuration's digest is the same, however the archive is packed.
author: [The pachops.pachyderm contributors (@pachops)]
extends_documentation_fragment: [pachops.pachyderm.attributes, pachops.pachyderm.attributes.full]
options:
  archives:
    description:
      - The archives, in any of the forms that C(docker save) and C(podman save) write.
      - All are read before any is imported.
    type: list
    elements: path
    required: true
  address:
    description: containerd's socket.
    type: path
    required: true
  timeout:
    description: How long to wait for containerd to answer, in seconds.
    type: int
    default: 30
requirements: [containerd]
"""

EXAMPLES = r"""
- name: Make images available without a registry
  pachops.pachyderm.local_cluster_images:
    archives: [/srv/images/pachd.tar, /srv/images/worker.tar]
    address: /run/pachops/pachops/containerd.sock
"""

RETURN = r"""
images:
  description: The images in the archives by the names under which pods find them, each with its configuration's digest.
  returned: success
  type: dict
  sample:
    docker.io/pachyderm/pachd:1.13.4: sha256:9f3c0c7f6d0e8e6ab3ae9f1ecbf5f2bca7a20d8f4bf6a3d6f2e0e6a7d1c4b5a6
imported:
  description: Names that were imported or pinned, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [docker.io/pachyderm/pachd:1.13.4]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.local_cluster.images import Containerd, archive_images
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Import what is missing, and return the module's result."""
    containerd = Containerd(Path(module.params["address"]))
    archives = {Path(place): archive_images(Path(place)) for place in module.params["archives"]}
    # On a bare host, check mode looks forward to a containerd that is not there yet.
    running = containerd.address.exists() or not module.check_mode
    if running:
        containerd.wait(module.params["timeout"])
    wanting = {
        place: containerd.wanting(images) if running else [name for image in images for name in image.names]
        for place, images in archives.items()
    }
    progress = Progress()
    work = [place for place in archives if wanting[place]]
    for number, place in enumerate(work, start=1):
        progress.stage("import images", f"{number} of {len(work)}: {place.name}")
        if not module.check_mode:
            containerd.load(place, archives[place])
    imported = [name for place in work for name in wanting[place]]
    return {
        "changed": bool(imported),
        "imported": imported,
        "images": {
            name: image.config_digest for images in archives.values() for image in images for name in image.names
        },
        "diff": {"before": "", "after": "".join(f"{name}\n" for name in imported)},
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "archives": {"type": "list", "elements": "path", "required": True},
            "address": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
