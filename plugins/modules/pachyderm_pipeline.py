#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_pipeline
short_description: Create, update, stop, start and delete pipelines
version_added: 0.1.0
description:
  - Brings a pipeline to a specification. An update is sent only where something differs, and the diff has the fields
    that do; what pachd fills in by itself is no difference.
  - A specification is judged as a whole before anything is sent, for unknown fields, wrong types, what is missing,
    repos that do not exist, names used twice, and pipelines that would read their own output.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.attributes.action_group
options:
  name:
    description: The pipeline; the one in the specification by default.
    type: str
    default: ""
  spec:
    description:
      - The specification, with the fields of Pachyderm 1.13's pipeline specification.
      - Without O(spec) and O(src) what the pipeline does is left as it is.
    type: dict
  src:
    description:
      - File with the specification, JSON or YAML, as pachctl reads it.
      - Where it holds several, O(name) says which one is meant.
    type: path
  state:
    description:
      - V(present) leaves alone whether it runs; a new one does.
      - V(started) and V(stopped) start and stop it. Both write a new version of the specification.
      - V(absent) deletes it with its output repo.
    type: str
    choices: [present, started, stopped, absent]
    default: present
  reprocess:
    description: Compute everything anew. This is a change each time.
    type: bool
    default: false
  wait:
    description: Seconds to wait until it runs or is paused; V(0) does not wait.
    type: int
    default: 0
  keep_repo:
    description: Keep the output repo of a pipeline that is deleted.
    type: bool
    default: false
  force:
    description: Delete it although others read its output; they lose their input.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.pachyderm_job_info
  - module: pachops.pachyderm.pachyderm_logs
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Sum up the ticks of each day
  pachops.pachyderm.pachyderm_pipeline:
    spec:
      pipeline: {name: sums}
      transform:
        image: docker.io/library/busybox:1.36
        cmd: [sh]
        stdin: ["cat /pfs/ticks/*.csv | wc -l > /pfs/out/lines"]
      input:
        pfs: {repo: ticks, glob: /}
    wait: 120

- name: Bring it to what the file says, and show what differs
  pachops.pachyderm.pachyderm_pipeline:
    src: pipelines/sums.yml
  diff: true

- name: Stop it
  pachops.pachyderm.pachyderm_pipeline:
    name: sums
    state: stopped
"""

RETURN = r"""
pipeline:
  description: The pipeline, as it is or would be; as it was where it is deleted; empty where there was none.
  returned: always
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    version:
      description: How often it was created or updated.
      type: int
    description:
      description: Its description.
      type: str
    state:
      description: V(starting), V(running), V(restarting), V(failure), V(paused), V(standby) or V(crashing).
      type: str
    stopped:
      description: Whether it is to be stopped.
      type: bool
    reason:
      description: Why it is in that state.
      type: str
    created:
      description: When this version was made, in UTC.
      type: str
    last_job_state:
      description: State of the newest job, null where there was none.
      type: str
    jobs:
      description: Number of jobs by state.
      type: dict
    inputs:
      description: Branches that it reads.
      type: list
      elements: str
    output_branch:
      description: Branch of the output repo, which is called like the pipeline.
      type: str
    spec:
      description:
        - The specification with pachd's defaults. Variables of C(transform.env) whose names look like secrets are
          hidden.
      type: dict
  sample:
    name: sums
    version: 1
    state: running
    stopped: false
    inputs: [ticks@master]
    jobs: {success: 3}
actions:
  description: What was done, or would be, of V(create), V(update), V(reprocess), V(start), V(stop) and V(delete).
  returned: always
  type: list
  elements: str
  sample: [update]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import pipelines, specs
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the pipeline to its state, and return the module's result."""
    params, write = module.params, not module.check_mode
    spec = specs.load(Path(params["src"]), params["name"]) if params["src"] else params["spec"]
    if spec is None and not params["name"]:
        raise InputError("no pipeline is named", fix="Give name, spec or src.")
    with opened(params) as pachd:
        if params["state"] == "absent":
            name = params["name"] or specs.parse(pachd, spec).pipeline.name
            outcome = pipelines.remove(pachd, name, keep_repo=params["keep_repo"], force=params["force"], write=write)
        else:
            running = {"started": True, "stopped": False}.get(params["state"])
            outcome = pipelines.ensure(pachd, params["name"], spec, running, reprocess=params["reprocess"], write=write)
            if write and params["wait"]:
                reached = pipelines.wait(pachd, outcome.pipeline["name"], params["wait"])
                outcome.pipeline.update(reached)
    return {
        "changed": bool(outcome.actions),
        "pipeline": outcome.pipeline,
        "actions": outcome.actions,
        "diff": outcome.change.diff(),
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "name": {"type": "str", "default": ""},
            "spec": {"type": "dict"},
            "src": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "started", "stopped", "absent"], "default": "present"},
            "reprocess": {"type": "bool", "default": False},
            "wait": {"type": "int", "default": 0},
            "keep_repo": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("spec", "src")],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
