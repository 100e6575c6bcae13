"""Named values of a run's events: what W&B and TensorBoard chart, under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.events import EpisodeEvent, EvaluationEvent, Event, RoundEvent
from f110_fl.tensors import prefixed
from f110_fl.training.metrics import episode_values, means, metric_name, report
from f110_fl.training.records import EpisodeRecord

SPENT: Final = ("epsilon", "delta")  # of a privacy account
SERVER: Final = "server"  # role of what concerns the whole federation


@dataclass(frozen=True)
class Point:
    """The values of one event.

    Attributes:
        role: Whose they are: ``server``, ``client_00``, ...
        axis: Name of the value that they are charted over.
        values: By name, the axis among them.
    """

    role: str
    axis: Literal["env_steps", "round"]
    values: dict[str, float]


def client_role(client_id: int) -> str:
    """Return the role of a client."""
    return f"client_{client_id:02d}"


class Charts:
    """Turns a run's events, in their order, into points.

    Training episodes are points of their own; the episodes of a client's evaluation are one
    together, with rates and their intervals, when the last of them is there.

    Args:
        scenario: The run's scenario.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._evaluations: dict[int, list[EpisodeRecord]] = {}  # so far, by client
        self._lengths: dict[int, int] = {}  # episodes of an evaluation, by client

    def point(self, event: Event) -> Point | None:
        """Return an event's values; None if they come with a later event."""
        if isinstance(event, RoundEvent):
            return Point(SERVER, "round", _round_values(event.summary))
        if isinstance(event, EvaluationEvent):
            return Point(SERVER, "round", _evaluation_values(event.found))
        values = self._episode_values(event)
        return None if values is None else Point(client_role(event.client_id), "env_steps", values)

    def _episode_values(self, event: EpisodeEvent) -> dict[str, float] | None:
        client_id, record, result = event.client_id, event.record, event.record.result
        evaluation = self._evaluations.setdefault(client_id, [])
        values: dict[str, float] = {
            "episode": record.episode,
            "env_steps": record.env_steps,
            "round": record.round,
        }
        if record.kind == "train":
            evaluation.clear()  # one that a crash cut short, if any
            speed = result.steps / max(result.seconds, 1e-9)
            values |= {"train/steps": float(result.steps), "train/steps_per_s": speed}
            return values | episode_values(record) | record.losses
        evaluation.append(record)
        if client_id not in self._lengths:
            self._lengths[client_id] = self._scenario.for_client(client_id).evaluation.episodes
        if len(evaluation) < self._lengths[client_id]:
            return None
        episodes = [entry.result for entry in evaluation]
        evaluation.clear()
        found = report(episodes, result.outcomes)
        return values | means("evaluate", episodes, result.returns) | report_values(found)


def report_values(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the values in an evaluation's report (`metrics.report`), by car.

    They are the rate of every outcome, that of success with its 95 % interval, the spread of the
    return, and lap times in s.
    """
    values: dict[str, float] = {}
    for car, entry in found.items():
        own: dict[str, float] = {
            f"outcome/{name}": rate["rate"] for name, rate in entry["outcomes"].items()
        }
        if "return" in entry:  # the car has a task, and can succeed
            success = entry["outcomes"]["success"]
            own |= {"success-rate": success["rate"]}
            own |= {f"success-rate-{end}": success[end] for end in ("low", "high")}
            own |= {"return": entry["return"]["mean"], "return-sd": entry["return"]["sd"]}
        if "lap_time" in entry:
            own["lap-time"] = entry["lap_time"]["mean"]
            own["lap-time-best"] = entry["lap_time"]["best"]
        values |= {metric_name("evaluate", car, name): value for name, value in own.items()}
    return values


def _round_values(summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        "round": summary["round"],
        "seconds": summary["seconds"],
        "clients": len(summary["clients"]),
        "dropped": len(summary["dropped"]),
        **prefixed("privacy", {k: v for k, v in summary.get("privacy", {}).items() if k in SPENT}),
        **summary["metrics"],
    }


def _evaluation_values(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of an evaluation of the global model, named by where it took place."""
    values = {**found["metrics"], **report_values(found.get("cars", {}))}
    if "dropped" in found:
        values["dropped"] = len(found["dropped"])
    return {"round": found["round"], **prefixed(found["on"], values)}
