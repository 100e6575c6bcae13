"""What is recorded of each episode, and what a round makes of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

EpisodeKind = Literal["train", "evaluate"]


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode of one client, one line of its ``episodes.jsonl``.

    ``returns`` and ``losses`` have keys for the learning cars, ``outcomes`` and ``lap_times``
    (s) for every car. ``steps`` counts actions, ``env_steps`` the client's training actions so
    far. ``seconds`` is the wall-clock time since the episode that ended before, ``collect`` what
    of it went into acting, stepping and learning, and the share of the batch that was idle.
    ``losses`` are the learners' metrics since the last training episode, ``stage`` is the
    curriculum's when the episode ended.
    """

    kind: EpisodeKind
    round: int
    episode: int
    steps: int
    env_steps: int
    seconds: float
    returns: dict[str, float]
    outcomes: dict[str, str]
    losses: dict[str, float] = field(default_factory=dict)
    lap_times: dict[str, list[float]] = field(default_factory=dict)
    collect: dict[str, float] = field(default_factory=dict)
    stage: int = 0

    def to_json(self) -> str:
        """Return the record as one line of JSON, without the newline."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> EpisodeRecord:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(line)
        return cls(**values)
