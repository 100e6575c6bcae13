"""Where a learner computes: networks, moments and batches are on one device.

Files, federation and environments see float32 on the CPU, whatever the device. Random numbers are
always drawn on the CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

import os
from typing import Any, Final, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.errors import UserError

Device = Literal["cpu", "cuda", "auto"]
_REPRODUCIBLE: Final = {"MKL_CBWR": "AUTO,STRICT"}


def choose(device: Device) -> torch.device:
    """Return where a scenario's learners compute.

    Args:
        device: The scenario's; ``auto`` is ``cuda`` where there is such a device.

    Raises:
        UserError: If it is ``cuda`` and there is no such device.
    """
    available = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError(
            f"device: 'cuda': PyTorch {torch.__version__} finds no CUDA device on this machine; "
            "allowed: 'cpu', 'auto'"
        )
    return torch.device("cuda" if available else "cpu")


def use_threads(count: int) -> None:
    """Let PyTorch compute with ``count`` threads, two or more of which give the same bytes.

    Products of matrices would otherwise be summed in an order that depends on the number
    (oneMKL's conditional numerical reproducibility, strict mode). It is in time before the
    process's first product. One thread is left as it is, unless the environment says otherwise.
    """
    if count > 1:
        for name, value in _REPRODUCIBLE.items():
            os.environ.setdefault(name, value)
    torch.set_num_threads(count)


# PPO's small steps move a dozen arrays, so asking PyTorch to move what is already in place would
# be noticeable.


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device: on the CPU a view, else a copy."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.to(device)


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor without a graph as an array: on the CPU a view, else a copy."""
    return (tensor if tensor.is_cpu else tensor.cpu()).numpy()
