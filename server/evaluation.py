"""Evaluations of the global model, on the server and on clients, and their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flwr.app import ArrayRecord, MetricRecord

from f110_fl.config.scenario import Scenario
from f110_fl.federation.arrays import to_tensors
from f110_fl.federation.messages import metric_record
from f110_fl.files import append_line, complete_lines, write_atomic
from f110_fl.reporting import announce
from f110_fl.reporting.announce import Tell
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_metadata
from f110_fl.training.agents import write_models
from f110_fl.training.evaluation import ModelEvaluator
from f110_fl.training.metrics import improved, means, report, score


class GlobalEvaluation:
    """Writes ``evaluations.jsonl``, and ``best.safetensors`` from the server's evaluations.

    Both are written after the round's commit. After a crash in between, the server evaluates
    again when the run is resumed; the clients' results are then missing.

    Args:
        scenario: The run's scenario.
        rundir: The run's directory.
        completed: The last completed round, 0 for a new run.
        tell: Called with each new line.

    Attributes:
        last: The round that the run ends with before its time; None as long as it does not.
    """

    def __init__(self, scenario: Scenario, rundir: RunDir, completed: int, tell: Tell) -> None:
        self.scenario = scenario
        self.rundir = rundir
        self._tell = tell
        self.last: int | None = None
        self._evaluator: ModelEvaluator | None = None
        lines = [
            line
            for line in complete_lines(rundir.evaluations)
            if isinstance(line.get("round"), int) and line["round"] <= completed
        ]
        self._done = {line["round"] for line in lines if line.get("on") == "server"}
        if rundir.evaluations.exists():
            write_atomic(rundir.evaluations, "".join(json.dumps(x) + "\n" for x in lines))
        self._best: tuple[float, ...] = ()
        if rundir.best.exists():
            self._best = tuple(json.loads(read_metadata(rundir.best)["score"]))

    def due(self, number: int) -> bool:
        """Return whether the model is evaluated after this round; round 0 is its initialisation."""
        every = self.scenario.federated.evaluate_every
        return number % every == 0 or number in (self.scenario.rounds, self.last)

    def on_server(self, number: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate on the scenario's evaluation track, unless already done or not due."""
        if not self.due(number) or number in self._done:
            return None
        if self._evaluator is None:
            self._evaluator = ModelEvaluator(self.scenario)
        self._evaluator.load(to_tensors(arrays))
        episodes = self._evaluator.run()
        learners = self._evaluator.learners
        found = score(episodes, learners, self.scenario.evaluation.best)
        choice = improved(found, self._best)
        if choice.kept:
            self._best = choice.score
            metadata = {
                "round": str(number),
                "score": json.dumps(choice.score),
                "why": choice.why,
            }
            write_models(self.rundir.best, learners, self.scenario, metadata)
        values = means("evaluate", episodes, learners)
        cars = report(episodes, [car.name for car in self.scenario.env.cars])
        line = {"round": number, "on": "server", "metrics": values, "cars": cars}
        self._record(line | {"best": {"kept": choice.kept, "why": choice.why}})
        return metric_record(values)

    def on_clients(
        self,
        number: int,
        averaged: Mapping[str, Any],
        by_client: Mapping[int, Mapping[str, Any]],
        dropped: Mapping[int, str],
    ) -> None:
        """Record the clients' metrics, their means, and the reasons why replies were dropped."""
        self._record(
            {
                "round": number,
                "on": "clients",
                "metrics": dict(averaged),
                "by_client": {f"{k:02d}": dict(v) for k, v in by_client.items()},
                "dropped": {str(k): v for k, v in dropped.items()},
            }
        )

    def _record(self, values: dict[str, Any]) -> None:
        append_line(self.rundir.evaluations, json.dumps(values))
        self._tell(announce.EVALUATION, values)
