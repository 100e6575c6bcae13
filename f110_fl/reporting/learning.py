"""What training episodes tell of learning, in few words: rates, updates, lap times, losses."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final

from f110_fl.training.metrics import UPDATES, mean
from f110_fl.training.records import EpisodeRecord

WIDTH: Final = 100  # columns that a line may take
_LOSS: Final = "_loss"  # at the end of a loss's name


def rate_words(records: Iterable[EpisodeRecord], agent: str) -> list[str]:
    """Return success and return in an agent's training and evaluation episodes; none without any.

    Args:
        records: The episodes.
        agent: The agent; episodes in which a snapshot drove do not count.
    """
    words = []
    episodes = [r for r in records if agent not in r.result.snapshots]
    trained = [r.result for r in episodes if r.kind == "train"]
    evaluated = [r.result for r in episodes if r.kind == "evaluate"]
    if trained:
        words.append(f"success {mean('success-rate', trained, [agent]):.0%}")
        words.append(f"return {mean('return', trained, [agent]):.1f}")
    if evaluated:
        words.append(f"evaluated success {mean('success-rate', evaluated, [agent]):.0%}")
    return words


def learning_words(records: Iterable[EpisodeRecord], agent: str) -> list[str]:
    """Return lap times and losses of an agent's training episodes; none that was not measured.

    Args:
        records: The episodes.
        agent: The agent.

    Returns:
        Such as ``lap 9.87 s, best 9.41 s``, ``critic loss 0.0341``: means.
    """
    trained = [record for record in records if record.kind == "train"]
    own = [record.result for record in trained if agent not in record.result.snapshots]
    laps = [time for result in own for time in result.lap_times.get(agent, ())]
    words = [f"lap {fmean(laps):.2f} s, best {min(laps):.2f} s"] if laps else []
    losses: dict[str, list[float]] = {}
    for record in trained:
        for name, value in record.losses.items():
            whose, _, loss = name.partition("/")
            if whose == agent and loss.endswith(_LOSS):
                losses.setdefault(loss, []).append(value)
    return words + [f"{n.replace('_', ' ')} {fmean(v):.3g}" for n, v in sorted(losses.items())]


def update_words(updates: int | None) -> list[str]:
    """Return how many updates were done; nothing if that is not known."""
    return [] if updates is None else [f"{UPDATES} {updates:,}"]


def done_updates(records: Iterable[EpisodeRecord], agent: str) -> int | None:
    """Return how many updates an agent's learner did; None if no episode tells."""
    counts = [record.updates[agent] for record in records if agent in record.updates]
    return sum(counts) if counts else None


def wrapped(words: Iterable[str], width: int = WIDTH) -> list[str]:
    """Return words as lines of at most a width, those after the first indented."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}  {word}" if lines else word
        if lines and len(longer) > width:
            lines.append(f"  {word}")
        else:
            lines[-1:] = [longer]
    return lines


def lines_by_agent(start: str, words: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return a line with an agent's words or, of several agents, a further line for each.

    Args:
        start: What the first line begins with.
        words: Each agent's.
    """
    if len(words) == 1:
        return wrapped([start, *words[0][1]])
    return [start, *agents_lines(words)]


def agents_lines(words: Sequence[tuple[str, Sequence[str]]], width: int = WIDTH) -> list[str]:
    """Return an indented line for each agent of which there is something to say."""
    widest = max((len(agent) for agent, _ in words), default=0)
    own = [wrapped([f"  {agent:<{widest}}", *said], width) for agent, said in words if said]
    return [line for lines in own for line in lines]


def told_episodes(start: str, records: Sequence[EpisodeRecord], agents: Iterable[str]) -> list[str]:
    """Return lines that say what some of a client's episodes were like, for its log.

    Args:
        start: What they begin with.
        records: The episodes.
        agents: The learning cars.
    """
    words = [
        (
            agent,
            [
                *rate_words(records, agent),
                *update_words(done_updates(records, agent)),
                *learning_words(records, agent),
            ],
        )
        for agent in agents
    ]
    return lines_by_agent(start, words)


def say(lines: Iterable[str]) -> None:
    """Print lines at once, also into a log; not among what a program was asked to print."""
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201
