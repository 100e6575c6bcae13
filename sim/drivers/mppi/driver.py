"""Sampled model-predictive control: MPPI.

Williams, Wagener, Goldfain, Drews, Rehg, Boots and Theodorou, "Information theoretic MPC for
model-based reinforcement learning", ICRA 2017.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import MppiConfig, VehicleConfig
from sim.drivers.base import KernelDriver, Seat
from sim.drivers.line import bends, racelines, read_lines
from sim.drivers.mppi.cost import Scene, follow_line, foresee_others, path_cost
from sim.drivers.mppi.model import Motion, car_settings, roll
from sim.layout import SLIP, STEER, TARGET_SPEED, TARGET_STEER, YAW, YAW_RATE, V, X, Y
from sim.native import record
from sim.physics.noise import normal_pair, stream
from sim.settings import numbers
from sim.tracks.centerline import Centerline, polyline
from sim.tracks.gates import make_gates
from sim.tracks.raceline import minimum_curvature
from sim.tracks.speeds import Limits, speed_profile
from sim.tracks.stack import field_of, line_of, stack_tracks
from sim.tracks.track import Track, TrackError

Float = NDArray[np.float64]

_USE: Final = np.uint64(0x5851F42D4C957F2D)  # tells this stream from others of the noise key
_PACES: Final = (0.85, 0.6, 0.0)  # of the line's speeds, of samples that follow it
_LEAST: Final = 1e-4  # weights below this part of the largest do not count
_SLOWEST: Final = 1e-3  # least difficulty reckoned with
_MARGIN: Final = 0.3  # m, from the sides of the car on the computed line to walls


class Plans(NamedTuple):
    """What is remembered of an episode, and working memory."""

    plan: Float  # (E, N, 2) steering angles to turn to, rad, and accelerations, m/s^2
    told: Float  # (E, 2) the command before: rad and m/s
    costs: Float  # (E, K) m
    work: Float  # (E, 2, N, 2) controls of a sample, and their mean
    others: Float  # (E, C, N, 4) x m, y m, cosine and sine of yaw of other cars, foreseen


@njit(cache=True, nogil=True, error_model="numpy")
def _shift(plan: Float, steps: float) -> None:
    """Let so many steps of a plan pass, also a part of one; its last step goes on."""
    count = len(plan)
    for k in range(count):
        at = min(k + steps, count - 1.0)
        i = int(at)
        j = min(i + 1, count - 1)
        for c in range(2):
            plan[k, c] = plan[i, c] + (at - i) * (plan[j, c] - plan[i, c])


@njit(cache=True, nogil=True, error_model="numpy")
def _disturbed(driver: Any, plan: Float, key: np.uint64, sample: int, controls: Float) -> None:
    """Write a sample's controls: the plan, and noise that fades from step to step."""
    fade, fresh = driver.fade, math.sqrt(1.0 - driver.fade * driver.fade)
    first = second = 0.0
    for k in range(len(plan)):
        a, b = normal_pair(key, sample * len(plan) + k)
        share = 1.0 if k == 0 else fresh
        first = fade * first + share * a
        second = fade * second + share * b
        steer = plan[k, 0] + driver.steer_noise * first
        acceleration = plan[k, 1] + driver.acceleration_noise * second
        limit, most = driver.steer_max, driver.acceleration_max
        controls[k, 0] = min(max(steer, -limit), limit)
        controls[k, 1] = min(max(acceleration, -most), most)


@njit(cache=True, nogil=True, error_model="numpy")
def _sample(
    driver: Any, scene: Scene, motion: Motion, key: np.uint64, plan: Float, i: int, controls: Float
) -> None:
    """Write the controls of sample i: the plan, ways along the line, or the plan with noise."""
    if i == 0:
        controls[:] = plan
    elif i <= len(_PACES):
        follow_line(driver, scene, motion, _PACES[i - 1], controls)
    else:
        _disturbed(driver, plan, key, i, controls)


@njit(cache=True, nogil=True, error_model="numpy")
def _improve(
    driver: Any,
    scene: Scene,
    motion: Motion,
    key: np.uint64,
    plan: Float,
    costs: Float,
    work: Float,
    others: Float,
) -> None:
    """Move a plan to the mean of its samples, weighted by exp(-cost / temperature)."""
    controls, mean = work[0], work[1]
    least = math.inf
    for i in range(len(costs)):
        _sample(driver, scene, motion, key, plan, i, controls)
        costs[i] = path_cost(driver, scene, motion, controls, others)
        least = min(least, costs[i])
    total = 0.0
    mean[:] = 0.0
    for i in range(len(costs)):
        weight = math.exp((least - costs[i]) / driver.temperature)
        if weight > _LEAST:
            _sample(driver, scene, motion, key, plan, i, controls)
            total += weight
            for k in range(len(plan)):
                for c in range(2):
                    mean[k, c] += weight * controls[k, c]
    for k in range(len(plan)):
        for c in range(2):
            plan[k, c] = mean[k, c] / total


@njit(cache=True, nogil=True, error_model="numpy")
def _speed_told(driver: Any, speed: float, acceleration: float) -> float:
    """Speed to ask for, so that the car's speed controller gives an acceleration for a period.

    The controller's is a gain times the missing speed, at most what the motor can, so that the
    speed comes near to the one asked for exponentially.
    """
    if acceleration < 0.0:
        rate, period = driver.braking_rate, driver.period
    else:
        rate, period = driver.driving_rate, driver.period
    gained = acceleration * period
    told = gained / (1.0 - math.exp(-rate * period))
    if abs(told) * rate > driver.acceleration_max:
        # The motor gives all it can at first: for so long that the rest makes up the gain.
        told = math.copysign(abs(gained) + driver.acceleration_max / rate, gained)
        told *= abs(acceleration) / driver.acceleration_max
    return min(max(speed + told, 0.0), driver.speed)


@njit(cache=True, nogil=True, error_model="numpy")
def _mppi(
    settings: NDArray[np.void],
    state: Float,
    track: NDArray[np.int64],
    steps: NDArray[np.int64],
    noise_key: NDArray[np.uint64],
    tracks: Any,
    speeds: Float,
    starts: NDArray[np.int64],
    sizes: Float,
    plans: Plans,
    difficulty: Float,
    commands: Float,
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car = driver.car
    for e in range(first, last):
        on = track[e]
        field, line = field_of(tracks, on), line_of(tracks.lines, on)
        scene = Scene(field, line, speeds[starts[on] : starts[on + 1]], sizes)
        own, plan, told = state[e, car], plans.plan[e], plans.told[e]
        # A car that is to be slower everywhere drives as at full speed in slower time.
        slower = max(difficulty[e], _SLOWEST)
        speed, rate = own[V] / slower, own[YAW_RATE] / slower
        motion = own[X], own[Y], own[STEER], speed, own[YAW], rate, own[SLIP]
        if driver.delay > 0.0:
            gained = 0.0
            motion = roll(driver, motion, told[0], gained, driver.speed, driver.delay * slower)
        foresee_others(driver, scene, state[e], plans.others[e])
        _shift(plan, driver.period * slower / driver.interval)
        for i in range(driver.iterations):
            key = stream(noise_key[e] ^ _USE, steps[e] * driver.iterations + i, car)
            _improve(
                driver,
                scene,
                motion,
                key,
                plan,
                plans.costs[e],
                plans.work[e],
                plans.others[e],
            )
        told[0] = plan[0, 0]
        told[1] = slower * _speed_told(driver, speed, plan[0, 1])
        commands[e, car, TARGET_STEER], commands[e, car, TARGET_SPEED] = told


class Mppi(KernelDriver):
    """Drive the best of many plans that the car's model is rolled out with.

    Args:
        config: The driver.
        seat: Where it sits.

    Raises:
        ValueError: If there is no line.
        TrackError: If the raceline's file is wrong.
    """

    def __init__(self, config: MppiConfig, seat: Seat) -> None:
        vehicle, env = seat.vehicle, seat.env
        period = env.physics_step * env.physics_steps_per_action
        count = max(round(config.horizon / config.interval), 2)
        speed = min(config.speed, vehicle.speed_max)
        settings = record(
            car=seat.car,
            **car_settings(vehicle),
            **{
                **numbers(config),
                "speed": speed,
            },
            length=vehicle.length,  # m
            width=vehicle.width,  # m
            period=period,  # s
            delay=env.physics_step * (vehicle.steer_delay + vehicle.command_delay),  # s
            fade=math.exp(-config.interval / config.correlation),
            # 1/s, at which the car's speed controller nears its target
            driving_rate=10.0 * vehicle.acceleration_max / vehicle.speed_max,
            braking_rate=10.0 * vehicle.acceleration_max / -vehicle.speed_min,
        )
        lines = _lines(config, seat)
        tables = [_passing_speeds(line, config, vehicle, speed) for line in lines]
        tracks = stack_tracks(
            [track.field for track in seat.tracks],
            lines,
            [make_gates(track) for track in seat.tracks],
        )
        cars, batch = len(env.cars), seat.num_envs
        sizes = np.array([(car.vehicle.length, car.vehicle.width) for car in env.cars])
        self._plans = Plans(
            plan=np.zeros((batch, count, 2)),
            told=np.zeros((batch, 2)),
            costs=np.zeros((batch, config.samples)),
            work=np.zeros((batch, 2, count, 2)),
            others=np.zeros((batch, cars, count, 4)),
        )
        super().__init__(
            seat,
            _mppi,
            ["state", "track", "steps", "noise_key"],
            settings,
            tracks,
            np.concatenate(tables),
            np.cumsum([0, *map(len, tables)]),
            sizes,
            self._plans,
        )

    def reset(self, env: int) -> None:
        """Forget the plan."""
        self._plans.plan[env] = 0.0
        self._plans.told[env] = 0.0


def _lines(config: MppiConfig, seat: Seat) -> list[Centerline]:
    """Lines along which progress counts, one a track.

    Raises:
        ValueError: As `racelines` and `read_lines`.
        TrackError: As `racelines`.
    """
    known = racelines(seat, config.raceline)
    if known:
        return [line for line, _ in known]
    read_lines(seat)
    return [_best_line(track, seat.vehicle.width) for track in seat.tracks]


@lru_cache(maxsize=64)
def _best_line(track: Track, width: float) -> Centerline:
    """The line of least curvature of a closed track that is wide enough, or its centre line."""
    try:
        return polyline(minimum_curvature(track, width / 2 + _MARGIN), closed=True)
    except TrackError:
        return track.line


def _passing_speeds(
    line: Centerline, config: MppiConfig, vehicle: VehicleConfig, fastest: float
) -> Float:
    """(N,) m/s, at which places of a line, evenly spaced, can be passed."""
    limits = Limits(
        lateral=config.acceleration,
        longitudinal=config.acceleration,
        braking=vehicle.acceleration_max,
        fastest=fastest,
    )
    bend = bends(line)
    return speed_profile(bend, line.length / len(bend), limits, closed=line.closed)
