"""What a game is, and in which order cars come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

LEVEL_WITHIN: Final = 0.5  # m, about a car's length: neither is ahead

End = Literal["finished", "crashed", "time_limit", "stopped"]
# In races, see `decide`; with a task, whether the attacker accomplished it.
Why = Literal["time", "finish", "contact", "distance", "draw", "success", "held"]


class Start(NamedTuple):
    """Where a game starts, whoever drives."""

    track: str
    seed: int


@dataclass(frozen=True)
class Game:
    """A game of C cars. What has C parts is the grid's first or the attacker's first, and so on.

    Attributes:
        entries: Who drives.
        track: Where.
        seed: Number of the start.
        winner: An entry; None: a draw.
        why: What decides it; see `decide`.
        places: Each car's, from 1; those that are level share one.
        ends: How each race ended; ``stopped`` by a car that had finished and drove into it.
        times: s from the start to the finish; None for a car that does not get there.
        distances: m along the centre line from where the last starts to where a car ends.
        duration: s until the game was over.
        contact: Whether each touched another while one of the two raced, but for ``stopped``.
        hit: Whether each drove into another while it raced.
        overtakes: How often each has passed another while both raced.
    """

    entries: tuple[str, ...]
    track: str
    seed: int
    winner: str | None
    why: Why
    places: tuple[int, ...]
    ends: tuple[End, ...]
    times: tuple[float | None, ...]
    distances: tuple[float, ...]
    duration: float
    contact: tuple[bool, ...]
    hit: tuple[bool, ...]
    overtakes: tuple[int, ...]

    @property
    def start(self) -> Start:
        """Where it started."""
        return Start(self.track, self.seed)

    @property
    def key(self) -> tuple[tuple[str, ...], Start]:
        """What tells it from the others of a league, and plays it again."""
        return self.entries, self.start

    def points(self, entry: str, other: str) -> float:
        """Return 1 if an entry came in before another, 0 if after it, 1/2 if they are level."""
        own, their = (self.places[self.entries.index(name)] for name in (entry, other))
        return 0.5 if own == their else float(own < their)


def classify(
    finish: Sequence[int], fault: Sequence[bool], distances: Sequence[float]
) -> tuple[int, ...]:
    """Return the places of C cars, from 1.

    First come those that finish, by time. The others follow by how far they came; the one that is
    less than half a metre behind the first of several is level with it. Those that ended the race
    of another car by driving into it, and do not finish, are last together.

    Args:
        finish: Physics steps to the finish; 0 for a car that does not get there.
        fault: Whether each drove into a car that raced.
        distances: How far each came, m.
    """
    cars = range(len(finish))
    finishes = sorted({steps for steps in finish if steps})
    ranks = [[car for car in cars if finish[car] == steps] for steps in finishes]
    fair = [car for car in cars if not finish[car] and not fault[car]]
    while fair:
        lead = max(distances[car] for car in fair)
        ranks.append([car for car in fair if lead - distances[car] <= LEVEL_WITHIN])
        fair = [car for car in fair if car not in ranks[-1]]
    ranks.append([car for car in cars if not finish[car] and fault[car]])
    places = [0] * len(finish)
    ahead = 1
    for rank in ranks:
        for car in rank:
            places[car] = ahead
        ahead += len(rank)
    return tuple(places)


def decide(
    finish: Sequence[int], fault: Sequence[bool], places: Sequence[int]
) -> tuple[int | None, Why]:
    """Return which car wins, None for a draw, and why.

    Two finish: the earlier wins (``time``); one does: it wins (``finish``); all others drove into
    a car that raced: the one that did not wins (``contact``); else the one farthest ahead does
    (``distance``). A first place that is shared is a draw.

    Args:
        finish: As in `classify`.
        fault: As in `classify`.
        places: What that returned.
    """
    first = [car for car, place in enumerate(places) if place == 1]
    if len(first) > 1:
        return None, "draw"
    there = sum(steps > 0 for steps in finish)
    if there:
        return first[0], "time" if there > 1 else "finish"
    others = (own for car, own in enumerate(fault) if car != first[0])
    return first[0], "contact" if all(others) else "distance"
