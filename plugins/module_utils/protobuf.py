# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Protocol buffer messages declared in Python, without generated files.

Generated files tie a collection to one version of the protobuf library; a declaration works with all of 3.20 to 6.x.
Every declaration lives in a descriptor pool of its own, so it never collides with another library's copy of a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union

from .errors import InputError

#: One field: name, number, type; a type is a scalar's name, another message of the same declaration, or either of these
#: after "repeated ".  A fourth item names the oneof that the field belongs to.
Field = Union[tuple[str, int, str], tuple[str, int, str, str]]  # noqa: UP007 pylint takes the other form for an error

_SCALARS = {"double": 1, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}
_OPTIONAL, _REPEATED, _MESSAGE = 1, 3, 11


def declare(package: str, messages: Mapping[str, Sequence[Field]]) -> dict[str, Any]:
    """Return the message class of every declared message, by name.

    Enumerations are declared as ``int32``, which has the same form on the wire.

    :param package: the package that the messages belong to, as in the ``.proto`` file.
    :raises InputError: when the protobuf library is missing.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise InputError(
            "the Python library protobuf is missing", why=str(error), fix="Install the collection's requirements.txt."
        ) from error
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        oneofs: list[str] = []
        for field in fields:
            kind = field[2].removeprefix("repeated ")
            added = message.field.add(
                name=field[0], number=field[1], label=_REPEATED if field[2].startswith("repeated ") else _OPTIONAL
            )
            if kind in _SCALARS:
                added.type = _SCALARS[kind]  # type: ignore[assignment]  # the numbers that the stubs wrap
            else:
                added.type = _MESSAGE  # type: ignore[assignment]
                added.type_name = f".{package}.{kind}"
            if len(field) == 4:
                if field[3] not in oneofs:
                    oneofs.append(field[3])
                    message.oneof_decl.add(name=field[3])
                added.oneof_index = oneofs.index(field[3])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptors = {name: pool.FindMessageTypeByName(f"{package}.{name}") for name in messages}
    if hasattr(message_factory, "GetMessageClass"):
        return {name: message_factory.GetMessageClass(each) for name, each in descriptors.items()}
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(each) for name, each in descriptors.items()}


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number that stands at ``position`` of an encoded message, and the position behind it.

    :raises IndexError: when the message ends in it.
    :raises ValueError: when it has more than the ten bytes that 64 bits need.
    """
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than ten bytes")
