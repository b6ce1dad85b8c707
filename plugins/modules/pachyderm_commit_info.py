#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_commit_info
short_description: Look at commits and their files
version_added: 0.1.0
description:
  - Returns the history of a branch or of a whole repo, and on request the files of one commit.
  - Waits on request until everything that descends from a commit is computed.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
  - pachops.pachyderm.attributes.info_module
options:
  repo:
    description: The repo.
    type: str
    required: true
  commit:
    description:
      - The newest commit of the history, by its id or by a branch, with C(^) or C(~) and a number for an ancestor.
      - Without it all commits of the repo are returned.
    type: str
    default: ""
  oldest:
    description: An ancestor where the history ends; it does not belong to it.
    type: str
    default: ""
  limit:
    description: At most so many commits; V(0) is all.
    type: int
    default: 0
  state:
    description: Only commits that are V(open) or V(finished).
    type: str
    choices: [all, open, finished]
    default: all
  files:
    description: Return the files of O(commit) at O(path) and below it.
    type: bool
    default: false
  path:
    description: Where the files are.
    type: str
    default: /
  wait:
    description:
      - Seconds to wait until O(commit) is finished, and all that pipelines make of it. It fails where they are not;
        V(0) does not wait.
    type: int
    default: 0
  pipeline:
    description: Wait for the output of this pipeline only.
    type: str
    default: ""
seealso:
  - module: pachops.pachyderm.pachyderm_branch
  - module: pachops.pachyderm.pachyderm_job_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: See what a branch was
  pachops.pachyderm.pachyderm_commit_info:
    repo: ticks
    commit: master
    limit: 10

- name: Look into an older commit
  pachops.pachyderm.pachyderm_commit_info:
    repo: ticks
    commit: master^2
    limit: 1
    files: true

- name: Find what nobody has finished
  pachops.pachyderm.pachyderm_commit_info:
    repo: ticks
    state: open
"""

RETURN = r"""
commits:
  description: The commits, the newest first.
  returned: always
  type: list
  elements: dict
  contains:
    repo:
      description: The repo.
      type: str
    id:
      description: Its id.
      type: str
    branch:
      description: The branch that it was made on.
      type: str
    parent:
      description: Id of the commit before it, null where it is the first one.
      type: str
    children:
      description: Ids of the commits after it.
      type: list
      elements: str
    description:
      description: Its description.
      type: str
    origin:
      description: V(USER), V(AUTO) for the output of a job, or V(FSCK).
      type: str
    started:
      description: When it was started, in UTC.
      type: str
    finished:
      description: When it was finished, null while it is open.
      type: str
    size:
      description: Bytes of all its files.
      type: int
    provenance:
      description: Commits that it was made from, C(repo@id) each.
      type: list
      elements: str
    subvenance:
      description: Newest commits that were made from it, C(repo@id) each.
      type: list
      elements: str
  sample:
    - repo: ticks
      id: 0f6e7b1c3a5d4c1e9d7b2a1f0e9c8b7a
      branch: master
      parent: 7a8b9c0e1f2a4b7d9e1c4d5a3c1b7e6f
      started: "2026-11-22T10:00:00Z"
      finished: "2026-11-22T10:00:01Z"
      size: 356502
files:
  description: The files and directories, by path; empty unless O(files) is set.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    type:
      description: V(file) or V(dir).
      type: str
    size:
      description: Size in bytes, of a directory with all below it.
      type: int
    hash:
      description: Pachyderm's own hash of it, which is no checksum of the bytes alone.
      type: str
  sample:
    - {path: /ticks.csv, type: file, size: 356502, hash: 5e884898da28047151d0e56f8dc62927}
computed:
  description: The commits that descend from O(commit), as in RV(commits); empty unless O(wait) is set.
  returned: always
  type: list
  elements: dict
  sample:
    - {repo: measure, id: 3c1b7e6f7a8b4c0e9f2a4b7d9e1c4d5a, branch: master, origin: AUTO}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import commits
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and return the module's result."""
    params = module.params
    repo, commit = params["repo"], params["commit"]
    if not commit and (params["files"] or params["wait"]):
        raise InputError("no commit is named", where=repo, fix="Give commit: an id, or a branch such as master.")
    with opened(params) as pachd:
        computed = []
        if params["wait"]:
            computed = commits.flush(pachd, [(repo, commit)], params["pipeline"], params["wait"])
        state = "" if params["state"] == "all" else params["state"]
        wanted = commits.Wanted(repo, commit, params["oldest"], params["limit"], state)
        return {
            "changed": False,
            "commits": commits.history(pachd, wanted),
            "files": commits.files(pachd, repo, commit, params["path"]) if params["files"] else [],
            "computed": computed,
        }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "repo": {"type": "str", "required": True},
            "commit": {"type": "str", "default": ""},
            "oldest": {"type": "str", "default": ""},
            "limit": {"type": "int", "default": 0},
            "state": {"type": "str", "choices": ["all", "open", "finished"], "default": "all"},
            "files": {"type": "bool", "default": False},
            "path": {"type": "str", "default": "/"},
            "wait": {"type": "int", "default": 0},
            "pipeline": {"type": "str", "default": ""},
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
