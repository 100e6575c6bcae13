"""How clients differ: what each draws or is given of ``federated.vary``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from f110_fl.config.federated import RangeConfig


def client_settings(
    vary: Mapping[str, RangeConfig | tuple[Any, ...]], seed: int, client_id: int
) -> dict[str, Any]:
    """Return what a client has of its own.

    Of a list it has the entry of its number, and lists start again from their beginning where
    there are more clients. From a range it draws uniformly, both ends included, a whole number
    where both ends are; the draw depends on the seed, the client and the key alone.

    Args:
        vary: Lists and ranges, by dotted key.
        seed: The scenario's, of what clients share.
        client_id: From 0.

    Returns:
        Its values, by dotted key.
    """
    return {
        key: _drawn(key, values, seed, client_id)
        if isinstance(values, RangeConfig)
        else values[client_id % len(values)]
        for key, values in vary.items()
    }


def _drawn(key: str, limits: RangeConfig, seed: int, client_id: int) -> float | int:
    import numpy as np

    from f110_fl.seeding import Use, stream

    low, high = limits.low, limits.high
    rng = np.random.default_rng(stream(seed, Use.VARIATION, client_id, crc32(key.encode())))
    if isinstance(low, int) and isinstance(high, int):
        return int(rng.integers(low, high, endpoint=True))
    return float(rng.uniform(low, high))
