#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the secret from which Pachyderm learns where its objects are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pachyderm_storage_secret
short_description: Keep the secret from which Pachyderm learns where its objects are
version_added: 0.1.0
description:
  - Writes C(pachyderm-storage-secret) with every key that Pachyderm 1.x needs for a backend and a way to log in, or
    judges one that somebody else keeps. The name is fixed in Pachyderm.
  - All settings are validated together before anything is written, and every problem is reported at once.
  - Keys that others added to the secret are kept. Keys that this module wrote earlier and that are no longer wanted are
    removed.
  - The namespace is created where it does not exist.
  - No value of the secret is ever part of the result, the diff or an error.
author: [The pachops.pachyderm contributors (@pachops)]
extends_documentation_fragment:
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.action_group
  - pachops.pachyderm.kube
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows keys, and for each key whether its value stays the same; never a value.
  idempotent:
    support: full
options:
  namespace:
    description: The installation's namespace.
    type: str
    required: true
  mode:
    description:
      - V(managed) writes the secret.
      - V(existing) checks the secret that is there against O(backend) and leaves it alone. Other options are ignored.
    type: str
    choices: [managed, existing]
    default: managed
  adopt:
    description:
      - Take over a secret that something else wrote, C(pachctl deploy) for example, or single keys that somebody
        changed.
      - Credentials left in it that would win over O(aws_auth) are emptied; all other keys are kept.
      - Without it such a secret is an error.
    type: bool
    default: false
  backend:
    description:
      - Where objects are kept. V(aws) is also for S3-compatible stores, with O(aws_endpoint_url).
      - V(minio) is Pachyderm's older client for S3-compatible stores, the only one that speaks signature version 2. It
        has no tuning.
    type: str
    choices: [local, gcp, aws, minio]
    required: true
  gcp_bucket:
    description: Name of the bucket with O(backend=gcp).
    type: str
    default: ''
  gcp_credentials:
    description:
      - JSON key of a service account.
      - Empty for Workload Identity, or the account of the nodes.
    type: json
    default: ''
  gcp_credentials_file:
    description: File on the controller that holds the JSON key, instead of O(gcp_credentials).
    type: path
  aws_bucket:
    description: Name of the bucket with O(backend=aws) or O(backend=minio).
    type: str
    default: ''
  aws_region:
    description:
      - Region of the bucket. Required on AWS.
      - V(us-east-1) by default with O(aws_endpoint_url).
    type: str
    default: ''
  aws_auth:
    description:
      - How pachd logs in with O(backend=aws).
      - V(role) writes no credentials. pachd uses the IAM role of its service account or of the node.
      - V(keys) needs O(aws_id) and O(aws_secret), or O(aws_credentials_file).
      - V(vault) needs O(vault_addr), O(vault_role) and O(vault_token) or O(vault_token_file).
    type: str
    choices: [role, keys, vault]
    default: role
  aws_id:
    description: Access key id.
    type: str
    default: ''
  aws_secret:
    description: Secret access key.
    type: str
    default: ''
  aws_token:
    description: Session token, for temporary credentials only. pachd stops working when they expire.
    type: str
    default: ''
  aws_credentials_file:
    description: File on the controller, in the form of C(~/.aws/credentials), instead of O(aws_id) and O(aws_secret).
    type: path
  aws_profile:
    description: Profile in O(aws_credentials_file).
    type: str
    default: default
  aws_endpoint_url:
    description:
      - Address of an S3-compatible store, with C(http://) or C(https://) and the port. Empty for AWS.
      - Switches on path-style addressing.
    type: str
    default: ''
  vault_addr:
    description: Vault's URL.
    type: str
    default: ''
  vault_role:
    description: The role; credentials are read from C(aws/creds/<role>).
    type: str
    default: ''
  vault_token:
    description: The token with which pachd logs in to Vault.
    type: str
    default: ''
  vault_token_file:
    description: File on the controller that holds the token, instead of O(vault_token).
    type: path
  minio_signature:
    description: Signature version with O(backend=minio).
    type: str
    choices: [v2, v4]
    default: v4
  tuning:
    description:
      - How pachd uses S3, with O(backend=aws).
      - All nine are always written, with the values that C(pachctl deploy) writes unless given here.
    type: dict
    default: {}
    suboptions:
      retries:
        description: Attempts for each request; V(10) by default.
        type: int
      timeout:
        description: Time limit of a request as a Go duration; V(5m) by default.
        type: str
      upload_acl:
        description: Canned ACL of new objects; V(bucket-owner-full-control) by default.
        type: str
      reverse:
        description:
          - Whether object keys are spelt backwards; true by default.
          - It decides where pachd looks. Changing it makes an existing bucket look empty.
        type: bool
      part_size:
        description: Bytes of one part of a multipart upload; V(5242880) by default, which is also the least.
        type: int
      max_upload_parts:
        description: Most parts of an upload; V(10000) by default.
        type: int
      disable_ssl:
        description: Speak plain HTTP. Follows the scheme of O(aws_endpoint_url) by default.
        type: bool
      no_verify_ssl:
        description: Do not check the store's certificate; false by default.
        type: bool
      log_options:
        description: Comma-separated log options of the S3 client, for example V(debug,requesterrors); none by default.
        type: str
"""

EXAMPLES = r"""
- name: Objects in S3, with the IAM role of pachd's service account
  pachops.pachyderm.pachyderm_storage_secret:
    namespace: pachyderm
    backend: aws
    aws_bucket: example-pachyderm
    aws_region: eu-central-1

- name: Objects in Google Cloud Storage, with a key from a file
  pachops.pachyderm.pachyderm_storage_secret:
    namespace: pachyderm
    backend: gcp
    gcp_bucket: example-pachyderm
    gcp_credentials_file: ~/keys/pachyderm.json

- name: Objects in an S3-compatible store
  pachops.pachyderm.pachyderm_storage_secret:
    namespace: pachyderm
    backend: aws
    aws_bucket: pachyderm
    aws_endpoint_url: http://minio.storage.svc:9000
    aws_auth: keys
    aws_credentials_file: ~/.aws/credentials
    aws_profile: minio

- name: Check a secret that another tool keeps
  pachops.pachyderm.pachyderm_storage_secret:
    namespace: pachyderm
    backend: gcp
    mode: existing
"""

RETURN = r"""
name:
  description: The secret's name.
  returned: success
  type: str
  sample: pachyderm-storage-secret
keys:
  description: Keys that are written, or that are there with O(mode=existing).
  returned: success
  type: list
  elements: str
  sample: [google-bucket, google-cred]
kept_keys:
  description: Keys of other owners, which are left alone.
  returned: success
  type: list
  elements: str
  sample: []
storage_backend:
  description: What pachd's E(STORAGE_BACKEND) has to be.
  returned: success
  type: str
  sample: GOOGLE
checksum:
  description: Digest of what pachd reads from the secret. It changes when, and only when, pachd has to restart.
  returned: success
  type: str
  sample: 2b7a7a8b5c0f4d0b9f3d1c6d8e5f4a32
gcp_project:
  description: The project that the JSON key belongs to; empty without a key.
  returned: success
  type: str
  sample: example-project
findings:
  description: What is doubtful, though it works. Each is also a warning.
  returned: success
  type: list
  elements: dict
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import KUBE_ARGUMENT_SPEC, connect
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret import (
    SECRET_NAME,
    StorageOptions,
    desired,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret_sync import (
    CredentialFiles,
    ensure,
    inspect,
    with_files,
)

TUNING_SPEC: dict[str, Any] = {
    "retries": {"type": "int"},
    "timeout": {"type": "str"},
    "upload_acl": {"type": "str"},
    "reverse": {"type": "bool"},
    "part_size": {"type": "int"},
    "max_upload_parts": {"type": "int"},
    "disable_ssl": {"type": "bool"},
    "no_verify_ssl": {"type": "bool"},
    "log_options": {"type": "str"},
}


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the parameters say, and return the module's result."""
    params = module.params
    findings = []
    if params["mode"] == "existing":
        outcome = inspect(connect(params["kubeconfig"], params["context"]), params["namespace"], params["backend"])
    else:
        given = {name: params[name] for name in StorageOptions.__dataclass_fields__}
        files = {name: params[name] or "" for name in CredentialFiles.__dataclass_fields__}
        options, findings = with_files(StorageOptions(**given), CredentialFiles(**files))
        # A mistake in the options is reported even where the cluster cannot be reached.
        desired(options)
        kube = connect(params["kubeconfig"], params["context"])
        outcome = ensure(kube, params["namespace"], options, adopt=params["adopt"], check_mode=module.check_mode)
    findings = [*findings, *(finding for finding in outcome.findings if finding.severity == "warning")]
    for finding in findings:
        module.warn(f"{finding.found} (wanted: {finding.wanted}). {finding.fix}")
    result = {
        "changed": any(change.changed for change in outcome.changes),
        "name": SECRET_NAME,
        "keys": outcome.keys,
        "kept_keys": outcome.kept,
        "storage_backend": outcome.storage_backend,
        "checksum": outcome.checksum,
        "gcp_project": outcome.gcp_project,
        "findings": [finding.as_dict() for finding in findings],
    }
    changes = [change for change in outcome.changes if change.changed]
    return {**result, "diff": [change.diff() for change in changes]} if changes else result


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            **KUBE_ARGUMENT_SPEC,
            "namespace": {"type": "str", "required": True},
            "mode": {"type": "str", "choices": ["managed", "existing"], "default": "managed"},
            "adopt": {"type": "bool", "default": False},
            "backend": {"type": "str", "choices": ["local", "gcp", "aws", "minio"], "required": True},
            "gcp_bucket": {"type": "str", "default": ""},
            "gcp_credentials": {"type": "json", "default": "", "no_log": True},
            "gcp_credentials_file": {"type": "path"},
            "aws_bucket": {"type": "str", "default": ""},
            "aws_region": {"type": "str", "default": ""},
            "aws_auth": {"type": "str", "choices": ["role", "keys", "vault"], "default": "role"},
            "aws_id": {"type": "str", "default": "", "no_log": True},
            "aws_secret": {"type": "str", "default": "", "no_log": True},
            "aws_token": {"type": "str", "default": "", "no_log": True},
            "aws_credentials_file": {"type": "path"},
            "aws_profile": {"type": "str", "default": "default"},
            "aws_endpoint_url": {"type": "str", "default": ""},
            "vault_addr": {"type": "str", "default": ""},
            "vault_role": {"type": "str", "default": ""},
            "vault_token": {"type": "str", "default": "", "no_log": True},
            "vault_token_file": {"type": "path", "no_log": False},
            "minio_signature": {"type": "str", "choices": ["v2", "v4"], "default": "v4"},
            "tuning": {"type": "dict", "default": {}, "options": TUNING_SPEC},
        },
        supports_check_mode=True,
    )
    # Ansible remembers values to hide before it converts them; a mapping given as the key becomes a text of its own.
    module.no_log_values.update(filter(None, [module.params["gcp_credentials"]]))
    try:
        module.exit_json(**run(module))
    except PachopsError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
