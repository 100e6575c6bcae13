"""DQN against a plain float64 implementation, its actions, and that it learns."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from dqn_reference import DQNReference
from learner_cases import (
    DQN,
    NOISY,
    D,
    act,
    assert_near,
    copies,
    filled,
    greedy,
    make,
    observe,
    one_thread,
    step,
)

from f110_fl.config.learners import DQNConfig
from f110_fl.learners.base import LearnerSetup
from f110_fl.learners.factory import make_learner


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("duelling", [True, False])
@pytest.mark.parametrize("settings", [DQN, NOISY], ids=["epsilon", "noisy"])
def test_updates_match_a_plain_implementation(monkeypatch, settings, double, duelling):
    options = {"double": double, "duelling": duelling, "n_step": 3}
    learner, batches, priorities = filled(monkeypatch, settings, **options)
    reference = DQNReference(learner.config, copies(learner))
    rng, generator = np.random.default_rng(6), torch.Generator()

    def draw() -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The normal numbers of a layer's inputs, then of its outputs."""
        shapes = [w.shape for w in learner.q.weights] if settings is NOISY else []
        return [
            tuple(torch.empty(n).normal_(generator=generator) for n in (m, k)) for k, m in shapes
        ]

    for _ in range(8):
        generator.set_state(learner.local_state()["generator"])
        draw()  # for the action
        target = draw()
        choice = draw() if double else []
        learning = draw()
        step(learner, rng)
        errors = reference.update(batches[-1], (target, choice, learning))
        assert_near(learner, reference.nets)
        found = priorities[-1][1].double()
        torch.testing.assert_close(found, errors.abs(), rtol=1e-4, atol=1e-5)
    assert (batches[-1]["weights"] < 1).any()
    assert (batches[-1]["discount"] == 0).any()
    assert (errors.abs() > 0.7).any()  # beyond where Huber's loss is linear


def test_the_grid_is_every_steering_with_every_speed():
    learner = make(DQN, actions={"steering": [-1, 0.25], "speed": [0, 0.5, 1]})
    expected = [[-1, 0], [-1, 0.5], [-1, 1], [0.25, 0], [0.25, 0.5], [0.25, 1]]
    assert learner.actions.tolist() == expected


def test_the_buffer_holds_numbers_of_actions():
    learner = make(DQN, num_envs=15, replay={"capacity": 15})
    zero, ends = np.zeros((15, D), np.float32), np.ones(15, dtype=bool)
    order = np.random.default_rng(0).permutation(15)
    observe(learner, zero, learner.actions[order], np.zeros(15), zero, ends)
    batch = learner.replay.sample(100)
    assert batch.action[:, 0].tolist() == order[batch.indices].tolist()


def test_other_actions_are_refused():
    learner = make(DQN)
    zero, end = np.zeros((1, D), np.float32), np.ones(1, dtype=bool)
    with pytest.raises(ValueError, match=r"action \[0.25, 0.0\] is not one that DQN chooses from"):
        observe(learner, zero, np.array([[0.25, 0.0]], np.float32), np.zeros(1), zero, end)
    with pytest.raises(ValueError, match="steering and speed, not 3 actions"):
        make_learner(DQNConfig(), LearnerSetup(D, 3, np.random.SeedSequence(0)))


@pytest.mark.parametrize("steering", [[0.5, 0.5], [1, -1], [-2, 0], []])
def test_a_grid_must_rise_within_its_bounds(steering):
    with pytest.raises(ValueError, match="steering"):
        make(DQN, actions={"steering": steering})


def test_the_share_of_random_actions_falls_linearly():
    learner, count = make(DQN, num_envs=6000), 6000
    observations = np.zeros((count, D), dtype=np.float32)
    best = greedy(learner, observations[:1])
    for steps, epsilon in ((0, 0.5), (20, 0.3), (40, 0.1), (1000, 0.1)):
        learner.steps = steps
        assert learner.exploration == pytest.approx(epsilon)
        others = (act(learner, observations) != best).any(1).mean()
        expected = epsilon * 14 / 15  # a random one may be the best
        assert others == pytest.approx(expected, abs=4.5 * (0.25 / count) ** 0.5)


def test_actions_are_uniform_during_warmup():
    learner = make(NOISY, warmup_steps=1, num_envs=6000)
    actions = act(learner, np.zeros((6000, D), np.float32))
    counts = [(actions == row).all(1).sum() for row in learner.actions]
    assert sum(counts) == 6000
    assert ((np.array(counts) - 400) ** 2 / 400).sum() < 42.6  # 14 degrees: p = 1e-4


def test_noise_is_drawn_anew_at_every_action_and_absent_from_the_policy():
    learner = make(NOISY, exploration={"kind": "noisy", "sigma": 5.0})
    observation = np.ones((1, D), dtype=np.float32)
    drawn = {tuple(act(learner, observation)[0]) for _ in range(50)}
    assert len(drawn) > 5
    assert len({tuple(greedy(learner, observation)[0]) for _ in range(50)}) == 1


def test_a_hard_target_is_renewed_at_its_interval_only():
    learner, rng = make(NOISY), np.random.default_rng(0)  # every 3 updates
    for update in range(1, 10):
        before = copies(learner)["model/q_target/weights.0"]
        step(learner, rng)
        tensors = learner.tensors()
        slow, fast = (tensors[f"model/q{end}/weights.0"] for end in ("_target", ""))
        assert torch.equal(slow, before) is (update % 3 != 0)
        assert torch.equal(slow, fast) is (update % 3 == 0)


def test_duelling_advantages_have_no_mean():
    """Shifting every advantage alike changes no value (equation 9)."""
    learner = make(DQN)
    x = torch.randn(7, D, generator=torch.Generator().manual_seed(0))
    before = learner.q(x).detach()
    learner.tensors()["model/q/biases.2"][1:] += 3.0
    torch.testing.assert_close(learner.q(x).detach(), before)
    learner.tensors()["model/q/biases.2"][:1] += 3.0
    torch.testing.assert_close(learner.q(x).detach(), before + 3.0)


LENGTH = 4


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "n_step"), [(DQN, 1), (DQN, 3), (NOISY, 2)])
def test_it_learns_a_chain(settings, n_step):
    """Going right leads to a reward of 1 at the far end; left pays 0.1 and ends at once."""
    learner = make(
        settings,
        num_envs=4,
        n_step=n_step,
        discount=0.9,
        hidden=(32,),
        batch_size=64,
        learning_rate=1e-2,
        warmup_steps=400,
        update_every=2,
        replay={"capacity": 5000},
        actions={"steering": [-1, 1], "speed": [0.5]},
        target={"kind": "hard", "updates": 10},
    )
    table = np.eye(D, dtype=np.float32) * 2  # the last is the end
    place = np.zeros(4, dtype=np.int64)
    for _ in range(300):
        action = act(learner, table[place])
        right = action[:, 0] > 0
        after = place + 1
        arrived = right & (after == LENGTH)
        reward = np.where(arrived, 1.0, np.where(right, 0.0, 0.1))
        ends = ~right | arrived
        observe(learner, table[place], action, reward, table[after], ends)
        learner.update()
        place = np.where(ends, 0, after)
    best = greedy(learner, table[:LENGTH])
    assert (best[:, 0] == 1).all()
    if n_step == 1:  # more steps count in the random ones among them
        with torch.no_grad():
            values = learner.q(torch.from_numpy(table[:LENGTH])).numpy()
        np.testing.assert_allclose(values[:, 1], 0.9 ** np.arange(LENGTH - 1, -1, -1), atol=0.2)
