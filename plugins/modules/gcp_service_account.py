# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Google service account and who may act as it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_service_account
short_description: Create, change or delete a Google service account, and let Kubernetes service accounts act as it
version_added: 0.1.0
description:
  - Creates a service account or brings an existing one to the wanted settings.
  - With O(workload_identity) it grants C(roles/iam.workloadIdentityUser) on the account, so that pods need no key.
  - An option that is not set never changes anything.
author:
  - The pachops.pachyderm contributors (@pachops)
extends_documentation_fragment:
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.gcp
options:
  name:
    description:
      - Name of the account (the part before the C(@)), or its whole e-mail address.
      - An address of another project is used as it is and never created.
    type: str
    required: true
  state:
    description: Whether the account is to exist. Google keeps a deleted one for 30 days.
    type: str
    choices: [present, absent]
    default: present
  display_name:
    description: Name for people.
    type: str
  description:
    description: What the account is for.
    type: str
  disabled:
    description: Whether the account is switched off.
    type: bool
  workload_identity:
    description:
      - Kubernetes service accounts that may act as this account under GKE's Workload Identity.
      - Others that may already are left.
    type: list
    elements: dict
    suboptions:
      pool:
        description: The cluster's workload pool; C(PROJECT.svc.id.goog) of O(project) where it is not given.
        type: str
      namespace:
        description: Namespace of the Kubernetes service account.
        type: str
        required: true
      service_account:
        description: Name of the Kubernetes service account.
        type: str
        required: true
  wait:
    description: Wait until a new account and a changed policy are seen.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait for that.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: An account for Pachyderm, and no key anywhere
  pachops.pachyderm.gcp_service_account:
    project: acme-data
    name: pachyderm
    display_name: Pachyderm
    workload_identity:
      - namespace: pachyderm
        service_account: pachyderm
      - namespace: pachyderm
        service_account: pachyderm-worker
"""

RETURN = r"""
action:
  description: What was done with the account, or in check mode would be done.
  returned: success
  type: str
  sample: created
service_account:
  description: The account; empty where there is none.
  returned: success
  type: dict
  sample:
    email: pachyderm@acme-data.iam.gserviceaccount.com
    unique_id: "104000000000000000001"
    display_name: Pachyderm
    description: ""
    disabled: false
bindings:
  description: Who may act as the account, after the change; only where O(workload_identity) is given.
  returned: success
  type: list
  elements: dict
  sample:
    - role: roles/iam.workloadIdentityUser
      members:
        - serviceAccount:acme-data.svc.id.goog[pachyderm/pachyderm]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import InputError, PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import iam, service_accounts
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import (
    GCP_ARGUMENT_SPEC,
    GCP_MUTUALLY_EXCLUSIVE,
    Gcp,
    from_options,
)


def account(module: AnsibleModule, gcp: Gcp) -> service_accounts.AccountChange:
    """Create or change the account; one of another project is only looked at."""
    options = module.params
    name, _at, domain = options["name"].partition("@")
    email = options["name"] if domain else service_accounts.email_of(name, gcp.project)
    if options["state"] == "absent":
        return service_accounts.absent(gcp, email, check_mode=module.check_mode)
    if domain and email != service_accounts.email_of(name, gcp.project):
        gcp.project = ""
        body = service_accounts.get(gcp, email)
        if body is None:
            raise InputError(
                "the service account does not exist",
                where=email,
                why="it belongs to another project, and only accounts of the named project are created",
                fix="Check the address, or give the name alone to have the account created.",
            )
        view = service_accounts.view(body)
        return service_accounts.AccountChange("unchanged", view, view)
    spec = service_accounts.AccountSpec(name, options["display_name"], options["description"], options["disabled"])
    return service_accounts.ensure(
        gcp, spec, check_mode=module.check_mode, wait=options["wait"], timeout=options["wait_timeout"]
    )


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options say."""
    options = module.params
    gcp = from_options(options)
    project = gcp.project
    change = account(module, gcp)
    result: dict[str, Any] = {
        "changed": change.changed,
        "action": change.action,
        "service_account": change.after,
        "diff": {"before": dict(change.before), "after": dict(change.after)},
    }
    if options["state"] == "absent" or options["workload_identity"] is None:
        return result
    members = frozenset(
        service_accounts.workload_member(
            item["pool"] or f"{project}.svc.id.goog", item["namespace"], item["service_account"]
        )
        for item in options["workload_identity"]
    )
    grants = [iam.Grant(service_accounts.WORKLOAD_IDENTITY_ROLE, members)] if members else []
    resource = iam.service_account_policy(gcp, change.after["email"])
    if module.check_mode and change.action == "created":
        resource = iam.PolicyResource(resource.where, dict, resource.write)  # no account yet, so no policy to read
    policy = iam.change_policy(
        gcp,
        resource,
        lambda current: iam.merged(current, grants),
        check_mode=module.check_mode,
        wait=options["wait"],
        timeout=options["wait_timeout"],
    )
    result["changed"] = result["changed"] or policy.changed
    result["bindings"] = policy.after
    result["diff"]["before"]["bindings"] = policy.before
    result["diff"]["after"]["bindings"] = policy.after
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **GCP_ARGUMENT_SPEC,
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "display_name": {"type": "str"},
            "description": {"type": "str"},
            "disabled": {"type": "bool"},
            "workload_identity": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "pool": {"type": "str"},
                    "namespace": {"type": "str", "required": True},
                    "service_account": {"type": "str", "required": True},
                },
            },
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 120},
        },
        mutually_exclusive=GCP_MUTUALLY_EXCLUSIVE,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
