#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_status
short_description: Tell what runs in a namespace
version_added: 0.1.0
description:
  - Reads the installation's objects and asks etcd and pachd, and returns what runs as data and as one screen of text.
  - What cannot be asked is empty or null in the data and named in RV(status.unknown); only an API server that cannot be
    reached fails the task.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.info_module
  - pachops.pachyderm.attributes.action_group
options:
  store:
    description:
      - Where backups are kept, as for M(pachops.pachyderm.etcd_backup), an absolute path on this host,
        C(s3://bucket/prefix) or C(gs://bucket/prefix).
      - Without it backups are not looked at.
    type: str
    required: false
    default: ""
  backup_max_age:
    description: Seconds after which the newest verified backup is too old; without it none is.
    type: int
  timeout:
    description: Seconds that each question to etcd or pachd may take.
    type: float
    default: 20.0
seealso:
  - module: pachops.pachyderm.pachyderm_doctor
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Look at the installation
  pachops.pachyderm.pachyderm_status:
    namespace: pachyderm
  register: look

- name: Show it on one screen
  ansible.builtin.debug:
    msg: "{{ look.screen }}"

- name: Insist on a verified backup of the last day
  pachops.pachyderm.pachyderm_status:
    namespace: pachyderm
    store: s3://acme-backups/pachyderm
    backup_max_age: 86400
  register: look
  failed_when: not look.status.backups.sound

- name: Insist that pachd is ready
  ansible.builtin.assert:
    that: look.status.pachd.ready
"""

RETURN = r"""
status:
  description: What runs; the keys are the same in every state of the installation.
  returned: always
  type: dict
  contains:
    namespace:
      description: The namespace that was looked at.
      type: str
    installed:
      description: Whether Pachyderm runs there.
      type: bool
    managed:
      description: Whether this collection deployed it.
      type: bool
    kept:
      description: Whether it was removed with its data kept, so that a deploy brings it back.
      type: bool
    kubernetes:
      description: Version of the cluster.
      type: str
    backend:
      description: V(local), V(gcp), V(aws), V(minio) or V(azure).
      type: str
    store:
      description: Backend and bucket or directory of the objects.
      type: str
    cluster_id:
      description: The id in etcd, which pachctl calls the cluster's.
      type: str
    deployment_id:
      description: The id that pachctl's contexts remember.
      type: str
    address:
      description: Address inside the C(cluster), C(external) address where there is one, and the Service's C(type).
      type: dict
    pachd:
      description: C(version), C(replicas), C(ready), C(pod), C(age) in seconds, C(restarts), and why it is C(waiting).
      type: dict
    etcd:
      description: C(version), C(members), C(ready), C(revision), C(size) and C(size_in_use) in bytes, and C(alarms).
      type: dict
    claims:
      description: C(name), C(phase), C(size) and C(storage_class) of each claim.
      type: list
      elements: dict
    host_paths:
      description: Directories of the node, C(data) and C(metadata).
      type: dict
    repos:
      description: C(count), and C(size) of their heads in bytes.
      type: dict
    pipelines:
      description: C(count), and C(states) with the number in each.
      type: dict
    workers:
      description: Number of C(controllers), C(pods), and C(ready) pods.
      type: dict
    images:
      description: Images of C(pachd), C(etcd) and C(worker).
      type: dict
    stand_in:
      description: Whether pachd is the test double that stands in where no registry answers.
      type: bool
    restores:
      description:
        - The backup of a restore that is C(unfinished) and the C(step) that it is at, empty where there is none.
        - The ids of restores whose other state is C(set_aside) on etcd's volumes, and C(since) when.
      type: dict
    backups:
      description:
        - How the backups are, null where no store is named. C(sound) is false where none is verified, the newest
          verified one is older than O(backup_max_age), or the store cannot be read, and C(trouble) says which.
        - C(rehearsal) is the record of the newest rehearsal, empty where there was none.
      type: dict
    unknown:
      description: What could not be asked, and why.
      type: dict
  sample:
    namespace: pachyderm
    installed: true
    pachd: {version: 1.13.4, ready: true, restarts: 0}
screen:
  description: The same as lines for a person.
  returned: always
  type: list
  elements: str
  sample: ["pachyderm  1.13.4 in namespace pachyderm on Kubernetes 1.34.4"]
"""

import datetime as dt
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.evidence import gather
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.status import backups_in, report, screen
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import (
    STORE_ARGUMENT_SPEC,
    access_of,
    open_location,
)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and return the module's result."""
    params = module.params
    kube = connect(params["kubeconfig"], params["context"])
    evidence = gather(kube, params["namespace"], timeout=params["timeout"])
    now = dt.datetime.now(dt.timezone.utc)
    state = report(evidence, now)
    if params["store"]:
        store = open_location(params["store"], access_of(params["store_access"]))
        state["backups"] = backups_in(store, state["cluster_id"], params["backup_max_age"], now)
    return {"changed": False, "status": state, "screen": screen(state)}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "store": {"type": "str", "default": ""},
            "store_access": STORE_ARGUMENT_SPEC["store_access"],
            "backup_max_age": {"type": "int"},
            "timeout": {"type": "float", "default": 20.0},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
