"""The named values of a run's events, which W&B and TensorBoard chart."""

from __future__ import annotations

from typing import Any

import pytest
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.reporting.events import EpisodeEvent, EvaluationEvent, RoundEvent
from f110_fl.reporting.values import Charts, Point
from f110_fl.training.metrics import means, report
from f110_fl.training.records import EpisodeKind, EpisodeRecord, EpisodeResult


def charts(**changes: Any) -> Charts:
    return Charts(Scenario.model_validate(merge(SMALL, changes)))


def result(value: float, outcome: str, *laps: float) -> EpisodeResult:
    outcomes = {"car_0": outcome, "car_1": "finished"}
    return EpisodeResult(40, 0.5, {"car_0": value}, outcomes, {"car_0": list(laps), "car_1": [4.0]})


def event(
    kind: EpisodeKind, client: int, of: EpisodeResult, number: int = 3, **changes: Any
) -> EpisodeEvent:
    return EpisodeEvent(client, EpisodeRecord(kind, 2, number, 120, of, **changes))


EPISODES = [result(1.0, "success", 5.0, 6.0), result(2.0, "crash"), result(6.0, "success", 7.0)]


def test_a_training_episode_is_a_point() -> None:
    losses = {"car_0/critic_loss": 0.25}
    point = charts().point(event("train", 1, EPISODES[0], losses=losses))
    assert point == Point(
        "client_01",
        "env_steps",
        {
            "episode": 3,
            "env_steps": 120,
            "round": 2,
            "train/steps": 40.0,
            "train/steps_per_s": 80.0,
            "train/car_0/return": 1.0,
            "train/car_0/success": 1.0,
            "train/car_0/crash": 0.0,
            "train/car_0/laps": 2.0,
            "car_0/critic_loss": 0.25,
        },
    )


def test_an_evaluation_is_one_point_with_rates_and_their_intervals() -> None:
    chosen = charts(evaluation={"episodes": 3})
    points = [chosen.point(event("evaluate", 0, episode)) for episode in EPISODES]
    assert points[:2] == [None, None]
    assert points[2] is not None
    assert (points[2].role, points[2].axis) == ("client_00", "env_steps")
    values = points[2].values
    low, high = wilson_interval(2, 3)
    expected = {
        "env_steps": 120,
        "evaluate/episodes": 3.0,
        "evaluate/car_0/return": 3.0,
        "evaluate/car_0/return-sd": pytest.approx(14**0.5 / 3**0.5),
        "evaluate/car_0/success-rate": pytest.approx(2 / 3),
        "evaluate/car_0/success-rate-low": low,
        "evaluate/car_0/success-rate-high": high,
        "evaluate/car_0/crash-rate": pytest.approx(1 / 3),
        "evaluate/car_0/laps": 1.0,
        "evaluate/car_0/outcome/success": pytest.approx(2 / 3),
        "evaluate/car_0/outcome/crash": pytest.approx(1 / 3),
        "evaluate/car_0/outcome/finished": 0.0,
        "evaluate/car_0/lap-time": 6.0,
        "evaluate/car_0/lap-time-best": 5.0,
        "evaluate/car_1/outcome/finished": 1.0,
        "evaluate/car_1/lap-time": 4.0,
    }
    assert {name: values[name] for name in expected} == expected
    assert "evaluate/car_1/success-rate" not in values  # it has no task


def test_evaluations_of_clients_are_told_apart_and_those_that_were_cut_short_left_out() -> None:
    chosen = charts(evaluation={"episodes": 2})
    assert chosen.point(event("evaluate", 0, EPISODES[0])) is None
    assert chosen.point(event("evaluate", 1, EPISODES[1])) is None
    chosen.point(event("train", 0, EPISODES[0], number=3))  # the episode is trained again
    assert chosen.point(event("evaluate", 0, EPISODES[2])) is None
    first, second = (chosen.point(event("evaluate", k, EPISODES[2])) for k in (0, 1))
    assert first is not None
    assert second is not None
    assert first.values["evaluate/car_0/return"] == 6.0
    assert second.values["evaluate/car_0/return"] == 4.0


def test_clients_may_evaluate_differently_often() -> None:
    chosen = charts(evaluation={"episodes": 1}, federated={"vary": {"evaluation.episodes": [1, 2]}})
    found = [chosen.point(event("evaluate", k, EPISODES[0])) for k in (0, 1, 1)]
    assert [point is not None for point in found] == [True, False, True]


def test_rounds_and_evaluations_of_the_global_model() -> None:
    summary = {"round": 4, "rounds": 9, "seconds": 1.5, "clients": [0, 2], "asked": [0, 1, 2]}
    summary |= {"dropped": {"1": "no answer in time"}, "metrics": {"train/car_0/return": 2.0}}
    values = {"round": 4, "seconds": 1.5, "clients": 2, "dropped": 1, "train/car_0/return": 2.0}
    assert charts().point(RoundEvent(summary)) == Point("server", "round", values)

    metrics = means("evaluate", EPISODES, ["car_0"])
    on_server = {"round": 4, "on": "server", "metrics": metrics}
    on_server["cars"] = report(EPISODES, ["car_0", "car_1"])
    point = charts().point(EvaluationEvent(on_server))
    assert point is not None
    assert (point.role, point.axis, point.values["round"]) == ("server", "round", 4)
    assert point.values["server/evaluate/car_0/return"] == 3.0
    assert point.values["server/evaluate/car_0/success-rate-low"] == wilson_interval(2, 3)[0]
    assert point.values["server/evaluate/car_1/outcome/finished"] == 1.0

    on_clients = {"round": 4, "on": "clients", "metrics": metrics, "by_client": {}}
    point = charts().point(EvaluationEvent(on_clients | {"dropped": {"1": "x", "2": "y"}}))
    assert point is not None
    assert point.values["clients/dropped"] == 2
    assert point.values["clients/evaluate/car_0/return"] == 3.0
