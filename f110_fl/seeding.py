"""Every random stream of a run, derived from the scenario's seed and a name for its use."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """What a stream is for; the number is part of the stream's key."""

    MODEL = 0
    LEARNER = 1
    TRAIN_EPISODE = 2
    EVALUATION_EPISODE = 3
    SAMPLING = 4
    VARIATION = 5


def stream(seed: int, use: Use, *key: int) -> np.random.SeedSequence:
    """Return the seed sequence of one use; equal arguments give equal streams.

    Args:
        seed: The scenario's or the client's seed.
        use: What it is for.
        key: Further numbers that tell streams of one use apart (client, episode, ...).
    """
    return np.random.SeedSequence(seed, spawn_key=(int(use), *key))


def integer(sequence: np.random.SeedSequence) -> int:
    """Return a non-negative 63-bit integer drawn from ``sequence``."""
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
