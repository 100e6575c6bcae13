"""Noise that depends only on what it is for, not on when or where it is computed."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_DROPOUT = np.uint64(0xD1B54A32D192ED03)  # tells the stream of dropouts from that of the noise
_LATENESS = np.uint64(0xA24BAED4963EE407)  # and that of late commands,
_STEERING = np.uint64(0x8CB92BA72F3D8DD7)  # of a servo's turning,
DRIFT = np.uint64(0xF1357AEA2E62A9C5)  # of odometry that drifts

# Single precision throughout, so that the compiler can use wide vector instructions.
_F = np.float32
_LN2, _HALF, _ZERO, _ONE, _TWO = _F(math.log(2.0)), _F(0.5), _F(0), _F(1), _F(2)
_ANGLE = _F(math.pi / 4 * 2.0**-24)
_SQRT_HALF_BITS = np.uint32(0x3F3504F3)
_MANTISSA = np.uint32(23)  # bits of a float32's mantissa
# Chebyshev fits, accurate to 2e-6: log(1 + m) / m, and sin(a) / a and cos(a) in a**2.
_L0, _L1, _L2, _L3 = _F(1.00000096), _F(-0.50001145), _F(0.333146738), _F(-0.249082892)
_L4, _L5, _L6 = _F(0.204917596), _F(-0.186807514), _F(0.119310544)
_S0, _S1, _S2 = _F(0.999998566), _F(-0.166624762), _F(0.00815157096)
_C0, _C1, _C2, _C3 = _F(0.999999972), _F(-0.499998566), _F(0.0416550209), _F(-0.00135858439)


@njit(cache=True, nogil=True, error_model="numpy")
def mix(word: np.uint64) -> np.uint64:
    """Hash 64 bits: one step of SplitMix64 (Steele, Lea and Flood 2014, figure 15)."""
    word = word + _GOLDEN
    word = (word ^ (word >> _S30)) * _MIX_1
    word = (word ^ (word >> _S27)) * _MIX_2
    return word ^ (word >> _S31)


@njit(cache=True, nogil=True, error_model="numpy")
def stream(key: np.uint64, step: int, car: int) -> np.uint64:
    """Key of one car's noise at one physics step, from the environment's key."""
    return mix(mix(key ^ mix(np.uint64(step))) ^ np.uint64(car))


@njit(cache=True, nogil=True, error_model="numpy")
def normal_pair(key: np.uint64, index: int) -> tuple[float, float]:
    """Two independent standard normal numbers, float32: the ``index``-th pair of a stream.

    Box and Muller (Annals of Mathematical Statistics 29, 1958) on the two halves of a hash:
    31 bits give the radius, 24 the angle within an eighth of a turn, 3 the eighth.
    """
    word = mix(key + np.uint64(index) * _GOLDEN)
    low = np.uint32(word)
    # -log(u) of u = (k + 1/2) / 2**31, with u = 2**exponent * m and m in [sqrt(1/2), sqrt(2)).
    number = _F(_F(np.int32(word >> np.uint64(33))) + _HALF)
    bits = _F(number).view(np.uint32)
    exponent = np.int32(bits - _SQRT_HALF_BITS) >> np.int32(23)
    m = np.uint32(bits - (np.uint32(exponent) << _MANTISSA)).view(np.float32) - _ONE
    logarithm = m * (_L0 + m * (_L1 + m * (_L2 + m * (_L3 + m * (_L4 + m * (_L5 + m * _L6))))))
    minus_log = _F(31 - exponent) * _LN2 - logarithm
    radius = np.sqrt(max(_TWO * minus_log, _ZERO))
    angle = (_F(np.int32(low >> np.uint32(8))) + _HALF) * _ANGLE
    square = angle * angle
    sin = radius * angle * (_S0 + square * (_S1 + square * _S2))
    cos = radius * (_C0 + square * (_C1 + square * (_C2 + square * _C3)))
    swap = (low & np.uint32(1)) != 0
    first, second = sin if swap else cos, cos if swap else sin
    return (
        -first if (low & np.uint32(2)) != 0 else first,
        -second if (low & np.uint32(4)) != 0 else second,
    )


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
    scale, limit = _F(standard_deviation), _F(max_range)
    # A pair serves a beam in either half of the scan: neighbours would need shuffling.
    half = len(scan) // 2
    for b in range(half):
        first, second = normal_pair(key, b)
        scan[b] = min(max(scan[b] + scale * first, _ZERO), limit)
        scan[half + b] = min(max(scan[half + b] + scale * second, _ZERO), limit)
    if len(scan) % 2:
        last = len(scan) - 1
        scan[last] = min(max(scan[last] + scale * normal_pair(key, half)[0], _ZERO), limit)


@njit(cache=True, nogil=True, error_model="numpy")
def drop_beams(
    scan: NDArray[np.float32], key: np.uint64, probability: float, max_range: float
) -> None:
    """Let beams return nothing, independently: they read the sensor's range.

    Args:
        scan: (B,) m.
        key: From `stream`.
        probability: Of a beam to be dropped; 0 drops none.
        max_range: m.
    """
    if probability <= 0.0:
        return
    limit = probability * 2.0**32
    for b in range(len(scan)):
        if float(mix((key ^ _DROPOUT) + np.uint64(b) * _GOLDEN) >> _S32) < limit:
            scan[b] = max_range


@njit(cache=True, nogil=True, error_model="numpy")
def is_late(key: np.uint64, probability: float) -> bool:
    """Whether a command is late, which it is with a probability; ``key`` is from `stream`."""
    return float(mix(key ^ _LATENESS) >> _S32) < probability * 2.0**32


@njit(cache=True, nogil=True, error_model="numpy")
def steering_noise(key: np.uint64) -> float:
    """A standard normal number for a servo's turning; ``key`` is from `stream`."""
    return normal_pair(key ^ _STEERING, 0)[0]
