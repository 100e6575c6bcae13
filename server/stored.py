"""What a client sent, left in its file of the round until it is needed.

A round's replies are as many models as there are clients. The server writes each to a file
anyway, so it keeps the files and not the replies: Flower's weighted mean then reads one model
after the other, and takes no more memory for a hundred clients than for one.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray


class StoredArray(Array):
    """An array that is read from its file whenever it is asked for.

    Args:
        array: Has its type and shape.
        path: The file.
        offset: Where in it the array starts, bytes.
    """

    def __init__(self, array: Array, path: Path, offset: int) -> None:
        super().__init__(array.dtype, array.shape, array.stype, b"")
        self._path = path
        self._offset = offset

    def numpy(self) -> NDArray[Any]:
        """Return the array, newly read.

        Raises:
            OSError: If the file is gone.
        """
        count = math.prod(self.shape)
        found = np.fromfile(self._path, self.dtype, count, offset=self._offset)
        return found.reshape(self.shape)


def stored(arrays: ArrayRecord, path: Path) -> ArrayRecord:
    """Return a record of the arrays that a safetensors file holds.

    Args:
        arrays: What was written into it: names, types and shapes.
        path: The file.
    """
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
    record = ArrayRecord()  # whose constructor would copy the arrays
    for name, array in arrays.items():
        offset = start + header[name]["data_offsets"][0]
        record[name] = StoredArray(array, path, offset)
    return record
