"""Models of any checkpoint that this project writes, loaded into learners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.tensors import TensorName, owned, read_metadata, read_tensors

if TYPE_CHECKING:  # torch takes a second to import
    import torch

    from f110_fl.learners.base import Learner
    from sim.policy import PolicyFormat

_TARGET: Final = "_target"  # at the end of a target network's name


def load_checkpoint(learners: Mapping[str, Learner], scenario: Scenario, path: Path) -> None:
    """Load all learners' models from a checkpoint of any kind that this project writes.

    Args:
        learners: By agent.
        scenario: Their scenario.
        path: The file.

    Raises:
        UserError: If it cannot be read or the models do not fit; the message names what differs.
    """
    tensors, metadata = read_tensors(path), read_metadata(path)
    for agent, learner in learners.items():
        load_models(learner, agent, tensors, path)
        check_format(agent, scenario, metadata, path)


def load_models(
    learner: Learner, agent: str, tensors: Mapping[str, torch.Tensor], path: Path
) -> None:
    """Load an agent's models from a checkpoint of any kind that this project writes.

    What only learning needs (critics, targets, moments) may be missing, as it is from a global
    model of a federation that shares its actors.

    Raises:
        UserError: If the checkpoint has no model of the agent, or that of another learner.
    """
    own = owned(tensors, agent, "model")
    if not own:
        agents = sorted({TensorName.parse(name).agent for name in tensors})
        raise UserError(f"{path}: no model of {agent!r}; found: {', '.join(agents) or 'nothing'}")
    acting = learner.config.acting | {"normaliser"}
    parsed = map(TensorName.of_learner, learner.tensors())
    needed = {str(name) for name in parsed if name.kind == "model" and name.network in acting}
    missing = sorted(needed - own.keys())
    if missing:
        networks = sorted({TensorName.of_learner(name).network for name in own})
        raise UserError(
            f"{path}: the model of {agent!r} lacks {missing[0]!r} of the scenario's learner; "
            f"it has networks {', '.join(networks)}"
        )
    try:
        learner.load_tensors(own)
    except ValueError as error:
        raise UserError(
            f"{path}: another model of {agent!r} than the scenario's: {error}"
        ) from None


def load_initial(
    learners: Mapping[str, Learner], scenario: Scenario, agents: Iterable[str] | None = None
) -> None:
    """Load the models that the scenario's learners start from into new learners.

    What a file lacks (critics) stays as it was made; a target network that it lacks is a copy of
    the loaded network. Of a policy that sees less than the learner (see `_sees_less`) the acting
    network is loaded, with weights of 0 for what is new: it acts as it did.

    Args:
        learners: By agent.
        scenario: Their scenario; learners without ``initial`` are left alone.
        agents: Whose models are loaded; None: all agents'.

    Raises:
        UserError: If a file cannot be read or does not fit; the message names what differs.
    """
    for agent in learners if agents is None else agents:
        name = scenario.learners[agent].initial
        if name is None:
            continue
        path = Path(name)
        try:
            tensors, metadata = read_tensors(path), read_metadata(path)
            if less := _sees_less(agent, scenario, metadata):
                tensors, metadata = _widened(agent, scenario, tensors, *less), {}
            load_models(learners[agent], agent, tensors, path)
            check_format(agent, scenario, metadata, path)
        except UserError as error:
            raise UserError(f"learners.{agent}.initial: {error}") from None
        own = owned(tensors, agent, "model")
        learners[agent].load_tensors(_targets(learners[agent], own))


def _sees_less(
    agent: str, scenario: Scenario, metadata: Mapping[str, str]
) -> tuple[str, int] | None:
    """Say whether a policy's observation is the first parts of the learner's, but not all of it.

    All else must be alike, and nothing may stand before the first layer: what normalises or
    encodes an observation cannot be told what it has not seen.

    Returns:
        The tensor of its first weights, after ``AGENT/``, and how many more inputs the learner has.
    """
    from sim.policy import PolicyError, policy_formats

    needed = policy_format(agent, scenario)
    try:
        found = policy_formats(metadata).get(agent)
    except PolicyError:
        return None
    if needed is None or found is None or needed.mean or needed.encoder or needed.memory:
        return None
    count = len(found.observation)
    alike = found == needed.model_copy(update={"observation": needed.observation[:count]})
    more = sum(size for _, size in needed.observation[count:])
    return (found.layers[0][0], more) if count and alike and more else None


def _widened(
    agent: str, scenario: Scenario, tensors: Mapping[str, torch.Tensor], first: str, more: int
) -> dict[str, torch.Tensor]:
    """Return an acting network's tensors, with weights of 0 for ``more`` inputs."""
    from torch.nn.functional import pad

    acting = scenario.learners[agent].acting
    found = {n: t for n, t in tensors.items() if TensorName.parse(n).network in acting}
    weights = f"{agent}/{first}"
    if weights in found:  # else what loads them says that they are missing
        found[weights] = pad(found[weights], (0, more))  # they are (outputs, inputs)
    return found


def started_on_clients(scenario: Scenario) -> list[str]:
    """Return the agents whose first acting models no server sends, or not whole.

    Their ``initial`` is read by each client; that of the others by the server alone.
    """
    federated = scenario.federated
    if not federated.enabled or federated.share == "all_but_head":
        return list(scenario.learners)
    return [
        agent
        for agent, config in scenario.learners.items()
        if agent not in scenario.federated_agents
        or (config.normalise_observations and federated.share != "all")
    ]


def _targets(learner: Learner, loaded: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the parameters of target networks that were not loaded, but their networks' were."""
    found = {}
    for text in learner.tensors():
        name = TensorName.of_learner(text)
        if name.kind == "model" and name.network.endswith(_TARGET) and text not in loaded:
            source = str(replace(name, network=name.network.removesuffix(_TARGET)))
            if source in loaded:
                found[text] = loaded[source]
    return found


def check_format(agent: str, scenario: Scenario, metadata: Mapping[str, str], path: Path) -> None:
    """Refuse a policy whose numbers fit, but mean something else than in the scenario.

    Its metadata say what it observes, in which order, and how its layers are joined; a file that
    does not say so passes.

    Args:
        agent: The agent.
        scenario: The scenario that its policy is to act in.
        metadata: The file's.
        path: The file, for messages.

    Raises:
        UserError: For the first entry of the format that differs.
    """
    from sim.policy import PolicyError, policy_formats

    try:
        found = policy_formats(metadata).get(agent)
    except PolicyError:
        return  # such as what clients send: no policy is promised
    needed = policy_format(agent, scenario)
    if found is None or needed is None:
        return
    for name, value in needed:
        other = getattr(found, name)
        if other != value and (name != "observation" or other):
            raise UserError(
                f"{path}: another model of {agent!r} than the scenario's: its {name}: "
                f"{_told(other)}; the scenario's: {_told(value)}"
            )


def policy_format(agent: str, scenario: Scenario) -> PolicyFormat | None:
    """Return how a learner's tensors make up its policy; None if no format can describe it."""
    from f110_fl.learners.factory import learner_class
    from sim.observation import observation_parts

    config = scenario.learners[agent]
    return learner_class(config).policy_format(config, observation_parts(scenario.env))


def checkpoint_metadata(scenario: Scenario) -> dict[str, str]:
    """Return the metadata that make a file of all learners' tensors one of policies.

    Agents whose policy no format describes, with an encoder of another package, are left out.
    """
    from sim.policy import policy_metadata

    forms = {agent: policy_format(agent, scenario) for agent in scenario.learners}
    return policy_metadata({agent: form for agent, form in forms.items() if form is not None})


def _told(value: object) -> str:
    """Return an entry of a format in words: ``lidar 54, motion 3``."""
    if isinstance(value, tuple):
        return ", ".join(" ".join(map(str, entry)) for entry in value) or "none"
    return str(value)
