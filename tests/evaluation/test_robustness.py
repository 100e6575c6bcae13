"""Where a policy breaks along an axis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from f110_fl.evaluation.robustness import Break, Tally, find_break

TRIALS = 100


def tallies(*successes: int) -> list[Tally]:
    return [Tally(count, TRIALS) for count in successes]


@pytest.mark.parametrize(
    ("successes", "found"),
    [
        ((100, 95, 91), Break(2, None, None)),
        ((100, 95, 50, 99), Break(1, 2, 2)),
        ((100, 88, 70), Break(0, 1, 2)),  # 88 of 100: the interval reaches to 93 %
        ((10, 100), Break(None, 0, 0)),
        ((89, 89), Break(None, 0, None)),
    ],
)
def test_a_policy_breaks_at_the_first_value_below(successes: tuple[int, ...], found: Break) -> None:
    assert find_break(tallies(*successes), 0.9) == found


@examples(100)
@given(
    st.lists(st.integers(0, TRIALS), min_size=1, max_size=8),
    st.floats(0.01, 0.99),
)
def test_what_a_break_means(successes: list[int], threshold: float) -> None:
    own = tallies(*successes)
    found = find_break(own, threshold)
    before = own if found.breaks is None else own[: found.breaks]
    assert all(tally.rate >= threshold for tally in before)
    assert found.holds == (len(before) - 1 if before else None)
    if found.breaks is not None:
        assert own[found.breaks].rate < threshold
    if found.certain is not None:
        assert found.breaks is not None
        assert found.breaks <= found.certain
        assert own[found.certain].interval[1] < threshold
