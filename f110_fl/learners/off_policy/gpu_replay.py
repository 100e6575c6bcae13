"""Experience replay whose batches are gathered on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from f110_fl.learners.off_policy.replay import Batch, Draw, ReplayBuffer


class ResidentReplay(ReplayBuffer):
    """A replay buffer with a copy of its rows on a device.

    The rows on the host, and in their file, remain what counts: those added since the last draw
    are copied before the next. A batch is always the same tensors.

    Args:
        device: Where the copy and the batches are; the indices of a batch stay on the host.
        batch_size: Of every batch.
        *args: Of `ReplayBuffer`.

    Raises:
        ValueError: See `ReplayBuffer`.
    """

    def __init__(self, device: torch.device, batch_size: int, *args: Any) -> None:
        super().__init__(*args)
        self._copied = 0  # of total
        self._resident = torch.empty(self.capacity, self.columns.width, device=device)
        self._held = Draw(batch_size, self.columns, device)

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state``; see `ReplayBuffer.load_local_state`."""
        super().load_local_state(state)
        self._copied = 0

    def _gather(self, draw: Draw) -> Batch:
        held = self._held
        if draw.size != held.size:
            raise ValueError(f"batches have {held.size} transitions, not {draw.size}")
        self._follow()
        held.batch.indices.copy_(draw.batch.indices)
        held.batch.weights.copy_(draw.batch.weights)
        torch.index_select(self._resident, 0, held.batch.indices, out=held.rows)
        return held.batch._replace(indices=draw.batch.indices)

    def _follow(self) -> None:
        """Copy the rows added since the last call."""
        first = max(self._copied, self.total - self.capacity)
        count, start = self.total - first, first % self.capacity
        end = min(start + count, self.capacity)
        for part in (slice(start, end), slice(0, count - (end - start))):  # the ring wraps once
            self._resident[part].copy_(self._torch_rows[part])
        self._copied = self.total
