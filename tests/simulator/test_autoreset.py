"""Episodes that follow one another inside a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import CarConfig, EnvConfig, LidarConfig, VehicleConfig
from sim.episodes import Outcome
from sim.race import Race

VEHICLE = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=2.0)
CONFIG = EnvConfig(
    cars=(
        CarConfig(name="car_0", vehicle=VEHICLE, task={"kind": "convoy_lock", "idle_grace": 1}),
        CarConfig(name="car_1", vehicle=VEHICLE, driver={"kind": "secondary_vicon"}),
    ),
    lidar=LidarConfig(beams=5),
    spawn_sets=(("spawn_3", "spawn_1"), ("spawn_5", "spawn_1"), ("spawn_2", "spawn_4")),
    max_steps=25,
    physics_steps_per_action=10,
)
STEPS = 80


def actions_of(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 99]).uniform(-1, 1, (STEPS, 1, 2)).astype(np.float32)


def rollout(seeds: list[int], config: EnvConfig = CONFIG) -> tuple[list[bytes], int]:
    """Everything each environment shows while it resets itself, and the episodes that ended."""
    race = Race(config, num_envs=len(seeds))
    for e, seed in enumerate(seeds):
        race.seed(e, seed)
    assert race.autoreset().tolist() == list(range(len(seeds)))
    actions = np.stack([actions_of(seed) for seed in seeds], axis=1)
    shown: list[list[bytes]] = [[] for _ in seeds]
    count = 0
    for action in actions:
        found = race.step(action)
        for e in range(len(seeds)):
            shown[e].extend(part[e].tobytes() for part in found)
        count += len(race.autoreset())
        for e in range(len(seeds)):
            shown[e].append(race.episodes.observations[e].tobytes())
    return [b"".join(parts) for parts in shown], count


@examples(15)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_episodes_depend_neither_on_batch_size_nor_on_position(seeds: list[int]) -> None:
    together, count = rollout(seeds)
    assert count >= 3 * len(seeds)
    for e, seed in enumerate(seeds):
        assert rollout([seed])[0] == [together[e]]
    assert rollout(seeds[::-1])[0] == together[::-1]


def test_the_nth_episode_has_the_streams_nth_seed() -> None:
    race, reference = Race(CONFIG, num_envs=3), Race(CONFIG)
    stream = np.random.SeedSequence(5, spawn_key=(1, 2))
    race.seed(2, stream)
    for child in np.random.SeedSequence(5, spawn_key=(1, 2)).spawn(6):
        race.next_episode(2)
        reference.reset(0, child)
        assert race.world.arrays.noise_key[2] == reference.world.arrays.noise_key[0]
        assert np.array_equal(race.episodes.observations[2], reference.episodes.observations[0])
    assert stream.n_children_spawned == 0  # the caller's sequence is untouched


def test_an_integer_seeds_the_stream_of_its_sequence() -> None:
    race = Race(CONFIG, num_envs=2)
    race.seed(0, 17)
    race.seed(1, np.random.SeedSequence(17))
    for _ in range(3):
        race.next_episode(0)
        race.next_episode(1)
        assert race.world.arrays.noise_key[0] == race.world.arrays.noise_key[1]
    race.seed(0, 17)  # anew
    race.next_episode(0)
    assert race.world.arrays.noise_key[0] != race.world.arrays.noise_key[1]


def test_unseeded_environments_have_streams_of_their_own() -> None:
    keys = set()
    for race in (Race(CONFIG, num_envs=3), Race(CONFIG, num_envs=3)):
        for _ in range(2):
            for e in range(3):
                race.next_episode(e)
            keys.update(race.world.arrays.noise_key.tolist())
    assert len(keys) == 12


def test_returns_add_up_the_rewards_of_an_episode() -> None:
    race = Race(CONFIG, num_envs=2)
    race.autoreset()
    for _ in range(3):
        total = np.zeros(2)
        for _ in range(10):
            race.step(np.full((2, 1, 2), -1 / 3))  # standing still
            total += race.episodes.rewards[:, 0]
            assert np.array_equal(race.episodes.returns[:, 0], total)
        assert (total < 0.0).all()
        race.episodes.over[:] = True
        race.autoreset()
        assert not race.episodes.returns.any()


def test_the_end_can_be_read_until_the_next_episode_begins() -> None:
    race = Race(CONFIG, num_envs=2)
    race.autoreset()
    race.episodes.steps[1] = CONFIG.max_steps - 1
    found = race.step(np.zeros((2, 1, 2)))
    last = found.observations[1].copy()
    assert found.over.tolist() == [False, True]
    assert found.outcome[1, 0] == Outcome.TIME_LIMIT
    assert found.returns[1, 0] == found.rewards[1, 0] == -25.0
    assert race.autoreset().tolist() == [1]
    assert not found.over.any()
    assert not found.truncated.any()
    assert found.returns[1, 0] == found.rewards[1, 0] == found.steps[1] == 0
    assert found.outcome[1, 0] == Outcome.NONE
    assert not np.array_equal(found.observations[1], last)


def test_a_running_batch_is_left_alone() -> None:
    race = Race(CONFIG, num_envs=3)
    race.autoreset()
    race.step(np.zeros((3, 1, 2)))
    race.episodes.over[1] = True
    before = [part.copy() for part in (*race.world.arrays, *race.episodes)]
    assert race.autoreset().tolist() == [1]
    for part, old in zip((*race.world.arrays, *race.episodes), before, strict=True):
        assert np.array_equal(part[[0, 2]], old[[0, 2]])
    assert race.autoreset().tolist() == []


def test_a_refused_spawn_set_takes_no_seed() -> None:
    race = Race(CONFIG, num_envs=2)
    race.seed(0, 8)
    race.seed(1, 8)
    with pytest.raises(ValueError, match="spawn_set must be"):
        race.next_episode(0, spawn_set=3)
    race.next_episode(0)
    race.next_episode(1)
    assert race.world.arrays.noise_key[0] == race.world.arrays.noise_key[1]
