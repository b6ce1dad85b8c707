# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server in memory, at the boundary of single HTTP exchanges, and the same over HTTP on loopback.

It knows what the collection relies on: server-side apply with field ownership and conflicts, dry runs, missing
namespaces, refusals, lists in pages, logs, access reviews.  It is a double: the integration tests hold the same calls
against a real API server.
"""

from __future__ import annotations

import copy
import http.server
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.kinds import KINDS, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response, UnreachableError

Object = dict[str, Any]
Path = tuple[str, ...]

_PATH = re.compile(
    r"/(?:api|apis)/(?P<version>v1|[a-z0-9.]+/v\d+\w*)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)
_KIND_OF = {(version, row.plural): (kind, row.namespaced) for (version, kind), row in KINDS.items()}
_RESERVED = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp")


def leaves(obj: Any, path: Path = ()) -> dict[Path, Any]:
    """Return every leaf below ``obj`` by its path; lists count as one value."""
    if isinstance(obj, dict):
        return {leaf: value for key, item in obj.items() for leaf, value in leaves(item, (*path, key)).items()}
    return {path: obj}


def status(code: int, reason: str, message: str, **details: Any) -> Response:
    """Return an error as the API server words it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return Response(code, json.dumps({**body, "details": details}).encode(), {"content-type": "application/json"})


def answer(obj: Any, code: int = 200) -> Response:
    """Return a success."""
    return Response(code, json.dumps(obj).encode(), {"content-type": "application/json"})


class FakeApi:
    """The transport of a cluster that exists in this process only."""

    host = "https://fake.invalid"

    def __init__(self, namespaces: Sequence[str] = ("default",)) -> None:
        self.objects: dict[Ref, Object] = {}
        self.owners: dict[Ref, dict[str, set[Path]]] = {}
        self.logs: dict[tuple[str, str, bool], str] = {}
        self.denied: set[tuple[str, str]] = set()
        """(verb, plural) that this identity may not do."""
        self.failures: list[Response | UnreachableError] = []
        """What the next calls get instead of an answer, oldest first."""
        self.calls: list[tuple[str, str]] = []
        self.writes = 0
        self.page = 500
        self.on_get: Callable[[Ref], None] = lambda _ref: None
        self.on_apply: Callable[[Ref], None] = lambda _ref: None
        self.defaults: Callable[[Object], None] = lambda _obj: None
        self._numbers = itertools.count(1)
        for name in namespaces:
            self.put(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "status": {"phase": "Active"}}
            )

    def put(self, obj: Object, manager: str = "somebody") -> Ref:
        """Store an object as if ``manager`` had created it."""
        obj = copy.deepcopy(obj)
        ref = Ref.of(obj)
        self.owners[ref] = {manager: set(leaves({key: obj[key] for key in ("data", "spec") if key in obj}))}
        self._store(ref, obj)
        return ref

    def stored(self, ref: Ref) -> Object:
        """Return what is stored."""
        return self.objects[ref]

    def request(  # noqa: PLR0911 - a dispatcher
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: str | None = None,
        content_type: str = "application/json",
        timeout: float = 0,
    ) -> Response:
        """Answer one call."""
        assert timeout > 0, "every call has a timeout"
        self.calls.append((method, path))
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, UnreachableError):
                raise failure
            return failure
        if path == "/version":
            return answer({"major": "1", "minor": "34", "gitVersion": "v1.34.4"})
        payload = json.loads(body) if body else {}
        if path.endswith("reviews"):
            return self._review(path, payload)
        match = _PATH.match(path)
        kind_row = match and _KIND_OF.get((match["version"], match["plural"]))
        if not match or not kind_row:
            return Response(404, b"404 page not found\n", {"content-type": "text/plain"})
        verb = {"GET": "get" if match["name"] else "list", "PATCH": "patch", "POST": "create", "DELETE": "delete"}[
            method
        ]
        if (verb, match["plural"]) in self.denied:
            return self._forbidden(verb, match)
        if not match["name"]:
            return self._create(payload) if method == "POST" else self._list(match, kind_row[0], dict(query))
        ref = Ref(match["version"], kind_row[0], match["namespace"], match["name"])
        return self._one(method, ref, match["sub"], payload, dict(query), content_type)

    def _one(
        self, method: str, ref: Ref, sub: str | None, payload: Object, query: dict[str, str], content_type: str
    ) -> Response:
        if sub == "log":
            return self._log(ref, query)
        if method == "PATCH" and content_type == "application/apply-patch+yaml":
            return self._apply(ref, payload, query)
        if method == "PATCH":
            return self._scale(ref, payload) if sub == "scale" else self._merge(ref, payload)
        return self._get(ref) if method == "GET" else self._delete(ref, payload)

    def open_websocket(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """Port-forwarding has a double of its own."""
        raise UnreachableError("no websockets here", transient=False)

    def close(self) -> None:
        """Nothing is open."""

    def _review(self, path: str, payload: Object) -> Response:
        if path.endswith("selfsubjectreviews"):
            return answer({"status": {"userInfo": {"username": "admin"}}}, 201)
        asked = payload["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        return answer({"status": {"allowed": (asked["verb"], resource) not in self.denied}}, 201)

    def _forbidden(self, verb: str, match: re.Match[str]) -> Response:
        plural, namespace, name = match["plural"], match["namespace"], match["name"] or ""
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        message = (
            f'{plural} "{name}" is forbidden: User "jane" cannot {verb} resource "{plural}" in API group ""{where}'
        )
        return status(403, "Forbidden", message, name=name, kind=plural)

    def _missing(self, ref: Ref) -> Response:
        plural = KINDS[(ref.api_version, ref.kind)].plural
        return status(404, "NotFound", f'{plural} "{ref.name}" not found', name=ref.name, kind=plural)

    def _get(self, ref: Ref) -> Response:
        self.on_get(ref)
        return answer(self._shown(ref)) if ref in self.objects else self._missing(ref)

    def _shown(self, ref: Ref) -> Object:
        obj = copy.deepcopy(self.objects[ref])
        entries = []
        for manager, paths in self.owners.get(ref, {}).items():
            fields: Object = {}
            for path in paths:
                node = fields
                for key in path:
                    node = node.setdefault(f"f:{key}", {})
            entries.append({"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields})
        obj["metadata"]["managedFields"] = entries
        return obj

    def _list(self, match: re.Match[str], kind: str, query: dict[str, str]) -> Response:
        labels = dict(item.split("=") for item in query.get("labelSelector", "").split(",") if item)
        field, _equals, wanted = query.get("fieldSelector", "").partition("=")
        found = []
        for ref, obj in sorted(self.objects.items(), key=str):
            own = obj["metadata"].get("labels") or {}
            if (ref.api_version, ref.kind) != (match["version"], kind) or match["namespace"] not in (
                None,
                ref.namespace,
            ):
                continue
            if any(own.get(key) != value for key, value in labels.items()):
                continue
            if field and str(leaves(obj).get(tuple(field.split(".")))) != wanted:
                continue
            found.append({key: value for key, value in self._shown(ref).items() if key not in ("apiVersion", "kind")})
        start = int(query.get("continue", "0"))
        end = start + min(self.page, int(query.get("limit", "500")))
        return answer({"items": found[start:end], "metadata": {"continue": str(end) if end < len(found) else ""}})

    def _log(self, ref: Ref, query: dict[str, str]) -> Response:
        text = self.logs.get((ref.name, query.get("container", ""), query.get("previous") == "true"))
        if text is None:
            return status(400, "BadRequest", "container is waiting to start")
        return Response(200, "".join(text.splitlines(True)[-int(query["tailLines"]) :]).encode(), {})

    def _apply(self, ref: Ref, manifest: Object, query: dict[str, str]) -> Response:
        if ref.namespace and Ref("v1", "Namespace", None, ref.namespace) not in self.objects:
            return status(
                404, "NotFound", f'namespaces "{ref.namespace}" not found', name=ref.namespace, kind="namespaces"
            )
        manager = query["fieldManager"]
        self.on_apply(ref)
        current = self.objects.get(ref, {})
        version = manifest["metadata"].pop("resourceVersion", None)
        if version and version != current.get("metadata", {}).get("resourceVersion"):
            return status(409, "Conflict", "Operation cannot be fulfilled: the object has been modified")
        owners = copy.deepcopy(self.owners.get(ref, {}))
        wanted = {path: value for path, value in leaves(manifest).items() if path[0] not in ("apiVersion", "kind")}
        had = leaves(current)
        conflicts = [
            (path, other)
            for path, value in wanted.items()
            for other, paths in owners.items()
            if other != manager and path in paths and had.get(path) != value
        ]
        if conflicts and query["force"] != "true":
            causes = [
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "{other}" using v1',
                    "field": "." + ".".join(path),
                }
                for path, other in conflicts
            ]
            return status(409, "Conflict", f"Apply failed with {len(causes)} conflicts", causes=causes)
        for path, other in conflicts:
            owners[other].discard(path)
        released = owners.get(manager, set()) - set(wanted)
        owned = set().union(*(paths for other, paths in owners.items() if other != manager))
        result: Object = copy.deepcopy(current) or {"apiVersion": ref.api_version, "kind": ref.kind}
        for path in released - owned:
            _drop(result, path)
        for path, value in wanted.items():
            _put(result, path, value)
        self.defaults(result)
        owners[manager] = set(wanted)
        changed = leaves({k: v for k, v in result.items() if k != "status"}) != leaves(
            {k: v for k, v in current.items() if k != "status"}
        )
        if "dryRun" in query:
            return answer(result)
        self.owners[ref] = owners
        if changed:
            self.writes += 1
            self._store(ref, result)
        return answer(self._shown(ref), 200 if current else 201)

    def _create(self, manifest: Object) -> Response:
        ref = Ref.of(manifest)
        if ref in self.objects:
            return status(409, "AlreadyExists", f'"{ref.name}" already exists')
        self.writes += 1
        self.put(manifest)
        return answer(self._shown(ref), 201)

    def _merge(self, ref: Ref, patch: Object) -> Response:
        if ref not in self.objects:
            return self._missing(ref)
        current = copy.deepcopy(self.objects[ref])
        version = patch.get("metadata", {}).get("resourceVersion")
        if version not in (None, current["metadata"]["resourceVersion"]):
            return status(409, "Conflict", "Operation cannot be fulfilled: the object has been modified")
        for path, value in leaves(patch).items():
            if value is None:
                _drop(current, path)
            else:
                _put(current, path, value)
        self.writes += 1
        self._store(ref, current)
        return answer(self._shown(ref))

    def _scale(self, ref: Ref, payload: Object) -> Response:
        self.writes += 1
        self.objects[ref]["spec"]["replicas"] = payload["spec"]["replicas"]
        return answer({"kind": "Scale"})

    def _delete(self, ref: Ref, options: Object) -> Response:
        if ref not in self.objects:
            return self._missing(ref)
        if options.get("preconditions", {}).get("uid") not in (None, self.objects[ref]["metadata"]["uid"]):
            return status(409, "Conflict", "the UID in the precondition does not match")
        if not options.get("dryRun"):
            self.writes += 1
            if not self.objects[ref]["metadata"].get("finalizers"):
                del self.objects[ref]
        return answer({"kind": "Status", "status": "Success"})

    def _store(self, ref: Ref, obj: Object) -> None:
        metadata = obj["metadata"]
        number = next(self._numbers)
        metadata.setdefault("uid", f"uid-{number}")
        metadata["resourceVersion"] = str(number)
        self.objects[ref] = obj


def _put(obj: Object, path: Path, value: Any) -> None:
    for key in path[:-1]:
        obj = obj.setdefault(key, {})
    obj[path[-1]] = value


def _drop(obj: Object, path: Path) -> None:
    for key in path[:-1]:
        obj = obj.get(key, {})
    obj.pop(path[-1], None)


@contextmanager
def served(api: FakeApi, bearer: str = "right") -> Iterator[str]:
    """Serve ``api`` over HTTP on loopback to whoever brings the bearer token; yield the server's URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode() if length else None
            parts = urlsplit(self.path)
            if self.headers.get("Authorization") == f"Bearer {bearer}":
                kind = self.headers.get("Content-Type", "application/json")
                response = api.request(
                    self.command, parts.path, query=parse_qsl(parts.query), body=body, content_type=kind, timeout=1
                )
            else:
                response = status(401, "Unauthorized", "Unauthorized")
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - the base class's names

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(server: str, bearer: str = "right", **cluster: Any) -> str:
    """Return a kubeconfig's text with one context named "here"."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": server, **cluster}}],
            "contexts": [{"name": "here", "context": {"cluster": "fake", "user": "jane"}}],
            "users": [{"name": "jane", "user": {"token": bearer}}],
            "current-context": "here",
        }
    )
