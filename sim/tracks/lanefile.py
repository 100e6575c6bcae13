"""Centre lines and racing lines from CSV files."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.tracks.columns import Columns, Row, read_rows, recognise
from sim.tracks.track import TrackError

_LOG: Final = logging.getLogger(__name__)
_FARTHEST: Final = 1e9  # m; any number, but none that overflows
_SHARPEST: Final = math.radians(150)  # turn at a point; beyond, the line leads back over itself


class Lane(NamedTuple):
    """A line read from a file."""

    points: NDArray[np.float64]  # (N, 2) m, in driving direction, no two in a row the same
    widths: NDArray[np.float64] | None  # (N, 2) m, left and right; None if the file has none
    closed: bool  # the last point leads back to the first
    speeds: NDArray[np.float64] | None = None  # (N,) m/s, above 0; None if the file has none

    def reversed(self) -> Lane:
        """The line driven the other way; a closed one still begins at its first point."""
        turn = np.arange(len(self.points))[::-1]
        turn = np.roll(turn, 1) if self.closed else turn
        widths = None if self.widths is None else self.widths[turn][:, ::-1]
        speeds = None if self.speeds is None else self.speeds[turn]
        return Lane(self.points[turn], widths, self.closed, speeds)


def read_lane(path: Path) -> Lane:
    """Read a line of x, y and perhaps the widths to its right and left, all in m.

    A comment or a first line that names columns x (or x_m) and y decides which they are;
    otherwise see `sim.tracks.columns.recognise`. The line is closed if its ends are not farther
    apart than three times its usual step.

    Raises:
        TrackError: If the file cannot be read, has a line without numbers, fewer than three
            different points, a width that is not positive, columns that cannot be told, or if the
            line crosses itself or turns back at a point.
    """
    return _read(path, widths=True)


def read_raceline(path: Path) -> Lane:
    """Read a line of x, y and perhaps the speeds, m/s, along it; as `read_lane`, without widths.

    Speeds that are not above 0 everywhere, at which a car would stop, are left out.

    Raises:
        TrackError: As `read_lane`.
    """
    return _read(path, widths=False)


def _read(path: Path, *, widths: bool) -> Lane:
    rows, columns = read_rows(path)
    if columns is None:
        table = _all_numbers(path, rows)
        columns, names = recognise(path, table) if len(table) >= 3 else (Columns(0, 1), "x, y")
        if table.shape[1] != 2:
            _LOG.info("%s: no line names its columns; read as %s", path, names)
    sides = columns.widths if widths else None
    used = [columns.x, columns.y, *(sides or ())]
    found: list[tuple[float, ...]] = []
    kept: list[Row] = []
    for row in rows:
        values = _numbers(path, row, used)
        if not found or math.dist(found[-1][:2], values[:2]) > 1e-9:
            found.append(values)
            kept.append(row)
    count = len({values[:2] for values in found})
    if count < 3:
        raise TrackError(f"{path}: {count} different points; at least 3 are needed")
    points = np.array(found)[:, :2]
    spacing = np.hypot(*np.diff(points, axis=0).T)
    gap = math.dist(points[0], points[-1])
    closed = bool(gap <= 3 * np.median(spacing) and gap < spacing.sum() / 2)
    last = -1 if gap <= 1e-9 else None
    speeds = None
    if columns.speed is not None and not widths:
        speeds = _speeds(path, kept[:last], columns.speed)
    aside = np.array(found)[:last, [3, 2]] if sides else None
    lane = Lane(points[:last].copy(), aside, closed, speeds)
    _check_course(path, lane)
    return lane


def _all_numbers(path: Path, rows: list[Row]) -> NDArray[np.float64]:
    """(N, K) numbers of all columns, less empty ones at the end and rows that repeat."""
    count = max((len(row.fields) for row in rows), default=0)
    while count and not any("".join(row.fields[count - 1 : count]) for row in rows):
        count -= 1
    table = np.array([_numbers(path, row, list(range(count)), every=True) for row in rows])
    if len(table) < 2:
        return table.reshape(len(rows), count)
    changed = (np.diff(table, axis=0) != 0).any(axis=1)
    return np.vstack([table[:1], table[1:][changed]])


def _speeds(path: Path, rows: list[Row], column: int) -> NDArray[np.float64] | None:
    values = []
    for row in rows:
        field = row.fields[column] if column < len(row.fields) else ""
        try:
            values.append(float(field))
        except ValueError:
            values.append(math.nan)
        if not 0 < values[-1] < math.inf:
            told = "%s: its speeds are not used: line %d has %r, which is not above 0 m/s"
            _LOG.info(told, path, row.number, field)
            return None
    return np.array(values)


def _numbers(path: Path, row: Row, columns: list[int], *, every: bool = False) -> tuple[float, ...]:
    try:
        values = tuple(float(row.fields[column]) for column in columns)
    except (ValueError, IndexError):
        values = (math.nan,)
    where = f"{path}: line {row.number}: {row.text!r}"
    if not all(abs(value) <= _FARTHEST for value in values):
        words = {2: "'x, y' in metres is", 4: "'x, y, w_right, w_left' in metres is"}
        raise TrackError(
            f"{where}; {words.get(len(columns), f'{len(columns)} numbers are')} needed"
        )
    if not every and min(values[2:], default=1.0) <= 0:
        raise TrackError(f"{where}; widths must be above 0 m")
    return values


def _check_course(path: Path, lane: Lane) -> None:
    points = lane.points
    ring = np.vstack([points, points[:2]]) if lane.closed else points
    steps = np.diff(ring, axis=0)
    before, after = steps[:-1], steps[1:]
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turns = np.abs(np.arctan2(cross, np.sum(before * after, axis=1)))
    if turns.max() > _SHARPEST:
        x, y = ring[int(np.argmax(turns)) + 1]
        raise TrackError(
            f"{path}: its line turns by {math.degrees(turns.max()):.0f} degrees at "
            f"({x:g}, {y:g}) m; at most {math.degrees(_SHARPEST):.0f} are allowed"
        )
    ring = np.vstack([points, points[:1]]) if lane.closed else points
    first, _ = _first_crossing(np.ascontiguousarray(ring), lane.closed)
    if first >= 0:
        x, y = ring[first]
        raise TrackError(f"{path}: its line crosses itself near ({x:g}, {y:g}) m")


@njit(cache=True, nogil=True, error_model="numpy")
def _first_crossing(ring: NDArray[np.float64], closed: bool) -> tuple[int, int]:
    """Indices of two segments that meet and are not neighbours; -1, -1 if there are none."""
    count = len(ring) - 1
    longest = 0.0
    for i in range(count):
        dx, dy = ring[i + 1, 0] - ring[i, 0], ring[i + 1, 1] - ring[i, 1]
        longest = max(longest, math.hypot(dx, dy))
    for i in range(count):
        j = i + 2
        last = count - 1 if closed and i == 0 else count
        while j < last:
            apart = math.hypot(ring[i, 0] - ring[j, 0], ring[i, 1] - ring[j, 1])
            if apart <= 2 * longest and _meet(ring[i], ring[i + 1], ring[j], ring[j + 1]):
                return i, j
            j += max(1, int((apart - 2 * longest) / longest))
    return -1, -1


@njit(cache=True, nogil=True, error_model="numpy")
def _meet(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> bool:
    """Whether the segments a-b and c-d have a point in common, unless they are parallel."""
    abx, aby, cdx, cdy = b[0] - a[0], b[1] - a[1], d[0] - c[0], d[1] - c[1]
    area = abx * cdy - aby * cdx
    if area == 0.0:
        return False
    acx, acy = c[0] - a[0], c[1] - a[1]
    t, u = (acx * cdy - acy * cdx) / area, (acx * aby - acy * abx) / area
    return bool(0.0 <= t <= 1.0 and 0.0 <= u <= 1.0)
