"""Searches for the parameters that predict a log's windows best, and weighs its residuals."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from f110_fl.calibration.drive_log import Float
from f110_fl.calibration.model import Model
from f110_fl.calibration.parameters import FRICTION, FRONT, LATE, PARAMETERS, REAR, limits

_DELAYS: Final = (0.0, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3)  # s, to begin a search with
_OUTLIER: Final = 4.0  # standard deviations from which on residuals weigh less (Huber 1964)
_ODD: Final = 3.0  # times the usual error of a window, from which on it is left out


def search(model: Model, values: Float, active: NDArray[np.int64], tolerance: float) -> Float:
    """Return the parameters with the least squares, from those given on."""
    low, high = limits()
    held = [i for i in (FRONT, REAR) if i not in active]

    def whole(part: Float) -> Float:
        found = values.copy()
        found[active] = part
        found[held] += found[FRICTION] - values[FRICTION]  # stiffnesses keep their own values
        return found

    def residuals(part: Float) -> Float:
        return (model.settled(whole(part)) * model.weights).ravel()

    def jacobian(part: Float) -> Float:
        return model.jacobian(whole(part), active).reshape(-1, len(active))

    scale = np.array([PARAMETERS[i].step for i in active])
    begin = np.clip(values[active], low[active] + 1e-9, high[active] - 1e-9)
    bounds = low[active], high[active]
    found = least_squares(
        *(residuals, begin, jacobian, bounds),
        x_scale=scale,
        ftol=tolerance,
        xtol=tolerance,
        gtol=tolerance,
        max_nfev=40,
    )
    return whole(found.x)


def squares(model: Model, values: Float) -> float:
    """Return what a search makes small, at parameters (P,)."""
    return float(((model.settled(values) * model.weights) ** 2).sum())


def first_delay(model: Model, values: Float) -> float:
    """Return the delay to begin with, s: of some, the one that leaves the least squares."""
    costs = []
    for delay in _DELAYS:
        moved = values.copy()
        moved[LATE] = delay
        costs.append(squares(model, moved))
    return _DELAYS[int(np.argmin(costs))]


def reweigh(model: Model, residuals: Float, mask: Float) -> None:
    """Weigh channels by their residuals, outliers less, and windows of another kind not at all.

    Of another kind are those that no parameters explain: contacts, spins, a car that was lifted.
    """
    known = mask.any(axis=(0, 1))
    noise = np.maximum(np.where(known, rms(residuals, mask), 1.0), 1e-9)
    for _ in range(5):  # outliers inflate what they are measured by
        away = np.abs(residuals) / noise
        share = np.minimum(1.0, _OUTLIER / np.maximum(away, 1e-9))
        size = np.sqrt((away**2 * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2)))
        share[size > _ODD * np.median(size)] = 0.0
        noise = np.where(known, rms(residuals * np.sqrt(share), mask * (share > 0.0)), 1.0)
        noise = np.maximum(noise, 1e-9)
    model.weights = mask * np.sqrt(share) / noise


def rms(residuals: Float, mask: Float) -> Float:
    """Root mean squares by channel, (6,), of residuals (W, S, 6); 0 without any."""
    count = np.maximum(mask.sum(axis=(0, 1)), 1.0)
    return np.asarray(np.sqrt((residuals**2 * mask).sum(axis=(0, 1)) / count))
