# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test double of the parts of Google Cloud that a Pachyderm installation touches.  It is not Google Cloud.

Cloud Storage (JSON API, and the XML reads that Google's clients use), IAM's service accounts and keys, the OAuth token
endpoint, and GKE's metadata server.  Every request and every answer is held against Google's own discovery documents,
so a request that Google would refuse as malformed is refused here, and noted as a violation.  Grants are evaluated.
"""
