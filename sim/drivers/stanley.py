"""A driver that follows a line with its front axle: the controller of the car Stanley.

Hoffmann, Tomlin, Montemerlo and Thrun, "Autonomous Automobile Trajectory Tracking for Off-Road
Driving: Controller Design, Experimental Validation and Racing", American Control Conference, 2007.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import StanleyConfig
from sim.drivers.base import Seat
from sim.drivers.line import LineDriver, Routes, entry_at, route_on, wrapped
from sim.drivers.racing import compensation, foreseen, raced, slip_behind
from sim.layout import TARGET_SPEED, TARGET_STEER, YAW_RATE, V
from sim.native import record
from sim.tracks.centerline import point_at, project

_TURN: Final = 0.5  # m of the line, over which its turning is measured


@njit(cache=True, nogil=True, error_model="numpy")
def _stanley(
    settings: NDArray[np.void],
    state: NDArray[np.float64],
    track: NDArray[np.int64],
    routes: Routes,
    difficulty: NDArray[np.float64],
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car, on = driver.car, track[first]
    line, speeds = route_on(routes, on)
    for e in range(first, last):
        if track[e] != on:
            on = track[e]
            line, speeds = route_on(routes, on)
        own = state[e, car]
        x, y, yaw = foreseen(own, driver.lead)
        x += driver.front_axle * math.cos(yaw)
        y += driver.front_axle * math.sin(yaw)
        s, left = project(line, x, y)
        _, _, course = point_at(line, s, 0.0)
        # The ends of an open line are as straight as what is nearest to them.
        begin, end = s - _TURN / 2, s + _TURN / 2
        if not line.closed:
            begin, end = max(begin, 0.0), min(end, line.length)
        _, _, before = point_at(line, begin, 0.0)
        _, _, after = point_at(line, end, 0.0)
        curve = wrapped(after - before, math.tau) / max(end - begin, 1e-9)
        speed = abs(own[V])
        if driver.compensate:
            yaw += slip_behind(own, driver.rear_axle)
        heading = wrapped(course - yaw, math.tau)
        steer = heading - math.atan2(driver.gain * left, driver.softening + speed)
        steer += driver.yaw_damping * (own[V] * curve - own[YAW_RATE])
        if driver.compensate:
            # Wheels along the line; of what is off it, as much as the car turns away before the
            # next command takes effect: with more it would swing.
            along = math.asin(min(max(driver.wheelbase * curve, -1.0), 1.0))
            share = min(1.0, driver.wheelbase / max(speed * driver.settling, 1e-9))
            steer = along + share * (steer - along)
        bend = math.tan(min(max(steer, -driver.steer_max), driver.steer_max)) / driver.wheelbase
        steer += driver.understeer * own[V] * own[V] * curve
        commands[e, car, TARGET_STEER] = min(max(steer, -driver.steer_max), driver.steer_max)
        fastest = math.sqrt(driver.grip / max(abs(bend), 1e-9))
        entry = entry_at(line, s, len(speeds))
        commands[e, car, TARGET_SPEED] = min(difficulty[e] * speeds[entry], fastest)


class Stanley(LineDriver):
    """Keep the front axle on a line, at the speed that the line's bends allow.

    The steering angle is the paper's law, without its terms for slipping tyres and a slow
    steering servo:

        delta = (psi_line - psi) - atan(gain * e / (softening + |v|)) + damping * (r_line - r)

    psi_line is the heading of the line at the point nearest to the front axle, psi the car's,
    e the distance of the front axle from the line, positive to the left, in m, v the speed in
    m/s, r the yaw rate and r_line, v times the line's curvature, that of a car on it, in rad/s.
    Without the last term the front axle's error falls as de/dt = -gain e / sqrt(1 + (gain e /
    v)^2), so exponentially where it is small, whatever the speed. Bends need no other term: on a
    circle the front wheels point along it when the front axle is on it.

    One that compensates, to race,

    - steers from where the car will be when its steering takes effect, as `PurePursuit` does, which
      takes the place of the damping;
    - takes the way that the rear axle moves as the car's heading, and adds to the steering angle
      the difference of the axles' slip angles;
    - steers asin(wheelbase * curvature), which holds the front axle on the line, and of what the
      law above asks for beyond that the share wheelbase / (v * time), at most 1: in the time until
      the next command takes effect the car so turns by the missing angle, not farther;
    - chooses speeds as `PurePursuit` does.

    Args:
        config: The driver.
        seat: Where it sits.

    Raises:
        ValueError: As `followed`.
        TrackError: As `followed`.
    """

    def __init__(self, config: StanleyConfig, seat: Seat) -> None:
        compensated = compensation(config, seat)
        period = seat.env.physics_step * seat.env.physics_steps_per_action
        settings = record(
            car=seat.car,
            steer_max=seat.vehicle.steer_max,  # rad
            front_axle=seat.vehicle.front_axle,  # m ahead of the centre of gravity
            rear_axle=seat.vehicle.rear_axle,  # m behind it
            wheelbase=seat.vehicle.front_axle + seat.vehicle.rear_axle,  # m
            gain=config.gain,
            softening=config.softening,
            yaw_damping=0.0 if config.compensate else config.yaw_damping,
            settling=compensated["lead"] + period / 2,  # s, until the next command takes effect
            **compensated,
        )
        super().__init__(seat, _stanley, settings, raced(config, seat))
