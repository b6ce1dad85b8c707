# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Files and trees into a repo and out of it, compared by content, written in one commit.

A file that was written in one go is recorded with a hash that follows from its content, so that most files are compared
without reading them; the others, and what jobs wrote, are read.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, PachdError
from ..progress import Progress
from ..replacing import Replacement, mode_of, replacing
from . import branches, repos
from .client import CHUNK, NotThere, Pachd, chunks

#: Content of more than this becomes several objects (``ChunkSize`` in ``src/client/pfs/pfs.go`` of v1.13.4).
_OBJECT = 512 << 20
_FILE = 1  # pfs.FileType.FILE


@dataclass(frozen=True)
class Content:
    """SHA-256 in hexadecimal digits, and size in bytes.

    :param recorded: the hashes under which Pachyderm may know this content.
    """

    checksum: str
    size: int
    recorded: tuple[bytes, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Result:
    """What was done to files, or would be.

    :param files: per file ``path``, ``checksum``, ``size`` and ``state``, which is one of ``created``, ``changed``,
        ``same`` and ``removed``.
    :param commit: id of the commit that has them; empty where there is none.
    """

    files: Sequence[Mapping[str, Any]]
    commit: str = ""

    @property
    def changed(self) -> bool:
        """Whether any file is not the same."""
        return any(each["state"] != "same" for each in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files that are there."""
        return sum(each["size"] for each in self.files if each["state"] != "removed")

    def diff(self) -> dict[str, Any]:
        """Return what Ansible shows: paths and checksums, never content."""
        before = {each["path"]: each["before"] for each in self.files if each["state"] in ("changed", "removed")}
        after = {each["path"]: each["checksum"] for each in self.files if each["state"] in ("changed", "created")}
        return {"before": before, "after": after}


@dataclass(frozen=True)
class Target:
    """Where files go to.

    :param append: add the content behind what is there instead of replacing it.
    :param purge: remove files below ``path`` that the source does not have.
    """

    repo: str
    branch: str
    path: str
    append: bool = False
    purge: bool = False

    def __str__(self) -> str:
        return f"{self.repo}@{self.branch}:{self.path}"


def local(path: Path) -> Content:
    """Return the content of a file on this host.

    :raises InputError: it cannot be read.
    """
    try:
        with path.open("rb") as source:
            return _content(chunks(source))
    except OSError as error:
        raise InputError("the file cannot be read", where=str(path), why=error.strerror or str(error)) from None


def remote(pachd: Pachd, repo: str, commit: str, path: str) -> Content | None:
    """Return the content of a file in a commit or at a branch's head, None where it does not exist."""
    try:
        return _content(pachd.get_file(repo, commit, path))
    except NotThere:
        return None


def put(pachd: Pachd, source: Path | bytes, target: Target, progress: Progress, *, write: bool) -> Result:
    """Bring a file, or the files below a directory, into a repo in one commit.

    :param source: a path, or the content itself.
    :param write: False only compares.  A repo that does not exist is made.
    :raises InputError: the source cannot be read, or the branch has an open commit.
    """
    sources = _sources(source, target)
    there = repos.find(pachd, target.repo) is not None
    _check_head(pachd, target)
    present = _listed(pachd, target.repo, target.branch, target.path) if there else {}
    found: list[dict[str, Any]] = []
    for path, each in sorted(sources.items()):
        wanted = _content(iter([each])) if isinstance(each, bytes) else local(each)
        info = present.pop(path, None)
        before = bytes(info.hash).hex() if info is not None else ""
        same = not target.append and info is not None and _same(pachd, info, wanted)
        state = "same" if same else "changed" if info is not None else "created"
        found.append(_entry(path, wanted, state, before))
    if target.purge:
        found += [_entry(path, None, "removed", bytes(info.hash).hex()) for path, info in sorted(present.items())]
    result = Result(found)
    if result.changed and write:
        if not there:
            pachd.create_repo(target.repo)
        _write(pachd, target, [each for each in found if each["state"] != "same"], sources, progress)
    return Result(found, _head(pachd, target))


def remove(pachd: Pachd, target: Target, *, write: bool) -> Result:
    """Remove a file, or a directory with all files below it, in one commit."""
    _check_head(pachd, target)
    present = _listed(pachd, target.repo, target.branch, target.path)
    found = [_entry(path, None, "removed", bytes(info.hash).hex()) for path, info in sorted(present.items())]
    if found and write:
        _write(pachd, target, [_entry(target.path, None, "removed", "")], {}, Progress())
    return Result(found, _head(pachd, target))


def get(
    pachd: Pachd, repo: str, commit: str, path: str, destination: Path, progress: Progress, *, write: bool
) -> Result:
    """Bring a file, or the files below a directory, out of a commit or a branch's head.

    Each file is replaced in one step, so that nobody reads half a file.

    :raises InputError: nothing is there, or the destination's directory does not exist.
    """
    name = branches.resolve(pachd, repo, commit)
    present = _listed(pachd, repo, name, path)
    single = path in present
    if not present and path != "/":
        raise InputError("the file does not exist", where=f"{repo}@{commit}:{path}", fix="List what is there.")
    if single and destination.is_dir():
        destination = destination / path.rpartition("/")[2]
    if not destination.parent.is_dir():
        raise InputError("the directory does not exist", where=str(destination.parent), fix="Create it first.")
    found, moved, total = [], 0, sum(int(each.size_bytes) for each in present.values())
    for each, info in sorted(present.items()):
        target = destination if single else destination / each.removeprefix(path.rstrip("/")).lstrip("/")
        old = local(target) if target.is_file() else None
        size = int(info.size_bytes)
        if old is not None and _recorded(info, old):
            content, state = old, "same"
        else:
            content = _fetch(pachd, repo, name, each, size, target if write else None)
            state = "created" if old is None else "same" if old == content else "changed"
        found.append(_entry(each, content, state, old.checksum if old else ""))
        moved += size
        progress.update(moved, total, "B", detail=each)
    return Result(found, name)


def _entry(path: str, content: Content | None, state: str, before: str) -> dict[str, Any]:
    return {
        "path": path,
        "checksum": content.checksum if content else "",
        "size": content.size if content else 0,
        "state": state,
        "before": before,
    }


def _sources(source: Path | bytes, target: Target) -> dict[str, Path | bytes]:
    if isinstance(source, bytes):
        return {target.path: source}
    if source.is_dir():
        base = target.path.rstrip("/")
        files = [each for each in sorted(source.rglob("*")) if each.is_file()]
        if not files:
            raise InputError("the directory has no files", where=str(source))
        return {f"{base}/{each.relative_to(source).as_posix()}": each for each in files}
    if target.purge:
        raise InputError("purge belongs to a directory", where=str(source), fix="Give a directory as src.")
    return {target.path: source}


def _check_head(pachd: Pachd, target: Target) -> None:
    """Refuse a branch with an open commit: pachd would write into that, file by file."""
    found = branches.find(pachd, target.repo, target.branch)
    if found is None or found["head"] is None:
        return
    pfs = pachd.pfs_pb2
    request = pfs.InspectCommitRequest(commit=pfs.Commit(repo=pfs.Repo(name=target.repo), id=found["head"]))
    info = pachd.call(pachd.pfs.InspectCommit, request, f"for the head of {target.repo}@{target.branch}")
    if not info.HasField("finished"):
        output = bool(found["provenance"])
        raise InputError(
            "the branch has an open commit",
            where=f"{target.repo}@{target.branch}",
            why=f"{info.commit.id} is the output of a job" if output else f"{info.commit.id} is not finished",
            fix="Only its pipeline writes it." if output else "Finish it with `pachctl finish commit`, or delete it.",
        )


def _head(pachd: Pachd, target: Target) -> str:
    return (branches.find(pachd, target.repo, target.branch) or {}).get("head") or ""


def _listed(pachd: Pachd, repo: str, commit: str, path: str) -> dict[str, Any]:
    """Return ``pfs.FileInfo`` by path of the file at ``path``, or of all files below it."""
    with contextlib.suppress(NotThere):
        return {info.file.path: info for info in pachd.walk(repo, commit, path) if info.file_type == _FILE}
    return {}


def _recorded(info: Any, content: Content) -> bool:
    return int(info.size_bytes) == content.size and bytes(info.hash) in content.recorded


def _same(pachd: Pachd, info: Any, content: Content) -> bool:
    if int(info.size_bytes) != content.size:
        return False
    if _recorded(info, content):
        return True
    commit = info.file.commit
    return remote(pachd, commit.repo.name, commit.id, info.file.path) == content


def _write(
    pachd: Pachd,
    target: Target,
    entries: Sequence[Mapping[str, Any]],
    sources: Mapping[str, Path | bytes],
    progress: Progress,
) -> None:
    """Send all changes in one call, which pachd makes one commit of when the last byte has come, or none at all."""
    moved, total = 0, sum(each["size"] for each in entries)

    def counted(path: str) -> Iterator[bytes]:
        nonlocal moved
        for chunk in _chunks(sources[path]):
            yield chunk
            moved += len(chunk)
            progress.update(moved, total, "B", detail=path)

    def requests() -> Iterator[Any]:
        for entry in entries:
            path = entry["path"]
            file = pachd.file(target.repo, target.branch, path)
            if entry["state"] == "removed":
                yield pachd.pfs_pb2.PutFileRequest(delete=True, file=file)
            else:
                yield from pachd.file_requests(file, counted(path), overwrite=not target.append)

    pachd.send(pachd.pfs.PutFile, requests(), f"to write {target}")


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield from (source[at : at + CHUNK] for at in range(0, len(source), CHUNK))
        return
    with source.open("rb") as content:
        yield from chunks(content)


def _fetch(pachd: Pachd, repo: str, commit: str, path: str, size: int, target: Path | None) -> Content:
    """Return the content of a file, and replace ``target`` with it where there is one."""
    content = pachd.get_file(repo, commit, path)
    if target is None:
        return _whole(_content(content), size, f"{repo}@{commit}:{path}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, mode_of(target)) as stream:
        return _whole(_content(content, stream), size, f"{repo}@{commit}:{path}")


def _whole(content: Content, size: int, where: str) -> Content:
    if content.size != size:
        raise PachdError("the file came back with another size", where=where, why=f"{content.size} for {size} bytes")
    return content


def _content(pieces: Iterable[bytes], target: Replacement | None = None) -> Content:
    whole, part, size = hashlib.sha256(), hashlib.sha512(), 0
    names: list[str] = []
    for chunk in pieces:
        view = memoryview(chunk)
        while view:
            piece = view[: _OBJECT - size % _OBJECT]
            if size and size % _OBJECT == 0:
                names.append(part.hexdigest())
                part = hashlib.sha512()
            part.update(piece)
            size += len(piece)
            view = view[len(piece) :]
        whole.update(chunk)
        if target is not None:
            target.write(chunk)
    names.append(part.hexdigest())
    # What users write is recorded by its objects, what jobs write by the SHA-512 of its content.
    recorded = (hashlib.sha256("".join(names).encode()).digest(), *([part.digest()] if len(names) == 1 else []))
    return Content(whole.hexdigest(), size, recorded)
