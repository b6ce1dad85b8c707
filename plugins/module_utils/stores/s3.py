# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Objects in an S3 bucket: AWS, or any endpoint that speaks its API."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from ..errors import InputError, StorageError
from . import parallel
from .base import CHUNK, FULL, HELD, ObjectExists, ObjectLocked, ObjectMissing, Store, StoredObject, blocks, resuming
from .s3_quick import BROKEN, Page, Quick, quick

_MISSING = ("NoSuchKey", "404", "NotFound")
_LISTINGS = 4  # at once
_LAST = chr(sys.maxunicode)  # no key comes after it
_EXISTS = ("PreconditionFailed", "ConditionalRequestConflict", "412")
_COPY_LIMIT = 5 << 30  # bytes: what one CopyObject takes
_NO_CONDITIONS = ("NotImplemented", "501")
_NO_UPLOAD = ("NoSuchUpload",)
#: MinIO's words, Ceph's, and those of the status 507.
_FULL = ("XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "507")
_DENIED = ("AccessDenied", "403", "Forbidden")
#: What an operation needs where it is not called like the action.
_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}


@dataclass(frozen=True)
class S3Options:
    """How to reach a bucket.  Empty credentials mean the SDK's chain: environment, web identity, instance role.

    :param endpoint: the address of an S3-compatible service; any value switches to path-style addressing.
    :param verify: whether to check certificates, or the path of a file of CA certificates.
    :param timeout: seconds that one request may wait for data.
    :param part_size: bytes of the first parts of a multipart upload; later ones are larger.
    :param workers: how many parts are sent at once; as many are kept in memory.
    """

    bucket: str
    region: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    verify: bool | str = True
    retries: int = 10
    timeout: float = 300.0
    part_size: int = 5 << 20
    workers: int = 4
    acl: str = ""
    signature_version: str = "s3v4"


class S3Store(Store):
    """A store in one bucket: whole objects and listings by short requests of its own, all else through the SDK."""

    def __init__(self, options: S3Options) -> None:
        try:
            # boto3 without its transfers, which are not used and take as long to import as all of this.
            import botocore.config
            import botocore.exceptions
            import botocore.session
        except ImportError as error:
            raise InputError(
                "the Python library boto3 is missing", why=str(error), fix="Install the collection's requirements.txt."
            ) from error
        self._errors = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)
        self._options = options
        self.where = f"s3://{options.bucket}"
        self._session = session = botocore.session.get_session()
        if options.access_key:
            session.set_credentials(options.access_key, options.secret_key, options.session_token or None)
        self._client = session.create_client(
            "s3",
            region_name=options.region or None,
            endpoint_url=options.endpoint or None,
            verify=options.verify,
            config=botocore.config.Config(
                signature_version=options.signature_version,
                retries={"max_attempts": options.retries, "mode": "standard"},
                read_timeout=options.timeout,
                connect_timeout=min(options.timeout, 30.0),
                max_pool_connections=64,
                tcp_keepalive=True,
                s3={"addressing_style": "path" if options.endpoint else "auto"},
                # S3-compatible services do not know the checksums that newer SDKs send unasked.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    @cached_property
    def _quick(self) -> Quick | None:
        """The short way for whole objects, where there is one."""
        try:
            return quick(self._client, self._session, self._options.bucket, self._options.verify, self._options.timeout)
        except (*self._errors, OSError):
            return None

    def write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> None:
        # Part n grows with n, so that 10,000 parts, which is all that S3 allows, are 60,000 times the first one's size.
        parts = blocks(chunks, (self._options.part_size * (1 + number // 1000) for number in itertools.count()))
        first = next(parts, b"")
        second = next(parts, None)
        extra: dict[str, Any] = {"ACL": self._options.acl} if self._options.acl else {}
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        if second is None:
            self._put(key, first, {**extra, **condition})
            return
        what = "cannot write the object"
        place = {"Bucket": self._options.bucket, "Key": key}
        try:
            upload = self._client.create_multipart_upload(**place, **extra)["UploadId"]
        except self._errors as error:
            raise self._error(what, key, error) from error
        place["UploadId"] = upload

        def send(numbered: tuple[int, bytes]) -> dict[str, Any]:
            number, part = numbered
            tag = self._quick and self._quick.part(key, upload, number, part)
            if not tag:
                tag = self._client.upload_part(**place, PartNumber=number, Body=part, ContentMD5=_md5(part))["ETag"]
            return {"PartNumber": number, "ETag": tag}

        try:
            numbered = enumerate(itertools.chain((first, second), parts), 1)
            del first, second
            done = sorted(
                parallel.each(send, numbered, self._options.workers, waiting=0), key=lambda part: part["PartNumber"]
            )
            self._complete(key, place, done, condition)
        except BaseException as error:
            with contextlib.suppress(*self._errors):
                self._client.abort_multipart_upload(**place)
            if isinstance(error, self._errors):
                raise self._error(what, key, error) from error
            raise

    def _put(self, key: str, body: bytes, extra: dict[str, Any]) -> None:
        tried = False
        try:
            if extra.keys() <= {"IfNoneMatch"} and self._quick and self._quick.useful:
                if self._quick.put(key, body, if_absent=bool(extra)):
                    return
                tried = True
            self._client.put_object(Bucket=self._options.bucket, Key=key, Body=body, ContentMD5=_md5(body), **extra)
        except self._errors as error:
            if "IfNoneMatch" in extra and _code_of(error) in _NO_CONDITIONS:
                self._absent(key)
                self._put(key, body, {name: value for name, value in extra.items() if name != "IfNoneMatch"})
                return
            failure = self._error("cannot write the object", key, error)
            if isinstance(failure, ObjectExists) and (tried or _tried(error)) and b"".join(self.read(key)) == body:
                return  # an attempt did it, and its answer got lost
            raise failure from error

    def _complete(
        self, key: str, place: dict[str, str], parts: Sequence[dict[str, Any]], condition: dict[str, str]
    ) -> None:
        upload = {"MultipartUpload": {"Parts": parts}}
        try:
            self._client.complete_multipart_upload(**place, **upload, **condition)
        except self._errors as error:
            if _tried(error) and _code_of(error) in (*_EXISTS, *_NO_UPLOAD) and self._tag(key) == _joined(parts):
                return
            if not condition or _code_of(error) not in _NO_CONDITIONS:
                raise
            self._absent(key)
            self._client.complete_multipart_upload(**place, **upload)

    def _tag(self, key: str) -> str:
        """Return an object's ETag, empty where there is none."""
        try:
            return str(self._client.head_object(Bucket=self._options.bucket, Key=key).get("ETag", "")).strip('"')
        except self._errors:
            return ""

    def _absent(self, key: str) -> None:
        """Ask instead of making it a condition, for services that know no conditional writes."""
        if self.exists(key):
            raise ObjectExists("the object exists already", where=f"{self.where}/{key}")

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        if size == 0:
            if not self.exists(key):
                raise ObjectMissing("the object does not exist", where=f"{self.where}/{key}")
            return iter(())
        arguments = {}
        if offset or size is not None:
            arguments["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        try:
            if not arguments and self._quick and (found := self._quick.get(key)):
                return self._chunks(key, found[0], offset, size, found[1])
            answer = self._client.get_object(Bucket=self._options.bucket, Key=key, **arguments)
            body, tag = answer["Body"], answer.get("ETag", "")
        except self._errors as error:
            raise self._error("cannot read the object", key, error) from error
        return self._chunks(key, body.iter_chunks(CHUNK), offset, size, tag)

    def _chunks(self, key: str, body: Iterator[bytes], offset: int, size: int | None, tag: str) -> Iterator[bytes]:
        def again(done: int) -> Iterator[bytes]:
            last = "" if size is None else offset + size - 1
            condition = {"IfMatch": tag} if tag else {}
            chunks: Iterator[bytes] = self._client.get_object(
                Bucket=self._options.bucket, Key=key, Range=f"bytes={offset + done}-{last}", **condition
            )["Body"].iter_chunks(CHUNK)
            return chunks

        try:
            yield from resuming(body, again, (*self._errors, *BROKEN))
        except self._errors as error:
            raise self._error("cannot read the object", key, error) from error

    def exists(self, key: str) -> bool:
        try:
            self._client.head_object(Bucket=self._options.bucket, Key=key)
        except self._errors as error:
            failure = self._error("cannot look up the object", key, error)
            if isinstance(failure, ObjectMissing):
                return False
            raise failure from error
        return True

    def delete(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self._options.bucket, Key=key)
        except self._errors as error:
            raise self._error("cannot delete the object", key, error) from error

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        try:
            token = ""
            while True:
                page, token = (self._quick and self._quick.page(prefix, token)) or self._page(prefix, token)
                for key, size, tag in page:
                    yield StoredObject(key, size, tag)
                if not token:
                    return
        except self._errors as error:
            raise self._error("cannot list the bucket", prefix, error) from error

    def list_parts(self, prefix: str, borders: Sequence[str]) -> Iterator[StoredObject]:
        def ask(token: str, start: str) -> tuple[Page, str]:
            return (self._quick and self._quick.page(prefix, token, start)) or self._page(prefix, token, start)

        try:
            page, token = ask("", "")
            yield from itertools.starmap(StoredObject, page)
            if not token:
                return
            begins = [page[-1][0], *(each for each in borders if each > page[-1][0])]
            with ThreadPoolExecutor(_LISTINGS, thread_name_prefix="store") as pool:
                # Of each part one page is under way or waits here, with the last key of the part.
                pending = {
                    pool.submit(ask, "", begin): end for begin, end in zip(begins, (*begins[1:], _LAST), strict=True)
                }
                while pending:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        end = pending.pop(future)
                        page, token = future.result()
                        if token and page[-1][0] < end:
                            pending[pool.submit(ask, token, "")] = end
                        yield from (StoredObject(*each) for each in page if each[0] <= end)
        except self._errors as error:
            raise self._error("cannot list the bucket", prefix, error) from error

    def _page(self, prefix: str, token: str, start: str = "") -> tuple[Page, str]:
        more = {"ContinuationToken": token} if token else {"StartAfter": start} if start else {}
        page = self._client.list_objects_v2(Bucket=self._options.bucket, Prefix=prefix, **more)
        found = [(item["Key"], item["Size"], item.get("ETag", "").strip('"')) for item in page.get("Contents", ())]
        return found, page.get("NextContinuationToken", "")

    def copy_from(self, source: Store, source_key: str, key: str, size: int) -> bool:
        here, there = self._options, getattr(source, "_options", None)
        if not isinstance(there, S3Options) or size > _COPY_LIMIT:
            return False
        if (here.endpoint, here.region, here.access_key) != (there.endpoint, there.region, there.access_key):
            return False
        extra = {"ACL": here.acl} if here.acl else {}
        origin = {"Bucket": there.bucket, "Key": source_key}
        try:
            if not extra and self._quick and self._quick.copy(there.bucket, source_key, key):
                return True
            self._client.copy_object(Bucket=here.bucket, Key=key, CopySource=origin, **extra)
        except self._errors:
            # Buckets of one service may have different owners; reading and writing tells the reason better.
            return False
        return True

    def folders(self, prefix: str = "") -> Iterator[str]:
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._options.bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                for item in page.get("CommonPrefixes", ()):
                    yield item["Prefix"][len(prefix) :].rstrip("/")
        except self._errors as error:
            raise self._error("cannot list the bucket", prefix, error) from error

    def locked_until(self, key: str) -> datetime | None:
        try:
            answer = self._client.head_object(Bucket=self._options.bucket, Key=key)
        except self._errors as error:
            raise self._error("cannot look up the object", key, error) from error
        if answer.get("ObjectLockLegalHoldStatus") == "ON":
            return HELD
        until: datetime | None = answer.get("ObjectLockRetainUntilDate")
        return until if until and until > datetime.now(until.tzinfo) else None

    def sweep(self, prefix: str, before: datetime) -> int:
        swept = 0
        try:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._options.bucket, Prefix=prefix
            )
            for upload in (each for page in pages for each in page.get("Uploads", ())):
                if upload["Initiated"] < before:
                    self._client.abort_multipart_upload(
                        Bucket=self._options.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    swept += 1
        except self._errors as error:
            raise self._error("cannot remove unfinished uploads", prefix, error) from error
        return swept

    def _error(self, what: str, key: str, error: Exception) -> StorageError:
        code = _code_of(error)
        kind = ObjectMissing if code in _MISSING else ObjectExists if code in _EXISTS else StorageError
        if code == "AccessDenied" and "object lock" in str(error).lower():
            kind = ObjectLocked
        fix = FULL if code in _FULL else ""
        if kind is StorageError and code in _DENIED:
            operation = str(getattr(error, "operation_name", ""))
            action = f"s3:{_ACTIONS.get(operation, operation)}"
            place = self._options.bucket if action.startswith("s3:List") else f"{self._options.bucket}/*"
            fix = f"Allow these credentials {action} on arn:aws:s3:::{place}."
        return kind(what, where=f"{self.where}/{key}", why=str(error), fix=fix)


def _code_of(error: Exception) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _response(error: Exception) -> dict[str, Any]:
    """Return what the service answered; a request that took too long has None instead."""
    return getattr(error, "response", None) or {}


def _tried(error: Exception) -> bool:
    """Return whether other attempts came before the one that was refused, which may have done their work."""
    return bool(_response(error).get("ResponseMetadata", {}).get("RetryAttempts"))


def _joined(parts: Sequence[dict[str, Any]]) -> str:
    """Return the ETag of what is made of these parts, where theirs are MD5 (they are unless KMS encrypts them)."""
    tags = "".join(part["ETag"].strip('"') for part in parts)
    try:
        return f"{hashlib.md5(bytes.fromhex(tags), usedforsecurity=False).hexdigest()}-{len(parts)}"
    except ValueError:
        return "none"


def _md5(data: bytes) -> str:
    """Return the checksum that every S3 service compares before it takes an object."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
