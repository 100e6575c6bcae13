"""The page of a league: ratings, the table, who beats whom, and replays of games.

Games that have a replay are played again, with a recorder looking on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from f110_fl.config.league import LeagueConfig
from f110_fl.evaluation.games import Game, Start
from f110_fl.evaluation.highlights import Highlight
from f110_fl.evaluation.race import play
from f110_fl.files import write_atomic
from f110_fl.reporting.pages.document import assemble
from f110_fl.reporting.pages.recording import Recording, ReplayRecorder
from f110_fl.reporting.pages.replay import page

SCRIPTS: Final = ("common/theme.js", "league/league.js")
STYLES: Final = ("common/base.css", "report/report.css", "league/league.css")
REPLAYS: Final = "replays"
MAX_FRAMES: Final = 20_000  # of a game that has a replay: 17 minutes at 20 Hz
TRIED: Final = 16  # games that are recorded together: what they hold in memory is bounded

Say = Callable[[str], None]
Key = tuple[tuple[str, ...], Start]


def write_league_page(path: Path, name: str, standings: Mapping[str, Any]) -> None:
    """Write a league's standings as one HTML file.

    Args:
        path: The file, in a folder that exists.
        name: The league's.
        standings: What `f110_fl.evaluation.standings.standings` returned, with ``highlights``:
            what happened (``text``), of which ``kind``, between which ``entries``, and the
            replay's ``file``, relative to the page, or None.

    Raises:
        OSError: If the file cannot be written.
    """
    document = {"name": name, **standings}
    write_atomic(path, assemble("league/league.html", SCRIPTS, STYLES, document))


def write_replays(
    league: LeagueConfig,
    found: Sequence[Highlight],
    folder: Path,
    most: int,
    threads: int,
    say: Say,
) -> dict[Key, str]:
    """Write the replays of games, one HTML file each, and remove those of others.

    Replays that are there already stay as they are. The bytes depend on the league and the games
    alone.

    Args:
        league: The league.
        found: Whose games; the first ones matter most.
        folder: Of the league; the files are in its subfolder ``replays``.
        most: Bytes of all files together; the games that follow have none.
        threads: Threads that share the games.
        say: Takes a line with the number of files.

    Returns:
        Names of the files, relative to ``folder``, by `Game.key`.

    Raises:
        OSError: If a file cannot be written.
    """
    period = league.physics_step * league.physics_steps_per_action
    games = {highlight.game.key: highlight.game for highlight in found}
    games = {k: game for k, game in games.items() if game.duration / period <= MAX_FRAMES}
    directory = folder / REPLAYS
    written: dict[Key, str] = {}
    if most:
        directory.mkdir(exist_ok=True)
        for some in _batches(games.values()):
            most -= _write(league, some, directory, most, threads, written)
            if most <= 0:
                break
        say(f"{len(written)} replays of {len({h.game.key for h in found})} games in {directory}")
    kept = set(written.values())
    for path in directory.glob("*.html"):
        if f"{REPLAYS}/{path.name}" not in kept:
            path.unlink()
    return written


def _batches(games: Iterable[Game]) -> list[list[Game]]:
    """Return games in the order in which they matter, those of the same cars together."""
    by_lineup: dict[tuple[str, ...], list[Game]] = {}
    for game in games:
        by_lineup.setdefault(game.entries, []).append(game)
    return [own[k : k + TRIED] for own in by_lineup.values() for k in range(0, len(own), TRIED)]


def _write(
    league: LeagueConfig,
    games: Sequence[Game],
    directory: Path,
    most: int,
    threads: int,
    written: dict[Key, str],
) -> int:
    """Write the replays of games of the same cars; return their size, or more than ``most``."""
    paths = {game.key: directory / _name(game) for game in games}
    pages = _pages(league, [game for game in games if not paths[game.key].exists()], threads)
    size = 0
    for key, path in paths.items():
        text = pages.get(key)
        if text is None and not path.exists():
            continue
        size += path.stat().st_size if text is None else len(text.encode())
        if size > most:
            break
        if text is not None:
            write_atomic(path, text)
        written[key] = f"{REPLAYS}/{path.name}"
    return size


def _pages(league: LeagueConfig, games: Sequence[Game], threads: int) -> dict[Key, str]:
    """Play games of the same cars again, and return the pages of those that end as they did.

    All do, unless they were played by another machine or version, whose last digits differ.
    """
    if not games:
        return {}
    recorder = ReplayRecorder(max_beams=0, max_episodes=len(games))
    again = play(league, games[0].entries, [game.start for game in games], threads, recorder)
    recording = recorder.recording(_title(games[0]), "", league.seed)
    pages = {}
    for number, (game, other) in enumerate(zip(games, again, strict=True)):
        if game == other:
            pages[game.key] = page([_single(recording, number, game)])
    return pages


def _title(game: Game) -> str:
    return " against ".join(game.entries)


def _single(recording: Recording, number: int, game: Game) -> Recording:
    """Return the recording of one of the games alone, its cars named after who drives."""
    (episode,) = (each for each in recording.episodes if each.number == number)
    cars = zip(recording.cars, game.entries, strict=True)
    return replace(
        recording,
        name=f"{game.track}, start {game.seed}",
        scenario=_title(game),
        cars=tuple(replace(car, name=name) for car, name in cars),
        tracks=(replace(recording.tracks[episode.track], name=game.track),),
        episodes=(replace(episode, track=0, number=game.seed),),
    )


def _name(game: Game) -> str:
    """What a game's file is called: words, and a digest that tells it from all others."""
    words = "-".join([*game.entries, game.track, str(game.seed)])
    digest = hashlib.sha256(repr(game.key).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', words)[:150]}-{digest}.html"
