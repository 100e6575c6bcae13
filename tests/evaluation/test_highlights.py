"""Which games are chosen to be looked at, by hand."""

from __future__ import annotations

from typing import Any

from leagues import placed

from f110_fl.evaluation.games import Game
from f110_fl.evaluation.highlights import highlights


def won(first: str, second: str, winner: str, gap: float, seed: int, **changes: Any) -> Game:
    """Returns a game that both finish, so many seconds apart."""
    places = (1, 2) if winner == first else (2, 1)
    times = (10.0, 10.0 + gap) if winner == first else (10.0 + gap, 10.0)
    return placed((first, second), places, "t", seed, **({"times": times} | changes))


def test_a_pairs_games() -> None:
    games = [
        won("a", "b", "a", 1.0, 0),
        won("a", "b", "a", 2.0, 1),
        won("a", "b", "a", 9.0, 2),
        won("b", "a", "a", 0.2, 0),
        won("b", "a", "b", 5.0, 1),
        won("a", "b", "b", 0.5, 3),  # b starts behind: more of a surprise than 5 s from ahead
        placed(("b", "a"), (1, 2), "t", 2, times=(None, None), distances=(3.0, 2.9)),
    ]
    found = highlights(games[::-1], ["a", "b"])
    assert [each.kind for each in found] == ["typical", "closest", "surprising"]
    typical, closest, surprising = (each.game for each in found)
    assert typical == games[0]  # 0.2, 1, 2, 9 s: the lower of the two in the middle
    assert closest == games[3]  # of those that both finish
    assert surprising == games[5]
    assert found[0].text == "a is ahead by 1.00 s on t, start 0"
    assert found == highlights(games, ["a", "b"])


def test_who_never_wins_surprises_nobody() -> None:
    games = [won("a", "b", "a", gap, seed) for seed, gap in enumerate((3.0, 1.0))]
    assert [each.kind for each in highlights(games, ["a", "b"])] == ["typical", "closest"]
    level = placed(("b", "a"), (1, 1), "t", 0)
    found = highlights([*games, level], ["a", "b"])
    assert [each.kind for each in found] == ["typical", "closest", "surprising"]
    assert found[-1].game == level


def test_the_pairs_of_a_grid() -> None:
    game = placed("bca", (2, 3, 1), times=(12.0, None, 11.0), distances=(50.0, 20.0, 51.0), seed=4)
    found = {(each.entries, each.kind): each.text for each in highlights([game], ["a", "b", "c"])}
    assert found[("a", "b"), "typical"] == "a is ahead by 1.00 s on t, start 4"
    assert found[("b", "c"), "closest"] == "b is ahead by 30.0 m on t, start 4"
    assert (("a", "c"), "surprising") not in found
