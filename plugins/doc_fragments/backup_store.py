# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where backups are kept; private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for C(extends_documentation_fragment: pachops.pachyderm.backup_store[.part])."""

    DOCUMENTATION = r"""
options:
  store:
    description:
      - Where backups are kept, as an absolute path on this host, C(s3://bucket/prefix) or C(gs://bucket/prefix).
    type: str
    required: true
  store_access:
    description:
      - How to reach a store in a bucket. Without credentials those of the environment are used, as the clouds' own
        tools do.
    type: dict
    default: {}
    suboptions:
      region:
        description: The bucket's region, for S3.
        type: str
        default: ""
      endpoint:
        description: Address of an S3-compatible service.
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
"""

    CLUSTER = r"""
options:
  cluster_id:
    description: Pachyderm's own cluster id; not needed where the store has backups of one cluster only.
    type: str
    default: ""
"""

    IDENTITIES = r"""
options:
  identity_files:
    description: Files with age identities or SSH private keys on this host, for an encrypted backup.
    type: list
    elements: path
    default: []
"""
