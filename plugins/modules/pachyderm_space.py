#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_space
short_description: Report what takes the space
version_added: 0.1.0
description:
  - Returns bytes by tree of the object store, by repo and by commit, the growth since the last report, the size of
    etcd and its quota, and what would free how much.
  - It is read from etcd and the object store while Pachyderm runs; pachd itself is not asked. Every file list of
    every commit is read, so this takes a while where there are many.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.live
  - pachops.pachyderm.live.metadata
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Everything is measured, and the figures are not remembered.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run remembers its figures, unless O(remember=false).
options:
  remember:
    description:
      - Keep the figures in the ConfigMap C(pachops-space), so that the next report shows the growth. The last sixty are
        kept.
    type: bool
    default: true
  top:
    description: How many commits to name, those that alone hold most.
    type: int
    default: 10
seealso:
  - module: pachops.pachyderm.pachyderm_garbage_collect
  - module: pachops.pachyderm.etcd_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Measure
  pachops.pachyderm.pachyderm_space:
    namespace: pachyderm
  register: space

- name: Show it
  ansible.builtin.debug:
    msg: "{{ space.table }}"
"""

RETURN = r"""
trees:
  description: C(count) and C(bytes) by tree of the object store, and as C(total).
  returned: always
  type: dict
  sample: {block: {count: 97, bytes: 10485760}, total: {count: 250, bytes: 10512384}}
unneeded:
  description: The same of what no commit needs; garbage collection frees most of it.
  returned: always
  type: dict
  sample: {total: {count: 12, bytes: 7340032}}
repos:
  description: The repos, the one with the largest share of its own first; sizes in bytes.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    commits:
      description: Number of its commits.
      type: int
    files:
      description: Size of the files of its branches' heads together.
      type: int
    heads:
      description: What these take in the object store, each content once, lists of files included.
      type: int
    stored:
      description: What all of its commits take.
      type: int
    own:
      description: What no other repo needs, so that deleting the repo frees it.
      type: int
    history:
      description: Of that, what only commits before the heads need.
      type: int
  sample:
    - {name: ticks, commits: 12, files: 356502, heads: 357000, stored: 4290000, own: 4290000, history: 3900000}
commits:
  description: The commits that alone hold most, C(own) bytes, with C(repo), C(id), C(finished) and C(output).
  returned: always
  type: list
  elements: dict
  sample:
    - repo: ticks
      id: 0f6e7b1c3a5d4c1e9d7b2a1f0e9c8b7a
      own: 356502
      finished: "2026-11-22T10:00:01Z"
      output: false
etcd:
  description: C(size), C(in_use), C(quota) in bytes, and C(share) of the quota that is taken.
  returned: always
  type: dict
  sample: {size: 4194304, in_use: 1048576, quota: 8589934592, share: 0.0005}
growth:
  description:
    - Since the last report, C(since) when that was, and bytes more in C(total), in C(etcd) and in C(repos); null where
      there was none.
  returned: always
  type: dict
  sample: {since: "2026-11-21T10:00:00Z", seconds: 86400, total: 1048576, etcd: 4096, repos: {ticks: 1048576}}
advice:
  description: What would free how much, the most first.
  returned: always
  type: list
  elements: str
  sample: ["7.3 MB belong to no commit: collect garbage (playbook garbage_collect)"]
unreadable:
  description: Commits whose files could not be counted, and why.
  returned: always
  type: list
  elements: str
  sample: []
table:
  description: The report as lines for people.
  returned: always
  type: list
  elements: str
  sample: ["block          97    10.5 MB"]
"""

import datetime as dt
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import space
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.live import LIVE_ARGUMENT_SPEC, reading
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Measure, and return the module's result."""
    params, now = module.params, dt.datetime.now(dt.timezone.utc)
    kube = connect(params["kubeconfig"], params["context"])
    with reading(kube, params) as live:
        report = space.measure(live, Progress(), params["top"])
    earlier = space.remembered(kube, params["namespace"])
    report["growth"] = space.growth(report, earlier[-1] if earlier else None, now)
    report["advice"] = space.advice(report)
    if params["remember"] and not module.check_mode:
        space.remember(kube, params["namespace"], earlier, report, now)
    return {"changed": params["remember"], **report, "table": space.table(report)}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **LIVE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "remember": {"type": "bool", "default": True},
            "top": {"type": "int", "default": 10},
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
