"""Policies in files, what they do, and the driver that drives by them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policies import save_policy
from properties import examples
from safetensors.numpy import save_file
from small import merge

from f110_fl.config.learners import (
    ConvConfig,
    DQNConfig,
    LstmConfig,
    NoisyNets,
    PPOConfig,
    SACConfig,
    TD3Config,
)
from f110_fl.learners.base import LearnerSetup
from f110_fl.learners.factory import make_learner
from f110_fl.loading.scenarios import load_scenario
from f110_fl.tensors import prefixed, write_tensors
from f110_fl.training.agents import initial_tensors
from f110_fl.training.checkpoint import checkpoint_metadata
from sim.config import CarConfig, EnvConfig, FrozenPolicyConfig, LidarConfig, OvalTrack, RandomSpawn
from sim.layout import V
from sim.observation import observation_parts
from sim.policy import (
    MemoryFormat,
    Policy,
    PolicyError,
    PolicyFormat,
    load_policy,
    make_policy,
    policy_metadata,
)
from sim.race import Race

LIDAR = LidarConfig(beams=12)
ENV = EnvConfig(
    track=OvalTrack(),
    lidar=LIDAR,
    cars=(CarConfig(name="car"), CarConfig(name="other")),
    spawn=RandomSpawn(heading_noise=0.2),
)
SIZE = 12 + 4 + 4


def random_policy(sizes: list[int], seed: int = 0, **changes) -> Policy:
    rng = np.random.default_rng(seed)
    layers = [(f"w{i}", f"b{i}") for i in range(len(sizes) - 1)]
    tensors = {}
    for (weights, biases), inputs, outputs in zip(layers, sizes, sizes[1:], strict=False):
        tensors[weights] = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
        tensors[biases] = rng.normal(size=outputs) / 3
    tensors["mean"], tensors["variance"] = rng.normal(size=sizes[0]), rng.uniform(0.2, 3, sizes[0])
    settings = {"layers": layers, "activation": "relu", "output": "tanh"} | changes
    return make_policy(PolicyFormat.model_validate(settings), tensors)


def by_hand(policy: Policy, x: np.ndarray) -> np.ndarray:
    """What a policy does, in double precision, layer by layer."""
    form = policy.form
    tensors = {name: tensor.astype(np.float64) for name, tensor in policy.tensors.items()}
    x = x - (tensors[form.mean] if form.mean else 0.0)
    x = x / (np.sqrt(tensors[form.variance] + 1e-8) if form.variance else 1.0)
    if form.limit:
        x = np.clip(x, -form.limit, form.limit)
    for i, (weights, biases) in enumerate(form.layers):
        x = x @ tensors[weights].T + tensors[biases]
        if i < len(form.layers) - 1:
            x = np.tanh(x) if form.activation == "tanh" else np.maximum(x, 0)
    if form.output == "argmax":
        return np.array(form.actions)[x.argmax(axis=1)]
    return np.tanh(x[:, :2]) if form.output == "tanh" else np.clip(x[:, :2], -1, 1)


# What a policy does


@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    activation=st.sampled_from(["relu", "tanh"]),
    output=st.sampled_from(["tanh", "clip", "argmax"]),
    normaliser=st.sampled_from([{}, {"mean": "mean"}, {"mean": "mean", "variance": "variance"}]),
    limit=st.sampled_from([None, 0.5]),
    seed=st.integers(0, 1000),
)
@examples(80)
def test_acts_as_its_layers_say(sizes, activation, output, normaliser, limit, seed):
    actions = [(-1, 0), (0, 1), (0.5, 0.5)] if output == "argmax" else []
    last = 3 if output == "argmax" else 2 + seed % 3  # what follows an action is ignored
    changes = {"activation": activation, "output": output, "actions": actions, "limit": limit}
    policy = random_policy([*sizes, last], seed, **changes, **normaliser)
    observations = np.random.default_rng(seed).normal(size=(7, sizes[0]))
    found = policy.act(observations)
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1.0
    np.testing.assert_allclose(found, by_hand(policy, observations), atol=2e-6)
    # Each row for itself.
    assert np.array_equal(found[3:4], policy.act(observations[3:4]))


@pytest.mark.parametrize(
    "config",
    [
        TD3Config(hidden=(64, 32), warmup_steps=0),
        PPOConfig(actor_hidden=(32, 16), activation="tanh"),
        PPOConfig(actor_hidden=(32,), activation="relu"),
        PPOConfig(normalise_observations=True),
        SACConfig(hidden=(32, 16)),
        DQNConfig(hidden=(32, 16), duelling=False),
        DQNConfig(hidden=(32,), duelling=True, exploration=NoisyNets()),
    ],
    ids=["td3", "ppo-tanh", "ppo-relu", "ppo-normalised", "sac", "dqn", "duelling-noisy"],
)
def test_a_learners_format_says_what_its_policy_does(config):
    learner = make_learner(config, LearnerSetup(SIZE, 2, np.random.SeedSequence(3), num_envs=2))
    with torch.no_grad():  # biases start at 0 otherwise
        for name, tensor in learner.tensors().items():
            if name.startswith(("model/actor/", "model/q/")):
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=torch.Generator()))
    rng = np.random.default_rng(1)
    learner.act(rng.uniform(-1, 3, (2, SIZE)).astype(np.float32), np.arange(2))  # counted in
    form = learner.policy_format(config, observation_parts(ENV))
    policy = make_policy(form, {name: learner.tensors()[name].numpy() for name in form.names})
    rows = np.random.default_rng(0).uniform(-1, 1, (50, SIZE)).astype(np.float32)
    acting = learner.policy(50)
    acting.reset(np.arange(50))
    before = policy.act(rows)
    np.testing.assert_allclose(before, acting.act(rows, np.arange(50)), atol=1e-6, rtol=0)
    with torch.no_grad():
        learner.tensors()[policy.form.layers[-1][1]][:1].add_(9.0)
    assert np.array_equal(policy.act(rows), before)  # a copy


PARTS = (("motion", 4), ("lidar", 12), ("others", 4))  # the scan is not the first


@pytest.mark.parametrize(
    "config",
    [
        PPOConfig(lstm=LstmConfig(units=10), actor_hidden=(7,)),
        PPOConfig(lstm=LstmConfig(units=25), normalise_observations=True),
        SACConfig(encoder=ConvConfig(channels=(3, 2), kernels=(4, 2), strides=(2, 1))),
        TD3Config(encoder=ConvConfig(channels=(5,), kernels=(3,), strides=(3,)), warmup_steps=0),
        DQNConfig(encoder=ConvConfig(channels=(4, 4, 3), kernels=(3, 2, 1), strides=(1, 2, 2))),
    ],
    ids=["lstm", "lstm-normalised", "sac-conv", "td3-conv", "dqn-conv"],
)
def test_memories_and_encoders_act_as_their_learners(config):
    setup = LearnerSetup(SIZE, 2, np.random.SeedSequence(3), num_envs=2, observation=PARTS)
    learner = make_learner(config, setup)
    with torch.no_grad():
        for name, tensor in learner.tensors().items():
            if name.startswith(("model/actor/", "model/q/")):
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=torch.Generator()))
    rng = np.random.default_rng(1)
    learner.act(rng.uniform(-1, 3, (2, SIZE)).astype(np.float32), np.arange(2))  # counted in
    form = learner.policy_format(config, PARTS)
    policy = make_policy(form, {name: learner.tensors()[name].numpy() for name in form.names})
    actor, acting, rows = policy.actor(4), learner.policy(4), np.arange(4)
    acting.reset(rows)
    differences = []
    for step in range(30):
        seen = rng.uniform(-1, 1, (4, SIZE)).astype(np.float32)
        found = actor.act(seen)
        np.testing.assert_allclose(found, acting.act(seen, rows), atol=1e-5, rtol=0)
        differences.append(np.abs(found - policy.act(seen)).max())
        if step == 20:
            actor.reset(2)
            acting.reset(rows[2:3])
    assert (max(differences) > 0) == (form.memory is not None)


def test_a_car_with_a_memory_starts_each_episode_without(tmp_path: Path):
    rng = np.random.default_rng(0)
    shapes = {"input": (20, SIZE), "hidden": (20, 5), "bias": (20,), "w0": (2, 5), "b0": (2,)}
    tensors = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    form = PolicyFormat(
        layers=(("w0", "b0"),),
        activation="tanh",
        output="tanh",
        memory=MemoryFormat(input="input", hidden="hidden", bias="bias"),
    )
    path = tmp_path / "p.safetensors"
    save_policy(path, {"a": make_policy(form, tensors)})
    other = np.full((2, 1, 2), 0.1, np.float32)

    def driven(race: Race, envs: list[int], steps: int) -> np.ndarray:
        for env in envs:
            race.reset(env, 7)
        for _ in range(steps):
            race.step(other[: race.num_envs])
        return race.world.arrays.state.copy()

    both = frozen(path, num_envs=2, num_threads=2)
    first = driven(both, [0, 1], 15)
    assert np.array_equal(first[0], first[1])
    again = driven(both, [0], 15)
    assert np.array_equal(again[0], first[0])  # what it remembered is forgotten
    copied = pickle.loads(pickle.dumps(both))  # noqa: S301 - our own
    for made in (both, copied):
        made.step(other)
    assert np.array_equal(both.world.arrays.state, copied.world.arrays.state)


# Files


def test_a_policy_survives_a_file(tmp_path: Path):
    first = random_policy([SIZE, 8, 2], 1, mean="mean", variance="variance", limit=5.0)
    second = random_policy([SIZE, 4, 3], 2, output="argmax", actions=[(0, 0), (1, 0), (0, 1)])
    save_policy(tmp_path / "p.safetensors", {"b": second, "a": first})
    rows = np.random.default_rng(0).normal(size=(5, SIZE))
    for agent, policy in (("a", first), ("b", second)):
        loaded = load_policy(tmp_path / "p.safetensors", agent)
        assert loaded.form == policy.form
        assert np.array_equal(loaded.act(rows), policy.act(rows))


def test_a_checkpoint_with_the_metadata_is_a_policys_file(write_scenario, tmp_path: Path):
    """As the trainer and the server name their tensors, moments and all."""
    scenario = load_scenario(write_scenario())
    tensors = initial_tensors(scenario) | {"car_0/local/steps": torch.tensor(3)}
    path = tmp_path / "state.safetensors"
    write_tensors(path, tensors, {"progress": "{}"} | checkpoint_metadata(scenario))
    policy = load_policy(path, "car_0")
    assert policy.form.observation == (("lidar", 8), ("pose", 4), ("others", 4))
    setup = LearnerSetup(16, 2, np.random.SeedSequence(0))
    learner = make_learner(scenario.learners["car_0"], setup)
    own = {k.removeprefix("car_0/"): v for k, v in tensors.items() if "/local/" not in k}
    learner.load_tensors(own)
    rows = np.random.default_rng(0).uniform(-1, 1, (9, 16)).astype(np.float32)
    expected = learner.policy(9).act(rows, np.arange(9))
    np.testing.assert_allclose(policy.act(rows), expected, atol=1e-6, rtol=0)
    assert prefixed("car_0", own).keys() < tensors.keys()


def complaint(path: Path, agent: str = "a") -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(path, agent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_policys(tmp_path: Path):
    path = tmp_path / "p.safetensors"
    assert complaint(path).startswith(f"{path}: not a readable safetensors file: ")
    path.write_text("nonsense")
    assert complaint(path).startswith(f"{path}: not a readable safetensors file: ")
    save_file({"a/w": np.zeros(1)}, path)
    assert complaint(path) == f"{path}: 'a': the file's metadata has no entry 'policy'"
    save_file({"a/w": np.zeros(1)}, path, {"policy": "{}"})
    assert complaint(path).endswith("'a': the file has no policy of it; it has those of: none")
    save_policy(path, {"b": random_policy([3, 2])})
    assert complaint(path).endswith("it has those of: 'b'")
    load_policy(path)  # the only one
    save_policy(path, {"b": random_policy([3, 2]), "c": random_policy([3, 2])})
    with pytest.raises(PolicyError, match="the agent must be named; it has those of: 'b', 'c'"):
        load_policy(path)
    save_file({"a/w": np.zeros(1)}, path, {"policy": '{"a": {"layers": []}}'})
    assert "metadata 'policy': a.layers: " in complaint(path)
    save_file({"a/w": np.zeros(1)}, path, {"policy": "{"})
    assert "metadata 'policy': " in complaint(path)


FORM = PolicyFormat(layers=(("w0", "b0"), ("w1", "b1")), activation="relu", output="tanh")
GOOD = {"w0": np.ones((4, 3)), "b0": np.ones(4), "w1": np.ones((2, 4)), "b1": np.ones(2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w0": np.full((4, 3), np.nan)}, "tensor 'w0' holds a number that is not finite"),
        ({"b1": np.array([0, np.inf])}, "tensor 'b1' holds a number that is not finite"),
        ({"w0": np.ones(3)}, r"tensor 'w0' has shape \(3,\)"),
        ({"b0": np.ones(3)}, r"tensor 'b0' has shape \(3,\); \(4,\) is needed"),
        ({"w1": np.ones((2, 5))}, r"tensor 'w1' has shape \(2, 5\); \(2, 4\) is needed"),
        ({"w1": np.ones((1, 4)), "b1": np.ones(1)}, "output 'tanh' of 1 numbers; 2 are needed"),
    ],
)
def test_tensors_that_do_not_fit(changes, message):
    make_policy(FORM, GOOD)
    with pytest.raises(PolicyError, match=message):
        make_policy(FORM, GOOD | changes)


def test_tensors_that_are_missing_and_observations_that_do_not_add_up():
    with pytest.raises(PolicyError, match="tensor 'b1' is missing"):
        make_policy(FORM, {k: v for k, v in GOOD.items() if k != "b1"})
    stated = FORM.model_copy(update={"observation": (("pose", 4),)})
    with pytest.raises(PolicyError, match="observation has 4 numbers, the first layer takes 3"):
        make_policy(stated, GOOD)
    for output, actions in (("argmax", ()), ("tanh", ((0.0, 0.0),)), ("argmax", ((2.0, 0.0),))):
        with pytest.raises(ValueError, match=r"actions"):
            PolicyFormat(layers=(("w", "b"),), activation="relu", output=output, actions=actions)


# Driving


def frozen(path: Path, env: EnvConfig = ENV, **kwargs) -> Race:
    driver = FrozenPolicyConfig(checkpoint=path.name, agent="a")
    cars = (env.cars[0].model_copy(update={"driver": driver}), *env.cars[1:])
    return Race(env.model_copy(update={"cars": cars}), base_dir=path.parent, **kwargs)


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("observation", [("lidar", "pose", "others"), ("motion", "lidar")])
def test_a_frozen_policy_drives_as_an_agent_with_it_would(tmp_path: Path, observation, reverse):
    size = {3: SIZE, 2: 16}[len(observation)]
    policy = random_policy([size, 16, 2], 4)
    path = tmp_path / "p.safetensors"
    save_policy(path, {"a": policy})
    cars = (CarConfig(name="car", reverse=reverse), CarConfig(name="other"))
    env = ENV.model_copy(update={"observation": observation, "cars": cars})
    agent, scripted = Race(env, num_envs=3), frozen(path, env, num_envs=3, num_threads=2)
    for made in (agent, scripted):
        for e in range(3):
            made.reset(e, e)
    other = np.full((3, 1, 2), 0.1, np.float32)
    compared = 0
    for _ in range(100):
        own = policy.act(agent.episodes.observations[:, 0])[:, None]
        agent.step(np.concatenate([own, other], axis=1))
        scripted.step(other)
        running = ~agent.episodes.over  # an agent that is done is told to stand
        compared += running.sum()
        found, expected = scripted.world.arrays.state, agent.world.arrays.state
        assert np.array_equal(found[running], expected[running])
    assert compared > 100
    assert np.abs(found[:, 0, V]).max() > 0.3


def test_a_policy_that_states_its_observation_gets_it(tmp_path: Path):
    policy = random_policy([12 + 4, 2], observation=[("motion", 4), ("lidar", 12)])
    path = tmp_path / "p.safetensors"
    save_policy(path, {"a": policy})
    made = frozen(path)  # whose agents observe something else
    made.reset(0, 0)
    made.step(np.zeros((1, 1, 2)))


@pytest.mark.parametrize(
    ("size", "stated", "message"),
    [
        (9, [], r"observes 9 numbers \(its parts are not stated\)"),
        (34, [("lidar", 30), ("pose", 4)], r"observes 34 numbers \(lidar 30, pose 4\)"),
        (24, [("others", 12), ("lidar", 12)], r"observes 24 numbers \(others 12, lidar 12\)"),
    ],
)
def test_a_policy_for_another_observation_is_refused(tmp_path: Path, size, stated, message):
    path = tmp_path / "p.safetensors"
    save_policy(path, {"a": random_policy([size, 2], observation=stated)})
    with pytest.raises(ValueError, match=rf"frozen_policy of 'car': 'a' in .*{message}, the car "):
        frozen(path)


def test_its_file_is_relative_to_the_scenario(write_scenario: Callable[..., Path], tmp_path: Path):
    (tmp_path / "policies").mkdir()
    save_policy(tmp_path / "policies" / "p.safetensors", {"car_1": random_policy([16, 4, 2])})
    driver = {"kind": "frozen_policy", "checkpoint": "policies/p.safetensors", "agent": "car_1"}
    cars = [
        {"name": "car_0", "task": {"kind": "convoy_lock", "target": "car_1"}},
        {"name": "car_1", "driver": driver},
    ]
    scenario = load_scenario(write_scenario(env=merge({}, {"cars": cars})))
    found = scenario.env.cars[1].driver
    assert isinstance(found, FrozenPolicyConfig)
    assert found.checkpoint == str((tmp_path / "policies" / "p.safetensors").resolve())
    made = Race(scenario.env)
    made.reset(0, 0)
    made.step(np.zeros((1, 1, 2)))
    assert json.loads(scenario.model_dump_json())["env"]["cars"][1]["driver"] == driver | {
        "checkpoint": found.checkpoint
    }


def test_two_streams_are_for_choices_and_their_shapes_are_checked():
    changes = {"output": "argmax", "actions": [(0, 0), (0, 1)], "duelling": True}
    form = PolicyFormat.model_validate(FORM.model_dump() | changes)
    good = GOOD | {"w1": np.ones((3, 2)), "b1": np.ones(3)}
    make_policy(form, good)
    with pytest.raises(PolicyError, match=r"'w1' has shape \(3, 4\); \(3, 2\) is needed"):
        make_policy(form, good | {"w1": np.ones((3, 4))})
    with pytest.raises(PolicyError, match="output 'argmax' of 2 numbers; 3 are needed"):
        make_policy(form, good | {"w1": np.ones((2, 2)), "b1": np.ones(2)})
    with pytest.raises(ValueError, match="duelling needs argmax"):
        PolicyFormat.model_validate(FORM.model_dump() | {"duelling": True})


def test_metadata_states_what_is_not_the_default():
    assert json.loads(policy_metadata({"a": FORM})["policy"]) == {
        "a": {"layers": [["w0", "b0"], ["w1", "b1"]], "activation": "relu", "output": "tanh"}
    }
