"""How clients differ: each one's values of ``federated.vary``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from f110_fl.config.federated import RangeConfig


def client_settings(
    vary: Mapping[str, RangeConfig | tuple[Any, ...]], seed: int, client_id: int
) -> dict[str, Any]:
    """Return a client's own values by dotted key.

    From a list, client k gets entry k; with more clients than entries, the list repeats. From a
    range, a client draws uniformly, both ends included, and a whole number if both ends are whole.
    The draw depends on the seed, the client and the key only.

    Args:
        vary: Lists and ranges, by dotted key.
        seed: The scenario's shared seed.
        client_id: The client, from 0.
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
