"""Policies that imitate scripted drivers, to start learning from: DAgger.

Ross, Gordon and Bagnell, "A reduction of imitation learning and structured prediction to no-regret
online learning", AISTATS 2011, algorithm 3.1: the policy drives, the teacher says what it would
have done, and the policy is fitted to all that was said so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.errors import UserError
from f110_fl.learners.device import use_threads
from f110_fl.seeding import Use, stream
from f110_fl.training.agents import make_learners
from f110_fl.training.checkpoint import load_initial, policy_format
from f110_fl.training.curriculum import Curriculum
from sim.drivers.base import Driver
from sim.drivers.factory import make_driver
from sim.episodes import NONE
from sim.layout import COMMAND_SIZE
from sim.physics.vehicle import action_scale
from sim.race import Race

if TYPE_CHECKING:
    from f110_fl.config.scenario import Scenario
    from f110_fl.learners.base import Learner
    from sim.config import DriverConfig
    from sim.policy import PolicyFormat

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """How much is driven and how it is fitted.

    Attributes:
        rounds: Rounds of driving, each followed by a fit.
        steps: Actions of each environment in a round.
        num_envs: Environments that are driven together.
        taught: Part of the episodes that the teacher drives, after the first round, which is all
            its own: the policy need not be able to get everywhere yet.
        noise: Standard deviation of what is added to all actions driven, in parts of half their
            range, so that what leads back is seen.
        batch: Rows of a gradient step.
        epochs: Passes over all rows after a round; `least` gradient steps at least.
        least: See `epochs`.
        last: Passes after the last round, in which the rate falls to a hundredth.
        rate: Adam's step size.
        delta: Errors beyond are counted by their size, not their square (Huber), in parts of half
            an action's range: of two ways round a car, one is learned, not their mean.
    """

    rounds: int = 30
    steps: int = 250
    num_envs: int = 64
    taught: float = 0.2
    noise: float = 0.05
    batch: int = 1024
    epochs: int = 3
    least: int = 1500
    last: int = 12
    rate: float = 1e-3
    delta: float = 0.1


class Progress(NamedTuple):
    """What came out of a round."""

    round: int  # from 1
    samples: int  # so far
    error: float  # mean absolute difference from the teacher's actions, over the round's rows
    episodes: int  # that the policy drove and that ended in the round
    crashed: int  # of these


def imitate(
    scenario: Scenario,
    agent: str,
    teacher: DriverConfig,
    plan: Plan = Plan(),
    *,
    seed: int = 0,
    threads: int = 1,
    told: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Learner]:
    """Fit an agent's policy to what a driver does in the scenario's episodes.

    Other agents act as they do before any training. Of a curriculum the first stage counts.

    Args:
        scenario: Its learners may start from files.
        agent: Which of them imitates.
        teacher: Whom; it may see all of the world.
        plan: How.
        seed: Of starts, noise and order; results depend on nothing else.
        threads: That drive; fits use as many as the scenario says.
        told: Called after each round.

    Returns:
        The learners by agent; of the one that imitates, the acting network is changed.

    Raises:
        UserError: If its policy cannot be fitted so, or the teacher cannot drive here.
    """
    form = _format(scenario, agent)
    use_threads(scenario.threads)
    race = Race(scenario.env, num_envs=plan.num_envs, num_threads=threads)
    if scenario.curriculum is not None:
        Curriculum(scenario.curriculum, scenario.env).apply(race)
    learners = make_learners(scenario, race, partial(stream, seed, Use.MODEL))
    load_initial(learners, scenario)
    car = race.agent_cars[race.agents.index(agent)]
    try:
        driver = make_driver(teacher, scenario.env, car, race.tracks, num_envs=plan.num_envs)
    except ValueError as wrong:
        raise UserError(f"{agent} cannot be taught by {teacher.kind}: {wrong}") from None
    school = _School(race, learners, agent, driver, plan, stream(seed, Use.IMITATION, 0))
    order = np.random.default_rng(stream(seed, Use.IMITATION, 1))
    student = _Student(learners[agent], form, plan, order)
    for number in range(1, plan.rounds + 1):
        before = school.count
        ended, crashed = school.drive(1.0 if number == 1 else plan.taught)
        seen, said = school.seen[: school.count], school.said[: school.count]
        student.fit(seen, said, last=number == plan.rounds)
        error = student.error(seen[before:], said[before:])
        told(Progress(number, school.count, error, ended, crashed))
    return learners


def _format(scenario: Scenario, agent: str) -> PolicyFormat:
    """Return how the agent's policy acts, if it can be fitted.

    Raises:
        UserError: If there is no such agent, or if it cannot.
    """
    if agent not in scenario.learners:
        allowed = ", ".join(scenario.learners) or "none"
        raise UserError(f"agent {agent!r}: allowed: an agent that learns: {allowed}")
    found = policy_format(agent, scenario)
    if found is None or found.encoder or found.memory or found.mean or found.output == "argmax":
        raise UserError(
            f"learners.{agent}: its policy cannot imitate; allowed: ppo, td3 or sac without "
            "encoder, lstm and normalise_observations"
        )
    vehicle = next(car.vehicle for car in scenario.env.cars if car.name == agent)
    if vehicle.control == "rates":
        raise UserError(f"{agent!r} has control: rates; allowed: targets, as scripted drivers have")
    return found


class _School:
    """Lets policy and teacher drive, and notes what was seen and what the teacher says to it.

    Args:
        race: The environments.
        learners: All agents'.
        agent: The one that is taught.
        teacher: Drives its car.
        plan: How much is driven.
        seed: Of starts, noise, and who drives.

    Attributes:
        seen: (samples, D) observations; the first `count` rows are filled.
        said: (samples, 2) the teacher's actions.
        count: See `seen`.
    """

    def __init__(
        self,
        race: Race,
        learners: Mapping[str, Learner],
        agent: str,
        teacher: Driver,
        plan: Plan,
        seed: np.random.SeedSequence,
    ) -> None:
        self._race, self._teacher, self._plan = race, teacher, plan
        self._row = race.agents.index(agent)
        self._car = race.agent_cars[self._row]
        self._policies = [learners[name].policy(race.num_envs) for name in race.agents]
        own, *starts = seed.spawn(1 + race.num_envs)
        self._rng = np.random.default_rng(own)
        self._commands = np.zeros((race.num_envs, len(race.config.cars), COMMAND_SIZE))
        steer, middle, half = action_scale(race.config.cars[self._car])
        self._middle, self._half = np.array([0.0, middle]), np.array([steer, half])
        self._taught = np.ones(race.num_envs, np.bool_)
        total = plan.rounds * plan.steps * race.num_envs
        self.seen = np.zeros((total, len(race.observation_low)), np.float32)
        self.said = np.zeros((total, COMMAND_SIZE), np.float32)
        self.count = 0
        for env, start in enumerate(starts):
            race.seed(env, start)
            race.next_episode(env)
            self._begin(env, 1.0)

    def _begin(self, env: int, taught: float) -> None:
        self._taught[env] = self._rng.random() < taught
        self._teacher.reset(env)
        for policy in self._policies:
            policy.reset(np.array([env]))

    def _says(self) -> Float:
        """Return the teacher's actions, (E, 2) in [-1, 1]."""
        world = self._race.world

        def work(first: int, last: int, _: int) -> None:
            self._teacher.command(world.arrays, self._commands, first, last)

        world.pool.run(work, self._race.num_envs)
        asked = (self._commands[:, self._car] - self._middle) / self._half
        actions: Float = np.clip(asked, -1.0, 1.0).astype(np.float32)
        return actions

    def drive(self, taught: float) -> tuple[int, int]:
        """Drive a round.

        Args:
            taught: Part of the episodes beginning in it that the teacher drives.

        Returns:
            How many of the policy's episodes ended, and in how many of them it crashed.
        """
        race, row, ended, crashed = self._race, self._row, 0, 0
        episodes, envs = race.episodes, np.arange(race.num_envs)
        for _ in range(self._plan.steps):
            said = self._says()
            running = episodes.outcome[:, row] == NONE  # others may drive on without it
            at = slice(self.count, self.count + int(running.sum()))
            self.seen[at] = episodes.observations[running, row]
            self.said[at] = said[running]
            self.count = at.stop
            actions = np.stack(
                [
                    policy.act(np.ascontiguousarray(episodes.observations[:, i]), envs)
                    for i, policy in enumerate(self._policies)
                ],
                axis=1,
            )
            actions[self._taught, row] = said[self._taught]
            noise = self._rng.standard_normal((race.num_envs, COMMAND_SIZE))
            actions[:, row] += (self._plan.noise * noise).astype(np.float32)
            race.step(actions)
            own = episodes.over & ~self._taught
            ended += int(own.sum())
            crashed += int((own & race.world.arrays.crashed[:, self._car]).sum())
            for env in race.autoreset().tolist():
                self._begin(env, taught)
        return ended, crashed


class _Student:
    """A learner's acting network, fitted by gradients.

    Args:
        learner: The learner.
        form: Which of its tensors act, and how.
        plan: How it is fitted.
        order: Draws the rows of each step.
    """

    def __init__(
        self, learner: Learner, form: PolicyFormat, plan: Plan, order: np.random.Generator
    ) -> None:
        self._learner, self._form, self._plan, self._order = learner, form, plan, order
        names = [name for pair in form.layers for name in pair]
        tensors = learner.tensors()
        self._parameters = {name: tensors[name].clone().requires_grad_() for name in names}
        self._adam = torch.optim.Adam(self._parameters.values(), plan.rate)

    def _act(self, seen: Tensor) -> Tensor:
        """Return the actions (B, 2) for observations (B, D)."""
        x = seen
        for layer, (weight, bias) in enumerate(self._form.layers, 1):
            x = F.linear(x, self._parameters[weight], self._parameters[bias])
            if layer < len(self._form.layers):
                x = x.tanh() if self._form.activation == "tanh" else x.relu()
        actions = x[:, :COMMAND_SIZE]
        return actions.tanh() if self._form.output == "tanh" else actions

    def fit(self, seen: Float, said: Float, *, last: bool) -> None:
        """Take gradient steps, and let the learner act so.

        Args:
            seen: (N, D) observations.
            said: (N, 2) the teacher's actions.
            last: Whether it is the last fit.
        """
        plan = self._plan
        passes = plan.last if last else plan.epochs
        steps = max(passes * len(seen) // plan.batch, plan.least)
        for step in range(steps):
            self._adam.param_groups[0]["lr"] = plan.rate * (1 - 0.99 * step / steps * last)
            rows = self._order.integers(0, len(seen), plan.batch)
            actions = self._act(torch.from_numpy(seen[rows]))
            loss = F.huber_loss(actions, torch.from_numpy(said[rows]), delta=plan.delta)
            self._adam.zero_grad()
            loss.backward()
            self._adam.step()
        values = {name: tensor.detach() for name, tensor in self._parameters.items()}
        self._learner.load_tensors(values)

    @torch.no_grad()
    def error(self, seen: Float, said: Float) -> float:
        """Return the mean absolute difference from the teacher, in half ranges of actions."""
        actions = self._act(torch.from_numpy(seen)).numpy()
        return float(np.abs(np.clip(actions, -1.0, 1.0) - said).mean())
