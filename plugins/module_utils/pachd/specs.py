# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Specifications of pipelines: read, judged before anything is sent, and compared with what runs.

A specification is a ``pps.CreatePipelineRequest`` in JSON or YAML, with the names of pps.proto or their camel-case
form, as pachctl reads it.  pachd keeps a ``pps.PipelineInfo``, which repeats its fields and fills in defaults; these
are those of ``setPipelineDefaults`` and ``setInputDefaults`` in ``src/server/pps/server/api_server.go`` of v1.13.4.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import durations
from .client import Pachd
from .shown import COMPOUND, Data, visit

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_KINDS = ("pfs", *COMPOUND, "cron", "git")
#: What a request says of itself and not of the pipeline.
_OF_THE_CALL = ("update", "reprocess", "spec_commit")
_DEFAULTS: Data = {
    "output_branch": "master",
    "cache_size": "64M",
    "max_queue_size": "1",
    "datum_tries": "3",
    "reprocess_spec": "until_success",
    "parallelism_spec": {"constant": "1"},
}
_REPROCESS = ("", "until_success", "every_job")
_FIX = "See the pipeline specification of Pachyderm 1.13; nothing was sent."


def load(path: Path, name: str = "") -> Data:
    """Return the specification in a file, JSON or YAML, of one pipeline or of several.

    :param name: which of several it is to be.
    :raises InputError: the file cannot be read, or does not hold it.
    """
    try:
        import yaml

        text = path.read_text()
        # pachctl reads JSON objects one after the other, which is no YAML.
        found = list(_json(text) if text.lstrip().startswith("{") else yaml.safe_load_all(text))
    except OSError as error:
        raise InputError("the file cannot be read", where=str(path), why=error.strerror or str(error)) from None
    except (ValueError, yaml.YAMLError) as error:
        raise InputError("the file is neither JSON nor YAML", where=str(path), why=str(error)) from None
    specs = [each for document in found for each in (document if isinstance(document, list) else [document]) if each]
    if not all(isinstance(each, dict) for each in specs):
        raise InputError("the file holds something else than specifications", where=str(path), fix=_FIX)
    names = [str((each.get("pipeline") or {}).get("name", "")) for each in specs]
    chosen = [each for each, own in zip(specs, names, strict=True) if name in ("", own)]
    if len(chosen) != 1:
        why = f"it holds {len(specs)}: {', '.join(names)}" if specs else "it holds none"
        raise InputError("not one pipeline", where=str(path), why=why, fix="Say which one is meant as name.")
    return dict(chosen[0])


def _json(text: str) -> Iterator[Any]:
    decoder, position = json.JSONDecoder(), 0
    while (position := len(text) - len(text[position:].lstrip())) < len(text):
        found, position = decoder.raw_decode(text, position)
        yield found


def parse(pachd: Pachd, spec: Mapping[str, Any]) -> Any:
    """Return the ``CreatePipelineRequest`` that a specification describes.

    :raises InputError: with everything that is wrong with it, unless that needs pachd to be seen.
    """
    from google.protobuf import json_format

    request = pachd.pps_pb2.CreatePipelineRequest()
    wrong: list[str] = []
    plain = _checked(request.DESCRIPTOR, spec, "", wrong)
    if not wrong:
        try:
            json_format.ParseDict(plain, request)
        except json_format.ParseError as error:
            wrong.append(str(error))
    if not wrong:
        wrong = list(_judged(request))
    if wrong:
        name = (spec.get("pipeline") or {}).get("name", "") if isinstance(spec.get("pipeline"), Mapping) else ""
        raise InputError(
            "the specification cannot be one of a pipeline",
            where=f"pipeline {name}" if name else "",
            why="; ".join(wrong),
            fix=_FIX,
        )
    return request


def repos_of(request: Any) -> list[str]:
    """Return the repos that a pipeline reads; those of its ticks and of Git are made with it."""
    return sorted({each.pfs.repo for each in visit(request.input) if each.HasField("pfs")})


def normal(pachd: Pachd, message: Any, *, salted: bool = False) -> Data:
    """Return a specification, wanted (a request) or running (a ``PipelineInfo``), in one form with defaults filled in.

    :param salted: whether to keep the salt and the start of ticks, which pachd chooses where none is given.
    """
    from google.protobuf import json_format

    request = pachd.pps_pb2.CreatePipelineRequest()
    for field in request.DESCRIPTOR.fields:
        # Both messages use the same names and types for what a specification says.
        if field.name in _OF_THE_CALL or field.name not in message.DESCRIPTOR.fields_by_name:
            continue
        if field.label == field.LABEL_REPEATED:
            getattr(request, field.name).extend(getattr(message, field.name))
        elif field.message_type is None:
            setattr(request, field.name, getattr(message, field.name))
        elif message.HasField(field.name):
            getattr(request, field.name).CopyFrom(getattr(message, field.name))
    _fill(request)
    found: Data = json_format.MessageToDict(request, preserving_proto_field_name=True)
    if not salted:
        found.pop("salt", None)
    tidy: Data = _tidy(found)
    return {**_DEFAULTS, **tidy}


def starts(message: Any) -> list[Any]:
    """Return the ticks of an input, in the order in which they are visited."""
    return [each.cron for each in visit(message.input) if each.HasField("cron")]


def _fill(request: Any) -> None:
    name = request.pipeline.name
    request.transform.image = request.transform.image or "ubuntu:16.04"
    for service in (request.service, request.spout.service):
        if service.ByteSize():
            service.type = service.type or "NodePort"
    triggers: dict[str, int] = {}
    if not request.HasField("input"):
        return
    for each in visit(request.input):
        if each.HasField("pfs"):
            pfs = each.pfs
            if not pfs.branch and pfs.HasField("trigger"):
                triggers[pfs.repo] = triggers.get(pfs.repo, 0) + 1
                pfs.branch = f"{name}-trigger-{triggers[pfs.repo]}"
                pfs.trigger.branch = pfs.trigger.branch or "master"
            pfs.branch, pfs.name = pfs.branch or "master", pfs.name or pfs.repo
            pfs.ClearField("commit")
        elif each.HasField("cron"):
            each.cron.repo = each.cron.repo or f"{name}_{each.cron.name}"
            each.cron.ClearField("commit")
        elif each.HasField("git"):
            each.git.branch = each.git.branch or "master"
            each.git.name = each.git.name or each.git.url.rpartition("/")[2].partition(".")[0]
            each.git.ClearField("commit")
    for each in visit(request.input):
        for kind in COMPOUND:
            parts = getattr(each, kind)
            copies = [type(part).FromString(part.SerializeToString()) for part in sorted(parts, key=_input_name)]
            del parts[:]
            parts.extend(copies)


def _input_name(message: Any) -> str:
    """Return what pachd sorts inputs by (``InputName`` in ``src/client/pps/util.go``)."""
    if message.HasField("pfs"):
        return str(message.pfs.name)
    for kind in COMPOUND:
        for each in getattr(message, kind):
            return _input_name(each)
    return ""


def _tidy(value: Any) -> Any:
    """Leave out mappings that say nothing: an empty message and none are the same to pachd."""
    if isinstance(value, dict):
        tidy = {key: _tidy(each) for key, each in value.items()}
        return {key: each for key, each in tidy.items() if each != {}}
    return [_tidy(each) for each in value] if isinstance(value, list) else value


# What can be wrong with a specification


def _checked(descriptor: Any, value: Any, path: str, wrong: list[str]) -> Any:
    """Return ``value`` as protobuf's JSON form wants it, and note unknown fields and values of a wrong type."""
    if not isinstance(value, Mapping):
        wrong.append(f"{path or 'the specification'} has to be a mapping, not {_kind(value)}")
        return {}
    fields = {field.name: field for field in descriptor.fields}
    spelled = {**{field.json_name: field for field in descriptor.fields}, **fields}
    plain = {}
    for key, each in value.items():
        field, where = spelled.get(str(key)), f"{path}.{key}" if path else str(key)
        if field is None:
            near = difflib.get_close_matches(str(key), fields, 1)
            wrong.append(f"{where} is not known" + (f" (is {near[0]} meant?)" if near else ""))
        elif each is not None:
            plain[field.name] = _field(field, each, where, wrong)
    return plain


def _field(field: Any, value: Any, where: str, wrong: list[str]) -> Any:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            wrong.append(f"{where} has to be a mapping, not {_kind(value)}")
            return {}
        inner = message.fields_by_name["value"]
        return {str(key): _single(inner, each, f"{where}.{key}", wrong) for key, each in value.items()}
    if field.label == field.LABEL_REPEATED:
        if not isinstance(value, Sequence) or isinstance(value, str):
            wrong.append(f"{where} has to be a list, not {_kind(value)}")
            return []
        return [_single(field, each, f"{where}[{number}]", wrong) for number, each in enumerate(value)]
    return _single(field, value, where, wrong)


def _single(field: Any, value: Any, where: str, wrong: list[str]) -> Any:
    message = field.message_type
    if message is not None:
        if message.full_name == "google.protobuf.Duration":
            return _duration(value, where, wrong)
        if message.full_name == "google.protobuf.Timestamp":
            return value.isoformat() if hasattr(value, "isoformat") else value
        return _checked(message, value, where, wrong)
    kinds: dict[int, tuple[tuple[type, ...], str]] = {
        field.CPPTYPE_STRING: ((str,), "a string"),
        field.CPPTYPE_BOOL: ((bool,), "true or false"),
        field.CPPTYPE_FLOAT: ((int, float), "a number"),
        field.CPPTYPE_DOUBLE: ((int, float), "a number"),
    }
    kind, name = kinds.get(field.cpp_type, ((int,), "a whole number"))
    fits = isinstance(value, kind) and isinstance(value, bool) == (kind == (bool,))
    # Protobuf's JSON form writes numbers of 64 bits as strings.
    fits = fits or (kind == (int,) and isinstance(value, str) and value.lstrip("-").isdecimal())
    if not fits:
        hint = ", in quotes" if kind == (str,) and not isinstance(value, (Mapping, list)) else ""
        wrong.append(f"{where} has to be {name}{hint}, not {_kind(value)}")
    return value


def _duration(value: Any, where: str, wrong: list[str]) -> str:
    length = durations.seconds(value) if isinstance(value, str) else None
    if length is not None:
        return f"{length:.3f}".rstrip("0").rstrip(".") + "s"
    wrong.append(f"{where} has to be a duration such as 90s or 1h30m, not {_kind(value)}")
    return "0s"


def _kind(value: Any) -> str:
    names: dict[Any, str] = {
        Mapping: "a mapping",
        list: "a list",
        bool: "true or false",
        str: "a string",
        int: "a number",
    }
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__)


def _judged(request: Any) -> Iterator[str]:
    """Yield what pachd would refuse, or accept and then fail at."""
    name = request.pipeline.name
    if not _NAME.fullmatch(name):
        yield (
            "pipeline.name is missing"
            if not name
            else f"pipeline.name {name!r}: letters, digits, _ and - only, at most 63, a letter or digit first"
        )
    if request.HasField("tf_job"):
        yield "tf_job is not supported by Pachyderm"
    transform = request.transform
    if not transform.cmd and not request.HasField("spout"):
        yield "transform.cmd is missing" + (": stdin needs a command that reads it" if transform.stdin else "")
    if not (transform.image or transform.dockerfile or transform.build.ByteSize()):
        yield "transform.image is missing"
    if request.reprocess_spec not in _REPROCESS:
        yield "reprocess_spec is until_success or every_job"
    for key in ("pod_spec", "pod_patch"):
        try:
            json.loads(getattr(request, key) or "null")
        except ValueError as error:
            yield f"{key} is not JSON: {error}"
    if request.HasField("input"):
        yield from _judged_input(request.input, "input")
        yield from _names(request.input, set())
    elif not request.HasField("spout"):
        yield "input is missing"


def _judged_input(message: Any, path: str) -> Iterator[str]:
    kinds = [kind for kind in _KINDS if _has(message, kind)]
    if len(kinds) != 1:
        yield f"{path} has to have exactly one of {', '.join(_KINDS)}" + (
            f", not {' and '.join(kinds)}" if kinds else ""
        )
        return
    kind = kinds[0]
    where, part = f"{path}.{kind}", getattr(message, kind)
    if kind in COMPOUND:
        for number, each in enumerate(part):
            yield from _judged_input(each, f"{where}[{number}]")
    elif kind == "pfs":
        if not part.repo:
            yield f"{where}.repo is missing"
        if not part.glob and not part.s3:
            yield f"{where}.glob is missing"
        if part.s3 and part.glob != "/":
            yield f"{where}.glob has to be / with s3"
        if (part.name or part.repo) == "out":
            yield f"{where}.name cannot be out, where jobs write"
    elif kind == "cron":
        yield from (f"{where}.{key} is missing" for key in ("name", "spec") if not getattr(part, key))
    elif not part.url:
        yield f"{where}.url is missing"


def _has(message: Any, kind: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name[kind]
    return bool(getattr(message, kind)) if field.label == field.LABEL_REPEATED else message.HasField(kind)


def _names(message: Any, taken: set[str]) -> Iterator[str]:
    """Yield names that are used twice; the parts of a union never meet."""
    if message.HasField("pfs"):
        name = message.pfs.name or message.pfs.repo
        if name in taken:
            yield f"two inputs are called {name}: give one a name of its own"
        taken.add(name)
    for kind in ("cross", "join", "group"):
        for each in getattr(message, kind):
            yield from _names(each, taken)
    separate = [set(taken) for _unused in message.union]
    for each, own in zip(message.union, separate, strict=True):
        yield from _names(each, own)
    taken.update(*separate)
