"""The state file of a client, and the copies of earlier ones.

Its metadata, checked whenever it is read, say how far the client is and what learners it has.
Copies are in ``kept/round_NNNNN/`` in its directory; from one, a later round can be computed again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.rundir import EPISODES, SPARES, STATE
from f110_fl.tensors import TensorName, read_metadata, tensors_being_written
from sim.layout import COMMAND_SIZE

if TYPE_CHECKING:  # torch takes a second to import
    import torch

FORMAT: Final = "1"  # of state files; raised whenever their meaning changes
_LEARNERS: Final = "learners"
KEPT: Final = "kept"
_ROUND: Final = "round_"
_COPYING: Final = ".copying"


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
    """Return the progress of the state in a client's directory; that of a new client without one.

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
    """Refuse a state file of another format or of other learners.

    Called before a client's other files are opened, which belong to the state.

    Args:
        path: The file; if there is none, there is nothing to refuse.
        scenario: The run that is to go on from it.
        observation_size: D, of every agent.

    Raises:
        UserError: If it cannot be read, or holds something else; the message describes both.
    """
    if not path.exists():
        return
    held, expected = read_metadata(path), _describe(scenario, observation_size)
    if {key: held.get(key) for key in expected} != expected:
        raise UserError(f"{path} holds {_words(held)}; this run needs {_words(expected)}")


@contextmanager
def state_being_written(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    progress: Progress,
    scenario: Scenario,
    observation_size: int,
) -> Iterator[str]:
    """Write a state file atomically: it takes its name when the block ends without an error.

    The block runs while the disk takes the file in. It makes durable what belongs to the state.

    Args:
        path: The file; what is there is replaced.
        tensors: Those of all agents: ``AGENT/model/...``, ``AGENT/optimizer/...``,
            ``AGENT/local/...``; ``AGENT/opponents/...`` of those that meet earlier selves, and
            ``AGENT/update/...`` of those whose updates are rounded.
        progress: How far the client is.
        scenario: Scenario of the run.
        observation_size: D, of every agent.

    Yields:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        LearningError: If a network or a moment is not finite; the old file is then untouched.
        OSError: If it cannot be written; the old file is then untouched.
    """
    from f110_fl.training.checkpoint import checkpoint_metadata

    _check_finite(tensors, progress)
    metadata = checkpoint_metadata(scenario) | _describe(scenario, observation_size)
    metadata["progress"] = json.dumps(asdict(progress))
    with tensors_being_written(path, tensors, metadata, path.parents[1] / SPARES) as digest:
        yield digest


def last_good(directory: Path) -> str:
    """Describe the checkpoint in a client's directory."""
    if not (directory / STATE).exists():
        return "there is no checkpoint yet"
    episodes = saved_progress(directory).episodes
    return f"last good checkpoint: {directory / STATE}, after {episodes} episodes"


def trim_episodes(directory: Path, progress: Progress) -> None:
    """Cut off what is newer in a client's ``episodes.jsonl`` than its state's progress."""
    path = directory / EPISODES
    if not path.exists():
        return
    with path.open("rb") as file:
        for _ in range(progress.log_lines):
            file.readline()
        length = file.tell()
    if path.stat().st_size > length:
        os.truncate(path, length)


def _describe(scenario: Scenario, observation_size: int) -> dict[str, str]:
    """Return the metadata that say what a state file holds.

    Returns:
        ``format``, and ``learners``: JSON of algorithm, widths of all hidden layers, observation
        size and action size by agent.
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
    version = f"format {metadata['format']}" if "format" in metadata else "no format number"
    if metadata.get("format") != FORMAT:
        return version  # the other entries may mean something else
    parts = []
    for agent, learner in json.loads(metadata.get(_LEARNERS, "{}")).items():
        hidden = ", ".join(map(str, learner["hidden"]))
        sizes = f"{learner['observation_size']} observations, {learner['action_size']} actions"
        parts.append(f"{agent}: {learner['algorithm']} ({hidden}), {sizes}")
    return "; ".join([version, *parts])


def keep_state(directory: Path, number: int, every: int) -> None:
    """Keep a client's state of a round, once, if the round is one of those that are kept.

    Args:
        directory: The client's directory, in the state that the round left.
        number: The round.
        every: Rounds from one that is kept to the next; 0: none is.

    Raises:
        OSError: If it cannot be written; then there is no copy.
    """
    target = kept_state(directory, number)
    if not every or number % every or target.exists():
        return
    copying = directory / KEPT / _COPYING
    shutil.rmtree(copying, ignore_errors=True)
    copying.mkdir(parents=True)
    copy_state(directory, copying)
    copying.rename(target)


def copy_state(source: Path, target: Path) -> None:
    """Copy all that a client goes on from: its state, and the experience that belongs to it.

    Raises:
        OSError: If a file cannot be read or written.
    """
    for path in [source / STATE, *sorted(source.glob("*.replay"))]:
        shutil.copyfile(path, target / path.name)


def kept_state(directory: Path, number: int) -> Path:
    """Return the directory of the copy of a round's state."""
    return directory / KEPT / f"{_ROUND}{number:05d}"


def kept_rounds(directory: Path) -> list[int]:
    """Return the rounds whose state was kept, in order."""
    names = [path.name.removeprefix(_ROUND) for path in (directory / KEPT).glob(f"{_ROUND}*")]
    return sorted(int(name) for name in names if name.isdecimal())
