"""Tables of numbers in CSV files, and what their columns are."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.tracks.track import TrackError

Float = NDArray[np.float64]

# Names of columns, as F1TENTH's, TUM's and loggers' files have them, less their units.
_NAMES: Final = {
    "x": ("x", "x_ref", "pos_x"),
    "y": ("y", "y_ref", "pos_y"),
    "w_right": ("w_tr_right", "w_right", "width_right", "d_right", "right_width"),
    "w_left": ("w_tr_left", "w_left", "width_left", "d_left", "left_width"),
    "speed": ("vx", "v", "speed", "velocity", "v_ref"),
}
_UNIT: Final = re.compile(r"(_m|_mps|\s*[\[(][^\])]*[\])])$")
_HEADER: Final = "a first line such as 'x, y, w_right, w_left' or 's, x, y, yaw, speed' tells"
_TURNS: Final = 0.5  # rad; on a line that turns by less, widths may look like headings
_NEAR: Final = 0.15  # rad, from a heading to the line's, in the median
_FEWEST: Final = 5  # rows; fewer may look like anything
_FASTEST: Final = 100.0  # m/s


class Row(NamedTuple):
    """A line of a file."""

    number: int  # from 1
    text: str
    fields: list[str]


class Columns(NamedTuple):
    """Which columns hold what."""

    x: int
    y: int
    widths: tuple[int, int] | None = None  # right, left
    speed: int | None = None


def read_rows(path: Path) -> tuple[list[Row], Columns | None]:
    """Split a CSV file into rows, and return the columns if a line names them.

    Columns are separated by ``;`` or tabs, where numbers may have decimal commas, otherwise by
    ``,`` or, without one, spaces. ``#`` starts a comment. A byte order mark is skipped.

    Raises:
        TrackError: If the file cannot be read, or its first line names columns, but not x and y,
            or fewer than there are.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:  # a NUL in its name is a ValueError
        raise TrackError(f"{path}: {' '.join(str(error).split())}; a CSV file is needed") from error
    rows: list[Row] = []
    names: list[str] = []
    header = True  # the first line but comments may name the columns
    for number, text in enumerate(lines, start=1):
        comment = text.lstrip().startswith("#")
        if not text.strip(" ,;\t") or (comment and rows):
            continue
        fields = _split(text.lstrip("# \t") if comment else text)
        if comment:
            found = _name(fields)
            names = found if "x" in found and "y" in found else names
        elif header and not any(map(_is_number, fields)):
            names = _name(fields)
            if "x" not in names or "y" not in names:
                raise TrackError(f"{path}: line {number}: {text!r} names no columns x and y")
        else:
            rows.append(Row(number, text, fields))
        header = header and comment
    for row in rows:
        if names and len(row.fields) > len(names) and any(row.fields[len(names) :]):
            raise TrackError(
                f"{path}: line {row.number}: {len(row.fields)} columns, "
                f"but {len(names)} are named: {', '.join(names)}"
            )
    return rows, _by_name(path, names) if names else None


def _split(text: str) -> list[str]:
    for separator in ";\t":
        if separator in text:
            fields = [field.replace(",", ".") for field in text.split(separator)]
            break
    else:
        fields = text.split("," if "," in text else None)
    return [field.strip().strip("\"'").strip() for field in fields]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _name(fields: list[str]) -> list[str]:
    """What the columns hold, by the names of `_NAMES`, or as they are named."""
    plain = [_UNIT.sub("", field.lower()) for field in fields]
    known = {name: key for key, names in _NAMES.items() for name in names}
    return [known.get(name, name) for name in plain]


def _by_name(path: Path, names: list[str]) -> Columns:
    for name in _NAMES:
        if names.count(name) > 1:
            raise TrackError(f"{path}: two columns are named {name}: {', '.join(names)}")
    index = {name: column for column, name in enumerate(names)}
    right, left = index.get("w_right"), index.get("w_left")
    widths = None if right is None or left is None else (right, left)
    return Columns(index["x"], index["y"], widths, index.get("speed"))


def recognise(path: Path, table: Float) -> tuple[Columns, str]:
    """Tell what the columns of a file without a header are, by what they hold.

    An arc length grows by the distances between the points, a heading is that of the line, from
    the x axis or as TUM has it from the y axis, and a speed is not negative. So TUM's racing lines
    (s, x, y, psi, kappa, v, a) and F1TENTH's logs (x, y, yaw, speed) are found, with or without a
    column that counts the rows. Otherwise two columns are x, y and four x, y, w_right, w_left,
    as in TUM's racetrack database.

    Args:
        path: For messages.
        table: (N, K), without rows that repeat the one before.

    Returns:
        The columns, and their names in one line.

    Raises:
        TrackError: If it cannot be told.
    """
    count = table.shape[1]
    index = int(count > 2 and _counts(table[:, 0]))
    for skip in range(index + 1):
        names = _by_content(table[:, skip:], straight=not skip) if len(table) >= _FEWEST else None
        if names or (skip and count == 5):  # what else would five columns be
            names = ["row", *(names or ["x", "y", "w_right", "w_left"])] if skip else names
            break
    else:
        names = {2: ["x", "y"], 4: ["x", "y", "w_right", "w_left"]}.get(count)
        if count == 4 and not _may_have_widths(table):
            names = None
    if not names:
        raise TrackError(f"{path}: what its {count} columns are cannot be told; {_HEADER}")
    return _by_name(path, names), ", ".join(names)


def _by_content(table: Float, *, straight: bool) -> list[str] | None:
    """Names of columns that an arc length or a heading gives away, None without such.

    Args:
        table: (N, K).
        straight: Whether a line that hardly turns may tell, too.
    """
    count = table.shape[1]
    if count >= 3 and _is_arc_length(table):
        points = table[:, 1:3]
        heading = count >= 4 and _fits(points, table[:, 3])
        if (heading and straight) or _turn(points) > _TURNS:
            names = ["s", "x", "y", "yaw"][: 3 + heading]
            if heading and count >= 6 and _is_speed(table[:, 5]):
                names += ["curvature", "speed"]
            return names + ["unused"] * (count - len(names))
    if count >= 3 and _fits(table[:, :2], table[:, 2]):
        positive = count == 4 and (table[:, 2:4] > 0).all()
        if _turn(table[:, :2]) > _TURNS or (straight and not positive):
            names = ["x", "y", "yaw"]
            if count >= 4 and _is_speed(table[:, 3]):
                names.append("speed")
            return names + ["unused"] * (count - len(names))
    return None


def _counts(column: Float) -> bool:
    return bool(column[0] in (0, 1) and (np.diff(column) == 1).all())


def _is_arc_length(table: Float) -> bool:
    steps = np.hypot(*np.diff(table[:, 1:3], axis=0).T)
    grown = np.diff(table[:, 0])
    near = np.abs(grown - steps) <= 0.1 * steps
    return bool((grown > 0).all() and near.mean() > 0.9)


def _course(points: Float) -> Float:
    """(N - 2,) heading at all points but the ends, rad."""
    chords = points[2:] - points[:-2]
    return np.arctan2(chords[:, 1], chords[:, 0])


def _turn(points: Float) -> float:
    return float(np.ptp(np.unwrap(_course(points))))


def _fits(points: Float, column: Float) -> bool:
    """Whether a column is the heading along the points, from the x axis or the y axis."""
    moving = (points[2:] != points[:-2]).any(axis=1)
    if not moving.any():
        return False
    off = (column[1:-1] - _course(points))[moving]
    apart = [np.median(np.abs((off + c + np.pi) % math.tau - np.pi)) for c in (0.0, np.pi / 2)]
    return bool(min(apart) < _NEAR)


def _is_speed(column: Float) -> bool:
    return bool(column.min() >= 0 and 0 < column.max() < _FASTEST)


def _may_have_widths(table: Float) -> bool:
    """Whether nothing speaks against x, y, w_right, w_left; a wrong width here or there may."""
    if len(table) < _FEWEST:
        return True
    positive = (table[:, 2:] > 0).mean() > 0.9
    return bool(positive) and not _looks_shifted(table) and not _fits(table[:, :2], table[:, 2])


def _looks_shifted(table: Float) -> bool:
    """Whether the points are rather in columns 2 and 3: a loop, while column 1 only grows."""
    points = table[:, 1:3]
    steps = np.median(np.hypot(*np.diff(points, axis=0).T))
    loop = math.dist(points[0], points[-1]) <= 3 * steps
    return bool((np.diff(table[:, 0]) > 0).all() and loop and np.ptp(points, axis=0).min() > steps)
