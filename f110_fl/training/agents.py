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
from sim.observation import observation_parts
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
        scenario: Whose learners.
        race: The environments that they collect from.
        seed: Of the learner with a given index.
        directory: Where their experience survives a restart; None: in memory only.
        device: Where they learn.

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
            replay_path=directory and directory / f"{agent}.replay",
            device=chosen,
            observation=observation_parts(scenario.env),
        )
        learners[agent] = make_learner(config, setup)
    return learners


def initial_tensors(scenario: Scenario) -> dict[str, torch.Tensor]:
    """Return the tensors that every client's learners start a federation from."""
    race = Race(scenario.env)
    learners = make_learners(scenario, race, partial(stream, scenario.shared_seed, Use.MODEL))
    tensors: dict[str, torch.Tensor] = {}
    for agent, learner in learners.items():
        tensors |= prefixed(agent, learner.tensors())
    return tensors
