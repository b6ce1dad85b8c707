#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_garbage_collect
short_description: Collect garbage, safely and for as short as can be
version_added: 0.1.0
description:
  - Frees what deleted repos, commits and files took in the object store, by pachd's own collection, for which every
    pipeline has to be stopped.
  - It is computed beforehand, from etcd and the object store, what pachd would delete; nothing is stopped where that
    is nothing, and nothing is done where something needed would go.
  - The pipelines that ran are stopped, those that read others' output first, and exactly these are started again
    whatever happens. They are recorded in the ConfigMap C(pachops-garbage-collection) meanwhile, so that
    O(state=resumed) and every later run repair what a killed run left.
  - Backups, restores and migrations are kept away by the installation's lock. Nobody may put files meanwhile. Content
    that is on its way belongs to no commit yet and would be deleted.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.live
  - pachops.pachyderm.live.metadata
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - This is the plan, with what would be freed and how long pipelines would be stopped.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(collected) collects garbage.
      - V(resumed) only starts the pipelines that a collection stopped and did not start again.
    type: str
    choices: [collected, resumed]
    default: collected
  wait:
    description: Seconds to wait for running jobs, open commits and the lock; V(0) refuses at once.
    type: int
    default: 0
  step_timeout:
    description: Seconds for each step of the freeze, and at least for the collection itself.
    type: int
    default: 600
  memory:
    description:
      - Bytes for pachd's filters of what is needed. V(0) chooses by the number of objects, so that of ten thousand
        pieces of garbage one is missed.
    type: int
    default: 0
  least:
    description: Do nothing unless so many bytes would be freed.
    type: int
    default: 1
seealso:
  - module: pachops.pachyderm.pachyderm_space
  - module: pachops.pachyderm.etcd_backup
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: See what a collection would free, and how long pipelines would stand still
  pachops.pachyderm.pachyderm_garbage_collect:
    namespace: pachyderm
  check_mode: true
  register: plan

- name: Collect, and give running jobs an hour
  pachops.pachyderm.pachyderm_garbage_collect:
    namespace: pachyderm
    wait: 3600
"""

RETURN = r"""
plan:
  description: What was computed beforehand.
  returned: if O(state=collected)
  type: dict
  contains:
    frees:
      description: C(count) and C(bytes) of what goes, by tree and as C(total).
      type: dict
    leaves:
      description: The same of what nothing needs and pachd never deletes, such as blocks of deleted outputs.
      type: dict
    memory:
      description: Bytes for pachd's filters.
      type: int
    seconds:
      description: Estimated length of the freeze.
      type: float
    pipelines:
      description: Pipelines that are stopped and started again, in the order of starting.
      type: list
      elements: str
  sample:
    frees: {total: {count: 12, bytes: 7340032}}
    leaves: {total: {count: 0, bytes: 0}}
    memory: 20971520
    seconds: 14.2
    pipelines: [measure]
before:
  description: C(count) and C(bytes) of what was in the object store, by tree and as C(total).
  returned: if O(state=collected)
  type: dict
  sample: {total: {count: 250, bytes: 17340032}}
after:
  description: The same afterwards, as predicted in check mode.
  returned: if O(state=collected)
  type: dict
  sample: {total: {count: 238, bytes: 10000000}}
freed:
  description: Bytes that are gone from the object store.
  returned: if O(state=collected)
  type: int
  sample: 7340032
frozen:
  description: Seconds for which pipelines were stopped; the estimate in check mode.
  returned: if O(state=collected)
  type: float
  sample: 15.8
pipelines:
  description: Pipelines that were started again.
  returned: always
  type: list
  elements: str
  sample: [measure]
warnings_of_plan:
  description: In check mode, why a collection would be refused now.
  returned: if O(state=collected)
  type: list
  elements: str
  sample: []
table:
  description: The same as lines for a person.
  returned: if O(state=collected)
  type: list
  elements: str
  sample: ["freed     7.3 MB"]
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import garbage
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.live import LIVE_ARGUMENT_SPEC, reading
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Collect, and return the module's result."""
    params, write = module.params, not module.check_mode
    kube = connect(params["kubeconfig"], params["context"])
    if params["state"] == "resumed":
        return _resumed(kube, params, write=write)
    wishes = garbage.Wishes(params["wait"], params["step_timeout"], params["memory"], params["least"])
    with opened(params) as pachd, reading(kube, params) as live:
        result = garbage.collect(kube, live, pachd, wishes, Progress(), write=write)
    changed, names = result.collected, list(result.plan.running) if result.collected else []
    return {
        "changed": changed,
        "plan": result.plan.as_dict(),
        "before": result.before,
        "after": result.after if changed else result.before,
        "freed": result.before["total"]["bytes"] - result.after["total"]["bytes"] if changed else 0,
        "frozen": round(result.frozen, 1) if result.collected else 0.0,
        "pipelines": names,
        "warnings_of_plan": result.warnings,
        "table": garbage.table(result),
        "diff": {"before": result.before, "after": result.after if changed else result.before},
    }


def _resumed(kube: Kube, params: Mapping[str, Any], *, write: bool) -> dict[str, Any]:
    """Start what a collection left stopped; neither etcd nor the object store is read for that."""
    names = garbage.stopped(kube, params["namespace"])
    if names and write:
        with opened(params) as pachd:
            garbage.resume(kube, params["namespace"], pachd, params["step_timeout"])
    return {"changed": bool(names), "pipelines": names, "diff": {"before": names, "after": []}}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            **LIVE_ARGUMENT_SPEC,
            "state": {"type": "str", "choices": ["collected", "resumed"], "default": "collected"},
            "wait": {"type": "int", "default": 0},
            "step_timeout": {"type": "int", "default": 600},
            "memory": {"type": "int", "default": 0},
            "least": {"type": "int", "default": 1},
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
