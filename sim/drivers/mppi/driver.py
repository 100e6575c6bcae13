"""Sampled model-predictive control: MPPI.

Williams, Wagener, Goldfain, Drews, Rehg, Boots and Theodorou, "Information theoretic MPC for
model-based reinforcement learning", ICRA 2017.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import MppiConfig
from sim.drivers.base import KernelDriver, Seat
from sim.drivers.line import bends, least_curvature_lines, racelines
from sim.drivers.mppi.cost import Scene, follow_line, foresee_others, path_cost
from sim.drivers.mppi.model import Motion, car_settings, roll
from sim.layout import SLIP, STEER, TARGET_SPEED, TARGET_STEER, YAW, YAW_RATE, V, X, Y
from sim.native import record
from sim.physics.noise import normal_pair, stream
from sim.settings import numbers
from sim.tracks.centerline import Centerline
from sim.tracks.gates import make_gates
from sim.tracks.speeds import Limits, speed_profile
from sim.tracks.stack import TrackStack, field_of, line_of, stack_tracks

Float = NDArray[np.float64]

_USE: Final = np.uint64(0x5851F42D4C957F2D)  # tells this stream from others of the noise key
_PACES: Final = (0.85, 0.6, 0.0)  # of the line's speeds, of samples that follow it
_HALVINGS: Final = 20  # of an interval in which a speed is
_LEAST: Final = 1e-4  # weights below this part of the largest do not count
_SLOWEST: Final = 1e-3  # least difficulty reckoned with


class Courses(NamedTuple):
    """What is known of tracks and cars, for kernels; `scene_on` takes one track's out."""

    tracks: TrackStack  # with the lines along which progress counts as centre lines
    speeds: Float  # (all lines' entries,) m/s, at which places of the lines can be passed
    starts: NDArray[np.int64]  # (T + 1,) where a line's entries begin
    sizes: Float  # (C, 2) m, lengths and widths of the cars


class Plans(NamedTuple):
    """What is remembered of an episode, and working memory."""

    plan: Float  # (E, N, 2) steering angles to turn to, rad, and accelerations, m/s^2
    told: Float  # (E,) steering angle of the command before, rad
    costs: Float  # (E, K) m
    work: Float  # (E, 2, N, 2) controls of a sample, and their mean
    others: Float  # (E, C, N, 4) x m, y m, cosine and sine of yaw of other cars, foreseen


@njit(cache=True, nogil=True, error_model="numpy")
def scene_on(courses: Courses, track: int) -> Scene:
    """What plans on a track are judged by."""
    speeds = courses.speeds[courses.starts[track] : courses.starts[track + 1]]
    field, line = field_of(courses.tracks, track), line_of(courses.tracks.lines, track)
    return Scene(field, line, speeds, courses.sizes)


@njit(cache=True, nogil=True, error_model="numpy")
def shift(plan: Float, steps: float) -> None:
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
def lead_of_speed(acceleration: float, most: float, rate: float, period: float) -> float:
    """How much more speed than a car's is to be asked for, m/s, to accelerate it so for a period.

    Its controller gives ``rate`` times the speed that is missing, at most what the motor can. So
    the missing speed falls steadily, then exponentially.

    Args:
        acceleration: In the mean, from 0 to the most, m/s^2.
        most: What the motor can, m/s^2.
        rate: 1/s.
        period: s.
    """
    gained, slack = acceleration * period, most / rate
    if gained <= slack * (1.0 - math.exp(-rate * period)):  # never more than the motor can
        return gained / (1.0 - math.exp(-rate * period))
    low, high = slack, slack + most * period
    for _ in range(_HALVINGS):
        lead = (low + high) / 2.0
        left = period - (lead - slack) / most  # s, after less is missing than the motor can
        if lead - slack * math.exp(-rate * left) < gained:
            low = lead
        else:
            high = lead
    return high


@njit(cache=True, nogil=True, error_model="numpy")
def _mppi(
    settings: NDArray[np.void],
    state: Float,
    track: NDArray[np.int64],
    steps: NDArray[np.int64],
    noise_key: NDArray[np.uint64],
    courses: Courses,
    plans: Plans,
    difficulty: Float,
    commands: Float,
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car = driver.car
    for e in range(first, last):
        scene = scene_on(courses, track[e])
        own, plan = state[e, car], plans.plan[e]
        # A car that is to be slower everywhere drives as at full speed, in slower time.
        slower = max(difficulty[e], _SLOWEST)
        speed, rate = own[V] / slower, own[YAW_RATE] / slower
        motion = own[X], own[Y], own[STEER], speed, own[YAW], rate, own[SLIP]
        if driver.delay > 0.0:
            motion = roll(driver, motion, plans.told[e], 0.0, driver.speed, driver.delay * slower)
        foresee_others(driver, scene, state[e], plans.others[e])
        shift(plan, driver.period * slower / driver.interval)
        for i in range(driver.iterations):
            key = stream(noise_key[e] ^ _USE, steps[e] * driver.iterations + i, car)
            _improve(
                driver, scene, motion, key, plan, plans.costs[e], plans.work[e], plans.others[e]
            )
        plans.told[e] = plan[0, 0]
        most, wanted = driver.acceleration_max, plan[0, 1]
        told = speed
        if wanted > 0.0:
            told += lead_of_speed(wanted, most, driver.driving_rate, driver.period)
        else:
            told -= lead_of_speed(-wanted, most, driver.braking_rate, driver.period)
        # The mean of angles at the limit may be beyond it by a rounding.
        limit = driver.steer_max
        commands[e, car, TARGET_STEER] = min(max(plan[0, 0], -limit), limit)
        commands[e, car, TARGET_SPEED] = slower * min(max(told, 0.0), driver.speed)


class Mppi(KernelDriver):
    """Drive by plans: steering angles and accelerations for the time ahead, tried out in a model.

    At each command the plan of the one before, moved on by a period, is improved ``iterations``
    times: the car's model (`sim.drivers.mppi.model`) is rolled out with ``samples`` changed plans,
    and the new plan is their mean, weighted by exp(-cost / temperature) (Williams et al., equation
    26 and algorithm 2, without the cost of controls). The changes are normal and fade with
    ``correlation`` from step to step. Four samples have none: the plan itself, and pure pursuit
    of the line at 0.85, 0.6 and none of its speeds, so that there is something sensible to choose
    from at a start and after a surprise (Trevisan and Alonso-Mora, "Biased-MPPI", IEEE Robotics
    and Automation Letters 9, 2024). The noise is a hash of the episode's noise key, the car and
    the time: an episode's seed alone decides.

    The cost of a plan, in metres, is the sum of

    - less the progress along the line, and 10 for touching a wall, where the plan ends;
    - 10 times the time so near to a wall that nothing of ``margin`` is left, less farther away,
      by the square of what is missing of it;
    - 100 times the time at twice ``acceleration``, by the square of the part above it;
    - 20 times the time in the place of another car, its rectangle and the own one's widened by
      ``car_margin``, less near the edge of that; others keep their speed and their distance from
      the line, and those behind do not count;
    - where the plan ends faster than the line's bends ahead allow, twice the way in which
      ``acceleration`` would make up for it; and ``line_weight`` times the squares of the distance
      from the line, m, and of twice the angle to it, rad;
    - 0.05 times the squares of the steering angle's changes, rad.

    The line is the driver's raceline, or the track's, or the line of least curvature 0.3 m away
    from walls, or, where there is none, the centre line. The model knows the settings of the car,
    not what a car has drawn by heterogeneity, its steering's delay, and the gains of its speed
    controller, but no lag, jitter or wrong calibration. Of a difficulty, speeds are those of a
    plan in slower time: below 1 the car drives the same way, more slowly.

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
            **{**numbers(config), "speed": speed},
            length=vehicle.length,  # m
            width=vehicle.width,  # m
            period=period,  # s
            delay=env.physics_step * (vehicle.steer_delay + vehicle.command_delay),  # s
            fade=math.exp(-config.interval / config.correlation),
            # 1/s, at which the car's speed controller nears its target
            driving_rate=10.0 * vehicle.acceleration_max / vehicle.speed_max,
            braking_rate=10.0 * vehicle.acceleration_max / -vehicle.speed_min,
        )
        courses = _courses(seat, _lines(config, seat), config, speed)
        batch, cars = seat.num_envs, len(env.cars)
        self._plans = Plans(
            plan=np.zeros((batch, count, 2)),
            told=np.zeros(batch),
            costs=np.zeros((batch, config.samples)),
            work=np.zeros((batch, 2, count, 2)),
            others=np.zeros((batch, cars, count, 4)),
        )
        arrays = ["state", "track", "steps", "noise_key"]
        super().__init__(seat, _mppi, arrays, settings, courses, self._plans)

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
    return [line for line, _ in known] if known else least_curvature_lines(seat)


def _courses(seat: Seat, lines: list[Centerline], config: MppiConfig, fastest: float) -> Courses:
    """Put tracks with their lines into one set of arrays.

    Args:
        seat: Where the driver sits.
        lines: One a track.
        config: The driver.
        fastest: Speed, m/s.
    """
    limits = Limits(
        lateral=config.acceleration,
        longitudinal=config.acceleration,
        braking=seat.vehicle.acceleration_max,
        fastest=fastest,
    )
    speeds = []
    for line in lines:
        bend = bends(line)
        step = line.length / len(bend)
        speeds.append(speed_profile(bend, step, limits, closed=line.closed))
    fields = [track.field for track in seat.tracks]
    return Courses(
        stack_tracks(fields, lines, [make_gates(track) for track in seat.tracks]),
        np.concatenate(speeds),
        np.cumsum([0, *map(len, speeds)]),
        np.array([(car.vehicle.length, car.vehicle.width) for car in seat.env.cars]),
    )
