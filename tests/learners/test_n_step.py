"""Sums of several steps' rewards against their definition, episode by episode."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.learners.base import Transitions
from f110_fl.learners.off_policy.n_step import NStep

GAMMA = 0.9
END = st.sampled_from(["goes on", "goes on", "terminated", "truncated"])
# At each step, what happens in each of the three environments; None: no step there.
HISTORY = st.lists(st.tuples(*[st.none() | END] * 3), max_size=25)


def play(history: list, n: int) -> tuple[list[dict], list[list[int]]]:
    """Push a history; return what came out, in order, and the episodes as lists of steps."""
    buffer = NStep(n, GAMMA, 3, 2, 1)
    out: list[dict] = []
    episodes: dict[int, list[list[tuple]]] = {env: [[]] for env in range(3)}
    for t, events in enumerate(history):
        envs = np.array([env for env in range(3) if events[env]], dtype=np.int64)
        if not len(envs):
            continue
        number = 100.0 * t + envs  # tells step and environment
        terminated = np.array([events[env] == "terminated" for env in envs])
        truncated = np.array([events[env] == "truncated" for env in envs])
        observation = np.column_stack([number, envs]).astype(np.float32)
        transitions = Transitions(
            envs,
            observation,
            np.zeros((len(envs), 1), np.float32),
            np.sin(number),
            observation + 0.5,
            terminated,
            truncated,
        )
        returns = buffer.push(transitions, -number.astype(np.float32)[:, None])
        out += [
            dict(zip(returns._fields, (part.tolist() for part in row), strict=True))
            for row in zip(*returns, strict=True)
        ]
        for env, x in zip(envs.tolist(), number.tolist(), strict=True):
            episodes[env][-1].append((x, events[env]))
            if events[env] != "goes on":
                episodes[env].append([])
    return out, [episode for each in episodes.values() for episode in each]


@given(HISTORY, st.integers(1, 6))
def test_returns_are_what_their_definition_says(history, n):
    found, episodes = play(history, n)
    expected = []
    for episode in episodes:
        for first in range(len(episode)):
            window = episode[first : first + n]
            last, ending = window[-1]
            if ending == "goes on" and len(window) < n:
                continue  # not complete yet
            expected.append(
                (
                    episode[first][0],
                    sum(GAMMA**k * np.sin(x) for k, (x, _) in enumerate(window)),
                    0.0 if ending == "terminated" else GAMMA ** len(window),
                    last + 0.5,
                )
            )
    by_start = sorted(found, key=lambda row: (row["observation"][1], row["observation"][0]))
    assert len(by_start) == len(expected)
    for row, (start, reward, discount, following) in zip(by_start, expected, strict=True):
        assert row["observation"][0] == start
        assert row["action"] == [-start]
        assert row["reward"] == pytest.approx(reward, abs=1e-12)
        assert row["discount"] == pytest.approx(discount, abs=1e-15)
        assert row["next_observation"][0] == following


@given(HISTORY)
def test_one_step_passes_everything_through_in_order(history):
    found, _ = play(history, 1)
    pairs = [(t, env) for t, row in enumerate(history) for env in range(3) if row[env]]
    numbers = [100.0 * t + env for t, env in pairs]
    assert [row["observation"][0] for row in found] == numbers
    assert [row["reward"] for row in found] == np.sin(numbers).tolist()


def test_a_state_of_another_size_is_refused():
    state = NStep(3, GAMMA, 2, 4, 1).local_state()
    with pytest.raises(ValueError, match=r"sums' has shape \(2, 3\), expected \(2, 2\)"):
        NStep(2, GAMMA, 2, 4, 1).load_local_state(state)
    with pytest.raises(ValueError, match="lacks 'age'"):
        NStep(2, GAMMA, 2, 4, 1).load_local_state({"sums": torch.zeros(2, 2)})
