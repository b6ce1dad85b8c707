#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_logs
short_description: Read logs of pachd, pipelines, jobs and datums
version_added: 0.1.0
description:
  - Returns lines of the log of a pipeline's workers, of one job or of one datum; without any of these pachd's own.
  - Kubernetes keeps the logs, so what a worker wrote is gone with its pod.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
  - pachops.pachyderm.attributes.info_module
options:
  pipeline:
    description: Log of this pipeline's workers.
    type: str
    default: ""
  job:
    description: Log of this job.
    type: str
    default: ""
  datum:
    description: Only lines about this datum.
    type: str
    default: ""
  data:
    description: Only lines about these files, by path or by hash.
    type: list
    elements: str
    default: []
  since:
    description: How far to look back.
    type: str
    default: 24h
  tail:
    description: The last so many lines of each pod; V(0) is all.
    type: int
    default: 0
  master:
    description: Lines of the worker that deals out the work, instead of what processes data.
    type: bool
    default: false
  follow:
    description: Seconds to go on for while more is written; V(0) returns what is there.
    type: int
    default: 0
  limit:
    description: At most so many lines.
    type: int
    default: 1000
seealso:
  - module: pachops.pachyderm.pachyderm_job_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Read what a job wrote
  pachops.pachyderm.pachyderm_logs:
    job: 9d1c4d5a3c1b4e6f8a8b9c0e1f2a4b7d

- name: Follow a pipeline for half a minute
  pachops.pachyderm.pachyderm_logs:
    pipeline: measure
    since: 5m
    follow: 30
"""

RETURN = r"""
lines:
  description: The lines, in the order of the pods and then of time.
  returned: always
  type: list
  elements: dict
  contains:
    time:
      description: When it was written, in UTC; null in pachd's own log.
      type: str
    pipeline:
      description: The pipeline.
      type: str
    job:
      description: Id of the job; empty where it belongs to none.
      type: str
    datum:
      description: Id of the datum; empty where it belongs to none.
      type: str
    worker:
      description: Name of the worker's pod.
      type: str
    user:
      description: Whether the user's program wrote it.
      type: bool
    message:
      description: The line.
      type: str
  sample:
    - time: "2026-11-22T10:00:00Z"
      pipeline: measure
      job: 9d1c4d5a3c1b4e6f8a8b9c0e1f2a4b7d
      user: true
      message: 17 ticks
truncated:
  description: Whether there were more lines than O(limit).
  returned: always
  type: bool
  sample: false
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import durations, joblogs
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Read, and return the module's result."""
    params = module.params
    since = durations.seconds(params["since"])
    if since is None:
        raise InputError("since is no duration", where=params["since"], fix="Write 90s, 5m or 24h.")
    wanted = joblogs.Wanted(
        pipeline=params["pipeline"],
        job=params["job"],
        datum=params["datum"],
        data=params["data"],
        since=since,
        tail=params["tail"],
        master=params["master"],
        follow=params["follow"],
        limit=params["limit"],
    )
    with opened(params) as pachd:
        lines, truncated = joblogs.read(pachd, wanted)
    return {"changed": False, "lines": lines, "truncated": truncated}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "pipeline": {"type": "str", "default": ""},
            "job": {"type": "str", "default": ""},
            "datum": {"type": "str", "default": ""},
            "data": {"type": "list", "elements": "str", "default": []},
            "since": {"type": "str", "default": "24h"},
            "tail": {"type": "int", "default": 0},
            "master": {"type": "bool", "default": False},
            "follow": {"type": "int", "default": 0},
            "limit": {"type": "int", "default": 1000},
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
