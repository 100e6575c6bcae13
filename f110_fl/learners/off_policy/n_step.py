"""Several steps' rewards as one transition (Sutton and Barto 2018, section 7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.learners.base import Array, Transitions
from f110_fl.learners.state import copies, load_entries

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


class Returns(NamedTuple):
    """K transitions over up to n steps, to be read before the next call."""

    observation: Array  # (K, D)
    action: Array  # (K, A)
    reward: Float  # (K,) r_t + gamma r_t+1 + ... of the steps from there on
    discount: Float  # (K,) of the value of next_observation: gamma^steps, 0 if terminated
    next_observation: Array  # (K, D) after the last of those steps


@njit(cache=True, nogil=True, error_model="numpy")
def _push(
    envs: Int,  # (M,)
    reward: Float,  # (M,)
    terminated: Bool,  # (M,)
    truncated: Bool,  # (M,)
    powers: Float,  # (n + 1,), of the discount
    age: Int,  # (N,), steps of each environment's episode so far
    sums: Float,  # (N, n), of the steps t in slots t modulo n
    out_row: Int,  # (M n,), receives which of the M steps completed a sum
    out_slot: Int,  # (M n,), receives the sum's slot
    out_sum: Float,  # (M n,), receives the sum
    out_discount: Float,  # (M n,), receives the discount of the value that follows it
) -> int:
    """Add the rewards to every open sum; list and close those that are complete; count them."""
    n = sums.shape[1]
    count = 0
    for m in range(len(envs)):
        env, t = envs[m], age[envs[m]]
        first = max(0, t - n + 1)
        sums[env, t % n] = 0.0
        for k in range(first, t + 1):
            sums[env, k % n] += powers[t - k] * reward[m]
        over = terminated[m] or truncated[m]
        last = t if over else t - n + 1  # complete are the sums begun at steps up to this one
        for k in range(first, last + 1):
            out_row[count] = m
            out_slot[count] = k % n
            out_sum[count] = sums[env, k % n]
            out_discount[count] = 0.0 if terminated[m] else powers[t - k + 1]
            count += 1
        age[env] = 0 if over else t + 1
    return count


class NStep:
    """The last n - 1 steps of every environment, whose returns are not complete yet.

    At the end of an episode, the steps that are left get shorter sums: nothing follows a
    termination, and a truncation is followed by the value of the episode's last observation.

    Args:
        n: Steps summed; 1 passes transitions through.
        discount: gamma.
        num_envs: N.
        observation_size: D.
        action_size: A.
    """

    def __init__(
        self, n: int, discount: float, num_envs: int, observation_size: int, action_size: int
    ) -> None:
        self._powers: Float = np.power(discount, np.arange(n + 1), dtype=np.float64)
        self._age = np.zeros(num_envs, dtype=np.int64)
        self._sums = np.zeros((num_envs, n))
        self._observation = np.zeros((num_envs, n, observation_size), dtype=np.float32)
        self._action = np.zeros((num_envs, n, action_size), dtype=np.float32)
        size = num_envs * n
        self._out = (np.zeros((2, size), dtype=np.int64), np.zeros((2, size)))

    def push(self, transitions: Transitions, action: Array) -> Returns:
        """Take in a step of M environments and return what it completes, in order.

        Args:
            transitions: The step; its action is not read.
            action: (M, A), what to store as the action.
        """
        envs, n = transitions.envs, self._sums.shape[1]
        slots = self._age[envs] % n
        self._observation[envs, slots] = transitions.observation
        self._action[envs, slots] = action
        (rows, places), (sums, discounts) = self._out
        count = _push(
            envs,
            transitions.reward,
            transitions.terminated,
            transitions.truncated,
            self._powers,
            self._age,
            self._sums,
            rows,
            places,
            sums,
            discounts,
        )
        rows, places = rows[:count], places[:count]
        return Returns(
            self._observation[envs[rows], places],
            self._action[envs[rows], places],
            sums[:count],
            discounts[:count],
            transitions.next_observation[rows],
        )

    def local_state(self) -> dict[str, Tensor]:
        """Return copies of the open sums and of the steps that they begin at."""
        return copies(self._arrays())

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing, or of another number of steps or environments.
        """
        load_entries(self._arrays(), state, "n-step returns:")

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {
            "age": self._age,
            "sums": self._sums,
            "observation": self._observation,
            "action": self._action,
        }
