"""Random closed circuits."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.config import RandomTrack
from sim.tracks.centerline import curvature
from sim.tracks.kinds.lane import STEP, lane_track
from sim.tracks.track import Track, TrackError, generated

WALL: Final = 0.3  # m, least thickness of the walls between two parts of the lane
_SAMPLES: Final = 2048  # of a curve, before its points are set
_SPREAD: Final = 0.45  # standard deviation of the logarithm of the corners' radii
_STRAIGHT: Final = 6.0  # m, length of the stretch around the finish line that is kept straight

Float = NDArray[np.float64]


@generated
def random_track(config: RandomTrack) -> Track:
    """A smooth closed circuit, the same for the same settings.

    Corners at random distances around a centre are joined by a smooth curve. Its sharp bends
    and near passes are rounded off, little by little, until it is nowhere more curved than
    ``min_radius`` allows and its lane keeps a wall's thickness from itself everywhere. The
    finish line is in the middle of the straightest stretch. Half of the circuits run clockwise.

    Rounding off damps the Fourier coefficients of the curve z(t) = sum c_k exp(i k t) by
    exp(-tau (k - 1)^2). For growing tau it approaches a circle, so that it always ends.

    Raises:
        TrackError: If the grid would have too many cells.
    """
    from scipy.interpolate import CubicSpline  # takes 0.3 s, and few processes need it

    rng = np.random.default_rng(config.seed)
    count = config.corners
    angles = 2 * np.pi / count * (np.arange(count) + rng.uniform(-0.35, 0.35, count))
    radii = np.exp(_SPREAD * rng.standard_normal(count))
    corners = radii * np.exp(1j * angles)
    if rng.random() < 0.5:
        corners = corners.conj()  # the same order, seen in a mirror: clockwise
    t = np.append(angles, angles[0] + 2 * np.pi)
    curve = CubicSpline(t, np.append(corners, corners[:1]), bc_type="periodic")
    around = 2 * np.pi / _SAMPLES * np.arange(_SAMPLES)
    coefficients = np.fft.fft(curve(angles[0] + around))
    order = np.fft.fftfreq(_SAMPLES, 1 / _SAMPLES)
    turn = 1 if np.abs(coefficients[1]) >= np.abs(coefficients[-1]) else -1
    tau = 1e-3
    while tau < 100:
        damped = coefficients * np.exp(-tau * (order - turn) ** 2)
        points = _even_points(np.fft.ifft(damped), config.length)
        if _fits(points, config):
            points = _from_straightest(points)
            widths = np.full((len(points), 2), config.width / 2)
            return lane_track("random", points, widths, True, config.resolution)
        tau *= 1.2
    raise TrackError("random: no circuit fits these settings")  # a circle does: see RandomTrack


def _even_points(curve: NDArray[np.complex128], length: float) -> Float:
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
    count, apart = len(points), config.width + WALL
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
