"""Checks of what clients send, before any of it is averaged.

`f110_fl.federation.messages` checks that a reply is complete; this module checks that its values
are plausible.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
from flwr.app import ArrayRecord, RecordDict

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
_LARGEST = 1e12  # of any metric: sums and averages of such numbers stay finite and exact enough


def validate_training(
    reply: TrainReply,
    client_id: int,
    expected: ArrayRecord,
    max_steps: float,
    max_update_norm: float | None,
) -> float:
    """Refuse a reply that cannot be averaged.

    Args:
        reply: The reply.
        client_id: The client that was asked.
        expected: The global arrays, with the required names, shapes and types.
        max_steps: Largest number of training actions in the round's episodes.
        max_update_norm: Largest L2 distance of all tensors from ``expected``; None: any.

    Returns:
        That distance.

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
    _check_ranges(reply.metrics)
    return _validate_arrays(reply.arrays, expected, max_update_norm)


def outliers(norms: Mapping[int, float], max_ratio: float | None) -> dict[int, str]:
    """Return the clients whose updates are far longer than the others', with the reason.

    Clipping to the median of what clients send is Andrew et al. 2021 (arXiv 1905.03871); an update
    that is many medians long is left out instead, because it is broken or hostile. A client that
    has not trained yet, whose norm is 0, tells nothing.

    Args:
        norms: L2 norms of the updates, by client.
        max_ratio: Largest norm, in medians of those that are not 0, if there are three; None: any.
    """
    lengths = sorted(norm for norm in norms.values() if norm > 0)
    if max_ratio is None or len(lengths) < 3:
        return {}
    # The lower of two middle ones: half of the clients may be hostile, not one more.
    median = lengths[(len(lengths) - 1) // 2]
    return {
        client_id: f"update norm {norm:.6g} exceeds {max_ratio:g} times the round's median, "
        f"{median:.6g}"
        for client_id, norm in norms.items()
        if norm > max_ratio * median
    }


def read_evaluation(content: RecordDict, names: Collection[str]) -> EvaluateReply:
    """Return an evaluation's reply with metrics of these names.

    Raises:
        InvalidMessageError: If it is incomplete or not plausible, with the reason in words.
    """
    reply = EvaluateReply.from_content(content, names)
    _check_ranges(reply.metrics)
    return reply


def _check_ranges(metrics: Mapping[str, float]) -> None:
    """Refuse rates that are none, and numbers that no episode can give."""
    for name, found in metrics.items():
        possible = 0 <= found <= 1 if name.endswith("-rate") else abs(found) <= _LARGEST
        if not possible:
            raise InvalidMessageError(f"metric {name!r} is {found!r}")


def _validate_arrays(
    arrays: ArrayRecord, expected: ArrayRecord, max_update_norm: float | None
) -> float:
    """Return the distance from ``expected``."""
    differing = sorted(set(arrays) ^ set(expected))
    if differing:
        raise InvalidMessageError(f"tensor {differing[0]!r} is missing or was not asked for")
    squares = 0.0
    for name, wanted in expected.items():
        array = arrays[name]
        # Compared before the data is read, so that a false header causes no allocation.
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
        difference = found.astype(np.float64) - value(wanted)
        squares += float(np.vdot(difference, difference))
    norm = math.sqrt(squares)
    if max_update_norm is not None and norm > max_update_norm:
        raise InvalidMessageError(f"update norm {norm:.6g} exceeds {max_update_norm:g}")
    return norm
