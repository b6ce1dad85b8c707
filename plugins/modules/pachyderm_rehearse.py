#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rehearse a restore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_rehearse
short_description: Rehearse a restore or a migration in an installation that nobody uses
version_added: 0.1.0
description:
  - Deploys a Pachyderm of the backup's version into a namespace of its own, restores the backup into it as
    M(pachops.pachyderm.etcd_restore) does, with the same proof, takes it away again, also after a failure, and leaves a
    record in the store of how long each part took.
  - With O(source) a migration is rehearsed instead of a restore. Metadata and objects of a running installation are
    copied as M(pachops.pachyderm.etcd_migrate) does, as of one revision, with the same proof; the source goes on
    and is only read.
  - The installation that the backup was made of and its bucket are not touched. Objects go into a directory of this
    host, so the cluster has to be one whose only node is this host, such as the local cluster.
  - No worker is started, so no pipeline processes or sends away anything.
  - A rehearsal that fails fails the task, and the record says so.
extends_documentation_fragment:
  - pachops.pachyderm.kube
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.backup_store.identities
  - pachops.pachyderm.backup_store.cluster
  - pachops.pachyderm.migrate.source
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Everything for which a rehearsal would be refused is found; nothing is made, and nothing is recorded.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run is a rehearsal.
options:
  store:
    required: false
  source:
    description:
      - The installation whose migration is rehearsed, instead of a backup in O(store).
  namespace:
    description: Namespace of the rehearsal. It must not exist, or be what a rehearsal that died has left.
    type: str
    default: pachyderm-rehearsal
  directory:
    description:
      - Directory of this host for etcd's data and the objects, with room for all of them; likewise.
      - Without it, the one in C(/var/pachyderm) that is called like the namespace.
    type: path
    default: ""
  backup_id:
    description: An id, V(latest), V(latest-verified), or a time or date in UTC, which means the newest begun by then.
    type: str
    default: latest-verified
  level:
    description: How thoroughly the backup is verified first, as for M(pachops.pachyderm.etcd_restore).
    type: str
    choices: [used, digest, restore, deep]
    default: digest
  settings:
    description:
      - Further options of M(pachops.pachyderm.pachyderm_deploy) for the rehearsal, such as C(images) or C(resources).
      - Images, without this option, are those of the installation that the backup was made of.
    type: dict
    default: {}
  image:
    description: An image with Python, for the pod that holds etcd's volume.
    type: str
    default: docker.io/pachops/runner:latest
  token:
    description: An authentication token, where authentication is active.
    type: str
    default: ""
  version_skew:
    description: Allow another minor version of Pachyderm than the backup's.
    type: bool
    default: false
  keep:
    description: Leave the rehearsal's installation there, to look at. The next rehearsal takes it away.
    type: bool
    default: false
  etcd_program:
    description: The etcd for O(level=restore) and O(level=deep), as for M(pachops.pachyderm.etcd_backup_verify).
    type: str
    default: ""
  workdir:
    description:
      - A directory with room for the unpacked snapshot and 200 MiB, or with O(source) for the metadata; the system's
        for temporary files by default.
    type: path
    default: ""
  etcd_timeout:
    description: Seconds for etcd to become ready.
    type: int
    default: 300
  pachd_timeout:
    description: Seconds for pachd to become ready.
    type: int
    default: 600
seealso:
  - module: pachops.pachyderm.etcd_restore
  - module: pachops.pachyderm.etcd_backup_verify
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: Rehearse the restore of the newest verified backup
  pachops.pachyderm.pachyderm_rehearse:
    kubeconfig: /var/lib/pachops/pachops/kubeconfig
    store: s3://acme-backups/pachyderm
  register: rehearsed

- name: Rehearse moving the installation in another cluster
  pachops.pachyderm.pachyderm_rehearse:
    kubeconfig: /var/lib/pachops/pachops/kubeconfig
    source:
      kubeconfig: ~/.kube/old
      namespace: pachyderm
  register: rehearsed

- name: Say how long it takes
  ansible.builtin.debug:
    msg: "{{ rehearsed.table }}"
"""

RETURN = r"""
rehearsal:
  description: What came of it; in check mode, what would be rehearsed.
  returned: success, or where the rehearsal failed
  type: dict
  contains:
    backup_id:
      description: The backup, empty for a migration.
      type: str
    source:
      description: The installation whose migration was rehearsed, empty for a restore.
      type: str
    cluster_id:
      description: Its cluster.
      type: str
    started:
      description: When it began, in UTC.
      type: str
    passed:
      description: Whether everything was proven; false in check mode.
      type: bool
    restore_seconds:
      description: From the begin of the restore or migration to pachd's last answer.
      type: float
    stages:
      description: C(name), C(seconds) and C(bytes) of each part.
      type: list
      elements: dict
    proven:
      description: What was proven, in words.
      type: list
      elements: str
    warnings:
      description: What a person should know.
      type: list
      elements: str
    error:
      description: Why it failed, empty where it passed.
      type: str
    removed:
      description: Whether everything that it made is gone.
      type: bool
    sizes:
      description: Bytes of the C(snapshot), number and bytes of C(objects), C(keys).
      type: dict
  sample:
    backup_id: 20260131T020000Z-r1234
    passed: true
    restore_seconds: 23.4
record:
  description: Key of the record in the store, empty in check mode and for a migration.
  returned: success, or where the rehearsal failed
  type: str
  sample: 3f2a9c64d5f04ae2a3d0d0d6f3f0f5aa/rehearsals/20260131T030000Z.json
table:
  description: The same as lines for a person.
  returned: success, or where the rehearsal failed
  type: list
  elements: str
  sample: ["Rehearsal of backup 20260131T020000Z-r1234: passed"]
"""

import datetime as dt
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.catalogue import read_catalogue
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import (
    CATALOGUE_ARGUMENT_SPEC,
    choose_cluster,
    read_identities,
    store_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.rehearsals import Rehearsal, record
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.verify import Options as VerifyOptions
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, Kube, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.engine import Options as MigrateOptions
from ansible_collections.pachops.pachyderm.plugins.module_utils.migrate.sides import SIDE, side_of
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore import rehearsal
from ansible_collections.pachops.pachyderm.plugins.module_utils.restore.engine import LEVELS, Options


def run(module: AnsibleModule) -> dict[str, Any]:
    """Rehearse, and return the module's result."""
    params = module.params
    kube = connect(params["kubeconfig"], params["context"])
    wish = rehearsal.Wish(
        params["namespace"],
        params["directory"],
        params["settings"],
        Options(
            image=params["image"],
            level=params["level"],
            version_skew=params["version_skew"],
            token=params["token"],
            verify=VerifyOptions(params["etcd_program"], params["workdir"]),
            etcd_timeout=params["etcd_timeout"],
            pachd_timeout=params["pachd_timeout"],
        ),
        params["keep"],
    )
    made = (migration if params["source"] else restore)(module, kube, wish)
    key = ""
    if module.check_mode:
        what = f"A migration of {made.source}" if made.source else f"Backup {made.backup_id}"
        table = [f"{what} would be rehearsed in namespace {wish.namespace} and {wish.place}."]
    else:
        table = made.table()
        key = record(store_of(params), made) if made.backup_id else ""
    return {"changed": True, "rehearsal": made.as_dict(), "record": key, "table": table}


def restore(module: AnsibleModule, kube: Kube, wish: rehearsal.Wish) -> Rehearsal:
    """Rehearse a restore, or in check mode say of which backup."""
    params = module.params
    store = store_of(params)
    cluster_id = choose_cluster(store, params["cluster_id"])
    backup = read_catalogue(store, cluster_id).find(params["backup_id"])
    opened = open_set(store, cluster_id, backup.id, read_identities(params["identity_files"]))
    if module.check_mode:
        rehearsal.refuse(kube, opened, wish)
        return Rehearsal(cluster_id, backup.id, dt.datetime.now(dt.timezone.utc))
    return rehearsal.rehearse(kube, opened, backup.level, wish, progress=Progress())


def migration(module: AnsibleModule, kube: Kube, wish: rehearsal.Wish) -> Rehearsal:
    """Rehearse a migration, or in check mode say of what."""
    params = module.params
    source = side_of(params, "source")
    options = MigrateOptions(
        cluster_id=params["cluster_id"],
        version_skew=params["version_skew"],
        token=params["token"],
        workdir=params["workdir"],
        pachd_timeout=params["pachd_timeout"],
    )
    if module.check_mode:
        return rehearsal.measured(source, kube, wish, options)[1]
    return rehearsal.rehearse_migration(source, kube, wish, options, progress=Progress())


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            **CATALOGUE_ARGUMENT_SPEC,
            "store": {"type": "str"},
            "source": {"type": "dict", "options": SIDE},
            "namespace": {"type": "str", "default": "pachyderm-rehearsal"},
            "directory": {"type": "path", "default": ""},
            "backup_id": {"type": "str", "default": "latest-verified"},
            "identity_files": {"type": "list", "elements": "path", "default": []},
            "level": {"type": "str", "choices": list(LEVELS), "default": "digest"},
            "settings": {"type": "dict", "default": {}},
            "image": {"type": "str", "default": Options.image},
            "token": {"type": "str", "default": "", "no_log": True},
            "version_skew": {"type": "bool", "default": False},
            "keep": {"type": "bool", "default": False},
            "etcd_program": {"type": "str", "default": ""},
            "workdir": {"type": "path", "default": ""},
            "etcd_timeout": {"type": "int", "default": 300},
            "pachd_timeout": {"type": "int", "default": 600},
        },
        required_one_of=[["store", "source"]],
        mutually_exclusive=[["store", "source"]],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    if result["rehearsal"]["error"]:
        module.fail_json(msg=f"the rehearsal failed: {result['rehearsal']['error']}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
