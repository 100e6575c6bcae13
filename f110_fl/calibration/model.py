"""Predictions of a log's windows, and how they change with a car's parameters."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.calibration.drive_log import SPEED, YAW, YAW_RATE, DriveLog, Float
from f110_fl.calibration.drive_log import X as X_CHANNEL
from f110_fl.calibration.drive_log import Y as Y_CHANNEL
from f110_fl.calibration.parameters import FRICTION, FRONT, LATE, PARAMETERS, REAR, vector_of
from f110_fl.calibration.windows import Windows
from sim.config import VehicleConfig
from sim.layout import TARGET_SPEED, TARGET_STEER
from sim.physics.prediction import held_means, predict, pursued_speeds, steered, trembled

_STARTS: Final = 6  # of a window: x, y, yaw, speed, yaw rate, slip
_SLIP: Final = 5
_MOVES: Final = (3, 4, 5)  # those that change a prediction in no simple way
_NUDGES: Final = {3: 1e-3, 4: 1e-3, 5: 1e-4}
_SLIP_STD: Final = 0.5  # rad, of what is thought of a window's first slip beforehand
_ROUNDS: Final = 2
_SHORTER: Final = 0.3  # of a step that made a window worse
_SAME: Final = 1e-3  # of a step by which times of commands are rounded


class Actuators(NamedTuple):
    """What a car does of itself, by the steps of its own, at whose edges commands reach it.

    Attributes:
        phase: Of a step, by which they begin later than those of the windows, less one.
        pursued: (K + 1,) m/s, by the speed's controller.
        steer: (K + 2,) rad, at the edges of the steps.
        vector: (P,) parameters, see `sim.physics.vehicle`.
    """

    phase: float
    pursued: Float
    steer: Float
    vector: Float


class Model:
    """Predicts a log's windows with any parameters, each from the start that suits it best.

    Args:
        log: The drive.
        windows: Its windows.
        given: Settings of the car that are not fitted.
        dt: Step, s.

    Attributes:
        weights: (W, S, 6) of the residuals, 0 where nothing was measured; may be changed.
        starts: (W, 6), columns of `sim.physics.prediction.STARTS`, the best that are known.
        tremble: (K + 1,) rad at the edges of the windows' steps, which the wheels stand beside
            where a servo that stops at its target has them; 0 at first, may be changed.
    """

    def __init__(self, log: DriveLog, windows: Windows, given: VehicleConfig, dt: float) -> None:
        self.windows, self.given, self.dt = windows, given, dt
        self._log = log
        self._steer_delay = given.steer_delay * dt
        self.weights = np.isfinite(windows.measured).astype(np.float64)
        self._samples = windows.steps + windows.shares
        self._missing = np.isnan(windows.measured)
        self._measured = np.nan_to_num(windows.measured)
        self._first = self._first_starts()
        self.starts = self._first.copy()
        self.tremble = np.zeros(len(windows.edges))

    def actuators(self, values: Float) -> Actuators:
        """Return what the car does of itself, with parameters (P,)."""
        times, commands = self._log.command_times, self._log.commands
        late = float(values[LATE])
        phase = late / self.dt % 1.0
        edges = self.edges(phase)
        vector = vector_of(values, self.given, self.dt)
        targets = held_means(times, commands[:, TARGET_SPEED], edges, late)
        pursued = np.empty(len(targets))
        pursued_speeds(targets, vector, self.dt, pursued)
        steer = self._steered(late, vector, edges)
        steer += np.interp(edges, self.windows.edges, self.tremble)
        return Actuators(phase, pursued, steer, vector)

    def edges(self, phase: float) -> Float:
        """Return the edges of the car's own steps, s, (K + 2,); see `Actuators`."""
        count = len(self.windows.edges) + 1
        return np.asarray(self.windows.edges[0] + self.dt * (np.arange(count) + phase - 1))

    def steering(self, values: Float) -> Float:
        """Return the steering angle, rad, at the edges of the windows' steps, (K + 1,)."""
        return self._stops(values) + self.tremble

    def trembled(self, values: Float) -> Float:
        """Return the same of the simulator's servo, which has a tremble of its own.

        Its commands come late by a whole number of steps.
        """
        delay = max(round(float(values[LATE]) / self.dt), 0)
        arrivals = np.ceil(self._log.command_times / self.dt - _SAME).astype(np.int64) + delay
        angles = np.empty(len(self.windows.edges))
        vector, targets = (
            vector_of(values, self.given, self.dt),
            self._log.commands[:, TARGET_STEER],
        )
        trembled(arrivals, targets, self.given.steer_delay, vector, self.dt, angles)
        return angles

    def trembles(self, values: Float, others: Float | None = None) -> Float:
        """Return how far that servo stands beside one that stops at its target, rad, (K + 1,).

        The latter with ``others``, (P,) parameters; by default the same.
        """
        whole = (values if others is None else others).copy()
        whole[LATE] = self.dt * max(round(float(values[LATE]) / self.dt), 0)
        return self.trembled(values) - self._stops(whole)

    def _stops(self, values: Float) -> Float:
        """The steering angle of a servo that stops at its target, rad, (K + 1,)."""
        vector, edges = vector_of(values, self.given, self.dt), self.windows.edges
        return self._steered(float(values[LATE]), vector, edges)

    def _steered(self, late: float, vector: Float, at: Float) -> Float:
        """The same at other times, (N,) s."""
        arrivals, angles = self._log.command_times + late + self._steer_delay, np.empty(len(at))
        steered(arrivals, self._log.commands[:, TARGET_STEER], vector, at, angles)
        return angles

    def predicted(self, actuators: Actuators, starts: Float) -> Float:
        """Return predictions, (W, S, 6), columns of `CHANNELS`, from starts (W, 6)."""
        windows = self.windows
        found = np.empty((*windows.steps.shape, _STARTS))
        predict(starts, windows.first, self._samples, *actuators, self.dt, found)
        return found

    def residuals(self, predicted: Float) -> Float:
        """Return predictions less measurements, (W, S, 6), in units; 0 where there are none."""
        found = predicted - self._measured
        found[..., YAW] -= math.tau * np.round(found[..., YAW] / math.tau)
        found[self._missing] = 0.0
        return found

    def settled(self, values: Float) -> Float:
        """Find the starts that suit parameters best, and return the residuals, (W, S, 6).

        A few steps of Gauss and Newton, with the slopes where they begin: at the best starts that
        are known, which the new ones become, or at what was measured if that suits a window better.
        """
        actuators = self.actuators(values)
        self._begin(actuators)
        predicted, slopes = self.slopes(actuators, self.starts)
        normal, prior = self.normal(slopes)
        gaps, costs = self._judged(predicted, self.starts)
        share = np.ones((len(self.starts), 1))
        for _ in range(_ROUNDS):
            pull = summed(slopes, (gaps * self.weights)[..., None])[..., 0]
            pull[:, _SLIP] += prior * self.starts[:, _SLIP]
            moves = np.linalg.solve(normal, pull[..., None])[..., 0]
            moved = self.starts - share * np.clip(moves, -1.0, 1.0)
            new_gaps, new_costs = self._judged(self.predicted(actuators, moved), moved)
            better = new_costs < costs
            self.starts[better], gaps[better] = moved[better], new_gaps[better]
            costs[better] = new_costs[better]
            share[~better] *= _SHORTER
        return gaps

    def jacobian(self, values: Float, active: NDArray[np.int64]) -> Float:
        """Return how weighted residuals change with parameters while starts follow.

        Kaufman's approximation (BIT 15, 1975) of the derivative of a projected problem.

        Args:
            values: (P,), for which the starts are known (`settled`).
            active: (A,) indices of the parameters.

        Returns:
            (W, S, 6, A)
        """
        base, slopes = self.slopes(self.actuators(values), self.starts)
        normal, _ = self.normal(slopes)
        columns = np.empty((*self.weights.shape, len(active)))
        for place, index in enumerate(active):
            step = PARAMETERS[index].step
            moved = values.copy()
            moved[index] += step
            if index == FRICTION:  # stiffnesses that are not fitted keep their own values
                moved[[i for i in (FRONT, REAR) if i not in active]] += step
            change = self.predicted(self.actuators(moved), self.starts) - base
            columns[..., place] = change / step * self.weights
        inner = np.linalg.solve(normal, summed(slopes, columns))
        flat = len(slopes), -1, _STARTS
        return columns - (slopes.reshape(flat) @ inner).reshape(columns.shape)

    def _begin(self, actuators: Actuators) -> None:
        """Take the first starts again where they suit a window better than the best known."""
        _, known = self._judged(self.predicted(actuators, self.starts), self.starts)
        _, first = self._judged(self.predicted(actuators, self._first), self._first)
        again = first < known
        self.starts[again] = self._first[again]

    def _judged(self, predicted: Float, starts: Float) -> tuple[Float, Float]:
        """Residuals, (W, S, 6), and the costs of the windows, (W,)."""
        gaps = self.residuals(predicted)
        costs = ((gaps * self.weights) ** 2).sum(axis=(1, 2))
        return gaps, costs + (starts[:, _SLIP] / _SLIP_STD) ** 2

    def slopes(self, actuators: Actuators, starts: Float) -> tuple[Float, Float]:
        """Predictions, and how they change with starts, weighted: (W, S, 6) and (W, S, 6, 6)."""
        predicted = self.predicted(actuators, starts)
        slopes = np.zeros((*predicted.shape, _STARTS))
        slopes[..., X_CHANNEL, 0] = slopes[..., Y_CHANNEL, 1] = slopes[..., YAW, 2] = 1.0
        slopes[..., X_CHANNEL, 2] = -(predicted[..., Y_CHANNEL] - starts[:, None, 1])
        slopes[..., Y_CHANNEL, 2] = predicted[..., X_CHANNEL] - starts[:, None, 0]
        for column in _MOVES:
            moved = starts.copy()
            moved[:, column] += _NUDGES[column]
            slopes[..., column] = (self.predicted(actuators, moved) - predicted) / _NUDGES[column]
        return predicted, slopes * self.weights[..., None]

    def normal(self, slopes: Float) -> tuple[Float, float]:
        """Normal matrices of the starts, (W, 6, 6), and the weight of the slip's prior."""
        normal = summed(slopes, slopes)
        diagonal = np.arange(_STARTS)
        normal[:, diagonal, diagonal] += 1e-9  # where no pose was measured
        prior = 1.0 / _SLIP_STD**2
        normal[:, _SLIP, _SLIP] += prior
        return normal, prior

    def _first_starts(self) -> Float:
        """As the first measurements of each window say, (W, 6)."""
        measured, (count, size) = self.windows.measured, self.windows.steps.shape
        starts = np.zeros((count, _STARTS))
        for w in range(count):
            for column in (X_CHANNEL, Y_CHANNEL, YAW, SPEED, YAW_RATE):
                known = measured[w, :, column][np.isfinite(measured[w, :, column])]
                few = 3 if column in (SPEED, YAW_RATE) and size > 5 else 1
                starts[w, column] = known[:few].mean() if len(known) else 0.0
        return starts


def summed(one: Float, other: Float) -> Float:
    """Products of (W, S, 6, I) and (W, S, 6, J), summed over each window: (W, I, J)."""
    flat = one.reshape(len(one), -1, one.shape[-1])
    product: Float = flat.transpose(0, 2, 1) @ other.reshape(len(one), -1, other.shape[-1])
    return product
