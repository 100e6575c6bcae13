"""What an agent sees, as one float32 vector; the parts are tabled at `sim.envs`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, ObservationPart
from sim.layout import SLIP, STEER, YAW, YAW_RATE, V, X, Y
from sim.tracks import Track
from sim.tracks.track import BORDER
from sim.world import WorldArrays

# What 1 stands for in the parts `motion` and `others`.
YAW_RATE_SCALE: Final = 2.0 * math.pi  # rad/s; tyres hold about 3.7 rad/s at full steering
SLIP_SCALE: Final = math.pi / 4  # rad
OTHERS_SCALE: Final = 2.0  # m; the distance along an axis that reads 0.5

LIDAR: Final = 0
POSE: Final = 1
MOTION: Final = 2
OTHERS: Final = 3
PARTS: Final = {"lidar": LIDAR, "pose": POSE, "motion": MOTION, "others": OTHERS}


# What an agent's observation depends on, one record an agent.
_AGENT: Final = np.dtype(
    [
        ("car", np.int64),  # its index among the cars
        ("speed_max", np.float64),  # m/s
        ("steer_max", np.float64),  # rad
    ]
)


@njit(cache=True, nogil=True, error_model="numpy")
def _unit(value: float) -> float:
    return min(max(value, -1.0), 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _others(state: NDArray[np.float64], car: int, out: NDArray[np.float32], at: int) -> int:
    C = len(state)
    x, y, yaw = state[car, X], state[car, Y], state[car, YAW]
    cos, sin = math.cos(yaw), math.sin(yaw)
    for k in range(1, C):
        other = state[(car + k) % C]
        dx, dy = other[X] - x, other[Y] - y
        forward, left = cos * dx + sin * dy, cos * dy - sin * dx
        out[at] = forward / (abs(forward) + OTHERS_SCALE)
        out[at + 1] = left / (abs(left) + OTHERS_SCALE)
        out[at + 2] = math.sin(other[YAW] - yaw)
        out[at + 3] = math.cos(other[YAW] - yaw)
        at += 4
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _observe(
    state: NDArray[np.float64],
    scan: NDArray[np.float32],
    track: NDArray[np.int64],
    parts: NDArray[np.int64],
    agents: NDArray[np.void],
    scales: NDArray[np.float64],
    observations: NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    beams = scan.shape[2]
    for e in range(first, last):
        t = track[e]
        for a in range(len(agents)):
            agent, at = agents[a], 0
            own, out = state[e, agent.car], observations[e, a]
            for part in parts:
                if part == LIDAR:
                    for b in range(beams):
                        out[at + b] = min(max(scan[e, agent.car, b] * scales[t, 0], 0.0), 1.0)
                    at += beams
                elif part == POSE:
                    out[at] = _unit((own[X] - scales[t, 1]) * scales[t, 3])
                    out[at + 1] = _unit((own[Y] - scales[t, 2]) * scales[t, 4])
                    out[at + 2] = math.sin(own[YAW])
                    out[at + 3] = math.cos(own[YAW])
                    at += 4
                elif part == MOTION:
                    out[at] = _unit(own[V] / agent.speed_max)
                    out[at + 1] = _unit(own[STEER] / agent.steer_max)
                    out[at + 2] = _unit(own[YAW_RATE] / YAW_RATE_SCALE)
                    out[at + 3] = _unit(own[SLIP] / SLIP_SCALE)
                    at += 4
                else:
                    at = _others(state[e], agent.car, out, at)


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
        parts: What is observed; none: the environment's setting.
    """
    sizes = {"lidar": config.lidar.beams, "others": 4 * (len(config.cars) - 1)}
    return tuple((part, sizes.get(part, 4)) for part in parts or config.observation)


class Observer:
    """Writes the observations of some cars.

    Args:
        config: The environment.
        tracks: The tracks it drives on.
        cars: Indices of the cars that observe, A; none: the agents, which have no driver.
        parts: What they observe; none: the environment's setting.

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
        if cars is None:
            cars = [i for i, car in enumerate(config.cars) if car.driver is None]
        if parts is None:
            parts = config.observation
        # By track: range, and where the pose's zero is and how much a metre is.
        self._scales = np.empty((len(tracks), 5))
        self._scales[:, 0] = 1.0 / config.lidar.max_range
        for scales, track in zip(self._scales, tracks, strict=True):
            low, high = free_box(track)
            scales[1:3], scales[3:5] = (low + high) / 2, 2.0 / (high - low)
        self._parts = np.array([PARTS[part] for part in parts], np.int64)
        self._agents = np.array(
            [(i, config.cars[i].vehicle.speed_max, config.cars[i].vehicle.steer_max) for i in cars],
            _AGENT,
        )
        self.parts = observation_parts(config, parts)
        lows = [
            np.full(size, 0.0 if part == "lidar" else -1.0, np.float32) for part, size in self.parts
        ]
        if not sum(map(len, lows)):
            raise ValueError(f"the observation {list(parts)} of a single car is empty")
        self.low: NDArray[np.float32] = np.concatenate(lows)
        self.high: NDArray[np.float32] = np.ones_like(self.low)

    def observe(
        self, world: WorldArrays, observations: NDArray[np.float32], first: int, last: int
    ) -> None:
        """Write the observations of the environments ``first`` to ``last - 1``.

        Args:
            world: The world to look at.
            observations: (E, A, D), written.
            first: First environment.
            last: One past the last environment.
        """
        _observe(
            world.state,
            world.scan,
            world.track,
            self._parts,
            self._agents,
            self._scales,
            observations,
            first,
            last,
        )
