"""Random closed circuits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.config import RandomTrack
from sim.tracks.centerline import curvature
from sim.tracks.kinds.lane import STEP, lane_track
from sim.tracks.track import Track, TrackError, generated

WALL: Final = 0.3  # m, thickness of the walls between two parts of the lane, where bends allow it
_SAMPLES: Final = 2048  # of a curve, before its points are set
_SPREAD: Final = 0.45  # standard deviation of the logarithm of the corners' radii
_BENDS: Final = (1.05, 2.5)  # least and largest radius of an arc, in smallest radii
_ROUNDED: Final = 0.95  # most of a straight that arcs take
_STRAIGHT: Final = 6.0  # m, length of the stretch around the finish line that is kept straight

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


@generated
def random_track(config: RandomTrack) -> Track:
    """A closed circuit, the same for the same settings.

    Corners at random distances around a centre are joined as ``bends`` says. What is too sharp or
    passes itself too closely is rounded off, little by little, until the line is nowhere more
    curved than ``min_radius`` allows and its lane keeps a wall's thickness from itself everywhere.
    The finish line is in the middle of the straightest stretch. Half of the circuits run
    clockwise.

    Raises:
        TrackError: If the grid would have too many cells.
    """
    rng = np.random.default_rng(config.seed)
    count = config.corners
    angles = 2 * np.pi / count * (np.arange(count) + rng.uniform(-0.35, 0.35, count))
    radii = np.exp(_SPREAD * rng.standard_normal(count))
    clockwise = rng.random() < 0.5
    if config.bends == "smooth":
        curves = _smooth(angles, radii, clockwise)
    else:
        bends = config.min_radius * rng.uniform(*_BENDS, count)
        curves = _arcs(angles, radii, bends, config.length, clockwise)
    for curve in curves:
        points = _even_points(curve, config.length)
        if _fits(points, config):
            points = _from_straightest(points)
            widths = np.full((len(points), 2), config.width / 2)
            return lane_track("random", points, widths, True, config.resolution)
    raise TrackError("random: no circuit fits these settings")  # a circle does: see RandomTrack


def _smooth(angles: Float, radii: Float, clockwise: bool) -> Iterator[Complex]:
    """Yield curves through corners, of any scale, each smoother than the one before.

    Smoothing damps the Fourier coefficients of the curve z(t) = sum c_k exp(i k t) by
    exp(-tau (k - 1)^2). For growing tau it approaches a circle, so that it always ends.
    """
    from scipy.interpolate import CubicSpline  # takes 0.3 s, and few processes need it

    corners = radii * np.exp(1j * angles)
    if clockwise:
        corners = corners.conj()  # the same order, seen in a mirror
    t = np.append(angles, angles[0] + 2 * np.pi)
    curve = CubicSpline(t, np.append(corners, corners[:1]), bc_type="periodic")
    around = 2 * np.pi / _SAMPLES * np.arange(_SAMPLES)
    coefficients = np.fft.fft(curve(angles[0] + around))
    order = np.fft.fftfreq(_SAMPLES, 1 / _SAMPLES)
    turn = 1 if np.abs(coefficients[1]) >= np.abs(coefficients[-1]) else -1
    tau = 1e-3
    while tau < 100:
        yield np.fft.ifft(coefficients * np.exp(-tau * (order - turn) ** 2))
        tau *= 1.2


def _arcs(
    angles: Float, radii: Float, bends: Float, length: float, clockwise: bool
) -> Iterator[Complex]:
    """Yield polygons of about a length, m, with rounded corners, each nearer to a regular one.

    Args:
        angles: (N,) rad, of the corners around the centre, rising.
        radii: (N,) of the corners, in any unit.
        bends: (N,) m, radii of the arcs at the corners where the straights leave room for them.
        length: Of the curve, m.
        clockwise: Its direction.
    """
    regular = 2 * np.pi / len(angles) * np.arange(len(angles))
    for even in np.linspace(0.0, 1.0, 41):
        own = (1 - even) * angles + even * regular
        corners = radii ** (1 - even) * np.exp(1j * own)
        late = max(0.0, 2 * even - 1)
        sizes = (1 - late) * bends + late * length  # at last, as large as they can be
        for _ in range(8):  # arcs keep their size while the polygon is scaled
            curve = _rounded(corners, sizes)
            corners = corners * length / np.abs(np.diff(curve, append=curve[:1])).sum()
        curve = _rounded(corners, sizes)
        yield curve.conj() if clockwise else curve


def _rounded(corners: Complex, bends: Float) -> Complex:
    """The closed polygon with an arc at each corner, in points at most ``STEP / 2`` m apart.

    Args:
        corners: (N,) m.
        bends: (N,) m, largest radii of the arcs; two at the ends of a straight share its length.
    """
    ahead = np.roll(corners, -1) - corners
    edges = np.abs(ahead)
    ahead = ahead / edges
    behind = np.roll(ahead, 1)
    turn = np.angle(ahead / behind)  # rad, positive to the left
    tangent = np.tan(np.abs(turn) / 2)
    need = bends * tangent  # m, of the straights at either side of a corner
    room = _ROUNDED * edges / (need + np.roll(need, -1))
    need = need * np.minimum(1.0, np.minimum(room, np.roll(room, 1)))
    pieces = []
    for i, corner in enumerate(corners):
        radius = need[i] / max(tangent[i], 1e-9)
        start, normal = corner - need[i] * behind[i], 1j * np.sign(turn[i]) * behind[i]
        count = 2 + int(2 * radius * abs(turn[i]) / STEP)
        along = turn[i] * np.arange(count) / count
        pieces.append(start + radius * normal * (1 - np.exp(1j * along)))
        begin = corner + need[i] * ahead[i]
        straight = edges[i] - need[i] - need[(i + 1) % len(corners)]
        count = 1 + int(2 * straight / STEP)
        pieces.append(begin + straight * ahead[i] * np.arange(count) / count)
    return np.concatenate(pieces)


def _even_points(curve: Complex, length: float) -> Float:
    """Points at even distances along a closed curve that is scaled to a length, m."""
    from scipy.interpolate import CubicSpline

    ring = np.append(curve, curve[:1])
    arc = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(ring)))])
    smooth = CubicSpline(arc, ring, bc_type="periodic")
    count = math.ceil(length / STEP)
    points = smooth(arc[-1] / count * np.arange(count))
    points *= length / np.abs(np.diff(points, append=points[:1])).sum()
    points -= points.mean()
    return np.column_stack([points.real, points.imag])


def _fits(points: Float, config: RandomTrack) -> bool:
    """Whether no bend is too sharp, and the lane keeps clear of itself."""
    if np.abs(curvature(points, closed=True)).max() > 1 / config.min_radius:
        return False
    # Up to the half circle of the smallest radius apart, a curve no sharper keeps clear of
    # itself (Schur's comparison theorem); beyond, distances have to be looked at.
    count, apart = len(points), min(config.width + WALL, 1.98 * config.min_radius)
    near = 2 * config.min_radius * math.asin(apart / (2 * config.min_radius))
    step = config.length / count
    every = max(1, int(0.5 / step))
    some = points[::every]
    distances = np.hypot(*(some[:, None] - points[None]).transpose(2, 0, 1))
    index = np.abs(np.arange(0, count, every)[:, None] - np.arange(count)[None])
    along = step * np.minimum(index, count - index)
    # Between the points looked at, the distance may be less by half the step.
    return bool(distances[along > near + every * step].min(initial=math.inf) > apart)


def _from_straightest(points: Float) -> Float:
    """The same points, beginning in the middle of the straightest stretch."""
    bend = np.abs(curvature(points, closed=True))
    window = np.zeros(len(points))
    reach = min(int(_STRAIGHT / STEP / 2), len(points) // 4)
    window[np.arange(-reach, reach + 1)] = 1.0
    total = np.fft.ifft(np.fft.fft(bend) * np.fft.fft(window)).real
    rolled: Float = np.roll(points, -int(np.argmin(total)), axis=0)
    return rolled
