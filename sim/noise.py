"""Gaussian noise that depends only on what it is for, not on when or where it is computed."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_UNIT = 2.0**-31


@njit(cache=True, nogil=True, error_model="numpy")
def mix(word: np.uint64) -> np.uint64:
    """Hash 64 bits: one step of SplitMix64 (Steele, Lea and Flood 2014, figure 15)."""
    word = word + _GOLDEN
    word = (word ^ (word >> _S30)) * _MIX_1
    word = (word ^ (word >> _S27)) * _MIX_2
    return word ^ (word >> _S31)


@njit(cache=True, nogil=True, error_model="numpy")
def stream(key: np.uint64, step: int, car: int) -> np.uint64:
    """Key of one scan's noise, from the environment's key, the physics step and the car."""
    return mix(mix(key ^ mix(np.uint64(step))) ^ np.uint64(car))


@njit(cache=True, nogil=True, error_model="numpy")
def normal_pair(key: np.uint64, index: int) -> tuple[float, float]:
    """Two independent standard normal numbers: the ``index``-th pair of a stream.

    Marsaglia and Bray's polar method (SIAM Review 6, 1964) on the two halves of a hash.
    """
    word = mix(key + np.uint64(index) * _GOLDEN)
    while True:
        u = (float(word >> _S32) + 0.5) * _UNIT - 1.0
        v = (float(word & _LOW) + 0.5) * _UNIT - 1.0
        square = u * u + v * v
        if square < 1.0:  # never 0: u and v are odd multiples of 2**-32
            scale = math.sqrt(-2.0 * math.log(square) / square)
            return u * scale, v * scale
        word = mix(word)


@njit(cache=True, nogil=True, error_model="numpy")
def add_noise(
    scan: NDArray[np.float32], key: np.uint64, standard_deviation: float, max_range: float
) -> None:
    """Add noise to a scan in place, and clip it to what the sensor can read.

    Args:
        scan: (B,) m.
        key: From `stream`.
        standard_deviation: m; 0 adds nothing.
        max_range: m.
    """
    if standard_deviation <= 0.0:
        return
    for pair in range((len(scan) + 1) // 2):
        first, second = normal_pair(key, pair)
        b = 2 * pair
        scan[b] = min(max(scan[b] + standard_deviation * first, 0.0), max_range)
        if b + 1 < len(scan):
            scan[b + 1] = min(max(scan[b + 1] + standard_deviation * second, 0.0), max_range)
