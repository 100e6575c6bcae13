"""Finds how the servo of a simulated car trembles around its target, and whether it does.

The simulator's servo turns for whole steps at full rate, so its angles are whole numbers of a
step's turn, up to 0.05 rad. Where it stands changes in jumps with the car's parameters, which no
search by slopes can follow. So searches take the tremble for a disturbance that is known; between
them, those of other parameters are tried instead. Which whole numbers they are depends on the
delay, and on gain and trim as shares of the rate alone: slopes follow a factor of all three.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.calibration.comparison import Comparison
from f110_fl.calibration.drive_log import Float
from f110_fl.calibration.model import Model
from f110_fl.calibration.parameters import GAIN, LATE, RATE, TRIM, limits
from f110_fl.calibration.search import reweigh, search

# Without the tremble, a search leaves the rate uncertain by up to so much, as logarithm, and the
# delay by a step. The turn of a dozen steps must be right by a part of one step's. Deviations of
# the rate are for steps of `_STEP`; in shorter ones the servo trembles less.
_STEP: Final = 0.01  # s
_RATES: Final = np.linspace(-0.2, 0.2, 41)
_LATER: Final = np.array([-1, 0, 1])  # steps
# Then so many are drawn, each around one of the best, with such deviations of the rate. Where a
# target is met all but exactly, the servo rests for a step, which changes all later ones: so there
# are many that are nearly as good, and the best is hidden among them.
_DRAWN: Final = ((100, 0.02), (80, 0.01), (80, 0.005), (80, 0.002), (80, 0.001), (80, 0.0005))
_BEST: Final = 8
_TRIM: Final = 0.08  # rad, deviation of the trim over that of the rate
_OTHER_DELAY: Final = 0.2  # of the draws, while a step can be made up for:
_COARSE: Final = 0.01  # with deviations of so much or more
_FACTOR: Final = 0.1  # by which gain, trim and rate together change at most, as logarithm
_TRIES: Final = 3
_WALK: Final = 200
_STRIDES: Final = (1e-4, 2e-3)  # deviations of the rate, of its steps
_IMPUTED: Final = 40
_BETTER: Final = 0.98  # times the squares without a tremble, from which on there is one
_TOLERANCE: Final = 1e-3  # of the searches
_CHANCE: Final = 2.0  # standard deviations of what successive residuals have in common by chance


class _Tried(NamedTuple):
    """A tremble that was tried: the squares that it leaves, and its parameters, (P,)."""

    cost: float
    values: Float


def find_tremble(
    model: Model, values: Float, active: NDArray[np.int64], mask: Float
) -> tuple[Float, Float]:
    """Find the tremble of the simulator's servo, if that explains a log better than none.

    Args:
        model: Whose ``tremble``, weights and starts are changed.
        values: (P,) parameters, found without a tremble.
        active: (A,) indices of those that are fitted.
        mask: (W, S, 6) of what was measured.

    Returns:
        (P,) parameters, found with the tremble; those given if there is none. And the covariance,
        (P, P), of those that have the same tremble, or one as likely.
    """
    reweigh(model, model.settled(values), mask)
    moves = np.zeros((len(_LATER), len(_RATES), len(values)))
    moves[..., RATE] = model.dt / _STEP * _RATES
    moves[..., LATE] = model.dt * _LATER[:, None]
    trial = _Trial(model, values, active)
    grid = sorted(map(trial, values + moves.reshape(-1, len(values))), key=_cost)[:_BEST]
    if grid[0].cost >= _BETTER * trial.own:
        return values, np.zeros((len(values), len(values)))
    rng, best = np.random.default_rng(0), grid
    for _ in range(_TRIES):
        for count, spread in _DRAWN:
            model.tremble = model.trembles(best[0].values)
            values = _searched(model, values, active, mask)
            trial = _Trial(model, values, active)
            best = sorted((trial(one.values) for one in best), key=_cost)
            best = _improved(trial, best, count, spread, rng)
        model.tremble = model.trembles(best[0].values)
        values = _searched(model, values, active, mask)
        if _unexplained(model, values, active) <= _CHANCE * np.sqrt(np.count_nonzero(mask)):
            break
        best = best[:1]
    trial = _Trial(model, values, active)
    likely = _likely(trial, trial(best[0].values), rng)
    model.tremble = model.trembles(best[0].values, likely.mean(axis=0))
    return _searched(model, values, active, mask), np.cov(likely.T)


class _Trial:
    """Tries the simulator's servo with parameters near to those given.

    What follows by slopes is the rest of the parameters, but for the delay, and the factor of gain,
    trim and rate; what is returned has this factor. ``own`` are the squares with the model's own
    tremble.
    """

    def __init__(self, model: Model, values: Float, active: NDArray[np.int64]) -> None:
        self._model, self.dt = model, model.dt
        steering = np.isin(active, (GAIN, TRIM, RATE))
        mixed = np.eye(len(active))[:, ~(steering | (active == LATE))]
        factor = np.where(active == RATE, 1.0, values[active]) * steering
        columns = model.jacobian(values, active) @ np.column_stack([mixed, factor])
        self._compare = Comparison(model, values, columns)
        self._stops = model.steering(values) - model.tremble
        self.own = self._compare.own

    def __call__(self, values: Float) -> _Tried:
        cost, step = self._compare(self._model.trembled(values) - self._stops)
        factor = float(np.clip(step[-1], -_FACTOR, _FACTOR))
        scaled = values.copy()
        scaled[[GAIN, TRIM]] *= np.exp(factor)
        scaled[RATE] += factor
        return _Tried(cost, scaled)


def _cost(tried: _Tried) -> float:
    return tried.cost


def _improved(
    trial: _Trial, best: list[_Tried], count: int, spread: float, rng: np.random.Generator
) -> list[_Tried]:
    """The best of those given and of others that are drawn around them."""
    for _ in range(count):
        values = _moved(best[rng.integers(len(best))].values, trial.dt, spread, rng)
        if spread >= _COARSE and rng.random() < _OTHER_DELAY:
            values[LATE] = max(values[LATE] + trial.dt * rng.choice((-1, 1)), 0.0)
        best = sorted([*best, trial(values)], key=_cost)[:_BEST]
    return best


def _likely(trial: _Trial, best: _Tried, rng: np.random.Generator) -> Float:
    """Parameters, (_WALK, P), as likely as a log says: the walk of Metropolis et al. (1953).

    It begins at the best, and has steps of many sizes, since nobody knows how near the next
    parameters are whose servo turns otherwise.
    """
    walk, at = np.empty((_WALK, len(best.values))), best
    for place in range(_WALK):
        spread = np.exp(rng.uniform(*np.log(_STRIDES)))
        tried = trial(_moved(at.values, trial.dt, spread, rng))
        if tried.cost - at.cost < 2.0 * rng.exponential():
            at = tried
        walk[place] = at.values
    return walk


def _moved(values: Float, dt: float, spread: float, rng: np.random.Generator) -> Float:
    """Parameters near to those given."""
    moved = values.copy()
    moved[[RATE, TRIM]] += dt / _STEP * spread * np.array([1.0, _TRIM]) * rng.normal(size=2)
    return moved


def _searched(model: Model, values: Float, active: NDArray[np.int64], mask: Float) -> Float:
    """The parameters that suit a model's tremble; residuals are weighed by them."""
    values = search(model, values, active, _TOLERANCE)
    reweigh(model, model.settled(values), mask)
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
    drawn = np.clip(drawn, *limits())  # a parameter that is not identified may be drawn anywhere
    compare = Comparison(model, values, model.jacobian(values, active))
    tried = [compare(tremble) for tremble in (model.tremble, *map(model.trembles, drawn))]
    costs, steps = np.array([cost for cost, _ in tried]), np.array([step for _, step in tried])
    moves = steps[1:] - steps[0]
    added = float(np.mean(costs[1:]) - costs[0])
    left = max(_unexplained(model, values, active), 0.0)
    share = 1.0 if added <= left else left / added
    between: Float = share * moves.T @ moves / _IMPUTED
    return between


def _unexplained(model: Model, values: Float, active: NDArray[np.int64]) -> float:
    """What successive residuals have in common, which is about 0 if they are noise, as squares."""
    gaps = model.residuals(model.predicted(model.actuators(values), model.starts)) * model.weights
    # What is fitted makes successive residuals of noise differ by as much.
    return float((gaps[:, 1:] * gaps[:, :-1]).sum()) + model.starts.size + len(active)
