# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket over HTTP on loopback that answers as S3 does and as Cloud Storage's JSON API does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import google.auth.compute_engine
import pytest
from google.auth.credentials import AnonymousCredentials

#: Seconds.
SILENCE = 3.0


def without_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens come from the metadata server in a cluster, which a test has none of."""
    monkeypatch.setattr(google.auth.compute_engine, "Credentials", lambda scopes: AnonymousCredentials())


@dataclass
class Bucket:
    """What the server holds, and how it misbehaves.

    :param fail: the HTTP status that every request gets, 0 for none.
    :param passing: statuses that the next requests get, one each, before all is well; 0 closes the connection instead.
    :param upset: is asked what becomes of each request, ``METHOD /path``: a status, 0 closes the connection, -1 answers
        nothing for :data:`SILENCE`, None all is well.
    :param words: what a refusal says.
    :param cut: how many bytes of the next object that is read are sent before the connection closes; -1 for all.
    :param lost: a pattern of ``METHOD /path``: the next such request is done, and its answer never arrives.
    :param late: whether the next copy fails after it was answered with 200, as copies may.
    :param alter: whether the service stores something else than it was sent.
    :param page: how many keys one page of a listing has.
    :param requests: method and path of each request.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    fail: int = 0
    passing: list[int] = field(default_factory=list)
    upset: Callable[[str], int | None] = lambda _request: None
    words: bytes = b"<Error><Code>InternalError</Code><Message>later</Message></Error>"
    cut: int = -1
    lost: str = ""
    late: bool = False
    alter: bool = False
    page: int = 2
    requests: list[str] = field(default_factory=list)
    acl: set[str] = field(default_factory=set)
    url: str = ""
    _uploads: dict[str, tuple[str, dict[int, bytes]]] = field(default_factory=dict)
    _tags: dict[str, str] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        if self.bucket.lost and status == 200 and re.search(self.bucket.lost, f"{self.command} {self.path}"):
            self.bucket.lost, self.close_connection = "", True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _ranged(self, data: bytes) -> None:
        if self.bucket.cut >= 0:
            cut, self.bucket.cut = self.bucket.cut, -1
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut])
            self.close_connection = True
            return
        wanted = self.headers.get("Range")
        if not wanted:
            self._reply(200, data, ETag='"e"')
            return
        first, _unused, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self._reply(206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}", ETag='"e"')

    def _any(self) -> None:
        body = self._body()
        # Requests come side by side: the last of the list may be another one.
        request = f"{self.command} {self.path}"
        self.bucket.requests.append(request)
        split = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        status = self.bucket.passing.pop(0) if self.bucket.passing else self.bucket.upset(request)
        if status is not None:
            if status > 0:
                self._reply(status, self.bucket.words)
                return
            if status < 0:
                time.sleep(SILENCE)
            self.close_connection = True
        elif self.bucket.fail:
            self._reply(self.bucket.fail, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        elif "/storage/v1/" in split.path or "/session/" in split.path:
            self._google(split.path, query, body)
        else:
            self._amazon(unquote(split.path).removeprefix("/bucket").removeprefix("/"), query, body)

    def _amazon(self, key: str, query: dict[str, str], body: bytes) -> None:
        objects = self.bucket.objects
        tag = f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324  # what S3 calls an ETag
        if self.headers.get("x-amz-acl"):
            self.bucket.acl.add(self.headers["x-amz-acl"])
        if {"uploads", "uploadId"} & set(query):
            self._in_parts(key, query, body, tag)
            return
        match self.command:
            case "PUT" if self._taken(key):
                self._reply(412, b"<Error><Code>PreconditionFailed</Code><Message>exists</Message></Error>")
            case "PUT" if origin := unquote(self.headers.get("x-amz-copy-source") or "").removeprefix("bucket/"):
                objects[key] = objects[origin]
                kind = (
                    "Error><Code>InternalError</Code></Error"
                    if self.bucket.late
                    else "CopyObjectResult></CopyObjectResult"
                )
                self.bucket.late = False
                self._reply(200, f"<{kind}>".encode())
            case "PUT":
                objects[key], self.bucket._tags[key] = body, tag
                self._reply(200, ETag=tag)
            case "DELETE":
                objects.pop(key, None)
                self._reply(204)
            case "GET" if not key:
                self._listing(query)
            case _ if key not in objects:
                self._reply(404, b"<Error><Code>NoSuchKey</Code><Message>absent</Message></Error>")
            case "HEAD":
                self._reply(200, Content_Length=str(len(objects[key])), ETag=self.bucket._tags.get(key, '"e"'))
            case _:
                self._ranged(objects[key])

    def _in_parts(self, key: str, query: dict[str, str], body: bytes, tag: str) -> None:
        uploads = self.bucket._uploads
        match self.command:
            case "POST" if "uploads" in query:
                uploads["u"] = (key, {})
                text = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                self._reply(200, text.encode())
            case "PUT":
                uploads["u"][1][int(query["partNumber"])] = body
                self._reply(200, ETag=tag)
            case "POST" if self._taken(key):
                self._reply(412, b"<Error><Code>PreconditionFailed</Code><Message>exists</Message></Error>")
            case "POST":
                name, parts = uploads.pop("u")
                self.bucket.objects[name] = b"".join(parts[number] for number in sorted(parts))
                digests = b"".join(hashlib.md5(parts[number]).digest() for number in sorted(parts))  # noqa: S324
                self.bucket._tags[name] = f'"{hashlib.md5(digests).hexdigest()}-{len(parts)}"'  # noqa: S324
                self._reply(200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
            case _:
                uploads.pop("u")
                self._reply(204)

    def _listing(self, query: dict[str, str]) -> None:
        objects = self.bucket.objects
        found = sorted(each for each in objects if each.startswith(query.get("prefix", "")))
        start = int(query.get("continuation-token", bisect_right(found, query.get("start-after", ""))))
        end = start + self.bucket.page
        items = "".join(
            f"<Contents><Key>{escape(each)}</Key><Size>{len(objects[each])}</Size></Contents>"
            for each in found[start:end]
        )
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"
        last = more if end < len(found) else "<IsTruncated>false</IsTruncated>"
        self._reply(200, f"<ListBucketResult>{items}{last}</ListBucketResult>".encode())

    def _store(self, name: str, data: bytes) -> None:
        self.bucket.objects[name] = data + b"!" if self.bucket.alter else data
        digest = hashlib.md5(self.bucket.objects[name], usedforsecurity=False).digest()
        self._reply(200, json.dumps({"md5Hash": base64.b64encode(digest).decode()}).encode())

    def _taken(self, key: str) -> bool:
        return self.headers.get("If-None-Match") == "*" and key in self.bucket.objects

    def _google(self, path: str, query: dict[str, str], body: bytes) -> None:
        objects, uploads = self.bucket.objects, self.bucket._uploads
        name = query.get("name") or (json.loads(body).get("name") if "/upload/" in path and body[:1] == b"{" else "")
        if query.get("ifGenerationMatch") == "0" and name in objects:
            self._reply(412, b'{"error": {"message": "conditionNotMet"}}')
        elif path.startswith("/session/"):
            name, parts = uploads["g"]
            parts[len(parts)] = body
            if self.headers["Content-Range"].endswith("/*"):
                so_far = sum(map(len, parts.values()))
                self._reply(308, Range=f"bytes=0-{so_far - 1}")
            else:
                self._store(name, b"".join(parts.values()))
        elif path.startswith("/upload/") and query["uploadType"] == "media":
            self._store(query["name"], body)
        elif path.startswith("/upload/"):
            uploads["g"] = (json.loads(body)["name"], {})
            self._reply(200, Location=f"{self.bucket.url}/session/g")
        elif path.endswith("/o"):
            found = sorted(each for each in objects if each.startswith(query.get("prefix", "")))
            start = int(query.get("pageToken", 0))
            end = start + self.bucket.page
            answer = {"items": [{"name": each, "size": str(len(objects[each]))} for each in found[start:end]]}
            self._reply(200, json.dumps(answer | ({"nextPageToken": str(end)} if end < len(found) else {})).encode())
        else:
            key = unquote(path.partition("/o/")[2])
            if key not in objects:
                self._reply(404, b'{"error": {"message": "No such object"}}')
            elif self.command == "DELETE":
                del objects[key]
                self._reply(204)
            elif query.get("alt") == "media":
                self._ranged(objects[key])
            else:
                self._reply(200, b"{}")


for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
    setattr(_Handler, f"do_{method}", _Handler._any)


@contextmanager
def served() -> Iterator[Bucket]:
    """Serve an empty bucket named ``bucket`` at its ``url``."""
    bucket = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": bucket}))
    bucket.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
