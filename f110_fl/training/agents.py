"""The learners of a scenario's agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from f110_fl.config.learners import OffPolicyConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import Learner, LearnerSetup
from f110_fl.learners.device import Device, choose
from f110_fl.learners.factory import make_learner
from f110_fl.seeding import Use, stream
from f110_fl.tensors import TensorName, write_tensors
from f110_fl.training.checkpoint import checkpoint_metadata, load_initial
from sim.layout import COMMAND_SIZE
from sim.observation import check_mirrored, observation_mirror, observation_parts
from sim.race import Race
from sim.tracks.track import Track


def make_learners(
    scenario: Scenario,
    race: Race,
    seed: Callable[[int], np.random.SeedSequence],
    directory: Path | None = None,
    device: Device = "cpu",
) -> dict[str, Learner]:
    """Return the scenario's learners, by agent.

    Args:
        scenario: The scenario.
        race: The environments that they collect from.
        seed: Maps the index of a learner to its seed.
        directory: Where their experience survives a restart; None keeps it in memory only.
        device: Device that they learn on.

    Raises:
        UserError: If this machine has no such device.
    """
    chosen = choose(device)
    learners: dict[str, Learner] = {}
    for index, (agent, config) in enumerate(scenario.learners.items()):
        setup = LearnerSetup(
            observation_size=len(race.observation_low),
            action_size=COMMAND_SIZE,
            seed=seed(index),
            num_envs=race.num_envs,
            replay_path=directory and replay_path(directory, agent),
            device=chosen,
            observation=observation_parts(scenario.env),
            mirror=observation_mirror(scenario.env),
        )
        learners[agent] = make_learner(config, setup)
    return learners


def check_mirrors(scenario: Scenario, tracks: Sequence[Track]) -> None:
    """Check that learners may mirror what happens on tracks, if they want to.

    Args:
        scenario: The scenario.
        tracks: The tracks that they learn on.

    Raises:
        UserError: If a track is not symmetric and a learner would notice.
    """
    for agent, config in scenario.learners.items():
        if isinstance(config, OffPolicyConfig) and config.mirror:
            try:
                check_mirrored(scenario.env, tracks)
            except ValueError as error:
                raise UserError(f"learners.{agent}.mirror: {error}") from error


def replay_path(directory: Path, agent: str) -> Path:
    """Return the file of an agent's experience in a client's directory."""
    return directory / f"{agent}.replay"


def tensors_of(learners: Mapping[str, Learner]) -> dict[str, torch.Tensor]:
    """Return all tensors of learners, given by agent, as ``AGENT/...``."""
    return {
        f"{agent}/{name}": tensor
        for agent, learner in learners.items()
        for name, tensor in learner.tensors().items()
    }


def write_models(
    path: Path, learners: Mapping[str, Learner], scenario: Scenario, metadata: Mapping[str, str]
) -> None:
    """Write only the models of all learners, as policies that can be evaluated and driven.

    Args:
        path: The file; what is there is replaced.
        learners: Learners by agent.
        scenario: Scenario of the learners.
        metadata: What else the file says of itself.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    tensors = tensors_of(learners)
    models = {name: x for name, x in tensors.items() if TensorName.parse(name).kind == "model"}
    write_tensors(path, models, {**checkpoint_metadata(scenario), **metadata})


def initial_tensors(scenario: Scenario, *, read: bool = True) -> dict[str, torch.Tensor]:
    """Return the tensors that every client's learners start a federation from.

    Args:
        scenario: The scenario.
        read: Whether learners start from the files of their ``initial``; otherwise only names,
            shapes and types are those of the first round.

    Raises:
        UserError: If such a file cannot be read or does not fit.
    """
    seed = partial(stream, scenario.shared_seed, Use.MODEL)
    learners = make_learners(scenario, Race(scenario.env), seed)
    if read:
        load_initial(learners, scenario)
    return tensors_of(learners)
