# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""pachctl's configuration: one context in it, and nothing else.

The file is JSON; its shape is ``src/client/pkg/config/config.proto`` of v1.13.4.  What is not of the context is carried
over as it was, unknown fields included.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..replacing import PRIVATE, mode_of, replacing

Config = dict[str, Any]

# grpcutil.ParsePachdAddress of v1.13.4; pachctl writes the port into an address that has none.
_ADDRESS = re.compile(r"(grpcs?)://([^/:\s]+|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?")
DEFAULT_PORT = 30650
# Of a context, what no diff may show.
_SECRET = ("session_token",)


@dataclass(frozen=True)
class Context:
    """A context as it is to be.

    :param address: ``grpc://host:port``, or ``grpcs://`` for TLS.
    :param deployment_id: CLUSTER_DEPLOYMENT_ID of the pachd behind it; empty lets pachctl fill it in.
    :param server_cas: certificates in PEM to trust besides the system's; for TLS only.
    :param namespace: Kubernetes namespace, for the commands of pachctl that use it; empty leaves it.
    """

    address: str
    deployment_id: str = ""
    server_cas: str = ""
    namespace: str = ""

    def checked(self) -> Context:
        """Return it with its address in full.

        :raises InputError: an address that pachctl would not take, or certificates without TLS.
        """
        match = _ADDRESS.fullmatch(self.address)
        if match is None or int(match[3] or DEFAULT_PORT) > 65535:
            raise InputError(
                "this is no address of a pachd",
                where=f"address={self.address}",
                why="it has the form grpc://host:port, or grpcs://host:port for TLS",
                fix="Correct it; nothing was changed.",
            )
        if self.server_cas and match[1] != "grpcs":
            raise InputError(
                "certificates are given for an address without TLS",
                where=f"address={self.address}",
                why="pachctl refuses such a context",
                fix="Write grpcs:// in front of it, or leave the certificates out.",
            )
        full = f"{match[1]}://{match[2]}:{match[3] or DEFAULT_PORT}"
        return Context(full, self.deployment_id, self.server_cas, self.namespace)

    def applied_to(self, old: Mapping[str, Any]) -> Config:
        """Return the context ``old`` with what this one says; a session and a transaction stay."""
        new = {key: value for key, value in old.items() if key != "port_forwarders"}
        new["pachd_address"] = self.address
        wanted = {
            "cluster_deployment_id": self.deployment_id,
            "server_cas": base64.b64encode(self.server_cas.encode()).decode(),
            "namespace": self.namespace,
        }
        new |= {key: value for key, value in wanted.items() if value}
        if old.get("cluster_deployment_id") and self.deployment_id not in ("", old["cluster_deployment_id"]):
            # A session belongs to one installation.
            new.pop("session_token", None)
            new.pop("active_transaction", None)
        if not self.address.startswith("grpcs:"):
            new.pop("server_cas", None)
        return new


def default_path() -> Path:
    """Return the file that pachctl uses on this host."""
    return Path(os.environ.get("PACH_CONFIG") or "~/.pachyderm/config.json").expanduser()


def read(path: Path) -> Config:
    """Return the configuration; empty where there is no file.

    :raises InputError: it cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = f"{error.strerror}" if isinstance(error, OSError) else "it is no JSON"
        raise _unusable(path, str(why)) from None
    contexts = (content.get("v2") or {}).get("contexts") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(contexts or {}, dict):
        raise _unusable(path, "it has not the form of pachctl's configuration")
    return content


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        "pachctl's configuration cannot be used",
        where=str(path),
        why=why,
        fix="Mend it, or move it away: pachctl writes a new one. Nothing was changed.",
    )


def with_context(config: Mapping[str, Any], name: str, context: Context, *, activate: bool) -> Config:
    """Return the configuration with the context; ``activate`` makes it the one that pachctl uses."""
    new = _with_version_2(config)
    contexts = new["v2"]["contexts"]
    contexts[name] = context.applied_to(contexts.get(name) or {})
    if activate:
        new["v2"]["active_context"] = name
    return new


def without_context(config: Mapping[str, Any], name: str) -> Config:
    """Return the configuration without the context; where pachctl used it, it uses none."""
    if name not in ((config.get("v2") or {}).get("contexts") or {}):
        return copy.deepcopy(dict(config))
    new = _with_version_2(config)
    del new["v2"]["contexts"][name]
    if new["v2"].get("active_context") == name:
        new["v2"]["active_context"] = ""
    return new


def _with_version_2(config: Mapping[str, Any]) -> Config:
    """Return a copy that has contexts, made as pachctl makes it of what older versions wrote."""
    new: Config = copy.deepcopy(dict(config))
    new.setdefault("user_id", str(uuid.uuid4()))
    if not isinstance(new.get("v2"), dict):
        new["v2"] = {"active_context": "", "contexts": {}, "metrics": False}
        old = new.pop("v1", None)
        if old:
            new["v2"] = {"active_context": "default", "contexts": {"default": {"source": 1, **old}}, "metrics": True}
    new["v2"]["contexts"] = new["v2"].get("contexts") or {}
    return new


def write(path: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration as pachctl does, replacing the file at once; only its owner may read a new one."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, mode_of(target, PRIVATE)) as new:
        new.write(json.dumps(config, indent=2).encode())


def shown(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a diff shows of the configuration: the one context, without secrets, and which is active."""
    version_2 = config.get("v2") or {}
    context = dict((version_2.get("contexts") or {}).get(name) or {})
    context |= {key: "(hidden)" for key in _SECRET if context.get(key)}
    return {"active_context": version_2.get("active_context", ""), "context": context}
