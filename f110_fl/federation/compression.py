"""What clients send in fewer bytes: rounded differences to the global model, with error feedback.

A client sends what its networks differ from the global ones that it was sent, rounded; what the
rounding took off is added to what it sends the next time, so that nothing is lost for good (Seide
et al. 2014; Karimireddy et al. 2019, "Error Feedback Fixes SignSGD", algorithm 2). The server adds
the difference to the global tensors again, before it looks at anything, so that checks, files,
hashes and averages are those of tensors of the usual type.

=========  ==========================================================================
float16    Differences as float16.
int8       Differences as whole multiples, -127 to 127, of a step of each tensor's own: its
           largest absolute value / 127 (QSGD, Alistarh et al. 2017, but to the nearest
           instead of at random, since error feedback mends the bias).
=========  ==========================================================================

Both send moments as bfloat16, the upper half of float32, with a relative error of 2^-9 at most:
second moments span many powers of ten, and what is near 0 must not become 0. Counts of steps and
the statistics of normalisers are sent as they are.

All of it works element by element, so that the same bytes come out on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from f110_fl.config.federated import Compression
from f110_fl.federation.arrays import checked, record_of, value
from f110_fl.federation.messages import InvalidMessageError
from f110_fl.tensors import TensorName

STEPS: Final = "steps"  # name of the int8 steps (tensors,) in a reply, in the names' order
LARGEST: Final = 127  # of int8's multiples, so that both signs reach as far
_LARGEST_HALF: Final = float(np.finfo(np.float16).max)
_LARGEST_STEP: Final = 1e6  # 127 of it are more than any network may hold
_TYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "float16": np.dtype(np.float16),
    "int8": np.dtype(np.int8),
}
_MOMENT: Final[np.dtype[Any]] = np.dtype(
    np.uint16
)  # the bits of a bfloat16, which NumPy does not have
_KEPT_EXACTLY: Final = "step"  # slot of an optimizer

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
How = Literal["difference", "moment", "exact"]


def how(name: str, dtype: str) -> How:
    """Return how a tensor is sent where there is compression."""
    parsed = TensorName.parse(name)
    if dtype != "float32" or parsed.slot == _KEPT_EXACTLY:
        return "exact"
    if parsed.kind == "optimizer":
        return "moment"
    return "exact" if parsed.network.endswith("normaliser") else "difference"


def update(
    now: Arrays, start: Arrays, before: Arrays, compression: Compression
) -> dict[str, NDArray[Any]]:
    """Return what is to be sent of a round, unrounded: its differences, and what was left before.

    It is what a client keeps: both what is sent and what that leaves for the next round follow.

    Args:
        now: The client's tensors after the round, by name.
        start: Those that it was sent, of the same names.
        before: What this returned in the client's last round; empty before the first.
        compression: How it is rounded.
    """
    found = {}
    for name, array in now.items():
        if how(name, array.dtype.name) == "difference":
            change = array - start[name]
            if name in before:
                change = change + left(before[name], compression)
            found[name] = np.asarray(change)  # NumPy makes scalars of arrays without axes
    return found


def left(update: NDArray[Any], compression: Compression) -> NDArray[Any]:
    """Return what rounding takes off."""
    codes, step = _rounded(update, compression)
    rest: NDArray[Any] = update - _unrounded(codes, step)
    return rest


def encoded(now: Arrays, updates: Arrays, compression: Compression) -> ArrayRecord:
    """Return what is sent.

    Args:
        now: The client's tensors, by name.
        updates: See `update`.
        compression: How they are rounded.
    """
    found, steps = {}, []
    for name in sorted(now):
        match how(name, now[name].dtype.name):
            case "difference":
                found[name], step = _rounded(updates[name], compression)
                steps.append(step)
            case "moment":
                found[name] = to_bfloat16(now[name])
            case "exact":
                found[name] = now[name]
    if compression == "int8":
        found[STEPS] = np.array(steps, np.float32)
    return record_of(found)


def decoded(sent: ArrayRecord, start: ArrayRecord, compression: Compression) -> ArrayRecord:
    """Return a client's tensors as they were before `encoded`, up to rounding.

    Args:
        sent: What was sent; not trusted.
        start: The tensors that the round started from, with names, shapes and types.
        compression: The run's; with ``none``, tensors are what was sent.

    Raises:
        InvalidMessageError: If it is not what `encoded` returns.
    """
    if compression == "none":
        return sent
    ways = {name: how(name, array.dtype) for name, array in start.items()}
    names = sorted(name for name, way in ways.items() if way == "difference")
    wanted = {*start, STEPS} if compression == "int8" else {*start}
    differing = sorted({*sent} ^ wanted)
    if differing:
        raise InvalidMessageError(f"tensor {differing[0]!r} is missing or was not asked for")
    steps = np.ones(len(names), np.float32)
    if compression == "int8":
        steps = checked(STEPS, sent[STEPS], (len(names),), steps.dtype)
        if not ((steps >= 0) & (steps <= _LARGEST_STEP)).all():
            raise InvalidMessageError(f"tensor {STEPS!r} holds what is no step")
    step_of = dict(zip(names, steps, strict=True))
    types: dict[How, np.dtype[Any]] = {"difference": _TYPES[compression], "moment": _MOMENT}
    found: dict[str, NDArray[Any]] = {}
    for name, array in start.items():
        kind = types.get(ways[name]) or np.dtype(array.dtype)
        codes = checked(name, sent[name], tuple(array.shape), kind)
        match ways[name]:
            case "difference":
                found[name] = value(array) + _unrounded(codes, step_of[name])
            case "moment":
                found[name] = from_bfloat16(codes)
            case "exact":
                found[name] = codes
    return record_of(found)


def to_bfloat16(array: NDArray[Any]) -> NDArray[Any]:
    """Return float32 numbers as the bits of the nearest bfloat16, the even one of two."""
    bits = np.asarray(array, order="C").view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + (np.uint32(0x7FFF) + odd)) >> np.uint32(16)).astype(_MOMENT)


def from_bfloat16(bits: NDArray[Any]) -> NDArray[Any]:
    """Return the bits of bfloat16 as float32 numbers."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _rounded(update: NDArray[Any], compression: Compression) -> tuple[NDArray[Any], np.float32]:
    """Return what is sent of an update (float32, any shape), and the step by which it counts."""
    if compression == "float16":
        halves = np.clip(update, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
        return halves, np.float32(1)
    step = np.float32(np.abs(update).max(initial=0.0) / np.float32(LARGEST))
    if not step:  # nothing to send, or so little that it waits
        return np.zeros(update.shape, np.int8), step
    return np.clip(np.rint(update / step), -LARGEST, LARGEST).astype(np.int8), step


def _unrounded(codes: NDArray[Any], step: np.float32) -> NDArray[Any]:
    return codes.astype(np.float32) * step
