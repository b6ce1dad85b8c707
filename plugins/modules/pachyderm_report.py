#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_report
short_description: Show an installation on one HTML page
version_added: 0.1.0
description:
  - Writes one static page with the repos, their branches, the graph of pipelines, jobs by state and time, sizes, and
    the newest verified backup. It loads nothing from anywhere, so it can be mailed, archived or served by any server.
  - For those who have no licence for Pachyderm's own dashboard.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - The page is new each time; a diff of it says nothing.
  idempotent:
    support: none
    details:
      - The page says when it was made.
options:
  dest:
    description: The file to write; its directory has to exist.
    type: path
    required: true
  mode:
    description: Permissions of the file; repos' names and jobs' errors are in it.
    type: str
    default: "0640"
  title:
    description: Title of the page; by default it names the namespace.
    type: str
    default: ""
  jobs:
    description: How many of the newest jobs are counted.
    type: int
    default: 1000
  store:
    description:
      - Where backups are kept, as for M(pachops.pachyderm.etcd_backup), an absolute path on this host,
        C(s3://bucket/prefix) or C(gs://bucket/prefix).
      - Without it backups are not looked at.
    type: str
    required: false
    default: ""
  backup_max_age:
    description: Seconds after which the newest verified backup is too old; without it none is.
    type: int
  token:
    description: Authentication token, where authentication is active.
    type: str
    default: ""
  timeout:
    description: Seconds that each question to etcd or pachd may take.
    type: float
    default: 30.0
seealso:
  - module: pachops.pachyderm.pachyderm_status
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Write the page
  pachops.pachyderm.pachyderm_report:
    namespace: pachyderm
    store: s3://acme-backups/pachyderm
    dest: /srv/www/pachyderm.html
    mode: "0644"
"""

RETURN = r"""
dest:
  description: The file.
  returned: always
  type: str
  sample: /srv/www/pachyderm.html
size:
  description: Its size in bytes.
  returned: always
  type: int
  sample: 48120
counts:
  description: How many C(repos), C(branches), C(pipelines) and C(jobs) are on it.
  returned: always
  type: dict
  sample: {repos: 7, branches: 12, pipelines: 4, jobs: 118}
"""

import datetime as dt
from itertools import islice
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.evidence import gather
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import pipelines, repos, shown
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import connected
from ansible_collections.pachops.pachyderm.plugins.module_utils.replacing import replacing
from ansible_collections.pachops.pachyderm.plugins.module_utils.report_page import page
from ansible_collections.pachops.pachyderm.plugins.module_utils.status import backups_in, report
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import (
    STORE_ARGUMENT_SPEC,
    access_of,
    open_location,
)


def look(params: dict[str, Any]) -> dict[str, Any]:
    """Ask the cluster, pachd and the store for all that is on the page."""
    kube = connect(params["kubeconfig"], params["context"])
    now = dt.datetime.now(dt.timezone.utc)
    state = report(gather(kube, params["namespace"], timeout=params["timeout"]), now)
    if params["store"]:
        store = open_location(params["store"], access_of(params["store_access"]))
        state["backups"] = backups_in(store, state["cluster_id"], params["backup_max_age"], now)
    with connected(kube, params["namespace"], params["token"] or "", timeout=params["timeout"]) as pachd:
        found = repos.every(pachd)
        request = pachd.pps_pb2.ListJobRequest(history=-1)
        jobs = islice(pachd.stream(pachd.pps.ListJobStream, request, "for its jobs"), params["jobs"])
        return {
            "title": params["title"] or f"Pachyderm in {params['namespace']}",
            "time": now.isoformat(),
            "status": state,
            "repos": found,
            "branches": [branch for repo in found for branch in repos.branches(pachd, repo["name"])],
            "pipelines": pipelines.every(pachd),
            "jobs": [shown.job(info) for info in jobs],
        }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Write the page and return the module's result."""
    params = module.params
    dest = Path(params["dest"])
    if not dest.parent.is_dir() or dest.is_dir():
        raise InputError(
            "the page cannot be written", where=str(dest), why="this is no file in a directory that exists"
        )
    data = look(params)
    content = page(data).encode()
    if not module.check_mode:
        try:
            with replacing(dest, int(params["mode"], 8)) as new:
                new.write(content)
        except (OSError, ValueError) as error:
            raise InputError("the page cannot be written", where=str(dest), why=str(error)) from None
    counts = {name: len(data[name]) for name in ("repos", "branches", "pipelines", "jobs")}
    return {"changed": True, "dest": str(dest), "size": len(content), "counts": counts}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "dest": {"type": "path", "required": True},
            "mode": {"type": "str", "default": "0640"},
            "title": {"type": "str", "default": ""},
            "jobs": {"type": "int", "default": 1000},
            "store": {"type": "str", "default": ""},
            "store_access": STORE_ARGUMENT_SPEC["store_access"],
            "backup_max_age": {"type": "int"},
            "token": {"type": "str", "default": "", "no_log": True},
            "timeout": {"type": "float", "default": 30.0},
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
