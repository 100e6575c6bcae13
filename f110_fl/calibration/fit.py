"""Fits a car's parameters to a log by the errors of open-loop predictions over its windows."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from f110_fl.calibration.drive_log import DriveLog, Float
from f110_fl.calibration.model import Model, summed
from f110_fl.calibration.parameters import (
    FRICTION,
    FRONT,
    LATE,
    NAMES,
    PARAMETERS,
    REAR,
    natural,
    searched,
    starting,
    unfit,
)
from f110_fl.calibration.search import first_delay, reweigh, rms, search, squares
from f110_fl.calibration.servo import find_tremble, tremble_covariance
from f110_fl.calibration.windows import Windows, cut
from sim.config import VehicleConfig

# First guess of the noise of each channel; later, what the residuals say.
_NOISE: Final = (0.02, 0.02, 0.02, 0.1, 0.1, 0.02)
_BLOCK: Final = 2.0  # s that are left out at a time, for the jackknife
_TOLERANCES: Final = (1e-3, 1e-6)  # of a search; before each, residuals are weighed anew
_CONFIDENCE: Final = 0.95


class Estimate(NamedTuple):
    """What a log says of a parameter, in the unit of the setting.

    Attributes:
        name: Of the setting.
        value: The estimate; as given, where the log does not identify it.
        low: Of the 95 % interval; as ``value`` there.
        high: Likewise.
        given: Before.
        missing: Why it is not identified; empty if it is.
    """

    name: str
    value: float
    low: float
    high: float
    given: float
    missing: str = ""


class Fit(NamedTuple):
    """The result.

    Attributes:
        estimates: In the order of `PARAMETERS`.
        noise: (6,) root mean square of the residuals by channel, in its unit; NaN if not measured.
        before: The same with the settings given.
        windows: What was predicted.
        predicted: (W, S, 6), columns of `CHANNELS`.
        steering: (K + 1,) rad, at the edges of the steps.
        trembles: Whether the servo trembles around its target, as the simulator's does.
    """

    estimates: tuple[Estimate, ...]
    noise: Float
    before: Float
    windows: Windows
    predicted: Float
    steering: Float
    trembles: bool

    def estimate(self, name: str) -> Estimate:
        """Return the estimate of a parameter."""
        return self.estimates[NAMES.index(name)]


def fit(log: DriveLog, given: VehicleConfig, dt: float, length: float = 1.0) -> Fit:
    """Fit the parameters that the log identifies; the others stay as given.

    Least squares over all windows, whose starts are fitted, too, with the servo that explains the
    log better: one that stops at its target, or one that trembles around it. Of the parameters
    whose 95 % intervals are too wide to say anything, the least certain is set back to what was
    given and the rest is fitted anew, until all are certain. So is a friction whose interval leaves
    out what was given though that explains the log as well.

    Args:
        log: The drive.
        given: The car, as far as it is known.
        dt: Step of the simulator for which delays are counted, s.
        length: Of a window, s.

    Raises:
        UserError: If the log has too little driving.
    """
    windows = cut(log, length, dt)
    model = Model(log, windows, given, dt)
    mask = model.weights.copy()
    known = np.asarray(mask.any(axis=(0, 1)))
    model.weights = mask / np.array(_NOISE)
    before = rms(model.settled(searched(given, dt)), mask)
    values, missing = starting(given, dt), unfit(given)
    values[LATE] = first_delay(model, values)
    active = np.array([i for i, name in enumerate(NAMES) if name not in missing])
    values = search(model, values, active, _TOLERANCES[0])
    values, spread = find_tremble(model, values, active, mask)
    while True:
        active = np.array([i for i, name in enumerate(NAMES) if name not in missing])
        for tolerance in _TOLERANCES:
            reweigh(model, model.settled(values), mask)
            values = search(model, values, active, tolerance)
        covariance, count = _covariance(model, values, active)
        covariance = covariance + tremble_covariance(model, values, active, covariance)
        covariance += spread[np.ix_(active, active)]
        worst, ratio = _least_certain(covariance, active, count)
        if ratio <= 1.0:
            if not _misleads(model, values, active, covariance, count, given, dt):
                break
            worst = FRICTION
        missing[NAMES[worst]] = "the log does not identify it"
        values = _set_back(values, worst, given, dt, missing)
    estimates = _estimates(values, covariance, active, count, given, dt, missing)
    actuators = model.actuators(values)
    predicted = model.predicted(actuators, model.starts)
    trembles = bool(model.tremble.any())
    noise = np.where(known, rms(model.residuals(predicted), mask), np.nan)
    before = np.where(known, before, np.nan)
    return Fit(estimates, noise, before, windows, predicted, model.steering(values), trembles)


def _covariance(model: Model, values: Float, active: NDArray[np.int64]) -> tuple[Float, int]:
    """Covariance of the parameters, (A, A), and the number of blocks that it comes from.

    Two estimates, of which each parameter has the wider: Gauss-Newton's, for residuals that know
    nothing of each other; and the jackknife over blocks of consecutive windows, which also holds
    if those within a block do (Cameron and Miller, "A practitioner's guide to cluster-robust
    inference", 2015, section VI.B, CV3), linearised.
    """
    residuals = model.settled(values) * model.weights
    slopes = model.jacobian(values, active)
    windows = model.windows
    scale = np.sqrt(np.einsum("wsca,wsca->a", slopes, slopes))
    dead = scale < 1e-9 * scale.max()
    scale[dead] = 1.0
    slopes = slopes / scale
    size = max(1, round(_BLOCK / windows.length))
    blocks = np.arange(len(slopes)) // size
    count = int(blocks[-1]) + 1
    information = np.zeros((count, len(active), len(active)))
    scores = np.zeros((count, len(active)))
    np.add.at(information, blocks, summed(slopes, slopes))
    np.add.at(scores, blocks, summed(slopes, residuals[..., None])[..., 0])
    ridge = 1e-10 * np.eye(len(active))
    total = information.sum(axis=0) + ridge
    freedom = np.count_nonzero(model.weights) - model.starts.size - len(active)
    plain = np.linalg.inv(total) * (residuals**2).sum() / max(freedom, 1)
    moved = np.linalg.solve(total - information, scores[..., None])[..., 0]
    moved -= moved.mean(axis=0)
    jackknife = (count - 1) / count * moved.T @ moved
    wide, least = np.diag(plain), np.diag(jackknife)
    widen = np.sqrt(np.maximum(1.0, wide / np.maximum(least, 1e-12 * wide)))
    covariance = jackknife * np.outer(widen, widen) / np.outer(scale, scale)
    covariance[dead, dead] = np.inf
    return covariance, count


def _reach(count: int) -> float:
    """Half of a 95 % interval, in standard errors."""
    return float(student.ppf((1.0 + _CONFIDENCE) / 2, max(count - 1, 1)))


def _errors(covariance: Float, active: NDArray[np.int64]) -> Float:
    """Standard errors of all parameters, (P,), as `natural` has them, stiffnesses apart."""
    combined = np.zeros((len(PARAMETERS), len(active)))
    combined[active, np.arange(len(active))] = 1.0
    for index in (FRONT, REAR):  # their product with the friction is what was searched
        if index in active and FRICTION in active:
            combined[index, list(active).index(FRICTION)] -= 1.0
    return np.asarray(np.sqrt(np.einsum("pa,ab,pb->p", combined, covariance, combined)))


def _least_certain(covariance: Float, active: NDArray[np.int64], count: int) -> tuple[int, float]:
    """The parameter whose interval is the widest, as share of what is allowed; and that share."""
    widest = np.array([PARAMETERS[i].widest for i in active])
    ratios = _reach(count) * np.sqrt(np.diag(covariance)) / widest
    ratios = np.where(np.isfinite(ratios), ratios, np.inf)
    place = int(np.argmax(ratios))
    return int(active[place]), float(ratios[place])


def _misleads(
    model: Model,
    values: Float,
    active: NDArray[np.int64],
    covariance: Float,
    count: int,
    given: VehicleConfig,
    dt: float,
) -> bool:
    """Whether the friction's interval leaves out what was given, which explains the log as well.

    A tyre below its limit hardly tells its friction, and then the squares are not quadratic in it,
    as intervals take them to be. So the rest is fitted with the friction given, and the squares
    that this adds are held against what the interval allows (Venzon and Moolgavkar, "A method for
    computing profile-likelihood-based confidence intervals", 1988).
    """
    place = np.flatnonzero(active == FRICTION)
    if not len(place):
        return False
    variance = float(covariance[place[0], place[0]])
    away = (searched(given, dt)[FRICTION] - values[FRICTION]) ** 2
    reach = _reach(count) ** 2
    if away <= reach * variance:
        return False
    slopes = model.jacobian(values, active)
    information = summed(slopes, slopes).sum(axis=0)
    scale = np.sqrt(np.diag(information))
    plain = np.linalg.inv(information / np.outer(scale, scale)) / np.outer(scale, scale)
    starts, least = model.starts.copy(), squares(model, values)
    held = _set_back(values, FRICTION, given, dt, {})
    held = search(model, held, np.delete(active, place), _TOLERANCES[-1])
    added = squares(model, held) - least
    model.starts[...] = starts
    # What a square counts: neighbouring residuals are not independent, as `_covariance` knows.
    return bool(added * plain[place[0], place[0]] <= reach * variance)


def _set_back(
    values: Float, index: int, given: VehicleConfig, dt: float, missing: dict[str, str]
) -> Float:
    """Set a parameter to what was given; of a tyre, its stiffness, not the product searched."""
    old = searched(given, dt)
    found = values.copy()
    found[index] = old[index]
    for tyre in (FRONT, REAR):
        if NAMES[tyre] in missing:
            found[tyre] = old[tyre] - old[FRICTION] + found[FRICTION]
    return found


def _estimates(
    values: Float,
    covariance: Float,
    active: NDArray[np.int64],
    count: int,
    given: VehicleConfig,
    dt: float,
    missing: dict[str, str],
) -> tuple[Estimate, ...]:
    reach = _reach(count) * _errors(covariance, active)
    best = natural(values, dt)
    found = []
    for index, parameter in enumerate(PARAMETERS):
        before = float(getattr(given, parameter.name))
        if parameter.name in missing:
            found.append(
                Estimate(parameter.name, before, before, before, before, missing[parameter.name])
            )
            continue
        ends = []
        for sign in (-1.0, 1.0):
            if index in (FRONT, REAR):  # as logarithm of the stiffness itself
                ends.append(float(best[index] * np.exp(sign * reach[index])))
                continue
            moved = values.copy()
            moved[index] += sign * reach[index]
            if parameter.low == 0.0:
                moved[index] = max(moved[index], 0.0)
            ends.append(float(natural(moved, dt)[index]))
        found.append(Estimate(parameter.name, float(best[index]), ends[0], ends[1], before))
    return tuple(found)
