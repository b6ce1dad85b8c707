# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Single files into a repo and out of it, compared by content."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, PachdError
from ..kube.client import Kube
from ..progress import Progress
from ..replacing import Replacement, mode_of, replacing
from .acceptance import ready_pod
from .client import CHUNK, Pachd

PEER_PORT = 653
"""Port inside the pod that answers the same calls as the outer one, and never speaks TLS, whose certificate would not
name a local port (src/server/cmd/pachd/main.go upstream)."""


@dataclass(frozen=True)
class Content:
    """SHA-256 in hexadecimal digits, and size in bytes."""

    checksum: str
    size: int


@contextlib.contextmanager
def connected(kube: Kube, namespace: str, token: str = "") -> Iterator[Pachd]:
    """Yield a connection to the namespace's pachd.

    :raises PachdError: there is no ready pachd.
    """
    pod = ready_pod(kube, namespace)["metadata"]["name"]
    with kube.portforward(namespace, pod, PEER_PORT) as address, Pachd(*address, token=token) as pachd:
        yield pachd


def local(path: Path) -> Content:
    """Return the content of a file on this host.

    :raises InputError: it cannot be read.
    """
    try:
        with path.open("rb") as source:
            return _content(iter(lambda: source.read(CHUNK), b""))
    except OSError as error:
        raise InputError("the file cannot be read", where=str(path), why=error.strerror or str(error)) from None


def remote(pachd: Pachd, repo: str, commit: str, path: str) -> Content | None:
    """Return the content of a file in a commit or at a branch's head, None where it does not exist."""
    try:
        return _content(pachd.get_file(repo, commit, path))
    except PachdError as error:
        if _missing(error):
            return None
        raise


def copy_in(pachd: Pachd, source: Path, repo: str, branch: str, path: str, *, write: bool) -> tuple[Content, bool]:
    """Bring a file into a repo, and return its content and whether that changed (or would change) anything.

    :param write: False only compares.  A repo that does not exist is made.
    """
    wanted = local(source)
    exists = repo in pachd.repos()
    if exists and remote(pachd, repo, branch, path) == wanted:
        return wanted, False
    if write:
        if not exists:
            pachd.create_repo(repo)
        with source.open("rb") as content:
            pachd.put_file(repo, branch, path, content)
    return wanted, True


def copy_out(
    pachd: Pachd, repo: str, commit: str, path: str, destination: Path, progress: Progress, *, write: bool
) -> tuple[Content, bool]:
    """Bring a file out of a repo, and return its content and whether the destination changed (or would change).

    The destination is replaced in one step, so that nobody reads half a file.

    :raises PachdError: the file does not exist there.
    """
    folder = destination.parent
    if not folder.is_dir():
        raise InputError("the directory does not exist", where=str(folder), fix="Create it first.")
    with replacing(destination, mode_of(destination)) as target:
        found = _content(pachd.get_file(repo, commit, path), target, progress)
        changed = not destination.is_file() or local(destination) != found
        target.wanted = changed and write
    return found, changed


def _content(chunks: Iterable[bytes], target: Replacement | None = None, progress: Progress | None = None) -> Content:
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
        if progress is not None:
            progress.update(done=size, unit="B")
    return Content(digest.hexdigest(), size)


def _missing(error: PachdError) -> bool:
    return "not found" in error.why or "has no head" in error.why
