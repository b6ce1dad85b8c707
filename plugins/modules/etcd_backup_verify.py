#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_backup_verify
short_description: Prove that a backup can be restored
version_added: 0.1.0
description:
  - Verifies one backup at one of three levels, each of which includes the ones before, and leaves a record of it in the
    store. The record is written once and never changed.
  - V(digest) reads every file and every object again. V(restore) boots an etcd from the snapshot, on this host and on
    no port, compares its HashKV, revision and numbers of keys with those of the live one, and reads every record.
    V(deep) follows every commit through its file trees to its objects and blocks.
  - From V(restore) on a backup counts as verified.
  - A backup that is wrong fails the task, and the record says so. Where it could not be verified, the task fails and
    nothing is recorded.
extends_documentation_fragment:
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.backup_store.identities
  - pachops.pachyderm.backup_store.cluster
  - pachops.pachyderm.attributes
attributes:
  check_mode:
    support: full
    details:
      - The backup is not read, and nothing is recorded. It is told what would be verified.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Every run makes a new record, unless O(max_age) says for how long an earlier one will do.
options:
  backup_id:
    description: An id, V(latest), V(latest-verified), or a time or date in UTC, which means the newest begun by then.
    type: str
    default: latest
  level:
    description: How thoroughly to verify.
    type: str
    choices: [digest, restore, deep]
    default: restore
  max_age:
    description:
      - Seconds for which an earlier verification of that level or a deeper one will do; the backup is not read then.
      - V(0) always verifies.
    type: int
    default: 0
  etcd_program:
    description:
      - The etcd to boot, 3.5 or later.
      - Without it, one is taken from E(PATH), or from what the local cluster of this host was built from.
    type: path
    default: ""
  workdir:
    description:
      - A directory with room for the unpacked snapshot and 200 MiB more. It is kept there privately meanwhile.
      - The system's directory for temporary files by default.
    type: path
    default: ""
  workers:
    description: How many objects are read at once.
    type: int
    default: 16
requirements:
  - grpcio, protobuf and zstandard (Python libraries)
  - etcd 3.5 or later
  - pyrage, for encrypted backups
seealso:
  - module: pachops.pachyderm.etcd_backup
  - module: pachops.pachyderm.etcd_backup_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Prove the newest backup
  pachops.pachyderm.etcd_backup_verify:
    store: /var/backups/pachyderm

- name: Prove every byte of one backup, once a week at most
  pachops.pachyderm.etcd_backup_verify:
    store: /var/backups/pachyderm
    backup_id: 20260131T235959Z-r1234
    level: deep
    max_age: 604800
"""

RETURN = r"""
verification:
  description: What the verification found. In check mode C(passed) is false, and there are no findings.
  returned: always
  type: dict
  contains:
    backup_id:
      description: The backup.
      type: str
    level:
      description: How thoroughly it was verified.
      type: str
    time:
      description: When the verification ended, in UTC.
      type: str
    passed:
      description: Whether nothing is wrong.
      type: bool
    findings:
      description: What is wrong.
      type: list
      elements: str
    figures:
      description: What was looked at, and how many seconds each part took.
      type: dict
    tools:
      description: Versions of what took part.
      type: dict
  sample:
    backup_id: 20260131T235959Z-r1234
    level: restore
    passed: true
    figures: {seconds: 12.3, objects: 89}
record:
  description: The key of the record in the store; empty in check mode.
  returned: always
  type: str
  sample: 8b5f/verifications/20260131T235959Z-r1234/20260201T001234Z-restore.json
"""

import datetime as dt
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import (
    LEVELS,
    Backup,
    Verification,
    read_catalogue,
    record,
    record_key,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import (
    CATALOGUE_ARGUMENT_SPEC,
    choose_cluster,
    read_identities,
    store_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import Options, verify
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def recent(backup: Backup, level: str, max_age: int, now: dt.datetime) -> Verification | None:
    """Return the newest verification that will do instead of a new one."""
    if backup.failed or max_age <= 0:
        return None
    deep_enough = (each for each in backup.verifications if each.passed and each.depth >= LEVELS.index(level))
    return next((each for each in deep_enough if (now - each.time).total_seconds() < max_age), None)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Verify, and return the module's result."""
    params = module.params
    store = store_of(params)
    cluster_id = choose_cluster(store, params["cluster_id"])
    backup = read_catalogue(store, cluster_id).find(params["backup_id"])
    now = dt.datetime.now(dt.timezone.utc)
    earlier = recent(backup, params["level"], params["max_age"], now)
    if earlier:
        return {"changed": False, "verification": earlier.as_dict(), "record": record_key(cluster_id, earlier)}
    if module.check_mode:
        planned = Verification(backup.id, params["level"], now, False)
        return {"changed": True, "verification": planned.as_dict(), "record": ""}
    opened = open_set(store, cluster_id, backup.id, read_identities(params["identity_files"]))
    options = Options(params["etcd_program"], params["workdir"], params["workers"])
    made = record(store, cluster_id, verify(opened, params["level"], options, Progress()))
    return {"changed": True, "verification": made.as_dict(), "record": record_key(cluster_id, made)}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **CATALOGUE_ARGUMENT_SPEC,
            "backup_id": {"type": "str", "default": "latest"},
            "level": {"type": "str", "choices": ["digest", "restore", "deep"], "default": "restore"},
            "max_age": {"type": "int", "default": 0},
            "identity_files": {"type": "list", "elements": "path", "default": []},
            "etcd_program": {"type": "path", "default": ""},
            "workdir": {"type": "path", "default": ""},
            "workers": {"type": "int", "default": 16},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    found = result["verification"]
    if result["record"] and not found["passed"]:
        wrong = "\n".join(found["findings"])
        module.fail_json(msg=f"backup {found['backup_id']} is not to be restored:\n{wrong}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
