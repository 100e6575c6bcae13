"""TD3 against a plain float64 implementation, exact resumption, and that it learns."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from td3_reference import Reference

from f110_fl.learner_config import TD3Config
from f110_fl.learners import TD3, LearningError, make_learner
from f110_fl.learners.base import Transitions

D, A = 5, 2
SMALL = {
    "hidden": (16, 12),
    "batch_size": 32,
    "warmup_steps": 0,
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 2e-3,
    "tau": 0.1,
    "policy_noise": 0.4,
    "noise_clip": 0.3,
    "replay": {"capacity": 300, "alpha": 0.6, "beta": 0.5, "beta_step": 1e-3},
    "exploration": {"start": 0.5, "end": 0.1, "steps": 40},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(seed: int = 0, path: Path | None = None, **changes: object) -> TD3:
    learner = make_learner(
        TD3Config.model_validate(SMALL | changes),
        D,
        A,
        np.random.SeedSequence(seed),
        replay_path=path,
    )
    assert isinstance(learner, TD3)
    return learner


def act(learner: TD3, observations: np.ndarray) -> np.ndarray:
    return learner.act(observations, np.arange(len(observations)))


def greedy(learner: TD3, observations: np.ndarray) -> np.ndarray:
    return learner.policy(len(observations)).act(observations, np.arange(len(observations)))


def observe(
    learner: TD3,
    observation: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    following: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray | None = None,
) -> None:
    envs = np.arange(len(reward))
    cut = np.zeros_like(terminated) if truncated is None else truncated
    learner.observe(Transitions(envs, observation, action, reward, following, terminated, cut))


def step(learner: TD3, rng: np.random.Generator, count: int = 1) -> np.ndarray:
    """One step of each environment with made-up observations."""
    observation, following = rng.standard_normal((2, count, D), dtype=np.float32)
    action = act(learner, observation)
    reward = (action.sum(1) + observation[:, 0]).astype(np.float64)
    observe(learner, observation, action, reward, following, rng.random(count) < 0.2)
    learner.update()
    return action


def copies(learner: TD3) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.tensors().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def filled(monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[TD3, list, list]:
    """A learner that has seen 100 random steps, and lists of what it draws and prioritises."""
    learner, rng = make(warmup_steps=100, **changes), np.random.default_rng(5)
    for _ in range(100):
        step(learner, rng)
    batches: list[dict[str, torch.Tensor]] = []
    priorities: list[tuple[torch.Tensor, torch.Tensor]] = []
    sample, renew = learner.replay.sample, learner.replay.update_priorities

    def record_sample(size: int) -> object:
        batch = sample(size)
        batches.append({name: part.double() for name, part in batch._asdict().items()})
        return batch

    def record_priorities(indices: torch.Tensor, errors: torch.Tensor) -> None:
        priorities.append((indices.clone(), errors.clone()))
        renew(indices, errors)

    monkeypatch.setattr(learner.replay, "sample", record_sample)
    monkeypatch.setattr(learner.replay, "update_priorities", record_priorities)
    return learner, batches, priorities


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_updates_match_a_plain_implementation(monkeypatch, delay):
    learner, batches, priorities = filled(monkeypatch, policy_delay=delay)
    near_bounds = torch.tensor([1.2, -1.5])  # so that the smoothed actions reach -1 and 1
    learner.load_tensors({"model/actor_target/biases.2": near_bounds})
    reference = Reference(learner.config, copies(learner))
    rng, generator = np.random.default_rng(6), torch.Generator()
    for _ in range(8):
        generator.set_state(learner.local_state()["generator"])
        noise = torch.empty(32, A).normal_(generator=generator).double()
        step(learner, rng)
        errors = reference.update(batches[-1], noise)
        found = learner.tensors()
        for name, expected in reference.nets.items():
            torch.testing.assert_close(
                found[f"model/{name}"].double(), expected, rtol=1e-4, atol=1e-5, msg=name
            )
        indices, magnitudes = priorities[-1]
        assert torch.equal(indices.double(), batches[-1]["indices"])
        largest = errors.abs().amax(0)
        torch.testing.assert_close(magnitudes.double(), largest, rtol=1e-4, atol=1e-5)
    assert (batches[-1]["weights"] < 1).any()  # importance weights took part
    assert (batches[-1]["discount"] == 0).any()  # and so did ends of episodes


def test_actor_and_targets_move_at_every_delayed_update_only():
    learner, rng = make(policy_delay=3), np.random.default_rng(0)
    for update in range(1, 10):
        before = copies(learner)
        step(learner, rng)
        changed = {
            name.split("/")[1]
            for name, tensor in learner.tensors().items()
            if name.startswith("model/") and not torch.equal(tensor, before[name])
        }
        late = {"actor", "actor_target", "critic_target"} if update % 3 == 0 else set()
        assert changed == {"critic"} | late


def test_updates_start_after_warmup_and_keep_their_interval():
    learner, rng = make(warmup_steps=10, update_every=4), np.random.default_rng(0)
    updates = []
    for _ in range(22):
        step(learner, rng)
        updates.append(learner.updates)
    assert updates == [0] * 13 + [1] * 4 + [2] * 4 + [3]


def test_environments_together_earn_the_updates_of_single_steps():
    learner, rng = make(warmup_steps=10, update_every=4), np.random.default_rng(0)
    updates = []
    for _ in range(6):
        assert step(learner, rng, 5).shape == (5, A)
        updates.append(learner.updates)
    assert learner.steps == 30
    assert updates == [0, 0, 1, 2, 3, 5]  # after 5, 10, ... steps: (steps - 10) // 4


def test_a_truncated_transition_bootstraps_and_a_terminated_one_does_not():
    learner = make()
    zero = np.zeros((2, D), dtype=np.float32)
    ends = np.array([True, False])
    observe(learner, zero, zero[:, :A], np.zeros(2), zero, ends, ~ends)
    batch = learner.replay.sample(64)
    assert torch.equal(batch.discount, 0.99 * batch.indices)


def test_actions_are_uniform_during_warmup():
    learner = make(warmup_steps=1)
    actions = act(learner, np.zeros((4000, D), np.float32))
    assert actions.shape == (4000, A)
    assert actions.dtype == np.float32
    for column in actions.T:
        counts, _ = np.histogram(column, bins=10, range=(-1, 1))
        assert counts.sum() == 4000
        assert ((counts - 400) ** 2 / 400).sum() < 33.7  # chi-squared, 9 degrees: p = 1e-4
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.06


def test_exploration_noise_falls_linearly_with_environment_steps():
    learner = make(warmup_steps=0)
    observations = np.zeros((3000, D), dtype=np.float32)
    without = greedy(learner, observations)
    for steps, expected in ((0, 0.5), (20, 0.3), (40, 0.1), (1000, 0.1)):
        learner.steps = steps
        assert learner.exploration == pytest.approx(expected)
        noisy = act(learner, observations)
        assert np.abs(noisy).max() <= 1
        # The median of |noise| is 0.6745 standard deviations, clipping notwithstanding.
        spread = np.median(np.abs(noisy - without)) / 0.6745
        assert spread == pytest.approx(expected, rel=0.06)
    np.testing.assert_array_equal(greedy(learner, observations), without)


def test_the_policy_acts_on_each_row_alone():
    learner = make()
    observations = np.random.default_rng(0).standard_normal((7, D), dtype=np.float32)
    one_by_one = np.concatenate([greedy(learner, row[None]) for row in observations])
    np.testing.assert_allclose(greedy(learner, observations), one_by_one, atol=1e-6)


def test_names_and_shapes_are_the_same_before_and_after_updates():
    learner, rng = make(), np.random.default_rng(0)
    before = {name: tensor.shape for name, tensor in learner.tensors().items()}
    for _ in range(4):
        step(learner, rng)
    tensors = learner.tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == before
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in tensors.values())
    parts = {"/".join(name.split("/")[:2]) for name in tensors}
    assert parts == {
        *(f"model/{net}" for net in ("actor", "actor_target", "critic", "critic_target")),
        *(f"optimizer/{net}" for net in ("actor", "critic")),
    }
    slots = {name.split("/")[3] for name in tensors if name.startswith("optimizer/")}
    assert slots == {"step", "exp_avg", "exp_avg_sq"}
    assert tensors["optimizer/critic/weights.0/step"] == 4
    assert tensors["optimizer/actor/biases.2/step"] == 2


def test_loading_tensors_reaches_networks_and_optimizers():
    rng = np.random.default_rng(0)
    source, sink = make(1), make(2)
    for _ in range(5):
        step(source, rng)
    sink.load_tensors(copies(source))
    assert_equal(sink.tensors(), source.tensors())
    observation = np.ones((1, D), dtype=np.float32)
    np.testing.assert_array_equal(greedy(sink, observation), greedy(source, observation))
    for _ in range(2):  # the optimizer works on what was loaded
        step(sink, rng)
    assert sink.tensors()["optimizer/critic/weights.0/step"] == 7
    sink.load_tensors({"model/actor/biases.2": torch.tensor([0.25, -0.5])})
    assert sink.tensors()["model/actor/biases.2"].tolist() == [0.25, -0.5]


@pytest.mark.parametrize(
    ("name", "shape"), [("model/actor/weights.9", (2,)), ("model/actor/biases.2", (3,))]
)
def test_a_wrong_tensor_is_named_and_nothing_is_loaded(name, shape):
    learner = make()
    before = copies(learner)
    wrong = {key: tensor + 1 for key, tensor in before.items()} | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=name):
        learner.load_tensors(wrong)
    assert_equal(learner.tensors(), before)


def test_zeroed_views_are_the_learners_own_moments():
    learner, rng = make(), np.random.default_rng(0)
    for _ in range(4):
        step(learner, rng)
    for name, tensor in learner.tensors().items():
        if name.startswith("optimizer/"):
            assert tensor.any()
            tensor.zero_()
    step(learner, rng)
    assert learner.tensors()["optimizer/critic/weights.0/step"] == 1


def test_the_proximal_term_adds_its_gradient():
    """Two learners that differ in the term alone: gradients differ by mu (w - w_anchor)."""
    free, held = make(), make()
    mu = 0.5
    for learner in (free, held):
        rng = np.random.default_rng(0)
        for _ in range(4):
            step(learner, rng)
    held.hold_near(mu)
    anchors = {name: tensor.clone() for name, tensor in held.tensors().items()}
    shift = 0.01  # away from the anchors, alike in both
    for learner in (free, held):
        for name, tensor in learner.tensors().items():
            if name.startswith("model/critic/"):
                tensor.add_(shift)
        step(learner, np.random.default_rng(1))
    for name, parameter in free.critic.named_parameters():
        other = dict(held.critic.named_parameters())[name]
        expected = parameter.grad + mu * shift
        torch.testing.assert_close(other.grad, expected, atol=1e-6, rtol=1e-5)
    assert anchors.keys() == held.tensors().keys()


def test_a_resumed_learner_goes_on_byte_by_byte(tmp_path):
    """Commit, be killed, load in a new learner: the same as never having stopped."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    original, rng = make(3, run / "replay", warmup_steps=20), np.random.default_rng(1)
    for _ in range(37):
        step(original, rng)
    original.write_journal()
    save_file(original.tensors() | original.local_state(), run / "state")
    shutil.copytree(run, copy)  # killed before apply_journal
    original.apply_journal()

    resumed, state = make(99, copy / "replay", warmup_steps=20), load_file(copy / "state")
    resumed.load_tensors({n: state[n] for n in resumed.tensors()})
    resumed.load_local_state(state)
    rng_copy = np.random.default_rng()
    rng_copy.bit_generator.state = rng.bit_generator.state
    for _ in range(40):
        np.testing.assert_array_equal(step(resumed, rng_copy), step(original, rng))
    assert_equal(resumed.tensors(), original.tensors())
    assert_equal(resumed.local_state(), original.local_state())


def test_incomplete_local_state_is_refused(tmp_path):
    state = make().local_state()
    for name in state:
        partial = {key: value for key, value in state.items() if key != name}
        with pytest.raises(ValueError, match=name.split("/")[-1]):
            make(path=tmp_path / "replay").load_local_state(partial)


def test_the_seed_decides_everything_and_is_not_advanced():
    seed = np.random.SeedSequence(4)
    results = []
    for sequence in (seed, seed, np.random.SeedSequence(5)):
        learner = make_learner(TD3Config.model_validate(SMALL), D, A, sequence)
        assert isinstance(learner, TD3)
        rng = np.random.default_rng(0)
        actions = [step(learner, rng) for _ in range(12)]
        results.append((np.array(actions), copies(learner)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert_equal(results[0][1], results[1][1])
    assert not np.array_equal(results[0][0], results[2][0])


def test_global_random_state_is_untouched():
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    learner, rng = make(), np.random.default_rng(0)
    for _ in range(5):
        step(learner, rng)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


def test_metrics_are_means_since_the_last_call():
    learner, rng = make(warmup_steps=3), np.random.default_rng(0)
    for _ in range(3):
        step(learner, rng)
    assert learner.pop_metrics() == {}
    for _ in range(4):
        step(learner, rng)
    metrics = learner.pop_metrics()
    assert set(metrics) == {"critic_loss", "value", "actor_loss", "exploration", "beta"}
    assert metrics["exploration"] == pytest.approx(0.5 - 0.4 * 7 / 40)
    assert metrics["beta"] == pytest.approx(0.507)
    assert learner.pop_metrics() == {}


def test_a_reward_that_is_not_finite_is_refused():
    learner, rng = make(), np.random.default_rng(0)
    step(learner, rng)
    zero = np.zeros((3, D), dtype=np.float32)
    reward = np.array([0.0, np.inf, 0.0])
    with pytest.raises(LearningError, match="reward is not finite at step 4"):
        observe(learner, zero, zero[:, :A], reward, zero, np.zeros(3, dtype=bool))
    assert len(learner.replay) == 1


def test_a_loss_that_is_not_finite_stops_learning_and_names_the_cause():
    learner, rng = make(), np.random.default_rng(0)
    for _ in range(3):
        step(learner, rng)
    learner.pop_metrics()
    before = copies(learner)
    zero = np.zeros((300, D), dtype=np.float32)  # fill the buffer: a batch must contain it
    ends = np.ones(300, dtype=bool)
    observe(learner, zero, zero[:, :A], np.zeros(300), zero * np.float32(np.nan), ends)
    with pytest.raises(LearningError, match="next_observation is not finite at step 303, update 3"):
        learner.update()
    assert_equal(learner.tensors(), before)


def test_denormal_numbers_exist_outside_updates():
    learner, rng = make(), np.random.default_rng(0)
    step(learner, rng)
    assert learner.updates == 1
    assert (torch.full((8,), 1e-40) * 1.0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_a_continuous_bandit(seed, alpha):
    """One step an episode, reward -|a - a*|^2: the greedy policy must find a*."""
    learner = make(
        seed,
        hidden=(32, 32),
        batch_size=64,
        warmup_steps=200,
        tau=0.01,
        replay={"capacity": 5000, "alpha": alpha},
    )
    observation = np.ones((1, D), dtype=np.float32)
    best, end = np.array([0.6, -0.3], dtype=np.float32), np.ones(1, dtype=bool)

    def miss(action: np.ndarray) -> np.ndarray:
        return np.square(action - best, dtype=np.float64).sum(1)

    assert miss(greedy(learner, observation)) > 0.2
    for _ in range(1500):
        action = act(learner, observation)
        observe(learner, observation, action, -miss(action), observation, end)
        learner.update()
    assert miss(greedy(learner, observation)) < 0.05
