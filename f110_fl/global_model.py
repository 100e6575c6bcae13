"""Greedy episodes of models that are not a client's own, such as a federation's global one."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from f110_fl.agents import make_learners
from f110_fl.collector import Finished
from f110_fl.evaluation import Evaluator, Recorder
from f110_fl.records import unprefixed
from f110_fl.scenario import Scenario
from f110_fl.seeding import Use, stream


class ModelEvaluator:
    """Learners that never learn: they hold the models that are evaluated.

    Args:
        scenario: Its ``evaluation.episodes`` are run, on their fixed seeds.
        evaluator: Where; None: in environments of its own.

    Attributes:
        learners: By agent.
        race: The environments.
    """

    def __init__(self, scenario: Scenario, evaluator: Evaluator | None = None) -> None:
        torch.set_num_threads(scenario.threads)
        self._evaluator = evaluator or Evaluator(scenario, scenario.evaluation.episodes)
        self.race = self._evaluator.race
        self.learners = make_learners(
            scenario, self.race, lambda index: stream(scenario.seed, Use.MODEL, index)
        )

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over the models among ``AGENT/...`` tensors; those that are missing stay.

        Raises:
            ValueError: If a name or shape is not the learner's.
        """
        for agent, learner in self.learners.items():
            own = unprefixed(agent, tensors)
            learner.load_tensors({k: v for k, v in own.items() if k.startswith("model/")})

    def run(self, recorder: Recorder | None = None) -> list[Finished]:
        """Run every episode once, greedily.

        Args:
            recorder: Keeps the trajectories.

        Returns:
            The episodes, in the order of their seeds.
        """
        policies = {agent: learner.policy for agent, learner in self.learners.items()}
        return self._evaluator.run(policies, recorder)
