"""tools/league.py, from outside and inside: what it plays, keeps, goes on with and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from leagues import ENTRIES, LEAGUE, write_league
from small import REPOSITORY

from f110_fl.errors import UserError
from f110_fl.evaluation.highlights import highlights
from f110_fl.evaluation.league import GAMES, play_league, read_games, unfit
from f110_fl.evaluation.standings import markdown, standings
from f110_fl.loading.leagues import load_league
from f110_fl.reporting.pages.league import write_replays

COMMAND = [sys.executable, str(REPOSITORY / "tools" / "league.py")]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def played(folder: Path, name: str, threads: int = 1, **changes: Any) -> bytes:
    league = load_league(write_league(folder, **changes))
    play_league(league, list(league.entries), folder / name, threads, lambda _: None)
    return (folder / name / GAMES).read_bytes()


def test_everybody_meets_everybody_on_the_same_starts(tmp_path: Path) -> None:
    played(tmp_path, "out")
    games = read_games(tmp_path / "out" / GAMES)
    pairs = [
        ("slow", "fast"),
        ("fast", "slow"),
        ("slow", "follow_the_gap"),
        ("follow_the_gap", "slow"),
        ("fast", "follow_the_gap"),
        ("follow_the_gap", "fast"),
    ]
    starts = [(track, seed) for track in LEAGUE["tracks"] for seed in range(2)]
    assert [(*g.entries, g.track, g.seed) for g in games] == [
        (*pair, *start) for pair in pairs for start in starts
    ]


def test_wherever_the_file_ends_the_games_become_the_same(tmp_path: Path) -> None:
    whole = played(tmp_path, "whole", threads=2)
    for number, length in enumerate((0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1)):
        name = f"cut-{number}"
        (tmp_path / name).mkdir()
        for file in ("league.json", GAMES):
            data = (tmp_path / "whole" / file).read_bytes()
            (tmp_path / name / file).write_bytes(data if file != GAMES else data[:length])
        assert played(tmp_path, name) == whole


def test_grids_are_all_combinations_in_several_orders(tmp_path: Path) -> None:
    four = {**ENTRIES, "steady": {"driver": {"kind": "stanley", "speed": 3.0}}}
    league = load_league(write_league(tmp_path, entries=four, grid=3))
    names = list(four)
    assert len(league.lineups(names)) == 4 * 3
    assert league.lineups(names)[:3] == [
        ("slow", "fast", "follow_the_gap"),
        ("fast", "follow_the_gap", "slow"),
        ("follow_the_gap", "slow", "fast"),
    ]
    every = league.model_copy(update={"orders": "all"}).lineups(names)
    assert len(every) == len(set(every)) == 4 * 6


def test_games_and_replays_of_grids_are_the_same_bytes(tmp_path: Path) -> None:
    changes = {"grid": 3, "seeds": 1}
    whole = played(tmp_path, "whole", threads=2, **changes)
    assert whole.count(b"\n") == 6
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "league.json").write_bytes((tmp_path / "whole/league.json").read_bytes())
    (tmp_path / "cut" / GAMES).write_bytes(whole[: len(whole) // 2])
    assert played(tmp_path, "cut", **changes) == whole
    league = load_league(write_league(tmp_path, **changes))
    games = read_games(tmp_path / "whole" / GAMES)
    found = standings(league, list(league.entries), games, {})
    assert (found["grid"], len(found["won"])) == (3, 3)
    assert sum(found["won"]) == pytest.approx(1.0)
    assert "| place |" in markdown(found)
    chosen = highlights(games, [entry["name"] for entry in found["entries"]])
    said: list[str] = []

    def replays(name: str, most: int = 10**7, threads: int = 1) -> dict[str, bytes]:
        files = write_replays(league, chosen, tmp_path / name, most, threads, said.append)
        paths = (tmp_path / name / "replays").glob("*")
        there = {f"replays/{path.name}": path.read_bytes() for path in paths}
        assert sorted(there) == sorted(files.values())
        return there

    first = replays("whole")
    assert len(first) == len({each.game.key for each in chosen})
    (tmp_path / "whole" / min(first)).unlink()
    (tmp_path / "whole" / "replays" / "stale.html").write_text("of another game")
    assert replays("whole", threads=2) == first
    size = len(next(iter(first.values())))
    some = replays("cut", most=3 * size)  # all are about as large
    assert 1 <= len(some) <= 3
    assert some.items() <= first.items()
    assert replays("cut", most=0) == {}


def test_a_killed_league_goes_on(tmp_path: Path) -> None:
    write_league(tmp_path)
    with subprocess.Popen(
        [*COMMAND, "small.yaml", "--out", "killed"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()  # the first pair has met
        process.kill()
    assert line.startswith("1/6  slow ")
    assert not (tmp_path / "killed" / "standings.json").exists()
    result = run(tmp_path, "small.yaml", "--out", "killed", "--json")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "killed" / GAMES).read_bytes() == played(tmp_path, "whole")
    assert (tmp_path / "killed" / "standings.json").read_text() == result.stdout
    found = json.loads(result.stdout)
    assert found["games"] == 24
    files = {each["file"] for each in found["highlights"]}
    assert all((tmp_path / "killed" / file).is_file() for file in files)
    assert {each["kind"] for each in found["highlights"]} >= {"typical", "closest"}
    rated = {entry["name"]: entry["rating"]["value"] for entry in found["entries"]}
    assert rated["follow_the_gap"] == 1000
    fast = next(entry for entry in found["entries"] if entry["name"] == "fast")
    games = [g for g in read_games(tmp_path / "whole" / GAMES) if "fast" in g.entries]
    wins = sum(game.winner == "fast" for game in games)
    assert fast["rates"]["win"]["count"] == wins
    assert fast["rates"]["win"]["value"] == wins / 16


def test_more_entries_and_seeds_may_join(tmp_path: Path) -> None:
    two = {name: ENTRIES[name] for name in ("slow", "follow_the_gap")}
    few = played(tmp_path, "out", entries=two, seeds=1)
    assert few.count(b"\n") == 4
    many = played(tmp_path, "out")
    assert many.startswith(few)
    assert sorted(many.splitlines()) == sorted(played(tmp_path, "at-once").splitlines())


def test_games_of_another_league_are_not_mixed_with_these(tmp_path: Path) -> None:
    played(tmp_path, "out")
    with pytest.raises(UserError, match=r"before laps, time_limit changed; choose another --out"):
        played(tmp_path, "out", laps=2, time_limit=30.0)
    faster = {**ENTRIES, "fast": {"driver": {"kind": "pure_pursuit", "speed": 5.0}}}
    with pytest.raises(UserError, match=r"before entries\.fast changed"):
        played(tmp_path, "out", entries=faster)


def test_who_cannot_race_is_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    policies = REPOSITORY / "scenarios" / "policies"
    frozen = {"kind": "frozen_policy", "agent": "car_0"}
    entries = {
        "broken": {"driver": {**frozen, "checkpoint": "broken.safetensors"}},
        "sees": {"driver": {**frozen, "checkpoint": str(policies / "overtake_ppo.safetensors")}},
        "nobody": {"driver": {**frozen, "checkpoint": str(policies / "solo_lap_ppo.safetensors"),
                              "agent": "car_9"}},
        **ENTRIES,
    }  # fmt: skip
    league = load_league(write_league(tmp_path, entries=entries, lidar={"beams": 20}))
    found = unfit(league)
    assert set(found) == {"broken", "sees", "nobody"}
    assert "not a readable safetensors file" in found["broken"]
    assert "lidar 54, motion 4, others 4" in found["sees"]
    assert "'car_9'" in found["nobody"]
    assert all(len(why.splitlines()) == 1 for why in found.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lapps": 2}, "lapps: unknown key; allowed: anchor, entries"),
        ({"seeds": 0}, "seeds: found 0 (whole number); allowed: a whole number from 1"),
        ({"grid": 5}, "grid: found 5 (whole number); allowed: a whole number from 2"),
        ({"grid": 4}, "grid: 3 entries make no grid of 4"),
        ({"anchor": "nobody"}, "anchor 'nobody': allowed: slow, fast, follow_the_gap"),
        ({"entries": {**ENTRIES, "x": {"driver": {"kind": "stanly"}}}}, "did you mean 'stanley'?"),
        (
            {"entries": {**ENTRIES, "x": {"driver": {"kind": "frozen_policy",
             "checkpoint": "no.safetensors", "agent": "a"}}}},
            "entries.x.driver.checkpoint: found 'no.safetensors', no such file",
        ),
        ({"tracks": {"t": {"kind": "random", "count": 3}}}, "track 't' is 3; name each by itself"),
        ({"tracks": {"t": {"kind": "oval"}, "u": {"kind": "line2"}}}, "all must be closed, or"),
    ],
)  # fmt: skip
def test_wrong_leagues_are_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        unfit(load_league(write_league(tmp_path, **changes)))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["circuits", "grids"])
def test_shipped_leagues_are_sound(name: str) -> None:
    league = load_league(REPOSITORY / "scenarios" / "leagues" / f"{name}.yaml")
    assert unfit(league) == {}
    assert "follow_the_gap" in league.entries


def test_every_shipped_policy_is_in_a_league() -> None:
    folder = REPOSITORY / "scenarios"
    leagues = [load_league(path) for path in (folder / "leagues").glob("*.yaml")]
    drivers = [entry.driver for league in leagues for entry in league.entries.values()]
    used = {Path(driver.checkpoint) for driver in drivers if hasattr(driver, "checkpoint")}
    assert set((folder / "policies").resolve().glob("*.safetensors")) <= used


def test_attackers_meet_defenders(tmp_path: Path) -> None:
    league = load_league(REPOSITORY / "scenarios" / "leagues" / "gaplock.yaml")
    names = ["gaplock_td3", "convoy_lock_td3", "secondary_vicon", "pure_pursuit"]
    assert len(league.lineups(names)) == 4
    few = league.model_copy(update={"seeds": 6})
    games = play_league(few, names, tmp_path, 1, lambda _: None)
    assert len(games) == 24
    against = {
        name: [game for game in games if game.entries == ("gaplock_td3", name)]
        for name in names[2:]
    }
    # It was evaluated with 200 successes of 200 against the one; who does not yield, cannot be led.
    assert [game.why for game in against["secondary_vicon"]] == ["success"] * 6
    assert {game.winner for game in against["pure_pursuit"]} == {"pure_pursuit"}
    found = standings(few, names, games, {})
    assert not found["race"]
    attacker = next(entry for entry in found["entries"] if entry["name"] == "gaplock_td3")
    assert attacker["rates"]["win"]["value"] == 0.5
    assert attacker["nash"] is None
    chosen = {each.kind: each for each in highlights(games, [names[0], names[2]])}
    assert set(chosen) == {"typical", "closest"} or chosen["surprising"].game.why == "held"
    assert chosen["closest"].game.duration == max(g.duration for g in against["secondary_vicon"])
    assert "gaplock_td3 succeeds after" in chosen["closest"].text
    assert "| gaplock_td3 |" in markdown(found)


def test_roles_are_checked(tmp_path: Path) -> None:
    task = {"kind": "gap_lock", "target": "car_1"}
    for changes, message in (
        ({"task": task, "grid": 3}, "grid: with a task one attacks and one defends; allowed: 2"),
        ({"task": task}, "role of 'slow' is missing; allowed: attacker, defender"),
        (
            {"task": task, "entries": {"slow": {**ENTRIES["slow"], "role": "attacker"},
                                       "fast": {**ENTRIES["fast"], "role": "defender"}}},
            "attacker 'slow': allowed: a driver of kind frozen_policy",
        ),
        (
            {"entries": {**ENTRIES, "fast": {**ENTRIES["fast"], "role": "defender"}}},
            "role of 'fast': only with a task",
        ),
        ({"spawn": {"kind": "random"}}, "races start from a grid"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            load_league(write_league(tmp_path, **changes))
