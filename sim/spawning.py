"""Where cars start an episode: on which track, and at which poses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, GridSpawn, RandomSpawn
from sim.physics.collision import cars_touch, touches_wall
from sim.tracks.centerline import Centerline, point_at, points_at, project
from sim.tracks.distance_field import DistanceField
from sim.tracks.track import Track

Float = NDArray[np.float64]

_TRIES: Final = 100  # places tried for a car before all cars are drawn anew
_RESTARTS: Final = 50


class Spawner(Protocol):
    """Draws poses for all cars of an environment.

    Attributes:
        sets: Spawn names, one for each car, of each set that can be drawn; empty without names.
    """

    sets: tuple[tuple[str, ...], ...]

    def draw(self, rng: np.random.Generator, spawn_set: int | None, /) -> Float:
        """Poses of the cars, (C, 3): x m, y m, yaw rad.

        Args:
            rng: The environment's generator.
            spawn_set: Index of the set; None: drawn.

        Raises:
            ValueError: If there is no room.
        """

    def trials(self) -> Iterator[tuple[str, Float]]:
        """Poses that must be possible, at least one, each with its description for a message."""


class NamedSpawner:
    """Sets of the track's named poses, drawn uniformly.

    Args:
        config: The environment.
        track: The track.

    Raises:
        ValueError: If a spawn is unknown, or there are more cars than spawns.
    """

    def __init__(self, config: EnvConfig, track: Track) -> None:
        available = list(track.spawns)
        C = len(config.cars)
        if not config.spawn_sets and len(available) < C:
            raise ValueError(f"{C} cars, but the track has {len(available)} spawns: {available}")
        for spawns in config.spawn_sets:
            for car, spawn in zip(config.cars, spawns, strict=True):
                if spawn not in track.spawns:
                    raise ValueError(
                        f"spawn {spawn!r} of {car.name!r} does not exist; the track has {available}"
                    )
        self.sets = config.spawn_sets or (tuple(available[:C]),)
        self._poses = [
            np.array([track.spawns[spawn] for spawn in spawns], np.float64) for spawns in self.sets
        ]
        self._names = [car.name for car in config.cars]

    def draw(self, rng: np.random.Generator, spawn_set: int | None) -> Float:
        """Poses of a set."""
        return self._poses[int(rng.integers(len(self.sets))) if spawn_set is None else spawn_set]

    def trials(self) -> Iterator[tuple[str, Float]]:
        """Every set."""
        for i, (spawns, poses) in enumerate(zip(self.sets, self._poses, strict=True)):
            cars = zip(self._names, spawns, strict=True)
            places = ", ".join(f"{car} at {spawn}" for car, spawn in cars)
            yield f"spawn set {i} ({places})", poses


class GridSpawner:
    """A grid of two staggered columns: the first car leads, on the left; see `GridSpawn`.

    Args:
        spawn: The grid.
        config: The environment.
        track: The track.

    Raises:
        ValueError: If the track has no centre line or is shorter than the grid.
    """

    sets: tuple[tuple[str, ...], ...] = ()

    def __init__(self, spawn: GridSpawn, config: EnvConfig, track: Track) -> None:
        _need_line(track, spawn.kind)
        count = len(config.cars)
        length = (count - 1) * spawn.row_spacing / 2
        longest = max(car.vehicle.length for car in config.cars)
        if spawn.offset + length + longest > track.length:
            raise ValueError(
                f"grid of {count} cars: {spawn.offset + length + longest:g} m are needed, but the "
                f"centre line of {track.name} is {track.length:g} m long"
            )
        if track.closed:
            front, self._span = _finish(track) - spawn.offset, track.length
        else:
            front = spawn.offset + longest / 2 + length
            self._span = max(_finish(track) - longest / 2 - front, 0.0)
        self._s = front - spawn.row_spacing / 2 * np.arange(count)
        self._d = spawn.column_spacing / 2 * np.where(np.arange(count) % 2, -1.0, 1.0)
        self._line, self._field, self._name = track.line, track.field, track.name
        self._bodies = [(car.vehicle.length, car.vehicle.width) for car in config.cars]
        self._shuffle, self._anywhere = spawn.shuffle, spawn.anywhere
        self._contacts = config.car_contacts

    def draw(self, rng: np.random.Generator, _: int | None) -> Float:
        """The slots, in the order of the cars or shuffled; anywhere: at a place with room."""
        if not self._anywhere:
            return self._ordered(rng, 0.0)
        for _ in range(_TRIES):
            poses = self._ordered(rng, rng.random() * self._span)
            if self._free(poses):
                return poses
        raise ValueError(
            f"grid spawn: no room found on {self._name} for a grid of {len(self._s)} cars anywhere"
        )

    def trials(self) -> Iterator[tuple[str, Float]]:
        """The grid; if it is shuffled, also in reverse order; anywhere: one draw."""
        what = f"grid of {len(self._s)} cars"
        if self._anywhere:
            yield what, self.draw(np.random.default_rng(0), None)
            return
        yield what, self._slots(0.0)
        if self._shuffle:
            yield what, self._slots(0.0)[::-1].copy()

    def _slots(self, forward: float) -> Float:
        """The slots (C, 3) of the grid, moved forward from behind the line, m."""
        return points_at(self._line, np.column_stack([self._s + forward, self._d]))

    def _ordered(self, rng: np.random.Generator, forward: float) -> Float:
        slots = self._slots(forward)
        return rng.permutation(slots) if self._shuffle else slots

    def _free(self, poses: Float) -> bool:
        """Whether cars at these poses touch neither walls nor, if they can, each other."""
        cars = list(zip(poses, self._bodies, strict=True))
        if any(touches_wall(self._field, pose, body) for pose, body in cars):
            return False
        pairs = combinations(cars, 2) if self._contacts else ()
        return not any(cars_touch(*one, *other) for one, other in pairs)


class _Room(NamedTuple):
    """What decides whether a car may stand at a place."""

    line: Centerline
    field: DistanceField
    arc_length: Float  # (N,) m, of the centre line's points
    widths: Float  # (N, 2) m, left and right of them
    span: float  # m, starts are at arc lengths below
    bodies: Float  # (C, 2) m, length and width
    gap: float  # m
    wall_gap: float  # m
    heading_noise: float  # rad


@njit(cache=True, nogil=True, error_model="numpy")
def _place_randomly(room: _Room, uniform: Float, poses: Float) -> int:
    """Put each car at the first of its places that is free; return how many found one.

    Args:
        room: The track and the rules.
        uniform: (C, T, 3) in [0, 1): along, across, heading of T places a car.
        poses: (C, 3) x m, y m, yaw rad, written.
    """
    for c in range(len(poses)):
        found = False
        for t in range(uniform.shape[1]):
            if _stands(room, c, uniform[c, t], poses):
                found = True
                break
        if not found:
            return c
    return len(poses)


@njit(cache=True, nogil=True, error_model="numpy")
def _stands(room: _Room, c: int, uniform: Float, poses: Float) -> bool:
    """Whether a place is free for car c, given those before it; writes its pose."""
    length, width = room.bodies[c]
    s = uniform[0] * room.span
    i = np.searchsorted(room.arc_length, s, side="right") - 1
    most_left = max(room.widths[i, 0] - width / 2 - room.wall_gap, 0.0)
    most_right = max(room.widths[i, 1] - width / 2 - room.wall_gap, 0.0)
    d = uniform[1] * (most_left + most_right) - most_right
    x, y, yaw = point_at(room.line, s, d)
    yaw += (2.0 * uniform[2] - 1.0) * room.heading_noise
    poses[c] = x, y, yaw
    # Where another part of the lane is nearer, the heading would be wrong.
    apart = abs(project(room.line, x, y)[0] - s)
    if min(apart, room.line.length - apart if room.line.closed else apart) > 0.01:
        return False
    if touches_wall(
        room.field, (x, y, yaw), (length + 2 * room.wall_gap, width + 2 * room.wall_gap)
    ):
        return False
    # Growing one of two rectangles by the gap all round keeps them at least that far apart.
    grown = length + 2 * room.gap, width + 2 * room.gap
    for other in range(c):
        if cars_touch((x, y, yaw), grown, poses[other], room.bodies[other]):
            return False
    return True


class RandomSpawner:
    """Anywhere on the track, up to the finish line of an open one; see `RandomSpawn`.

    Arc length, offset within the free width and heading are uniform; places without room are
    drawn again.

    Args:
        spawn: The rules.
        config: The environment.
        track: The track.

    Raises:
        ValueError: If the track has no centre line.
    """

    sets: tuple[tuple[str, ...], ...] = ()

    def __init__(self, spawn: RandomSpawn, config: EnvConfig, track: Track) -> None:
        _need_line(track, spawn.kind)
        self._name = track.name
        bodies = [(car.vehicle.length, car.vehicle.width) for car in config.cars]
        self._room = _Room(
            line=track.line,
            field=track.field,
            arc_length=track.arc_length,
            widths=np.ascontiguousarray(track.widths),
            span=track.length if track.closed else _finish(track),
            bodies=np.array(bodies, np.float64),
            gap=spawn.gap,
            wall_gap=spawn.wall_gap,
            heading_noise=spawn.heading_noise,
        )

    def draw(self, rng: np.random.Generator, _: int | None) -> Float:
        """Poses without contact; an error if none are found."""
        count = len(self._room.bodies)
        poses = np.empty((count, 3))
        for _ in range(_RESTARTS):
            if _place_randomly(self._room, rng.random((count, _TRIES, 3)), poses) == count:
                return poses
        raise ValueError(
            f"random spawn: no room found on {self._name} for {count} cars with {self._room.gap:g} "
            f"m between them and {self._room.wall_gap:g} m to walls"
        )

    def trials(self) -> Iterator[tuple[str, Float]]:
        """One draw."""
        yield "random spawn", self.draw(np.random.default_rng(0), None)


def _make_spawner(config: EnvConfig, track: Track) -> Spawner:
    if isinstance(config.spawn, GridSpawn):
        return GridSpawner(config.spawn, config, track)
    if isinstance(config.spawn, RandomSpawn):
        return RandomSpawner(config.spawn, config, track)
    return NamedSpawner(config, track)


class Starts:
    """Draws an episode's track, and the poses of all cars on it.

    The track is drawn from a child of the episode's seed, which leaves the episode's own
    generator alone: an episode is the same whether its track was drawn, asked for, or is the
    only one.

    Args:
        config: The environment.
        tracks: The tracks, at least one.

    Attributes:
        sets: As a spawner's; those of every track.

    Raises:
        ValueError: If the cars cannot start so on one of the tracks, or sets have other names on
            one than on another.
    """

    def __init__(self, config: EnvConfig, tracks: Sequence[Track]) -> None:
        several = len(tracks) > 1
        self._kind = config.spawn.kind
        self._where = [f"track {i}, {t.name}: " * several for i, t in enumerate(tracks)]
        self._spawners: list[Spawner] = []
        for where, track in zip(self._where, tracks, strict=True):
            try:
                self._spawners.append(_make_spawner(config, track))
            except ValueError as error:
                raise ValueError(f"{where}{error}") from error
        self.sets = self._spawners[0].sets
        for where, spawner in zip(self._where, self._spawners, strict=True):
            if spawner.sets != self.sets:
                raise ValueError(
                    f"{where}cars would start at {list(spawner.sets[0])}, but at "
                    f"{list(self.sets[0])} on track 0, {tracks[0].name}: the names must be the "
                    "same; use a spawn of kind grid or random"
                )

    def draw_track(self, seed: int | np.random.SeedSequence) -> int:
        """Draw the index of an episode's track, uniformly, from the episode's seed."""
        count = len(self._spawners)
        if count == 1:
            return 0
        parent = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        # The first child that `SeedSequence.spawn` would make, without counting inside it.
        child = np.random.SeedSequence(parent.entropy, spawn_key=(*parent.spawn_key, 0))
        return int(child.generate_state(1, np.uint64)[0]) * count >> 64

    def draw(self, rng: np.random.Generator, track: int, spawn_set: int | None) -> Float:
        """Poses of the cars on a track, (C, 3): x m, y m, yaw rad.

        Args:
            rng: The environment's generator.
            track: Index of the track.
            spawn_set: Index of the set; None: drawn.

        Raises:
            ValueError: If there is no such track or set, or no room.
        """
        count = len(self._spawners)
        if not 0 <= track < count:
            raise ValueError(f"track must be in 0 ... {count - 1}, found {track}")
        sets = len(self.sets)
        if spawn_set is not None and not sets:
            raise ValueError(f"spawn_set {spawn_set}: {self._kind} spawns have no sets")
        if spawn_set is not None and not 0 <= spawn_set < sets:
            raise ValueError(f"spawn_set must be in 0 ... {sets - 1}, found {spawn_set}")
        return self._spawners[track].draw(rng, spawn_set)

    def trials(self) -> Iterator[tuple[str, int, Float]]:
        """Poses that must be possible, each with its description and its track's index."""
        for i, spawner in enumerate(self._spawners):
            for what, poses in spawner.trials():
                yield self._where[i] + what, i, poses


def _finish(track: Track) -> float:
    """Arc length of the finish line, m; without one, of where a lap would end."""
    if track.finish_line is None:
        return 0.0 if track.closed else track.length
    return float(track.to_frenet(np.mean(track.finish_line, axis=0)[None])[0, 0])


def _need_line(track: Track, kind: str) -> None:
    if not track.length > 0:
        raise ValueError(f"{kind} spawn: {track.name} has no centre line; named spawns need none")
