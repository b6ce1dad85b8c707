# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Whole objects to and from S3, and listings, at a sixth of the processor time that the SDK takes for a request.

Installations have tens of thousands of small objects, and what the SDK does around each request (models, events,
parsers, a handshake before the body) costs more than the request.  Here is one signed request over kept
connections, and nothing else: no retries, no redirects.  A refusal is raised as the SDK's own exception; whatever else
does not simply succeed is left to the SDK, which does it again in its own way.

The signature is AWS's version 4 with the SHA-256 of the body, which the service compares before it takes the object.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import http.client
import itertools
import ssl
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode, urlsplit
from xml.etree import ElementTree

from .base import CHUNK

#: What a broken connection raises.
BROKEN = (OSError, http.client.HTTPException)
#: Keys, sizes and ETags.
Page = Sequence[tuple[str, int, str]]
_EMPTY = hashlib.sha256(b"").hexdigest()
_LIMIT = 3  # after so many odd answers in a row this is not the way to this bucket
_REFUSED = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}
_PASSING = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Address:
    """Where a bucket is.

    :param host: as in the ``Host`` header.
    :param path: what stands before every key, with a slash at its end.
    """

    scheme: str
    host: str
    path: str
    region: str

    @property
    def bucket(self) -> str:
        """The bucket's own path."""
        return self.path.rstrip("/") or "/"


@dataclass(frozen=True)
class Keys:
    """Credentials as they are at the moment."""

    access: str
    secret: str
    token: str | None


def signed(
    address: Address, keys: Keys, method: str, path: str, query: str, sha256: str, stamp: str, origin: str = ""
) -> dict[str, str]:
    """Return the headers that sign a request.

    :param path: percent-encoded, as is ``query``, whose fields are in order.
    :param sha256: of the body.
    :param stamp: the time, as ``20260131T235959Z``.
    :param origin: of a copy: bucket and key, percent-encoded.
    """
    headers = {"Host": address.host, "X-Amz-Content-SHA256": sha256}
    if origin:
        headers["X-Amz-Copy-Source"] = origin
    headers["X-Amz-Date"] = stamp
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    names = ";".join(each.lower() for each in headers)
    lines = "".join(f"{name.lower()}:{value}\n" for name, value in headers.items())
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{sha256}"
    scope = f"{stamp[:8]}/{address.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = _mac(_signing_key(keys.secret, stamp[:8], address.region), text).hex()
    credential = f"Credential={keys.access}/{scope}"
    return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"}


@functools.lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    return functools.reduce(_mac, (day, region, "s3", "aws4_request"), f"AWS4{secret}".encode())


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


class Quick:
    """Requests to one bucket; safe for use by many threads."""

    def __init__(self, address: Address, credentials: Any, authorities: str, timeout: float) -> None:
        """:param credentials: botocore's, which renew themselves.
        :param authorities: the path of CA certificates, for an address with TLS.
        """
        self._address = address
        self._credentials = credentials
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=authorities) if address.scheme == "https" else None
        self._idle: deque[http.client.HTTPConnection] = deque(maxlen=64)
        self._failures = 0

    @property
    def useful(self) -> bool:
        """Whether this is a way to this bucket; False after odd answers, and everything is left to the SDK then."""
        return self._failures < _LIMIT

    def put(self, key: str, body: bytes, *, if_absent: bool) -> bool:
        """Write an object; False where the SDK has to.

        :raises botocore.exceptions.ClientError: the service refuses.
        """
        extra = {"If-None-Match": "*"} if if_absent else {}
        answered = self._ask("PUT", "PutObject", self._path(key), body, extra)
        if answered is None:
            return False
        self._done(*answered)
        return True

    def copy(self, bucket: str, source: str, key: str) -> bool:
        """Copy the object ``source`` of ``bucket``, which the same service has; False where the SDK has to.

        :raises botocore.exceptions.ClientError: the service refuses, or has no such object.
        """
        answered = self._ask(
            "PUT", "CopyObject", self._path(key), b"", {}, origin=f"{bucket}/{quote(source, safe='/~')}"
        )
        if answered is None:
            return False
        connection, response = answered
        try:
            # It may have been begun as a success while it was under way, and end otherwise.
            copied = b"CopyObjectResult>" in response.read()
        except BROKEN:
            return False
        self._idle.append(connection)
        return copied

    def part(self, key: str, upload: str, number: int, body: bytes) -> str | None:
        """Write one part of a multipart upload and return its ETag; None where the SDK has to.

        :raises botocore.exceptions.ClientError: the service refuses.
        """
        query = urlencode({"partNumber": number, "uploadId": upload}, quote_via=quote, safe="-_.~")
        answered = self._ask("PUT", "UploadPart", self._path(key), body, {}, query)
        if answered is None:
            return None
        self._done(*answered)
        return answered[1].getheader("ETag")

    def _done(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        """Keep the connection for the next request, after the rest of an answer nobody needs."""
        with contextlib.suppress(*BROKEN):
            response.read()
            self._idle.append(connection)

    def get(self, key: str) -> tuple[Iterator[bytes], str] | None:
        """Return an object's bytes and its ETag; None where the SDK has to.

        :raises botocore.exceptions.ClientError: the service refuses, or has no such object.
        """
        answered = self._ask("GET", "GetObject", self._path(key), b"", {})
        if answered is None:
            return None
        connection, response = answered
        return self._body(connection, response), response.getheader("ETag", "")

    def page(self, prefix: str, token: str, start: str = "") -> tuple[Page, str] | None:
        """Return one page of a listing, and the token of the next one, empty at the end; None where the SDK has to.

        :param token: empty for the first page, which begins after the key ``start``.
        :raises botocore.exceptions.ClientError: the service refuses.
        """
        fields = {"continuation-token": token} if token else {}
        fields |= {"encoding-type": "url", "list-type": "2", "prefix": prefix}
        fields |= {"start-after": start} if start else {}
        query = urlencode(fields, quote_via=quote, safe="-_.~")
        answered = self._ask("GET", "ListObjectsV2", self._address.bucket, b"", {}, query)
        try:
            return answered and _read_page(b"".join(self._body(*answered)))
        except BROKEN:
            return None

    def _body(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> Iterator[bytes]:
        left = int(response.length or 0)
        if not left:
            response.read()
            self._idle.append(connection)
        while left:
            chunk = response.read(min(left, CHUNK))
            if not chunk:
                raise http.client.IncompleteRead(b"", left)
            left -= len(chunk)
            if not left:
                # Before the last piece, for who got all may not ask for more; never after it, when another has it.
                self._idle.append(connection)
            yield chunk

    def _path(self, key: str) -> str:
        return self._address.path + quote(key, safe="/~")

    def _ask(
        self,
        method: str,
        operation: str,
        path: str,
        body: bytes,
        extra: Mapping[str, str],
        query: str = "",
        origin: str = "",
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse] | None:
        if not self.useful:
            return None
        frozen = self._credentials.get_frozen_credentials()
        keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
        sha256 = hashlib.sha256(body).hexdigest() if body else _EMPTY
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {**signed(self._address, keys, method, path, query, sha256, stamp, origin), **extra}
        target, sent = f"{path}?{query}" if query else path, body if method == "PUT" else None
        for again in itertools.count():
            try:
                connection, used = self._idle.pop(), True
            except IndexError:
                connection, used = self._connection(), False
            try:
                connection.request(method, target, sent, headers)
                response = connection.getresponse()
            except BROKEN:
                connection.close()
                if used:
                    continue  # the service closed it while nobody needed it
                return None
            # A copy takes time, and answers in chunks.
            if response.status == 200 and (response.length is not None or origin):
                self._failures = 0
                return connection, response
            refusal = _refusal(operation, response, again)
            connection.close()
            if refusal is not None:
                raise refusal
            self._failures += response.status not in _PASSING
            return None
        raise AssertionError("the loop returns or raises")

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(self._address.host, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(self._address.host, timeout=self._timeout)


def _read_page(data: bytes) -> tuple[Page, str] | None:
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - the SDK reads the same answers with the same parser
        space = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
        decoded = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
        page = []
        for each in root.iter(f"{space}Contents"):
            found = {field.tag: field.text or "" for field in each}
            key = found.get(f"{space}Key", "")
            tag = found.get(f"{space}ETag", "").strip('"')
            page.append((decoded(key) if "%" in key or "+" in key else key, int(found.get(f"{space}Size", "")), tag))
        if root.findtext(f"{space}IsTruncated") == "true":
            return page, root.findtext(f"{space}NextContinuationToken") or ""
    except (ElementTree.ParseError, ValueError):
        return None
    return page, ""


def _refusal(operation: str, response: http.client.HTTPResponse, again: int) -> Exception | None:
    """Return the SDK's exception for a clear refusal, None for any other answer.

    :param again: how many attempts were made before, of which nobody knows what became of them.
    """
    from botocore.exceptions import ClientError
    from botocore.parsers import RestXMLParser

    if response.status not in _REFUSED:
        return None
    answer = {"body": response.read(CHUNK), "headers": dict(response.getheaders()), "status_code": response.status}
    try:
        parsed = RestXMLParser().parse(answer, None)
    except Exception:  # noqa: BLE001 - not S3's own words; the SDK may make something of them
        return None
    parsed["Error"].setdefault("Code", _REFUSED[response.status])
    parsed["ResponseMetadata"]["RetryAttempts"] = again
    error: Exception = ClientError(parsed, operation)
    return error


def quick(client: Any, session: Any, bucket: str, verify: bool | str, timeout: float) -> Quick | None:
    """Return the quick way to a bucket, None where the SDK's settings ask for anything out of the ordinary.

    :param client: the SDK's client for S3, whose idea of the address is taken.
    :param session: the SDK's session.
    """
    from botocore.httpsession import get_cert_path
    from botocore.utils import get_environ_proxies

    credentials = session.get_credentials()
    if credentials is None or verify is False or client.meta.config.signature_version != "s3v4":
        return None
    # As the SDK would send it: every rule about endpoints and the form of addresses has been followed.
    url = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}))
    address = Address(url.scheme, url.netloc, url.path[:-1], client.meta.region_name)
    if not url.path.endswith("/k") or "X-Amz-Algorithm=AWS4-HMAC-SHA256" not in url.query:
        return None
    if get_environ_proxies(f"{url.scheme}://{url.netloc}"):
        return None
    authorities = verify if isinstance(verify, str) else get_cert_path(True)
    return Quick(address, credentials, authorities, timeout)
