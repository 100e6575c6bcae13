"""Files that are either whole or not there, and deterministic tensor files."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from f110_fl.errors import UserError

if TYPE_CHECKING:  # torch takes a second to import, and writing text needs none of it
    import torch
    from numpy.typing import NDArray


# Names of numpy's types in safetensors files (https://github.com/safetensors/safetensors, Format).
SAFETENSORS_TYPES: Final = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "bool": "BOOL",
}


def write_atomic(
    path: Path, data: bytes | str | Sequence[bytes | memoryview], *, sync_name: bool = True
) -> None:
    """Write a file so that readers, and a crash at any time, see the old one or the new one.

    Args:
        path: The file, in a folder that exists; what is there is replaced.
        data: Its content, or the parts of it; text is encoded as UTF-8.
        sync_name: Whether the name is to survive a power cut already now; otherwise it does
            after the next such write into the same folder.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    if isinstance(data, str):
        data = data.encode()
    parts = [data] if isinstance(data, bytes) else data
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if not sync_name:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name survives a power cut only after this
    finally:
        os.close(folder)


def append_line(path: Path, text: str, *, sync: bool = False) -> None:
    """Append one line in a single write, so that writers at the same time do not mix.

    Args:
        path: The file; made if it is not there.
        text: The line, without its end.
        sync: Whether to return only when the line is on the disk.

    Raises:
        ValueError: If ``text`` is more than one line.
        OSError: If it cannot be written whole.
    """
    if "\n" in text or "\r" in text:
        raise ValueError("a line cannot contain a line break")
    data = text.encode() + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        if os.write(file, data) != len(data):
            raise OSError(f"{path}: the disk took only part of a line")
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Args:
        path: The file that stands for the lock, in a folder that exists; made if need be.
        wait: Whether to wait for another process that holds it.

    Raises:
        BlockingIOError: If another process holds it and ``wait`` is false.
        OSError: If the file cannot be opened.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def find_file(name: str, folder: Path) -> Path | None:
    """Return the absolute path of a file named relative to ``folder``, None if it is none."""
    try:
        file = (folder / name).resolve()
        return file if file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, links in a circle
        return None


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
        tensors: Named tensors or arrays, of any shapes, on any device, of a type numpy has.
        metadata: Texts to keep beside them.
        sync_name: See `write_atomic`.

    Raises:
        TypeError: For a type that numpy does not have, such as bfloat16.
        OSError: If it cannot be written; the old file is then untouched.
    """
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {}
    for name in sorted(tensors):
        value = tensors[name]
        array = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
        arrays[name] = np.asarray(array, order="C")
    # The widest types first, so that every tensor is aligned; the library does the same.
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    parts = (array.reshape(-1).view(np.uint8).data for array in arrays.values())
    write_atomic(path, [_header(arrays, metadata or {}), *parts], sync_name=sync_name)


def _header(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return what a safetensors file has before its tensors.

    The library's own writer copies all tensors twice, which takes longer than writing them, and
    puts metadata in random order.

    Raises:
        TypeError: For a type that safetensors files do not have.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, array in arrays.items():
        if array.dtype.name not in SAFETENSORS_TYPES:
            raise TypeError(f"tensor {name!r} has type {array.dtype}, which has no place in a file")
        begin, end = end, end + array.nbytes
        kind, shape = SAFETENSORS_TYPES[array.dtype.name], list(array.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a NumPy ``.npz`` file atomically; no array may need pickle.

    Args:
        path: The file, in a folder that exists.
        arrays: By name.

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


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, on the CPU, in the order of their names.

    Raises:
        UserError: If there is no such file or it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return dict(sorted(load(path.read_bytes()).items()))
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts kept in a safetensors file.

    Raises:
        UserError: If there is no such file or it is not whole.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable safetensors file: {error}")
