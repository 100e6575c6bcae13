"""Which tensors are averaged, zeroed or kept, by name."""

from __future__ import annotations

import pytest
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.federation.sharing import averaged_names, zeroed_names

NETWORKS = ("actor", "critic")
PARAMETERS = [
    f"car_0/model/{network}{suffix}/{kind}.{layer}"
    for network in NETWORKS
    for suffix in ("", "_target")
    for kind in ("weights", "biases")
    for layer in range(3)
]
MOMENTS = [
    f"car_0/optimizer/{network}/{kind}.{layer}/{slot}"
    for network in NETWORKS
    for kind in ("weights", "biases")
    for layer in range(3)
    for slot in ("exp_avg", "exp_avg_sq", "step")
]
NORMALISER = [
    f"car_0/model/{network}/{part}"
    for network in ("normaliser", "reward_normaliser")
    for part in ("count", "mean", "variance")
]
NAMES = [*PARAMETERS, *MOMENTS, *NORMALISER]


def federated(**changes: object) -> Scenario:
    return Scenario.model_validate(merge(SMALL, {"federated": changes}))


def test_networks_are_averaged_with_their_targets() -> None:
    names = averaged_names(NAMES, federated(share="all"))
    assert names == {*PARAMETERS, *NORMALISER}


@pytest.mark.parametrize(
    ("strategy", "averaged", "zeroed"),
    [
        ("local", set(), set()),
        ("average", {"exp_avg", "exp_avg_sq", "step"}, set()),
        ("reset", set(), {"exp_avg", "exp_avg_sq", "step"}),
        ("average_second_moment", {"exp_avg_sq", "step"}, {"exp_avg"}),
    ],
)
def test_slots(strategy: str, averaged: set[str], zeroed: set[str]) -> None:
    config = federated(optimizer_strategy=strategy)
    for names, slots in (
        (averaged_names(NAMES, config), averaged),
        (zeroed_names(NAMES, config), zeroed),
    ):
        found = {name for name in names if "/optimizer/" in name}
        assert found == {name for name in MOMENTS if name.rsplit("/", 1)[1] in slots}


def test_the_network_of_a_dqn_is_its_actor() -> None:
    names = [f"car_0/model/{network}/weights.0" for network in ("q", "q_target")]
    learners = {"learners": {"car_0": {"algorithm": "dqn"}}}
    scenario = Scenario.model_validate(SMALL | learners | {"federated": {"share": "actor"}})
    others = [f"car_0/model/{network}/weights.0" for network in ("actor", "normaliser")]
    assert averaged_names([*names, *others], scenario) == set(names)


def test_actor_only() -> None:
    names = averaged_names(NAMES, federated(share="actor", optimizer_strategy="average"))
    assert names == {n for n in (*PARAMETERS, *MOMENTS) if n.split("/")[2].startswith("actor")}


def test_a_normaliser_stays_at_home_by_default() -> None:
    for config in (federated(), federated(share="all_but_normaliser")):
        assert averaged_names(NAMES, config) == set(PARAMETERS)


def test_a_personal_head_keeps_its_moments_too() -> None:
    config = federated(share="all_but_head", optimizer_strategy="average")
    names = averaged_names(NAMES, config)
    assert names == {n for n in (*PARAMETERS, *MOMENTS) if ".2" not in n}
    reset = zeroed_names(NAMES, federated(share="all_but_head", optimizer_strategy="reset"))
    assert reset == {name for name in MOMENTS if ".2" not in name}
