# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What pachd's last words mean when it does not start because of its bucket.

pachd tries its bucket out at each start (``TestStorage`` in ``src/server/pkg/obj/obj.go`` of v1.13.4) and ends with the
step that failed and the SDK's words.  For credentials that exist on the cluster's nodes alone, this is the only probe.
"""

from __future__ import annotations

import re

# pachd's words for a step -> what that step needs on S3, and on Cloud Storage.
_STEPS = {
    "unable to write to object storage": (
        "s3:PutObject, and s3:PutObjectAcl for the canned ACL that it sends (upload-acl)",
        "storage.objects.create",
    ),
    "unable to read from object storage": ("s3:GetObject", "storage.objects.get"),
    "unable to delete from object storage": ("s3:DeleteObject", "storage.objects.delete"),
    "storage is unable to discern NotExist errors": (
        "s3:ListBucket, without which a missing object looks forbidden",
        "storage.objects.list, without which a missing object looks forbidden",
    ),
}
_DENIED = re.compile(r"AccessDenied|Forbidden|forbidden|403|does not have storage\.")
_CAUSES = (
    (
        r"NoCredentialProviders|could not find default credentials",
        (
            "pachd finds no credentials: give the nodes (or kube2iam) the role, annotate the service account, or put a"
            " key into the storage secret."
        ),
    ),
    (
        r"WebIdentityErr|AssumeRoleWithWebIdentity",
        "The role does not trust pachd's service account: check its trust policy (issuer, audience, namespace, name).",
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|invalid_grant|InvalidClientTokenId",
        "The credentials are refused: give valid ones, and see that the nodes' clocks are right.",
    ),
    (
        r"PermanentRedirect|AuthorizationHeaderMalformed|BucketRegionError|IllegalLocationConstraint",
        "The bucket is in another region: correct it in the storage secret.",
    ),
    (r"MissingRegion|amazon-region not found", "The storage secret has no region: write it with role storage_secret."),
    (r"RequestTimeTooSkewed", "The node's clock is off: synchronise it (NTP)."),
    (
        r"NoSuchBucket|bucket doesn't exist|bucket does not exist",
        "The bucket does not exist: create it, or correct its name in the storage secret.",
    ),
    (
        r"x509:|tls: |certificate",
        "TLS to the store fails: name its authority in pachyderm_ca_bundle, or correct the endpoint's scheme.",
    ),
    (
        r"connection refused|no such host|i/o timeout|send request failed|network is unreachable",
        "The store cannot be reached from the pod: check endpoint, DNS, proxy and network policies.",
    ),
)


def fix_for(log: str, backend: str) -> str:
    """Return the next step for somebody whose pachd ends with these lines; "" where they are not about the bucket.

    :param backend: ``gcp``, ``aws`` …; decides how the permission is called.
    """
    step = next((words for words in _STEPS if words in log), "")
    for pattern, fix in _CAUSES:
        if (step or "Block API GRPC Server" in log) and re.search(pattern, log):
            return fix
    if step and _DENIED.search(log[log.index(step) :]):
        return f"Grant the identity that pachd uses {_STEPS[step][backend == 'gcp']} on the bucket."
    return ""
