"""Learners on another device than the CPU.

PyTorch's ``meta`` device stands for it everywhere: its tensors have no values, but an operation
on tensors of two devices is refused as on a GPU. Where there is a GPU, values are compared, too.
"""

from typing import Any

import numpy as np
import ppo_cases
import pytest
import torch
from learner_cases import CONV, DQN, NOISY, OBSERVATION, SAC, TD3, A, D, copies
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from small import SMALL

from f110_fl.config.learners import LearnerConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import CPU, Learner, LearnerSetup
from f110_fl.learners.device import choose
from f110_fl.learners.factory import make_learner
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
    "ppo": PPO,
    "lstm": PPO | NORMALISING | {"lstm": {"units": 8, "sequence": 4}},
}
every_case = pytest.mark.parametrize("case", CASES)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def build(case: str, device: torch.device, seed: int = 3, **setup: Any) -> Learner:
    config = TypeAdapter(LearnerConfig).validate_python(CASES[case])
    sequence, own = np.random.SeedSequence(seed), {"observation": OBSERVATION} | setup
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
