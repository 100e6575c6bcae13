"""Several tracks in one set of arrays, so that kernels compile once for any number of them.

What belongs to one track is one after the other in each array, and a table says where it
begins. Kernels take a track out as the views that they would have of it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.tracks.centerline import Centerline
from sim.tracks.distance_field import DistanceField
from sim.tracks.gates import Gates

_LINE: Final = np.dtype(
    [
        ("segments", np.int64),  # where its rows begin; they end where the next line's begin
        ("first", np.int64),
        ("members", np.int64),
        ("longest", np.float64),  # what follows is as in `Centerline`
        ("length", np.float64),
        ("closed", np.bool_),
        ("corner_x", np.float64),
        ("corner_y", np.float64),
        ("edge", np.float64),
        ("columns", np.int64),
        ("rows", np.int64),
    ]
)
_TRACK: Final = np.dtype(
    [
        ("cells", np.int64),  # where they begin
        ("gates", np.int64),
        ("height", np.int64),  # of the grid, in cells
        ("width", np.int64),
        ("resolution", np.float64),  # this and what follows is as in `DistanceField` and `Gates`
        ("x", np.float64),
        ("y", np.float64),
        ("yaw", np.float64),
        ("cos", np.float64),
        ("sin", np.float64),
        ("finish", np.float64),
        ("length", np.float64),
        ("closed", np.bool_),
    ]
)


class LineStack(NamedTuple):
    """Lines, for kernels; `line_of` takes one out."""

    table: NDArray[np.void]  # (T + 1,) of _LINE; the last one says where all ends
    segments: NDArray[np.float64]  # (all lines' segments, 8)
    first: NDArray[np.int32]
    members: NDArray[np.int32]


class TrackStack(NamedTuple):
    """Tracks, for kernels; `field_of`, `line_of` and `gates_of` take one's parts out."""

    table: NDArray[np.void]  # (T + 1,) of _TRACK; the last one says where all ends
    distance: NDArray[np.float32]  # (all tracks' cells,) m
    lines: LineStack
    gates: NDArray[np.float64]  # (all tracks' gates, 2, 2) m
    after_finish: NDArray[np.float64]  # (all tracks' gates,) m


def stack_lines(lines: Sequence[Centerline]) -> LineStack:
    """Put lines, at least one, into one set of arrays."""
    table = np.zeros(len(lines) + 1, _LINE)
    for i, line in enumerate(lines):
        row = table[i]
        for name in ("longest", "length", "closed", "edge", "columns", "rows"):
            row[name] = getattr(line, name)
        row["corner_x"], row["corner_y"] = line.corner
    for name in ("segments", "first", "members"):
        table[name][1:] = np.cumsum([len(getattr(line, name)) for line in lines])
    return LineStack(
        table,
        np.concatenate([line.segments for line in lines]),
        np.concatenate([line.first for line in lines]),
        np.concatenate([line.members for line in lines]),
    )


def stack_tracks(
    fields: Sequence[DistanceField], lines: Sequence[Centerline], gates: Sequence[Gates]
) -> TrackStack:
    """Put tracks, at least one, into one set of arrays."""
    table = np.zeros(len(fields) + 1, _TRACK)
    for i, (field, own) in enumerate(zip(fields, gates, strict=True)):
        row = table[i]
        row["height"], row["width"] = field.distance.shape
        for name in ("resolution", "x", "y", "yaw", "cos", "sin"):
            row[name] = getattr(field, name)
        for name in ("finish", "length", "closed"):
            row[name] = getattr(own, name)
    table["cells"][1:] = np.cumsum([field.distance.size for field in fields])
    table["gates"][1:] = np.cumsum([len(own.lines) for own in gates])
    cells = [field.distance.reshape(-1) for field in fields]
    distance = np.concatenate(cells) if len(cells) > 1 else cells[0].view()
    distance.flags.writeable = False
    return TrackStack(
        table,
        distance,
        stack_lines(lines),
        np.concatenate([own.lines for own in gates]),
        np.concatenate([own.after_finish for own in gates]),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def field_of(tracks: TrackStack, t: int) -> DistanceField:
    """Distance field of track t."""
    row = tracks.table[t]
    cells = tracks.distance[row.cells : tracks.table[t + 1].cells]
    return DistanceField(
        cells.reshape(row.height, row.width),
        row.resolution,
        row.x,
        row.y,
        row.yaw,
        row.cos,
        row.sin,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def gates_of(tracks: TrackStack, t: int) -> Gates:
    """Gates of track t."""
    row = tracks.table[t]
    begin, end = row.gates, tracks.table[t + 1].gates
    return Gates(
        tracks.gates[begin:end], tracks.after_finish[begin:end], row.finish, row.length, row.closed
    )


@njit(cache=True, nogil=True, error_model="numpy")
def line_of(lines: LineStack, t: int) -> Centerline:
    """Line t."""
    row, after = lines.table[t], lines.table[t + 1]
    return Centerline(
        lines.segments[row.segments : after.segments],
        row.longest,
        row.length,
        row.closed,
        (row.corner_x, row.corner_y),
        row.edge,
        row.columns,
        row.rows,
        lines.first[row.first : after.first],
        lines.members[row.members : after.members],
    )
