"""Where a learner computes: networks, moments and batches are moved there with ``.to(device)``.

Files, federation and environments see float32 on the CPU, whatever the device. What is random is
drawn on the CPU everywhere, so that a seed means the same.
"""

from __future__ import annotations

from typing import Literal

import torch

from f110_fl.errors import UserError

Device = Literal["cpu", "cuda", "auto"]


def choose(device: Device) -> torch.device:
    """Return where a scenario's learners compute.

    Args:
        device: The scenario's; ``auto`` is ``cuda`` where there is one.

    Raises:
        UserError: If there is no CUDA device, but should be.
    """
    if device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if device == "auto":
        return torch.device("cpu")
    raise UserError(
        f"device: 'cuda': PyTorch {torch.__version__} finds no CUDA device on this machine; "
        "allowed: 'cpu', 'auto'"
    )
