"""The learners of a scenario's agents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from f110_fl.config.scenario import Scenario
from f110_fl.learners.base import Learner, LearnerSetup
from f110_fl.learners.device import Device, choose
from f110_fl.learners.factory import make_learner
from f110_fl.seeding import Use, stream
from f110_fl.tensors import prefixed
from sim.layout import COMMAND_SIZE
from sim.race import Race


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
    size, chosen = len(race.observation_low), choose(device)
    learners: dict[str, Learner] = {}
    for index, (agent, config) in enumerate(scenario.learners.items()):
        path = directory and replay_path(directory, agent)
        setup = LearnerSetup(size, COMMAND_SIZE, seed(index), race.num_envs, path, chosen)
        learners[agent] = make_learner(config, setup)
    return learners


def replay_path(directory: Path, agent: str) -> Path:
    """Return the file of an agent's experience in a client's directory."""
    return directory / f"{agent}.replay"


def initial_tensors(scenario: Scenario) -> dict[str, torch.Tensor]:
    """Return the tensors that every client's learners start a federation from."""
    race = Race(scenario.env)
    learners = make_learners(scenario, race, partial(stream, scenario.shared_seed, Use.MODEL))
    tensors: dict[str, torch.Tensor] = {}
    for agent, learner in learners.items():
        tensors |= prefixed(agent, learner.tensors())
    return tensors
