"""A league's standings, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from f110_fl.config.league import LeagueConfig
from f110_fl.evaluation.games import Game
from f110_fl.evaluation.ratings import ANCHORED, cycles, nash_average, payoffs, ratings
from f110_fl.evaluation.statistics import wilson_interval

DEFAULT_ANCHOR: Final = "follow_the_gap"
SHOWN_CYCLES: Final = 10

# What has a rate: whether a game counts for the car in it.
RATES: Final[Mapping[str, Callable[[Game, int], bool]]] = {
    "win": lambda game, car: game.winner == game.entries[car],
    "draw": lambda game, car: game.winner is None and game.places[car] == 1,
    "finish": lambda game, car: game.ends[car] == "finished",
    "contact": lambda game, car: game.contact[car],
    "hit": lambda game, car: game.hit[car],  # it drove into another
    "crash": lambda game, car: game.ends[car] == "crashed",
}
# Those of tables: nobody finishes an attack.
SHOWN: Final = {True: ("win", "draw", "finish", "contact", "hit"), False: ("win", "crash", "hit")}


def anchor_of(league: LeagueConfig, names: Sequence[str]) -> str | None:
    """Return the entry that is rated 1000; None: the mean of all is."""
    wanted = league.anchor or DEFAULT_ANCHOR
    return wanted if wanted in names else None


def standings(
    league: LeagueConfig, names: Sequence[str], games: Sequence[Game], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Return what a league's games say, for JSON; the order of the games changes nothing.

    Args:
        league: The league.
        names: The entries that took part.
        games: Theirs, at least one.
        left_out: Why the others did not, by name.

    Returns:
        ``entries``, the best rated first, each with ``rates`` (Wilson's intervals, as if games were
        independent), ``rating`` and ``nash``; ``payoff``, whose rows and columns are in that order:
        points a game with the bootstrap's interval; ``cycles``; ``won``, the share of the games
        that each place of the grid won, of which a draw is part for each: attackers are first.
    """
    anchor = anchor_of(league, names)
    payoff = payoffs(games, sorted(names), league.seed)
    rated = ratings(payoff, anchor)
    # Attackers do not meet each other: there is no such game.
    nash = nash_average(payoff.shares.value) if league.task is None else None
    order = sorted(range(len(names)), key=lambda n: (-rated.value[n], payoff.names[n]))
    entries = []
    for n in order:
        name = payoff.names[n]
        own = [(game, game.entries.index(name)) for game in games if name in game.entries]
        entry: dict[str, Any] = {"name": name, "role": league.entries[name].role}
        entry["games"] = len(own)
        entry["rating"] = _interval(*(float(bound[n]) for bound in rated))
        entry["nash"] = nash and {"share": float(nash.shares[n]), "score": float(nash.scores[n])}
        entry["rates"] = {what: _rate([of(*g) for g in own]) for what, of in RATES.items()}
        entry["overtakes"] = sum(game.overtakes[car] for game, car in own) / len(own)
        entry["place"] = sum(_place(game, car) for game, car in own) / len(own)
        entries.append(entry)
    grid = np.ix_(order, order)
    return {
        "race": league.task is None,
        "grid": league.grid,
        "anchor": anchor,
        "games": len(games),
        "starts": len(payoff.strata),
        "tracks": list(league.tracks),
        "won": _won(games),
        "left_out": dict(left_out),
        "entries": entries,
        "payoff": {
            key: [[None if math.isnan(x) else float(x) for x in row] for row in bound[grid]]
            for key, bound in zip(("value", "low", "high"), payoff.shares, strict=True)
        },
        "cycles": [cycle._asdict() for cycle in cycles(payoff)],
    }


def _won(games: Sequence[Game]) -> list[float]:
    """(C,) the share of games that each place of the grid won; a draw is shared."""
    first = np.array([[place == 1 for place in game.places] for game in games], np.float64)
    shares: list[float] = (first / first.sum(axis=1, keepdims=True)).mean(axis=0).tolist()
    return shares


def _place(game: Game, car: int) -> float:
    """A car's place; the mean of those that level cars take up."""
    own = game.places[car]
    return own + (game.places.count(own) - 1) / 2


def _rate(counted: Sequence[bool]) -> dict[str, float]:
    count = sum(counted)
    low, high = wilson_interval(count, len(counted))
    return {"count": count, **_interval(count / len(counted), low, high)}


def _interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def markdown(found: Mapping[str, Any]) -> str:
    """Return standings as Markdown: the table, the payoffs, and the cycles."""
    anchor = found["anchor"] or "the mean of all"
    text = [
        f"{found['games']} games on {found['starts']} starts; {anchor} is rated {ANCHORED:.0f}. "
        + _first(found),
        "",
        *_table(found["entries"], SHOWN[found["race"]], places=found["grid"] > 2),
        "",
        "Points a game of the row against the column, %, and their 95 % intervals:",
        "",
        *_matrix(found),
        "",
        *(_cycles(found["cycles"]) if found["race"] else ()),
        *(f"\nLeft out: {name}: {why}" for name, why in found["left_out"].items()),
    ]
    return "\n".join(text) + "\n"


def _first(found: Mapping[str, Any]) -> str:
    """Tell what the grid's places are worth."""
    shares = [f"{share:.0%}" for share in found["won"]]
    if not found["race"]:
        return f"Attackers won {shares[0]}."
    if len(shares) == 2:
        return f"Whoever led the grid won {shares[0]}, a draw being half a win."
    return f"The grid's places won {', '.join(shares)}, the first of them first."


def _table(
    entries: Sequence[Mapping[str, Any]], rates: Sequence[str], *, places: bool
) -> list[str]:
    heads = ["rating", *(f"{what}, %" for what in rates)]
    heads += ["place"] if places else []
    heads += ["overtakes a game", "Nash share", "score"] if entries[0]["nash"] else []
    lines = [f"| entry | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for entry in entries:
        rating, nash = entry["rating"], entry["nash"]
        cells = [f"{rating['value']:.0f} [{rating['low']:.0f}, {rating['high']:.0f}]"]
        cells += [_percent(entry["rates"][what]) for what in rates]
        cells += [f"{entry['place']:.2f}"] if places else []
        if nash:
            score = f"{nash['score']:+.2f}" if abs(nash["score"]) >= 0.005 else "0"
            cells += [f"{entry['overtakes']:.2f}", f"{nash['share']:.2f}", score]
        lines.append(f"| {entry['name']} | {' | '.join(cells)} |")
    return lines


def _matrix(found: Mapping[str, Any]) -> list[str]:
    entries, payoff = found["entries"], found["payoff"]
    names = [entry["name"] for entry in entries]
    rows = [n for n, entry in enumerate(entries) if entry["role"] != "defender"]
    columns = [n for n, entry in enumerate(entries) if entry["role"] != "attacker"]
    lines = [f"| | {' | '.join(names[j] for j in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for i in rows:
        cells = [
            "" if payoff["value"][i][j] is None
            else _percent({key: payoff[key][i][j] for key in payoff})
            for j in columns
        ]  # fmt: skip
        lines.append(f"| {names[i]} | {' | '.join(cells)} |")
    return lines


def _cycles(found: Sequence[Mapping[str, Any]]) -> list[str]:
    if not found:
        return ["No cycle of three: nobody beats somebody who beats somebody who beats it."]
    lines = []
    for cycle in found[:SHOWN_CYCLES]:
        names = cycle["entries"]
        words = "" if cycle["sure"] else ", within the intervals of chance"
        shown = " beats ".join((*names, names[0]))
        lines.append(f"- {shown} ({100 * cycle['least']:.0f} % of the points at least{words})")
    more = len(found) - len(lines)
    return ["Cycles:", "", *lines, *([f"- and {more} more"] if more else [])]


def _percent(rate: Mapping[str, float]) -> str:
    value, low, high = (100 * rate[key] for key in ("value", "low", "high"))
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"
