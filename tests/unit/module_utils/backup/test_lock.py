# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of an installation: one holder, renewed, lost in time, and taken over after its holder's death."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.backup.lock import LOCK, Lock
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import BackupError, ClusterError
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.client import Kube, Ref
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.transport import Response, UnreachableError
from doubles.api import FakeApi

LEASE = Ref("coordination.k8s.io/v1", "Lease", "pachyderm", LOCK)


class Clock(FakeApi):
    """An API server with a clock of its own, as the Date header of its answers."""

    def __init__(self) -> None:
        super().__init__(["pachyderm"])
        self.ahead = timedelta()
        self.away = False
        self.one_by_one = threading.Lock()

    def request(self, *args: Any, **options: Any) -> Response:
        if self.away:
            raise UnreachableError("connection refused", transient=False)
        with self.one_by_one:
            response = super().request(*args, **options)
        now = datetime.now(timezone.utc) + self.ahead
        return Response(response.status, response.body, {**response.headers, "date": email.utils.format_datetime(now)})


@pytest.fixture
def api() -> Clock:
    return Clock()


def lock(api: Clock, operation: str = "backup", **options: Any) -> Lock:
    return Lock(Kube(api, patience=0.0), "pachyderm", operation, **options)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_holds_it_and_others_are_told_who(api: Clock) -> None:
    with lock(api) as held:
        assert api.stored(LEASE)["spec"]["holderIdentity"] == held.holder
        with pytest.raises(BackupError, match=r"another operation.*pachyderm.*backup by .*expires") as caught:
            lock(api, "restore").__enter__()
        assert held.holder in str(caught.value)
        held.check()
    assert LEASE not in api.objects
    with lock(api, "restore"):
        pass


@pytest.mark.parametrize(("hours", "words"), [(-24 * 365, "ahead of"), (1, "behind")])
def test_a_wrong_clock_decides_nothing(api: Clock, hours: int, words: str) -> None:
    with lock(api) as held:
        held.check_clock()
    api.ahead = timedelta(hours=hours)
    with lock(api) as held, pytest.raises(BackupError, match=rf"clock cannot be trusted.*{words}.*nothing was deleted"):
        held.check_clock()


def test_the_dead_holders_lock_expires_by_the_servers_clock(api: Clock) -> None:
    dead = lock(api, duration=60)
    dead._take()
    api.ahead = timedelta(seconds=50)
    with pytest.raises(BackupError):
        lock(api).__enter__()
    api.ahead = timedelta(seconds=70)
    with lock(api) as taken:
        assert api.stored(LEASE)["spec"]["holderIdentity"] == taken.holder
        assert api.stored(LEASE)["spec"]["leaseTransitions"] == 1


def test_clocks_of_hosts_are_not_compared(api: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock(api):
        api.ahead = timedelta(seconds=5)
        # This host's clock jumps a year ahead; the server's answers still carry a date.
        monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
        with pytest.raises(BackupError):
            lock(api).__enter__()


def test_it_is_renewed_while_it_is_held(api: Clock) -> None:
    with lock(api, duration=1.5) as held:
        begun, first = time.monotonic(), api.stored(LEASE)["spec"]["acquireTime"]
        api.ahead = timedelta(seconds=10)
        until(lambda: api.stored(LEASE)["spec"]["renewTime"] != first)
        assert api.stored(LEASE)["spec"]["acquireTime"] == first
        until(lambda: held._renewed > begun + 1.5)
        held.check()


def test_a_lock_that_was_taken_over_is_lost(api: Clock) -> None:
    with lock(api, duration=0.3) as held:
        with api.one_by_one:
            lease = api.stored(LEASE)
            lease["spec"]["holderIdentity"] = "restore by somebody"
            lease["metadata"]["resourceVersion"] = "taken"
        until(lambda: held._lost)
        with pytest.raises(BackupError, match="restore by somebody"):
            held.check()
    assert api.stored(LEASE)["spec"]["holderIdentity"] == "restore by somebody", "what others hold is not released"


def test_a_lock_that_was_deleted_is_lost(api: Clock) -> None:
    with lock(api, duration=0.3) as held:
        with api.one_by_one:
            del api.objects[LEASE]
        until(lambda: held._lost)
        with pytest.raises(BackupError, match="deleted"):
            held.check()


def test_a_lock_that_cannot_be_renewed_is_lost_when_it_expires(api: Clock) -> None:
    with lock(api, duration=1.5) as held:
        api.away = True
        held.check()
        time.sleep(1.7)
        with pytest.raises(BackupError, match="could not be renewed"):
            held.check()
        api.away = False


def test_waiting_for_it(api: Clock) -> None:
    first = lock(api)
    first.__enter__()
    timer = threading.Timer(0.3, first.__exit__, (None, None, None))
    timer.start()
    with lock(api, wait=20):
        pass
    timer.join()


def test_of_many_exactly_one_gets_it(api: Clock) -> None:
    won: list[Lock] = []
    barrier = threading.Barrier(8)

    def compete() -> None:
        mine = lock(api)
        barrier.wait()
        if not mine._take():
            won.append(mine)

    threads = [threading.Thread(target=compete) for _unused in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert api.stored(LEASE)["spec"]["holderIdentity"] == won[0].holder


@pytest.mark.parametrize("verb", ["get", "create", "patch"])
def test_a_missing_right_is_named(api: Clock, verb: str) -> None:
    if verb == "patch":
        lock(api)._take()
        api.ahead = timedelta(days=1)
    api.denied.add((verb, "leases"))
    with pytest.raises(ClusterError, match=r"not allowed to .*lease"):
        lock(api).__enter__()
