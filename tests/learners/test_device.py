"""Learners that compute apart from the host's memory: what they do on it, where that may be.

The host's own memory serves as the place apart, so that all copying takes place without a GPU,
and CUDA graphs have a stand-in. Where there is a GPU, the same is compared there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuda_stand_in
import numpy as np
import ppo_cases
import pytest
import torch
from learner_cases import (
    DQN,
    NOISY,
    SAC,
    TD3,
    A,
    D,
    act,
    assert_equal,
    copies,
    greedy,
    make,
    observe,
    one_thread,
)
from safetensors.torch import load_file, save_file
from small import SMALL

from f110_fl.config.learners import PPOConfig, ReplayConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import LearningError
from f110_fl.learners.device import Apart, Host, Replayed, choose
from f110_fl.learners.factory import make_learner
from f110_fl.learners.off_policy.gpu_replay import ResidentReplay
from f110_fl.learners.off_policy.learner import OffPolicyLearner
from f110_fl.learners.off_policy.replay import ReplayBuffer
from f110_fl.learners.ppo.ppo import PPO
from f110_fl.runs import preflight
from f110_fl.training import agents
from f110_fl.training.trainer import Trainer

CPU = torch.device("cpu")
CASES = {"td3": TD3, "sac": SAC, "dqn": DQN, "noisy": NOISY}
GRAPHS = {"td3": 2, "sac": 3, "dqn": 1, "noisy": 1}  # one a loss
PPO_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu": {"activation": "relu", "value_clip": 0.05, "minibatches": 5},
    "lstm": {"lstm": {"units": 8, "sequence": 4}},
    "normalising": {"normalise_observations": True, "normalise_rewards": True},
}
NORMALISING = {
    "normalise_observations": True,
    "normalise_rewards": True,
    "n_step": 3,
    "optimizer": {
        "kind": "adamw",
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
        "schedule": {"kind": "linear", "updates": 60},
    },
}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PLACES = ["apart", "graphs", *(pytest.param(f"cuda {w}", marks=on_a_gpu) for w in ("", "graphs"))]
every_place = pytest.mark.parametrize("where", PLACES)
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def place(where: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A place apart: eager or with graphs, on the CPU or on a GPU."""
    device = torch.device("cuda") if where.startswith("cuda") else CPU
    if where == "graphs":
        cuda_stand_in.install(monkeypatch)
    return Apart(device, Replayed if where.endswith("graphs") else Host().runner)


def build(
    case: str, seed: int, place: Host | None, path: Path | None = None, **changes: Any
) -> OffPolicyLearner:
    """A learner of three environments; a step earns an update."""
    replay = CASES[case]["replay"] | {"capacity": 100}
    return make(CASES[case], seed, path, 3, place, update_every=3, replay=replay, **changes)


def assert_same(place: Host, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal on the CPU; on a GPU, whose sums are in another order, to single precision."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if place.device == CPU or not torch.is_floating_point(tensor):
            assert torch.equal(found[name], tensor), name
        else:
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def twins(
    learners: list[OffPolicyLearner], rng: np.random.Generator, steps: int, count: int = 3
) -> None:
    """Give all of them the same experience: what the first one does."""
    for _ in range(steps):
        observation, following = rng.standard_normal((2, count, D), dtype=np.float32)
        action, *_ = [act(learner, observation) for learner in learners]
        reward = (action.sum(1) + observation[:, 0]).astype(np.float64)
        ends = rng.random(count) < 0.2
        for learner in learners:
            observe(learner, observation, action, reward, following, ends)
            learner.update()


def assert_twins(place: Host, learners: list[OffPolicyLearner]) -> None:
    expected, found = learners
    assert_same(place, found.tensors(), expected.tensors())
    assert_same(place, found.local_state(), expected.local_state())
    means, others = expected.pop_metrics(), found.pop_metrics()
    assert means
    assert others == pytest.approx(means, rel=1e-3, abs=1e-4)
    observations = np.random.default_rng(0).standard_normal((9, D), dtype=np.float32)
    np.testing.assert_allclose(
        greedy(found, observations), greedy(expected, observations), atol=1e-4
    )


@every_place
@every_case
@pytest.mark.parametrize("changes", [{}, NORMALISING], ids=["plain", "normalising"])
def test_updates_are_those_of_the_host(place, where, case, changes):
    """Through a ring that wraps, tensors loaded in between, and a proximal term."""
    pair = [build(case, 3, p, warmup_steps=20, **changes) for p in (None, place)]
    assert_same(place, pair[1].tensors(), pair[0].tensors())  # first weights are drawn on the host
    rng, loaded = np.random.default_rng(1), copies(build(case, 8, None, **changes))
    for round_ in range(3):
        twins(pair, rng, 20)
        assert_twins(place, pair)
        for learner in pair:
            models = {n: t for n, t in loaded.items() if "/weights." in n and "optim" not in n}
            learner.load_tensors(models if round_ else loaded)
            learner.hold_near(0.1 * round_)
    assert pair[1].replay.total > pair[1].replay.capacity
    if where == "graphs":
        assert cuda_stand_in.Graph.made == GRAPHS[case]
        assert cuda_stand_in.Graph.replays >= pair[1].updates


@every_place
@pytest.mark.parametrize("case", PPO_CASES)
def test_ppos_updates_are_those_of_the_host(place, case):
    config = PPOConfig.model_validate(ppo_cases.SMALL | PPO_CASES[case])
    states, actions = [], []
    for there in (Host(), place):
        seed = np.random.SeedSequence(3)
        learner = make_learner(config, D, A, seed, num_envs=ppo_cases.N, place=there)
        assert isinstance(learner, PPO)
        world = ppo_cases.World(2)
        ppo_cases.run(learner, world, 30)
        learner.load_tensors({n: t * 0.9 for n, t in learner.tensors().items()})
        learner.hold_near(0.1)
        ppo_cases.run(learner, world, 31)  # ends inside a rollout
        assert learner.updates == 5
        states.append(learner.tensors() | learner.local_state())
        actions.append(learner.policy(ppo_cases.N).act(world.observation, np.arange(ppo_cases.N)))
    assert_same(place, states[1], states[0])
    np.testing.assert_allclose(*actions, atol=1e-4)


def commit(learner: Any, path: Path) -> None:
    learner.write_journal()
    save_file(learner.tensors() | learner.local_state(), path)
    learner.apply_journal()


def resume(learner: Any, path: Path) -> None:
    state = load_file(path)
    learner.load_tensors({name: state[name] for name in learner.tensors()})
    learner.load_local_state(state)


@every_place
@every_case
def test_a_checkpoint_goes_from_host_to_device_and_back(tmp_path, place, case):
    file, rng = tmp_path / "replay", np.random.default_rng(1)
    straight, moved = (build(case, 3, None, path, **NORMALISING) for path in (None, file))
    for there in (place, None, place):
        twins([straight, moved], rng, 20)
        commit(moved, tmp_path / "state")
        moved = build(case, 99, there, file, **NORMALISING)
        resume(moved, tmp_path / "state")
    twins([straight, moved], rng, 20)
    straight.pop_metrics()
    assert_same(place, moved.tensors(), straight.tensors())
    assert_same(place, moved.local_state(), straight.local_state())


@every_place
@pytest.mark.parametrize("case", PPO_CASES)
def test_ppos_checkpoint_goes_from_host_to_device_and_back(tmp_path, place, case):
    config = PPOConfig.model_validate(ppo_cases.SMALL | PPO_CASES[case])

    def begin(seed: int, there: Host) -> PPO:
        sequence = np.random.SeedSequence(seed)
        found = make_learner(config, D, A, sequence, num_envs=ppo_cases.N, place=there)
        assert isinstance(found, PPO)
        return found

    straight, moved = begin(3, Host()), begin(3, Host())
    worlds = ppo_cases.World(1), ppo_cases.World(1)
    for there in (place, Host(), place):
        for learner, world in zip((straight, moved), worlds, strict=True):
            ppo_cases.run(learner, world, 31)
        commit(moved, tmp_path / "state")
        moved = begin(99, there)
        resume(moved, tmp_path / "state")
    for learner, world in zip((straight, moved), worlds, strict=True):
        ppo_cases.run(learner, world, 31)
    assert_same(place, moved.tensors(), straight.tensors())
    assert_same(place, moved.local_state(), straight.local_state())


@every_place
@every_case
def test_tensors_are_float32_on_the_cpu_and_copies(place, case):
    learner = make(CASES[case], place=place)
    before = copies(learner)
    assert all(t.device == CPU and t.dtype == torch.float32 for t in before.values())
    for tensor in learner.tensors().values():
        tensor.zero_()
    assert_equal(learner.tensors(), before)
    learner.load_tensors({name: torch.zeros_like(t) for name, t in before.items()})
    assert not any(tensor.any() for tensor in learner.tensors().values())


@every_place
@every_case
def test_a_loss_that_is_not_finite_stops_learning_and_names_the_cause(place, case):
    learner = make(CASES[case], 0, None, 300, place, update_every=300)
    twins([learner], np.random.default_rng(0), 1, 300)
    before = copies(learner)
    zero, going = np.zeros((300, D), dtype=np.float32), np.zeros(300, dtype=bool)
    observe(learner, zero, act(learner, zero), np.zeros(300), zero * np.float32(np.nan), going)
    with pytest.raises(LearningError, match="next_observation is not finite at step 600, update 1"):
        learner.update()
    assert_equal(learner.tensors(), before)


@pytest.mark.parametrize("counts", [(3, 6, 20, 0, 7), (7, 1, 1), (2, 3, 1), (50,)])
def test_the_resident_rows_are_those_of_the_buffer(counts):
    def buffer_of(kind: Any, *more: Any) -> ReplayBuffer:
        rng = np.random.default_rng(4)
        return kind(*more, 7, 2, 1, ReplayConfig(alpha=0.5), rng)

    plain, resident = buffer_of(ReplayBuffer), buffer_of(ResidentReplay, CPU, 5)
    number = 0
    for count in counts:
        numbers = np.arange(number, number + count, dtype=np.float32)
        number += count
        rows = np.stack([numbers, -numbers], 1)
        for buffer in (plain, resident):
            buffer.add(rows, numbers[:, None], numbers, numbers / 2, rows + 1)
        expected, found = plain.sample(5), resident.sample(5)
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one, other)
        held = found.observation
        assert resident.sample(5).observation.data_ptr() == held.data_ptr()  # as graphs need it
        plain.sample(5)
        for buffer in (plain, resident):
            buffer.update_priorities(found.indices, found.reward)
    with pytest.raises(ValueError, match="batches have 5 transitions, not 6"):
        resident.sample(6)


def test_rows_that_a_commit_took_back_are_not_drawn(tmp_path):
    """Loaded again after more was added and drawn: that is gone from the device, too."""
    rng, config = np.random.default_rng(4), ReplayConfig()
    buffer = ResidentReplay(CPU, 50, 7, 1, 1, config, rng, tmp_path / "replay")

    def add(number: float) -> None:
        column = np.full((3, 1), number, np.float32)
        buffer.add(column, column, column[:, 0], column[:, 0], column)

    add(1.0)
    buffer.write_journal()
    state = buffer.local_state()
    buffer.apply_journal()
    add(2.0)
    assert set(buffer.sample(50).reward.tolist()) == {1.0, 2.0}
    buffer.load_local_state(state)
    add(3.0)
    assert set(buffer.sample(50).reward.tolist()) == {1.0, 3.0}


def test_a_device_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert type(choose("cpu")) is type(choose("auto")) is Host
    scenario = Scenario.model_validate(SMALL | {"device": "cuda"})
    for ask in (lambda: choose("cuda"), lambda: preflight.check_device(scenario)):
        with pytest.raises(UserError, match=r"^device: 'cuda': PyTorch .* finds no CUDA device"):
            ask()
    preflight.check_device(scenario.model_copy(update={"device": "auto"}))


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_device_that_is_there_is_used_with_graphs(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = choose(device)
    assert type(found) is Apart
    assert found.device.type == "cuda"
    assert isinstance(found.runner(), Replayed)
    assert type(choose("cpu")) is Host


def test_a_clients_files_are_the_same(tmp_path, monkeypatch):
    """Training, evaluating and saving, on the host and apart from it."""
    scenario = Scenario.model_validate(SMALL)
    for name, there in (("host", Host()), ("apart", Apart(CPU, Host().runner))):
        monkeypatch.setattr(agents, "choose", lambda _, there=there: there)
        client = Trainer(scenario, 0, tmp_path / name)
        client.train(3)
        client.save()
    for file in ("state.safetensors", "best.safetensors", "car_0.replay"):
        assert (tmp_path / "host" / file).read_bytes() == (tmp_path / "apart" / file).read_bytes()
