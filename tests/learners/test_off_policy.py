"""What all learners with a replay buffer share: names, resumption, seeds, refusals."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from learner_cases import (
    CONV,
    DQN,
    NOISY,
    SAC,
    TD3,
    A,
    D,
    assert_equal,
    copies,
    greedy,
    make,
    observe,
    one_thread,
    step,
)
from safetensors.torch import load_file, save_file

from f110_fl.learners.base import LearningError

CASES = {"td3": TD3, "sac": SAC, "dqn": DQN, "noisy": NOISY}
NETWORKS = {
    "td3": {"actor", "actor_target", "critic", "critic_target"},
    "sac": {"actor", "critic", "critic_target", "temperature"},
    "dqn": {"q", "q_target"},
    "noisy": {"q", "q_target"},
}
TRAINED = {
    "td3": {"actor", "critic"},
    "sac": {"actor", "critic", "temperature"},
    "dqn": {"q"},
    "noisy": {"q"},
}
VALUE = {"td3": "critic", "sac": "critic", "dqn": "q", "noisy": "q"}  # trained at each update
for name in tuple(CASES):  # and all with an encoder
    CASES[f"{name}_conv"] = CASES[name] | CONV
    for table in (NETWORKS, TRAINED, VALUE):
        table[f"{name}_conv"] = table[name]
MEANS = {
    "td3": {"mirror": True, "layer_norm": True},
    "sac": {"mirror": True, "layer_norm": True},
    "dqn": {"mirror": True},
}
for name, means in MEANS.items():
    CASES[f"{name}_means"] = CASES[name] | means
    for table in (NETWORKS, TRAINED, VALUE):
        table[f"{name}_means"] = table[name]
every = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@every
def test_names_and_shapes_are_the_same_before_and_after_updates(case):
    learner, rng = make(CASES[case]), np.random.default_rng(0)
    before = {name: tensor.shape for name, tensor in learner.tensors().items()}
    for _ in range(4):
        step(learner, rng)
    tensors = learner.tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == before
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in tensors.values())
    parts = {"/".join(name.split("/")[:2]) for name in tensors}
    networks = {f"model/{name}" for name in NETWORKS[case]}
    assert parts == networks | {f"optimizer/{name}" for name in TRAINED[case]}
    slots = {name.split("/")[3] for name in tensors if name.startswith("optimizer/")}
    assert slots == {"step", "exp_avg", "exp_avg_sq"}
    assert tensors[f"optimizer/{VALUE[case]}/weights.0/step"] == 4


@every
def test_updates_start_after_warmup_and_keep_their_interval(case):
    learner = make(CASES[case], warmup_steps=10, update_every=4)
    rng, updates = np.random.default_rng(0), []
    for _ in range(22):
        step(learner, rng)
        updates.append(learner.updates)
    assert updates == [0] * 13 + [1] * 4 + [2] * 4 + [3]


@every
def test_environments_together_earn_the_updates_of_single_steps(case):
    learner = make(CASES[case], num_envs=5, warmup_steps=10, update_every=4)
    rng, updates = np.random.default_rng(0), []
    for _ in range(6):
        assert step(learner, rng, 5).shape == (5, A)
        updates.append(learner.updates)
    assert learner.steps == 30
    assert updates == [0, 0, 1, 2, 3, 5]  # after 5, 10, ... steps: (steps - 10) // 4


@every
def test_updates_wait_for_the_first_return(case):
    learner = make(CASES[case], n_step=3)
    zero, going = np.zeros((1, D), dtype=np.float32), np.zeros(1, dtype=bool)
    updates = []
    for _ in range(4):
        action = learner.act(zero, np.arange(1))
        observe(learner, zero, action, np.ones(1), zero, going)
        learner.update()
        updates.append(learner.updates)
    assert updates == [0, 0, 3, 4]


@every
def test_a_truncated_transition_bootstraps_and_a_terminated_one_does_not(case):
    learner = make(CASES[case] | {"replay": {"capacity": 10}}, num_envs=2)
    zero = np.zeros((2, D), dtype=np.float32)
    ends = np.array([True, False])
    observe(learner, zero, learner.act(zero, np.arange(2)), np.zeros(2), zero, ends, ~ends)
    batch = learner.replay.sample(64)
    assert torch.equal(batch.discount, 0.99 * batch.indices)


@every
def test_actions_are_the_callers_and_the_policy_acts_on_each_row_alone(case):
    learner, rng = make(CASES[case], num_envs=7), np.random.default_rng(0)
    observations = rng.standard_normal((7, D), dtype=np.float32)
    actions = [learner.act(observations, np.arange(7)), greedy(learner, observations)]
    kept = [action.copy() for action in actions]
    for action in actions:
        assert action.shape == (7, A)
        assert action.dtype == np.float32
        assert np.abs(action).max() <= 1
    learner.act(-observations, np.arange(7))
    one_by_one = np.concatenate([greedy(learner, row[None]) for row in observations])
    np.testing.assert_array_equal(actions, kept)
    np.testing.assert_allclose(kept[1], one_by_one, atol=1e-6)
    for action in actions:
        action[:] = 9.0
    np.testing.assert_allclose(greedy(learner, observations), one_by_one, atol=1e-6)


@every
def test_loading_tensors_reaches_networks_and_optimizers(case):
    rng = np.random.default_rng(0)
    source, sink = make(CASES[case], 1), make(CASES[case], 2)
    for _ in range(5):
        step(source, rng)
    sink.load_tensors(copies(source))
    assert_equal(sink.tensors(), source.tensors())
    observation = np.ones((1, D), dtype=np.float32)
    np.testing.assert_array_equal(greedy(sink, observation), greedy(source, observation))
    for _ in range(2):  # the optimizer works on what was loaded
        step(sink, rng)
    assert sink.tensors()[f"optimizer/{VALUE[case]}/weights.0/step"] == 7
    bias = sink.tensors()[f"model/{VALUE[case]}/biases.0"]
    sink.load_tensors({f"model/{VALUE[case]}/biases.0": torch.full_like(bias, 0.25)})
    assert (bias == 0.25).all()


@every
@pytest.mark.parametrize(("parameter", "shape"), [("weights.9", (2,)), ("biases.2", (3,))])
def test_a_wrong_tensor_is_named_and_nothing_is_loaded(case, parameter, shape):
    learner, name = make(CASES[case]), f"model/{VALUE[case]}/{parameter}"
    before = copies(learner)
    wrong = {key: tensor + 1 for key, tensor in before.items()} | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=name):
        learner.load_tensors(wrong)
    assert_equal(learner.tensors(), before)


@every
def test_zeroed_views_are_the_learners_own_moments(case):
    learner, rng = make(CASES[case]), np.random.default_rng(0)
    for _ in range(4):
        step(learner, rng)
    for name, tensor in learner.tensors().items():
        if name.startswith("optimizer/"):
            assert tensor.any()
            tensor.zero_()
    step(learner, rng)
    assert learner.tensors()[f"optimizer/{VALUE[case]}/weights.0/step"] == 1


@every
def test_the_proximal_term_adds_its_gradient(case):
    """Two learners that differ in the term alone: gradients differ by mu (w - w_anchor)."""
    free, held, released = (make(CASES[case]) for _ in range(3))
    mu, shift = 0.5, 0.01  # away from the anchors, alike in all
    for learner in (free, held, released):
        rng = np.random.default_rng(0)
        for _ in range(4):
            step(learner, rng)
    held.set_proximal(mu)
    released.set_proximal(mu)
    released.set_proximal(0.0)
    for learner in (free, held, released):
        for name, tensor in learner.tensors().items():
            if name.startswith(f"model/{VALUE[case]}/"):
                tensor.add_(shift)
        step(learner, np.random.default_rng(1))
    trained, others = (learner._optimizers[VALUE[case]] for learner in (free, held))
    for one, other in zip(trained.parameters, others.parameters, strict=True):
        torch.testing.assert_close(other.grad, one.grad + mu * shift, atol=1e-6, rtol=1e-5)
    assert_equal(released.tensors(), free.tensors())


def normalising(**changes: object) -> dict:
    return {"normalise_observations": True, "normalise_rewards": True} | changes


SCHEDULED = {"kind": "adamw", "weight_decay": 0.1, "schedule": {"kind": "linear", "updates": 60}}


@every
@pytest.mark.parametrize("count", [1, 3])
def test_a_resumed_learner_goes_on_byte_by_byte(tmp_path, case, count):
    """Commit, be killed, load in a new learner: the same as never having stopped."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    options = normalising(warmup_steps=20, n_step=3, optimizer=SCHEDULED)
    original = make(CASES[case], 3, run / "replay", count, **options)
    rng = np.random.default_rng(1)
    for _ in range(37):
        step(original, rng, count)
    original.write_journal()
    save_file(original.tensors() | original.local_state(), run / "state")
    shutil.copytree(run, copy)  # killed before apply_journal
    original.apply_journal()

    resumed = make(CASES[case], 99, copy / "replay", count, **options)
    state = load_file(copy / "state")
    resumed.load_tensors({n: state[n] for n in resumed.tensors()})
    resumed.load_local_state(state)
    rng_copy = np.random.default_rng()
    rng_copy.bit_generator.state = rng.bit_generator.state
    for _ in range(40):
        np.testing.assert_array_equal(step(resumed, rng_copy, count), step(original, rng, count))
    assert_equal(resumed.tensors(), original.tensors())
    assert_equal(resumed.local_state(), original.local_state())


@every
def test_batches_are_normalised_by_the_statistics_of_the_moment(case):
    options = normalising(mirror=False)  # tests/training/test_mirrored.py has what is mirrored
    learner = make(CASES[case], num_envs=4, warmup_steps=10**6, **options)
    rng, seen, rewards = np.random.default_rng(0), [], []
    ends = np.ones(4, dtype=bool)  # so that returns are rewards
    for _ in range(50):
        seen.append(rng.normal(3.0, 2.0, (4, D)).astype(np.float32))
        rewards.append(rng.normal(5.0, 0.5, 4))
        action = learner.act(seen[-1], np.arange(4))
        observe(learner, seen[-1], action, rewards[-1], seen[-1] + 1, ends)
    every_row, every_reward = np.concatenate(seen), np.concatenate(rewards)
    batch = learner._sample()
    where = batch.indices.numpy()
    deviation = every_row.std(0)
    expected = (every_row - every_row.mean(0)) / deviation
    np.testing.assert_allclose(batch.observation, expected[where], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(batch.observation_action[:, :D], batch.observation)
    shifted = (expected + 1 / deviation)[where]
    np.testing.assert_allclose(batch.next_observation, shifted, rtol=1e-3, atol=1e-4)
    scaled = np.clip(every_reward / every_reward.std(), -10, 10)
    np.testing.assert_allclose(batch.reward, scaled[where], rtol=1e-3)


@every
def test_the_policy_sees_what_the_learner_sees(case):
    rng = np.random.default_rng(0)
    learner, plain = make(CASES[case], **normalising()), make(CASES[case])
    learner.load_tensors(copies(plain))
    assert learner.tensors().keys() - plain.tensors().keys() == {
        f"model/{prefix}normaliser/{name}"
        for prefix in ("", "reward_")
        for name in ("count", "mean", "variance")
    }
    mean, variance = torch.full((D,), 2.0), torch.full((D,), 9.0)
    learner.load_tensors(
        {
            "model/normaliser/count": torch.tensor(100.0),
            "model/normaliser/mean": mean,
            "model/normaliser/variance": variance,
        }
    )
    observations = rng.standard_normal((6, D), dtype=np.float32)
    found = greedy(learner, 3 * observations + 2)
    np.testing.assert_allclose(found, greedy(plain, observations), atol=1e-5)


@every
def test_incomplete_local_state_is_refused(tmp_path, case):
    state = make(CASES[case]).local_state()
    for name in state:
        partial = {key: value for key, value in state.items() if key != name}
        with pytest.raises(ValueError, match=name.split("/")[-1]):
            make(CASES[case], path=tmp_path / "replay").load_local_state(partial)
    with pytest.raises(ValueError, match="n-step returns"):
        make(CASES[case], num_envs=2).load_local_state(state)


@every
def test_the_seed_decides_everything_and_is_not_advanced(case):
    results = []
    for seed in (4, 4, 5):
        learner, rng = make(CASES[case], seed), np.random.default_rng(0)
        actions = [step(learner, rng) for _ in range(12)]
        results.append((np.array(actions), copies(learner)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert_equal(results[0][1], results[1][1])
    assert not np.array_equal(results[0][0], results[2][0])


@every
def test_global_random_state_is_untouched(case):
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    learner, rng = make(CASES[case]), np.random.default_rng(0)
    for _ in range(5):
        step(learner, rng)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


@every
def test_metrics_are_means_since_the_last_call(case):
    learner, rng = make(CASES[case], warmup_steps=3), np.random.default_rng(0)
    for _ in range(3):
        step(learner, rng)
    assert learner.pop_metrics() == {}
    for _ in range(4):
        step(learner, rng)
    metrics = learner.pop_metrics()
    assert metrics.keys() >= {"critic_loss", "value", "beta"}
    assert metrics["beta"] == pytest.approx(0.507)
    assert learner.pop_metrics() == {}


@every
def test_a_reward_that_is_not_finite_is_refused(case):
    learner, rng = make(CASES[case], num_envs=3), np.random.default_rng(0)
    step(learner, rng)
    zero = np.zeros((3, D), dtype=np.float32)
    reward, going = np.array([0.0, np.inf, 0.0]), np.zeros(3, dtype=bool)
    with pytest.raises(LearningError, match="reward is not finite at step 4"):
        observe(learner, zero, learner.act(zero, np.arange(3)), reward, zero, going)
    assert len(learner.replay) == 1


@every
def test_a_loss_that_is_not_finite_stops_learning_and_names_the_cause(case):
    learner, rng = make(CASES[case], num_envs=300), np.random.default_rng(0)
    for _ in range(3):
        step(learner, rng)
    learner.pop_metrics()
    before = copies(learner)
    zero = np.zeros((300, D), dtype=np.float32)  # fill the buffer: a batch must contain it
    going = np.zeros(300, dtype=bool)
    action = learner.act(zero, np.arange(300))
    observe(learner, zero, action, np.zeros(300), zero * np.float32(np.nan), going)
    with pytest.raises(LearningError, match="next_observation is not finite at step 303, update 3"):
        learner.update()
    assert_equal(learner.tensors(), before)


@every
def test_denormal_numbers_exist_outside_updates(case):
    learner, rng = make(CASES[case]), np.random.default_rng(0)
    step(learner, rng)
    assert learner.updates == 1
    assert (torch.full((8,), 1e-40) * 1.0).all()
