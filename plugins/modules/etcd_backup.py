#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_backup
short_description: Back up an installation of Pachyderm, metadata and objects
version_added: 0.1.0
description:
  - Writes one backup set, which is etcd's snapshot, every object that it can refer to, their index, a description of
    the cluster, and a manifest. Nothing is stopped meanwhile.
  - The installation's storage secret, bucket and key spelling are found by themselves.
  - Objects are copied once; later sets copy what is new.
  - A set is listed only when it is whole. Its correctness is proven by M(pachops.pachyderm.etcd_backup_verify).
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.live
  - pachops.pachyderm.live.metadata
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - The source and the store are listed, and nothing is written, not even the lock.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Every run makes a new set, unless O(if_changed=true) and the last verified one has all there is.
options:
  recipients:
    description:
      - Public keys to encrypt to, as C(age1…) or as SSH public keys. Without any nothing is encrypted.
      - Backing up needs no secret key, and incremental backups need none either.
    type: list
    elements: str
    default: []
  identity_files:
    description:
      - Files with age identities or SSH private keys, on this host. They are needed only where O(recipients) have
        changed, one of the earlier recipients' is enough.
    type: list
    elements: path
    default: []
  if_changed:
    description:
      - Make no new set where the newest one is verified, and etcd's revision and all objects are what it has.
    type: bool
    default: false
  transport:
    description:
      - How etcd is reached. V(direct) uses the address of its pod, V(port_forward) goes through the API server, and
        V(job) lets a Job in the cluster make the whole backup and write it to the store, as O(job) says.
      - V(auto) takes the direct way where it leads to the same etcd, else the port-forward, and the Job where the API
        server forwards no port. Choose V(job) where the port-forward is too slow.
    type: str
    choices: [auto, direct, port_forward, job]
    default: auto
  job:
    description:
      - The Job of O(transport=job). It has a service account that may do just this, its options and credentials reach
        it in a Secret, and all of it is removed with the Job, by the cluster itself where this host is gone.
      - O(store), O(store_access) and O(source_access) are used in the cluster then. Files that they name are read on
        this host.
    type: dict
    default: {}
    suboptions:
      image:
        description: The runner image, which the playbook C(runner_image) packs.
        type: str
        default: docker.io/pachops/runner:latest
      image_pull_policy:
        description: When the node asks a registry for it.
        type: str
        choices: [Always, IfNotPresent, Never]
        default: IfNotPresent
      image_pull_secret:
        description: Name of the secret with which it is pulled.
        type: str
        default: ""
      service_account:
        description:
          - An existing service account to run as, for instance one with a cloud identity that may write to the store.
            Empty for one that is made for this run.
        type: str
        default: ""
      run_as:
        description: User and group id in the pod; 0 where a directory of the node is read.
        type: int
        default: 65534
      resources:
        description: A map of the container's requests and limits.
        type: dict
        default: {}
      volumes:
        description: Maps of the pod's further volumes, as Kubernetes takes them.
        type: list
        elements: dict
        default: []
      volume_mounts:
        description: Maps of where they are mounted, as Kubernetes takes them.
        type: list
        elements: dict
        default: []
      node_selector:
        description: A map of labels of the nodes on which it may run.
        type: dict
        default: {}
      timeout:
        description: Seconds after which the cluster ends it.
        type: int
        default: 21600
  lock_wait:
    description: Seconds to wait for another backup, restore, migration or garbage collection to end.
    type: float
    default: 0
requirements:
  - grpcio, protobuf, zstandard and PyYAML (Python libraries)
  - boto3, for S3
  - google-auth, google-resumable-media and requests, for Google Cloud Storage
  - pyrage, for encryption
seealso:
  - module: pachops.pachyderm.etcd_backup_info
  - module: pachops.pachyderm.etcd_backup_verify
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Back up to a directory
  pachops.pachyderm.etcd_backup:
    namespace: pachyderm
    store: /var/backups/pachyderm

- name: Back up to a bucket, encrypted, when something has changed
  pachops.pachyderm.etcd_backup:
    namespace: pachyderm
    store: s3://acme-backups/pachyderm
    store_access:
      region: eu-west-1
    recipients:
      - age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
    if_changed: true

- name: Back up from inside the cluster, where this host may not forward ports
  pachops.pachyderm.etcd_backup:
    namespace: pachyderm
    store: s3://acme-backups/pachyderm
    store_access:
      region: eu-west-1
    transport: job
    job:
      image: registry.acme.example/pachops/runner:1
      service_account: pachyderm-backup
"""

RETURN = r"""
backup:
  description: The new set, or the last one with O(if_changed=true). Its members are empty where none is there yet.
  returned: always
  type: dict
  contains:
    id:
      description: UTC time and etcd's revision.
      type: str
    cluster_id:
      description: Pachyderm's own cluster id.
      type: str
    location:
      description: Where it is.
      type: str
    revision:
      description: etcd's revision.
      type: int
    key_count:
      description: Keys in etcd.
      type: int
    objects:
      description: Objects that it needs, with their C(count) and C(bytes).
      type: dict
    encrypted:
      description: Whether it is encrypted.
      type: bool
  sample:
    id: 20260131T235959Z-r1234
    cluster_id: 8b5f1f2d3c4e4b0c9d7a6f5e4d3c2b1a
    location: s3://acme-backups/pachyderm/8b5f1f2d3c4e4b0c9d7a6f5e4d3c2b1a/backups/20260131T235959Z-r1234
    revision: 1234
    key_count: 567
    objects: {count: 89, bytes: 123456}
    encrypted: true
copied:
  description: Objects that had to be copied, or would be in check mode, with C(count) and C(bytes).
  returned: always
  type: dict
  sample: {count: 3, bytes: 4567}
foreign:
  description: Keys in the installation's bucket that are none of Pachyderm's, and are left alone.
  returned: always
  type: int
  sample: 0
transport:
  description: How etcd was reached.
  returned: always
  type: str
  sample: direct
seconds:
  description: How long it took.
  returned: always
  type: float
  sample: 12.3
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Wishes
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.job import refuse, run_job
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import read_identities, store_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import (
    ETCD_ARGUMENT_SPEC,
    TRANSPORTS,
    NoWay,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.run import describe, run_backup
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, Kube, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.runner import RUNNER_ARGUMENT_SPEC
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import STORE_ARGUMENT_SPEC


def run(module: AnsibleModule) -> dict[str, Any]:
    """Back up, and return the module's result."""
    params = module.params
    begun = time.monotonic()
    store = store_of(params)
    wishes = Wishes(
        recipients=params["recipients"],
        identities=read_identities(params["identity_files"]),
        if_changed=params["if_changed"],
        tools={"ansible-core": module.ansible_version},
    )
    kube = connect(params["kubeconfig"], params["context"])
    if params["transport"] == "job":
        result = by_job(module, kube, wishes)
    else:
        try:
            result = run_backup(params, kube, store, wishes, Progress(), check=module.check_mode)
        except NoWay as no_way:
            if params["transport"] != "auto":
                raise
            result = instead(module, kube, wishes, no_way)
    vanished = result.pop("vanished")
    if vanished:
        module.warn(f"{vanished} blocks were deleted while they were copied; pachd deletes duplicates so.")
    result["seconds"] = round(time.monotonic() - begun, 1)
    if module._diff:  # noqa: SLF001 - there is no public name
        made = "new set, {count} objects of {bytes} bytes to copy\n".format(**result["copied"])
        result["diff"] = {"before": "", "after": made if result["changed"] else "", "after_header": str(store.where)}
    return result


def by_job(module: AnsibleModule, kube: Kube, wishes: Wishes) -> dict[str, Any]:
    """Let a Job back up; in check mode none is started, and what it would copy stays unknown."""
    if not module.check_mode:
        return run_job(module.params, kube, wishes, Progress())
    refuse(module.params)
    module.warn("Check mode starts no Job, so that how much would be copied is not known.")
    copied = {"count": 0, "bytes": 0}
    answer = {"changed": True, "backup": describe(store_of(module.params), None), "copied": copied}
    return {**answer, "foreign": 0, "vanished": 0, "transport": "job"}


def instead(module: AnsibleModule, kube: Kube, wishes: Wishes, no_way: NoWay) -> dict[str, Any]:
    """Take the Job where nothing else leads to etcd, and say why where that does not work either."""
    try:
        refuse(module.params)
    except PachopsError:
        raise no_way from None
    try:
        return by_job(module, kube, wishes)
    except PachopsError as error:
        raise type(error)(
            error.what, where=error.where, why=f"{error.why}; tried because of: {no_way.why}", fix=error.fix
        ) from error


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **STORE_ARGUMENT_SPEC,
            **ETCD_ARGUMENT_SPEC,
            "transport": {"type": "str", "choices": [*TRANSPORTS, "job"], "default": "auto"},
            "namespace": {"type": "str", "default": "pachyderm"},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "identity_files": {"type": "list", "elements": "path", "default": []},
            "if_changed": {"type": "bool", "default": False},
            "job": {"type": "dict", "default": {}, "apply_defaults": True, "options": RUNNER_ARGUMENT_SPEC},
            "source_path": {"type": "path", "default": ""},
            "source_access": STORE_ARGUMENT_SPEC["store_access"],
            "lock_wait": {"type": "float", "default": 0},
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
