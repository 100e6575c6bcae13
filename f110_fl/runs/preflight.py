"""Checks before any file of a run is written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from f110_fl.config.learners import OffPolicyConfig, PPOConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.federation import accounting
from f110_fl.reporting.tensorboard import check_installed
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import check_unused
from f110_fl.runs.plan import REPORT, RunPlan
from f110_fl.runs.startup import KERNEL_CACHE


def check(plan: RunPlan) -> None:
    """Check the run's directory, device, environments, what it starts from and is recorded with.

    Raises:
        UserError: If the directory is used, the device, TensorBoard, the account of privacy, an
            encoder, a mirror or an environment is not available, or a policy to start from does
            not fit.
    """
    if plan.hosts and not plan.resumed and "{time}" not in plan.scenario.federated.root:
        check_unused(plan.rundir.root, *([REPORT] if plan.mode == "eval" else []))
    if plan.tensorboard:
        check_installed()
    if plan.mode == "train":
        check_device(plan.scenario)
    if plan.mode == "train":
        check_privacy(plan.scenario)
    check_encoders(plan.scenario)
    check_environment(plan.scenario, training=plan.mode == "train")
    check_opponents(plan.scenario)
    if plan.mode == "train":
        check_mirrors(plan.scenario)
        check_initial(plan.scenario, plan.rundir)


def check_environment(
    scenario: Scenario, checked: set[str] | None = None, *, training: bool = True
) -> None:
    """Build every environment of a scenario once, and step one.

    This reports what only the simulator can find (an invalid map, a spawn inside a wall) before
    anything is written, and compiles the kernels once instead of in every child.

    Args:
        scenario: The scenario.
        checked: Environments, as JSON, that are not built again; those built are added.
        training: Whether those of training are needed, too.

    Raises:
        UserError: If an environment cannot be built.
    """
    import numpy as np

    os.environ.update(KERNEL_CACHE)  # for the children, too
    from f110_fl.runs.kernels.compiling import compiling_told
    from sim.layout import COMMAND_SIZE
    from sim.race import Race

    checked = set() if checked is None else checked
    clients = range(scenario.federated.clients) if scenario.federated.vary else ()
    first = scenario.env if training else scenario.evaluation_env
    for own in (scenario, *map(scenario.for_client, clients)):
        for env in (*([own.env] if training else []), own.evaluation_env):
            text = env.model_dump_json()
            if text in checked:
                continue
            try:
                with _told(), compiling_told():
                    race = Race(env)
            except ValueError as error:
                raise UserError(str(error)) from error
            if env == first:
                with compiling_told():
                    race.reset(0, 0)
                    race.step(np.zeros((1, len(race.agents), COMMAND_SIZE), np.float32))
            checked.add(text)


def warnings(scenario: Scenario) -> list[str]:
    """Return what a run should be told of before it starts, a line each."""
    return futile(scenario) + curtailed(scenario)


def curtailed(scenario: Scenario) -> list[str]:
    """Return a line if a client's privacy budget allows fewer rounds than the run has."""
    federated = scenario.federated
    privacy = federated.privacy
    if not federated.enabled or privacy is None or privacy.budget is None:
        return []
    rounds = accounting.affordable(privacy, scenario.rounds)
    if rounds == scenario.rounds:
        return []
    then = "then it ends" if privacy.at_budget == "stop" else "then it is exceeded"
    return [
        f"federated.privacy.budget {privacy.budget:g} at delta {privacy.delta:g} is enough for "
        f"{rounds} of the run's {scenario.rounds} rounds, if a client is asked in all; {then}"
    ]


def futile(scenario: Scenario) -> list[str]:
    """Return a line for each learner whose settings let it do no update in the whole run.

    Episodes may end before ``env.max_steps``: a learner that is not named here may still do none.
    """
    envs = min(scenario.collect.num_envs, scenario.collect.prefetch or scenario.collect.num_envs)
    clients = range(scenario.federated.clients) if scenario.federated.vary else (0,)
    longest = max(scenario.for_client(client).env.max_steps for client in clients)
    steps = scenario.episodes * longest
    # Graham (1966): how long a list of jobs keeps some of ``envs`` machines busy, at most.
    calls = max(scenario.rounds, -(-scenario.episodes // scenario.checkpoint_every))
    rows = (steps + (envs - 1) * longest * calls) // envs
    episodes = f"{scenario.episodes} episodes of at most {longest} steps"
    lines = []
    for agent, config in scenario.learners.items():
        key = f"learners.{agent}"
        if (
            isinstance(config, OffPolicyConfig)
            and steps < config.warmup_steps + config.update_every
        ):
            lines.append(
                f"{agent} will not learn: {key}.warmup_steps {config.warmup_steps} and "
                f"update_every {config.update_every} are not reached by {episodes}"
            )
        if isinstance(config, PPOConfig) and rows < config.rollout_steps:
            lines.append(
                f"{agent} will not learn: {key}.rollout_steps {config.rollout_steps} are not "
                f"reached by {episodes}, {envs} at a time"
            )
    return lines


@contextmanager
def _told() -> Iterator[None]:
    """Print what the simulator tells about how it reads maps and lines."""
    logger = logging.getLogger("sim.tracks")
    handler, level = logging.StreamHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def check_privacy(scenario: Scenario) -> None:
    """Check that privacy can be accounted for, and that its budget allows a round.

    Raises:
        UserError: If there is no accountant, or one round costs more than the budget.
    """
    privacy = scenario.federated.privacy
    if privacy is None or not scenario.federated.enabled:
        return
    accounting.check_installed()
    if accounting.ends(privacy, None):
        cost = accounting.epsilon(privacy.accounted_multiplier, privacy.delta, 1)
        raise UserError(
            f"federated.privacy.budget {privacy.budget:g}: one round costs epsilon {cost:.3g} at "
            f"delta {privacy.delta:g}; allowed: more budget, or more noise"
        )


def check_device(scenario: Scenario) -> None:
    """Check that this machine has the device that the learners need.

    Raises:
        UserError: If it is not available.
    """
    if scenario.device == "cuda":  # PyTorch takes a second to import
        from f110_fl.learners.device import choose

        choose(scenario.device)


def check_encoders(scenario: Scenario) -> None:
    """Build the learners' encoders once: settings do not tell what they need to observe.

    Raises:
        UserError: If one cannot be built.
        PluginError: If another package's cannot be imported.
    """
    for agent, config in scenario.learners.items():
        if not isinstance(config, OffPolicyConfig) or config.encoder is None:
            continue
        import torch  # it takes a second

        from f110_fl.learners.networks.encoder import make_encoder
        from sim.observation import observation_parts

        try:
            make_encoder(config.encoder, observation_parts(scenario.env), torch.Generator())
        except UserError as error:
            raise UserError(f"learners.{agent}: {error}") from error


def check_opponents(scenario: Scenario) -> None:
    """Check that earlier selves can be kept of the learners that others are to meet.

    And that a league's entries, if one meets these, fit.

    Raises:
        UserError: If a learner's policy is of a kind that cannot, or an entry does not fit.
    """
    if any(config.opponents for config in scenario.learners.values()):
        from f110_fl.training import opponents  # PyTorch takes a second to import

        opponents.check_opponents(scenario)
    if scenario.league_opponents is not None:
        from f110_fl.training import league_opponents

        league_opponents.check_league(scenario)


def check_mirrors(scenario: Scenario) -> None:
    """Check that learners may mirror what happens on every client's tracks, if they want to.

    Raises:
        UserError: If a track is not symmetric and a learner would notice.
    """
    if not any(isinstance(c, OffPolicyConfig) and c.mirror for c in scenario.learners.values()):
        return
    from f110_fl.training import agents  # PyTorch takes a second to import
    from sim.tracks.factory import make_tracks

    clients = range(scenario.federated.clients) if scenario.federated.vary else ()
    for own in (scenario, *map(scenario.for_client, clients)):
        agents.check_mirrors(scenario, make_tracks(own.env.track))


def check_initial(scenario: Scenario, rundir: RunDir) -> None:
    """Load the policies that learners start from once, unless a run has started from them.

    Args:
        scenario: The scenario.
        rundir: The run's directory, which need not exist. What is saved in it wins over the files,
            which may then be gone.

    Raises:
        UserError: If a file cannot be read or does not fit.
    """
    if all(config.initial is None for config in scenario.learners.values()):
        return
    clients = range(scenario.federated.clients)
    saved = [rundir.server] if scenario.federated.enabled else map(rundir.state, clients)
    if not all(path.exists() for path in saved):
        from f110_fl.training.agents import initial_tensors  # PyTorch takes a second to import

        initial_tensors(scenario)
