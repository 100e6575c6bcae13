"""The terms of a reward, one by one, against the reward that they are the terms of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from task_situations import OTHER, OWN, STEP, Situation

from sim.config import EnvConfig
from sim.episodes import Outcome
from sim.layout import STEER, YAW, V, X, Y
from sim.race import Race
from sim.tasks.decomposition import RewardTerms
from sim.tasks.objectives import OBJECTIVES
from sim.tasks.terms import TERMS

KINDS = sorted(config.model_fields["kind"].default for config in OBJECTIVES)
WORDS = sorted(config.model_fields["term"].default for config in TERMS)
TARGETED = {
    config.model_fields["term"].default for config in TERMS if "target" in config.model_fields
}
SEVERAL = {"kind": "several", "tracks": [{"kind": "circle", "radius": 6.0}, {"kind": "oval"}]}


class Split(Situation):
    """A situation whose rewards are split."""

    def __init__(self, task: dict[str, Any], **settings: Any) -> None:
        super().__init__(task, **settings)
        self.terms = RewardTerms(self.env, (self.track,), self.world, self.episodes)
        self.reset()

    def reset(self) -> None:
        super().reset()
        if hasattr(self, "terms"):
            for env in range(len(self.episodes.steps)):
                self.terms.reset(env)

    def split(self, outcome: Outcome = Outcome.NONE) -> dict[str, float]:
        """Judges a step and returns what was paid, by the terms that paid something."""
        reward, _ = self.step(outcome)
        self.terms.step()
        paid = self.terms.paid[:, 0, 0]
        assert paid.sum() == pytest.approx(reward, abs=1e-9)
        return {
            name: float(each)
            for name, each in zip(self.terms.names, paid, strict=True)
            if each != 0.0
        }


def test_every_term_is_named_as_in_its_settings() -> None:
    terms = [{"term": "progress"}, {"term": "time"}, {"term": "progress", "weight": 3.0}]
    s = Split({"kind": "race", "shaping": terms, "truncation_reward": 0.0})
    shaping = ("progress", "time", "progress 2")
    assert s.terms.names == (*shaping, "success_reward", "crash_reward", "loss_reward")
    s.put(OWN, 5.5)
    paid = {"progress": 0.5, "time": -0.1 * STEP, "progress 2": 1.5}
    assert s.split() == pytest.approx(paid)


def test_what_is_remembered_is_remembered_for_each() -> None:
    """Steps of progress, the idle ones in a row, and what ends after them."""
    terms = [{"term": "progress"}, {"term": "distance"}]
    idle = {"idle_grace": 2, "idle_limit": 4, "idle_reward": -0.5, "idle_limit_reward": -7.0}
    s = Split({"kind": "convoy_lock", "shaping": terms, **idle})
    for _ in range(2):
        assert s.split() == {}
    s.put(OWN, 6.0)
    progress, nearer = s.split()["progress"], s.terms.paid[1, 0, 0]
    assert progress == pytest.approx(1.0)
    assert nearer != 0.0
    s.put(OWN, 6.0)
    assert s.split() == {"idle_limit_reward": -7.0}
    assert s.split() == {}  # done
    s.reset()
    assert s.split() == s.split() == {}
    assert s.split(Outcome.CRASH) == {"idle_reward": -0.5, "crash_reward": -10.0}


@pytest.mark.parametrize(
    ("kind", "outcome", "name"),
    [
        ("solo_lap", Outcome.FINISHED, "success_reward"),
        ("race", Outcome.TIME_LIMIT, "truncation_reward"),
        ("evade", Outcome.TIME_LIMIT, "success_reward"),
        ("evade", Outcome.CRASH, "crash_reward"),
    ],
)
def test_an_ending_is_paid_under_its_own_name(kind: str, outcome: Outcome, name: str) -> None:
    rewards = {"success_reward": 4.0, "crash_reward": -3.0}
    if kind != "evade":
        rewards["truncation_reward"] = -2.0
    s = Split({"kind": kind, "shaping": [], **rewards})
    assert s.split() == {}
    assert s.split(outcome) == {name: rewards[name]}


def chance(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """A task of a kind with random rewards and terms, some of them twice."""
    fields = next(c for c in OBJECTIVES if c.model_fields["kind"].default == kind).model_fields
    rewards = {name: rng.normal(0, 20) for name in fields if name.endswith("_reward")}
    terms = [
        {"term": word, "weight": rng.normal()}
        | ({"target": "other"} if word in TARGETED else {})
        | ({"toward": "lane"} if word == "heading" and rng.random() < 0.5 else {})
        for word in rng.choice(WORDS, rng.integers(8))
    ]
    idle = {"idle_grace": 2, "idle_limit": 6} if kind == "convoy_lock" else {}
    idle = {"idle_grace": 2 * STEP, "idle_limit": 6 * STEP} if kind == "gap_lock" else idle
    hold = {"hold_time": 2 * STEP} if kind == "pursuit" else {}
    return {"kind": kind, "shaping": terms, **rewards, **idle, **hold}


def happen(s: Situation, rng: np.random.Generator) -> None:
    """Puts both cars anywhere, often near each other, and lets anything happen to them."""
    world, length = s.world, s.track.length
    s.put(OWN, rng.uniform(0, length), rng.normal(0, 0.5), turn=rng.normal())
    ahead = rng.uniform(0, 3, 5) if rng.random() < 0.8 else rng.uniform(0, length, 5)
    world.arc_length[:, OTHER] = (world.arc_length[:, OWN] + ahead) % length
    world.lateral_offset[:, OTHER] = rng.normal(0, 0.5, 5)
    near = world.state[:, OWN][:, [X, Y]]
    world.state[:, OTHER, X : Y + 1] = near + rng.normal(0, 1.0, (5, 2))
    world.state[:, OWN, V] = rng.normal() * (rng.random(5) < 0.5)
    world.state[:, OWN, STEER], world.state[:, OTHER, YAW] = rng.normal(size=(2, 5))
    world.crashed[:] = rng.random((5, 2)) < 0.02
    world.finished[:] = rng.random((5, 2)) < 0.02
    world.laps[:] = np.minimum(3, world.laps + (rng.random((5, 2)) < 0.1))
    world.lap_steps[:] = rng.integers(1, 3000, world.lap_steps.shape)
    s.episodes.steps[:] = np.where(rng.random(5) < 0.02, 1000, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_of_the_terms_is_the_reward(kind: str) -> None:
    """Whatever happens in random episodes of random tasks, all that an objective pays among it."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    seen: set[str] = set()
    for _ in range(8):
        s = Split(chance(rng, kind), num_envs=5, laps=3)
        world, episodes = s.world, s.episodes
        for _ in range(150):
            for env in np.flatnonzero(rng.random(5) < 0.05):
                world.crashed[env] = world.finished[env] = False
                world.laps[env] = episodes.outcome[env] = episodes.steps[env] = 0
                s.task.reset(env)
                s.terms.reset(env)
            happen(s, rng)
            before = episodes.outcome.copy()
            s.task.step(0, 5)
            s.terms.step()
            paid = s.terms.paid
            np.testing.assert_allclose(paid.sum(axis=0), episodes.rewards, rtol=0, atol=1e-9)
            assert (paid[:, before != 0] == 0.0).all()
            seen |= {name for name, own in zip(s.terms.names, paid, strict=True) if own.any()}
    assert {name for name, _ in s.config if name.endswith("_reward")} <= seen


def cars(rng: np.random.Generator, kinds: list[str]) -> list[dict[str, Any]]:
    found = []
    for i, kind in enumerate(kinds):
        task = chance(rng, kind) | {"target": "other"}
        if kind in ("solo_lap", "race"):
            del task["target"]
        found.append({"name": f"car_{i}", "task": task})
    driver = {"kind": "pure_pursuit", "speed": 2.0}
    return [*found, {"name": "other", "driver": driver}, {"name": "free"}]  # free: no task


@pytest.mark.parametrize("end_when", ["any", "all"])
@pytest.mark.parametrize("seed", [0, 2, 3, 5])  # 1 draws a task that pays for laps alone
def test_the_sum_is_the_reward_in_races(seed: int, end_when: str) -> None:
    """Of several agents, on one track or several, driven at random, with new episodes."""
    rng = np.random.default_rng(seed)
    config = EnvConfig.model_validate(
        {
            "track": SEVERAL if seed % 2 else {"kind": "oval"},
            "physics_steps_per_action": 5,
            "max_steps": 60,
            "lidar": {"beams": 3},
            "spawn": {"kind": "random"},
            "end_when": end_when,
            "cars": cars(rng, list(rng.choice(KINDS, 2))),
        }
    )
    race, plain = Race(config, num_envs=6), Race(config, num_envs=6)
    terms = RewardTerms(
        config, race.tracks, race.world.arrays, race.episodes, stack=race.world.stack
    )
    for each in (race, plain):
        for env in range(6):
            each.seed(env, seed + env)
    paid, ended = np.zeros((6, 3)), 0
    actions = rng.uniform(-1, 1, (6, 3, 2))
    for _ in range(400):
        for env in race.autoreset():
            terms.reset(env)
            paid[env] = 0.0
        plain.autoreset()
        actions = np.clip(actions + rng.normal(0, 0.2, actions.shape), -1, 1)
        race.step(actions)
        plain.step(actions)
        terms.step()
        rewards = race.episodes.rewards
        np.testing.assert_allclose(terms.paid.sum(axis=0), rewards, rtol=0, atol=1e-9)
        assert rewards.tobytes() == plain.episodes.rewards.tobytes()
        paid += terms.paid.sum(axis=0)
        np.testing.assert_allclose(paid, race.episodes.returns, rtol=0, atol=1e-7)
        ended += int(race.episodes.over.sum())
    assert ended > 20
    assert np.abs(paid[:, :2]).sum() > 0.0
    assert (terms.paid[:, :, 2] == 0.0).all()


def test_scripted_cars_alone_have_none() -> None:
    driver = {"kind": "pure_pursuit", "speed": 2.0}
    config = EnvConfig.model_validate({"cars": [{"name": "a", "driver": driver}]})
    race = Race(config)
    terms = RewardTerms(config, race.tracks, race.world.arrays, race.episodes)
    race.reset(0, 1)
    terms.reset(0)
    race.step(np.zeros((1, 0, 2)))
    terms.step()
    assert terms.names == ()
    assert terms.paid.shape == (0, 1, 0)
