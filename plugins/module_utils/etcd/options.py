# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What the modules that talk to etcd have in common: certificates and users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .client import Login, Tls

#: For :func:`tls_of` and :func:`login_of`.
LOGIN_ARGUMENT_SPEC: Mapping[str, Any] = {
    "ca_file": {"type": "path", "default": ""},
    "cert_file": {"type": "path", "default": ""},
    "key_file": {"type": "path", "default": "", "no_log": False},
    "server_name": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
}


def tls_of(options: Mapping[str, Any]) -> Tls | None:
    """Return the certificates that a module's options name; None where they name none."""
    given = {key: options.get(key) or "" for key in ("ca_file", "cert_file", "key_file", "server_name")}
    return Tls(**given) if any(given.values()) else None


def login_of(options: Mapping[str, Any]) -> Login | None:
    """Return the user of etcd that a module's options name, if they do."""
    return Login(options["user"], options.get("password") or "") if options.get("user") else None
