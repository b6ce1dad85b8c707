#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_maintenance
short_description: Compact and defragment etcd, and lift its alarm
version_added: 0.1.0
description:
  - Drops etcd's history, shrinks its files member by member, and lifts the alarm NOSPACE once there is space again.
  - A snapshot is written first, unless O(snapshot=false).
  - Nothing is done to an etcd of which a member does not answer or has no leader, or that has raised CORRUPT.
  - A member answers nothing while it is defragmented; with a single member, pachd waits that long.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.etcd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - What a compaction frees is known only after it, so fewer defragmentations may be foretold than are made.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Each step is left out where it is not needed. Etcd before 3.4 does not tell what is free in its file, so it is
        defragmented every time.
options:
  compact:
    description: Whether to drop history.
    type: bool
    default: true
  keep_revisions:
    description: How many of the newest revisions keep their history, for those who watch.
    type: int
    default: 1000
  defragment:
    description: Whether to shrink files.
    type: bool
    default: true
  free_share:
    description: The share of a member's file, from 0 to 1, that has to be free before it is defragmented.
    type: float
    default: 0.2
  disarm:
    description: Whether to lift the alarm NOSPACE.
    type: bool
    default: false
  snapshot:
    description: Whether to write a snapshot first.
    type: bool
    default: true
  snapshot_dir:
    description: Directory on the controller for that snapshot; required with O(snapshot=true).
    type: path
    default: ""
  lock_wait:
    description:
      - Seconds to wait for a backup, restore, migration or garbage collection to end.
      - The installation's lock is not asked for with O(endpoints), which name no cluster.
    type: float
    default: 0
seealso:
  - module: pachops.pachyderm.etcd_info
  - module: pachops.pachyderm.etcd_backup
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Give etcd's free space back
  pachops.pachyderm.etcd_maintenance:
    namespace: pachyderm
    snapshot_dir: /var/backups/pachyderm

- name: Bring an etcd back that ran out of space
  pachops.pachyderm.etcd_maintenance:
    namespace: pachyderm
    keep_revisions: 0
    disarm: true
    snapshot_dir: /var/backups/pachyderm
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["compact up to revision 3711", "defragment etcd-0, of whose 41943040 bytes 63% is free"]
snapshot:
  description: Path of the snapshot that was written first; empty where none was.
  returned: always
  type: str
  sample: /var/backups/pachyderm/c1d-20260131T235959Z-r4711.snapshot
etcd:
  description: What etcd says afterwards, as M(pachops.pachyderm.etcd_info) returns it.
  returned: always
  type: dict
  sample: {healthy: true, revision: 4711}
"""

from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.lock import Lock
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.maintenance import (
    ETCD_ARGUMENT_SPEC,
    Care,
    care,
    inspect,
    reach_from,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what is needed, and return the module's result."""
    params = module.params
    if params["snapshot"] and not params["snapshot_dir"]:
        raise InputError(
            "a snapshot is to be written first, and no directory for it is named",
            where="snapshot_dir",
            fix="Name one, or do without with snapshot=false.",
        )
    if params["keep_revisions"] < 0 or not 0 <= params["free_share"] <= 1:
        raise InputError(
            "a number is out of its range",
            where="keep_revisions, free_share",
            fix="Keep 0 or more revisions; a share is from 0 to 1.",
        )
    wanted = Care(
        params["compact"],
        params["keep_revisions"],
        params["defragment"],
        params["free_share"],
        params["disarm"],
        params["snapshot_dir"] if params["snapshot"] else "",
    )
    kube = None if params["endpoints"] else connect(params["kubeconfig"], params["context"])
    lock = None
    if kube is not None and not module.check_mode:
        lock = Lock(kube, params["namespace"], "maintenance", wait=params["lock_wait"])
    with lock or nullcontext(), reach_from(params, kube) as reached:
        before = inspect(reached)
        done = care(reached, wanted, Progress(), check=module.check_mode)
        after = before if module.check_mode else inspect(reached)
    shown = ("db_size", "alarms")
    return {
        "changed": bool(done.actions),
        "actions": list(done.actions),
        "snapshot": done.snapshot,
        "etcd": after,
        "diff": {"before": {key: before[key] for key in shown}, "after": {key: after[key] for key in shown}},
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **ETCD_ARGUMENT_SPEC,
            "compact": {"type": "bool", "default": True},
            "keep_revisions": {"type": "int", "default": 1000},
            "defragment": {"type": "bool", "default": True},
            "free_share": {"type": "float", "default": 0.2},
            "disarm": {"type": "bool", "default": False},
            "snapshot": {"type": "bool", "default": True},
            "snapshot_dir": {"type": "path", "default": ""},
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
