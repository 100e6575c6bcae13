"""Experience replay, uniform or prioritised (Schaul et al. 2016), that survives a kill."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from f110_fl.config.learners import ReplayConfig
from f110_fl.files import replacing
from f110_fl.learners.device import to_array
from f110_fl.learners.off_policy.sumtree import SumTree
from f110_fl.learners.state import entry, pack_generator, unpack_generator
from f110_fl.tensors import read_metadata, write_tensors

Array = NDArray[np.float32]

# The file: one page of int64 [transitions ever added, capacity, columns], then the rows, each an
# observation, its action, reward and discount, and the next observation.
HEADER_BYTES: Final = 4096


class Batch(NamedTuple):
    """Transitions drawn from a replay buffer: float32 views of one gathered matrix, the rows."""

    observation: Tensor  # (B, D)
    action: Tensor  # (B, A)
    observation_action: Tensor  # (B, D + A)
    reward: Tensor  # (B,)
    discount: Tensor  # (B,) of the value of next_observation, 0 where there is none
    next_observation: Tensor  # (B, D)
    weights: Tensor  # (B,) importance weights, at most 1
    indices: Tensor  # (B,) int64, for update_priorities
    rows: Tensor  # (B, 2 D + A + 2)

    @classmethod
    def of(cls, rows: Tensor, observation_size: int, weights: Tensor, indices: Tensor) -> Batch:
        """Return views of rows; the other arguments are as above."""
        reward = rows.shape[1] - observation_size - 2  # the column
        return cls(
            observation=rows[:, :observation_size],
            action=rows[:, observation_size:reward],
            observation_action=rows[:, :reward],
            reward=rows[:, reward],
            discount=rows[:, reward + 1],
            next_observation=rows[:, reward + 2 :],
            weights=weights,
            indices=indices,
            rows=rows,
        )

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; the indices, which only the buffer reads, stay."""
        if device.type == "cpu":
            return self
        observation_size = self.observation.shape[1]
        rows, weights = self.rows.to(device), self.weights.to(device)
        return Batch.of(rows, observation_size, weights, self.indices)


class Draw:
    """Everything that a draw of B transitions writes to, allocated once.

    Args:
        batch_size: B.
        observation_size: D.
        action_size: A.
    """

    def __init__(self, batch_size: int, observation_size: int, action_size: int) -> None:
        self.rows = torch.zeros(batch_size, 2 * observation_size + action_size + 2)
        self.uniforms = np.zeros(batch_size)
        self.priorities = np.zeros(batch_size)
        weights, indices = torch.ones(batch_size), torch.zeros(batch_size, dtype=torch.int64)
        self.batch = Batch.of(self.rows, observation_size, weights, indices)


class ReplayBuffer:
    """The last ``capacity`` transitions, in memory or mapped from a file.

    A mapped file is opened copy-on-write: it stays as of the last commit while the buffer goes
    on. Rows for which there still is room lie behind those that the last commit needs. A commit
    writes them into the file (``write_journal``), and the caller stores ``local_state`` atomically,
    which decides; after a kill in between, the file is ahead of the state by rows that come again.

    Once rows overwrite others, a commit takes three steps, a redo log. (a) ``write_journal``
    stores the rows added since the last commit next to the file. (b) The caller stores
    ``local_state`` atomically: this decides. (c) ``apply_journal`` writes the rows into the
    file. ``load_local_state`` finishes a commit killed after (b) and drops one killed before.

    Args:
        config: Capacity and prioritisation.
        observation_size: D.
        action_size: A.
        rng: Draws the batches.
        path: The file to map, created if missing; None keeps the rows in memory only.

    Raises:
        ValueError: If the file exists with another capacity or row width.
    """

    def __init__(
        self,
        config: ReplayConfig,
        observation_size: int,
        action_size: int,
        rng: np.random.Generator,
        path: Path | None = None,
    ) -> None:
        self.config = config
        self.capacity = config.capacity
        self.total = 0  # transitions ever added
        self.max_priority = 1.0  # |TD error| + epsilon, before the exponent
        self._committed = 0  # of total, what the file holds for good
        self._written = 0  # of total, what is durable in the file or beside it
        self._rng = rng
        self._tree = SumTree(self.capacity) if config.alpha > 0 else None
        self._sizes = observation_size, action_size
        self._draw = Draw(1, *self._sizes)
        self._shape = self.capacity, self._draw.rows.shape[1]
        self._path = path
        if path is None:
            self._map(np.zeros(self._shape, dtype=np.float32))
        else:
            if not path.exists():
                _create(path, self._shape)
            self._open(path)

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    @property
    def beta(self) -> float:
        """Exponent of the importance weights now, annealed to 1 (section 3.4)."""
        return min(1.0, self.config.beta + self.config.beta_step * self.total)

    def add(
        self,
        observation: Array,
        action: Array,
        reward: NDArray[np.floating],
        discount: NDArray[np.floating],
        next_observation: Array,
    ) -> None:
        """Store M transitions over the oldest, at the highest priority so far.

        Args:
            observation: (M, D).
            action: (M, A).
            reward: (M,), of the step or steps.
            discount: (M,), of the value of ``next_observation``; 0 after a termination.
            next_observation: (M, D).
        """
        count = len(reward)
        indices = np.arange(self.total, self.total + count) % self.capacity
        parts = observation, action, reward[:, None], discount[:, None], next_observation
        # The last of duplicates stays.
        self._rows[indices] = np.concatenate(parts, axis=1, dtype=np.float32)
        self.total += count
        if self._tree is not None:
            priority = self.max_priority**self.config.alpha
            self._tree.assign(indices, np.full(count, priority))

    def sample(self, batch_size: int) -> Batch:
        """Draw transitions with replacement; the next call overwrites the result.

        With ``alpha`` 0 they are uniform and have weights 1. Otherwise transition i has the
        probability P(i) = p_i^alpha / sum_k p_k^alpha (Schaul et al. 2016, equation 1),
        stratified, and the weight (N P(i))^-beta over the batch's largest (section 3.4).

        Args:
            batch_size: B.

        Raises:
            ValueError: If the buffer is empty.
        """
        if self.total == 0:
            raise ValueError("cannot sample from an empty replay buffer")
        if len(self._draw.rows) != batch_size:
            self._draw = Draw(batch_size, *self._sizes)
        draw, batch = self._draw, self._draw.batch
        indices = batch.indices.numpy()
        if self._tree is None:
            indices[:] = self._rng.integers(0, len(self), size=batch_size)
        else:
            self._rng.random(out=draw.uniforms)
            priorities = draw.priorities
            self._tree.sample(draw.uniforms, indices, priorities)
            # N and the total cancel: (N P)^-beta / max (N P)^-beta = (P / min P)^-beta.
            priorities /= priorities.min()
            batch.weights.numpy()[:] = np.power(priorities, -self.beta, out=priorities)
        torch.index_select(self._torch_rows, 0, batch.indices, out=draw.rows)
        return batch

    def update_priorities(self, indices: Tensor, td_errors: Tensor) -> None:
        """Set p = |TD error| + epsilon (Schaul et al. 2016, section 3.3); no-op with alpha 0.

        Args:
            indices: (B,), from a batch.
            td_errors: (B,), finite, of either sign, on any device.
        """
        if self._tree is None:
            return
        priorities = np.abs(to_array(td_errors), dtype=np.float64) + self.config.epsilon
        self.max_priority = max(self.max_priority, float(priorities.max()))
        self._tree.assign(indices.numpy(), priorities**self.config.alpha)

    def local_state(self) -> dict[str, Tensor]:
        """Return copies of everything but the rows."""
        state = {
            "total": torch.tensor(self.total),
            "max_priority": torch.tensor(self.max_priority, dtype=torch.float64),
            "rng": pack_generator(self._rng),
        }
        if self._tree is not None:
            state["priorities"] = torch.from_numpy(self._tree.leaves[: len(self)].copy())
        return state

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state``, on the file as of its commit.

        Raises:
            ValueError: If an entry is missing or misshapen, the file is of another commit, or
                rows are needed that an in-memory buffer never stored.
        """
        total = int(entry(state, "total"))
        if self._path is None and total > 0:
            raise ValueError("an in-memory replay buffer cannot be resumed; give it a path")
        if self._tree is not None:
            priorities = entry(state, "priorities").numpy()
            expected = (min(total, self.capacity),)
            if priorities.shape != expected:
                raise ValueError(f"priorities have shape {priorities.shape}, not {expected}")
            self._tree.load(priorities)
        self.max_priority = float(entry(state, "max_priority"))
        unpack_generator(self._rng, entry(state, "rng"))
        self.total = self._committed = total
        if self._path is not None:
            self._recover(self._path)

    def use_file(self, path: Path) -> None:
        """Use another file, of the same layout; `load_local_state` must follow."""
        self._path = path

    def write_journal(self) -> None:
        """Step (a) of a commit: make the rows added since the last one durable.

        Those that overwrite others are stored in a safetensors file with ``total``, from which
        their positions follow: they are the last of ``total`` rows in a ring. No-op in memory.

        Raises:
            OSError: If they cannot be written.
        """
        if self._path is None:
            return
        first = max(self._committed, self.total - self.capacity)
        rows = self._rows[np.arange(first, self.total) % self.capacity]
        if self.total > self.capacity:
            write_tensors(_journal(self._path), {"rows": rows}, {"total": str(self.total)})
        else:
            _journal(self._path).unlink(missing_ok=True)  # of a first commit that never ended
            self._store(self._path, rows, self.total)
        self._written = self.total

    def apply_journal(self) -> None:
        """Step (c) of a commit: bring the file up to date, drop the journal. No-op in memory.

        Raises:
            OSError: If the file cannot be written; the journal remains and can be applied again.
            ValueError: If transitions were added since ``write_journal``; they would be lost.
        """
        if self._path is None:
            return
        if self._written != self.total:
            raise ValueError(f"the journal is as of {self._written} transitions, not {self.total}")
        journal = _journal(self._path)
        if journal.exists():
            with safe_open(journal, framework="numpy") as file:
                rows = file.get_tensor("rows")
            self._store(self._path, rows, self.total)
            journal.unlink()
        self._committed = self.total
        self._open(self._path)

    def _store(self, path: Path, rows: Array, total: int) -> None:
        """Write the last of ``total`` rows (n, columns) to their places in the file, durably."""
        first = (total - len(rows)) % self.capacity
        until_end = self.capacity - first  # the ring may wrap around once
        header = np.array([total, *self._shape])
        with path.open("r+b") as file:
            for position, run in ((first, rows[:until_end]), (0, rows[until_end:])):
                file.seek(HEADER_BYTES + position * rows.itemsize * rows.shape[1])
                file.write(run.data)
            file.seek(0)
            file.write(header.data)
            file.flush()
            os.fsync(file.fileno())

    def _recover(self, path: Path) -> None:
        """Finish or drop the commit that a kill left open, as ``self.total`` says."""
        journal = _journal(path)
        if journal.exists():
            self._written = int(read_metadata(journal)["total"])
            if self._written == self.total:
                self.apply_journal()
            else:
                journal.unlink()
        held = self._open(path)
        ahead = self.total < held <= self.capacity  # none of the state's rows is overwritten
        if held != self.total and not ahead:
            raise ValueError(
                f"{path} is as of {held} transitions, the state to load as of {self.total}"
            )

    def _open(self, path: Path) -> int:
        """Map the file afresh, so that private copies of changed pages are released.

        Returns:
            The number of transitions that the file is as of.

        Raises:
            ValueError: If the file has another layout.
        """
        with path.open("rb") as file:  # NumPy's own memmap takes longer than all else here
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        total, *shape = np.frombuffer(memory, np.int64, 3).tolist()
        if tuple(shape) != self._shape:
            raise ValueError(
                f"{path} holds [capacity, columns] {shape}, expected {list(self._shape)}"
            )
        rows = np.frombuffer(memory, np.float32, math.prod(self._shape), HEADER_BYTES)
        self._map(rows.reshape(self._shape))
        return int(total)

    def _map(self, rows: Array) -> None:
        self._rows = rows
        self._torch_rows = torch.from_numpy(rows)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def _create(path: Path, shape: tuple[int, int]) -> None:
    """Create a sparse file of full size, whole or not at all."""
    with replacing(path) as file:
        file.write(np.array([0, *shape]).data)
        file.truncate(HEADER_BYTES + math.prod(shape) * np.dtype(np.float32).itemsize)
