# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Objects in an S3 bucket: AWS, or any endpoint that speaks its API."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, StorageError
from .base import CHUNK, ObjectMissing, Store, StoredObject

_MISSING = ("NoSuchKey", "404", "NotFound")


@dataclass(frozen=True)
class S3Options:
    """How to reach a bucket.  Empty credentials mean the SDK's chain: environment, web identity, instance role.

    :param endpoint: the address of an S3-compatible service; any value switches to path-style addressing.
    :param verify: whether to check certificates, or the path of a file of CA certificates.
    :param timeout: seconds that one request may wait for data.
    :param part_size: bytes of one part of a multipart upload.
    """

    bucket: str
    region: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    verify: bool | str = True
    retries: int = 10
    timeout: float = 300.0
    part_size: int = 5 << 20
    acl: str = ""
    signature_version: str = "s3v4"


class _Chunks(io.RawIOBase):
    """A readable file over an iterator of bytes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class S3Store(Store):
    """A store in one bucket, through boto3."""

    def __init__(self, options: S3Options) -> None:
        try:
            import boto3
            import botocore.config
            import botocore.exceptions
        except ImportError as error:
            raise InputError(
                "the Python library boto3 is missing", why=str(error), fix="Install the collection's requirements.txt."
            ) from error
        self._errors = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, boto3.exceptions.Boto3Error)
        self._options = options
        session = boto3.session.Session(
            aws_access_key_id=options.access_key or None,
            aws_secret_access_key=options.secret_key or None,
            aws_session_token=options.session_token or None,
            region_name=options.region,
        )
        self._client = session.client(
            "s3",
            endpoint_url=options.endpoint or None,
            verify=options.verify,
            config=botocore.config.Config(
                signature_version=options.signature_version,
                retries={"max_attempts": options.retries, "mode": "standard"},
                read_timeout=options.timeout,
                connect_timeout=min(options.timeout, 30.0),
                s3={"addressing_style": "path" if options.endpoint else "auto"},
                # S3-compatible services do not know the checksums that newer SDKs send unasked.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_threshold=self._options.part_size, multipart_chunksize=self._options.part_size
        )
        extra = {"ACL": self._options.acl} if self._options.acl else {}
        body = io.BufferedReader(_Chunks(chunks), CHUNK)
        try:
            self._client.upload_fileobj(body, self._options.bucket, key, ExtraArgs=extra, Config=config)
        except self._errors as error:
            raise self._error("cannot write the object", key, error) from error

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        if size == 0:
            if not self.exists(key):
                raise ObjectMissing("the object does not exist", where=f"s3://{self._options.bucket}/{key}")
            return iter(())
        arguments = {}
        if offset or size is not None:
            arguments["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        try:
            body = self._client.get_object(Bucket=self._options.bucket, Key=key, **arguments)["Body"]
        except self._errors as error:
            raise self._error("cannot read the object", key, error) from error
        return self._chunks(key, body)

    def _chunks(self, key: str, body: Any) -> Iterator[bytes]:
        try:
            yield from body.iter_chunks(CHUNK)
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
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._options.bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    yield StoredObject(item["Key"], item["Size"])
        except self._errors as error:
            raise self._error("cannot list the bucket", prefix, error) from error

    def _error(self, what: str, key: str, error: Exception) -> StorageError:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        kind = ObjectMissing if code in _MISSING else StorageError
        return kind(what, where=f"s3://{self._options.bucket}/{key}", why=str(error))
