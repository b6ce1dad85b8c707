# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Whether the images of an installation can be had, answered before anything is deployed.

An image counts as available when an archive that was imported holds it, when every node lists it, or when its registry
has a manifest for it.  Registries are asked in parallel by the distribution API (HEAD /v2/<name>/manifests/<tag>,
tokens as in https://distribution.github.io/distribution/spec/auth/token/), so that a dead one costs seconds and not the
minutes that a pull backs off for.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import ImageError
from ..image_archive import full_name, read

CONNECT_TIMEOUT = 5.0
TOTAL_TIMEOUT = 15.0

THREE_WAYS = (
    "Give a registry that has it (pachyderm_image_registry), a Secret that may pull it (pachyderm_image_pull_secret), "
    "or archives to import (pachyderm_image_archives)."
)

_MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Availability:
    """The answer for one image.

    :param source: ``archive``, ``nodes``, ``registry``, or "" where it cannot be had.
    :param reason: why not, in the registry's words; empty where it can.
    :param definite: the registry itself said no; otherwise it could not be asked from here.
    """

    image: str
    source: str = ""
    reason: str = ""
    definite: bool = False

    @property
    def available(self) -> bool:
        """Whether the image can be had."""
        return bool(self.source)


@dataclass(frozen=True)
class Credentials:
    """User and password for one registry."""

    user: str
    password: str


# requests.request, or a double: (method, url, **options) -> response with status_code, headers and json().
Send = Callable[..., Any]


def archive_images(archives: Iterable[str]) -> set[str]:
    """Return the full names of all images in ``archives``.

    :raises ImageError: an archive is missing or cannot be read.
    """
    return {name for path in archives for image in read(path) for name in image.names}


def node_images(nodes: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the full names of the images that every schedulable node lists.

    A kubelet lists its 50 largest images only (``nodeStatusMaxImages``): what is missing here may still be there.
    """
    listed: list[set[str]] = []
    for node in nodes:
        if node.get("spec", {}).get("unschedulable"):
            continue
        names: set[str] = set()
        for image in node.get("status", {}).get("images") or []:
            for name in image.get("names") or []:
                try:
                    names.add(full_name(name))
                except ImageError:
                    continue
        listed.append(names)
    return set.intersection(*listed) if listed else set()


def pull_credentials(secret: Mapping[str, Any]) -> dict[str, Credentials]:
    """Return registry host to credentials of a ``kubernetes.io/dockerconfigjson`` Secret.

    :raises ImageError: the Secret has another type or cannot be decoded; its content is not part of the message.
    """
    where = f"Secret {secret['metadata'].get('namespace')}/{secret['metadata']['name']}"
    encoded = (secret.get("data") or {}).get(".dockerconfigjson", "")
    try:
        entries = json.loads(base64.b64decode(encoded))["auths"]
        return {_registry_host(name): _credentials(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise ImageError(
            "this Secret cannot be used to pull images",
            where=where,
            why="it is not of type kubernetes.io/dockerconfigjson, or its content is damaged",
            fix="Create it with `kubectl create secret docker-registry`.",
        ) from None


def _credentials(entry: Mapping[str, str]) -> Credentials:
    if entry.get("auth"):
        user, _colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return Credentials(user, password)
    return Credentials(entry["username"], entry["password"])


def _registry_host(name: str) -> str:
    host = name.partition("://")[2] or name
    host = host.partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def check(
    images: Sequence[str],
    *,
    present: Iterable[str] = (),
    imported: Iterable[str] = (),
    credentials: Mapping[str, Credentials] | None = None,
    send: Send | None = None,
    timeout: float = TOTAL_TIMEOUT,
) -> list[Availability]:
    """Return one answer per image, in order, after at most ``timeout`` seconds.

    :param images: full names.
    :param present: names that the nodes list; ``imported`` those that imported archives hold.
    :param credentials: registry host to credentials.
    """
    present, imported = set(present), set(imported)
    answers: dict[str, Availability] = {}
    threads: list[threading.Thread] = []
    deadline = time.monotonic() + timeout

    def ask(image: str) -> None:
        answers[image] = ask_registry(image, credentials or {}, send or _requests())

    for image in dict.fromkeys(images):
        if _spellings(image) & imported:
            answers[image] = Availability(image, "archive")
        elif _spellings(image) & present:
            answers[image] = Availability(image, "nodes")
        else:
            # Daemons: a name server that never answers must not hold the process at its end.
            threads.append(threading.Thread(target=ask, args=(image,), daemon=True))
            threads[-1].start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = f"its registry gave no answer within {timeout:.0f} s"
    return [answers.get(image) or Availability(image, reason=silent) for image in images]


def _spellings(image: str) -> set[str]:
    """Return the names under which a node may list ``image``: one with tag and digest is listed by each alone."""
    name, at, digest = image.partition("@")
    if not at:
        return {image}
    head, _colon, tag = name.rpartition(":")
    return {image, f"{head if head and '/' not in tag else name}@{digest}"}


def ask_registry(image: str, credentials: Mapping[str, Credentials], send: Send) -> Availability:
    """Ask the registry of ``image`` for its manifest."""
    registry, _slash, rest = image.partition("/")
    name, _at, digest = rest.partition("@")
    path, _colon, tag = name.partition(":")
    login = credentials.get(registry)
    url = f"{_base_url(registry)}/v2/{path}/manifests/{digest or tag}"
    try:
        response = _head(send, url, {"Accept": _MANIFEST_TYPES})
        if response.status_code == 401:
            authorization = _authorization(send, response, path, login, registry)
            response = _head(send, url, {"Accept": _MANIFEST_TYPES, "Authorization": authorization})
    except (OSError, ValueError) as error:
        # requests' exceptions are OSErrors; ValueError is an answer that no registry would give.
        return Availability(image, reason=f"{registry} cannot be reached from here: {_cause(error)}")
    status = response.status_code
    if status == 200:
        return Availability(image, "registry")
    if status == 404:
        return Availability(image, reason=f"{registry} does not have it", definite=True)
    if status in (401, 403):
        reason = "refuses the credentials of the pull secret" if login else "asks for credentials"
        return Availability(image, reason=f"{registry} {reason} for it (HTTP {status})", definite=True)
    if status == 429:
        return Availability(image, reason=f"{registry} limits the rate of pulls from this address (HTTP 429)")
    return Availability(image, reason=f"{registry} answered HTTP {status}")


def _authorization(send: Send, response: Any, path: str, login: Credentials | None, registry: str) -> str:
    challenge = response.headers.get("WWW-Authenticate", "")
    scheme = challenge.partition(" ")[0].lower()
    headers = {}
    if login:
        pair = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    if scheme == "basic":
        return headers.get("Authorization", "")
    fields = dict(_CHALLENGE.findall(challenge))
    realm = fields.get("realm", "")
    if urlsplit(realm).scheme != "https" and not _loopback(registry):
        raise ValueError(f"it names {realm or 'nothing'} as the place to get a token, which is not https")
    query = {"scope": fields.get("scope", f"repository:{path}:pull")}
    if "service" in fields:
        query["service"] = fields["service"]
    token = send("GET", realm, params=query, headers=headers, timeout=CONNECT_TIMEOUT)
    if token.status_code != 200:
        return ""
    body = token.json()
    return f"Bearer {body.get('token') or body.get('access_token') or ''}"


def _head(send: Send, url: str, headers: Mapping[str, str]) -> Any:
    # HEAD: Docker Hub counts a GET of a manifest as a pull.
    return send("HEAD", url, headers=headers, timeout=CONNECT_TIMEOUT, allow_redirects=True)


def _base_url(registry: str) -> str:
    if registry == "docker.io":
        return "https://registry-1.docker.io"
    # The rule of containerd: plain HTTP only towards this very host.
    return f"{'http' if _loopback(registry) else 'https'}://{registry}"


def _loopback(registry: str) -> bool:
    host = registry.rpartition(":")[0] or registry
    return host == "localhost" or host.startswith("127.") or host == "[::1]"


def _cause(error: BaseException) -> str:
    """Return the innermost reason, without the objects' addresses that urllib3 puts into its messages."""
    text = str(error)
    for pattern in (r"\[Errno -?\d+\] ([^'\")]+)", r"(certificate verify failed[^'\")]*)", r"(timed out)"):
        match = re.search(pattern, text)
        if match:
            return match[1].strip().lower()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _requests() -> Send:
    import requests

    return requests.request
