# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on many items at once: bounded, all of it, and failures come out."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.stores.parallel import each, in_order, many


def test_many_short_calls_are_all_made() -> None:
    assert sorted(many(lambda number: number * 2, range(100), 4)) == list(range(0, 200, 2))


def test_order_is_kept_while_the_next_ones_are_under_way() -> None:
    second = threading.Event()

    def call(number: int) -> int:
        if number == 1:
            second.set()
        # The first one ends only when the second one is under way.
        assert number or second.wait(10)
        return number

    assert list(in_order(call, range(20), 3)) == list(range(20))


def test_items_are_taken_no_earlier_than_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), 4)
    assert next(results) == 0
    assert len(taken) == 4
    results.close()  # type: ignore[attr-defined]
    assert len(taken) == 4


@pytest.mark.parametrize("run", [each, many, in_order])
def test_a_failure_comes_out(run: object) -> None:
    def call(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    with pytest.raises(ValueError, match="five"):
        list(run(call, range(50), 3))  # type: ignore[operator]
