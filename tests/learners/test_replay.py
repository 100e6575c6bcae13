"""The replay buffer: contents, distribution, weights and persistence at any kill point."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from f110_fl.config.learners import ReplayConfig
from f110_fl.learners.off_policy.replay import ReplayBuffer

D, A = 3, 2


def make(capacity: int, path: Path | None = None, seed: int = 0, **config: float) -> ReplayBuffer:
    settings = ReplayConfig(capacity=capacity, **config)
    return ReplayBuffer(settings, D, A, np.random.default_rng(seed), path)


def transition(k: int) -> tuple[np.ndarray, np.ndarray, float, float, np.ndarray]:
    """The k-th transition ever: every number in it tells k."""
    ones = np.ones(D, dtype=np.float32)
    return k * ones, -k * np.ones(A, dtype=np.float32), k + 0.25, 0.5 * (k % 3), k * ones + 0.5


def add(buffer: ReplayBuffer, count: int, at_once: int = 1) -> None:
    numbers = range(buffer.total, buffer.total + count)
    for first in range(0, count, at_once):
        parts = zip(*map(transition, numbers[first : first + at_once]), strict=True)
        buffer.add(*map(np.array, parts))


def check_contents(buffer: ReplayBuffer, total: int) -> None:
    """Every slot of the ring holds the last transition that belongs there, and is reachable."""
    capacity = buffer.capacity
    assert buffer.total == total
    assert len(buffer) == min(total, capacity)
    newest = {k % capacity: transition(k) for k in range(total)}  # later ones overwrite
    seen = set()
    for _ in range(5):
        batch = buffer.sample(64)
        indices = batch.indices.tolist()
        observation, action, reward, discount, next_observation = (
            np.array(part) for part in zip(*(newest[i] for i in indices), strict=True)
        )
        np.testing.assert_array_equal(batch.observation, observation)
        np.testing.assert_array_equal(batch.action, action)
        np.testing.assert_array_equal(batch.observation_action, np.hstack((observation, action)))
        np.testing.assert_array_equal(batch.reward, reward)
        np.testing.assert_array_equal(batch.next_observation, next_observation)
        np.testing.assert_array_equal(batch.discount, discount)
        seen.update(indices)
    assert seen == set(newest)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("total", [1, 5, 7, 8, 23])
@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_the_newest_transitions_are_kept(alpha, total, at_once):
    buffer = make(7, alpha=alpha)
    add(buffer, total, at_once)
    check_contents(buffer, total)


def test_an_empty_buffer_cannot_be_sampled():
    with pytest.raises(ValueError, match="empty"):
        make(4).sample(2)


def test_uniform_sampling_ignores_priorities():
    buffer = make(4, alpha=0.0)
    add(buffer, 4)
    buffer.update_priorities(torch.arange(4), torch.tensor([1e6, 0.0, 0.0, 0.0]))
    batch = buffer.sample(4000)
    assert (batch.weights == 1).all()
    counts = torch.bincount(batch.indices, minlength=4).double()
    assert (counts - 1000).abs().max() < 4.5 * (4000 * 0.25 * 0.75) ** 0.5


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12),
    st.floats(0.1, 1.0),
    st.floats(0.0, 1.0),
)
def test_probabilities_and_weights_follow_the_paper(td_errors, alpha, beta):
    n, size = len(td_errors), 400
    buffer = make(16, alpha=alpha, beta=beta, epsilon=0.01)
    add(buffer, n)
    buffer.update_priorities(torch.arange(n), torch.tensor(td_errors))
    batch = buffer.sample(size)
    scaled = [(abs(float(np.float32(d))) + 0.01) ** alpha for d in td_errors]
    probability = np.array(scaled) / sum(scaled)
    # Of `size` equal strata, an item lies in size * P of them, give or take its two ends.
    counts = np.bincount(batch.indices, minlength=n)
    assert (np.abs(counts - size * probability) <= 2 + 1e-6).all()
    weights = (n * probability[batch.indices]) ** -beta
    np.testing.assert_allclose(batch.weights, weights / weights.max(), rtol=1e-5)


def test_new_transitions_get_the_highest_priority_so_far():
    buffer = make(8, alpha=1.0, beta=0.0, epsilon=1e-6)
    add(buffer, 2)
    buffer.update_priorities(torch.tensor([0, 1]), torch.tensor([-3.0, 0.0]))
    buffer.update_priorities(torch.tensor([0]), torch.tensor([1.0]))
    add(buffer, 1)  # at priority 3, the highest ever, though 1 is the highest now
    counts = torch.bincount(buffer.sample(4000).indices, minlength=3)
    np.testing.assert_allclose(counts, [1000, 0, 3000], atol=2)


def test_beta_is_annealed_per_transition_up_to_one():
    buffer = make(4, alpha=0.5, beta=0.4, beta_step=0.1)
    betas = []
    for _ in range(8):
        betas.append(buffer.beta)
        add(buffer, 1)
    np.testing.assert_allclose(betas, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])


def commit(buffer: ReplayBuffer, directory: Path, snapshots: Path) -> None:
    """Commit as a client does, keeping a copy of the directory as of each possible kill."""

    def kill(point: str) -> None:
        shutil.copytree(directory, snapshots / f"{len(list(snapshots.iterdir())):02}_{point}")

    kill("before")
    buffer.write_journal()
    kill("after_journal")
    save_file(buffer.local_state(), directory / "state.tmp")
    (directory / "state.tmp").replace(directory / "state")
    kill("after_state")
    buffer.apply_journal()
    kill("after_apply")


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_every_kill_point_leaves_the_commit_of_the_state_file(tmp_path, alpha):
    directory, snapshots = tmp_path / "run", tmp_path / "snapshots"
    directory.mkdir()
    snapshots.mkdir()
    buffer = make(7, directory / "replay", alpha=alpha)
    # Within the ring, twice, around its end, more than it holds, nothing, exactly once around.
    for count in (3, 2, 4, 20, 0, 7):
        add(buffer, count)
        commit(buffer, directory, snapshots)
        check_contents(buffer, buffer.total)
    checked = []
    for snapshot in sorted(snapshots.iterdir()):
        state = load_file(snapshot / "state") if (snapshot / "state").exists() else None
        for _ in range(2):  # the second time on what the first recovery left
            reopened = make(7, snapshot / "replay", seed=9, alpha=alpha)
            if state is None:
                assert reopened.total == 0
                continue
            reopened.load_local_state(state)
            restored = reopened.local_state()
            assert all(torch.equal(restored[name], state[name]) for name in state)
            check_contents(reopened, int(state["total"]))
            assert (snapshot / "replay").stat().st_size == 4096 + 7 * 10 * 4
            assert not list(snapshot.glob("*.journal"))
        checked.append((snapshot.name[3:], 0 if state is None else int(state["total"])))
    points = ("before", "after_journal", "after_state", "after_apply")
    totals = ((0, 3), (3, 5), (5, 9), (9, 29), (29, 29), (29, 36))
    assert checked == [
        (point, new if i >= 2 else old) for old, new in totals for i, point in enumerate(points)
    ]


def test_a_half_applied_journal_is_applied_again(tmp_path):
    buffer = make(7, tmp_path / "replay")
    add(buffer, 5)
    buffer.write_journal()
    state = buffer.local_state()
    buffer.apply_journal()
    add(buffer, 6)
    buffer.write_journal()
    state = buffer.local_state()
    with (tmp_path / "replay").open("r+b") as file:  # a write torn in the middle of a row
        file.seek(-2 * 40, 2)  # of ten columns: the last two rows, which the journal holds
        file.write(b"\xff" * 70)
    reopened = make(7, tmp_path / "replay")
    reopened.load_local_state(state)
    check_contents(reopened, 11)


def test_a_first_commit_that_was_killed_leaves_nothing_to_apply(tmp_path):
    killed = make(7, tmp_path / "replay")
    add(killed, 10)
    killed.write_journal()
    buffer = make(7, tmp_path / "replay")  # there is no state to load
    add(buffer, 4)
    buffer.write_journal()
    buffer.apply_journal()
    check_contents(buffer, 4)
    reopened = make(7, tmp_path / "replay")
    reopened.load_local_state(buffer.local_state())
    check_contents(reopened, 4)


def test_a_journal_holds_only_what_is_new_and_overwrites(tmp_path):
    buffer = make(7, tmp_path / "replay")
    journal = tmp_path / "replay.journal"
    for count, stored in ((3, None), (2, None), (0, None), (2, None), (0, None), (1, 1), (30, 7)):
        add(buffer, count)
        buffer.write_journal()
        assert journal.exists() == (stored is not None)
        if stored is not None:
            assert load_file(journal)["rows"].shape == (stored, 2 * D + A + 2)
        buffer.apply_journal()


def test_what_a_commit_needs_stays_in_the_file_until_the_next_is_applied(tmp_path):
    buffer = make(7, tmp_path / "replay")
    path, ends = tmp_path / "replay", 4096 + 5 * 10 * 4
    add(buffer, 5)
    buffer.write_journal()
    first = path.read_bytes()
    assert first[4096:ends] == buffer._rows[:5].tobytes()
    buffer.apply_journal()
    add(buffer, 2)
    buffer.write_journal()
    assert path.read_bytes()[4096:ends] == first[4096:ends]
    buffer.apply_journal()
    full = path.read_bytes()
    add(buffer, 1)
    buffer.write_journal()
    assert path.read_bytes() == full
    buffer.apply_journal()
    assert path.read_bytes() != full


def test_a_resumed_buffer_goes_on_like_the_original(tmp_path):
    original = make(50, tmp_path / "replay", alpha=0.7)
    add(original, 40)
    original.update_priorities(torch.arange(40), torch.linspace(-5, 5, 40))
    original.write_journal()
    state = original.local_state()
    original.apply_journal()
    resumed = make(50, tmp_path / "replay", seed=9, alpha=0.7)
    resumed.load_local_state(state)
    for buffer in (original, resumed):
        add(buffer, 30)
    for _ in range(5):
        for expected, found in zip(original.sample(16), resumed.sample(16), strict=True):
            assert torch.equal(expected, found)


def test_a_state_of_another_commit_is_refused(tmp_path):
    path = tmp_path / "replay"
    buffer = make(7, path)
    states = []
    for _ in range(3):
        add(buffer, 3)
        states.append(buffer.local_state())
        if buffer.total == 6:
            with pytest.raises(ValueError, match="as of 3 transitions, the state to load as of 6"):
                make(7, path).load_local_state(states[1])
        buffer.write_journal()
        buffer.apply_journal()
        if buffer.total == 6:  # the file is ahead of the first state, as after a kill
            ahead = make(7, path)
            ahead.load_local_state(states[0])
            check_contents(ahead, 3)
    with pytest.raises(ValueError, match="as of 9 transitions, the state to load as of 6"):
        make(7, path).load_local_state(states[1])


def test_applying_an_outdated_journal_is_refused(tmp_path):
    buffer = make(7, tmp_path / "replay")
    add(buffer, 3)
    buffer.write_journal()
    add(buffer, 1)
    with pytest.raises(ValueError, match="as of 3 transitions, not 4"):
        buffer.apply_journal()
    check_contents(buffer, 4)


def test_a_file_of_another_layout_is_refused(tmp_path):
    make(7, tmp_path / "replay")
    with pytest.raises(ValueError, match=r"\[7, 10\], expected \[8, 10\]"):
        make(8, tmp_path / "replay")


def test_what_does_not_fit_is_refused():
    buffer = make(7, alpha=0.5)
    add(buffer, 3)
    state = buffer.local_state()
    with pytest.raises(ValueError, match="in-memory"):
        make(7, alpha=0.5).load_local_state(state)
    with pytest.raises(ValueError, match="lacks 'total'"):
        make(7).load_local_state({})


def test_an_in_memory_buffer_commits_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = make(7)
    add(buffer, 3)
    buffer.write_journal()
    buffer.apply_journal()
    check_contents(buffer, 3)
    assert not list(tmp_path.iterdir())
