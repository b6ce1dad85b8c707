# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pachd's last words, as pachd 1.13.4 wrote them, and what the reader is told to do."""

from __future__ import annotations

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.start_failures import fix_for

HEAD = "error setting up Block API GRPC Server: "


@pytest.mark.parametrize(
    ("backend", "words", "wanted"),
    [
        ("aws", "unable to write to object storage: AccessDenied: Access Denied", "s3:PutObjectAcl"),
        ("aws", "unable to read from object storage: AccessDenied: Access Denied", "s3:GetObject on the bucket"),
        ("aws", "unable to delete from object storage: AccessDenied: Access Denied", "s3:DeleteObject"),
        (
            "aws",
            "storage is unable to discern NotExist errors, should count as NotExist: AccessDenied: Access Denied",
            "s3:ListBucket",
        ),
        (
            "gcp",
            (
                "unable to write to object storage: googleapi: Error 403: pachyderm@acme.iam.gserviceaccount.com does not have"
                " storage.objects.create access to the Google Cloud Storage object., forbidden"
            ),
            "storage.objects.create",
        ),
        ("aws", "unable to write to object storage: NoCredentialProviders: no valid providers in chain", "annotate"),
        ("aws", "unable to write to object storage: NoSuchBucket: The specified bucket does not exist", "create it"),
        ("aws", "unable to write to object storage: MissingRegion: could not find region configuration", "region"),
        (
            "aws",
            (
                'unable to write to object storage: RequestError: send request failed\ncaused by: Put "https://s/b/x": tls: '
                "first record does not look like a TLS handshake"
            ),
            "TLS",
        ),
        (
            "aws",
            (
                'unable to write to object storage: RequestError: send request failed\ncaused by: Put "http://s/b/x": dial tcp'
                " 127.0.0.1:9: connect: connection refused"
            ),
            "cannot be reached",
        ),
        ("aws", "unable to write to object storage: PermanentRedirect: …", "another region"),
        ("aws", "unable to write to object storage: WebIdentityErr: failed to retrieve credentials", "trust policy"),
        ("gcp", "unable to write to object storage: oauth2: cannot fetch token: invalid_grant", "refused"),
        ("aws", "amazon-region not found", "storage_secret"),
    ],
)
def test_next_step_is_named(backend: str, words: str, wanted: str) -> None:
    assert wanted in fix_for(f"some line\n  {HEAD}{words}\n", backend)


@pytest.mark.parametrize(
    "log", ["", "panic: failed to initialize etcd client: connection refused", "x509: something else altogether"]
)
def test_what_is_not_about_the_bucket_is_left_alone(log: str) -> None:
    assert fix_for(log, "aws") == ""
