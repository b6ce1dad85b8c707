# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Work on many items at once, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCH = 16


def beside(function: Callable[[], Result]) -> Future[Result]:
    """Begin a call in a thread of its own, and return what will have its result."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="store")
    begun = pool.submit(function)
    pool.shutdown(wait=False)
    return begun


def each(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, waiting: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in the order in which they become ready.

    The first exception, of an item or of ``items`` itself, is raised after the calls under way have ended; no further
    one is begun.

    :param waiting: how many items are taken from ``items`` before their turn, on top of ``workers``; default: as many.
    """
    source = iter(items)
    limit = workers + (workers if waiting is None else waiting)
    pending: set[Future[Result]] = set()
    with ThreadPoolExecutor(workers, thread_name_prefix="store") as pool:
        try:
            while True:
                pending |= {pool.submit(function, item) for item in islice(source, limit - len(pending))}
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in pending:
                future.cancel()


def many(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield as :func:`each` does, for short calls: a few of them in one go.

    Most objects are small, and handing one to a thread takes longer than reading it.
    """

    def together(batch: list[Item]) -> list[Result]:
        return [function(item) for item in batch]

    source = iter(items)
    batches = iter(lambda: list(islice(source, _BATCH)), [])
    return chain.from_iterable(each(together, batches, workers))


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield ``function(item)`` for every item in the order of the items, while the next ones are under way."""
    source = iter(items)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="store") as pool:
        try:
            while True:
                pending.extend(pool.submit(function, item) for item in islice(source, workers - len(pending)))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
