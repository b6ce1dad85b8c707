#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_file
short_description: Put files and trees into repos, and get them out
version_added: 0.1.0
description:
  - Compares by content, and moves only what differs. Most files are compared without reading them, for Pachyderm
    records a hash that follows from the content.
  - All that one task writes becomes one commit, or none. A branch with an open commit is refused, because files would
    be added to that one by one.
extends_documentation_fragment:
  - pachops.pachyderm.pachd
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.attributes.action_group
options:
  repo:
    description: The repo; it is made where files are put into one that does not exist.
    type: str
    required: true
  branch:
    description: The branch to write; it is made where it does not exist.
    type: str
    default: master
  commit:
    description:
      - For O(state=fetched), the commit to read, by its id or by a branch, with C(^) or C(~) and a number for an
        ancestor; O(branch) by default.
    type: str
    default: ""
  path:
    description:
      - The file or directory in the repo.
      - By default the name of a file in O(src), and V(/) for a directory.
    type: str
    default: ""
  src:
    description: A file on this host, or a directory whose files go below O(path).
    type: path
  content:
    description: The content of one file, instead of O(src); UTF-8.
    type: str
  dest:
    description:
      - For O(state=fetched), the file on this host, or the directory that the files below O(path) go to. Its parent has
        to exist.
    type: path
  state:
    description:
      - V(present) puts O(src) or O(content) into the repo.
      - V(fetched) gets O(path) out of it, to O(dest).
      - V(absent) removes O(path) in a new commit; older commits still have it.
    type: str
    choices: [present, fetched, absent]
    default: present
  append:
    description:
      - Add the content behind what is there, as C(pachctl put file) does, instead of replacing it. This is a change
        each time.
    type: bool
    default: false
  purge:
    description: Remove files below O(path) that the directory O(src) does not have.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.pachyderm_branch
  - module: pachops.pachyderm.pachyderm_commit_info
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Bring the ticks of a day into their repo
  pachops.pachyderm.pachyderm_file:
    address: grpc://127.0.0.1:30650
    repo: ticks
    branch: staging
    src: examples/quickstart/ticks.csv

- name: Mirror a directory, in one commit
  pachops.pachyderm.pachyderm_file:
    repo: ticks
    src: data/ticks
    path: /2026
    purge: true

- name: See a file as it was two commits ago
  pachops.pachyderm.pachyderm_file:
    state: fetched
    repo: ticks
    commit: master^2
    path: /ticks.csv
    dest: /tmp/ticks.csv
"""

RETURN = r"""
files:
  description: The files that were compared, by path.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path in the repo.
      type: str
    checksum:
      description: SHA-256 of the content; empty where the file is removed.
      type: str
    size:
      description: Size in bytes.
      type: int
    state:
      description: V(created), V(changed), V(same) or V(removed).
      type: str
  sample:
    - path: /ticks.csv
      checksum: 6f5a5571930ce189077b048c69a2c8dc11941000581cb8c631a7e85f20572c05
      size: 356502
      state: created
size:
  description: Bytes of all of them.
  returned: always
  type: int
  sample: 356502
commit:
  description: Id of the commit that has the files, before a change in check mode; empty where there is none.
  returned: always
  type: str
  sample: 0f6e7b1c3a5d4c1e9d7b2a1f0e9c8b7a
file:
  description: What was put, got or removed, as pachctl writes it.
  returned: always
  type: str
  sample: ticks@master:/ticks.csv
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import files
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import PACHD_ARGUMENT_SPEC, opened
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Put, get or remove, and return the module's result."""
    params, write, progress = module.params, not module.check_mode, Progress()
    source = Path(params["src"]) if params["src"] else (params["content"] or "").encode()
    name = source.name if isinstance(source, Path) and not source.is_dir() else ""
    path = "/" + (params["path"].strip("/") or name)
    with opened(params) as pachd:
        target = files.Target(params["repo"], params["branch"], path, params["append"], params["purge"])
        if params["state"] == "fetched":
            commit = params["commit"] or params["branch"]
            where = f"{params['repo']}@{commit}:{path}"
            progress.stage(f"fetch {where}")
            found = files.get(pachd, params["repo"], commit, path, Path(params["dest"]), progress, write=write)
        elif params["state"] == "present":
            where = str(target)
            progress.stage(f"write {where}")
            found = files.put(pachd, source, target, progress, write=write)
        else:
            where = str(target)
            found = files.remove(pachd, target, write=write)
    return {
        "changed": found.changed,
        "files": [{key: each[key] for key in ("path", "checksum", "size", "state")} for each in found.files],
        "size": found.size,
        "commit": found.commit,
        "file": where,
        "diff": found.diff(),
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **PACHD_ARGUMENT_SPEC,
            "repo": {"type": "str", "required": True},
            "branch": {"type": "str", "default": "master"},
            "commit": {"type": "str", "default": ""},
            "path": {"type": "str", "default": ""},
            "src": {"type": "path"},
            "content": {"type": "str"},
            "dest": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "fetched", "absent"], "default": "present"},
            "append": {"type": "bool", "default": False},
            "purge": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("src", "content")],
        required_if=[
            ("state", "present", ("src", "content"), True),
            ("state", "fetched", ("dest",)),
        ],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
