# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP face: one TLS address for all of Google's names, and a plain one for the metadata server."""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import json
import re
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from . import certificates, tokens
from .discovery import Call, Discovery
from .errors import Refusal
from .faults import Faults
from .iam import CREDENTIALS_PREFIX, IamApi
from .iam import PREFIX as IAM_PREFIX
from .state import Object, State, dumps
from .storage import StorageApi, Upload, crc32c, md5

CONTROL = "/_emulator/"
DOUBLE = "pachops GCP emulator (test double)"


class Emulator:
    """State, APIs and servers together.

    :param directory: gets ``ca.pem`` and the server's certificate.
    :param listen: address of the TLS server; port 0 for any.
    :param metadata_listen: address of the plain metadata server, or None for none.
    :param names: names and addresses beyond Google's that the certificate is for.
    """

    def __init__(
        self,
        directory: Path,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        metadata_listen: tuple[str, int] | None = None,
        names: tuple[str, ...] = (),
        public_address: str = "",
    ) -> None:
        self.state = State()
        self.faults = Faults()
        self.discovery = Discovery()
        self.requests: list[dict[str, Any]] = []
        self.violations: list[str] = []
        certificates.write(directory, (listen[0], *names))
        self.ca_file = directory / "ca.pem"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
        self.server = _Server(listen, _handler(self), context)
        self.address = public_address or f"https://{listen[0]}:{self.server.server_address[1]}"
        self.metadata_server = _Server(metadata_listen, _metadata_handler(self), None) if metadata_listen else None
        self.metadata_address = ""
        if self.metadata_server and metadata_listen:
            self.metadata_address = f"{metadata_listen[0]}:{self.metadata_server.server_address[1]}"
        self.storage = StorageApi(self.state)
        self.iam = IamApi(self.state, lambda: f"{self.address}/token")
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Serve in the background."""
        for server in filter(None, (self.server, self.metadata_server)):
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End both servers."""
        for server in filter(None, (self.server, self.metadata_server)):
            server.shutdown()
            server.server_close()

    def operator(self, project: str, number: str = "123456789012", permissions: tuple[str, ...] = ("*",)) -> str:
        """Make a project and a principal that may do ``permissions`` in it; gives an access token."""
        principal = f"user:operator@{project}.example.com"
        self.state.configure({"operators": {principal: {project: list(permissions)}}})
        if project not in self.state.projects:
            self.state.configure({"projects": {project: number}})
        return self.state.issue(principal)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any, context: ssl.SSLContext | None) -> None:
        self.context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake happens in the request's own thread, so that a slow client holds up nobody.
        if self.context is not None:
            request.settimeout(60)
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


class _Base(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = DOUBLE
    sys_version = ""
    emulator: Emulator

    def log_message(self, *_arguments: Any) -> None:
        """Requests are kept for the tests, not printed."""

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, data: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if data:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def cut(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _handler(emulator: Emulator) -> type[_Base]:
    class Handler(_Google):
        pass

    Handler.emulator = emulator
    return Handler


def _metadata_handler(emulator: Emulator) -> type[_Base]:
    class Handler(_Metadata):
        pass

    Handler.emulator = emulator
    return Handler


class _Metadata(_Base):
    server_version = "Metadata Server for VM"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        try:
            with self.emulator.state.lock:
                kind, text = tokens.metadata(self.emulator.state, path, self.headers.get("Metadata-Flavor"))
        except Refusal as refusal:
            self.answer(refusal.code, dumps(refusal.iam()), Metadata_Flavor="Google")
        else:
            self.answer(200, text.encode(), kind, Metadata_Flavor="Google")


class _Google(_Base):
    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 http.server's names

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        # A repeated parameter keeps all its values.
        query: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            query[name] = f"{query[name]}\n{value}" if name in query else value
        data = self.body()
        if parts.path.startswith(CONTROL):
            self._control(parts.path.removeprefix(CONTROL), data)
            return
        fault = self.emulator.faults.pick(self.command, parts.path)
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.drop == "before":
            self.cut()
            return
        if fault and fault.status:
            refusal = Refusal(fault.status, fault.reason, fault.message)
            headers = {"Retry_After": fault.retry_after} if fault.retry_after else {}
            shape = refusal.iam() if parts.path.startswith("/v1/") else refusal.storage()
            self._note(parts.path, query, fault.status)
            self.answer(fault.status, dumps(shape), **headers)
            return
        lost = fault is not None and fault.drop == "after"
        self._dispatch(parts.path, query, data, lost=lost)

    def _note(self, path: str, query: dict[str, str], status: int, call: Call | None = None) -> None:
        entry = {
            "method": self.command,
            "path": path,
            "query": query,
            "status": status,
            "call": call.id if call else "",
        }
        self.emulator.requests.append(entry)

    def _control(self, name: str, data: bytes) -> None:
        emulator = self.emulator
        if self.command == "GET":
            views: dict[str, Any] = {
                "state": emulator.state.snapshot,
                "requests": lambda: emulator.requests,
                "violations": lambda: emulator.violations,
                "health": lambda: {"double": DOUBLE},
            }
            self.answer(200, dumps(views[name]())) if name in views else self.answer(404)
        elif name == "faults":
            emulator.faults.arm(json.loads(data))
            self.answer(204)
        elif name == "configure":
            emulator.state.configure(json.loads(data))
            self.answer(204)
        elif name == "token":
            with emulator.state.lock:
                self.answer(200, dumps({"access_token": emulator.state.issue(json.loads(data)["principal"])}))
        else:
            self.answer(404)

    def _dispatch(self, path: str, query: dict[str, str], data: bytes, *, lost: bool) -> None:
        call: Call | None = None
        raw = path.startswith("/download/")
        find = path.removeprefix("/download") if raw else path
        storage_shape = not path.startswith("/v1/")
        try:
            if path == "/token":
                self._token(data)
                return
            call = self.emulator.discovery.find("GET" if self.command == "HEAD" else self.command, find, query)
            with self.emulator.state.lock:
                if call and call.id == "sts.token":
                    status, body, kind, headers = self._exchange(call, data)
                else:
                    status, body, kind, headers = self._answer_to(call, path, query, data, raw=raw)
        except tokens.TokenRefusal as refusal:
            status, body, kind, headers = 400, dumps(refusal.body), "application/json", {}
        except Refusal as refusal:
            if call is None and not path.startswith(("/v1/", "/storage/", "/upload/", "/resumable/")):
                status, body, kind, headers = refusal.code, _xml(refusal), "application/xml", {}
            else:
                shape = refusal.storage() if storage_shape else refusal.iam()
                status, body, kind, headers = refusal.code, dumps(shape), "application/json", {}
        self._note(path, query, status, call)
        if lost:
            self.cut()
            return
        self.answer(status, body, kind, **headers)

    def _token(self, data: bytes) -> None:
        with self.emulator.state.lock:
            body = tokens.exchange(self.emulator.state, dict(parse_qsl(data.decode())))
        self._note("/token", {}, 200)
        self.answer(200, dumps(body))

    def _answer_to(
        self, call: Call | None, path: str, query: dict[str, str], data: bytes, *, raw: bool
    ) -> tuple[int, bytes, str, dict[str, str]]:
        principal = self.emulator.state.principal(self.headers.get("Authorization"))
        if call is None or call.upload:
            upload_id = query.get("upload_id")
            if upload_id:
                return self._continue(upload_id, data, principal)
        if call is None:
            return self._xml_read(path, query, principal)
        if call.upload:
            return self._upload(call, query, data, principal)
        body = self._json(data, call)
        self.emulator.discovery.check_request(call, body)
        self._refuse_violations(call)
        if call.id == "storage.objects.get" and (raw or query.get("alt") == "media"):
            item = self.emulator.storage.read(call.arguments["bucket"], call.arguments["object"], query, principal)
            return self._media(item)
        api: Any = self.emulator.iam if call.id.startswith((IAM_PREFIX, CREDENTIALS_PREFIX)) else self.emulator.storage
        result = api.handle(call, query, body or {}, principal)
        self.emulator.discovery.check_answer(call, result)
        self._refuse_violations(call)
        if result is None:
            return 204, b"", "application/json", {}
        return 200, dumps(_only(result, query.get("fields"))), "application/json", {}

    def _exchange(self, call: Call, data: bytes) -> tuple[int, bytes, str, dict[str, str]]:
        body = self._json(data, call)
        self.emulator.discovery.check_request(call, body)
        self._refuse_violations(call)
        result = tokens.federate(self.emulator.state, body)
        self.emulator.discovery.check_answer(call, result)
        self._refuse_violations(call)
        return 200, dumps(result), "application/json", {}

    def _json(self, data: bytes, call: Call) -> Any:
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            call.violations.append(f"{call.id}: the body is no JSON: {error}")
            return None

    def _refuse_violations(self, call: Call) -> None:
        if call.violations:
            self.emulator.violations.extend(call.violations)
            raise Refusal(400, "invalid", "; ".join(call.violations))

    # -------------------------------------------------------------------------------------------------------- uploads

    def _upload(
        self, call: Call, query: dict[str, str], data: bytes, principal: str
    ) -> tuple[int, bytes, str, dict[str, str]]:
        self._refuse_violations(call)
        storage, bucket = self.emulator.storage, call.arguments["bucket"]
        kind = query.get("uploadType")
        if kind == "multipart":
            metadata, content = self._multipart(data)
        elif kind == "media":
            metadata, content = {"contentType": self.headers.get("Content-Type")}, data
        elif kind == "resumable":
            metadata, content = (json.loads(data) if data else {}), b""
            metadata.setdefault("contentType", self.headers.get("X-Upload-Content-Type"))
        else:
            raise Refusal(400, "invalid", f"Upload requests must include an uploadType URL parameter, got {kind}")
        self.emulator.discovery.check_request(
            call, {key: value for key, value in metadata.items() if value is not None}
        )
        self._refuse_violations(call)
        if kind == "resumable":
            upload_id = storage.begin_upload(bucket, metadata, query, principal)
            host = self.headers.get("Host", "storage.googleapis.com")
            path = urlsplit(self.path).path
            where = f"https://{host}{path}?uploadType=resumable&upload_id={upload_id}"
            return 200, b"", "application/json", {"Location": where, "X_GUploader_UploadID": upload_id}
        resource = storage.write(bucket, metadata, content, query, principal)
        self.emulator.discovery.check_answer(call, resource)
        self._refuse_violations(call)
        return 200, dumps(resource), "application/json", {}

    def _multipart(self, data: bytes) -> tuple[dict[str, Any], bytes]:
        kind = self.headers.get("Content-Type", "")
        found = re.search(r'boundary="?([^";]+)"?', kind)
        if not kind.startswith("multipart/related") or not found:
            raise Refusal(400, "badContent", "a multipart upload needs multipart/related with a boundary")
        marker = b"--" + found.group(1).encode()
        pieces = data.split(marker)
        if len(pieces) < 4 or not pieces[-1].startswith(b"--"):
            raise Refusal(400, "badContent", "Malformed multipart body.")
        try:
            metadata = json.loads(_part(pieces[1])[1])
        except ValueError as error:
            raise Refusal(400, "parseError", "Parse Error") from error
        # The content may hold the marker by chance: only the last one ends it.
        headers, content = _part(marker.join(pieces[2:-1]))
        metadata.setdefault("contentType", headers.get("Content-Type"))
        return metadata, content

    def _continue(self, upload_id: str, data: bytes, principal: str) -> tuple[int, bytes, str, dict[str, str]]:
        if self.command == "DELETE":
            known = self.emulator.state.uploads.pop(upload_id, None)
            return (499 if isinstance(known, Upload) else 404), b"", "application/json", {}
        storage = self.emulator.storage
        done, held = storage.continue_upload(upload_id, self.headers.get("Content-Range"), data, principal)
        if done is not None:
            return 200, dumps(done), "application/json", {"X_GUploader_UploadID": upload_id}
        headers = {"X_GUploader_UploadID": upload_id}
        if held:
            headers["Range"] = f"bytes=0-{held - 1}"
        # Old Go clients would follow a 308 as a redirect, so they ask for a 200 that says what it stands for.
        if self.headers.get("X-GUploader-No-308") == "yes":
            return 200, b"", "application/json", {**headers, "X_Http_Status_Code_Override": "308"}
        return 308, b"", "application/json", headers

    # ---------------------------------------------------------------------------------------------------------- reads

    def _xml_read(self, path: str, query: dict[str, str], principal: str) -> tuple[int, bytes, str, dict[str, str]]:
        """``GET /bucket/object``: how Google's clients read content; object names may begin with a slash."""
        bucket, _slash, name = path[1:].partition("/")
        if self.command not in ("GET", "HEAD") or not bucket or not name or path.startswith(("/v1/", "/storage/v1/")):
            violation = f"{self.command} {path}: no such method in Google's discovery documents"
            self.emulator.violations.append(violation)
            raise Refusal(404, "notFound", violation)
        generation = query.get("generation")
        item = self.emulator.storage.read(unquote(bucket), unquote(name), {}, principal)
        if generation and generation != str(item.generation):
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        return self._media(item)

    def _media(self, item: Object) -> tuple[int, bytes, str, dict[str, str]]:
        headers = {
            "X_Goog_Generation": str(item.generation),
            "X_Goog_Metageneration": str(item.metageneration),
            "X_Goog_Hash": f"crc32c={crc32c(item.data)},md5={md5(item.data)}",
            "X_Goog_Stored_Content_Encoding": "identity",
            "X_Goog_Stored_Content_Length": str(len(item.data)),
            "ETag": f'"{item.generation}"',
            "Last_Modified": self.date_time_string(item.created),
            "Accept_Ranges": "bytes",
        }
        kind = item.attributes.get("contentType", "application/octet-stream")
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "").strip())
        if not found or not any(found.groups()):
            return 200, item.data, kind, headers
        size = len(item.data)
        if not found.group(1):
            first, last = max(0, size - int(found.group(2))), size - 1
        else:
            first = int(found.group(1))
            last = min(size - 1, int(found.group(2))) if found.group(2) else size - 1
        if first >= size or first > last:
            return 416, b"", kind, {"Content_Range": f"bytes */{size}"}
        return 206, item.data[first : last + 1], kind, {**headers, "Content_Range": f"bytes {first}-{last}/{size}"}


def _part(piece: bytes) -> tuple[Any, bytes]:
    """A part's headers and content, without the line breaks that belong to the markers."""
    found = re.match(rb"\r?\n(?:(.*?)\r?\n)?\r?\n", piece, re.DOTALL)
    if not found:
        raise Refusal(400, "badContent", "Malformed multipart body.")
    head, content = found.group(1) or b"", piece[found.end() :]
    headers = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + b"\r\n\r\n", headersonly=True)
    return headers, content.removesuffix(b"\n").removesuffix(b"\r")


def _only(result: Any, fields: str | None) -> Any:
    """The top-level fields of a partial response; nested selections are given whole."""
    if not fields or fields == "*":
        return result
    wanted = set(re.findall(r"[A-Za-z*]+", re.sub(r"\([^()]*\)", "", fields)))
    wanted |= {name.split("/")[0] for name in fields.split(",")}
    return {key: value for key, value in result.items() if key in wanted}


def _xml(refusal: Refusal) -> bytes:
    code = {404: "NoSuchKey", 403: "AccessDenied", 401: "AuthenticationRequired"}.get(refusal.code, "InvalidArgument")
    text = f"<Error><Code>{code}</Code><Message>{escape(refusal.message)}</Message></Error>"
    return b"<?xml version='1.0' encoding='UTF-8'?>" + text.encode()
