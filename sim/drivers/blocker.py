"""A driver that defends its place: it stays in front of the car behind."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import BlockerConfig
from sim.drivers.base import KernelDriver, Seat
from sim.drivers.line import (
    Routes,
    driven_speeds,
    entry_at,
    make_routes,
    read_lines,
    route_on,
    table_size,
    wrapped,
)
from sim.drivers.pure_pursuit import pursue
from sim.layout import TARGET_SPEED, TARGET_STEER, V
from sim.native import record
from sim.settings import numbers
from sim.tracks.track import Track

_NEIGHBOURS: Final = 9  # entries of a table, about 2 m, whose narrowest place counts


@njit(cache=True, nogil=True, error_model="numpy")
def _blocker(
    settings: NDArray[np.void],
    state: NDArray[np.float64],
    arc_length: NDArray[np.float64],
    lateral_offset: NDArray[np.float64],
    track: NDArray[np.int64],
    routes: Routes,
    rooms: NDArray[np.float64],
    difficulty: NDArray[np.float64],
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car, target, on = driver.car, driver.target, track[first]
    line, speeds = route_on(routes, on)
    room = rooms[routes.starts[on] : routes.starts[on + 1]]
    for e in range(first, last):
        if track[e] != on:
            on = track[e]
            line, speeds = route_on(routes, on)
            room = rooms[routes.starts[on] : routes.starts[on + 1]]
        own = state[e, car]
        s, offset = arc_length[e, car], lateral_offset[e, car]
        lead = s - arc_length[e, target]
        if line.closed:
            lead = wrapped(lead, line.length)
        wanted = 0.0
        if abs(lead) < driver.alongside:
            wanted = offset
        elif 0.0 < lead < driver.distance:
            wanted = lateral_offset[e, target]
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


class Blocker(KernelDriver):
    """Drive along the lane, where the car behind wants to drive.

    Pure pursuit of a point ahead whose distance from the centre line is, by where the target is
    along the line:

    1. Behind by at most ``distance``: the target's distance from the line.
    2. Alongside, nearer than the two cars are long: the car's own distance. It neither turns
       into the target nor gives way.
    3. Elsewhere: 0.

    The point lies at most ``shift`` times its distance ahead to either side of where the car is,
    which bounds how abruptly it moves over, and far enough from the lane's edges for the car and
    ``margin``. The speed is that of `PurePursuit`, for the tightest bends within these edges.

    Args:
        config: The driver.
        seat: Where it sits; the tracks give the centre lines and the widths of the lanes.

    Raises:
        ValueError: If a track has no centre line.
    """

    def __init__(self, config: BlockerConfig, seat: Seat) -> None:
        vehicle, target = seat.vehicle, seat.car_named(config.target)
        lines = read_lines(seat)
        rooms = [_room(track, vehicle.width / 2, config.margin) for track in seat.tracks]
        speeds = [
            driven_speeds(line, config.speed, config.acceleration, aside=room.max(axis=1))
            for line, room in zip(lines, rooms, strict=True)
        ]
        settings = record(
            car=seat.car,
            target=target,
            steer_max=vehicle.steer_max,  # rad
            wheelbase=vehicle.front_axle + vehicle.rear_axle,  # m
            rear_axle=vehicle.rear_axle,  # m behind the centre of gravity
            # m between the centres of two cars end to end
            alongside=(vehicle.length + seat.env.cars[target].vehicle.length) / 2,
            **numbers(config),
        )
        routes = make_routes(lines, speeds)
        arrays = ["state", "arc_length", "lateral_offset", "track"]
        super().__init__(seat, _blocker, arrays, settings, routes, np.concatenate(rooms))


def _room(track: Track, half_width: float, margin: float) -> NDArray[np.float64]:
    """How far a car's centre may be left and right of the centre line, (N, 2) m.

    Args:
        track: The track.
        half_width: Of the car, m.
        margin: From its side to the lane's edge at least, m.
    """
    from scipy.ndimage import minimum_filter1d  # takes 0.4 s, and few races have a blocker

    line = track.line
    s = (np.arange(table_size(line)) + 0.5) * line.length / table_size(line)
    mode = "wrap" if line.closed else "nearest"
    narrowest = minimum_filter1d(track.at(track.widths, s), _NEIGHBOURS, axis=0, mode=mode)
    room: NDArray[np.float64] = np.maximum(narrowest - half_width - margin, 0.0)
    return room
