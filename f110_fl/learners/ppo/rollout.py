"""The experience between two updates of an on-policy learner, and its advantages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.learners.base import Array, Transitions
from f110_fl.learners.state import copies, entry, load_entries

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]


@njit(cache=True, nogil=True, error_model="numpy")
def generalised_advantages(
    reward: Float,
    value: Array,
    bootstrap_value: Array,
    last_value: Array,
    ended: Bool,
    mask: Bool,
    discount: float,
    gae_lambda: float,
    advantage: Array,
) -> None:
    """Generalised advantage estimation (Schulman et al. 2016, equations 11 to 16).

    Each column is one environment; a row continues that environment's previous present row
    unless that one ended its episode.

    Args:
        reward: (T, N).
        value: (T, N), of the observation acted on.
        bootstrap_value: (T, N), read where an episode ended: the value of what follows, 0 after
            a termination.
        last_value: (N,), the value of what follows the last present row if its episode goes on.
        ended: (T, N), whether the row is the last of its episode.
        mask: (T, N), whether the row is present; absent ones are not read.
        discount: gamma.
        gae_lambda: lambda.
        advantage: (T, N), receives the advantages of the present rows.
    """
    steps, envs = reward.shape
    for n in range(envs):
        following = float(last_value[n])
        running = 0.0
        for t in range(steps - 1, -1, -1):
            if not mask[t, n]:
                continue
            if ended[t, n]:
                following, running = float(bootstrap_value[t, n]), 0.0
            delta = reward[t, n] + discount * following - value[t, n]
            running = delta + discount * gae_lambda * running
            advantage[t, n] = running
            following = float(value[t, n])


def minibatches(order: Int, count: int) -> Int:
    """Cut shuffled samples (S, ...) into minibatches of one size: (``count``, S // ``count``, ...).

    Up to ``count`` - 1 samples, others in each order, sit out. There are fewer minibatches if there
    are fewer samples than ``count``.
    """
    count = min(count, len(order))
    size = len(order) // count
    return order[: count * size].reshape(count, size, *order.shape[1:])


class Rollout:
    """T steps in each of N environments, some rows of which may be absent.

    Attributes:
        observation: (T, N, D), which was acted on.
        action: (T, N, A), as drawn, before it was clipped.
        log_prob: (T, N), of ``action`` under the policy that drew it.
        reward: (T, N).
        first: (T, N), whether the step began its episode.
        ended: (T, N), whether the step ended its episode.
        mask: (T, N), whether there was a step.
        last_observation: (N, D), each environment's last next observation.
        truncated: Where an episode was truncated: (t, n, its last observation (D,)).
        steps: Rows that are complete.
    """

    def __init__(self, steps: int, num_envs: int, observation_size: int, action_size: int) -> None:
        self.observation = np.zeros((steps, num_envs, observation_size), np.float32)
        self.action = np.zeros((steps, num_envs, action_size), np.float32)
        self.log_prob = np.zeros((steps, num_envs), np.float32)
        self.reward = np.zeros((steps, num_envs))
        self.first = np.zeros((steps, num_envs), np.bool_)
        self.ended = np.zeros((steps, num_envs), np.bool_)
        self.mask = np.zeros((steps, num_envs), np.bool_)
        self.last_observation = np.zeros((num_envs, observation_size), np.float32)
        self._fresh = np.ones(num_envs, np.bool_)  # an episode begins with the next step
        self.truncated: list[tuple[int, int, Array]] = []
        self.steps = 0

    @property
    def full(self) -> bool:
        """Whether all T rows are complete."""
        return self.steps == len(self.mask)

    def begin(self, envs: Int, observation: Array, action: Array, log_prob: Array) -> None:
        """Write what the policy did with M observations (M, D) into the next row."""
        t, columns = self.steps, self._columns(envs)
        self.observation[t, columns] = observation
        self.action[t, columns] = action
        self.log_prob[t, columns] = log_prob
        self.first[t, columns] = self._fresh[columns]

    def complete(self, transitions: Transitions, reward: Float) -> None:
        """Write what came of it; the row is then complete.

        Args:
            transitions: Of the M environments that `begin` was called with.
            reward: (M,), what to learn from.
        """
        t, columns = self.steps, self._columns(transitions.envs)
        self.reward[t, columns] = reward
        self._fresh[columns] = self.ended[t, columns] = (
            transitions.terminated | transitions.truncated
        )
        self.mask[t, columns] = True
        self.last_observation[columns] = transitions.next_observation
        if transitions.truncated.any():
            for row in np.flatnonzero(transitions.truncated):
                last = transitions.next_observation[row].copy()
                self.truncated.append((t, int(transitions.envs[row]), last))
        self.steps += 1

    def _columns(self, envs: Int) -> Int | slice:
        """Return what selects these environments; all of them are selected faster by a slice."""
        return slice(None) if len(envs) == len(self.last_observation) else envs

    def truncated_observations(self) -> Array:
        """Return copies of the last observations of ``truncated``, (K, D)."""
        found = [observation for _, _, observation in self.truncated]
        return np.array(found, np.float32).reshape(-1, self.last_observation.shape[1])

    def clear(self) -> None:
        """Start again; ``last_observation`` stays."""
        self.mask[:] = False
        self.truncated.clear()
        self.steps = 0

    def local_state(self) -> dict[str, Tensor]:
        """Return copies of the complete rows and of whatever else continuing needs."""
        rows = slice(self.steps)
        where = np.array([(t, n) for t, n, _ in self.truncated], np.int64).reshape(-1, 2)
        state = {name: array[rows] for name, array in self._rows().items()}
        state |= {  # by the names that state files have
            "latest": self.last_observation,
            "fresh": self._fresh,
            "cut": where,
            "cut_observation": self.truncated_observations(),
        }
        return copies(state)

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or of another size than this rollout.
        """
        steps = len(entry(state, "mask"))
        if steps > len(self.mask):
            raise ValueError(f"rollout has {steps} steps, at most {len(self.mask)} fit")
        targets = {name: array[:steps] for name, array in self._rows().items()}
        targets |= {"latest": self.last_observation, "fresh": self._fresh}
        cut, last = entry(state, "cut"), entry(state, "cut_observation")
        load_entries(targets, state, "rollout:")
        self.mask[steps:] = False
        self.truncated = [
            (t, n, row.copy()) for (t, n), row in zip(cut.tolist(), last.numpy(), strict=True)
        ]
        self.steps = steps

    def _rows(self) -> dict[str, NDArray[np.generic]]:
        return {
            "observation": self.observation,
            "action": self.action,
            "log_prob": self.log_prob,
            "reward": self.reward,
            "first": self.first,
            "ended": self.ended,
            "mask": self.mask,
        }
