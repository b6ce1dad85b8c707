#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_migrate
short_description: Move an installation of Pachyderm, metadata and objects, while it is in use
version_added: 0.1.0
description:
  - Copies the metadata as of one revision and follows what the source writes from then on, copies the objects under the
    keys that the target's backend uses, then pauses the source, copies the rest, compares, and starts the target.
  - Source and target may differ in cluster, namespace, backend, version of etcd and number of its members. The target
    is an installation that was deployed with C(paused).
  - The source is only read, apart from its scaling and the lock in its namespace. Any failure starts it again.
  - A run that died is continued by the next one, or undone.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.migrate
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - The plan is made in full from both sides, and nothing is written, not even the locks.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(migrated) copies and goes over to the target.
      - V(copied) brings the target up to date and leaves the source running, to shorten a later V(migrated).
      - V(paused) pauses the source and nothing else, for a migration by backup and restore.
      - V(undone) pauses the target, removes an unfinished copy from its etcd, and starts the source as it was.
    type: str
    choices: [migrated, copied, paused, undone]
    default: migrated
  source:
    required: true
  cluster_id:
    description: Pachyderm's cluster id of the source. Where it is another one, nothing is moved.
    type: str
    default: ""
  version_skew:
    description: Allow the target another minor version of Pachyderm than the source.
    type: bool
    default: false
  check_references:
    description: Whether everything that the metadata reach is looked for in the target before anything is paused.
    type: bool
    default: true
  token:
    description: An authentication token of Pachyderm, to ask the target's pachd where authentication is active.
    type: str
    default: ""
  workdir:
    description: Directory for a temporary file of the metadata's size; the system's by default.
    type: path
    default: ""
  catch_up_timeout:
    description: Seconds to wait until the target is close enough behind the source.
    type: int
    default: 600
  pachd_timeout:
    description: Seconds for pachd to become ready.
    type: int
    default: 600
  lock_wait:
    description: Seconds to wait for a backup, restore, migration or garbage collection of either side to end.
    type: float
    default: 0
requirements:
  - grpcio, protobuf and PyYAML (Python libraries)
  - boto3, for S3
  - google-auth, google-resumable-media and requests, for Google Cloud Storage
  - python-pachyderm, to ask the target's pachd
seealso:
  - module: pachops.pachyderm.etcd_backup
  - module: pachops.pachyderm.etcd_restore
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Show what a move would do
  pachops.pachyderm.etcd_migrate:
    source: {namespace: pachyderm}
    target: {namespace: pachyderm-aws}
  check_mode: true

- name: Move to another cluster
  pachops.pachyderm.etcd_migrate:
    source:
      kubeconfig: ~/.kube/old
      namespace: pachyderm
    target:
      kubeconfig: ~/.kube/new
      namespace: pachyderm

- name: Go back
  pachops.pachyderm.etcd_migrate:
    state: undone
    source: {namespace: pachyderm}
    target: {namespace: pachyderm-aws}
"""

RETURN = r"""
plan:
  description: What moves, how long it takes, and what speaks against it; empty for V(paused) and V(undone).
  returned: always
  type: dict
  sample:
    source: "pachyderm (local: local:/var/pachyderm/pachd)"
    target: "pachyderm-aws (aws: aws:acme-pachyderm)"
    keys: 567
    objects: 1234
    lines: ["pachyderm → pachyderm-aws …"]
moved:
  description: Keys that both sides hold after the cut-over, the hash over them, and the source's last revision.
  returned: always
  type: dict
  sample: {key_count: 567, sha256: 9f86d081884c7d65, revision: 4711}
copied:
  description: Objects that were copied, with C(count), C(bytes) and C(passes); in check mode those that would be.
  returned: always
  type: dict
  sample: {count: 1234, bytes: 56789, passes: 2}
paused_seconds:
  description: From the pause of the source until the target's pachd was ready.
  returned: always
  type: float
  sample: 9.5
lag:
  description: Revisions that the target was behind when the source was paused.
  returned: always
  type: int
  sample: 3
way_back:
  description: How to go back, after a cut-over.
  returned: always
  type: str
  sample: "The way back: the same with migrate_action=undo …"
seconds:
  description: How long it took.
  returned: always
  type: float
  sample: 42.1
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.engine import (
    Migrator,
    Options,
    Outcome,
    Plan,
    refuse,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.sides import SIDE, side_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress


def run(module: AnsibleModule) -> dict[str, Any]:
    """Migrate, copy, pause or undo, and return the module's result."""
    params = module.params
    begun = time.monotonic()
    options = Options(
        cutover=params["state"] == "migrated",
        cluster_id=params["cluster_id"],
        version_skew=params["version_skew"],
        check_references=params["check_references"],
        token=params["token"],
        workdir=params["workdir"],
        pachd_timeout=params["pachd_timeout"],
        catch_up=params["catch_up_timeout"],
    )
    migrator = Migrator(side_of(params, "source"), side_of(params, "target"), options, progress=Progress())
    if params["state"] == "paused":
        outcome = migrator.pause(check=module.check_mode)
    elif params["state"] == "undone":
        outcome = migrator.undo(lock_wait=params["lock_wait"], check=module.check_mode)
    elif module.check_mode:
        outcome = planned(module, migrator.plan())
    else:
        outcome = migrator.migrate(lock_wait=params["lock_wait"])
    for warning in outcome.warnings:
        module.warn(warning)
    plan = outcome.plan
    to_copy = plan.objects if plan and module.check_mode else None
    result = {
        "changed": outcome.changed,
        "plan": described(plan) if plan else {},
        "moved": {"key_count": outcome.keys, "sha256": outcome.digest, "revision": outcome.revision},
        "copied": {
            "count": to_copy.missing if to_copy else sum(each.copied for each in outcome.passes),
            "bytes": to_copy.missing_size if to_copy else sum(each.size for each in outcome.passes),
            "passes": len(outcome.passes),
        },
        "paused_seconds": outcome.pause,
        "lag": outcome.lag,
        "way_back": outcome.way_back,
        "seconds": round(time.monotonic() - begun, 1),
    }
    if module._diff and plan:  # noqa: SLF001 - there is no public name
        lines = "".join(f"{line}\n" for line in plan.lines())
        result["diff"] = {"before": "", "after": lines if outcome.changed else "", "after_header": plan.target}
    return result


def planned(module: AnsibleModule, plan: Plan) -> Outcome:
    """Return what check mode predicts, or fail where it would be refused."""
    try:
        refuse(plan.problems)
    except PachopsError as error:
        module.fail_json(**error.as_result(), plan=described(plan))
    return Outcome("migrated", not plan.done, plan)


def described(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain data."""
    return {
        "source": plan.source,
        "target": plan.target,
        "cluster_id": plan.cluster_id,
        "keys": plan.keys.keys if plan.keys else 0,
        "key_bytes": plan.keys.size if plan.keys else 0,
        "kinds": {kind.value: count for kind, count in plan.keys.kinds.items()} if plan.keys else {},
        "objects": plan.objects.count if plan.objects else 0,
        "object_bytes": plan.objects.size if plan.objects else 0,
        "missing": plan.objects.missing if plan.objects else 0,
        "missing_bytes": plan.objects.missing_size if plan.objects else 0,
        "seconds": round(plan.seconds, 1),
        "pause_seconds": round(plan.pause, 1),
        "ticks": dict(plan.ticks),
        "continued": plan.continued,
        "done": plan.done,
        "problems": list(plan.problems),
        "notes": list(plan.notes),
        "lines": plan.lines(),
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "state": {"type": "str", "choices": ["migrated", "copied", "paused", "undone"], "default": "migrated"},
            "source": {"type": "dict", "required": True, "options": SIDE},
            "target": {"type": "dict", "default": {}, "options": SIDE},
            "cluster_id": {"type": "str", "default": ""},
            "version_skew": {"type": "bool", "default": False},
            "check_references": {"type": "bool", "default": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "workdir": {"type": "path", "default": ""},
            "catch_up_timeout": {"type": "int", "default": 600},
            "pachd_timeout": {"type": "int", "default": 600},
            "lock_wait": {"type": "float", "default": 0},
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
