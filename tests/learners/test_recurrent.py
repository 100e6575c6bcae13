"""PPO with a memory: passes against autograd, sequences against single steps, a memory task."""

import numpy as np
import pytest
import torch
from learner_cases import assert_equal, copies
from ppo_cases import D, N, World, make, run
from ppo_reference import Reference, advantages
from safetensors.torch import load_file, save_file

from f110_fl.config.learners import PPOConfig
from f110_fl.learners.base import Transitions
from f110_fl.learners.networks.lstm import Lstm, LstmPass
from f110_fl.learners.ppo.ppo import PPO

MEMORY = {"lstm": {"units": 6, "sequence": 4}}


def lstm_step(
    weights: dict[str, torch.Tensor], x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The equations, a row of units at a time."""
    z = x @ weights["input"].T + h @ weights["hidden"].T + weights["bias"]
    i, f, o, g = z.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def test_the_equations_are_pytorchs():
    lstm = Lstm(3, 4, orthogonal=False, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.LSTMCell(3, 4)
    order = torch.cat([torch.arange(4) + 4 * k for k in (0, 1, 3, 2)])  # theirs: i, f, g, o
    with torch.no_grad():
        theirs.weight_ih.copy_(lstm.input[order])
        theirs.weight_hh.copy_(lstm.hidden[order])
        theirs.bias_ih.copy_(lstm.bias[order])
        theirs.bias_hh.zero_()
    x, h, c = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 4)
    run_once = LstmPass(lstm, 1, 5)
    output = run_once.forward(x, torch.zeros(1, 5, dtype=torch.bool), h, c)
    expected_h, expected_c = theirs(x, (h, c))
    torch.testing.assert_close(output[0], expected_h.detach())
    torch.testing.assert_close(run_once.c[0], expected_c.detach())


def test_the_passes_are_autograds():
    steps, rows, units = 7, 5, 4
    draw = torch.Generator().manual_seed(0)
    lstm = Lstm(3, units, orthogonal=False, generator=draw)
    x = torch.randn(steps, rows, 3, generator=draw)
    first = torch.rand(steps, rows, generator=draw) < 0.3
    h, c = torch.randn(2, rows, units, generator=draw)
    gradient = torch.randn(steps, rows, units, generator=draw)
    weights = dict(lstm.named_parameters())
    hs, state = [], (h, c)
    for t in range(steps):
        keep = (~first[t]).float()[:, None]
        state = lstm_step(weights, x[t], keep * state[0], keep * state[1])
        hs.append(state[0])
    expected = torch.autograd.grad(torch.stack(hs), list(weights.values()), gradient)
    for parameter in lstm.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    passes = LstmPass(lstm, steps, rows)
    output = passes.forward(x.flatten(0, 1), first, h, c)
    torch.testing.assert_close(output, torch.stack(hs).detach())
    passes.backward(gradient)
    for parameter, g in zip(lstm.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, g, atol=1e-5, rtol=1e-5)


class Remembering(Reference):
    """Outputs of every step of every environment, one step at a time, from zeros."""

    def outputs(self, net: str, learner: PPO) -> torch.Tensor:
        """(T, N, outputs) of the rollout, and the states (T, 2, N, H) after every step."""
        rollout = learner.rollout
        names = ("input", "hidden", "bias")
        weights = {name: self.nets[f"{net}/lstm.{name}"] for name in names}
        h = c = torch.zeros(N, 6, dtype=torch.float64)
        hs, states = [], []
        for t in range(len(rollout.mask)):
            keep = torch.from_numpy(~rollout.first[t])[:, None]
            x = torch.from_numpy(rollout.observation[t]).double()
            h, c = lstm_step(weights, x, keep * h, keep * c)
            hs.append(h)
            states.append(torch.stack([h, c]).detach())
        self.states = torch.stack(states)
        return self.network(net, torch.stack(hs))

    def next_value(self, observation: np.ndarray, t: int, n: int) -> float:
        names = ("input", "hidden", "bias")
        weights = {name: self.nets[f"critic/lstm.{name}"] for name in names}
        x = torch.from_numpy(observation).double()
        h, _ = lstm_step(weights, x, *self.states[t, :, n])
        return self.network("critic", h).item()


def test_an_update_matches_a_plain_implementation():
    """One sequence an environment: truncated back-propagation does not truncate."""
    changes = {
        "lstm": {"units": 6, "sequence": 12},
        "epochs": 1,
        "minibatches": 1,
        "max_grad_norm": 1e3,
        "orthogonal_init": False,
        "entropy_coefficient": 0.01,
    }
    learner, world = make(**changes), World(4)
    reference = Remembering(learner.config, copies(learner))
    steps = [world.step(learner) for _ in range(12)]
    value = reference.outputs("critic", learner)[..., 0]
    samples = []
    for n in range(N):
        rows, rest = [], []
        for t, step in enumerate(steps):
            for i in np.flatnonzero(step["envs"] == n):
                ended = bool(step["terminated"][i] or step["truncated"][i])
                beyond = reference.next_value(step["next_observation"][i], t, n)
                following = 0.0 if step["terminated"][i] else beyond
                rows.append((step["reward"][i], value[t, n].item(), following, ended))
                rest.append((t, n))
        found, returns = advantages(learner.config, rows)
        samples += [(t, n, a, r) for (t, n), a, r in zip(rest, found, returns, strict=True)]
    t, n, advantage, returns = map(np.array, zip(*samples, strict=True))

    for tensor in reference.nets.values():
        tensor.requires_grad_(True)
    mean, values = (reference.outputs(net, learner)[t, n] for net in ("actor", "critic"))
    reference.network = lambda net, _: mean if net == "actor" else values
    batch = [
        {
            "observation": learner.rollout.observation[t, n],
            "sample": learner.rollout.action[t, n],
            "log_prob": learner.rollout.log_prob[t, n],
            "advantage": a,
            "return": r,
            "value": 0.0,
        }
        for t, n, a, r in zip(t, n, advantage, returns, strict=True)
    ]
    gradients = torch.autograd.grad(reference.loss(batch), list(reference.nets.values()))
    learner.update()
    for name, expected in zip(reference.nets, gradients, strict=True):
        net, parameter = name.split("/")
        grad = dict(getattr(learner, net).named_parameters())[parameter].grad
        torch.testing.assert_close(grad.double(), expected, atol=1e-5, rtol=1e-4, msg=name)
    assert any(len(s["envs"]) < N for s in steps)
    assert any(s["terminated"].any() for s in steps)
    assert any(s["truncated"].any() for s in steps)


def test_sequences_start_where_acting_was():
    """Nothing has changed before the first gradient step: every ratio is 1, in every rollout."""
    learner, world = make(epochs=1, minibatches=1, orthogonal_init=False, **MEMORY), World(2)
    for _ in range(4):
        run(learner, world, 12)
        metrics = learner.pop_metrics()
        assert metrics["kl"] < 1e-10
        assert metrics["clip_fraction"] == 0


def test_values_carry_over_from_one_rollout_to_the_next():
    """Two short rollouts without learning are one long one."""
    short = make(learning_rate=1e-30, orthogonal_init=False, rollout_steps=8, **MEMORY)
    long = make(learning_rate=1e-30, orthogonal_init=False, rollout_steps=16, **MEMORY)
    found, worlds = [], (World(3), World(3))
    for step in range(16):
        for learner, world in zip((short, long), worlds, strict=True):
            world.step(learner)
        if step % 8 == 7:
            with torch.inference_mode():
                rollout = short.rollout
                found.append(
                    short._model.values(rollout.last_observation, rollout.truncated_observations())[
                        0
                    ]
                )
            short.rollout.clear()
    with torch.inference_mode():
        rollout = long.rollout
        expected = long._model.values(rollout.last_observation, rollout.truncated_observations())[0]
    mask = long.rollout.mask
    np.testing.assert_allclose(np.concatenate(found)[mask], expected[mask], atol=1e-6)


def test_a_policy_remembers_its_own_environments_and_forgets_at_a_reset():
    learner = make(orthogonal_init=False, **MEMORY)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3, D), dtype=np.float32)
    policy, alone = learner.policy(3), learner.policy(3)
    for t in range(4):
        together = policy.act(x[t], np.arange(3))
        np.testing.assert_array_equal(alone.act(x[t, 1:2], np.array([1]))[0], together[1])
    learner.act(x[0], np.arange(3))  # its memory is not the policy's
    fresh = learner.policy(3).act(x[4], np.arange(3))
    policy.reset(np.array([0, 2]))
    found = policy.act(x[4], np.arange(3))
    np.testing.assert_array_equal(found[[0, 2]], fresh[[0, 2]])
    assert not np.array_equal(found[1], fresh[1])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 12, 18])
def test_a_resumed_learner_goes_on_byte_by_byte(tmp_path, steps):
    original, world, twin = make(3, **MEMORY), World(1), World(1)
    run(original, world, steps)
    run(make(3, **MEMORY), twin, steps)
    save_file(original.tensors() | original.local_state(), tmp_path / "state")
    resumed, state = make(99, **MEMORY), load_file(tmp_path / "state")
    resumed.load_tensors({n: state[n] for n in resumed.tensors()})
    resumed.load_local_state(state)
    run(original, world, 20)
    run(resumed, twin, 20)
    assert_equal(resumed.tensors(), original.tensors())
    assert_equal(resumed.local_state(), original.local_state())
    for name in ("acting", "critic", "starts"):
        partial = {k: v for k, v in original.local_state().items() if k != f"model/{name}"}
        with pytest.raises(ValueError, match=name):
            resumed.load_local_state(partial)


def test_sequences_must_fill_a_rollout():
    with pytest.raises(ValueError, match=r"rollout_steps 10 is not a multiple of lstm\.sequence 4"):
        PPOConfig(rollout_steps=10, lstm={"units": 3, "sequence": 4})


def recall(memory: bool) -> float:
    """Reward -|a - cue|^2 in the last of 4 steps; the cue is seen in the first alone."""
    learner = make(
        0,
        8,
        lstm={"units": 16, "sequence": 8} if memory else None,
        actor_hidden=(16,),
        critic_hidden=(16,),
        rollout_steps=32,
        learning_rate=5e-3,
        minibatches=4,
        epochs=4,
    )
    rng, envs, never = np.random.default_rng(0), np.arange(8), np.zeros(8, bool)

    def episode(step: object) -> float:
        cue = rng.choice([-0.5, 0.5], 8).astype(np.float32)
        for t in range(4):
            x = np.zeros((8, D), np.float32)
            x[:, 0], x[:, 1] = cue * (t == 0), t == 3
            miss = step(x, cue, t)
        return float(miss.mean())

    def train(x: np.ndarray, cue: np.ndarray, t: int) -> np.ndarray:
        action = learner.act(x, envs)
        reward = -np.square(action - cue[:, None]).sum(1).astype(np.float64) * (t == 3)
        learner.observe(Transitions(envs, x, action, reward, x, np.full(8, t == 3), never))
        learner.update()
        return reward

    policy = learner.policy(8)

    def test(x: np.ndarray, cue: np.ndarray, t: int) -> np.ndarray:
        if t == 0:
            policy.reset(envs)
        return np.square(policy.act(x, envs) - cue[:, None]).sum(1)

    for _ in range(40 * 8):
        episode(train)
    return float(np.mean([episode(test) for _ in range(20)]))


@pytest.mark.slow
def test_a_memory_solves_what_needs_one():
    assert recall(memory=True) < 0.1
    assert recall(memory=False) > 0.4  # two actions, each 0.25 off at best
