# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cloud Storage bucket."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gcs_bucket
short_description: Create, change or delete a Cloud Storage bucket
version_added: 0.1.0
description:
  - Creates a bucket or brings an existing one to the wanted settings.
  - An option that is not set never changes a bucket.
  - What protects an existing bucket is weakened only with O(allow_weaker); a bucket with objects in it is deleted only
    with O(delete_objects).
author:
  - The pachops.pachyderm contributors (@pachops)
extends_documentation_fragment:
  - pachops.pachyderm.attributes
  - pachops.pachyderm.attributes.full
  - pachops.pachyderm.gcp
options:
  name:
    description: Name of the bucket, unique in all of Google Cloud.
    type: str
    required: true
  state:
    description: Whether the bucket is to exist.
    type: str
    choices: [present, absent]
    default: present
  location:
    description:
      - Region, dual-region or multi-region, for instance V(europe-west3) or V(EU).
      - Needed to create a bucket. An existing bucket in another location is an error; a location cannot be changed.
    type: str
  storage_class:
    description: Default class of new objects.
    type: str
    choices: [STANDARD, NEARLINE, COLDLINE, ARCHIVE]
  uniform_access:
    description: Whether IAM alone decides about access, and access lists of single objects count no more.
    type: bool
  public_access_prevention:
    description: V(enforced) makes it impossible to open the bucket to the public.
    type: str
    choices: [enforced, inherited]
  versioning:
    description: Whether overwritten and deleted objects are kept (and paid for) until a lifecycle rule ends them.
    type: bool
  retention:
    description:
      - Seconds for which an object can be neither deleted nor overwritten; V(0) takes the policy away.
      - pachd deletes a test object at each start, so this is for backup buckets only.
    type: int
  lock_retention:
    description: Lock the retention policy. This can never be undone.
    type: bool
    default: false
  soft_delete:
    description: Seconds (7 to 90 days) for which deleted objects can be had back; V(0) switches this off.
    type: int
  labels:
    description: Labels to set; labels that are not named stay unless O(purge_labels).
    type: dict
  purge_labels:
    description: Remove labels that are not in O(labels).
    type: bool
    default: false
  kms_key:
    description:
      - Resource name of the key that encrypts new objects; an empty string goes back to Google's keys.
      - The project's Cloud Storage service agent needs to be allowed to use it.
    type: str
  lifecycle:
    description:
      - Lifecycle rules in the words of Cloud Storage's JSON, each with C(action) and C(condition).
      - They replace the bucket's rules; an empty list takes all away.
    type: list
    elements: dict
  allow_weaker:
    description: Allow changes that take protection away (access, versioning, retention, soft delete, encryption key).
    type: bool
    default: false
  delete_objects:
    description: With O(state=absent), first delete every object in the bucket, all versions.
    type: bool
    default: false
seealso:
  - module: pachops.pachyderm.gcs_bucket_iam
"""

EXAMPLES = r"""
- name: A private bucket for Pachyderm
  pachops.pachyderm.gcs_bucket:
    project: acme-data
    name: acme-pachyderm
    location: europe-west3
    uniform_access: true
    public_access_prevention: enforced
    labels:
      app: pachyderm

- name: Encrypt with the company's own key from now on
  pachops.pachyderm.gcs_bucket:
    name: acme-pachyderm
    kms_key: projects/acme-keys/locations/europe-west3/keyRings/data/cryptoKeys/pachyderm

- name: Delete the bucket and all that is in it
  pachops.pachyderm.gcs_bucket:
    project: acme-data
    name: acme-pachyderm
    state: absent
    delete_objects: true
"""

RETURN = r"""
action:
  description: What was done, or in check mode would be done.
  returned: success
  type: str
  sample: created
bucket:
  description: The bucket's settings in the words of the options; empty where there is none.
  returned: success
  type: dict
  sample:
    name: acme-pachyderm
    location: EUROPE-WEST3
    storage_class: STANDARD
    uniform_access: true
    public_access_prevention: enforced
    versioning: false
    retention: 0
    retention_locked: false
    soft_delete: 604800
    labels: {app: pachyderm}
    kms_key: ""
    lifecycle: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import PachopsError
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import buckets
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import (
    GCP_ARGUMENT_SPEC,
    GCP_MUTUALLY_EXCLUSIVE,
    from_options,
)

SETTINGS = (
    "location",
    "storage_class",
    "uniform_access",
    "public_access_prevention",
    "versioning",
    "retention",
    "lock_retention",
    "soft_delete",
    "labels",
    "purge_labels",
    "kms_key",
    "lifecycle",
)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options say."""
    options = module.params
    gcp = from_options(options)
    if options["state"] == "absent":
        change = buckets.absent(
            gcp, options["name"], delete_objects=options["delete_objects"], check_mode=module.check_mode
        )
    else:
        labels = options["labels"]
        spec = buckets.BucketSpec(
            **{name: options[name] for name in ("name", *SETTINGS) if name != "labels"},
            labels=None if labels is None else {str(key): str(value) for key, value in labels.items()},
        )
        change = buckets.ensure(gcp, spec, allow_weaker=options["allow_weaker"], check_mode=module.check_mode)
    for warning in change.warnings:
        module.warn(warning)
    return {
        "changed": change.changed,
        "action": change.action,
        "bucket": change.after,
        "diff": {"before": change.before, "after": change.after},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **GCP_ARGUMENT_SPEC,
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "location": {"type": "str"},
            "storage_class": {"type": "str", "choices": ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"]},
            "uniform_access": {"type": "bool"},
            "public_access_prevention": {"type": "str", "choices": ["enforced", "inherited"]},
            "versioning": {"type": "bool"},
            "retention": {"type": "int"},
            "lock_retention": {"type": "bool", "default": False},
            "soft_delete": {"type": "int"},
            "labels": {"type": "dict"},
            "purge_labels": {"type": "bool", "default": False},
            "kms_key": {"type": "str", "no_log": False},
            "lifecycle": {"type": "list", "elements": "dict"},
            "allow_weaker": {"type": "bool", "default": False},
            "delete_objects": {"type": "bool", "default": False},
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
