"""The parameters of a car that are fitted, and how settings become numbers to search among."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.config import VehicleConfig
from sim.physics.vehicle import (
    A_MAX,
    C_SF,
    C_SR,
    COMMAND_DELAY,
    COMMAND_JITTER,
    DELAY,
    MU,
    SPEED_GAIN,
    SPEED_LAG,
    STEER_GAIN,
    STEER_RATE_MAX,
    STEER_TRIM,
    vehicle_vector,
)

Float = NDArray[np.float64]


class Parameter(NamedTuple):
    """A parameter that is fitted.

    Attributes:
        name: Of the setting in `VehicleConfig`.
        unit: Of the setting.
        what: In words.
        logarithm: Whether its logarithm is searched, and ``step`` and ``widest`` are shares.
        low: Smallest value that is searched.
        high: Largest.
        step: Of differences.
        widest: Half the widest 95 % interval of a parameter that counts as identified.
    """

    name: str
    unit: str
    what: str
    logarithm: bool
    low: float
    high: float
    step: float
    widest: float


# `command_delay` is searched in seconds, and `speed_lag` as what it delays on average.
PARAMETERS: Final = (
    Parameter("speed_lag", "s", "lag of the speed", False, 0.0, 2.0, 1e-3, 0.1),
    Parameter("speed_gain", "", "gain of the speed", False, 0.5, 2.0, 1e-4, 0.2),
    Parameter("acceleration_max", "m/s²", "motor and brakes", True, 0.5, 100.0, 1e-3, 0.5),
    Parameter("steer_gain", "", "gain of the steering", False, 0.5, 2.0, 1e-4, 0.2),
    Parameter("steer_trim", "rad", "trim of the steering", False, -0.3, 0.3, 1e-4, 0.05),
    Parameter("steer_rate_max", "rad/s", "rate of the steering", True, 0.2, 50.0, 1e-3, 0.5),
    Parameter("command_delay", "steps", "delay of commands", False, 0.0, 0.5, 1e-3, 0.05),
    Parameter("friction", "", "friction of tyre and road", True, 0.05, 5.0, 1e-3, 0.7),
    Parameter(
        "stiffness_front", "1/rad", "cornering stiffness, front", True, 0.5, 200.0, 1e-3, 0.7
    ),
    Parameter("stiffness_rear", "1/rad", "cornering stiffness, rear", True, 0.5, 200.0, 1e-3, 0.7),
)
NAMES: Final = tuple(parameter.name for parameter in PARAMETERS)
LAG, _, ACCELERATION, GAIN, TRIM, RATE, LATE, FRICTION, FRONT, REAR = range(len(PARAMETERS))
_COLUMNS: Final = {
    "speed_gain": SPEED_GAIN,
    "acceleration_max": A_MAX,
    "steer_gain": STEER_GAIN,
    "steer_trim": STEER_TRIM,
    "steer_rate_max": STEER_RATE_MAX,
    "friction": MU,
}
_FIRST_LAG: Final = 0.05  # s; without any, predictions would not change with it


def unfit(given: VehicleConfig) -> dict[str, str]:
    """Return the parameters that the model of a car does not have, and why."""
    if given.model == "kinematic":
        why = "the kinematic model has no tyres"
        return dict.fromkeys(("friction", "stiffness_front", "stiffness_rear"), why)
    if given.tyre.kind == "linear":
        return {"friction": "linear tyres have but its product with the stiffness"}
    return {}


def searched(given: VehicleConfig, dt: float) -> Float:
    """Return a car's settings as numbers to search among, (P,) in the order of `PARAMETERS`."""
    values = np.array([float(getattr(given, name)) for name in NAMES])
    values[LAG] = mean_delay(given.speed_lag, dt)
    values[LATE] *= dt
    values[[FRONT, REAR]] *= given.friction  # what a tyre pushes by its angle, over its load
    logarithms = [parameter.logarithm for parameter in PARAMETERS]
    values[logarithms] = np.log(values[logarithms])
    return values


def starting(given: VehicleConfig, dt: float) -> Float:
    """Return where a search begins, (P,): at the settings given, but with some lag."""
    values = searched(given, dt)
    values[LAG] = max(values[LAG], _FIRST_LAG)
    return np.clip(values, *limits())


def limits() -> tuple[Float, Float]:
    """Return the smallest and largest numbers to search among, (P,) each."""
    low = np.array([math.log(p.low) if p.logarithm else p.low for p in PARAMETERS])
    high = np.array([math.log(p.high) if p.logarithm else p.high for p in PARAMETERS])
    # Stiffnesses are multiplied with the friction.
    low[[FRONT, REAR]] += math.log(PARAMETERS[FRICTION].low)
    high[[FRONT, REAR]] += math.log(PARAMETERS[FRICTION].high)
    return low, high


def natural(values: Float, dt: float) -> Float:
    """Return the settings that numbers stand for, (P,)."""
    found = values.copy()
    for index, parameter in enumerate(PARAMETERS):
        if parameter.logarithm:
            found[index] = math.exp(found[index])
    found[[FRONT, REAR]] /= found[FRICTION]
    found[LAG] = time_constant(found[LAG], dt)
    found[LATE] /= dt
    return found


def vector_of(values: Float, given: VehicleConfig, dt: float) -> Float:
    """Return the parameters of a car, (VEHICLE_SIZE,), without its delays."""
    settings: Mapping[str, float] = dict(zip(NAMES, natural(values, dt), strict=True))
    vector = vehicle_vector(given)
    for name, column in _COLUMNS.items():
        vector[column] = settings[name]
    vector[SPEED_LAG] = settings["speed_lag"]
    vector[C_SF], vector[C_SR] = settings["stiffness_front"], settings["stiffness_rear"]
    vector[[COMMAND_DELAY, COMMAND_JITTER, DELAY]] = 0.0
    return vector


def mean_delay(lag: float, dt: float) -> float:
    """Return by how much a lag delays on average, s: steps of dt times a / (1 - a).

    This changes smoothly down to no lag, where the simulator's ``a = exp(-dt / lag)`` is flat.
    """
    return dt / math.expm1(dt / lag) if lag > 0.0 and dt / lag < 700.0 else 0.0


def time_constant(mean: float, dt: float) -> float:
    """Return the lag, s, that delays so much on average; the inverse of `mean_delay`."""
    return dt / math.log1p(dt / mean) if mean > 1e-12 else 0.0
