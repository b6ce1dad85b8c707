# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys of a Google service account."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_service_account_key
short_description: Make, rotate and revoke keys of a Google service account
version_added: 0.1.0
description:
  - Makes sure that a valid key is held in a file or by the caller; makes a new one where it is missing, revoked or due.
  - A new key is in its place and accepted by Google before any older one is revoked.
  - A key is the weaker choice; on GKE, use O(pachops.pachyderm.gcp_service_account#module:workload_identity).
author:
  - The pachops.pachyderm contributors (@pachops)
extends_documentation_fragment:
  - pachops.pachyderm.attributes
  - pachops.pachyderm.gcp
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows key ids and dates, never a key.
  idempotent:
    support: partial
    details: Each run with O(rotate=true) makes a new key.
options:
  service_account:
    description: E-mail address of the service account.
    type: str
    required: true
  state:
    description: V(present) holds a valid key; V(absent) revokes the keys in O(key_ids), and the one in O(path) too.
    type: str
    choices: [present, absent]
    default: present
  path:
    description: File that holds the key, readable by its owner alone. Either this or O(current).
    type: path
  current:
    description:
      - The key that the caller holds elsewhere, for instance in a Kubernetes secret; an empty string for none.
      - A new key comes back in RV(key), so put C(no_log) on the task.
    type: str
  max_age_days:
    description: Days after which a new key is made; V(0) for never.
    type: int
    default: 0
  rotate:
    description: Make a new key in any case.
    type: bool
    default: false
  revoke_superseded:
    description:
      - Revoke the account's keys that are older than the one held.
      - Only for accounts that serve this one purpose, because keys of others go with them.
    type: bool
    default: false
  overlap:
    description: Seconds that a new key must have existed before a run revokes older ones.
    type: int
    default: 86400
  key_ids:
    description: With O(state=absent), the ids of keys to revoke.
    type: list
    elements: str
    default: []
  wait:
    description: Wait until Google accepts a new key.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait for that.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: A key for a cluster outside of Google Cloud, replaced every 90 days
  pachops.pachyderm.gcp_service_account_key:
    service_account: pachyderm@acme-data.iam.gserviceaccount.com
    path: /etc/pachops/pachyderm-gcp.json
    max_age_days: 90
    revoke_superseded: true
    overlap: 86400

- name: Revoke a key that was lost
  pachops.pachyderm.gcp_service_account_key:
    service_account: pachyderm@acme-data.iam.gserviceaccount.com
    state: absent
    key_ids: [0123456789abcdef0123456789abcdef01234567]
"""

RETURN = r"""
key:
  description: The new key's JSON. A secret.
  returned: with O(current), where a new key was made
  type: str
  sample: '{"type": "service_account"}'
key_id:
  description: Id of the valid key; empty in check mode where a new one would be made.
  returned: success
  type: str
  sample: 0123456789abcdef0123456789abcdef01234567
created:
  description: Whether a new key was made, or in check mode would be made.
  returned: success
  type: bool
  sample: false
reason:
  description: Why a new key was made; empty where none was.
  returned: success
  type: str
  sample: the key is 91 days old
revoked:
  description: Ids of the keys that were revoked.
  returned: success
  type: list
  elements: str
  sample: []
keys:
  description: The account's user-managed keys after the change.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 0123456789abcdef0123456789abcdef01234567
      created: "2026-01-01T00:00:00Z"
      disabled: false
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import service_accounts
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import (
    GCP_ARGUMENT_SPEC,
    GCP_MUTUALLY_EXCLUSIVE,
    from_options,
)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options say."""
    options = module.params
    gcp = from_options(options)
    path, email = options["path"], options["service_account"]
    held = service_accounts.read_key_file(path) if path else options["current"]
    changed = False
    if options["state"] == "absent":
        key_ids = list(options["key_ids"])
        if path and held:
            key_ids.append(service_accounts.KeyDocument.parse(held, path).key_id)
        change = service_accounts.revoke_keys(gcp, email, key_ids, check_mode=module.check_mode)
        if path and held:
            changed = True
            if not module.check_mode:
                os.unlink(path)
    else:
        if path:
            service_accounts.check_writable(path)

        def keep(text: str) -> None:
            if path:
                service_accounts.write_key_file(path, text)

        change = service_accounts.ensure_key(
            gcp,
            email,
            held=held,
            where=path or "option current",
            keep=keep,
            max_age=options["max_age_days"] * 86400.0,
            rotate=options["rotate"],
            revoke_superseded=options["revoke_superseded"],
            overlap=options["overlap"],
            wait=options["wait"],
            timeout=options["wait_timeout"],
            check_mode=module.check_mode,
        )
        if path and held and not change.created and os.stat(path).st_mode & 0o077:
            changed = True
            if not module.check_mode:
                os.chmod(path, 0o600)
    result: dict[str, Any] = {
        "changed": changed or change.changed,
        "key_id": change.key.key_id if change.key else "",
        "created": change.created,
        "reason": change.reason,
        "revoked": change.revoked,
        "keys": change.after,
        "diff": {"before": {"keys": change.before}, "after": {"keys": change.after}},
    }
    if not path and change.key and change.created:
        result["key"] = change.key.text
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **GCP_ARGUMENT_SPEC,
            "service_account": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path"},
            "current": {"type": "str", "no_log": True},
            "max_age_days": {"type": "int", "default": 0},
            "rotate": {"type": "bool", "default": False},
            "revoke_superseded": {"type": "bool", "default": False},
            "overlap": {"type": "int", "default": 86400},
            "key_ids": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 120},
        },
        mutually_exclusive=[*GCP_MUTUALLY_EXCLUSIVE, ("path", "current")],
        required_if=[("state", "present", ("path", "current"), True)],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
