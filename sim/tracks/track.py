"""One representation for every track: the distance to the nearest wall, on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache, wraps
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.settings import Config
from sim.tracks.centerline import Centerline, curvature, points_at, polyline, project_all
from sim.tracks.distance_field import DistanceField, free_ways, wall_distances

Pose = tuple[float, float, float]  # x m, y m, yaw rad
Line = tuple[tuple[float, float], tuple[float, float]]
C = TypeVar("C", bound=Config)

# Walls around the grid, so that a ray cannot leave it: its last step ends inside the
# first wall cell, the second absorbs rounding.
BORDER = 2
KEPT: Final = 256  # tracks of a kind: a random circuit takes 0.1 s to build, 1.4 MB to keep
MAX_CELLS = 36_000_000  # of which each needs about ten bytes while the track is built
SPAWNS: Final = 8  # of tracks that name none
SPACING: Final = 1.5  # m, between them where there is room


class TrackError(ValueError):
    """A track cannot be built; one line says which, what is wrong and what is allowed."""


def generated(build: Callable[[C], Track]) -> Callable[[C, Path], Track]:
    """Make a kind of track from a function whose track depends on its settings alone.

    Tracks are kept for later calls: of evaluations, and of a federation's other clients.
    """
    kept = lru_cache(maxsize=KEPT)(build)
    return wraps(build)(lambda config, _: kept(config))


@dataclass(frozen=True, eq=False)
class Track:
    """A track; arrays are read-only by convention.

    Attributes:
        name: Name for messages.
        distance: (H, W) float32 m, from each cell's centre to the nearest wall cell's centre;
            0 in walls. Row 0 is the lowest y of the grid's own frame; the border is wall.
        resolution: Edge of a cell, m.
        origin: Pose of the grid's frame: x m, y m of the lower-left corner, yaw rad.
        centerline: (N, 2) float64 m, in driving direction; (0, 2) if the track has none.
        closed: Whether the centre line's last point leads back to its first.
        spawns: Poses to start from, by name.
        finish_line: Its left end and its right end seen in driving direction, or None.
        stated_widths: (N, 2) m, free width left and right of the centre line's points as the
            track's source states it; None where it does not.
        raceline: (M, 2) m, in driving direction, of a line that is faster than the centre line;
            open or closed as that is; None if the track has none.
        raceline_speeds: (M,) m/s at its points; None if they are not known.
    """

    name: str
    distance: NDArray[np.float32]
    resolution: float
    origin: Pose
    centerline: NDArray[np.float64]
    closed: bool
    spawns: Mapping[str, Pose]
    finish_line: Line | None
    stated_widths: NDArray[np.float64] | None = None
    raceline: NDArray[np.float64] | None = None
    raceline_speeds: NDArray[np.float64] | None = None

    @classmethod
    def from_occupancy(
        cls,
        name: str,
        free: NDArray[np.bool_],
        resolution: float,
        origin: Pose,
        *,
        centerline: NDArray[np.float64] | None = None,
        closed: bool = False,
        spawns: Mapping[str, Pose] | None = None,
        finish_line: Line | None = None,
        stated_widths: NDArray[np.float64] | None = None,
    ) -> Track:
        """Build a track from a grid of free cells; everything outside the grid is wall.

        The grid is cropped to its free cells, and bordered with walls; where walls meet only
        at a corner, one of the cells between them becomes wall.

        Args:
            name: Name for messages.
            free: (H, W), row 0 at the lowest y.
            resolution: Edge of a cell, m.
            origin: x m, y m, yaw rad of the lower-left corner of ``free``.
            centerline: (N, 2) m, in driving direction.
            closed: Whether the centre line is a loop.
            spawns: Poses by name.
            finish_line: Two points; where there is a centre line they are put in the order
                left, right, otherwise they must be in it.
            stated_widths: (N, 2) m, left and right.

        Raises:
            TrackError: If no cell is free, or there are too many cells.
        """
        rows = np.flatnonzero(free.any(axis=1))
        columns = np.flatnonzero(free.any(axis=0))
        if rows.size == 0:
            raise TrackError(f"{name}: no cell is free; a track needs free space")
        window = free[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        check_cells(name, window.size, resolution)
        distance = wall_distances(_close_diagonals(np.pad(window, BORDER)), float(resolution))
        distance.flags.writeable = False
        shift_x = (columns[0] - BORDER) * resolution
        shift_y = (rows[0] - BORDER) * resolution
        cos, sin = np.cos(origin[2]), np.sin(origin[2])
        line = np.empty((0, 2)) if centerline is None else np.array(centerline, dtype=np.float64)
        line.flags.writeable = False
        if stated_widths is not None:
            stated_widths = np.array(stated_widths)
            stated_widths.flags.writeable = False
        return cls(
            name=name,
            distance=distance,
            resolution=float(resolution),
            origin=(
                float(origin[0] + cos * shift_x - sin * shift_y),
                float(origin[1] + sin * shift_x + cos * shift_y),
                float(origin[2]),
            ),
            centerline=line,
            closed=closed,
            spawns=dict(spawns or {}),
            finish_line=_left_first(finish_line, line) if finish_line else None,
            stated_widths=stated_widths,
        )

    def __post_init__(self) -> None:
        edges = (self.distance[[0, -1]], self.distance[:, [0, -1]])
        if any(edge.any() for edge in edges):
            raise TrackError(f"{self.name}: the distance field must be 0 along its border")

    def starting(
        self, *, finish_line: Line | None = None, spawns: Mapping[str, Pose] | None = None
    ) -> Track:
        """The same track with its own finish line and spawns, as far as they are given.

        Where cars start changes nothing of the lane: what has been worked out of it is kept.
        """
        track = replace(
            self,
            finish_line=finish_line or self.finish_line,
            spawns=self.spawns if spawns is None else spawns,
        )
        own = {field.name for field in fields(self)}
        track.__dict__.update({k: v for k, v in self.__dict__.items() if k not in own})
        return track

    def wall_distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance from each point's cell to the nearest wall cell.

        Args:
            points: (N, 2) m.

        Returns:
            (N,) m; 0 in walls and outside the grid.
        """
        height, width = self.distance.shape
        x, y, yaw = self.origin
        offset = (np.asarray(points, dtype=np.float64) - (x, y)) / self.resolution
        cos, sin = np.cos(yaw), np.sin(yaw)
        column = np.floor(cos * offset[:, 0] + sin * offset[:, 1])
        row = np.floor(cos * offset[:, 1] - sin * offset[:, 0])
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        result = np.zeros(len(offset))
        cells = row[inside].astype(np.intp), column[inside].astype(np.intp)
        result[inside] = self.distance[cells]
        return result

    @cached_property
    def field(self) -> DistanceField:
        """The distance field as kernels take it; they compile once for all tracks."""
        distance = np.ascontiguousarray(self.distance, dtype=np.float32).view()
        distance.flags.writeable = False
        x, y, yaw = self.origin
        return DistanceField(distance, self.resolution, x, y, yaw, math.cos(yaw), math.sin(yaw))

    @cached_property
    def line(self) -> Centerline:
        """The centre line as kernels take it."""
        return polyline(self.centerline, self.closed)

    @property
    def length(self) -> float:
        """Length of the centre line, m; 0 without one."""
        return self.line.length

    @cached_property
    def arc_length(self) -> NDArray[np.float64]:
        """(N,) arc length at the centre line's points, m."""
        steps = np.hypot(*np.diff(self.centerline, axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)])[: len(self.centerline)]

    @cached_property
    def curvature(self) -> NDArray[np.float64]:
        """(N,) curvature at the centre line's points, 1/m, positive to the left."""
        return curvature(self.centerline, self.closed)

    @cached_property
    def widths(self) -> NDArray[np.float64]:
        """(N, 2) free width left and right of the centre line's points, m.

        As stated by the track's source, otherwise `measured_widths`.
        """
        return self.measured_widths if self.stated_widths is None else self.stated_widths

    @cached_property
    def measured_widths(self) -> NDArray[np.float64]:
        """(N, 2) distance to the wall left and right of the centre line's points, m."""
        if not len(self.centerline):
            return np.empty((0, 2))
        field = self.field
        s = self.arc_length
        if not self.closed:  # the ends of an open line may lie in a wall's face
            s = np.clip(s, self.resolution / 2, self.length - self.resolution / 2)
        along = np.column_stack([s, np.zeros(len(s))])
        x, y, yaw = points_at(self.line, along).T
        left = np.column_stack([-np.sin(yaw), np.cos(yaw)])
        # Frenet d is measured across the segments, shorter than along the bisector of two.
        aside = points_at(self.line, along + np.array([0.0, 1.0]))
        stretch = np.hypot(aside[:, 0] - x, aside[:, 1] - y)
        ways = [free_ways(field, np.column_stack([x, y, side])) for side in (left, -left)]
        widths: NDArray[np.float64] = np.column_stack(ways) / stretch[:, None]
        return widths

    def at(self, values: NDArray[np.float64], s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Interpolate what is known at the centre line's points.

        Args:
            values: (N,) or (N, K), for example `curvature` or `widths`.
            s: (M,) arc length, m; taken modulo the length of a closed line.

        Returns:
            (M,) or (M, K), linear between the points.
        """
        if values.ndim == 2:
            return np.column_stack([self.at(column, s) for column in values.T])
        period = self.length if self.closed else None
        return np.interp(s, self.arc_length, values, period=period)

    def to_frenet(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position along and across the centre line; see `sim.tracks.centerline`.

        Args:
            xy: (N, 2) m.

        Returns:
            (N, 2): s m in [0, length), or [0, length] of an open line; d m, left positive.

        Raises:
            TrackError: If the track has no centre line.
        """
        self._need_line()
        return project_all(self.line, _rows_of_two(xy))

    def from_frenet(self, sd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses at positions along and across the centre line: inverts `to_frenet`.

        Args:
            sd: (N, 2), s m and d m, left positive.

        Returns:
            (N, 3): x m, y m, yaw rad of the centre line there.

        Raises:
            TrackError: If the track has no centre line.
            ValueError: If s is beyond the ends of an open line.
        """
        self._need_line()
        sd = _rows_of_two(sd)
        if not self.closed and ((sd[:, 0] < 0) | (sd[:, 0] > self.length)).any():
            raise ValueError(f"s must be in [0, {self.length:g}] m on {self.name}, an open line")
        return points_at(self.line, sd)

    def _need_line(self) -> None:
        if len(self.centerline) < 2:
            raise TrackError(f"{self.name}: it has no centre line, which Frenet coordinates need")


def _rows_of_two(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = np.ascontiguousarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(f"shape (N, 2) is needed, found {rows.shape}")
    return rows


def _close_diagonals(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill in where walls meet only at a corner, so that no ray slips through."""
    closed = free.copy()
    while True:
        lower_left, lower_right = closed[:-1, :-1], closed[:-1, 1:]
        upper_left, upper_right = closed[1:, :-1], closed[1:, 1:]
        rising = lower_left & upper_right & ~lower_right & ~upper_left
        falling = lower_right & upper_left & ~lower_left & ~upper_right
        if not (rising.any() or falling.any()):
            return closed
        # One filled cell may meet further walls at a corner: look again.
        closed[:-1, :-1] &= ~rising
        closed[:-1, 1:] &= ~falling


def _left_first(finish_line: Line, centerline: NDArray[np.float64]) -> Line:
    """Order a finish line's ends as left, right of the centre line's direction there."""
    if len(centerline) < 2:
        return finish_line
    ends = np.array(finish_line)
    middle = ends.mean(axis=0)
    nearest = int(np.argmin(np.sum((centerline - middle) ** 2, axis=1)))
    # The chord over both neighbours: valid at either end of an open line too.
    after, before = min(nearest + 1, len(centerline) - 1), max(nearest - 1, 0)
    forward = centerline[after] - centerline[before]
    across = ends[0] - ends[1]
    left = forward[0] * across[1] - forward[1] * across[0] >= 0
    return finish_line if left else (finish_line[1], finish_line[0])


def check_cells(name: str, cells: int, resolution: float, advice: str = "") -> None:
    """Refuse a grid of too many cells.

    Args:
        name: Name of the track, for the message.
        cells: Their number.
        resolution: Edge of a cell, m.
        advice: What else than a larger resolution would do, for the message.

    Raises:
        TrackError: If there are more than `MAX_CELLS`.
    """
    if cells > MAX_CELLS:
        least = math.ceil(1e3 * resolution * math.sqrt(cells / MAX_CELLS)) / 1e3
        raise TrackError(
            f"{name}: {cells} cells at a resolution of {resolution:g} m; at most {MAX_CELLS} are "
            f"allowed: choose resolution >= {least:g} m{advice}"
        )


def staggered_spawns(track: Track, finish: float = 0.0) -> dict[str, Pose]:
    """Spawn poses along a centre line, alternately left and right of it; spawn_1 leads.

    They stand before the finish line of a closed track, and at the start of an open one. Offsets
    keep to half the clearance there.

    Args:
        track: A track with a centre line.
        finish: Arc length of a closed track's finish line, m.
    """
    spacing = min(SPACING, track.length / (SPAWNS + 1))
    front = finish - spacing if track.closed else spacing * SPAWNS
    along = front - spacing * np.arange(SPAWNS)
    middle = points_at(track.line, np.column_stack([along, np.zeros(SPAWNS)]))
    # 0.2 m is more than half the widest F1TENTH car.
    offset = np.maximum(0.0, track.wall_distance(middle[:, :2]) / 2 - 0.2)
    offset[1::2] *= -1
    poses = points_at(track.line, np.column_stack([along, offset]))
    return {
        f"spawn_{i}": (float(x), float(y), float(yaw)) for i, (x, y, yaw) in enumerate(poses, 1)
    }
