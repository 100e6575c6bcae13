"""What an episode came to, and what is recorded of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

EpisodeKind = Literal["train", "evaluate"]


@dataclass(frozen=True)
class EpisodeResult:
    """What one episode came to.

    Attributes:
        steps: Actions taken.
        seconds: Wall-clock time since the episode that ended before, or since the first began.
        returns: By learning car.
        outcomes: By car; names of `sim.tasks.Outcome`, in lower case.
        lap_times: By car, s.
        collect: What of ``seconds`` went into acting, stepping and learning, s, and the share of
            the batch of environments that was idle.
    """

    steps: int
    seconds: float
    returns: dict[str, float]
    outcomes: dict[str, str]
    lap_times: dict[str, list[float]] = field(default_factory=dict)
    collect: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode of one client, one line of its ``episodes.jsonl``.

    Attributes:
        kind: Whether the client learned from it.
        round: The federated round that it belongs to.
        episode: Training episodes completed by then.
        env_steps: Training actions taken by then.
        result: What it came to; its values stand in the line beside the record's own.
        losses: The learners' metrics since the last training episode.
        stage: The curriculum's when the episode ended.
    """

    kind: EpisodeKind
    round: int
    episode: int
    env_steps: int
    result: EpisodeResult
    losses: dict[str, float] = field(default_factory=dict)
    stage: int = 0

    def to_json(self) -> str:
        """Return the record as one line of JSON, without the newline."""
        values = asdict(self)
        return json.dumps(values | values.pop("result"), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> EpisodeRecord:
        """Read what `to_json` wrote."""
        return cls.from_values(json.loads(line))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> EpisodeRecord:
        """Return the record whose line holds these values."""
        names = {own.name for own in fields(EpisodeResult)}
        result = {name: value for name, value in values.items() if name in names}
        others = {name: value for name, value in values.items() if name not in names}
        return cls(result=EpisodeResult(**result), **others)
