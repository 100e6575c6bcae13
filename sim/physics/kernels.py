"""Compiled stepping of a batch of worlds: moving, contacts, sensing."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.layout import (
    COMMAND_SIZE,
    SLIP,
    STATE_SIZE,
    STEER,
    TARGET_SPEED,
    TARGET_STEER,
    YAW,
    YAW_RATE,
    V,
    X,
    Y,
)
from sim.physics.actuators import PURSUED, aim, is_ideal, pursue, turn
from sim.physics.collision import (
    Pose,
    Size,
    car_gap,
    cars_touch,
    is_inside,
    pose_on,
    sides_facing,
    sweep_cars,
    sweep_wall,
    touches_wall,
    way_between,
)
from sim.physics.drift import WHEELS, integrate_drift
from sim.physics.dynamics import controls, integrate, wrap_angle
from sim.physics.laps import LAP_MEMORY, LAP_START, NEXT_GATE, first_gate, pass_gates
from sim.physics.lidar import Beams, add_rays, cut_car, scale_ranges, trace_rays
from sim.physics.noise import add_noise, drop_beams, stream
from sim.physics.odometry import (
    ODOMETRY_SIZE,
    SPEED_FACTOR,
    begin_odometry,
    drift_on,
    drifts,
)
from sim.physics.vehicle import (
    CONTROL,
    DROPOUT,
    LENGTH,
    MAGIC_FORMULA,
    NOISE_STD,
    RANGE_SCALE,
    STEER_RATE_NOISE,
    TARGETS,
    TYRE,
    WIDTH,
    YAW_ERROR,
)
from sim.tracks.centerline import Centerline, project
from sim.tracks.distance_field import DistanceField
from sim.tracks.gates import Gates

Float = NDArray[np.float64]
Indices = NDArray[np.int64]

OK: Final = -1  # no car is at fault
_BLAME: Final = 0.1  # share of the approach beyond which a car has driven into the other


class WorldArrays(NamedTuple):
    """Everything that changes while a world runs; kernels take this whole.

    E environments, C cars, B beams, L laps. A car that touches anything stands still from then on,
    so contacts last until the cars are placed anew.
    """

    state: Float  # (E, C, 7), columns of sim.layout
    wheels: Float  # (E, C, 2) rad/s of the axles' wheels, of cars of the drift model
    steer_buffer: Float  # (E, C, D) rad, oldest last; D the longest delay
    # (E, C, 2 + K, 2) rad, m/s: see sim.physics.actuators
    targets: Float
    odometry: Float  # (E, C, 5) its errors, columns of sim.physics.odometry
    scan: NDArray[np.float32]  # (E, C, B) m
    wall_contact: NDArray[np.bool_]  # (E, C) touches a wall
    car_contact: NDArray[np.int32]  # (E, C) index of the car touched, -1 for none
    contact_parts: NDArray[np.uint8]  # (E, C) sides that touched: bits of sim.layout
    # (E, C) index of the car this one drove into, -1 for none: the car it touched, if over the
    # step of the contact it moved towards it, along the normal of the touching sides, by more
    # than a tenth of what both did. Head-on, each has driven into the other.
    drove_into: NDArray[np.int32]
    crashed: NDArray[np.bool_]  # (E, C) has touched anything since it was placed; then it stands
    finished: NDArray[np.bool_]  # (E, C) has driven all laps, or crossed an open track's finish
    laps: NDArray[np.int32]  # (E, C) laps completed since it was placed; see sim.physics.laps
    lap_steps: NDArray[np.int64]  # (E, C, L) physics steps of each of the first L laps, 0 before
    lap_memory: NDArray[np.int64]  # (E, C, 2) columns of sim.physics.laps
    arc_length: Float  # (E, C) m along the centre line; NaN if the track has none
    lateral_offset: Float  # (E, C) m left of the centre line; NaN if the track has none
    track: NDArray[np.int64]  # (E,) index of the track that the cars are on
    steps: NDArray[np.int64]  # (E,) physics steps since the cars were placed
    noise_key: NDArray[np.uint64]  # (E,) key of the environment's noise
    poses: Float  # (E, 2, C, 3) m, m, rad before and after the latest physics step


def make_arrays(
    num_envs: int,
    num_cars: int,
    beams: int,
    steer_delay: int,
    laps: int = 1,
    command_delay: int = 0,
) -> WorldArrays:
    """The arrays of a world in which no car has been placed yet, all zero or -1."""
    shape = num_envs, num_cars
    return WorldArrays(
        state=np.zeros((*shape, STATE_SIZE)),
        wheels=np.zeros((*shape, WHEELS)),
        steer_buffer=np.zeros((*shape, steer_delay)),
        # Two rows, then the latest targets, those on their way, and one that is late.
        targets=np.zeros((*shape, 2 + command_delay + 2, COMMAND_SIZE)),
        odometry=np.tile(np.eye(ODOMETRY_SIZE)[SPEED_FACTOR], (*shape, 1)),
        scan=np.zeros((*shape, beams), dtype=np.float32),
        wall_contact=np.zeros(shape, dtype=np.bool_),
        car_contact=np.full(shape, -1, dtype=np.int32),
        contact_parts=np.zeros(shape, dtype=np.uint8),
        drove_into=np.full(shape, -1, dtype=np.int32),
        crashed=np.zeros(shape, dtype=np.bool_),
        finished=np.zeros(shape, dtype=np.bool_),
        laps=np.zeros(shape, dtype=np.int32),
        lap_steps=np.zeros((*shape, laps), dtype=np.int64),
        lap_memory=np.zeros((*shape, LAP_MEMORY), dtype=np.int64),
        arc_length=np.zeros(shape),
        lateral_offset=np.zeros(shape),
        track=np.zeros(num_envs, dtype=np.int64),
        steps=np.zeros(num_envs, dtype=np.int64),
        noise_key=np.zeros(num_envs, dtype=np.uint64),
        poses=np.zeros((num_envs, 2, num_cars, 3)),
    )


class Scene(NamedTuple):
    """Everything that stays the same on one track while a world runs, for kernels."""

    field: DistanceField
    centerline: Centerline
    gates: Gates
    beams: Beams
    vehicles: Float  # (E, C, P), columns of sim.physics.vehicle
    physics_step: float  # s
    scratch: NDArray[np.float32]  # working memory of sim.physics.lidar, a thread's own
    scans_together: int  # traced at a time
    car_contacts: bool  # else cars drive through each other


@njit(cache=True, nogil=True, error_model="numpy")
def misplaced_car(field: DistanceField, vehicles: Float, car_contacts: bool, poses: Float) -> int:
    """Find a car that cannot stand at its pose.

    Args:
        field: The track.
        vehicles: (C, P), columns of sim.physics.vehicle.
        car_contacts: Whether cars may not overlap.
        poses: (C, 3), x m, y m, yaw rad.

    Returns:
        -1; or c * C + d for a car c that overlaps an earlier car d, or is not in the free
        space if d is c.
    """
    num_cars = len(poses)
    for c in range(num_cars):
        pose, size = _triple(poses[c]), _size(vehicles[c])
        if not math.isfinite(pose[0] + pose[1] + pose[2]) or touches_wall(field, pose, size):
            return c * num_cars + c
        for d in range(c):
            other = _triple(poses[d]), _size(vehicles[d])
            if car_contacts and cars_touch(pose, size, other[0], other[1]):
                return c * num_cars + d
    return OK


@njit(cache=True, nogil=True, error_model="numpy")
def place_cars(
    arrays: WorldArrays,
    scene: Scene,
    poses: Float,
    env: int,
    noise_key: int,
    track: int,
    envs: Indices,
) -> int:
    """Put the cars of one environment down at rest and sense.

    Args:
        arrays: Changed at ``env``.
        scene: The rest of the world.
        poses: (C, 3), x m, y m, yaw rad.
        env: Index of the environment.
        noise_key: Of its noise.
        track: Index of the scene's track.
        envs: (E,) all environments, in order.

    Returns:
        -1; or what `misplaced_car` returns. Nothing has changed then.
    """
    num_cars = len(poses)
    culprit = misplaced_car(scene.field, scene.vehicles[env], scene.car_contacts, poses)
    if culprit != OK:
        return culprit
    arrays.state[env] = 0.0
    arrays.wheels[env] = 0.0
    for c in range(num_cars):
        arrays.state[env, c, X], arrays.state[env, c, Y] = poses[c, 0], poses[c, 1]
        arrays.state[env, c, YAW] = wrap_angle(poses[c, 2])
        begin_odometry(arrays.odometry[env, c], scene.vehicles[env, c])
        for moment in range(2):
            _keep_pose(arrays.poses[env, moment, c], arrays.state[env, c])
    arrays.steer_buffer[env] = 0.0
    arrays.targets[env] = 0.0
    arrays.wall_contact[env] = False
    arrays.car_contact[env] = -1
    arrays.contact_parts[env] = 0
    arrays.drove_into[env] = -1
    arrays.crashed[env] = False
    arrays.finished[env] = False
    arrays.laps[env] = 0
    arrays.lap_steps[env] = 0
    arrays.track[env] = track
    arrays.steps[env] = 0
    arrays.noise_key[env] = noise_key
    _sense(arrays, scene, envs, env, env + 1)
    for c in range(num_cars):
        memory, along = arrays.lap_memory[env, c], arrays.arc_length[env, c]
        memory[LAP_START] = -1
        memory[NEXT_GATE] = first_gate(scene.gates, along, poses[c, 0], poses[c, 1])
    return OK


@njit(cache=True, nogil=True, error_model="numpy")
def step_range(
    arrays: WorldArrays,
    scene: Scene,
    commands: Float,
    physics_steps: int,
    envs: Indices,
    first: int,
    last: int,
) -> int:
    """Step the environments ``envs[first:last]``, which are on the scene's track.

    Args:
        arrays: Changed at those environments.
        scene: The rest of the world.
        commands: (E, C, 2) numbers.
        physics_steps: Integration steps to take.
        envs: Environments.
        first: Where to begin in them.
        last: Where to end.

    Returns:
        -1, or env * C + car of a car whose state has become infinite or not a number.
    """
    for i in range(first, last):
        e = int(envs[i])
        culprit = _move(arrays, scene, commands[e], physics_steps, e)
        if culprit != OK:
            return e * int(commands.shape[1]) + culprit
    _sense(arrays, scene, envs, first, last)
    return OK


@njit(cache=True, nogil=True, error_model="numpy")
def _move(arrays: WorldArrays, scene: Scene, commands: Float, physics_steps: int, e: int) -> int:
    """Take the physics steps of one environment.

    What runs in them is handed the few arrays it needs: all of them are 200 numbers, and to pass
    these takes longer than to move a car.

    Returns:
        -1, or the index of a car whose state has become infinite or not a number.
    """
    state, vehicles, targets = arrays.state[e], scene.vehicles[e], arrays.targets[e]
    poses, crashed, odometry = arrays.poses[e], arrays.crashed[e], arrays.odometry[e]
    num_cars, ideal, sure = len(state), True, True
    for c in range(num_cars):
        ideal &= aim(targets[c], vehicles[c], commands[c, TARGET_STEER], commands[c, TARGET_SPEED])
        sure &= not drifts(vehicles[c])
    for _ in range(physics_steps):
        moment = arrays.steps[e], arrays.noise_key[e], scene.physics_step
        if not ideal:
            _pursue(targets, vehicles, commands, moment)
        for c in range(num_cars):
            _keep_pose(poses[0, c], state[c])
            if crashed[c]:
                _keep_pose(poses[1, c], state[c])
                continue
            if not sure:
                drift_on(odometry[c], vehicles[c], state[c, V], moment, c)
            memory = arrays.wheels[e, c], arrays.steer_buffer[e, c]
            _drive(state[c], memory, vehicles[c], targets[c, PURSUED], moment, c)
            if not math.isfinite(state[c].sum()):
                return c
            _keep_pose(poses[1, c], state[c])
            parts = sweep_wall(
                scene.field, _triple(poses[0, c]), _triple(poses[1, c]), _size(vehicles[c])
            )
            if parts != 0:
                arrays.wall_contact[e, c] = True
                arrays.contact_parts[e, c] |= parts
            if len(scene.gates.lines):
                _count_laps(arrays, scene.gates, e, c)
        if scene.car_contacts and num_cars > 1:
            _find_car_contacts(arrays, scene, e)
        _stop_crashed(arrays, e)
        arrays.steps[e] += 1
    return OK


@njit(cache=True, nogil=True, error_model="numpy")
def _keep_pose(pose: Float, state: Float) -> None:
    pose[0], pose[1], pose[2] = state[X], state[Y], state[YAW]


@njit(cache=True, nogil=True, error_model="numpy")
def _pursue(
    targets: Float, vehicles: Float, commands: Float, moment: tuple[int, np.uint64, float]
) -> None:
    """Find what the controllers of cars that are not ideal pursue over a physics step."""
    for c in range(len(vehicles)):
        if vehicles[c, CONTROL] == TARGETS and not is_ideal(vehicles[c]):
            first, second = commands[c, TARGET_STEER], commands[c, TARGET_SPEED]
            pursue(targets[c], vehicles[c], first, second, moment, c)


@njit(cache=True, nogil=True, error_model="numpy")
def _drive(
    state: Float,
    memory: tuple[Float, Float],
    vehicle: Float,
    pursued: Float,
    moment: tuple[int, np.uint64, float],
    car: int,
) -> None:
    """Move one car by one physics step; ``memory`` is its wheels and its steering buffer."""
    wheels, steer_buffer = memory
    dt = moment[2]
    rate, acceleration = controls(state, steer_buffer, vehicle, pursued[0], pursued[1], dt)
    if vehicle[STEER_RATE_NOISE] > 0.0:
        rate = turn(rate, state[STEER], vehicle, moment, car)
    if vehicle[TYRE] == MAGIC_FORMULA:
        integrate_drift(state, wheels, vehicle, rate, acceleration, dt)
    else:
        integrate(state, vehicle, rate, acceleration, dt)


@njit(cache=True, nogil=True, error_model="numpy")
def _count_laps(arrays: WorldArrays, gates: Gates, e: int, c: int) -> None:
    """Count the laps of one car in the latest physics step."""
    before, after = arrays.poses[e, 0, c], arrays.poses[e, 1, c]
    memory, lap_steps = arrays.lap_memory[e, c], arrays.lap_steps[e, c]
    x, y, now, laps = after[0], after[1], arrays.steps[e] + 1, arrays.laps[e, c]
    laps = pass_gates(gates, before[0], before[1], x, y, now, memory, lap_steps, laps)
    arrays.laps[e, c] = laps
    if laps >= len(lap_steps):
        arrays.finished[e, c] = True


@njit(cache=True, nogil=True, error_model="numpy")
def _find_car_contacts(arrays: WorldArrays, scene: Scene, e: int) -> None:
    """Note each car's contact with another in the latest physics step: the first, by index."""
    before, after, vehicles = arrays.poses[e, 0], arrays.poses[e, 1], scene.vehicles[e]
    num_cars = len(vehicles)
    for c in range(num_cars):
        for d in range(c + 1, num_cars):
            if arrays.crashed[e, c] and arrays.crashed[e, d]:
                continue  # neither has moved
            own = _triple(before[c]), _triple(after[c]), _size(vehicles[c])
            t = sweep_cars(*own, _triple(before[d]), _triple(after[d]), _size(vehicles[d]))
            if t >= 0.0:
                _note_contact(arrays, scene, e, c, d, t)
                _note_contact(arrays, scene, e, d, c, t)


@njit(cache=True, nogil=True, error_model="numpy")
def _note_contact(arrays: WorldArrays, scene: Scene, e: int, c: int, d: int, t: float) -> None:
    """Note what car c has to do with its contact with d at the fraction t of a step."""
    if arrays.car_contact[e, c] >= 0:
        return
    arrays.car_contact[e, c] = d
    before, after, vehicles = arrays.poses[e, 0], arrays.poses[e, 1], scene.vehicles[e]
    pose, other = _pose_at(before[c], after[c], t), _pose_at(before[d], after[d], t)
    _, nx, ny = car_gap(pose, _size(vehicles[c]), other, _size(vehicles[d]))
    arrays.contact_parts[e, c] |= sides_facing(pose[2], nx, ny)
    own = nx * (after[c, 0] - before[c, 0]) + ny * (after[c, 1] - before[c, 1])
    theirs = -nx * (after[d, 0] - before[d, 0]) - ny * (after[d, 1] - before[d, 1])
    if own > 0.0 and own > _BLAME * (own + theirs):
        arrays.drove_into[e, c] = d


@njit(cache=True, nogil=True, error_model="numpy")
def _pose_at(before: Float, after: Float, t: float) -> Pose:
    start = _triple(before)
    return pose_on(start, way_between(start, _triple(after)), t)


@njit(cache=True, nogil=True, error_model="numpy")
def _triple(row: Float) -> Pose:
    return row[0], row[1], row[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _size(vehicle: Float) -> Size:
    return vehicle[LENGTH], vehicle[WIDTH]


@njit(cache=True, nogil=True, error_model="numpy")
def _stop_crashed(arrays: WorldArrays, e: int) -> None:
    """Cars that touch anything stand still."""
    for c in range(arrays.crashed.shape[1]):
        if arrays.wall_contact[e, c] or arrays.car_contact[e, c] >= 0:
            arrays.crashed[e, c] = True
            arrays.state[e, c, V] = 0.0
            arrays.state[e, c, YAW_RATE] = 0.0
            arrays.state[e, c, SLIP] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _sense(arrays: WorldArrays, scene: Scene, envs: Indices, first: int, last: int) -> None:
    """Scans and positions along the centre line of the environments ``envs[first:last]``."""
    scratch, beams = scene.scratch, scene.beams
    num_cars, B = arrays.scan.shape[1], arrays.scan.shape[2]
    readings = arrays.scan.reshape(arrays.scan.size)
    end = last * num_cars
    # Short scans are traced many at a time: see `trace_rays`.
    for begin in range(first * num_cars, end, scene.scans_together):
        count, stop = 0, min(begin + scene.scans_together, end)
        for number in range(begin, stop):
            e, c = envs[number // num_cars], number % num_cars
            start, mount = (e * num_cars + c) * B, beams.mount_x
            sensor = _sensor_pose(arrays.state[e, c], scene.vehicles[e, c], mount)
            count = add_rays(scene.field, beams, sensor, scratch, count, start, readings)
        trace_rays(scene.field, beams.max_range, scratch, count, readings)
        for number in range(begin, stop):
            _complete_scan(arrays, scene, envs[number // num_cars], number % num_cars)


@njit(cache=True, nogil=True, error_model="numpy")
def _sensor_pose(state: Float, vehicle: Float, mount: float) -> Pose:
    x, y, yaw = state[X], state[Y], state[YAW]
    return x + mount * math.cos(yaw), y + mount * math.sin(yaw), yaw + vehicle[YAW_ERROR]


@njit(cache=True, nogil=True, error_model="numpy")
def _complete_scan(arrays: WorldArrays, scene: Scene, e: int, c: int) -> None:
    """Put the other cars and the noise into a scan of the walls, and find the car on its lane."""
    scan, beams, vehicle = arrays.scan[e, c], scene.beams, scene.vehicles[e, c]
    state = arrays.state[e]
    sensor = _sensor_pose(state[c], vehicle, beams.mount_x)
    for d in range(len(state)):
        if d != c:
            other, size = (state[d, X], state[d, Y], state[d, YAW]), _size(scene.vehicles[e, d])
            # Within a ghost the sensor would see nothing else.
            if scene.car_contacts or not is_inside(sensor, other, size):
                cut_car(beams, sensor, other, size, scan)
    scale_ranges(scan, vehicle[RANGE_SCALE], beams.max_range)
    key = stream(arrays.noise_key[e], arrays.steps[e], c)
    add_noise(scan, key, vehicle[NOISE_STD], beams.max_range)
    drop_beams(scan, key, vehicle[DROPOUT], beams.max_range)
    along, across = project(scene.centerline, state[c, X], state[c, Y])
    arrays.arc_length[e, c] = along
    arrays.lateral_offset[e, c] = across
