"""Policy and value networks with a memory, as PPO uses them: an LSTM each, then an `Mlp`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.learners.base import Array
from f110_fl.learners.device import to_array, to_device
from f110_fl.learners.networks.lstm import Lstm, LstmPass
from f110_fl.learners.networks.mlp import GaussianActor, Mlp, MlpPass
from f110_fl.learners.ppo.rollout import Rollout, minibatches
from f110_fl.learners.state import copies, entry, load_entries

Int = NDArray[np.int64]


class RecurrentMean:
    """Means of a policy's actions in N environments.

    Attributes:
        state: (2, N, H), each environment's output and cell state before its next step.
    """

    def __init__(self, actor: GaussianActor, lstm: Lstm, num_envs: int) -> None:
        self._lstm = LstmPass(lstm, 1, num_envs)
        self._head = MlpPass(actor, num_envs)
        self._device = device = actor.log_std.device
        self._rows = np.zeros((num_envs, lstm.inputs), np.float32)
        self._never = torch.zeros(1, num_envs, dtype=torch.bool, device=device)
        self.state = torch.zeros(2, num_envs, lstm.units, device=device)

    def reset(self, envs: Int) -> None:
        """Forget what was seen in these environments."""
        self.state[:, torch.from_numpy(envs)] = 0.0

    def __call__(self, observations: Array, envs: Int) -> Array:
        """Return the means (M, A) for observations (M, D) of the environments (M,)."""
        # All N rows, always: what one environment gets does not depend on which others run.
        self._rows[envs] = observations
        seen = to_device(self._rows, self._device)
        output = self._lstm.forward(seen, self._never, *self.state)[0]
        rows = torch.from_numpy(envs)
        self.state[0, rows] = output[rows]
        self.state[1, rows] = self._lstm.c[0, rows]
        mean: Array = to_array(self._head.forward(output))[envs]
        return mean


class _Network:
    """LSTM and head over sequences of one length, B at a time."""

    def __init__(self, head: Mlp, lstm: Lstm, steps: int, rows: int) -> None:
        self._lstm = LstmPass(lstm, steps, rows)
        self._head = MlpPass(head, steps * rows)
        self._weight = head.weights[0].detach()
        self._gradient = self._weight.new_zeros(steps * rows, len(head.biases[-1]))

    def forward(self, x: Tensor, first: Tensor, state: Tensor) -> Tensor:
        """Map (L * B, D) to (L * B, outputs), from states (2, B, H)."""
        return self._head.forward(self._lstm.forward(x, first, *state).flatten(0, 1))

    def backward(self, gradient: Tensor, present: Tensor) -> None:
        """Write all gradients, given that of the ``present`` rows' outputs."""
        self._gradient.zero_()
        self._gradient[present] = gradient
        delta = self._head.backward(self._gradient)
        self._lstm.backward(torch.mm(delta, self._weight).view_as(self._lstm.h))


class Recurrent:
    """Actor and critic on sequences of a rollout.

    A sequence is ``length`` successive rows of one environment. It starts from the state that
    the networks had there when the rollout was collected (actor) or when the update began
    (critic), and from zeros where an episode begins.

    Args:
        actor: Head of the policy. All parameters have gradients to write to.
        critic: Head of the value.
        lstms: Memories of actor and critic.
        rollout: What to learn from.
        length: Rows of a sequence, L; a divisor of the rollout's T.
    """

    def __init__(
        self,
        actor: GaussianActor,
        critic: Mlp,
        lstms: Sequence[Lstm],
        rollout: Rollout,
        length: int,
    ) -> None:
        self._heads = actor, critic
        self._lstms = lstms
        self._device = device = actor.log_std.device
        self._rollout, self._length = rollout, length
        steps, num_envs = rollout.mask.shape
        self._acting = self.policy(num_envs)
        self.reset = self._acting.reset
        # States of actor and critic at the start of every sequence, (T / L, 2, N, H).
        shape = steps // length, 2, num_envs, lstms[0].units
        self._starts = [torch.zeros(shape, device=device) for _ in lstms]
        self._critic_state = torch.zeros(2, num_envs, lstms[1].units, device=device)
        self._collected = torch.from_numpy(rollout.observation).flatten(0, 1)
        self._observations = self._collected.to(device)
        self._first = to_device(rollout.first, device)
        self._rows = -1
        self._networks: list[_Network] = []
        self._sequences = np.zeros((0, 2), np.int64)  # (B, 2): which of T / L, environment
        self._index = np.zeros((0, 0), np.int64)  # (L, B) rows of the rollout
        self._present = torch.zeros(0, dtype=torch.int64)  # which of L * B rows are

    def mean(self, observations: Array, envs: Int) -> Array:
        """Return the means (M, A) for observations (M, D) of the next row of the rollout."""
        sequence, inside = divmod(self._rollout.steps, self._length)
        if inside == 0:
            self._starts[0][sequence] = self._acting.state
        return self._acting(observations, envs)

    def policy(self, num_envs: int) -> RecurrentMean:
        """Return the action means for ``num_envs`` environments of their own."""
        return RecurrentMean(self._heads[0], self._lstms[0], num_envs)

    def values(self, last: Array, truncated: Array) -> tuple[Array, Array, Array]:
        """Return the critic's values now, and start its sequences from what it remembers.

        Arguments and results are those of ``FeedForward.values``.
        """
        steps, num_envs = self._rollout.mask.shape
        length, head, lstm, device = self._length, self._heads[1], self._lstms[1], self._device
        self._observations = self._collected.to(device)
        self._first = first = to_device(self._rollout.first, device)
        run = LstmPass(lstm, length, num_envs)
        value = torch.empty(steps, num_envs, device=device)
        # The states that `truncated` is seen in.
        after = torch.zeros(2, len(truncated), lstm.units, device=device)
        state = self._critic_state
        for start in range(0, steps, length):
            self._starts[1][start // length] = state
            inside = slice(start, start + length)
            rows = self._observations[start * num_envs : (start + length) * num_envs]
            output = run.forward(rows, first[inside], *state)
            value[inside] = head(output)[..., 0]
            for k, (t, n, _) in enumerate(self._rollout.truncated):
                if inside.start <= t < inside.stop:
                    after[0, k], after[1, k] = output[t - start, n], run.c[t - start, n]
            state = torch.stack((output[-1], run.c[-1]))
        self._critic_state = state
        last_value, bootstrap = (
            to_array(self._next_values(to_device(seen, device), states))
            for seen, states in ((last, state), (truncated, after))
        )
        return to_array(value), last_value, bootstrap

    def _next_values(self, observations: Tensor, state: Tensor) -> Tensor:
        """Return the values (K,) of observations (K, D) seen in the states (2, K, H)."""
        rows = len(observations)
        run = LstmPass(self._lstms[1], 1, rows)
        goes_on = torch.zeros(1, rows, dtype=torch.bool, device=self._device)
        value: Tensor = self._heads[1](run.forward(observations, goes_on, *state)[0])[:, 0]
        return value

    def minibatches(self, rng: np.random.Generator, count: int) -> Iterator[Int]:
        """Partition the sequences that have a present row at random.

        Args:
            rng: Shuffles the sequences.
            count: Minibatches, if there are as many sequences.

        Yields:
            Indices (B,) into the rollout's T * N rows: the present ones of the sequences.
        """
        mask = self._rollout.mask
        num_envs = mask.shape[1]
        used = mask.reshape(-1, self._length, num_envs).any(1)
        parts = minibatches(rng.permutation(np.argwhere(used)), count)
        rows = parts.shape[1]
        if rows != self._rows:
            self._rows = rows
            self._networks = [
                _Network(head, lstm, self._length, rows)
                for head, lstm in zip(self._heads, self._lstms, strict=True)
            ]
        inside = np.arange(self._length)[:, None]
        for sequences in parts:
            sequence, env = sequences.T
            index = (sequence * self._length + inside) * num_envs + env  # (L, rows)
            self._sequences = sequences
            self._index = index
            present = np.flatnonzero(mask.reshape(-1)[index])
            self._present = to_device(present, self._device)
            yield index.reshape(-1)[present]

    def forward(self, chosen: Int) -> tuple[Array, Array]:  # noqa: ARG002 - set with them
        """Return the means (B, A) and values (B, 1) of the latest minibatch."""
        index = to_device(self._index, self._device)
        x = self._observations[index.flatten()]
        first = self._first.flatten()[index]
        sequence, env = to_device(self._sequences, self._device).T
        outputs = [
            network.forward(x, first, starts[sequence, :, env].transpose(0, 1).contiguous())
            for network, starts in zip(self._networks, self._starts, strict=True)
        ]
        mean, value = (to_array(output[self._present]) for output in outputs)
        return mean, value

    def backward(self, d_mean: Array, d_value: Array) -> None:
        """Write the gradients of all weights and biases; see ``FeedForward.backward``."""
        for network, gradient in zip(self._networks, (d_mean, d_value), strict=True):
            network.backward(to_device(gradient, self._device), self._present)

    def local_state(self) -> dict[str, Tensor]:
        """Return copies of what the networks remember now and remembered at sequences' starts."""
        return copies(self._remembered(-(-self._rollout.steps // self._length)))

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or has another shape.
        """
        with torch.inference_mode():  # in which steps have made these
            load_entries(self._remembered(len(entry(state, "starts"))), state, "memory:")

    def _remembered(self, begun: int) -> dict[str, Tensor]:
        """Return the states that continuing needs once ``begun`` sequences have begun."""
        return {
            "acting": self._acting.state,
            "critic": self._critic_state,
            "starts": self._starts[0][:begun],
        }
