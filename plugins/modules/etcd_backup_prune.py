#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_backup_prune
short_description: Delete backups that no rule keeps
version_added: 0.1.0
description:
  - Deletes backups that no retention rule keeps, what backups that were cut off left behind, and shared objects that no
    remaining backup needs. Every deletion has its reason in RV(plan).
  - The rules add up. Periods count in UTC and only where they have a backup. Without any rule every backup stays.
  - The newest verified backup is never deleted, nor what the store itself protects (object lock, retention, holds), nor
    keys that are not of this collection.
  - It holds the installation's lock meanwhile, unless O(lock=false).
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.backup_store.cluster
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Returns the plan; nothing is deleted, and the lock is not taken.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  keep_last:
    description: How many of the newest backups stay.
    type: int
    default: 0
  keep_hourly:
    description: How many hours, one backup each.
    type: int
    default: 0
  keep_daily:
    description: How many days, one backup each.
    type: int
    default: 0
  keep_weekly:
    description: How many ISO weeks, one backup each.
    type: int
    default: 0
  keep_monthly:
    description: How many months, one backup each.
    type: int
    default: 0
  keep_yearly:
    description: How many years, one backup each.
    type: int
    default: 0
  max_age:
    description:
      - Seconds after which a backup goes although a rule keeps it. Alone it keeps all younger ones.
      - Without it no backup is too old.
    type: int
  grace:
    description:
      - Seconds for which a set without a manifest counts as being made. Meanwhile no shared object is deleted.
    type: int
    default: 86400
  lock:
    description:
      - Whether to hold the lock that keeps backups, restores and garbage collection of the installation away.
      - Without it, make sure that no backup runs.
    type: bool
    default: true
  lock_wait:
    description: Seconds to wait for another holder.
    type: float
    default: 0
  namespace:
    description: Namespace of the installation, where its lock is.
    type: str
    default: pachyderm
seealso:
  - module: pachops.pachyderm.etcd_backup_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Keep a week of days, a month of weeks and a year of months
  pachops.pachyderm.etcd_backup_prune:
    store: /var/backups/pachyderm
    keep_last: 3
    keep_daily: 7
    keep_weekly: 5
    keep_monthly: 12

- name: Show what would go
  pachops.pachyderm.etcd_backup_prune:
    store: /var/backups/pachyderm
    keep_last: 1
  check_mode: true
  register: plan
"""

RETURN = r"""
plan:
  description: What is to be deleted and what stays, each with its reason.
  returned: always
  type: dict
  contains:
    backups:
      description: C(id), whether to C(keep) it, and the C(reasons), for every backup, the newest first.
      type: list
      elements: dict
    delete:
      description: C(key), C(size) and C(reason) of every file of a set and every record that goes.
      type: list
      elements: dict
    delete_objects:
      description: Number of shared objects that go.
      type: int
    delete_objects_size:
      description: Their size in bytes.
      type: int
    delete_size:
      description: Size in bytes of all that goes.
      type: int
    kept_objects:
      description: Number of shared objects that stay.
      type: int
    notes:
      description: What was left alone although it looks superfluous, and why.
      type: list
      elements: str
  sample:
    backups: [{id: 20260131T235959Z-r1234, keep: true, reasons: [the newest verified backup]}]
    delete_objects: 0
deleted:
  description: Number of the store's objects that were deleted; 0 in check mode.
  returned: always
  type: int
  sample: 12
freed:
  description: Their size in bytes.
  returned: always
  type: int
  sample: 34567
refused:
  description: What the store refused to delete meanwhile, because it protects it.
  returned: always
  type: list
  elements: str
  sample: []
table:
  description: The plan as lines for a person.
  returned: always
  type: list
  elements: str
  sample: ["keep    20260131T235959Z-r1234  the newest verified backup, last 1 of 3"]
"""

import datetime as dt
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.lock import Lock
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import (
    CATALOGUE_ARGUMENT_SPEC,
    choose_cluster,
    store_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.prune import carry_out, make_plan, table
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.retention import Policy
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress

RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def run(module: AnsibleModule) -> dict[str, Any]:
    """Plan and delete, and return the module's result."""
    params = module.params
    policy = Policy(**{rule: params[f"keep_{rule}"] for rule in RULES}, max_age=params["max_age"])
    store = store_of(params)
    cluster_id = choose_cluster(store, params["cluster_id"])
    grace = dt.timedelta(seconds=params["grace"])
    lock = None
    if params["lock"] and not module.check_mode:
        kube = connect(params["kubeconfig"], params["context"])
        lock = Lock(kube, params["namespace"], "prune", wait=params["lock_wait"])

    def index_of(backup_id: str) -> Iterable[str]:
        return (entry.key for entry in open_set(store, cluster_id, backup_id).index())

    with lock or nullcontext():
        if lock is not None:
            lock.check_clock()
        now = dt.datetime.now(dt.timezone.utc)
        plan = make_plan(store, cluster_id, policy, now, index_of, grace)
        if lock is not None:
            lock.check()
        outcome = None if module.check_mode else carry_out(store, plan, now, Progress(), grace)
    going = [each.backup_id for each in plan.decisions if not each.keep]
    staying = [each.backup_id for each in plan.decisions if each.keep]
    return {
        "changed": bool(plan.deletions) if outcome is None else bool(outcome.deleted),
        "plan": plan.as_dict(),
        "deleted": len(outcome.deleted) if outcome else 0,
        "freed": outcome.size if outcome else 0,
        "refused": list(outcome.refused) if outcome else [],
        "table": table(plan),
        "diff": {"before": {"backups": sorted(going + staying)}, "after": {"backups": sorted(staying)}},
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **CATALOGUE_ARGUMENT_SPEC,
            **{f"keep_{rule}": {"type": "int", "default": 0} for rule in RULES},
            "max_age": {"type": "int"},
            "grace": {"type": "int", "default": 86400},
            "lock": {"type": "bool", "default": True},
            "lock_wait": {"type": "float", "default": 0},
            "namespace": {"type": "str", "default": "pachyderm"},
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
