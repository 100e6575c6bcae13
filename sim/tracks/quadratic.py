"""Quadratic programmes with bounds, by a primal-dual interior-point method.

Nocedal and Wright, "Numerical Optimization", 2nd edition, 2006, section 16.6.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

Float = NDArray[np.float64]

_ITERATIONS: Final = 80  # a few dozen are usual
_CENTRING: Final = 0.1  # of the complementarity that a step aims at
_BACK_OFF: Final = 0.99  # of the way to the nearest bound
_THINNEST: Final = 1e-9  # between bounds


def minimise(matrix: Any, vector: Float, low: Float, high: Float) -> Float:
    """Minimise x' H x / 2 + g' x for low <= x <= high.

    Args:
        matrix: H, (N, N) sparse, symmetric and positive definite.
        vector: (N,) g.
        low: (N,) below or at ``high``.
        high: (N,)

    Returns:
        (N,), strictly between bounds that differ.
    """
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, _THINNEST)
    low, high = middle - half, middle + half
    x, scale = middle, max(float(np.abs(matrix @ middle + vector).max()), 1e-12)
    at_low = np.full_like(x, scale)  # multipliers
    at_high = at_low.copy()
    for _ in range(_ITERATIONS):
        above, below = x - low, high - x
        gap = float(above @ at_low + below @ at_high) / (2 * len(x))
        slope = matrix @ x + vector
        if gap < 1e-9 * scale and np.abs(slope - at_low + at_high).max() < 1e-7 * scale:
            break
        aim = _CENTRING * gap
        barrier = sparse.diags(at_low / above + at_high / below)
        step = splu((matrix + barrier).tocsc()).solve(aim / above - aim / below - slope)
        low_step = (aim - at_low * step) / above - at_low
        high_step = (aim + at_high * step) / below - at_high
        share = 1.0
        pairs = (above, step), (below, -step), (at_low, low_step), (at_high, high_step)
        for value, change in pairs:
            falls = change < 0
            share = min(share, _BACK_OFF * float((-value[falls] / change[falls]).min(initial=9.0)))
        x = x + share * step
        at_low, at_high = at_low + share * low_step, at_high + share * high_step
    return x
