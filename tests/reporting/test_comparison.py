"""Groups of runs, their bands, and differences between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from run_files import write_run

from f110_fl.reporting.pages.comparison import (
    AXES,
    groups_of,
    series_of,
    settings_table,
)
from f110_fl.reporting.pages.history import History, read_history
from f110_fl.reporting.pages.report import report


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> list[History]:
    """Three seeds with one discount, two of them with another."""
    folder = tmp_path_factory.mktemp("comparison")
    cases = [(0.99, 1), (0.99, 2), (0.9, 2), (0.99, 3), (0.9, 1)]
    return [
        read_history(
            write_run(
                folder / f"{discount}_{seed}",
                seed=seed,
                episodes=40 if seed < 3 else 30,
                learners={"car_0": {"discount": discount}},
            )
        )
        for discount, seed in cases
    ]


@pytest.fixture(scope="module")
def document(histories: list[History]) -> dict[str, Any]:
    same = [h for h in histories if h.scenario.episodes == 40]
    return report(same)


def test_groups_differ_in_more_than_the_seed(document: dict[str, Any]) -> None:
    assert document["groups"] == [
        {"name": "discount=0.99", "runs": [0, 1], "seeds": [1, 2]},
        {"name": "discount=0.9", "runs": [2, 3], "seeds": [2, 1]},
    ]


def test_runs_of_other_lengths_are_other_groups(histories: list[History]) -> None:
    runs = report(histories)["runs"]
    groups = groups_of(runs, [h.scenario for h in histories])
    assert [group["runs"] for group in groups] == [[0, 1], [2, 4], [3]]
    assert groups[2]["name"] == "episodes=30, discount=0.99"


def test_settings_that_differ_are_listed_with_their_defaults(histories: list[History]) -> None:
    rows = {row["key"]: row for row in settings_table([h.scenario for h in histories])}
    assert rows["learners.car_0.discount"]["default"] == "0.99"
    assert rows["learners.car_0.discount"]["values"] == ["0.99", "0.99", "0.9", "0.99", "0.9"]
    assert rows["seed"]["values"] == ["1", "2", "2", "3", "1"]
    assert rows["env.lidar.beams"]["values"] == ["8"] * 5
    assert "learners.car_0.tau" not in rows  # its default, everywhere
    assert rows["learners.car_0.replay.capacity"]["values"] == ["100"] * 5


def test_a_band_holds_the_mean_of_its_runs(document: dict[str, Any]) -> None:
    what = {"group": 0, "metric": "return", "of": "training", "agent": "car_0", "axis": "episodes"}
    (band,) = [b for b in document["bands"] if what.items() <= b.items()]
    series = [series_of(run, "return", "training", "car_0") for run in document["runs"][:2]]
    known = [each for each in series if each is not None]
    expected = np.mean([np.interp(band["x"], s.axes["episodes"], s.values) for s in known], axis=0)
    np.testing.assert_allclose(band["iqm"], expected, atol=1e-3)  # x is rounded
    low, iqm, high = (np.array(band[key]) for key in ("low", "iqm", "high"))
    assert (low <= iqm + 1e-4).all()
    assert (iqm <= high + 1e-4).all()
    assert {b["axis"] for b in document["bands"]} == set(AXES)
    assert {b["of"] for b in document["bands"]} == {"global", "evaluation", "training"}


def test_differences_are_of_the_same_seeds(document: dict[str, Any]) -> None:
    table = document["table"]
    assert [row["group"] for row in table["rows"]] == [0, 1]
    pairs = {pair["key"]: pair for pair in table["pairs"]}
    success = pairs["success"]  # equal, by the files
    assert (success["group"], success["other"], success["seeds"]) == (1, 0, 2)
    assert success["difference"] == success["low"] == success["high"] == 0.0
    assert success["verdict"] == "indistinguishable"
    cells = table["rows"][0]["cells"]
    assert cells["success"]["value"] == 0.75
    assert cells["steps"]["value"] > 0
    assert {c["key"] for c in table["columns"]} == set(cells)


def test_one_run_is_not_compared(histories: list[History]) -> None:
    found = report(histories[:1])
    assert found["groups"] == found["bands"] == []
    assert found["table"] is None
