"""A loss and its gradient as a CUDA graph: recorded once, then repeated.

An update launches about a hundred kernels, which are so small that launching them one by one takes
several times as long as they run; a graph is one launch (``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Final, Protocol, TypeVar

import torch
from torch import Tensor

from f110_fl.learners.networks.q_network import Noise
from f110_fl.learners.off_policy.replay import Batch

T = TypeVar("T")
WARM_UPS: Final = 3  # calls before recording, as PyTorch advises: libraries set themselves up


class Pass(Protocol):
    """Computes a loss and its gradient."""

    def __call__(self, function: Callable[..., T], batch: Batch, *noise: Tensor | Noise) -> T:
        """Return what ``function(batch, *noise)`` returns.

        Args:
            function: Leaves the gradient in the parameters' ``grad``, which it forgets first, and
                returns tensors that need none. It is the same at every call. It reads no values
                on the host, draws no random numbers, and changes neither its arguments nor
                anything else.
            batch: On the device, of the same size at every call, as are the others.
            noise: Random numbers on the device.
        """
        ...


def make_pass(device: torch.device) -> Pass:
    """Return what calls a function on a device: on a GPU only to record it, else every time."""
    return Recorded() if device.type == "cuda" else _call


def _call(function: Callable[..., T], batch: Batch, *noise: Tensor | Noise) -> T:
    return function(batch, *noise)


class Recorded:
    """Records what a function does on the GPU, and repeats that; implements `Pass`.

    Arguments are copied to where those of the first call were. Results and gradients are always
    the same tensors. So are, therefore, the parameters that it reads: they change in place.
    """

    def __init__(self) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self._held: tuple[Any, ...] = ()
        self._result: Any = None

    def __call__(self, function: Callable[..., T], batch: Batch, *noise: Tensor | Noise) -> T:
        """See `Pass`."""
        if self._graph is None:
            # One deep copy of all: the batch's parts stay views of its rows.
            self._held = deepcopy((batch, *noise))
            self._graph = self._record(function)
        for held, given in zip(_storages(*self._held), _storages(batch, *noise), strict=True):
            held.copy_(given)
        self._graph.replay()
        result: T = self._result
        return result

    def _record(self, function: Callable[..., T]) -> torch.cuda.CUDAGraph:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function(*self._held)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = function(*self._held)
        return graph


def _storages(batch: Batch, *noise: Tensor | Noise) -> Iterator[Tensor]:
    """Yield the tensors that hold a function's arguments."""
    yield batch.rows
    yield batch.weights
    for part in noise:
        yield from (part,) if isinstance(part, Tensor) else part
