"""Centre lines and racing lines from CSV files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.tracks.track import TrackError

# Names of columns, as F1TENTH's and TUM's files have them, less a "_m" at the end.
_NAMES: Final = (
    ("x",),
    ("y",),
    ("w_tr_right", "w_right", "width_right"),
    ("w_tr_left", "w_left", "width_left"),
)
_SHARPEST: Final = math.radians(150)  # turn at a point; beyond, the line leads back over itself


class Lane(NamedTuple):
    """A line read from a file."""

    points: NDArray[np.float64]  # (N, 2) m, in driving direction, no two in a row the same
    widths: NDArray[np.float64] | None  # (N, 2) m, left and right; None if the file has none
    closed: bool  # the last point leads back to the first


def read_lane(path: Path) -> Lane:
    """Read a line of x, y and perhaps the widths to its right and left, all in m.

    Columns are separated by ``,`` or ``;``. ``#`` starts a comment. A comment or a first line
    that names columns x (or x_m) and y decides which they are; otherwise they are x, y and, if
    there are four, w_right and w_left, TUM's order. The line is closed if its ends are not
    farther apart than three times its usual step.

    Raises:
        TrackError: If the file cannot be read, has a line without numbers, fewer than three
            different points, a width that is not positive, or if the line crosses itself or
            turns back at a point.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrackError(f"{path}: {' '.join(str(error).split())}; a CSV file is needed") from error
    rows: list[tuple[float, ...]] = []
    columns: list[int] | None = None
    header = True  # the first line may name the columns
    for number, text in enumerate(lines, start=1):
        fields = [field.strip() for field in text.replace(";", ",").split(",")]
        if not any(fields):
            continue
        if not rows and (fields[0].startswith("#") or (header and fields[0][:1].isalpha())):
            columns = _named_columns(fields) or columns
            header = header and fields[0].startswith("#")
            continue
        if fields[0].startswith("#"):
            continue
        if columns is None:
            columns = [0, 1, 2, 3] if len(fields) >= 4 else [0, 1]
        row = _numbers(path, number, text, fields, columns)
        header = False
        if not rows or math.dist(rows[-1][:2], row[:2]) > 1e-9:
            rows.append(row)
    if len({row[:2] for row in rows}) < 3:
        count = len({row[:2] for row in rows})
        raise TrackError(f"{path}: {count} different points; at least 3 are needed")
    table = np.array(rows)
    points = table[:, :2]
    spacing = np.hypot(*np.diff(points, axis=0).T)
    gap = math.dist(points[0], points[-1])
    closed = bool(gap <= 3 * np.median(spacing) and gap < spacing.sum() / 2)
    if gap <= 1e-9:
        table = table[:-1]
    lane = Lane(table[:, :2].copy(), table[:, [3, 2]] if table.shape[1] > 2 else None, closed)
    _check_course(path, lane)
    return lane


def _named_columns(fields: list[str]) -> list[int] | None:
    names = [field.lstrip("# ").lower().removesuffix("_m") for field in fields]
    found = [next((names.index(n) for n in known if n in names), -1) for known in _NAMES]
    if found[0] < 0 or found[1] < 0:
        return None
    return found if min(found) >= 0 else found[:2]


def _numbers(
    path: Path, number: int, text: str, fields: list[str], columns: list[int]
) -> tuple[float, ...]:
    try:
        row = tuple(float(fields[column]) for column in columns)
    except (ValueError, IndexError):
        row = (math.nan,)
    if not all(map(math.isfinite, row)):
        words = "x, y" if len(columns) == 2 else "x, y, w_right, w_left"
        raise TrackError(f"{path}: line {number}: {text!r}; {words!r} in metres is needed")
    if min(row[2:], default=1.0) <= 0:
        raise TrackError(f"{path}: line {number}: {text!r}; widths must be above 0 m")
    return row


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
