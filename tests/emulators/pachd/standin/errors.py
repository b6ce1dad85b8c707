# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors with the words and gRPC codes that pachd uses: it gives almost every error the code UNKNOWN."""

from __future__ import annotations

import grpc


class PachError(Exception):
    """An error that a client gets to see."""

    code = grpc.StatusCode.UNKNOWN

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class NotImplementedHere(PachError):
    """Pachyderm can do this and the stand-in cannot."""

    code = grpc.StatusCode.UNIMPLEMENTED

    def __init__(self, what: str) -> None:
        super().__init__(f"the pachd stand-in does not implement {what}; it is a test double, not Pachyderm")


class NotFound(PachError):
    """A record of a collection does not exist."""

    def __init__(self, prefix: str, key: str) -> None:
        super().__init__(f"{prefix.removeprefix('pachyderm/1.7.0')} {key} not found")


class Exists(PachError):
    """A record of a collection exists already."""

    def __init__(self, prefix: str, key: str) -> None:
        super().__init__(f"{prefix.removeprefix('pachyderm/1.7.0')} {key} already exists")


class NoHead(PachError):
    """A branch has no commit."""

    def __init__(self, branch: str) -> None:
        super().__init__(f"the branch \"{branch}\" has no head (create one with 'start commit')")


class CommitNotFound(PachError):
    """A commit does not exist."""

    def __init__(self, commit: object) -> None:
        super().__init__(f"commit {commit.id} not found in repo {commit.repo.name}")


class CommitFinished(PachError):
    """A finished commit cannot be changed."""

    def __init__(self, commit: object) -> None:
        super().__init__(f"commit {commit.id} in repo {commit.repo.name} has already finished")


class FileNotFound(PachError):
    """A file does not exist in a commit."""

    def __init__(self, file: object) -> None:
        commit = file.commit
        super().__init__(f"file {file.path} not found in repo {commit.repo.name} at commit {commit.id}")


class PathNotFound(PachError):
    """A path does not exist in a file tree."""

    def __init__(self, path: str) -> None:
        super().__init__(f'file "{path}" not found')
