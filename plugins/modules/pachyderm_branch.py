#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_branch
short_description: Create, move and delete branches
version_added: 0.1.0
description:
  - Makes a branch, moves it to a commit, or deletes it. A branch is a name for a commit, so moving it publishes what
    the commit holds to every pipeline that reads the branch, and moving it back takes that back; no commit is lost by
    either.
  - A branch that a pipeline writes cannot be moved on its own; move the branch that the pipeline reads.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.attributes.action_group
options:
  repo:
    description: The repo.
    type: str
    required: true
  name:
    description: The branch.
    type: str
    required: true
  head:
    description:
      - The commit that the branch is to name, by its id, or by a branch of the repo, with C(^) or C(~) and a number for
        an ancestor. C(master^) is the commit before the newest one of C(master).
      - Without it the branch stays where it is; a new one has no commit then.
      - An ancestor of the branch itself is counted from where the branch is when the module runs, so that every run
        goes back further. Name an id for a task that may run again.
    type: str
  provenance:
    description:
      - Branches that it depends on directly, C(repo@branch) each. Pachyderm makes a commit on it for each of theirs.
      - Without it they are left as they are.
    type: list
    elements: str
  trigger:
    description:
      - Moves the branch to the head of another one when a condition is met; without it the trigger is left as it is.
      - An empty mapping takes the trigger away; the branch is made anew for that.
    type: dict
    suboptions:
      branch:
        description: The branch of the same repo whose commits are counted.
        type: str
      all:
        description: Whether all conditions have to be met, instead of any.
        type: bool
      cron_spec:
        description: A new commit and this time has passed since the last one, in cron's form.
        type: str
      size:
        description: This much data was added since the last one, such as V(100MB).
        type: str
      commits:
        description: So many commits were made since the last one.
        type: int
  state:
    description: Whether it is to be there.
    type: str
    choices: [present, absent]
    default: present
  force:
    description: Delete it although other branches descend from it; they lose their input.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.pachyderm_repo
  - module: pachops.pachyderm.pachyderm_commit_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Publish what was staged
  pachops.pachyderm.pachyderm_branch:
    repo: ticks
    name: master
    head: staging

- name: Take the last publication back
  pachops.pachyderm.pachyderm_branch:
    repo: ticks
    name: master
    head: master^

- name: Publish every tenth commit
  pachops.pachyderm.pachyderm_branch:
    repo: ticks
    name: daily
    trigger: {branch: master, commits: 10}
"""

RETURN = r"""
branch:
  description: The branch, as it is or would be; as it was where it is deleted; empty where there was none.
  returned: always
  type: dict
  contains:
    repo:
      description: The repo.
      type: str
    name:
      description: Its name.
      type: str
    head:
      description: Id of the commit that it names, null where there is none.
      type: str
    provenance:
      description: Branches that it depends on directly.
      type: list
      elements: str
    subvenance:
      description: Branches that depend on it.
      type: list
      elements: str
    trigger:
      description: What moves it, null where nothing does.
      type: dict
  sample:
    repo: ticks
    name: master
    head: 0f6e7b1c3a5d4c1e9d7b2a1f0e9c8b7a
    provenance: []
    subvenance: [measure@master]
    trigger: null
previous_head:
  description: Id of the commit that it named before, for the way back; null where there was none.
  returned: always
  type: str
  sample: 7a8b9c0e1f2a4b7d9e1c4d5a3c1b7e6f
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import branches
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the branch to its state, and return the module's result."""
    params, write = module.params, not module.check_mode
    with opened(params) as pachd:
        if params["state"] == "present":
            wanted = branches.Wanted(
                params["repo"], params["name"], params["head"], params["provenance"], params["trigger"]
            )
            change, branch = branches.ensure(pachd, wanted, write=write)
        else:
            change, branch = branches.remove(pachd, params["repo"], params["name"], force=params["force"], write=write)
    previous = change.before.get("head")
    return {"changed": change.changed, "branch": branch, "previous_head": previous, "diff": change.diff()}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "repo": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "head": {"type": "str"},
            "provenance": {"type": "list", "elements": "str"},
            "trigger": {
                "type": "dict",
                "options": {
                    "branch": {"type": "str"},
                    "all": {"type": "bool"},
                    "cron_spec": {"type": "str"},
                    "size": {"type": "str"},
                    "commits": {"type": "int"},
                },
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "force": {"type": "bool", "default": False},
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
