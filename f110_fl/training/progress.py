"""How far a client is, as its state file says it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from f110_fl.errors import UserError
from f110_fl.rundir import EPISODES, STATE
from f110_fl.tensors import read_metadata

FORMAT: Final = "1"  # of state files; raised whenever their meaning changes


@dataclass
class Progress:
    """How far a client is; saved with its state."""

    round: int = 0  # last federated round completed
    episodes: int = 0  # training episodes completed
    env_steps: int = 0  # training actions taken
    log_lines: int = 0  # of episodes.jsonl that belong to this state
    best: tuple[float, ...] = ()  # score of the best evaluation so far
    curriculum: dict[str, Any] = field(default_factory=dict)  # its state


def saved_progress(directory: Path) -> Progress:
    """Return how far the state in a client's directory is; the start if there is none.

    Raises:
        UserError: If the state cannot be read, or is of another version of this program.
    """
    state = directory / STATE
    if not state.exists():
        return Progress()
    metadata = read_metadata(state)
    if metadata.get("format") != FORMAT:
        held = f"format {metadata['format']}" if "format" in metadata else "no format's number"
        raise UserError(f"{state} holds {held}; this run needs format {FORMAT}")
    values = json.loads(metadata["progress"])
    return Progress(**values | {"best": tuple(values["best"])})


def last_good(directory: Path) -> str:
    """Return in words which checkpoint there is in a client's directory."""
    if not (directory / STATE).exists():
        return "there is no checkpoint yet"
    episodes = saved_progress(directory).episodes
    return f"last good checkpoint: {directory / STATE}, after {episodes} episodes"


def trim_episodes(directory: Path) -> None:
    """Cut from a client's ``episodes.jsonl`` what is newer than its state."""
    path = directory / EPISODES
    if not path.exists():
        return
    with path.open("rb") as file:
        for _ in range(saved_progress(directory).log_lines):
            file.readline()
        length = file.tell()
    if path.stat().st_size > length:
        os.truncate(path, length)
