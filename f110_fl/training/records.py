"""Results of episodes and their records."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

EpisodeKind = Literal["train", "evaluate"]
# Of a line's values; its file may be torn, or of another version.
_TYPES: Final[dict[type, tuple[str, ...]]] = {
    str: ("kind",),
    int: ("round", "episode", "env_steps", "steps"),
    dict: ("returns", "outcomes"),
}


@dataclass(frozen=True)
class EpisodeResult:
    """The result of one episode."""

    steps: int  # actions
    seconds: float  # wall-clock time since the episode that ended before, or the first began
    returns: dict[str, float]  # by learning car
    outcomes: dict[str, str]  # by car: names of `sim.episodes.Outcome`, in lower case
    lap_times: dict[str, list[float]] = field(default_factory=dict)  # by car, s
    # How much of `seconds` went into acting, stepping and learning; the idle share of the batch.
    collect: dict[str, float] = field(default_factory=dict)
    # Cars that a snapshot drove, not their learner: training episodes begun before it was taken.
    snapshots: dict[str, int] = field(default_factory=dict)
    # Cars that an entry of a league drove: which.
    opponents: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode of one client, one line of its ``episodes.jsonl``.

    The line holds the values of ``result`` beside the record's own.
    """

    kind: EpisodeKind
    round: int
    episode: int  # training episodes completed by then
    env_steps: int  # training actions taken by then
    result: EpisodeResult
    losses: dict[str, float] = field(default_factory=dict)  # since the last training episode
    updates: dict[str, int] = field(default_factory=dict)  # by learner, counted like the losses
    stage: int = 0  # the curriculum's, when the episode ended

    def to_json(self) -> str:
        """Return the record as one line of JSON, without the newline."""
        values = asdict(self)
        result = values.pop("result")
        if not result["opponents"]:
            del result["opponents"]
        return json.dumps(values | result, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> EpisodeRecord:
        """Read what `to_json` wrote."""
        return cls.from_values(json.loads(line))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> EpisodeRecord:
        """Return the record whose line holds these values.

        Raises:
            TypeError: If they are not an episode's: some are missing, unknown or of another type.
        """
        others = dict(values)
        for kind, needed in _TYPES.items():
            for name in needed:
                if not isinstance(others.get(name), kind):
                    raise TypeError(f"{name} is not of type {kind.__name__}")
        names = [own.name for own in fields(EpisodeResult) if own.name in values]
        result = EpisodeResult(**{name: others.pop(name) for name in names})
        return cls(result=result, **others)
