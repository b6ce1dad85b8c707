#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploy Pachyderm 1.12 or 1.13."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_deploy
short_description: Deploy Pachyderm 1.12 or 1.13
version_added: 0.1.0
description:
  - Brings service accounts, roles, etcd, pachd and their Services to the state that the options describe, and waits
    until each of them is ready.
  - Objects are applied server-side, so that fields of others stay theirs.
  - The storage secret has to exist; M(pachops.pachyderm.pachyderm_storage_secret) writes it. pachd restarts when that
    Secret's content changes, and only then.
  - A namespace that holds somebody else's Pachyderm is refused, and so are options under which existing metadata would
    no longer be found.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.settings
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - The API server is asked for a dry run of every change, so that what it would refuse is found.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  components:
    description:
      - What to deploy, always in this order.
      - Objects that other options had created and these do not want are deleted only when all components are given.
    type: list
    elements: str
    choices: [base, etcd, pachd, dash]
    default: [base, etcd, pachd, dash]
  adopt:
    description:
      - Take over objects that somebody else made, for example C(pachctl deploy). Their data stays where it is, and
        O(host_path), O(etcd_storage) and O(etcd_members) must agree with it.
      - etcd and pachd are restarted.
    type: bool
    default: false
  paused:
    description:
      - Deploy everything and do not start pachd. A restore or a migration then puts metadata and objects in place
        before pachd sees either, and starts it.
      - Without this option a later run starts it.
      - Where a restore, a migration or a garbage collection has paused the installation and was not finished, pachd
        stays stopped whatever this says, and the module warns.
    type: bool
    default: false
  storage_secret_checksum:
    description:
      - Checksum of the storage secret's content, as M(pachops.pachyderm.pachyderm_storage_secret) returns it.
      - Without this option it is computed from the Secret in the cluster; a check mode run before the Secret exists
        needs it for an exact diff.
    type: str
  etcd_timeout:
    description: Seconds for etcd to become healthy.
    type: int
    default: 300
  pachd_timeout:
    description: Seconds for pachd to become ready.
    type: int
    default: 600
seealso:
  - module: pachops.pachyderm.pachyderm_preflight
  - module: pachops.pachyderm.pachyderm_accept
  - module: pachops.pachyderm.pachyderm_storage_secret
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Deploy Pachyderm on this host's cluster
  pachops.pachyderm.pachyderm_deploy:
    namespace: pachyderm
    backend: local

- name: Deploy it on EKS, keyless, behind an internal load balancer
  pachops.pachyderm.pachyderm_deploy:
    namespace: pachyderm
    backend: aws
    etcd_storage:
      storage_class: gp3
      size: 50Gi
    service_account_annotations:
      eks.amazonaws.com/role-arn: arn:aws:iam::123456789012:role/pachyderm
    service:
      type: LoadBalancer
      annotations:
        service.beta.kubernetes.io/aws-load-balancer-internal: "true"

- name: Pin the images by digest, from a mirror
  pachops.pachyderm.pachyderm_deploy:
    image_registry: registry.example.com/mirror
    images:
      etcd: registry.example.com/mirror/etcd:v3.5.21
"""

RETURN = r"""
cluster_deployment_id:
  description: The id that users' pachctl compares. In check mode of a first deployment, a placeholder.
  returned: success
  type: str
  sample: 3f2a9c64d5f04ae2a3d0d0d6f3f0f5aa
cluster_deployment_id_origin:
  description: V(given) by the option, V(recorded) in the cluster, or V(generated) now.
  returned: success
  type: str
  sample: recorded
objects:
  description: Every object in the order in which it was applied, and what happened (in check mode, would happen) to it.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
    namespace:
      description: Its namespace; empty for cluster-wide objects.
      type: str
    name:
      description: Its name.
      type: str
    action:
      description: V(created), V(updated), V(unchanged) or V(deleted).
      type: str
  sample:
    - kind: Deployment
      namespace: pachyderm
      name: pachd
      action: updated
pipeline_pod_patch:
  description:
    - The C(pod_patch) that every pipeline needs so that its pods get what pachd gets by O(ca_bundle), O(host_aliases),
      O(extra_env), O(extra_volumes) and O(extra_volume_mounts), because pachd does not hand these on.
    - Empty where none of them is set.
    - It is also under C(pipeline-pod-patch) in the ConfigMap C(pachops-installation).
  returned: success
  type: str
  sample: '[{"op":"add","path":"/hostAliases","value":[{"ip":"192.0.2.7","hostnames":["s3.example.com"]}]}]'
paused:
  description: Whether pachd is deployed and not started.
  returned: success
  type: bool
  sample: false
images:
  description: The images in use, by component.
  returned: success
  type: dict
  sample:
    pachd: docker.io/pachyderm/pachd:1.13.4
seconds:
  description: Wall time per component, waiting included.
  returned: success
  type: dict
  sample:
    base: 0.3
    etcd: 6.1
    pachd: 9.8
    dash: 0.0
duration:
  description: Wall time in seconds.
  returned: success
  type: float
  sample: 16.4
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import deployment, manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.options import SETTINGS_SPEC
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Deploy, and return the module's result."""
    started = time.monotonic()
    params = module.params
    settings = Settings.parse(params)
    outcome = deployment.deploy(
        connect(params["kubeconfig"], params["context"]),
        settings,
        components=[name for name in manifests.COMPONENTS if name in params["components"]],
        check_mode=module.check_mode,
        adopt=params["adopt"],
        paused=params["paused"],
        checksum=params["storage_secret_checksum"] or "",
        etcd_timeout=params["etcd_timeout"],
        pachd_timeout=params["pachd_timeout"],
        progress=Progress(),
    )
    for text in outcome.warnings:
        module.warn(text)
    return {
        "changed": outcome.changed,
        "cluster_deployment_id": outcome.cluster_deployment_id,
        "cluster_deployment_id_origin": outcome.id_origin,
        "objects": [
            {
                "kind": change.ref.kind,
                "namespace": change.ref.namespace or "",
                "name": change.ref.name,
                "action": change.action,
            }
            for change in outcome.changes
        ],
        "pipeline_pod_patch": outcome.pipeline_pod_patch,
        "paused": outcome.paused,
        "images": dict(settings.images),
        "seconds": outcome.seconds,
        "duration": round(time.monotonic() - started, 2),
        "diff": [change.diff() for change in outcome.changes if change.changed],
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **SETTINGS_SPEC,
            "components": {
                "type": "list",
                "elements": "str",
                "choices": list(manifests.COMPONENTS),
                "default": list(manifests.COMPONENTS),
            },
            "adopt": {"type": "bool", "default": False},
            "paused": {"type": "bool", "default": False},
            "storage_secret_checksum": {"type": "str", "no_log": False},
            "etcd_timeout": {"type": "int", "default": 300},
            "pachd_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
