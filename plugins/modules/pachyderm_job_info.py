#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_job_info
short_description: Find jobs
version_added: 0.1.0
description:
  - Returns jobs, filtered by pipeline, state, time, the commits that they read and the one that they wrote.
  - All filters that are given apply together.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
  - pachops.pachyderm.attributes.info_module
options:
  job:
    description: The one job with this id.
    type: str
    default: ""
  pipeline:
    description: Jobs of this pipeline.
    type: str
    default: ""
  states:
    description: Jobs in one of these states.
    type: list
    elements: str
    choices: [starting, running, failure, success, killed, merging, egressing]
    default: []
  since:
    description: Jobs started then or later, as ISO 8601, in UTC where no zone is named, or so long ago, such as V(24h).
    type: str
  until:
    description: Jobs started before, in the same form.
    type: str
  input_commits:
    description: Jobs that read all of these, C(repo@commit) or C(repo@branch^2) each.
    type: list
    elements: str
    default: []
  output_commit:
    description: The job that wrote this, C(repo@commit).
    type: str
    default: ""
  history:
    description: How many earlier versions of the pipelines count; V(-1) is all of them.
    type: int
    default: -1
  limit:
    description: At most so many, the newest; V(0) is all.
    type: int
    default: 0
  full:
    description: Return what each job was to do, too; one job by O(job) always has it.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.pachyderm_logs
  - module: pachops.pachyderm.pachyderm_commit_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Find what failed since yesterday
  pachops.pachyderm.pachyderm_job_info:
    states: [failure, killed]
    since: 24h
  register: failed

- name: Find the jobs of one commit
  pachops.pachyderm.pachyderm_job_info:
    pipeline: measure
    input_commits: [ticks@master]
"""

RETURN = r"""
jobs:
  description: The jobs, the newest first.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      type: str
    pipeline:
      description: Its pipeline.
      type: str
    version:
      description: Version of the pipeline; V(0) unless O(full) or O(job) is set.
      type: int
    state:
      description: One of the values of O(states).
      type: str
    reason:
      description: Why it is in that state.
      type: str
    started:
      description: When it was started, in UTC.
      type: str
    finished:
      description: When it ended, null while it runs.
      type: str
    seconds:
      description: How long it took, null while it runs.
      type: float
    output_commit:
      description: What it wrote, C(repo@commit).
      type: str
    input_commits:
      description: What it read, C(repo@commit) each; empty unless O(full), O(job) or O(input_commits) is set.
      type: list
      elements: str
    restarts:
      description: How often it was started anew.
      type: int
    data:
      description: Number of datums, C(total), C(processed), C(skipped), C(failed) and C(recovered).
      type: dict
    spec:
      description: C(image), C(cmd), C(stdin), C(input) and C(parallelism), where O(full) or O(job) is set.
      type: dict
  sample:
    - id: 9d1c4d5a3c1b4e6f8a8b9c0e1f2a4b7d
      pipeline: measure
      state: success
      started: "2026-11-22T10:00:00Z"
      seconds: 4.2
      output_commit: measure@3c1b7e6f7a8b4c0e9f2a4b7d9e1c4d5a
      data: {total: 4, processed: 1, skipped: 3, failed: 0, recovered: 0}
states:
  description: How many of them are in each state.
  returned: always
  type: dict
  sample: {success: 5, failure: 1}
"""

import datetime as dt
from collections import Counter
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import durations, jobs
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and return the module's result."""
    params, now = module.params, dt.datetime.now(dt.timezone.utc)
    since, until = (durations.moment(params[each], now) if params[each] else None for each in ("since", "until"))
    wanted = jobs.Wanted(
        job=params["job"],
        pipeline=params["pipeline"],
        states=params["states"],
        inputs=params["input_commits"],
        output=params["output_commit"],
        since=since,
        until=until,
        history=params["history"],
        limit=params["limit"],
        full=params["full"],
    )
    with opened(params) as pachd:
        found = jobs.find(pachd, wanted)
    return {"changed": False, "jobs": found, "states": dict(Counter(each["state"] for each in found))}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "job": {"type": "str", "default": ""},
            "pipeline": {"type": "str", "default": ""},
            "states": {"type": "list", "elements": "str", "choices": list(jobs.STATES), "default": []},
            "since": {"type": "str"},
            "until": {"type": "str"},
            "input_commits": {"type": "list", "elements": "str", "default": []},
            "output_commit": {"type": "str", "default": ""},
            "history": {"type": "int", "default": -1},
            "limit": {"type": "int", "default": 0},
            "full": {"type": "bool", "default": False},
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
