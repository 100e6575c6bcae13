"""What a client sent, left in its file of the round until it is needed.

A round's replies are as many models as there are clients. The server writes each to a file
anyway, so it keeps the files and not the replies: Flower's weighted mean then reads one model
after the other, and takes no more memory for a hundred clients than for one.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from safetensors.numpy import load_file


class StoredArray(Array):
    """An array that is read from its file whenever it is asked for.

    Args:
        array: Has its type and shape.
        path: The safetensors file.
        name: The array's in it.
    """

    def __init__(self, array: Array, path: Path, name: str) -> None:
        super().__init__(array.dtype, array.shape, array.stype, b"")
        self._path = path
        self._name = name

    def numpy(self) -> NDArray[Any]:
        """Return the array, to be read only.

        Raises:
            OSError: If the file is gone.
        """
        return _read(self._path, self._path.stat().st_mtime_ns)[self._name]


@lru_cache(maxsize=1)  # whoever wants one array of a file wants the others next
def _read(path: Path, written: int) -> dict[str, NDArray[Any]]:  # noqa: ARG001 - part of the key
    return load_file(path)


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
