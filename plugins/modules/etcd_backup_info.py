#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_backup_info
short_description: List the backups of a cluster
version_added: 0.1.0
description:
  - Lists the complete backups in a store, with what verifications have said of them, and what else is there, such as
    remains of backups that were cut off, manifests that cannot be read, and keys that are not of this collection.
  - What is damaged is reported and fails nothing.
extends_documentation_fragment:
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.backup_store.cluster
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.info_module
options:
  backup_id:
    description:
      - Which backup to return as RV(backup).
      - An id, V(latest), V(latest-verified), or a time or date in UTC, which means the newest begun by then.
    type: str
    default: latest-verified
seealso:
  - module: pachops.pachyderm.etcd_backup
  - module: pachops.pachyderm.etcd_backup_verify
  - module: pachops.pachyderm.etcd_backup_prune
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: List the backups
  pachops.pachyderm.etcd_backup_info:
    store: s3://acme-backups/pachyderm
    store_access:
      region: eu-west-1
  register: backups

- name: Insist on a verified one of today
  ansible.builtin.assert:
    that: backups.backup.time[:10] == now(utc=true, fmt='%Y-%m-%d')
"""

RETURN = r"""
cluster_id:
  description: The cluster whose backups were listed.
  returned: always
  type: str
  sample: 8b5f1f2d3c4e4b0c9d7a6f5e4d3c2b1a
backup:
  description: The backup that O(backup_id) means, as in RV(backups); empty where there is none.
  returned: always
  type: dict
  sample: {id: 20260131T235959Z-r1234, verified: true}
backups:
  description: All complete backups, the newest first; sizes in bytes.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: UTC time and etcd's revision.
      type: str
    cluster_id:
      description: Pachyderm's own cluster id.
      type: str
    time:
      description: When it was begun, in UTC.
      type: str
    finished:
      description: When it was complete.
      type: str
    revision:
      description: etcd's revision.
      type: int
    keys:
      description: Keys in etcd.
      type: int
    snapshot_size:
      description: Size of the etcd snapshot, unpacked.
      type: int
    stored_size:
      description: Size of the set's own files in the store.
      type: int
    objects:
      description: Number of objects that it needs.
      type: int
    objects_size:
      description: Their size.
      type: int
    objects_copied:
      description: Number of objects that it had to copy.
      type: int
    encrypted:
      description: Whether it is encrypted.
      type: bool
    backend:
      description: The backend of the installation.
      type: str
    namespace:
      description: Its namespace.
      type: str
    pachyderm_version:
      description: Its version.
      type: str
    etcd_version:
      description: The version of its etcd.
      type: str
    verified:
      description: Whether it was proven by a restore, and nothing was found wrong since.
      type: bool
    failed:
      description: Whether a verification found it wrong, and none as thorough has passed since.
      type: bool
    level:
      description: The deepest level that it has passed and not failed since, V(digest), V(restore) or V(deep).
      type: str
    verifications:
      description: The records of its verifications, the newest first.
      type: list
      elements: dict
  sample:
    - id: 20260131T235959Z-r1234
      revision: 1234
      verified: true
      level: deep
leftovers:
  description: Sets without a manifest, which were cut off or are being made.
  returned: always
  type: list
  elements: dict
  sample: []
unreadable:
  description: Ids of sets whose manifest cannot be read, with the reason.
  returned: always
  type: dict
  sample: {}
foreign:
  description: Keys among the backups that are not of this collection.
  returned: always
  type: list
  elements: str
  sample: []
table:
  description: All of it as lines for a person.
  returned: always
  type: list
  elements: str
  sample: ["20260131T235959Z-r1234  567  89  deep 2026-02-01T00:12:34Z"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import read_catalogue, table
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import (
    CATALOGUE_ARGUMENT_SPEC,
    choose_cluster,
    store_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError, PachopsError


def run(module: AnsibleModule) -> dict[str, Any]:
    """List, and return the module's result."""
    params = module.params
    store = store_of(params)
    catalogue = read_catalogue(store, choose_cluster(store, params["cluster_id"]))
    try:
        chosen = catalogue.find(params["backup_id"]).as_dict()
    except BackupError:
        chosen = {}
    return {
        "changed": False,
        "cluster_id": catalogue.cluster_id,
        "backup": chosen,
        "backups": [each.as_dict() for each in catalogue.backups],
        "leftovers": [each.as_dict() for each in catalogue.leftovers],
        "unreadable": dict(catalogue.unreadable),
        "foreign": list(catalogue.foreign),
        "table": table(catalogue),
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={**CATALOGUE_ARGUMENT_SPEC, "backup_id": {"type": "str", "default": "latest-verified"}},
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
