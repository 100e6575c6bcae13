"""Gates: lines across the lane that a car has to pass in turn; see `sim.physics.laps`."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.tracks.centerline import points_at, project_all
from sim.tracks.track import Line, Track

Float = NDArray[np.float64]

GATES: Final = 16  # of a closed track, with the finish line
_CHOICES: Final = 9  # places tried for a gate
_DEPTH: Final = 48  # points along a gate that must be nearest to the gate's own place


class Gates(NamedTuple):
    """Gates of a track, for kernels; none if it has no finish line."""

    lines: Float  # (K, 2, 2) m: left end, right end seen in driving direction; finish line first
    after_finish: Float  # (K,) m, arc length from the finish line
    finish: float  # m, arc length of the finish line
    length: float  # m, of the circuit
    closed: bool  # otherwise there is one gate, and crossing it is the finish


def make_gates(track: Track) -> Gates:
    """Place the gates of a closed track about evenly, or the finish line of an open one.

    A gate stands, within half its sector, where it reaches both walls in the narrowest place.
    Where there is no wall near, see `gate_across`.
    """
    if track.finish_line is None:
        return Gates(np.empty((0, 2, 2)), np.empty(0), 0.0, 0.0, False)
    finish = np.array(track.finish_line, dtype=np.float64)
    if not track.closed:
        return Gates(finish[None], np.zeros(1), 0.0, 0.0, False)
    start = float(track.to_frenet(finish.mean(axis=0)[None])[0, 0])
    sector = track.length / GATES
    lines, arcs = [finish], [0.0]
    for k in range(1, GATES):
        places = sector * (k + np.linspace(-0.25, 0.25, _CHOICES))
        reach, walls = _reaches(track, start + places)
        best = int(np.lexsort((walls.sum(axis=1), np.round((walls - reach).sum(axis=1), 2)))[0])
        lines.append(_line(track, start + places[best], reach[best]))
        arcs.append(float(places[best]))
    return Gates(np.array(lines), np.array(arcs), start, track.length, True)


def gate_across(track: Track, s: float) -> Line:
    """Line across the lane, its left end first.

    It ends at the walls. Where they are far off, in the open, it ends where another place of
    the centre line is as near, or at the stated width of the lane or L / (4 pi), half the
    radius of a circle as long as the centre line, whichever is more.

    Args:
        track: A track with a centre line.
        s: Arc length, m.
    """
    reach, _ = _reaches(track, np.array([s]))
    left, right = _line(track, s, reach[0])
    return (float(left[0]), float(left[1])), (float(right[0]), float(right[1]))


def _line(track: Track, s: float, reach: Float) -> Float:
    return track.from_frenet(np.array([[s, reach[0]], [s, -reach[1]]]))[:, :2]


def _reaches(track: Track, s: Float) -> tuple[Float, Float]:
    """How far gates at ``s`` reach left and right, and how far the walls are, each (N, 2) m."""
    walls = track.at(track.measured_widths, s)
    widest = np.full(walls.shape, track.length / (4 * math.pi))
    if track.stated_widths is not None:
        widest = np.maximum(widest, track.at(track.stated_widths, s))
    # A little into the walls: between its points the lane may be wider than measured.
    reach = np.minimum(walls + 2 * track.resolution, widest)
    depths = np.linspace(0.0, 1.0, _DEPTH + 1)[1:]
    for i, side in enumerate((1.0, -1.0)):
        d = side * reach[:, i, None] * depths
        sd = np.column_stack([np.repeat(s, _DEPTH), d.ravel()])
        found = project_all(track.line, points_at(track.line, sd)[:, :2])[:, 0]
        apart = np.abs(found - sd[:, 0])
        if track.closed:
            apart = np.abs((apart + track.length / 2) % track.length - track.length / 2)
        own = np.cumprod((apart < 0.01).reshape(d.shape), axis=1).sum(axis=1)
        reach[:, i] *= own / _DEPTH
    return reach, walls
