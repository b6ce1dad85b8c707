# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Which of etcd's keys are an installation's state, and in which orders pachd reads them.

pachd lists collections by creation revision, and what it watches begins with a listing by modification revision; keys
with equal revisions come in no promised order (etcd sorts unstably), and commits of one revision are put into an order
of their own.  So a copy has to keep, within what is listed together, which key came before which and which came at
once.  Facts: ``src/server/pkg/collection/range.go``, ``src/server/pkg/watch/watch.go``, and in
``src/server/pfs/server/driver.go`` ``listCommit`` and ``getTreeForOpenCommit`` of v1.13.4.
"""

from __future__ import annotations

import enum

from .records import PREFIX, SINGLE_KEYS, collection

ROOT = f"{PREFIX}/".encode()
_SINGLE = tuple(key.encode() for key in SINGLE_KEYS)
_PFS, _PPS = (ROOT + b"pachyderm_" + part for part in (b"pfs/", b"pps/"))
_RECORDS = collection("pfs", "putFileRecords")
_INDEX = b"__index_"
_CREATED_ONLY = (collection("pfs", "commits"), collection("pps", "jobs"))
# Work queues and locks of what runs now.  Most have a lease; those that have none are wiped by their owners at start.
_PASSING = (
    *(service + queue for service in (_PFS, _PPS) for queue in (b"task/", b"subtask/", b"claim/", b"workers/")),
    *(_PPS + lock for lock in (b"_master_lock", b"_master_worker_lock", b"_s3g_sidecar_lock")),
    b"/oidc-authns/",
    b"commit_traces/",
)


class Kind(enum.Enum):
    """What a key is to a copy of an installation."""

    #: State, which is copied.
    STATE = "state"
    #: A user's login, which is copied with the time that its lease has left.
    LOGIN = "login"
    #: A login that has not ended yet, which is valid for minutes.
    STARTED_LOGIN = "started login"
    #: Of what runs now: locks, workers, queues of work.
    PASSING = "passing"
    #: None of Pachyderm's.
    FOREIGN = "foreign"


_LEASED = {collection("auth", "tokens"): Kind.LOGIN, collection("auth", "auth-codes"): Kind.STARTED_LOGIN}


class Order(enum.Flag):
    """By which revisions keys are listed together."""

    CREATED = enum.auto()
    MODIFIED = enum.auto()


def kind_of(key: bytes, lease: int) -> Kind:
    """Return what ``key`` is, which is bound to ``lease`` unless that is 0."""
    if key.startswith(_PASSING):
        return Kind.PASSING
    if not key.startswith(ROOT):
        return Kind.STATE if key in _SINGLE else Kind.FOREIGN
    if not lease:
        return Kind.STATE
    return next((kind for prefix, kind in _LEASED.items() if key.startswith(prefix)), Kind.PASSING)


def listed_with(key: bytes) -> bytes:
    """Return the prefix that pachd lists ``key`` under, which keys that need an order between them have in common."""
    if key.startswith(_RECORDS):
        # Records of all paths of one commit are applied in one order.
        return b"/".join(key.split(b"/", len(_RECORDS.split(b"/")) + 1)[:-1])
    return key.rpartition(b"/")[0]


def order_of(prefix: bytes) -> Order:
    """Return which orders of the keys under ``prefix``, one of ``listed_with``, count."""
    if prefix.startswith(_RECORDS):
        return Order.MODIFIED
    if _INDEX in prefix or (prefix + b"/").startswith(_CREATED_ONLY):
        return Order.CREATED
    return Order.CREATED | Order.MODIFIED
