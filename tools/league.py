#!/usr/bin/env python3
"""Let drivers and policies race each other, all with all, and rate them.

Every pair, or every three or four, meet on the same starts of every track, in several orders of the
grid. DIR has each game in games.jsonl as soon as it is over, the standings in standings.html, .md
and .json, and in replays/ what the page refers to; the same command goes on where it ended, also
with more entries or seeds. Ratings are on Elo's scale, with bootstrap intervals over starts;
docs/league.md says how they come about.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser
from f110_fl.errors import UserError, system_error


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="league.py", description=__doc__)
    parser.add_argument("league", type=Path, metavar="LEAGUE.yaml")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="directory of all files (default: outputs/NAME)"
    )
    parser.add_argument(
        "--threads",
        default=str(os.cpu_count() or 1),
        metavar="N",
        help="that share the games of the same cars; results do not depend on it (default: cores)",
    )
    parser.add_argument(
        "--replays",
        default="30",
        metavar="MB",
        help="size at most of the replays of each pair's typical, closest and most surprising "
        "game; 0: none (default: 30)",
    )
    parser.add_argument("--json", action="store_true", help="print the standings as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 the system's error, 2 wrong input, 130 interrupted."""
    from sim.plugins import PluginError

    arguments = build_parser().parse_args(argv)
    try:
        print(_run(arguments))  # noqa: T201
    except (UserError, PluginError) as error:
        _say(f"league.py: {error}")
        return 2
    except OSError as error:
        _say(f"league.py: {system_error(error)}")
        return 1
    except KeyboardInterrupt:
        _say("league.py: interrupted; the same command goes on")
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> str:
    """Play what is missing, write the standings, and return them."""
    from f110_fl.evaluation.highlights import highlights
    from f110_fl.evaluation.league import play_league, unfit
    from f110_fl.evaluation.standings import markdown, standings
    from f110_fl.files import write_atomic
    from f110_fl.loading.leagues import load_league
    from f110_fl.loading.texts import bounded
    from f110_fl.reporting.pages.league import write_league_page, write_replays

    threads = bounded("--threads", arguments.threads, 1, 1024)
    megabytes = bounded("--replays", arguments.replays, 0, 10_000)
    if find_spec("choix") is None:
        raise UserError("ratings need choix: pip install -e '.[league]'")
    league = load_league(arguments.league)
    folder = arguments.out or Path("outputs") / arguments.league.stem
    left_out = unfit(league)
    for name, why in left_out.items():
        _say(f"league.py: left out: {name}: {why}")
    names = [name for name in league.entries if name not in left_out]
    games = play_league(league, names, folder, threads, _say)
    found = standings(league, names, games, left_out)
    chosen = highlights(games, [entry["name"] for entry in found["entries"]])
    files = write_replays(league, chosen, folder, 1_000_000 * megabytes, threads, _say)
    found["highlights"] = [
        {
            "entries": each.entries,
            "kind": each.kind,
            "text": each.text,
            "file": files.get(each.game.key),
        }
        for each in chosen
    ]
    text, table = json.dumps(found, indent=2), markdown(found)
    write_atomic(folder / "standings.json", text + "\n")
    write_atomic(folder / "standings.md", table)
    write_league_page(folder / "standings.html", arguments.league.stem, found)
    return text if arguments.json else table


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
