"""Where a policy breaks: the first value of an axis at which it succeeds too rarely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from f110_fl.evaluation.statistics import wilson_interval


class Tally(NamedTuple):
    """Successes among trials, at one value."""

    successes: int
    trials: int  # at least 1

    @property
    def rate(self) -> float:
        """The share of successes."""
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson 1927)."""
        return wilson_interval(self.successes, self.trials)


class Break(NamedTuple):
    """Where a policy breaks along one axis.

    Attributes:
        holds: Index of the last value before; None if it fails at the first.
        breaks: Index of the first value at which the rate is below the threshold; None if it
            nowhere is.
        certain: Index of the first value at which the whole interval is below; None likewise.
    """

    holds: int | None
    breaks: int | None
    certain: int | None


def find_break(tallies: Sequence[Tally], threshold: float) -> Break:
    """Return where rates first fall below a threshold, along values that grow harsher.

    Where ``breaks`` comes before ``certain``, the threshold is inside the intervals between: more
    episodes would tell.

    Args:
        tallies: By value, from the mildest to the harshest; at least one.
        threshold: The rate below which a policy counts as broken.
    """
    below = [i for i, tally in enumerate(tallies) if tally.rate < threshold]
    surely = [i for i, tally in enumerate(tallies) if tally.interval[1] < threshold]
    breaks = below[0] if below else None
    last = len(tallies) - 1 if breaks is None else breaks - 1
    return Break(last if last >= 0 else None, breaks, surely[0] if surely else None)
