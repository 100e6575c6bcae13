"""What an agent sees, as one float32 vector; `sim.envs` has a table of the parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, ObservationPart
from sim.layout import SLIP, STEER, YAW, YAW_RATE, V, X, Y
from sim.native import Kernel, Settings, bound, call, calls, record
from sim.physics.kernels import WorldArrays
from sim.physics.odometry import HEADING_ERROR, SPEED_FACTOR, X_ERROR, Y_ERROR, YAW_RATE_ERROR
from sim.tracks.track import BORDER, Track

# What 1 stands for in the parts `motion` and `others`.
YAW_RATE_SCALE: Final = 2.0 * math.pi  # rad/s; tyres hold about 3.7 rad/s at full steering
SLIP_SCALE: Final = math.pi / 4  # rad
OTHERS_SCALE: Final = 2.0  # m; the distance along an axis that reads 0.5

Float = NDArray[np.float64]
Observations = NDArray[np.float32]  # (E, A, D)


class Seen(NamedTuple):
    """What observations are made of, for kernels; handing on the whole world would cost 0.2 us."""

    state: Float  # of `WorldArrays`, as are the next three
    odometry: Float
    scan: NDArray[np.float32]
    track: NDArray[np.int64]
    # (T, 2, 2) for x and y: the middle of the box around each track, m; 1 / half its size, 1/m.
    boxes: Float


class Mirror(NamedTuple):
    """Exchanges left and right: what is at i becomes ``signs[i]`` times what is at ``order[i]``.

    Twice, it changes nothing.
    """

    order: NDArray[np.int64]  # (D,)
    signs: NDArray[np.float32]  # (D,) 1 or -1

    def __call__(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what cars with observations (..., D) would see in the mirrored world."""
        mirrored: NDArray[np.float32] = observations[..., self.order] * self.signs
        return mirrored


class _Part(NamedTuple):
    """A part of an observation.

    Its kernel is called as ``write(part, world, observations, first, last)`` for each car that
    observes, and writes ``size`` numbers, from ``observations[e, part.row, part.at]`` on, of the
    environments ``first`` to ``last - 1``; ``part`` is from `_settings`.

    In a mirrored world it shows ``mirror(size)`` of what it shows in this one. The mirror stands
    along x in the middle of the track's box: a car's y, yaw, steering, yaw rate and slip change
    their sign, the first beam becomes the last.
    """

    size: Callable[[EnvConfig], int]
    low: float  # smallest value; the largest is 1
    write: Kernel
    mirror: Callable[[int], Mirror]


def _settings(config: EnvConfig, car: int, row: int, at: int) -> Settings:
    """What the kernels of all parts read."""
    return record(
        car=car,  # index among the cars
        row=row,  # index among those that observe
        at=at,  # where the part starts
        per_metre=1.0 / config.lidar.max_range,
        speed_max=config.cars[car].vehicle.speed_max,  # m/s
        steer_max=config.cars[car].vehicle.steer_max,  # rad
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _unit(value: float) -> float:
    return min(max(value, -1.0), 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _lidar(part: Any, world: Seen, observations: Observations, first: int, last: int) -> None:
    for e in range(first, last):
        scan = world.scan[e, part.car]
        out = observations[e, part.row, part.at : part.at + len(scan)]  # so it is vectorised
        for b in range(len(scan)):
            out[b] = min(max(scan[b] * part.per_metre, 0.0), 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _plus(value: float, error: float) -> float:
    """The sum; of no error the value itself, as adding 0 would change the sign of a 0."""
    return value if error == 0.0 else value + error


@njit(cache=True, nogil=True, error_model="numpy")
def _pose(part: Any, world: Seen, observations: Observations, first: int, last: int) -> None:
    at = part.at
    for e in range(first, last):
        own, out = world.state[e, part.car], observations[e, part.row]
        box = world.boxes[world.track[e]]
        odometry = world.odometry[e, part.car]
        x, y = _plus(own[X], odometry[X_ERROR]), _plus(own[Y], odometry[Y_ERROR])
        yaw = _plus(own[YAW], odometry[HEADING_ERROR])
        out[at] = _unit((x - box[0, 0]) * box[1, 0])
        out[at + 1] = _unit((y - box[0, 1]) * box[1, 1])
        out[at + 2] = math.sin(yaw)
        out[at + 3] = math.cos(yaw)


@njit(cache=True, nogil=True, error_model="numpy")
def _motion(part: Any, world: Seen, observations: Observations, first: int, last: int) -> None:
    at = part.at
    for e in range(first, last):
        own, out = world.state[e, part.car], observations[e, part.row]
        odometry = world.odometry[e, part.car]
        yaw_rate = _plus(own[YAW_RATE], odometry[YAW_RATE_ERROR])
        out[at] = _unit(odometry[SPEED_FACTOR] * own[V] / part.speed_max)
        out[at + 1] = _unit(own[STEER] / part.steer_max)
        out[at + 2] = _unit(yaw_rate / YAW_RATE_SCALE)
        out[at + 3] = _unit(own[SLIP] / SLIP_SCALE)


@njit(cache=True, nogil=True, error_model="numpy")
def _others(part: Any, world: Seen, observations: Observations, first: int, last: int) -> None:
    for e in range(first, last):
        state, out, at = world.state[e], observations[e, part.row], part.at
        x, y, yaw = state[part.car, X], state[part.car, Y], state[part.car, YAW]
        cos, sin = math.cos(yaw), math.sin(yaw)
        for k in range(1, len(state)):
            other = state[(part.car + k) % len(state)]
            dx, dy = other[X] - x, other[Y] - y
            forward, left = cos * dx + sin * dy, cos * dy - sin * dx
            out[at] = forward / (abs(forward) + OTHERS_SCALE)
            out[at + 1] = left / (abs(left) + OTHERS_SCALE)
            out[at + 2] = math.sin(other[YAW] - yaw)
            out[at + 3] = math.cos(other[YAW] - yaw)
            at += 4


@njit(cache=True, nogil=True, error_model="numpy")
def _others_velocity(
    part: Any, world: Seen, observations: Observations, first: int, last: int
) -> None:
    for e in range(first, last):
        state, out, at = world.state[e], observations[e, part.row], part.at
        own = state[part.car]
        cos, sin = math.cos(own[YAW]), math.sin(own[YAW])
        way = own[YAW] + own[SLIP]
        own_x, own_y = own[V] * math.cos(way), own[V] * math.sin(way)
        for k in range(1, len(state)):
            other = state[(part.car + k) % len(state)]
            way = other[YAW] + other[SLIP]
            vx, vy = other[V] * math.cos(way) - own_x, other[V] * math.sin(way) - own_y
            out[at] = _unit((cos * vx + sin * vy) / part.speed_max)
            out[at + 1] = _unit((cos * vy - sin * vx) / part.speed_max)
            at += 2


def _reversed(size: int) -> Mirror:
    return Mirror(np.arange(size)[::-1], np.ones(size, np.float32))


def _signed(*signs: int) -> Callable[[int], Mirror]:
    """Return the mirror of numbers that stay in place; the signs are repeated."""
    return lambda size: Mirror(np.arange(size), np.resize(signs, size).astype(np.float32))


# The parts that `sim.config.env.ObservationPart` names; `sim.envs` tells what their numbers mean.
PARTS: Final[dict[ObservationPart, _Part]] = {
    "lidar": _Part(lambda env: env.lidar.beams, 0.0, _lidar, _reversed),
    "pose": _Part(lambda _: 4, -1.0, _pose, _signed(1, -1, -1, 1)),
    "motion": _Part(lambda _: 4, -1.0, _motion, _signed(1, -1, -1, -1)),
    "others": _Part(lambda env: 4 * (len(env.cars) - 1), -1.0, _others, _signed(1, -1, -1, 1)),
    "others_velocity": _Part(
        lambda env: 2 * (len(env.cars) - 1), -1.0, _others_velocity, _signed(1, -1)
    ),
}


@njit(cache=True, nogil=True, error_model="numpy")
def _observe(
    world: Seen, observations: Observations, parts: NDArray[np.void], first: int, last: int
) -> None:
    for k in range(len(parts)):
        part = parts[k]
        call(part.function, part.settings, world, observations, first, last)


def free_box(track: Track) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Box, along x and y, around the rectangle of a track's free cells.

    Args:
        track: The track; its grid may be turned.

    Returns:
        The lower and the upper corner, (2,) m each.
    """
    height, width = track.distance.shape
    x, y, yaw = track.origin
    edges_x = np.array([BORDER, width - BORDER]) * track.resolution
    edges_y = np.array([BORDER, height - BORDER]) * track.resolution
    across, along = np.meshgrid(edges_x, edges_y)
    corners = np.stack(
        [
            x + np.cos(yaw) * across - np.sin(yaw) * along,
            y + np.sin(yaw) * across + np.cos(yaw) * along,
        ],
        axis=-1,
    ).reshape(-1, 2)
    return corners.min(axis=0), corners.max(axis=0)


def observation_parts(
    config: EnvConfig, parts: Sequence[ObservationPart] | None = None
) -> tuple[tuple[ObservationPart, int], ...]:
    """Name and size of each part of an observation, in order.

    Args:
        config: The environment.
        parts: What is observed; None: the environment's setting.
    """
    return tuple((part, PARTS[part].size(config)) for part in parts or config.observation)


def is_symmetric(track: Track) -> bool:
    """Return whether a track is its own image in a mirror along x in the middle of its box.

    So must be its walls and, in its direction, the centre line.
    """
    if math.sin(track.origin[2]) != 0.0 or not np.array_equal(track.distance, track.distance[::-1]):
        return False
    low, high = free_box(track)
    offsets = track.centerline[:, 1] - (low[1] + high[1]) / 2
    return bool((np.abs(offsets) < track.resolution / 2).all())


def check_mirrored(config: EnvConfig, tracks: Sequence[Track]) -> None:
    """Check that an agent cannot tell the mirrored world from one that it drives in.

    Driving in a mirrored world is as driving in this one, with left and right exchanged. Without
    ``pose`` that world is just another track; with it, it must be the same track.

    Args:
        config: The environment.
        tracks: The tracks it drives on.

    Raises:
        ValueError: If ``pose`` is observed and a track is not symmetric.
    """
    wrong = [track.name for track in tracks if not is_symmetric(track)]
    if wrong and "pose" in config.observation:
        raise ValueError(
            f"with pose in the observation, track {wrong[0]} must be its own image in a mirror "
            "along x in the middle of its box; allowed: an observation without pose, or a "
            "straight track along x, such as line2"
        )


def observation_mirror(config: EnvConfig) -> Mirror:
    """Return what maps an environment's observations to those in the mirrored world."""
    mirrors = [PARTS[part].mirror(size) for part, size in observation_parts(config)]
    starts = np.cumsum([0, *(len(mirror.order) for mirror in mirrors[:-1])])
    return Mirror(
        np.concatenate([at + mirror.order for at, mirror in zip(starts, mirrors, strict=True)]),
        np.concatenate([mirror.signs for mirror in mirrors]),
    )


class Observer:
    """Writes the observations of some cars.

    Args:
        config: The environment.
        tracks: The tracks it drives on.
        cars: Indices of the A cars that observe; None: the agents, which have no driver.
        parts: What they observe; None: the environment's setting.

    Attributes:
        low: (D,) float32, smallest value of each component.
        high: (D,) float32, largest value of each component.
        parts: Name and size of each part, in order.

    Raises:
        ValueError: If there is nothing to observe.
    """

    def __init__(
        self,
        config: EnvConfig,
        tracks: Sequence[Track],
        cars: Sequence[int] | None = None,
        parts: Sequence[ObservationPart] | None = None,
    ) -> None:
        cars = config.agent_cars if cars is None else cars
        self.parts = observation_parts(config, parts)
        corners = [free_box(track) for track in tracks]
        self._boxes = np.array([((low + high) / 2, 2.0 / (high - low)) for low, high in corners])
        starts = np.cumsum([0, *(size for _, size in self.parts)]).tolist()
        if not starts[-1]:
            raise ValueError(
                f"the observation {[part for part, _ in self.parts]} of a single car is empty"
            )
        self._kernels = [
            (PARTS[part].write, _settings(config, car, row, at))
            for row, car in enumerate(cars)
            for (part, _), at in zip(self.parts, starts[:-1], strict=True)
        ]
        self._made: tuple[Any, Any, Callable[..., Any]] | None = None
        lows = [np.full(size, PARTS[part].low, np.float32) for part, size in self.parts]
        self.low: NDArray[np.float32] = np.concatenate(lows)
        self.high: NDArray[np.float32] = np.ones_like(self.low)

    def observe(
        self, world: WorldArrays, observations: Observations, first: int, last: int
    ) -> None:
        """Write the observations of the environments ``first`` to ``last - 1``.

        Args:
            world: The world to look at, always the same arrays.
            observations: (E, A, D), written.
            first: First environment.
            last: One past the last environment.
        """
        made = self._made
        if made is None or made[0] is not world or made[1] is not observations:
            seen = Seen(world.state, world.odometry, world.scan, world.track, self._boxes)
            table = calls(self._kernels, seen, observations, 0, 1)
            run = bound(_observe, (seen, observations, table))
            self._made = made = world, observations, run
        made[2](first, last)
