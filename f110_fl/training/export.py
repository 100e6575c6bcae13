"""Trained policies in the simulator's own format, in which scripted cars can drive them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from f110_fl.config.learners import DQNConfig, LearnerConfig, PPOConfig, SACConfig, TD3Config
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import Learner
from f110_fl.learners.normaliser import BOUND
from f110_fl.tensors import TensorName, write_tensors
from sim.config import EnvConfig
from sim.observation import observation_parts
from sim.policy import Policy, PolicyFormat, make_policy, policy_metadata


def policy_format(config: LearnerConfig, env: EnvConfig) -> PolicyFormat:
    """Tell which of a learner's tensors act without exploration, and how.

    Args:
        config: The learner's hyperparameters.
        env: The environment that it observes.

    Returns:
        The format, which names tensors as `Learner.tensors` does.

    Raises:
        UserError: If the policy remembers: the format has layers only.
    """
    if not _exportable(config):
        raise UserError("a policy with lstm cannot be exported; allowed: learners without memory")
    network, hidden = "actor", tuple[int, ...]()
    how: dict[str, Any] = {"activation": "relu", "output": "tanh"}
    match config:
        case TD3Config() | SACConfig():  # of SAC's outputs the means come first
            hidden = config.hidden
        case PPOConfig():
            hidden = config.actor_hidden
            how |= {"activation": config.activation, "output": "clip"}
        case DQNConfig():
            network, hidden = "q", config.hidden
            actions = list(product(config.actions.steering, config.actions.speed))
            how |= {"output": "argmax", "actions": actions, "duelling": config.duelling}
    if config.normalise_observations:
        moments = {part: f"model/normaliser/{part}" for part in ("mean", "variance")}
        how |= {**moments, "limit": BOUND}
    name = f"model/{network}"
    layers = [(f"{name}/weights.{i}", f"{name}/biases.{i}") for i in range(len(hidden) + 1)]
    return PolicyFormat.model_validate(
        {"layers": layers, "observation": observation_parts(env), **how}
    )


def export_policy(learner: Learner, config: LearnerConfig, env: EnvConfig) -> Policy:
    """Return a copy of a learner's policy as it is now; `sim.policy.save_policy` writes it.

    Args:
        learner: The learner.
        config: Its hyperparameters.
        env: The environment that it observes.
    """
    form, tensors = policy_format(config, env), learner.tensors()
    return make_policy(form, {name: tensors[name].cpu().numpy() for name in form.names})


def checkpoint_metadata(scenario: Scenario) -> dict[str, str]:
    """Return the metadata with which a file of all learners' tensors is one of policies.

    Agents whose policy remembers are left out.
    """
    forms = {
        agent: policy_format(config, scenario.env)
        for agent, config in scenario.learners.items()
        if _exportable(config)
    }
    return policy_metadata(forms)


def write_models(
    path: Path, learners: Mapping[str, Learner], scenario: Scenario, metadata: Mapping[str, str]
) -> None:
    """Write the models alone of all learners, as policies that can be evaluated and driven.

    Args:
        path: The file; what is there is replaced.
        learners: By agent.
        scenario: Theirs.
        metadata: What else the file says of itself.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    models = {
        f"{agent}/{name}": tensor
        for agent, learner in learners.items()
        for name, tensor in learner.tensors().items()
        if TensorName.of_learner(name).kind == "model"
    }
    write_tensors(path, models, {**checkpoint_metadata(scenario), **metadata})


def _exportable(config: LearnerConfig) -> bool:
    return not (isinstance(config, PPOConfig) and config.lstm)
