# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket over HTTP on loopback that answers as S3 does and as Cloud Storage's JSON API does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Bucket:
    """What the server holds, and how it misbehaves.

    :param fail: the HTTP status that every request gets, 0 for none.
    :param page: how many keys one page of a listing has.
    :param requests: method and path of each request.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    fail: int = 0
    page: int = 2
    requests: list[str] = field(default_factory=list)
    acl: set[str] = field(default_factory=set)
    url: str = ""
    _uploads: dict[str, tuple[str, dict[int, bytes]]] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
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
        wanted = self.headers.get("Range")
        if not wanted:
            self._reply(200, data, ETag='"e"')
            return
        first, _unused, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self._reply(206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}", ETag='"e"')

    def _any(self) -> None:
        body = self._body()
        self.bucket.requests.append(f"{self.command} {self.path}")
        split = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        if self.bucket.fail:
            self._reply(self.bucket.fail, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        elif "/storage/v1/" in split.path or "/session/" in split.path:
            self._google(split.path, query, body)
        else:
            self._amazon(unquote(split.path).removeprefix("/bucket").removeprefix("/"), query, body)

    def _amazon(self, key: str, query: dict[str, str], body: bytes) -> None:
        objects, uploads = self.bucket.objects, self.bucket._uploads
        tag = f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324  # what S3 calls an ETag
        if self.headers.get("x-amz-acl"):
            self.bucket.acl.add(self.headers["x-amz-acl"])
        match self.command:
            case "POST" if "uploads" in query:
                uploads["u"] = (key, {})
                text = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                self._reply(200, text.encode())
            case "PUT" if "partNumber" in query:
                uploads["u"][1][int(query["partNumber"])] = body
                self._reply(200, ETag=tag)
            case "POST":
                name, parts = uploads.pop("u")
                objects[name] = b"".join(parts[number] for number in sorted(parts))
                self._reply(200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
            case "PUT":
                objects[key] = body
                self._reply(200, ETag=tag)
            case "DELETE":
                objects.pop(key, None)
                self._reply(204)
            case "GET" if not key:
                found = sorted(each for each in objects if each.startswith(query.get("prefix", "")))
                start = int(query.get("continuation-token", 0))
                end = start + self.bucket.page
                items = "".join(
                    f"<Contents><Key>{escape(each)}</Key><Size>{len(objects[each])}</Size></Contents>"
                    for each in found[start:end]
                )
                more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"
                last = more if end < len(found) else "<IsTruncated>false</IsTruncated>"
                self._reply(200, f"<ListBucketResult>{items}{last}</ListBucketResult>".encode())
            case _ if key not in objects:
                self._reply(404, b"<Error><Code>NoSuchKey</Code><Message>absent</Message></Error>")
            case "HEAD":
                self._reply(200, Content_Length=str(len(objects[key])), ETag='"e"')
            case _:
                self._ranged(objects[key])

    def _google(self, path: str, query: dict[str, str], body: bytes) -> None:
        objects, uploads = self.bucket.objects, self.bucket._uploads
        if path.startswith("/session/"):
            name, parts = uploads["g"]
            parts[len(parts)] = body
            if self.headers["Content-Range"].endswith("/*"):
                so_far = sum(map(len, parts.values()))
                self._reply(308, Range=f"bytes=0-{so_far - 1}")
            else:
                objects[name] = b"".join(parts.values())
                self._reply(200, b"{}")
        elif path.startswith("/upload/") and query["uploadType"] == "media":
            objects[query["name"]] = body
            self._reply(200, b"{}")
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
