# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""IAM OpenID Connect provider of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_oidc_provider
short_description: Let a Kubernetes cluster's service accounts assume IAM roles
version_added: 0.1.0
description:
  - Makes IAM trust a cluster's tokens for the audience C(sts.amazonaws.com); IRSA needs it once per cluster.
  - amazon.aws has no module for this.
author:
  - The pachops.pachyderm contributors (@pachops)
requirements:
  - boto3 (Python package)
extends_documentation_fragment:
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
options:
  url:
    description: Address of the cluster's issuer.
    type: str
    required: true
  state:
    description: Whether the provider is to exist. Without it, every role that trusts it loses its users.
    type: str
    choices: [present, absent]
    default: present
  access_key:
    description: Access key ID; without it, the SDK's chain of credentials.
    type: str
  secret_key:
    description: Secret access key.
    type: str
  session_token:
    description: Session token of temporary credentials.
    type: str
  profile:
    description: Profile of the AWS configuration.
    type: str
  region:
    description: Region; IAM is global, so it matters for other partitions only.
    type: str
  endpoint_url:
    description: Address of the IAM API, where it is not AWS's own.
    type: str
  ca_file:
    description: PEM file with the authorities to trust, where the system's are not the right ones.
    type: path
"""

EXAMPLES = r"""
- name: Trust the cluster
  pachops.pachyderm.iam_oidc_provider:
    url: https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE
"""

RETURN = r"""
action:
  description: What was done, or in check mode would be done.
  returned: success
  type: str
  sample: created
provider:
  description: The provider; empty where there is none.
  returned: success
  type: dict
  sample:
    arn: arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE
    url: https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE
    audiences: [sts.amazonaws.com]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.aws import oidc
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options say."""
    options = module.params
    oidc.issuer(options["url"])
    work = oidc.ensure if options["state"] == "present" else oidc.absent
    change = work(oidc.connect(options), options["url"], check_mode=module.check_mode)
    return {
        "changed": change.changed,
        "action": change.action,
        "provider": change.after,
        "diff": {"before": change.before, "after": change.after},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "access_key": {"type": "str", "no_log": False},
            "secret_key": {"type": "str", "no_log": True},
            "session_token": {"type": "str", "no_log": True},
            "profile": {"type": "str"},
            "region": {"type": "str"},
            "endpoint_url": {"type": "str"},
            "ca_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
