# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What an etcd says of itself, and the care that it needs: compaction, defragmentation, lifted alarms.

Nothing is done to an etcd that is not sound: every member has to answer, to have a leader, and none may have raised
CORRUPT.  NOSPACE is what maintenance is for.  etcd never shrinks its file by itself: a compaction frees space inside
the file, a defragmentation gives it back, and the alarm has to be lifted by hand (etcd's operations guide).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EtcdError, InputError
from ..installation import Installation, name, observe
from ..pachd.manifests import ETCD_CLIENT_PORT
from ..pachd.records import COLLECTIONS, collection
from ..progress import Progress
from ..progress_view import size_text
from ..replacing import replacing
from .client import EtcdClient, Login, Tls
from .options import LOGIN_ARGUMENT_SPEC, login_of, tls_of
from .snapshot import SnapshotStream

if TYPE_CHECKING:
    from ..kube.client import Kube

#: What etcd uses where no ``--quota-backend-bytes`` is set.
DEFAULT_QUOTA = 2 << 30
#: The options of a module that talks to etcd, for :func:`reach_from`.
ETCD_ARGUMENT_SPEC: Mapping[str, Any] = {
    "namespace": {"type": "str", "default": "pachyderm"},
    "endpoints": {"type": "list", "elements": "str", "default": []},
    **LOGIN_ARGUMENT_SPEC,
    "timeout": {"type": "float", "default": 20.0},
}
#: Prefixes of the keys that are counted, by what they are called here.
COUNTED: Mapping[str, bytes] = {
    **{
        kind: collection(service, kind)
        for service in ("pfs", "pps")
        for kind in COLLECTIONS[service]
        if kind != "transactions"
    },
    "pachyderm": b"pachyderm/",
    "all": b"",
}
#: History that a compaction leaves by default, for those who watch.
KEPT_REVISIONS = 1000

_QUOTA_FLAG = re.compile(r"--quota-backend-bytes[= ](\d+)")
_COMMIT = 0.2  # seconds; etcd commits every 0.1 s where there is something to commit
_FULL = 0.95  # of the quota: beyond it a lifted alarm would come back at once


@dataclass(frozen=True)
class Member:
    """One member and the connection to it; ``name`` is its pod's name or its address."""

    name: str
    client: EtcdClient


@dataclass(frozen=True)
class Reached:
    """The members of one etcd; ``quota`` in bytes, None where only the members' addresses are known."""

    members: tuple[Member, ...]
    quota: int | None
    transport: str


@contextlib.contextmanager
def reach(
    kube: Kube | None,
    namespace: str,
    endpoints: Sequence[str] = (),
    tls: Tls | None = None,
    login: Login | None = None,
    timeout: float = 20.0,
) -> Iterator[Reached]:
    """Yield connections to every member: to ``endpoints``, or through port-forwards to the etcd pods of a namespace.

    :raises InputError: when there is neither.
    """
    with contextlib.ExitStack() as stack:
        if endpoints:
            members = tuple(
                Member(each, stack.enter_context(EtcdClient(each, timeout, tls, login))) for each in endpoints
            )
            yield Reached(members, None, "direct")
            return
        if kube is None:
            raise InputError("no etcd is named", fix="Name its endpoints, or the cluster and the namespace.")
        installation = observe(kube, namespace)
        pods = sorted(
            (pod for pod in installation.pods("etcd") if "deletionTimestamp" not in pod["metadata"]), key=name
        )
        if not pods:
            raise InputError(
                "there is no etcd to reach",
                where=f"namespace {namespace}",
                why="no pod has the labels suite=pachyderm,app=etcd",
                fix="Name another namespace, or the endpoints.",
            )
        found = []
        scheme = "https" if tls else "http"
        for pod in pods:
            host, port = stack.enter_context(kube.portforward(namespace, name(pod), ETCD_CLIENT_PORT))
            client = EtcdClient(f"{scheme}://{host}:{port}", timeout, tls, login)
            found.append(Member(name(pod), stack.enter_context(client)))
        yield Reached(tuple(found), quota_of(installation), "port_forward")


def reach_from(params: Mapping[str, Any], kube: Kube | None) -> contextlib.AbstractContextManager[Reached]:
    """Return :func:`reach` for a module's options."""
    tls, login = tls_of(params), login_of(params)
    return reach(kube, params["namespace"], params["endpoints"], tls, login, params["timeout"])


def quota_of(installation: Installation) -> int:
    """Return the quota that etcd's flags or environment set, in bytes."""
    if installation.etcd is None:
        return DEFAULT_QUOTA
    container = installation.container(installation.etcd, "etcd")
    words = " ".join(str(word) for word in [*(container.get("command") or []), *(container.get("args") or [])])
    match = _QUOTA_FLAG.search(words)
    if match:
        return int(match[1]) or DEFAULT_QUOTA
    variable = installation.environment(container).get("ETCD_QUOTA_BACKEND_BYTES")
    return int((variable and variable.value) or 0) or DEFAULT_QUOTA


def inspect(reached: Reached) -> dict[str, Any]:
    """Return what every member says, and whether the whole is sound; sizes in bytes.

    A member that does not answer is part of the answer: ``error`` says why.
    """
    members: list[dict[str, Any]] = []
    alarms: list[str] = []
    keys: dict[str, int] = {}
    names: list[str] = []
    for member in reached.members:
        entry: dict[str, Any] = {"name": member.name, "error": "", "version": "", "leader": False, "revision": None}
        entry |= {"db_size": None, "db_size_in_use": None, "has_leader": False}
        try:
            status = member.client.status()
            entry |= {
                "version": status.version,
                "leader": status.leader != 0 and status.leader == status.member_id,
                "has_leader": status.leader != 0,
                "revision": status.revision,
                "db_size": status.db_size,
                # 0: older than 3.4, which does not tell.
                "db_size_in_use": status.db_size_in_use or None,
            }
            if not keys:
                alarms = list(member.client.alarms())
                names = member.client.members()
                # A read that a majority has to agree to.
                keys = {kind: member.client.count(prefix) for kind, prefix in COUNTED.items()}
        except EtcdError as error:
            entry["error"] = str(error)
        members.append(entry)
    troubles = [f"{each['name']}: {each['error']}" for each in members if each["error"]]
    troubles += [f"{each['name']} has no leader" for each in members if not each["error"] and not each["has_leader"]]
    troubles += [f"the alarm {alarm} is raised" for alarm in alarms]
    if len(names) > len(members) and reached.transport == "port_forward":
        troubles.append(f"etcd has {len(names)} members ({', '.join(names)}), of which {len(members)} have a pod")
    return {
        "healthy": not troubles and bool(members),
        "troubles": troubles,
        "transport": reached.transport,
        "members": members,
        "alarms": alarms,
        "quota": reached.quota,
        "revision": max((each["revision"] for each in members if each["revision"] is not None), default=None),
        "db_size": max((each["db_size"] for each in members if each["db_size"] is not None), default=None),
        "keys": keys,
    }


def table(state: Mapping[str, Any]) -> list[str]:
    """Return what :func:`inspect` returned as lines for a person."""
    lines = []
    for each in state["members"]:
        if each["error"]:
            lines.append(f"✗ {each['name']}  {each['error']}")
            continue
        free = _free(each)
        size = size_text(each["db_size"]) + ("" if free is None else f", {free:.0%} free")
        role = "leader" if each["leader"] else "follower"
        lines.append(f"{each['name']}  {each['version']}  {role}  revision {each['revision']}  {size}")
    if state["quota"]:
        lines.append(f"quota {size_text(state['quota'])}")
    if state["keys"]:
        lines.append("keys: " + ", ".join(f"{count} {kind}" for kind, count in state["keys"].items()))
    return lines + [f"✗ {trouble}" for trouble in state["troubles"] if "alarm" in trouble or "leader" in trouble]


@dataclass(frozen=True)
class Care:
    """What is to be done.

    :param compact: whether to drop history, all but ``keep_revisions``.
    :param defragment: whether to shrink the files of members of which more than ``free_share`` (0 to 1) is free.
    :param disarm: whether to lift the alarm NOSPACE once there is space again.
    :param snapshot_dir: where a snapshot is written first; empty: none is.
    """

    compact: bool = True
    keep_revisions: int = KEPT_REVISIONS
    defragment: bool = True
    free_share: float = 0.2
    disarm: bool = False
    snapshot_dir: str = ""


@dataclass(frozen=True)
class Cared:
    """What was done, or would be: one line each, and the snapshot that was written first."""

    actions: tuple[str, ...]
    snapshot: str = ""


def care(reached: Reached, wanted: Care, progress: Progress | None = None, *, check: bool = False) -> Cared:
    """Do what is wanted and needed; with ``check`` only say what.

    What a compaction frees is known after it, so that check mode may name fewer defragmentations than are made.

    :raises EtcdError: when etcd is not sound, or does not become sound again after a step.
    """
    progress = progress or Progress()
    state = inspect(reached)
    refuse_unsound(state)
    target = int(state["revision"]) - wanted.keep_revisions
    compact = wanted.compact and target > 1 and not _compacted(reached, target)
    alarmed = wanted.disarm and "NOSPACE" in state["alarms"]
    fragmented = _fragmented(state, wanted)
    actions = [f"compact up to revision {target}"] if compact else []
    actions += list(fragmented.values())
    actions += ["lift the alarm NOSPACE"] if alarmed else []
    if check or not actions:
        return Cared(tuple(actions))
    first = reached.members[0].client
    snapshot = ""
    if wanted.snapshot_dir:
        snapshot = str(save_snapshot(first, Path(wanted.snapshot_dir).expanduser(), progress))
    done = []
    if compact:
        progress.stage("compact", actions[0])
        first.compact(target)
        done.append(actions[0])
        _settle(first)
        fragmented = _fragmented(inspect(reached), wanted)
    for member in reached.members:
        if member.name not in fragmented:
            continue
        progress.stage("defragment", fragmented[member.name])
        member.client.defragment()
        done.append(fragmented[member.name])
        _await_sound(reached)
    if alarmed:
        progress.stage("disarm")
        _disarm(reached)
        done.append("lift the alarm NOSPACE")
    return Cared(tuple(done), snapshot)


def refuse_unsound(state: Mapping[str, Any]) -> None:
    """Raise what keeps hands off this etcd: all of it in one message."""
    troubles = [each for each in state["troubles"] if "alarm NOSPACE" not in each]
    if troubles or not state["members"]:
        raise EtcdError(
            "etcd is not healthy, so nothing was done to it",
            why="; ".join(troubles) or "it has no member",
            fix="Mend that first; doctor tells more. A corrupt etcd is restored from a backup.",
        )


def _fragmented(state: Mapping[str, Any], wanted: Care) -> dict[str, str]:
    """Return the members to defragment, each with what would be done in words."""
    found = {}
    full = wanted.disarm and "NOSPACE" in state["alarms"]
    for each in state["members"] if wanted.defragment else ():
        free = _free(each)
        if full or free is None or free > wanted.free_share:
            share = "an unknown share" if free is None else f"{free:.0%}"
            found[each["name"]] = f"defragment {each['name']}, of whose {each['db_size']} bytes {share} is free"
    return found


def _settle(client: EtcdClient) -> None:
    """Let etcd count what a compaction has freed, which it does when it commits a later write.

    A lease that comes and goes is a write without a revision.  An etcd that is full refuses it, and is defragmented
    whatever it counts.
    """
    with contextlib.suppress(EtcdError):
        for _turn in range(2):
            lease = client.lease_grant(60)
            time.sleep(_COMMIT)
            client.lease_revoke(lease)
            time.sleep(_COMMIT)


def _free(member: Mapping[str, Any]) -> float | None:
    """Return the share of a member's file that is free, None where it does not tell."""
    size, used = member["db_size"], member["db_size_in_use"]
    return None if used is None else (size - used) / size if size else 0.0


def _compacted(reached: Reached, revision: int) -> bool:
    """Return whether the history before ``revision`` is gone already: then nothing can be read as of the one before."""
    try:
        reached.members[0].client.get(b"cluster-id", revision - 1)
    except EtcdError as refusal:
        if "compacted" not in refusal.why:
            raise
        return True
    return False


def _await_sound(reached: Reached, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while True:
        state = inspect(reached)
        try:
            refuse_unsound(state)
        except EtcdError as trouble:
            if time.monotonic() > end:
                raise EtcdError(
                    "etcd did not become healthy again after a step", why=trouble.why, fix="Look at its log."
                ) from trouble
            time.sleep(0.5)
        else:
            return


def _disarm(reached: Reached) -> None:
    state = inspect(reached)
    quota = reached.quota
    if quota is not None and state["db_size"] > _FULL * quota:
        raise EtcdError(
            "the alarm NOSPACE would be raised again at once",
            why=f"the database has {state['db_size']} bytes of a quota of {quota}",
            fix="Compact and defragment it, or raise etcd's --quota-backend-bytes.",
        )
    reached.members[0].client.disarm()


def save_snapshot(client: EtcdClient, directory: Path, progress: Progress | None = None) -> Path:
    """Write a checked snapshot into ``directory`` and return its path; a broken one leaves no file.

    :raises EtcdError: when it did not arrive whole.
    :raises InputError: when the directory cannot be written to.
    """
    progress = progress or Progress()
    identity = client.get(b"cluster-id")
    cluster = re.sub(r"[^A-Za-z0-9]", "", identity.value.decode("ascii", "replace")) if identity else "etcd"
    stamp = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    target = directory / f"{cluster}-{stamp}-r{client.status().revision}.snapshot"
    progress.stage("snapshot", str(target))
    stream = SnapshotStream(client.snapshot_messages(), client.endpoint)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(target, durable=True) as file:
            for chunk in stream:
                file.write(chunk)
                progress.update(stream.done, stream.total, "B")
    except OSError as error:
        raise InputError("cannot write the snapshot", where=str(directory), why=str(error)) from error
    return target
