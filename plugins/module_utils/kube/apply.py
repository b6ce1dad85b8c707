# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What an apply or a delete did to one object, in a form that is safe to print.

The functions here are pure: they compare the object before with the object after, drop what the server keeps for
itself, and hide what a Secret holds.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .kinds import Ref

FIELD_MANAGER = "pachops.pachyderm"

Object = dict[str, Any]
Action = Literal["created", "updated", "unchanged", "deleted"]

_SERVER_FIELDS = (
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)
# kubectl keeps the whole last manifest here, a Secret's values included.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SECRETS_IN_JSON = ("private_key", "private_key_id", "client_secret", "refresh_token", "auths")
#: Names of variables whose values may be secrets.
SECRETIVE = re.compile(r"TOKEN|SECRET|PASS|PRIVATE|CRED|KEY", re.IGNORECASE)
_LINE = 16  # characters from which a single line of a secret counts as one
_ALLOCATED = ("clusterIP", "clusterIPs", "healthCheckNodePort")


@dataclass(frozen=True)
class Change:
    """What happened to one object, or would happen in a dry run.

    ``before`` and ``after`` are the whole objects without the server's own fields, None where there is no object; in a
    Secret each value reads ``(hidden, same)`` or ``(hidden, changed)``, and so does a container's variable that is
    called like a secret.
    """

    ref: Ref
    action: Action
    before: Object | None
    after: Object | None

    @property
    def changed(self) -> bool:
        """Whether the object differs (or, in a dry run, would differ) from before."""
        return self.action != "unchanged"

    def diff(self) -> dict[str, Any]:
        """Return one entry for a module's ``diff`` result."""
        return {
            "before_header": f"{self.ref}",
            "after_header": f"{self.ref} ({self.action})",
            "before": self.before or {},
            "after": self.after or {},
        }


def compare(ref: Ref, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Change:
    """Return the change between two states of one object as the API gave them; None means "does not exist"."""
    old, new = clean(before), clean(after)
    action: Action
    if old == new:
        action = "unchanged"
    elif old is None:
        action = "created"
    elif new is None:
        action = "deleted"
    else:
        action = "updated"
    return Change(ref, action, *_hidden(old, new))


def clean(obj: Mapping[str, Any] | None) -> Object | None:
    """Return a copy without status and without the metadata that the server or kubectl keeps."""
    if obj is None:
        return None
    result = {key: copy.deepcopy(value) for key, value in obj.items() if key != "status"}
    metadata = result.get("metadata", {})
    for field in _SERVER_FIELDS:
        metadata.pop(field, None)
    annotations = metadata.get("annotations")
    if annotations is not None:
        annotations.pop(_LAST_APPLIED, None)
        if not annotations:
            del metadata["annotations"]
    return result


def prepare(obj: Mapping[str, Any]) -> Object:
    """Return the manifest as it is sent: a Secret's ``stringData`` becomes ``data``.

    The server records ownership of ``stringData`` under that name, so a key left out later would never be removed.
    """
    result = copy.deepcopy(dict(obj))
    if result.get("kind") == "Secret" and "stringData" in result:
        data = result.setdefault("data", {})
        for key, value in result.pop("stringData").items():
            data[key] = base64.b64encode(value.encode()).decode()
    return result


def without_allocations(
    manifest: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> Object:
    """Return ``after`` of a Service's dry run without the addresses and ports that the server made up for it.

    A dry run allocates them at random, and the real run will choose others.
    """
    result = copy.deepcopy(dict(after))
    if result.get("kind") != "Service":
        return result
    wanted, had, spec = manifest.get("spec", {}), (before or {}).get("spec", {}), result["spec"]
    for field in _ALLOCATED:
        if field not in wanted and field not in had:
            spec.pop(field, None)
    asked = {port.get("port"): port for port in wanted.get("ports", [])}
    held = {port.get("port"): port for port in had.get("ports", [])}
    for port in spec.get("ports", []):
        number = port.get("port")
        if "nodePort" not in asked.get(number, {}) and "nodePort" not in held.get(number, {}):
            port.pop("nodePort", None)
    return result


def data_of(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """Return a Secret's decoded content."""
    return {key: base64.b64decode(value or "") for key, value in (secret.get("data") or {}).items()}


def secret_values(obj: Mapping[str, Any]) -> list[str]:
    """Return every value of a Secret in all its spellings, longest first; an empty list for other kinds."""
    if obj.get("kind") != "Secret":
        return []
    values = {spelling for encoded in (obj.get("data") or {}).values() for spelling in spellings(encoded)}
    return sorted(values, key=len, reverse=True)


def spellings(encoded: str) -> set[str]:
    """Return how a Secret's value may turn up in a text: encoded, plain, line by line, and the secrets inside JSON."""
    try:
        plain = base64.b64decode(encoded).decode().strip()
    except ValueError:
        return {encoded}
    values = {encoded, plain}
    try:
        document = json.loads(plain)
    except ValueError:
        document = None
    if isinstance(document, dict):
        values.update(str(document[name]) for name in _SECRETS_IN_JSON if document.get(name))
    for value in tuple(values):
        if "\n" in value:
            values.add(json.dumps(value)[1:-1])
            values.update(line.strip() for line in value.splitlines() if len(line.strip()) >= _LINE)
    return {value for value in values if value}


def scrub(text: str, values: Iterable[str]) -> str:
    """Return ``text`` with every one of ``values`` replaced; shorter than four characters is no secret but noise."""
    for value in values:
        if len(value) >= 4:
            text = text.replace(value, "(hidden)")
    return text


def _hidden(before: Object | None, after: Object | None) -> tuple[Object | None, Object | None]:
    if (after or before or {}).get("kind") != "Secret":
        variables = _secret_variables(before), _secret_variables(after)
        return _without_variables(before, *variables), _without_variables(after, *variables)
    old, new = (before or {}).get("data") or {}, (after or {}).get("data") or {}

    def shown(obj: Object | None, data: Mapping[str, str]) -> Object | None:
        if obj is None:
            return None
        words = {key: _word(key, old, new) for key in sorted(data)}
        result = {key: value for key, value in obj.items() if key not in ("data", "stringData")}
        return {**result, "data": words} if words else result

    return shown(before, old), shown(after, new)


def _word(key: Any, before: Mapping[Any, str], after: Mapping[Any, str]) -> str:
    return "(hidden, same)" if before.get(key) == after.get(key) else "(hidden, changed)"


def _variables(obj: Object) -> Iterator[tuple[tuple[str, str], Object]]:
    """Yield the variables of a pod template's containers, each with the container's name and its own."""
    template = (obj.get("spec") or {}).get("template") or {}
    for kind in ("initContainers", "containers"):
        for container in (template.get("spec") or {}).get(kind) or ():
            for variable in container.get("env") or ():
                yield (container.get("name", ""), variable.get("name", "")), variable


def _secret_variables(obj: Object | None) -> dict[tuple[str, str], str]:
    return {key: each["value"] for key, each in _variables(obj or {}) if each.get("value") and SECRETIVE.search(key[1])}


def _without_variables(
    obj: Object | None, before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]
) -> Object | None:
    if obj is None or not (before or after):
        return obj
    result = copy.deepcopy(obj)
    for key, variable in _variables(result):
        if variable.get("value") and SECRETIVE.search(key[1]):
            variable["value"] = _word(key, before, after)
    return result
