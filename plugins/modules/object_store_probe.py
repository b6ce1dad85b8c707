# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Object store probe."""

from __future__ import annotations

DOCUMENTATION = r"""
module: object_store_probe
short_description: Try out a bucket with the credentials that pachd will have
version_added: 0.1.0
description:
  - Lists, reads a missing object, writes, reads and deletes one of its own, as pachd does at each start.
  - Goes on after a failure, so that one run names every missing permission, a wrong region, a clock that is off,
    TLS that fails, and keys of an existing bucket that are spelt in another way than the configuration says.
  - Runs on the controller. With O(role_arn) or O(google_service_account) it has the cluster issue a token of pachd's
    service account and exchanges that as a pod would (IRSA, Workload Identity), so that the whole chain is tried before
    any pod runs, and without an image.
author:
  - The pachops.pachyderm contributors (@pachops)
extends_documentation_fragment:
  - pachops.pachyderm.attributes
  - pachops.pachyderm.gcp
attributes:
  check_mode:
    support: full
    details: In check mode only what reads is tried.
  diff_mode:
    support: none
    details: Nothing is left behind, so there is nothing to compare.
  idempotent:
    support: full
options:
  backend:
    description: The kind of store; V(aws) is also for S3-compatible stores.
    type: str
    choices: [gcp, aws]
    required: true
  bucket:
    description: Name of the bucket.
    type: str
    required: true
  reverse:
    description: Whether pachd is configured to spell S3 keys backwards, as C(pachctl deploy) does.
    type: bool
    default: true
  check_spelling:
    description: Whether objects of Pachyderm in the bucket have to be spelt as the configuration says.
    type: bool
    default: true
  region:
    description: Region of the S3 bucket.
    type: str
    default: us-east-1
  endpoint_url:
    description: Address of an S3-compatible store.
    type: str
  access_key:
    description: Access key ID; without it, the SDK's chain of credentials.
    type: str
  secret_key:
    description: Secret access key.
    type: str
  session_token:
    description: Session token.
    type: str
  aws_credentials_file:
    description: AWS credentials file that holds the key in its section V(default).
    type: path
  upload_acl:
    description: Canned ACL that pachd sends with each object; an empty string for none.
    type: str
    default: bucket-owner-full-control
  role_arn:
    description: Role that O(service_account) assumes.
    type: str
  google_service_account:
    description: Address of the Google service account that O(service_account) acts as.
    type: str
  workload_pool:
    description: The cluster's workload pool, C(PROJECT.svc.id.goog), for O(google_service_account).
    type: str
  service_account:
    description:
      - Name of the Kubernetes service account whose token is used for O(role_arn) or O(google_service_account).
    type: str
    default: pachyderm
  namespace:
    description: Namespace of the service account.
    type: str
    default: pachyderm
  sts_endpoint_url:
    description: Address of AWS's STS API, where it is not AWS's own.
    type: str
  sts_endpoint:
    description: Address of Google's Security Token Service, where it is not Google's own.
    type: str
  iam_credentials_endpoint:
    description: Address of Google's IAM Service Account Credentials API, where it is not Google's own.
    type: str
  kubeconfig:
    description: The kubeconfig, for O(service_account).
    type: path
  context:
    description: The context in the kubeconfig.
    type: str
  wait_timeout:
    description: Seconds to try again while permissions are denied, because grants take a minute or two to have effect.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Try out the bucket with pachd's key
  pachops.pachyderm.object_store_probe:
    backend: gcp
    bucket: acme-pachyderm
    credentials_file: /etc/pachops/pachyderm-gcp.json
    wait_timeout: 180

- name: Try out what pachd's service account may do by IRSA
  pachops.pachyderm.object_store_probe:
    backend: aws
    bucket: acme-pachyderm
    region: eu-central-1
    role_arn: arn:aws:iam::123456789012:role/pachyderm
    namespace: pachyderm

- name: Try out what it may do by Workload Identity
  pachops.pachyderm.object_store_probe:
    backend: gcp
    bucket: acme-pachyderm
    google_service_account: pachyderm@acme-data.iam.gserviceaccount.com
    workload_pool: acme-data.svc.id.goog
    namespace: pachyderm
"""

RETURN = r"""
findings:
  description: What was tried and found.
  returned: always
  type: list
  elements: dict
  sample:
    - check: bucket-list
      severity: ok
      found: can list on gs://acme-pachyderm
      wanted: ""
      fix: ""
denied:
  description: Permissions that are missing.
  returned: always
  type: list
  elements: str
  sample: []
spelling:
  description: How the keys of Pachyderm's objects in the bucket are spelt; empty where there are none.
  returned: always
  type: str
  sample: slash
"""

import configparser
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import (
    InputError,
    PachopsError,
    StorageError,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.findings import error
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp import workload_identity
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import (
    GCP_ARGUMENT_SPEC,
    GCP_MUTUALLY_EXCLUSIVE,
    ApiError,
    Gcp,
    endpoints_from,
    from_options,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.gcp.client import connect as connect_gcp
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import connect as connect_kube
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.tokens import service_account_token
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.keys import Spelling
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.probe import (
    Refused,
    Result,
    Target,
    probe,
    summarise,
)
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.probe_gcs import GcsTarget
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.probe_s3 import S3Access, S3Target

PAUSE = 5.0
AWS_AUDIENCE = "sts.amazonaws.com"


def key_pair(options: dict[str, Any]) -> tuple[str, str, str]:
    """The key from the options, or from a credentials file."""
    path = options["aws_credentials_file"]
    if not path:
        return options["access_key"] or "", options["secret_key"] or "", options["session_token"] or ""
    parser = configparser.ConfigParser()
    try:
        if not parser.read(path):
            raise InputError("the AWS credentials file cannot be read", where=path, fix="Check the path.")
        section = parser["default"]
        return section["aws_access_key_id"], section["aws_secret_access_key"], section.get("aws_session_token", "")
    except (configparser.Error, KeyError) as cause:
        raise InputError(
            "the AWS credentials file has no key",
            where=path,
            why=type(cause).__name__,
            fix="Fill its section [default].",
        ) from cause


def issued_token(options: dict[str, Any], audience: str) -> str:
    """A token of pachd's service account, as the cluster puts it into pods."""
    kube = connect_kube(options["kubeconfig"], options["context"])
    try:
        return service_account_token(kube, options["namespace"], options["service_account"], audience)
    finally:
        kube.close()


def act_as(options: dict[str, Any]) -> Gcp:
    """A session of the Google service account, by Workload Identity."""
    email, pool = options["google_service_account"], options["workload_pool"]
    who = f"{options['namespace']}/{options['service_account']}"
    given: dict[str, Any] = {
        "project": options["project"] or "",
        "endpoints": endpoints_from(options),
        "ca_file": options["ca_file"] or "",
        "patience": float(options["api_timeout"]),
    }
    token = issued_token(options, pool)
    cluster = workload_identity.issuer(token)
    try:
        federated = workload_identity.federated_token(connect_gcp(anonymous=True, **given), pool, token)
    except ApiError as error:
        raise Refused(
            "credentials",
            f"Google does not take the cluster's token of {who}: {error.why}",
            f"See that Workload Identity is switched on for the cluster ({cluster}, GKE only) with the pool {pool}.",
        ) from error
    session = connect_gcp(access_token=federated, **given)
    session.principal = who
    try:
        session = connect_gcp(access_token=workload_identity.access_token(session, email), **given)
    except ApiError as error:
        raise Refused(
            "credentials",
            f"{who} may not act as {email}: {error.why}",
            error.fix
            if error.reason == "SERVICE_DISABLED"
            else f"Bind roles/iam.workloadIdentityUser on it to serviceAccount:{pool}[{who}].",
        ) from error
    session.principal = email
    return session


def target_of(options: dict[str, Any]) -> Target:
    """The bucket, with the credentials that were given."""
    if options["backend"] == "gcp":
        session = act_as(options) if options["google_service_account"] else from_options(options)
        return GcsTarget(session, options["bucket"])
    key, secret, token = key_pair(options)
    return S3Target(
        S3Access(
            bucket=options["bucket"],
            region=options["region"],
            endpoint=options["endpoint_url"] or "",
            access_key=key,
            secret_key=secret,
            session_token=token,
            acl=options["upload_acl"],
            verify=options["ca_file"] or True,
            role_arn=options["role_arn"] or "",
            web_identity_token=issued_token(options, AWS_AUDIENCE) if options["role_arn"] else "",
            sts_endpoint=options["sts_endpoint_url"] or "",
        )
    )


def try_out(options: dict[str, Any], expected: Spelling | None, *, read_only: bool) -> Result:
    """One probe; a refusal before the first verb is a finding too."""
    try:
        return probe(target_of(options), expected, read_only=read_only)
    except Refused as refusal:
        return Result([error("bucket-credentials", refusal.found, "credentials that are accepted", refusal.fix)])


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options say."""
    options = module.params
    expected = None
    if options["check_spelling"]:
        expected = Spelling.SLASH
        if options["backend"] == "aws":
            expected = Spelling.REVERSED if options["reverse"] else Spelling.PLAIN
    deadline = time.monotonic() + options["wait_timeout"]
    while True:
        result = try_out(options, expected, read_only=module.check_mode)
        late = result.denied or any(item.check == "bucket-credentials" for item in result.findings)
        if result.sound or not late or time.monotonic() + PAUSE > deadline:
            break
        time.sleep(PAUSE)
    told = {
        "changed": False,
        "findings": [item.as_dict() for item in result.findings],
        "denied": sorted(set(result.denied)),
        "spelling": result.spelling.value if result.spelling else "",
    }
    if not result.sound:
        cause = StorageError("pachd could not use the bucket", where=options["bucket"], why=summarise(result.findings))
        module.fail_json(**cause.as_result(), **told)
    return told


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **GCP_ARGUMENT_SPEC,
            "backend": {"type": "str", "choices": ["gcp", "aws"], "required": True},
            "bucket": {"type": "str", "required": True},
            "reverse": {"type": "bool", "default": True},
            "check_spelling": {"type": "bool", "default": True},
            "region": {"type": "str", "default": "us-east-1"},
            "endpoint_url": {"type": "str"},
            "access_key": {"type": "str", "no_log": False},
            "secret_key": {"type": "str", "no_log": True},
            "session_token": {"type": "str", "no_log": True},
            "aws_credentials_file": {"type": "path"},
            "upload_acl": {"type": "str", "default": "bucket-owner-full-control"},
            "role_arn": {"type": "str"},
            "google_service_account": {"type": "str"},
            "workload_pool": {"type": "str"},
            "service_account": {"type": "str", "default": "pachyderm"},
            "namespace": {"type": "str", "default": "pachyderm"},
            "sts_endpoint_url": {"type": "str"},
            "sts_endpoint": {"type": "str"},
            "iam_credentials_endpoint": {"type": "str"},
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
            "wait_timeout": {"type": "int", "default": 0},
        },
        mutually_exclusive=[
            (*GCP_MUTUALLY_EXCLUSIVE[0], "google_service_account"),
            ("aws_credentials_file", "access_key", "role_arn"),
        ],
        required_together=[("google_service_account", "workload_pool")],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PachopsError as failure:
        module.fail_json(**failure.as_result())


if __name__ == "__main__":
    main()
