"""Finds how the servo of a simulated car trembles around its target, and whether it does.

The simulator's servo turns for whole steps at full rate. So its angles are whole numbers of a step's
turn, up to 0.05 rad, and where it stands beside its target depends on the car's parameters in jumps,
which no search by slopes can follow. Within an iteration the tremble is therefore known: searches
take it for a disturbance that does not change with the parameters, and between them the tremble
of other parameters, drawn around the best so far, takes its place if it explains the log better.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.calibration.drive_log import Float
from f110_fl.calibration.model import Model
from f110_fl.calibration.parameters import GAIN, LATE, RATE, TRIM
from f110_fl.calibration.search import reweigh, search

# Without the tremble, a search leaves the rate uncertain by up to so much, as logarithm, and the
# delay by a step. The turn of a dozen steps must be right by a part of one step's.
_GRIDS: Final = (np.linspace(-0.2, 0.2, 41), np.linspace(-0.04, 0.04, 33))
_LATER: Final = np.array([-1, 0, 1])  # steps
_SPREADS: Final = (0.01, 0.005, 0.005, 0.002)  # of rates that are drawn then, and
_SHARES: Final = {GAIN: 0.25, TRIM: 0.025, LATE: 0.7}  # share of it of others; delays in s
_DRAWS: Final = 32
_BETTER: Final = 0.98  # times the squares without a tremble, from which on there is one
_TOLERANCE: Final = 1e-3  # of the searches


def find_tremble(model: Model, values: Float, active: NDArray[np.int64], mask: Float) -> Float:
    """Find the tremble of the simulator's servo, if that explains a log better than none.

    Args:
        model: Whose ``tremble``, weights and starts are changed.
        values: (P,) parameters, found without a tremble.
        active: (A,) indices of those that are fitted.
        mask: (W, S, 6) of what was measured.

    Returns:
        (P,) parameters, found with the tremble; those given if there is none.
    """
    rng, columns = np.random.default_rng(0), [RATE, *_SHARES]
    shares = np.array([1.0, *_SHARES.values()])
    reweigh(model, model.settled(values), mask)
    rate, better = values[RATE], _BETTER
    for rates, spread in (*((grid, 0.0) for grid in _GRIDS), *((None, s) for s in _SPREADS)):
        around = values.copy()
        around[RATE] = rate
        if rates is None:
            candidates = np.tile(around, (_DRAWS, 1))
            candidates[1:, columns] += spread * shares * rng.normal(size=(_DRAWS - 1, len(shares)))
        else:
            candidates = np.tile(around, (len(_LATER), len(rates), 1))
            candidates[..., RATE] += rates
            candidates[..., LATE] += model.dt * _LATER[:, None]
        found = _choose(model, values, active, candidates.reshape(-1, len(values)), better)
        if found is not None:
            rate, better = found[RATE], 1.0
            values = search(model, values, active, _TOLERANCE)
            reweigh(model, model.settled(values), mask)
        elif better < 1.0:
            break
    return values


def _choose(
    model: Model,
    values: Float,
    active: NDArray[np.int64],
    candidates: Float,
    share: float = 1.0,
) -> Float | None:
    """Give a model the best of the candidates' trembles, and return the candidate.

    None if it leaves more than this share of the squares that the model's own tremble does.
    """
    trembles = [model.tremble, *map(model.trembles, candidates)]
    costs = model.compared(values, active, trembles)
    place = int(np.argmin(costs))
    if place == 0 or costs[place] >= share * costs[0]:
        return None
    model.tremble = trembles[place]
    found: Float = candidates[place - 1]
    return found
