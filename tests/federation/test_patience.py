"""How long a round waits: from what its replies took, not from a clock that a client holds."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.federation.patience import CEILING, FACTOR, FLOOR, Patience, Waits


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def after(asked: int, times: list[float], timeout: float | None = None) -> float:
    """Return the length of the wait after replies at these times."""
    clock = Clock()
    patience = Patience(asked, timeout, clock)
    for time in times:
        clock.now = 1000.0 + time
        patience.count()
    return patience.left() + patience.waited()


@pytest.mark.parametrize(
    ("asked", "times", "limit"),
    [
        (4, [], CEILING),
        (4, [100.0], CEILING),  # fewer than half
        (4, [100.0, 200.0], 2000.0),
        (5, [100.0, 200.0], CEILING),
        (5, [0.0, 0.0, 7200.0], 72_000.0),  # two that answer at once do not cut off the others
        (5, [100.0, 200.0, 300.0, 2900.0], 3000.0),  # nor does a late one hold them up for longer
        (2, [1.0], FLOOR),  # kernels are compiled in the first round
        (2, [20_000.0], CEILING),
        (1, [], CEILING),
    ],
)
def test_the_wait_follows_from_when_half_had_answered(
    asked: int, times: list[float], limit: float
) -> None:
    assert after(asked, times) == pytest.approx(limit)
    assert after(asked, times, timeout=77.0) == pytest.approx(77.0)  # a number is a number


@given(st.lists(st.floats(0.0, CEILING), min_size=3, max_size=9), st.data())
def test_a_minority_neither_cuts_off_nor_holds_up(honest: list[float], data: st.DataObject) -> None:
    """Whatever times it chooses, the wait is within what the honest replies give."""
    others = data.draw(st.lists(st.floats(0.0, CEILING), max_size=len(honest) - 1))
    asked = len(honest) + len(others)
    limit = after(asked, sorted([*honest, *others]))
    for low, high in pairwise([min(honest), max(honest)]):
        bounds = [min(max(FACTOR * time, FLOOR), CEILING) for time in (low, high)]
        assert bounds[0] - 1e-6 <= limit <= bounds[1] + 1e-6


def test_the_end_of_a_wait_is_stated(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    patience = Patience(2, clock=clock)
    patience.count()
    clock.now += FLOOR
    assert patience.left() <= 0
    with caplog.at_level(logging.WARNING):
        patience.tell(1)
    assert "ends after 600 s without 1 replies (10 times as long as half" in caplog.text


def test_an_order_is_waited_for_as_long_as_others_tell() -> None:
    clock = Clock()
    waits = Waits(4, clock=clock)

    def is_over_after(seconds: float) -> bool:
        begin = clock.now
        waits.sent(3)
        clock.now += seconds
        found = waits.over(3)
        clock.now = begin
        return found

    limits = []
    for client_id, took in ((0, 100.0), (1, 300.0), (2, 200.0)):
        waits.sent(client_id)
        clock.now += took
        waits.answered(client_id)
        limits.append(next(n for n in (2000.0, 3000.0, CEILING) if is_over_after(n)))
    assert limits == [CEILING, FACTOR * 300.0, FACTOR * 200.0]  # half of four; then their middle
    assert not is_over_after(FACTOR * 200.0 - 1.0)


def test_an_order_is_waited_for_no_longer_than_the_timeout() -> None:
    clock = Clock()
    waits = Waits(4, 5.0, clock)
    waits.sent(0)
    clock.now += 4.9
    assert not waits.over(0)
    clock.now += 0.2
    assert waits.over(0)
