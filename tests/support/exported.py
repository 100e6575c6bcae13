"""Policies with random weights, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from small import merge

from f110_fl.config.scenario import Scenario
from f110_fl.exporting.bundle import Exported, write_bundle
from f110_fl.exporting.drives import drive
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.training.agents import write_models
from f110_fl.training.evaluation import Evaluator, ModelEvaluator

LAP: dict[str, Any] = {
    "name": "lap",
    "env": {
        "track": {"kind": "oval", "straight": 6.0, "radius": 3.0},
        "physics_steps_per_action": 5,
        "max_steps": 60,
        "lidar": {"beams": 19, "max_range": 10.0, "noise_std": 0.0},
        "spawn": {"kind": "random"},
        "observation": ["motion", "lidar"],
        "cars": [
            {
                "name": "car_0",
                "vehicle": {"speed_min": -2.0, "speed_max": 4.0},
                "reverse": False,
                "task": {"kind": "solo_lap"},
            }
        ],
    },
    "learners": {"car_0": {"algorithm": "td3", "hidden": [16, 12]}},
    "evaluation": {"episodes": 3},
    "federated": {"enabled": False},
}


def lap_scenario(learner: dict[str, Any], **env: Any) -> Scenario:
    """Returns a scenario of one car that learns, with changes."""
    changed = merge(LAP, {"env": env}) | {"learners": {"car_0": learner}}
    return Scenario.model_validate(changed)


class Export:
    """A learner with random weights, and its exported policy.

    Attributes:
        run: Directory of a run that it is of, with its checkpoint, ``best.safetensors``.
        directory: Of the exported policy.
    """

    def __init__(
        self, root: Path, scenario: Scenario, *, single: bool = False, seed: int = 1
    ) -> None:
        self.scenario = scenario
        self.run, self.directory = root / "run", root / "exported"
        self.run.mkdir(parents=True)
        self.episodes = Evaluator(scenario, scenario.evaluation.episodes)
        self.evaluator = ModelEvaluator(scenario, self.episodes)
        learner = self.evaluator.learners["car_0"]
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in learner.tensors().items():
                if name.startswith(("model/actor/", "model/q/")):
                    tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        checkpoint = self.run / "best.safetensors"
        write_models(checkpoint, self.evaluator.learners, scenario, {})
        (self.run / "config.json").write_text(dump_scenario(scenario))
        self.policy = Exported(scenario, "car_0", learner, self.evaluator.race, checkpoint)
        driven = drive(self.evaluator, self.episodes, "car_0")
        write_bundle(self.policy, self.directory, driven.seen, single=single)
