# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Stores as users name them: ``/srv/backups``, ``s3://bucket/prefix``, ``gs://bucket/prefix``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .base import Below, Store
from .directory import DirectoryStore
from .gcs import HOST as GCS_HOST
from .gcs import GcsStore
from .s3 import S3Options, S3Store

_BUCKET = re.compile(r"(s3|gs)://([a-z0-9][a-z0-9._-]+)(?:/(.*))?")
_PART_SIZE = 6 << 20  # bytes: four workers keep as many parts in memory


@dataclass(frozen=True)
class Access:
    """How to reach a store in a bucket; everything may be empty.

    :param endpoint: the address of an S3-compatible service, or of a stand-in for Google Cloud Storage.
    :param access_key: and the two below: for S3; without them the SDK's chain of credentials is used.
    :param credentials_file: a Google service account's key file; without it the environment is asked.
    :param ca_file: CA certificates to trust instead of the system's.
    """

    region: str = ""
    endpoint: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    credentials_file: str = ""
    ca_file: str = ""


#: The options of a module that uses a store; ``access_of`` makes an Access of the second one.
STORE_ARGUMENT_SPEC: Mapping[str, Any] = {
    "store": {"type": "str", "required": True},
    "store_access": {
        "type": "dict",
        "default": {},
        "options": {
            "region": {"type": "str", "default": ""},
            "endpoint": {"type": "str", "default": ""},
            "access_key": {"type": "str", "default": "", "no_log": True},
            "secret_key": {"type": "str", "default": "", "no_log": True},
            "session_token": {"type": "str", "default": "", "no_log": True},
            "credentials_file": {"type": "path", "default": ""},
            "ca_file": {"type": "path", "default": ""},
        },
    },
}


def access_of(options: Mapping[str, Any] | None) -> Access:
    """Return the access that a module's ``store_access`` describes."""
    return Access(**{name: value or "" for name, value in (options or {}).items()})


def open_location(location: str, access: Access | None = None) -> Store:
    """Return the store that ``location`` names; its keys begin below the prefix, and its files are private.

    Nothing is asked yet, so that a wrong bucket is an error of the first use.

    :raises InputError: when ``location`` is of no known form, or a directory that is not absolute.
    """
    access = access or Access()
    if "://" not in location:
        path = Path(location).expanduser()
        if not path.is_absolute():
            raise InputError(
                "the store is no absolute path", where=location, fix="Give /a/directory, s3://bucket or gs://bucket."
            )
        return DirectoryStore(path, private=True)
    match = _BUCKET.fullmatch(location)
    if not match:
        raise InputError(
            "not a store's address", where=location, fix="Give /a/directory, s3://bucket/prefix or gs://bucket/prefix."
        )
    kind, bucket, prefix = match.groups()
    verify: bool | str = access.ca_file or True
    store: Store
    if kind == "s3":
        store = S3Store(
            S3Options(
                bucket=bucket,
                region=access.region,
                endpoint=access.endpoint,
                access_key=access.access_key,
                secret_key=access.secret_key,
                session_token=access.session_token,
                verify=verify,
                retries=6,
                timeout=60.0,
                part_size=_PART_SIZE,
            )
        )
    else:
        store = GcsStore(bucket, access.credentials_file, verify, access.endpoint or GCS_HOST, chain=True)
    prefix = (prefix or "").strip("/")
    return Below(store, f"{prefix}/") if prefix else store
