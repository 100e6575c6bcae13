"""CUDA graphs on the CPU: records PyTorch's operations, and repeats them on the same tensors."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST_READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}


class Graph(TorchDispatchMode):
    """Stands in for ``torch.cuda.CUDAGraph`` and for ``torch.cuda.graph``.

    It refuses what a graph cannot or, of a function that is warmed up, should not hold: a number
    read by the host, a change to a tensor that existed before.
    """

    made = 0
    replays = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self._calls: list[tuple[Any, Any, Any, list[Any]]] = []
        self._own: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func not in HOST_READS, f"{func} in a graph"
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_leaves(value):
                    assert storage(tensor) in self._own, f"{func} changes what it was given"
        inputs = {storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        found = func(*args, **kwargs)
        results = [t for t in tree_leaves(found) if isinstance(t, torch.Tensor)]
        self._own |= {storage(t) for t in results} - inputs
        self._calls.append((func, args, kwargs, results))
        return found

    def replay(self) -> None:
        type(self).replays += 1
        with torch.no_grad():
            for func, args, kwargs, results in self._calls:
                again = [t for t in tree_leaves(func(*args, **kwargs)) if torch.is_tensor(t)]
                for held, fresh in zip(results, again, strict=True):
                    if storage(held) != storage(fresh):
                        held.detach().copy_(fresh)


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Stream:
    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``torch.cuda`` record what happens on the CPU."""
    Graph.made = Graph.replays = 0
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)
