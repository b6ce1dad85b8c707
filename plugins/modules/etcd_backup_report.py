#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_backup_report
short_description: Tell of a scheduled backup run
version_added: 0.1.0
description:
  - Records in the store how a run of backup, verification and prune ended, and which runs were missed before it.
  - Writes metrics for Prometheus to a file or to a pushgateway, and creates an Event about pachd in the cluster.
  - Metrics or an Event that cannot be delivered are a warning and fail nothing.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.kube.namespace
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.backup_store.cluster
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Returns record and metrics; nothing is written or sent.
  diff_mode:
    support: none
  idempotent:
    support: none
options:
  started:
    description: When the run began, in seconds since 1970.
    type: float
    required: true
  backup_id:
    description: The backup that the run made or found unchanged; empty where it did not come to that.
    type: str
    default: ""
  stages:
    description: How the parts of the run ended, in their order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: V(backup), V(verify) or V(prune).
        type: str
        choices: [backup, verify, prune]
        required: true
      seconds:
        description: How long it took.
        type: float
        default: 0
      error:
        description: Why it failed; empty where it went well.
        type: str
        default: ""
      skipped:
        description: Whether it was not begun, because an earlier one had failed.
        type: bool
        default: false
  schedule:
    description: The schedule in cron's form, for counting missed runs; without it none are counted.
    type: str
    default: ""
  schedule_zone:
    description: The time zone that the schedule is in.
    type: str
    choices: [UTC, local]
    default: UTC
  runner:
    description: Who ran it, for the record.
    type: str
    default: ""
  textfile:
    description: Path of a C(.prom) file for the node exporter's textfile collector.
    type: path
    default: ""
  pushgateway:
    description: Address of a pushgateway, such as V(http://pushgateway:9091).
    type: str
    default: ""
  pushgateway_user:
    description: User, where the pushgateway asks for one.
    type: str
    default: ""
  pushgateway_password:
    description: The user's password.
    type: str
    default: ""
  event:
    description: Whether to create an Event in the namespace.
    type: bool
    default: true
seealso:
  - module: pachops.pachyderm.etcd_backup
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Tell of a run that went well
  pachops.pachyderm.etcd_backup_report:
    store: /var/backups/pachyderm
    started: 1769903999
    backup_id: 20260131T235959Z-r1234
    stages:
      - {name: backup, seconds: 12.3}
      - {name: verify, seconds: 4.5}
      - {name: prune, seconds: 0.6}
    schedule: 59 23 * * *
    textfile: /var/lib/prometheus/node-exporter/pachyderm_backup.prom
"""

RETURN = r"""
run:
  description: The record.
  returned: always
  type: dict
  contains:
    passed:
      description: Whether every part went well.
      type: bool
    error:
      description: The first part that failed, and why.
      type: str
    backup_id:
      description: The backup.
      type: str
    stages:
      description: The parts, as given.
      type: list
      elements: dict
    missed:
      description: Times at which the schedule wanted a run, and none was made.
      type: list
      elements: str
  sample: {passed: true, error: "", missed: []}
record:
  description: The record's key in the store; empty where the store has none, and in check mode.
  returned: always
  type: str
  sample: 8b5f/runs/20260131T235959Z.json
metrics:
  description: The metrics in Prometheus' text format.
  returned: always
  type: str
  sample: 'pachops_backup_last_run_success{namespace="pachyderm",cluster_id="8b5f"} 1'
undelivered:
  description: What could not be written or sent, and why.
  returned: always
  type: list
  elements: str
  sample: []
"""

import contextlib
import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import Catalogue, read_catalogue
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.cron import parse
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import (
    CATALOGUE_ARGUMENT_SPEC,
    choose_cluster,
    store_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.report import (
    Gateway,
    Run,
    Stage,
    attempt,
    current_at,
    emit_event,
    metrics,
    missed_runs,
    push,
    record_run,
    run_times,
    write_textfile,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect


def made_run(params: dict[str, Any], cluster_id: str, before: dt.datetime | None) -> Run:
    """Return the run that the options describe."""
    started = dt.datetime.fromtimestamp(params["started"], dt.timezone.utc)
    missed: tuple[dt.datetime, ...] = ()
    if params["schedule"]:
        local = started.astimezone() if params["schedule_zone"] == "local" else started
        missed = missed_runs(parse(params["schedule"]), before, local)
    stages = tuple(Stage(each["name"], each["seconds"], each["error"], each["skipped"]) for each in params["stages"])
    now = dt.datetime.now(dt.timezone.utc)
    return Run(cluster_id, params["namespace"], started, now, stages, params["backup_id"], missed, params["runner"])


def tell(module: AnsibleModule) -> dict[str, Any]:
    """Record and tell, and return the module's result."""
    params = module.params
    troubles: list[str] = []
    catalogue = Catalogue("unknown")
    before = None
    store = store_of(params)
    try:
        cluster_id = choose_cluster(store, params["cluster_id"])
        catalogue = read_catalogue(store, cluster_id)
        before = next(iter(run_times(store, cluster_id)), None)
    except PachopsError as error:
        # The store itself may be why the run failed; the metrics have to say so all the same.
        troubles.append(f"record: {error}")
    run = made_run(params, catalogue.cluster_id, before)
    current = None
    if catalogue.latest_verified:
        with contextlib.suppress(PachopsError):
            current = current_at(store, catalogue.latest_verified, run)
    text = metrics(params["namespace"], catalogue, run, current)
    result = {"changed": True, "run": run.as_dict(), "record": "", "metrics": text, "undelivered": troubles}
    if module.check_mode:
        return result

    def record() -> None:
        result["record"] = record_run(store, run)

    tasks: list[tuple[str, Callable[[], Any]]] = []
    if not troubles:
        tasks.append(("record", record))
    if params["textfile"]:
        tasks.append(("textfile", partial(write_textfile, Path(params["textfile"]), text)))
    if params["pushgateway"]:
        gateway = Gateway(params["pushgateway"], params["pushgateway_user"], params["pushgateway_password"])
        tasks.append(("pushgateway", partial(push, gateway, params["namespace"], text)))
    if params["event"]:
        tasks.append(("event", lambda: emit_event(connect(params["kubeconfig"], params["context"]), run)))
    troubles += attempt(tasks)
    for trouble in troubles:
        module.warn(trouble)
    return result


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **CATALOGUE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "started": {"type": "float", "required": True},
            "backup_id": {"type": "str", "default": ""},
            "stages": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "choices": ["backup", "verify", "prune"], "required": True},
                    "seconds": {"type": "float", "default": 0},
                    "error": {"type": "str", "default": ""},
                    "skipped": {"type": "bool", "default": False},
                },
            },
            "schedule": {"type": "str", "default": ""},
            "schedule_zone": {"type": "str", "choices": ["UTC", "local"], "default": "UTC"},
            "runner": {"type": "str", "default": ""},
            "textfile": {"type": "path", "default": ""},
            "pushgateway": {"type": "str", "default": ""},
            "pushgateway_user": {"type": "str", "default": ""},
            "pushgateway_password": {"type": "str", "default": "", "no_log": True},
            "event": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        result = tell(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
