# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Objects in a Google Cloud Storage bucket, through its JSON API."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from ..errors import InputError, StorageError
from .base import CHUNK, ObjectMissing, Store, StoredObject

_HOST = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
_UPLOAD_CHUNK = 8 << 20
_TIMEOUT = 60


class GcsStore(Store):
    """A store in one bucket.

    :param credentials_file: a service account's key file; empty: the metadata server's token (Workload Identity).
    :param verify: whether to check certificates, or the path of a file of CA certificates.
    """

    def __init__(self, bucket: str, credentials_file: str = "", verify: bool | str = True, host: str = _HOST) -> None:
        try:
            import google.auth.compute_engine
            import google.auth.exceptions
            import google.auth.transport.requests
            import google.oauth2.service_account
            import google.resumable_media.requests
            import requests
        except ImportError as error:
            raise InputError(
                "a Python library for Google Cloud Storage is missing",
                why=str(error),
                fix="Install the collection's requirements.txt.",
            ) from error
        self._bucket = bucket
        self._host = host
        self._media = google.resumable_media
        self._errors = (
            google.auth.exceptions.GoogleAuthError,
            google.resumable_media.InvalidResponse,
            google.resumable_media.DataCorruption,
            requests.RequestException,
        )
        token_session = requests.Session()
        token_session.verify = verify
        refresh = google.auth.transport.requests.Request(token_session)
        try:
            if credentials_file:
                account = google.oauth2.service_account.Credentials
                credentials: Any = account.from_service_account_file(credentials_file, scopes=[_SCOPE])
            else:
                credentials = google.auth.compute_engine.Credentials(scopes=[_SCOPE])
        except (OSError, ValueError) as error:
            raise StorageError(
                "cannot use the service account's key file", where=credentials_file, why=str(error)
            ) from error
        self._session = google.auth.transport.requests.AuthorizedSession(credentials, auth_request=refresh)
        self._session.verify = verify

    def _url(self, key: str, kind: str = "") -> str:
        return f"{self._host}{kind}/storage/v1/b/{quote(self._bucket, safe='')}/o/{quote(key, safe='')}"

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        source = iter(chunks)
        head = b""
        while len(head) < _UPLOAD_CHUNK and (chunk := next(source, None)) is not None:
            head += chunk
        base = f"{self._host}/upload/storage/v1/b/{quote(self._bucket, safe='')}/o?uploadType="
        try:
            if len(head) < _UPLOAD_CHUNK:
                small = self._media.requests.SimpleUpload(f"{base}media&name={quote(key, safe='')}")
                small.transmit(self._session, head, "application/octet-stream", timeout=_TIMEOUT)
                return
            large = self._media.requests.ResumableUpload(f"{base}resumable", _UPLOAD_CHUNK)
            stream = _Spool(itertools.chain([head], source))
            large.initiate(
                self._session, stream, {"name": key}, "application/octet-stream", stream_final=False, timeout=_TIMEOUT
            )
            while not large.finished:
                large.transmit_next_chunk(self._session, timeout=_TIMEOUT)
        except self._errors as error:
            raise self._error("cannot write the object", key, error) from error

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        if size == 0:
            if not self.exists(key):
                raise ObjectMissing("the object does not exist", where=f"gs://{self._bucket}/{key}")
            return iter(())
        headers = {}
        if offset or size is not None:
            headers["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        url = f"{self._url(key, '/download')}?alt=media"
        answer = self._request("GET", "cannot read the object", key, url, headers=headers, stream=True)
        return self._chunks(key, answer)

    def _chunks(self, key: str, answer: Any) -> Iterator[bytes]:
        try:
            yield from answer.iter_content(CHUNK)
        except self._errors as error:
            raise self._error("cannot read the object", key, error) from error

    def exists(self, key: str) -> bool:
        try:
            self._request("GET", "cannot look up the object", key, self._url(key))
        except ObjectMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectMissing):
            self._request("DELETE", "cannot delete the object", key, self._url(key))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        url = f"{self._host}/storage/v1/b/{quote(self._bucket, safe='')}/o"
        page = ""
        while True:
            parameters = {"prefix": prefix, "fields": "items(name,size),nextPageToken"}
            if page:
                parameters["pageToken"] = page
            answer = self._request("GET", "cannot list the bucket", prefix, url, params=parameters).json()
            for item in answer.get("items", ()):
                yield StoredObject(item["name"], int(item["size"]))
            page = answer.get("nextPageToken", "")
            if not page:
                return

    def _request(self, method: str, what: str, key: str, url: str, **arguments: Any) -> Any:
        try:
            answer = self._session.request(method, url, timeout=_TIMEOUT, **arguments)
        except self._errors as error:
            raise self._error(what, key, error) from error
        where = f"gs://{self._bucket}/{key}"
        if answer.status_code == 404 and "bucket does not exist" not in answer.text:
            raise ObjectMissing(what, where=where, why="it does not exist")
        if answer.status_code >= 300:
            raise StorageError(what, where=where, why=f"HTTP {answer.status_code}: {answer.text[:500]}")
        return answer

    def _error(self, what: str, key: str, error: Exception) -> StorageError:
        return StorageError(what, where=f"gs://{self._bucket}/{key}", why=str(error))


class _Spool(io.RawIOBase):
    """A readable stream over chunks that remembers its position, as a resumable upload wants it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        size = len(data) if size < 0 else size
        self._rest = data[size:]
        self._position += len(data[:size])
        return data[:size]

    def tell(self) -> int:
        return self._position
