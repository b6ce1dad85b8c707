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
  - pachops.pachyderm.backup_store
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
  namespace:
    description: Namespace of the installation.
    type: str
    default: pachyderm
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
      - How etcd is reached. V(direct) uses the address of its pod, V(port_forward) goes through the API server.
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
  source_path:
    description: The directory of the objects on this host, with the backend C(local); the node's own by default.
    type: path
    default: ""
  source_access:
    description:
      - Replaces what the storage secret says about the way to the bucket, for hosts that need another one.
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
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import read_catalogue
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.create import Outcome, Wishes, back_up
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.lock import Lock
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import read_identities, store_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import (
    ETCD_ARGUMENT_SPEC,
    etcd_access_of,
    etcd_of,
    origin_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import set_path
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import NAMESPACED, observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import Store
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import (
    STORE_ARGUMENT_SPEC,
    access_of,
)


def proven(store: Store, cluster_id: str) -> str:
    """Return the id of the newest verified backup, empty where there is none."""
    latest = read_catalogue(store, cluster_id).latest_verified
    return latest.id if latest else ""


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
    namespace = params["namespace"]
    installation = observe(kube, namespace, NAMESPACED)
    lock = None if module.check_mode else Lock(kube, namespace, "backup", wait=params["lock_wait"])
    etcd_access = etcd_access_of(params["etcd"], params["transport"])
    with lock or nullcontext(), etcd_of(kube, installation, etcd_access) as (etcd, transport):
        origin = origin_of(kube, installation, etcd, access_of(params["source_access"]), params["source_path"])
        outcome = back_up(origin, store, wishes, lock=lock, proven=proven, progress=Progress(), check=module.check_mode)
    result = {
        "changed": outcome.made,
        "backup": describe(store, outcome),
        "copied": {"count": outcome.new_objects, "bytes": outcome.new_bytes},
        "foreign": outcome.foreign,
        "transport": transport,
        "seconds": round(time.monotonic() - begun, 1),
    }
    if outcome.vanished:
        module.warn(f"{outcome.vanished} blocks were deleted while they were copied; pachd deletes duplicates so.")
    if module._diff:  # noqa: SLF001 - there is no public name
        made = f"new set, {outcome.new_objects} objects of {outcome.new_bytes} bytes to copy\n"
        result["diff"] = {"before": "", "after": made if outcome.made else "", "after_header": str(store.where)}
    return result


def describe(store: Store, outcome: Outcome) -> dict[str, Any]:
    """Return the set as the module returns it, with empty members where there is none yet."""
    manifest = outcome.manifest
    if manifest is None:
        return {
            "id": "",
            "cluster_id": "",
            "location": "",
            "revision": 0,
            "key_count": 0,
            "objects": {"count": 0, "bytes": 0},
            "encrypted": False,
        }
    return {
        "id": manifest.id,
        "cluster_id": manifest.cluster_id,
        "location": f"{store.where}/{set_path(manifest.cluster_id, manifest.id)}".rstrip("/"),
        "revision": manifest.etcd.revision,
        "key_count": manifest.etcd.key_count,
        "objects": {"count": manifest.objects.count, "bytes": manifest.objects.bytes},
        "encrypted": manifest.encryption is not None,
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **STORE_ARGUMENT_SPEC,
            **ETCD_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "identity_files": {"type": "list", "elements": "path", "default": []},
            "if_changed": {"type": "bool", "default": False},
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
