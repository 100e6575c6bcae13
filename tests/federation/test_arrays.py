"""Tensors as Flower's arrays, and back."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from f110_fl.federation.arrays import record_of, value

KINDS = ("float16", "float32", "float64", "int8", "int64", "uint8", "bool", ">f4", "S3")


@given(
    hnp.arrays(
        st.sampled_from(KINDS).map(np.dtype),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.booleans(),
)
def test_a_value_is_what_flower_reads(values: NDArray[np.generic], turned: bool) -> None:
    array = Array(np.asarray(values.T) if turned else values)
    found, expected = value(array), array.numpy()
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def test_a_value_shares_the_messages_memory() -> None:
    found = value(Array(np.ones((3, 4), np.float32)))
    assert found.base is not None
    assert not found.flags.writeable


def npy(values: NDArray[np.generic], version: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values, version)
    return buffer.getvalue()


def test_other_versions_of_the_format_are_read_too() -> None:
    values = np.arange(6.0).reshape(2, 3)
    array = Array("float64", (2, 3), "numpy.ndarray", npy(values, (2, 0)))
    np.testing.assert_array_equal(value(array), values)


WHOLE = npy(np.arange(6.0), (1, 0))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an array",
        WHOLE[:9],
        WHOLE[:40],
        WHOLE[:-1],
        WHOLE.replace(b"(6,)", b"(7,)"),
        WHOLE.replace(b"'<f8'", b"'|O' "),
        WHOLE.replace(b"False", b"open("),
    ],
)
def test_bytes_that_are_no_array_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an array"):
        value(Array("float64", (6,), "numpy.ndarray", data))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 4)])
def test_records_are_what_flower_itself_makes(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape)).astype(dtype).reshape(shape)
    for ordered in (array, np.asfortranarray(array)):
        found = record_of({"a": ordered})["a"]
        wanted = Array(np.asarray(ordered, order="C"))
        assert (found.dtype, found.shape, found.stype, found.data) == (
            wanted.dtype,
            wanted.shape,
            wanted.stype,
            wanted.data,
        )
        assert found.object_id == wanted.object_id
