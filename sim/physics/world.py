"""Batched physics: ``num_envs`` worlds of ``num_cars`` cars each, stepped by one compiled call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sim.config import LidarConfig, VehicleConfig
from sim.layout import COMMAND_SIZE, V
from sim.native import bound, compiled
from sim.physics.kernels import OK, Scene, make_arrays, misplaced_car, place_cars, step_range
from sim.physics.lidar import make_beams, make_scratch, scans_together
from sim.physics.pool import RangePool
from sim.physics.several import Scenes, step_tracks
from sim.physics.vehicle import R_W, vehicle_vector
from sim.tracks.gates import make_gates
from sim.tracks.stack import TrackStack, stack_tracks
from sim.tracks.track import Track

Float = NDArray[np.float64]


class World:
    """Cars on a track, without rewards or episodes.

    The pose of a car is that of its centre of gravity, the centre of its rectangle.

    Args:
        tracks: Where the cars drive: a track, or several, of which each environment is on one.
        vehicles: One a car.
        lidar: Every car's range finder.
        num_envs: Number of independent copies.
        physics_step: Integration step, s.
        num_threads: Threads that share the environments of a step; results do not depend on it.
        steer_delay_max: Steps of steering delay to make room for, if more than the vehicles'.
        command_delay_max: The same of command delays.
        laps: Laps after which a car has finished on a closed track, L; 1 on an open one.
        car_contacts: Whether cars can touch; otherwise they drive through each other. Sensors
            see them all the same, unless they are within one.

    Attributes:
        tracks: As given.
        arrays: The state of all environments; read it, and change it through `place` and
            `step`. It is all zeros until the cars are placed.
        commands: (E, C, 2) what `step_range` lets the cars do.
        stack: The tracks for kernels; None if there is only one.
        pool: The threads.
        vehicles: (E, C, P) parameters, columns of `sim.physics.vehicle`; may be changed in place.
    """

    def __init__(
        self,
        tracks: Track | Sequence[Track],
        vehicles: Sequence[VehicleConfig],
        lidar: LidarConfig,
        *,
        num_envs: int = 1,
        physics_step: float = 0.01,
        num_threads: int = 1,
        steer_delay_max: int = 0,
        command_delay_max: int = 0,
        laps: int = 1,
        car_contacts: bool = True,
    ) -> None:
        if num_envs < 1 or not vehicles or not 0 < physics_step < math.inf:
            raise ValueError(
                f"num_envs {num_envs}, {len(vehicles)} vehicles, physics_step {physics_step}: "
                "all must be positive"
            )
        self.tracks = (tracks,) if isinstance(tracks, Track) else tuple(tracks)
        if not self.tracks:
            raise ValueError("there is no track: at least one is needed")
        if laps < 1 or (laps > 1 and not all(track.closed for track in self.tracks)):
            raise ValueError(
                f"laps {laps}: 1 is needed on an open track, 1 or more on a closed one"
            )
        self.pool = RangePool(num_threads)
        shape = (num_envs, len(vehicles))
        if math.prod(shape) * lidar.beams >= 2**31:  # rays carry 32-bit indices
            raise ValueError(
                f"{num_envs} environments of {len(vehicles)} cars with {lidar.beams} beams: "
                "below 2^31 beams in all are allowed"
            )
        vectors = np.array([vehicle_vector(vehicle, lidar) for vehicle in vehicles])
        self.vehicles: Float = np.tile(vectors, (num_envs, 1, 1))
        delay = max(1, steer_delay_max, *(vehicle.steer_delay for vehicle in vehicles))
        late = max(command_delay_max, *(vehicle.command_delay for vehicle in vehicles), 0)
        self.arrays = make_arrays(*shape, lidar.beams, delay, laps, late)
        beams, scratch = make_beams(lidar), make_scratch(lidar.beams)
        self._physics_step = float(physics_step)
        self._scenes = [
            Scene(
                field=track.field,
                centerline=track.line,
                gates=make_gates(track),
                beams=beams,
                vehicles=self.vehicles,
                physics_step=self._physics_step,
                scratch=scratch,
                scans_together=scans_together(lidar.beams),
                car_contacts=car_contacts,
            )
            for track in self.tracks
        ]
        self.commands: Float = np.zeros((*shape, COMMAND_SIZE))
        self._envs = np.arange(num_envs)
        poses, own = np.zeros((len(vehicles), 3)), self._scenes[0]
        self._place = compiled(place_cars, self.arrays, own, poses, 0, np.uint64(), 0, self._envs)
        self.stack: TrackStack | None = None
        if len(self.tracks) > 1:
            parts = ((own.field, own.centerline, own.gates) for own in self._scenes)
            self.stack = stack_tracks(*zip(*parts, strict=True))
        # By physics steps and thread, which needs working memory of its own.
        self._steps = {(1, 0): self._make_step(1)}

    def _make_step(self, physics_steps: int) -> Callable[[int, int], int]:
        """What steps a range of environments in one thread."""
        scene = self._scenes[0]
        scene = scene._replace(scratch=make_scratch(len(scene.beams.cos)))
        if self.stack is None:
            given = self.arrays, scene, self.commands, physics_steps, self._envs
            return bound(step_range, given)
        scenes = Scenes(self.stack, scene, np.zeros_like(self._envs))
        return bound(step_tracks, (self.arrays, scenes, self.commands, physics_steps))

    def place(self, env: int, poses: Float, noise_key: int, track: int = 0) -> None:
        """Put the cars of one environment down at rest and sense.

        Args:
            env: Index of the environment.
            poses: (C, 3), x m, y m, yaw rad.
            noise_key: Selects the environment's noise stream; its low 64 bits count.
            track: Index of the track.

        Raises:
            ValueError: If there is no such track, a pose is outside the free space or two cars
                overlap. The environment is then unchanged.
        """
        scene, poses = self._start(env, poses, track)
        key = np.uint64(noise_key & 0xFFFF_FFFF_FFFF_FFFF)
        _refuse(self._place(self.arrays, scene, poses, env, key, track, self._envs), poses)

    def roll(self, env: int, speeds: Float) -> None:
        """Let the cars of one environment, which were just put down, roll straight ahead.

        Args:
            env: Index of the environment.
            speeds: (C,) m/s.
        """
        self.arrays.state[env, :, V] = speeds
        self.arrays.wheels[env] = (speeds / self.vehicles[env, :, R_W])[:, None]

    def check(self, env: int, poses: Float, track: int = 0) -> None:
        """Check that `place` would take these arguments; errors are the same."""
        scene, poses = self._start(env, poses, track)
        vehicles = self.vehicles[env]
        _refuse(misplaced_car(scene.field, vehicles, scene.car_contacts, poses), poses)

    def _start(self, env: int, poses: Float, track: int) -> tuple[Scene, Float]:
        num_envs, num_cars = self.arrays.crashed.shape
        if not 0 <= env < num_envs:
            raise ValueError(f"env {env}: must be 0 to {num_envs - 1}")
        if not 0 <= track < len(self.tracks):
            raise ValueError(f"track must be in 0 ... {len(self.tracks) - 1}, found {track}")
        poses = np.array(poses, dtype=np.float64, order="C")
        if poses.shape != (num_cars, 3):
            raise ValueError(f"poses have shape {poses.shape}; {(num_cars, 3)} is needed")
        return self._scenes[track], poses

    def step(self, commands: Float, physics_steps: int = 1) -> None:
        """Advance every environment and sense once, at the end.

        Args:
            commands: (E, C, 2), steering angle rad and speed m/s, or steering rate rad/s and
                acceleration m/s^2, by the car's kind of control; clipped to the car's limits.
            physics_steps: Integration steps to take with these commands.

        Raises:
            ValueError: If the commands have another shape, one is not a number, or there are no
                physics steps; no environment has moved then.
            FloatingPointError: If the dynamics diverge, for too long a physics step.
        """
        if np.shape(commands) != self.commands.shape:
            raise ValueError(
                f"commands have shape {np.shape(commands)}; {self.commands.shape} is needed"
            )
        if physics_steps < 1:
            raise ValueError(f"physics_steps must be at least 1, found {physics_steps}")
        self.commands[...] = commands
        bad = np.argwhere(np.isnan(self.commands).any(axis=-1))
        if len(bad):
            env, car = bad[0].tolist()
            raise ValueError(
                f"command of env {env}, car {car} is {self.commands[env, car].tolist()}; "
                "numbers are needed"
            )
        self.pool.run(partial(self.step_range, physics_steps), len(self.commands))

    def step_range(self, physics_steps: int, first: int, last: int, thread: int = 0) -> None:
        """As `step`, for environments ``first`` to ``last - 1``, whose `commands` are written.

        Different ranges may be stepped by different threads at the same time.

        Args:
            physics_steps: Integration steps to take.
            first: First environment.
            last: One past the last environment.
            thread: Index of the calling thread, below ``num_threads``.

        Raises:
            FloatingPointError: As `step`.
        """
        step = self._steps.get((physics_steps, thread))
        if step is None:
            step = self._steps[physics_steps, thread] = self._make_step(physics_steps)
        culprit = step(first, last)
        if culprit != OK:
            env, car = divmod(culprit, self.commands.shape[1])
            raise FloatingPointError(
                f"dynamics of env {env}, car {car} diverged; "
                f"choose a physics_step below {self._physics_step:g} s"
            )


def _refuse(culprit: int, poses: Float) -> None:
    """Raise a ValueError for what `misplaced_car` has found, if anything."""
    if culprit != OK:
        car, other = divmod(culprit, len(poses))
        shown = "({:g} m, {:g} m, {:g} rad)".format(*poses[car])
        fault = "is not in the free space" if car == other else f"overlaps car {other}"
        raise ValueError(f"car {car} at {shown} {fault}")
