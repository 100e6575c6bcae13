"""Batched physics: ``num_envs`` worlds of ``num_cars`` cars each, stepped by one compiled call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.collision import cars_touch, segment_hits_wall, touches_wall
from sim.config import LidarConfig, VehicleConfig
from sim.dynamics import advance, wrap_angle
from sim.laps import LAP_MEMORY, LAP_START, NEXT_GATE, first_gate, pass_gates
from sim.layout import (
    COMMAND_SIZE,
    SLIP,
    STATE_SIZE,
    STEER_DELAY,
    TARGET_SPEED,
    TARGET_STEER,
    YAW,
    YAW_RATE,
    V,
    X,
    Y,
)
from sim.lidar import Beams, cut_car, make_beams, make_scratch, trace_walls
from sim.noise import add_noise, stream
from sim.tracks import Track
from sim.tracks.centerline import Centerline, make_centerline, project
from sim.tracks.gates import Gates, make_gates
from sim.tracks.grid import Grid, make_grid
from sim.vehicle import LENGTH, STEER_MAX, V_MAX, V_MIN, WIDTH, vehicle_vector

Float = NDArray[np.float64]

_OK: Final = -1  # no car to complain about


class WorldArrays(NamedTuple):
    """Everything that changes while a world runs; kernels take this whole.

    E environments, C cars, B beams. A car that touches anything stands still from then on,
    so contacts last until the cars are placed anew.
    """

    state: Float  # (E, C, 7), columns of sim.layout
    steer_buffer: Float  # (E, C, 2) rad, oldest last
    scan: NDArray[np.float32]  # (E, C, B) m
    wall_contact: NDArray[np.bool_]  # (E, C) touches a wall
    car_contact: NDArray[np.int32]  # (E, C) index of the car touched, -1 for none
    crashed: NDArray[np.bool_]  # (E, C) has touched anything since it was placed; then it stands
    finished: NDArray[np.bool_]  # (E, C) has driven all laps, or crossed an open track's finish
    laps: NDArray[np.int32]  # (E, C) laps completed since it was placed; see sim.laps
    lap_steps: NDArray[np.int64]  # (E, C, L) physics steps of each of the first L laps, 0 before
    lap_memory: NDArray[np.int64]  # (E, C, 2) columns of sim.laps
    arc_length: Float  # (E, C) m along the centre line; NaN if the track has none
    lateral_offset: Float  # (E, C) m left of the centre line; NaN if the track has none
    steps: NDArray[np.int64]  # (E,) physics steps since the cars were placed
    noise_key: NDArray[np.uint64]  # (E,) key of the environment's noise


class Scene(NamedTuple):
    """Everything that stays the same while a world runs, for kernels."""

    grid: Grid
    centerline: Centerline
    gates: Gates
    beams: Beams
    vehicles: Float  # (E, C, P), columns of sim.vehicle
    physics_step: float  # s


class World:
    """Cars on a track, without rewards or episodes.

    The pose of a car is that of its centre of gravity, the centre of its rectangle.

    Args:
        track: Where the cars drive.
        vehicles: One a car.
        lidar: Every car's range finder.
        num_envs: Number of independent copies.
        physics_step: Integration step, s.
        laps: Laps after which a car has finished on a closed track, L; 1 on an open one.

    Attributes:
        track: As given.
        arrays: The state of all environments; read it, and change it through `place` and
            `step`. It is all zeros until the cars are placed.
        vehicles: (E, C, P) parameters, columns of `sim.vehicle`; may be changed in place.
    """

    def __init__(
        self,
        track: Track,
        vehicles: Sequence[VehicleConfig],
        lidar: LidarConfig,
        *,
        num_envs: int = 1,
        physics_step: float = 0.01,
        laps: int = 1,
    ) -> None:
        if num_envs < 1 or not vehicles or not physics_step > 0:
            raise ValueError(
                f"num_envs {num_envs}, {len(vehicles)} vehicles, physics_step {physics_step}: "
                "all must be positive"
            )
        if laps < 1 or (laps > 1 and not track.closed):
            raise ValueError(
                f"laps {laps}: 1 is needed on an open track, 1 or more on a closed one"
            )
        self.track = track
        shape = (num_envs, len(vehicles))
        self.vehicles: Float = np.empty((*shape, len(vehicle_vector(vehicles[0]))))
        self.vehicles[:] = [vehicle_vector(vehicle) for vehicle in vehicles]
        self.arrays = WorldArrays(
            state=np.zeros((*shape, STATE_SIZE)),
            steer_buffer=np.zeros((*shape, STEER_DELAY)),
            scan=np.zeros((*shape, lidar.beams), dtype=np.float32),
            wall_contact=np.zeros(shape, dtype=np.bool_),
            car_contact=np.full(shape, -1, dtype=np.int32),
            crashed=np.zeros(shape, dtype=np.bool_),
            finished=np.zeros(shape, dtype=np.bool_),
            laps=np.zeros(shape, dtype=np.int32),
            lap_steps=np.zeros((*shape, laps), dtype=np.int64),
            lap_memory=np.zeros((*shape, LAP_MEMORY), dtype=np.int64),
            arc_length=np.zeros(shape),
            lateral_offset=np.zeros(shape),
            steps=np.zeros(num_envs, dtype=np.int64),
            noise_key=np.zeros(num_envs, dtype=np.uint64),
        )
        self._scene = Scene(
            grid=make_grid(track),
            centerline=make_centerline(track),
            gates=make_gates(track),
            beams=make_beams(lidar),
            vehicles=self.vehicles,
            physics_step=float(physics_step),
        )
        self._commands = np.zeros((*shape, COMMAND_SIZE))

    def place(self, env: int, poses: Float, noise_key: int) -> None:
        """Put the cars of one environment down at rest and sense.

        Args:
            env: Index of the environment.
            poses: (C, 3), x m, y m, yaw rad.
            noise_key: Selects the environment's noise stream; its low 64 bits count.

        Raises:
            ValueError: If a pose is outside the free space or two cars overlap. The
                environment is then unchanged.
        """
        arrays = self.arrays
        num_envs, num_cars = arrays.crashed.shape
        if not 0 <= env < num_envs:
            raise ValueError(f"env {env}: must be 0 to {num_envs - 1}")
        poses = np.array(poses, dtype=np.float64)
        if poses.shape != (num_cars, 3):
            raise ValueError(f"poses have shape {poses.shape}; {(num_cars, 3)} is needed")
        self._check_poses(env, poses)
        arrays.state[env] = 0.0
        for car, (x, y, yaw) in enumerate(poses):
            arrays.state[env, car, X] = x
            arrays.state[env, car, Y] = y
            arrays.state[env, car, YAW] = wrap_angle(yaw)
        arrays.steer_buffer[env] = 0.0
        arrays.wall_contact[env] = False
        arrays.car_contact[env] = -1
        arrays.crashed[env] = False
        arrays.finished[env] = False
        arrays.laps[env] = 0
        arrays.lap_steps[env] = 0
        arrays.steps[env] = 0
        arrays.noise_key[env] = noise_key & 0xFFFF_FFFF_FFFF_FFFF
        _sense_range(arrays, self._scene, env, env + 1)
        arrays.lap_memory[env, :, LAP_START] = -1
        for car, (x, y, _) in enumerate(poses):
            along = arrays.arc_length[env, car]
            arrays.lap_memory[env, car, NEXT_GATE] = first_gate(self._scene.gates, along, x, y)

    def step(self, commands: Float, physics_steps: int = 1) -> None:
        """Advance every environment and sense once, at the end.

        Args:
            commands: (E, C, 2), steering angle rad and speed m/s; clipped to the car's limits.
            physics_steps: Integration steps to take with these commands.

        Raises:
            ValueError: If the commands have another shape or one is not a number; no
                environment has moved then.
            FloatingPointError: If the dynamics diverge, for too long a physics step.
        """
        if np.shape(commands) != self._commands.shape:
            raise ValueError(
                f"commands have shape {np.shape(commands)}; {self._commands.shape} is needed"
            )
        self._commands[...] = commands
        culprit = _step_range(
            self.arrays, self._scene, self._commands, physics_steps, 0, len(self._commands)
        )
        if culprit != _OK:
            self._raise_for(*divmod(culprit, self._commands.shape[1]))

    def _raise_for(self, env: int, car: int) -> None:
        command = self._commands[env, car]
        if np.isnan(command).any():
            raise ValueError(
                f"command of env {env}, car {car} is {command.tolist()}; numbers are needed"
            )
        raise FloatingPointError(
            f"dynamics of env {env}, car {car} diverged; "
            f"choose a physics_step below {self._scene.physics_step:g} s"
        )

    def _check_poses(self, env: int, poses: Float) -> None:
        bodies = self.vehicles[env][:, [LENGTH, WIDTH]]
        for car, (pose, body) in enumerate(zip(poses, bodies, strict=True)):
            shown = "({:g} m, {:g} m, {:g} rad)".format(*pose)
            if not np.isfinite(pose).all() or touches_wall(self._scene.grid, *pose, *body):
                raise ValueError(f"car {car} at {shown} is not in the free space")
            for other in range(car):
                if cars_touch(*pose, *body, *poses[other], *bodies[other]):
                    raise ValueError(f"car {car} at {shown} overlaps car {other}")


@njit(cache=True, nogil=True, error_model="numpy")
def _step_range(
    arrays: WorldArrays, scene: Scene, commands: Float, physics_steps: int, first: int, last: int
) -> int:
    """Step environments ``first`` to ``last - 1``.

    Returns:
        -1, or env * C + car of a command that is not a number (nothing has moved then), or
        of a car whose state has become infinite or not a number.
    """
    num_cars = int(commands.shape[1])
    for e in range(first, last):
        for c in range(num_cars):
            if math.isnan(commands[e, c, TARGET_STEER] + commands[e, c, TARGET_SPEED]):
                return e * num_cars + c
    for e in range(first, last):
        for _ in range(physics_steps):
            for c in range(num_cars):
                if not arrays.crashed[e, c]:
                    _drive(arrays, scene, commands, e, c)
                    if not math.isfinite(arrays.state[e, c].sum()):
                        return e * num_cars + c
            _find_car_contacts(arrays, scene, e)
            _stop_crashed(arrays, e)
            arrays.steps[e] += 1
    _sense_range(arrays, scene, first, last)
    return _OK


@njit(cache=True, nogil=True, error_model="numpy")
def _drive(arrays: WorldArrays, scene: Scene, commands: Float, e: int, c: int) -> None:
    """Move one car by one physics step, and see whether it meets a wall, and count its laps."""
    state, vehicle = arrays.state[e, c], scene.vehicles[e, c]
    x, y = state[X], state[Y]
    limit = vehicle[STEER_MAX]
    advance(
        state,
        arrays.steer_buffer[e, c],
        vehicle,
        min(max(commands[e, c, TARGET_STEER], -limit), limit),
        min(max(commands[e, c, TARGET_SPEED], vehicle[V_MIN]), vehicle[V_MAX]),
        scene.physics_step,
    )
    # The way of the centre counts too: a fast car may have passed a thin wall.
    arrays.wall_contact[e, c] = touches_wall(
        scene.grid, state[X], state[Y], state[YAW], vehicle[LENGTH], vehicle[WIDTH]
    ) or segment_hits_wall(scene.grid, x, y, state[X], state[Y])
    if len(scene.gates.lines):
        memory, lap_steps = arrays.lap_memory[e, c], arrays.lap_steps[e, c]
        now, laps = arrays.steps[e] + 1, arrays.laps[e, c]
        laps = pass_gates(scene.gates, x, y, state[X], state[Y], now, memory, lap_steps, laps)
        arrays.laps[e, c] = laps
        if laps >= len(lap_steps):
            arrays.finished[e, c] = True


@njit(cache=True, nogil=True, error_model="numpy")
def _find_car_contacts(arrays: WorldArrays, scene: Scene, e: int) -> None:
    """Note each car's contact with another: the first found, by index."""
    state, vehicles = arrays.state[e], scene.vehicles[e]
    num_cars = len(state)
    for c in range(num_cars):
        for d in range(c + 1, num_cars):
            if arrays.crashed[e, c] and arrays.crashed[e, d]:
                continue  # neither has moved
            if cars_touch(
                state[c, X],
                state[c, Y],
                state[c, YAW],
                vehicles[c, LENGTH],
                vehicles[c, WIDTH],
                state[d, X],
                state[d, Y],
                state[d, YAW],
                vehicles[d, LENGTH],
                vehicles[d, WIDTH],
            ):
                if arrays.car_contact[e, c] < 0:
                    arrays.car_contact[e, c] = d
                if arrays.car_contact[e, d] < 0:
                    arrays.car_contact[e, d] = c


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
def _sense_range(arrays: WorldArrays, scene: Scene, first: int, last: int) -> None:
    """Scans and positions along the centre line of environments ``first`` to ``last - 1``."""
    scratch = make_scratch()
    beams = scene.beams
    for e in range(first, last):
        for c in range(arrays.state.shape[1]):
            state, scan = arrays.state[e, c], arrays.scan[e, c]
            along, across = project(scene.centerline, state[X], state[Y])
            arrays.arc_length[e, c] = along
            arrays.lateral_offset[e, c] = across
            yaw = state[YAW]
            x = state[X] + beams.mount_x * math.cos(yaw)
            y = state[Y] + beams.mount_x * math.sin(yaw)
            trace_walls(scene.grid, beams, x, y, yaw, scratch, scan)
            for d in range(arrays.state.shape[1]):
                if d != c:
                    other, body = arrays.state[e, d], scene.vehicles[e, d]
                    ox, oy, oyaw = other[X], other[Y], other[YAW]
                    cut_car(beams, x, y, yaw, ox, oy, oyaw, body[LENGTH], body[WIDTH], scan)
            key = stream(arrays.noise_key[e], arrays.steps[e], c)
            add_noise(scan, key, beams.noise_std, beams.max_range)
