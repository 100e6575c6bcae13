"""Numbers and texts that no computer could follow are refused, all by the settings' models."""

import json
import typing

import pytest
from pydantic import BaseModel
from small import write_small

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.overrides import set_overrides
from f110_fl.loading.scenarios import load_scenario


def models(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for inner in typing.get_args(annotation):
        yield from models(inner)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("episodes", 10**18),
        ("collect.num_envs", 10**9),
        ("env.max_steps", 2**63 - 1),
        ("env.lidar.beams", 10**9),
        ("env.lidar.max_range", 1e308),
        ("env.spawn_sets[0][0]", "x" * 1_000_000),
        ("env.cars[0].name", "x" * 1_000_000),
        ("env.cars[0].task.success_reward", -1e308),
        ("env.cars[0].task.shaping", [{"term": "progress", "weight": 1e308}]),
        ("env.cars[0].vehicle.mass", 1e308),
        ("env.cars[0].vehicle.speed_min", -1e308),
        ("learners.car_0.hidden", [2**31]),
        ("learners.car_0.hidden", [8] * 1000),
        ("learners.car_0.batch_size", 2**62),
        ("learners.car_0.replay.capacity", 2**62),
        ("learners.car_0.actor_learning_rate", 1e308),
        ("federated.timeout", 1e308),
        ("federated.round_interval", 2**62),
        ("evaluation.episodes", 2**62),
        ("name", "x" * 10_000),
    ],
)
def test_bounds_mean_something(tmp_path, key, value):
    file = write_small(tmp_path)
    (override,) = set_overrides([f"{key}={json.dumps(value)}"])
    with pytest.raises(UserError, match=r"allowed: ") as caught:
        load_scenario(file, [override])
    assert len(str(caught.value)) < 10_000 or len(str(value)) > 1000


def bounded_above(model):
    """Yields the numbers of a model that have no largest value."""
    for name, field in model.model_fields.items():
        kinds = {field.annotation, *typing.get_args(field.annotation)}
        limits = [
            bound for item in field.metadata for bound in ("le", "lt") if hasattr(item, bound)
        ]
        if kinds & {int, float} and not limits:
            yield f"{model.__name__}.{name}"


def test_every_number_has_a_largest_value():
    free = [name for model in set(models(Scenario)) for name in bounded_above(model)]
    assert sorted(free) == []


def test_merged_aliases_do_not_multiply_for_ever(tmp_path):
    levels = [f"x-{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}" for n in range(1, 9)]
    (tmp_path / "s.yaml").write_text("\n".join(["x-0: &l0 {a: 1}", *levels, "name: a", ""]))
    with pytest.raises(UserError, match=r"s\.yaml:1: more than 100000 values; aliases multiply"):
        load_scenario(tmp_path / "s.yaml")
