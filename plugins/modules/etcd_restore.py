#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_restore
short_description: Restore a backup into an installation of Pachyderm, or undo that
version_added: 0.1.0
description:
  - Puts back the objects that the bucket lacks, pauses pachd, sets etcd's data aside on its own volume, makes new data
    of the backup, compares it with the backup, starts pachd, and reads a file of every repo through it.
  - Any failure puts the old state back and starts it. What was set aside stays until O(state=confirmed); until then
    O(state=undone) brings it back.
  - How far it came is kept in the ConfigMap C(pachops-restore). A run that died is continued by the next one with the
    same backup, or undone.
  - Works into the installation that the backup is of, or into one that was deployed with C(paused) in another namespace
    or cluster, with another backend, a newer etcd, or three members instead of one.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
  - pachops.pachyderm.backup_store.identities
  - pachops.pachyderm.live.metadata
notes:
  - O(etcd) is used before and after the restore. Users and passwords of etcd are part of its data; where the backup is
    of an etcd with users, these are theirs.
  - Behind an address of its own one member of etcd is compared with the backup, whichever answers.
attributes:
  check_mode:
    support: full
    details:
      - The plan is made in full, etcd and the bucket are looked at, and nothing is written, not even the lock.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Undoing and confirming are. Every restore replaces what is there, for pachd may have written meanwhile.
options:
  namespace:
    description: Namespace of the installation that is restored into.
    type: str
    default: pachyderm
  state:
    description:
      - V(restored) restores O(backup_id).
      - V(undone) puts back what the last restore has set aside, whether that was finished or died.
      - V(confirmed) deletes what restores have set aside. There is no way back from there.
    type: str
    choices: [restored, undone, confirmed]
    default: restored
  store:
    description:
      - Where backups are kept, as an absolute path on this host, C(s3://bucket/prefix) or C(gs://bucket/prefix).
      - Required for O(state=restored).
    type: str
    default: ""
  store_access:
    description: How to reach a store in a bucket; without credentials those of the environment are used.
    type: dict
    default: {}
    suboptions: &access
      region:
        description: The bucket's region, for S3.
        type: str
        default: ""
      endpoint:
        description: Address of the object storage service.
        type: str
        default: ""
      access_key:
        description: Access key id, for S3.
        type: str
        default: ""
      secret_key:
        description: Secret access key, for S3.
        type: str
        default: ""
      session_token:
        description: Session token of temporary credentials, for S3.
        type: str
        default: ""
      credentials_file:
        description: A Google service account's key file on this host.
        type: path
        default: ""
      ca_file:
        description: CA certificates to trust instead of the system's.
        type: path
        default: ""
  cluster_id:
    description:
      - The cluster whose backup it is. Not needed where the store has backups of one cluster only, or of the one that
        is restored into.
    type: str
    default: ""
  backup_id:
    description: An id, V(latest), V(latest-verified), or a time or date in UTC, which means the newest begun by then.
    type: str
    default: latest-verified
  level:
    description:
      - How thoroughly the backup is verified before anything is touched, as by M(pachops.pachyderm.etcd_backup_verify).
      - V(used) compares what is used with its digests, which every level does besides, and reads nothing else.
    type: str
    choices: [used, digest, restore, deep]
    default: digest
  confirm:
    description:
      - The id of the cluster, or the namespace, whose metadata may be replaced by the backup of another cluster.
    type: str
    default: ""
  version_skew:
    description: Allow a backup of another minor version of Pachyderm.
    type: bool
    default: false
  image:
    description:
      - Image with Python for the pods that hold etcd's volumes; the playbook C(runner_image) packs one.
    type: str
    default: docker.io/pachops/runner:latest
  token:
    description: An authentication token, where authentication is active; without one no file is read through pachd.
    type: str
    default: ""
  target_path:
    description: The directory of the objects on this host, with the backend C(local); the node's own by default.
    type: path
    default: ""
  target_access:
    description: Replaces what the storage secret says about the way to the bucket, for hosts that need another one.
    type: dict
    default: {}
    suboptions: *access
  etcd_program:
    description: Path of an etcd for O(level=restore) and O(level=deep).
    type: str
    default: ""
  workdir:
    description:
      - Directory in which a backup is verified to O(level=restore) or O(level=deep), and read in check mode.
      - It needs room for the unpacked snapshot and 200 MiB.
    type: path
    default: ""
  etcd_timeout:
    description: Seconds for etcd, and for the pods that hold its volumes, to become ready.
    type: int
    default: 300
  pachd_timeout:
    description: Seconds for pachd to become ready.
    type: int
    default: 600
  lock_wait:
    description: Seconds to wait for a backup, another restore, a migration or a garbage collection to end.
    type: float
    default: 0
requirements:
  - grpcio, protobuf, python-pachyderm and zstandard (Python libraries)
  - boto3, for S3
  - google-auth, google-resumable-media and requests, for Google Cloud Storage
  - pyrage, for encrypted backups
seealso:
  - module: pachops.pachyderm.etcd_backup
  - module: pachops.pachyderm.etcd_backup_verify
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Restore the newest verified backup
  pachops.pachyderm.etcd_restore:
    namespace: pachyderm
    store: /var/backups/pachyderm

- name: Restore what was there at noon
  pachops.pachyderm.etcd_restore:
    namespace: pachyderm
    store: s3://acme-backups/pachyderm
    store_access:
      region: eu-west-1
    backup_id: "2026-01-31T12:00:00Z"

- name: Change one's mind
  pachops.pachyderm.etcd_restore:
    namespace: pachyderm
    state: undone
"""

RETURN = r"""
plan:
  description: What is replaced, put back and expected; empty for the other states.
  returned: always
  type: dict
  sample:
    namespace: pachyderm
    backup: 20260131T235959Z-r1234
    keys: 567
    lines: ["Restore backup 20260131T235959Z-r1234 …"]
journal:
  description: How far the restore has come, as the ConfigMap C(pachops-restore) has it.
  returned: always
  type: dict
  sample:
    id: 20260201t101010-ab12
    backup: 20260131T235959Z-r1234
    state: restored
    steps: [{step: pause, begun: "2026-02-01T10:10:10.123Z", done: "2026-02-01T10:10:12.345Z"}]
continued:
  description: Whether a restore that had died was continued.
  returned: always
  type: bool
  sample: false
put_back:
  description: Objects that were put back, with C(count) and C(bytes); in check mode those that are missing.
  returned: always
  type: dict
  sample: {count: 3, bytes: 4567}
paused_seconds:
  description: How long pachd was paused.
  returned: always
  type: float
  sample: 21.0
seconds:
  description: How long it took.
  returned: always
  type: float
  sample: 32.1
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import read_catalogue
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.files import state_of_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import read_identities, store_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.origin import (
    ETCD_ARGUMENT_SPEC,
    etcd_access_of,
    etcd_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import OpenedSet, cluster_ids
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import Options as VerifyOptions
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError, InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.installation import observe
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.connection import connected
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import journal as journals
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import plan as plans
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.engine import (
    LEVELS,
    Options,
    Outcome,
    Restorer,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.base import Store
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.location import (
    STORE_ARGUMENT_SPEC,
    access_of,
)

STATES = ("restored", "undone", "confirmed")


def restorer_of(params: dict[str, Any]) -> Restorer:
    """Return what restores, as the options want it."""
    options = Options(
        image=params["image"],
        level=params["level"],
        confirm=params["confirm"],
        version_skew=params["version_skew"],
        token=params["token"],
        access=access_of(params["target_access"]),
        path=params["target_path"],
        verify=VerifyOptions(params["etcd_program"], params["workdir"]),
        etcd_timeout=params["etcd_timeout"],
        pachd_timeout=params["pachd_timeout"],
    )
    kube = connect(params["kubeconfig"], params["context"])
    return Restorer(
        kube,
        params["namespace"],
        options,
        etcd=etcd_access_of(params["etcd"], params["transport"]),
        progress=Progress(),
        etcds=etcd_of,
        connect=connected,
    )


def cluster_of(params: dict[str, Any], store: Store) -> str:
    """Return the cluster whose backup is meant: the one that is named, the only one, or the one restored into."""
    found = [params["cluster_id"]] if params["cluster_id"] else list(cluster_ids(store))
    if len(found) > 1:
        kube = connect(params["kubeconfig"], params["context"])
        installation = observe(kube, params["namespace"])
        access = etcd_access_of(params["etcd"], params["transport"])
        own = plans.look(kube, installation, lambda kube, seen: etcd_of(kube, seen, access)).cluster_id
        found = [own] if own in found else found
    if len(found) == 1:
        return str(found[0])
    raise BackupError(
        "the store has backups of several clusters" if found else "the store has no backups",
        where=store.where,
        why=", ".join(found),
        fix="Name one as cluster_id." if found else "Name another store.",
    )


def run(module: AnsibleModule) -> dict[str, Any]:
    """Restore, undo or confirm, and return the module's result."""
    params = module.params
    begun = time.monotonic()
    restorer = restorer_of(params)
    if params["state"] == "restored":
        outcome = restored(module, restorer)
    elif module.check_mode:
        journal = restorer.journal()
        undoable = (*journals.UNFINISHED, "restored")
        wanted = undoable if params["state"] == "undone" else ("restored", "undone")
        outcome = Outcome(journal.state in wanted, journal)
    elif params["state"] == "undone":
        outcome = restorer.undo(lock_wait=params["lock_wait"])
    else:
        outcome = restorer.confirm(lock_wait=params["lock_wait"])
    for warning in outcome.warnings:
        module.warn(warning)
    plan = outcome.plan
    result = {
        "changed": outcome.changed,
        "plan": plan.as_dict() if plan else {},
        "journal": outcome.journal.as_dict(),
        "continued": outcome.continued,
        "put_back": {"count": outcome.written, "bytes": outcome.written_bytes},
        "paused_seconds": outcome.paused,
        "seconds": round(time.monotonic() - begun, 1),
    }
    if module._diff and plan:  # noqa: SLF001 - there is no public name
        now = plan.target
        result["diff"] = {
            "before_header": f"etcd in namespace {plan.namespace}",
            "before": f"cluster {now.cluster_id or 'none'}, revision {now.revision}, {now.keys} keys\n",
            "after_header": f"backup {plan.manifest.id}",
            "after": f"cluster {plan.manifest.cluster_id}, revision {plan.manifest.etcd.revision}, "
            f"{plan.manifest.etcd.key_count} keys\n",
        }
    return result


def restored(module: AnsibleModule, restorer: Restorer) -> Outcome:
    """Restore, or in check mode say what that would do."""
    params = module.params
    if not params["store"]:
        raise InputError("a restore needs a store", where="store", fix="Name the store that has the backups.")
    store = store_of(params)
    backup = read_catalogue(store, cluster_of(params, store)).find(params["backup_id"])
    opened = OpenedSet(store, backup.manifest, read_identities(params["identity_files"]))
    if not module.check_mode:
        return restorer.restore(opened, backup.level, lock_wait=params["lock_wait"])
    with state_of_set(opened, params["workdir"] or None) as state:
        journal = restorer.journal()
        plan = restorer.plan(opened, backup.level, state, journal)
    try:
        plans.refuse(plan, params["confirm"], journal)
    except InputError as error:
        module.fail_json(**error.as_result(), plan=plan.as_dict(), journal=journal.as_dict())
    missing = plan.survey
    return Outcome(
        True,
        journal,
        plan,
        journal.state == "running",
        len(missing.missing) if missing else 0,
        missing.missing_bytes if missing else 0,
    )


def main() -> None:
    """Entry point of the module."""
    access = STORE_ARGUMENT_SPEC["store_access"]
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "default": "pachyderm"},
            "state": {"type": "str", "choices": list(STATES), "default": "restored"},
            "store": {"type": "str", "default": ""},
            "store_access": access,
            "cluster_id": {"type": "str", "default": ""},
            "backup_id": {"type": "str", "default": "latest-verified"},
            "identity_files": {"type": "list", "elements": "path", "default": []},
            "level": {"type": "str", "choices": list(LEVELS), "default": "digest"},
            "confirm": {"type": "str", "default": ""},
            "version_skew": {"type": "bool", "default": False},
            "image": {"type": "str", "default": Options.image},
            "token": {"type": "str", "default": "", "no_log": True},
            **ETCD_ARGUMENT_SPEC,
            "target_path": {"type": "path", "default": ""},
            "target_access": access,
            "etcd_program": {"type": "str", "default": ""},
            "workdir": {"type": "path", "default": ""},
            "etcd_timeout": {"type": "int", "default": 300},
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
