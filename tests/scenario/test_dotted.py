"""Settings by dotted key, ``--set``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import REPOSITORY

from f110_fl.config.keys import join, parse_key
from f110_fl.config.learners import TD3Config
from f110_fl.errors import UserError
from f110_fl.loading.flags import command_line_overrides
from f110_fl.loading.overrides import set_overrides
from f110_fl.loading.scenarios import load_scenario
from sim.config import OvalTrack

CONVOY = REPOSITORY / "scenarios" / "convoy_lock_td3_original.yaml"


def complaint(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


WORDS = st.from_regex(r"[a-z_][a-z0-9_-]{0,5}", fullmatch=True)


@given(WORDS, st.lists(st.one_of(WORDS, st.integers(0, 999))))
def test_keys_are_what_messages_show(first: str, others: list[str | int]) -> None:
    path = (first, *others)
    assert parse_key(join(path)) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a b", "a[", "a[x]", "a[-1]", "[0]", "a..b"])
def test_what_is_no_key(text: str) -> None:
    assert parse_key(text) is None


DOTTED = [
    ("learners.car_0.discout=0.9", "learners.car_0.discout='0.9': unknown key", "'discount'"),
    ("learners.car_0.discount=2", "learners.car_0.discount='2': found 2", "from 0 to 1"),
    ("learner.car_0.discount=1", "learner: unknown key", "'learners'"),
    ("seed.foo=1", "seed.base: is missing", "from 0 and below 2^63"),
    ("episodes.foo=1", "no episodes.foo: episodes is 5000 (whole number)", ""),
    ("env.cars[9].name=x", "no env.cars[9]: env.cars is a list of 2", ""),
    ("federated.strategy.learning_rate=0.1", "federated.strategy.name: is missing", "fedadam"),
    ("seed=", "seed='': is empty", ""),
    ("seed", "--set='seed': allowed: KEY=VALUE", ""),
    ("a b=1", "--set='a b=1': allowed: KEY=VALUE", ""),
    ("seed={", "not YAML", ""),
]


@pytest.mark.parametrize(("text", "start", "words"), DOTTED)
def test_what_set_refuses(text: str, start: str, words: str) -> None:
    line = complaint(lambda: load_scenario(CONVOY, set_overrides([text], [])))
    assert line.startswith("--set")
    assert start in line
    assert words in line


def test_set_lays_a_value_anywhere() -> None:
    texts = ["learners.car_0.discount=0.5", "env.cars[1].vehicle.width=0.2", "seed=3"]
    texts.append("federated.strategy={name: fedadam, learning_rate: 0.01}")
    scenario = load_scenario(CONVOY, set_overrides(texts, []))
    learner = scenario.learners["car_0"]
    assert isinstance(learner, TD3Config)
    assert learner.discount == 0.5
    assert scenario.env.cars[1].vehicle.width == 0.2
    assert scenario.env.cars[0].vehicle.width == 0.225
    assert scenario.seed == 3
    assert scenario.federated.strategy.model_dump()["learning_rate"] == 0.01


def test_set_contradicts_no_other_flag() -> None:
    flags = command_line_overrides(argparse.Namespace(episodes="3"))
    line = complaint(lambda: set_overrides(["episodes=4"], flags))
    assert line == "--set episodes='4': contradicts --episodes='3'; leave one out"
    line = complaint(lambda: set_overrides(["env.track={kind: oval}", "env.track.kind=line2"], []))
    assert "contradicts --set env.track='{kind: oval}'" in line
    line = complaint(lambda: set_overrides(["env.track.radius=3", "env.track={kind: oval}"], []))
    assert "contradicts --set env.track.radius='3'" in line


def test_set_adds_to_a_mapping_that_came_before() -> None:
    oval = load_scenario(CONVOY, set_overrides(["env.track={kind: oval}", "env.track.radius=5"]))
    assert isinstance(oval.env.track, OvalTrack)
    assert oval.env.track.radius == 5


def test_set_means_what_a_variable_means(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(CONVOY.read_text() + "seed: [1, 2, 3]\n")
    assert load_scenario(path, set_overrides(["seed=9"], [])).seed == 9
