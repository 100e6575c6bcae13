"""A driver that defends its place: it stays in front of the car behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d

from sim.config import BlockerConfig, EnvConfig
from sim.drivers.base import Driver
from sim.drivers.line import (
    Routes,
    entry_at,
    make_routes,
    read_lines,
    route_on,
    speed_profile,
    table_size,
    wrapped,
)
from sim.drivers.pure_pursuit import pursue
from sim.layout import TARGET_SPEED, TARGET_STEER, V
from sim.tracks import Track
from sim.world import WorldArrays

_NEIGHBOURS: Final = 9  # entries of a table, about 2 m, whose narrowest place counts

_SETTINGS: Final = np.dtype(
    [
        ("car", np.int64),
        ("target", np.int64),
        ("steer_max", np.float64),  # rad
        ("wheelbase", np.float64),  # m
        ("rear_axle", np.float64),  # m behind the centre of gravity
        ("alongside", np.float64),  # m between the centres of two cars end to end
        ("lookahead", np.float64),  # m
        ("lookahead_time", np.float64),  # s
        ("distance", np.float64),  # m
        ("shift", np.float64),  # m/m
    ]
)


@njit(cache=True, nogil=True, error_model="numpy")
def _blocker(
    world: WorldArrays,
    commands: NDArray[np.float64],
    routes: Routes,
    rooms: NDArray[np.float64],
    settings: NDArray[np.void],
    difficulty: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car, target, on = driver.car, driver.target, world.track[first]
    line, speeds = route_on(routes, on)
    room = rooms[routes.starts[on] : routes.starts[on + 1]]
    for e in range(first, last):
        if world.track[e] != on:
            on = world.track[e]
            line, speeds = route_on(routes, on)
            room = rooms[routes.starts[on] : routes.starts[on + 1]]
        own = world.state[e, car]
        s, offset = world.arc_length[e, car], world.lateral_offset[e, car]
        lead = s - world.arc_length[e, target]
        if line.closed:
            lead = wrapped(lead, line.length)
        wanted = 0.0
        if abs(lead) < driver.alongside:
            wanted = offset
        elif 0.0 < lead < driver.distance:
            wanted = world.lateral_offset[e, target]
        reach = driver.lookahead + driver.lookahead_time * abs(own[V])
        step = driver.shift * reach
        aside = offset + min(max(wanted - offset, -step), step)
        ahead = s - driver.rear_axle + reach
        entry = entry_at(line, ahead, len(room))
        aside = min(max(aside, -room[entry, 1]), room[entry, 0])
        steer = pursue(line, ahead, aside, own, driver.rear_axle, driver.wheelbase)
        commands[e, car, TARGET_STEER] = min(max(steer, -driver.steer_max), driver.steer_max)
        fastest = speeds[entry_at(line, s, len(speeds))]
        commands[e, car, TARGET_SPEED] = difficulty[e] * fastest


class Blocker(Driver):
    """Drive along the lane, where the car behind wants to drive.

    Pure pursuit of a point ahead whose distance from the centre line is, by where the target is
    along the line:

    1. Behind by at most ``distance``: the target's distance from the line.
    2. Alongside, nearer than the two cars are long: what the car's own distance is. It neither
       turns into the target nor gives way.
    3. Elsewhere: 0.

    The point lies at most ``shift`` times its distance ahead to either side of where the car is,
    which bounds how abruptly it moves over, and so far from the lane's edges that car and
    ``margin`` fit. The speed is that of `PurePursuit`, for the tightest bends within these edges.

    Args:
        config: The driver.
        env: The environment it is part of.
        car: Index of the car it drives.
        tracks: Give the centre lines and the widths of the lanes.
        num_envs: Environments in the batch.

    Raises:
        ValueError: If a track has no centre line.
    """

    def __init__(
        self,
        config: BlockerConfig,
        env: EnvConfig,
        car: int,
        tracks: Sequence[Track],
        num_envs: int,
    ) -> None:
        super().__init__(num_envs)
        vehicle = env.cars[car].vehicle
        lines = read_lines(None, env, car, tracks, Path())
        rooms = [_room(track, vehicle.width / 2, config.margin) for track in tracks]
        speeds = [
            speed_profile(line, config.speed, config.acceleration, aside=room.max(axis=1))
            for line, room in zip(lines, rooms, strict=True)
        ]
        self._routes, self._rooms = make_routes(lines, speeds), np.concatenate(rooms)
        target = [other.name for other in env.cars].index(config.target)
        row = (
            car,
            target,
            vehicle.steer_max,
            vehicle.front_axle + vehicle.rear_axle,
            vehicle.rear_axle,
            (vehicle.length + env.cars[target].vehicle.length) / 2,
            config.lookahead,
            config.lookahead_time,
            config.distance,
            config.shift,
        )
        self._settings = np.array([row], _SETTINGS)

    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``."""
        _blocker(
            world,
            commands,
            self._routes,
            self._rooms,
            self._settings,
            self.difficulty,
            first,
            last,
        )


def _room(track: Track, half_width: float, margin: float) -> NDArray[np.float64]:
    """How far a car's centre may be left and right of the centre line, (N, 2) m.

    Args:
        track: The track.
        half_width: Of the car, m.
        margin: From its side to the lane's edge at least, m.
    """
    line = track.line
    s = (np.arange(table_size(line)) + 0.5) * line.length / table_size(line)
    widths = np.column_stack([track.at(track.width_left, s), track.at(track.width_right, s)])
    mode = "wrap" if line.closed else "nearest"
    narrowest = minimum_filter1d(widths, _NEIGHBOURS, axis=0, mode=mode)
    room: NDArray[np.float64] = np.maximum(narrowest - half_width - margin, 0.0)
    return room
