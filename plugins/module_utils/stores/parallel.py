# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Work on many items at once, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
