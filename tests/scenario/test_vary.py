"""Clients that differ: what each has of its own, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small import SMALL, merge

from f110_fl.config.curriculum import CurriculumConfig
from f110_fl.config.federated import RangeConfig
from f110_fl.config.scenario import Scenario
from f110_fl.config.variation import client_settings
from f110_fl.errors import UserError
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from f110_fl.runs.preflight import check_environment
from f110_fl.training.trainer import Trainer

CLIENTS = st.integers(0, 99)
MASS = "env.cars[1].vehicle.mass"


def load(directory: Path, vary: dict[str, Any], **federated: Any) -> Scenario:
    path = directory / "small.yaml"
    federated = {"clients": 4, "vary": vary} | federated
    path.write_text(yaml.safe_dump(merge(SMALL, {"federated": federated})))
    return load_scenario(path)


@given(
    st.lists(st.integers(), min_size=1, max_size=5), st.integers(0, 2**63 - 1), st.integers(0, 99)
)
def test_a_list_starts_again_from_its_beginning(values: list[int], seed: int, client: int) -> None:
    settings = client_settings({"env.max_steps": tuple(values)}, seed, client)
    assert settings == {"env.max_steps": (values * 100)[client]}


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(0, 2**63 - 1), st.integers(0, 10_000))
def test_a_draw_is_in_its_range_and_depends_on_nothing_else(
    low: float, width: float, seed: int, client: int
) -> None:
    limits = RangeConfig(low=low, high=low + width)
    alone = client_settings({MASS: limits}, seed, client)
    assert low <= alone[MASS] <= low + width
    beside = client_settings({"env.laps": RangeConfig(low=1, high=9), MASS: limits}, seed, client)
    assert beside[MASS] == alone[MASS]


def test_whole_numbers_are_drawn_with_both_ends() -> None:
    draws = Counter(
        client_settings({"env.laps": RangeConfig(low=1, high=3)}, 0, client)["env.laps"]
        for client in range(3000)
    )
    # Binomial: 1000 of 3000 expected, standard deviation 26.
    assert set(draws) == {1, 2, 3}
    assert all(abs(count - 1000) < 130 for count in draws.values())


def test_each_client_has_its_own_environment(tmp_path: Path) -> None:
    tracks = [{"kind": "circle"}, {"kind": "oval", "width": 2.0}]
    scenario = load(
        tmp_path,
        {
            "env.track": tracks,
            MASS: {"low": 3.0, "high": 4.0},
            "env.cars[1].driver": [{"kind": "random"}, {"kind": "follow_the_gap"}],
            "env.spawn_sets": [[]],
            "env.spawn": [{"kind": "random"}],
            "evaluation.track": [{"kind": "oval"}],
        },
    )
    own = [scenario.for_client(client).env for client in range(4)]
    assert [env.track.kind for env in own] == ["circle", "oval"] * 2
    assert [car.driver and car.driver.kind for car in (env.cars[1] for env in own)] == [
        "random",
        "follow_the_gap",
    ] * 2
    assert len({env.cars[1].vehicle.mass for env in own}) == 4
    assert all(3 <= env.cars[1].vehicle.mass <= 4 for env in own)
    assert own[0].cars[0] == scenario.env.cars[0]
    assert scenario.for_client(3).evaluation_env.track.kind == "oval"
    assert parse_resolved(dump_scenario(scenario)) == scenario
    check_environment(scenario)


def test_a_trainer_drives_where_its_client_does(tmp_path: Path) -> None:
    vary = {
        "env.track": [{"kind": "circle"}, {"kind": "oval"}],
        "env.spawn_sets": [[]],
        "env.spawn": [{"kind": "random"}],
        "env.max_steps": [7, 5],
    }
    scenario = load(tmp_path, vary)
    steps = []
    for client in (0, 1):
        trainer = Trainer(scenario, client, tmp_path / str(client))
        steps += [record.result.steps for record in trainer.train(1)]
    assert max(steps[:2]) <= 7
    assert max(steps[2:]) <= 5


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"learners.car_0.discount": [0.9]}, "allowed: a dotted key under env or evaluation"),
        ({"env": [{}]}, "allowed: a dotted key under env or evaluation"),
        ({"env.track": []}, "allowed: a list with one value per client, or a mapping"),
        ({"env.track": {"kind": "oval"}}, "allowed: a list with one value per client"),
        ({MASS: {"low": 4.0, "high": 3.0}}, "allowed: a list .*, numbers in this order"),
        (
            {MASS: [3.0, -1.0]},
            r":(?!1:)\d+: federated.vary.'env.cars\[1\].vehicle.mass': client 1: found -1.0",
        ),
        ({"env.trak": [1]}, "'env.trak': client 0: unknown key; .*did you mean 'track'"),
        ({"env.track": [{"kind": "ovl"}]}, "'env.track': client 0: found 'ovl' .*mean 'oval'"),
        ({"env.track.kind": ["ovl"]}, "'env.track.kind': client 0: found 'ovl' .*mean 'oval'"),
        ({"env.cars[2].reverse": [True]}, r"client 0: .*no env.cars\[2\]: .* a list of 2"),
        ({"env.lidar.beams": [8, 9]}, "client 1: env.lidar.beams must be the same for all"),
        ({"env.cars[1].driver": [None]}, "client 0: the cars' names .* must be the same"),
        ({"env.track": [{"kind": "oval"}], "env.track.width": [2.0]}, "overlap; leave one out"),
        (
            {"env.track": [{"kind": "line2"}, {"kind": "map", "file": "nowhere.yaml"}]},
            r":\d+: federated.vary.'env.track': client 1: found 'nowhere.yaml', no such file",
        ),
        ({"env.track.file": ["nowhere.csv"]}, "'env.track.file': client 0: unknown key; allowed: "),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, vary: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, vary)
    assert "\n" not in str(error.value)


def test_files_are_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    lane = tmp_path / "lane.csv"
    lane.write_text("0,0,1,1\n10,0,1,1\n10,10,1,1\n0,10,1,1\n")
    track = {"kind": "centerline", "file": "lane.csv", "resolution": 0.1}
    scenario = load(tmp_path, {"env.track": [{"kind": "oval"}, track], "evaluation.track": [track]})
    absolute = track | {"file": str(lane)}
    assert scenario.federated.vary == {
        "env.track": ({"kind": "oval"}, absolute),
        "evaluation.track": (absolute,),
    }
    assert scenario.for_client(1).env.track.file == str(lane)  # type: ignore[union-attr]
    assert parse_resolved(dump_scenario(scenario)) == scenario
    with_file = {"env.track": [{"kind": "several", "tracks": [track]}]}
    assert load(tmp_path, with_file).for_client(3).env.track.tracks[0].file == str(lane)  # type: ignore[union-attr]


def test_a_spawn_that_only_one_client_lacks_is_found_before_the_start(tmp_path: Path) -> None:
    sets = [[["spawn_3", "spawn_1"]], [["spawn_9", "spawn_1"]]]
    scenario = load(tmp_path, {"env.spawn_sets": sets})
    with pytest.raises(UserError, match="spawn_9"):
        check_environment(scenario)


def test_a_curriculum_of_named_spawn_sets_survives_its_file() -> None:
    stage = {"spawn_sets": (("spawn_3", "spawn_1"), 1)}
    curriculum = CurriculumConfig.model_validate({"agent": "car_0", "stages": (stage,)})
    scenario = Scenario.model_validate(merge(SMALL, {"curriculum": curriculum}))
    assert parse_resolved(dump_scenario(scenario)) == scenario
