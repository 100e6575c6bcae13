"""Checks of what clients send, before any of it is averaged.

Whether a reply has all its parts is checked where it is read (`f110_fl.federation.messages`);
here, whether they can be true.
"""

from __future__ import annotations

import math

import numpy as np
from flwr.app import ArrayRecord

from f110_fl.federation.arrays import value
from f110_fl.federation.messages import WEIGHT, EvaluateReply, InvalidMessageError, TrainReply
from f110_fl.training.metrics import total_name

ENV_STEPS = total_name("train", "env-steps")
# Metrics that are never negative.
_COUNTS = (
    total_name("train", "episodes"),
    ENV_STEPS,
    total_name("evaluate", "episodes"),
    total_name("evaluate", "env-steps"),
)


def validate_training(
    reply: TrainReply,
    client_id: int,
    expected: ArrayRecord,
    max_steps: float,
    max_update_norm: float | None,
) -> None:
    """Refuse a reply that cannot be averaged.

    Args:
        reply: The reply.
        client_id: Who was asked.
        expected: The global arrays: names, shapes and types, and where distances start.
        max_steps: Most training actions that the round's episodes allow.
        max_update_norm: Longest L2 distance of all tensors from ``expected``, or None.

    Raises:
        InvalidMessageError: With the reason, in words.
    """
    if reply.client_id != client_id:
        raise InvalidMessageError(f"it says that it is client {reply.client_id}")
    for name in _COUNTS:
        if reply.metrics[name] < 0:
            raise InvalidMessageError(f"metric {name!r} is {reply.metrics[name]!r}")
    if not 0 < reply.weight <= max_steps:
        raise InvalidMessageError(f"metric {WEIGHT!r} is {reply.weight!r}")
    steps = reply.metrics[ENV_STEPS]
    if steps > max_steps:
        raise InvalidMessageError(f"{steps!r} steps, where the round allows {max_steps:g}")
    _validate_arrays(reply.arrays, expected, max_update_norm)


def validate_evaluation(reply: EvaluateReply) -> None:
    """Refuse an evaluation's reply that cannot be true.

    Raises:
        InvalidMessageError: With the reason, in words.
    """
    for name, found in reply.metrics.items():
        if name.endswith("-rate") and not 0 <= found <= 1:
            raise InvalidMessageError(f"metric {name!r} is {found!r}")


def _validate_arrays(
    arrays: ArrayRecord, expected: ArrayRecord, max_update_norm: float | None
) -> None:
    differing = sorted(set(arrays) ^ set(expected))
    if differing:
        raise InvalidMessageError(f"tensor {differing[0]!r} is missing or was not asked for")
    squares = 0.0
    for name, wanted in expected.items():
        array = arrays[name]
        # The header is enough to tell, and a lie in it must not make us allocate.
        if tuple(array.shape) != tuple(wanted.shape) or array.dtype != wanted.dtype:
            raise InvalidMessageError(f"tensor {name!r} is {array.dtype}{list(array.shape)}")
        try:
            found = value(array)
        except ValueError:
            raise InvalidMessageError(f"tensor {name!r} cannot be read") from None
        if found.shape != tuple(wanted.shape) or found.dtype != wanted.dtype:
            raise InvalidMessageError(f"tensor {name!r} is {found.dtype}{list(found.shape)}")
        if not np.isfinite(found).all():
            raise InvalidMessageError(f"tensor {name!r} is not finite")
        if max_update_norm is not None:
            difference = found.astype(np.float64) - value(wanted)
            squares += float(np.vdot(difference, difference))
    norm = math.sqrt(squares)
    if max_update_norm is not None and norm > max_update_norm:
        raise InvalidMessageError(f"update norm {norm:.6g} exceeds {max_update_norm:g}")
