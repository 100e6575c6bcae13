"""Encoders: ours by hand, their gradients, their names, and what other packages' must be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from learner_cases import CONV, DQN, OBSERVATION, SAC, TD3, A, D, copies, make, one_thread, step
from small import SMALL, merge
from torch import Tensor, nn

from f110_fl.config.learners import ConvConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.federation.sharing import averaged_names
from f110_fl.learners.base import ObservationParts
from f110_fl.learners.networks import encoder as encoders
from f110_fl.learners.networks.encoder import ConvEncoder, columns, make_encoder
from f110_fl.learners.off_policy.learner import OffPolicyLearner
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.loading.scenarios import load_scenario
from f110_fl.runs.preflight import check_encoders
from f110_fl.tensors import TensorName
from sim.settings import Config

PARTS: ObservationParts = (("motion", 4), ("lidar", 54), ("pose", 4))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_convolutions_by_hand() -> None:
    made = ConvEncoder(ConvConfig(channels=(3, 2), strides=(2, 1)), PARTS, generator())
    seen = np.random.default_rng(0).standard_normal((2, 62))
    x = seen[:, None, 4:58]
    for weight, bias, stride in zip(made.weights, made.biases, (2, 1), strict=True):
        w, b = weight.detach().double().numpy(), bias.detach().double().numpy()
        places = range(0, x.shape[2] - w.shape[2] + 1, stride)
        windows = np.stack([x[:, :, i : i + w.shape[2]] for i in places], 1)
        x = np.maximum(np.einsum("blck,ock->bol", windows, w) + b[:, None], 0.0)
    expected = np.concatenate((x.reshape(2, -1), seen[:, :4], seen[:, 58:]), 1)
    assert made.features == expected.shape[1]
    found = made(torch.tensor(seen, dtype=torch.float32)).detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for weight in made.weights:
        assert weight.abs().max() <= weight[0].numel() ** -0.5


def test_a_seed_draws_the_same_encoder_and_each_network_has_its_own() -> None:
    first, again = (copies(make(TD3 | CONV)) for _ in range(2))
    name = "encoder.weights.0"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[f"model/actor/{name}"], first[f"model/critic/{name}"])
    assert torch.equal(first[f"model/actor/{name}"], first[f"model/actor_target/{name}"])


def test_targets_follow_with_their_encoders() -> None:
    learner, rng = make(TD3 | CONV, policy_delay=1), np.random.default_rng(0)
    name, target = (f"model/critic{suffix}/encoder.weights.1" for suffix in ("", "_target"))
    step(learner, rng)
    for _ in range(3):
        before = copies(learner)
        step(learner, rng)
        now = learner.tensors()
        expected = before[target].lerp(now[name], learner.config.tau)
        torch.testing.assert_close(now[target], expected)
        assert not torch.equal(now[name], before[name])


# Gradients


def critic_loss(_: OffPolicyLearner, network: nn.Module, batch: Batch, target: Tensor) -> Any:
    error = network(batch.observation_action) - target
    return (batch.weights * error.square()).mean(1).sum()


def q_loss(learner: Any, network: nn.Module, batch: Batch, target: Tensor) -> Any:
    value = network(batch.observation).gather(1, batch.action.long())[:, 0]
    huber = nn.functional.huber_loss(value, target, reduction="none", delta=learner.config.huber)
    return (batch.weights * huber).mean()


def td3_actor_loss(learner: Any, network: nn.Module, batch: Batch, _: Tensor) -> Any:
    critic = deepcopy(learner.critic).double()
    action = network(batch.observation)
    return -critic.first(torch.cat((batch.observation, action), 1)).mean()


def sac_actor_loss(learner: Any, network: Any, batch: Batch, _: Tensor) -> Any:
    critic = deepcopy(learner.critic).double()
    noise = torch.zeros(len(batch.reward), A, dtype=torch.float64)
    action, log_prob = network.sample(batch.observation, noise)
    value = critic(torch.cat((batch.observation, action), 1)).amin(0)
    return (learner.config.temperature.initial * log_prob - value).mean()


@pytest.mark.parametrize(
    ("settings", "name", "loss"),
    [
        (TD3, "critic", critic_loss),
        (TD3, "actor", td3_actor_loss),
        (SAC, "critic", critic_loss),
        (SAC, "actor", sac_actor_loss),
        (DQN, "q", q_loss),
    ],
    ids=["td3-critic", "td3-actor", "sac-critic", "sac-actor", "dqn"],
)
def test_an_encoders_gradient_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], name: str, loss: Callable[..., Any]
) -> None:
    """The gradient that an update's step took, and the loss's differences in float64."""
    options = {"policy_delay": 1} if settings is TD3 else {}
    learner: Any = make(settings | CONV, warmup_steps=40, **options)
    rng = np.random.default_rng(3)
    for _ in range(40):
        step(learner, rng)
    batch = learner._sample()
    monkeypatch.setattr(learner, "_sample", lambda: batch)
    monkeypatch.setattr(learner, "_normal", lambda *shape: torch.zeros(shape))
    network = deepcopy(getattr(learner, name)).double()  # as it is before the step
    noise = ([], []) if name == "q" else (torch.zeros(len(batch.reward), A),)
    target = learner._target_value(batch, *noise).double()
    optimizer, gradients = learner._optimizers[name], {}
    monkeypatch.setattr(learner, "_step", noting(learner._step, optimizer, gradients))
    learner._learn(batch)

    precise = Batch(*(part.double() for part in batch))
    entries = [entry for entry in network.named_parameters() if entry[0].startswith("encoder.")]
    assert [key for key, _ in entries] == [
        f"encoder.{kind}.{layer}" for kind in ("weights", "biases") for layer in (0, 1)
    ]
    live = dict(getattr(learner, name).named_parameters())
    for key, parameter in entries:
        found, flat = gradients[live[key]].double(), parameter.data.view(-1)
        differences = torch.empty_like(flat)
        for i, value in enumerate(flat.tolist()):
            around = []
            for shift in (1e-6, -1e-6):
                flat[i] = value + shift
                around.append(loss(learner, network, precise, target).item())
            flat[i] = value
            differences[i] = (around[0] - around[1]) / 2e-6
        assert differences.any()
        torch.testing.assert_close(found.view(-1), differences, rtol=1e-3, atol=1e-5)


def noting(step: Callable[..., None], optimizer: Any, gradients: dict[Any, Tensor]) -> Any:
    """Returns a learner's step that keeps the gradients of one optimizer."""

    def noted(stepping: Any, *rest: Any) -> None:
        if stepping is optimizer:
            gradients.update({p: p.grad.clone() for p in optimizer.parameters})
        step(stepping, *rest)

    return noted


# Federation and files


def test_a_personal_head_is_the_output_layer_however_deep_the_encoder() -> None:
    deep = {"kind": "conv", "channels": [2] * 3, "kernels": [2] * 3, "strides": [1] * 3}
    learner = make(TD3 | {"encoder": deep, "hidden": [6]})
    names = [f"car_0/{name}" for name in learner.tensors()]
    assert "car_0/model/actor/encoder.weights.2" in names
    federated = {"federated": {"share": "all_but_head", "optimizer_strategy": "average"}}
    kept = set(names) - averaged_names(names, Scenario.model_validate(merge(SMALL, federated)))
    parsed = {TensorName.parse(name) for name in kept}
    assert {name.parameter for name in parsed} == {"weights.1", "biases.1"}
    assert {name.network for name in parsed} == {
        *("actor", "actor_target", "critic", "critic_target"),
    }


# Refusals


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"learners": {"car_0": {"encoder": {"kind": "conf"}}}},
            "car_0.encoder.kind: found 'conf' (text); allowed: conv (did you mean 'conv'?)",
        ),
        (
            {"learners": {"car_0": {"encoder": {"strides": [1]}}}},
            "channels, kernels and strides must be as many as there are layers",
        ),
        (
            {"learners": {"car_0": {"encoder": {}}}, "env": {"observation": ["pose"]}},
            "learners.car_0: encoder 'conv': lidar must be in the observation, found pose",
        ),
        (
            {"learners": {"car_0": {"encoder": {}}}, "env": {"lidar": {"beams": 5}}},
            "learners.car_0: encoder 'conv': 5 beams are too few for these kernels and strides",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    write_scenario: Callable[..., Path], changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_encoders(load_scenario(write_scenario(**changes)))
    assert str(caught.value).endswith(line)


def test_ppo_has_none(write_scenario: Callable[..., Path]) -> None:
    learner = {"algorithm": "ppo", "encoder": {"kind": "conv"}}
    path = write_scenario()
    path.write_text(json.dumps(SMALL | {"learners": {"car_0": learner}}))
    with pytest.raises(UserError, match=r"learners\.car_0\.encoder: unknown key"):
        load_scenario(path)


def test_where_the_parts_are() -> None:
    assert [columns(PARTS, part) for part, _ in PARTS] == [slice(0, 4), slice(4, 58), slice(58, 62)]
    with pytest.raises(UserError, match="not known"):
        make_encoder(ConvConfig(), (), generator())


class OddConfig(Config):
    kind: Literal["odd"] = "odd"


class Odd(nn.Module):
    """What the interface asks for; those that are made from it each break one promise."""

    def __init__(self, _: OddConfig, parts: ObservationParts, drawn: torch.Generator) -> None:
        super().__init__()
        self.layer = nn.Linear(sum(size for _, size in parts), 3)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, generator=drawn)
        self.register_buffer("constant", torch.ones(3), persistent=False)
        self.features = 3

    def forward(self, observation: Tensor) -> Any:
        return self.layer(observation) * self.constant


class Unsized(Odd):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        del self.features


class Wide(Odd):
    def forward(self, observation: Tensor) -> Any:
        return observation


class Chance(Odd):
    def forward(self, observation: Tensor) -> Any:
        return nn.functional.dropout(super().forward(observation))


class Kept(Odd):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.norm = nn.BatchNorm1d(3)


class Double(Odd):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.double()


class Own(Odd):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.layer.reset_parameters()


class Idle(Odd):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle = nn.Parameter(torch.zeros(1))


class Fussy(Odd):
    def __init__(self, *_: Any) -> None:
        raise ValueError("not today")


@pytest.mark.parametrize(
    ("maker", "line"),
    [
        (lambda *_: 3, "an nn.Module with features, an int, is needed, found int"),
        (Unsized, "an nn.Module with features, an int, is needed, found Unsized"),
        (Wide, "found (3, 5) torch.float32 features, needed are (3, 3)"),
        (Chance, "equal observations have different features"),
        (Kept, "'norm.running_mean' is no parameter and would not be saved"),
        (Double, "parameter 'layer.weight' must be float32 and trained"),
        (Own, "parameter 'layer.weight' must be drawn by the generator that is given"),
        (Idle, "parameter 'idle' has no influence on the features"),
        (Fussy, "not today"),
    ],
)
def test_another_packages_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch, maker: Any, line: str
) -> None:
    monkeypatch.setattr(encoders, "ENCODERS", {OddConfig: Odd})
    good = make_encoder(OddConfig(), OBSERVATION, generator())
    assert good is not None
    assert good(torch.zeros(2, D)).shape == (2, 3)
    monkeypatch.setattr(encoders, "ENCODERS", {OddConfig: maker})
    with pytest.raises(UserError) as caught:
        make_encoder(OddConfig(), OBSERVATION, generator())
    assert str(caught.value).startswith(f"encoder 'odd': {line}")
