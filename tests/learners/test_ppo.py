"""PPO against a plain float64 implementation, exact resumption, and that it learns."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from learner_cases import assert_equal, copies, one_thread
from ppo_cases import SMALL, A, D, N, World, make, run
from ppo_reference import Reference
from safetensors.torch import load_file, save_file
from torch.distributions import Normal

from f110_fl.config.learners import PPOConfig
from f110_fl.learners.base import LearnerSetup, LearningError, Transitions
from f110_fl.learners.factory import make_learner
from f110_fl.learners.networks.mlp import Mlp, MlpPass
from f110_fl.learners.ppo.ppo import PPO


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def episodes(learner: PPO, steps: list[dict[str, np.ndarray]]) -> list[list[dict]]:
    """Transitions by environment, as the reference wants them."""
    found: list[list[dict]] = [[] for _ in range(N)]
    for t, step in enumerate(steps):
        for i, n in enumerate(step["envs"]):
            transition = {name: column[i] for name, column in step.items()}
            transition["row"] = t * N + n
            transition["sample"] = learner.rollout.action[t, n].copy()
            transition["log_prob"] = learner.rollout.log_prob[t, n].copy()
            np.testing.assert_array_equal(
                transition["action"], np.clip(transition["sample"], -1, 1)
            )
            found[n].append(transition)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "relu", "entropy_coefficient": 0.03, "value_clip": 0.05},
        {"normalise_advantages": False, "clip_range": 0.02, "max_grad_norm": 0.01},
        {"orthogonal_init": False, "minibatches": 5, "epochs": 5, "gae_lambda": 0.5},
    ],
    ids=["default", "relu_and_value_clip", "tight", "remainder"],
)
def test_updates_match_a_plain_implementation(changes):
    learner, world = make(**changes), World(4)
    reference = Reference(learner.config, copies(learner))
    for rollout in range(3):
        steps = [world.step(learner) for _ in range(12)]
        transitions = episodes(learner, steps)
        rng = np.random.default_rng()
        rng.bit_generator.state = learner._shuffle_rng.bit_generator.state
        before = copies(learner)
        learner.update()
        reference.update(transitions, rng, learner.learning_rate)
        found = learner.tensors()
        for name, expected in reference.nets.items():
            assert not torch.equal(found[f"model/{name}"], before[f"model/{name}"])
            torch.testing.assert_close(
                found[f"model/{name}"].double(),
                expected,
                rtol=0,
                atol=1e-5,
                msg=f"{rollout} {name}",
            )
    ended = np.concatenate([s["terminated"] for s in steps])
    cut = np.concatenate([s["truncated"] for s in steps])
    assert ended.any()
    assert cut.any()
    assert len(ended) < 12 * N  # some rows were absent


def test_log_probabilities_are_those_of_the_unclipped_samples():
    learner, world = make(initial_log_std=0.5), World(0)
    steps = [world.step(learner) for _ in range(5)]
    for t, step in enumerate(steps):
        envs = step["envs"]
        with torch.no_grad():
            mean = learner.actor(torch.from_numpy(step["observation"]))
        sample = torch.from_numpy(learner.rollout.action[t, envs])
        expected = Normal(mean, learner.actor.log_std.detach().exp()).log_prob(sample).sum(1)
        found = torch.from_numpy(learner.rollout.log_prob[t, envs])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    samples = learner.rollout.action[:5]
    assert (np.abs(samples) > 1).any()
    assert all(np.abs(step["action"]).max() <= 1 for step in steps)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", [(5, 2), (5, 7, 1), (4, 8, 6, 3)])
def test_the_passes_are_autograds(activation, sizes):
    network = Mlp(sizes, activation, None, torch.Generator().manual_seed(1))
    x = torch.randn(9, sizes[0], generator=torch.Generator().manual_seed(2))
    gradient = torch.randn(9, sizes[-1], generator=torch.Generator().manual_seed(3))
    output = network(x)
    expected = torch.autograd.grad(output, list(network.parameters()), gradient)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    passes = MlpPass(network, 9)
    torch.testing.assert_close(passes.forward(x), output.detach())
    passes.backward(gradient)
    for parameter, g in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, g, atol=1e-5, rtol=1e-5)


def test_initial_weights_are_orthogonal_and_the_first_actions_small():
    learner = make(actor_hidden=(32, 16))
    for k, gain in ((0, 2**0.5), (1, 2**0.5), (2, 0.01)):
        weight = learner.actor.weights[k].detach()
        weight = weight if weight.shape[0] < weight.shape[1] else weight.T
        gram = gain**2 * torch.eye(len(weight))
        torch.testing.assert_close(weight @ weight.T, gram, atol=1e-5, rtol=1e-5)
    assert learner.actor.log_std.tolist() == [-0.5, -0.5]
    assert not any(bias.any() for bias in learner.actor.biases)


def gradient_steps(learner: PPO) -> int:
    return int(learner.tensors()["optimizer/critic/biases.0/step"])


def test_it_learns_after_every_rollout_and_only_then():
    learner, world = make(), World(0)
    for step in range(1, 37):
        run(learner, world, 1)
        assert learner.updates == step // 12
        assert gradient_steps(learner) == 12 * (step // 12)


def test_the_learning_rate_follows_its_schedule():
    learner, world = make(schedule={"kind": "linear", "updates": 2}), World(0)
    for expected in (1e-3, 5e-4, 0.0, 0.0):
        assert learner.learning_rate == pytest.approx(expected)
        before = copies(learner)
        run(learner, world, 12)
        assert learner.pop_metrics()["learning_rate"] == pytest.approx(expected)
    for name, tensor in learner.tensors().items():
        assert torch.equal(tensor, before[name]) or name.startswith("optimizer/")


def test_an_update_stops_at_the_divergence_allowed():
    free, held = make(learning_rate=0.02), make(learning_rate=0.02, target_kl=0.01)
    for learner in (free, held):
        run(learner, World(0), 12)
    assert gradient_steps(free) == 12
    assert 1 <= gradient_steps(held) < 12


def test_the_proximal_term_adds_its_gradient():
    """Two learners that differ in the term alone: gradients differ by mu (w - w_anchor)."""
    mu, shift, gradients = 0.5, 0.01, []
    for weights in ([], [mu], [mu, 0.0]):
        learner, world = make(max_grad_norm=1e3, epochs=1, minibatches=1), World(0)
        for weight in weights:
            learner.set_proximal(weight)
        for name, tensor in learner.tensors().items():
            if name.startswith("model/"):
                tensor.add_(shift)
        run(learner, world, 12)
        gradients.append([p.grad for net in NETS for p in getattr(learner, net).parameters()])
    for free, held, released in zip(*gradients, strict=True):
        torch.testing.assert_close(held, free + mu * shift, atol=1e-6, rtol=1e-5)
        assert torch.equal(released, free)


def test_names_and_shapes_are_the_same_before_and_after_updates():
    learner = make()
    before = {name: tensor.shape for name, tensor in learner.tensors().items()}
    run(learner, World(0), 24)
    tensors = learner.tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == before
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in tensors.values())
    parts = {"/".join(name.split("/")[:2]) for name in tensors}
    assert parts == {f"{kind}/{net}" for kind in ("model", "optimizer") for net in NETS}
    assert "model/actor/log_std" in tensors
    steps = {t.item() for name, t in tensors.items() if name.endswith("/step")}
    assert steps == {24.0}


NETS = ("actor", "critic")


def test_loading_tensors_reaches_networks_optimizers_and_policies():
    source, sink = make(1), make(2)
    run(source, World(0), 12)
    policy = sink.policy(2)
    sink.load_tensors(copies(source))
    assert_equal(sink.tensors(), source.tensors())
    observations = np.ones((2, D), np.float32)
    envs = np.arange(2)
    np.testing.assert_array_equal(
        policy.act(observations, envs), source.policy(2).act(observations, envs)
    )
    run(sink, World(0), 12)
    assert sink.tensors()["optimizer/critic/weights.0/step"] == 24


@pytest.mark.parametrize(
    ("name", "shape"), [("model/actor/weights.9", (2,)), ("model/actor/log_std", (3,))]
)
def test_a_wrong_tensor_is_named_and_nothing_is_loaded(name, shape):
    learner = make()
    before = copies(learner)
    wrong = {key: tensor + 1 for key, tensor in before.items()} | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=name):
        learner.load_tensors(wrong)
    assert_equal(learner.tensors(), before)


def test_averaging_in_the_middle_of_a_rollout_changes_the_ratios_not_the_rollout():
    learner, world = make(orthogonal_init=False, target_kl=1e-3), World(0)
    for _ in range(6):
        world.step(learner)
    other = copies(make(9, orthogonal_init=False))
    kept = learner.rollout.log_prob[:6].copy()
    learner.load_tensors({n: t for n, t in other.items() if n.startswith("model/")})
    np.testing.assert_array_equal(learner.rollout.log_prob[:6], kept)
    for _ in range(6):
        world.step(learner)
    learner.update()
    assert gradient_steps(learner) == 0  # the ratios show how far the policy has moved
    assert learner.pop_metrics()["kl"] > 1.5e-3


@pytest.mark.parametrize("steps", [5, 12, 19])
def test_a_resumed_learner_goes_on_byte_by_byte(tmp_path, steps):
    """In the middle of a rollout as at its end."""
    original, world = make(3), World(1)
    run(original, world, steps)
    original.write_journal()
    save_file(original.tensors() | original.local_state(), tmp_path / "state")
    original.apply_journal()

    resumed, state = make(99), load_file(tmp_path / "state")
    resumed.load_tensors({n: state[n] for n in resumed.tensors()})
    resumed.load_local_state(state)
    twin = World(1)
    run(make(3), twin, steps)
    run(original, world, 20)
    run(resumed, twin, 20)
    assert_equal(resumed.tensors(), original.tensors())
    assert_equal(resumed.local_state(), original.local_state())


def test_unfit_local_state_is_refused():
    learner = make()
    run(learner, World(0), 5)
    state = learner.local_state()
    for name in state:
        partial = {key: value for key, value in state.items() if key != name}
        with pytest.raises(ValueError, match=name.split("/")[-1]):
            make().load_local_state(partial)
    with pytest.raises(ValueError, match="shape"):
        make(num_envs=2).load_local_state(state)
    with pytest.raises(ValueError, match="5 steps"):
        make(rollout_steps=4).load_local_state(state)


def test_the_seed_decides_everything_and_is_not_advanced():
    seed = np.random.SeedSequence(4)
    config = PPOConfig.model_validate(SMALL)
    results = []
    for sequence in (seed, seed, np.random.SeedSequence(5)):
        learner = make_learner(config, LearnerSetup(D, A, sequence, num_envs=N))
        assert isinstance(learner, PPO)
        run(learner, World(0), 25)
        results.append(copies(learner) | learner.local_state())
    assert_equal(results[0], results[1])
    assert not torch.equal(results[0]["model/actor/weights.0"], results[2]["model/actor/weights.0"])


def test_global_random_state_is_untouched():
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(make(), World(0), 13)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


def test_an_environments_actions_do_not_depend_on_which_others_run():
    observations = np.random.default_rng(0).standard_normal((N, D), dtype=np.float32)
    together, alone = make(), make()
    for _ in range(3):
        all_actions = together.act(observations, np.arange(N))
        own = alone.act(observations[1:2], np.array([1]))
        np.testing.assert_array_equal(all_actions[1:2], own)
    policy = together.policy(N)
    np.testing.assert_array_equal(
        policy.act(observations, np.arange(N))[[0, 2]],
        policy.act(observations[[0, 2]], np.array([0, 2])),
    )


def test_metrics_are_those_of_the_updates_since_the_last_call():
    learner, world = make(), World(0)
    run(learner, world, 11)
    assert learner.pop_metrics() == {}
    run(learner, world, 1)
    metrics = learner.pop_metrics()
    assert set(metrics) == {
        *("policy_loss", "value_loss", "kl", "clip_fraction"),
        *("entropy", "explained_variance", "learning_rate"),
    }
    log_std = learner.actor.log_std.detach()
    expected = Normal(torch.zeros(A), log_std.exp()).entropy().sum().item()
    assert metrics["entropy"] == pytest.approx(expected, rel=1e-5)
    assert metrics["kl"] >= 0
    assert 0 <= metrics["clip_fraction"] <= 1
    assert learner.pop_metrics() == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_is_refused(bad):
    learner, envs = make(), np.arange(N)
    zero = np.zeros((N, D), np.float32)
    action = learner.act(zero, envs)
    never = np.zeros(N, bool)
    reward = np.array([0.0, bad, 0.0])
    with pytest.raises(LearningError, match="reward is not finite at step 3"):
        learner.observe(Transitions(envs, zero, action, reward, zero, never, never))


def test_a_loss_that_is_not_finite_stops_learning_and_names_the_cause():
    learner, world = make(), World(0)
    for _ in range(12):
        world.step(learner)
    learner.rollout.log_prob[:] = np.inf
    before = copies(learner)
    with pytest.raises(LearningError, match=r"log_prob is not finite at step \d+, update 0"):
        learner.update()
    assert_equal(learner.tensors(), before)
    learner, world = make(), World(0)
    learner.load_tensors({"model/critic/biases.1": torch.tensor([float("nan")])})
    with pytest.raises(LearningError, match=r"model/critic/biases\.1 is not finite"):
        run(learner, world, 12)


def test_denormal_numbers_exist_outside_updates():
    learner = make()
    run(learner, World(0), 12)
    assert learner.updates
    assert (torch.full((8,), 1e-40) * 1.0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_to_repeat_what_it_sees(seed):
    """Episodes of 5 steps; the reward is -|a - s|^2 with s part of the observation."""
    learner = make(
        seed, 8, actor_hidden=(32,), rollout_steps=32, learning_rate=3e-3, minibatches=8, epochs=6
    )
    rng, envs, never = np.random.default_rng(seed), np.arange(8), np.zeros(8, bool)
    observation = rng.uniform(-0.7, 0.7, (8, D)).astype(np.float32)
    policy = learner.policy(8)

    def miss(action: np.ndarray) -> np.ndarray:
        return np.square(action - observation[:, :A]).sum(1)

    assert miss(policy.act(observation, envs)).mean() > 0.2
    for step in range(1, 32 * 45 + 1):
        action = learner.act(observation, envs)
        reward = -miss(action).astype(np.float64)
        following = rng.uniform(-0.7, 0.7, (8, D)).astype(np.float32)
        end = np.full(8, step % 5 == 0)
        learner.observe(Transitions(envs, observation, action, reward, following, end, never))
        learner.update()
        observation = following
    assert miss(policy.act(observation, envs)).mean() < 0.04
