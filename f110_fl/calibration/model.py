"""Predictions of a log's windows, and how they change with a car's parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        edges = self.windows.edges[0] + self.dt * (
            np.arange(len(self.windows.edges) + 1) + phase - 1
        )
        vector = vector_of(values, self.given, self.dt)
        targets = held_means(times, commands[:, TARGET_SPEED], edges, late)
        pursued, steer = np.empty(len(targets)), np.empty(len(edges))
        pursued_speeds(targets, vector, self.dt, pursued)
        self._steer(late, vector, edges, steer)
        return Actuators(phase, pursued, steer, vector)

    def steering(self, values: Float) -> Float:
        """Return the steering angle, rad, at the edges of the windows' steps, (K + 1,)."""
        angles = np.empty(len(self.windows.edges))
        vector = vector_of(values, self.given, self.dt)
        self._steer(float(values[LATE]), vector, self.windows.edges, angles)
        return angles

    def _steer(self, late: float, vector: Float, at: Float, angles: Float) -> None:
        arrivals = self._log.command_times + late + self._steer_delay
        steered(arrivals, self._log.commands[:, TARGET_STEER], vector, at, angles)
        angles += np.interp(at, self.windows.edges, self.tremble)

    def trembles(self, values: Float) -> Float:
        """Return how far the simulator's servo stands beside one that stops, rad, (K + 1,).

        Its commands come late by a whole number of steps.
        """
        vector, edges = vector_of(values, self.given, self.dt), self.windows.edges
        times, targets = self._log.command_times, self._log.commands[:, TARGET_STEER]
        delay = max(round(float(values[LATE]) / self.dt), 0)
        arrivals = np.ceil(times / self.dt - _SAME).astype(np.int64) + delay
        stops, trembles = np.empty(len(edges)), np.empty(len(edges))
        steered(times + delay * self.dt + self._steer_delay, targets, vector, edges, stops)
        trembled(arrivals, targets, self.given.steer_delay, vector, self.dt, trembles)
        return trembles - stops

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
        predicted, slopes = self._slopes(actuators, self.starts)
        normal, prior = self._normal(slopes)
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

    def compared(
        self, values: Float, active: NDArray[np.int64], trembles: Sequence[Float]
    ) -> tuple[Float, Float]:
        """Compare trembles, by a step of Gauss and Newton from parameters near to what suits them.

        Slopes are common to all; nothing is changed.

        Args:
            values: (P,), for which the starts are known (`settled`).
            active: (A,) indices of the parameters.
            trembles: M of them.

        Returns:
            The sums of squares that are left after the step, (M,), and the steps, (M, A).
        """
        jacobian = self.jacobian(values, active).reshape(-1, len(active))
        _, slopes = self._slopes(self.actuators(values), self.starts)
        inverse = np.linalg.inv(self._normal(slopes)[0])
        basis, scales = np.linalg.qr(jacobian)
        own, costs, reached = self.tremble, np.empty(len(trembles)), []
        for place, self.tremble in enumerate(trembles):
            predicted = self.predicted(self.actuators(values), self.starts)
            gaps = self.residuals(predicted) * self.weights
            pull = summed(slopes, gaps[..., None])[..., 0]
            reached.append(basis.T @ gaps.ravel())
            explained = np.einsum("wi,wij,wj", pull, inverse, pull) + (reached[-1] ** 2).sum()
            costs[place] = (gaps**2).sum() - explained
        self.tremble = own
        return costs, -np.linalg.lstsq(scales, np.array(reached).T)[0].T

    def jacobian(self, values: Float, active: NDArray[np.int64]) -> Float:
        """Return how weighted residuals change with parameters while starts follow.

        Kaufman's approximation (BIT 15, 1975) of the derivative of a projected problem.

        Args:
            values: (P,), for which the starts are known (`settled`).
            active: (A,) indices of the parameters.

        Returns:
            (W, S, 6, A)
        """
        base, slopes = self._slopes(self.actuators(values), self.starts)
        normal, _ = self._normal(slopes)
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

    def _slopes(self, actuators: Actuators, starts: Float) -> tuple[Float, Float]:
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

    def _normal(self, slopes: Float) -> tuple[Float, float]:
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
