#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_file
short_description: List and extract files of any commit out of a backup
version_added: 0.1.0
description:
  - Reads a backup set directly, with no Pachyderm, no etcd and no cluster running, and lists the files of a commit or
    brings them to this host.
  - Every byte that is extracted is compared with the hashes that Pachyderm recorded of it.
  - An etcd snapshot and the bucket that belongs to it will do as well, see O(snapshot).
  - The unpacked etcd snapshot is kept in a private directory below Ansible's C(remote_tmp) while the module runs.
extends_documentation_fragment:
  - pachops.pachyderm.backup_store
  - pachops.pachyderm.backup_store.identities
  - pachops.pachyderm.attributes
attributes:
  check_mode:
    support: full
    details:
      - Files that would change are read from the backup and compared, and the destination is left as it is.
  diff_mode:
    support: full
    details:
      - Small text files are shown, others by their checksums.
  idempotent:
    support: full
options:
  cluster_id:
    description: Id of the installation; needed only where the store holds backups of several.
    type: str
    default: ""
  backup_id:
    description: Which backup to read; the newest complete one by default.
    type: str
    default: ""
  snapshot:
    description:
      - An etcd snapshot on this host, as C(etcdctl snapshot save) writes it, to be read instead of a backup set.
      - O(store) is then the installation's own bucket, or the directory C(pachd) under its host path.
    type: path
  spelling:
    description: How the keys in the bucket are spelled, with O(snapshot); found out by default.
    type: str
    choices: [auto, directory, slash, plain, reversed]
    default: auto
  root:
    description: C(PACH_ROOT) of the installation, with O(snapshot).
    type: str
    default: /pach
  repo:
    description: The repo.
    type: str
    required: true
  commit:
    description: A branch, the id of a commit, or one of their ancestors as in V(master^2) or V(master.1).
    type: str
    default: master
  path:
    description: The file or directory in the commit.
    type: str
    default: /
  recurse:
    description: Whether to list what is below directories too; extraction always takes a directory as a whole.
    type: bool
    default: false
  dest:
    description:
      - Where to extract to; without it files are only listed.
      - A file goes under its own name into a directory that exists, or where O(dest) ends with a slash.
      - A directory becomes O(dest); what else is in O(dest) is left alone.
    type: path
  mode:
    description:
      - Permissions of extracted files, as of M(ansible.builtin.copy); by default those of the file that was there, or
        what the umask leaves.
    type: raw
  owner:
    description: Owner of extracted files.
    type: str
  group:
    description: Group of extracted files.
    type: str
  workers:
    description: How many files are extracted at once.
    type: int
    default: 4
  limit:
    description: How many entries RV(files) and RV(extracted) hold at most; all are extracted anyway.
    type: int
    default: 10000
seealso:
  - module: pachops.pachyderm.pachyderm_file
author:
  - The pachops.pachyderm contributors (@pachops)
"""

EXAMPLES = r"""
- name: List what was in a repo when the newest backup was made
  pachops.pachyderm.backup_file:
    store: /srv/backups
    repo: ticks
    recurse: true
  register: listing

- name: Bring back yesterday's version of one file
  pachops.pachyderm.backup_file:
    store: /srv/backups
    repo: ticks
    commit: master^
    path: /2018/05/01/09/00.csv
    dest: /tmp/restored/
    mode: "0640"

- name: Bring back a whole commit out of a bucket and a snapshot of its etcd
  pachops.pachyderm.backup_file:
    snapshot: /srv/etcd.snapshot
    store: s3://pachyderm-data
    store_access:
      region: eu-west-1
    repo: best
    commit: c85bcba2e3c3426698f95da5af5d3a30
    dest: /tmp/best
"""

RETURN = r"""
files:
  description: What is at and below O(path), in the order of its paths; C(size) in bytes, C(hash) as Pachyderm has it.
  returned: always
  type: list
  elements: dict
  sample:
    - {path: /best.txt, type: file, size: 4, hash: 1f8c…}
count:
  description: How many files and directories there are at and below O(path), listed or extracted.
  returned: always
  type: int
  sample: 1
total_size:
  description: Bytes of all files at and below O(path).
  returned: always
  type: int
  sample: 4
extracted:
  description: The files on this host, with C(path), C(dest), C(size), C(checksum) (SHA-256) and C(changed).
  returned: always
  type: list
  elements: dict
  sample:
    - {path: /best.txt, dest: /tmp/best/best.txt, size: 4, checksum: 181210f8f9c7…, changed: true}
dest:
  description: The file or directory on this host, empty without O(dest).
  returned: always
  type: str
  sample: /tmp/best
checksum:
  description: SHA-256 of a single extracted file, else empty.
  returned: always
  type: str
  sample: 181210f8f9c779c26da1d9b2075bde0127302ee0e3fca38c9a83f5b1dd8e5d3b
commit:
  description: Repo and id of the commit.
  returned: always
  type: str
  sample: best@c85bcba2e3c3426698f95da5af5d3a30
backup_id:
  description: The backup that was read, empty with O(snapshot).
  returned: always
  type: str
  sample: 20261122T115402Z-r329
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.files import (
    Extracted,
    extract,
    place_below,
    state_of_pair,
    state_of_set,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.options import (
    CATALOGUE_ARGUMENT_SPEC,
    choose_cluster,
    read_identities,
    store_of,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.sets import backup_ids, open_set
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.state import File, State
from ansible_collections.pachops.pachyderm.plugins.module_utils.progress import Progress
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import ROOT, Spelling


@contextlib.contextmanager
def opened(module: AnsibleModule) -> Iterator[tuple[State, str]]:
    """Yield the state, and the id of the backup that it is from."""
    params = module.params
    store = store_of(params)
    if params["snapshot"]:
        spelling = None if params["spelling"] == "auto" else Spelling(params["spelling"])
        with state_of_pair(Path(params["snapshot"]), store, spelling, params["root"]) as state:
            yield state, ""
        return
    cluster_id = choose_cluster(store, params["cluster_id"])
    found = backup_ids(store, cluster_id) if not params["backup_id"] else [params["backup_id"]]
    if not found:
        raise InputError("there is no complete backup", where=f"{store.where}, cluster {cluster_id}")
    identities = read_identities(params["identity_files"])
    with state_of_set(open_set(store, cluster_id, found[-1], identities), module.tmpdir) as state:
        yield state, found[-1]


def target(dest: str, top: File) -> Path:
    """Return where the file or directory belongs."""
    path = Path(dest)
    if top.type == "dir":
        return path
    if dest.endswith("/") or path.is_dir():
        return path / top.path.rpartition("/")[2]
    if not path.parent.is_dir():
        raise InputError("the directory does not exist", where=str(path.parent), fix="Create it first.")
    return path


def difference(extracted: Extracted) -> dict[str, str]:
    """Return one file's entry of the diff."""
    if extracted.shown:
        before, after = extracted.shown
    else:
        before = f"SHA-256 {extracted.before}\n" if extracted.before else ""
        after = f"SHA-256 {extracted.checksum}\n"
    header = str(extracted.dest)
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def noted(files: Iterable[File], result: dict[str, Any], limit: int) -> Iterator[File]:
    """Yield the files on, and note them in the module's result on the way."""
    for file in files:
        result["count"] += 1
        result["total_size"] += file.size if file.type == "file" else 0
        if len(result["files"]) < limit:
            result["files"].append({"path": file.path, "type": file.type, "size": file.size, "hash": file.hash})
        yield file


def run(module: AnsibleModule) -> dict[str, Any]:
    """List or extract, and return the module's result."""
    params = module.params
    limit, dest = params["limit"], params["dest"]
    progress = Progress()
    result: dict[str, Any] = {"changed": False, "count": 0, "total_size": 0, "checksum": "", "dest": "", "files": []}
    result["extracted"] = done = []
    diff: list[dict[str, str]] = []
    with opened(module) as (state, backup_id):
        commit = state.commit(params["repo"], params["commit"])
        result |= {"commit": str(commit), "backup_id": backup_id}
        progress.stage(f"{'extract' if dest else 'list'} {commit}:{params['path']}", detail=backup_id)
        top = state.file(commit, params["path"])

        listed = noted(state.files(commit, top.path, recursive=bool(dest) or params["recurse"]), result, limit)
        if not dest:
            for _unused in listed:
                pass
            return result
        result["dest"] = str(target(dest, top))
        place = place_below(top.path, Path(result["dest"]))
        for each in extract(
            state, listed, place, write=not module.check_mode, workers=params["workers"], progress=progress
        ):
            changed = set_attributes(module, each)
            result["changed"] |= changed
            if top.type == "file":
                result["checksum"] = each.checksum
            if len(done) < limit:
                done.append(
                    {
                        "path": each.path,
                        "dest": str(each.dest),
                        "size": each.size,
                        "checksum": each.checksum,
                        "changed": changed,
                    }
                )
                if each.changed:
                    diff.append(difference(each))
        done.sort(key=lambda entry: entry["path"])
    if module._diff:  # noqa: SLF001 ansible-core has no other name for it
        result["diff"] = sorted(diff, key=lambda entry: entry["after_header"])
    return result


def set_attributes(module: AnsibleModule, extracted: Extracted) -> bool:
    """Give the file its mode and owner, and return whether anything changed or would."""
    if module.check_mode and not extracted.dest.exists():
        return True
    arguments = module.load_file_common_arguments(module.params, path=str(extracted.dest))
    return bool(module.set_fs_attributes_if_different(arguments, extracted.changed))


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            **CATALOGUE_ARGUMENT_SPEC,
            "backup_id": {"type": "str", "default": ""},
            "identity_files": {"type": "list", "elements": "path", "default": []},
            "snapshot": {"type": "path"},
            "spelling": {
                "type": "str",
                "default": "auto",
                "choices": ["auto", "directory", "slash", "plain", "reversed"],
            },
            "root": {"type": "str", "default": ROOT},
            "repo": {"type": "str", "required": True},
            "commit": {"type": "str", "default": "master"},
            "path": {"type": "str", "default": "/"},
            "recurse": {"type": "bool", "default": False},
            "dest": {"type": "path"},
            "mode": {"type": "raw"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "workers": {"type": "int", "default": 4},
            "limit": {"type": "int", "default": 10000},
        },
        mutually_exclusive=[("snapshot", "cluster_id"), ("snapshot", "backup_id"), ("snapshot", "identity_files")],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PachopsError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
