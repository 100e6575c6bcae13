"""Logs of a simulated car, whose parameters are known: to prove what a fit says."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from f110_fl.calibration.drive_log import CHANNELS, DriveLog, Float, make_log
from sim.config import CircleTrack, LidarConfig, VehicleConfig
from sim.layout import SLIP, YAW, YAW_RATE, V, X, Y
from sim.physics.world import World
from sim.tracks.factory import make_track

GRAVITY: Final = 9.81  # m/s^2
_ROOM: Final = CircleTrack(radius=100.0, width=190.0, resolution=0.5)  # as wide as a field
_SLIDE: Final = 0.1  # rad, slip from which on a driver lets go of a bend
_BRAKES: Final = 0.5  # m/s above the target: brakes relieve the rear tyres, so bends are gentle
_BRAKING_BEND: Final = 0.4
_STOP: Final = 0.7  # of the largest angle: at the stop, a servo tells nothing of its gain
_SPIN: Final = 0.8  # rad, slip from which on a car has spun, and is driven anew,
_TRIES: Final = 20  # up to so often
_FAR: Final = 30.0  # m from the start, from which on the car is steered back


class Noise(NamedTuple):
    """Standard deviations of measurements.

    Attributes:
        position: m.
        yaw: rad.
        speed: m/s.
        yaw_rate: rad/s.
    """

    position: float = 0.01
    yaw: float = 0.01
    speed: float = 0.05
    yaw_rate: float = 0.03


class Manoeuvres(NamedTuple):
    """How a car is driven: targets drawn anew after a while, held or approached in ramps.

    Attributes:
        slowest: m/s.
        fastest: m/s.
        lateral: m/s^2 to either side, of the bends asked for.
    """

    slowest: float = 1.0
    fastest: float = 6.0
    lateral: float = 9.0


TYPICAL: Final = Noise()
EXPLORING: Final = Manoeuvres()


def record(
    vehicle: VehicleConfig,
    rng: np.random.Generator,
    *,
    seconds: float = 60.0,
    noise: Noise = TYPICAL,
    manoeuvres: Manoeuvres = EXPLORING,
    physics_step: float = 0.01,
    rates: tuple[float, float] = (50.0, 33.0),
) -> DriveLog:
    """Drive a car on an empty field, and return what was measured of it.

    A drive that ends in a spin is driven anew, with other manoeuvres, as one that is to be fitted
    should be.

    Args:
        vehicle: The car.
        rng: For the manoeuvres and the noise.
        seconds: Of driving.
        noise: Of the measurements.
        manoeuvres: How it is driven.
        physics_step: Of the simulator, s.
        rates: Measurements and commands a second, at steps of the simulator.

    Raises:
        ValueError: If the car leaves the field, or always spins.
    """
    every, send_every = (max(1, round(1.0 / (rate * physics_step))) for rate in rates)
    counts = round(seconds / physics_step), every, send_every
    world = World(make_track(_ROOM), [vehicle], LidarConfig(beams=1), physics_step=physics_step)
    for _ in range(_TRIES):
        driver = _Driver(vehicle, manoeuvres, rng, send_every * physics_step)
        seen, sent = _drive(world, driver, rng, physics_step, counts)
        if np.abs(seen[:, 1 + SLIP]).max() < _SPIN:
            break
    else:
        raise ValueError("the car always spins: its manoeuvres are too fast for its tyres")
    measured = np.full((len(seen), len(CHANNELS)), np.nan)
    deviations = (noise.position, noise.position, noise.yaw, noise.speed, noise.yaw_rate)
    for column, (source, deviation) in enumerate(
        zip((X, Y, YAW, V, YAW_RATE), deviations, strict=True)
    ):
        measured[:, column] = seen[:, 1 + source] + rng.normal(0.0, deviation, len(seen))
    return make_log("simulated", seen[:, 0], measured, sent[:, 0], sent[:, 1:])


def _drive(
    world: World,
    driver: _Driver,
    rng: np.random.Generator,
    physics_step: float,
    counts: tuple[int, int, int],
) -> tuple[Float, Float]:
    """Drive for ``counts`` of steps, measured and sent something every so many of them.

    Returns:
        Times, s, and states, (N, 8); times and commands, (M, 3).
    """
    steps, every, send_every = counts
    world.place(0, np.array([[_ROOM.radius, 0.0, math.pi / 2]]), int(rng.integers(2**62)))
    states, commands = [], []
    command = np.zeros(2)
    step = 0
    while step < steps:
        state = world.arrays.state[0, 0]
        if step % every == 0:
            states.append((step * physics_step, *state))
        if step % send_every == 0:
            command = driver.command(state)
            commands.append((step * physics_step, *command))
        ahead = min(every - step % every, send_every - step % send_every)
        world.step(command[None, None], ahead)
        step += ahead
    if world.arrays.crashed.any():
        raise ValueError("the car left the field: its manoeuvres are too fast for its size")
    return np.array(states), np.array(commands)


class _Driver:
    """Asks for speeds and bends, as someone does who explores what a car can do."""

    def __init__(
        self, vehicle: VehicleConfig, manoeuvres: Manoeuvres, rng: np.random.Generator, dt: float
    ) -> None:
        self._vehicle, self._manoeuvres, self._rng, self._dt = vehicle, manoeuvres, rng, dt
        self._speed = self._bend = self._steer = 0.0
        self._until_speed = self._until_bend = 0.0
        self._ramp = math.inf  # rad/s
        self._time = 0.0

    def command(self, state: Float) -> Float:
        """Return the next command, (2,), by where the car is."""
        plan, rng = self._manoeuvres, self._rng
        limit = _STOP * self._vehicle.steer_max
        if self._time >= self._until_speed:
            self._speed = rng.uniform(plan.slowest, plan.fastest)
            self._until_speed = self._time + rng.uniform(0.6, 2.0)
        if self._time >= self._until_bend:
            self._bend = rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 1.0) * plan.lateral
            self._until_bend = self._time + rng.uniform(0.3, 1.0)
            self._ramp = math.inf if rng.random() < 0.5 else rng.uniform(0.5, 3.0)
        self._time += self._dt
        speed = max(float(state[V]), 1.0)
        if abs(state[SLIP]) > _SLIDE:  # it begins to spin: the front wheels follow the velocity
            caught = state[SLIP] + self._vehicle.front_axle * state[YAW_RATE] / speed
            self._steer = min(max(float(caught), -limit), limit)
            return np.array([self._steer, self._speed])
        bend = self._homing(state) if self._is_far(state) else self._bend
        if self._speed < speed - _BRAKES:
            bend *= _BRAKING_BEND
        wheelbase = self._vehicle.front_axle + self._vehicle.rear_axle
        wanted = math.atan(wheelbase * bend / speed**2)
        turn = self._ramp * self._dt
        wanted = min(max(wanted, -limit), limit)
        self._steer += min(max(wanted - self._steer, -turn), turn)
        return np.array([self._steer, self._speed])

    def _is_far(self, state: Float) -> bool:
        return math.hypot(state[X] - _ROOM.radius, state[Y]) > _FAR

    def _homing(self, state: Float) -> float:
        """The lateral acceleration, m/s^2, that turns the car to where it began."""
        ahead = math.atan2(-state[Y], _ROOM.radius - state[X]) - state[YAW]
        ahead -= math.tau * round(ahead / math.tau)
        if abs(ahead) < 0.5:
            return self._bend / 3  # it goes there: let it play
        return math.copysign(0.6 * self._manoeuvres.lateral, ahead)
