"""A league: every game of every pair, kept in a file as they are played."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from f110_fl.config.league import LeagueConfig
from f110_fl.errors import UserError
from f110_fl.evaluation.race import Game, Start, check, play
from f110_fl.files import append_line, complete_lines, locked, write_atomic

GAMES: Final = "games.jsonl"
RULES: Final = "league.json"
LOCK: Final = "lock"
FORMAT: Final = 1  # of games; increased whenever the same league plays other games

_GAME: Final = TypeAdapter(Game)
Say = Callable[[str], None]


def unfit(league: LeagueConfig) -> dict[str, str]:
    """Return the entries that cannot race, and why, in one line each.

    Raises:
        UserError: If no two can meet, as where a track or a setting of the league is wrong.
    """
    found: dict[str, str] = {}
    pairs = league.pairs(list(league.entries))
    for name in league.entries:
        # With itself in a race, else with whoever fits.
        own = [(name, name)] if league.task is None else [pair for pair in pairs if name in pair]
        for pair in own:
            try:
                check(league, *pair)
                found.pop(name, None)
                break
            except ValidationError as error:
                found[name] = str(error.errors()[0]["msg"])
            except (ValueError, OSError) as error:  # of the policy's file, or what it observes
                found[name] = " ".join(str(error).split())
    if not league.pairs([name for name in league.entries if name not in found]):
        reasons = dict.fromkeys(found.values())
        raise UserError(f"no two entries can meet: {'; '.join(reasons)}")
    return found


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
        threads: Threads that share a pair's games.
        say: Takes a line whenever a pair has met.

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
    known = {_key(game): game for game in read_games(path)}
    _cut(path, known.values())
    found, pairs = [], league.pairs(names)
    starts = [Start(track, seed) for track in league.tracks for seed in range(league.seeds)]
    for number, (first, second) in enumerate(pairs, 1):
        missing = [start for start in starts if (first, second, *start) not in known]
        try:
            games = play(league, first, second, missing, threads) if missing else []
        except (ValueError, FloatingPointError) as error:  # no room for a grid
            raise UserError(f"{first} against {second}: {error}") from None
        for game in games:
            append_line(path, _line(game))
            known[_key(game)] = game
        own = [known[first, second, *start] for start in starts]
        found += own
        if missing:
            wins = [sum(game.winner == name for game in own) for name in (first, second)]
            say(f"{number}/{len(pairs)}  {first} {wins[0]} : {wins[1]} {second}")
    return found


def read_games(path: Path) -> list[Game]:
    """Return the games in a file, without lines that a crash has torn."""
    found = []
    for line in complete_lines(path):
        with suppress(ValidationError):
            found.append(_GAME.validate_python(line))
    return found


def _key(game: Game) -> tuple[str, str, str, int]:
    return *game.entries, game.track, game.seed


def _line(game: Game) -> str:
    return json.dumps(asdict(game), separators=(",", ":"))


def _cut(path: Path, games: Any) -> None:
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
    if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_file():
        return f"sha256:{hashlib.sha256(Path(value).read_bytes()).hexdigest()}"
    return value
