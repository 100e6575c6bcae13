"""Tensors as Flower's arrays, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.lib import format as npy

from f110_fl.federation.messages import InvalidMessageError

if TYPE_CHECKING:  # torch takes a second to import, and answering a query needs none of it
    import torch
    from numpy.typing import NDArray

_NUMPY: Final = "numpy.ndarray"  # Flower's word for arrays that NumPy has saved
_PLAIN: Final = npy.magic(1, 0)  # the first bytes of nearly every array


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """Return the tensors as a Flower record, in name order."""
    return record_of({name: tensors[name].numpy() for name in sorted(tensors)})


def to_tensors(arrays: ArrayRecord) -> dict[str, torch.Tensor]:
    """Return a record's arrays as tensors that own their memory."""
    import torch

    return {name: torch.from_numpy(value(array).copy()) for name, array in arrays.items()}


def value(array: Array) -> NDArray[Any]:
    """Return the values of an array, as a read-only view of its bytes where that is possible.

    Flower's own ``Array.numpy`` parses each header as Python source and copies what follows:
    0.1 ms per array, several times per message.

    Raises:
        ValueError: If its bytes are not a valid array without Python objects.
    """
    try:
        found = _view(array.data) if array.data[: len(_PLAIN)] == _PLAIN else array.numpy()
    except Exception as error:  # of several kinds: a header is parsed as Python source
        raise ValueError(f"not an array: {error}") from error
    if not isinstance(found, np.ndarray):  # bytes of a zip are read as an archive of arrays
        raise ValueError(f"not an array: {type(found).__name__}")  # noqa: TRY004 - as documented
    return found


def checked(name: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values of an array that somebody else sent; see `value`.

    Args:
        name: Of the tensor, for messages.
        array: As it was sent.
        shape: What it must have.
        dtype: What it must be of.

    Raises:
        InvalidMessageError: If it is not of this shape and type, whatever it says of itself.
    """
    # Compared before the data is read, so that a false header causes no allocation.
    if tuple(array.shape) != shape or array.dtype != dtype.name:
        raise InvalidMessageError(f"tensor {name!r} is {array.dtype}{list(array.shape)}")
    try:
        found = value(array)
    except ValueError:
        raise InvalidMessageError(f"tensor {name!r} cannot be read") from None
    if found.shape != shape or found.dtype != dtype:
        raise InvalidMessageError(f"tensor {name!r} is {found.dtype}{list(found.shape)}")
    return found


def values_of(arrays: ArrayRecord) -> dict[str, NDArray[Any]]:
    """Return the values of a record's arrays by name; see `value`."""
    return {name: value(array) for name, array in arrays.items()}


def record_of(values: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Return values as a Flower record, in their order."""
    record = ArrayRecord()  # its constructor would copy the arrays
    for name, array in values.items():
        record[name] = _array(np.asarray(array, order="C"))
    return record


def _array(values: NDArray[Any]) -> Array:
    """Return what Flower's ``Array(values)`` is, of an array in C's order.

    That one makes each header from the start, and copies what follows three times.
    """
    if values.dtype.hasobject:  # is refused there
        return Array(values)
    kind, head = _head(values.dtype, values.shape)
    return Array(kind, values.shape, _NUMPY, b"".join((head, values.data)))


@lru_cache(maxsize=1024)
def _head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, bytes]:
    """Return the name of a type, and what stands before an array's numbers in NumPy's format."""
    buffer = BytesIO()
    descr = npy.dtype_to_descr(dtype)
    npy.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return str(dtype), buffer.getvalue()


def _view(data: bytes) -> NDArray[Any]:
    start = len(_PLAIN) + 2 + int.from_bytes(data[len(_PLAIN) : len(_PLAIN) + 2], "little")
    shape, fortran_order, dtype = _header(data[len(_PLAIN) : start])
    flat = np.frombuffer(data, dtype, math.prod(shape), start)  # refuses Python objects
    return flat.reshape(shape, order="F" if fortran_order else "C")


@lru_cache(maxsize=1024)  # a round's messages repeat the same few headers
def _header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = npy.read_array_header_1_0(BytesIO(text))
    return found


def cast_like(arrays: ArrayRecord, reference: ArrayRecord) -> ArrayRecord:
    """Return arrays in name order, cast from an average's wider types to the reference's."""
    return record_of(
        {
            name: np.asarray(value(arrays[name]), dtype=reference[name].dtype)
            for name in sorted(reference)
        }
    )
