"""Checks of what clients send, before any of it is averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict

from f110_fl.federation import messages
from f110_fl.training.metrics import evaluation_names

# Metrics that count things: never negative, and steps at most what the round allows.
_COUNTS = ("train/episodes", "train/env-steps", "evaluate/episodes", "evaluate/env-steps")


def fault(
    content: RecordDict,
    expected: ArrayRecord,
    max_steps: float,
    max_update_norm: float | None,
) -> str | None:
    """Return why a reply cannot be used, in words, or None.

    Args:
        content: The reply.
        expected: The global arrays: names, shapes and types, and where distances start.
        max_steps: Most training actions that the round's episodes allow.
        max_update_norm: Longest L2 distance of all tensors from ``expected``, or None.
    """
    if set(content.array_records) != {messages.ARRAYS}:
        return f"array records are {sorted(content.array_records)}"
    if set(content.metric_records) != {messages.METRICS}:
        return f"metric records are {sorted(content.metric_records)}"
    metrics = content.metric_records[messages.METRICS]
    arrays = content.array_records[messages.ARRAYS]
    return _metrics_fault(metrics, max_steps) or _arrays_fault(arrays, expected, max_update_norm)


def evaluation_fault(content: RecordDict, agents: Iterable[str]) -> str | None:
    """Return why an evaluation's reply cannot be used, in words, or None.

    Args:
        content: The reply.
        agents: The learners that are averaged.
    """
    if content.array_records or set(content.metric_records) != {messages.METRICS}:
        return f"records are {sorted(content)}"
    values: Mapping[str, object] = content.metric_records[messages.METRICS]
    differing = sorted(set(values) ^ set(evaluation_names(agents)))
    if differing:
        return f"metric {differing[0]!r} is missing or was not asked for"
    for name, value in values.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"metric {name!r} is {value!r}"
        if name.endswith("-rate") and not 0 <= value <= 1:
            return f"metric {name!r} is {value!r}"
    return None


def _metrics_fault(metrics: MetricRecord, max_steps: float) -> str | None:
    values: Mapping[str, object] = metrics
    for name in (*_COUNTS, messages.WEIGHT):
        if name not in values:
            return f"metric {name!r} is missing"
    for name, value in values.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"metric {name!r} is {value!r}"
    for name in _COUNTS:
        if float(values[name]) < 0:  # type: ignore[arg-type]
            return f"metric {name!r} is {values[name]!r}"
    if not 0 < float(values[messages.WEIGHT]) <= max_steps:  # type: ignore[arg-type]
        return f"metric {messages.WEIGHT!r} is {values[messages.WEIGHT]!r}"
    if float(values[messages.ENV_STEPS]) > max_steps:  # type: ignore[arg-type]
        return f"{values[messages.ENV_STEPS]!r} steps, where the round allows {max_steps:g}"
    return None


def _arrays_fault(
    arrays: ArrayRecord, expected: ArrayRecord, max_update_norm: float | None
) -> str | None:
    differing = sorted(set(arrays) ^ set(expected))
    if differing:
        return f"tensor {differing[0]!r} is missing or was not asked for"
    squares = 0.0
    for name, wanted in expected.items():
        array = arrays[name]
        # The header is enough to tell, and a lie in it must not make us allocate.
        if tuple(array.shape) != tuple(wanted.shape) or array.dtype != wanted.dtype:
            return f"tensor {name!r} is {array.dtype}{list(array.shape)}"
        try:
            value = messages.value(array)
        except ValueError:
            return f"tensor {name!r} cannot be read"
        if value.shape != tuple(wanted.shape) or value.dtype != wanted.dtype:
            return f"tensor {name!r} is {value.dtype}{list(value.shape)}"
        if not np.isfinite(value).all():
            return f"tensor {name!r} is not finite"
        if max_update_norm is not None:
            difference = value.astype(np.float64) - messages.value(wanted)
            squares += float(np.vdot(difference, difference))
    norm = math.sqrt(squares)
    if max_update_norm is not None and norm > max_update_norm:
        return f"update norm {norm:.6g} exceeds {max_update_norm:g}"
    return None
