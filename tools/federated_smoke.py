#!/usr/bin/env python3
"""Run a short federation through run.py, and report its files as JSON.

Standard output contains one JSON object and nothing else; run.py's own progress goes to
standard error. The exit status is 0 only if every round completed with every client.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program

REPOSITORY = Path(__file__).resolve().parents[1]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="federated_smoke.py", description=__doc__)
    parser.add_argument(
        "--scenario",
        type=Path,
        default=REPOSITORY / "scenarios" / "convoy_lock_td3_original.yaml",
        help="scenario (default: convoy_lock_td3_original)",
    )
    parser.add_argument("--repeat", type=int, default=2, help="clients (default: 2)")
    parser.add_argument("--max-parallel", type=int, default=2, help="clients at once (default: 2)")
    parser.add_argument("--episodes", type=int, default=1, help="rounds of one episode (default 1)")
    parser.add_argument("--eval-episodes", type=int, default=0, help="per evaluation (default: 0)")
    parser.add_argument("--seed-base", type=int, default=12345, help="seed of client 0")
    parser.add_argument("--fed-root", type=Path, help="run directory (default: a new one)")
    parser.add_argument(
        "--keep-root",
        action="store_true",
        help="move a run found in the directory aside instead of deleting it",
    )
    parser.add_argument("--skip-checkpoints", action="store_true", help="write no tensors")
    parser.add_argument("--dry-run", action="store_true", help="print the command, start nothing")
    return parser


def command(arguments: argparse.Namespace) -> list[str]:
    """Return the run.py command line."""
    flags = {
        "--scenario": arguments.scenario,
        "--repeat": arguments.repeat,
        "--max-parallel": arguments.max_parallel,
        "--episodes": arguments.episodes,
        "--eval-episodes": arguments.eval_episodes,
        "--seed-base": arguments.seed_base,
    }
    words = [word for flag, value in flags.items() for word in (flag, str(value))]
    return [sys.executable, str(REPOSITORY / "run.py"), *words, "--auto-seed"]


def env_overrides(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the environment variables set on top of the caller's."""
    root = arguments.fed_root or Path(
        "outputs", f"federated_smoke_{time.strftime('%Y%m%d-%H%M%S')}"
    )
    overrides = {
        "FED_ENABLED": "1",
        "FED_ROOT": str(root.absolute()),
        "FED_ROUND_INTERVAL": "1",
        "WANDB_MODE": "disabled",
    }
    if arguments.skip_checkpoints:
        overrides["FED_CHECKPOINT_AFTER_SYNC"] = "0"
    return overrides


def clear(root: Path, keep: bool) -> None:
    """Clear ``root`` for a new run; only a directory that contains a run is changed."""
    if not (root / "config.json").exists():
        return
    if not keep:
        shutil.rmtree(root)
        return
    number = 1
    while (aside := root.with_name(f"{root.name}.{number}")).exists():
        number += 1
    root.rename(aside)


def report(root: Path, rounds: int, clients: int) -> tuple[dict[str, Any], bool]:
    """Return the JSON object, and whether every round completed with every client."""
    path = root / "rounds.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    counts = {f"round_{line['round']:05d}": len(line["clients"]) for line in map(json.loads, lines)}
    client_dirs = sorted(p.name for p in (root / "clients").glob("*") if p.is_dir())
    result: dict[str, Any] = {
        "dry_run": False,
        "root": str(root),
        "rounds_completed": len(counts),
        "round_client_counts": counts,
        "clients": client_dirs,
        "artefacts": sorted(str(p) for p in root.rglob("*") if p.is_file()),
    }
    if not counts:
        result["warning"] = f"no round was produced; see {root / 'logs'}"
    complete = len(counts) == rounds and all(count == clients for count in counts.values())
    return result, complete


def smoke(arguments: argparse.Namespace) -> int:
    """Run the federation, and print the JSON object; return the exit status."""
    words, overrides = command(arguments), env_overrides(arguments)
    if arguments.dry_run:
        shown = {"dry_run": True, "command": words, "env_overrides": overrides}
        print(json.dumps(shown, indent=2))  # noqa: T201
        return 0
    root = Path(overrides["FED_ROOT"])
    clear(root, arguments.keep_root)
    # The caller's FED_* variables would change the settings.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FED_")}
    process = subprocess.run(  # noqa: S603 - our own program
        words, env=inherited | overrides, stdout=sys.stderr, check=False
    )
    result, complete = report(root, arguments.episodes, arguments.repeat)
    print(json.dumps(result, indent=2))  # noqa: T201
    return process.returncode or (0 if complete else 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if every round completed with every client, 2 for wrong input, else 1."""
    arguments = build_parser().parse_args(argv)
    return program("federated_smoke.py", partial(smoke, arguments))


if __name__ == "__main__":
    sys.exit(main())
