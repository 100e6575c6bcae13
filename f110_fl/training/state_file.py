"""The state file of a client: how far the client is, and whose learners it holds.

Both are in the file's metadata, which is checked whenever it is read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.rundir import EPISODES, STATE
from f110_fl.tensors import TensorName, read_metadata, write_tensors
from sim.layout import COMMAND_SIZE

if TYPE_CHECKING:  # torch takes a second to import
    import torch

FORMAT: Final = "1"  # of state files; raised whenever their meaning changes
_LEARNERS: Final = "learners"


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
        raise UserError(f"{state} holds {_words(metadata)}; this run needs format {FORMAT}")
    values = json.loads(metadata["progress"])
    return Progress(**values | {"best": tuple(values["best"])})


def check_state(path: Path, scenario: Scenario, observation_size: int) -> None:
    """Refuse a state file that is not of this format and these learners.

    Called before a client's other files are opened, which fit the state or nothing.

    Args:
        path: The file; nothing is wrong where there is none.
        scenario: The run that is to go on from it.
        observation_size: D, of every agent.

    Raises:
        UserError: If it cannot be read, or holds something else; both are described.
    """
    if not path.exists():
        return
    held, expected = read_metadata(path), _describe(scenario, observation_size)
    if {key: held.get(key) for key in expected} != expected:
        raise UserError(f"{path} holds {_words(held)}; this run needs {_words(expected)}")


def write_state(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    progress: Progress,
    scenario: Scenario,
    observation_size: int,
) -> None:
    """Write a state file atomically.

    Args:
        path: The file; what is there is replaced.
        tensors: By ``AGENT/model/...``, ``AGENT/optimizer/...`` and ``AGENT/local/...``.
        progress: How far the client is.
        scenario: The run's.
        observation_size: D, of every agent.

    Raises:
        LearningError: If a network or a moment is not finite; the old file is then untouched.
        OSError: If it cannot be written; the old file is then untouched.
    """
    from f110_fl.training.export import checkpoint_metadata

    _check_finite(tensors, progress)
    metadata = checkpoint_metadata(scenario) | _describe(scenario, observation_size)
    metadata["progress"] = json.dumps(asdict(progress))
    write_tensors(path, tensors, metadata)


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


def _describe(scenario: Scenario, observation_size: int) -> dict[str, str]:
    """Return the metadata that says what a state file holds: its format, and each learner.

    Args:
        scenario: The run's.
        observation_size: D, of every agent.

    Returns:
        ``format`` and ``learners``, JSON of algorithm, widths of all hidden layers, observation
        size D and action size A by agent.
    """
    learners = {
        agent: {
            "algorithm": config.algorithm,
            "hidden": config.hidden_widths,
            "observation_size": observation_size,
            "action_size": COMMAND_SIZE,
        }
        for agent, config in scenario.learners.items()
    }
    return {"format": FORMAT, _LEARNERS: json.dumps(learners, sort_keys=True)}


def _check_finite(tensors: Mapping[str, torch.Tensor], progress: Progress) -> None:
    from f110_fl.learners.base import LearningError

    for name, tensor in tensors.items():
        learned = TensorName.parse(name).kind in ("model", "optimizer")
        # The sum is much faster; that of finite numbers may still exceed what a float holds.
        if learned and not math.isfinite(tensor.sum()) and not tensor.isfinite().all():
            raise LearningError(f"{name} is not finite at step {progress.env_steps}")


def _words(metadata: Mapping[str, str]) -> str:
    """Return metadata as a person reads it: ``format 1, car_0: td3 (256, 256), ...``."""
    version = f"format {metadata['format']}" if "format" in metadata else "no format's number"
    if metadata.get("format") != FORMAT:
        return version  # what else it says may mean something else
    parts = []
    for agent, learner in json.loads(metadata.get(_LEARNERS, "{}")).items():
        hidden = ", ".join(map(str, learner["hidden"]))
        sizes = f"{learner['observation_size']} observations, {learner['action_size']} actions"
        parts.append(f"{agent}: {learner['algorithm']} ({hidden}), {sizes}")
    return "; ".join([version, *parts])
