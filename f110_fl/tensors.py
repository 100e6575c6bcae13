"""Tensor files, whose bytes depend on their content only, and the names of tensors."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from f110_fl.errors import UserError
from f110_fl.files import being_written, write_atomic

if TYPE_CHECKING:  # torch takes a second to import
    import numpy as np
    import torch
    from numpy.typing import NDArray

TensorKind = Literal["model", "optimizer", "local"]
ENCODER: Final = "encoder."  # what the names of the parameters of a network's encoder start with

# Names of numpy's types in safetensors files (https://github.com/safetensors/safetensors, Format).
SAFETENSORS_TYPES: Final = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "bool": "BOOL",
}


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor | NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    *,
    sync_name: bool = True,
) -> None:
    """Write a safetensors file atomically; equal content gives equal bytes.

    Args:
        path: The file, in a folder that exists.
        tensors: Tensors or arrays by name, of any shape and device, of a type that numpy has.
        metadata: Texts that are stored beside them.
        sync_name: See `write_atomic`.

    Raises:
        TypeError: For a type that numpy does not have, such as bfloat16.
        OSError: If it cannot be written; the old file is then untouched.
    """
    write_atomic(path, _parts(tensors, metadata or {}), sync_name=sync_name)


def tensors_digest(
    tensors: Mapping[str, torch.Tensor | NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> str:
    """Return the SHA-256 of the file that `write_tensors` writes, in hexadecimal.

    Args:
        tensors: See `write_tensors`.
        metadata: See `write_tensors`.

    Raises:
        TypeError: For a type that numpy does not have, such as bfloat16.
    """
    return _digest(_parts(tensors, metadata or {}))


@contextmanager
def tensors_being_written(
    path: Path,
    tensors: Mapping[str, torch.Tensor | NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    spares: Path | None = None,
) -> Iterator[str]:
    """Write a file as `write_tensors` does, which takes its name when the block ends.

    The block runs while the disk takes the file in; see `f110_fl.files.being_written`. It must not
    change the tensors.

    Args:
        path: See `write_tensors`.
        tensors: See `write_tensors`.
        metadata: See `write_tensors`.
        spares: See `f110_fl.files.being_written`.

    Yields:
        The SHA-256 of the file, in hexadecimal.
    """
    parts = _parts(tensors, metadata or {})
    with being_written(path, parts, spares):
        yield _digest(parts)


def _digest(parts: Iterable[bytes | memoryview]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _parts(
    tensors: Mapping[str, torch.Tensor | NDArray[Any]], metadata: Mapping[str, str]
) -> list[bytes | memoryview]:
    """Return a safetensors file in parts: its header, then each tensor's bytes."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {}
    for name in sorted(tensors):
        value = tensors[name]
        array = value if isinstance(value, np.ndarray) else value.numpy(force=True)
        arrays[name] = np.asarray(array, order="C")
    # The widest types come first, so that every tensor is aligned, as in the library.
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    # A view of nothing cannot be cast.
    parts = (array.data.cast("B") for array in arrays.values() if array.size)
    return [_header(arrays, metadata), *parts]


def _header(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return the part of a safetensors file before its tensors.

    The library's own writer copies all tensors twice, which takes longer than writing them, and
    orders metadata randomly.

    Raises:
        TypeError: For a type that safetensors files do not have.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, array in arrays.items():
        kind = _kind(array.dtype)
        if kind is None:
            raise TypeError(f"tensor {name!r} has type {array.dtype}, which a file cannot contain")
        begin, end = end, end + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


@cache  # NumPy makes the name of a type anew each time
def _kind(dtype: np.dtype[Any]) -> str | None:
    return SAFETENSORS_TYPES.get(dtype.name)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a NumPy ``.npz`` file atomically; no array may need pickle.

    Raises:
        ValueError: If an array holds Python objects.
        OSError: If it cannot be written; the old file is then untouched.
    """
    import io

    import numpy as np

    for name, array in arrays.items():
        if array.dtype.hasobject:  # NumPy would pickle it
            raise ValueError(f"array {name!r} holds Python objects")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def read_tensors(path: Path, without: Container[str] = ()) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, on the CPU, in the order of their names.

    Args:
        path: The file.
        without: Names that are left out.

    Raises:
        UserError: If the file does not exist, is incomplete or has a type that NumPy does not have.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:  # PyTorch's would go on using the file
            names = sorted(name for name in file.keys() if name not in without)  # noqa: SIM118
            return {name: torch.from_numpy(file.get_tensor(name)) for name in names}
    except (OSError, SafetensorError, TypeError) as error:
        raise _unreadable(path, error) from None


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file of `write_tensors` as views of the file, which takes no copies.

    Args:
        path: The file, one of this process's own: what it says of itself is taken as it is.

    Returns:
        Read-only arrays by name. The file must not be changed while they are in use, only removed
        or replaced.

    Raises:
        OSError: If it cannot be read.
    """
    import numpy as np

    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(memory[:8], "little")
    found: dict[str, NDArray[Any]] = {}
    for name, kind, shape, begin in _layout(memory[8:start]):
        flat = np.frombuffer(memory, kind, math.prod(shape), start + begin)
        found[name] = flat.reshape(shape)
    return found


@lru_cache(maxsize=8)  # the clients' files of a round have one and the same header
def _layout(header: bytes) -> list[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Return name, type, shape and place, from the first tensor's on, of a file's tensors."""
    return [
        (name, _dtype(about["dtype"]), tuple(about["shape"]), about["data_offsets"][0])
        for name, about in json.loads(header).items()
        if name != "__metadata__"
    ]


@cache
def _dtype(kind: str) -> np.dtype[Any]:
    import numpy as np

    return np.dtype(next(name for name, theirs in SAFETENSORS_TYPES.items() if theirs == kind))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts stored in a safetensors file.

    Raises:
        UserError: If the file does not exist or is incomplete.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable safetensors file: {error}")


def prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with ``prefix/`` before every key."""
    return {f"{prefix}/{key}": value for key, value in values.items()}


def unprefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose key starts with ``prefix/``, without it."""
    start = f"{prefix}/"
    return {key[len(start) :]: value for key, value in values.items() if key.startswith(start)}


def owned(
    tensors: Mapping[str, torch.Tensor], agent: str, *kinds: TensorKind
) -> dict[str, torch.Tensor]:
    """Return an agent's tensors of some kinds, by the names that its learner uses."""
    starts = tuple(f"{agent}/{kind}/" for kind in kinds)
    return {
        name.removeprefix(f"{agent}/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(starts)
    }


@dataclass(frozen=True, slots=True)
class TensorName:
    """A tensor's name, ``AGENT/KIND/NETWORK/PARAMETER[/SLOT]``, taken apart.

    Attributes:
        kind: ``model``: a parameter of a network; ``optimizer``: an optimizer's state of a
            parameter; ``local``, ``opponents``: other state, which is never sent.
        network: The network; the optimizer of the network ``actor`` is called ``actor``.
        parameter: PyTorch's name, such as ``weights.0``.
        slot: The part of an optimizer's state, such as ``exp_avg``; else empty.
        agent: The agent; empty in the names that its learner uses.
    """

    kind: str
    network: str
    parameter: str
    slot: str = ""
    agent: str = ""

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, name: str) -> TensorName:
        """Take a name with its agent apart; missing parts are empty."""
        agent, kind, network, parameter, slot = (*name.split("/", 4), "", "", "", "")[:5]
        return cls(kind, network, parameter, slot, agent)

    @classmethod
    def of_learner(cls, name: str) -> TensorName:
        """Take a name without agent apart, as a learner uses it."""
        return cls.parse(f"/{name}")

    def __str__(self) -> str:
        parts = (self.agent, self.kind, self.network, self.parameter, self.slot)
        return "/".join(part for part in parts if part)

    @property
    def layer(self) -> int:
        """The parameter's layer, counted from the input; -1 if it belongs to none.

        An encoder's are before the first layer, whatever numbers they have of their own.
        """
        number = re.search(r"\d+", self.parameter)
        return int(number[0]) if number and not self.parameter.startswith(ENCODER) else -1
