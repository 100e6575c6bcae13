"""Trained policies in the simulator's own format, in which scripted cars can drive them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import Learner
from f110_fl.learners.factory import learner_class
from f110_fl.tensors import TensorName, write_tensors
from sim.config import EnvConfig
from sim.observation import observation_parts
from sim.policy import Policy, make_policy, policy_metadata


def export_policy(learner: Learner, env: EnvConfig) -> Policy:
    """Return a copy of a learner's policy as it is now; `sim.policy.save_policy` writes it.

    Args:
        learner: The learner.
        env: The environment that it observes.

    Raises:
        UserError: If the format of policies cannot say what it does.
    """
    form = learner.policy_format(learner.config, observation_parts(env))
    if form is None:
        raise UserError(
            f"a policy of {type(learner).__name__} with these settings cannot be exported; "
            "allowed: learners without lstm and encoder"
        )
    tensors = learner.tensors()
    return make_policy(form, {name: tensors[name].numpy() for name in form.names})


def checkpoint_metadata(scenario: Scenario) -> dict[str, str]:
    """Return the metadata with which a file of all learners' tensors is one of policies.

    Agents whose policy the format cannot say, as one with a memory or an encoder, are left out.
    """
    observation = observation_parts(scenario.env)
    forms = {
        agent: learner_class(config).policy_format(config, observation)
        for agent, config in scenario.learners.items()
    }
    return policy_metadata({agent: form for agent, form in forms.items() if form is not None})


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
