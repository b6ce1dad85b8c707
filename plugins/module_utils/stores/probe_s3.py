# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The probe's view of an S3 bucket, on AWS or at any endpoint."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .probe import Refused, Target

_MISSING = {"NoSuchKey", "404", "NotFound"}
_REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "400"}
_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidClientTokenId",
    "XAdminUserNotFound",  # versitygw's word for an unknown access key
}
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}


@dataclass(frozen=True)
class S3Access:
    """How to reach the bucket; empty credentials mean the SDK's chain.

    :param acl: canned ACL that pachd sends with each object (``upload-acl``); "" for none.
    :param role_arn: a role to assume with ``web_identity_token``, as IRSA does.
    """

    bucket: str
    region: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    acl: str = "bucket-owner-full-control"
    verify: bool | str = True
    role_arn: str = ""
    web_identity_token: str = field(default="", repr=False)
    sts_endpoint: str = ""


class S3Target(Target):
    """A bucket through boto3, each request tried once more at most: the probe is to tell, not to hide."""

    def __init__(self, access: S3Access) -> None:
        try:
            import boto3
            import botocore.config
            import botocore.exceptions
        except ImportError as error:
            raise InputError(
                "the Python library boto3 is missing", why=str(error), fix="Install the collection's requirements.txt."
            ) from error
        self.permissions = {
            "list": "s3:ListBucket",
            "read-missing": "s3:ListBucket",
            "write": "s3:PutObject",
            "read": "s3:GetObject",
            "delete": "s3:DeleteObject",
        }
        self.where = f"s3://{access.bucket}"
        self.access = access
        self._exceptions = botocore.exceptions
        self._config = botocore.config.Config(
            retries={"max_attempts": 2, "mode": "standard"},
            connect_timeout=10,
            read_timeout=30,
            s3={"addressing_style": "path" if access.endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._session = boto3.session.Session(region_name=access.region)
        key, secret, token = access.access_key, access.secret_key, access.session_token
        if access.role_arn:
            key, secret, token = self._assume()
        self._client = self._session.client(
            "s3",
            endpoint_url=access.endpoint or None,
            verify=access.verify,
            config=self._config,
            aws_access_key_id=key or None,
            aws_secret_access_key=secret or None,
            aws_session_token=token or None,
        )
        # boto3 follows a bucket to its region by itself; pachd's SDK does not, so that must not hide a wrong one.
        self._client.meta.events.register_last("before-parameter-build.s3", _stay)

    def _assume(self) -> tuple[str, str, str]:
        import botocore
        import botocore.config

        client = self._session.client(
            "sts",
            endpoint_url=self.access.sts_endpoint or None,
            verify=self.access.verify,
            config=self._config.merge(botocore.config.Config(signature_version=botocore.UNSIGNED)),
        )
        try:
            answer = client.assume_role_with_web_identity(
                RoleArn=self.access.role_arn,
                RoleSessionName="pachops-probe",
                WebIdentityToken=self.access.web_identity_token,
                DurationSeconds=900,
            )["Credentials"]
        except (self._exceptions.ClientError, self._exceptions.BotoCoreError) as error:
            raise Refused(
                "credentials",
                f"the service account may not assume {self.access.role_arn}: {error}",
                "Check the role's trust policy (issuer, audience, namespace and name) and IAM's provider.",
            ) from error
        return answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"]

    def write(self, key: str, data: bytes) -> None:
        """Store an object, with the canned ACL; where that is what is denied, say so."""
        acl = {"ACL": self.access.acl} if self.access.acl else {}
        try:
            self._call("put_object", Key=key, Body=data, **acl)
        except Refused as refusal:
            if refusal.kind != "denied" or not acl:
                raise
            self._call("put_object", Key=key, Body=data)
            raise Refused(
                "other",
                f"s3:PutObjectAcl is denied on {self.where}, and pachd sends the canned ACL {self.access.acl}",
                "Grant s3:PutObjectAcl, or set upload-acl to an empty string in the storage secret's tuning.",
            ) from refusal

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        data: bytes = self._call("get_object", Key=key)["Body"].read()
        return data

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._call("delete_object", Key=key)

    def list(self, prefix: str, limit: int) -> Iterator[str]:
        """Yield keys, a page at a time."""
        token: dict[str, str] = {}
        while limit > 0:
            page = self._call("list_objects_v2", Prefix=prefix, MaxKeys=min(limit, 1000), **token)
            keys = [str(item["Key"]) for item in page.get("Contents", ())]
            yield from keys[:limit]
            limit -= len(keys)
            if not page.get("IsTruncated") or not keys:
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _call(self, name: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, name)(Bucket=self.access.bucket, **arguments)
        except self._exceptions.ClientError as error:
            raise self._refused(error.response) from error
        except self._exceptions.SSLError as error:
            raise Refused(
                "tls",
                f"TLS to {self.access.endpoint or 'S3'} fails: {error}",
                "Name the authority's certificate, or correct the endpoint's scheme and name.",
            ) from error
        except self._exceptions.NoCredentialsError as error:
            raise Refused(
                "credentials", "there are no AWS credentials", "Give a key, a role, or run where the SDK finds some."
            ) from error
        except self._exceptions.BotoCoreError as error:
            raise Refused(
                "unreachable", f"{self.where} cannot be reached: {error}", "Check endpoint, region, DNS and proxy."
            ) from error

    def _refused(self, response: Mapping[str, Any]) -> Refused:
        code = str(response.get("Error", {}).get("Code", ""))
        message = str(response.get("Error", {}).get("Message", ""))
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = str(headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region") or "")
        known = {
            "RequestTimeTooSkewed": (
                "clock",
                f"this host's clock is {_skew(headers)} off",
                "Synchronise the clock (NTP).",
            ),
            "NoSuchBucket": ("bucket", f"{self.where} does not exist", "Create it, or correct the bucket's name."),
            "AccessControlListNotSupported": (
                "other",
                f"{self.where} takes no ACLs, and pachd sends {self.access.acl}",
                "Set upload-acl to bucket-owner-full-control or to an empty string in the storage secret's tuning.",
            ),
        }
        if code in known:
            return Refused(*known[code])
        if code in _REGION and ((region and region != self.access.region) or code in ("PermanentRedirect", "301")):
            elsewhere = f"{self.where} is in region {region or '(another one)'}, not in {self.access.region}"
            return Refused("region", elsewhere, "Correct the region.")
        if code in _CREDENTIALS:
            return Refused("credentials", f"the credentials are refused: {code}: {message}", "Give valid ones.")
        kind = "missing" if code in _MISSING else "denied" if code in _DENIED else "other"
        return Refused(kind, f"{self.where}: {code}: {message}", "")


def _stay(context: dict[str, Any], **_given: Any) -> None:
    """Tell botocore's S3RegionRedirectorv2 that it has redirected this request already."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _skew(headers: Mapping[str, Any]) -> str:
    moment = email.utils.parsedate_tz(str(headers.get("date", "")))
    if not moment:
        return "more than 15 minutes"
    return f"{abs(time.time() - email.utils.mktime_tz(moment)):.0f} s"
