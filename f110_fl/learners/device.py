"""Where a learner computes: in the host's memory, or apart from it, on a GPU.

Networks, moments and batches are at a `Host`'s ``device``; its methods are all that depends on
where that is. On the host they copy nothing. What is random is drawn on the host everywhere, so
that a seed means the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from f110_fl.errors import UserError

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)
Feed = Callable[[list[Tensor]], list[Tensor]]
Device = Literal["cpu", "cuda", "auto"]

WARM_UPS: Final = 3  # calls before one is recorded


class Runner(Protocol):
    """Calls a function again and again, or has the same effect.

    The function reads tensors, the same ones each time, and changes none that it has not made.
    """

    def __call__(self, function: Callable[[], T]) -> T:
        """Return what the function returns."""
        ...


class ActingCopy(Generic[Network]):
    """A network on the host that does what another does, as of the last ``refresh``.

    Args:
        original: The other.
        network: The copy; or the original, which needs no refreshing.

    Attributes:
        network: On the host.
    """

    def __init__(self, original: Network, network: Network) -> None:
        self.network = network
        pairs = zip(network.parameters(), original.parameters(), strict=True)
        self._pairs = [(a.detach(), b.detach()) for a, b in pairs if a is not b]

    def refresh(self) -> None:
        """Take over the original's parameters."""
        for copy, original in self._pairs:
            copy.copy_(original)


class Host:
    """The host's memory."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def put(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the host's here: itself, or a copy."""
        return tensor

    def get(self, tensor: Tensor) -> Tensor:
        """Return a tensor that is here on the host: itself, or a copy."""
        return tensor

    def feed(self) -> Feed:
        """Make what brings the host's tensors here, always to where it brought the first."""
        return _unchanged

    def runner(self) -> Runner:
        """Make what calls one function."""
        return _call

    def fetch(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors that are here on the host: themselves, or copies."""
        return dict(tensors)

    def acting(self, network: Network) -> ActingCopy[Network]:
        """Make a network on the host that does what one that is here does."""
        return ActingCopy(network, network)


class Apart(Host):
    """Memory apart from the host's.

    Args:
        device: Whose. The host's own will do, too: everything is then copied all the same.
        runner: Makes what calls one function.
    """

    def __init__(self, device: torch.device, runner: Callable[[], Runner]) -> None:
        self.device = device
        self._runner = runner

    def put(self, tensor: Tensor) -> Tensor:
        """See `Host.put`."""
        return tensor.to(self.device)

    def get(self, tensor: Tensor) -> Tensor:
        """See `Host.get`."""
        return tensor.cpu()

    def feed(self) -> Feed:
        """See `Host.feed`."""
        return _Feed(self.device)

    def runner(self) -> Runner:
        """See `Host.runner`."""
        return self._runner()

    def fetch(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Host.fetch`."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}

    def acting(self, network: Network) -> ActingCopy[Network]:
        """See `Host.acting`."""
        return ActingCopy(network, deepcopy(network).cpu())


def choose(device: Device) -> Host:
    """Return where a scenario's learners compute.

    Args:
        device: The scenario's; ``auto`` is ``cuda`` where there is one.

    Raises:
        UserError: If there is no CUDA device, but should be.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return Host()
    if not torch.cuda.is_available():
        raise UserError(
            f"device: 'cuda': PyTorch {torch.__version__} finds no CUDA device on this machine; "
            "allowed: 'cpu', 'auto'"
        )
    return Apart(torch.device("cuda"), Replayed)


class Replayed:
    """Records what a function does on the GPU, and repeats that: a CUDA graph.

    Launching the hundred small kernels of a loss and its gradient one by one takes longer than
    they run. The results are always the same tensors.
    """

    def __init__(self) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Any = None

    def __call__(self, function: Callable[[], T]) -> T:
        """Return what the function would return now."""
        if self._graph is None:
            self._graph = self._record(function)
        self._graph.replay()
        result: T = self._result
        return result

    def _record(self, function: Callable[[], T]) -> torch.cuda.CUDAGraph:
        """Record the function after it has run a few times: libraries set themselves up then."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = function()
        return graph


class _Feed:
    """Copies tensors to a device, to where it copied the first ones."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held: list[Tensor] | None = None

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        if self._held is None:
            self._held = [torch.empty_like(tensor, device=self._device) for tensor in tensors]
        for held, tensor in zip(self._held, tensors, strict=True):
            held.copy_(tensor)
        return self._held


def _unchanged(tensors: list[Tensor]) -> list[Tensor]:
    return tensors


def _call(function: Callable[[], T]) -> T:
    return function()
