"""Finds how the servo of a simulated car trembles around its target, and whether it does.

The simulator's servo turns for whole steps at full rate, so its angles are whole numbers of a
step's turn, up to 0.05 rad. Where it stands beside its target changes in jumps with the car's
parameters, which no search by slopes can follow. So searches take the tremble for a disturbance
that is known; between them, those of other parameters, near the best so far, are tried instead.
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
_RATES: Final = np.linspace(-0.2, 0.2, 41)
_LATER: Final = np.array([-1, 0, 1])  # steps
# Then so many are drawn around the best rate and what else is fitted, with such deviations of the
# rate, and shares of that of the others; delays in s.
_DRAWN: Final = ((96, 0.02), (96, 0.02), (64, 0.01), (32, 0.005), (32, 0.002))
_SHARES: Final = {GAIN: 0.5, TRIM: 0.025, LATE: 0.35}
_IMPUTED: Final = 40
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
    reweigh(model, model.settled(values), mask)
    moves = np.zeros((len(_LATER), len(_RATES), len(values)))
    moves[..., RATE] = _RATES
    moves[..., LATE] = model.dt * _LATER[:, None]
    found = _choose(model, values, active, values + moves.reshape(-1, len(values)), _BETTER)
    if found is None:
        return values
    rng = np.random.default_rng(0)
    columns, shares = [RATE, *_SHARES], np.array([1.0, *_SHARES.values()])
    rate = found[RATE]
    values = _searched(model, values, active, mask)
    for count, spread in _DRAWN:
        moves = np.zeros((count, len(values)))
        moves[1:, columns] = spread * shares * rng.normal(size=(count - 1, len(shares)))
        moves[:, RATE] += rate - values[RATE]
        found = _choose(model, values, active, values + moves)
        if found is not None:
            rate = found[RATE]
            values = _searched(model, values, active, mask)
    return values


def tremble_covariance(
    model: Model, values: Float, active: NDArray[np.int64], covariance: Float
) -> Float:
    """What not to know the tremble adds to the covariance of the parameters, (A, A).

    Nothing where there is none. Else trembles of parameters that are as likely are imputed (Rubin,
    "Multiple imputation for nonresponse in surveys", 1987, section 3.1), and the covariance
    between the fits to them is added to that within one. But the tremble that was found is better
    than those, as the squares that they add say; so it counts by the share of these that are left.
    What is left is what successive residuals have in common, which noise has not.

    Args:
        model: With the tremble that was found.
        values: (P,) parameters, for which the starts are known.
        active: (A,) indices of those that are fitted.
        covariance: (A, A) of these, if the tremble were known.
    """
    if not model.tremble.any() or not np.isfinite(covariance).all():
        return np.zeros_like(covariance)
    rng = np.random.default_rng(0)
    drawn = np.tile(values, (_IMPUTED, 1))
    scale = np.sqrt(np.diag(covariance))
    likely = covariance / np.outer(scale, scale)
    drawn[:, active] += scale * rng.multivariate_normal(
        np.zeros(len(active)), likely, _IMPUTED, method="eigh"
    )
    costs, steps = model.compared(values, active, [model.tremble, *map(model.trembles, drawn)])
    moves = steps[1:] - steps[0]
    added = float(np.mean(costs[1:]) - costs[0])
    gaps = model.residuals(model.predicted(model.actuators(values), model.starts)) * model.weights
    # What is fitted makes successive residuals of noise differ by as much.
    left = float((gaps[:, 1:] * gaps[:, :-1]).sum()) + model.starts.size + len(active)
    share = 1.0 if added <= left else max(left, 0.0) / added
    between: Float = share * moves.T @ moves / _IMPUTED
    return between


def _searched(model: Model, values: Float, active: NDArray[np.int64], mask: Float) -> Float:
    """The parameters that suit a model's tremble; residuals are weighed by them."""
    values = search(model, values, active, _TOLERANCE)
    reweigh(model, model.settled(values), mask)
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
    costs, _ = model.compared(values, active, trembles)
    place = int(np.argmin(costs))
    if place == 0 or costs[place] >= share * costs[0]:
        return None
    model.tremble = trembles[place]
    found: Float = candidates[place - 1]
    return found
