"""What is recorded of each episode, and what a round makes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from f110_fl.errors import UserError
from f110_fl.files import read_metadata
from f110_fl.rundir import EPISODES, STATE

EpisodeKind = Literal["train", "evaluate"]

FORMAT: Final = "1"  # of state files; raised whenever their meaning changes


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


def summarise(records: Sequence[EpisodeRecord], agents: Iterable[str]) -> dict[str, float]:
    """Return a round's metrics; the names depend on ``agents`` alone.

    Flower averages metrics only if every reply has the same names, so rates of no
    episodes at all (no evaluation took place) are 0 and their count says so.
    """
    metrics: dict[str, float] = {}
    for kind in ("train", "evaluate"):
        chosen = [record for record in records if record.kind == kind]
        count = max(len(chosen), 1)
        metrics[f"{kind}/episodes"] = float(len(chosen))
        metrics[f"{kind}/env-steps"] = float(sum(record.steps for record in chosen))
        metrics[f"{kind}/seconds"] = sum(record.seconds for record in chosen)
        for agent in agents:
            outcomes = [record.outcomes[agent] for record in chosen]
            returns = [record.returns[agent] for record in chosen]
            metrics[f"{kind}/{agent}/return"] = sum(returns) / count
            for outcome in ("success", "crash"):
                metrics[f"{kind}/{agent}/{outcome}-rate"] = outcomes.count(outcome) / count
    return metrics


def evaluation_names(agents: Iterable[str]) -> list[str]:
    """Return the names of what an evaluation of the global model finds."""
    means = ("return", "success-rate", "crash-rate", "laps")
    each = [f"evaluate/{agent}/{mean}" for agent in agents for mean in means]
    return ["evaluate/episodes", *each]


def prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with ``prefix/`` before every key."""
    return {f"{prefix}/{key}": value for key, value in values.items()}


def unprefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose key starts with ``prefix/``, without it."""
    start = f"{prefix}/"
    return {key[len(start) :]: value for key, value in values.items() if key.startswith(start)}


@dataclass
class Progress:
    """How far a client is; saved with its state."""

    round: int = 0  # last federated round completed
    episodes: int = 0  # training episodes completed
    env_steps: int = 0  # training actions taken
    log_lines: int = 0  # of episodes.jsonl that belong to this state
    best: tuple[float, ...] = ()  # score of the best evaluation so far
    curriculum: dict[str, Any] = field(default_factory=dict)  # its state


def saved_progress(directory: Path) -> Progress:
    """Return how far the state in a client's directory is; the start if there is none.

    Raises:
        UserError: If the state cannot be read, or is of another version of this program.
    """
    state = directory / STATE
    if not state.exists():
        return Progress()
    metadata = read_metadata(state)
    if metadata.get("format") != FORMAT:
        held = f"format {metadata['format']}" if "format" in metadata else "no format's number"
        raise UserError(f"{state} holds {held}; this run needs format {FORMAT}")
    values = json.loads(metadata["progress"])
    return Progress(**values | {"best": tuple(values["best"])})


def count_lines(path: Path) -> int:
    """Return the complete lines of a file, 0 if there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def complete_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file of JSON lines, without those that a crash cut off."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def trim_episodes(directory: Path) -> None:
    """Cut from a client's ``episodes.jsonl`` what is newer than its state."""
    path = directory / EPISODES
    if not path.exists():
        return
    with path.open("rb") as file:
        for _ in range(saved_progress(directory).log_lines):
            file.readline()
        length = file.tell()
    if path.stat().st_size > length:
        os.truncate(path, length)
