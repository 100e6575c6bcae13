"""A league: every game of everybody, kept in a file as they are played."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from f110_fl.config.league import LeagueConfig
from f110_fl.errors import UserError
from f110_fl.evaluation.games import Game, Start
from f110_fl.evaluation.race import check, play
from f110_fl.files import append_line, complete_lines, locked, write_atomic
from sim.policy import ARRAYS, CONTRACT

GAMES: Final = "games.jsonl"
RULES: Final = "league.json"
LOCK: Final = "lock"
FORMAT: Final = 2  # of games; increased whenever the same league plays other games

_GAME: Final = TypeAdapter(Game)
Say = Callable[[str], None]


def unfit(league: LeagueConfig) -> dict[str, str]:
    """Return the entries that cannot race, and why, in one line each.

    Raises:
        UserError: If no two can meet, as where a track or a setting of the league is wrong.
    """
    found: dict[str, str] = {}
    for name, lineups in _trials(league).items():
        for lineup in lineups:
            try:
                check(league, lineup)
                found.pop(name, None)
                break
            except ValidationError as error:
                found[name] = str(error.errors()[0]["msg"])
            except (ValueError, OSError) as error:  # of the policy's file, or what it observes
                found[name] = " ".join(str(error).split())
    if not league.lineups([name for name in league.entries if name not in found]):
        reasons = dict.fromkeys(found.values())
        needed = ("one", "two", "three", "four")[league.grid - 1]
        raise UserError(f"no {needed} entries can meet: {'; '.join(reasons)}")
    return found


def _trials(league: LeagueConfig) -> dict[str, list[tuple[str, ...]]]:
    """Return what shows that an entry fits: with itself in a race, else with whoever fits."""
    if league.task is None:
        return {name: [(name,) * league.grid] for name in league.entries}
    pairs = league.lineups(list(league.entries))
    return {name: [pair for pair in pairs if name in pair] for name in league.entries}


def play_league(
    league: LeagueConfig, names: Sequence[str], folder: Path, threads: int, say: Say
) -> list[Game]:
    """Play what is missing of a league's games, and return all.

    The games stream to ``games.jsonl`` in an order that depends on the league alone;
    ``league.json`` has its rules. More entries and more seeds may join later.

    Args:
        league: The league.
        names: The entries that take part.
        folder: Where the files are; it is made if it is missing.
        threads: Threads that share the games of the same cars.
        say: Takes a line whenever cars have met in an order of the grid.

    Raises:
        UserError: If the folder has another league's games, another process plays there, or a
            game cannot be played.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK, wait=False):
            _settle(league, folder)
            return _play(league, names, folder, threads, say)
    except BlockingIOError:
        raise UserError(f"{folder}: another process plays in it") from None
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out={str(folder)!r}: is no directory") from None


def _play(
    league: LeagueConfig, names: Sequence[str], folder: Path, threads: int, say: Say
) -> list[Game]:
    path = folder / GAMES
    known = {game.key: game for game in read_games(path)}
    _cut(path, known.values())
    found: list[Game] = []
    lineups = league.lineups(names)
    starts = [Start(track, seed) for track in league.tracks for seed in range(league.seeds)]
    for number, lineup in enumerate(lineups, 1):
        missing = [start for start in starts if (lineup, start) not in known]
        try:
            games = play(league, lineup, missing, threads) if missing else []
        except (ValueError, FloatingPointError) as error:  # no room for a grid
            raise UserError(f"{' against '.join(lineup)}: {error}") from None
        for game in games:
            append_line(path, _line(game))
            known[game.key] = game
        own = [known[lineup, start] for start in starts]
        found += own
        if missing:
            wins = [sum(game.winner == name for game in own) for name in lineup]
            say(f"{number}/{len(lineups)}  {_score(lineup, wins)}")
    return found


def _score(lineup: Sequence[str], wins: Sequence[int]) -> str:
    """Who has won how often, in a line: ``a 3 : 1 b``, or ``a 3, b 1, c 0``."""
    if len(lineup) == 2:
        return f"{lineup[0]} {wins[0]} : {wins[1]} {lineup[1]}"
    return ", ".join(f"{name} {count}" for name, count in zip(lineup, wins, strict=True))


def read_games(path: Path) -> list[Game]:
    """Return the games in a file, without lines that a crash has torn."""
    found = []
    for line in complete_lines(path):
        with suppress(ValidationError):
            found.append(_GAME.validate_python(line))
    return found


def _line(game: Game) -> str:
    return json.dumps(asdict(game), separators=(",", ":"))


def _cut(path: Path, games: Iterable[Game]) -> None:
    """Leave only complete lines in a file."""
    text = "".join(_line(game) + "\n" for game in games)
    if path.exists() and path.read_bytes() != text.encode():
        write_atomic(path, text)


def _settle(league: LeagueConfig, folder: Path) -> None:
    """Write down the league's rules, or check that the folder's are the same.

    Raises:
        UserError: If a rule, or an entry that has played, has changed.
    """
    path = folder / RULES
    settings = _told(league.model_dump(mode="json"))
    entries = settings.pop("entries")
    for free in ("seeds", "anchor"):
        settings.pop(free)
    rules = {"format": FORMAT, "rules": settings, "entries": entries}
    if path.exists():
        try:
            before = json.loads(path.read_bytes())
            others, kept = dict(before["rules"]), dict(before["entries"])
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{path}: not the rules of a league; choose another --out") from None
        changed = [key for key, value in settings.items() if others.get(key) != value]
        changed += [f"entries.{k}" for k in entries if k in kept and kept[k] != entries[k]]
        changed += ["this program"] if before.get("format") != FORMAT else []
        if changed:
            raise UserError(
                f"{folder}: its games were played before {', '.join(changed)} changed; "
                "choose another --out"
            )
        rules["entries"] = kept | entries
    elif (folder / GAMES).exists():
        raise UserError(f"{folder}: has games without {RULES}; choose another --out")
    write_atomic(path, json.dumps(rules, indent=2) + "\n")


def _told(value: Any) -> Any:
    """Return settings with what is in a file in place of its name."""
    if isinstance(value, dict):
        return {key: _told(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_told(entry) for entry in value]
    if isinstance(value, str) and Path(value).is_absolute():
        path = Path(value)
        files = [path / name for name in (CONTRACT, ARRAYS)] if path.is_dir() else [path]
        if all(file.is_file() for file in files):
            data = b"".join(file.read_bytes() for file in files)
            return f"sha256:{hashlib.sha256(data).hexdigest()}"
    return value
