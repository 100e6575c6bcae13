"""Races of two: who wins and why, by hand and on the track."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from leagues import ENTRIES, write_league

from f110_fl.config.league import LeagueConfig
from f110_fl.evaluation.games import Start, classify, decide
from f110_fl.evaluation.race import play
from f110_fl.loading.leagues import load_league

STARTS = [Start("oval", 0), Start("circle", 0), Start("oval", 1), Start("circle", 1)]


def league(folder: Path, **changes: Any) -> LeagueConfig:
    return load_league(write_league(folder, **changes))


@pytest.mark.parametrize(
    ("finish", "fault", "distances", "expected"),
    [
        ((900, 800), (False, False), (9.0, 9.0), (1, "time")),
        ((800, 800), (False, False), (9.0, 9.0), (None, "draw")),
        ((0, 800), (False, False), (99.0, 9.0), (1, "finish")),
        ((800, 0), (True, False), (9.0, 9.0), (0, "finish")),  # after its finish
        ((0, 0), (True, False), (9.0, 2.0), (1, "contact")),
        ((0, 0), (False, True), (2.0, 9.0), (0, "contact")),
        ((0, 0), (True, True), (9.0, 2.0), (None, "draw")),
        ((0, 0), (False, False), (9.0, 9.6), (1, "distance")),
        ((0, 0), (False, False), (9.0, 9.4), (None, "draw")),
    ],
)
def test_who_wins(
    finish: tuple[int, int],
    fault: tuple[bool, bool],
    distances: tuple[float, float],
    expected: tuple[int | None, str],
) -> None:
    assert decide(finish, fault, classify(finish, fault, distances)) == expected
    winner = expected[0]
    finish, fault, distances = finish[::-1], fault[::-1], distances[::-1]
    mirrored = decide(finish, fault, classify(finish, fault, distances))
    assert mirrored == (None if winner is None else 1 - winner, expected[1])


@pytest.mark.parametrize(
    ("finish", "fault", "distances", "places", "decided"),
    [
        ((900, 0, 800, 0), (False,) * 4, (9.0, 4.0, 9.0, 5.0), (2, 4, 1, 3), (2, "time")),
        ((0, 0, 800, 0), (False,) * 4, (3.8, 4.0, 9.0, 3.4), (2, 2, 1, 4), (2, "finish")),
        # Not a chain: the last is level with the second, but not with the first.
        ((0, 0, 0), (False,) * 3, (4.0, 3.6, 3.4), (1, 1, 3), (None, "draw")),
        ((0, 0, 0), (False, True, True), (1.0, 3.6, 9.0), (1, 2, 2), (0, "contact")),
        ((0, 0, 0), (False, False, True), (1.0, 3.6, 9.0), (2, 1, 3), (1, "distance")),
        ((0, 700, 700), (True, True, False), (1.0, 9.0, 9.0), (3, 1, 1), (None, "draw")),
        ((0, 0, 0), (True,) * 3, (1.0, 9.0, 5.0), (1, 1, 1), (None, "draw")),
    ],
)
def test_the_places_of_a_grid(
    finish: tuple[int, ...],
    fault: tuple[bool, ...],
    distances: tuple[float, ...],
    places: tuple[int, ...],
    decided: tuple[int | None, str],
) -> None:
    assert classify(finish, fault, distances) == places
    assert decide(finish, fault, places) == decided


def test_the_faster_car_wins_where_nothing_is_in_its_way(tmp_path: Path) -> None:
    config = league(tmp_path)
    for game in play(config, ("fast", "slow"), STARTS):
        assert (game.winner, game.why) == ("fast", "time")
        assert game.ends == ("finished", "finished")
        ours, theirs = game.times
        assert ours is not None
        assert theirs is not None
        assert 1.2 < theirs / ours < 1.7  # 4 and 2.5 m/s, but slower in bends
        # Both end at the same line, or a little past it.
        assert game.distances[0] == pytest.approx(game.distances[1], abs=0.5)
        assert game.distances[0] > 2.5 * ours  # faster than 2.5 m/s on average
        assert not any(game.contact)


def test_the_same_starts_in_both_orders(tmp_path: Path) -> None:
    """A car alone in front drives the same whoever follows at a distance."""
    config = league(tmp_path, spawn={"kind": "grid", "anywhere": True, "row_spacing": 8.0})
    against_slow = play(config, ("fast", "slow"), STARTS)
    against_itself = play(config, ("fast", "fast"), STARTS)
    assert [g.times[0] for g in against_slow] == [g.times[0] for g in against_itself]
    assert len({g.distances[0] for g in against_slow}) == len(STARTS)  # which differ


def test_the_blind_car_behind_is_to_blame(tmp_path: Path) -> None:
    for game in play(league(tmp_path), ("slow", "fast"), STARTS):
        assert (game.winner, game.why) == ("slow", "contact")
        assert (game.contact, game.hit) == ((True, True), (False, True))
        assert game.ends == ("crashed", "crashed")
        assert game.times == (None, None)
        assert 0 < game.distances[0] - game.distances[1] < 1.0  # a car's length


def test_who_has_finished_spoils_no_race(tmp_path: Path) -> None:
    entries = {**ENTRIES, "slow": {"driver": {"kind": "pure_pursuit", "speed": 2.0}}}
    for game in play(league(tmp_path, entries=entries), ("fast", "slow"), STARTS):
        assert (game.winner, game.why) == ("fast", "finish")
        assert game.ends == ("finished", "stopped")  # fast has come round, and is blind
        assert (game.contact, game.hit) == ((False, False), (False, False))


def test_overtakes_are_counted(tmp_path: Path) -> None:
    wide = {"wide": {"kind": "oval", "straight": 20.0, "radius": 8.0, "width": 6.0}}
    entries = {
        **ENTRIES,
        "fast": {"driver": {"kind": "follow_the_gap", "speed": 5.0}},
        "slow": {"driver": {"kind": "pure_pursuit", "speed": 1.0}},
    }
    config = league(tmp_path, tracks=wide, entries=entries, time_limit=20.0)
    starts = [Start("wide", seed) for seed in range(4)]
    games = [g for g in play(config, ("slow", "fast"), starts) if not any(g.contact)]
    assert games
    for game in games:
        assert game.overtakes == (0, 1)
        assert game.winner == "fast"
        assert game.distances[1] > game.distances[0] + 5


def test_four_cars(tmp_path: Path) -> None:
    spawn = {"kind": "grid", "anywhere": True, "row_spacing": 5.0}
    entries = {**ENTRIES, "steady": {"driver": {"kind": "stanley", "speed": 3.0}}}
    config = league(tmp_path, grid=4, spawn=spawn, entries=entries)
    lineup = ("fast", "steady", "follow_the_gap", "slow")
    games = play(config, lineup, STARTS)
    for game in games:
        assert game.entries == lineup
        # It sees the free way past the car that it started behind.
        assert (game.winner, game.places) == ("fast", (1, 3, 2, 4))
        assert game.overtakes == (0, 0, 1, 0)
        times = [game.times[car] for car in (0, 2, 1)]
        assert times == sorted(times, key=float)  # type: ignore[arg-type]
        assert game.duration >= max(time for time in game.times if time is not None)
        # On the circle the first comes round and drives into the last.
        assert (game.ends[3], game.times[3] is None) in (("finished", False), ("stopped", True))
        assert not any(game.contact)
    assert {game.ends[3] for game in games} == {"finished", "stopped"}
    assert play(config, lineup, STARTS[1:3], threads=2) == games[1:3]


def test_a_race_by_time(tmp_path: Path) -> None:
    config = league(tmp_path, laps=None, time_limit=5.0)
    for game in play(config, ("fast", "slow"), STARTS[:2]):
        assert (game.winner, game.why) == ("fast", "distance")
        assert game.ends == ("time_limit", "time_limit")
        start = 1.0  # half a row ahead
        assert 12.0 < game.distances[0] < start + 4.0 * 5.0  # slower in bends
        assert game.distances[1] == pytest.approx(2.5 * 5.0, abs=1.2)


def test_a_game_depends_on_nothing_but_its_start(tmp_path: Path) -> None:
    config = league(tmp_path)
    together = play(config, ("follow_the_gap", "fast"), STARTS, threads=1)
    assert play(config, ("follow_the_gap", "fast"), STARTS[::-1], threads=2)[::-1] == together
    assert play(config, ("follow_the_gap", "fast"), STARTS[2:3]) == together[2:3]
    longer = config.model_copy(update={"seeds": 99})
    assert play(longer, ("follow_the_gap", "fast"), STARTS) == together
    other = play(config.model_copy(update={"seed": 1}), ("follow_the_gap", "fast"), STARTS)
    assert [replace(g, winner=None) for g in other] != [replace(g, winner=None) for g in together]
