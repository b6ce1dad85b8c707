# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Objects in a Google Cloud Storage bucket, through its JSON API."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from ..errors import InputError, StorageError
from .base import CHUNK, FULL, HELD, ObjectExists, ObjectLocked, ObjectMissing, Store, StoredObject, resuming

HOST = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
_UPLOAD_CHUNK = 8 << 20
_TIMEOUT = 60
_TRIES = 6
_PERMISSION = re.compile(r"Permission '(storage[\w.]+)' denied|does not have (storage[\w.]+) access")
# What Google asks clients to try again: https://cloud.google.com/storage/docs/retry-strategy
_PASSING = (408, 429, 500, 502, 503, 504)


class _Exists(ObjectExists):
    #: Whether other attempts came before, which may have done their work.
    tried = False


class GcsStore(Store):
    """A store in one bucket.

    :param credentials_file: a service account's key file; empty: the metadata server's token (Workload Identity).
    :param verify: whether to check certificates, or the path of a file of CA certificates.
    :param credentials_info: the key file's content, instead of the file.
    :param chain: without a key, take the environment's credentials as Google's tools do, not only the metadata
        server's.
    :param pause: seconds before the second attempt after a passing failure; doubled for every further one.
    """

    def __init__(
        self,
        bucket: str,
        credentials_file: str = "",
        verify: bool | str = True,
        host: str = HOST,
        pause: float = 0.5,
        *,
        credentials_info: Mapping[str, Any] | None = None,
        chain: bool = False,
    ) -> None:
        try:
            import google.auth
            import google.auth.compute_engine
            import google.auth.exceptions
            import google.auth.transport.requests
            import google.oauth2.service_account
            import google.resumable_media.common
            import google.resumable_media.requests
            import requests
        except ImportError as error:
            raise InputError(
                "a Python library for Google Cloud Storage is missing",
                why=str(error),
                fix="Install the collection's requirements.txt.",
            ) from error
        self._bucket = bucket
        self.where = f"gs://{bucket}"
        self._pause = pause
        self._host = host
        self._media = google.resumable_media
        self._errors = (
            google.auth.exceptions.GoogleAuthError,
            google.resumable_media.InvalidResponse,
            google.resumable_media.DataCorruption,
            requests.RequestException,
        )
        self._final = requests.exceptions.SSLError
        self._passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
        token_session = _verifying(requests.Session(), verify)
        refresh = google.auth.transport.requests.Request(token_session)
        try:
            if credentials_file:
                account = google.oauth2.service_account.Credentials
                credentials: Any = account.from_service_account_file(credentials_file, scopes=[_SCOPE])
            elif credentials_info:
                account = google.oauth2.service_account.Credentials
                credentials = account.from_service_account_info(credentials_info, scopes=[_SCOPE])
            elif chain:
                credentials, _project = google.auth.default(scopes=[_SCOPE], request=refresh)
            else:
                credentials = google.auth.compute_engine.Credentials(scopes=[_SCOPE])
        except (OSError, ValueError, google.auth.exceptions.GoogleAuthError) as error:
            raise StorageError(
                "cannot use the credentials for Google Cloud Storage", where=credentials_file, why=str(error)
            ) from error
        session = google.auth.transport.requests.AuthorizedSession(credentials, auth_request=refresh)
        self._session = _verifying(session, verify)

    def _url(self, key: str, kind: str = "") -> str:
        return f"{self._host}{kind}/storage/v1/b/{quote(self._bucket, safe='')}/o/{quote(key, safe='')}"

    def write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> None:
        source = iter(chunks)
        head = b""
        while len(head) < _UPLOAD_CHUNK and (chunk := next(source, None)) is not None:
            head += chunk
        base = f"{self._host}/upload/storage/v1/b/{quote(self._bucket, safe='')}/o?"
        base += "ifGenerationMatch=0&" if if_absent else ""
        if len(head) < _UPLOAD_CHUNK:
            url = f"{base}uploadType=media&name={quote(key, safe='')}"
            kind = {"Content-Type": "application/octet-stream"}
            try:
                answer = self._request("POST", "cannot write the object", key, url, data=head, headers=kind)
            except _Exists as error:
                if not (error.tried and b"".join(self.read(key)) == head):
                    raise
                return  # an attempt did it, and its answer got lost
            self._compare(key, answer, hashlib.md5(head, usedforsecurity=False))
            return
        stream = _Spool(itertools.chain([head], source))
        large = self._media.requests.ResumableUpload(f"{base}uploadType=resumable", _UPLOAD_CHUNK)
        # The library takes no strategy of one's own, and its default goes on for ten minutes.
        large._retry_strategy = self._media.common.RetryStrategy(max_retries=_TRIES, initial_delay=self._pause)  # noqa: SLF001
        try:
            large.initiate(
                self._session, stream, {"name": key}, "application/octet-stream", stream_final=False, timeout=_TIMEOUT
            )
            answer = None
            while not large.finished:
                answer = large.transmit_next_chunk(self._session, timeout=_TIMEOUT)
        except self._errors as error:
            raise self._error("cannot write the object", key, error) from error
        self._compare(key, answer, stream.digest)

    def _compare(self, key: str, answer: Any, digest: Any) -> None:
        """Compare the MD5 that the service computed with ours, and take back what is not what was sent."""
        computed = base64.b64encode(digest.digest()).decode()
        stored = answer.json().get("md5Hash", computed)
        if stored != computed:
            self.delete(key)
            raise StorageError(
                "the object was altered on its way to the store",
                where=f"{self.where}/{key}",
                why=f"its MD5 is {stored} there and {computed} here",
                fix="Try again.",
            )

    def read(self, key: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        if size == 0:
            if not self.exists(key):
                raise ObjectMissing("the object does not exist", where=f"{self.where}/{key}")
            return iter(())
        answer = self._open(key, offset, size)
        generation = answer.headers.get("x-goog-generation", "")

        def again(done: int) -> Iterator[bytes]:
            left = None if size is None else size - done
            chunks: Iterator[bytes] = self._open(key, offset + done, left, generation).iter_content(CHUNK)
            return chunks

        def chunks() -> Iterator[bytes]:
            try:
                yield from resuming(answer.iter_content(CHUNK), again, self._errors, self._pause)
            except self._errors as error:
                raise self._error("cannot read the object", key, error) from error

        return chunks()

    def _open(self, key: str, offset: int, size: int | None, generation: str = "") -> Any:
        # Without this a service may compress on the way, and the bytes would not be those that are stored.
        headers = {"Accept-Encoding": "identity"}
        if offset or size is not None:
            headers["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        url = f"{self._url(key, '/download')}?alt=media"
        url += f"&ifGenerationMatch={generation}" if generation else ""
        return self._request("GET", "cannot read the object", key, url, headers=headers, stream=True)

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
        for page in self._pages(prefix, "items(name,size,generation),nextPageToken"):
            for item in page.get("items", ()):
                yield StoredObject(item["name"], int(item["size"]), item.get("generation", ""))

    def folders(self, prefix: str = "") -> Iterator[str]:
        for page in self._pages(prefix, "prefixes,nextPageToken", delimiter="/"):
            for each in page.get("prefixes", ()):
                yield each[len(prefix) :].rstrip("/")

    def _pages(self, prefix: str, fields: str, **parameters: str) -> Iterator[dict[str, Any]]:
        url = f"{self._host}/storage/v1/b/{quote(self._bucket, safe='')}/o"
        parameters |= {"prefix": prefix, "fields": fields}
        while True:
            page = self._request("GET", "cannot list the bucket", prefix, url, params=parameters).json()
            yield page
            if not page.get("nextPageToken"):
                return
            parameters["pageToken"] = page["nextPageToken"]

    def locked_until(self, key: str) -> datetime | None:
        state = self._request("GET", "cannot look up the object", key, self._url(key)).json()
        if state.get("temporaryHold") or state.get("eventBasedHold"):
            return HELD
        until = state.get("retentionExpirationTime") or state.get("retention", {}).get("retainUntilTime")
        if not until:
            return None
        moment = datetime.fromisoformat(until.replace("Z", "+00:00"))
        return moment if moment > datetime.now(timezone.utc) else None

    def _request(self, method: str, what: str, key: str, url: str, **arguments: Any) -> Any:
        where = f"{self.where}/{key}"
        for attempt in itertools.count(1):
            try:
                answer = self._session.request(method, url, timeout=_TIMEOUT, **arguments)
            except self._errors as error:
                if attempt >= _TRIES or not isinstance(error, self._passing) or isinstance(error, self._final):
                    raise self._error(what, key, error) from error
            else:
                if answer.status_code not in _PASSING or attempt >= _TRIES:
                    break
            time.sleep(self._pause * 2 ** (attempt - 1))
        if answer.status_code == 404 and "bucket does not exist" not in answer.text:
            raise ObjectMissing(what, where=where, why="it does not exist")
        if answer.status_code == 412:
            exists = _Exists(what, where=where, why="it exists already, or was changed meanwhile")
            exists.tried = attempt > 1
            raise exists
        if answer.status_code >= 300:
            kind = (
                ObjectLocked
                if "retentionPolicyNotMet" in answer.text or "under active" in answer.text
                else StorageError
            )
            why = f"HTTP {answer.status_code}: {answer.text[:500]}"
            raise kind(what, where=where, why=why, fix=FULL if answer.status_code == 507 else self._grant(answer))
        return answer

    def _error(self, what: str, key: str, error: Exception) -> StorageError:
        response = getattr(error, "response", None)
        exists = response is not None and getattr(response, "status_code", 0) == 412
        kind = ObjectExists if exists else StorageError
        return kind(what, where=f"{self.where}/{key}", why=str(error), fix=self._grant(response))

    def _grant(self, answer: Any) -> str:
        """Return what to do about a permission that the answer names, if it does."""
        denied = answer is not None and answer.status_code == 403 and _PERMISSION.search(answer.text)
        return f"Grant these credentials {denied[1] or denied[2]} on the bucket {self._bucket}." if denied else ""


def _verifying(session: Any, verify: bool | str) -> Any:
    """Return the session with ``verify`` in force: its own setting loses to REQUESTS_CA_BUNDLE of the environment.

    Its pool is as large as there may be threads that share it.
    """
    import requests.adapters

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
            return super().send(request, **{**options, "verify": options.get("verify") if verify is True else verify})

    session.mount("https://", Adapter(pool_connections=4, pool_maxsize=64))
    return session


class _Spool(io.RawIOBase):
    """A readable stream over chunks that remembers its position, as a resumable upload wants it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self._position = 0
        self.digest = hashlib.md5(usedforsecurity=False)

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
        data = data[:size]
        self._position += len(data)
        self.digest.update(data)
        return data

    def tell(self) -> int:
        return self._position
