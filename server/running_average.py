"""A running average of the global model over rounds, which no client starts from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import ArrayRecord

from f110_fl.federation.arrays import to_arrays
from f110_fl.tensors import TensorName


class RunningAverage:
    """An exponential moving average of the networks: w_avg <- d w_avg + (1 - d) w after a round.

    Averages of the iterates vary less than the iterates (Polyak and Juditsky 1992). The n-th
    round has d = min(decay, 1 - 1 / n), so that the first ones are averaged with equal weights:
    otherwise the first model would count for longest.

    Args:
        decay: Largest d, below 1.

    Attributes:
        tensors: The average by name; empty before the first round.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self.tensors: dict[str, torch.Tensor] = {}

    def update(self, number: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take a round in.

        Args:
            number: The round, counted from 1.
            tensors: The global ones after it. Moments are left out; of what is not a
                floating-point number, the last counts.
        """
        step = 1.0 - min(self._decay, 1.0 - 1.0 / number)
        for name, tensor in tensors.items():
            if TensorName.parse(name).kind != "model":
                continue
            before = self.tensors.get(name)
            if before is None or not tensor.is_floating_point():
                self.tensors[name] = tensor.clone()
            else:
                before.lerp_(tensor, step)

    def over(self, arrays: ArrayRecord) -> ArrayRecord:
        """Return the global arrays with the average in place of the networks, if there is one."""
        return ArrayRecord({**arrays, **to_arrays(self.tensors)})
