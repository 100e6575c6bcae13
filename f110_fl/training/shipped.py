"""Policies that come with scenarios: small files of what acts, which say how they were made.

The policies of a scenario NAME are in ``policies/NAME.safetensors`` beside its file. They are
checkpoints like any other (`f110_fl.training.checkpoint`), and scripted cars drive by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from f110_fl.errors import UserError
from f110_fl.tensors import TensorName, write_tensors

if TYPE_CHECKING:  # torch takes a second to import
    from f110_fl.config.scenario import Scenario
    from f110_fl.learners.base import Learner

FOLDER: Final = "policies"
METADATA: Final = "origin"  # key of the metadata entry


def shipped_path(scenario_file: Path, name: str) -> Path:
    """Return where the policies of the scenario ``name`` are, whose file is ``scenario_file``."""
    return scenario_file.parent / FOLDER / f"{name}.safetensors"


def project_version() -> str:
    """Return the installed version of this project."""
    try:
        return version("f110-fl")
    except PackageNotFoundError:  # a source tree that is not installed
        return "not installed"


@dataclass(frozen=True)
class Origin:
    """How policies were made, and what they reach.

    Attributes:
        command: The command that trained them.
        seed: Seed of the training.
        version: Version of this project.
        evaluation: ``episodes``, ``seed``, and ``cars``: what `metrics.report` has of the learners.
    """

    command: str
    seed: int
    version: str
    evaluation: dict[str, Any]

    def metadata(self) -> dict[str, str]:
        """Return the entry of a file's metadata, JSON."""
        return {METADATA: json.dumps(asdict(self), sort_keys=True)}

    def lines(self) -> list[str]:
        """Return it in words, for the console."""
        lines = [f"Trained by      {self.command}  (seed {self.seed}, f110-fl {self.version})"]
        episodes, seed = self.evaluation["episodes"], self.evaluation["seed"]
        for agent, entry in self.evaluation["cars"].items():
            rate = entry["outcomes"]["success"]
            low, high = (f"{100 * rate[bound]:.1f}" for bound in ("low", "high"))
            text = f"{agent}: success {rate['rate']:.1%} [{low}, {high}]"
            if "lap_time" in entry:
                text += f", lap {entry['lap_time']['mean']:.2f} s"
            lines.append(f"Evaluated       {text}, {episodes} episodes, seed {seed}")
        return lines


def origin_of(metadata: Mapping[str, str]) -> Origin | None:
    """Return what a file's metadata say of its making; None if they do not."""
    try:
        origin = Origin(**json.loads(metadata[METADATA]))
        origin.lines()
    except (KeyError, TypeError, ValueError):
        return None
    return origin


def write_shipped(
    path: Path, learners: Mapping[str, Learner], scenario: Scenario, origin: Origin
) -> None:
    """Write the networks of all learners that act, with their normalisers.

    Args:
        path: The file, in a folder that exists; what is there is replaced.
        learners: Learners by agent.
        scenario: Scenario of the learners.
        origin: What the file says of them.

    Raises:
        UserError: If it cannot be written; the old file is then untouched.
    """
    from f110_fl.training.checkpoint import checkpoint_metadata

    kept = {}
    for agent, learner in learners.items():
        acting = learner.config.acting | {"normaliser"}
        for text, tensor in learner.tensors().items():
            name = TensorName.of_learner(text)
            if name.kind == "model" and name.network in acting:
                kept[f"{agent}/{text}"] = tensor
    try:
        write_tensors(path, kept, checkpoint_metadata(scenario) | origin.metadata())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from None
