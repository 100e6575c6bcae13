"""Learners on another device than the CPU.

PyTorch's ``meta`` device stands for it everywhere: its tensors have no values, but an operation
on tensors of two devices is refused as on a GPU. Where there is a GPU, values are compared, too.
A stand-in for CUDA graphs records and repeats on the CPU, with values.
"""

from typing import Any

import cuda_stand_in
import numpy as np
import ppo_cases
import pytest
import torch
from learner_cases import (
    CONV,
    DQN,
    MIRROR,
    NOISY,
    OBSERVATION,
    SAC,
    TD3,
    A,
    D,
    assert_equal,
    copies,
    make,
)
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from small import SMALL

from f110_fl.config.learners import LearnerConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import CPU, Learner, LearnerSetup
from f110_fl.learners.device import choose
from f110_fl.learners.factory import make_learner
from f110_fl.learners.off_policy.recorded import Recorded
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.runs import preflight

META = torch.device("meta")
NORMALISING = {"normalise_observations": True, "normalise_rewards": True}
PPO = ppo_cases.SMALL | {"algorithm": "ppo"}
CLIPPING = {"optimizer": {"kind": "adamw", "weight_decay": 0.1, "max_grad_norm": 0.5}}
CASES: dict[str, dict[str, Any]] = {
    "td3": TD3,
    "sac": SAC | CLIPPING | NORMALISING,
    "dqn": DQN | NORMALISING | {"n_step": 3},
    "noisy": NOISY,
    "conv": TD3 | CONV,
    "means": SAC | NORMALISING | {"mirror": True, "layer_norm": True},
    "ppo": PPO,
    "lstm": PPO | NORMALISING | {"lstm": {"units": 8, "sequence": 4}},
}
every_case = pytest.mark.parametrize("case", CASES)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def build(case: str, device: torch.device, seed: int = 3, **setup: Any) -> Learner:
    config = TypeAdapter(LearnerConfig).validate_python(CASES[case])
    sequence, own = (
        np.random.SeedSequence(seed),
        {"observation": OBSERVATION, "mirror": MIRROR} | setup,
    )
    return make_learner(config, LearnerSetup(D, A, sequence, ppo_cases.N, device=device, **own))


@pytest.fixture
def _valueless(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let networks go to the meta device as to a GPU, in place, and zeros come back from it."""

    def zeros(tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(tensor, device=CPU) if tensor.device == META else tensor

    monkeypatch.setattr(torch.Tensor, "cpu", zeros)
    monkeypatch.setattr(torch.Tensor, "item", lambda _: 0.0)
    monkeypatch.setattr(torch.Tensor, "__float__", lambda _: 0.0)
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("_valueless")
@every_case
def test_everything_that_meets_is_on_the_device(case):
    learner = build(case, META)
    ppo_cases.run(learner, ppo_cases.World(1), 30)
    assert learner.updates > 1
    learner.set_proximal(0.1)
    ppo_cases.run(learner, ppo_cases.World(2), 12)
    learner.policy(2).act(np.zeros((2, D), np.float32), np.arange(2))
    for name, tensor in learner._tensors.items():
        assert tensor.device == (CPU if "normaliser" in name else META), name
    assert all(t.device == CPU and t.dtype == torch.float32 for t in learner.tensors().values())


@pytest.mark.usefixtures("_valueless")
def test_what_is_left_on_the_cpu_is_refused(monkeypatch):
    """So the test before this one would notice what is left behind."""
    monkeypatch.setattr(Batch, "to", lambda batch, _: batch)
    with pytest.raises(RuntimeError, match="not on the expected device"):
        ppo_cases.run(build("td3", META), ppo_cases.World(1), 30)


RECORDED = [case for case in CASES if case not in ("ppo", "lstm")]
MORE = {
    "hard": {"case": "noisy", "duelling": True},
    "single": {"case": "dqn", "double": False},
    "uniform": {"case": "sac", "replay": {"capacity": 300, "alpha": 0.0}},
    "fixed": {"case": "sac", "temperature": {"automatic": False}},
}


@pytest.mark.parametrize("case", [*RECORDED, *MORE])
def test_what_is_recorded_learns_what_is_called(monkeypatch, case):
    """To the byte, since the stand-in does on the CPU what was recorded on the CPU."""
    cuda_stand_in.install(monkeypatch)
    changes = dict(MORE.get(case, {"case": case}))
    settings = CASES[changes.pop("case")] | changes
    called, recorded = make(settings, num_envs=3), make(settings, num_envs=3)
    names = [name for name in vars(recorded) if name.endswith("_pass")]
    for name in names:
        setattr(recorded, name, Recorded())
    worlds = ppo_cases.World(1), ppo_cases.World(1)
    other = make(settings, seed=5, num_envs=3).tensors()
    for change in (
        lambda _: None,
        lambda learner: learner.set_proximal(0.1),
        lambda learner: learner.load_tensors(other),
    ):
        for learner, world in zip((called, recorded), worlds, strict=True):
            change(learner)
            ppo_cases.run(learner, world, 10)
        assert_equal(recorded.tensors(), called.tensors())
        assert_equal(recorded.local_state(), called.local_state())
        assert recorded.pop_metrics() == called.pop_metrics()
    assert called.updates > 50
    assert cuda_stand_in.Graph.made == len(names) > 0
    assert cuda_stand_in.Graph.replays >= recorded.updates


def test_results_and_gradients_of_a_recorded_function_stay_in_place(monkeypatch):
    cuda_stand_in.install(monkeypatch)
    weight, calls = torch.nn.Parameter(torch.tensor([2.0, 3.0])), []

    def loss(batch, noise, noises):
        calls.append(1)
        weight.grad = None
        loss = (batch.reward.sum() + noise.sum() + noises[0].sum()) * weight.square().sum()
        loss.backward()
        return loss.detach()

    def batch(value):
        rows = torch.full((4, 2 * D + A + 2), value)
        return Batch.of(rows, D, torch.ones(4), torch.zeros(4, dtype=torch.int64))

    run = Recorded()
    first = run(loss, batch(1.0), torch.ones(2), [torch.ones(1)])
    gradient, count = weight.grad, len(calls)
    assert first.item() == 7.0 * 13.0
    gradient.mul_(0.0)  # as clipping changes it
    with torch.no_grad():
        weight.copy_(torch.tensor([1.0, 5.0]))
    second = run(loss, batch(2.0), torch.zeros(2), [torch.full((1,), 4.0)])
    assert second is first
    assert weight.grad is gradient
    assert len(calls) == count
    assert second.item() == 12.0 * 26.0
    assert gradient.tolist() == [24.0, 120.0]


def test_what_a_graph_cannot_hold_is_refused(monkeypatch):
    """So the tests before this one would notice it."""
    cuda_stand_in.install(monkeypatch)
    learner = make(TD3)
    learner._critic_pass = Recorded()
    loss = learner._critic_loss
    monkeypatch.setattr(learner, "_critic_loss", lambda *args: loss(*args)[0].item())
    with pytest.raises(AssertionError, match="in a graph"):
        ppo_cases.run(learner, ppo_cases.World(1, 1), 30)


def assert_near(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal, but for the rounding of sums in another order."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@on_a_gpu
@every_case
def test_a_gpu_learns_what_the_cpu_does(case):
    found = []
    for device in (CPU, torch.device("cuda")):
        learner = build(case, device)
        ppo_cases.run(learner, ppo_cases.World(2), 30)
        found.append(learner.tensors())
    assert_near(found[1], found[0])


@on_a_gpu
@every_case
def test_a_checkpoint_goes_to_a_gpu_and_back(tmp_path, case):
    straight, moved = build(case, CPU), build(case, CPU, replay_path=tmp_path / "replay")
    worlds = ppo_cases.World(1), ppo_cases.World(1)
    for device in (torch.device("cuda"), CPU):
        for learner, world in zip((straight, moved), worlds, strict=True):
            ppo_cases.run(learner, world, 11)
        moved.write_journal()
        save_file(copies(moved) | moved.local_state(), tmp_path / "state")
        moved.apply_journal()
        moved, state = build(case, device, 99, replay_path=tmp_path / "replay"), tmp_path / "state"
        loaded = load_file(state)
        moved.load_tensors({name: loaded[name] for name in moved.tensors()})
        moved.load_local_state(loaded)
    assert_near(moved.tensors(), straight.tensors())
    for learner, world in zip((straight, moved), worlds, strict=True):
        ppo_cases.run(learner, world, 5)
    assert_near(moved.tensors(), straight.tensors())


def test_a_device_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose("cpu") == choose("auto") == CPU
    scenario = Scenario.model_validate(SMALL | {"device": "cuda"})
    for ask in (lambda: choose("cuda"), lambda: preflight.check_device(scenario)):
        with pytest.raises(UserError, match=r"^device: 'cuda': PyTorch .* finds no CUDA device"):
            ask()
    preflight.check_device(scenario.model_copy(update={"device": "auto"}))


def test_a_device_that_is_there_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("cuda") == choose("auto") == torch.device("cuda")
    assert choose("cpu") == CPU
