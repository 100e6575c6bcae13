"""Trained policies in the simulator's own format, with which scripted cars drive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from f110_fl.config.scenario import Scenario
from f110_fl.learners.base import Learner
from f110_fl.tensors import TensorName, write_tensors
from f110_fl.training.agents import tensors_of
from f110_fl.training.checkpoint import policy_format
from sim.policy import policy_metadata


def checkpoint_metadata(scenario: Scenario) -> dict[str, str]:
    """Return the metadata that make a file of all learners' tensors one of policies.

    Agents whose policy no format describes, with an encoder of another package, are left out.
    """
    forms = {agent: policy_format(agent, scenario) for agent in scenario.learners}
    return policy_metadata({agent: form for agent, form in forms.items() if form is not None})


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
