"""The random streams of a run, derived from a seed and the use of each stream."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """The uses of streams; the number is part of a stream's key."""

    MODEL = 0
    LEARNER = 1
    TRAIN_EPISODE = 2
    EVALUATION_EPISODE = 3
    SAMPLING = 4
    VARIATION = 5
    OPPONENTS = 6
    LEAGUE_GAME = 7
    LEAGUE_SAMPLES = 8
    OVERTAKING = 9
    IMITATION = 10


def stream(seed: int, use: Use, *key: int) -> np.random.SeedSequence:
    """Return the seed sequence of one use; equal arguments give equal streams.

    Args:
        seed: The scenario's or the client's seed.
        use: The use of the stream.
        key: Further numbers that distinguish streams of one use (client, episode, ...).
    """
    return np.random.SeedSequence(seed, spawn_key=(int(use), *key))


def integer(sequence: np.random.SeedSequence) -> int:
    """Return a non-negative 63-bit integer drawn from ``sequence``."""
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
