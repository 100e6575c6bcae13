"""Checks of what clients send, before any of it is averaged.

`f110_fl.federation.messages` checks that a reply is complete; this module checks that its values
are plausible.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, RecordDict
from numpy.typing import NDArray

from f110_fl.federation.arrays import checked, value
from f110_fl.federation.messages import WEIGHT, EvaluateReply, InvalidMessageError, TrainReply
from f110_fl.tensors import TensorName
from f110_fl.training.metrics import total_name

ENV_STEPS = total_name("train", "env-steps")
EPISODES = total_name("train", "episodes")
# Metrics that are whole and never negative.
_COUNTS = (
    EPISODES,
    ENV_STEPS,
    total_name("evaluate", "episodes"),
    total_name("evaluate", "env-steps"),
)
_LARGEST = 1e12  # of any metric: sums and averages of such numbers stay finite and exact enough
# Largest absolute value in a network or a normaliser's mean, and of what has its unit squared.
# What learns stays far below; the squares and sums of such numbers are far from float32's end.
_LARGEST_VALUE = 1e6
_LARGEST_SQUARE = _LARGEST_VALUE**2
_NEVER_NEGATIVE = ("/seconds", "/laps", "/updates")
_PER_STEP = 10  # observations counted in a step, generously
_MOST_UPDATES = 1e9  # of an optimizer, as it counts them itself
_SQUARES = ("variance", "exp_avg_sq")
_COUNTED = ("count", "step")

NETWORKS, NORMALISERS, MOMENTS = _GROUPS = ("networks", "normalisers", "moments")


@dataclass(frozen=True)
class Limits:
    """What a round allows.

    Attributes:
        episodes: Training episodes.
        max_steps: Largest number of training actions in them.
        max_update_norm: Largest L2 distance of all tensors from the global ones; None: any.
        max_update_ratio: Largest L2 distance of the networks from the global ones, in norms of
            these (at least 1); None: any.
        need_steps: Whether a client's steps are its weight, of which there must be some.
    """

    episodes: float
    max_steps: float
    max_update_norm: float | None = None
    max_update_ratio: float | None = None
    need_steps: bool = False


def validate_training(
    reply: TrainReply, client_id: int, expected: ArrayRecord, limits: Limits
) -> dict[str, float]:
    """Refuse a reply that cannot be averaged.

    Args:
        reply: The reply.
        client_id: The client that was asked.
        expected: The global arrays, with the required names, shapes and types.
        limits: What the round allows.

    Returns:
        L2 distances from ``expected`` of the networks, the normalisers and the moments, those of
        squares (variances, second moments) by their roots; counts are left out.

    Raises:
        InvalidMessageError: With the reason, in words.
    """
    if reply.client_id != client_id:
        raise InvalidMessageError(f"it says that it is client {reply.client_id}")
    if not 0 < reply.weight <= limits.max_steps:
        raise InvalidMessageError(f"metric {WEIGHT!r} is {reply.weight!r}")
    steps, episodes = reply.metrics[ENV_STEPS], reply.metrics[EPISODES]
    if steps > limits.max_steps:
        raise InvalidMessageError(f"{steps!r} steps, where the round allows {limits.max_steps:g}")
    if episodes > limits.episodes:
        raise InvalidMessageError(
            f"{episodes!r} episodes, where the round allows {limits.episodes:g}"
        )
    if limits.need_steps and not steps:
        raise InvalidMessageError("no steps, by which it would be weighted")
    _check_ranges(reply.metrics)
    return _validate_arrays(reply.arrays, expected, limits)


def outliers(
    norms: Mapping[int, float], max_ratio: float | None, what: str = "update"
) -> dict[int, str]:
    """Return the clients whose updates are far longer than the others', with the reason.

    Clipping to the median of what clients send is Andrew et al. 2021 (arXiv 1905.03871); an update
    that is many medians long is left out instead, because it is broken or hostile. A client that
    has not trained yet, whose norm is 0, tells nothing.

    Args:
        norms: L2 norms of the updates, by client.
        max_ratio: Largest norm, in medians of those that are not 0, if there are three; None: any.
        what: Whose norms they are, for the reason.
    """
    lengths = sorted(norm for norm in norms.values() if norm > 0)
    if max_ratio is None or len(lengths) < 3:
        return {}
    # The lower of two middle ones: half of the clients may be hostile, not one more.
    median = lengths[(len(lengths) - 1) // 2]
    return {
        client_id: f"{what} norm {norm:.6g} exceeds {max_ratio:g} times the round's median, "
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
    """Refuse rates that are none, counts that are not whole, and numbers no episode can give."""
    for name, found in metrics.items():
        if name.endswith("-rate"):
            possible = 0 <= found <= 1
        else:
            low = 0.0 if name in _COUNTS or name.endswith(_NEVER_NEGATIVE) else -_LARGEST
            possible = low <= found <= _LARGEST and (name not in _COUNTS or found == int(found))
        if not possible:
            raise InvalidMessageError(f"metric {name!r} is {found!r}")


def _validate_arrays(
    arrays: ArrayRecord, expected: ArrayRecord, limits: Limits
) -> dict[str, float]:
    """Return the distances from ``expected``; see `validate_training`."""
    differing = sorted(set(arrays) ^ set(expected))
    if differing:
        raise InvalidMessageError(f"tensor {differing[0]!r} is missing or was not asked for")
    squares = dict.fromkeys(_GROUPS, 0.0)
    total = 0.0
    for name, wanted in expected.items():
        before = value(wanted)
        found = checked(name, arrays[name], before.shape, before.dtype)
        parsed = TensorName.parse(name)
        part = parsed.slot or parsed.parameter
        _check_values(name, found, before, limits)
        # Differences of single-precision numbers are rounded once, which is exact enough.
        kind = np.result_type(found.dtype, np.float32)
        square = _square(np.subtract(found, before, dtype=kind))
        total += square
        group = _group(parsed)
        if part in _COUNTED and group != NETWORKS:
            continue
        if part in _SQUARES and group != NETWORKS:
            roots = np.sqrt(found, dtype=np.float64), np.sqrt(before, dtype=np.float64)
            square = _square(roots[0] - roots[1])
        squares[group] += square
    norm, networks = math.sqrt(total), math.sqrt(squares[NETWORKS])
    if limits.max_update_norm is not None and norm > limits.max_update_norm:
        raise InvalidMessageError(f"update norm {norm:.6g} exceeds {limits.max_update_norm:g}")
    ratio = limits.max_update_ratio
    if ratio is not None and networks > ratio:  # else it is allowed whatever the model's norm
        own = max(_network_norm(expected), 1.0)
        if networks > ratio * own:
            raise InvalidMessageError(
                f"update norm {networks:.6g} exceeds {ratio:g} times the global model's, {own:.6g}"
            )
    return {group: math.sqrt(square) for group, square in squares.items()}


def _network_norm(arrays: ArrayRecord) -> float:
    """Return the L2 norm of the networks."""
    networks = [name for name in arrays if _group(TensorName.parse(name)) == NETWORKS]
    return math.sqrt(sum(_square(value(arrays[name])) for name in networks))


def _square(array: NDArray[Any]) -> float:
    """Return the squared L2 norm.

    NumPy's products (``vdot``) are BLAS's, whose threads wait for each other busily: while clients
    are at work on all cores, that takes twenty times as long.
    """
    flat = array.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))


def _group(name: TensorName) -> str:
    if name.kind == "optimizer":
        return MOMENTS
    return NORMALISERS if name.network.endswith("normaliser") else NETWORKS


def _check_values(name: str, found: NDArray[Any], before: NDArray[Any], limits: Limits) -> None:
    """Refuse values that are not finite, or that learning cannot give."""
    if not found.size:
        return
    least, most = float(found.min()), float(found.max())
    if not (math.isfinite(least) and math.isfinite(most)):  # a NaN anywhere is both
        raise InvalidMessageError(f"tensor {name!r} is not finite")
    parsed = TensorName.parse(name)
    part, low, high = parsed.slot or parsed.parameter, -_LARGEST_VALUE, _LARGEST_VALUE
    group = _group(parsed)
    if group != NETWORKS and part in _SQUARES:
        low, high = 0.0, _LARGEST_SQUARE
    elif group == NORMALISERS and part in _COUNTED:
        # Each step adds its observation, and episodes their first ones; float32 rounds.
        low, high = 0.0, 1.001 * float(before.max(initial=0.0)) + _PER_STEP * limits.max_steps
    elif group == MOMENTS and part in _COUNTED:
        low, high = 0.0, _MOST_UPDATES
    if not low <= least <= most <= high:
        worst = least if least < low else most
        raise InvalidMessageError(
            f"tensor {name!r} holds {worst:.6g}; allowed: {low:g} to {high:g}"
        )
