"""Learning curves against the episodes that they are made of, one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import episode, write_run

from f110_fl.reporting.pages.curves import BINS, evaluation_curves, numbers, training_curves
from f110_fl.reporting.pages.history import Episodes, read_history


def test_numbers_are_rounded_and_absent_ones_are_none() -> None:
    assert numbers([1.23456789, float("nan"), float("inf"), 123456.0]) == [
        1.2346,
        None,
        None,
        123460.0,
    ]


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    rundir = write_run(tmp_path_factory.mktemp("curves") / "run", episodes=300, clients=2)
    return training_curves(read_history(rundir))


@pytest.mark.parametrize("client", [0, 1])
def test_a_point_is_what_its_episodes_were(curves: list[dict[str, Any]], client: int) -> None:
    curve = curves[client]
    assert curve["client"] == client
    assert len(curve["episodes"]) == 30
    assert curve["episodes"][-1] == 300
    first = 0
    for k, last in enumerate(map(int, curve["episodes"])):
        records = [episode(client, n) for n in range(first + 1, last + 1)]
        returns = [r.result.returns["car_0"] for r in records]
        own = curve["agents"]["car_0"]
        assert own["return"][k] == pytest.approx(np.mean(returns), rel=1e-4)
        assert own["low"][k] == pytest.approx(np.quantile(returns, 0.25), rel=1e-4)
        assert own["high"][k] == pytest.approx(np.quantile(returns, 0.75), rel=1e-4)
        for name, shares in own["outcomes"].items():
            assert shares[k] == np.mean([r.result.outcomes["car_0"] == name for r in records])
        losses = [r.losses["car_0/critic_loss"] for r in records if r.losses]
        assert curve["losses"]["car_0/critic_loss"][k] == pytest.approx(np.mean(losses), rel=1e-4)
        assert curve["steps"][k] == records[-1].env_steps
        assert own["lap"][k] in (10.0, None)
        first = last


def test_a_curve_is_made_of_the_episodes_that_the_learner_drove(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", episodes=60, clients=1)
    history = read_history(rundir)
    own = [episode(0, n) for n in range(1, 61) if n % 3 and n > 10]
    found = Episodes()
    for n in range(1, 61):
        record = episode(0, n)
        if n <= 10 or n % 3 == 0:
            result = replace(record.result, snapshots={"car_0": 0})
            record = replace(record, result=result)
        found.add(record)
    history.training[0] = found
    curve = training_curves(history)[0]["agents"]["car_0"]
    assert curve["return"][0] is None  # nothing but snapshots
    for name, shares in curve["outcomes"].items():
        count = sum(record.result.outcomes["car_0"] == name for record in own)
        assert (count > 0) == any(shares)
    present = [
        sum(part) for part in zip(*curve["outcomes"].values(), strict=True) if None not in part
    ]
    assert present == pytest.approx([1.0] * len(present), abs=1e-3)


def test_the_mean_lies_between_the_clients(curves: list[dict[str, Any]]) -> None:
    one, two, mean = (curve["agents"]["car_0"] for curve in curves)
    assert curves[2]["client"] is None
    both = np.array([one["return"], two["return"]])
    np.testing.assert_allclose(mean["return"], both.mean(axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(mean["low"], both.min(axis=0))
    np.testing.assert_allclose(mean["high"], both.max(axis=0))
    shares = np.sum([np.array(s, float) for s in mean["outcomes"].values()], axis=0)
    np.testing.assert_allclose(shares, 1.0, atol=1e-4)


def test_a_client_that_is_behind_has_fewer_points(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", episodes=300)
    lines = rundir.episodes(1).read_text().splitlines(keepends=True)
    rundir.episodes(1).write_text("".join(lines[:100]))
    one, two, mean = training_curves(read_history(rundir))
    assert len(one["episodes"]) == len(mean["episodes"]) == 30
    assert len(two["episodes"]) == 8
    assert mean["agents"]["car_0"]["return"][8:] == one["agents"]["car_0"]["return"][8:]


def test_a_short_run_has_a_point_an_episode_and_a_long_one_not_too_many(tmp_path: Path) -> None:
    short = training_curves(read_history(write_run(tmp_path / "short", episodes=3)))
    assert short[0]["episodes"] == [1, 2, 3]
    long = training_curves(read_history(write_run(tmp_path / "long", episodes=3000)))
    assert len(long[0]["episodes"]) == BINS


def test_without_episodes_there_is_no_curve(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", clients=1)
    rundir.episodes(0).write_text("")
    assert training_curves(read_history(rundir)) == []
    assert evaluation_curves(read_history(rundir))[0]["episodes"] == []


def test_clients_elsewhere_have_a_point_a_round(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", clients=2)
    for client in (0, 1):
        rundir.episodes(client).unlink()
    metrics = {"train/env-steps": 70.0, "train/car_0/return": 1.5, "train/car_0/success-rate": 0.2}
    for number in (1, 2):
        rundir.round(number).mkdir()
        rundir.metrics(number).write_text(json.dumps({"by_client": {"01": metrics}}))
    (curve,) = training_curves(read_history(rundir))
    assert curve["client"] == 1
    assert curve["episodes"] == [5, 10]
    assert curve["steps"] == [70, 140]
    assert curve["seconds"] == [5, 11]
    assert curve["agents"]["car_0"]["return"] == [1.5, 1.5]
    assert curve["agents"]["car_0"]["outcomes"]["success"] == [0.2, 0.2]


def test_evaluations_have_their_intervals(tmp_path: Path) -> None:
    curve = evaluation_curves(read_history(write_run(tmp_path / "run", episodes=40)))[1]
    assert curve["episodes"] == [10, 20, 30, 40]
    own = curve["agents"]["car_0"]
    for k, number in enumerate(curve["episodes"]):
        record = episode(1, int(number), "evaluate")
        assert own["return"][k] == pytest.approx(record.result.returns["car_0"], rel=1e-4)
        assert own["success"][k] == (record.result.outcomes["car_0"] == "success")
        assert own["low"][k] <= own["success"][k] <= own["high"][k]
        assert own["high"][k] - own["low"][k] == pytest.approx(0.49, abs=0.01)  # Wilson, 4 trials
