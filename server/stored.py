"""What a client sent, left in its file of the round until it is needed.

A round's replies are as many models as there are clients. The server writes each to a file
anyway, so it keeps the files and not the replies: Flower's weighted mean then reads one model
after the other, and takes no more memory for a hundred clients than for one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from safetensors import safe_open


class StoredArray(Array):
    """An array that is read from its file whenever it is asked for.

    Args:
        array: Has its type and shape.
        path: The safetensors file. It is opened at each reading: one left open stays mapped, and
            those of a round's clients together would take the memory that this is to save.
        name: The array's in it.
    """

    def __init__(self, array: Array, path: Path, name: str) -> None:
        super().__init__(array.dtype, array.shape, array.stype, b"")
        self._path = path
        self._name = name

    def numpy(self) -> NDArray[Any]:
        """Return the array, newly read.

        Raises:
            OSError: If the file is gone.
        """
        with safe_open(self._path, "numpy") as file:
            found: NDArray[Any] = file.get_tensor(self._name)
        return found


def stored(arrays: ArrayRecord, path: Path) -> ArrayRecord:
    """Return a record of the arrays that a safetensors file holds.

    Args:
        arrays: What was written into it: names, types and shapes.
        path: The file.
    """
    record = ArrayRecord()  # whose constructor would copy the arrays
    for name, array in arrays.items():
        record[name] = StoredArray(array, path, name)
    return record
