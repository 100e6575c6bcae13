"""Which games of a league are worth looking at: each pair's typical, closest and most surprising.

Of two entries, what counts is who of them came in before the other, whoever else took part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

from f110_fl.evaluation.games import Game

Kind = Literal["typical", "closest", "surprising"]
KINDS: Final[tuple[Kind, ...]] = ("typical", "closest", "surprising")


@dataclass(frozen=True)
class Highlight:
    """A game of two entries, of which the first is rated higher.

    Attributes:
        entries: The two.
        kind: Why it is worth looking at.
        game: The game.
        text: What happened between the two, in a line.
    """

    entries: tuple[str, str]
    kind: Kind
    game: Game
    text: str


def highlights(games: Iterable[Game], names: Sequence[str]) -> list[Highlight]:
    """Return the highlights of all pairs that met; the order of the games changes nothing.

    Args:
        games: The league's.
        names: Its entries, the best rated first.
    """
    met: dict[frozenset[str], list[Game]] = {}
    for game in sorted(games, key=lambda game: game.key):
        for pair in combinations(game.entries, 2):
            met.setdefault(frozenset(pair), []).append(game)
    found = []
    for pair in combinations(names, 2):
        own = [_Meeting(game, *pair) for game in met.get(frozenset(pair), [])]
        if not own:
            continue
        chosen = {
            "typical": _typical(own),
            "closest": _closest(own),
            "surprising": _surprising(own),
        }
        for kind in KINDS:
            meeting = chosen[kind]
            if meeting is not None:
                found.append(Highlight(pair, kind, meeting.game, meeting.text()))
    return found


class _Meeting:
    """A game as seen by two of its entries, of which the first is rated higher."""

    def __init__(self, game: Game, better: str, other: str) -> None:
        self.game, self.names = game, (better, other)
        cars = self.cars = game.entries.index(better), game.entries.index(other)
        times = [game.times[car] for car in cars]
        self.points = game.points(better, other)  # the better's
        self.finished = sum(time is not None for time in times)
        self.attack = game.why in {"success", "held"}
        if times[0] is not None and times[1] is not None:
            self.gap = abs(times[0] - times[1])  # s
        else:
            self.gap = abs(game.distances[cars[0]] - game.distances[cars[1]])  # m

    @property
    def result(self) -> tuple[float, int]:
        """Who of the two came in first, and how many of them finished."""
        return self.points, self.finished

    def text(self) -> str:
        """What happened, in a line."""
        game = self.game
        where = f"on {game.track}, start {game.seed}"
        if self.attack:
            done = "succeeds" if game.why == "success" else "is held off"
            return f"{game.entries[0]} {done} after {game.duration:.1f} s {where}"
        if self.points == 0.5:
            return f"level {where}"
        first = self.names[0] if self.points == 1.0 else self.names[1]
        gap = f"{self.gap:.2f} s" if self.finished == 2 else f"{self.gap:.1f} m"
        return f"{first} is ahead by {gap} {where}"


def _typical(own: Sequence[_Meeting]) -> _Meeting:
    """Of the games with the most frequent result, the one with the median gap."""
    counts = Counter(meeting.result for meeting in own)
    often = max(counts, key=lambda result: (counts[result], result))
    same = sorted((m for m in own if m.result == often), key=_extent)
    return same[(len(same) - 1) // 2]


def _closest(own: Sequence[_Meeting]) -> _Meeting:
    """The least time between two that finish; else the least way between where they ended.

    Of attacks, the one that took longest to succeed.
    """
    done = [meeting for meeting in own if meeting.game.why == "success"]
    if done:
        return max(done, key=_extent)
    return min(own, key=lambda meeting: (-(meeting.finished == 2), meeting.gap))


def _surprising(own: Sequence[_Meeting]) -> _Meeting | None:
    """The clearest of the games in which the one that is rated lower came in first.

    If it did from behind on the grid, one of these. If it never did, one in which they were level;
    else there is none.
    """
    least = min(meeting.points for meeting in own)
    if least == 1.0:
        return None
    upsets = [meeting for meeting in own if meeting.points == least]
    if upsets[0].attack:
        quick = [meeting for meeting in upsets if meeting.game.why == "success"]
        return min(quick or upsets, key=_extent)
    return max(upsets, key=lambda meeting: (meeting.cars[1] > meeting.cars[0], meeting.gap))


def _extent(meeting: _Meeting) -> float:
    return meeting.game.duration if meeting.attack else meeting.gap
