"""Vector instructions against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from properties import examples

from sim.vectors import CAN_PACK, LANES, above_zero, count_bits, pack

KINDS = [np.float32, np.int32] if CAN_PACK else []  # elsewhere nothing may call it


@njit
def marks(values, at):
    mask = above_zero(values, at)
    return mask, count_bits(mask)


@njit
def packed(values, at, mask, out, to):
    pack(values, at, mask, out, to)


@examples(50)
@given(seed=st.integers(0, 2**32 - 1), at=st.integers(0, 24))
def test_a_bit_says_which_entry_is_above_0(seed, at):
    values = np.random.default_rng(seed).choice(
        np.array([-1.0, -0.0, 0.0, 1e-45, 2.0, np.inf, np.nan], np.float32), 40
    )
    mask, count = marks(values, at)
    expected = values[at : at + LANES] > 0
    assert [bool(mask >> i & 1) for i in range(LANES)] == expected.tolist()
    assert count == np.count_nonzero(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("itself", [False, True])
@examples(50)
@given(mask=st.integers(0, 2**16 - 1), at=st.integers(0, 24), data=st.data())
def test_what_is_marked_stands_side_by_side_and_nothing_else_is_touched(
    kind, itself, mask, at, data
):
    to = data.draw(st.integers(0, at if itself else 24))
    values = np.arange(1, 41).astype(kind)
    out = values if itself else np.full(40, -1, kind)
    expected = out.copy()
    chosen = [values[at + i] for i in range(LANES) if mask >> i & 1]
    expected[to : to + LANES] = 0
    expected[to : to + len(chosen)] = chosen
    packed(values, at, np.uint16(mask), out, to)
    np.testing.assert_array_equal(out, expected)
