# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that the server and the worker share."""

from __future__ import annotations

from python_pachyderm.proto.pfs import pfs_pb2 as pfs_pb
from python_pachyderm.proto.pps import pps_pb2 as pps_pb

SPEC_REPO = "__spec__"
#: The states that a job never leaves.
TERMINAL = (pps_pb.JOB_SUCCESS, pps_pb.JOB_FAILURE, pps_pb.JOB_KILLED)


def branch_of(repo: str, name: str) -> pfs_pb.Branch:
    """Return the message that names a branch."""
    return pfs_pb.Branch(repo=pfs_pb.Repo(name=repo), name=name)


def commit_of(repo: str, reference: str) -> pfs_pb.Commit:
    """Return the message that names a commit."""
    return pfs_pb.Commit(repo=pfs_pb.Repo(name=repo), id=reference)


def controller_name(pipeline: str, version: int) -> str:
    """Return the name of the replication controller (and service) of a pipeline's workers."""
    return f"pipeline-{pipeline.replace('_', '-').lower()}-v{version}"
