# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Google's discovery documents: which requests exist, and what their bodies may hold."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

PARAMETERS_OF_UPLOADS = {"uploadType", "upload_id", "name"}


def documents() -> Path:
    """The folder in which google-api-python-client ships the documents."""
    package = importlib.util.find_spec("googleapiclient")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("google-api-python-client is needed: it carries Google's discovery documents")
    return Path(package.submodule_search_locations[0]) / "discovery_cache" / "documents"


@dataclass
class Call:
    """A request that the documents know: its method's id, and the parameters of its path, decoded."""

    id: str
    arguments: dict[str, str]
    method: dict[str, Any]
    schemas: dict[str, Any]
    upload: bool = False
    violations: list[str] = field(default_factory=list)


class Discovery:
    """The methods of the named APIs, found by HTTP method and path."""

    def __init__(self, names: tuple[str, ...] = ("storage.v1", "iam.v1", "iamcredentials.v1", "sts.v1")) -> None:
        self._methods: list[tuple[str, re.Pattern[str], dict[str, Any], dict[str, Any], bool]] = []
        self.parameters: dict[str, set[str]] = {}
        for name in names:
            document = json.loads((documents() / f"{name}.json").read_text(encoding="utf-8"))
            self._collect(document, document)
        # ":getIamPolicy" before the shorter path that would take it for a part of the name.
        self._methods.sort(key=lambda item: -len(item[1].pattern))

    def _collect(self, node: dict[str, Any], document: dict[str, Any]) -> None:
        for method in (node.get("methods") or {}).values():
            known = set(document["parameters"]) | set(method.get("parameters") or {})
            self.parameters[method["id"]] = known
            path = method.get("flatPath", method["path"])
            self._add(method, document, f"/{document['servicePath']}{path}", upload=False)
            if method.get("supportsMediaUpload"):
                for protocol in method["mediaUpload"]["protocols"].values():
                    self._add(method, document, protocol["path"], upload=True)
        for resource in (node.get("resources") or {}).values():
            self._collect(resource, document)

    def _add(self, method: dict[str, Any], document: dict[str, Any], path: str, *, upload: bool) -> None:
        escaped = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
        pattern = re.compile("^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", escaped) + "$")
        self._methods.append((method["httpMethod"], pattern, method, document["schemas"], upload))

    def find(self, verb: str, path: str, query: dict[str, str]) -> Call | None:
        """The call that a request is, or None where the documents have none such; ``path`` still encoded."""
        for http_method, pattern, method, schemas, upload in self._methods:
            found = pattern.match(path) if http_method == verb else None
            if not found:
                continue
            arguments = {key: unquote(value) for key, value in found.groupdict().items()}
            call = Call(method["id"], arguments, method, schemas, upload)
            known = self.parameters[method["id"]] | (PARAMETERS_OF_UPLOADS if upload else set())
            for name in sorted(set(query) - known):
                call.violations.append(f"{method['id']}: unknown query parameter {name}")
            for name, parameter in (method.get("parameters") or {}).items():
                if parameter.get("location") == "query":
                    _check_parameter(method["id"], name, parameter, query.get(name), call.violations)
            return call
        return None

    def check_request(self, call: Call, body: Any) -> None:
        """Hold a request's body against the schema; what is wrong is added to the call's violations."""
        reference = (call.method.get("request") or {}).get("$ref")
        if reference is None:
            if body:
                call.violations.append(f"{call.id}: takes no body")
            return
        _check(call.schemas, {"$ref": reference}, body, f"{call.id} request", call.violations, sent=True)

    def check_answer(self, call: Call, body: Any) -> None:
        """Hold an answer of the emulator's own against the schema."""
        reference = (call.method.get("response") or {}).get("$ref")
        if reference and body is not None:
            _check(call.schemas, {"$ref": reference}, body, f"{call.id} answer", call.violations, sent=False)


def _check_parameter(where: str, name: str, parameter: dict[str, Any], value: str | None, found: list[str]) -> None:
    if value is None:
        if parameter.get("required"):
            found.append(f"{where}: query parameter {name} is required")
    elif parameter.get("enum") and value not in parameter["enum"]:
        found.append(f"{where}: {name}={value} is none of {parameter['enum']}")
    elif parameter.get("format") in ("int64", "int32", "uint32") and not re.fullmatch(r"-?\d+", value):
        found.append(f"{where}: {name}={value} is no number")


def _check(
    schemas: dict[str, Any], schema: dict[str, Any], value: Any, where: str, found: list[str], *, sent: bool
) -> None:
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema.get("type", "any")
    if value is None and sent:  # null takes a field away in a patch
        return
    if sent and schema.get("readOnly"):
        found.append(f"{where}: is for reading only")
    elif kind == "object":
        _check_object(schemas, schema, value, where, found, sent=sent)
    elif kind == "array":
        if not isinstance(value, list):
            found.append(f"{where}: expected a list")
            return
        for number, item in enumerate(value):
            _check(schemas, schema["items"], item, f"{where}[{number}]", found, sent=sent)
    elif not _scalar_fits(kind, schema, value):
        found.append(f"{where}: expected {kind} {schema.get('format', '')}, got {type(value).__name__}")
    elif schema.get("enum") and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")


def _check_object(
    schemas: dict[str, Any], schema: dict[str, Any], value: Any, where: str, found: list[str], *, sent: bool
) -> None:
    if not isinstance(value, dict):
        found.append(f"{where}: expected an object")
        return
    properties = schema.get("properties") or {}
    for key, item in value.items():
        inner = properties.get(key) or schema.get("additionalProperties")
        if inner is None:
            found.append(f"{where}.{key}: unknown field")
        else:
            _check(schemas, inner, item, f"{where}.{key}", found, sent=sent)


def _scalar_fits(kind: str, schema: dict[str, Any], value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "string":
        if schema.get("format") in ("int64", "uint64"):
            return isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None
        return isinstance(value, str)
    return True
