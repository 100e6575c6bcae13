"""Compares how well trembles of a servo explain a log, without a search for each."""

from __future__ import annotations

from typing import Final

import numpy as np

from f110_fl.calibration.drive_log import Float
from f110_fl.calibration.model import Model, summed

_ODD: Final = 4.0  # times the usual squares of a window, of which no window counts more
_ROUNDS: Final = 3  # in which it is found which windows do


class Comparison:
    """Compares trembles, by a step of Gauss and Newton from parameters near to what suits them.

    Slopes are common to all, and windows for which they do not hold count as four usual ones: where
    tyres slide, a window's start can be too far from what suits it.

    Args:
        model: Of the log, with the best tremble so far; not changed.
        values: (P,) parameters, for which the starts are known (`Model.settled`).
        columns: (W, S, 6, A), how weighted residuals change with what may follow a tremble
            (`Model.jacobian`, or linear combinations of its columns).

    Attributes:
        own: Squares that are left with the model's own tremble.
    """

    def __init__(self, model: Model, values: Float, columns: Float) -> None:
        self._model = model
        self._actuators = model.actuators(values)
        self._at = model.edges(self._actuators.phase)
        self._stops = self._actuators.steer - self._tremble(model.tremble)
        self._slopes = model.slopes(self._actuators, model.starts)[1]
        self._inverse = np.linalg.inv(model.normal(self._slopes)[0])
        self._columns, self._normal = columns, summed(columns, columns)
        self.own = self(model.tremble)[0]

    def __call__(self, tremble: Float) -> tuple[float, Float]:
        """Return the squares that are left with a tremble, (K + 1,) rad, and the step, (A,)."""
        model = self._model
        actuators = self._actuators._replace(steer=self._stops + self._tremble(tremble))
        gaps = model.residuals(model.predicted(actuators, model.starts)) * model.weights
        starts = summed(self._slopes, gaps[..., None])
        costs = (gaps**2).sum(axis=(1, 2))
        costs -= np.einsum("wia,wij,wja->w", starts, self._inverse, starts)
        pull = summed(self._columns, gaps[..., None])[..., 0]
        usual = np.ones(len(costs), dtype=bool)
        for _ in range(_ROUNDS):
            total = self._normal[usual].sum(axis=0)
            step = -np.linalg.lstsq(total, pull[usual].sum(axis=0))[0]
            left = costs + (2 * pull + self._normal @ step) @ step
            most = _ODD * float(np.median(left))
            usual = left <= most
        return float(np.minimum(left, most).sum()), step

    def _tremble(self, tremble: Float) -> Float:
        """At the edges of the car's steps, (K + 2,)."""
        return np.interp(self._at, self._model.windows.edges, tremble)
