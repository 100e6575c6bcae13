"""The state file of a client: what is in it, said in its metadata, and checked when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.tensors import read_metadata, write_tensors
from f110_fl.training.export import checkpoint_metadata
from f110_fl.training.progress import FORMAT, Progress
from sim.layout import COMMAND_SIZE

if TYPE_CHECKING:  # torch takes a second to import
    import torch
if TYPE_CHECKING:
    import torch

    from f110_fl.learners.base import Learner


LEARNERS: Final = "learners"


def describe(scenario: Scenario, observation_size: int) -> dict[str, str]:
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
            "hidden": [
                width
                for name, widths in config.model_dump().items()
                if name.endswith("hidden")
                for width in widths
            ],
            "observation_size": observation_size,
            "action_size": COMMAND_SIZE,
        }
        for agent, config in scenario.learners.items()
    }
    return {"format": FORMAT, LEARNERS: json.dumps(learners, sort_keys=True)}


def check(path: Path, scenario: Scenario, observation_size: int) -> None:
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
    held, expected = read_metadata(path), describe(scenario, observation_size)
    if {key: held.get(key) for key in expected} != expected:
        raise UserError(f"{path} holds {_words(held)}; this run needs {_words(expected)}")


def write(
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
    _check_finite(tensors, progress)
    metadata = checkpoint_metadata(scenario) | describe(scenario, observation_size)
    metadata["progress"] = json.dumps(asdict(progress))
    write_tensors(path, tensors, metadata)


def _check_finite(tensors: Mapping[str, torch.Tensor], progress: Progress) -> None:
    from f110_fl.learners.base import LearningError

    for name, tensor in tensors.items():
        learned = name.split("/")[1] in ("model", "optimizer")
        # The sum is much faster; that of finite numbers may still exceed what a float holds.
        if learned and not math.isfinite(tensor.sum()) and not tensor.isfinite().all():
            raise LearningError(f"{name} is not finite at step {progress.env_steps}")


def _words(metadata: Mapping[str, str]) -> str:
    """Return metadata as a person reads it: ``format 1, car_0: td3 (256, 256), ...``."""
    version = f"format {metadata['format']}" if "format" in metadata else "no format's number"
    if metadata.get("format") != FORMAT:
        return version  # what else it says may mean something else
    parts = []
    for agent, learner in json.loads(metadata.get(LEARNERS, "{}")).items():
        hidden = ", ".join(map(str, learner["hidden"]))
        sizes = f"{learner['observation_size']} observations, {learner['action_size']} actions"
        parts.append(f"{agent}: {learner['algorithm']} ({hidden}), {sizes}")
    return "; ".join([version, *parts])


def load_models(
    learner: Learner, agent: str, tensors: Mapping[str, torch.Tensor], path: Path
) -> None:
    """Load an agent's models from a checkpoint of any kind that this project writes.

    What only learning needs (critics, targets, moments) may be missing, as it is from a global
    model of a federation that shares its actors.

    Raises:
        UserError: If the checkpoint has no model of the agent, or another one's.
    """
    start = f"{agent}/model/"
    own = {k.removeprefix(f"{agent}/"): v for k, v in tensors.items() if k.startswith(start)}
    if not own:
        agents = sorted({name.split("/")[0] for name in tensors})
        raise UserError(f"{path}: no model of {agent!r}; found: {', '.join(agents) or 'nothing'}")
    acting = learner.config.acting | {"normaliser"}
    needed = {k for k in learner.tensors() if k.startswith("model/") and k.split("/")[1] in acting}
    missing = sorted(needed - own.keys())
    if missing:
        raise UserError(
            f"{path}: the model of {agent!r} lacks {missing[0]!r} of the scenario's learner; "
            f"it has networks {', '.join(_networks(own))}"
        )
    try:
        learner.load_tensors(own)
    except ValueError as error:
        raise UserError(
            f"{path}: another model of {agent!r} than the scenario's: {error}"
        ) from None


def _networks(names: Iterable[str]) -> list[str]:
    return sorted({name.split("/")[1] for name in names})
