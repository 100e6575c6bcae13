"""A driver without a goal: smooth random steering and speed."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import RandomDriverConfig
from sim.drivers.base import KernelDriver, Seat
from sim.layout import TARGET_SPEED, TARGET_STEER
from sim.native import record
from sim.physics.noise import mix, stream

Float = NDArray[np.float64]

_USE: Final = np.uint64(0x8CB92BA72F3D8DD7)  # tells this stream from that of the scans' noise
_S11: Final = np.uint64(11)


@njit(cache=True, nogil=True, error_model="numpy")
def _uniform(key: np.uint64, index: int, use: int) -> float:
    """Random number in [0, 1), the same for the same arguments."""
    return float(mix(stream(key ^ _USE, index, use)) >> _S11) * 2.0**-53


@njit(cache=True, nogil=True, error_model="numpy")
def _random(
    settings: NDArray[np.void],
    steps: NDArray[np.int64],
    noise_key: NDArray[np.uint64],
    difficulty: Float,
    commands: Float,
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car = driver.car
    for e in range(first, last):
        time = steps[e] / driver.interval
        knot = int(time)
        t = time - knot
        t = t * t * (3.0 - 2.0 * t)
        key = noise_key[e]
        steer = _uniform(key, knot, 2 * car)
        steer += t * (_uniform(key, knot + 1, 2 * car) - steer)
        speed = _uniform(key, knot, 2 * car + 1)
        speed += t * (_uniform(key, knot + 1, 2 * car + 1) - speed)
        commands[e, car, TARGET_STEER] = driver.steer * (2.0 * steer - 1.0)
        fast = driver.speed_low + driver.speed_range * speed
        commands[e, car, TARGET_SPEED] = difficulty[e] * fast


class RandomDriver(KernelDriver):
    """Steer and accelerate smoothly between random values.

    Every ``interval`` a steering angle is drawn uniformly from [-steer, steer] times the car's
    limit, and a speed from [speed_min, speed]; in between, both follow the cubic 3 t^2 - 2 t^3
    from one to the next (value noise). The draws are hashes of the episode's noise key, the car
    and their number, so an episode's seed alone decides them. It sees nothing and will crash.

    Args:
        config: The driver.
        seat: Where it sits.
    """

    def __init__(self, config: RandomDriverConfig, seat: Seat) -> None:
        settings = record(
            car=seat.car,
            steer=config.steer * seat.vehicle.steer_max,  # rad, at most to either side
            speed_low=config.speed_min,  # m/s
            speed_range=config.speed - config.speed_min,  # m/s
            # Physics steps between two random numbers.
            interval=config.interval / seat.env.physics_step,
        )
        super().__init__(seat, _random, ["steps", "noise_key"], settings)
